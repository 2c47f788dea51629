//! The kinds of messages of a transfer, in both directions. The numbers are those of `transfer.py`.

/// (`DIRECTORY`, name, metadata).
pub const DIRECTORY: i64 = 0;
/// (`LINK`, name, target).
pub const LINK: i64 = 1;
/// (`FILE`, name, size, offset, metadata) to the child; (`FILE`, size, offset) from it. Data follows.
pub const FILE: i64 = 2;
/// (`DATA`, bytes).
pub const DATA: i64 = 3;
/// (`HOLE`, bytes of zeros).
pub const HOLE: i64 = 4;
/// (`END`, SHA-1 of the whole).
pub const END: i64 = 5;
/// (`SKIP`, name, metadata) to the child; (`SKIP`,) from it: the file is there already.
pub const SKIP: i64 = 6;
/// The kinds, as the agent has them too.
pub const KINDS: [(&str, i64); 7] = [
    ("DIRECTORY", DIRECTORY),
    ("LINK", LINK),
    ("FILE", FILE),
    ("DATA", DATA),
    ("HOLE", HOLE),
    ("END", END),
    ("SKIP", SKIP),
];
