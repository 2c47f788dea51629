//! One call, prepared once for any number of children.

use crate::values::{to_entries, to_value, to_values};
use crate::wait::duration;
use econtext::internal::DEFINE;
use econtext::internal::lock;
use econtext::modules::Start;
use econtext::value::Handle;
use econtext::{Call, CallBuilder, Context, Error, Items, Value};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The function that is called when the function or its arguments are sent as a pickle.
const WRAPPER: &str = "econtext.values:call";

/// The first item of a message that is to be called; rich.py has the same constant.
const MADE: &str = "\0econtext made";

/// A record of things sent to a child: the digest of each definition by its key, and functions whose imports were sent ahead.
#[derive(Default)]
pub(crate) struct Sent {
    digests: HashMap<String, String>,
    ahead: HashSet<String>,
}

/// The place where imports begin, beside the function that is called.
#[derive(Clone)]
enum Ahead {
    Function(String, String),
    Program(Vec<u8>),
}

/// The target of a call, and its arguments.
pub(crate) struct Spec {
    target: String,
    args: Vec<Value>,
    kwargs: Vec<(Value, Value)>,
    /// Definitions: key, digest and content. Those that a child lacks are sent ahead of the call.
    bodies: Vec<(String, String, Value)>,
    ahead: Option<Ahead>,
    timeout: Option<Duration>,
    /// The child whose channels are among the arguments.
    only: Option<usize>,
}

/// A call that can be made; `None` if the arguments are more than plain values.
#[pyclass(frozen, module = "econtext._econtext")]
pub(crate) struct Request {
    pub(crate) spec: Arc<Spec>,
    /// Classes that the function declares to return.
    pub(crate) declared: Option<Py<PyAny>>,
}

#[pymethods]
impl Request {
    /// A call by name with plain arguments; `None` if they are not.
    #[staticmethod]
    #[pyo3(signature = (target, args, kwargs, timeout=None, declared=None))]
    fn plain(
        target: String,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
        timeout: Option<f64>,
        declared: Option<Py<PyAny>>,
    ) -> PyResult<Option<Request>> {
        let (Some(args), Some(kwargs)) = (to_values(args.iter(), 0)?, to_entries(kwargs, 0)?) else {
            return Ok(None);
        };
        let timeout = duration(timeout)?;
        let spec = Spec { target, args, kwargs, bodies: Vec::new(), ahead: None, timeout, only: None };
        Ok(Some(Request { spec: Arc::new(spec), declared }))
    }

    /// A call of the pickle in `payload`. `needed` are (key, digest, places) of definitions and settings, `bodies` their (digest,
    /// content) by key; `targets` are the places of the values in the payload; `manner` says whether the result is trusted, and
    /// whether it is streamed; `aside` has the values that the payload refers to by number. The imports of `function`, as
    /// (module, name), or of the text `program` are sent ahead.
    #[staticmethod]
    #[pyo3(signature = (needed, bodies, payload, targets, manner, aside, function=None, program=None, timeout=None, declared=None, only=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords, to Python")]
    fn pickled(
        needed: &Bound<'_, PyAny>,
        bodies: &Bound<'_, PyDict>,
        payload: Vec<u8>,
        targets: &Bound<'_, PyAny>,
        manner: (bool, bool),
        aside: &Bound<'_, PyAny>,
        function: Option<(String, String)>,
        program: Option<Vec<u8>>,
        timeout: Option<f64>,
        declared: Option<Py<PyAny>>,
        only: Option<usize>,
    ) -> PyResult<Request> {
        let odd = || crate::ours::usage("a definition is of plain values".to_owned());
        let needed = to_value(needed)?.ok_or_else(odd)?;
        let targets = to_value(targets)?.ok_or_else(odd)?;
        // The child makes its ends when the call arrives, before anything that is sent on them.
        let aside = to_value(aside)?.ok_or_else(odd)?;
        let entries = to_entries(bodies, 0)?.ok_or_else(odd)?;
        let mut definitions = Vec::new();
        for (key, body) in entries {
            let Value::Tuple(mut parts) = body else { return Err(odd()) };
            let (Some(content), Some(digest), None) = (parts.pop(), parts.pop(), parts.pop()) else {
                return Err(odd());
            };
            let (Some(key), Some(digest)) = (key.as_str(), digest.as_str()) else { return Err(odd()) };
            definitions.push((key.to_owned(), digest.to_owned(), content));
        }
        let ahead = match (function, program) {
            (Some((module, name)), _) => Some(Ahead::Function(module, name)),
            (None, Some(text)) => Some(Ahead::Program(text)),
            (None, None) => None,
        };
        let spec = Spec {
            target: WRAPPER.to_owned(),
            args: vec![
                needed,
                Value::Bytes(payload),
                targets,
                Value::Bool(manner.0),
                Value::Bool(manner.1),
                aside,
            ],
            kwargs: Vec::new(),
            bodies: definitions,
            ahead,
            timeout: duration(timeout)?,
            only,
        };
        Ok(Request { spec: Arc::new(spec), declared })
    }
}

impl Request {
    pub(crate) fn declared(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.declared.as_ref().map(|declared| declared.clone_ref(py))
    }
}

impl Spec {
    fn build<'a>(&self, context: &'a Context) -> CallBuilder<'a> {
        let builder = context.prepare(&self.target).values(self.args.clone(), self.kwargs.clone());
        match self.timeout {
            Some(timeout) => builder.timeout(timeout),
            None => builder,
        }
    }

    /// Makes a call, which `start` begins, once the definitions that the child does not have yet are sent. `start` is told
    /// whether the function's imports are to be sent ahead too.
    fn make<T>(&self, context: &Context, sent: &Mutex<Sent>, start: impl FnOnce(bool) -> T) -> T {
        if self.target != WRAPPER {
            return start(false);
        }
        // The lock is held until the call is sent: a call that leaves these definitions out must not overtake it.
        let mut sent = lock(sent);
        let lacks = |(key, digest, _): &&(String, String, Value)| sent.digests.get(key) != Some(digest);
        let new: Vec<_> = self.bodies.iter().filter(lacks).collect();
        if !new.is_empty() {
            for (key, digest, body) in &new {
                let content = Value::Tuple(vec![digest.as_str().into(), body.clone()]);
                // If the child is gone, the call says so. No content is too large: its size was checked when it was made.
                if context.send(DEFINE, &Value::Dict(vec![(key.as_str().into(), content)])).is_ok() {
                    sent.digests.insert(key.clone(), digest.clone());
                }
            }
        }
        // A function that was sent before has its imports there, and so has a function of a module that was called before.
        let ahead = !new.is_empty()
            || match &self.ahead {
                Some(Ahead::Function(module, name)) => sent.ahead.insert(format!("{module}:{name}")),
                _ => false,
            };
        start(ahead)
    }

    /// Refuses channels of another child than `context`.
    pub(crate) fn check(&self, context: &Context) -> Result<(), Error> {
        match self.only {
            Some(only) if only != context.id() => Err(Error::Usage(format!(
                "{}: a channel of another host is among the arguments",
                context.name()
            ))),
            _ => Ok(()),
        }
    }

    /// Makes the call.
    pub(crate) fn start(&self, context: &Context, sent: &Mutex<Sent>) -> Call<Value> {
        self.make(context, sent, |ahead| {
            let builder = self.build(context);
            match self.ahead.as_ref().filter(|_| ahead) {
                Some(Ahead::Function(module, name)) => builder.start_ahead(Start::Function(module, name)),
                Some(Ahead::Program(text)) => builder.start_ahead(Start::Program(text)),
                None => builder.start(),
            }
        })
    }

    /// Sends the parts of the call as a message, for rich.py to call it.
    pub(crate) fn send(&self, context: &Context, sent: &Mutex<Sent>, handle: Handle) -> Result<(), Error> {
        let message = Value::Tuple(vec![MADE.into(), Value::Tuple(self.args.clone())]);
        self.make(context, sent, |_| context.send(handle, &message))
    }

    /// Makes the call of a generator.
    pub(crate) fn stream(&self, context: &Context, sent: &Mutex<Sent>) -> Items<Value> {
        self.make(context, sent, |_| self.build(context).stream())
    }
}
