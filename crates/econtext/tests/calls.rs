//! Calls, channels, handles, cancelling and ending, on every Python or on those that differ most.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::modules::ModuleFinder;
use econtext::transport::Argv;
use econtext::{
    Broker, ChildEvent, Context, ContextBuilder, Error, ErrorKind, Limits, Local, PathFinder, Python, Value,
};
use econtext_testkit::{processes, pythons};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const PROBE: &str = include_str!("probe.py");

fn builder(python: &pythons::Python) -> ContextBuilder {
    Context::builder(format!("py{}", python.minor))
        .python(Python::Path(python.to_arg()))
        .finder(Arc::new(PathFinder::new().source("probe", PROBE)))
}

fn each(test: impl Fn(&Context, &pythons::Python)) {
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        let child = builder(&python).connect(&broker, Local).unwrap();
        test(&child, &python);
        assert!(
            child.call::<i64>("os:getpid", ()).wait().is_ok(),
            "Python {}: the child lives on",
            python.minor
        );
    }
}

#[test]
fn results_have_the_type_asked_for() {
    each(|child, _| {
        let map: BTreeMap<String, Vec<u8>> =
            child.call("probe:same", (BTreeMap::from([("é", vec![1, 2])]),)).wait().unwrap();
        assert_eq!(map, BTreeMap::from([("é".to_owned(), vec![1, 2])]));
        let bytes: serde_bytes::ByteBuf =
            child.call("probe:same", (serde_bytes::Bytes::new(b"\xff\0"),)).wait().unwrap();
        assert_eq!(bytes, b"\xff\0");
        assert_eq!(child.call::<Option<u128>>("probe:same", (u128::MAX,)).wait().unwrap(), Some(u128::MAX));
        assert_eq!(child.call::<i128>("probe:same", (i128::MIN,)).wait().unwrap(), i128::MIN);
        let error = child.call::<u8>("probe:same", (300,)).wait().unwrap_err();
        assert!(matches!(error, Error::Convert { .. }) && error.to_string().contains("300"), "{error}");
    });
}

#[test]
fn big_integers_survive_to_the_last_digit() {
    each(|child, _| {
        for n in ["0", "-1", "255", "256", "-129", "2147483648", "-2147483649", "9223372036854775808"] {
            let value: Value = child.call("probe:parse_int", (n,)).wait().unwrap();
            let back: String = child.call("probe:format", (value,)).wait().unwrap();
            assert_eq!(back, n);
        }
        let back: String = child
            .call("probe:hex_of", (child.call::<Value>("probe:shifted", (5000,)).wait().unwrap(),))
            .wait()
            .unwrap();
        assert_eq!(back.trim_end_matches('L'), format!("0x1{}", "0".repeat(1250)));
    });
}

#[test]
fn calls_are_pipelined_and_run_in_order() {
    each(|child, _| {
        let calls: Vec<_> = (0..500).map(|n| child.call::<(usize, usize)>("probe:count", (n,))).collect();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.wait().unwrap(), (n, n));
        }
    });
}

#[test]
fn keyword_arguments_arrive_by_name() {
    each(|child, _| {
        let call = child.prepare("probe:keywords").args((1,)).kwarg("b", "two").kwarg("c", [3]).start::<(
            i64,
            String,
            Vec<i64>,
        )>();
        assert_eq!(call.wait().unwrap(), (1, "two".to_owned(), vec![3]));
    });
}

#[test]
fn a_function_with_context_sends_to_a_handle() {
    each(|child, _| {
        let (sender, receiver) = mpsc::channel();
        let handle = child.add_handle(move |value| drop(sender.send(value)));
        child.prepare("probe:report").args((handle.0,)).with_context().start::<()>().wait().unwrap();
        let received: Vec<_> =
            (0..3).map(|_| receiver.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        assert_eq!(received, [Some(Value::Int(1)), Some(Value::from("two")), None]);
    });
}

#[test]
fn channels_carry_both_ways_until_closed() {
    each(|child, _| {
        let channel = child.channel();
        let call = child.call::<i64>("probe:squares", (&channel,));
        for n in 0..100 {
            channel.send(&n).unwrap();
        }
        for n in 0..100_i64 {
            assert_eq!(channel.recv::<i64>().unwrap(), Some(n * n));
        }
        channel.close();
        assert_eq!(call.wait().unwrap(), 100);
        assert_eq!(channel.recv::<i64>().unwrap(), None, "the child closed its end");
    });
}

#[test]
fn a_call_is_a_future_of_no_runtime() {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let broker = Broker::new().unwrap();
    let child = builder(&pythons::any()).connect(&broker, Local).unwrap();
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(async {
        let first = child.call::<i64>("probe:same", (1,)).await?;
        let second = child.call::<i64>("probe:same", (first + 1,)).await?;
        Ok::<_, Error>(second)
    });
    let result = loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(result) => break result,
            std::task::Poll::Pending => std::thread::park(),
        }
    };
    assert_eq!(result.unwrap(), 2);
}

#[test]
fn a_deadline_interrupts_the_function_and_the_child_lives_on() {
    each(|child, _| {
        // A deadline counts from the call on: a child that is not up by then would never begin.
        assert_eq!(child.call::<Vec<String>>("probe:seen", ()).wait().unwrap(), Vec::<String>::new());
        let call =
            child.prepare("probe:sleep").args((3600,)).timeout(Duration::from_millis(500)).start::<()>();
        let error = call.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let events: Vec<String> = child.call("probe:seen", ()).wait().unwrap();
        assert_eq!(events, ["interrupted"]);
    });
}

#[test]
fn a_busy_function_is_interrupted_too() {
    each(|child, _| {
        let call = child.prepare("probe:spin").timeout(Duration::from_millis(100)).start::<()>();
        assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Timeout);
    });
}

#[test]
fn a_cancelled_call_ends_at_once_and_one_that_waits_is_never_run() {
    each(|child, _| {
        let running = child.call::<()>("probe:sleep", (3600,));
        let waiting = child.call::<()>("probe:note", ("waiting was run",));
        waiting.cancel();
        running.cancel();
        assert_eq!(waiting.wait().unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(running.wait().unwrap_err().kind(), ErrorKind::Cancelled);
        let events: Vec<String> = child.call("probe:seen", ()).wait().unwrap();
        assert!(!events.contains(&"waiting was run".to_owned()), "{events:?}");
    });
}

#[test]
fn a_function_that_ignores_interrupts_is_killed_with_what_it_started() {
    let broker = Broker::new().unwrap();
    for python in pythons::some() {
        let child = builder(&python).connect(&broker, Local).unwrap();
        let mark = format!("4567{}", python.minor.replace('.', ""));
        let call = child
            .prepare("probe:stubborn")
            .args((&mark,))
            .timeout(Duration::from_millis(500))
            .grace(Duration::from_millis(200))
            .start::<()>();
        assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Timeout);
        let error = child.call::<i64>("os:getpid", ()).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        processes::wait_until("its sleep is gone", || processes::with_text(&mark).is_empty());
    }
}

#[test]
fn exceptions_of_every_kind_come_back_and_the_child_lives_on() {
    each(|child, python| {
        for (kind, qualified) in [
            ("ValueError", "ValueError"),
            ("SystemExit", "SystemExit"),
            ("KeyboardInterrupt", "KeyboardInterrupt"),
            ("MemoryError", "MemoryError"),
            ("Custom", "probe.Custom"),
            ("Unprintable", "probe.Unprintable"),
            ("RecursionError", if python.is_3() { "RecursionError" } else { "RuntimeError" }),
        ] {
            let error = child.call::<()>("probe:throw", (kind,)).wait().unwrap_err();
            let raised = error.call_error().unwrap_or_else(|| panic!("{error}"));
            assert_eq!(raised.qualified_type(), qualified, "{error}");
        }
        let error = child.call::<()>("probe:throw", ("ValueError",)).wait().unwrap_err();
        assert_eq!(error.call_error().unwrap().args, [Value::from("text é"), Value::Int(3)], "{error}");
    });
}

#[test]
fn an_exception_text_of_megabytes_comes_back() {
    each(|child, _| {
        let error = child.call::<()>("probe:long_error", (3 << 20,)).wait().unwrap_err();
        assert_eq!(error.call_error().unwrap().message.len(), 3 << 20);
    });
}

#[test]
fn results_that_cannot_be_sent_say_where_they_are() {
    each(|child, _| {
        for (what, place) in [
            ("generator", "result['a'][1]"),
            ("lock", "result['a'][1]"),
            ("socket", "result['a'][1]"),
            ("instance", "result['a'][1]"),
            ("function", "result['a'][1]"),
            ("cycle", "contains itself"),
        ] {
            let error = child.call::<Value>("probe:unsendable", (what,)).wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exception, "{error}");
            assert!(error.to_string().contains(place), "{what}: {error}");
        }
    });
}

#[test]
fn values_may_be_nested_two_hundred_deep() {
    each(|child, _| {
        let deep = (0..200).fold(Value::Int(1), |inner, _| Value::List(vec![inner]));
        assert_eq!(child.call::<Value>("probe:same", (&deep,)).wait().unwrap(), deep);
        let error = child.call::<Value>("probe:nested", (5000,)).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exception, "{error}");
    });
}

#[test]
fn subclasses_of_plain_types_arrive_as_plain() {
    each(|child, _| {
        let value: (i64, (i64, i64), BTreeMap<String, i64>, String) =
            child.call("probe:subclasses", ()).wait().unwrap();
        assert_eq!(value, (7, (1, 2), BTreeMap::from([("k".to_owned(), 1)]), "text".to_owned()));
    });
}

#[test]
fn a_pickle_that_would_run_something_runs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    each(|child, _| {
        for (module, name) in [("os", "system"), ("builtins", "eval"), ("subprocess", "call")] {
            let error = child
                .call::<Value>("probe:evil", (module, name, format!("touch {}", mark.display())))
                .wait()
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unpermitted, "{error}");
            assert!(error.to_string().contains(&format!("{module}.{name}")), "{error}");
        }
        assert!(!mark.exists());
    });
}

#[test]
fn an_allowed_class_arrives_as_data() {
    let broker = Broker::new().unwrap();
    let child = builder(&pythons::any()).connect(&broker, Local).unwrap();
    let call = || child.call::<Value>("probe:evil", ("datetime", "date", 2024)).wait();
    assert_eq!(call().unwrap_err().kind(), ErrorKind::Unpermitted);
    child.allow_class("datetime", "date");
    match call().unwrap() {
        Value::Object(object) => {
            assert_eq!((&*object.name, &*object.args), ("date", &[Value::Int(2024)][..]))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn results_over_a_limit_are_refused_and_the_child_lives_on() {
    let broker = Broker::new().unwrap();
    for python in pythons::some() {
        let limits = Limits { frame: 1 << 20, ..Limits::default() };
        let child = builder(&python).limits(limits).connect(&broker, Local).unwrap();
        let error = child.call::<String>("probe:text", (2 << 20,)).wait().unwrap_err();
        assert!(error.to_string().contains("over the limit"), "{error}");
        let error = child.call::<String>("probe:same", ("x".repeat(2 << 20),)).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert_eq!(child.call::<String>("probe:text", (3,)).wait().unwrap(), "xxx");
    }
}

#[test]
fn output_and_log_records_come_before_the_result_and_in_order() {
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = events.clone();
        let child = builder(&python)
            .on_event(move |event| match event {
                ChildEvent::Output { fd, data } => {
                    sink.lock().unwrap().push(format!("{fd} {}", String::from_utf8_lossy(&data)))
                }
                ChildEvent::Log(record) => {
                    sink.lock().unwrap().push(format!("log {} {}", record.logger, record.message))
                }
                _ => {}
            })
            .connect(&broker, Local)
            .unwrap();
        for _ in 0..20 {
            child.call::<()>("probe:speak", ()).wait().unwrap();
            let seen = std::mem::take(&mut *events.lock().unwrap())
                .join("|")
                .replace("\n|1 ", "\n")
                .replace("\n|2 ", "\n");
            assert_eq!(
                seen,
                "1 a\nb\nc\nd\n|log probe e 1\nTraceback|1 f".replace("\nTraceback", ""),
                "Python {}",
                python.minor
            );
        }
    }
}

#[test]
fn megabytes_go_both_ways_at_once() {
    let broker = Broker::new().unwrap();
    for python in pythons::some() {
        let child = builder(&python).connect(&broker, Local).unwrap();
        let data = serde_bytes::ByteBuf::from((0..24 << 20).map(|n| (n * 7) as u8).collect::<Vec<_>>());
        let calls: Vec<_> =
            (0..3).map(|_| child.call::<serde_bytes::ByteBuf>("probe:same", (&data,))).collect();
        for call in calls {
            assert!(call.wait().unwrap() == data, "Python {}", python.minor);
        }
    }
}

#[test]
fn forks_of_user_code_do_not_disturb_the_stream() {
    each(|child, _| {
        assert_eq!(child.call::<Vec<i64>>("probe:forks", ()).wait().unwrap(), [0, 1, 4]);
    });
}

#[test]
fn shutdown_lets_calls_end_and_runs_exit_functions() {
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        let (sender, receiver) = mpsc::channel();
        let child = builder(&python)
            .on_event(move |event| match event {
                ChildEvent::Output { data, .. } => {
                    drop(sender.send(String::from_utf8_lossy(&data).into_owned()))
                }
                ChildEvent::Closed(error) => drop(sender.send(error.message())),
                _ => {}
            })
            .connect(&broker, Local)
            .unwrap();
        let call = child.call::<()>("probe:leave_late", ());
        child.shutdown(Duration::from_secs(10));
        call.wait().unwrap();
        let seen: Vec<String> = receiver.iter().take(2).collect();
        assert_eq!(seen, ["at exit\n", "disconnected"], "Python {}", python.minor);
        let error = child.call::<()>("os:getpid", ()).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}

#[test]
fn a_child_that_dies_fails_its_calls_and_says_how() {
    let broker = Broker::new().unwrap();
    for python in pythons::some() {
        let child = builder(&python).connect(&broker, Local).unwrap();
        let call = child.call::<()>("probe:die", ());
        let second = child.call::<()>("os:getpid", ());
        let error = call.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert!(error.to_string().contains("status 7") || error.to_string().contains("signal"), "{error}");
        assert_eq!(second.wait().unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn dropping_everything_ends_a_hung_child_and_what_it_started() {
    let broker = Broker::new().unwrap();
    let child = builder(&pythons::any()).connect(&broker, Local).unwrap();
    let pid = child.call::<i32>("os:getpid", ()).wait().unwrap();
    drop(child.prepare("probe:stubborn").args(("87654321",)).start::<()>());
    processes::wait_until("it sleeps", || !processes::with_text("87654321").is_empty());
    drop(child);
    drop(broker);
    processes::wait_until("all is gone", || {
        processes::with_text("87654321").is_empty() && !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
}

#[test]
fn ten_thousand_calls_leave_memory_flat_on_both_sides() {
    let broker = Broker::new().unwrap();
    for python in pythons::some() {
        let child = builder(&python).connect(&broker, Local).unwrap();
        let pid: u32 = child.call("os:getpid", ()).wait().unwrap();
        let round = || {
            let calls: Vec<_> =
                (0..1000).map(|n| child.call::<Value>("probe:same", (vec![n; 10],))).collect();
            calls.into_iter().for_each(|call| drop(call.wait().unwrap()));
        };
        (0..5).for_each(|_| round());
        let before = (processes::memory(std::process::id()).unwrap(), processes::memory(pid).unwrap());
        (0..10).for_each(|_| round());
        let after = (processes::memory(std::process::id()).unwrap(), processes::memory(pid).unwrap());
        println!(
            "Python {}: controller {} -> {} KiB, child {} -> {} KiB",
            python.minor, before.0, after.0, before.1, after.1
        );
        // Other tests run in this process at the same time: only the child's is its own.
        assert!(after.1 < before.1 + 1024, "Python {}: {before:?} {after:?}", python.minor);
    }
}

#[test]
fn log_records_go_to_tracing_under_the_name_of_the_context() {
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);
    impl tracing::Subscriber for Seen {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            struct Text(String);
            impl tracing::field::Visit for Text {
                fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                    self.0 += &format!(" {}={value:?}", field.name());
                }
            }
            let mut text = Text(format!("{} {}", event.metadata().target(), event.metadata().level()));
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0);
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }
    let seen = Seen::default();
    tracing::subscriber::set_global_default(seen.clone()).unwrap();
    let broker = Broker::new().unwrap();
    let child = Context::builder("web01")
        .finder(Arc::new(PathFinder::new().source("probe", PROBE)))
        .python(Python::Path(pythons::any().to_arg()))
        .connect(&broker, Local)
        .unwrap();
    child.call::<()>("probe:speak", ()).wait().unwrap();
    let all = seen.0.lock().unwrap();
    let expected = "econtext.ctx.web01 WARN message=e 1 logger=\"probe\"";
    assert!(all.iter().any(|line| line == expected), "{all:#?}");
}

#[test]
fn that_a_child_is_up_or_why_not_is_told_to_all_that_ask() {
    let broker = Broker::new().unwrap();
    let child = Context::builder("child").connect(&broker, Local).unwrap();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| child.wait_ready().unwrap().pid)).collect();
        for thread in waiting {
            assert_eq!(thread.join().unwrap(), child.wait_ready().unwrap().pid);
        }
    });
    let none = Context::builder("none").connect(&broker, Argv(vec!["false".into()])).unwrap();
    let first = none.wait_ready().unwrap_err().to_string();
    assert_eq!(none.wait_ready().unwrap_err().to_string(), first);
}

#[test]
fn a_result_that_was_waited_for_with_a_limit_stays() {
    let broker = Broker::new().unwrap();
    let child = Context::builder("child").connect(&broker, Local).unwrap();
    let call = child.call::<i64>("operator:add", (1, 2));
    for _ in 0..2 {
        assert_eq!(call.wait_timeout(Duration::from_secs(20)).unwrap().unwrap(), 3);
    }
    assert_eq!(call.wait().unwrap(), 3);
}

/// Finds a module, and says what that imports once it is allowed to.
struct Slow(PathFinder, Mutex<mpsc::Receiver<()>>);

impl ModuleFinder for Slow {
    fn find(&self, name: &str) -> Option<Arc<econtext::modules::ModuleRecord>> {
        self.0.find(name)
    }

    fn foresee(&self, start: econtext::modules::Start<'_>) -> Arc<econtext::modules::Foresight> {
        let allowed = self.1.lock().unwrap().recv_timeout(Duration::from_secs(20));
        allowed.expect("calls are made without waiting for this");
        self.0.foresee(start)
    }
}

#[test]
fn a_call_does_not_wait_for_files_to_be_read_and_nothing_passes_it() {
    let broker = Broker::new().unwrap();
    let source = "said = []\ndef hear(channel):\n    said.extend(channel)\n    return said\ndef say(x):\n    said.append(x)\n    return said\n";
    let (allow, allowed) = mpsc::channel();
    let finder = Slow(PathFinder::new().source("order", source), Mutex::new(allowed));
    let child = Context::builder("child").finder(Arc::new(finder)).connect(&broker, Local).unwrap();
    child.wait_ready().unwrap();
    let channel = child.channel();
    let first = child.call::<Vec<i64>>("order:hear", (&channel,));
    channel.send(&1).unwrap();
    channel.send(&2).unwrap();
    channel.close();
    let second = child.call::<Vec<i64>>("order:say", (3,));
    let cancelled = child.call::<()>("order:say", (4,));
    cancelled.cancel();
    for _ in 0..8 {
        allow.send(()).unwrap();
    }
    assert_eq!(first.wait().unwrap(), [1, 2]);
    assert_eq!(second.wait().unwrap(), [1, 2, 3]);
    assert_eq!(cancelled.wait().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(child.call::<Vec<i64>>("order:say", (5,)).wait().unwrap(), [1, 2, 3, 5]);
}
