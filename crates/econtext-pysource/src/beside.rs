//! A test of whether a module looks for files beside modules, as far as its text tells.

use crate::imports::each_line;
use crate::lexer::{Token, TokenKind};
use memchr::memmem;

/// Functions that take a package's `__path__` for the sake of imports.
const FOR_IMPORTS: [&[u8]; 8] = [
    b"declare_namespace",
    b"extend_path",
    b"find_loader",
    b"find_module",
    b"find_spec",
    b"hasattr",
    b"iter_modules",
    b"walk_packages",
];

/// Whether `source` uses the place of a module for more than imports: its `__file__`, a package's `__path__`, the `origin` of
/// a spec, or `resource_filename` of `pkg_resources`. Resources that are read through the importer do not count.
///
/// ```
/// use econtext_pysource::looks_beside;
/// assert!(looks_beside(b"import os\nHERE = os.path.dirname(__file__)\n"));
/// assert!(!looks_beside(b"import sys, os\nsys.path.insert(0, os.path.dirname(__file__))\n"));
/// assert!(!looks_beside(b"from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"));
/// ```
pub fn looks_beside(source: &[u8]) -> bool {
    let has = |word: &str| memmem::find(source, word.as_bytes()).is_some();
    let is_spec = has("find_spec") || has("__spec__");
    if !(has("__file__") || has("__path__") || has("resource_filename") || is_spec && has("origin")) {
        return false;
    }
    let mut found = false;
    each_line(source, |line| found |= line_looks_beside(source, line, is_spec));
    found
}

fn line_looks_beside(source: &[u8], line: &[Token], is_spec: bool) -> bool {
    let text = |at: usize| line.get(at).map_or(&b""[..], |token| &source[token.start..token.end]);
    let is_import = matches!(text(0), b"import" | b"from");
    let sys_path =
        (0..line.len()).any(|i| text(i) == b"sys" && text(i + 1) == b"." && text(i + 2) == b"path");
    let for_imports = (0..line.len()).any(|i| FOR_IMPORTS.contains(&text(i)));
    (0..line.len()).any(|i| {
        let next = text(i + 1);
        let word = match line[i].kind {
            TokenKind::Name => text(i),
            // This is the last but one argument of getattr().
            TokenKind::String if i > 0 && text(i - 1) == b"," => text(i).trim_ascii_start(),
            _ => return false,
        };
        let unquoted = word.strip_prefix(b"'").and_then(|w| w.strip_suffix(b"'"));
        let unquoted = unquoted.or(word.strip_prefix(b"\"").and_then(|w| w.strip_suffix(b"\"")));
        match unquoted.unwrap_or(word) {
            b"__file__" => !sys_path && next != b"=",
            // A target of an assignment, or a list that is extended, does not count.
            b"__path__" => !for_imports && !sys_path && !matches!(next, b"=" | b"+=" | b"."),
            b"origin" => is_spec && unquoted.is_none() && i > 0 && text(i - 1) == b".",
            b"resource_filename" => !is_import && unquoted.is_none(),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_of_a_place_are_told_from_imports() {
        for yes in [
            "HERE = __file__",
            "x = os.path.join(os.path.dirname(os.path.abspath(pkg.__file__)), 'data')",
            "for directory in pkg.__path__:\n    print(directory)",
            "base = __path__[0]",
            "base = getattr(module, '__file__', None)",
            "p = importlib.util.find_spec('pkg').origin",
            "import pkg_resources\ndef f():\n    return pkg_resources.resource_filename(__name__, 'x')",
            "def f():\n    '''Of __file__.'''\n    return open(__file__)",
        ] {
            assert!(looks_beside(yes.as_bytes()), "{yes}");
        }
        for no in [
            "",
            "# __file__",
            "'__file__'",
            "x = ['__file__', 1]",
            "__file__ = 'x'",
            "__path__ = __import__('pkgutil').extend_path(__path__, __name__)",
            "__path__ = []",
            "__path__.append('x')",
            "if hasattr(module, '__path__') or hasattr(x, __path__): pass",
            "for m in pkgutil.iter_modules(__path__, 'x.'): pass",
            "sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..'))",
            "from pkg_resources import resource_filename",
            "git.remote.origin.fetch()",
        ] {
            assert!(!looks_beside(no.as_bytes()), "{no}");
        }
    }
}
