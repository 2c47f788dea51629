//! Source without comments, docstrings and needless space, with every statement still on its line.

use crate::lexer::{Lexer, Token, TokenKind, is_name_byte};

/// `source` without comments, docstrings and needless space, indented by one space a level.
///
/// Every statement keeps its line number. A `#!` line and a coding line stay. If anything is in doubt
/// (unbalanced brackets, odd indentation, an unfinished string) the source comes back as it was.
pub fn minimize(source: &[u8]) -> Vec<u8> {
    Minimizer::new(source).and_then(Minimizer::run).unwrap_or_else(|| source.to_vec())
}

/// One logical line: its tokens up to and with the line end.
struct Line<'a> {
    tokens: &'a [Token],
    indent: usize,
}

struct Minimizer<'a> {
    source: &'a [u8],
    tokens: Vec<Token>,
}

impl<'a> Minimizer<'a> {
    fn new(source: &'a [u8]) -> Option<Self> {
        let mut lexer = Lexer::new(source);
        let tokens: Vec<Token> = lexer.by_ref().collect();
        (lexer.is_whole() && !source.contains(&b'\x0c')).then_some(Minimizer { source, tokens })
    }

    fn text(&self, token: &Token) -> &'a [u8] {
        &self.source[token.start..token.end]
    }

    fn run(self) -> Option<Vec<u8>> {
        let lines = self.logical_lines()?;
        let mut out = Vec::with_capacity(self.source.len() / 2);
        let mut levels = vec![0usize];
        // A docstring may stand at the start of the file, and on the line below `class` or `def`.
        let mut docstring_may_follow = true;
        for (i, line) in lines.iter().enumerate() {
            let Some(first) = line.tokens.iter().find(|t| is_code(t.kind)) else {
                self.emit_blank(line, i < 2, &mut out);
                continue;
            };
            while *levels.last()? > line.indent {
                levels.pop();
            }
            if *levels.last()? < line.indent {
                levels.push(line.indent);
            }
            let docstring = docstring_may_follow && self.is_docstring(line);
            if docstring && self.next_indent(&lines[i + 1..]) == Some(line.indent) {
                out.extend(line.tokens.iter().flat_map(|t| newlines(self.text(t))).map(|_| b'\n'));
            } else {
                out.extend(std::iter::repeat_n(b' ', levels.len() - 1));
                if docstring {
                    out.extend(b"''");
                    out.extend(line.tokens.iter().flat_map(|t| newlines(self.text(t))).map(|_| b'\n'));
                } else {
                    self.emit_code(line, &mut out)?;
                }
            }
            docstring_may_follow = self.opens_documented_block(line, first);
        }
        Some(out)
    }

    fn logical_lines(&self) -> Option<Vec<Line<'_>>> {
        let mut lines = Vec::new();
        let mut start = 0;
        let mut depth = 0usize;
        for (i, token) in self.tokens.iter().enumerate() {
            match (token.kind, self.source[token.start]) {
                (TokenKind::Op, b'(' | b'[' | b'{') => depth += 1,
                (TokenKind::Op, b')' | b']' | b'}') => depth = depth.checked_sub(1)?,
                _ => {}
            }
            let blank = token.kind == TokenKind::BlankLine && depth == 0;
            if token.kind == TokenKind::Newline || blank || i + 1 == self.tokens.len() {
                let tokens = &self.tokens[start..=i];
                let begin = tokens[0].start;
                let line =
                    self.source[..begin].iter().rposition(|&c| c == b'\n' || c == b'\r').map_or(0, |p| p + 1);
                let space = &self.source[line..begin];
                let has_code = tokens.iter().any(|t| is_code(t.kind));
                // A mix of tabs and spaces would need Python's own rule for their width.
                if has_code && space.contains(&b'\t') {
                    return None;
                }
                let bom = if space.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
                lines.push(Line { tokens, indent: space.len() - bom });
                start = i + 1;
            }
        }
        Some(lines)
    }

    fn is_docstring(&self, line: &Line<'_>) -> bool {
        let mut code =
            line.tokens.iter().filter(|t| is_code(t.kind) && t.kind != TokenKind::Newline).peekable();
        code.peek().is_some()
            && code.all(|t| {
                let text = self.text(t);
                t.kind == TokenKind::String
                    && !text.iter().take(3).any(|c| matches!(c.to_ascii_lowercase(), b'b' | b'f' | b't'))
            })
    }

    fn next_indent(&self, lines: &[Line<'_>]) -> Option<usize> {
        lines.iter().find(|l| l.tokens.iter().any(|t| is_code(t.kind))).map(|l| l.indent)
    }

    /// Whether a line is a `class`, `def` or `async def` whose body stands on the lines below.
    fn opens_documented_block(&self, line: &Line<'_>, first: &Token) -> bool {
        let named = matches!(self.text(first), b"class" | b"def" | b"async");
        let last = line.tokens.iter().rev().find(|t| is_code(t.kind) && t.kind != TokenKind::Newline);
        named && last.is_some_and(|t| self.text(t) == b":")
    }

    fn emit_blank(&self, line: &Line<'_>, may_be_coding: bool, out: &mut Vec<u8>) {
        for token in line.tokens {
            let text = self.text(token);
            if token.kind == TokenKind::Comment
                && (token.start == 0 && text.starts_with(b"#!")
                    || may_be_coding && text.windows(6).any(|w| w == b"coding"))
            {
                out.extend(text);
            }
            out.extend(newlines(text).map(|_| b'\n'));
        }
    }

    fn emit_code(&self, line: &Line<'_>, out: &mut Vec<u8>) -> Option<()> {
        let mut previous: Option<&Token> = None;
        for token in line.tokens {
            match token.kind {
                TokenKind::Comment => {}
                TokenKind::Newline | TokenKind::BlankLine => out.push(b'\n'),
                TokenKind::Continuation => out.extend(b"\\\n"),
                _ => {
                    if previous.is_some_and(|p| self.needs_space(p, token)) {
                        out.push(b' ');
                    }
                    out.extend(self.text(token));
                    previous = Some(token);
                }
            }
        }
        Some(())
    }

    fn needs_space(&self, left: &Token, right: &Token) -> bool {
        if left.end == right.start {
            return false; // the tokens touched before
        }
        let (a, b) = (self.source[left.end - 1], self.source[right.start]);
        match (left.kind, right.kind) {
            (TokenKind::Name | TokenKind::Number, TokenKind::Name | TokenKind::Number) => true,
            // `in "x"` may touch, `u "x"` may not: it would be a prefix. No program depends on it, so the space stays.
            (TokenKind::Name, TokenKind::String) => {
                is_name_byte(b)
                    || left.end - left.start < 3 && !matches!(self.text(left), b"in" | b"or" | b"if" | b"is")
            }
            (TokenKind::Number, TokenKind::String) | (TokenKind::String, TokenKind::Number) => true,
            (TokenKind::String, TokenKind::Name) => false,
            (TokenKind::Number, TokenKind::Op) => b == b'.',
            (TokenKind::Op, TokenKind::Number) => a == b'.' || b == b'.',
            (TokenKind::Op, TokenKind::Op) => {
                let bracket = |c| matches!(c, b'(' | b'[' | b'{' | b')' | b']' | b'}' | b',');
                let sign = matches!(b, b'-' | b'~') && matches!(a, b'=' | b':');
                !(bracket(a) || bracket(b) || sign)
            }
            _ => false,
        }
    }
}

fn is_code(kind: TokenKind) -> bool {
    !matches!(kind, TokenKind::Comment | TokenKind::Newline | TokenKind::BlankLine | TokenKind::Continuation)
}

/// An item for every line end in `text`.
fn newlines(text: &[u8]) -> impl Iterator<Item = usize> {
    text.iter()
        .enumerate()
        .filter_map(move |(i, &c)| (c == b'\n' || c == b'\r' && text.get(i + 1) != Some(&b'\n')).then_some(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(source: &str) -> String {
        String::from_utf8(minimize(source.as_bytes())).expect("utf-8")
    }

    #[test]
    fn comments_go_and_lines_stay() {
        assert_eq!(small("# a\nx = 1  # b\n\ny = 2\n"), "\nx=1\n\ny=2\n");
    }

    #[test]
    fn a_docstring_that_is_the_whole_body_stays_as_an_empty_one() {
        assert_eq!(small("class A(B):\n    '''one\n    two'''\nx = 1\n"), "class A(B):\n ''\n\nx=1\n");
    }

    #[test]
    fn a_docstring_before_more_body_leaves_only_its_lines() {
        assert_eq!(small("def f():\n    '''one\n    two'''\n    return 1\n"), "def f():\n\n\n return 1\n");
    }

    #[test]
    fn a_string_that_is_no_docstring_stays() {
        assert_eq!(small("x = 1\n'a'\nif x:\n    'b'\n"), "x=1\n'a'\nif x:\n 'b'\n");
    }

    #[test]
    fn shebang_and_coding_lines_stay() {
        assert_eq!(
            small("#!/bin/python\n# -*- coding: latin-1 -*-\n# c\n"),
            "#!/bin/python\n# -*- coding: latin-1 -*-\n\n"
        );
    }

    #[test]
    fn what_cannot_be_read_comes_back_unchanged() {
        for source in ["x = 'a\n", "if x:\n\ty  = 1 # c\n", "f(  # c\n"] {
            assert_eq!(small(source), source);
        }
    }

    #[test]
    fn needed_spaces_stay() {
        assert_eq!(small("x = not b'a' in u'b' if 1 else - 1\n"), "x=not b'a'in u'b'if 1 else-1\n");
        assert_eq!(small("x = 1 .real\n"), "x=1 .real\n");
        assert_eq!(small("from . import x\n"), "from.import x\n");
        assert_eq!(small("f(* a, ** b)\n"), "f(*a,**b)\n");
    }
}
