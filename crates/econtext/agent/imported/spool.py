"""Served packages as real files in memory-backed storage, for code that opens files beside itself.

The files are in a private directory of a tmpfs. A separate process removes it when this one has ended, in whatever way.
`start` makes files of packages on request, before they are imported. `later` is for packages that the controller saw to look
for files: their modules come from memory as others do, with a `__file__` below the directory, and the files are made
once something looks at them.
"""
from __future__ import absolute_import

import binascii
import os
import shutil
import sys
import tempfile
import threading

from econtext import core, files

if core.PY3:
    from importlib import machinery  # now: an import of it during a search would make it twice


LIMIT = 256 << 20  # bytes of all files that are made because something looks at them


def start(packages, where=None):
    """Puts these top-level packages, or with 'all' every served one, into files before they are first imported."""
    packages = [package.partition('.')[0] for package in packages]
    base = where or memory()
    if base is None:
        raise EnvironmentError('no tmpfs to put files into here; --spool-dir names another place')
    directory = tempfile.mkdtemp(prefix='econtext-', dir=base)
    guard(directory)
    here = sys.path.index(core.ROOT[:-1]) if core.ROOT[:-1] in sys.path else len(sys.path)
    sys.path.insert(here, directory)
    sys.meta_path.insert(0, Spooler(directory, packages))
    return directory


def memory():
    """The first writable directory that is in memory."""
    with open('/proc/mounts') as f:
        mounts = dict((line.split()[1], line.split()[2]) for line in f)
    for place in '/dev/shm', os.environ.get('XDG_RUNTIME_DIR'), '/run/shm', '/tmp':
        mount = place
        while mount and mount != '/' and mount not in mounts:
            mount = os.path.dirname(mount)
        if place and mounts.get(mount) == 'tmpfs' and os.access(place, os.W_OK | os.X_OK):
            return place


def guard(directory):
    """Leaves a process that removes the directory once this one has ended."""
    r, w = os.pipe()
    core.no_inherit(w)
    pid = os.fork()
    if pid:
        os.close(r)
        os.waitpid(pid, 0)
        return
    try:
        os.setsid()
        if not os.fork():
            core.child.importer.spooled = Nothing()
            null = os.open(os.devnull, os.O_RDWR)
            r = os.dup2(r, 3) or 3  # Python 2 returns None
            for fd in 0, 1, 2:
                os.dup2(null, fd)
            os.closerange(4, min(os.sysconf('SC_OPEN_MAX'), 1 << 16))
            while 1:
                try:
                    if not os.read(r, 1):
                        break
                except OSError:
                    pass
            shutil.rmtree(directory, True)
    finally:
        os._exit(0)


class Spooler(object):
    """The first finder on sys.meta_path: finds nothing, but fetches a package's files before others look for it."""

    def __init__(self, directory, packages):
        """Takes the directory for the files, and the names of the packages, or 'all' among them."""
        self.directory, self.packages, self.seen = directory, packages, set(['econtext'])

    def find_spec(self, name, path=None, target=None):
        """Writes the files of a package when its import begins; always returns None, so the search continues."""
        if '.' not in name and name not in self.seen and ('all' in self.packages or name in self.packages):
            self.seen.add(name)
            if not self.is_local(name):
                record = core.child.importer.record(name)
                if record and (record.kind in (core.PACKAGE, core.NAMESPACE) or name in self.packages):
                    self.fetch(name if record.kind != core.MODULE else record.path)

    find_module = find_spec

    def is_local(self, name):
        """Returns whether the target has a top-level module of this name itself."""
        path = [p for p in sys.path if p != core.ROOT[:-1]]
        if core.PY3:
            specs = [finder.find_spec(name) for finder in (machinery.BuiltinImporter, machinery.FrozenImporter)]
            specs.append(machinery.PathFinder.find_spec(name, path))
            return any(spec and spec.loader for spec in specs)
        import imp
        try:
            found = imp.find_module(name, path)[0]
        except ImportError:
            return name in sys.builtin_module_names
        if found:
            found.close()
        return True

    def fetch(self, path):
        """Writes the files below a path, and drops Python's cached finder for the directory."""
        write(path, self.directory)
        sys.path_importer_cache.pop(self.directory, None)


def write(path, directory, limit=float('inf')):
    """Writes all files below a path of the controller's, and returns the number of bytes."""
    size = 0
    for name, data in files.tree(path):
        target = os.path.join(directory, name)
        if not os.path.isdir(os.path.dirname(target)):
            os.makedirs(os.path.dirname(target))
        size += len(data)
        if size > limit:
            raise EnvironmentError('they are more than %d MiB' % (LIMIT >> 20))
        with open(target, 'wb') as out:
            out.write(data)
    return size


# -- files that are made once something looks at them

def later(package):
    """Has the files below a path of a package made once something looks there. The path ends in a slash.

    Before Python 3.8 they are made now: there is no event for files that are opened.
    """
    importer = core.child.importer
    if package in importer.spooled:
        return
    if importer.place == core.ROOT:
        try:
            base = memory()
        except EnvironmentError:
            base = None
        if base is None:
            importer.spooled = Nothing()
            return
        importer.place = os.path.join(base, 'econtext-%s/' % binascii.hexlify(os.urandom(12)).decode())
        importer.spooled = Packages()
        sys.path_hooks.insert(0, core.Entry)
        if hasattr(sys, 'addaudithook'):
            watch(importer.spooled)
    importer.spooled.add(package)
    if not hasattr(sys, 'addaudithook'):
        importer.spooled.make(package)


class Nothing(object):
    """The error that there is no place for files here."""

    def __contains__(self, package):
        """Returns True for every package, so that `later` returns at once."""
        return True

    def __iter__(self):
        """Returns an empty iterator: no package has its `__file__` below a directory."""
        return iter(())


class Packages(set):
    """The paths of packages whose modules have their `__file__` below the directory."""

    def __init__(self):
        """Starts without packages, and with LIMIT bytes for the files of all of them."""
        self.lock = threading.RLock()
        self.waiting = set()  # those without files
        self.making = None
        self.left = LIMIT
        self.directory = core.child.importer.place

    def add(self, package):
        """Adds the path of a package, and notes that its files do not exist yet."""
        set.add(self, package)
        self.waiting.add(package)

    def look(self, path):
        """Makes the files of the packages that a path belongs to, or leads to."""
        if isinstance(path, int) or not self.waiting:
            return
        try:
            path = os.fspath(path)
        except TypeError:
            return
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if path.startswith(self.directory[:-1]):
            path = os.path.normpath(path) + '/'
            for package in list(self.waiting):
                full = self.directory + package
                if path.startswith(full) or full.startswith(path):
                    self.make(package)

    def make(self, package):
        """Writes the files of a package, if they do not exist yet; raises an EnvironmentError if that fails."""
        pid = getattr(core.child, 'pid', None)
        if pid not in (None, os.getpid()) and isinstance(core.child.context, core.Context):
            return  # a fork, which cannot ask
        with self.lock:
            if self.making or package not in self.waiting:
                return  # this thread looks at them while it makes them
            self.making = package
            try:
                if not os.path.isdir(self.directory):
                    os.mkdir(self.directory, 0o700)
                    guard(self.directory)
                self.left -= write(package[:-1], self.directory, self.left)
                self.waiting.discard(package)
                # From now on, modules are imported from the files.
                for path in list(sys.path_importer_cache):
                    if (path + '/').startswith(self.directory + package):
                        sys.path_importer_cache.pop(path, None)
            except BaseException as error:
                shutil.rmtree(self.directory + package, True)
                if isinstance(error, EnvironmentError):
                    name = package[:-1].replace('/', '.')
                    raise EnvironmentError('cannot put the files of %s into %s: %s; econtext --spool-dir names another place for '
                                           '--spool %s' % (name, self.directory, error.strerror or error, name))
                raise
            finally:
                self.making = None


# Audit events whose arguments have paths. `stat` and `access` have none.
EVENTS = frozenset(['open', 'os.listdir', 'os.scandir', 'os.chdir', 'os.link', 'os.symlink', 'os.rename', 'os.putenv', 'subprocess.Popen',
                    'os.exec', 'os.posix_spawn', 'os.system', 'sqlite3.connect', 'ctypes.dlopen'])


def watch(packages):
    """Has `packages` told of each look at the file system."""
    def hook(event, arguments):
        """Handles an audit event: passes its arguments, and the items of lists among them, to `told`."""
        if event in EVENTS and packages.waiting:
            for argument in arguments:
                if isinstance(argument, (list, tuple)):
                    for word in argument:
                        told(word)
                else:
                    told(argument)

    def told(word):
        """Passes a path to `packages`; a command or variable is cut in front of the path that it contains."""
        if isinstance(word, (str, bytes)):
            # In a command or a variable, the path is only a part.
            at = word.find(packages.directory if isinstance(word, str) else packages.directory.encode())
            word = word[max(at, 0):]
        packages.look(word)

    for name in 'stat', 'access':
        original = getattr(os, name)
        watched = Watched(original, packages)
        for features in os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks, os.supports_effective_ids:
            if original in features:
                features.add(watched)
        setattr(os, name, watched)
        accessor = getattr(sys.modules.get('pathlib'), '_NormalAccessor', None)
        if hasattr(accessor, name):
            setattr(accessor, name, watched)  # up to Python 3.10 it has its own references
    sys.addaudithook(hook)


class Watched(object):
    """A wrapper of `os.stat` or `os.access`, which have no audit event. Like a builtin, it does not become a method in a class."""

    def __init__(self, original, packages):
        """Takes the original function, whose name and docstring the wrapper gets, and the Packages to tell."""
        self.original, self.packages = original, packages
        self.__name__, self.__doc__ = original.__name__, original.__doc__

    def __call__(self, path, *args, **kwargs):
        """Makes the files of packages that the path belongs to, except for linecache, and calls the original."""
        # Tracebacks look for the source of each line, and get it from the importer.
        if self.packages.waiting and sys._getframe(1).f_globals.get('__name__') != 'linecache':
            self.packages.look(path)
        return self.original(path, *args, **kwargs)
