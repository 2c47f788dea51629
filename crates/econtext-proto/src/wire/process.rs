//! The kinds of messages about a process beside a child. The numbers are those of `process.py`.

/// From the child: (`STARTED`, process id).
pub const STARTED: i64 = 0;
/// From the child: (`OUTPUT`, number, bytes). 1 is stdout, 2 stderr, 3 the terminal beside them.
pub const OUTPUT: i64 = 1;
/// From the child: (`CREDIT`, bytes of input that it takes), or `None` in place of the number once it takes no more.
pub const CREDIT: i64 = 2;
/// From the child: (`EXIT`, exit status, or the negative number of a signal, or `None`).
pub const EXIT: i64 = 3;
/// From the child: (`FAILED`, errno or 0, text): the process was not started.
pub const FAILED: i64 = 4;
/// To the child: (`INPUT`, bytes).
pub const INPUT: i64 = 0;
/// To the child: (`INPUT_END`,).
pub const INPUT_END: i64 = 1;
/// To the child: (`GRANT`, bytes of output that it may send in addition).
pub const GRANT: i64 = 2;
/// To the child: (`SIGNAL`, number), for the process group.
pub const SIGNAL: i64 = 3;
/// To the child: (`RESIZE`, rows, columns) of the terminal.
pub const RESIZE: i64 = 4;
/// To the child: (`TYPE`, bytes), for the terminal beside its stdio.
pub const TYPE: i64 = 5;
/// To the child: (`REPEAT`, name), input that it was told to keep.
pub const REPEAT: i64 = 6;
/// The kinds from the child, as the agent has them too.
pub const FROM_CHILD: [(&str, i64); 5] =
    [("STARTED", STARTED), ("OUTPUT", OUTPUT), ("CREDIT", CREDIT), ("EXIT", EXIT), ("FAILED", FAILED)];
/// The kinds to the child, as the agent has them too.
pub const TO_CHILD: [(&str, i64); 7] = [
    ("INPUT", INPUT),
    ("INPUT_END", INPUT_END),
    ("GRANT", GRANT),
    ("SIGNAL", SIGNAL),
    ("RESIZE", RESIZE),
    ("TYPE", TYPE),
    ("REPEAT", REPEAT),
];
