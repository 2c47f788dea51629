//! The import scanner and the minimiser take any bytes; minimised source has the same lines and is minimal already.
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
    let lines = |text: &[u8]| text.iter().filter(|b| **b == b'\n').count();
    assert!(lines(&small) <= lines(source));
    assert_eq!(minimize(&small), small, "there is nothing left to take away");
});
