//! Sets of hosts: expanded from ranges and set operators, and folded back.
//!
//! The grammar is that of clush, with ansible's colon in ranges: `web[01-20]`, `n[2-6/2]`, `dc[1-2]n[1,3,7-9]`, `web[01:20]`;
//! between elements `,` is union, `!` without, `&` intersection, `^` one or the other, from left to right.

use crate::inventory::Inventory;
use crate::range::{MAX_NAMES, elements, spelled_out};
use crate::spec_error::SpecError;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;

/// The hosts of a spec, in the order of their first appearance, each once. The element `-` reads
/// stdin.
///
/// # Errors
/// If the spec is invalid, or a group or file in it is.
///
/// ```
/// use econtext_fleet::{Inventory, expand};
/// assert_eq!(expand("n[8-10]!n9", &Inventory::default())?, ["n8", "n10"]);
/// # Ok::<(), econtext_fleet::SpecError>(())
/// ```
pub fn expand(spec: &str, inventory: &Inventory) -> Result<Vec<String>, SpecError> {
    expand_within(spec, inventory, &mut Vec::new())
}

/// Expands a spec that may stand in the files that are being read.
fn expand_within(
    spec: &str,
    inventory: &Inventory,
    reading: &mut Vec<PathBuf>,
) -> Result<Vec<String>, SpecError> {
    let mut found: Vec<String> = Vec::new();
    let mut known: HashSet<String> = HashSet::new();
    for (operator, element) in elements(spec)? {
        let names = names_of(&element, inventory, reading)?;
        if operator != ',' {
            let right: HashSet<&String> = names.iter().collect();
            found.retain(|name| right.contains(name) == (operator == '&'));
        }
        if matches!(operator, ',' | '^') {
            // Names that were on the left are not added again.
            let mut fresh = names;
            fresh.retain(|name| known.insert(name.clone()));
            found.extend(fresh);
        }
        if operator != ',' {
            known = found.iter().cloned().collect();
        }
        if found.len() > MAX_NAMES {
            return Err(SpecError(format!("{spec}: more than {MAX_NAMES} hosts")));
        }
    }
    Ok(found)
}

fn names_of(
    element: &str,
    inventory: &Inventory,
    reading: &mut Vec<PathBuf>,
) -> Result<Vec<String>, SpecError> {
    let list = |text: String, reading: &mut Vec<PathBuf>| -> Result<Vec<String>, SpecError> {
        let mut found = Vec::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            for word in line.split_whitespace() {
                found.extend(expand_within(word, inventory, reading)?);
            }
        }
        Ok(found)
    };
    if element == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|e| SpecError(format!("hosts from stdin: {e}")))?;
        return list(text, reading);
    }
    if let Some(file) = element.strip_prefix('^') {
        let text = std::fs::read_to_string(file).map_err(|e| SpecError(format!("{file}: {e}")))?;
        let path = std::fs::canonicalize(file).unwrap_or_else(|_| PathBuf::from(file));
        if reading.contains(&path) {
            return Err(SpecError(format!("{file}: it is within itself")));
        }
        reading.push(path);
        let names = list(text, reading);
        reading.pop();
        return names;
    }
    if let Some(group) = element.strip_prefix('@') {
        let mut found = Vec::new();
        for group in spelled_out(group)? {
            found.extend(inventory.members(&group)?);
        }
        return Ok(found);
    }
    spelled_out(element)
}

/// A name cut at its numbers: the texts around them, and the numbers as sets of digits of one width.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Part {
    Text(String),
    Numbers(BTreeSet<Digits>),
}

/// A number as it is written: in the order of value, then of width.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Digits(u64, usize);

fn cut(name: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        // The numbers of an address in brackets are no numbers of hosts.
        let address = rest.strip_prefix('[').and_then(|inside| Some(inside.find(']')? + 2));
        if let Some(end) = address {
            let (address, behind) = rest.split_at(end);
            parts.push(Part::Text(address.to_owned()));
            rest = behind;
            continue;
        }
        let digits = rest.starts_with(|c: char| c.is_ascii_digit());
        let ends = |(at, c): &(usize, char)| c.is_ascii_digit() != digits || *c == '[' && *at > 0;
        let end = rest.char_indices().find(ends).map_or(rest.len(), |(at, _)| at);
        let (part, behind) = rest.split_at(end);
        parts.push(match part.parse() {
            Ok(value) if digits && part.len() <= 18 => {
                Part::Numbers(BTreeSet::from([Digits(value, part.len())]))
            }
            _ => Part::Text(part.to_owned()),
        });
        rest = behind;
    }
    parts
}

/// The shortest spec that expands to these names: numbers in the same place become ranges, the last place first.
///
/// ```
/// assert_eq!(econtext_fleet::fold(&["web08", "web09", "db1", "web10"]), "web[08-10],db1");
/// ```
pub fn fold<S: AsRef<str>>(names: &[S]) -> String {
    let mut shapes: Vec<Vec<Part>> = names.iter().map(|name| cut(name.as_ref())).collect();
    let places = shapes.iter().map(Vec::len).max().unwrap_or(0);
    for place in (0..places).rev() {
        let mut groups: HashMap<Vec<Part>, usize> = HashMap::new();
        let mut merged: Vec<Vec<Part>> = Vec::new();
        for mut shape in shapes {
            let Some(Part::Numbers(numbers)) = shape.get_mut(place) else {
                merged.push(shape);
                continue;
            };
            let numbers = std::mem::take(numbers);
            let at = *groups.entry(shape.clone()).or_insert_with(|| {
                merged.push(shape);
                merged.len() - 1
            });
            if let Some(Part::Numbers(all)) = merged[at].get_mut(place) {
                all.extend(numbers);
            }
        }
        shapes = merged;
    }
    let mut seen = HashSet::new();
    shapes.retain(|shape| seen.insert(shape.clone()));
    shapes.iter().map(|shape| written(shape)).collect::<Vec<_>>().join(",")
}

fn written(shape: &[Part]) -> String {
    let mut out = String::new();
    for part in shape {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Numbers(numbers) if numbers.len() == 1 => {
                for Digits(n, width) in numbers {
                    let _ = write!(out, "{n:0width$}");
                }
            }
            Part::Numbers(numbers) => {
                let _ = write!(out, "[{}]", ranges(numbers));
            }
        }
    }
    out
}

/// The ranges of numbers, as in `01-20,25`: numbers of one padding stand together.
fn ranges(numbers: &BTreeSet<Digits>) -> String {
    let is_padded = |Digits(n, width): &Digits| *width > n.checked_ilog10().unwrap_or(0) as usize + 1;
    let widths: BTreeSet<usize> = numbers.iter().filter(|d| is_padded(d)).map(|d| d.1).collect();
    // A number that fills the width belongs to the padded ones, and so do longer ones if there is one padding only.
    let padding = |Digits(_, width): &Digits| match widths.first() {
        _ if widths.contains(width) => *width,
        Some(only) if widths.len() == 1 && width > only => *only,
        _ => 0,
    };
    let mut classes: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for digits in numbers {
        classes.entry(padding(digits)).or_default().push(digits.0);
    }
    let mut items = Vec::new();
    for (width, values) in classes {
        let mut at = 0;
        while at < values.len() {
            let mut end = at;
            while end + 1 < values.len() && values[end + 1] == values[end] + 1 {
                end += 1;
            }
            items.push(match end - at {
                0 => format!("{:0width$}", values[at]),
                _ => format!("{:0width$}-{:0width$}", values[at], values[end]),
            });
            at = end + 1;
        }
    }
    items.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(spec: &str) -> Result<Vec<String>, SpecError> {
        super::expand(spec, &Inventory::default())
    }

    #[test]
    fn specs_expand_as_clush_and_ansible_users_expect() {
        for (spec, expected) in [
            ("a", "a"),
            ("a,b,a", "a b"),
            ("web[01-03]", "web01 web02 web03"),
            ("web[08:11]", "web08 web09 web10 web11"),
            ("n[2-6/2]", "n2 n4 n6"),
            ("n[1,3,7-9]x", "n1x n3x n7x n8x n9x"),
            ("dc[1-2]n[1,3]", "dc1n1 dc1n3 dc2n1 dc2n3"),
            ("r[a-c]", "ra rb rc"),
            ("w[1:9:4]", "w1 w5 w9"),
            ("h[fe80::1%eth0]", "h[fe80::1%eth0]"),
            ("n[1-5]!n[2-3]", "n1 n4 n5"),
            ("n[1-5]&n[4-9]", "n4 n5"),
            ("n[1-3]^n[3-4]", "n1 n2 n4"),
            ("a, b ,c!b", "a c"),
            ("user@[::1]:22,me@n[1-2]:2222", "user@[::1]:22 me@n1:2222 me@n2:2222"),
            ("local:n[1-2]", "local:n1 local:n2"),
        ] {
            let expected: Vec<&str> = expected.split(' ').collect();
            assert_eq!(expand(spec).unwrap_or_else(|e| panic!("{spec}: {e}")), expected, "{spec}");
        }
        for bad in [
            "n[1-",
            "n1]",
            "n[5-1]",
            "n[]",
            "n[a-9]",
            "n[1-9/0]",
            "n[[1]]",
            "a!",
            "@web",
            "n[1-9999999]",
            "^/nonexistent",
        ] {
            assert!(expand(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_expanded_folds_back() {
        for spec in [
            "a",
            "a,b",
            "web[01-20]",
            "web[01-100]",
            "n[1-9,11]",
            "dc[1-2]n[1,3,7-9]",
            "a[1-3],b[1-3]",
            "rack[1-2]-node[001-010].example.com",
            "local:n[1-50]",
            "n[08-12]",
            "[fe80::1],[fe80::2]",
            "me@[fe80::1%eth0]:22",
        ] {
            assert_eq!(fold(&expand(spec).unwrap()), spec);
        }
        assert_eq!(fold(&["n1", "n01", "n2", "n02"]), "n[1-2,01-02]");
        assert_eq!(fold::<&str>(&[]), "");
    }

    #[test]
    fn a_hundred_thousand_irregular_names_fold_and_expand_to_themselves() {
        let names: Vec<String> =
            (0..100_000u64).map(|n| format!("h{}-{}x{}", n * 7919 % 10_007, n % 97, n * n % 1_009)).collect();
        let folded = fold(&names);
        let again: BTreeSet<String> = folded_names(&folded);
        assert_eq!(again, names.into_iter().collect());
    }

    fn folded_names(folded: &str) -> BTreeSet<String> {
        expand(folded).unwrap().into_iter().collect()
    }
}
