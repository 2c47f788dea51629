//! Starting a child under every condition that a target may come with, on every Python.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::internal::command_line;
use econtext::transport::Argv;
use econtext::{Broker, Context, ErrorKind, Python};
use econtext_testkit::{processes, pythons, tools};
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A child behind a Python script that prepares its circumstances and then runs `sys.argv[1:]`.
fn behind(broker: &Broker, python: &pythons::Python, script: &str) -> Context {
    let wrapper = pythons::any().to_arg();
    Context::builder("test")
        .python(Python::Path(python.to_arg()))
        .connect_timeout(Duration::from_secs(20))
        .connect(broker, Argv(vec![wrapper, "-c".into(), format!("import os, sys\n{script}")]))
        .expect("it starts")
}

fn works(script: &str) {
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        let child = behind(&broker, &python, script);
        let echoed = child.call::<String>("operator:concat", ("x".repeat(200_000), "y"));
        let echoed = echoed.wait().unwrap_or_else(|e| panic!("Python {}: {e}", python.minor));
        assert_eq!(echoed.len(), 200_001);
    }
}

#[test]
fn non_blocking_stdin_and_stdout_work() {
    works("os.set_blocking(0, False); os.set_blocking(1, False); os.execvp(sys.argv[1], sys.argv[1:])");
}

#[test]
fn twenty_file_descriptors_are_enough() {
    works(
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20)); os.execvp(sys.argv[1], sys.argv[1:])",
    );
}

#[test]
fn a_deleted_working_directory_does_not_matter() {
    works(
        "import tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d); os.execvp(sys.argv[1], sys.argv[1:])",
    );
}

#[test]
fn modules_in_the_working_directory_are_not_taken_for_pythons_own() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["zlib", "binascii", "select", "os", "errno", "struct", "io", "pickle", "pwd", "fcntl"] {
        std::fs::write(directory.path().join(format!("{name}.py")), "raise SystemExit('the wrong one')\n")
            .unwrap();
    }
    let script = format!("os.chdir('{}'); os.execvp(sys.argv[1], sys.argv[1:])", directory.path().display());
    works(&script);
}

/// Copies between pipes of 4 KiB, in pieces of odd sizes.
const SMALL_PIPES: &str = r"
import fcntl, threading
def pipe():
    r, w = os.pipe()
    fcntl.fcntl(w, 1031, 4096)
    os.set_inheritable(r, True); os.set_inheritable(w, True)
    return r, w
ir, iw = pipe(); outr, outw = pipe()
pid = os.fork()
if not pid:
    os.dup2(ir, 0); os.dup2(outw, 1)
    for fd in ir, iw, outr, outw: os.close(fd)
    os.execvp(sys.argv[1], sys.argv[1:])
os.close(ir); os.close(outw)
def copy(a, b):
    while 1:
        data = os.read(a, 1021)
        if not data: break
        while data: data = data[os.write(b, data):]
    os.close(b)
threading.Thread(target=copy, args=(0, iw), daemon=True).start()
copy(outr, 1)
";

#[test]
fn pipes_of_four_kilobytes_and_short_reads_work() {
    works(SMALL_PIPES);
}

#[test]
fn an_unreadable_working_directory_does_not_matter() {
    if !tools::is_root("another account") {
        return;
    }
    let broker = Broker::new().unwrap();
    let script = "import tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.chmod(d, 0); os.setgid(65534); \
                  os.setuid(65534); os.execvp(sys.argv[1], sys.argv[1:])";
    // Whichever Python this user finds: what pyenv has is out of its sight.
    let wrapper = vec![pythons::any().to_arg(), "-c".into(), format!("import os, sys\n{script}")];
    let child = Context::builder("test").connect(&broker, Argv(wrapper)).unwrap();
    assert_eq!(child.call::<u32>("os:getuid", ()).wait().unwrap(), 65534);
}

/// Runs a first stage with this on stdin, which then ends; its stderr.
fn first_stage(python: &pythons::Python, stdin: &[u8]) -> String {
    let words = command_line(&Python::Path(python.to_arg()), "early");
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(stdin).unwrap();
    drop(input);
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    child.wait().unwrap();
    assert!(!out.contains("OK"), "{out}");
    err
}

#[test]
fn an_input_that_ends_early_ends_both_halves_with_a_word_about_it() {
    for python in pythons::all() {
        for stdin in [&b""[..], b"0", b"07000", b"07000\x78\xda"] {
            let stderr = first_stage(&python, stdin);
            assert!(stderr.contains("payload ended early"), "Python {}: {stderr}", python.minor);
            // Waiting for the pipes' end above has shown that no process is left.
        }
    }
}

#[test]
fn a_program_that_is_no_python_is_a_clear_error() {
    let broker = Broker::new().unwrap();
    let error = |argv: &[&str]| {
        let words = argv.iter().map(|s| (*s).to_owned()).collect();
        let context = Context::builder("box").connect(&broker, Argv(words));
        context.and_then(|c| c.wait_ready()).expect_err("no child can come up")
    };
    let cases: [(&[&str], ErrorKind, &str); 6] = [
        (&["/nonexistent/ssh"], ErrorKind::Local, "/nonexistent/ssh"),
        (&["sh", "-c", "echo hello; echo oops >&2; exit 3"], ErrorKind::Bootstrap, "oops"),
        (&["sh", "-c", "echo hello; exit 3"], ErrorKind::Bootstrap, "hello"),
        (&["sh", "-c", "exec python9"], ErrorKind::NoPython, "not found"),
        (&["sh", "-c", "kill -9 $$"], ErrorKind::Bootstrap, "signal 9"),
        (&["env", "PATH=/nonexistent", "/bin/sh", "-c", "exec \"$@\"", "sh"], ErrorKind::NoPython, ""),
    ];
    for (argv, kind, text) in cases {
        let error = error(argv);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text) && error.to_string().starts_with("box: "), "{error}");
    }
}

#[test]
fn a_host_that_says_nothing_is_a_timeout_and_leaves_no_process() {
    let broker = Broker::new().unwrap();
    let child = Context::builder("mute")
        .connect_timeout(Duration::from_millis(300))
        .connect(&broker, Argv(vec!["sh".into(), "-c".into(), "sleep 98765 & sleep 98765".into()]))
        .unwrap();
    let call = child.call::<()>("os:getpid", ());
    assert_eq!(child.wait_ready().unwrap_err().kind(), ErrorKind::Unreachable);
    assert_eq!(call.wait().unwrap_err().kind(), ErrorKind::Unreachable);
    processes::wait_until("no sleep is left", || processes::with_text("98765").is_empty());
}

#[test]
fn megabytes_of_noise_before_the_child_do_not_matter() {
    works("os.write(1, b'OK\\n\\0\\0\\0\\x10' * 50000); os.execvp(sys.argv[1], sys.argv[1:])");
}

#[test]
fn the_process_title_is_the_name_and_no_base64() {
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        let child = Context::builder("web01.example")
            .python(Python::Path(python.to_arg()))
            .connect(&broker, econtext::Local)
            .unwrap();
        let pid: u32 = child.call("os:getpid", ()).wait().unwrap();
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let line = String::from_utf8_lossy(&line);
        assert!(line.contains("econtext:web01.example") && line.len() < 200, "{line}");
        // One process per child: the first stage is gone, and reaped.
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        assert_eq!(children.trim(), "", "Python {}", python.minor);
    }
}

#[test]
fn nothing_is_written_on_the_target() {
    if !tools::has("strace") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::new().unwrap();
    for python in pythons::all() {
        let trace = directory.path().join(&python.minor);
        let argv =
            ["strace", "-f", "-qq", "-e", "trace=file", "-o", &trace.display().to_string()].map(String::from);
        let child = Context::builder("traced")
            .python(Python::Path(python.to_arg()))
            .finder(std::sync::Arc::new(
                econtext::PathFinder::new()
                    .source("served", "import logging\ndef f():\n    logging.warning('x')\n    return 1\n"),
            ))
            .connect(&broker, Argv(argv.to_vec()))
            .unwrap();
        assert_eq!(child.call::<i32>("served:f", ()).wait().unwrap(), 1);
        drop(child);
        processes::wait_until("the child ends", || {
            std::fs::read_to_string(&trace)
                .is_ok_and(|t| t.contains("exited with") || t.contains("killed by"))
        });
        let text = std::fs::read_to_string(&trace).unwrap();
        assert!(text.contains("execve("), "{text}");
        for line in text.lines() {
            let null = line.contains("\"/dev/null\"") || line.contains("\"/dev/tty\"");
            let writes = [
                "O_WRONLY", "O_RDWR", "O_CREAT", "mkdir", "rename", "unlink", "symlink", "mknod", "truncate",
                "chmod",
            ];
            assert!(null || !writes.iter().any(|w| line.contains(w)), "Python {}: {line}", python.minor);
        }
    }
}
