//! Packages that look for files beside their modules find them: in memory, once they look, and gone afterwards.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::modules::{FileAnswer, Foresight, ModuleFinder, ModuleRecord, Start};
use econtext::{Broker, Context, Local, PathFinder, Python};
use econtext_testkit::files::tree;
use econtext_testkit::{processes, pythons};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A package that looks in every way there is.
const BESIDE: &str = r#"
import os
HERE = os.path.dirname(__file__)
FILE = os.path.join(HERE, 'data', 'x.txt')

def here():
    return HERE

def is_there():
    return os.path.lexists(HERE)

def opened():
    return open(FILE).read()

def opened_by_io():
    import io
    return io.open(FILE, 'rb').read().decode('ascii')

def opened_raw():
    return os.read(os.open(FILE, os.O_RDONLY), 99).decode('ascii')

def exists():
    return 'text' if os.path.exists(FILE) else 'nothing'

def size():
    return 'text' if os.path.getsize(FILE) == 4 else 'nothing'

def access():
    return 'text' if os.access(FILE, os.R_OK) else 'nothing'

def listed():
    return 'text' if os.listdir(os.path.dirname(FILE)) == ['x.txt'] else 'nothing'

def above():
    return 'text' if 'beside' in os.listdir(os.path.join(HERE, '..')) else 'nothing'

def walked():
    return 'text' if ['x.txt'] in [files for _, _, files in os.walk(HERE)] else 'nothing'

def globbed():
    import glob
    return open(glob.glob(HERE + '/*/*.txt')[0]).read()

def changed_to():
    old = os.getcwd()
    os.chdir(HERE)
    try:
        return open('data/x.txt').read()
    finally:
        os.chdir(old)

def in_a_command():
    import subprocess
    return subprocess.check_output(['cat', FILE]).decode('ascii')

def in_a_line():
    import subprocess
    return subprocess.check_output('cat <' + FILE, shell=True).decode('ascii')

def in_a_database():
    import sqlite3
    try:
        return sqlite3.connect(os.path.join(HERE, 'data.sqlite')).execute("select 'text'").fetchone()[0]
    except sqlite3.OperationalError:
        return 'nothing'

def by_path():
    try:
        import pathlib
    except ImportError:
        return 'text'
    path = pathlib.Path(__file__).parent
    return path.joinpath('data', 'x.txt').read_text() if path.is_dir() else 'nothing'

def translated():
    import gettext
    return 'text' if gettext.find('words', os.path.join(HERE, 'locale'), ['de']) else 'nothing'

def by_wheel():
    import sys
    sys.path.insert(0, os.path.join(HERE, 'bundled.zip'))
    import bundled
    return bundled.N

def own_source():
    import inspect
    from beside import part
    return inspect.getsource(part).strip()[-5:-1]

def by_loader():
    import pkgutil
    return pkgutil.get_data('beside', 'data/x.txt').decode('ascii')

def modules():
    import pkgutil, beside
    return 'text' if [m[1] for m in pkgutil.iter_modules(beside.__path__)] == ['part'] else 'nothing'

def opened_by(method):
    import multiprocessing
    context = multiprocessing.get_context(method) if hasattr(multiprocessing, 'get_context') else multiprocessing
    pool = context.Pool(1)
    try:
        return pool.apply(opened)
    finally:
        pool.terminate()

def in_a_process():
    return opened_by('spawn')

def in_a_fork():
    return opened_by('fork')

def in_threads():
    import threading
    found = []
    threads = [threading.Thread(target=lambda: found.append(opened())) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return 'text' if found == ['text'] * 8 else 'nothing'

def failing():
    raise ValueError('no line of this is looked for')
"#;

const WAYS: [&str; 24] = [
    "opened",
    "opened_by_io",
    "opened_raw",
    "exists",
    "size",
    "access",
    "listed",
    "above",
    "walked",
    "globbed",
    "changed_to",
    "in_a_command",
    "in_a_line",
    "in_a_database",
    "by_path",
    "translated",
    "by_wheel",
    "own_source",
    "by_loader",
    "modules",
    "in_a_process",
    "in_a_fork",
    "in_threads",
    "opened",
];

fn package() -> tempfile::TempDir {
    let files = tree(&[
        ("beside/__init__.py", BESIDE),
        ("beside/part.py", "N = 'text'\n"),
        ("beside/data/x.txt", "text"),
        ("beside/data.sqlite", ""),
        ("beside/locale/de/LC_MESSAGES/words.mo", ""),
        ("plain/__init__.py", "def f():\n    return __file__\n"),
        ("plain/part.py", ""),
    ]);
    let zip = std::fs::File::create(files.path().join("beside/bundled.zip")).unwrap();
    let mut zip = zip::ZipWriter::new(zip);
    zip.start_file("bundled.py", zip::write::SimpleFileOptions::default()).unwrap();
    std::io::Write::write_all(&mut zip, b"N = 'text'\n").unwrap();
    zip.finish().unwrap();
    files
}

/// A finder that notes which files it is asked for.
struct Noting(PathFinder, Mutex<Vec<String>>);

impl ModuleFinder for Noting {
    fn find(&self, name: &str) -> Option<Arc<ModuleRecord>> {
        self.0.find(name)
    }

    fn read(&self, path: &str, offset: u64) -> Option<FileAnswer> {
        self.1.lock().unwrap().push(path.to_owned());
        self.0.read(path, offset)
    }

    fn foresee(&self, start: Start<'_>) -> Arc<Foresight> {
        self.0.foresee(start)
    }
}

fn connect(broker: &Broker, python: &pythons::Python, finder: impl ModuleFinder + 'static) -> Context {
    Context::builder("child")
        .python(Python::Path(python.to_arg()))
        .finder(Arc::new(finder))
        .connect(broker, Local)
        .unwrap()
}

fn finder(path: &Path) -> PathFinder {
    PathFinder::new().root(path).unwrap()
}

fn text(child: &Context, function: &str) -> String {
    child.call::<String>(function, ()).wait().unwrap_or_else(|error| panic!("{function}: {error}"))
}

/// Whether this Python tells of files that are opened.
fn is_lazy(python: &pythons::Python) -> bool {
    !["2.7", "3.6", "3.7"].contains(&python.minor.as_str())
}

#[test]
fn whichever_way_a_package_looks_its_files_are_there() {
    let files = package();
    let broker = Broker::new().unwrap();
    for python in pythons::all().into_iter().filter(|p| !p.chroot) {
        for way in WAYS {
            let child = connect(&broker, &python, finder(files.path()));
            assert_eq!(text(&child, &format!("beside:{way}")), "text", "{way}, Python {}", python.minor);
        }
    }
}

#[test]
fn nothing_is_made_until_something_looks_and_nothing_is_left_at_the_end() {
    let files = package();
    let broker = Broker::new().unwrap();
    for python in pythons::all().into_iter().filter(|p| !p.chroot) {
        println!("Python {}", python.minor);
        let noting = Arc::new(Noting(finder(files.path()), Mutex::default()));
        let child = Context::builder("child")
            .python(Python::Path(python.to_arg()))
            .finder(noting.clone())
            .connect(&broker, Local)
            .unwrap();
        let here = PathBuf::from(text(&child, "beside:here"));
        assert!(!here.starts_with("/<econtext>"), "{}", here.display());
        let error = child.call::<()>("beside:failing", ()).wait().unwrap_err().to_string();
        assert!(error.contains("no line of this"), "{error}");
        if is_lazy(&python) {
            assert_eq!(noting.1.lock().unwrap().as_slice(), &[] as &[String]);
            assert!(!here.exists());
        }
        assert_eq!(text(&child, "beside:opened"), "text");
        assert_eq!(here.metadata().map(|m| m.is_dir()).ok(), Some(true));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &here.parent().unwrap().metadata().unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o700);
        // A package that has no data is not concerned.
        assert_eq!(text(&child, "plain:f"), "/<econtext>/plain/__init__.py");
        child.shutdown(Duration::from_secs(5));
        processes::wait_until("the files are gone", || !here.parent().unwrap().exists());
    }
}

#[test]
fn packages_of_a_namespace_find_the_files_of_each_other() {
    let load = "import os\ndef load(package, name):\n    path = os.path.join(os.path.dirname(package.__file__), name)\n    \
                text = open(path).read()\n    for line in text.split():\n        \
                text += open(os.path.join(os.path.dirname(path), line)).read()\n    return text\n";
    let files = tree(&[
        ("ns/config/__init__.py", load),
        ("ns/config/base.conf", ""),
        ("ns/parts/__init__.py", ""),
        ("ns/parts/main.conf", "sub/more.conf\n"),
        ("ns/parts/sub/more.conf", "more"),
        (
            "start.py",
            "def f():\n    import ns.config, ns.parts\n    return ns.config.load(ns.parts, 'main.conf')\n",
        ),
    ]);
    let broker = Broker::new().unwrap();
    for python in pythons::all().into_iter().filter(|p| !p.chroot) {
        let child = connect(&broker, &python, finder(files.path()));
        assert_eq!(text(&child, "start:f"), "sub/more.conf\nmore", "Python {}", python.minor);
    }
}

#[test]
fn where_there_can_be_no_files_the_error_says_what_to_do() {
    let files = package();
    std::fs::write(
        files.path().join("start.py"),
        "def nowhere():\n    from econtext import spool\n    spool.memory = lambda: None\n    import beside\n    return beside.opened()\n\n\
         def full():\n    from econtext import spool\n    spool.LIMIT = 10\n    import beside\n    return beside.opened()\n\n\
         def listed():\n    import os, beside\n    return os.listdir(beside.HERE)\n\n\
         def started():\n    import subprocess, beside\n    return subprocess.check_call(['cat', beside.FILE])\n\n\
         def own():\n    import beside\n    raise ValueError('nothing at ' + beside.FILE)\n",
    )
    .unwrap();
    let broker = Broker::new().unwrap();
    for python in pythons::all().into_iter().filter(|p| !p.chroot) {
        println!("Python {}", python.minor);
        let child = connect(&broker, &python, finder(files.path()));
        let error = child.call::<String>("start:nowhere", ()).wait().unwrap_err().to_string();
        assert!(error.contains("--spool beside"), "{error}");
        let child = connect(&broker, &python, finder(files.path()));
        let error = child.call::<String>("start:full", ()).wait().unwrap_err().to_string();
        assert!(error.contains("cannot put the files of beside into"), "{error}");
        assert!(error.contains("--spool-dir"), "{error}");
        let child = connect(&broker, &python, finder(files.path()).without_files());
        for function in ["beside:opened", "start:listed", "start:started", "start:own"] {
            let error = child.call::<String>(function, ()).wait().unwrap_err().to_string();
            assert!(error.contains("--spool beside"), "{function}: {error}");
            assert_eq!(error.matches("--spool").count(), 1, "{function}: {error}");
        }
    }
}
