//! Modules that a child is sent.

use crate::value::Value;

/// The kind of thing that a module name stands for on the controller. The numbers are `core.py`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ModuleKind {
    /// A module with source.
    Module = 0,
    /// A package with an `__init__`.
    Package = 1,
    /// A namespace package (PEP 420): no source of its own.
    Namespace = 2,
    /// A compiled module: it exists and cannot be sent.
    Compiled = 3,
    /// A module that exists and is not sent, for the reason in the record's path.
    Refused = 4,
}

/// A record of one module, as the controller sends it to a child.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleRecord {
    /// Its full name.
    pub name: String,
    /// Its kind.
    pub kind: ModuleKind,
    /// Its path below its root, with `/`; for kinds that cannot be sent, the reason.
    pub path: String,
    /// The source as a zlib stream; `None` for a module without source.
    pub source: Option<std::sync::Arc<[u8]>>,
    /// For a package: the last part of the name of each module in it, and its kind.
    pub children: Vec<(String, ModuleKind)>,
}

impl ModuleRecord {
    /// The size of its source as it is sent, in bytes.
    pub fn size(&self) -> usize {
        self.source.as_ref().map_or(0, |source| source.len())
    }

    fn fields(&self) -> [Value; 4] {
        let children = match self.kind {
            ModuleKind::Package | ModuleKind::Namespace => {
                let child = |(name, kind): &(String, ModuleKind)| {
                    (Value::Str(name.clone()), Value::Int(*kind as i64))
                };
                Value::Dict(self.children.iter().map(child).collect())
            }
            _ => Value::None,
        };
        let source = self.source.as_ref().map_or(Value::None, |s| Value::Bytes(s.to_vec()));
        [Value::Int(self.kind as i64), Value::Str(self.path.clone()), source, children]
    }

    pub(crate) fn to_reply(&self) -> Value {
        Value::Tuple(self.fields().into())
    }

    pub(crate) fn to_push(&self) -> Value {
        let mut items = vec![Value::Str(self.name.clone())];
        items.extend(self.fields());
        Value::Tuple(items)
    }
}
