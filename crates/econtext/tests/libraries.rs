//! Libraries that deal with served modules: start Pythons of their own, ask pkg_resources.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::{Broker, Context, Local, PathFinder, Python};
use econtext_testkit::files::tree;
use econtext_testkit::{processes, pythons, repository, skip};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn connect(broker: &Broker, python: &pythons::Python, roots: &[&Path]) -> Context {
    let finder = roots.iter().fold(PathFinder::new(), |finder, root| finder.root(root).unwrap());
    Context::builder("child")
        .python(Python::Path(python.to_arg()))
        .finder(Arc::new(finder))
        .connect(broker, Local)
        .unwrap()
}

const POOL: &str = r"
import multiprocessing, os, sys
import helper

def square(n):
    import late
    import pkgutil
    return late.square(n), helper.NAME, pkgutil.get_data('pkg', 'x.txt').decode('ascii'), os.getpid()

def pool(method):
    pool = getattr(multiprocessing, 'get_context', lambda method: multiprocessing)(method).Pool(2)
    found = pool.map(square, range(4))
    pool.close()
    pool.join()
    assert os.getpid() not in [f[3] for f in found]
    return [f[:3] for f in found]

def executor():
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(1) as executor:
        return executor.submit(square, 3).result()[:3]
";

#[test]
fn processes_that_served_code_starts_find_served_modules_and_files() {
    let served = tree(&[
        ("start.py", POOL),
        ("helper.py", "NAME = 'helper'\n"),
        ("late.py", "def square(n):\n    return n * n\n"),
        ("pkg/__init__.py", ""),
        ("pkg/x.txt", "text"),
    ]);
    let broker = Broker::new().unwrap();
    type Found = (i64, String, String);
    let expected = |n: i64| (n * n, "helper".to_owned(), "text".to_owned());
    for python in pythons::all() {
        println!("Python {}", python.minor);
        let child = connect(&broker, &python, &[served.path()]);
        let pid = u32::try_from(child.call::<i64>("os:getpid", ()).wait().unwrap()).unwrap();
        for method in if python.is_3() { &["spawn", "forkserver", "fork"][..] } else { &["fork"] } {
            let call = child.prepare("start:pool").args((method,)).timeout(Duration::from_secs(60));
            let found: Vec<Found> = call.start().wait().unwrap();
            assert_eq!(found, (0..4).map(expected).collect::<Vec<_>>(), "{method}");
        }
        if !python.is_3() {
            continue;
        }
        // The default: fork, and from 3.14 on forkserver.
        let call = child.prepare("start:executor").timeout(Duration::from_secs(60));
        assert_eq!(call.start::<Found>().wait().unwrap(), expected(3));
        drop(child);
        processes::wait_until("none is left", || {
            processes::memory(pid).is_none() && processes::with_text("multiprocessing.forkserver").is_empty()
        });
    }
}

const PKG_RESOURCES: &str = r"
import warnings
warnings.simplefilter('ignore')
import pkg_resources

def ask():
    found = pkg_resources.get_distribution('my-dist')
    points = [p.attrs[0] for p in pkg_resources.iter_entry_points('tool')]
    loaded = [p.load()() for p in pkg_resources.iter_entry_points('tool')]
    assert pkg_resources.resource_exists('pkg', 'data/x.txt')
    assert not pkg_resources.resource_exists('pkg', 'data/y.txt')
    assert pkg_resources.resource_isdir('pkg', 'data')
    assert pkg_resources.resource_listdir('pkg', 'data') == ['x.txt']
    text = pkg_resources.resource_string('pkg', 'data/x.txt').decode('ascii')
    pkg_resources.require('my-dist>=1')
    try:
        pkg_resources.resource_filename('pkg', 'data/x.txt')
    except NotImplementedError as e:
        return found.version, points, loaded, text, str(e)
";

#[test]
fn pkg_resources_knows_served_packages() {
    let served = tree(&[
        ("start.py", PKG_RESOURCES),
        ("pkg/__init__.py", ""),
        ("pkg/sub.py", "def g():\n    return 42\n"),
        ("pkg/data/x.txt", "text"),
        ("my_dist-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: My.Dist\nVersion: 1.2\n"),
        ("my_dist-1.2.dist-info/entry_points.txt", "[tool]\nx = pkg.sub:g\n"),
    ]);
    let broker = Broker::new().unwrap();
    for (setuptools, minors) in [
        ("target/setuptools-44", &["2.7", "3.6", "3.7"][..]),
        ("target/setuptools-69", &["3.8", "3.9", "3.10", "3.11", "3.12", "3.13"]),
    ] {
        let setuptools = repository(setuptools);
        if !setuptools.exists() {
            return skip("setuptools");
        }
        for python in pythons::all().into_iter().filter(|p| minors.contains(&p.minor.as_str())) {
            println!("Python {}", python.minor);
            let child = connect(&broker, &python, &[served.path(), &setuptools]);
            // Its own setuptools, if it has one, is not the one that is meant.
            child
                .run(
                    &econtext::Program::code(
                        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]",
                    ),
                    None,
                )
                .1
                .wait()
                .unwrap();
            let (version, points, loaded, text, error): (String, Vec<String>, Vec<i64>, String, String) =
                child.call("start:ask", ()).wait().unwrap();
            assert_eq!((version.as_str(), text.as_str(), loaded), ("1.2", "text", vec![42]));
            assert_eq!(points, ["g"]);
            assert!(error.contains("--spool"), "{error}");
        }
    }
}

#[test]
fn what_the_target_has_itself_is_not_sent_twice() {
    let there = tree(&[("both/__init__.py", "HERE = True\n"), ("both/part.py", ""), ("both/more.py", "")]);
    let served = tree(&[
        ("both/__init__.py", "HERE = False\n"),
        ("both/part.py", ""),
        ("both/more.py", ""),
        (
            "start.py",
            "import sys\n\ndef f(path):\n    sys.path.insert(0, path)\n    import both.part\n    return both.HERE\n\n\
             def g():\n    import both.more\n    from econtext import core\n    \
             return sorted(n for n in core.child.importer.records if n.startswith('both'))\n",
        ),
    ]);
    let broker = Broker::new().unwrap();
    for python in pythons::all().into_iter().filter(|p| !p.chroot) {
        println!("Python {}", python.minor);
        let child = connect(&broker, &python, &[served.path()]);
        let path = there.path().display().to_string();
        assert!(child.call::<bool>("start:f", (path,)).wait().unwrap());
        // Its message about that comes behind the answer.
        assert!(child.call::<i64>("os:getpid", ()).wait().is_ok());
        let pushed: Vec<String> = child.call("start:g", ()).wait().unwrap();
        assert_eq!(pushed, ["both", "both.part"], "more of it was not sent");
    }
}

const DISTLIB: &str = r#"
def ask():
    from distlib import resources
    finder = resources.finder('pkg')
    found, top = finder.find('data/x.txt'), finder.find('')
    nothing = finder.find('data/y.txt')
    return (found.size, found.bytes.decode('ascii'), found.as_stream().read().decode('ascii'), found.is_container,
            top.is_container, sorted(top.resources), nothing is None)
"#;

#[test]
fn distlib_finds_resources_of_served_packages() {
    let site = repository("target/site");
    if !site.join("distlib").exists() {
        return skip("distlib");
    }
    let served = tree(&[("start.py", DISTLIB), ("pkg/__init__.py", ""), ("pkg/data/x.txt", "text")]);
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        let child = connect(&broker, &python, &[served.path(), &site]);
        type Answer = (i64, String, String, bool, bool, Vec<String>, bool);
        let found: Answer = child.call("start:ask", ()).wait().unwrap();
        let names = vec!["__init__.py".to_owned(), "data".to_owned()];
        assert_eq!(
            found,
            (4, "text".into(), "text".into(), false, true, names, true),
            "Python {}",
            python.minor
        );
    }
}
