//! Files name only what stands below them: there is no circle of files, and the parts of each crate have an order.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext_testkit::files::below;
use econtext_testkit::repository;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The order of the parts of each crate, the lowest first: a file names files of its own part and of those before it. A part is
/// a file beside `lib.rs` or `main.rs`, with the directory of the same name.
const FLOORS: [(&str, &str); 6] = [
    ("econtext-proto", "mac value wire serde_impl pickle frame bootstrap session lib"),
    ("econtext-pysource", "lexer imports minimize beside lib"),
    ("econtext", "sync error status log transport modules child broker connect_back api lib"),
    (
        "econtext-fleet",
        "spec_error similar host_path range settings target rollout gate inventory hostset identity select connector lib",
    ),
    ("econtext-cli", "usage input signals outcome args config output run commands cli main"),
    (
        "econtext-py",
        "finder ours callback_thread per_process settings wait values errors events request broker inner call process channel stream transfer \
         child fleet lib",
    ),
];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// The files below a directory with an ending, by their paths without it.
fn sources(root: &Path, ending: &str) -> BTreeMap<String, String> {
    let name = |path: &Path| {
        let below = path.strip_prefix(root).unwrap().to_str().unwrap();
        below.strip_suffix(ending).map(str::to_owned)
    };
    let read = |path: &Path| Some((name(path)?, std::fs::read_to_string(path).unwrap()));
    below(root, &|_| false).iter().filter_map(|path| read(path)).collect()
}

/// The code without comments and unit tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The paths that a tree of `use` stands for.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, inside)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap().trim();
        return found.push(format!("{prefix}{path}"));
    };
    let (prefix, inside) = (format!("{prefix}{}", head.trim()), inside.trim_end().trim_end_matches('}'));
    // An inner brace that was trimmed with the outer one is put back by counting.
    let (mut depth, mut item) = (0, String::new());
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &item, found);
                item.clear();
                continue;
            }
            _ => {}
        }
        item.push(c);
    }
    if !item.trim().is_empty() {
        expand(&prefix, &item, found);
    }
}

/// The paths of this crate that a file names.
fn paths(text: &str) -> Vec<String> {
    let text = code(text);
    // A file names the files that are modules of it by their names alone.
    let inner: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_suffix(';')?.split_once("mod ").map(|(_, name)| name))
        .collect();
    let is_own = |path: &str| {
        let first = path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
        ["crate", "super", "self"].contains(&first) || inner.contains(&first)
    };
    let mut found = Vec::new();
    let mut rest = String::new();
    for (i, statement) in text.split("use ").enumerate() {
        let Some((tree, behind)) = statement.split_once(';').filter(|_| i > 0) else {
            rest += statement;
            continue;
        };
        if is_own(tree) {
            expand("", tree, &mut found);
        }
        rest += behind;
    }
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    found.extend(
        rest.split(|c| !is_path(c)).filter(|word| word.contains("::") && is_own(word)).map(str::to_owned),
    );
    found
}

fn rust_graph(root: &Path) -> Graph {
    let sources = sources(root, ".rs");
    let resolve = |file: &str, path: &str| {
        let mut parts: Vec<&str> = path.split("::").collect();
        let mut base: Vec<&str> = file.split('/').filter(|part| !["lib", "main"].contains(part)).collect();
        if parts[0] == "crate" {
            base.clear();
            parts.remove(0);
        }
        while parts.first() == Some(&"super") {
            base.pop();
            parts.remove(0);
        }
        parts.retain(|part| *part != "self");
        base.extend(parts);
        let found =
            (1..=base.len()).rev().map(|n| base[..n].join("/")).find(|name| sources.contains_key(name));
        // A name that is no file is one of the crate's root.
        found.or_else(|| {
            ["lib", "main"].map(str::to_owned).into_iter().find(|root| sources.contains_key(root))
        })
    };
    sources
        .iter()
        .map(|(file, text)| {
            let named =
                paths(text).iter().filter_map(|path| resolve(file, path)).filter(|f| f != file).collect();
            (file.clone(), named)
        })
        .collect()
}

/// The modules that a package's files import when they are imported; what functions import later makes no circle.
fn python_graph(root: &Path) -> Graph {
    let sources = sources(root, ".py");
    let named = |text: &str| -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("from .") else { continue };
            let (module, names) = rest.split_once(" import ").unwrap();
            if module.is_empty() {
                found.extend(names.split(',').map(|name| name.trim().to_owned()));
            } else {
                found.insert(module.to_owned());
            }
        }
        found.into_iter().filter(|name| sources.contains_key(name)).collect()
    };
    sources.iter().map(|(file, text)| (file.clone(), named(text))).collect()
}

/// All that can be reached from a file.
fn reachable(graph: &Graph, file: &str) -> BTreeSet<String> {
    let (mut found, mut queue) = (BTreeSet::new(), vec![file.to_owned()]);
    while let Some(file) = queue.pop() {
        for next in &graph[&file] {
            if found.insert(next.clone()) {
                queue.push(next.clone());
            }
        }
    }
    found
}

/// The circles of a graph, and the floor of each file: how many stand below it at most, one on the other.
fn floors(graph: &Graph) -> (Vec<Vec<String>>, BTreeMap<String, usize>) {
    let reach: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|f| (f, reachable(graph, f))).collect();
    let circle = |file: &String| -> Vec<String> {
        reach[file].iter().filter(|other| reach[other].contains(file)).cloned().collect()
    };
    let circles: BTreeSet<Vec<String>> =
        graph.keys().map(circle).filter(|circle| !circle.is_empty()).collect();
    let mut floor: BTreeMap<String, usize> = BTreeMap::new();
    let mut left: Vec<&String> = graph.keys().collect();
    // Those with the least below them first: all that a file names is done before it, but for its own circle.
    left.sort_by_key(|file| reach[file].len());
    for file in left {
        let own = circle(file);
        let under = reach[file].iter().filter(|other| !own.contains(other) && *other != file);
        let height = under.filter_map(|other| floor.get(other)).max().map_or(0, |below| below + 1);
        floor.insert(file.clone(), height);
    }
    (circles.into_iter().collect(), floor)
}

/// The arrows that run up, by a table of the parts in their order.
fn upward(graph: &Graph, order: &str) -> Vec<String> {
    let order: Vec<&str> = order.split_whitespace().collect();
    let height = |file: &str| {
        let part = file.split('/').next().unwrap();
        order.iter().position(|known| *known == part).unwrap_or_else(|| panic!("{part} is not in the table"))
    };
    let arrows = graph.iter().flat_map(|(file, named)| named.iter().map(move |other| (file, other)));
    arrows
        .filter(|(file, other)| height(other) > height(file))
        .map(|(file, other)| format!("{file} names {other}"))
        .collect()
}

#[test]
fn no_file_names_what_stands_above_it() {
    for (name, order) in FLOORS {
        println!("{name}: {order}");
        let graph = rust_graph(&repository("crates").join(name).join("src"));
        assert_eq!(upward(&graph, order), Vec::<String>::new(), "in {name}");
    }
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    for entry in std::fs::read_dir(repository("crates")).unwrap().flatten() {
        let (circles, floor) = floors(&rust_graph(&entry.path().join("src")));
        println!("{}", entry.file_name().display());
        for height in 0..=floor.values().copied().max().unwrap_or(0) {
            let files: Vec<&str> =
                floor.iter().filter(|(_, h)| **h == height).map(|(f, _)| f.as_str()).collect();
            println!("  {height}: {}", files.join(" "));
        }
        assert!(circles.is_empty(), "in {}: {circles:?}", entry.path().display());
    }
    for package in ["crates/econtext-py/python/econtext", "crates/econtext/agent"] {
        let circles = floors(&python_graph(&repository(package))).0;
        assert!(circles.is_empty(), "in {package}: {circles:?}");
    }
}

#[test]
fn an_upward_use_is_found() {
    let root = econtext_testkit::files::tree(&[
        ("lib.rs", "mod low;\nmod high;\n"),
        ("low.rs", "pub fn f() {}\n"),
        ("high.rs", "use crate::{low::{self, f}, other};\n"),
        ("other.rs", "// use crate::high;\n#[cfg(test)]\nmod tests { use crate::high; }\n"),
    ]);
    let (circles, floor) = floors(&rust_graph(root.path()));
    assert!(circles.is_empty());
    assert!(floor["low"] < floor["high"] && floor["other"] < floor["high"]);
    let order = "low other high lib";
    assert!(upward(&rust_graph(root.path()), order).is_empty());
    for up in ["crate::high::g()", "crate::G", "super::high::g()"] {
        std::fs::write(root.path().join("low.rs"), format!("pub fn f() {{ {up} }}\n")).unwrap();
        assert_eq!(upward(&rust_graph(root.path()), order).len(), 1, "{up}");
    }
    std::fs::write(root.path().join("low.rs"), "pub fn f() { crate::high::g() }\n").unwrap();
    assert_eq!(floors(&rust_graph(root.path())).0, [["high", "low"]]);
    // A file and a module of its own.
    std::fs::create_dir(root.path().join("low")).unwrap();
    std::fs::write(root.path().join("low/inner.rs"), "use super::F;\n").unwrap();
    std::fs::write(root.path().join("low.rs"), "mod inner;\npub use inner::G;\npub struct F;\n").unwrap();
    assert_eq!(floors(&rust_graph(root.path())).0, [["low", "low/inner"]]);
}
