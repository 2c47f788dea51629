"""Processes beside this child: commands, and further children. It is sent on first use.

The file runs with the names of core.py as its own (`ExternalContext.on_load`): importing it could wait for a lock of Python 2
whose holder waits for an answer of the controller. For the same reason every process has a thread, which forks and waits:
a fork takes that lock too, and others that user code may hold. The main thread is not needed: a call that runs does
not hold processes up.

Every process has a handle, the same number on both sides. Both sides send no more than they were given credit for, so
a reader that stops makes the writer stop, and nothing piles up between them.

A guard, which is a fork, knows the process groups. When this process has ended, in whatever way, it ends them.
"""
WRITE = 4  # EPOLLOUT and POLLOUT
CHUNK = 1 << 16

# To the controller: events of the process.
STARTED, OUTPUT, CREDIT, EXIT, FAILED = range(5)
# From the controller: commands.
INPUT, INPUT_END, GRANT, SIGNAL, RESIZE, TYPE, REPEAT = range(7)

TIOCSWINSZ = 0x5414 if sys.platform.startswith('linux') else 0x80087467  # termios would have to be imported
TERMINAL = 3  # the number of the terminal's output, where the process has one beside its stdio

groups = {}  # process groups that may not outlive this process, by the number of their leader
kept = {}  # pieces of input by name: input for many children behind this one comes here once


class Process(object):
    """One process, its pipes and the data on the way through them."""

    def __init__(self, handle, options):
        """Registers the handle and starts the thread of the process; `window` is the credit in bytes."""
        self.handle, self.credit, self.is_transport = handle, options[b'window'], options[b'transport']
        self.lock = thread.allocate_lock()
        self.early = []  # messages that came before the process was there
        self.files = {}  # files to read from, by number
        self.paused = set()
        self.stdin, self.input, self.input_ended, self.last = None, [], False, b''
        self.terminal = self.slave = None
        self.exited = self.done = self.unheard = False
        child.stream.handlers[handle] = self.on_message
        try:
            thread.start_new_thread(self.run, (options,))
        except Exception:
            self.fail(0, str(sys.exc_info()[1]))

    def send(self, *message):
        """Sends one event, with its values, to the controller."""
        child.stream.send(self.handle, message)

    # -- its life, in a thread of its own

    def run(self, options):
        """Starts the program, handles early messages, waits for its end, and reports the exit status."""
        theirs, problem = [], None
        try:
            problem = self.start(options, theirs)
        except Exception:
            e = sys.exc_info()[1]
            problem = getattr(e, 'errno', 0) or 0, getattr(e, 'strerror', None) or str(e)
        for fd in set(theirs):
            os.close(fd)
        with self.lock:
            if problem:
                return self.fail(*problem)
            self.send(STARTED, self.pid)
            for number, fd in self.files.items():
                self.watch(number, fd)
            early, self.early = self.early, None
            for message in early:
                self.handle_message(message)
        status = reap(self.pid)
        try:
            os.killpg(self.pid, 0)  # raises if nothing is left of its group
        except OSError as e:
            if e.errno == errno.ESRCH:
                forget(self.pid)
        with self.lock:
            self.status, self.exited = status, True
            for number in list(self.files):
                self.pump(number)
            self.finish()

    def start(self, options, theirs):
        """Forks and waits until the program runs. Returns (errno, why) if it does not; `theirs` are to be closed."""
        if options[b'terminal'] == 'stdio':
            self.terminal, slave = os.openpty()
            self.files[1] = self.terminal
            theirs.extend([slave, slave, slave])
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
                self.slave = no_inherit(os.dup(slave))  # else the terminal would be at its end whenever no process has it open
        for fd in [self.stdin] + list(self.files.values()):
            if fd is not None:
                fcntl.fcntl(no_inherit(fd), fcntl.F_SETFL, os.O_NONBLOCK)
        result, report = os.pipe()
        no_inherit(result)
        try:
            guard()
            self.pid = os.fork()
            if not self.pid:
                run_program(options, theirs, report)
            os.close(report)
            report = None
            groups[self.pid] = self
            problem = read_some(result, 4096)
        finally:
            os.close(result)
            if report is not None:
                os.close(report)
        if problem:
            reap(self.pid)
            forget(self.pid)
            return struct.unpack('>L', problem[:4])[0], problem[4:].decode('utf-8', 'replace')

    def fail(self, number, why):
        """Reports that the program did not start, with an errno or 0, and closes everything."""
        self.send(FAILED, number, why)
        self.close()

    def finish(self):
        """Reports the end, once all output of the process has been sent. The caller holds the lock."""
        if self.exited and not self.files and not self.done:
            self.done = True
            self.send(EXIT, self.status)
            self.close()

    def close(self):
        """Closes all files of the process, and its handle on both sides."""
        child.stream.handlers.pop(self.handle, None)
        for fd in set([self.stdin, self.terminal, self.slave] + list(self.files.values())):
            if fd is not None:
                child.broker.stop_receive(fd)
                os.close(fd)
        self.stdin = self.terminal = self.slave = None
        self.files.clear()
        child.stream.send(self.handle, _DEAD)

    def hang_up(self):
        """Lets the process see the end of its input at once. Its terminal stays: the loss of that is a signal, of which
        a child behind sudo would die before it has ended what it started."""
        fd, self.stdin = self.stdin, None
        if fd is not None:
            child.broker.stop_receive(fd)
            os.close(fd)

    def kill(self):
        """Ends all of the group: by SIGTERM, and a second later by SIGKILL."""
        signal_group(self.pid, signal.SIGTERM)
        time.sleep(1)
        if self.pid in groups:
            signal_group(self.pid, signal.SIGKILL)

    # -- output

    def watch(self, number, fd):
        """Has the broker forward the output that arrives at `fd`, as that of `number`."""
        child.broker.start_receive(fd, lambda: self.on_output(number))

    def on_output(self, number):
        """Forwards output that has arrived; the broker calls it."""
        with self.lock:
            self.pump(number)

    def pump(self, number):
        """Forwards output of the process, as far as there is credit. The caller holds the lock."""
        fd = self.files.get(number)
        rounds = 16  # then it is the turn of the others
        while fd is not None and number not in self.paused and (rounds or self.exited):
            rounds -= not self.exited
            if self.credit <= 0:
                child.broker.stop_receive(fd)
                return self.paused.add(number)
            try:
                data = os.read(fd, min(CHUNK, self.credit))
            except OSError as e:
                if e.errno in (errno.EAGAIN, errno.EINTR) and not self.exited:
                    return
                data = b''  # the other side of a terminal is gone; or the rest of the group holds the pipe
            if data and not self.unheard:
                self.credit -= len(data)
                self.send(OUTPUT, number, data)
            elif not data:
                child.broker.stop_receive(fd)
                del self.files[number]
                fd = os.close(fd) if fd != self.terminal else None
        self.finish()

    # -- input

    def write_input(self):
        """Writes the input that is there, as far as the process takes it. The caller holds the lock."""
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
            self.last = data[n - 1:n] or self.last
            self.input[0] = data[n:]
            if not self.input[0]:
                self.input.pop(0)
            self.send(CREDIT, n)
        if self.stdin is not None:
            child.broker.stop_receive(self.stdin)
        if self.input_ended and not self.input:
            if self.stdin is not None:
                os.close(self.stdin)
                self.stdin = None
            elif self.terminal is not None and TERMINAL not in self.files:
                self.input_ended = False
                # This character ends the input of a terminal; it has to come twice behind an unfinished line.
                self.input.append(b'\4' if self.last in (b'', b'\n') else b'\4\4')
                self.write_input()

    def watch_input(self, fd):
        """Waits for space in a pipe through the broker; tries a terminal again after 20 ms."""
        if fd == self.stdin and fd not in child.broker.callbacks:
            child.broker.start_receive(fd, self.on_writable, WRITE)
        elif fd != self.stdin:
            thread.start_new_thread(self.retry_input, ())

    def on_writable(self):
        """Writes more of the input that is waiting."""
        with self.lock:
            self.write_input()

    def retry_input(self):
        """Writes more input after 20 ms, in a thread of its own."""
        time.sleep(.02)  # people write to a terminal too, and in the direction in which it is read
        self.on_writable()

    # -- messages of the controller

    def on_message(self, message):
        """Handles a command of the controller, or stores it until the program has started."""
        with self.lock:
            if self.early is None:
                self.handle_message(message)
            else:
                self.early.append(message)

    def handle_message(self, message):
        """Carries out one command; `_DEAD` ends the process. The caller holds the lock."""
        if message is _DEAD:
            if not self.exited:
                thread.start_new_thread(self.kill, ())
            # The rest is not wanted, but the process must be able to end.
            self.unheard, self.credit = True, 1 << 62
            return self.resume()
        kind, values = message[0], message[1:]
        if kind == SIGNAL:
            signal_group(self.pid, values[0])
        elif kind == GRANT:
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
        """Restarts the forwarding of output that had stopped for lack of credit. The caller holds the lock."""
        for number in list(self.paused):
            self.paused.discard(number)
            self.watch(number, self.files[number])
            if self.exited:
                self.pump(number)


def signal_group(pid, number):
    """Sends a signal to a process group, and ignores a failure."""
    try:
        os.killpg(pid, number)
    except OSError:
        pass  # it is gone, or another user's: that one sees the end of its input


def keep(message):
    """Stores a piece of input under a name, for REPEAT, and drops those that are not needed any more."""
    name, piece, gone = message
    kept[name] = piece
    for name in gone:
        kept.pop(name, None)


def kill_all():
    """Ends all processes with this one. A further child behind a transport has its own to end first: it sees its input end."""
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


def reap(pid):
    """Waits for a process and returns its exit status, or minus the signal; None if other code took the status."""
    while 1:
        try:
            status = os.waitpid(pid, 0)[1]
        except OSError as e:
            if e.errno == errno.EINTR:
                continue
            return None
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


# -- the guard

guarded = []  # the pipe to the guard, once there is one
guarding = thread.allocate_lock()


def guard():
    """Starts the guard, once."""
    with guarding:
        if guarded:
            return
        r, w = os.pipe()
        pid = os.fork()
        if pid:
            os.close(r)
            os.write(w, ('+%d\n' % child.pid).encode())  # for processes that user code has started
            guarded.append(no_inherit(w))
            reap(pid)
            return
    try:
        os.setsid()
        if not os.fork():
            watch_over(r)
    finally:
        os._exit(0)


def watch_over(r):
    """Notes the groups that come and go; at the end of the pipe the other side is gone, and so must they."""
    close_all(r)
    for number in signal.SIGTERM, signal.SIGHUP, signal.SIGINT:
        signal.signal(number, signal.SIG_IGN)
    known, text = {}, b''
    while 1:
        data = read_some(r, 4096)
        lines = (text + data).split(b'\n')
        text = lines.pop()
        for line in lines:
            pid = int(line[1:])
            if line[:1] == b'-':
                known.pop(pid, None)
            else:
                known[pid] = line[:1]
        if not data:
            break
    kill_groups(known, b'+')
    time.sleep(.8)  # a child behind a transport ends by itself, after those that it started
    kill_groups(known, b'T')
    os._exit(0)


def kill_groups(known, kind):
    """Kills the groups of one kind: b'+' for commands, b'T' for transports to further children."""
    for pid in [pid for pid in known if known[pid] == kind]:
        signal_group(pid, signal.SIGKILL)


def forget(pid):
    """Removes a group from the list here and from that of the guard."""
    if groups.pop(pid, None):
        os.write(guarded[0], ('-%d\n' % pid).encode())


def close_all(*but):
    """Closes all files except stdio and the given ones."""
    try:
        open_files = [int(name) for name in os.listdir('/proc/self/fd')]
    except OSError:
        open_files = range(3, 1024)
    for fd in open_files:
        if fd > 2 and fd not in but:
            try:
                os.close(fd)
            except OSError:
                pass


# -- in the forked process

def run_program(options, theirs, report):
    """Becomes the program, or reports why it cannot. It never returns."""
    try:
        os.setsid()
        # This comes first, so that nothing is missed if the other side goes.
        os.write(guarded[0], ('%s%d\n' % ('T' if options[b'transport'] else '+', os.getpid())).encode())
        prepare(options, theirs, report)
        execute(options)
    except BaseException:
        e = sys.exc_info()[1]
        why = str(getattr(e, 'strerror', None) or e)
        os.write(report, struct.pack('>L', getattr(e, 'errno', 0) or 0) + (why.encode() if PY3 else why))
    finally:
        os._exit(127)


def prepare(options, theirs, report):
    """Gives the forked process the state that the command expects."""
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
    close_all(report)
    for name in 'SIGPIPE', 'SIGXFSZ', 'SIGINT', 'SIGCHLD':
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)  # as they were before Python started
    if options[b'umask'] is not None:
        os.umask(options[b'umask'])
    now = os.nice(0)  # that of the thread that forked this process
    os.nice(getattr(child, 'niceness', now) + options[b'nice'] - now)
    if options[b'rlimits']:
        import resource
        for name, value in options[b'rlimits'].items():
            limit = getattr(resource, 'RLIMIT_' + (name.decode() if PY3 else name).upper())
            hard = resource.getrlimit(limit)[1]
            if value < 0:
                value = hard = resource.RLIM_INFINITY if os.geteuid() == 0 else hard
            elif hard != resource.RLIM_INFINITY:
                hard = max(value, hard) if os.geteuid() == 0 else hard
            resource.setrlimit(limit, (value, hard))
    if options[b'cwd']:
        os.chdir(options[b'cwd'])


def resize(fd, rows, columns):
    """Sets the size of a terminal in characters; does nothing if `fd` is None."""
    if fd is not None:
        fcntl.ioctl(fd, TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))


def execute(options):
    """Replaces this process with the program; a variable whose value is None is removed from the environment."""
    env = dict(os.environb if PY3 else os.environ)
    for name, value in options[b'env'].items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    os.execvpe(options[b'argv'][0], options[b'argv'], env)


child.stream.handlers[START_PROCESS] = lambda message: Process(*message)
child.stream.handlers[KEEP] = keep
child.at_end.append(kill_all)
