//! Generators there, iterators here.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::{Broker, Context, Local, PathFinder, Program, Python, Value};
use econtext_testkit::{processes, pythons};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MODULE: &str = "
import time
made, closed = [], []

def count(n, end=None):
    try:
        for i in range(n):
            made.append(i)
            yield i
        if end:
            raise ValueError(end)
    finally:
        closed.append(True)

def state():
    return len(made), len(closed)

def waits():
    try:
        yield 1
        time.sleep(600)
    finally:
        closed.append(True)

def plain():
    return 'no generator'

def unsendable():
    yield 1
    yield object()
";

fn child(broker: &Broker, python: &pythons::Python) -> Context {
    Context::builder("child")
        .python(Python::Path(python.to_arg()))
        .finder(Arc::new(PathFinder::new().source("gen", MODULE)))
        .connect(broker, Local)
        .unwrap()
}

fn state(child: &Context) -> (i64, i64) {
    child.call("gen:state", ()).wait().unwrap()
}

#[test]
fn items_come_in_order_and_what_is_raised_is_the_last() {
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        let child = child(&broker, &python);
        let items: Vec<i64> =
            child.prepare("gen:count").args((1000,)).stream().collect::<Result<_, _>>().unwrap();
        assert_eq!(items, (0..1000).collect::<Vec<_>>(), "Python {}", python.minor);
        let mut items = child.prepare("gen:count").args((2, "the end")).stream::<i64>();
        assert_eq!((items.next().unwrap().unwrap(), items.next().unwrap().unwrap()), (0, 1));
        let error = items.next().unwrap().unwrap_err();
        assert_eq!(error.call_error().unwrap().type_name, "ValueError");
        assert!(items.next().is_none());
        let mut items = child.prepare("gen:unsendable").stream::<Value>();
        assert!(items.next().unwrap().is_ok());
        assert!(items.next().unwrap().unwrap_err().to_string().contains("object"));
        let mut items = child.prepare("gen:plain").stream::<i64>();
        assert!(items.next().is_none());
        assert_eq!(child.prepare("gen:plain").stream::<i64>().finish::<String>().unwrap(), "no generator");
    }
}

#[test]
fn a_generator_waits_for_its_reader_and_is_closed_with_it() {
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        let child = child(&broker, &python);
        let mut items = child.prepare("gen:count").args((1_000_000,)).stream::<i64>();
        for i in 0..5 {
            assert_eq!(items.next().unwrap().unwrap(), i);
        }
        std::thread::sleep(Duration::from_millis(50));
        drop(items);
        // No more than the window, and what was asked for since, were made.
        let (made, closed) = state(&child);
        assert!((5..=5 + 16 + 1).contains(&made), "Python {}: {made} were made", python.minor);
        assert_eq!(closed, 1, "Python {}", python.minor);
    }
}

#[test]
fn a_generator_that_waits_for_something_else_is_interrupted() {
    let broker = Broker::new().unwrap();
    for python in pythons::some() {
        let child = child(&broker, &python);
        let mut items = child.prepare("gen:waits").stream::<i64>();
        assert_eq!(items.next().unwrap().unwrap(), 1);
        drop(items);
        processes::wait_until("it is closed", || state(&child).1 == 1);
    }
}

#[test]
fn items_are_shown_between_what_is_printed() {
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (printed, yielded) = (seen.clone(), seen.clone());
        let child = Context::builder("child")
            .python(Python::Path(python.to_arg()))
            .on_event(move |event| {
                if let econtext::ChildEvent::Output { data, .. } = event {
                    printed.lock().unwrap().push(String::from_utf8(data.to_vec()).unwrap());
                }
            })
            .connect(&broker, Local)
            .unwrap();
        let code = "import sys\ndef f():\n    for i in range(3):\n        print('line')\n        sys.stdout.flush()\n        yield i\nf()";
        let (input, call) = child.run_streaming(&Program::code(code), None, move |item| {
            yielded.lock().unwrap().push(format!("{item:?}"));
        });
        input.close();
        assert_eq!(call.wait().unwrap(), (0, Value::None));
        let seen = seen.lock().unwrap();
        let expected = ["line\n", "Int(0)", "line\n", "Int(1)", "line\n", "Int(2)"];
        assert_eq!(*seen, expected, "Python {}", python.minor);
    }
}

#[test]
fn what_a_generator_returns_is_there_after_it_was_iterated_to_its_end() {
    let broker = Broker::new().unwrap();
    let source = "def counts():\n    yield 1\n    yield 2\n    return 'the end'\n\ndef fails():\n    yield 1\n    raise ValueError('no')\n";
    let child = Context::builder("child")
        .python(Python::Path(pythons::any().to_arg()))
        .finder(Arc::new(PathFinder::new().source("gens", source)))
        .connect(&broker, Local)
        .unwrap();
    let mut items = child.prepare("gens:counts").stream::<i64>();
    assert!(items.returned::<String>().is_none());
    assert_eq!(items.by_ref().collect::<Result<Vec<_>, _>>().unwrap(), [1, 2]);
    assert!(items.next().is_none());
    assert_eq!(items.returned::<String>().unwrap().unwrap(), "the end");
    assert_eq!(items.returned::<String>().unwrap().unwrap(), "the end", "it stays");
    assert_eq!(items.finish::<String>().unwrap(), "the end");

    let mut items = child.prepare("gens:fails").stream::<i64>();
    assert_eq!(items.by_ref().filter(Result::is_err).count(), 1);
    assert!(items.next().is_none(), "what it raised is told once by the iterator");
    assert!(items.finish::<()>().unwrap_err().to_string().contains("ValueError"));
}

#[test]
fn items_may_be_dropped_on_the_thread_that_must_not_wait() {
    let broker = Broker::new().unwrap();
    let items: Arc<Mutex<Option<econtext::Items<i64>>>> = Arc::default();
    let held = items.clone();
    let (gone, dropped) = std::sync::mpsc::channel();
    let child = Context::builder("child")
        .finder(Arc::new(PathFinder::new().source("gen", MODULE)))
        .on_event(move |event| {
            if matches!(event, econtext::ChildEvent::Output { .. }) {
                drop(held.lock().unwrap().take());
                gone.send(()).unwrap();
            }
        })
        .connect(&broker, Local)
        .unwrap();
    let mut running = child.prepare("gen:waits").stream::<i64>();
    assert_eq!(running.next().unwrap().unwrap(), 1);
    *items.lock().unwrap() = Some(running);
    let _ = child.command("echo").arg("now").status();
    let other = child.prepare("gen:plain").stream::<i64>();
    drop(other);
    child
        .command("sh")
        .args(["-c", &format!("echo now >/proc/{}/fd/1", child.wait_ready().unwrap().pid)])
        .status()
        .unwrap();
    dropped.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(state(&child).1, 1, "the generator was interrupted, and closed");
}
