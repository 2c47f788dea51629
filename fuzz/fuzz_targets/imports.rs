//! The import scanner and the minimiser take any bytes; minimised source has no more bytes or lines.
#![no_main]

use econtext_pysource::{imports, minimize, reachable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &[u8]| {
    for import in imports(source) {
        assert!(import.module.split('.').all(|part| part.is_empty() || !part.contains(['\n', ' '])));
    }
    let _ = reachable(source, "main");
    let small = minimize(source);
    assert!(small.len() <= source.len().max(1) + 1);
    let lines = |text: &[u8]| text.iter().filter(|b| matches!(**b, b'\n' | b'\r')).count();
    assert!(lines(&small) <= lines(source));
    // What is no Python may be read otherwise when it is shorter; it is not to grow again.
    assert!(minimize(&small).len() <= small.len() + 1);
});
