//! Served modules behave as files would, and come in one round trip.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::modules::{FileAnswer, Foresight, ModuleFinder, ModuleRecord, Start};
use econtext::{Broker, Context, Local, PathFinder, Python, Value};
use econtext_testkit::files::tree;
use econtext_testkit::pythons;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A finder that notes what it is asked by children, as opposed to by foresight.
struct Noting {
    inner: PathFinder,
    asked: Mutex<Vec<String>>,
    foresee: bool,
}

impl Noting {
    fn new(inner: PathFinder) -> Arc<Self> {
        Arc::new(Noting { inner, asked: Mutex::default(), foresee: true })
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl ModuleFinder for Noting {
    fn find(&self, name: &str) -> Option<Arc<ModuleRecord>> {
        self.asked.lock().unwrap().push(name.to_owned());
        self.inner.find(name)
    }

    fn read(&self, path: &str, offset: u64) -> Option<FileAnswer> {
        self.asked.lock().unwrap().push(format!("file {path}"));
        self.inner.read(path, offset)
    }

    fn foresee(&self, start: Start<'_>) -> Arc<Foresight> {
        if self.foresee { self.inner.foresee(start) } else { Arc::default() }
    }
}

fn connect(broker: &Broker, python: &pythons::Python, finder: &Arc<Noting>) -> Context {
    Context::builder("child")
        .python(Python::Path(python.to_arg()))
        .finder(finder.clone())
        .connect(broker, Local)
        .unwrap()
}

fn each(files: &[(&str, &str)], test: impl Fn(&Context, &Arc<Noting>, &pythons::Python)) {
    let broker = Broker::new().unwrap();
    let dir = tree(files);
    for python in pythons::all() {
        println!("Python {}", python.minor);
        let finder = Noting::new(PathFinder::new().root(dir.path()).unwrap());
        test(&connect(&broker, &python, &finder), &finder, &python);
    }
}

#[test]
fn a_chain_of_thirty_modules_needs_no_question() {
    let mut files: Vec<(String, String)> = (0..30)
        .map(|n| (format!("p/m{n}.py"), format!("from p import m{}\nN = m{}.N + 1\n", n + 1, n + 1)))
        .collect();
    files.push(("p/m30.py".into(), "N = 0\n".into()));
    files.push(("p/__init__.py".into(), String::new()));
    files.push(("start.py".into(), "def f():\n    from p import m0\n    return m0.N\n".into()));
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    each(&files, |child, finder, _| {
        assert_eq!(child.call::<i64>("start:f", ()).wait().unwrap(), 30);
        assert_eq!(finder.asked(), Vec::<String>::new());
    });
}

#[test]
fn what_nobody_foresaw_is_one_question_with_all_it_needs() {
    let files = [
        ("start.py", "def f(name):\n    return __import__(name, None, None, ['x']).N\n"),
        ("late/__init__.py", ""),
        ("late/a.py", "from . import b\nN = b.N\n"),
        ("late/b.py", "from late.c import N\n"),
        ("late/c.py", "N = 7\n"),
    ];
    each(&files, |child, finder, _| {
        assert_eq!(child.call::<i64>("start:f", ("late.a",)).wait().unwrap(), 7);
        let asked = finder.asked();
        assert!(asked.len() <= 2 && asked.iter().all(|name| name == "late" || name == "late.a"), "{asked:?}");
    });
}

#[test]
fn names_that_do_not_exist_cost_no_question() {
    let files = [
        (
            "pkg/__init__.py",
            "try:\n    from ._speedups import x\nexcept ImportError:\n    x = 'slow'\n\
                             try:\n    import nowhere\nexcept ImportError:\n    nowhere = None\n",
        ),
        ("pkg/_speedups.cpython-311-x86_64-linux-gnu.so", "\u{7f}ELF"),
        ("pkg/sub.py", "import os, sys, json\nfrom pkg import x\ndef f():\n    return x\n"),
    ];
    each(&files, |child, finder, _| {
        assert_eq!(child.call::<String>("pkg.sub:f", ()).wait().unwrap(), "slow");
        assert_eq!(finder.asked(), Vec::<String>::new());
    });
}

#[test]
fn names_that_only_import_module_can_say_are_found() {
    let start = "import importlib\n\ndef f(*names):\n    return [importlib.import_module(name).N for name in names]\n";
    let files = [
        ("start.py", start),
        ("pkg/__init__.py", ""),
        ("pkg/data-17-0.py", "N = 1\n"),
        ("pkg/17.py", "N = 2\n"),
        ("pkg/two words.py", "N = 3\n"),
        ("pkg/econtext.py", "N = 4\n"),
        ("pkg/core.py", "N = 5\n"),
        ("pkg/class.py", "N = 6\n"),
        ("pkg/sub-package/__init__.py", "N = 7\n"),
        ("pkg/sub-package/x+y.py", "N = 8\n"),
        ("pkg/name-space/z.py", "N = 9\n"),
        ("top-level.py", "N = 10\n"),
        ("pkg/größe.py", "N = 11\n"),
        ("pkg/files.v2.py", "N = 12\n"),
    ];
    let names: Vec<String> = [
        "pkg.data-17-0",
        "pkg.17",
        "pkg.two words",
        "pkg.econtext",
        "pkg.core",
        "pkg.class",
        "pkg.sub-package",
        "pkg.sub-package.x+y",
        "pkg.name-space.z",
        "top-level",
        "pkg.größe",
    ]
    .map(String::from)
    .to_vec();
    each(&files, |child, _, python| {
        // Python 2 has namespaces only where ours are, and no such letters in names.
        let count = if python.minor == "2.7" { 10 } else { 11 };
        let args = names[..count].iter().map(|name| Value::Str(name.clone())).collect::<Vec<_>>();
        let found: Vec<i64> = child.call("start:f", Value::Tuple(args)).wait().unwrap();
        assert_eq!(found, (1..=i64::try_from(count).unwrap()).collect::<Vec<_>>());
        // As with files, a dot is a step down.
        let error = child.call::<Vec<i64>>("start:f", ("pkg.files.v2",)).wait().unwrap_err();
        assert!(error.to_string().contains("files"), "{error}");
        assert_eq!(child.call::<String>("pkg.data-17-0:__name__.upper", ()).wait().unwrap(), "PKG.DATA-17-0");
    });
}

#[test]
fn a_package_that_needs_compiled_modules_is_known_before_it_is_sent() {
    let core = "try:\n    from . import multi\nexcept ImportError as e:\n    raise ImportError('twenty lines of advice')\n";
    let files = [
        (
            "start.py",
            "def f(name):\n    return __import__(name).N\n\ndef num():\n    import num\n    return num.N\n",
        ),
        ("num/__init__.py", "SETUP = False\nif SETUP:\n    N = 0\nelse:\n    from num.core import N\n"),
        ("num/core/__init__.py", core),
        ("num/core/multi.py", "from . import _umath\nN = 1\n"),
        ("num/core/_umath.cpython-311-x86_64-linux-gnu.so", "\u{7f}ELF"),
        ("mark/__init__.py", "try:\n    from ._fast import N\nexcept ImportError:\n    N = 2\n"),
        ("mark/_fast.abi3.so", "\u{7f}ELF"),
        ("lazy/__init__.py", "N = 3\n\ndef fast():\n    from . import _fast\n"),
        ("lazy/_fast.so", "\u{7f}ELF"),
        ("single.so", "\u{7f}ELF"),
    ];
    each(&files, |child, finder, python| {
        for name in ["num", "single"] {
            let error = child.call::<i64>("start:f", (name,)).wait().unwrap_err();
            assert_eq!(error.kind(), econtext::ErrorKind::Import, "{error}");
            let minor = &python.minor;
            let text = format!(
                "{name} has compiled modules and is not on child (Python {minor}); install it there, or --no-serve"
            );
            assert!(error.to_string().contains(&text), "{error}");
            // None of our own frames is among those of the user.
            let econtext::Error::Exception { error, .. } = &error else { panic!("{error}") };
            assert!(error.frames.iter().all(|frame| frame.file.ends_with("start.py")), "{:?}", error.frames);
        }
        finder.asked();
        let error = child.call::<i64>("start:num", ()).wait().unwrap_err();
        assert!(error.to_string().contains("num has compiled modules"), "{error}");
        assert_eq!(finder.asked(), Vec::<String>::new());
        assert_eq!(child.call::<i64>("start:f", ("mark",)).wait().unwrap(), 2);
        assert_eq!(child.call::<i64>("start:f", ("lazy",)).wait().unwrap(), 3);
    });
    // Nothing of it is sent.
    let dir = tree(&files);
    let finder = PathFinder::new().root(dir.path()).unwrap();
    let names =
        |start| finder.foresee(start).modules.iter().map(|m| m.module.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(Start::Function("start", "num")), ["start", "num"]);
    assert_eq!(names(Start::Module("num.core.multi")), ["num"]);
}

#[test]
fn circular_imports_and_modules_that_replace_themselves_work() {
    let files = [
        ("start.py", "import a, replaced\ndef f():\n    import lazy\n    return a.g(), replaced.N, lazy.x\n"),
        ("a.py", "import b\ndef g():\n    return b.h()\n"),
        ("b.py", "import a\ndef h():\n    return a.__name__\n"),
        ("replaced.py", "import sys\nclass Module(object):\n    N = 5\nsys.modules[__name__] = Module()\n"),
        (
            "lazy.py",
            "import sys, types\nclass M(types.ModuleType):\n    @property\n    def x(self):\n        return 'lazy'\n\
                     m = M(__name__)\nm.__dict__.update((k, v) for k, v in globals().items())\nsys.modules[__name__] = m\n",
        ),
    ];
    each(&files, |child, _, _| {
        let found: (String, i64, String) = child.call("start:f", ()).wait().unwrap();
        assert_eq!(found, ("a".into(), 5, "lazy".into()));
    });
}

#[test]
fn a_namespace_package_is_made_of_its_halves_here_and_there() {
    let broker = Broker::new().unwrap();
    let there = tree(&[("ns/local_half.py", "N = 1\n")]);
    let one = tree(&[
        ("ns/served_one.py", "N = 2\n"),
        (
            "start.py",
            "import sys\ndef f(path):\n    sys.path.insert(0, path)\n    from ns import local_half, served_one, served_two\n    return local_half.N, served_one.N, served_two.N\n",
        ),
    ]);
    let two = tree(&[("ns/served_two.py", "N = 3\n")]);
    for python in pythons::all().into_iter().filter(|p| p.is_3() && !p.chroot) {
        let finder = Noting::new(PathFinder::new().root(one.path()).unwrap().root(two.path()).unwrap());
        let child = connect(&broker, &python, &finder);
        let found: (i64, i64, i64) =
            child.call("start:f", (there.path().display().to_string(),)).wait().unwrap();
        assert_eq!(found, (1, 2, 3), "Python {}", python.minor);
    }
}

const RESOURCES: &str = r"
import importlib, inspect, pkgutil, sys
try:
    import importlib.util
except ImportError:
    pass

def get_data():
    return pkgutil.get_data('pkg', 'data/x.txt').decode('ascii')

def resources():
    from importlib import resources
    top = resources.files('pkg')
    assert sorted(p.name for p in top.iterdir()) == ['__init__.py', 'data', 'sub.py'], list(top.iterdir())
    data = top / 'data'
    assert data.is_dir() and not data.is_file() and (data / 'x.txt').is_file()
    with (data / 'x.txt').open('rb') as f:
        assert f.read() == b'text\n'
    with resources.as_file(data / 'x.txt') as path:
        assert open(str(path)).read() == 'text\n'
    return data.joinpath('x.txt').read_text()

def metadata():
    from importlib import metadata
    points = [e.value for d in metadata.distributions() for e in d.entry_points if e.group == 'tool']
    try:
        metadata.version('nothing')
    except metadata.PackageNotFoundError:
        return metadata.version('My.Dist'), points, metadata.metadata('my-dist')['Name']

def introspection():
    import pkg.sub, linecache
    spec = importlib.util.find_spec('pkg.sub') if sys.version_info > (3,) else None
    names = [name for _, name, _ in pkgutil.walk_packages(pkg.__path__, 'pkg.')]
    return inspect.getsource(pkg.sub.g), names, linecache.getline(pkg.sub.__file__, 2, pkg.sub.__dict__)

def caches():
    if hasattr(importlib, 'invalidate_caches'):
        importlib.invalidate_caches()
    import pkg.sub
    return pkg.sub.g()

def threads():
    import threading
    found = []
    def load(name):
        found.append(importlib.import_module(name).N)
    all = [threading.Thread(target=load, args=('t.m%d' % (n % 10),)) for n in range(40)]
    [t.start() for t in all]
    [t.join(20) for t in all]
    return sorted(found)

def newer():
    import newer_than_any
";

#[test]
fn data_metadata_and_introspection_work_as_for_files() {
    let mut files: Vec<(String, String)> = vec![
        ("start.py".into(), RESOURCES.into()),
        ("pkg/__init__.py".into(), "".into()),
        ("pkg/sub.py".into(), "# first\ndef g():\n    return 42\n".into()),
        ("pkg/data/x.txt".into(), "text\n".into()),
        (
            "my_dist-1.2.dist-info/METADATA".into(),
            "Metadata-Version: 2.1\nName: My.Dist\nVersion: 1.2\n".into(),
        ),
        ("my_dist-1.2.dist-info/entry_points.txt".into(), "[tool]\nx = pkg.sub:g\n".into()),
        ("newer_than_any.py".into(), "x = 1\ndef f(:\n    pass\n".into()),
        ("t/__init__.py".into(), "".into()),
    ];
    let next = |n| if n < 9 { format!("import t.m{}\n", n + 1) } else { String::new() };
    files.extend((0..10).map(|n| (format!("t/m{n}.py"), format!("{}N = {n}\n", next(n)))));
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    each(&files, |child, _, python| {
        let minor: u32 = python.minor.split('.').nth(1).unwrap().parse().unwrap();
        assert_eq!(child.call::<String>("start:get_data", ()).wait().unwrap(), "text\n");
        if python.is_3() && minor >= 9 {
            assert_eq!(child.call::<String>("start:resources", ()).wait().unwrap(), "text\n");
        }
        if python.is_3() && minor >= 8 {
            let found: (String, Vec<String>, String) = child.call("start:metadata", ()).wait().unwrap();
            assert_eq!(found, ("1.2".into(), vec!["pkg.sub:g".into()], "My.Dist".into()));
        }
        let (source, names, line): (String, Vec<String>, String) =
            child.call("start:introspection", ()).wait().unwrap();
        assert_eq!((source.as_str(), line.as_str()), ("def g():\n    return 42\n", "def g():\n"));
        assert_eq!(names, ["pkg.sub"]);
        assert_eq!(child.call::<i64>("start:caches", ()).wait().unwrap(), 42);
        let numbers: Vec<i64> = child.call("start:threads", ()).wait().unwrap();
        assert_eq!(numbers, (0..40).map(|n| n / 4).collect::<Vec<_>>());
        let error = child.call::<()>("start:newer", ()).wait().unwrap_err();
        let raised = error.call_error().unwrap();
        assert_eq!(raised.type_name, "SyntaxError", "{error}");
        assert!(
            raised.traceback.contains("newer_than_any.py\", line 2") && raised.traceback.contains("def f(:"),
            "{error}"
        );
    });
}

#[test]
fn a_hostile_child_gets_nothing_from_outside_and_costs_little() {
    const ASK: &str = r"
from econtext import core
def module(name):
    return core.child.context.ask(core.GET_MODULE, name)
def file(path):
    return core.child.context.ask(core.GET_FILE, path, 0)
def deaf(n):
    with core.child.stream.reading:
        for i in range(n):
            core.child.stream.send(core.GET_FILE, (5, u'pkg/noise.bin', 0))
def many(n):
    for i in range(n):
        core.child.stream.send(core.GET_MODULE, (5, u'no.such.module%d' % i))
    return 1
";
    let outside = tree(&[("secret.py", "x"), ("secret.txt", "x")]);
    let dir = tree(&[("ask.py", ASK), ("pkg/__init__.py", ""), (".hidden/x.txt", "x"), ("pkg/.env", "x")]);
    let link = |from: &str, to: &str| std::os::unix::fs::symlink(from, dir.path().join(to)).unwrap();
    link(&outside.path().join("secret.py").display().to_string(), "pkg/link.py");
    link(&outside.path().join("secret.txt").display().to_string(), "pkg/link.txt");
    link(&outside.path().display().to_string(), "pkg/out");
    link("/dev/zero", "pkg/zero");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("pkg/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let broker = Broker::new().unwrap();
    let finder = Noting::new(PathFinder::new().root(dir.path()).unwrap());
    let child = connect(&broker, &pythons::any(), &finder);
    for name in [
        "../../etc/passwd",
        "/etc/shadow",
        "pkg.link",
        "pkg.fifo",
        "pkg/../../x",
        "..secret",
        "pkg.zero",
        "",
        ".",
        "pkg.out.secret",
    ] {
        assert_eq!(child.call::<Value>("ask:module", (name,)).wait().unwrap(), Value::None, "{name}");
    }
    for path in [
        "../../etc/passwd",
        "/etc/shadow",
        "pkg/link.txt",
        "pkg/fifo",
        "pkg/zero",
        "pkg/out/secret.txt",
        ".hidden/x.txt",
        "pkg/.env",
        "pkg/../../secret.txt",
        "pkg//x",
        "pkg\0x",
        "PKG/../x",
    ] {
        assert_eq!(child.call::<Value>("ask:file", (path,)).wait().unwrap(), Value::None, "{path}");
    }
    let before = econtext_testkit::processes::memory(std::process::id()).unwrap();
    let start = Instant::now();
    // It asks for gigabytes and does not read them.
    let mut noise = vec![0; 1 << 20];
    getrandom::fill(&mut noise).unwrap();
    std::fs::write(dir.path().join("pkg/noise.bin"), noise).unwrap();
    let deaf = connect(&broker, &pythons::any(), &finder);
    let finder = Arc::new(PathFinder::new().root(dir.path()).unwrap());
    let child = Context::builder("child").finder(finder.clone()).connect(&broker, Local).unwrap();
    drop(deaf.call::<Value>("ask:deaf", (2_000,)));
    // Behind a hop the reading cannot stop; there it is the credit that stops.
    let hop = broker.local("hop").unwrap();
    let behind = Context::builder("behind").via(&hop).finder(finder).connect(&broker, Local).unwrap();
    let asking = behind.call::<i64>("ask:many", (200_000,));
    child.call::<i64>("ask:many", (1_000_000,)).wait().unwrap();
    asking.wait().unwrap();
    assert!(child.call::<i64>("os:getpid", ()).wait().is_ok());
    let after = econtext_testkit::processes::memory(std::process::id()).unwrap();
    println!("a million questions: {:?}, {before} -> {after} KiB", start.elapsed());
    // Two queues of 16 MiB, and what the allocator keeps for the next.
    assert!(after < before + 150 * 1024, "{before} -> {after} KiB");
}

#[test]
fn a_directory_with_much_else_in_it_serves_code_only() {
    let dir = tree(&[
        ("id_rsa", "secret"),
        ("notes/plan.txt", "x"),
        ("pkg/__init__.py", ""),
        ("pkg/data/x.txt", "x"),
        ("m.py", ""),
    ]);
    let finder = PathFinder::new().code_root(dir.path()).unwrap();
    assert!(finder.find("m").is_some());
    assert!(finder.read("pkg/data/x.txt", 0).is_some());
    for path in ["", "id_rsa", "notes", "notes/plan.txt", "m.py"] {
        assert_eq!(finder.read(path, 0), None, "{path}");
    }
}

const LARGE: &str = r"
import pkgutil, resource
def size():
    data = pkgutil.get_data('pkg', 'large.bin')
    return len(data), data[-4:], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
";

#[test]
fn a_resource_of_300_megabytes_is_not_held_twice() {
    const SIZE: u64 = 300 << 20;
    let dir = tree(&[("start.py", LARGE), ("pkg/__init__.py", "")]);
    let file = std::fs::File::create(dir.path().join("pkg/large.bin")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"last", SIZE - 4).unwrap();
    let broker = Broker::new().unwrap();
    let finder = Noting::new(PathFinder::new().root(dir.path()).unwrap());
    let child = connect(&broker, &pythons::any(), &finder);
    let (size, end, kib): (u64, serde_bytes::ByteBuf, u64) = child.call("start:size", ()).wait().unwrap();
    assert_eq!((size, &**end), (SIZE, &b"last"[..]));
    // Its buffer grows in steps of an eighth.
    assert!(kib < (SIZE >> 10) * 3 / 2, "{kib} KiB");
    let ours = econtext_testkit::processes::memory(std::process::id()).unwrap();
    assert!(ours < SIZE >> 10, "{ours} KiB here");
}

#[test]
fn many_children_with_many_importing_threads_do_not_wait_for_each_other() {
    let dir = tree(&[("start.py", RESOURCES), ("t/__init__.py", "")]);
    for n in 0..10 {
        let next = if n < 9 { format!("import t.m{}\n", n + 1) } else { String::new() };
        std::fs::write(dir.path().join(format!("t/m{n}.py")), format!("{next}N = {n}\n")).unwrap();
    }
    let broker = Broker::new().unwrap();
    let finder = Arc::new(PathFinder::new().root(dir.path()).unwrap());
    let children: Vec<Context> = (0..24)
        .map(|n| {
            Context::builder(format!("child{n}")).finder(finder.clone()).connect(&broker, Local).unwrap()
        })
        .collect();
    let calls: Vec<_> = children
        .iter()
        .map(|child| child.prepare("start:threads").timeout(Duration::from_secs(60)).start::<Vec<i64>>())
        .collect();
    for call in calls {
        assert_eq!(call.wait().unwrap().len(), 40);
    }
}
