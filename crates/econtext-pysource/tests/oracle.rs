//! CPython's own parser as the judge, over its own standard library.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext_testkit::pythons;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Compares the trees of files and their minimised forms: the same but for docstrings, on the same lines.
const COMPARE: &str = r"
from __future__ import print_function
import ast, io, os, sys
text = type(u'')
def bare(tree):
    for node in ast.walk(tree):
        body = getattr(node, 'body', None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = getattr(body[0].value, 'value', getattr(body[0].value, 's', None))
            documented = isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) or type(node).__name__ == 'AsyncFunctionDef'
            if documented and isinstance(value, (str, text)):
                del body[0]
    return [(type(n).__name__, getattr(n, 'lineno', 0)) for n in ast.walk(tree)], ast.dump(tree)
def skeleton(pair):
    return pair[1]
count = 0
for name in os.listdir(sys.argv[1]):
    if not name.endswith('.py'): continue
    path = os.path.join(sys.argv[1], name)
    with io.open(path, 'rb') as f: old = f.read()
    with io.open(path + '.min', 'rb') as f: new = f.read()
    try:
        tree = ast.parse(old, path)
    except SyntaxError:
        continue
    a, b = bare(tree), bare(ast.parse(new, path))
    empty = lambda dump: dump.replace('[Expr(value=Constant(value=\'\'))]', '[]').replace('[Expr(value=Str(s=\'\'))]', '[]').replace('[Pass()]', '[]')
    assert empty(a[1]) == empty(b[1]), path
    lines = lambda pairs: [p for p in pairs if p[1] and p[0] in ('Assign', 'FunctionDef', 'Call', 'Return', 'If', 'Import')]
    assert lines(a[0]) == lines(b[0]), path
    count += 1
print(count)
";

/// Every import that the tree has, top-level module names only.
const IMPORTS: &str = r"
from __future__ import print_function
import ast, io, os, sys
for name in sorted(os.listdir(sys.argv[1])):
    if not name.endswith('.py'): continue
    with io.open(os.path.join(sys.argv[1], name), 'rb') as f: source = f.read()
    try:
        tree = ast.parse(source)
    except SyntaxError:
        print(name, '!')
        continue
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add('.' * node.level + (node.module or ''))
    print(name, ' '.join(sorted(found)))
";

/// Copies of a Python's library files, without directories in their names.
fn library(python: &pythons::Python) -> Option<tempfile::TempDir> {
    if python.chroot {
        return None;
    }
    let code = "import os; print(os.path.dirname(os.__file__))";
    let output = Command::new(&python.path).args(["-c", code]).output().unwrap();
    let library = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    let directory = tempfile::tempdir().unwrap();
    let mut n = 0;
    for below in
        ["", "json", "logging", "email", "xml/dom", "unittest", "asyncio", "multiprocessing", "lib2to3/fixes"]
    {
        for entry in std::fs::read_dir(library.join(below)).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|e| e == "py") && entry.path().is_file() {
                std::fs::copy(entry.path(), directory.path().join(format!("{n}.py"))).unwrap();
                n += 1;
            }
        }
    }
    assert!(n > 150, "{n} files in {}", library.display());
    Some(directory)
}

fn ask(python: &pythons::Python, script: &str, directory: &Path) -> String {
    let mut command = Command::new(&python.path);
    let output = command.args(["-c", script]).arg(directory).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "Python {}", python.minor);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn minimised_source_has_the_same_tree_on_the_same_lines() {
    for python in pythons::some() {
        let Some(directory) = library(&python) else { continue };
        for entry in std::fs::read_dir(directory.path()).unwrap().flatten() {
            let source = std::fs::read(entry.path()).unwrap();
            let small = econtext_pysource::minimize(&source);
            std::fs::write(entry.path().with_extension("py.min"), small).unwrap();
        }
        let count: usize = ask(&python, COMPARE, directory.path()).trim().parse().unwrap();
        assert!(count > 150, "Python {}: {count}", python.minor);
    }
}

#[test]
fn imports_are_those_that_the_parser_finds() {
    for python in pythons::all() {
        let Some(directory) = library(&python) else { continue };
        let mut checked = 0;
        for line in ask(&python, IMPORTS, directory.path()).lines() {
            let (name, expected) = line.split_once(' ').unwrap();
            if expected == "!" {
                continue;
            }
            let source = std::fs::read(directory.path().join(name)).unwrap();
            let found: Vec<String> = econtext_pysource::imports(&source)
                .into_iter()
                .map(|i| ".".repeat(i.level) + &i.module)
                .collect();
            for module in expected.split_whitespace() {
                // Imports for type checkers only are left out on purpose.
                let guarded = String::from_utf8_lossy(&source).contains("TYPE_CHECKING");
                assert!(
                    guarded || found.iter().any(|f| f == module),
                    "Python {} {name}: {module} not in {found:?}",
                    python.minor
                );
            }
            checked += 1;
        }
        assert!(checked > 150, "Python {}: {checked}", python.minor);
    }
}
