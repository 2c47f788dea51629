//! Generators of the child, as iterators here.

use super::call::{Call, CallBuilder};
use super::context::Context;
use crate::broker::check_thread;
use crate::error::Error;
use crate::modules::agent::STREAM;
use crate::sync::Queue;
use econtext_proto::{CallSpec, Handle, Value};
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

/// The items that may be under way before any is taken.
const WINDOW: i64 = 16;

/// The time that a generator may take to end by itself, once its items are not read any more,
/// before it is interrupted.
const GRACE: Duration = Duration::from_millis(100);

impl CallBuilder<'_> {
    /// Makes the call; if the function is a generator, the iterator has its items. It is asked for
    /// no more than 16 items that are not taken yet. A function that is no generator has no items.
    ///
    /// ```no_run
    /// # fn f(child: &econtext::Context) -> Result<(), econtext::Error> {
    /// let mut lines = child.prepare("diag:follow").args(("/var/log/syslog",)).stream::<String>();
    /// for line in lines.by_ref().take(10) {
    ///     println!("{}", line?);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn stream<T: DeserializeOwned>(self) -> Items<T> {
        let context = self.context().clone();
        let items = Arc::new(Queue::default());
        let into = items.clone();
        let (handle, call) = self.begin(move |item| into.put(item));
        Items { context, handle, items, call, ended: false, told: false, item: PhantomData }
    }

    /// Makes the call; if the function is a generator, `on_item` is called with each of its items,
    /// on the broker's thread, between its output. The next item is asked for when `on_item`
    /// returns. The result is the return value of the generator.
    pub fn start_streaming(self, on_item: impl Fn(Value) + Send + Sync + 'static) -> Call<Value> {
        let give = self.context().giver();
        self.begin(move |item| {
            if let Some((item, handle)) = item {
                on_item(item);
                give(handle);
            }
        })
        .1
    }

    /// Makes the call with a handle for items.
    fn begin(
        self,
        on_item: impl Fn(Option<(Value, Handle)>) + Send + Sync + 'static,
    ) -> (Handle, Call<Value>) {
        let context = self.context().clone();
        let handle = context.item_handle(on_item);
        let call = self.wrapped(|spec: CallSpec| {
            let whole = (spec.module.clone(), spec.class.clone(), spec.function.clone());
            let function = match &spec.class {
                Some(class) => format!("{class}.{}", spec.function),
                None => spec.function.clone(),
            };
            let inner = Value::Tuple(vec![
                Value::Bool(spec.with_context),
                whole.0.into(),
                whole.1.map_or(Value::None, Value::from),
                whole.2.into(),
                Value::Tuple(spec.args.clone()),
                Value::Dict(spec.kwargs.clone()),
            ]);
            let outer = CallSpec {
                module: STREAM.into(),
                class: None,
                function: "call".into(),
                args: vec![Value::Channel(handle), Value::Int(WINDOW), inner],
                kwargs: Vec::new(),
                with_context: false,
                ..spec.clone()
            };
            (outer, (spec.module, function))
        });
        (handle, call)
    }
}

impl Context {
    /// Adds a handle for the items of a generator; the callback is given its number with each.
    pub(crate) fn item_handle(
        &self,
        on_item: impl Fn(Option<(Value, Handle)>) + Send + Sync + 'static,
    ) -> Handle {
        let number = Arc::new(std::sync::OnceLock::new());
        let own: Arc<std::sync::OnceLock<Handle>> = number.clone();
        let handle = self.add_handle(move |item| {
            on_item(item.and_then(|item| Some((item, *own.get()?))));
        });
        // The number is set only here.
        let _ = number.set(handle);
        handle
    }

    /// Makes a function that asks the generator behind a handle for one more item.
    pub(crate) fn giver(&self) -> impl Fn(Handle) + Send + Sync + use<> {
        let inner = Arc::downgrade(&self.0);
        move |handle| {
            if let Some(inner) = inner.upgrade() {
                // A child that is gone yields no more items.
                let _ = inner.link.send(handle, &Value::Int(1));
            }
        }
    }
}

/// The arguments for a program's items: a channel and [`WINDOW`].
pub(crate) fn items_argument(handle: Handle) -> (Value, i64) {
    (Value::Channel(handle), WINDOW)
}

/// An item, and the handle by which to ask for one more.
type Arrived = (Value, Handle);

/// The items of a generator, as they come; see [`CallBuilder::stream`]. A drop closes the generator
/// there.
#[derive(Debug)]
pub struct Items<T> {
    context: Context,
    handle: Handle,
    /// The items that have come and were not taken. There are no more than were asked for.
    items: Arc<Queue<Arrived>>,
    call: Call<Value>,
    /// Whether no further item is wanted, or will come.
    ended: bool,
    /// Whether the iterator has returned its end, and with that the exception of the generator.
    told: bool,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Items<T> {
    /// Waits for the end; gives the return value of the generator, or of a function that is none.
    /// Items that were not taken are lost. The value of a generator that was iterated to its end is
    /// still there.
    ///
    /// # Errors
    /// The errors of [`Call::wait`].
    pub fn finish<R: DeserializeOwned>(mut self) -> Result<R, Error> {
        self.close();
        check_thread()?;
        let value = self.call.result(None).unwrap_or(Ok(Value::None))?;
        self.context.convert(value)
    }

    /// The return value of the generator, or of a function that is none; `None` as long as it has
    /// not ended.
    ///
    /// # Errors
    /// The errors of [`Call::wait`].
    pub fn returned<R: DeserializeOwned>(&self) -> Option<Result<R, Error>> {
        let result = self.call.result(Some(Instant::now()))?;
        Some(result.and_then(|value| self.context.convert(value)))
    }

    /// The next item, or the end, without blocking.
    pub fn poll_next(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<T, Error>>> {
        if !self.ended {
            match self.items.poll(cx) {
                Poll::Ready(Some(item)) => return Poll::Ready(Some(self.received(item))),
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.told {
            return Poll::Ready(None);
        }
        self.call.poll_result(cx).map(|result| self.end(result))
    }

    fn received(&self, (item, handle): (Value, Handle)) -> Result<T, Error> {
        self.context.giver()(handle);
        self.context.convert(item)
    }

    /// Ends the iteration. An exception is the last item; a return value is left for `finish` and
    /// `returned`.
    fn end(&mut self, result: Result<Value, Error>) -> Option<Result<T, Error>> {
        self.told = true;
        result.err().map(Err)
    }
}

impl<T> Items<T> {
    fn close(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            // A child that is gone needs no end.
            let _ = self.context.0.link.send(self.handle, &Value::Dead);
        }
    }
}

impl<T: DeserializeOwned> Iterator for Items<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.told {
            return None;
        }
        if let Err(error) = check_thread() {
            return Some(Err(error));
        }
        if !self.ended {
            if let Some(Some(item)) = self.items.next(None) {
                return Some(self.received(item));
            }
            self.ended = true;
        }
        let result = self.call.result(None)?;
        self.end(result)
    }
}

impl<T> Drop for Items<T> {
    fn drop(&mut self) {
        self.close();
        self.context.remove_handle(self.handle);
        // A generator that waits for something else does not see that nothing is read any more.
        self.call.cancel_after(GRACE);
    }
}
