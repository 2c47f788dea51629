"""The child's half of econtext: the only Python that is always sent.

The first stage feeds this file to a fresh interpreter, with one line behind it that calls `ExternalContext().main()`.
It runs on Python 2.7 and 3.6 to 3.14, uses the standard library only, and writes nothing to disk. A module that start-up
does not need is not imported: a bare Python starts in 10 ms and `logging` alone would add as much again.

Threads. The main thread runs the calls. The broker thread owns IO while a call runs; while the main thread is idle it
reads the stream by itself (it leads), which saves a hand-off per call. `Stream.reading` is held by the reader.
"""
from __future__ import absolute_import

import sys

if __name__ == '__main__' and sys.path and not sys.path[0]:
    del sys.path[0]  # a zlib.py in the working directory is not the one that is meant

import errno
import fcntl
import io
import os
import select
import struct
import time
import zlib

try:
    from _sha1 import sha1
except ImportError:
    from hashlib import sha1

PY3 = sys.version_info > (3,)
if PY3:
    import _pickle as pickle
    import _signal as signal
    import _thread as thread
    from _frozen_importlib import ModuleSpec
    from _operator import _compare_digest as same
    long, text = int, str
    NotFound = ModuleNotFoundError
else:
    import cPickle as pickle
    import imp
    import signal
    import thread
    from operator import _compare_digest as same
    long, text = long, unicode
    NotFound = ImportError

__name__ = 'econtext.core'  # for the classes below; main() makes it true

# Handles. The controller listens on the first row, the child on the second.
FORWARD_LOG, GET_MODULE, STDIO, HELLO, GET_FILE, GET_TREE, HAVE = 100, 101, 104, 106, 107, 108, 109
CALL_FUNCTION, PUSH_MODULE, CANCEL, LOAD, START_PROCESS, KEEP = 102, 103, 105, 110, 111, 112
FIRST_HANDLE = 1 << 30  # the child's own; the controller's start at 1000

# Kinds of module that the controller may have.
MODULE, PACKAGE, NAMESPACE, COMPILED, REFUSED = range(5)

ROOT = '/<econtext>/'  # the place of served modules in their __file__; there is no such directory
READ = 1  # EPOLLIN and POLLIN


class Dead(object):
    """The type of `_DEAD`, which ends a channel."""

    def __reduce__(self):
        """Returns the name of the global, so that a pickle refers to the one object `_DEAD`."""
        return '_DEAD'

    def __repr__(self):
        """Returns a fixed text for logs and error messages."""
        return '<Dead>'


_DEAD = Dead()


class ChannelError(Exception):
    """The channel is closed, or nothing came in time."""


class CallError(Exception):
    """An exception of user code, as plain values.

    Its args are (module, type name, message, plain arguments, traceback text, frames, cause, attributes, exceptions): frames are
    (file, line, function, source line), the cause is another such tuple or None, the exceptions of a group are more of them.
    """

    def __reduce__(self):
        """Returns the class and the args only, which are plain values."""
        return CallError, self.args


def past_own(tb):
    """The first frame that is not ours: our own are of no use to the user."""
    while tb and str(tb.tb_frame.f_globals.get('__name__')).startswith('econtext.'):
        tb = tb.tb_next
    return tb


def advice(text):
    """Says what to do about a path below ROOT in a text; empty if there is none."""
    _, root, path = text.partition(ROOT)
    package, slash, _ = path.partition('/')
    return root and ' (in memory only; econtext --spool %s makes files of a package)' % (slash and package or 'PACKAGE')


def describe(exc, tb, depth=0):
    """The args of the CallError for one exception and, through its cause or context, for those behind it."""
    kind = type(exc)
    tb = at = past_own(tb)
    while at:
        try:
            at.tb_next = past_own(at.tb_next)
        except (AttributeError, TypeError):
            pass  # before Python 3.7
        at = at.tb_next
    try:
        message = text(exc)
    except BaseException:
        try:
            message = bytes(exc).decode('utf-8', 'replace')
        except BaseException:
            message = '<%s whose str() raised>' % kind.__name__
    note = ''
    if not isinstance(exc, (ImportError, SyntaxError)):  # whose text may have the path of a module
        note = advice(message + str(getattr(exc, 'filename', '')))
        if note in message:  # it says so by itself
            note = ''
    message += note
    try:
        # Only `__reduce__` gives the file names of an OSError.
        arguments = EnvironmentError.__reduce__(exc)[1] if isinstance(exc, EnvironmentError) else exc.args
        arguments = tuple(plain(a, '') for a in arguments)
        if len(dumps(arguments)) > 65536:
            arguments = ()
    except BaseException:
        arguments = ()
    state, group = {}, ()
    for name in list(getattr(exc, '__dict__', ())) + ['name', 'path']:
        try:
            state[name] = plain(getattr(exc, name), '')
        except BaseException:
            pass  # it cannot be sent, or is missing
    try:
        if len(dumps(state)) > 1 << 20:
            state = {}
        if depth < 16 and 'BaseExceptionGroup' in [base.__name__ for base in kind.__mro__]:
            group = [describe(e, e.__traceback__, depth + 1) for e in exc.exceptions[:1000]]
            arguments = text(exc.message),
    except BaseException:
        state = {}
    lines, frames = '', []
    try:
        import linecache
        import traceback
        if not depth:
            lines = ''.join(traceback.format_exception(kind, exc, tb))
            if note:
                lines = lines.rstrip('\n') + note + '\n'
        while tb and len(frames) < 200:
            code = tb.tb_frame.f_code
            source = linecache.getline(code.co_filename, tb.tb_lineno, tb.tb_frame.f_globals)
            frames.append((code.co_filename, tb.tb_lineno, code.co_name, source.strip()))
            tb = past_own(tb.tb_next)
    except BaseException:
        lines = lines or '(no traceback: %r)' % (sys.exc_info()[1],)
    cause = getattr(exc, '__cause__', None)
    if cause is None and not getattr(exc, '__suppress_context__', True):
        cause = exc.__context__
    if cause is not None:
        cause = describe(cause, cause.__traceback__, depth + 1) if depth < 16 else None
    limit = CallError.limit
    if isinstance(lines, bytes):
        lines = lines.decode('utf-8', 'replace')
    return (kind.__module__, getattr(kind, '__qualname__', kind.__name__), message[:limit], arguments, lines[:limit],
            frames, cause, state, group)


CallError.limit = 4 << 20  # characters of a message or traceback that are sent


# -- values

PLAIN = bytes, text, bool, int, long, float, complex


def plain(value, where, parents=()):
    """A copy of `value` in plain types only. A TypeError or ValueError names the place that cannot be sent.

    Instances of subclasses become their base: a namedtuple a tuple, an IntEnum an int, an OrderedDict a dict. A
    controller that is a Python program gets more than that: see rich.py.
    """
    kind = type(value)
    if value is None or value is _DEAD or kind in PLAIN or kind is CallError:
        return value
    if id(value) in parents:
        raise ValueError('%s refers to itself' % where)
    if len(parents) > 250:
        raise ValueError('%s is nested more than 250 deep' % where[:40])
    parents += (id(value),)
    if child.rich:
        rich = child.rich(value, where, parents)
        if rich:
            return rich
    for base in bytes, text, int, long, float:
        if issubclass(kind, base):
            return base.__getnewargs__(value)[0]
    if kind is bytearray or kind is memoryview:
        return bytes(value) if kind is bytearray else value.tobytes()
    if issubclass(kind, dict):
        return dict((plain(k, '%s key %.80r' % (where, k), parents), plain(v, '%s[%.80r]' % (where, k), parents))
                    for k, v in dict.items(value))
    for base in (list, tuple, set, frozenset):
        if issubclass(kind, base):
            return base([plain(v, '%s[%d]' % (where, i) if base in (list, tuple) else '%s item %.80r' % (where, v), parents)
                         for i, v in enumerate(base.__iter__(value))])
    raise TypeError('%s is a %s.%s, which cannot be sent' % (where, kind.__module__, getattr(kind, '__qualname__', kind.__name__)))


def check(self, value):
    """The hook that the pickler calls for all but plain values (before Python 3.8: for all values)."""
    if type(value) not in SENDABLE and id(value) not in CONSTRUCTORS:  # a comparison of it may give any answer
        raise TypeError(type(value))
    return ELSEWHERE


SENDABLE = set(PLAIN + (type(None), list, tuple, dict, set, frozenset, Dead, CallError))
CONSTRUCTORS = set(map(id, (set, frozenset, complex, CallError)))  # the callables in pickles of some of those
if sys.version_info >= (3, 8):
    ELSEWHERE = NotImplemented  # "pickle it as you would have"

    class Pickler(pickle.Pickler):
        """A pickler that calls `check` for all but plain values."""

        reducer_override = check
else:
    ELSEWHERE = None  # "it has no persistent id"

    def Pickler(out, protocol):
        """Returns a pickler that calls `check` for each value."""
        pickler = pickle.Pickler(out, protocol)
        pickler.persistent_id = lambda value: check(None, value)
        return pickler


def dumps(value):
    """`value` as a pickle of plain values only; raises for any other. Protocol 3 is 2 with bytes."""
    out = io.BytesIO()
    Pickler(out, 3 if PY3 else 2).dump(value)
    return out.getvalue()


def loads(data):
    """The value of a pickle. The controller's BINSTRING is `str` to Python 2 and, read in this way, `bytes` to Python 3."""
    return pickle.loads(data, encoding='bytes') if PY3 else pickle.loads(data)


# -- the stream

class Mac(object):
    """HMAC-SHA1 (RFC 2104) with its two keyed states kept."""

    def __init__(self, key):
        """Derives the two padded keys from `key`, which has at most 64 bytes."""
        key = bytearray(key.ljust(64, b'\0'))
        self.pads = [bytes(bytearray(b ^ pad for b in key)) for pad in (0x36, 0x5c)]
        self.use(sha1)

    def use(self, sha1):
        """Sets the SHA-1 implementation, and computes the keyed states with it."""
        self.inner, self.outer = [sha1(pad) for pad in self.pads]

    def digest(self, head, data):
        """Returns the 20 bytes of the HMAC of `head` followed by `data`."""
        inner = self.inner.copy()
        inner.update(head)
        inner.update(data)
        outer = self.outer.copy()
        outer.update(inner.digest())
        return outer.digest()


def write_all(fd, data):
    """Writes the whole of `data`, waiting where `fd` is full and non-blocking."""
    data = memoryview(data)
    while len(data):
        try:
            data = data[os.write(fd, data):]
        except OSError as e:
            if e.errno == errno.EAGAIN:
                select.select([], [fd], [])
            elif e.errno != errno.EINTR:
                raise


def read_some(fd, size):
    """The bytes that can be read from `fd`, at least one; b'' at its end."""
    while 1:
        try:
            return os.read(fd, size)
        except OSError as e:
            if e.errno == errno.EAGAIN:
                select.select([fd], [], [])
            elif e.errno == errno.EIO:
                return b''  # the other side of a terminal is gone
            elif e.errno != errno.EINTR:
                raise


def no_inherit(fd):
    """Sets the close-on-exec flag of a file descriptor, and returns the descriptor."""
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return fd


class Stream(object):
    """The framed, authenticated connection to the parent.

    A frame is HMAC(counter || length || data), length, data; the counter is not sent. Each direction has its own key.
    """

    def __init__(self, rfd, wfd, key, limit):
        """Starts both directions at frame 0, with keys derived from `key`; `limit` is in bytes per message."""
        self.rfd, self.wfd, self.limit, self.pid = rfd, wfd, limit, os.getpid()
        master = Mac(key)
        self.send_mac = Mac(master.digest(b'', b'child'))
        self.receive_mac = Mac(master.digest(b'', b'controller'))
        self.sent = self.received = 0
        self.parts, self.have, self.need = [], 0, 24
        self.reading = thread.allocate_lock()
        self.writing = thread.allocate_lock()
        self.writer, self.deferred = None, []
        self.interrupted = False
        self.handlers = {}

    def hurry(self):
        """Switches to OpenSSL for megabytes: its SHA-1 is up to seven times as fast, where it is there and allowed.

        Python 2 has one lock for all imports; its holder may be waiting for a message that the other thread reads.
        """
        if PY3 or thread.get_ident() == child.main_thread:
            self.hurry = lambda: None
            child.importer.records['_hashlib'] = None  # no answer could come while this thread is the reader
            try:
                from _hashlib import openssl_sha1
                self.send_mac.use(openssl_sha1)
                self.receive_mac.use(openssl_sha1)
            except (ImportError, ValueError):
                pass

    def send(self, handle, value):
        """Sends one message. On an exception of dumps() nothing was sent."""
        data = dumps((handle, value))
        if len(data) > 1 << 20:
            self.hurry()
        if len(data) > self.limit:
            raise ValueError('%d bytes are over the limit of %d for one message' % (len(data), self.limit))
        if os.getpid() != self.pid:
            return  # this is a fork of user code: the stream is not its own
        me = thread.get_ident()
        if self.writer == me:
            return self.deferred.append((handle, value))  # this is a signal handler or __del__ in the middle of a frame
        with self.writing:
            self.writer = me
            head = struct.pack('>QL', self.sent, len(data))
            self.sent += 1
            mac = self.send_mac.digest(head, data) + head[8:]
            try:
                if len(data) < 65536:
                    write_all(self.wfd, mac + data)
                else:
                    write_all(self.wfd, mac)
                    write_all(self.wfd, data)
            except (OSError, ValueError):
                end(9)
            self.writer = None
        while self.deferred:
            self.send(*self.deferred.pop(0))
        if self.interrupted and me == child.main_thread:
            self.interrupted = False
            raise KeyboardInterrupt

    def receive(self):
        """Reads once and delivers every frame that is now whole. The caller holds `reading`."""
        chunk = read_some(self.rfd, min(max(65536, self.need - self.have), 1 << 20))
        if not chunk:
            end(9)
        self.parts.append(chunk)
        self.have += len(chunk)
        if self.have < self.need:
            return
        chunk = b''.join(self.parts)
        at, size, self.need = 0, len(chunk), 24
        while size - at >= 24:
            length, = struct.unpack_from('>L', chunk, at + 20)
            stop = at + 24 + length
            if length > self.limit:
                end(9, 'frame of %d bytes' % length)
            if stop > size:
                self.need = stop - at
                if length > 1 << 20:
                    self.hurry()
                break
            data = chunk[at + 24:stop]
            if not same(self.receive_mac.digest(struct.pack('>QL', self.received, length), data), chunk[at:at + 20]):
                end(9, 'bad MAC on frame %d' % self.received)
            self.received += 1
            at = stop
            self.deliver(data)
        self.parts, self.have = [chunk[at:]], size - at

    def deliver(self, data):
        """Gives one message to its handler. An exception there is logged, for the next message must get through."""
        handle = None
        try:
            handle, value = loads(data)
            handler = self.handlers.get(handle)
            if handler:
                return handler(value)
            if handle < 1000 and value is not _DEAD:  # others may have ended meanwhile
                self.send(FORWARD_LOG, ('econtext', 30, 'message for unknown handle %r' % (handle,), 0))
        except Exception:
            self.send(FORWARD_LOG, ('econtext', 40, 'message for handle %r: %r' % (handle, sys.exc_info()[1]), 0))


class Broker(object):
    """The IO thread: calls a function when a file descriptor can be read."""

    def __init__(self):
        """Creates the poller: epoll where the system has it, else poll() and a pipe that interrupts it."""
        self.callbacks = {}
        self.timers = []
        self.leads = hasattr(select, 'epoll')
        if self.leads:
            self.poller = select.epoll()
            no_inherit(self.poller.fileno())
        else:
            # A poll() in progress does not see a changed set, so it is woken.
            self.poller = select.poll()
            wake, self.waker = os.pipe()
            no_inherit(self.waker)
            self.start_receive(no_inherit(wake), lambda: os.read(wake, 512))

    def start_receive(self, fd, callback, mask=READ):
        """Calls callback() whenever `fd` is ready for the events in `mask`."""
        self.callbacks[fd] = callback
        self.poller.register(fd, mask)
        self.wake()

    def stop_receive(self, fd):
        """Removes the callback of `fd`; does nothing if there is none."""
        if self.callbacks.pop(fd, None):
            self.poller.unregister(fd)

    def watch(self, fd, mask):
        """Changes the events that a registered `fd` is polled for; a `mask` of 0 suspends it."""
        self.poller.modify(fd, mask)
        self.wake()

    def wake(self):
        """Interrupts a poll() in progress, so that it sees a changed set; epoll needs no such thing."""
        if not self.leads and hasattr(self, 'waker'):
            os.write(self.waker, b'.')

    def run(self):
        """Polls for ever, and calls the callbacks of ready files and, at least every 0.5 seconds, the timers."""
        while 1:
            try:
                for fd, _ in self.poller.poll(0.5 if self.timers and self.leads else 500 if self.timers else -1):
                    callback = self.callbacks.get(fd)
                    if callback:
                        callback()
                for timer in self.timers[:]:  # each returns whether it is done
                    if timer():
                        self.timers.remove(timer)
            except EnvironmentError as e:
                if e.errno != errno.EINTR:
                    raise
            except select.error as e:
                if e.args[0] != errno.EINTR:
                    raise


def end(status, why=None):
    """Ends this process, its process group and all that runs in it. Any thread may call it."""
    if why:
        try:
            os.write(child.stderr, ('econtext: %s\n' % why).encode())
        except OSError:
            pass
    if os.getpid() == child.pid:
        for function in child.at_end:
            function()
        os.killpg(0, 9)
    os._exit(status)


class Queue(object):
    """A queue that other threads put into and one takes from, without the weight of the threading module."""

    def __init__(self):
        """Creates an empty queue; the lock `ready` is held while there is nothing to take."""
        self.items = []
        self.ready = thread.allocate_lock()
        self.ready.acquire()

    def put(self, item):
        """Appends an item and wakes the thread that waits in get()."""
        self.items.append(item)
        try:
            self.ready.release()
        except (RuntimeError, thread.error):
            pass  # it was ready already

    def get(self, timeout=None):
        """The oldest item; ChannelError after `timeout` seconds."""
        while not self.items:
            if timeout is None:
                self.ready.acquire()
            elif PY3:
                if not self.ready.acquire(True, timeout) and not self.items:
                    raise ChannelError('timeout')
            else:
                stop = time.time() + timeout
                while not self.ready.acquire(0):
                    if time.time() > stop:
                        raise ChannelError('timeout')
                    time.sleep(.005)
        return self.items.pop(0)


class Context(object):
    """The controller, as user code here sees it. A call that is made with a context gets it as its first argument."""

    def __init__(self, name, stream):
        """Takes the name of this child, as the controller knows it, and the stream to the controller."""
        self.name, self.stream, self.last = name, stream, FIRST_HANDLE

    def send(self, handle, value):
        """Sends `value` to the controller's receiver at `handle`."""
        try:
            self.stream.send(handle, value)
        except (TypeError, RuntimeError, pickle.PicklingError, ValueError):
            self.stream.send(handle, plain(value, 'value'))

    def add_handle_cb(self, fn, handle=None):
        """Calls fn(value), on the thread that reads, for each message at `handle`; without one, at a new handle."""
        if handle is None:
            self.last += 1
            handle = self.last
        self.stream.handlers[handle] = fn
        return handle

    def del_handle(self, handle):
        """Removes the receiver at `handle`; does nothing if there is none."""
        self.stream.handlers.pop(handle, None)

    def ask(self, handle, *args):
        """Sends (reply handle,) + args to `handle` and waits for the answer."""
        if os.getpid() != self.stream.pid:
            raise ImportError('a fork cannot ask the controller for %r' % (args[0],))
        replies = Queue()
        reply_to = self.add_handle_cb(replies.put)
        try:
            self.stream.send(handle, (reply_to,) + args)
            return replies.get()
        finally:
            self.del_handle(reply_to)

    def __repr__(self):
        """Returns the class and the name of the child."""
        return 'Context(%r)' % self.name


class Channel(object):
    """A channel: ordered messages on one handle, in both directions, until each side has closed it.

    A channel of the controller arrives as an argument of a call; iterating over it ends when it is closed there. This
    side is closed when no reference to it is left here, at the latest.
    """

    def __init__(self, handle):
        """Registers a queue as the receiver at `handle`, which is the same number on both sides."""
        self.context, self.handle = child.context, handle
        self.queue, self.ended, self.closed = Queue(), False, False
        self.context.add_handle_cb(self.queue.put, handle)

    def send(self, value):
        """Sends one value to the other side; raises ChannelError once this side is closed."""
        if self.closed:
            raise ChannelError('closed')
        self.context.send(self.handle, value)

    def receive(self, timeout=None):
        """The next value. Raises ChannelError when the other side has closed, or after `timeout` seconds."""
        if not self.ended:
            value = self.queue.get(timeout)
            if value is not _DEAD:
                return value
            self.ended = True
            self.context.del_handle(self.handle)
        raise ChannelError('closed')

    def close(self):
        """Tells the other side that no more will come."""
        if not self.closed:
            self.closed = True
            self.context.del_handle(self.handle)
            self.context.send(self.handle, _DEAD)

    __del__ = close

    def __iter__(self):
        """Yields the values as they arrive, until the other side has closed the channel."""
        while 1:
            try:
                value = self.receive()
            except ChannelError:
                return
            yield value


# -- standard output, standard error and logging

class IoLogger(object):
    """Forwards output of programs, C code and forks to file descriptor 1 or 2, through a pipe in its place."""

    lock = getattr(thread, 'RLock', thread.allocate_lock)()  # one for both: output is sent in the order of writing

    def __init__(self, fd):
        """Replaces the descriptor `fd` by the write end of a pipe, and keeps the non-blocking read end."""
        self.fd = fd
        self.rfd, w = os.pipe()
        os.dup2(w, fd)
        os.close(w)
        no_inherit(self.rfd)
        fcntl.fcntl(self.rfd, fcntl.F_SETFL, fcntl.fcntl(self.rfd, fcntl.F_GETFL) | os.O_NONBLOCK)

    def on_receive(self):
        """Forwards the output that has arrived; the broker calls it."""
        with self.lock:
            self.drain()

    def drain(self):
        """Sends what the pipe holds, at most 64 pieces of 64 KiB. The caller holds the lock."""
        for _ in range(64):  # then it is the turn of the others
            try:
                data = os.read(self.rfd, 65536)
            except OSError:
                return
            if not data:
                return child.broker.stop_receive(self.rfd)
            child.stream.send(STDIO, (self.fd, data))


class Output(io.RawIOBase):
    """sys.stdout.buffer and sys.stderr.buffer. Output is sent at once, behind all that the pipes still hold."""

    def __init__(self, fd):
        """Takes the descriptor, 1 or 2, that the output is sent as."""
        self.fd = fd

    def write(self, data):
        """Sends bytes to the controller, or in a fork writes them to the descriptor, and returns their number."""
        data = bytes(data) if PY3 or not isinstance(data, memoryview) else data.tobytes()
        if os.getpid() != child.pid:
            write_all(self.fd, data)
        elif data:
            with IoLogger.lock:
                child.drain()
                child.stream.send(STDIO, (self.fd, data))
        return len(data)

    def writable(self):
        """Returns True: the io module asks before it writes."""
        return True

    def fileno(self):
        """Returns 1 or 2, the descriptor of the pipe that carries the same output."""
        return self.fd


class Output2(object):
    """sys.stdout of Python 2, where print may be given text or bytes."""

    encoding, errors, closed, softspace, mode = 'UTF-8', 'strict', False, 0, 'w'

    def __init__(self, fd):
        """Takes the descriptor, 1 or 2, and starts with an empty line buffer."""
        self.fd, self.raw, self.line = fd, Output(fd), b''

    def write(self, data):
        """Adds text or bytes to the buffer, and flushes it at a newline or above 8192 bytes."""
        self.line += data.encode('utf-8') if isinstance(data, text) else str(data)
        if '\n' in self.line or len(self.line) > 8192:
            self.flush()

    def writelines(self, lines):
        """Writes each string of an iterable, without separators."""
        for line in lines:
            self.write(line)

    def flush(self):
        """Sends the buffered part of a line, if there is any."""
        line, self.line = self.line, b''
        if line:
            self.raw.write(line)

    def isatty(self):
        """Returns False: the output goes to the controller and not to a terminal."""
        return False

    def fileno(self):
        """Returns 1 or 2, the descriptor of the pipe that carries the same output."""
        return self.fd

    def close(self):
        """Flushes the buffer; the object stays usable, as the process needs it until its end."""
        self.flush()


class LogHandler(object):
    """The body of the logging handler; its other base is available only once user code imports logging."""

    # Attributes of a record that are sent by themselves, or follow from others.
    standard = ('name msg args levelname levelno exc_info exc_text created msecs relativeCreated filename module thread message '
                'asctime').split()

    def emit(self, record):
        """Sends a log record with its traceback and extra fields; a field that is not plain is sent as its repr."""
        try:
            trace = self.exception.formatException(record.exc_info) if record.exc_info else None
            fields = {}
            for name in set(record.__dict__).difference(self.standard):
                try:
                    fields[name] = plain(record.__dict__[name], '')
                except Exception:
                    fields[name] = text(repr(record.__dict__[name]))
            child.stream.send(FORWARD_LOG, (text(record.name), int(record.levelno), text(record.getMessage()),
                                           float(record.created), trace, fields))
        except Exception:
            self.handleError(record)


def set_up_logging(logging, level):
    """Gives the root logger the controller's level, and the handler that forwards to it."""
    handler = type('LogHandler', (LogHandler, logging.Handler), {'exception': logging.Formatter()})()
    logging.root.addHandler(handler)
    logging.root.setLevel(level)


def adapt_by(part):
    """A hook: the function `adapt` of a module of ours that is sent on first use."""
    def hook(module):
        """Imports the part and passes the module that user code has imported to its `adapt`."""
        __import__('econtext.' + part)
        sys.modules['econtext.' + part].adapt(module)
    return hook


class ImportHook(object):
    """The first finder on sys.meta_path: calls functions with certain modules once those are imported."""

    def __init__(self, hooks):
        """Takes the hooks, a dict from the name of a module to a function of the module."""
        self.hooks = hooks
        self.done = set()

    def hook(self, name):
        """The function for a module, or for a copy of it that another package includes; each is called once."""
        if name not in self.done:
            self.done.add(name)
            return self.hooks.get(name.rpartition('._vendor.')[2])

    def find_spec(self, name, path=None, target=None):
        """Returns a spec that calls the hook of the module after its execution; None if no hook is due."""
        hook = self.hook(name)
        for finder in hook and sys.meta_path or ():
            spec = finder.find_spec(name, path, target)
            if spec:
                execute = spec.loader.exec_module

                def exec_module(module):
                    """Executes a module as its loader does, then calls the hook if it is the one looked for."""
                    execute(module)
                    if module.__spec__ is spec:  # many modules may have one loader
                        hook(module)

                spec.loader.exec_module = exec_module
                return spec

    def find_module(self, name, path=None):
        """Imports the module and calls its hook on Python 2; returns None if it has no hook."""
        hook = self.hook(name)
        if hook:
            __import__(name)
            hook(sys.modules[name])
            return self

    def load_module(self, name):
        """Returns the module that find_module() has imported already."""
        return sys.modules[name]


# -- modules

def is_served(module):
    """Whether a module is not from a file of the target."""
    return (getattr(module, '__file__', None) or ROOT).startswith((ROOT, child.importer.place))


def compile_for_here(source, path, flags=0, what='sent by'):
    """The code of a module or program of the controller. One that this Python cannot read says which Python this is."""
    try:
        return compile(source, path, 'exec', flags, True)
    except SyntaxError as error:
        error.msg = '%s (%s the controller, for the Python %d.%d of %s)' % (
            (error.msg, what) + sys.version_info[:2] + (child.context.name,))
        raise


class Record(object):
    """A module of the controller: its kind, its path below ROOT, its source in zlib or None, and its children.

    Children map the last part of a name to its kind: a missing module costs no round trip.
    """

    __slots__ = 'kind', 'path', 'source', 'children'

    def __init__(self, *parts):
        """Takes the fields in order."""
        for part in zip(self.__slots__, parts):
            setattr(self, *part)


class Importer(object):
    """Finds and loads modules that only the controller has. Local finders come first; see docs/how-it-works.md.

    `records` maps a name to its Record, or to None if the controller has no such module.
    A package may be imported under another name than its own: `names` has the controller's name for those below it.
    A slash among the children is the mark of a package that looks for files beside its modules: those are below `place`
    then, by means of spool.py, and not below ROOT; `spooled` has the paths of these packages.
    """

    def __init__(self, context):
        """Starts with one record, that of our own package; the modules in it are asked for when imported."""
        self.context = context
        self.records = {'econtext': Record(PACKAGE, '', None, '*')}
        self.names = {}
        self.pushed = []
        self.place, self.spooled = ROOT, ()

    def on_push(self, push):
        """Stores records that the controller sent unasked, and the names of modules that it does not have."""
        for pushed in push[0]:
            name = pushed[0]
            self.records[name] = record = Record(*pushed[1:])
            if record.kind < NAMESPACE and '.' not in name:
                self.pushed.append(name)
        for name in push[1].split():
            self.records.setdefault(name, None)

    def tell(self):
        """Tells the controller which of the packages that it sent are here anyway, so that it sends no more of them."""
        while self.pushed:
            name = self.pushed.pop()
            if not is_served(sys.modules.get(name)):
                self.context.send(HAVE, name)

    def record(self, name):
        """The controller's record of `name`, or None. May ask the controller."""
        package = sys.modules.get(name.rpartition('.')[0])
        if not is_served(package):
            return None  # a package of the target's own is complete
        name = self.names.get(name, name)
        if name in self.records:
            return self.records[name]
        parent, _, tail = name.rpartition('.')
        if parent:
            if package and parent not in self.records:
                if not hasattr(package, '__path__'):
                    return None
            else:
                above = self.record(parent)
                inside = above and above.children or ()
                if tail not in inside and '*' not in inside:  # a star: the controller cannot list them
                    self.records[name] = None
                    return None
        record = self.context.ask(GET_MODULE, name)
        self.records[name] = record = record and Record(*record)
        return record

    def servable(self, name):
        """Returns the record of `name`, or None, for its import. An ImportError says why the controller cannot serve it."""
        record = self.record(name)
        if record and record.kind >= COMPILED:
            message = '%s: %s' % (name, record.path)
            if record.kind == COMPILED:
                message = '%s %s and is not on %s (Python %d.%d); install it there, or --no-serve' % (
                    (name.partition('.')[0], record.path, self.context.name) + sys.version_info[:2])
            error = NotFound(message)
            error.name = name
            raise error
        if record and '/' in (record.children or ()):
            from econtext import spool
            spool.later(record.path.rpartition('/')[0] + '/')
        return record

    def find_spec(self, name, path=None, target=None):
        """Returns the spec of a module of the controller, or None if the controller has no such module."""
        record = self.servable(name)
        if record is None:
            return None
        kind = record.kind
        spec = ModuleSpec(name, self, origin=self.home(record.path), is_package=kind != MODULE)
        if kind != MODULE:
            spec.submodule_search_locations = [self.directory(name)]
        if kind == NAMESPACE:
            spec.origin = spec.loader = None
        else:
            spec.has_location = True
        return spec

    def home(self, path):
        """The full path of a path below ROOT."""
        spooled = [package for package in self.spooled if (path + '/').startswith(package)]
        return (self.place if spooled else ROOT) + path

    def directory(self, name):
        """Returns the full path of a package's directory, by the controller's name of the package."""
        return self.home(self.names.get(name, name).replace('.', '/'))

    def create_module(self, spec):
        """Returns None, which makes Python create an ordinary module object."""
        return None

    def exec_module(self, module):
        """Runs the code of a module in the namespace of the module, as Python 3 requires of a loader."""
        name = module.__spec__.name
        if name == '__main__':
            # The guard at the foot of a script must not run here. multiprocessing uses the same name.
            module.__name__ = '__mp_main__'
            sys.modules['__mp_main__'] = module
        exec(self.get_code(name), module.__dict__)

    def find_module(self, name, path=None):
        """Finds a module on Python 2, which asks before the local finders: those are tried here. An ImportError would be lost."""
        parent, _, tail = name.rpartition('.')
        if parent:
            return self if parent in self.records and not (self.spooled and os.path.isdir(self.directory(parent))) and self.record(name) else None
        try:
            if name == '__main__':
                raise ImportError  # a builtin module, which is never made twice
            found = imp.find_module(tail, path)[0]
            if found:
                found.close()
        except ImportError:
            return self if self.record(name) else None

    def load_module(self, name):
        """Creates a module, runs its code and returns it, as Python 2 requires of a loader."""
        record = self.servable(name)
        kind = record.kind
        module = sys.modules.get(name)
        fresh = module is None
        if fresh:
            module = sys.modules[name] = type(sys)(name)
        module.__loader__ = self
        module.__package__ = name if kind != MODULE else name.rpartition('.')[0]
        if kind != MODULE:
            module.__path__ = [self.directory(name)]
        try:
            if kind != NAMESPACE:
                module.__file__ = self.home(record.path)
                if name == '__main__':
                    module.__name__ = '__mp_main__'
                    sys.modules['__mp_main__'] = module
                exec(self.get_code(name), module.__dict__)
        except BaseException:
            if fresh:
                sys.modules.pop(name, None)
            raise
        return sys.modules[name]

    def get_bytes(self, name):
        """Returns the uncompressed source of a module; raises an ImportError if there is none."""
        record = self.record(name)
        if record is None or record.source is None:
            raise ImportError('no source for %s' % name)
        return zlib.decompress(record.source)

    def get_code(self, name):
        """Returns the compiled code of a module, with a file name below ROOT."""
        return compile_for_here(self.get_bytes(name), ROOT + self.record(name).path)

    def get_source(self, name):
        """Returns the source of a module as text, or as bytes on Python 2; inspect and linecache use it."""
        source = self.get_bytes(name)
        if PY3:
            from importlib.util import decode_source
            return decode_source(source)
        return source

    def is_package(self, name):
        """Returns whether a module is a package or a namespace package."""
        return self.record(name).kind in (PACKAGE, NAMESPACE)

    def get_filename(self, name):
        """Returns the `__file__` of a module."""
        return self.home(self.record(name).path)

    def invalidate_caches(self):
        """Drops the names that the controller did not have, so that it is asked for them again."""
        for name in [n for n, r in self.records.items() if r is None]:
            del self.records[name]

    # Functions that few programs need come from econtext.files.

    def get_data(self, path):
        """Returns the bytes of a file beside served modules, given its full path."""
        from econtext import files
        return files.read(path)

    def get_resource_reader(self, name):
        """Returns the object through which importlib.resources reads the files of a package."""
        from econtext import files
        return files.Reader(self.names.get(name, name).replace('.', '/'))

    def find_distributions(self, context=None):
        """Returns the served distributions that importlib.metadata asks for; all without a name."""
        from econtext import files
        return files.distributions(getattr(context, 'name', None))


class Entry(object):
    """The finder for ROOT on sys.path, and for what lies below it on the __path__ of packages.

    So namespace packages are made of their portions here and there, and pkgutil sees all modules.
    """

    def __init__(self, path):
        """Accepts a path that is served from memory; raises an ImportError for others, which Python expects."""
        for root in ROOT, child.importer.place:
            if (path + '/').startswith(root) and (root == ROOT or not self.is_made(path)):
                self.path = (path + '/')[len(root):]
                return
        raise ImportError(path)

    def is_made(self, path):
        """Whether there is a real directory, or a wheel or the like, which Python's own finders look into."""
        return os.path.lexists(path) or '.' in path.rpartition('/')[2] and os.path.isfile(path)

    def served(self, name):
        """Tells the importer which module of the controller `name` is, seen from this directory."""
        served = self.path.replace('/', '.') + name.rpartition('.')[2]
        if served != name:
            child.importer.names[name] = served
        return child.importer

    def find_spec(self, name, target=None):
        """Returns the spec of a module in this directory, or None."""
        return self.served(name).find_spec(name)

    def find_module(self, name, path=None):
        """Returns the importer if it has the module in this directory, or None; for Python 2."""
        return self.served(name).find_module(name)

    def iter_modules(self, prefix=''):
        """Returns (name, is a package) of the modules in this directory, with `prefix` added; for pkgutil."""
        from econtext import files
        return files.modules(self.path, prefix)

    def invalidate_caches(self):
        """Drops the importer's negative answers, which all entries share."""
        child.importer.invalidate_caches()


# -- the child

class ExternalContext(object):
    """The child process: sets it up, then runs calls until the controller closes their channel."""

    rich = None  # set by rich.py

    def main(self, level, name, key, limit, fd, executable):
        """Sets up this process and runs calls; `level` is None if `logging` is not to be touched."""
        global child
        child = self
        old, sys.executable = sys.executable, executable
        if getattr(sys, '_base_executable', None) == old:
            sys._base_executable = executable
        # This module is __main__ only by accident. An import of that means the controller's program.
        package = type(sys)('econtext')
        package.__path__ = []
        package.core = module = sys.modules.pop('__main__')
        sys.modules['econtext'], sys.modules['econtext.core'] = package, module
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if the parent ignored it, so would this process, and could wait for nothing
        for function in os.wait, os.setsid:  # for the first stage; the session may exist already
            try:
                function()
            except OSError:
                pass
        self.pid, self.main_thread = os.getpid(), thread.get_ident()
        self.calls, self.queue, self.turn = [], Queue(), thread.allocate_lock()
        self.current = self.interrupt = None  # reply handles: of the call that runs, of the one to stop
        self.running = False
        self.at_end = []

        self.stderr = no_inherit(os.dup(2))
        self.stream = Stream(no_inherit(fd), no_inherit(os.dup(1)), key, limit)
        self.context = Context(name, self.stream)
        self.broker = Broker()
        self.importer = package.__loader__ = Importer(self.context)
        hooks = {'multiprocessing.popen_fork' if PY3 else 'multiprocessing.forking': adapt_by('spawn')}
        hooks['pkg_resources'] = hooks['distlib.resources'] = hooks['importlib._common'] = adapt_by('files')
        if level is not None:  # a program that is run as a script has `logging` for itself
            hooks['logging'] = lambda module: set_up_logging(module, level)
        sys.meta_path.insert(0, ImportHook(hooks))
        if PY3:
            sys.meta_path.append(self.importer)
        else:
            sys.meta_path.insert(1, self.importer)
        sys.path_hooks.append(Entry)
        sys.path.append(ROOT[:-1])
        self.set_up_stdio()
        signal.signal(signal.SIGINT, self.on_interrupt)
        self.stream.handlers.update({CALL_FUNCTION: self.on_call, PUSH_MODULE: self.importer.on_push, CANCEL: self.on_cancel,
                                     LOAD: self.on_load})
        try:
            import pwd
            user = pwd.getpwuid(os.geteuid())[0]
        except (ImportError, KeyError):
            user = str(os.geteuid())
        self.context.send(HELLO, ('%d.%d.%d' % sys.version_info[:3], self.pid, user))
        self.broker.start_receive(fd, self.on_stream)
        thread.start_new_thread(self.broker.run, ())
        import atexit
        atexit.register(self.at_exit)
        self.dispatch()

    def set_up_stdio(self):
        """Makes stdin empty, and routes stdout and stderr, of Python and of programs, to the stream."""
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.close(null)
        self.loggers = [IoLogger(1), IoLogger(2)]
        self.pending = select.poll()
        for logger in self.loggers:
            self.pending.register(logger.rfd, READ)
            self.broker.start_receive(logger.rfd, logger.on_receive)
        files = []
        for fd, errors in (1, 'surrogateescape'), (2, 'backslashreplace'):
            if PY3:
                files.append(io.TextIOWrapper(Output(fd), 'utf-8', errors, '\n', True))
                files[-1].mode = 'w'
            else:
                files.append(Output2(fd))
        sys.stdin = sys.__stdin__ = open(os.devnull)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__ = files

    def drain(self):
        """Sends what the pipes of the IoLoggers hold. The caller holds IoLogger.lock."""
        for fd, _ in self.pending.poll(0):
            for logger in self.loggers:
                if logger.rfd == fd:
                    logger.drain()

    def flush(self):
        """Sends all output that was written up to now."""
        for f in sys.stdout, sys.stderr:
            try:
                f.flush()
            except Exception:
                pass  # a file of the user's, closed or broken
        with IoLogger.lock:
            self.drain()

    # Handlers. The thread that reads the stream calls them.

    def on_stream(self):
        """Reads from the stream once, unless another thread is its reader at the moment."""
        if self.stream.reading.acquire(0):
            try:
                if select.select([self.stream.rfd], [], [], 0)[0]:
                    self.stream.receive()
            finally:
                self.stream.reading.release()

    def on_call(self, call):
        """Queues a call, or `_DEAD` for the end, and wakes the main thread where that is not the reader."""
        self.calls.append(call)
        if not self.broker.leads:
            self.queue.put(None)

    def on_load(self, name):
        """Runs a module of ours that has handlers. It is not imported: a holder of Python 2's lock may wait for an answer."""
        exec(self.importer.get_code(name), dict(globals(), __name__=name))

    def on_cancel(self, message):
        """Interrupts a call; if it still runs after `grace` seconds, ends the process."""
        reply_to, grace = message
        with self.turn:
            for call in self.calls[:]:
                if call is not _DEAD and call[0] == reply_to:
                    self.calls.remove(call)
                    return self.stream.send(reply_to, CallError('builtins', 'KeyboardInterrupt', 'cancelled', (), '', [], None, {}, ()))
            if self.current != reply_to:
                return
            self.interrupt = reply_to
        os.kill(self.pid, signal.SIGINT)

        stop = time.time() + grace

        def overdue():
            """Ends the process if the call still runs after the time; returns whether it is over."""
            if self.current == reply_to and time.time() > stop:
                end(9)
            return self.current != reply_to

        self.broker.timers.append(overdue)

    def on_interrupt(self, number, frame):
        """The handler of SIGINT, which is for user code only, and never in the middle of a frame."""
        if not self.running or self.current != self.interrupt:
            return
        while frame:
            if frame.f_code is SEND_CODE:
                self.stream.interrupted = True
                return
            frame = frame.f_back
        raise KeyboardInterrupt

    # The main thread.

    def wait_for_call(self):
        """Waits for calls, reading the stream meanwhile where that needs no hand-off."""
        if not self.calls:
            if self.broker.leads:
                self.broker.watch(self.stream.rfd, 0)
                with self.stream.reading:
                    while not self.calls:
                        self.stream.receive()
                self.broker.watch(self.stream.rfd, READ)
            while not self.calls:
                self.queue.get()

    def dispatch(self):
        """Runs calls in the order of arrival, and returns when the controller has closed their channel."""
        while 1:
            self.wait_for_call()
            with self.turn:
                if not self.calls:
                    continue  # it was cancelled
                call = self.calls.pop(0)
                if call is _DEAD:
                    return
                reply_to = self.current = call[0]
            try:
                try:
                    self.running = True
                    result = self.call(*call[1:])
                finally:
                    self.running = False
            except BaseException:
                if os.getpid() != self.pid:
                    raise  # this is a fork of user code, which goes its own way
                result = CallError(*describe(*sys.exc_info()[1:]))
            if os.getpid() != self.pid:
                os._exit(0)
            self.current = None
            self.flush()
            self.reply(reply_to, result)
            self.importer.tell()
            call = result = None
            if not PY3:
                sys.exc_clear()  # an exception keeps the objects of its frames alive

    def call(self, with_context, module, class_name, function, args, kwargs):
        """Imports the function, or the method of a class, calls it, and returns its result."""
        if module not in sys.modules:
            __import__(module, None, None, [], 0)
        target = sys.modules[module]
        for name in filter(None, (class_name or '').split('.') + function.split('.')):
            target = getattr(target, name)
        if with_context:
            args = (self.context,) + tuple(args)
        return target(*args, **kwargs)

    def reply(self, reply_to, result):
        """Sends a result, converted to plain types if necessary; if that fails, sends the error in its place."""
        try:
            try:
                self.stream.send(reply_to, result)
            except (TypeError, RuntimeError, pickle.PicklingError):
                self.stream.send(reply_to, plain(result, 'result'))
        except BaseException:
            error = sys.exc_info()[1]
            self.stream.send(reply_to, CallError(*describe(error, None)))

    def at_exit(self):
        """The last code that runs in this process: sends the output, ends background processes."""
        if os.getpid() == self.pid:
            self.flush()
            end(0)


SEND_CODE = Stream.send.__code__
