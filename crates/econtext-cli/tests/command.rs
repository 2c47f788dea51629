//! The command line as scripts see it: exit statuses, signals, output, usage errors.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{econtext, run, run_with_input};
use econtext_testkit::sshd::Sshd;
use econtext_testkit::{processes, pythons};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};

const SLEEPER: &str = "import subprocess, sys, time\nsubprocess.Popen(['sleep', sys.argv[1]])\nprint('up')\n\
                       sys.stdout.flush()\ntime.sleep(3600)";

/// A controller that a failing test does not leave behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A number that no other process of the machine has on its command line.
fn mark(number: u32) -> String {
    format!("{number}{}", std::process::id())
}

/// Starts a child that has started a `sleep` and sleeps itself.
fn sleeper(args: &[String], mark: &str) -> Running {
    let mut running = econtext()
        .arg("run")
        .args(args)
        .args(["-c", SLEEPER, mark])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let mut line = String::new();
    BufReader::new(running.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    processes::wait_until("both are seen", || processes::with_text(mark).len() > 1);
    running
}

fn none_left(mark: &str) {
    processes::wait_until("no process is left", || processes::with_text(mark).is_empty());
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn kill_9_of_the_controller_leaves_no_process_here_or_behind_ssh() {
    let sshd = Sshd::start();
    for python in pythons::all() {
        let mark = mark(36001);
        let mut ways = vec![vec!["--python".to_owned(), python.to_arg(), "local:".into()]];
        if let Some(sshd) = &sshd {
            let mut args = vec!["--python".to_owned(), python.to_arg()];
            args.extend(sshd.key_options());
            args.push("127.0.0.1".into());
            ways.push(args);
        }
        for args in ways {
            let mut child = sleeper(&args, &mark);
            child.0.kill().unwrap();
            child.0.wait().unwrap();
            none_left(&mark);
        }
    }
}

#[test]
fn an_interrupt_or_a_termination_stops_everything_and_says_so() {
    for (number, name) in [(rustix::process::Signal::INT, 130), (rustix::process::Signal::TERM, 143)] {
        let mark = mark(36002);
        let mut child = sleeper(&["local:".to_owned()], &mark);
        signal(&child.0, number);
        assert_eq!(child.0.wait().unwrap().code(), Some(name));
        let mut stderr = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(stderr.contains("stopping"), "{stderr}");
        none_left(&mark);
    }
}

#[test]
fn a_timeout_stops_the_work_there() {
    let ran = run(["run", "--jsonl", "--timeout", "0.7", "local:", "-c", SLEEPER, &mark(36003)]);
    assert_eq!((ran.status, &ran.event("result")["kind"]), (3, &"timeout".into()), "{ran:?}");
    none_left(&mark(36003));
}

#[test]
fn a_closed_stdout_ends_the_run() {
    let code = "import sys\nwhile 1: print('x' * 1000)\n";
    let mut child = econtext()
        .args(["run", "local:", "-c", code, &mark(36004)])
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let mut some = [0; 1000];
    child.0.stdout.take().unwrap().read_exact(&mut some).unwrap();
    processes::wait_until("it ends", || child.0.try_wait().unwrap().is_some());
    none_left(&mark(36004));
}

#[test]
fn with_one_target_there_is_no_prefix_and_with_many_there_is() {
    let one = run(["run", "local:", "-c", "print('a\\nb')"]);
    assert_eq!((one.stdout.as_str(), one.stderr.as_str(), one.status), ("a\nb\n", "", 0));
    let code = "import sys; sys.stdout.write('a\\nb'); sys.stderr.write('e\\n'); None";
    let many = run(["run", "local:x,local:y", "-c", code]);
    let mut lines: Vec<_> = many.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["local:x: a", "local:x: b", "local:y: a", "local:y: b"], "{many:?}");
    assert!(many.stderr.contains("local:x: e\n") && many.stderr.contains("2 ok in"), "{many:?}");
    let bare = run(["call", "-N", "local:x,local:y", "builtins:len", "[1]"]);
    assert_eq!(bare.stdout, "1\n1\n", "{bare:?}");
}

#[test]
fn exit_statuses_are_those_of_the_contract() {
    let cases: [(&[&str], i32); 15] = [
        (&["call", "local:", "os:getpid"], 0),
        (&["call", "local:", "os:nothing"], 5),
        (&["call", "local:", "nosuchmodule:f"], 5),
        (&["run", "local:", "-c", "import sys; sys.exit(9)"], 5),
        (&["run", "-S", "local:", "-c", "import sys; sys.exit(9)"], 9),
        (&["run", "local:a,local:b", "-c", "import sys; sys.exit(9)"], 5),
        // One status, and two programs.
        (&["run", "-S", "local:a,local:b", "-c", "import sys; sys.exit(9)"], 2),
        (&["run", "local:", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], 3),
        (&["call", "--python", "/nonexistent", "local:", "os:getpid"], 4),
        (&["call", "local:", "not a function"], 2),
        (&["call", "local:"], 2),
        (&["run", "local:", "/nonexistent.py"], 2),
        (&["ping"], 2),
        (&["call", "--no-such-flag", "local:", "os:getpid"], 2),
        (&["call", "--path", "/nonexistent", "local:", "os:getpid"], 2),
    ];
    for (args, status) in cases {
        let ran = run(args);
        assert_eq!(ran.status, status, "{args:?} {ran:?}");
    }
}

#[test]
fn import_errors_have_a_kind_of_their_own() {
    let ran = run(["call", "--jsonl", "local:", "nosuchmodule:f"]);
    assert_eq!(ran.event("result")["kind"], "import", "{ran:?}");
}

#[test]
fn a_compiled_module_is_named_as_such() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("fast.cpython-311-x86_64-linux-gnu.so"), b"\x7fELF").unwrap();
    let path = directory.path().display().to_string();
    for python in pythons::all() {
        let ran = run(["call", "--jsonl", "--python", &python.to_arg(), "--path", &path, "local:", "fast:f"]);
        let result = ran.event("result");
        assert_eq!(result["kind"], "import", "{ran:?}");
        assert!(result["error"]["message"].as_str().unwrap().contains("compiled"), "{ran:?}");
    }
}

#[test]
fn what_is_not_to_be_served_is_not() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("private.py"), "def f():\n    return 1\n").unwrap();
    let path = directory.path().display().to_string();
    for python in pythons::some() {
        let args = ["--python", &python.to_arg(), "--path", &path, "--jsonl", "local:", "private:f"];
        let ran = run(["call"].iter().chain(&args));
        assert_eq!(ran.event("result")["value"], 1, "{ran:?}");
        let ran = run(["call", "--no-serve", "private"].iter().chain(&args));
        assert!(
            ran.event("result")["error"]["message"].as_str().unwrap().contains("not to be sent"),
            "{ran:?}"
        );
    }
}

#[test]
fn spooled_packages_are_files_in_memory_and_gone_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("beside")).unwrap();
    let code = "import os\nHERE = os.path.dirname(__file__)\ndef f():\n    return open(os.path.join(HERE, 'x.txt')).read(), HERE\n";
    std::fs::write(directory.path().join("beside/__init__.py"), code).unwrap();
    std::fs::write(directory.path().join("beside/x.txt"), "text").unwrap();
    let path = directory.path().display().to_string();
    for python in pythons::all().into_iter().filter(|p| !p.chroot) {
        let args = ["--python", &python.to_arg(), "--path", &path, "--jsonl", "local:", "beside:f"];
        let ran = run(["call", "--spool", "none"].iter().chain(&args));
        assert!(
            ran.event("result")["error"]["message"].as_str().unwrap().contains("--spool beside"),
            "{ran:?}"
        );
        // By itself, by its name, by that of a module in it, and with all others.
        for spool in [&[][..], &["--spool", "beside"], &["--spool", "beside.part"], &["--spool", "all"]] {
            let ran = run(["call"].iter().chain(spool).chain(&args));
            let value = &ran.event("result")["value"];
            assert_eq!(value[0], "text", "Python {} {spool:?} {ran:?}", python.minor);
            let here = std::path::PathBuf::from(value[1].as_str().unwrap());
            processes::wait_until("the files are gone", || !here.parent().unwrap().exists());
        }
    }
    // It is said once, for any number of hosts.
    let ran = run(["call", "-v", "--path", &path, "local:,local:2", "beside:f"]);
    assert_eq!(ran.stderr.matches("looks for files beside its modules").count(), 1, "{ran:?}");
    assert!(ran.stderr.contains("beside"), "{ran:?}");
    let ran = run(["call", "--path", &path, "local:", "beside:f"]);
    assert!(!ran.stderr.contains("looks for files"), "{ran:?}");
}

#[test]
fn arguments_are_json_where_they_parse_as_such() {
    let ran = run([
        "call",
        "--jsonl",
        "local:",
        "builtins:dict",
        "a=1",
        "b=x",
        "c=[true,null]",
        "d={\"$float\":\"inf\"}",
    ]);
    assert_eq!(
        ran.event("result")["value"].to_string(),
        r#"{"a":1,"b":"x","c":[true,null],"d":{"$float":"inf"}}"#,
        "{ran:?}"
    );
    let ran = run(["call", "local:", "os.path:join", "--", "1", "a=b"]);
    assert_eq!(ran.stdout, "1/a=b\n", "{ran:?}");
}

#[test]
fn every_host_gets_all_of_the_input_whenever_its_turn_comes() {
    let input = vec![b'x'; 1 << 20];
    let code = "import sys; len(sys.stdin.read())";
    for forks in ["1", "2", "64"] {
        let ran = run_with_input(["run", "-f", forks, "local:a,local:b,local:c", "-c", code], &input);
        let mut lines: Vec<_> = ran.stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["local:a: 1048576", "local:b: 1048576", "local:c: 1048576"], "{ran:?}");
    }
}

#[test]
fn a_script_may_come_from_stdin() {
    let ran = run_with_input(["run", "local:", "-", "x"], b"import sys\nprint(sys.argv)\n");
    assert_eq!(ran.stdout, "['<stdin>', 'x']\n", "{ran:?}");
}

#[test]
fn ping_shows_what_answers() {
    let ran = run(["ping", "--jsonl", "local:"]);
    let value = &ran.event("result")["value"];
    assert!(value["pid"].as_i64().is_some() && value["connect_ms"].as_f64().is_some(), "{ran:?}");
    assert!(run(["ping", "local:"]).stdout.starts_with("Python "));
}

#[test]
fn dash_u_with_a_number_is_refused_with_a_hint() {
    let ran = run(["ping", "-u", "30", "local:"]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.stderr.contains("--timeout"), "{ran:?}");
}

#[test]
fn the_header_of_a_script_is_heeded_before_anything_runs() {
    let directory = tempfile::tempdir().unwrap();
    let script = |header: &str| {
        let path = directory.path().join("s.py");
        std::fs::write(&path, format!("# /// script\n{header}\n# ///\nprint('ran')\n")).unwrap();
        path.display().to_string()
    };
    let ran = run(["run", "local:", &script("# dependencies = [\"no-such-dist>=1\"]")]);
    assert!(ran.status == 2 && ran.stderr.contains("no-such-dist"), "{ran:?}");
    let ran = run(["run", "--jsonl", "local:", &script("# requires-python = \">=4\"")]);
    assert_eq!((ran.status, &ran.event("result")["kind"]), (4, &"no_python".into()), "{ran:?}");
    let site = tempfile::tempdir().unwrap();
    std::fs::create_dir(site.path().join("Some_Dist-2.1.dist-info")).unwrap();
    let site = site.path().display().to_string();
    let ran = run([
        "run",
        "--path",
        &site,
        "local:",
        &script("# requires-python = \">=2.7\"\n# dependencies = [\"some.dist~=2.0\"]"),
    ]);
    assert_eq!(ran.stdout, "ran\n", "{ran:?}");
    let ran = run(["run", "--path", &site, "local:", &script("# dependencies = [\"some.dist<2\"]")]);
    assert!(ran.status == 2 && ran.stderr.contains("2.1"), "{ran:?}");
}

#[test]
fn modules_and_data_are_served_from_a_wheel() {
    let directory = tempfile::tempdir().unwrap();
    let wheel = directory.path().join("w-1.0-py2.py3-none-any.whl").display().to_string();
    let python = pythons::any();
    let make = "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED) as z:\n    \
                z.writestr('w/__init__.py', 'import pkgutil\\ndef f():\\n    return pkgutil.get_data(__name__, \"d/x.txt\").decode()')\n    \
                z.writestr('w/d/x.txt', 'in a wheel')\n";
    assert!(std::process::Command::new(&python.path).args(["-c", make, &wheel]).status().unwrap().success());
    for python in pythons::some() {
        let ran = run(["call", "--python", &python.to_arg(), "--path", &wheel, "local:", "w:f"]);
        assert_eq!(ran.stdout, "in a wheel\n", "{ran:?}");
    }
}

#[test]
fn zipapps_and_directories_are_run_by_their_main() {
    let directory = tempfile::tempdir().unwrap();
    let app = directory.path().join("app");
    std::fs::create_dir(&app).unwrap();
    std::fs::write(app.join("__main__.py"), "import sys, helper\nprint(helper.X, sys.argv[1:], __name__)\n")
        .unwrap();
    std::fs::write(app.join("helper.py"), "X = 'helped'\n").unwrap();
    let (app, pyz) = (app.display().to_string(), directory.path().join("app.pyz").display().to_string());
    let python = pythons::any();
    let make = ["-m", "zipapp", &app, "-o", &pyz, "-p", "/usr/bin/env python3"];
    assert!(std::process::Command::new(&python.path).args(make).status().unwrap().success());
    for target in [&app, &pyz] {
        let ran = run(["run", "--python", &python.to_arg(), "local:", target, "a"]);
        assert_eq!(ran.stdout, "helped ['a'] __main__\n", "{ran:?}");
    }
}

#[test]
fn explain_shows_commands_and_modules_and_contacts_nobody() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("one.py"), "import two\ndef f():\n    import three\n").unwrap();
    std::fs::write(directory.path().join("two.py"), "").unwrap();
    std::fs::write(directory.path().join("three.py"), "").unwrap();
    let path = directory.path().display().to_string();
    let ran =
        run(["explain", "call", "--path", &path, "-p", "2222", "me@no-such-host.invalid,local:", "one:f"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "me@no-such-host.invalid: call one:f");
    assert!(
        lines[1].starts_with("  by ssh -l me -p 2222 -o ") && lines[1].ends_with("'python ...'"),
        "{ran:?}"
    );
    assert_eq!(lines[2..4], ["local: call one:f", "  by python ..."]);
    let whole = run(["explain", "call", "-v", "--path", &path, "local:", "one:f"]);
    assert!(whole.stdout.contains("by sh -c ") && whole.stdout.contains("econtext:local"), "{whole:?}");
    let modules: Vec<String> =
        lines[4..7].iter().map(|l| l.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(modules, ["one called", "three imported by one", "two imported by one"], "{ran:?}");
    assert!(lines[7].contains("3 modules"), "{ran:?}");
}

#[test]
fn help_and_version_go_to_stdout() {
    let ran = run(["--help"]);
    assert!(ran.status == 0 && ran.stdout.contains("call") && ran.stderr.is_empty(), "{ran:?}");
    assert!(run(["--version"]).stdout.starts_with("econtext 0."));
}

#[test]
fn sets_of_hosts_are_expanded_folded_and_counted() {
    let hosts = |args: &[&str]| run([&["hosts"], args].concat());
    assert_eq!(hosts(&["web[08-10],db!web09"]).stdout, "web08\nweb10\ndb\n");
    assert_eq!(hosts(&["-f", "web08", "web09", "db1", "web10"]).stdout, "web[08-10],db1\n");
    assert_eq!(hosts(&["-c", "n[1-50000]"]).stdout, "50000\n");
    let ran = run_with_input(["hosts", "-f", "-"], b"a1 a2\n# none\na3 # the last\n");
    assert_eq!(ran.stdout, "a[1-3]\n", "{ran:?}");
    for (bad, why) in [("n[5-1]", "ends before it begins"), ("n[1", "without its ]"), ("@x", "inventory")] {
        let ran = hosts(&[bad]);
        assert!(ran.status == 2 && ran.stderr.contains(why), "{ran:?}");
    }
    let ran = run(["call", "local:n[1-3]!local:n2", "os:getuid"]);
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_unstable();
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(lines, [format!("local:n1: {uid}"), format!("local:n3: {uid}")], "{ran:?}");
}

#[test]
fn the_main_module_of_a_call_is_empty_and_that_of_a_program_is_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let library = "def f():\n    import __main__\n    return sorted(n for n in vars(__main__) if not n.startswith('__'))\n";
    std::fs::write(directory.path().join("looks.py"), library).unwrap();
    let marker = directory.path().join("ran");
    let script = format!(
        "import looks\nopen({:?}, 'a').write('x')\nX = 1\nif __name__ == '__main__':\n    print(looks.f())\n",
        marker.display().to_string()
    );
    std::fs::write(directory.path().join("script.py"), &script).unwrap();
    let path = directory.path().display().to_string();
    for python in pythons::all().into_iter().filter(|p| !p.chroot) {
        let with = ["--python", &python.to_arg(), "--path", &path, "local:"].map(str::to_owned);
        let words = |verb: &str, rest: &str| {
            run([verb.to_owned()].into_iter().chain(with.clone()).chain([rest.to_owned()]))
        };
        let called = words("call", "looks:f");
        assert_eq!(called.stdout, "[]\n", "Python {} {called:?}", python.minor);
        let ran = words("run", &format!("{path}/script.py"));
        assert_eq!(ran.stdout, "['X', 'looks']\n", "Python {} {ran:?}", python.minor);
        assert_eq!(std::fs::read_to_string(&marker).unwrap(), "x", "the program ran once");
        std::fs::remove_file(&marker).unwrap();
    }
}
