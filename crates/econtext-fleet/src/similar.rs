//! Names that were probably meant.

/// The name most like `wanted`, if it is like enough to have been meant: an edit or two away.
///
/// ```
/// assert_eq!(econtext_fleet::closest("web1", ["db1", "web01"]), Some("web01"));
/// assert_eq!(econtext_fleet::closest("mail", ["db1", "web01"]), None);
/// ```
pub fn closest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = match wanted.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    let near = known.into_iter().filter(|name| name.len().abs_diff(wanted.len()) <= 2 * allowed);
    let best = near.map(|name| (distance(wanted, name), name)).min()?;
    (1..=allowed).contains(&best.0).then_some(best.1)
}

/// The number of characters to insert, remove, replace or swap with the next (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_one_edit() {
        for (a, b) in [("web01", "wbe01"), ("web01", "web0"), ("web01", "web02"), ("", "a")] {
            assert_eq!(distance(a, b), 1, "{a} {b}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(closest("web01", ["web01"]), None, "it is the name itself");
        assert_eq!(closest("wbe", ["web", "db"]), Some("web"));
    }
}
