//! The import scanner and the minimiser take any bytes; minimised source has no more lines.
#![no_main]

use econtext_pysource::{imports, minimize, reachable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &[u8]| {
    for import in imports(source) {
        assert!(import.module.split('.').all(|part| part.is_empty() || !part.contains(['\n', ' '])));
    }
    let _ = reachable(source, "main");
    let small = minimize(source);
    // A space may come between what Python would read without one.
    assert!(small.len() <= 2 * source.len() + 2);
    let lines = |text: &[u8]| text.iter().filter(|b| matches!(**b, b'\n' | b'\r')).count();
    assert!(lines(&small) <= lines(source));
});
