"""Facts about a machine, from nothing but the standard library. Runs on Python 2.7 and every Python 3.

    econtext call web01,web02 --path examples facts:load
    econtext call web01 --path examples facts:disk path=/var
"""
import logging
import os
import platform


def load():
    """The load averages."""
    return os.getloadavg()


def disk(path='/'):
    """Bytes: (total, used, available to users)."""
    s = os.statvfs(path)
    if s.f_bavail * 10 < s.f_blocks:
        logging.getLogger('facts').warning('%s is nearly full', path)
    return s.f_blocks * s.f_frsize, (s.f_blocks - s.f_bfree) * s.f_frsize, s.f_bavail * s.f_frsize


def system():
    """The part that runs here."""
    return {'node': platform.node(), 'kernel': platform.release(), 'python': platform.python_version()}


def largest(channel, top):
    """Streams the files below `top` that are larger than all before; ends early when the other side closes."""
    size = -1
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            try:
                this = os.lstat(path).st_size
            except OSError:
                continue
            if this > size:
                size = this
                channel.send((path, size))


def everything():
    """A row of a table."""
    total, used, _ = disk()
    return {
        'node': platform.node(),
        'kernel': platform.release(),
        'python': platform.python_version(),
        'cpus': os.sysconf('SC_NPROCESSORS_ONLN'),
        'load': load()[0],
        'disk_gib': total >> 30,
        'disk_used': used * 100 // max(total, 1),
    }


def follow(path, lines=10):
    """Yields lines of a file as they are written, up to a number of them."""
    import time
    with open(path) as log:
        while lines:
            line = log.readline()
            if line:
                lines -= 1
                yield line.rstrip()
            else:
                time.sleep(.1)
