"""Transfers of files and directories, there and back. It is sent on first use, and run as calls.

The data on its way is limited: the receiver acknowledges data that it has handled, and the sender waits when a window is
full. A file is written beside its name and gets that only once its checksum is right; a part left by a lost connection
is resumed the next time. All paths are bytes.
"""
from __future__ import absolute_import

import binascii
import errno
import fcntl
import os
import stat

from econtext import core

try:
    from hashlib import sha1  # with OpenSSL it is many times faster than the one that is there at start
    sha1()
except (ImportError, ValueError):
    sha1 = core.sha1  # it is missing or forbidden

core.child.stream.hurry()

DIRECTORY, LINK, FILE, DATA, HOLE, END, SKIP = range(7)
CHUNK = 1 << 18
HOLES = 1 << 22  # zeros that are not sent are reported in pieces, so that both sides work
ZEROS = bytes(bytearray(CHUNK))
PART = b'.econtext-part'


def named(error, path=None):
    """An error of the system with the path that the user knows, as text, in place of that of a part of a file."""
    path = path or error.filename
    if core.PY3 and isinstance(path, bytes):
        path = os.fsdecode(path)
    error = EnvironmentError(error.errno, error.strerror, path)
    error.__cause__ = None
    return error


# -- to this machine

def look(destination, into, files):
    """Whether `destination` is to be a directory, and the content of `files`, a list of (name, size), that is here already.

    Each item is (size, digest, whether it is the file itself), of a file of the same size or of a start of it; or None.
    """
    destination = os.path.expanduser(destination)
    into = into or os.path.isdir(destination)
    found = []
    for name, size in files:
        path = os.path.realpath(place(destination, into, name))
        have = None
        for candidate, whole in (path, True), (part_of(path), False):
            try:
                status = os.stat(candidate)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and (status.st_size == size if whole else status.st_size <= size):
                try:
                    have = status.st_size, digest(candidate, status.st_size), whole
                except EnvironmentError:
                    continue  # a file that cannot be read may still be written
                break
        found.append(have)
    return destination, into, found


def place(destination, into, name):
    """Returns the path of `name` below `destination`, or, without `into`, with it as the first component."""
    if into:
        return os.path.join(destination, name)
    rest = name.partition(b'/')[2]
    return os.path.join(destination, rest) if rest else destination


def part_of(path):
    """Returns the path of the unfinished file beside `path`."""
    directory, name = os.path.split(path)
    return os.path.join(directory, b'.' + name + PART)


def digest(path, size):
    """Returns the SHA-1 digest of the first `size` bytes of a file."""
    sha = sha1()
    with open(path, 'rb') as f:
        while size > 0:
            data = f.read(min(CHUNK, size))
            if not data:
                break
            sha.update(data)
            size -= len(data)
    return sha.digest()


def survey(destination, into, files, limit):
    """A survey of those of `files`, a list of (name, size), that are here. Nothing is changed.

    Each item is (path, size, digest, mode, owner, group, content of at most `limit` bytes); None for a missing file.
    """
    destination, into, _ = look(destination, into, ())
    found = []
    for name, size in files:
        path = place(destination, into, name)
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise EnvironmentError(errno.EINVAL, 'what is there is no file', path)
            content = None
            if status.st_size <= limit:
                with open(path, 'rb') as f:
                    content = f.read()
            found.append((path, status.st_size, digest(path, status.st_size), stat.S_IMODE(status.st_mode),
                          owner_name('pwd', status.st_uid), owner_name('grp', status.st_gid), content))
        except EnvironmentError as e:
            if e.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise named(e, path)
            found.append((path, None, None, None, None, None, None))
    return found


def owner_name(database, number):
    """The name of a user (`pwd`) or group (`grp`), or the number where there is none."""
    try:
        module = __import__(database)
        return (module.getpwuid if database == 'pwd' else module.getgrgid)(number)[0]
    except (ImportError, KeyError):
        return str(number)


def owner_number(database, name):
    """The number of a user (`pwd`) or group (`grp`), given its name or number; -1 for none."""
    if name is None:
        return -1
    if name.isdigit():
        return int(name)
    module = __import__(database)
    try:
        return (module.getpwnam if database == 'pwd' else module.getgrnam)(str(name))[2]
    except KeyError:
        raise EnvironmentError(errno.EINVAL, 'there is no such %s' % ('user' if database == 'pwd' else 'group'), name)


class Wishes(object):
    """The wanted properties of files, beside their content."""

    def __init__(self, preserve, mode, owner, group, backup):
        """Takes the properties; None for mode, owner or group leaves those as they are."""
        self.preserve, self.mode, self.backup = preserve, mode, backup
        self.owner, self.group = owner_number('pwd', owner), owner_number('grp', group)

    def grant(self, path, metadata, directory=False):
        """Gives the file at `path` the metadata of its source, if that is wanted, and the properties wanted in its place."""
        if self.preserve:
            set_metadata(path, metadata)
        mode = self.mode
        if directory and mode is not None:
            mode |= (mode & 0o444) >> 2  # a readable directory may be entered
        if self.owner + self.group > -2:
            before = stat.S_IMODE(os.stat(path).st_mode)
            os.chown(path, self.owner, self.group)
            mode = before if mode is None else mode  # chown clears some bits
        if mode is not None:
            os.chmod(path, mode)


def keep_backup(path):
    """Gives the file that is about to be replaced a second name, with the time in it."""
    import time
    name = backup = path + time.strftime('.%Y-%m-%d-%H:%M:%S').encode() + b'~'
    count = 1
    while os.path.lexists(backup):
        backup = name + b'%d~' % count if core.PY3 else name + '%d~' % count
        count += 1
    try:
        os.link(path, backup)
    except (OSError, AttributeError):
        import shutil
        shutil.copy2(path, backup)  # a file system without hard links


def put(channel, destination, into, *wishes):
    """Takes in the files from the channel, and returns the number of files that were written."""
    written, later, target, path = 0, [], None, destination
    wishes = Wishes(*wishes)
    try:
        if destination.endswith(b'/') and not os.path.isdir(destination):
            try:
                os.makedirs(destination)
            except OSError:
                if not os.path.isdir(destination):  # another transfer was faster
                    raise
        for message in channel:
            kind, values = message[0], message[1:]
            if kind == DATA:
                target.write(values[0])
                channel.send(len(values[0]))
            elif kind == HOLE:
                target.skip(values[0])
            elif kind == END:
                target.finish(values[0], wishes)
                target = None
                written += 1
            else:
                path = place(destination, into, values[0])
                if kind == FILE:
                    target = Target(path, *values[1:])
                elif kind == DIRECTORY:
                    make_directory(path)
                    later.append((path, values[1]))
                elif kind == LINK:
                    make_link(values[1], path)
                elif kind == SKIP:
                    wishes.grant(path, values[1])
        for path, metadata in reversed(later):  # writes into them have changed their times
            wishes.grant(path, metadata, True)
    except BaseException as e:
        if target:
            target.remove()
        if isinstance(e, EnvironmentError):
            raise named(e, path)
        raise
    return written


class Target(object):
    """A file that is being written."""

    def __init__(self, path, size, offset, metadata):
        """Opens the unfinished file, and digests the first `offset` bytes, which are there already."""
        self.path, self.size, self.metadata = os.path.realpath(path), size, metadata
        if os.path.lexists(self.path) and not os.path.isfile(self.path):
            raise EnvironmentError(errno.EINVAL, 'what is there is no file', self.path)  # a device, a directory
        self.sha = sha1()
        self.part, self.fd = open_part(self.path, offset)
        left = offset
        while left:
            data = os.read(self.fd, min(CHUNK, left))
            if not data:
                raise EnvironmentError(errno.EIO, 'what was here of it has gone', self.part)
            self.sha.update(data)
            left -= len(data)
        os.ftruncate(self.fd, offset)

    def write(self, data):
        """Appends data to the file and to the checksum."""
        self.sha.update(data)
        while data:
            data = data[os.write(self.fd, data):]

    def skip(self, size):
        """Adds `size` zero bytes as a hole: they count in the checksum but are not written."""
        os.lseek(self.fd, size, 1)
        while size:
            n = min(size, CHUNK)
            self.sha.update(ZEROS if n == CHUNK else ZEROS[:n])
            size -= n

    def finish(self, expected, wishes):
        """Compares the checksum with `expected`, sets the properties, and renames the file to its final name."""
        os.ftruncate(self.fd, self.size)
        if self.sha.digest() != expected:
            raise EnvironmentError(errno.EIO, 'the checksum is wrong', self.path)
        mode = self.metadata[0]
        try:
            before = os.stat(self.path)
        except OSError:
            before = None
            mode &= 0o777 & ~umask()
        else:
            mode = stat.S_IMODE(before.st_mode)
            try:
                os.fchown(self.fd, before.st_uid, before.st_gid)
            except OSError:
                mode &= 0o777  # the file is another user's now
        if not wishes.preserve:
            os.fchmod(self.fd, mode)
        wishes.grant(self.part, self.metadata)
        if before and wishes.backup:
            keep_backup(self.path)
        os.rename(self.part, self.path)  # before it is closed: afterwards others may use it
        os.close(self.fd)

    def remove(self):
        """Closes and deletes the unfinished file, as far as that is possible."""
        try:
            os.close(self.fd)
            os.unlink(self.part)
        except OSError:
            pass


def umask():
    """The permissions that new files do not get. The system call to read them sets them, for all threads; Linux has a file too."""
    try:
        with open('/proc/self/status') as f:
            for line in f:
                if line.startswith('Umask:'):
                    return int(line.split()[1], 8)
    except EnvironmentError:
        pass
    mask = os.umask(0)
    os.umask(mask)
    return mask


def open_part(final, offset):
    """The path and the descriptor of a file that no other process writes, with the `offset` bytes of it that were seen here.

    Hosts may share a disk, and be sent the same file at the same time: the second one uses another name, and
    finds the bytes that were seen in the file of the first, or in the finished file.
    """
    path = part_of(final)
    fd = open_own(path)
    others = [final]
    if not is_mine(fd, path):
        os.close(fd)
        others.insert(0, path)
        path += b'.' + binascii.hexlify(os.urandom(8))
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    have = os.lseek(fd, 0, 2)
    for other in others:
        try:
            with open(other, 'rb') as f:
                f.seek(have)
                while have < offset:
                    data = f.read(min(CHUNK, offset - have))
                    if not data:
                        break
                    core.write_all(fd, data)
                    have += len(data)
        except EnvironmentError:
            pass  # the file has gone; the next may be it
    os.lseek(fd, 0, 0)
    return path, fd


def is_mine(fd, path):
    """Whether the file could be locked, and still has this name. Without locks, no other process has one."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except EnvironmentError as e:
        if e.errno in (errno.EAGAIN, errno.EACCES):
            return False
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


def open_own(path):
    """A file of our own, new or left over: where others may write too, they may have put something there."""
    flags = os.O_RDWR | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_CLOEXEC', 0)
    while 1:
        try:
            fd = os.open(path, flags)
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink <= 1:
                os.fchmod(fd, 0o600)
                return fd
            os.close(fd)
            remove(path)
        except OSError as e:
            if e.errno == errno.ELOOP:
                remove(path)
            elif e.errno != errno.ENOENT:
                raise
        try:
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as e:
            if e.errno != errno.EEXIST:  # another one was faster, and its file is checked
                raise


def remove(path):
    """Deletes a file; does nothing if there is none."""
    try:
        os.unlink(path)
    except OSError as e:
        if e.errno != errno.ENOENT:
            raise


def set_metadata(path, metadata):
    """Sets the modification time in seconds, the mode and, for root only, the numbers of owner and group."""
    mode, uid, gid, mtime = metadata
    os.utime(path, (mtime, mtime))
    if os.geteuid() == 0:
        os.chown(path, uid, gid)
    os.chmod(path, mode)  # after chown, which clears some bits


def make_directory(path):
    """Creates a directory, unless there is one already."""
    try:
        os.mkdir(path)
    except OSError as e:
        if e.errno != errno.EEXIST or not os.path.isdir(path):
            raise


def make_link(target, path):
    """Creates a symbolic link in place of any other link at `path`."""
    if os.path.islink(path):
        if os.readlink(path) == target:
            return
        os.unlink(path)
    os.symlink(target, path)


# -- from this machine

def listing(paths, links):
    """(name, path, kind, size, link target, metadata) of every entry below the paths, directories first.

    A path that is not there and has wildcards stands for all that match.
    """
    found, names = [], {}
    for path in matches(paths):
        name = os.path.basename(os.path.normpath(path))
        if names.setdefault(name, path) != path:
            raise named(EnvironmentError(errno.EEXIST, 'two sources would have this name here', name))
        try:
            walk(name, path, links, found, ())
        except EnvironmentError as e:
            raise named(e)
    return found


def matches(paths):
    """Yields the paths with `~` and wildcards expanded; raises an EnvironmentError if wildcards match nothing."""
    for path in paths:
        path = os.path.expanduser(path)
        if os.path.lexists(path) or not set(bytearray(b'*?[')) & set(bytearray(path)):
            yield path
            continue
        import glob
        found = sorted(glob.glob(path))
        if not found:
            raise named(EnvironmentError(errno.ENOENT, 'nothing matches', path))
        for path in found:
            yield path


def walk(name, path, links, found, above):
    """Appends the entries at and below `path` to `found`; `above` has (device, inode) of the parents."""
    status = (os.lstat if links else os.stat)(path)
    metadata = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime
    if stat.S_ISLNK(status.st_mode):
        found.append((name, path, LINK, 0, os.readlink(path), metadata))
    elif stat.S_ISDIR(status.st_mode):
        me = status.st_dev, status.st_ino
        if me in above:
            raise EnvironmentError(errno.ELOOP, 'a directory that is in itself', path)
        found.append((name, path, DIRECTORY, 0, b'', metadata))
        for entry in sorted(os.listdir(path)):
            walk(os.path.join(name, entry), os.path.join(path, entry), links, found, above + (me,))
    elif stat.S_ISREG(status.st_mode):
        found.append((name, path, FILE, status.st_size, b'', metadata))
    elif above:
        pass  # devices and sockets are left out
    else:
        raise EnvironmentError(errno.EINVAL, 'neither a file nor a directory', path)


def get(channel, files, window):
    """Sends `files`, a list of (path, bytes that are there already, their digest or None, whether that is all)."""
    try:
        send(channel, files, window)
    except EnvironmentError as e:
        raise named(e)


def send(channel, files, credit):
    """Sends the files in pieces, and waits for acknowledgements when `credit`, in bytes, is used up."""
    for path, offset, known, whole in files:
        with open(path, 'rb') as f:
            size = os.fstat(f.fileno()).st_size
            if known is None or (size != offset if whole else size < offset) or digest(path, offset) != known:
                offset, whole = 0, False
            if whole:
                channel.send((SKIP,))
                continue
            channel.send((FILE, size, offset))
            sha, sent = sha1(), 0
            hole = 0
            while sent < size:
                data = f.read(min(CHUNK, size - sent) if sent >= offset else min(CHUNK, offset - sent))
                if not data:
                    raise EnvironmentError(errno.EIO, 'it became shorter while it was read', path)
                sha.update(data)
                sent += len(data)
                if sent <= offset:
                    continue
                if data == ZEROS[:len(data)]:
                    hole += len(data)
                    if hole >= HOLES:
                        channel.send((HOLE, hole))
                        hole = 0
                    continue
                if hole:
                    channel.send((HOLE, hole))
                    hole = 0
                while credit < len(data):
                    credit += channel.receive()
                credit -= len(data)
                channel.send((DATA, data))
            if hole:
                channel.send((HOLE, hole))
            channel.send((END, sha.digest()))
