//! Results are kept: any number of threads and tasks read them, before and after they are there.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::transfer::TransferOptions;
use econtext::{Broker, Context, ErrorKind, Local, PathFinder};
use econtext_testkit::processes;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker: Waker = Arc::new(Unpark(thread::current())).into();
    loop {
        match future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Runs a function on several threads at a time, and returns all results.
fn on_threads<T: Send>(f: impl Fn() -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(&f)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

const MODULE: &str = "
def wait(channel):
    return channel.receive()

def count(n):
    for i in range(n):
        yield i
    return 'done'

def echo(channel):
    for item in channel:
        channel.send(item)
";

fn child(broker: &Broker) -> Context {
    Context::builder("child")
        .finder(Arc::new(PathFinder::new().source("kept", MODULE)))
        .connect(broker, Local)
        .unwrap()
}

#[test]
fn a_result_goes_to_each_reader_before_and_after_it_is_there() {
    let broker = Broker::new().unwrap();
    let child = child(&broker);
    assert!(on_threads(|| child.wait_ready().unwrap().pid).windows(2).all(|two| two[0] == two[1]));
    let channel = child.channel();
    let call = child.call::<String>("kept:wait", (&channel,));
    assert!(call.wait_timeout(Duration::from_millis(10)).is_none());
    let clone = call.clone();
    let results = thread::scope(|scope| {
        let awaiting = scope.spawn(|| block_on(clone.clone()).unwrap());
        let waiting = scope.spawn(|| on_threads(|| call.wait().unwrap()));
        let timed = scope.spawn(|| call.wait_timeout(Duration::from_secs(60)).unwrap().unwrap());
        channel.send(&"hello").unwrap();
        [vec![awaiting.join().unwrap(), timed.join().unwrap()], waiting.join().unwrap()].concat()
    });
    assert_eq!(results, vec!["hello"; 6]);
    assert_eq!(call.wait().unwrap(), "hello");
    assert_eq!(block_on(clone).unwrap(), "hello");
    assert_eq!(call.wait_timeout(Duration::ZERO).unwrap().unwrap(), "hello");
}

#[test]
fn an_error_goes_to_each_reader_too() {
    let broker = Broker::new().unwrap();
    let child = child(&broker);
    let failing = child.call::<()>("kept:nothing", ());
    let missing = child.call::<()>("no target", ());
    for error in on_threads(|| failing.wait().unwrap_err()) {
        assert_eq!(error.kind(), ErrorKind::Exception);
    }
    assert_eq!(block_on(failing).unwrap_err().kind(), ErrorKind::Exception);
    assert_eq!(missing.wait().unwrap_err().kind(), missing.wait().unwrap_err().kind());
    let sleeping = child.call::<()>("time:sleep", (600,));
    sleeping.cancel();
    assert!(on_threads(|| sleeping.wait().unwrap_err().kind()).iter().all(|k| *k == ErrorKind::Cancelled));
}

#[test]
fn the_end_of_a_generator_is_there_for_every_reader() {
    let broker = Broker::new().unwrap();
    let child = child(&broker);
    let mut items = child.prepare("kept:count").args((3,)).stream::<i64>();
    assert_eq!(items.by_ref().map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(on_threads(|| items.returned::<String>().unwrap().unwrap()), vec!["done"; 4]);
    assert!(items.next().is_none() && items.next().is_none());
    assert_eq!(items.finish::<String>().unwrap(), "done");
}

#[test]
fn channels_are_polled_and_shared() {
    let broker = Broker::new().unwrap();
    let child = child(&broker);
    let channel = child.channel();
    let call = child.call::<()>("kept:echo", (&channel,));
    for n in 0..100 {
        channel.send(&n).unwrap();
        assert_eq!(block_on(poll_fn(|cx| channel.poll_recv::<i64>(cx))).unwrap(), Some(n));
    }
    for n in 0..4 {
        channel.send(&n).unwrap();
    }
    let mut taken = on_threads(|| channel.recv::<i64>().unwrap().unwrap());
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2, 3]);
    assert_eq!(channel.try_recv::<i64>().unwrap_err().kind(), ErrorKind::Timeout);
    channel.close();
    // The end is there for all of them, as often as they ask.
    assert_eq!(on_threads(|| channel.recv::<i64>().unwrap()), [None; 4]);
    assert_eq!(block_on(poll_fn(|cx| channel.poll_recv::<i64>(cx))).unwrap(), None);
    call.wait().unwrap();
}

#[test]
fn commands_are_polled_and_keep_their_output() {
    let broker = Broker::new().unwrap();
    let child = child(&broker);
    let big = vec![b'x'; 3 << 20];
    let command = child.shell("cat; echo done >&2; exit 3").input(big.clone()).start();
    let clone = command.clone();
    let output = block_on(clone).unwrap();
    assert_eq!(
        (output.status.code, output.stdout.len(), &output.stderr[..]),
        (Some(3), big.len(), &b"done\n"[..])
    );
    assert!(on_threads(|| command.wait().unwrap()).iter().all(|again| *again == output));
    assert_eq!(command.so_far(), (output.stdout, output.stderr));
    let process = child.command("sleep").arg("600").spawn_with(|_| {}).unwrap();
    assert!(process.wait_timeout(Duration::from_millis(10)).is_none());
    process.signal(9).unwrap();
    let status = block_on(poll_fn(|cx| process.poll_wait(cx))).unwrap();
    assert_eq!((status.signal, process.wait().unwrap()), (Some(9), status));
    assert_eq!(child.command("cat").input("abc").status().unwrap().code, Some(0));
    // Input that waits for a reader keeps no process.
    let sleeping = child.command("sleep").arg("36205").input(big).start();
    processes::wait_until("it runs", || !processes::with_text("36205").is_empty());
    drop(sleeping);
    processes::wait_until("it is gone", || processes::with_text("36205").is_empty());
    let missing = child.command("/no/such/program").start();
    assert_eq!(missing.wait().unwrap_err().kind(), block_on(missing).unwrap_err().kind());
}

#[test]
fn transfers_are_awaited_and_can_be_stopped() {
    let broker = Broker::new().unwrap();
    let child = child(&broker);
    let directory = tempfile::tempdir().unwrap();
    let (source, there, back) =
        (directory.path().join("a"), directory.path().join("b"), directory.path().join("back"));
    std::fs::write(&source, vec![7; 1 << 20]).unwrap();
    let put = child.start_put([&source], &there, TransferOptions::default(), |_| {});
    let done = block_on(put.clone()).unwrap();
    assert_eq!((done.files, done.bytes), (1, 1 << 20));
    assert!(on_threads(|| put.wait().unwrap()).iter().all(|again| *again == done));
    let get = child.start_get([&there], &back, TransferOptions::default(), |_| {});
    assert_eq!(get.wait().unwrap().files, 1);
    assert_eq!(std::fs::read(back.join("b")).unwrap(), vec![7; 1 << 20]);
    // It is stopped at its first piece, and ends as cancelled for every reader.
    let hold = Arc::new(std::sync::Mutex::new(()));
    let held = hold.lock().unwrap();
    let waits = hold.clone();
    let put = child.start_put([&source], directory.path().join("c"), TransferOptions::default(), move |_| {
        drop(waits.lock());
    });
    put.cancel();
    drop(held);
    assert_eq!(put.wait().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(block_on(put).unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(!directory.path().join("c").exists());
    let missing = child.start_put(["/no/such/file"], &there, TransferOptions::default(), |_| {});
    assert_eq!(missing.wait().unwrap_err().kind(), ErrorKind::Local);
}
