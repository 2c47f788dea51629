//! Reads a pickle into an arena, then nodes of it into values.

use super::limits::{AllowList, PickleError, PickleLimits};
use crate::value::{CallError, Object, Value};
use crate::wire::calls::{CALL_ERROR_CLASS, CORE_MODULE, DEAD_NAME};
use num_bigint::BigInt;
use std::collections::HashMap;

/// A node of a [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u32);

#[derive(Debug)]
enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    BigInt(BigInt),
    Float(f64),
    /// UTF-8, perhaps with surrogates; it is checked when a value is made of it.
    Text(&'a [u8]),
    Native(&'a [u8]),
    Bytes(&'a [u8]),
    /// Text decoded from an escaped form.
    OwnedText(String),
    OwnedNative(Vec<u8>),
    List(Vec<NodeId>),
    Tuple(Vec<NodeId>),
    Dict(Vec<(NodeId, NodeId)>),
    Global(&'a [u8], &'a [u8]),
    /// The callable and arguments of REDUCE or NEWOBJ, which are not called, and the state that BUILD would have set.
    Made {
        callable: NodeId,
        args: NodeId,
        state: Option<NodeId>,
    },
}

/// A parsed pickle: a flat arena in which sharing, and even cycles, cost nothing.
#[derive(Debug)]
pub struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: NodeId,
    limits: PickleLimits,
}

impl<'a> Pickle<'a> {
    /// Reads one pickle, which must fill `data`.
    ///
    /// # Errors
    /// [`PickleError::Malformed`] or [`PickleError::TooLarge`]. Classes are not judged here.
    pub fn parse(data: &'a [u8], limits: &PickleLimits) -> Result<Self, PickleError> {
        let mut parser = Parser {
            data,
            at: 0,
            opcode: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            far_memo: HashMap::new(),
            limits,
        };
        let root = parser.run()?;
        Ok(Pickle { nodes: parser.nodes, root, limits: limits.clone() })
    }

    /// The whole value.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// The two items of a 2-tuple: a message's handle and payload.
    pub fn pair(&self, id: NodeId) -> Option<(NodeId, NodeId)> {
        match self.node(id) {
            Node::Tuple(items) => <[NodeId; 2]>::try_from(items.as_slice()).ok().map(Into::into),
            _ => None,
        }
    }

    /// The integer at a node, if it is one that fits.
    pub fn int(&self, id: NodeId) -> Option<i64> {
        match self.node(id) {
            Node::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The value at a node.
    ///
    /// # Errors
    /// [`PickleError::Unpermitted`] for any class but `CallError`, `_DEAD`, the builtin containers and those
    /// allowed; [`PickleError::TooDeep`] and [`PickleError::TooLarge`] where sharing or nesting exceeds the limits.
    pub fn value(&self, id: NodeId, allowed: &AllowList) -> Result<Value, PickleError> {
        let mut converter =
            Converter { pickle: self, allowed, values: self.limits.nodes, bytes: self.limits.expanded };
        converter.convert(id, 0)
    }

    fn node(&self, id: NodeId) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }
}

struct Parser<'a, 'l> {
    data: &'a [u8],
    at: usize,
    opcode: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<NodeId>,
    marks: Vec<usize>,
    memo: Vec<NodeId>,
    /// Entries whose memo numbers do not follow in order: only other picklers write them.
    far_memo: HashMap<u32, NodeId>,
    limits: &'l PickleLimits,
}

const UNSET: NodeId = NodeId(u32::MAX);

impl<'a> Parser<'a, '_> {
    fn run(&mut self) -> Result<NodeId, PickleError> {
        loop {
            self.opcode = self.at;
            let opcode = self.byte()?;
            if opcode == b'.' {
                let root = self.pop()?;
                if !self.stack.is_empty() || self.at != self.data.len() {
                    return Err(self.bad("more than one value"));
                }
                return Ok(root);
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            0x80 => {
                if self.byte()? > 3 {
                    return Err(self.bad("protocol over 3"));
                }
            }
            b'N' => self.push(Node::None)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'K' => {
                let n = self.byte()?;
                self.push(Node::Int(n.into()))?;
            }
            b'M' => {
                let n = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(n.into()))?;
            }
            b'J' => {
                let n = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(n.into()))?;
            }
            0x8a => {
                let n = self.byte()?.into();
                self.long(n)?;
            }
            0x8b => {
                let n = self.length()?;
                self.long(n)?;
            }
            b'I' => {
                let line = self.line()?;
                let node = match line {
                    b"00" => Node::Bool(false),
                    b"01" => Node::Bool(true),
                    _ => self.decimal(line)?,
                };
                self.push(node)?;
            }
            b'L' => {
                let line = self.line()?;
                let node = self.decimal(line.strip_suffix(b"L").unwrap_or(line))?;
                self.push(node)?;
            }
            b'G' => {
                let x = f64::from_be_bytes(self.array()?);
                self.push(Node::Float(x))?;
            }
            b'F' => {
                let line = self.line()?;
                let x = std::str::from_utf8(line).ok().and_then(|s| s.parse().ok());
                let x = x.ok_or_else(|| self.bad("a float"))?;
                self.push(Node::Float(x))?;
            }
            b'X' => {
                let n = self.length()?;
                let text = self.take(n)?;
                self.push(Node::Text(text))?;
            }
            b'U' => {
                let n = self.byte()?.into();
                let bytes = self.take(n)?;
                self.push(Node::Native(bytes))?;
            }
            b'T' => {
                let n = self.length()?;
                let bytes = self.take(n)?;
                self.push(Node::Native(bytes))?;
            }
            b'C' => {
                let n = self.byte()?.into();
                let bytes = self.take(n)?;
                self.push(Node::Bytes(bytes))?;
            }
            b'B' => {
                let n = self.length()?;
                let bytes = self.take(n)?;
                self.push(Node::Bytes(bytes))?;
            }
            b'S' => {
                let line = self.line()?;
                let bytes = unquote(line).ok_or_else(|| self.bad("a quoted string"))?;
                self.push(Node::OwnedNative(bytes))?;
            }
            b'V' => {
                let line = self.line()?;
                let text = raw_unicode(line).ok_or_else(|| self.bad("an escaped text"))?;
                self.push(Node::OwnedText(text))?;
            }
            b']' => self.push(Node::List(Vec::new()))?,
            b')' => self.push(Node::Tuple(Vec::new()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b'(' => self.marks.push(self.stack.len()),
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Node::List(items))?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Node::Tuple(items))?;
            }
            b'd' => {
                let items = self.pop_mark()?;
                let pairs = self.pairs(items)?;
                self.push(Node::Dict(pairs))?;
            }
            0x85..=0x87 => {
                let n = usize::from(opcode - 0x84);
                let from = self.stack.len().checked_sub(n).filter(|&from| from >= self.floor());
                let from = from.ok_or_else(|| self.bad("a tuple of too few"))?;
                let items = self.stack.split_off(from);
                self.push(Node::Tuple(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend_list(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.extend_dict(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                let pairs = self.pairs(items)?;
                self.extend_dict(pairs)?;
            }
            b'0' => {
                // CPython's POP takes a mark when that is on top.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'q' => {
                let n = self.byte()?.into();
                self.put(n)?;
            }
            b'r' => {
                let n = u32::from_le_bytes(self.array()?);
                self.put(n)?;
            }
            b'p' => {
                let n = self.index_line()?;
                self.put(n)?;
            }
            b'h' => {
                let n = self.byte()?.into();
                self.get(n)?;
            }
            b'j' => {
                let n = u32::from_le_bytes(self.array()?);
                self.get(n)?;
            }
            b'g' => {
                let n = self.index_line()?;
                self.get(n)?;
            }
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.push(Node::Global(module, name))?;
            }
            b'R' | 0x81 => {
                let args = self.pop()?;
                let callable = self.pop()?;
                self.push(Node::Made { callable, args, state: None })?;
            }
            b'b' => {
                let new = self.pop()?;
                let top = self.top()?;
                match &mut self.nodes[top.0 as usize] {
                    Node::Made { state, .. } => *state = Some(new),
                    _ => return Err(self.bad("state for what has none")),
                }
            }
            _ => return Err(self.bad("an opcode that plain values do not need")),
        }
        Ok(())
    }

    fn bad(&self, what: &'static str) -> PickleError {
        PickleError::Malformed { at: self.opcode, what }
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        let byte = *self.data.get(self.at).ok_or_else(|| self.bad("it ends early"))?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], PickleError> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.data.len());
        let end = end.ok_or_else(|| self.bad("it ends early"))?;
        let bytes = &self.data[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| self.bad("it ends early"))
    }

    fn length(&mut self) -> Result<usize, PickleError> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn line(&mut self) -> Result<&'a [u8], PickleError> {
        let rest = &self.data[self.at..];
        let n = memchr::memchr(b'\n', rest).ok_or_else(|| self.bad("a line without end"))?;
        self.at += n + 1;
        Ok(&rest[..n])
    }

    fn index_line(&mut self) -> Result<u32, PickleError> {
        let line = self.line()?;
        std::str::from_utf8(line).ok().and_then(|s| s.parse().ok()).ok_or_else(|| self.bad("a memo number"))
    }

    fn decimal(&self, line: &[u8]) -> Result<Node<'a>, PickleError> {
        if line.len() > self.limits.digits {
            return Err(PickleError::TooLarge { what: "digits in an integer", limit: self.limits.digits });
        }
        // Rust's own parsers take underscores and plus signs.
        let digits = line.strip_prefix(b"-").unwrap_or(line);
        let text = std::str::from_utf8(line).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
        let n = text.and_then(|s| s.parse().ok()).ok_or_else(|| self.bad("a decimal integer"))?;
        Ok(i64::try_from(&n).map_or(Node::BigInt(n), Node::Int))
    }

    fn long(&mut self, n: usize) -> Result<(), PickleError> {
        let bytes = self.take(n)?;
        let n = BigInt::from_signed_bytes_le(bytes);
        self.push(i64::try_from(&n).map_or(Node::BigInt(n), Node::Int))
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), PickleError> {
        if self.nodes.len() >= self.limits.nodes.min(UNSET.0 as usize) {
            return Err(PickleError::TooLarge { what: "values", limit: self.limits.nodes });
        }
        self.stack.push(NodeId(self.nodes.len() as u32));
        self.nodes.push(node);
        Ok(())
    }

    /// The position where the stack of the innermost mark begins.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<NodeId, PickleError> {
        if self.stack.len() <= self.floor() {
            return Err(self.bad("nothing on the stack"));
        }
        self.stack.pop().ok_or_else(|| self.bad("nothing on the stack"))
    }

    fn top(&self) -> Result<NodeId, PickleError> {
        if self.stack.len() <= self.floor() {
            return Err(self.bad("nothing on the stack"));
        }
        self.stack.last().copied().ok_or_else(|| self.bad("nothing on the stack"))
    }

    fn pop_mark(&mut self) -> Result<Vec<NodeId>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.bad("no mark on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pairs(&self, items: Vec<NodeId>) -> Result<Vec<(NodeId, NodeId)>, PickleError> {
        if !items.len().is_multiple_of(2) {
            return Err(self.bad("a key without a value"));
        }
        Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    fn extend_list(&mut self, items: Vec<NodeId>) -> Result<(), PickleError> {
        let top = self.top()?;
        match &mut self.nodes[top.0 as usize] {
            Node::List(list) if list.is_empty() => *list = items,
            Node::List(list) => list.extend(items),
            _ => return Err(self.bad("items for what is no list")),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: Vec<(NodeId, NodeId)>) -> Result<(), PickleError> {
        let top = self.top()?;
        match &mut self.nodes[top.0 as usize] {
            Node::Dict(dict) => dict.extend(items),
            _ => return Err(self.bad("items for what is no dict")),
        }
        Ok(())
    }

    fn put(&mut self, n: u32) -> Result<(), PickleError> {
        let top = self.top()?;
        let index = n as usize;
        // CPython counts from 0 or 1, so gaps are small; a huge number must not size a vector.
        if index < self.memo.len() + 16 {
            if index >= self.memo.len() {
                self.memo.resize(index + 1, UNSET);
            }
            self.memo[index] = top;
        } else {
            self.far_memo.insert(n, top);
        }
        Ok(())
    }

    fn get(&mut self, n: u32) -> Result<(), PickleError> {
        let near = self.memo.get(n as usize).copied().filter(|&id| id != UNSET);
        let id = near.or_else(|| self.far_memo.get(&n).copied());
        let id = id.ok_or_else(|| self.bad("a memo number that was not set"))?;
        self.stack.push(id);
        Ok(())
    }
}

/// The bytes of Python 2's `repr` of a `str`.
fn unquote(line: &[u8]) -> Option<Vec<u8>> {
    let quote = *line.first().filter(|c| matches!(c, b'\'' | b'"'))?;
    let inner = line.get(1..)?.strip_suffix(&[quote])?;
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(&c) = rest.next() {
        if c != b'\\' {
            out.push(c);
            continue;
        }
        out.push(match *rest.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digits = [*rest.next()?, *rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            c @ (b'\\' | b'\'' | b'"') => c,
            _ => return None,
        });
    }
    Some(out)
}

/// Text in Python's `raw-unicode-escape`.
fn raw_unicode(line: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(line.len());
    let mut at = 0;
    while let Some(&c) = line.get(at) {
        let digits = match (c, line.get(at + 1)) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => 0,
        };
        if digits == 0 {
            out.push(char::from(c));
            at += 1;
        } else {
            let hex = std::str::from_utf8(line.get(at + 2..at + 2 + digits)?).ok()?;
            out.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
            at += 2 + digits;
        }
    }
    Some(out)
}

struct Converter<'p, 'a> {
    pickle: &'p Pickle<'a>,
    allowed: &'p AllowList,
    /// The number of values that may still be made.
    values: usize,
    bytes: usize,
}

impl Converter<'_, '_> {
    /// Makes the value of a node. It recurses at most `limits.depth` deep.
    fn convert(&mut self, id: NodeId, depth: usize) -> Result<Value, PickleError> {
        let limits = &self.pickle.limits;
        if depth > limits.depth {
            return Err(PickleError::TooDeep { limit: limits.depth });
        }
        self.values = self
            .values
            .checked_sub(1)
            .ok_or(PickleError::TooLarge { what: "values", limit: limits.nodes })?;
        Ok(match self.pickle.node(id) {
            Node::None => Value::None,
            Node::Bool(b) => Value::Bool(*b),
            Node::Int(n) => Value::Int(*n),
            Node::BigInt(n) => {
                self.spend(n.bits() as usize / 8)?;
                Value::BigInt(n.clone())
            }
            Node::Float(x) => Value::Float(*x),
            Node::Text(bytes) => {
                self.spend(bytes.len())?;
                text(bytes)?
            }
            Node::OwnedText(text) => {
                self.spend(text.len())?;
                Value::Str(text.clone())
            }
            Node::Native(bytes) => self.spend(bytes.len()).map(|()| Value::NativeStr(bytes.to_vec()))?,
            Node::OwnedNative(bytes) => self.spend(bytes.len()).map(|()| Value::NativeStr(bytes.clone()))?,
            Node::Bytes(bytes) => self.spend(bytes.len()).map(|()| Value::Bytes(bytes.to_vec()))?,
            Node::List(items) => Value::List(self.convert_all(items, depth)?),
            Node::Tuple(items) => Value::Tuple(self.convert_all(items, depth)?),
            Node::Dict(items) => {
                let convert = |&(k, v): &(NodeId, NodeId)| {
                    Ok((self.convert(k, depth + 1)?, self.convert(v, depth + 1)?))
                };
                Value::Dict(items.iter().map(convert).collect::<Result<_, PickleError>>()?)
            }
            Node::Global(module, name) => match (*module, *name) {
                (CORE_MODULE, DEAD_NAME) => Value::Dead,
                _ => return Err(unpermitted(module, name)),
            },
            Node::Made { callable, args, state } => self.convert_made(*callable, *args, *state, depth + 1)?,
        })
    }

    fn convert_all(&mut self, items: &[NodeId], depth: usize) -> Result<Vec<Value>, PickleError> {
        items.iter().map(|&id| self.convert(id, depth + 1)).collect()
    }

    fn convert_made(
        &mut self,
        callable: NodeId,
        args: NodeId,
        state: Option<NodeId>,
        depth: usize,
    ) -> Result<Value, PickleError> {
        let bad = |what| PickleError::Malformed { at: 0, what };
        let Node::Global(module, name) = *self.pickle.node(callable) else {
            return Err(bad("a call of what is no class"));
        };
        let Node::Tuple(args) = self.pickle.node(args) else {
            return Err(bad("a call without a tuple of arguments"));
        };
        let mut args = self.convert_all(args, depth)?;
        let builtin = matches!(module, b"__builtin__" | b"builtins");
        match (name, args.as_mut_slice()) {
            (b"CallError", _) if (module, name) == (CORE_MODULE, CALL_ERROR_CLASS) => {
                CallError::from_args(args)
                    .map(|error| Value::CallError(Box::new(error)))
                    .ok_or_else(|| bad("a CallError of the wrong shape"))
            }
            (b"set", [Value::List(items)]) if builtin => Ok(Value::Set(std::mem::take(items))),
            (b"frozenset", [Value::List(items)]) if builtin => Ok(Value::FrozenSet(std::mem::take(items))),
            (b"set" | b"frozenset", []) if builtin => Ok(Value::Set(Vec::new())),
            (b"complex", [Value::Float(re), Value::Float(im)]) if builtin => Ok(Value::Complex(*re, *im)),
            (b"encode", [Value::Str(latin1), Value::Str(_)]) if module == b"_codecs" => {
                let bytes = latin1.chars().map(|c| u8::try_from(u32::from(c))).collect::<Result<_, _>>();
                bytes.map(Value::Bytes).map_err(|_| bad("bytes over 255"))
            }
            _ => {
                let (Ok(m), Ok(n)) = (std::str::from_utf8(module), std::str::from_utf8(name)) else {
                    return Err(unpermitted(module, name));
                };
                if !self.allowed.permits(m, n) {
                    return Err(unpermitted(module, name));
                }
                let state = state.map_or(Ok(Value::None), |id| self.convert(id, depth))?;
                Ok(Value::Object(Box::new(Object { module: m.to_owned(), name: n.to_owned(), args, state })))
            }
        }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), PickleError> {
        let limit = self.pickle.limits.expanded;
        self.bytes = self.bytes.checked_sub(bytes).ok_or(PickleError::TooLarge { what: "bytes", limit })?;
        Ok(())
    }
}

/// Text, or text with surrogates.
fn text(bytes: &[u8]) -> Result<Value, PickleError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Value::Str(text.to_owned())),
        Err(_) if is_wide(bytes) => Ok(Value::WideStr(bytes.to_vec())),
        Err(_) => Err(PickleError::Malformed { at: 0, what: "text that is no UTF-8" }),
    }
}

/// Whether bytes are UTF-8 but for encoded surrogates (U+D800 to U+DFFF: `ED A0..BF xx`).
fn is_wide(mut bytes: &[u8]) -> bool {
    loop {
        match std::str::from_utf8(bytes) {
            Ok(_) => return true,
            Err(e) => match bytes[e.valid_up_to()..] {
                [0xed, 0xa0..=0xbf, 0x80..=0xbf, ref rest @ ..] => bytes = rest,
                _ => return false,
            },
        }
    }
}

fn unpermitted(module: &[u8], name: &[u8]) -> PickleError {
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    PickleError::Unpermitted { module: text(module), name: text(name) }
}
