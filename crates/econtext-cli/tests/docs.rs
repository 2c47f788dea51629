//! The documentation is true: every command in it is run, and what it prints is what is shown.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::econtext;
use econtext_testkit::containers::{Podman, root_for};
use econtext_testkit::{repository, site_packages, skip, tools};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A command of a page, and what it is said to print.
#[derive(Debug)]
struct Example {
    command: String,
    expected: Vec<String>,
    status: i32,
    /// The components that it needs beside econtext: `site`, `podman`, `root`.
    needs: Option<String>,
    /// The line of the page.
    line: usize,
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![repository("README.md")];
    for directory in ["docs", "docs/verbs"] {
        let entries = fs::read_dir(repository(directory)).unwrap().map(|e| e.unwrap().path());
        pages.extend(entries.filter(|p| p.extension().is_some_and(|e| e == "md")));
    }
    pages.sort();
    pages
}

fn examples(text: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut block: Option<(Vec<&str>, usize)> = None;
    for (n, line) in text.lines().enumerate() {
        match &block {
            None => {
                if let Some(words) = line.strip_prefix("```console") {
                    block = Some((words.split_whitespace().collect(), found.len()));
                }
            }
            Some((words, first)) if line == "```" => {
                // The status is that of the last command of the block.
                let status =
                    words.iter().find_map(|w| w.strip_prefix("exit=")).map_or(0, |s| s.parse().unwrap());
                let first = *first;
                if let Some(last) = found[first..].last_mut() {
                    last.status = status;
                }
                block = None;
            }
            Some((words, first)) => {
                let first = *first;
                if let Some(command) = line.strip_prefix("$ ") {
                    found.push(Example {
                        command: command.to_owned(),
                        expected: Vec::new(),
                        status: 0,
                        needs: words.iter().find(|w| !w.contains('=')).map(|w| (*w).to_owned()),
                        line: n + 1,
                    });
                } else if !line.starts_with("# ") && !line.is_empty() && found.len() > first {
                    found.last_mut().unwrap().expected.push(line.to_owned());
                }
            }
        }
    }
    found
}

/// A checkout as the pages speak of it, in a directory of its own.
struct Checkout {
    directory: tempfile::TempDir,
    podman: Option<Podman>,
    root: Option<String>,
}

impl Checkout {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let examples = directory.path().join("examples");
        fs::create_dir(&examples).unwrap();
        for entry in fs::read_dir(repository("examples")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, examples.join(path.file_name().unwrap())).unwrap();
        }
        if let Some(site) = site_packages() {
            std::os::unix::fs::symlink(site, directory.path().join("vendor")).unwrap();
        }
        Checkout { directory, podman: None, root: None }
    }

    /// Makes what an example needs; whether it is there.
    fn provide(&mut self, needs: Option<&str>) -> bool {
        match needs {
            None => true,
            Some("site") => {
                if site_packages().is_none() {
                    skip("target/site");
                }
                site_packages().is_some()
            }
            Some("root") => {
                self.root = self.root.take().or_else(|| root_for("chroot"));
                self.root.is_some()
            }
            Some("podman") => {
                if self.podman.is_none() {
                    self.podman = root_for("podman").map(|root| Podman::start(&root));
                }
                self.podman.is_some()
            }
            Some(other) => panic!("an example needs {other}, which is unknown"),
        }
    }

    fn run(&self, line: &str) -> (String, i32) {
        let inner = econtext();
        let binary = Path::new(inner.get_program()).parent().unwrap().to_owned();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        let mut line = line.to_owned();
        if let Some(podman) = &self.podman {
            line = line.replace("podman:app", &format!("podman:{}", podman.name));
        }
        if let Some(root) = &self.root {
            line = line.replace("chroot:/srv/root", &format!("chroot:{root}"));
        }
        let mut command = Command::new("bash");
        command.args(["-c", &format!("exec 2>&1\n{line}")]).current_dir(self.directory.path());
        command.env("PATH", path).env("ECONTEXT_INVENTORY", "examples/fleet.ini").stdin(Stdio::null());
        command.env("XDG_STATE_HOME", self.directory.path().join(".state"));
        command.env("XDG_CONFIG_HOME", self.directory.path().join(".config"));
        if let Some(podman) = &self.podman {
            podman.configure(&mut command);
        }
        let output = command.output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().unwrap_or(-1))
    }
}

/// Differences between machines and moments are taken away: numbers, the machine's name and kernel, space in tables.
fn normal(line: &str) -> String {
    let uname = rustix::system::uname();
    // The pages are those of root.
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    let line = line
        .replace(&format!("\"user\":\"{user}\""), "\"user\":\"root\"")
        .replace(&format!(", user {user},"), ", user root,")
        .replace(&format!(" {user} "), " root ")
        .replace(&*uname.release().to_string_lossy(), "6.1.0")
        .replace(&format!("\"{}\"", uname.nodename().to_string_lossy()), "\"vm\"")
        .replace(&format!(" {} ", uname.nodename().to_string_lossy()), " vm ")
        .replace(&format!(",{},", uname.nodename().to_string_lossy()), ",vm,");
    let mut out = String::new();
    let mut number = false;
    for c in line.trim_end().chars() {
        let of_number = c.is_ascii_digit() || number && c == '.';
        match (of_number, number) {
            (true, false) => out.push('0'),
            (false, _) if c != ' ' || !out.ends_with(' ') => out.push(c),
            _ => {}
        }
        number = of_number;
    }
    out
}

/// Why what was printed is not what is shown, if so.
fn difference(example: &Example, printed: &str) -> Option<String> {
    let mut lines: Vec<String> = printed.lines().filter(|l| !l.is_empty()).map(normal).collect();
    let mut any = false;
    for expected in &example.expected {
        if expected == "…" {
            any = true;
            continue;
        }
        let wanted = normal(expected);
        let fits = |line: &String| match wanted.split_once('…') {
            Some((before, behind)) => line.starts_with(before) && line.ends_with(behind),
            None => *line == wanted,
        };
        match lines.iter().position(fits) {
            Some(at) => drop(lines.remove(at)),
            None => return Some(format!("no line is {expected:?}")),
        }
    }
    (!any && !lines.is_empty()).then(|| format!("it says also {lines:?}"))
}

#[test]
fn every_command_on_every_page_does_what_is_shown() {
    let mut wrong = Vec::new();
    let mut ran = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let mut checkout = Checkout::new();
        for example in examples(&text) {
            // .ci/run runs those of cargo.
            if example.command.starts_with("cargo ") || !checkout.provide(example.needs.as_deref()) {
                continue;
            }
            if example.command.split(' ').any(|word| word == "-b") && !tools::sudo_is_free() {
                continue;
            }
            let (printed, status) = checkout.run(&example.command);
            ran += 1;
            let difference = match status == example.status {
                true => difference(&example, &printed),
                false => Some(format!("it ends with {status} and not with {}", example.status)),
            };
            if let Some(difference) = difference {
                let at = format!("{}:{}", page.display(), example.line);
                wrong.push(format!("{at}: $ {}\n{difference}\n-- printed\n{printed}", example.command));
            }
        }
    }
    for name in ["docs", "conf", "app"] {
        let _ = fs::remove_dir_all(format!("/tmp/econtext-{name}"));
    }
    assert!(wrong.is_empty(), "{} of {ran}\n{}", wrong.len(), wrong.join("\n"));
    assert!(ran > 50, "only {ran} commands were found");
}

#[test]
fn commands_in_the_text_are_commands() {
    let checkout = Checkout::new();
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let mut inside = false;
        for line in text.lines() {
            inside ^= line.starts_with("```");
            if inside {
                continue;
            }
            for span in line.replace("\\|", "|").split('`').skip(1).step_by(2) {
                let Some(words) = span.strip_prefix("econtext ") else { continue };
                let placeholders = ["TARGETS", "VERB", "SPEC", "PACKAGE", "…", "--help"];
                if placeholders.iter().any(|p| words.contains(p))
                    || !words.contains(' ')
                    || words.contains(" > ")
                {
                    continue;
                }
                // The plan is shown; scripts and directories that the text makes up are not there.
                let prefix = if words.starts_with("hosts") || words.starts_with("completions") {
                    ""
                } else {
                    "explain "
                };
                let words =
                    words.replace(" x.py", " examples/facts.py").replace("--path src", "--path examples");
                let (printed, status) = checkout.run(&format!("econtext {prefix}{words}"));
                assert_eq!(status, 0, "{}: {span}\n{printed}", page.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 8, "only {seen} commands were found");
}

#[test]
fn links_of_the_pages_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if !path.is_empty() && !link.contains("://") {
                assert!(page.parent().unwrap().join(path).exists(), "{}: {link}", page.display());
            }
        }
    }
}

#[test]
fn the_tests_that_hold_the_contract_are_there() {
    let text = fs::read_to_string(repository("docs/contract.md")).unwrap();
    let mut seen = 0;
    for span in text.split('`').skip(1).step_by(2) {
        let Some((file, name)) = span.split_once(".rs: ") else { continue };
        let source = fs::read_to_string(repository(&format!("crates/{file}.rs"))).unwrap_or_default();
        assert!(
            source.contains(&format!("#[test]\n    fn {name}()"))
                || source.contains(&format!("#[test]\nfn {name}()")),
            "{span}"
        );
        seen += 1;
    }
    assert!(seen > 70, "{seen}");
}
