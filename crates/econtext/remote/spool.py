"""Served packages as real files in memory-backed storage, for code that opens what lies beside it. Sent on request.

The files are in a private directory of a tmpfs. A process of its own removes it when this one is gone, however it went.
"""
from __future__ import absolute_import

import os
import shutil
import sys
import tempfile

from econtext import core

if core.PY3:
    from importlib import machinery  # now: to import it while it is looked for would make it twice


def start(packages, where=None):
    """Puts these top-level packages, or with 'all' every served one, into files before they are first imported."""
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
    """The first place that is in memory and may be written to."""
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
    """First on sys.meta_path: finds nothing, but fetches a package's files before others look for it."""

    def __init__(self, directory, packages):
        self.directory, self.packages, self.seen = directory, packages, set(['econtext'])

    def find_spec(self, name, path=None, target=None):
        if '.' not in name and name not in self.seen and ('all' in self.packages or name in self.packages):
            self.seen.add(name)
            if not self.is_local(name):
                record = core.core.importer.record(name)
                if record and (record[0] in (core.PACKAGE, core.NAMESPACE) or name in self.packages):
                    self.fetch(name if record[0] != core.MODULE else record[1])

    find_module = find_spec

    def is_local(self, name):
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
        from econtext import files
        for name, data in files.tree(path):
            target = os.path.join(self.directory, name)
            if not os.path.isdir(os.path.dirname(target)):
                os.makedirs(os.path.dirname(target))
            with open(target, 'wb') as out:
                out.write(data)
        sys.path_importer_cache.pop(self.directory, None)
