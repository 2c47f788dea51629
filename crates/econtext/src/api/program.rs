//! Runs of whole programs, as by `python FILE`, `python -c` and `python -m`.

use super::call::Call;
use super::channel::Channel;
use super::context::Context;
use super::items::items_argument;
use crate::error::Error;
use crate::modules::finder::Start;
use econtext_proto::Value;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The most bytes of input on their way to one program.
const WINDOW: usize = 256 << 10;

/// A program to run in a child, as given on Python's command line.
///
/// ```no_run
/// # fn f(child: &econtext::Context) -> Result<(), econtext::Error> {
/// use econtext::{Program, Value};
/// let program = Program::code("import sys; len(sys.argv)").args(["a", "b"]);
/// let (input, call) = child.run(&program, None);
/// input.close();
/// assert_eq!(call.wait()?, (0, Value::Int(3)));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    kind: &'static str,
    name: OsString,
    source: Vec<u8>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

impl Program {
    /// The text of a script; `name` is its file name in tracebacks, and the first of its arguments.
    pub fn file(name: impl Into<OsString>, source: impl Into<Vec<u8>>) -> Self {
        Self::new("file", name.into(), source.into())
    }

    /// The code of a `python -c`. If its last statement is an expression, that is the value of the
    /// run.
    pub fn code(source: impl Into<Vec<u8>>) -> Self {
        Self::new("c", "-c".into(), source.into())
    }

    /// The module of a `python -m`: the child's own, or one that the context's finder has.
    pub fn module(name: impl Into<String>) -> Self {
        Self::new("m", name.into().into(), Vec::new())
    }

    fn new(kind: &'static str, name: OsString, source: Vec<u8>) -> Self {
        Program { kind, name, source, args: Vec::new(), env: Vec::new() }
    }

    /// The place where its imports begin.
    pub fn start(&self) -> Start<'_> {
        match self.kind {
            "m" => Start::Main(self.name.to_str().unwrap_or_default()),
            _ => Start::Program(&self.source),
        }
    }

    /// Adds arguments: `sys.argv[1:]`. Bytes that are no UTF-8 become surrogates there, as in any
    /// program.
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the child's environment, in which it stays.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// The stdin of a running [`Program`]. A drop ends the input.
#[derive(Debug)]
pub struct Input {
    channel: Channel,
    in_flight: AtomicUsize,
}

impl Input {
    /// Sends some input, waiting while the program is slower. `Ok(false)` if it is not read any
    /// more.
    ///
    /// # Errors
    /// If the child is gone.
    pub fn write(&self, data: &[u8]) -> Result<bool, Error> {
        for chunk in data.chunks(64 << 10) {
            self.channel.send(&Value::Bytes(chunk.to_vec()))?;
            self.in_flight.fetch_add(chunk.len(), Ordering::Relaxed);
            while self.in_flight.load(Ordering::Relaxed) > WINDOW {
                match self.channel.recv::<usize>()? {
                    Some(n) => self.in_flight.fetch_sub(n, Ordering::Relaxed),
                    None => return Ok(false),
                };
            }
        }
        Ok(true)
    }

    /// Sends all data of `reader`, then the end.
    ///
    /// # Errors
    /// If the child is gone, or reading fails.
    pub fn copy_from(&self, reader: &mut impl io::Read) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if !self.write(&buffer[..n]).map_err(io::Error::other)? {
                break;
            }
        }
        self.close();
        Ok(())
    }

    /// Ends the input.
    pub fn close(&self) {
        self.channel.close();
    }
}

impl Context {
    /// Starts a program. Its result is its exit status, and the value of code that ends in an
    /// expression. Its output comes as events; an exception, other than `SystemExit`, is the call's
    /// error.
    ///
    /// A child runs one program at a time, and the state that a program leaves behind in the
    /// interpreter stays.
    pub fn run(&self, program: &Program, timeout: Option<Duration>) -> (Input, Call<(u8, Value)>) {
        self.run_streaming(program, timeout, |_| {})
    }

    /// Starts a program as [`run`](Context::run) does. If the value of code is a generator,
    /// `on_item` is called with each of its items, on the broker's thread, between its output; the
    /// next item is asked for when `on_item` returns.
    pub fn run_streaming(
        &self,
        program: &Program,
        timeout: Option<Duration>,
        on_item: impl Fn(Value) + Send + Sync + 'static,
    ) -> (Input, Call<(u8, Value)>) {
        let give = self.giver();
        let items = self.item_handle(move |item| {
            if let Some((item, handle)) = item {
                on_item(item);
                give(handle);
            }
        });
        let (items, credit) = items_argument(items);
        let channel = self.channel();
        let bytes = |word: &OsString| Value::Bytes(word.as_bytes().to_vec());
        let argv: Vec<Value> = [&program.name].into_iter().chain(&program.args).map(bytes).collect();
        let env = program.env.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        let source = Value::Bytes(program.source.clone());
        let mut call = self.prepare("econtext.runner:run").args((
            program.kind,
            bytes(&program.name),
            source,
            argv,
            &channel,
            items,
            credit,
            Value::Dict(env),
        ));
        if let Some(timeout) = timeout {
            call = call.timeout(timeout);
        }
        let call = call.start_program(Some(program.start()));
        (Input { channel, in_flight: AtomicUsize::new(0) }, call)
    }
}
