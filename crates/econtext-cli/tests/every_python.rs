//! Behaviour that every claimed Python must have: each test runs on all of them.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{run, run_with_input};
use econtext_testkit::sshd::Sshd;
use econtext_testkit::{pythons, site_packages, skip};
use std::fs;

const PROBE: &str = r#"
from __future__ import print_function
import logging, os, subprocess, sys

def fail(n):
    raise ValueError(u'no \xe9 %d' % n)

def cause():
    try:
        fail(3)
    except ValueError:
        os.listdir('/nonexistent')

def log():
    logging.getLogger('probe.x').warning('disk %s', 'full')
    logging.getLogger('probe.x').info('not asked for')

def speak():
    print('one')
    print('two', file=sys.stderr)
    sys.stdout.flush()
    subprocess.check_call(['echo', 'three'])
    os.write(1, b'four\n')
    print(u'f\xefve')

def types(x):
    return [x, {'k': (1, 2)}, 2 ** 70, 1.5, None, True, b'\xff\x00', u'\xe9', set([1])]

class Greeter(object):
    @classmethod
    def greet(cls, name, mark='?'):
        return 'hello ' + name + mark

def leave():
    sys.exit(3)

def interrupt():
    raise KeyboardInterrupt

def generator():
    return {'rows': [1, (n for n in range(3))]}
"#;

/// Runs a test with every Python, as a local child and behind ssh.
fn each(mut test: impl FnMut(&pythons::Python, &[&str])) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("probe.py"), PROBE).unwrap();
    let path = directory.path().display().to_string();
    let sshd = Sshd::start();
    for python in pythons::all() {
        println!("Python {}", python.minor);
        let arg = python.to_arg();
        let options = ["--python", &arg, "--path", &path];
        test(&python, &[&options[..], &["local:"]].concat());
        if let Some(sshd) = &sshd {
            let login = sshd.key_options();
            let login: Vec<&str> = login.iter().map(String::as_str).collect();
            test(&python, &[&options[..], &login, &["127.0.0.1"]].concat());
        }
    }
}

fn with<'a>(verb: &'a str, args: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    [&[verb, "--jsonl"], args, rest].concat()
}

#[test]
fn a_call_returns_its_value() {
    each(|python, args| {
        let ran = run(with("call", args, &["platform:python_version"]));
        let value = ran.event("result")["value"].as_str().unwrap_or_default().to_owned();
        assert!(value.starts_with(&format!("{}.", python.minor)), "{ran:?}");
        assert_eq!(ran.event("start")["python"], value.as_str());
        assert_eq!(ran.status, 0);
    });
}

#[test]
fn values_of_every_type_go_there_and_back() {
    each(|_, args| {
        let ran = run(with(
            "call",
            args,
            &["probe:types", r#"{"a":[1,{"$bytes":"AP8="},{"$set":[2]}],"b":-1e300}"#],
        ));
        let expected = r#"[{"a":[1,{"$bytes":"AP8="},{"$set":[2]}],"b":-1e300},{"k":[1,2]},1180591620717411303424,
                           1.5,null,true,{"$bytes":"/wA="},"é",{"$set":[1]}]"#;
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(ran.event("result")["value"], expected, "{ran:?}");
    });
}

#[test]
fn class_methods_and_keyword_arguments_work() {
    each(|_, args| {
        let ran = run(with("call", args, &["probe:Greeter.greet", "you", "mark=!"]));
        assert_eq!(ran.event("result")["value"], "hello you!", "{ran:?}");
    });
}

#[test]
fn packages_are_imported_from_the_controller() {
    let Some(site) = site_packages() else { return skip("target/site") };
    let site = site.display().to_string();
    each(|python, args| {
        let args = [&["--path", &site], args].concat();
        // Markup comes from markupsafe's pure half: the compiled one stays here.
        let code = match python.minor.as_str() {
            "2.7" | "3.6" => {
                "import six, bottle\nfrom six.moves import urllib\n\
                 bottle.template('Hello {{x}}', x='<w>') + ' ' + six.__name__ + ' ' + urllib.parse.quote('a b')"
            }
            _ => {
                "import jinja2\njinja2.Environment(autoescape=True).from_string('Hello {{x}}').render(x='<w>') + ' six a%20b'"
            }
        };
        let ran = run(with("run", &args, &["-c", code]));
        assert_eq!(ran.event("result")["value"], "Hello &lt;w&gt; six a%20b", "{ran:?}");
    });
}

#[test]
fn an_exception_comes_back_with_its_frames_and_its_cause() {
    each(|python, args| {
        let ran = run(with("call", args, &["probe:cause"]));
        let result = ran.event("result");
        assert_eq!((&result["ok"], &result["kind"]), (&false.into(), &"exception".into()), "{ran:?}");
        let error = &result["error"];
        let kind = if python.is_3() { "FileNotFoundError" } else { "OSError" };
        assert_eq!(error["type"], kind, "{ran:?}");
        let frame = &error["traceback"][0];
        assert_eq!((&frame["file"], &frame["function"]), (&"probe.py".into(), &"cause".into()), "{ran:?}");
        assert_eq!(frame["source"], "os.listdir('/nonexistent')");
        if python.is_3() {
            assert_eq!(error["cause"]["type"], "ValueError");
            assert_eq!(error["cause"]["message"], "no é 3");
            assert_eq!(error["cause"]["traceback"][1]["function"], "fail");
        }
        assert_eq!(ran.status, 5);
    });
}

#[test]
fn exits_and_interrupts_in_a_call_are_exceptions() {
    each(|_, args| {
        for (function, kind) in [("probe:leave", "SystemExit"), ("probe:interrupt", "KeyboardInterrupt")] {
            let ran = run(with("call", args, &[function]));
            assert_eq!(ran.event("result")["error"]["type"], kind, "{ran:?}");
        }
    });
}

#[test]
fn a_result_that_cannot_be_sent_says_where_it_is() {
    each(|_, args| {
        let ran = run(with("call", args, &["probe:generator"]));
        let message = ran.event("result")["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("['rows'][1]") && message.contains("generator"), "{ran:?}");
    });
}

#[test]
fn log_records_are_forwarded_at_the_level_asked_for() {
    each(|_, args| {
        let ran = run(with("call", args, &["probe:log"]));
        let log = ran.event("log");
        assert_eq!((&log["level"], &log["logger"]), (&"WARNING".into(), &"probe.x".into()), "{ran:?}");
        assert_eq!(log["message"], "disk full");
        assert_eq!(ran.events().iter().filter(|e| e["event"] == "log").count(), 1);
        let ran = run(with("call", &[&["-v"], args].concat(), &["probe:log"]));
        assert_eq!(ran.events().iter().filter(|e| e["event"] == "log").count(), 2, "{ran:?}");
    });
}

#[test]
fn output_of_python_and_of_programs_comes_in_order() {
    each(|_, args| {
        let ran = run(with("call", args, &["probe:speak"]));
        assert_eq!(ran.data("stdout"), "one\nthree\nfour\nfïve\n", "{ran:?}");
        assert_eq!(ran.data("stderr"), "two\n", "{ran:?}");
        let order: Vec<_> = ran.events().iter().map(|e| e["event"].as_str().unwrap().to_owned()).collect();
        assert_eq!(order[..4], ["start", "stdout", "stderr", "stdout"], "{ran:?}");
        assert_eq!(order[order.len() - 2..], ["result", "summary"], "{ran:?}");
    });
}

#[test]
fn a_script_is_run_as_python_would() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("job.py");
    fs::write(directory.path().join("sibling.py"), "NAME = 'sibling'\n").unwrap();
    fs::write(
        &script,
        "from __future__ import print_function\nimport atexit, logging, sibling, sys, threading, time\n\
         atexit.register(lambda: print('bye'))\nlogging.basicConfig(format='LOG %(message)s')\nlogging.warning('w')\n\
         print(__name__, sys.argv[1:], sibling.NAME, sys.stdin.read().strip(), sys.modules['__main__'].NAME if 0 else '')\n\
         def late():\n    time.sleep(.05)\n    print('late')\nthreading.Thread(target=late).start()\nsys.exit(3)\n",
    )
    .unwrap();
    let script = script.display().to_string();
    each(|_, args| {
        let ran = run_with_input(with("run", args, &[&script, "-v", "a b"]), b"typed\n");
        assert_eq!(ran.data("stdout"), "__main__ ['-v', 'a b'] sibling typed \nlate\nbye\n", "{ran:?}");
        assert_eq!(ran.data("stderr"), "LOG w\n", "{ran:?}");
        let result = ran.event("result");
        assert_eq!((&result["kind"], &result["status"]), (&"exit".into(), &3.into()), "{ran:?}");
        assert_eq!(ran.status, 5);
        let ran = run([&["run", "-S"], args, &[&script]].concat());
        assert_eq!(ran.status, 3, "{ran:?}");
        assert_eq!(ran.stdout, "__main__ [] sibling  \nlate\nbye\n", "{ran:?}");
    });
}

#[test]
fn code_and_modules_are_run_as_python_would() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("tool")).unwrap();
    fs::write(directory.path().join("tool/__init__.py"), "").unwrap();
    fs::write(
        directory.path().join("tool/__main__.py"),
        "import sys\nfrom tool import x\nsys.exit(len(sys.argv) + x.N)\n",
    )
    .unwrap();
    fs::write(directory.path().join("tool/x.py"), "N = 40\n").unwrap();
    let path = directory.path().display().to_string();
    each(|_, args| {
        let args = [&["--path", &path], args].concat();
        let ran = run(with("run", &args, &["-m", "tool", "x"]));
        assert_eq!(ran.event("result")["status"], 42, "{ran:?}");
        let ran = run(with("run", &args, &["-c", "import sys; print(sys.argv[1]); len(sys.argv)", "x"]));
        assert_eq!((ran.data("stdout"), &ran.event("result")["value"]), ("x\n".into(), &2.into()), "{ran:?}");
    });
}

#[test]
fn megabytes_of_input_go_through() {
    let input = vec![b'x'; 3 << 20];
    each(|_, args| {
        let code =
            "import os\nn = 0\nwhile 1:\n    b = os.read(0, 65536)\n    n += len(b)\n    if not b: break\nn";
        let ran = run_with_input(with("run", args, &["-c", code]), &input);
        assert_eq!(ran.event("result")["value"], 3 << 20, "{ran:?}");
    });
}
