//! The handles that both sides know. The numbers are those of `core.py`.

use crate::value::Handle;

/// Controller: (logger, level, message, seconds since 1970), and the text of a traceback or `None`.
pub const FORWARD_LOG: Handle = Handle(100);
/// Controller: (reply handle, module name); answered with a module record or `None`.
pub const GET_MODULE: Handle = Handle(101);
/// Child: (reply handle, with context, module, class or `None`, function, args, kwargs); the dead sentinel shuts down.
pub const CALL_FUNCTION: Handle = Handle(102);
/// Child: a list of (name, kind, path, source in zlib or `None`, children or `None`), and names that are nowhere.
pub const PUSH_MODULE: Handle = Handle(103);
/// Controller: (1 or 2, bytes), the output that was written to that file descriptor in the child.
pub const STDIO: Handle = Handle(104);
/// Child: (reply handle of the call, seconds of grace before its process group is killed).
pub const CANCEL: Handle = Handle(105);
/// Controller: the child's first message: (Python version, pid, user).
pub const HELLO: Handle = Handle(106);
/// Controller: (reply handle, path, offset); answered with a directory, a piece of a file, or `None`.
pub const GET_FILE: Handle = Handle(107);
/// Controller: (reply handle, path, limit in bytes or 0); answered with (path, whether it begins, piece) for all files
/// below that fit, then `None`.
pub const GET_TREE: Handle = Handle(108);
/// Controller: the name of a top-level module that was pushed although the target has it too.
pub const HAVE: Handle = Handle(109);
/// Connecting back: the offer for the child; `None`, from each side, as the last on the old stream.
pub const BACK: Handle = Handle(113);
/// Child: the name of a module of ours with handlers of its own, which was pushed: it is run at once.
pub const LOAD: Handle = Handle(110);
/// Child: (handle, options): starts a process, whose messages go both ways on the handle. See `process.py`.
pub const START_PROCESS: Handle = Handle(111);
/// Child: (name, bytes, names): keeps the bytes under the name for its processes' input, and forgets the names listed.
pub const KEEP: Handle = Handle(112);
/// Child of a controller that is a Python program: a dict of definitions by their keys, kept for calls. See `values.py`.
pub const DEFINE: Handle = Handle(114);
/// All of them by name, as the agent and docs/protocol.md have them too.
pub const HANDLES: [(&str, Handle); 15] = [
    ("FORWARD_LOG", FORWARD_LOG),
    ("GET_MODULE", GET_MODULE),
    ("CALL_FUNCTION", CALL_FUNCTION),
    ("STDIO", STDIO),
    ("HELLO", HELLO),
    ("PUSH_MODULE", PUSH_MODULE),
    ("CANCEL", CANCEL),
    ("GET_FILE", GET_FILE),
    ("GET_TREE", GET_TREE),
    ("HAVE", HAVE),
    ("LOAD", LOAD),
    ("START_PROCESS", START_PROCESS),
    ("KEEP", KEEP),
    ("BACK", BACK),
    ("DEFINE", DEFINE),
];
/// The first handle that the controller allocates.
pub const FIRST_HANDLE: Handle = Handle(1000);
/// The first handle that the child allocates.
pub const FIRST_CHILD_HANDLE: Handle = Handle(1 << 30);
