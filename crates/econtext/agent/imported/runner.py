"""Runs a program here as `python FILE`, `python -c CODE` and `python -m MODULE` would. It is sent on first use."""
from __future__ import absolute_import

import atexit
import os
import sys

from econtext import core


class Source(object):
    """The loader of the program: tracebacks and inspect ask it for the text."""

    def __init__(self, source):
        """Takes the source of the program as bytes."""
        self.source = source

    def get_source(self, name):
        """Returns the source as text, or as bytes on Python 2; `name` has no effect."""
        if not core.PY3:
            return self.source
        from importlib.util import decode_source
        return decode_source(self.source)


def run(kind, name, source, argv, stdin, items, credit, env):
    """Runs the program and returns (exit status, value of -c's last expression). If that is a generator, its items
    go to the channel `items`.

    `stdin` is a channel of chunks; each is acknowledged with its size once it is written, so that no more than a
    window of it is ever in memory here. An exception of the program is raised.
    """
    feed(stdin)
    (os.environb if core.PY3 else os.environ).update(env)
    if core.PY3:
        # The arguments are decoded as Python decodes its own, in any encoding.
        name, argv = name.decode('utf-8', 'surrogateescape'), [word.decode('utf-8', 'surrogateescape') for word in argv]
    sys.argv[:] = argv
    status, value = 0, None
    try:
        try:
            value = execute(kind, name, source)
            if hasattr(type(value), 'gi_frame'):
                from econtext import stream
                value = stream.drain(value, items, credit)
        finally:
            finish()
    except SystemExit:
        status = exit_status(sys.exc_info()[1].code)
    return status, value


def set_up(env, directory, nice, limits):
    """Sets up the environment, working directory, niceness and limits of programs and commands here."""
    (os.environb if core.PY3 else os.environ).update(env)
    if directory is not None:
        os.chdir(directory)
    if nice is not None:
        core.child.niceness = os.nice(nice)  # of this thread only, on Linux: processes are told
    for name, value in limits:
        set_limit(name, value)


def set_limit(name, value):
    """Sets a limit as `prepare` of process.py does. That cannot import this; code in core.py would be sent to every child."""
    import resource
    limit = getattr(resource, 'RLIMIT_' + name.upper())
    hard = resource.getrlimit(limit)[1]
    if value < 0:
        value = hard = resource.RLIM_INFINITY if os.geteuid() == 0 else hard
    elif hard != resource.RLIM_INFINITY and os.geteuid() == 0:
        hard = max(value, hard)
    resource.setrlimit(limit, (value, hard))


def execute(kind, name, source):
    """Runs the program as `__main__`, and returns the value of the last expression of -c; else None."""
    if kind == 'm':
        if not core.PY3 and core.child.importer.find_module(name):
            return execute_served(name, core.child.importer)
        import runpy
        runpy.run_module(name, None, '__main__', True)
        return
    main = sys.modules['__main__'] = type(sys)('__main__')
    main.__builtins__ = sys.modules['builtins' if core.PY3 else '__builtin__']
    main.__loader__ = Source(source)
    path = '<string>'
    if kind == 'file':
        main.__file__ = path = core.ROOT + name
        exec(core.compile_for_here(source, path), main.__dict__)
        return
    import ast
    tree = core.compile_for_here(source, path, ast.PyCF_ONLY_AST)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, path, 'exec', 0, True), main.__dict__)
    if last:
        return eval(compile(ast.Expression(last.value), path, 'eval', 0, True), main.__dict__)


def execute_served(name, importer):
    """Runs a module of a package. runpy of Python 2 cannot: it does not ask sys.meta_path for those."""
    if importer.is_package(name):
        name += '.__main__'
    package = name.rpartition('.')[0]
    if package:
        __import__(package, None, None, [], 0)
    if not importer.find_module(name):
        raise ImportError('No module named ' + name)
    main = sys.modules['__main__'] = type(sys)('__main__')
    main.__loader__, main.__package__ = Source(importer.get_source(name)), package
    main.__file__ = sys.argv[0] = importer.get_filename(name)
    exec(importer.get_code(name), main.__dict__)


def feed(channel):
    """Makes file descriptor 0 a pipe that is fed from the channel."""
    r, w = os.pipe()
    os.dup2(r, 0)
    os.close(r)
    core.no_inherit(w)
    if core.PY3:
        sys.stdin.close()
    # The error handler is Python's own: undecodable input must not end the program.
    sys.stdin = sys.__stdin__ = open(0, errors='surrogateescape', closefd=False) if core.PY3 else os.fdopen(0)

    def pump():
        """Writes each chunk to the pipe, then acknowledges its size, until the channel or the pipe is closed."""
        try:
            for chunk in channel:
                core.write_all(w, chunk)
                channel.send(len(chunk))
        except (OSError, core.ChannelError):
            pass  # the program does not read its input
        os.close(w)

    core.thread.start_new_thread(pump, ())


def finish():
    """Does what Python does at the end of a program: waits for threads, runs the atexit functions."""
    threading = sys.modules.get('threading')
    if threading:
        threading._shutdown()
        threading._shutdown = lambda: None  # the interpreter will call it too, which not every version allows
    ours = core.child.at_exit
    if core.PY3:
        atexit.unregister(ours)
    else:
        atexit._exithandlers[:] = [h for h in atexit._exithandlers if h[0] != ours]
    try:
        atexit._run_exitfuncs()
    finally:
        atexit.register(ours)


def exit_status(code):
    """Returns the exit status for the argument of SystemExit, and writes one that is no number to stderr."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 255
    sys.stderr.write('%s\n' % (code,))
    return 1
