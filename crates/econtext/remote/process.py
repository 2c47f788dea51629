"""Processes beside this child: commands, and further children. Sent on first use.

The file runs with the names of core.py as its own (`ExternalContext.on_load`), in the threads that do IO: nothing here may
wait for long, nor import anything, for in Python 2 the main thread may hold the import lock. It does not need the main
thread: a call that runs does not hold it up.

Every process has a handle, the same number on both sides. Both sides send no more than they were given credit for, so
a reader that stops makes the writer stop, and nothing piles up between them.
"""
WRITE = 4  # EPOLLOUT and POLLOUT
CHUNK = 1 << 16

# To the controller: what happened to the process.
STARTED, OUTPUT, CREDIT, EXIT, FAILED = range(5)
# From the controller: what to do.
INPUT, INPUT_END, GRANT, SIGNAL, RESIZE, TYPE, REPEAT = range(7)

TERMINAL = 3  # the number of the terminal's output, where the process has one beside its stdio

groups = {}  # process groups that may not outlive this process, by the number of their leader
kept = {}  # pieces of input by name: what many children behind this one get alike comes here once


class Process(object):
    """One process, its pipes and what is on the way through them."""

    def __init__(self, handle, options):
        self.handle, self.credit, self.is_transport = handle, options[b'window'], options[b'transport']
        self.lock = thread.allocate_lock()
        self.files = {}  # what is read from it, by number
        self.paused = set()
        self.stdin, self.input, self.input_ended = None, [], False
        self.terminal = self.slave = None
        self.exited = self.done = False
        core.stream.handlers[handle] = self.on_message
        try:
            self.start(options)
        except EnvironmentError as e:
            self.fail(e.errno, e.strerror or str(e))

    def send(self, *message):
        core.stream.send(self.handle, message)

    # -- starting

    def start(self, options):
        theirs = []
        if options[b'terminal'] == 'stdio':
            self.terminal, slave = os.openpty()
            theirs = [slave, slave, slave]
            self.files[1] = self.terminal
        else:
            r, self.stdin = os.pipe()
            theirs.append(r)
            for number in 1, 2:
                self.files[number], w = os.pipe()
                theirs.append(w)
            if options[b'terminal']:
                self.terminal, slave = os.openpty()
                theirs.append(slave)
                self.files[TERMINAL] = self.terminal
                self.slave = os.dup(slave)  # or the terminal would be at its end whenever nobody has it open
                no_inherit(self.slave)
        for fd in [self.stdin] + list(self.files.values()):
            if fd is not None:
                fcntl.fcntl(no_inherit(fd), fcntl.F_SETFL, os.O_NONBLOCK)
        result, report = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                prepare(options, theirs, report)
                execute(options)
            except BaseException:
                e = sys.exc_info()[1]
                os.write(report, struct.pack('>L', getattr(e, 'errno', 0) or 0) + str(getattr(e, 'strerror', e)).encode())
            finally:
                os._exit(127)
        for fd in set(theirs + [report]):
            os.close(fd)
        groups[self.pid] = self
        core.broker.start_receive(no_inherit(result), lambda: self.on_started(result))

    def on_started(self, result):
        problem = read_some(result, 4096)
        core.broker.stop_receive(result)
        os.close(result)
        if problem:
            os.waitpid(self.pid, 0)
            groups.pop(self.pid, None)
            return self.fail(struct.unpack('>L', problem[:4])[0], problem[4:].decode('utf-8', 'replace'))
        self.send(STARTED, self.pid)
        with self.lock:
            for number, fd in self.files.items():
                self.watch(number, fd)
            self.write_input()
        thread.start_new_thread(self.wait, ())

    def fail(self, number, why):
        self.send(FAILED, number, why)
        self.close()

    # -- its end

    def wait(self):
        """A thread of its own: there is no other way on all systems and versions that needs no signal handler."""
        status = None
        while 1:
            try:
                status = os.waitpid(self.pid, 0)[1]
            except OSError as e:
                if e.errno == errno.EINTR:
                    continue
            break
        if status is not None:
            status = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        try:
            os.killpg(self.pid, 0)  # is there anything left of its group?
        except OSError as e:
            if e.errno == errno.ESRCH:
                groups.pop(self.pid, None)
        with self.lock:
            self.status, self.exited = status, True
            for number in list(self.files):
                self.pump(number)
            self.finish()

    def finish(self):
        """Tells the end, once all that the process wrote has been sent. The caller holds the lock."""
        if self.exited and not self.files and not self.done:
            self.done = True
            self.send(EXIT, self.status)
            self.close()

    def close(self):
        core.stream.handlers.pop(self.handle, None)
        for fd in set([self.stdin, self.terminal, self.slave] + list(self.files.values())):
            if fd is not None:
                core.broker.stop_receive(fd)
                os.close(fd)
        self.stdin = self.terminal = self.slave = None
        self.files.clear()
        core.stream.send(self.handle, _DEAD)

    def hang_up(self):
        """Lets the process see the end of its input at once. Its terminal stays: the loss of that is a signal, of which
        a child behind sudo would die before it has ended what it started."""
        fd, self.stdin = self.stdin, None
        if fd is not None:
            core.broker.stop_receive(fd)
            os.close(fd)

    def kill(self):
        """Ends all of the group: asks, and a second later does not ask."""
        signal_group(self.pid, signal.SIGTERM)
        time.sleep(1)
        if self.pid in groups:
            signal_group(self.pid, signal.SIGKILL)

    # -- output

    def watch(self, number, fd):
        core.broker.start_receive(fd, lambda: self.on_output(number))

    def on_output(self, number):
        with self.lock:
            self.pump(number)

    def pump(self, number):
        """Sends on what the process wrote, as far as there is credit. The caller holds the lock."""
        fd = self.files.get(number)
        rounds = 16  # then let the others have their turn
        while fd is not None and number not in self.paused and (rounds or self.exited):
            rounds -= not self.exited
            if self.credit <= 0:
                core.broker.stop_receive(fd)
                return self.paused.add(number)
            try:
                data = os.read(fd, min(CHUNK, self.credit))
            except OSError as e:
                if e.errno in (errno.EAGAIN, errno.EINTR) and not self.exited:
                    return
                data = b''  # the other side of a terminal is gone; or what is left of the group holds the pipe
            if data:
                self.credit -= len(data)
                self.send(OUTPUT, number, data)
            else:
                core.broker.stop_receive(fd)
                del self.files[number]
                fd = os.close(fd) if fd != self.terminal else None
        self.finish()

    # -- input

    def write_input(self):
        """Writes what there is of the input, as far as the process takes it. The caller holds the lock."""
        target = self.terminal if self.stdin is None else self.stdin
        while self.input and target is not None:
            data = self.input[0]
            try:
                n = os.write(target, data)
            except OSError as e:
                if e.errno in (errno.EAGAIN, errno.EINTR):
                    return self.watch_input(target)
                del self.input[:]
                self.input_ended = True  # it does not read any more
                self.send(CREDIT, -1)
                break
            self.input[0] = data[n:]
            if not self.input[0]:
                self.input.pop(0)
            self.send(CREDIT, n)
        if self.stdin is not None:
            core.broker.stop_receive(self.stdin)
        if self.input_ended and not self.input:
            if self.stdin is not None:
                os.close(self.stdin)
                self.stdin = None
            elif self.terminal is not None and TERMINAL not in self.files:
                self.input_ended = False
                self.input.append(b'\4')  # what ends the input of a terminal
                self.write_input()

    def watch_input(self, fd):
        if fd == self.stdin and fd not in core.broker.callbacks:
            core.broker.start_receive(fd, self.on_writable, WRITE)
        elif fd != self.stdin:
            thread.start_new_thread(self.retry_input, ())

    def on_writable(self):
        with self.lock:
            self.write_input()

    def retry_input(self):
        time.sleep(.02)  # a terminal is written to by people, and in the same direction as it is read
        self.on_writable()

    # -- what the controller says

    def on_message(self, message):
        if message is _DEAD:
            with self.lock:
                if not self.exited:
                    thread.start_new_thread(self.kill, ())
                    self.credit = 1 << 62  # nobody reads the rest, but the process must be able to end
                    self.resume()
            return
        kind, values = message[0], message[1:]
        if kind == SIGNAL:
            return signal_group(self.pid, values[0])
        with self.lock:
            if kind == GRANT:
                self.credit += values[0]
                self.resume()
            elif kind == RESIZE:
                resize(self.terminal, *values)
            elif kind == TYPE:
                if self.terminal is not None:
                    write_all(self.terminal, values[0])
            elif kind == INPUT_END:
                self.input_ended = True
                self.write_input()
            elif not self.input_ended:
                self.input.append(kept[values[0]] if kind == REPEAT else values[0])
                self.write_input()

    def resume(self):
        for number in list(self.paused):
            self.paused.discard(number)
            self.watch(number, self.files[number])
            if self.exited:
                self.pump(number)


def signal_group(pid, number):
    try:
        os.killpg(pid, number)
    except OSError:
        pass  # gone, or another user's: that one sees the end of its input


def keep(message):
    name, piece, gone = message
    kept[name] = piece
    for name in gone:
        kept.pop(name, None)


def kill_all():
    """At the end of this process. A further child behind a transport has its own to end first: it sees its input end."""
    transports = {}
    for pid, process in list(groups.items()):
        if process.is_transport:
            transports[pid] = process
            process.hang_up()
        else:
            signal_group(pid, signal.SIGKILL)
    stop = time.time() + .8
    while time.time() < stop and any(pid in groups for pid in transports):
        time.sleep(.01)
    for pid in transports:
        if pid in groups:
            signal_group(pid, signal.SIGKILL)


# -- in the forked process

def prepare(options, theirs, report):
    """Makes the forked process what the command expects to run in."""
    os.setsid()
    for number, fd in enumerate(theirs):
        theirs[number] = fcntl.fcntl(fd, fcntl.F_DUPFD, 64)  # out of the way of 0 to 2
    if options[b'terminal']:
        import termios
        fcntl.ioctl(theirs[-1], termios.TIOCSCTTY, 0)
        rows, columns = options[b'size']
        resize(theirs[-1], rows, columns)
    for number in range(3):
        os.dup2(theirs[number], number)
    no_inherit(report)
    try:
        open_files = [int(name) for name in os.listdir('/proc/self/fd')]
    except OSError:
        open_files = range(3, 1024)
    for fd in open_files:
        if fd > 2 and fd != report:
            try:
                os.close(fd)
            except OSError:
                pass
    for name in 'SIGPIPE', 'SIGXFSZ', 'SIGINT':
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)  # as they were before there was a Python
    if options[b'umask'] is not None:
        os.umask(options[b'umask'])
    now = os.nice(0)  # that of whichever thread this was forked from
    os.nice(getattr(core, 'niceness', now) + options[b'nice'] - now)
    if options[b'rlimits']:
        import resource
        for name, value in options[b'rlimits'].items():
            limit = getattr(resource, 'RLIMIT_' + (name.decode() if PY3 else name).upper())
            value = resource.RLIM_INFINITY if value < 0 else value
            resource.setrlimit(limit, (value, max(value, resource.getrlimit(limit)[1]) if os.geteuid() == 0 else value))
    if options[b'cwd']:
        os.chdir(options[b'cwd'])


def resize(fd, rows, columns):
    import termios
    if fd is not None:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))


def execute(options):
    env = dict(os.environb if PY3 else os.environ)
    for name, value in options[b'env'].items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    os.execvpe(options[b'argv'][0], options[b'argv'], env)


core.stream.handlers[START_PROCESS] = lambda message: Process(*message)
core.stream.handlers[KEEP] = keep
core.at_end.append(kill_all)
