//! The imports of a module, as far as its text tells.

use crate::lexer::{Lexer, Token, TokenKind};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// One import that running a module, or a function in it, may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The name of the module, without leading dots. It is empty for `from . import x`.
    pub module: String,
    /// The number of leading dots: 0 for an absolute import.
    pub level: usize,
    /// The names behind `import` in a `from` statement: attributes or modules. `*` is left out.
    pub names: Vec<String>,
    /// The top-level function, or `Class.method`, that it stands in; none if it is run with the module.
    pub scope: Option<String>,
    /// Whether the module can do without it: it stands under an `if`, or in a `try` none of whose handlers raises.
    pub optional: bool,
}

/// The imports in `source`, Python 2 or 3, in their order.
///
/// These are import statements anywhere, and calls of `import_module` and `__import__` with a literal. An import
/// under `if TYPE_CHECKING:` is left out. A file that is not Python gives the imports that could be read.
///
/// ```
/// let found = econtext_pysource::imports(b"import os.path\ndef f():\n    from . import x\n");
/// assert_eq!(found[0].module, "os.path");
/// assert_eq!((found[1].level, found[1].names[0].as_str(), found[1].scope.as_deref()), (1, "x", Some("f")));
/// ```
pub fn imports(source: &[u8]) -> Vec<Import> {
    let mut scanner = Scanner::new(source);
    each_line(source, |line| scanner.line(line));
    scanner.close(0);
    scanner.found
}

/// Calls `take` with the code of each logical line.
pub(crate) fn each_line(source: &[u8], mut take: impl FnMut(&[Token])) {
    let mut line: Vec<Token> = Vec::new();
    for token in Lexer::new(source) {
        match token.kind {
            TokenKind::Comment | TokenKind::BlankLine | TokenKind::Continuation => {}
            TokenKind::Newline => {
                take(&line);
                line.clear();
            }
            _ => line.push(token),
        }
    }
    take(&line);
}

/// The functions of `source`, as [`Import::scope`] names them, that calling `function` may lead to: itself, and those
/// whose names stand in one of these. For a class, all its methods.
///
/// ```
/// let source = b"def f():\n    return g()\ndef g():\n    import a\ndef h():\n    import b\n";
/// let found: Vec<_> = econtext_pysource::reachable(source, "f").into_iter().collect();
/// assert_eq!(found, ["f", "g"]);
/// ```
pub fn reachable(source: &[u8], function: &str) -> BTreeSet<String> {
    let mut scanner = Scanner::new(source);
    let mut names: BTreeMap<String, BTreeSet<&[u8]>> = BTreeMap::new();
    each_line(source, |line| {
        scanner.line(line);
        if let Some(scope) = scanner.scope() {
            let words = line.iter().filter(|t| t.kind == TokenKind::Name).map(|t| &source[t.start..t.end]);
            names.entry(scope).or_default().extend(words);
        }
    });
    let mut found = BTreeSet::new();
    let mut queue = vec![function.to_owned()];
    while let Some(scope) = queue.pop() {
        let Some(used) = names.get(&scope).filter(|_| found.insert(scope.clone())) else { continue };
        let is_used = |other: &&String| other.split('.').any(|part| used.contains(part.as_bytes()));
        queue.extend(names.keys().filter(is_used).filter(|s| !found.contains(*s)).cloned());
    }
    found
}

/// The statement that an indented block belongs to.
enum Block {
    Function(String),
    Class(String),
    TypeChecking,
    If,
    /// A `try`, with the number of imports before it.
    Try(usize),
    /// A handler, with the imports of its `try`, and whether it raises.
    Except(Range<usize>, bool),
    Other,
}

struct Scanner<'a> {
    source: &'a [u8],
    /// The blocks that the current line is in, with the indentation of the line that opened each.
    blocks: Vec<(usize, Block)>,
    found: Vec<Import>,
    /// The `try` that has just ended: its indentation and its imports.
    tried: Option<(usize, Range<usize>)>,
}

impl<'a> Scanner<'a> {
    fn new(source: &'a [u8]) -> Self {
        Scanner { source, blocks: Vec::new(), found: Vec::new(), tried: None }
    }

    /// Ends the blocks that were opened at this indentation, or deeper.
    fn close(&mut self, indent: usize) {
        while let Some((opened, block)) = self.blocks.pop_if(|(opened, _)| *opened >= indent) {
            match block {
                Block::Try(first) => self.tried = Some((opened, first..self.found.len())),
                Block::Except(imports, raises) => {
                    if !raises {
                        self.found[imports.clone()].iter_mut().for_each(|import| import.optional = true);
                    }
                    // Another handler may follow.
                    self.tried = Some((opened, imports));
                }
                _ => {}
            }
        }
    }

    fn text(&self, token: &Token) -> &'a [u8] {
        &self.source[token.start..token.end]
    }

    fn is(&self, line: &[Token], at: usize, text: &[u8]) -> bool {
        line.get(at).is_some_and(|t| self.text(t) == text)
    }

    fn name(&self, line: &[Token], at: usize) -> Option<String> {
        let token = line.get(at).filter(|t| t.kind == TokenKind::Name)?;
        std::str::from_utf8(self.text(token)).ok().map(str::to_owned)
    }

    fn indent(&self, token: &Token) -> usize {
        let before = &self.source[..token.start];
        let start = before.iter().rposition(|&c| c == b'\n' || c == b'\r').map_or(0, |p| p + 1);
        before[start..].iter().fold(0, |width, &c| if c == b'\t' { (width / 8 + 1) * 8 } else { width + 1 })
    }

    fn line(&mut self, line: &[Token]) {
        let Some(first) = line.first() else { return };
        let indent = self.indent(first);
        self.close(indent);
        let block = self.opens(line, indent);
        self.tried = None;
        if line.iter().any(|token| self.text(token) == b"raise") {
            for (_, block) in &mut self.blocks {
                if let Block::Except(_, raises) = block {
                    *raises = true;
                }
            }
        }
        if !self.blocks.iter().any(|(_, b)| matches!(b, Block::TypeChecking)) {
            let guarded = matches!(block, Block::TypeChecking);
            let mut scope = self.scope();
            if let (Block::Function(name), None) = (&block, &scope) {
                // Its body may stand behind the colon.
                scope = Some(self.classes() + name);
            }
            if !guarded {
                self.statements(line, scope.as_deref());
            }
        }
        self.blocks.push((indent, block));
    }

    fn opens(&self, line: &[Token], indent: usize) -> Block {
        let at = usize::from(self.is(line, 0, b"async"));
        match self.name(line, at).as_deref() {
            Some("def") => self.name(line, at + 1).map_or(Block::Other, Block::Function),
            Some("class") => self.name(line, at + 1).map_or(Block::Other, Block::Class),
            Some("if" | "elif") => {
                let condition = line.iter().skip(1).take_while(|t| self.text(t) != b":");
                let words: Vec<&[u8]> = condition.map(|t| self.text(t)).collect();
                match words.as_slice() {
                    [b"TYPE_CHECKING"] | [_, b".", b"TYPE_CHECKING"] => Block::TypeChecking,
                    _ => Block::If,
                }
            }
            Some("try") => Block::Try(self.found.len()),
            Some("except") => match &self.tried {
                Some((at, imports)) if *at == indent => {
                    let raises = line.iter().any(|token| self.text(token) == b"raise");
                    Block::Except(imports.clone(), raises)
                }
                _ => Block::Other,
            },
            _ => Block::Other,
        }
    }

    /// The names of the classes around the current line, each with a dot behind it.
    fn classes(&self) -> String {
        let names = self.blocks.iter().filter_map(|(_, block)| match block {
            Block::Class(name) => Some(name.clone() + "."),
            _ => None,
        });
        names.collect()
    }

    /// The outermost function of the current line, with the class around it.
    fn scope(&self) -> Option<String> {
        let mut path = String::new();
        for (_, block) in &self.blocks {
            match block {
                Block::Class(name) => path = path + name + ".",
                Block::Function(name) => return Some(path + name),
                _ => {}
            }
        }
        None
    }

    /// Notes every import on a logical line, at any place in it.
    fn statements(&mut self, line: &[Token], scope: Option<&str>) {
        let mut starts = true;
        let mut at = 0;
        while at < line.len() {
            let text = self.text(&line[at]);
            let is_name = line[at].kind == TokenKind::Name;
            match text {
                b"import" if starts && is_name => self.import(line, at + 1, scope),
                b"from" if starts && is_name => self.from(line, at + 1, scope),
                b"import_module" | b"__import__" if is_name => self.dynamic(line, at + 1, scope),
                _ => {}
            }
            starts = matches!(text, b";" | b":");
            at += 1;
        }
    }

    /// A dotted name, and the position behind it.
    fn dotted(&self, line: &[Token], mut at: usize) -> (String, usize) {
        let mut module = String::new();
        while let Some(part) = self.name(line, at) {
            module += &part;
            at += 1;
            if !self.is(line, at, b".") {
                break;
            }
            module.push('.');
            at += 1;
        }
        (module, at)
    }

    fn import(&mut self, line: &[Token], mut at: usize, scope: Option<&str>) {
        loop {
            let (module, behind) = self.dotted(line, at);
            if module.is_empty() || module.ends_with('.') {
                return;
            }
            self.add(module, 0, Vec::new(), scope);
            at = behind;
            if self.is(line, at, b"as") {
                at += 2;
            }
            if !self.is(line, at, b",") {
                return;
            }
            at += 1;
        }
    }

    fn from(&mut self, line: &[Token], mut at: usize, scope: Option<&str>) {
        let mut level = 0;
        while let Some(token) = line.get(at).filter(|t| self.text(t).iter().all(|&c| c == b'.')) {
            level += token.end - token.start;
            at += 1;
        }
        // `from .import x` has no module: `import` is the keyword.
        let (module, behind) =
            if self.is(line, at, b"import") { (String::new(), at) } else { self.dotted(line, at) };
        if !self.is(line, behind, b"import") || module.is_empty() && level == 0 {
            return;
        }
        at = behind + 1;
        let mut names = Vec::new();
        at += usize::from(self.is(line, at, b"("));
        while let Some(name) = self.name(line, at) {
            names.push(name);
            at += 1;
            if self.is(line, at, b"as") {
                at += 2;
            }
            if !self.is(line, at, b",") {
                break;
            }
            at += 1;
        }
        self.add(module, level, names, scope);
    }

    fn dynamic(&mut self, line: &[Token], at: usize, scope: Option<&str>) {
        if !self.is(line, at, b"(") || !(self.is(line, at + 2, b")") || self.is(line, at + 2, b",")) {
            return;
        }
        let Some(token) = line.get(at + 1).filter(|t| t.kind == TokenKind::String) else { return };
        let text = String::from_utf8_lossy(self.text(token)).into_owned();
        let module = text.trim_start_matches(['u', 'r', 'U', 'R']).trim_matches(['"', '\'']);
        let name = module.trim_start_matches('.');
        let level = module.len() - name.len();
        if !name.is_empty() && name.chars().all(|c| c == '.' || c == '_' || c.is_alphanumeric()) {
            self.add(name.to_owned(), level, Vec::new(), scope);
        }
    }

    fn add(&mut self, module: String, level: usize, names: Vec<String>, scope: Option<&str>) {
        let optional = self.blocks.iter().any(|(_, block)| matches!(block, Block::If));
        self.found.push(Import { module, level, names, scope: scope.map(str::to_owned), optional });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line per import: `dots+module names @scope`.
    fn found(source: &str) -> Vec<String> {
        let show = |i: Import| {
            let mut line = ".".repeat(i.level) + &i.module;
            if !i.names.is_empty() {
                line += &format!(" {}", i.names.join(","));
            }
            line + &i.scope.map_or(String::new(), |s| format!(" @{s}"))
        };
        imports(source.as_bytes()).into_iter().map(show).collect()
    }

    #[test]
    fn statements_of_every_form_are_found() {
        let source = "import a, b.c as d, e\nfrom f import g as h, i\nfrom . import j\nfrom .k.l import (m,\n  # why\n  n as o,\n)\n\
                      from ...p import *\nfrom.q import r\ntry: import s; import t\nexcept ImportError: from u import v\n\
                      import w, \\\n x\nif z: import y";
        let expected = "a|b.c|e|f g,i|. j|.k.l m,n|...p|.q r|s|t|u v|w|x|y";
        assert_eq!(found(source).join("|"), expected);
    }

    #[test]
    fn scopes_are_the_outermost_functions() {
        let source = "class A:\n    import a\n    def f(self):\n        import b\n        def g():\n            import c\n\
                      async def h():\n\timport d\n\n# comment\n\timport e\nimport f\n@deco\ndef i(): import g\n";
        assert_eq!(found(source).join("|"), "a|b @A.f|c @A.f|d @h|e @h|f|g @i");
    }

    #[test]
    fn type_checking_is_left_out_and_its_else_is_not() {
        let source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\n    if x:\n        import b\nelse:\n    import c\n\
                      if typing.TYPE_CHECKING: import d\nif not TYPE_CHECKING:\n    import e\n";
        assert_eq!(found(source).join("|"), "typing TYPE_CHECKING|c|e");
    }

    #[test]
    fn literal_dynamic_imports_are_found() {
        let source = "x = importlib.import_module('a.b')\ny = __import__(\"c\", globals())\nimport_module('.d', __package__)\nimport_module(name)\nimport_module('e' + f)\n";
        assert_eq!(found(source).join("|"), "a.b|c|.d");
    }

    #[test]
    fn text_that_only_looks_like_imports_is_none() {
        let source = "'''\nimport a\n'''\n# import b\nx = 'import c'\nfrom_ = 1\nraise X from y\nyield from z\nx.import_ = 1\n";
        assert_eq!(found(source), Vec::<String>::new());
    }

    #[test]
    fn what_a_module_goes_on_without_is_optional() {
        let source = "import a\ntry:\n    import b\nexcept ImportError:\n    b = None\n\
                      try:\n    import c\nexcept ImportError as e:\n    if x:\n        raise\n\
                      try:\n    import d\nexcept KeyError:\n    raise\nexcept ImportError:\n    pass\nelse:\n    import e\n\
                      try:\n    import f\nfinally:\n    import g\nif x:\n    import h\nelse:\n    import i\n\
                      try: import j\nexcept ImportError: j = None\n\
                      try:\n    try:\n        import k\n    except A:\n        raise\nexcept B:\n    pass\n";
        let found = imports(source.as_bytes());
        let optional: String = found.iter().filter(|i| i.optional).map(|i| i.module.as_str()).collect();
        assert_eq!((optional.as_str(), found.len()), ("bdhjk", 11));
    }

    #[test]
    fn what_is_no_python_gives_what_was_read() {
        assert_eq!(found("import a\n'unfinished\nimport b\n").first().map(String::as_str), Some("a"));
        assert!(found("\0\u{1}import\n").is_empty());
    }
}
