//! One prompt, many hosts.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{econtext, run_with_input};
use econtext_testkit::pythons;
use econtext_testkit::terminal::Terminal;
use std::fs;

const PASTED: &str = "\
import os
def f(x):
    y = x * 2

    return y
f(21)
for i in range(2):
    print(i)
else:
    print('done')
x = [1,
     2]
x
_
class A(object):
    def m(self):
        return 'm'
A().m()
";

#[test]
fn pasted_code_runs_on_every_python_and_state_is_kept() {
    for python in pythons::all() {
        let ran = run_with_input(["repl", "--python", &python.to_arg(), "local:"], PASTED.as_bytes());
        assert_eq!(
            (ran.stdout.as_str(), ran.status),
            ("42\n0\n1\ndone\n[1, 2]\n[1, 2]\n'm'\n", 0),
            "Python {} {ran:?}",
            python.minor
        );
    }
}

#[test]
fn answers_are_folded_and_errors_go_on() {
    let code = "n = b'local:n2' in open('/proc/self/cmdline', 'rb').read()\nn\n1/0\nprint('still here')\n";
    let ran = run_with_input(["repl", "local:n[1-3]"], code.as_bytes());
    assert_eq!(
        ran.stdout, "local:n[1,3] (2):\n  False\nlocal:n2:\n  True\nlocal:n[1-3] (3):\n  still here\n",
        "{ran:?}"
    );
    assert!(ran.stderr.contains("local:n[1-3] (3):\n  Traceback") && ran.stderr.contains("1/0"), "{ran:?}");
    assert_eq!(ran.status, 5, "a script wants to know");
}

#[test]
fn hosts_are_listed_dropped_added_and_tried_again() {
    let code = "x = 1\n:drop local:n2\n:add local:n4\n:hosts\nx\n:nonsense\n:retry\n:quit\nprint('never')\n";
    let ran = run_with_input(["repl", "local:n[1-3]"], code.as_bytes());
    assert!(ran.stderr.contains("1 dropped, 2 left"), "{ran:?}");
    assert!(ran.stderr.contains("up (3): local:n[1,3-4]"), "{ran:?}");
    assert!(ran.stderr.contains("there is no :nonsense"), "{ran:?}");
    assert!(ran.stderr.contains("local:n4:\n  Traceback") && ran.stderr.contains("NameError"), "{ran:?}");
    assert_eq!(ran.stdout, "local:n[1,3] (2):\n  1\n", "{ran:?}");
    let ran = run_with_input(["repl", "--ssh", "false", "local:n1,web9"], b"1+1\n:hosts\n");
    assert!(ran.stderr.contains("not up: web9: bootstrap"), "{ran:?}");
    assert_eq!((ran.stdout.as_str(), ran.status), ("local:n1:\n  2\n", 4), "{ran:?}");
    // One that dies is told, and can be had back.
    let ran = run_with_input(["repl", "local:n1,local:n2"], b"import os; os._exit(3)\n:hosts\n:retry\n1+1\n");
    assert!(ran.stderr.contains("not up: local:n1: closed"), "{ran:?}");
    assert!(ran.stdout.contains("local:n[1-2] (2):\n  2\n"), "{ran:?}");
}

#[test]
fn local_modules_are_imported_there() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mine.py"), "def f():\n    return 'served'\n").unwrap();
    let mut command = econtext();
    command.current_dir(directory.path()).args(["repl", "local:"]);
    let input = directory.path().join("input");
    fs::write(&input, "import mine\nmine.f(), mine.__file__\n").unwrap();
    let ran: common::Ran = command.stdin(fs::File::open(&input).unwrap()).output().unwrap().into();
    assert_eq!(ran.stdout, "('served', '/<econtext>/mine.py')\n", "{ran:?}");
}

#[test]
fn on_a_terminal_there_are_completion_history_and_an_interrupt() {
    let state = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = econtext();
        command.args(["repl", "local:n[1-2]"]).env("TERM", "xterm").env("XDG_STATE_HOME", state.path());
        Terminal::start(&command, 100, 30)
    };
    let mut terminal = start();
    let at = terminal.wait_for(">>> ", 0);
    terminal.type_keys("import platform\r");
    let at = terminal.wait_for(">>> ", at + 16);
    terminal.type_keys("platform.python_impl");
    let completed = "platform.python_implementation(";
    for _ in 0..5 {
        // The editor waits for two seconds only; a machine with much else to do may take longer.
        terminal.type_keys("\t");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(4);
        while !terminal.text()[at..].contains(completed) && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        if terminal.text()[at..].contains(completed) {
            break;
        }
    }
    let at = terminal.wait_for(completed, at);
    std::thread::sleep(std::time::Duration::from_millis(100));
    // Some versions of rlcompleter close the bracket.
    let closed = terminal.text()[at..].starts_with(')');
    terminal.type_keys(if closed { "\r" } else { ")\r" });
    let at = terminal.wait_for("'CPython'", at);
    let at = terminal.wait_for(">>> ", at);
    // More lines are asked for until it is whole. What is typed is drawn with the prompt; a new one turns pasting on.
    const NEW_PROMPT: &str = "\u{1b}[?2004h";
    terminal.type_keys("def f():\r");
    let at = terminal.wait_for("def f():", at);
    terminal.type_keys("    return 7\r");
    let at = terminal.wait_for("return 7", at);
    terminal.type_keys("\r");
    let at = terminal.wait_for(NEW_PROMPT, at);
    terminal.type_keys("f()\r");
    let at = terminal.wait_for("  7", at);
    let at = terminal.wait_for(NEW_PROMPT, at);
    // Ctrl-C interrupts there, and what was before is still so.
    terminal.type_keys("import time; x = 5; time.sleep(600)\r");
    std::thread::sleep(std::time::Duration::from_millis(700));
    terminal.type_keys("\x03");
    let at = terminal.wait_for("stopped", at);
    let at = terminal.wait_for(">>> ", at);
    terminal.type_keys("x + 1\r");
    let at = terminal.wait_for("  6", at);
    terminal.wait_for(">>> ", at);
    terminal.type_keys("\x04");
    let (status, text) = terminal.finish();
    assert!(status.success(), "{text}");
    // The next time what was typed is there again.
    let mut terminal = start();
    let at = terminal.wait_for(">>> ", 0);
    terminal.type_keys("\x1b[A");
    let at = terminal.wait_for("x + 1", at);
    terminal.type_keys("\x03");
    terminal.wait_for(">>> ", at);
    std::thread::sleep(std::time::Duration::from_millis(200));
    terminal.type_keys("\x04");
    let (status, text) = terminal.finish();
    assert!(status.success(), "{text}");
}

#[test]
fn an_interrupt_ends_a_script_and_what_has_not_run_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("input");
    fs::write(&input, "import time\nprint('begun')\ntime.sleep(60)\nprint('SECOND')\n").unwrap();
    let mut command = econtext();
    command.args(["repl", "local:"]).stdin(fs::File::open(&input).unwrap());
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut rest).unwrap();
    assert_eq!((child.wait().unwrap().code(), rest.as_str()), (Some(130), ""));
}

#[test]
fn hosts_that_are_added_have_names_and_programs_get_events() {
    let ran = run_with_input(["repl", "local:a"], b":add local:b,local:c\n7\n");
    assert_eq!(ran.stdout, "local:a,local:b,local:c (3):\n  7\n", "{ran:?}");
    let ran = run_with_input(["repl", "--json", "local:"], b"1+1\n");
    assert_eq!(
        (&ran.event("result")["value"], &ran.event("summary")["ok"]),
        (&"2".into(), &1.into()),
        "{ran:?}"
    );
    for python in pythons::some() {
        let code = "raise ValueError(u'\u{e9}')\n";
        let ran = run_with_input(["repl", "--python", &python.to_arg(), "local:"], code.as_bytes());
        assert!(ran.stderr.contains("Traceback") && ran.stderr.contains("raise ValueError"), "{ran:?}");
    }
}
