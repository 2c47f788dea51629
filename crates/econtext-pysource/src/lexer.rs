//! A lexer over bytes that reads Python 2 and 3 alike.

use memchr::memchr;

/// The kind of a [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// An identifier or keyword; any byte over 127 counts as a letter.
    Name,
    /// A number, with the letters and dots that belong to it.
    Number,
    /// A whole string literal with prefix and quotes. f-strings are one token.
    String,
    /// One or more operator bytes that belong together, or a single one.
    Op,
    /// A `#` comment up to the end of its line, without the line end.
    Comment,
    /// The end of a logical line.
    Newline,
    /// A line end that ends no logical line: within brackets, or on a blank or comment-only line.
    BlankLine,
    /// A backslash and the line end behind it.
    Continuation,
}

/// A piece of source: its place and its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its kind.
    pub kind: TokenKind,
    /// The offset of its first byte.
    pub start: usize,
    /// The offset behind its last byte.
    pub end: usize,
}

/// Splits source into tokens. White space lies between tokens and is not reported.
///
/// The iterator ends early, with [`Lexer::is_whole`] false, at source that no Python accepts: an unfinished string, a stray byte.
///
/// ```
/// use econtext_pysource::{Lexer, TokenKind};
/// let kinds: Vec<_> = Lexer::new(b"x = 'a'\n").map(|t| t.kind).collect();
/// assert_eq!(kinds, [TokenKind::Name, TokenKind::Op, TokenKind::String, TokenKind::Newline]);
/// ```
#[derive(Debug)]
pub struct Lexer<'a> {
    source: &'a [u8],
    at: usize,
    depth: usize,
    line_has_code: bool,
    broken: bool,
}

impl<'a> Lexer<'a> {
    /// A lexer at the start of `source`, behind a byte order mark if there is one.
    pub fn new(source: &'a [u8]) -> Self {
        let at = if source.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Lexer { source, at, depth: 0, line_has_code: false, broken: false }
    }

    /// Whether all of the source was read, with its brackets closed. The answer is meaningful once the iterator has ended.
    pub fn is_whole(&self) -> bool {
        !self.broken && self.depth == 0 && self.at >= self.source.len()
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.source.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn line_end(&self, at: usize) -> usize {
        match self.source.get(at) {
            Some(b'\r') if self.source.get(at + 1) == Some(&b'\n') => 2,
            Some(b'\r' | b'\n') => 1,
            _ => 0,
        }
    }

    /// The end of the string whose opening quote is at `quote`.
    ///
    /// In an f-string (PEP 701) an expression may hold strings with the same quotes. Older Pythons allow less, so
    /// text that reads as such a string is one, and any other text is read the old way.
    fn string_end(&self, quote: usize, formatted: bool) -> Option<usize> {
        let nested = if formatted { self.text_end(quote, true, 0) } else { None };
        nested.or_else(|| self.text_end(quote, false, 0))
    }

    fn text_end(&self, quote: usize, formatted: bool, level: usize) -> Option<usize> {
        let s = self.source;
        let q = s[quote];
        let triple = s.get(quote + 1) == Some(&q) && s.get(quote + 2) == Some(&q);
        let mut at = quote + if triple { 3 } else { 1 };
        loop {
            match *s.get(at)? {
                b'\\' => at += 1 + self.line_end(at + 1).max(1),
                c if c == q && !triple => return Some(at + 1),
                c if c == q && s.get(at + 1) == Some(&q) && s.get(at + 2) == Some(&q) => return Some(at + 3),
                b'\n' | b'\r' if !triple => return None,
                b'{' if formatted && s.get(at + 1) == Some(&b'{') => at += 2,
                b'{' if formatted => at = self.expression_end(at + 1, level + 1)?,
                _ => at += 1,
            }
        }
    }

    /// The end of the replacement field of an f-string whose expression begins at `at`.
    fn expression_end(&self, mut at: usize, level: usize) -> Option<usize> {
        if level > 100 {
            return None;
        }
        let s = self.source;
        let mut depth = 0usize;
        loop {
            match *s.get(at)? {
                b'(' | b'[' | b'{' => depth += 1,
                b'}' if depth == 0 => return Some(at + 1),
                b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
                b'"' | b'\'' => {
                    let name = s[..at].iter().rposition(|&c| !is_name_byte(c)).map_or(0, |p| p + 1);
                    at = self.text_end(
                        at,
                        is_string_prefix(&s[name..at]) && is_formatted(&s[name..at]),
                        level,
                    )?;
                    continue;
                }
                b':' if depth == 0 => return self.format_end(at + 1, level),
                b'\\' | b'#' => return None,
                _ => {}
            }
            at += 1;
        }
    }

    /// The end of the part behind the colon: text, with fields in it.
    fn format_end(&self, mut at: usize, level: usize) -> Option<usize> {
        loop {
            match *self.source.get(at)? {
                b'}' => return Some(at + 1),
                b'{' => at = self.expression_end(at + 1, level + 1)?,
                b'\n' | b'\r' => return None,
                _ => at += 1,
            }
        }
    }

    fn number_end(&self) -> usize {
        let s = self.source;
        let mut at = self.at;
        let hex = s[at] == b'0' && matches!(s.get(at + 1), Some(b'x' | b'X'));
        while let Some(&c) = s.get(at) {
            let exponent =
                !hex && at > self.at && matches!(s[at - 1], b'e' | b'E') && matches!(c, b'+' | b'-');
            if c.is_ascii_alphanumeric() || c == b'_' || c == b'.' || exponent {
                // A keyword may touch a number, as in `1if x`. The letters of a number never spell one of these.
                let letter_of_number =
                    !hex || at < self.at + 2 || c.is_ascii_hexdigit() || matches!(c, b'_' | b'l' | b'L');
                if !letter_of_number || !hex && starts_keyword(&s[at..]) {
                    break;
                }
                at += 1;
            } else {
                break;
            }
        }
        at
    }
}

fn starts_keyword(rest: &[u8]) -> bool {
    [&b"if"[..], b"else", b"or", b"and", b"in", b"is", b"not", b"for"].iter().any(|k| rest.starts_with(k))
}

/// Whether a byte can be part of a name.
pub(crate) fn is_name_byte(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || c >= 0x80
}

fn is_string_prefix(name: &[u8]) -> bool {
    name.len() <= 3 && name.iter().all(|c| matches!(c.to_ascii_lowercase(), b'r' | b'b' | b'u' | b'f' | b't'))
}

fn is_formatted(prefix: &[u8]) -> bool {
    prefix.iter().any(|c| matches!(c.to_ascii_lowercase(), b'f' | b't'))
}

const OPERATORS: [&[u8]; 26] = [
    b"**=", b"//=", b">>=", b"<<=", b"...", b"**", b"//", b">>", b"<<", b"<=", b">=", b"==", b"!=", b"<>",
    b"->", b"+=", b"-=", b"*=", b"/=", b"%=", b"&=", b"|=", b"^=", b"@=", b":=", b"::",
];

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        if self.broken {
            return None;
        }
        while matches!(self.peek(0), b' ' | b'\t' | b'\x0c') {
            self.at += 1;
        }
        let start = self.at;
        let c = *self.source.get(start)?;
        let rest = &self.source[start..];
        let (kind, end) = if c == b'#' {
            let n = memchr(b'\n', rest).unwrap_or(rest.len());
            let n = memchr(b'\r', &rest[..n]).unwrap_or(n);
            (TokenKind::Comment, start + n)
        } else if self.line_end(start) > 0 {
            let end = start + self.line_end(start);
            if self.depth == 0 && self.line_has_code {
                self.line_has_code = false;
                (TokenKind::Newline, end)
            } else {
                (TokenKind::BlankLine, end)
            }
        } else if c == b'\\' && self.line_end(start + 1) > 0 {
            (TokenKind::Continuation, start + 1 + self.line_end(start + 1))
        } else if c.is_ascii_digit() || c == b'.' && self.peek(1).is_ascii_digit() {
            (TokenKind::Number, self.number_end())
        } else if is_name_byte(c) || matches!(c, b'"' | b'\'') {
            let n = rest.iter().position(|&c| !is_name_byte(c)).unwrap_or(rest.len());
            if matches!(rest.get(n), Some(b'"' | b'\'')) && is_string_prefix(&rest[..n]) {
                match self.string_end(start + n, is_formatted(&rest[..n])) {
                    Some(end) => (TokenKind::String, end),
                    None => {
                        self.broken = true;
                        return None;
                    }
                }
            } else {
                (TokenKind::Name, start + n)
            }
        } else {
            match c {
                b'(' | b'[' | b'{' => self.depth += 1,
                b')' | b']' | b'}' => match self.depth.checked_sub(1) {
                    Some(depth) => self.depth = depth,
                    None => {
                        self.broken = true;
                        return None;
                    }
                },
                b'$' | b'?' | b'\\' | 0..32 | 127 => {
                    self.broken = true;
                    return None;
                }
                _ => {}
            }
            let n = OPERATORS.iter().find(|op| rest.starts_with(op)).map_or(1, |op| op.len());
            (TokenKind::Op, start + n)
        };
        if !matches!(kind, TokenKind::Comment | TokenKind::Newline | TokenKind::BlankLine) {
            self.line_has_code = true;
        }
        self.at = end;
        Some(Token { kind, start, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        Lexer::new(source.as_bytes()).map(|t| &source[t.start..t.end]).collect()
    }

    #[test]
    fn strings_with_prefixes_escapes_and_line_ends_are_one_token() {
        assert_eq!(texts(r#"rb'a\'b' + u"x" "#), [r"rb'a\'b'", "+", "u\"x\""]);
        assert_eq!(texts("'''a\n'b''' x"), ["'''a\n'b'''", "x"]);
        assert_eq!(texts("'a\\\r\nb'"), ["'a\\\r\nb'"]);
    }

    #[test]
    fn f_strings_may_hold_strings_with_their_own_quotes() {
        assert_eq!(texts(r#"f"a{", ".join(x)}b" + y"#), [r#"f"a{", ".join(x)}b""#, "+", "y"]);
        assert_eq!(texts(r#"f"{x:'>{w}}" y"#), [r#"f"{x:'>{w}}""#, "y"]);
        assert_eq!(texts(r#"f"{{" y f'{a["b"]!r}' z"#), [r#"f"{{""#, "y", r#"f'{a["b"]!r}'"#, "z"]);
        assert_eq!(texts(r#"f"{f"{f"{1}"}"}" y"#), [r#"f"{f"{f"{1}"}"}""#, "y"]);
        assert_eq!(texts(r#"f"{" y"#), [r#"f"{""#, "y"]);
    }

    #[test]
    fn an_unfinished_string_or_bracket_is_not_whole() {
        for source in ["x = 'a\n", "'''a", "(1", "a)", "a $ b", "\"\\"] {
            let mut lexer = Lexer::new(source.as_bytes());
            lexer.by_ref().for_each(drop);
            assert!(!lexer.is_whole(), "{source:?}");
        }
    }

    #[test]
    fn line_ends_in_brackets_end_no_logical_line() {
        let kinds: Vec<_> = Lexer::new(b"f(\n1)\n\n# c\n").map(|t| t.kind).collect();
        use TokenKind::*;
        assert_eq!(kinds, [Name, Op, BlankLine, Number, Op, Newline, BlankLine, Comment, BlankLine]);
    }

    #[test]
    fn keywords_may_touch_numbers() {
        assert_eq!(texts("1if x else 0x1for"), ["1", "if", "x", "else", "0x1f", "or"]);
        assert_eq!(texts("1e-5+.5j"), ["1e-5", "+", ".5j"]);
    }
}
