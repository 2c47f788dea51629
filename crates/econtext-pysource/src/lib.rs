//! Reads Python source, of Python 2 and 3, without a Python.
//!
//! [`minimize`] is used by the build on the code that econtext sends to every child: comments and docstrings go,
//! line numbers stay, so that a traceback still points at the right line of the readable file.
//!
//! ```
//! let small = econtext_pysource::minimize(b"def f(x):  # doubles\n    'Doubles.'\n    return x * 2\n");
//! assert_eq!(small, b"def f(x):\n\n return x*2\n");
//! ```
//!
//! [`imports`] says which modules a module will need, so that they can be sent before it asks, and [`looks_beside`] whether
//! it needs files.
#![forbid(unsafe_code)]

mod beside;
mod imports;
mod lexer;
mod minimize;

pub use beside::looks_beside;
pub use imports::{Import, imports, reachable};
pub use lexer::{Lexer, Token, TokenKind};
pub use minimize::minimize;
