//! Things that new users try: dry runs, names that are not meant so, bytes, pipelines, and which host this is.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Ran, econtext, run, run_with_input};
use econtext_testkit::files::tree;
use econtext_testkit::pythons;
use econtext_testkit::sshd::Sshd;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};

#[test]
fn a_script_that_wants_a_python_has_its_input_too() {
    let here = tree(&[(
        "s.py",
        "# /// script\n# requires-python = \">=2.7\"\n# ///\nimport sys\nprint(sys.stdin.read())\n",
    )]);
    let script = here.path().join("s.py").display().to_string();
    for targets in ["local:", "local:n[1-3]"] {
        let ran = run_with_input(["run", "-N", targets, &script], b"hi");
        assert!(ran.status == 0 && ran.stdout.lines().all(|line| line == "hi"), "{ran:?}");
    }
}

#[test]
fn a_dry_run_says_what_each_host_would_do() {
    let ran = run(["exec", "--dry-run", "local:n[1-2]", "--", "systemctl", "restart", "%{host}"]);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "local:n1: exec systemctl restart local:n1");
    assert_eq!(lines[2], "local:n2: exec systemctl restart local:n2");
    assert!(!ran.stdout.contains("eNp"), "the program that Python is given is for -v: {ran:?}");
    let ran = run(["run", "--dry-run", "local:", "-c", "1 + 1"]);
    assert!(ran.stdout.starts_with("local: run -c '1 + 1'\n"), "{ran:?}");
}

#[test]
fn a_dry_run_of_put_and_get_shows_files_and_changes_none() {
    let here = tree(&[("new", "n"), ("changed", "one\ntwo\n"), ("same", "s")]);
    let there = tree(&[("changed", "one\n2\n"), ("same", "s")]);
    let sources = ["new", "changed", "same"].map(|name| here.path().join(name).display().to_string());
    let to = format!("{}/", there.path().display());
    fs::set_permissions(there.path().join("same"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(there.path().join("changed"), fs::Permissions::from_mode(0o644)).unwrap();
    let with = |flags: &[&str]| {
        let words: Vec<&str> = ["put"]
            .iter()
            .chain(flags)
            .copied()
            .chain(["local:"])
            .chain(sources.iter().map(String::as_str))
            .chain([to.as_str()])
            .collect();
        run(words)
    };
    let ran = with(&["--dry-run"]);
    assert_eq!(ran.stdout.lines().count(), 2, "{ran:?}");
    assert!(ran.stdout.contains("/new: new, 1 bytes, sha1 "), "{ran:?}");
    assert!(ran.stdout.contains("/changed: 6 → 8 bytes, sha1 "), "{ran:?}");
    let ran = with(&["--dry-run", "--diff", "--mode", "600"]);
    assert!(ran.stdout.contains("-2\n") && ran.stdout.contains("+two\n"), "{ran:?}");
    assert!(ran.stdout.contains("/same: mode 0644 → 0600"), "{ran:?}");
    let document = with(&["--dry-run", "--json"]).document();
    assert_eq!(document["results"][0]["value"].as_array().unwrap().len(), 2);
    assert!(!there.path().join("new").exists());
    assert_eq!(fs::read_to_string(there.path().join("changed")).unwrap(), "one\n2\n");

    // And then in earnest.
    let group = format!(":{}", rustix::process::getgid().as_raw());
    let ran = with(&["--mode", "640", "--owner", &group, "--backup"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""), "{ran:?}");
    for name in ["new", "changed", "same"] {
        assert_eq!(fs::metadata(there.path().join(name)).unwrap().mode() & 0o7777, 0o640, "{name}");
    }
    let kept = fs::read_dir(there.path()).unwrap().map(|entry| entry.unwrap()).find(|entry| {
        let name = entry.file_name().into_string().unwrap();
        name.starts_with("changed.") && name.ends_with('~')
    });
    assert_eq!(fs::read_to_string(kept.unwrap().path()).unwrap(), "one\n2\n");
    assert!(with(&["--dry-run", "--mode", "640"]).stdout.contains("nothing would change"));
    let ran = with(&["--owner", "no-such-user-here"]);
    assert!(ran.status == 5 && ran.stderr.contains("there is no such user: 'no-such-user-here'"), "{ran:?}");

    let pattern = format!("{}/*e*", there.path().display());
    let back = tree(&[]);
    let into = back.path().display().to_string();
    let ran = run(["get", "--dry-run", "local:", &pattern, &into]);
    assert!(ran.stdout.contains("/new: 1 bytes, to ") && !back.path().join("local").exists(), "{ran:?}");
    assert_eq!(run(["get", "local:", &pattern, &into]).status, 0);
    assert!(back.path().join("local/new").exists() && back.path().join("local/same").exists());
    let ran = run(["get", "local:", &format!("{}/nothing*", there.path().display()), &into]);
    assert!(ran.status == 5 && ran.stderr.contains("nothing matches"), "{ran:?}");
    let ran = run(["get", "--mode", "600", "local:", &pattern, &into]);
    assert!(ran.status == 2 && ran.stderr.contains("--mode"), "{ran:?}");
}

#[test]
fn errors_of_files_name_the_users_own_path() {
    let here = tree(&[("a", "x")]);
    let a = here.path().join("a").display().to_string();
    let ran = run(["put", "local:", &a, "/no/such/directory/a"]);
    assert!(ran.stderr.ends_with("No such file or directory: '/no/such/directory/a'\n"), "{ran:?}");
    let ran = run(["get", "local:", "/no/such/file", &here.path().join("b").display().to_string()]);
    assert!(ran.stderr.ends_with("No such file or directory: '/no/such/file'\n"), "{ran:?}");
    let ran = run(["get", "--jsonl", "local:", &a, "/proc/none"]);
    assert_eq!((ran.event("result")["kind"].as_str(), ran.status), (Some("local"), 1), "{ran:?}");
}

#[test]
fn a_line_for_a_shell_is_told_from_a_program() {
    for line in ["ls -l /tmp", "ls | wc", "A=1 env", "A=1"] {
        let ran = run(["exec", "local:", "--", line]);
        assert!(ran.status == 5 && ran.stderr.contains("--shell"), "{line}: {ran:?}");
    }
    assert!(run(["exec", "local:", "--", "cd", "/"]).stderr.contains("--shell"));
    let ran = run(["exec", "local:", "--", "no-such-program"]);
    assert!(!ran.stderr.contains("--shell"), "{ran:?}");
}

#[test]
fn what_was_probably_meant_is_said() {
    let here = tree(&[("below/x", ""), ("facts.py", "def f(): return 1\n"), ("s.py", "")]);
    let mut command = econtext();
    let ran: Ran = command
        .current_dir(here.path().join("below"))
        .args(["call", "local:", "facts:f"])
        .output()
        .unwrap()
        .into();
    assert!(ran.status == 5 && ran.stderr.contains("hint: facts is in ..: --path .."), "{ran:?}");
    let script = here.path().join("s.py").display().to_string();
    let ran = run(["run", "--ssh", "false", "local", &script]);
    assert!(ran.status != 0, "{ran:?}");
    let ran = run(["run", "-t", "5", "local", &script]);
    assert!(ran.stderr.contains("did you mean local:?"), "{ran:?}");
    let ran: Ran =
        econtext().env("ECONTEXT_FORKZ", "3").args(["call", "local:", "os:getpid"]).output().unwrap().into();
    assert!(
        ran.status == 0 && ran.stderr.contains("ECONTEXT_FORKZ is no setting; there is ECONTEXT_FORKS"),
        "{ran:?}"
    );
    let ran: Ran = econtext().env("ECONTEXT_FORKS", "many").args(["ping", "local:"]).output().unwrap().into();
    assert_eq!((ran.status, ran.stderr.matches("error: ").count()), (2, 1), "{ran:?}");
}

#[test]
fn host_keys_are_unknown_or_changed_and_there_is_a_command_to_look_at_them() {
    let Some(sshd) = Sshd::start() else { return };
    let known = sshd.path("known_hosts");
    let ping = || {
        let options = sshd.key_options();
        let words = ["ping"].into_iter().chain(options.iter().map(String::as_str)).chain(["127.0.0.1"]);
        run(words.collect::<Vec<_>>())
    };
    fs::write(&known, "").unwrap();
    let ran = ping();
    let scan = format!("ssh-keyscan -p {} 127.0.0.1 | ssh-keygen -lf -", sshd.port);
    assert!(ran.status == 4 && ran.stderr.contains("host_key: the host key is unknown"), "{ran:?}");
    assert!(ran.stderr.contains(&scan), "{ran:?}");
    sshd.know_host(&sshd.path("other_key.pub"));
    let ran = ping();
    assert!(
        ran.stderr.contains("host_key: the host key has changed") && ran.stderr.contains(&scan),
        "{ran:?}"
    );
    // Messages of ssh about itself are not in an error.
    assert!(!ran.stderr.contains("debug1"), "{ran:?}");
}

#[test]
fn a_login_that_hangs_says_where() {
    let Some(sshd) = Sshd::start() else { return };
    let directory = tree(&[]);
    let agent = directory.path().join("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let mut options = sshd.options();
    options.retain(|word| word != "IdentityAgent=none");
    options.remove(options.len() - 1);
    let mut command = econtext();
    command.env("SSH_AUTH_SOCK", &agent).args(["ping", "-t", "1"]).args(&options).arg("127.0.0.1");
    let ran: Ran = command.output().unwrap().into();
    assert!(ran.stderr.contains("connecting took more than 1 s; it waited for the ssh agent"), "{ran:?}");
    // Something that accepts and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let ran = run(["ping", "-F", "/dev/null", "-t", "1", "-p", &port, "127.0.0.1"]);
    assert!(ran.stderr.contains("it waited for the server's version"), "{ran:?}");
}

#[test]
fn a_value_of_an_exec_or_run_has_the_same_keys_whatever_came_of_it() {
    for (words, status) in [
        (&["exec", "--json", "local:", "--", "true"][..], Some(0)),
        (&["exec", "--json", "local:", "--", "false"], Some(1)),
        (&["exec", "--json", "local:", "--", "sh", "-c", "kill -9 $$"], None),
        (&["run", "--json", "local:", "-c", "1"], Some(0)),
    ] {
        let document = run(words).document();
        let result = document["results"][0].as_object().unwrap();
        assert!(result.contains_key("status"), "{words:?}");
        assert_eq!(result["status"].as_i64(), status, "{words:?}");
    }
}

#[test]
fn a_list_of_dicts_is_rows_and_numbers_are_on_the_right() {
    let value = r#"[{"name":"a","size":5},{"name":"bb","size":1234}]"#;
    let ran = run(["call", "--output", "table", "local:n[1-2]", "json:loads", "--", value]);
    let expected = "host      name  size\nlocal:n1  a        5\nlocal:n1  bb    1234\nlocal:n2  a        5\nlocal:n2  bb    1234\n";
    assert_eq!(ran.stdout, expected, "{ran:?}");
}

#[test]
fn a_pipeline_ends_quietly_and_lost_output_is_a_failure() {
    let program = econtext();
    let program = program.get_program().to_str().unwrap();
    let shell = |line: &str| -> Ran {
        Command::new("bash").args(["-c", line]).stdin(Stdio::null()).output().unwrap().into()
    };
    for targets in ["local:", "local:n[1-3]"] {
        let code = "for n in range(100000): print(n)";
        let ran =
            shell(&format!("{program} run '{targets}' -c '{code}' | head -n 1; exit ${{PIPESTATUS[0]}}"));
        assert_eq!((ran.status, ran.stderr.as_str()), (141, ""), "{ran:?}");
    }
    let ran = shell(&format!("{program} call local: os:getpid >&-"));
    assert!(ran.status == 1 && ran.stderr.contains("stdout"), "{ran:?}");
    let ran = shell(&format!("{program} exec local: -- true >&-"));
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "nothing was to be written: {ran:?}");
    let ran = shell(&format!("{program} call local: os:getpid >/dev/full"));
    assert!(ran.status == 1 && ran.stderr.contains("stdout"), "{ran:?}");
    let ran = shell(&format!("{program} call local: os:getpid >/dev/null"));
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{ran:?}");
}

#[test]
fn programs_there_know_which_host_they_are_on() {
    let here = tree(&[(
        "fleet.toml",
        "[hosts.a]\ntarget = 'local:a'\ngroups = ['web']\n[hosts.b]\ntarget = 'local:b'\n[hosts.b.vars]\nrack = 'é7'\n",
    )]);
    let inventory = here.path().join("fleet.toml").display().to_string();
    for python in pythons::some() {
        let go = |verb: &[&str], rest: &[&str]| {
            let path = python.to_arg();
            let words = [verb, &["-i", &inventory, "--python", &path, "a,b"], rest].concat();
            run(words).stdout
        };
        let code = "import os; print(os.environ['ECONTEXT_TARGET'] + os.environ['ECONTEXT_TARGET_POSITION'])";
        let mut lines: Vec<String> = go(&["run"], &["-c", code]).lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, ["a: a1", "b: b2"]);
        let out = go(
            &["exec", "-B"],
            &["--", "sh", "-c", "echo $ECONTEXT_TARGET of $ECONTEXT_TARGET_COUNT, %{host}"],
        );
        assert_eq!(out, "a:\n  a of 2, a\nb:\n  b of 2, b\n");
        let code =
            "from econtext import target as t; (t.name, t.groups, t.vars.get('rack'), t.position, t.count)";
        let out = go(&["run", "-B"], &["-c", code]);
        assert_eq!(
            out, "a:\n  [\"a\",[\"web\"],null,1,2]\nb:\n  [\"b\",[],\"é7\",2,2]\n",
            "Python {}",
            python.minor
        );
    }
    let ran = run(["exec", "-i", &inventory, "a,b", "--", "echo", "%{vars.rack}"]);
    assert!(ran.stdout.contains("b: é7") && ran.stderr.contains("it has no variable \"rack\""), "{ran:?}");
    let ran = run([
        "call",
        "local:x",
        "builtins:exec",
        "import econtext.target; assert econtext.target.name == 'local:x'",
    ]);
    assert_eq!(ran.status, 0, "{ran:?}");
    // A source for each host.
    let sources = tree(&[("a.conf", "for a"), ("b.conf", "for b")]);
    let to = tree(&[]);
    let from = sources.path().join("%{host}.conf").display().to_string();
    let into = to.path().join("of-%{host}").display().to_string();
    assert_eq!(run(["put", "-i", &inventory, "a,b", &from, &into]).status, 0);
    assert_eq!(fs::read_to_string(to.path().join("of-b")).unwrap(), "for b");
    fs::remove_file(sources.path().join("b.conf")).unwrap();
    assert_eq!(run(["put", "-i", &inventory, "a,b", &from, &into]).status, 2, "nothing was contacted");
}

#[test]
fn words_and_names_that_are_no_text_go_through() {
    let odd = OsStr::from_bytes(b"caf\xe9");
    let here = tree(&[]);
    let file = here.path().join(odd);
    fs::write(&file, "odd").unwrap();
    let with = |words: &[&OsStr]| run(words.iter().copied());
    let raw = ["exec", "--raw", "local:", "--", "cat"].map(OsStr::new);
    assert_eq!(with(&[&raw[..], &[file.as_os_str()]].concat()).stdout, "odd");
    for python in pythons::some() {
        let python: OsString = python.path.into();
        let start =
            |verb: &'static str| [OsStr::new(verb), OsStr::new("--python"), &python, OsStr::new("local:")];
        let ran =
            with(&[&start("exec")[..], &[OsStr::new("--"), OsStr::new("cat"), file.as_os_str()]].concat());
        assert_eq!(ran.stdout, "odd", "{ran:?}");
        let code = OsStr::new("import sys; print(open(sys.argv[1]).read())");
        let ran = with(&[&start("run")[..], &[OsStr::new("-c"), code, file.as_os_str()]].concat());
        assert_eq!(ran.stdout, "odd\n", "{ran:?}");
        let back = tree(&[]);
        let ran = with(&[&start("get")[..], &[file.as_os_str(), back.path().as_os_str()]].concat());
        assert_eq!(ran.status, 0, "{ran:?}");
        let mut found = back.path().join("local");
        found.push(odd);
        assert_eq!(fs::read_to_string(found).unwrap(), "odd");
        let to = back.path().join(OsStr::from_bytes(b"\xff"));
        let ran = with(&[&start("put")[..], &[file.as_os_str(), to.as_os_str()]].concat());
        assert_eq!((ran.status, fs::read_to_string(&to).unwrap().as_str()), (0, "odd"), "{ran:?}");
    }
    let mut variable = OsString::from("V=");
    variable.push(odd);
    let ran = with(&[
        OsStr::new("exec"),
        OsStr::new("--env"),
        &variable,
        OsStr::new("local:"),
        OsStr::new("--"),
        OsStr::new("sh"),
        OsStr::new("-c"),
        OsStr::new("printf %s \"$V\" | od -An -tx1"),
    ]);
    assert_eq!(ran.stdout.trim(), "63 61 66 e9", "{ran:?}");
    // As an argument of a call, and in JSON, it is text with a surrogate, as in Python.
    let ran = with(&[
        OsStr::new("call"),
        OsStr::new("--jsonl"),
        OsStr::new("local:"),
        OsStr::new("os:listdir"),
        here.path().as_os_str(),
    ]);
    assert!(ran.stdout.contains(r#"["caf\udce9"]"#), "{ran:?}");
    let ran =
        with(&[OsStr::new("call"), OsStr::new("local:"), OsStr::new("os.path:exists"), file.as_os_str()]);
    assert_eq!(ran.stdout, "true\n", "{ran:?}");
    let escaped = format!("\"{}/caf\\udce9\"", here.path().display());
    let ran = run(["call", "local:", "os.path:exists", &escaped]);
    assert_eq!(ran.stdout, "true\n", "JSON from our own results is an argument again: {ran:?}");
}

#[test]
fn python_may_be_words() {
    let python = pythons::any();
    let name = python.path.file_name().unwrap().to_str().unwrap().to_owned();
    let directory = python.path.parent().unwrap().display().to_string();
    let path = format!("{directory}:{}", std::env::var("PATH").unwrap());
    let go = |word: &str, code: &str| -> Ran {
        let mut command = econtext();
        command.env("PATH", &path).args(["run", "--python", word, "local:", "-c", code]);
        command.output().unwrap().into()
    };
    assert_eq!(go(&format!("/usr/bin/env {name}"), "1 + 1").stdout, "2\n");
    let ran = go(&format!("{name} -X dev -W error"), "import sys; (sys.flags.dev_mode, sys.warnoptions[-1])");
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("[true,\"error\"]\n", ""), "{ran:?}");
    let ran = go(
        &format!("/usr/bin/env A=b {name} -B"),
        "import sys, os; (sys.flags.dont_write_bytecode, os.environ['A'])",
    );
    assert_eq!(ran.stdout, "[1,\"b\"]\n", "{ran:?}");
    // In an inventory too, as ansible has it.
    let here = tree(&[(
        "hosts",
        &format!("a econtext_target=local: ansible_python_interpreter='/usr/bin/env {name}'\n"),
    )]);
    let mut command = econtext();
    command.env("PATH", &path).args([
        "call",
        "-i",
        &here.path().join("hosts").display().to_string(),
        "a",
        "os:getcwd",
    ]);
    let ran: Ran = command.output().unwrap().into();
    assert_eq!(ran.status, 0, "{ran:?}");
    // One that has a space in its name is quoted.
    let odd = tree(&[]);
    let link = odd.path().join("my python");
    std::os::unix::fs::symlink(&python.path, &link).unwrap();
    assert_eq!(go(&format!("'{}'", link.display()), "2").stdout, "2\n");
}
