//! The elements of a set of hosts, and the ranges of names in them: `web[01-20]`, `n[2-6/2]`, `dc[1-2]n[1,3,7-9]`, `web[01:20]`.

use crate::spec_error::SpecError;

/// The largest number of names that one spec may expand to.
pub(crate) const MAX_NAMES: usize = 1_000_000;

/// The names that ranges stand for: all combinations, the last range the fastest.
pub(crate) fn spelled_out(element: &str) -> Result<Vec<String>, SpecError> {
    let mut names = vec![String::new()];
    let mut rest = element;
    while let Some(open) = rest.find('[') {
        let (before, behind) = (&rest[..open], &rest[open + 1..]);
        let (inside, behind) =
            behind.split_once(']').ok_or_else(|| SpecError(format!("{element}: a [ without its ]")))?;
        rest = behind;
        let choices = if is_address(inside) { vec![format!("[{inside}]")] } else { range(element, inside)? };
        if names.len().saturating_mul(choices.len()) > MAX_NAMES {
            return Err(SpecError(format!("{element}: more than {MAX_NAMES} hosts")));
        }
        names =
            names.iter().flat_map(|name| choices.iter().map(move |c| format!("{name}{before}{c}"))).collect();
    }
    for name in &mut names {
        name.push_str(rest);
    }
    Ok(names)
}

/// Whether the text in brackets is an IPv6 address, maybe with a zone.
fn is_address(inside: &str) -> bool {
    inside.split('%').next().is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// The values of `01-20,25` or `2-6/2`, as they stand in names.
fn range(element: &str, text: &str) -> Result<Vec<String>, SpecError> {
    let bad = |why: &str| SpecError(format!("{element}: [{text}]: {why}"));
    let mut found = Vec::new();
    for item in text.split(',').map(str::trim) {
        let (span, step) = match item.split_once('/') {
            Some((span, step)) => {
                (span, step.parse().ok().filter(|n| *n > 0).ok_or_else(|| bad("no such step"))?)
            }
            None => (item, 1),
        };
        let (span, step) = match span.rsplit_once(':') {
            // The step is written as in ansible.
            Some((span, step)) if span.contains(':') => {
                (span, step.parse().ok().filter(|n| *n > 0).ok_or_else(|| bad("no such step"))?)
            }
            _ => (span, step),
        };
        let Some((first, last)) = span.split_once(['-', ':']) else {
            if span.is_empty() || !span.chars().all(char::is_alphanumeric) {
                return Err(bad("no number and no range"));
            }
            found.push(span.to_owned());
            continue;
        };
        if let (Some(first), Some(last)) = (letter(first), letter(last)) {
            found.extend((first..=last).step_by(step).map(|b| char::from(b).to_string()));
            continue;
        }
        let number = |text: &str| -> Result<u64, SpecError> {
            text.parse().ok().filter(|_| text.len() <= 18).ok_or_else(|| bad("no number"))
        };
        let (low, high) = (number(first)?, number(last)?);
        if low > high {
            return Err(bad("it ends before it begins"));
        }
        if (high - low) / step as u64 >= MAX_NAMES as u64 {
            return Err(bad("it is too long"));
        }
        let width = if first.starts_with('0') { first.len() } else { 0 };
        found.extend((low..=high).step_by(step).map(|n| format!("{n:0width$}")));
    }
    Ok(found)
}

fn letter(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [b] if b.is_ascii_alphabetic() => Some(*b),
        _ => None,
    }
}

/// The elements of a spec, each with the operator in front of it.
pub(crate) fn elements(spec: &str) -> Result<Vec<(char, String)>, SpecError> {
    let mut found = Vec::new();
    let (mut operator, mut element, mut depth) = (',', String::new(), 0);
    for c in spec.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            // A `^` before an element is the sign of a file.
            '^' if element.trim().is_empty() => {}
            ',' | '!' | '&' | '^' if depth == 0 => {
                if !element.trim().is_empty() {
                    found.push((operator, element.trim().to_owned()));
                } else if c != ',' && !found.is_empty() {
                    return Err(SpecError(format!("{spec}: nothing stands in front of {c}")));
                }
                (operator, element) = (c, String::new());
                continue;
            }
            _ => {}
        }
        if !(0..=1).contains(&depth) {
            return Err(SpecError(format!("{spec}: the brackets do not match")));
        }
        element.push(c);
    }
    if depth != 0 {
        return Err(SpecError(format!("{spec}: a [ without its ]")));
    }
    match element.trim() {
        "" if operator == ',' => {}
        "" => return Err(SpecError(format!("{spec}: nothing stands behind {operator}"))),
        element => found.push((operator, element.to_owned())),
    }
    Ok(found)
}

/// The elements of a list without operators, as inventories have them.
pub(crate) fn elements_of_union(list: &str) -> Result<Vec<String>, SpecError> {
    elements(list)?
        .into_iter()
        .map(|(operator, element)| match operator {
            ',' => Ok(element),
            _ => Err(SpecError(format!("{list}: an inventory has no {operator}"))),
        })
        .collect()
}
