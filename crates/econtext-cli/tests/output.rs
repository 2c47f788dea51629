//! The output in every mode: to programs, in pipes, on terminals.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Ran, checked, econtext, run};
use econtext_testkit::terminal::Terminal;
use econtext_testkit::{processes, pythons, tools};
use serde_json::json;
use std::fs;

/// Code that says the same on two hosts and something else on the third.
const MOSTLY: &str = "import sys\nodd = sys.argv[1] in sys.executable or ODD\nprint('one')\nprint('three' if odd else 'two')\nNone";

/// `run` of [`MOSTLY`] on `local:n[1-3]`, where one host differs by the name of its context.
fn mostly(flags: &[&str]) -> Ran {
    // A child's argv[0] is the context's name.
    let code = MOSTLY.replace(
        "sys.argv[1] in sys.executable or ODD",
        "b'local:n2' in open('/proc/self/cmdline', 'rb').read()",
    );
    run([&["run"][..], flags, &["local:n[1-3]", "-c", &code]].concat())
}

#[test]
fn lines_keep_the_order_of_each_host_and_the_streams_apart() {
    let code = "import sys\nfor i in range(50):\n    (sys.stdout if i % 2 else sys.stderr).write('%d\\n' % i)\n    (sys.stdout if i % 2 else sys.stderr).flush()";
    let ran = run(["run", "local:a,local:b", "-c", code]);
    for host in ["local:a", "local:b"] {
        let of = |text: &str| -> Vec<i32> {
            let lines = text.lines().filter_map(|l| l.strip_prefix(host)?.strip_prefix(": "));
            lines.map(|n| n.parse().unwrap()).collect()
        };
        assert_eq!(of(&ran.stdout), (0..50).filter(|i| i % 2 == 1).collect::<Vec<_>>(), "{ran:?}");
        assert_eq!(of(&ran.stderr), (0..50).filter(|i| i % 2 == 0).collect::<Vec<_>>(), "{ran:?}");
    }
}

#[test]
fn equal_output_is_folded_under_its_hosts_the_largest_set_first() {
    for flags in [&["-B"][..], &["--fold"], &["--output", "fold"]] {
        let ran = mostly(flags);
        assert_eq!(ran.stdout, "local:n[1,3] (2):\n  one\n  two\nlocal:n2:\n  one\n  three\n", "{ran:?}");
        assert!(ran.stderr.starts_with("3 ok in "), "{ran:?}");
    }
    let ran = run(["call", "--fold", "local:n[1-3]", "os:listdir", "/nonexistent"]);
    assert!(ran.stderr.starts_with("local:n[1-3] (3):\n  FileNotFoundError: [Errno 2]"), "{ran:?}");
    assert_eq!((ran.stdout.as_str(), ran.status), ("", 5), "{ran:?}");
}

#[test]
fn a_diff_shows_the_majority_and_how_others_differ() {
    let ran = mostly(&["--diff"]);
    assert_eq!(
        ran.stdout,
        "local:n[1,3] (2):\n  one\n  two\nlocal:n2:\n  @@ -1,2 +1,2 @@\n   one\n  -two\n  +three\n",
        "{ran:?}"
    );
}

#[test]
fn a_table_has_a_row_a_host_and_a_column_a_key() {
    let code = "{'cpus': 4, 'name': 'x y'}";
    let ran = run(["run", "--output", "table", "local:n[1-2]", "-c", code]);
    assert_eq!(ran.stdout, "host      cpus  name\nlocal:n1     4  x y\nlocal:n2     4  x y\n", "{ran:?}");
    let ran = run(["exec", "--output", "table", "local:n[1-2]", "--", "sh", "-c", "echo a; echo b"]);
    assert_eq!(
        ran.stdout,
        "host      status  stdout\nlocal:n1       0  a\n                  b\nlocal:n2       0  a\n                  b\n",
        "{ran:?}"
    );
}

#[test]
fn a_document_has_everything_of_a_run() {
    let code = "import sys, logging\nlogging.warning('careful')\nprint('out')\nsys.stderr.write('err\\n')\nsys.exit(3)";
    let ran = run(["run", "--json", "local:n[1-2]", "-c", code]);
    let document = ran.document();
    assert_eq!(ran.status, 5);
    let host = &document["results"][1];
    assert_eq!(
        (&host["host"], &host["kind"], &host["status"]),
        (&json!("local:n2"), &json!("exit"), &json!(3))
    );
    assert_eq!(host["stdout"], "out\n");
    assert!(host["stderr"].as_str().unwrap().ends_with("err\n"), "{ran:?}");
    assert_eq!(host["start"]["event"], "start");
    assert_eq!(document["summary"]["failed"], 2);
    let ran = run(["run", "--json", "local:", "-c", "(n for n in (1, 2))"]);
    assert_eq!(ran.document()["results"][0]["items"], json!([1, 2]), "{ran:?}");
}

#[test]
fn every_event_is_as_its_schema_says() {
    let code = "import sys, logging\nlogging.getLogger('diag').warning('careful %d', 1)\nprint('out')\nsys.stderr.write('err\\n')\n\
                getattr(sys.stdout, 'buffer', sys.stdout).write(b'\\xff\\n')\n(x for x in ({1}, 2.5, None))";
    let ran = run(["call", "--jsonl", "local:", "os:nothing"]);
    assert_eq!(ran.event("result")["error"]["type"], "AttributeError", "{ran:?}");
    for python in pythons::some() {
        let ran = run(["run", "--jsonl", "--python", &python.to_arg(), "local:", "-c", code]);
        let kinds: Vec<String> =
            ran.events().iter().map(|e| e["event"].as_str().unwrap().to_owned()).collect();
        for kind in ["start", "stdout", "stderr", "item", "result", "summary"] {
            assert!(kinds.iter().any(|k| k == kind), "no {kind}: {ran:?}");
        }
        assert_eq!(ran.event("item")["value"], json!({"$set": [1]}), "{ran:?}");
    }
    let code = "import logging\nlogging.getLogger('diag').warning('careful %d', 1)";
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("warns.py"), format!("def f():\n    {}", code.replace('\n', "\n    ")))
        .unwrap();
    let path = directory.path().display().to_string();
    let ran = run(["call", "--jsonl", "--path", &path, "local:", "warns:f"]);
    let log = ran.event("log");
    assert_eq!(
        (&log["level"], &log["logger"], &log["message"]),
        (&json!("WARNING"), &json!("diag"), &json!("careful 1"))
    );
    // Failures of each kind that can be had here.
    for (args, kind) in [
        (&["run", "--jsonl", "local:", "-c", "import sys; sys.exit(9)"][..], "exit"),
        (&["run", "--jsonl", "local:", "-c", "import os; os.kill(os.getpid(), 9)"], "closed"),
        (&["exec", "--jsonl", "local:", "--", "sh", "-c", "kill -9 $$"], "signal"),
        (&["exec", "--jsonl", "local:", "--", "/nonexistent"], "exception"),
        (&["call", "--jsonl", "--python", "/nonexistent", "local:", "os:getpid"], "no_python"),
        (&["call", "--jsonl", "local:", "nosuchmodule:f"], "import"),
        (&["call", "--jsonl", "--timeout", "0.5", "local:", "time:sleep", "60"], "timeout"),
        (&["call", "--jsonl", "-F", "/dev/null", "-p", "1", "127.0.0.1", "os:getpid"], "unreachable"),
        (&["call", "--jsonl", "--ssh", "false", "h", "os:getpid"], "bootstrap"),
        (&["call", "--jsonl", "--ssh", "/nonexistent", "h", "os:getpid"], "local"),
    ] {
        if kind == "unreachable" && !tools::has("ssh") {
            continue;
        }
        let ran = run(args);
        assert_eq!(ran.event("result")["kind"], kind, "{ran:?}");
    }
}

#[test]
fn raw_is_bytes_as_they_are_and_none_is_nothing() {
    let ran = run(["call", "--output", "raw", "local:", "os:urandom", "0"]);
    assert_eq!((ran.stdout.as_str(), ran.status), ("", 0));
    let ran = run(["call", "--output", "raw", "local:n[1-2]", "binascii:unhexlify", "\"6162\""]);
    assert_eq!(ran.stdout, "abab", "{ran:?}");
    let ran = run(["call", "--output", "none", "-q", "local:n[1-2]", "os:getpid"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), ran.status), ("", "", 0), "{ran:?}");
    let ran = run(["call", "--output", "none", "-q", "local:", "os:listdir", "/nonexistent"]);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("FileNotFoundError"), "{ran:?}");
}

#[test]
fn each_host_has_its_files_in_outdir() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("deep/er");
    let path = out.display().to_string();
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("local:n1.stdout"), "of an earlier run").unwrap();
    let code = "import sys; sys.stderr.write('e\\n'); print('o'); sys.exit(4)";
    let ran = run(["run", "--outdir", &path, "--fold", "local:n[1-2]", "-c", code]);
    assert_eq!(ran.status, 5, "{ran:?}");
    for host in ["local:n1", "local:n2"] {
        let read = |kind: &str| fs::read_to_string(out.join(format!("{host}.{kind}"))).unwrap();
        assert_eq!((read("stdout").as_str(), read("stderr").as_str()), ("o\n", "e\n"));
        assert_eq!(checked(&read("json"), "result", "")["status"], 4);
    }
    let ran = run(["call", "--outdir", "/proc/no/such", "local:", "os:getpid"]);
    assert!(ran.status == 1 && ran.stderr.contains("--outdir /proc/no/such"), "{ran:?}");
}

#[test]
fn the_last_of_the_flags_that_say_how_wins() {
    let ran = run(["call", "--jsonl", "--output", "table", "local:n[1-2]", "os:getuid"]);
    assert!(ran.stdout.starts_with("host "), "{ran:?}");
    let ran = run(["call", "--fold", "--diff", "--json", "local:", "os:getuid"]);
    ran.document();
    let ran = run(["call", "--json", "--fold", "local:n[1-2]", "os:getuid"]);
    assert!(ran.stdout.starts_with("local:n[1-2] (2):"), "{ran:?}");
}

#[test]
fn colours_are_for_terminals_or_whoever_wants_them() {
    let with = |env: &[(&str, &str)], flags: &[&str]| -> Ran {
        let args = [&["call"][..], flags, &["local:n[1-2]", "operator:pos", "0"]].concat();
        econtext().envs(env.iter().copied()).args(args).output().unwrap().into()
    };
    assert!(!with(&[], &[]).stdout.contains('\x1b'));
    let colored = with(&[], &["--color", "always"]);
    assert!(colored.stdout.contains("\x1b[36mlocal:n1\x1b[0m: 0\n"), "{colored:?}");
    assert!(colored.stderr.contains("\x1b[32m2 ok\x1b[0m"), "{colored:?}");
    assert!(with(&[("CLICOLOR_FORCE", "1")], &[]).stdout.contains('\x1b'));
    assert!(!with(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &[]).stdout.contains('\x1b'));
    assert!(!with(&[("CLICOLOR_FORCE", "1")], &["--color", "never"]).stdout.contains('\x1b'));
}

/// The command on a terminal.
fn on_terminal(args: &[&str]) -> Terminal {
    let mut command = econtext();
    command.args(args).env("TERM", "xterm-256color").env_remove("NO_COLOR");
    Terminal::start(&command, 100, 30)
}

#[test]
fn on_a_terminal_hosts_are_coloured_and_cannot_drive_it_and_in_a_pipe_bytes_are_left_alone() {
    let code = "print('a\\x1b]0;title\\x07b\\rc')";
    let (status, text) = on_terminal(&["run", "local:n[1-2]", "-c", code]).finish();
    assert!(status.success(), "{text}");
    assert!(text.contains("\x1b[36mlocal:n1\x1b[0m: a^[]0;title^Gb^Mc"), "{text:?}");
    assert!(!text.contains("\x1b]0"), "{text:?}");
    let ran = run(["run", "local:n[1-2]", "-c", code]);
    assert!(ran.stdout.contains("local:n1: a\x1b]0;title\x07b\rc\n"), "{ran:?}");
}

#[test]
fn a_long_run_shows_on_a_terminal_how_far_it_is() {
    let code =
        "import time, sys; time.sleep(8 if b'local:n3' in open('/proc/self/cmdline', 'rb').read() else 0.1)";
    let (status, text) = on_terminal(&["run", "local:n[1-3]", "-c", code]).finish();
    assert!(status.success(), "{text}");
    assert!(text.contains("2/3 1 running, 2 done"), "{text:?}");
    assert!(text.contains("slow: local:n3"), "{text:?}");
    assert!(text.contains("3 ok\x1b[0m in "), "{text:?}");
    let (_, quick) = on_terminal(&["call", "local:n[1-3]", "os:getuid"]).finish();
    assert!(!quick.contains("done"), "nothing that is over at once has a bar: {quick:?}");
}

#[test]
fn in_a_pipe_progress_is_lines_for_whoever_asks() {
    let code = "import time; time.sleep(11)";
    let ran = run(["run", "-P", "local:n[1-2]", "-c", code]);
    assert!(ran.stderr.contains("econtext: 2 running"), "{ran:?}");
}

#[test]
fn generators_stream_and_wait_for_their_reader() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("closed");
    let module = format!(
        "import os, time\ndef count(n):\n    try:\n        for i in range(n):\n            yield i\n        {}\n    finally:\n        open({:?}, 'w').close()\n\
         def slow():\n    yield 'first'\n    time.sleep(60)\n",
        if cfg!(unix) { "pass" } else { "" },
        mark.display().to_string()
    );
    fs::write(directory.path().join("gen.py"), module).unwrap();
    let path = directory.path().display().to_string();
    for python in pythons::some() {
        let ran = run([
            "call",
            "--python",
            &python.to_arg(),
            "--path",
            &path,
            "--jsonl",
            "local:",
            "gen:count",
            "100",
        ]);
        let items: Vec<i64> = ran
            .events()
            .iter()
            .filter(|e| e["event"] == "item")
            .map(|e| e["value"].as_i64().unwrap())
            .collect();
        assert_eq!(items, (0..100).collect::<Vec<_>>(), "{ran:?}");
        assert_eq!(ran.event("result")["value"], serde_json::Value::Null);
    }
    // They come as they are made.
    let mut child = econtext()
        .args(["call", "--path", &path, "local:", "gen:slow"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line)
        .unwrap();
    assert_eq!(line, "first\n");
    // The reader goes: so does the generator, and all else.
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(&mark).unwrap();
    let mut endless = econtext()
        .args(["call", "--path", &path, "local:", "gen:count", "1000000000"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 100];
    std::io::Read::read_exact(&mut endless.stdout.take().unwrap(), &mut some).unwrap();
    processes::wait_until("it ends", || endless.try_wait().unwrap().is_some());
}

#[test]
fn what_is_likely_a_mistake_has_a_hint() {
    for (args, hint) in [
        (&["call", "local:", "Cargo.toml"][..], "econtext run TARGETS Cargo.toml"),
        (&["call", "local:", "os.getpid"], "did you mean os:getpid?"),
        (&["call", "local:", "uptime"], "econtext exec TARGETS -- uptime"),
        (&["run", "local:", "os:getpid"], "econtext call TARGETS MODULE:FUNC"),
        (&["run", "local:", "uptime"], "econtext exec TARGETS -- CMD"),
        (&["call", "os:getpid", "local:"], "TARGETS come first"),
        (&["ping", "-u", "30", "local:"], "--timeout"),
        (&["pnig", "local:"], "'ping'"),
        (&["web01", "uptime"], "the verb comes first"),
        (&["call", "--jsnol", "local:", "os:getpid"], "'--jsonl'"),
        (&["ping", "-w", "local:", "web01"], "ping takes no"),
        (&["call", "local:"], "call needs MODULE:FUNC"),
    ] {
        let ran = run(args);
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.stderr.contains(hint) && ran.stdout.is_empty(), "{args:?} {ran:?}");
    }
}

#[test]
fn help_fits_a_screen_and_help_all_has_every_flag() {
    for verb in ["call", "run", "exec", "put", "get", "repl", "ping", "hosts"] {
        for flag in ["-h", "--help"] {
            let ran: Ran = econtext().env("COLUMNS", "80").args([verb, flag]).output().unwrap().into();
            assert_eq!(ran.status, 0);
            assert!(ran.stdout.lines().count() <= 30, "{verb}: {} lines", ran.stdout.lines().count());
            assert!(ran.stdout.lines().all(|l| l.chars().count() <= 80), "{ran:?}");
        }
    }
    let all = run(["call", "--help-all"]).stdout;
    for flag in [
        "--hosts",
        "--exclude",
        "--group",
        "--exclude-group",
        "--all",
        "--inventory",
        "--limit",
        "--pick",
        "--user",
        "--become",
        "--become-user",
        "-K,",
        "-k,",
        "--password-cmd",
        "-J,",
        "-F,",
        "-p,",
        "-o,",
        "--identity",
        "--ssh ",
        "--via",
        "--python",
        "--path",
        "--env",
        "--chdir",
        "--no-serve",
        "--forks",
        "--connect-timeout",
        "--timeout",
        "--deadline",
        "--retries",
        "--connect-rate",
        "--nice",
        "--rlimit",
        "--batch",
        "--pause",
        "--fail-on",
        "--rerun",
        "--output",
        "--fold",
        "--diff",
        "--json",
        "--jsonl",
        "--no-prefix",
        "--outdir",
        "--quiet",
        "--verbose",
        "--color",
        "--progress",
        "--dry-run",
        "--list-hosts",
        "--status",
    ] {
        assert!(all.contains(flag), "{flag}");
    }
}

#[test]
fn completions_and_the_manual_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(["completions", shell]);
        assert!(ran.status == 0 && ran.stdout.contains("--complete"), "{shell}");
    }
    for shell in ["elvish", "powershell"] {
        assert!(run(["completions", shell]).stdout.contains("exclude-group"), "{shell}");
    }
    let man = run(["man"]).stdout;
    for part in [".TH econtext", "ECONTEXT CALL", "ECONTEXT HOSTS", "EXIT STATUS", "\\-\\-connect\\-rate"] {
        assert!(man.contains(part), "{part}");
    }
}

#[test]
fn shells_complete_hosts_and_flags_by_the_scripts_that_are_printed() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("hosts"), "[web]\nweb01\nweb02\n[db]\ndb01\n").unwrap();
    let binary = econtext();
    let path = format!(
        "{}:{}",
        std::path::Path::new(binary.get_program()).parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let shell = |name: &str, script: &str| {
        let output = std::process::Command::new(name)
            .args(["-c", script])
            .env("PATH", &path)
            .env("ECONTEXT_INVENTORY", directory.path().join("hosts"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let bash = |line: &str, word: &str| {
        let script = format!(
            "source <(econtext completions bash); COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; \
             _econtext econtext '{word}' x; echo \"${{COMPREPLY[@]}}\""
        );
        shell("bash", &script)
    };
    assert_eq!(bash("econtext call --jso", "--jso"), "--json --jsonl");
    assert_eq!(bash("econtext ping we", "we"), "web01 web02");
    // bash takes what is behind an @ or : for a word of its own.
    assert_eq!(bash("econtext ping @d", "d"), "db");
    assert_eq!(bash("econtext ping web01,d", "web01,d"), "web01,db01 web01,docker:");
    if Shell::Fish.is_there() {
        let fish = "econtext completions fish | source; complete -C 'econtext ping we'";
        assert_eq!(shell("fish", fish), "web01 web02");
    }
    if Shell::Zsh.is_there() {
        // compadd works in a widget only: here it shows what it is given.
        let zsh = "autoload -Uz compinit; compinit -u 2>/dev/null; source <(econtext completions zsh); \
                   compadd() { [ $1 = -a ] && print ${(P)2}; }; words=(econtext ping we); CURRENT=3; _econtext";
        assert_eq!(shell("zsh", zsh), "web01 web02");
    }
}

/// A shell that may be missing.
#[derive(Clone, Copy)]
enum Shell {
    Fish,
    Zsh,
}

impl Shell {
    fn is_there(self) -> bool {
        tools::has(match self {
            Shell::Fish => "fish",
            Shell::Zsh => "zsh",
        })
    }
}

#[test]
fn every_flag_has_a_description_in_the_manual_and_every_verb_a_page() {
    let whole = run(["man"]).stdout;
    for verb in
        ["call", "run", "exec", "put", "get", "repl", "ping", "hosts", "explain", "completions", "man"]
    {
        assert!(whole.contains(&format!("ECONTEXT {}", verb.to_uppercase())), "{verb}");
        let page = run(["man", verb]).stdout;
        assert!(page.starts_with(&format!(".TH econtext-{verb} ")), "{page}");
        let lines: Vec<&str> = page.lines().collect();
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| **line == ".TP") {
            let described = lines.get(at + 2).is_some_and(|text| !text.is_empty() && !text.starts_with('.'));
            assert!(described, "{verb}: {:?}", &lines[at..(at + 3).min(lines.len())]);
        }
    }
    // Its examples are commands.
    let examples = whole.split(".nf\n").skip(1).filter_map(|rest| rest.split("\n.fi").next());
    let mut seen = 0;
    for example in examples.map(|example| example.replace("\\-", "-")) {
        let words = shlex_split(&example);
        let words = words.iter().map(String::as_str).skip(1);
        let words: Vec<&str> =
            words.map(|word| if word.starts_with('@') { "local:" } else { word }).collect();
        let words: Vec<&str> = words.into_iter().filter(|word| *word != "explain" && *word != "-a").collect();
        let prefix: &[&str] = match words[0] {
            "hosts" => &[],
            _ => &["explain"],
        };
        let words = [prefix, &words, if words[0] == "ping" { &["local:"] } else { &[] }].concat();
        let mut command = econtext();
        command.current_dir(econtext_testkit::repository("")).args(&words);
        let ran: Ran = command.output().unwrap().into();
        assert_eq!(ran.status, 0, "{words:?} {ran:?}");
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

/// Words in single quotes or none.
fn shlex_split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in line.split('\'').enumerate() {
        match n % 2 {
            1 => words.push(part.to_owned()),
            _ => words.extend(part.split_whitespace().map(str::to_owned)),
        }
    }
    words
}

#[test]
fn the_configuration_is_below_the_environment_below_the_command_line() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("econtext/config.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(home.path().join("econtext/hosts"), "local:a\nlocal:b\n").unwrap();
    let write = |text: &str| fs::write(&file, text).unwrap();
    let with = |env: &[(&str, &str)], args: &[&str]| -> Ran {
        let mut command = econtext();
        command.env("XDG_CONFIG_HOME", home.path()).envs(env.iter().copied());
        command.args(args).output().unwrap().into()
    };
    write("output = 'jsonl'\nforks = 7\ninventory = 'hosts'\nquiet = true\n");
    let ran = with(&[], &["call", "@*", "os:getuid"]);
    assert_eq!(ran.event("summary")["ok"], 2, "{ran:?}");
    let ran = with(&[], &["call", "--fold", "@*", "operator:pos", "0"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("local:a,local:b (2):\n  0\n", ""), "{ran:?}");
    let ran = with(&[("ECONTEXT_OUTPUT", "table")], &["call", "@*", "os:getuid"]);
    assert!(ran.stdout.starts_with("host"), "{ran:?}");
    let ran = with(&[("ECONTEXT_OUTPUT", "table")], &["call", "--output", "lines", "@*", "os:getuid"]);
    assert!(ran.stdout.starts_with("local:"), "{ran:?}");
    let shown = with(&[("ECONTEXT_TIMEOUT", "5")], &["explain", "config"]).stdout;
    let line = |flag: &str| {
        let line = shown.lines().find(|l| l.starts_with(flag)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("forks"), ["forks", "7", &file.display().to_string()], "{shown}");
    assert_eq!(line("timeout"), ["timeout", "5", "ECONTEXT_TIMEOUT"], "{shown}");
    assert_eq!(line("retries"), ["retries", "0", "default"], "{shown}");
    for (text, why) in [
        ("fork = 3\n", "there is \"forks\""),
        ("forks = 'many'\n", "config.toml"),
        ("forks = [1]\n", "no list"),
        ("hosts = 'x'\n", "no such setting"),
        ("forks 3\n", "config.toml"),
    ] {
        write(text);
        let ran = with(&[], &["call", "local:", "os:getuid"]);
        assert!(ran.status == 2 && ran.stderr.contains(why), "{text} {ran:?}");
    }
}

#[test]
fn output_that_is_lost_is_a_failure() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for args in [
        &["call", "local:", "os:getpid"][..],
        &["exec", "local:n[1-2]", "--json", "--", "echo", "hi"],
        &["exec", "--json", "local:n[1-2]", "--", "echo", "hi"],
        &["hosts", "n[1-3]"],
        &["ping", "--dry-run", "local:"],
        &["man"],
    ] {
        let ran: Ran = econtext().args(args).stdout(full()).output().unwrap().into();
        assert!(ran.status == 1 && ran.stderr.contains("No space left"), "{args:?} {ran:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("local:n1.stdout")).unwrap();
    let path = directory.path().display().to_string();
    let ran = run(["exec", "--outdir", &path, "local:n[1-2]", "--", "true"]);
    assert!(ran.status == 1 && ran.stderr.contains("--outdir: "), "{ran:?}");
    // A slow reader gets all.
    let line = format!(
        "{} exec --raw local: -- head -c 300000 /dev/zero | (sleep 2; wc -c)",
        env!("CARGO_BIN_EXE_econtext")
    );
    let count = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&count.stdout).trim(), "300000");
}

#[test]
fn lines_of_several_hosts_are_whole_without_names_too() {
    let ran = run(["exec", "-N", "local:n[1-3]", "--", "sh", "-c", "printf aaa; sleep .3; echo bbb"]);
    assert_eq!(ran.stdout, "aaabbb\naaabbb\naaabbb\n", "{ran:?}");
}

#[test]
fn a_record_of_logging_is_shown_once() {
    let directory = tempfile::tempdir().unwrap();
    let code = "import logging\ndef f():\n    logging.getLogger('app').warning('disk low')\n    logging.getLogger('app').handle(logging.makeLogRecord({'levelno': 40, 'msg': 'odd', 'name': None, 'created': float('nan')}))\n";
    fs::write(directory.path().join("warns.py"), code).unwrap();
    let path = directory.path().display().to_string();
    let ran = run(["call", "--path", &path, "local:", "warns:f"]);
    assert_eq!(ran.stderr.matches("disk low").count(), 1, "{ran:?}");
    let ran = run(["call", "--path", &path, "--jsonl", "local:", "warns:f"]);
    assert_eq!(ran.events().iter().filter(|e| e["event"] == "log").count(), 2, "{ran:?}");
    assert!(!ran.stderr.contains("disk low"), "{ran:?}");
}

#[test]
fn keys_of_a_table_cannot_drive_a_terminal() {
    let (_, text) =
        on_terminal(&["run", "--output", "table", "local:n[1-2]", "-c", "{'a\\x1b]0;pwn\\x07': 1}"]).finish();
    assert!(!text.contains("\x1b]0") && text.contains("a^[]0;pwn^G"), "{text:?}");
    let code = "import sys, time\nout = getattr(sys.stdout, 'buffer', sys.stdout)\nout.write(b'x\\xc2'); out.flush(); time.sleep(.3); out.write(b'\\x9b31mred\\n'); out.flush()";
    let mut command = econtext();
    command.args(["run", "local:", "-c", code]).env("TERM", "xterm");
    let terminal = Terminal::start(&command, 80, 24);
    terminal.wait_for("31mred", 0);
    let (_, text) = terminal.finish();
    assert!(!text.contains('\u{9b}'), "{text:?}");
}
