//! Calls of functions in a child.

use super::context::Context;
use super::waiting;
use crate::child::CallSlot;
use crate::error::Error;
use crate::modules::finder::Start;
use econtext_proto::{CallSpec, Handle, Value, to_value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

impl Context {
    /// Calls `module:function` or `module:Class.method` there with a tuple of arguments, or `()`.
    ///
    /// The call is on its way when this returns. Calls of one context are run in the order they were made.
    ///
    /// ```no_run
    /// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// let (total, used, free) = web.call::<(u64, u64, u64)>("shutil:disk_usage", ("/",)).wait()?;
    /// # Ok(()) }
    /// ```
    pub fn call<T: DeserializeOwned>(&self, target: &str, args: impl Serialize) -> Call<T> {
        self.prepare(target).args(args).start()
    }

    /// Prepares a call with more options than arguments.
    ///
    /// ```no_run
    /// # fn f(web: &econtext::Context) -> Result<(), econtext::Error> {
    /// use std::time::Duration;
    /// let call = web.prepare("subprocess:check_output").args((["uptime"],)).kwarg("text", true);
    /// let uptime: String = call.timeout(Duration::from_secs(5)).start().wait()?;
    /// # Ok(()) }
    /// ```
    pub fn prepare(&self, target: &str) -> CallBuilder<'_> {
        CallBuilder { context: self, spec: CallSpec::parse(target).map_err(Error::Usage), timeout: None }
    }
}

/// One call that is not made yet.
#[derive(Debug)]
#[must_use = "nothing is called before `start`"]
pub struct CallBuilder<'a> {
    context: &'a Context,
    spec: Result<CallSpec, Error>,
    timeout: Option<Duration>,
}

impl CallBuilder<'_> {
    /// Sets the positional arguments: a tuple, a sequence, or `()`.
    pub fn args(mut self, args: impl Serialize) -> Self {
        let host = self.context.name().to_owned();
        if let Ok(spec) = &mut self.spec {
            match to_value(&args) {
                Ok(Value::Tuple(args) | Value::List(args)) => spec.args = args,
                Ok(Value::None) => spec.args = Vec::new(),
                Ok(other) => {
                    let message =
                        format!("{host}: arguments are a tuple, and this is a {}", other.type_name());
                    self.spec = Err(Error::Usage(message));
                }
                Err(error) => self.spec = Err(Error::Convert { host, error }),
            }
        }
        self
    }

    /// Adds a keyword argument.
    pub fn kwarg(mut self, name: &str, value: impl Serialize) -> Self {
        let host = self.context.name().to_owned();
        if let Ok(spec) = &mut self.spec {
            match to_value(&value) {
                Ok(value) => spec.kwargs.push((Value::from(name), value)),
                Err(error) => self.spec = Err(Error::Convert { host, error }),
            }
        }
        self
    }

    /// Sets the arguments as values that are converted already.
    pub fn values(mut self, args: Vec<Value>, kwargs: Vec<(Value, Value)>) -> Self {
        if let Ok(spec) = &mut self.spec {
            (spec.args, spec.kwargs) = (args, kwargs);
        }
        self
    }

    /// Gives the function the child's own context as its first argument, to send to the controller with.
    pub fn with_context(mut self) -> Self {
        if let Ok(spec) = &mut self.spec {
            spec.with_context = true;
        }
        self
    }

    /// Sets how long the call may take, in its queue and running. It is then interrupted as by
    /// Ctrl-C.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how long an interrupted call may take to end before its process group is killed. The
    /// default is 2 seconds.
    pub fn grace(mut self, grace: Duration) -> Self {
        if let Ok(spec) = &mut self.spec {
            spec.grace = grace;
        }
        self
    }

    /// Makes the call.
    pub fn start<T: DeserializeOwned>(self) -> Call<T> {
        self.start_program(None)
    }

    /// Makes a call whose imports are those of `start`: these modules go ahead.
    pub fn start_ahead<T: DeserializeOwned>(self, start: Start<'_>) -> Call<T> {
        self.start_program(Some(start))
    }

    pub(crate) fn context(&self) -> &Context {
        self.context
    }

    /// Makes the call through another one: `wrap` returns that, and the module and function whose
    /// imports go ahead.
    pub(crate) fn wrapped<T>(
        mut self,
        wrap: impl FnOnce(CallSpec) -> (CallSpec, (String, String)),
    ) -> Call<T> {
        let inner = match self.spec {
            Ok(spec) => {
                let (outer, inner) = wrap(spec);
                self.spec = Ok(outer);
                inner
            }
            Err(error) => {
                return Call { context: self.context.clone(), state: Err(error), result: PhantomData };
            }
        };
        self.start_program(Some(Start::Function(&inner.0, &inner.1)))
    }

    /// Makes a call that will run `program`.
    pub(crate) fn start_program<T>(self, program: Option<Start<'_>>) -> Call<T> {
        let context = self.context.clone();
        let started = self.spec.and_then(|mut spec| {
            spec.deadline = self.timeout.and_then(|t| Instant::now().checked_add(t));
            context.0.link.call(spec, program, &*context.0.shared)
        });
        Call { context, state: started, result: PhantomData }
    }
}

/// A call on its way: [`wait`](Call::wait) for it, or `await` it. Dropping it leaves it running.
///
/// The result is kept: any number of threads and tasks may wait for it, before and after it is
/// there. Clones are the same call.
///
/// ```no_run
/// # fn f(child: &econtext::Context) -> Result<(), econtext::Error> {
/// let call = child.call::<f64>("time:time", ());
/// let other = call.clone();
/// let waiting = std::thread::spawn(move || other.wait());
/// assert_eq!(call.wait()?, call.wait()?);
/// # drop(waiting); Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a call has a result or an error"]
pub struct Call<T> {
    context: Context,
    state: Result<(Handle, Arc<CallSlot>), Error>,
    result: PhantomData<fn() -> T>,
}

impl<T> Clone for Call<T> {
    fn clone(&self) -> Self {
        Call { context: self.context.clone(), state: self.state.clone(), result: PhantomData }
    }
}

impl<T: DeserializeOwned> Call<T> {
    /// Waits for the result.
    ///
    /// # Errors
    /// The exception of the function, the end of the child, or a result that is no `T`.
    pub fn wait(&self) -> Result<T, Error> {
        let (_, slot) = self.state.as_ref().map_err(Error::clone)?;
        waiting::wait(slot).and_then(|value| self.context.convert(value))
    }

    /// Waits for the result for some time; `None` if it is not there by then. The call continues.
    ///
    /// # Errors
    /// The errors of [`wait`](Call::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<T, Error>> {
        let (_, slot) = match &self.state {
            Ok(started) => started,
            Err(error) => return Some(Err(error.clone())),
        };
        let result = waiting::wait_timeout(slot, timeout)?;
        Some(result.and_then(|value| self.context.convert(value)))
    }

    /// Polls for the result, without blocking. It may be polled again after it was there.
    pub fn poll_wait(&self, cx: &std::task::Context<'_>) -> Poll<Result<T, Error>> {
        self.poll_result(cx).map(|result| result.and_then(|value| self.context.convert(value)))
    }
}

impl<T> Call<T> {
    /// Stops the call: it ends as cancelled at once, and the function is interrupted there.
    pub fn cancel(&self) {
        if let Ok((handle, _)) = &self.state {
            self.context.0.link.cancel(*handle, &*self.context.0.shared);
        }
    }

    /// Stops the call as [`cancel`](Call::cancel) does, if it has not ended by itself after
    /// `grace`. Returns at once.
    pub(crate) fn cancel_after(&self, grace: Duration) {
        if let Ok((handle, _)) = &self.state {
            self.context.0.link.cancel_after(*handle, grace, &*self.context.0.shared);
        }
    }

    /// Waits for the outcome, which stays here; `None` if `until` passes first.
    pub(crate) fn result(&self, until: Option<Instant>) -> Option<Result<Value, Error>> {
        match &self.state {
            Ok((_, slot)) => slot.wait_until(until),
            Err(error) => Some(Err(error.clone())),
        }
    }

    /// Polls for the outcome as [`result`](Call::result) does, without blocking.
    pub(crate) fn poll_result(&self, cx: &std::task::Context<'_>) -> Poll<Result<Value, Error>> {
        match &self.state {
            Ok((_, slot)) => slot.poll(cx),
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

impl<T: DeserializeOwned> Future for Call<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        self.poll_wait(cx)
    }
}
