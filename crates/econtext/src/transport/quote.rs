//! Words for shells.

/// Joins words for any login shell: single quotes mean the same to sh, csh and fish.
pub fn shell_join<S: AsRef<str>>(words: &[S]) -> String {
    let mut line = String::new();
    for word in words {
        let word = word.as_ref();
        if !line.is_empty() {
            line.push(' ');
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "@%_+:,./-".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            line.push_str(word);
        } else {
            line.push('\'');
            // The `!` of csh has its meaning even between single quotes, and needs a backslash
            // there.
            line.push_str(&word.replace('\'', r"'\''"));
            line.push('\'');
        }
    }
    line
}
