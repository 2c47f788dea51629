"""Served code in processes that multiprocessing starts. It is sent when those are started.

A spawned process and the forkserver are fresh Pythons. They get an importer of their own, which asks this process over
a socket; this process has what the controller sent, or asks it. Forks ask in the same way. Nothing is written to disk
where sockets may have abstract names; elsewhere the socket lies in a private directory.
"""
from __future__ import absolute_import

import atexit
import binascii
import os
import socket
import struct
import sys
import tempfile
import zlib

from econtext import core

# This program runs in front of the one that multiprocessing has put behind `-c`, and begins with our own core.
PROGRAM = """\
import socket, sys, zlib
if sys.path and not sys.path[0]: del sys.path[0]
def ask(question):
 s = socket.socket(socket.AF_UNIX)
 s.connect(%r)
 s.sendall(question)
 s.shutdown(1)
 parts = []
 while not parts or parts[-1]: parts.append(s.recv(65536))
 s.close()
 return zlib.decompress(b"".join(parts))
for name in "econtext", "econtext.core", "econtext.spawn": sys.modules[name] = type(sys)(name)
sys.modules["econtext"].core = sys.modules["econtext.core"]
for name in "core", "spawn": exec(compile(ask(name.encode()), name, "exec"), sys.modules["econtext." + name].__dict__)
sys.modules["econtext.spawn"].set_up(ask)
"""


def adapt(module):
    """Prepares multiprocessing for the processes that it will start."""
    from multiprocessing import util
    server = Server()
    util.register_after_fork(server, Server.after_fork)
    if not core.PY3:
        return  # it only forks
    if '__main__' not in sys.modules:
        __import__('__main__')  # multiprocessing wants to know its file
    original = util.spawnv_passfds

    def spawnv_passfds(path, args, passfds):
        """Starts a process as the original does, with PROGRAM in front of the code unless it is a tracker."""
        args = list(args)
        flags = [os.fsencode(arg) for arg in args]
        if b'-c' in flags and b'_tracker' not in flags[flags.index(b'-c') + 1]:
            at = flags.index(b'-c') + 1
            args[at] = server.program().encode() + flags[at]
        return original(path, args, passfds)

    util.spawnv_passfds = spawnv_passfds
    hooks = {'multiprocessing.pool': adapt_pool}
    if 'multiprocessing.pool' in sys.modules:
        adapt_pool(sys.modules['multiprocessing.pool'])
    else:
        sys.meta_path.insert(0, core.ImportHook(hooks))


def adapt_pool(pool):
    """Makes a pool give up whose workers all end before they take work. It would replace them for ever."""
    kind = pool.Pool
    original = kind._join_exited_workers
    failed = {}

    def join(first):
        """Joins ended workers as the original does, and ends the pool after too many failures of them."""
        # In Python 3.7 and older the arguments are the pool, then the list of its workers.
        workers = first._pool if isinstance(first, kind) else first
        statuses = [worker.exitcode for worker in workers if worker.exitcode not in (None, 0)]
        if statuses:
            failed[id(workers)] = failed.get(id(workers), 0) + len(statuses)
            if failed[id(workers)] > len(workers) + 2:
                import gc
                for found in gc.get_objects():
                    if isinstance(found, kind) and found._pool is workers:
                        give_up(found, statuses[-1])
        return original(first)

    kind._join_exited_workers = join if hasattr(kind, '_repopulate_pool_static') is False else staticmethod(join)


def give_up(pool, status):
    """Ends a pool whose workers end by themselves, and the work that waits for them."""
    error = RuntimeError('the workers of the pool end before they take any work, with status %s: stderr has their tracebacks' % status)
    for job in list(pool._cache.values()):
        for _ in range(1 << 20):
            if job._job not in pool._cache:
                break
            before = getattr(job, '_index', None)
            job._set(before or 0, (False, error))
            if before is not None:
                break  # an iterator: it raises, and there its work ends
    core.thread.start_new_thread(pool.terminate, ())


class Server(object):
    """Answers the processes that this one started."""

    def __init__(self):
        """Opens the socket and starts to accept questions."""
        self.listen()

    def listen(self):
        """Opens a socket of this process, and starts the thread that accepts connections."""
        self.pid = os.getpid()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.name())
        self.socket.listen(64)
        core.thread.start_new_thread(self.run, (self.socket,))

    def program(self):
        """Returns PROGRAM with the address of the socket; a fork opens a socket of its own before."""
        if self.pid != os.getpid():
            self.listen()  # a fork that starts processes of its own
        return PROGRAM % (self.socket.getsockname(),)

    def after_fork(self):
        """Makes a fork ask through its parent. A spawned process runs this too, and is not a fork."""
        if self.pid == os.getpid():
            return
        found = {}
        exec(PROGRAM.partition('for name')[0] % (self.socket.getsockname(),), found)
        core.child.context = core.child.importer.context = Context(found['ask'])

    def name(self):
        """Returns a fresh address for the socket: an abstract name on Linux, elsewhere a path in a new directory."""
        if sys.platform.startswith('linux'):
            return b'\0econtext-' + binascii.hexlify(os.urandom(12))
        directory = tempfile.mkdtemp(prefix='econtext-')
        path = os.path.join(directory, 'socket')

        def remove():
            """Removes the socket and its directory at exit."""
            os.unlink(path)
            os.rmdir(directory)

        atexit.register(remove)
        return path

    def run(self, listener):
        """Accepts connections until that fails, and answers each in a thread of its own."""
        while 1:
            try:
                connection = listener.accept()[0]
            except EnvironmentError:
                return
            core.thread.start_new_thread(self.answer, (connection,))

    def answer(self, connection):
        """Reads one question up to its end, sends the compressed answer, and closes the connection."""
        try:
            if is_ours(connection):
                parts = [b'']
                while len(parts) == 1 or parts[-1]:
                    parts.append(connection.recv(65536))
                connection.sendall(zlib.compress(reply(b''.join(parts)), 1))
        except EnvironmentError:
            pass  # the process is gone
        finally:
            connection.close()


def is_ours(connection):
    """Whether the other end is of our own user: all users may know the socket's name, but we serve our own only."""
    if not sys.platform.startswith('linux'):
        return True  # the socket is in a directory of ours
    SO_PEERCRED = getattr(socket, 'SO_PEERCRED', 17)  # Python 2 does not name it
    user = struct.unpack('3i', connection.getsockopt(socket.SOL_SOCKET, SO_PEERCRED, 12))[1]
    return user in (0, os.geteuid())


def reply(question):
    """The answer to one question: the name of a part of ours, or a pickle of the arguments of Context.ask()."""
    importer = core.child.importer
    if question in (b'core', b'spawn'):
        return importer.get_bytes('econtext.' + question.decode())
    question = core.loads(question)
    if question[0] == 'main':
        main = sys.modules['__main__']
        answer = getattr(main.__loader__, 'source', None), getattr(main, '__file__', None)
    elif question[0] == 'definitions':
        values = sys.modules.get('econtext.values')
        answer = values.snapshot() if values else []
    elif question[0] == core.GET_MODULE:
        record = importer.record(question[1])
        answer = record and (record.kind, record.path, record.source, record.children)
    elif question[0] == core.GET_TREE:
        from econtext import files
        answer = list(files.tree(*question[1:]))
    else:
        answer = core.child.context.ask(*question)
    return core.dumps(answer)


# -- in the started process

class Context(object):
    """Asks the process that started this one; every question has a connection of its own, so forks do no harm."""

    name = 'spawned'

    def __init__(self, ask):
        """Takes a function that sends the bytes of a question and returns those of the answer."""
        self.ask_bytes = ask

    def ask(self, *question):
        """Sends a question to the parent process and returns the value of the answer."""
        return core.loads(self.ask_bytes(core.dumps(question)))

    # A tree comes as one answer. These three make messages of it, as from a controller.

    def add_handle_cb(self, fn):
        """Returns the callback itself, which serves as the handle."""
        return fn

    def del_handle(self, fn):
        """Does nothing: add_handle_cb() registers nothing."""
        pass

    def send(self, handle, arguments):
        """Asks for a tree, then calls the callback with each file as one message, and with None at the end."""
        put = arguments[0]
        for path, data in self.ask(handle, *arguments[1:]):
            put((path, True, zlib.compress(data, 1)))
        put(None)


class Spawned(object):
    """The object that core.child is here."""

    def __init__(self, ask):
        """Creates a context and an importer that ask the parent process through `ask`."""
        self.context = Context(ask)
        self.importer = core.Importer(self.context)


def set_up(ask):
    """Gives a spawned process the importer, the import hooks and the definitions of its parent."""
    core.child = spawned = Spawned(ask)
    package = sys.modules['econtext']
    package.__path__, package.__loader__ = [], spawned.importer
    sys.meta_path.append(spawned.importer)
    sys.path_hooks.append(core.Entry)
    sys.path.append(core.ROOT[:-1])
    sys.meta_path.insert(0, core.ImportHook({
        'pkg_resources': core.adapt_by('files'),
        'distlib.resources': core.adapt_by('files'),
        'importlib._common': core.adapt_by('files'),
        'multiprocessing.popen_fork': core.adapt_by('spawn'),
        'multiprocessing.spawn': adapt_spawn,
        'multiprocessing.reduction': adapt_reduction,
    }))
    definitions = core.child.context.ask('definitions')
    if definitions:
        from econtext import values
        values.replay(definitions)


class Missing(object):
    """A stand-in for a function that is not available here: a call of it says why."""

    def __init__(self, error):
        """Takes the exception that a call is to raise."""
        self.error = error

    def __call__(self, *args, **kwargs):
        """Raises the exception, whatever the arguments are."""
        raise self.error


def adapt_reduction(reduction):
    """Makes work that cannot be read fail by itself, and not end the process, which would be started again."""
    class Unpickler(core.pickle.Unpickler):
        """An unpickler that puts a Missing in the place of a name that cannot be found."""

        def find_class(self, module, name):
            """Returns the object of that name, or a Missing with the reason."""
            try:
                return core.pickle.Unpickler.find_class(self, module, name)
            except (AttributeError, ImportError) as error:
                return Missing(error)

    def loads(data, **options):
        """Returns the value of a pickle, read by the Unpickler above."""
        import io
        return Unpickler(io.BytesIO(data), **options).load()

    reduction.ForkingPickler.loads = staticmethod(loads)



def adapt_spawn(spawn):
    """Keeps a served script from being run again by its path: it is not a file."""
    original = spawn._fixup_main_from_path

    def fixup(path):
        """Makes `__main__` from the parent's source if the path is served; else calls the original."""
        if not path.startswith(core.ROOT):
            return original(path)
        source, path = core.child.context.ask('main')
        main = type(sys)('__mp_main__')
        main.__file__ = path
        sys.modules['__main__'] = sys.modules['__mp_main__'] = main
        if source is not None:
            exec(compile(source, path, 'exec', 0, True), main.__dict__)

    spawn._fixup_main_from_path = fixup
