//! What the documentation and the manifests say is so.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext_testkit::files::below;
use econtext_testkit::repository;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The files below a directory that are no product of a build.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let made = ["target", "corpus", "artifacts", "node_modules", "__pycache__"];
    below(directory, &|name| made.contains(&name) || name.starts_with('.') && name != ".ci")
}

fn all() -> (PathBuf, Vec<PathBuf>) {
    let root = repository("").canonicalize().unwrap();
    let found = sources(&root);
    (root, found)
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(repository("").join(path)).unwrap()
}

/// The text behind `const NAME: TYPE =` in a source file.
fn constant(path: &str, name: &str) -> String {
    let text = read(path);
    let line = text.lines().find(|line| line.contains(&format!("const {name}:"))).unwrap();
    line.split_once(" = ").unwrap().1.trim_end_matches(';').to_owned()
}

#[test]
fn the_limits_of_the_security_page_are_those_of_the_code() {
    let page = read("docs/security.md");
    let limits = econtext_proto::session::Limits::default();
    let limit = format!(
        "frames of {} MiB, {} million values, nesting of {}, a thousand open questions",
        limits.frame >> 20,
        limits.pickle.nodes >> 20,
        limits.pickle.depth
    );
    assert!(page.contains(&limit), "{limit}");
    assert_eq!(constant("crates/econtext/src/child/requests.rs", "MAX_OPEN"), "1000");
    let back = "crates/econtext/src/connect_back.rs";
    assert_eq!(constant(back, "PATIENCE"), "Duration::from_secs(5)");
    assert!(page.contains("A peer that connects has five seconds"));
    assert!(page.contains(&format!("no more than {} may be in that state", constant(back, "STRANGERS"))));
    assert!(page.contains(&format!("a token of {} random bytes", constant(back, "TOKEN"))));
}

#[test]
fn the_numbers_of_the_protocol_page_are_those_of_the_code() {
    use econtext_proto::wire::handles::HANDLES;
    let page = read("docs/protocol.md");
    let mut found: Vec<(&str, i64)> = Vec::new();
    for line in page.lines() {
        // `NAME` NUMBER, ...
        let mut parts = line.split('`').skip(1);
        if let (Some(name), Some(rest)) = (parts.next(), parts.next())
            && let Some(number) = rest.trim_start().split(',').next().and_then(|n| n.parse().ok())
            && line.starts_with("5.")
        {
            found.push((name, number));
        }
    }
    assert_eq!(found, HANDLES.map(|(name, handle)| (name, handle.0)));
    let limits = econtext_proto::session::Limits::default().pickle;
    for number in [limits.nodes, limits.digits] {
        let digits = number.to_string();
        let groups: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap()).collect();
        assert!(page.contains(&groups.join(",")), "{number}");
    }
    assert!(page.contains(&format!("nesting of {}, {} MiB expanded", limits.depth, limits.expanded >> 20)));
}

#[test]
fn the_threads_of_the_architecture_page_are_those_of_the_code() {
    let page = read("docs/architecture.md");
    let (_, files) = all();
    for path in files.iter().filter(|path| path.to_string_lossy().contains("/src/")) {
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        for start in [".name(\"", ".thread_name(\""] {
            for name in text.split(start).skip(1).filter_map(|rest| rest.split('"').next()) {
                if name.starts_with("econtext-") {
                    assert!(page.contains(&format!("`{name}`")), "{name}");
                }
            }
        }
    }
}

#[test]
fn the_limit_of_files_that_are_made_unasked_is_that_of_the_documentation() {
    assert_eq!(constant("crates/econtext/src/modules/path_finder.rs", "MAX_SPOOLED"), "64 << 20");
    assert!(read("docs/how-it-works.md").contains("64 MiB of\nall at most"));
}

#[test]
fn unsafe_code_is_only_where_the_security_page_says() {
    let (root, files) = all();
    let mut found = BTreeSet::new();
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        let text = std::fs::read_to_string(path).unwrap();
        let mut code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let marks = ["unsafe {", "unsafe fn", "unsafe extern", "unsafe(", "unsafe impl"];
        // The names are put together here, so that this file is not found.
        if code.any(|line| marks.iter().any(|mark| line.contains(mark) && !line.contains('"'))) {
            found.insert(path.strip_prefix(&root).unwrap().display().to_string());
        }
    }
    let expected = ["crates/econtext-cli/src/output/stdout.rs", "crates/econtext/src/child/local_process.rs"];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    let page = read("docs/security.md");
    assert!(page.contains("`local_process.rs`") && page.contains("`stdout.rs`"));
}

#[test]
fn every_dependency_is_used() {
    for manifest in std::fs::read_dir(repository("crates")).unwrap().flatten() {
        let directory = manifest.path();
        let text = std::fs::read_to_string(directory.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        for (table, places) in [
            ("dependencies", &["src"][..]),
            ("dev-dependencies", &["tests", "src", "benches", "examples", "../../examples", "../../bench"]),
            ("build-dependencies", &["build.rs"]),
        ] {
            let mut text = String::new();
            for place in places {
                let path = directory.join(place);
                let found = if path.is_dir() {
                    sources(&path)
                } else {
                    Vec::from_iter(path.is_file().then_some(path))
                };
                for path in found.iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
                    text += &std::fs::read_to_string(path).unwrap();
                }
            }
            for name in manifest.get(table).and_then(toml::Value::as_table).into_iter().flat_map(|t| t.keys())
            {
                let name = name.replace('-', "_");
                let used =
                    [format!("{name}::"), format!("use {name}"), format!("{name}!"), format!("{name} as")];
                assert!(
                    used.iter().any(|used| text.contains(used)),
                    "{}: [{table}] {name} is not used",
                    directory.display()
                );
            }
        }
    }
}

/// What looks like the path of a source file or a page in a text.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let ends = [".rs", ".py", ".md", ".toml"];
    let is_part = |c: char| c.is_alphanumeric() || "_-./$".contains(c);
    text.split(move |c| !is_part(c))
        .map(|word| word.trim_end_matches('.'))
        .filter(move |word| ends.iter().any(|end| word.len() > end.len() && word.ends_with(end)))
}

#[test]
fn every_file_that_is_named_in_comments_and_pages_exists() {
    // Files of Python, of a user, and of examples in a text.
    let others = [
        "$XDG_CONFIG_HOME/econtext/config.toml",
        "XDG_CONFIG_HOME/econtext/config.toml",
        "Lib/pickletools.py",
        "__main__.py",
        "__init__.py",
        "zlib.py",
    ];
    let (root, files) = all();
    let names: Vec<String> =
        files.iter().map(|path| format!("/{}", path.strip_prefix(&root).unwrap().display())).collect();
    let exists = |name: &str| {
        let name = name.trim_start_matches("../").trim_start_matches("./");
        names.iter().any(|path| path.ends_with(&format!("/{name}")))
    };
    let mut missing = Vec::new();
    for (path, shown) in files.iter().zip(&names) {
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        let mut look = |part: &str| {
            missing.extend(
                named(part)
                    .filter(|name| !others.contains(name) && !exists(name))
                    .map(|n| format!("{shown}: {n}")),
            );
        };
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some("rs") => text
                .lines()
                .filter_map(|line| line.trim_start().strip_prefix("//"))
                // Examples in documentation make files as they need them.
                .filter(|comment| comment.contains('`') && !comment.contains('"'))
                .for_each(look),
            // Between backticks.
            Some("md") => {
                text.split("```")
                    .step_by(2)
                    .flat_map(|part| part.split('`').skip(1).step_by(2))
                    .filter(|span| !span.contains(' '))
                    .for_each(look);
            }
            Some("py") if shown.contains("/agent/") || shown.contains("/python/") => {
                text.lines().filter_map(|line| line.split_once('#')).for_each(|(_, comment)| look(comment));
            }
            _ => {}
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Words that the rules of language in CONTRIBUTING.md leave out, in comments, pages, help and errors.
const BANNED: [&str; 10] = [
    "be become",
    "is become",
    "are become",
    "gone on with",
    "go on with",
    "goes on with",
    "little file",
    "takes out",
    "whoever",
    "nobody",
];

/// The sentences of a text: of a page all, of a source file those in comments and strings.
fn prose(path: &Path, text: &str) -> Vec<(usize, String)> {
    let marks: &[&str] = match path.extension().and_then(|e| e.to_str()) {
        Some("rs") => &["//", "\""],
        Some("py") => &["# ", "\"\"\"", "'"],
        _ => return text.lines().map(str::to_owned).enumerate().collect(),
    };
    let prose = |line: &str| {
        let starts = marks.iter().filter_map(|mark| line.find(mark).map(|at| &line[at + mark.len()..]));
        starts.max_by_key(|rest| rest.len()).map(str::to_owned)
    };
    text.lines().enumerate().filter_map(|(number, line)| Some((number, prose(line)?))).collect()
}

#[test]
fn the_words_that_are_left_out_are_left_out() {
    let (root, files) = all();
    let kinds = ["rs", "py", "md"];
    let mut found = Vec::new();
    for path in
        files.iter().filter(|path| kinds.iter().any(|kind| path.extension().is_some_and(|e| e == *kind)))
    {
        let shown = path.strip_prefix(&root).unwrap().display().to_string();
        // The rules name the words, and this test has them.
        if ["CONTRIBUTING.md", "crates/econtext-cli/tests/claims.rs"].contains(&shown.as_str()) {
            continue;
        }
        for (number, text) in prose(path, &std::fs::read_to_string(path).unwrap()) {
            let lower = text.to_lowercase();
            // Names of tests are no prose, and there is a user called nobody.
            let is_word = |at: usize, word: &str| {
                let beside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "_'=-".contains(c));
                let before = lower[..at].chars().next_back();
                !beside(before)
                    && !lower[..at].ends_with(": ")
                    && !beside(lower[at + word.len()..].chars().next())
            };
            let banned =
                BANNED.iter().find(|word| lower.match_indices(**word).any(|(at, _)| is_word(at, word)));
            let subject = text.trim_start_matches(['/', '!', ' ', '#', '*', '-', '|']);
            let starts = ["What ", "Who ", "Nobody "]
                .iter()
                .find(|word| subject.starts_with(**word) && !text.contains('?'));
            if let Some(word) = banned.or(starts) {
                found.push(format!("{shown}:{}: {word}: {}", number + 1, text.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
