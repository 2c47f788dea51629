"""Files beside served modules: resources, package data and the metadata of distributions. It is sent on first use.

A path here is one below core.ROOT, without a slash in front; '' is the top, where all of the controller's roots are one.
"""
from __future__ import absolute_import

import errno
import io
import os
import zlib

from econtext import core

DIRECTORY, FILE = 0, 1
ENTRY_POINTS = '*/entry_points.txt'  # a path that stands for these files of all distributions
ALL = '@'  # a path that stands for a list of all distributions, which comes with the metadata of any
METADATA = 'METADATA', 'PKG-INFO', 'entry_points.txt', 'top_level.txt'
listings = {}  # of directories: name to (is a directory, size)
contents = {}  # of files that came before they were asked for; None if there is no such file
reads = {}  # how many files of a directory were read one by one


def ask(path, offset=0):
    """(DIRECTORY, entries) or (FILE, size, a chunk in zlib), or None."""
    return core.child.context.ask(core.GET_FILE, path, offset)


def listing(path):
    """The entries of a directory, or None. Each directory is asked for once."""
    if path not in listings:
        parent, _, name = path.rpartition('/')
        if parent in listings and path and not (listings[parent] or {}).get(name, [False])[0]:
            return None
        answer = ask(path)
        entries = None
        if answer and answer[0] == DIRECTORY:
            entries = dict((entry[0], entry[1:]) for entry in answer[1])
        listings[path] = entries
    return listings[path]


def entry(path):
    """(is a directory, size) of the file or directory at a path, or None."""
    if not path:
        return True, 0
    parent, _, name = path.rpartition('/')
    return (listing(parent) or {}).get(name)


def missing(path):
    """Returns the error that open() would raise for a path that does not exist."""
    return IOError(errno.ENOENT, os.strerror(errno.ENOENT), core.ROOT + path)


def chunks(path):
    """Yields the content of a file in pieces, each of which is a round trip to the controller."""
    offset, size = 0, 1
    while offset < size:
        answer = ask(path, offset)
        if answer is None or answer[0] != FILE:
            raise missing(path)
        size, chunk = answer[1], zlib.decompress(answer[2])
        if not chunk and offset < size:
            raise EOFError('%s became shorter while it was read' % path)
        yield chunk
        offset += len(chunk)


def read(path):
    """The bytes of a file, given by its full path as `__file__` shows it, or below ROOT."""
    path = below(path)
    directory = path.rpartition('/')[0]
    while path not in contents and '/' in directory:
        reads[directory] = reads.get(directory, 0) + 1
        if reads[directory] == 2:
            # A reader of two files will want all of them.
            contents.update(tree(directory, 16 << 20))
        directory = directory.rpartition('/')[0]
    if path not in contents:
        data = io.BytesIO()
        for chunk in chunks(path):
            data.write(chunk)
        return data.getvalue()  # since 3.5 without a copy
    if contents[path] is None:
        raise missing(path)
    return contents[path]


def tree(path, limit=0):
    """Yields (path, bytes) of all files below a path, as far as they fit into `limit` bytes."""
    replies = core.Queue()
    context = core.child.context
    reply_to = context.add_handle_cb(replies.put)
    try:
        context.send(core.GET_TREE, (reply_to, path, limit))
        name, pieces = None, []
        while 1:
            piece = replies.get()
            if name and (piece is None or piece[1]):
                yield name, b''.join(pieces)
                pieces = []
            if piece is None:
                return
            name = piece[0]
            pieces.append(zlib.decompress(piece[2]))
    finally:
        context.del_handle(reply_to)


def below(path):
    """Returns a path relative to ROOT and normalised; raises an IOError for an absolute path elsewhere."""
    for root in core.ROOT, core.child.importer.place:
        if (path + '/').startswith(root):
            path = path[len(root):]
    if path.startswith('/'):
        raise missing(path)
    parts = []
    for part in path.split('/'):
        if part == '..' and parts:
            parts.pop()
        elif part not in ('', '.'):
            parts.append(part)
    return '/'.join(parts)


class Path(object):
    """A Traversable of importlib.resources, which importlib.metadata takes for a path."""

    def __init__(self, path):
        """Takes a path below ROOT, with '' for the top."""
        self.path = path

    @property
    def name(self):
        """Returns the last component."""
        return self.path.rpartition('/')[2]

    @property
    def stem(self):
        """Returns the last component without its suffix."""
        return self.name.rpartition('.')[0] or self.name

    @property
    def suffix(self):
        """Returns the suffix of the last component with its dot, or ''."""
        return self.name[len(self.stem):]

    @property
    def parent(self):
        """Returns the path of the directory that contains this one; the top contains itself."""
        return Path(self.path.rpartition('/')[0])

    def joinpath(self, *parts):
        """Returns the normalised path of something below this one."""
        return Path(below('/'.join([self.path or '.'] + [str(p) for p in parts])))

    def __truediv__(self, part):
        """Returns the path of `part` below this one, as joinpath() does."""
        return self.joinpath(part)

    __div__ = __truediv__

    def exists(self):
        """Returns whether the controller has a file or directory at this path."""
        return entry(self.path) is not None

    def is_dir(self):
        """Returns whether the controller has a directory at this path."""
        return bool((entry(self.path) or [False])[0])

    def is_file(self):
        """Returns whether the controller has a file at this path."""
        return self.exists() and not self.is_dir()

    def iterdir(self):
        """Returns an iterator over the paths in this directory; raises an IOError if it is no directory."""
        names = listing(self.path)
        if names is None:
            raise missing(self.path)
        return iter([self.joinpath(name) for name in names])

    def read_bytes(self):
        """Returns the content of the file."""
        return read(self.path)

    def read_text(self, encoding=None, errors=None):
        """Returns the content of the file as text, by default from strict UTF-8."""
        return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding or 'utf-8', errors or 'strict').read()

    def open(self, mode='r', buffering=-1, encoding=None, errors=None, newline=None):
        """Returns a file object in memory, of bytes or text as `mode` says; `buffering` has no effect."""
        data = io.BytesIO(self.read_bytes())
        data.name = str(self)
        return data if 'b' in mode else io.TextIOWrapper(data, encoding or 'utf-8', errors, newline)

    def __eq__(self, other):
        """Compares by the path; a string is never equal."""
        return isinstance(other, Path) and self.path == other.path

    def __lt__(self, other):
        """Orders by the path, so that directories can be sorted."""
        return self.path < other.path

    def __hash__(self):
        """Returns the hash of the path, in accordance with `__eq__`."""
        return hash(self.path)

    def __str__(self):
        """Returns the full path, as `__file__` has it for modules beside the file."""
        return core.child.importer.home(self.path)

    def __fspath__(self):
        """Returns the full path; open() can open it only if the package is spooled."""
        return str(self)

    def __repr__(self):
        """Returns the class and the full path."""
        return 'Path(%r)' % str(self)


def modules(directory, prefix):
    """(name, is a package) of the modules in a served directory, for pkgutil."""
    package = below(directory).replace('/', '.')
    if package:
        record = core.child.importer.record(package)
        children = dict(record and record.children or {})
        children.pop('*', None)
        children.pop('/', None)
        return sorted((prefix + name, kind in (core.PACKAGE, core.NAMESPACE)) for name, kind in children.items())
    found = []
    for path in Path('').iterdir():
        if path.name.endswith('.py'):
            found.append((prefix + path.stem, False))
        elif '.' not in path.name and path.joinpath('__init__.py').exists():
            found.append((prefix + path.name, True))
    return sorted(found)


class Reader(object):
    """The resource reader of one package, of importlib.resources in all its versions."""

    def __init__(self, path):
        """Takes the directory of the package, as a path below ROOT."""
        self.path = Path(path)

    def files(self):
        """Returns the directory of the package as a Traversable."""
        return self.path

    def open_resource(self, resource):
        """Returns a binary file object of a resource in the package."""
        return self.path.joinpath(resource).open('rb')

    def resource_path(self, resource):
        """Returns the path of a resource that is spooled; raises an IOError for one that is in memory only."""
        path = self.path.joinpath(resource)
        if not os.path.exists(str(path)):
            raise missing(path.path)  # it is not a file of a file system
        return str(path)

    def is_resource(self, name):
        """Returns whether the package has a file of this name."""
        return self.path.joinpath(name).is_file()

    def contents(self):
        """Returns an iterator over the names of the files and directories in the package."""
        return (p.name for p in self.path.iterdir())


def distributions(name):
    """The distributions that lie at the top of the controller's roots; those called `name`, if it is given."""
    from importlib.metadata import PathDistribution
    if name is None:
        fetch_entry_points()
        return iter([PathDistribution(path) for path in metadata_directories()])
    if ALL in contents and not any(distribution_name(path.name) == normal(name) for path in metadata_directories()):
        return iter(())
    # The metadata of all comes in one answer, which may be empty.
    if '@' + name not in contents:
        found = contents['@' + name] = dict(tree('@' + name))
        contents[ALL] = found.pop(ALL)
        for directory in set(path.rpartition('/')[0] for path in found):
            contents.update((directory + '/' + part, None) for part in METADATA)
        contents.update(found)
    names = sorted(set(path.rpartition('/')[0] for path in contents['@' + name]))
    return iter([PathDistribution(Path(directory)) for directory in names])


def normal(name):
    """A distribution's name as PEP 503 compares it."""
    return '-'.join(filter(None, name.lower().replace('_', '-').replace('.', '-').split('-')))


def distribution_name(directory):
    """Returns the normalised name of a distribution, given the name of its metadata directory."""
    return normal(directory.rpartition('.')[0].partition('-')[0])


def metadata_directories():
    """Returns the paths of the metadata directories of all served distributions."""
    if ALL not in contents:
        fetch_entry_points()
    return [Path(name) for name in contents[ALL].decode('utf-8').split('\n') if name]


def fetch_entry_points():
    """Fetches the entry points of all distributions at once: a reader of all wants them, and most have none."""
    if ENTRY_POINTS not in contents:
        contents.update(tree(ENTRY_POINTS))
        contents[ENTRY_POINTS] = None
        for path in metadata_directories():
            contents.setdefault(path.path + '/entry_points.txt', None)


# -- libraries that ask no loader

def adapt(module):
    """Adapts pkg_resources, distlib.resources or importlib._common, whichever the module is."""
    if hasattr(module, 'register_loader_type'):
        adapt_pkg_resources(module)
    elif hasattr(module, 'register_finder'):
        adapt_distlib(module)
    elif hasattr(module, 'fallback_resources'):
        adapt_importlib(module)


def adapt_importlib(common):
    """Adapts importlib.resources.files() of Python 3.9, which knows directories and zip files only."""
    original = common.fallback_resources

    def fallback_resources(spec):
        """Returns the directory of a served package, or the result of the original for others."""
        if spec.loader is core.child.importer:
            return Path(below(spec.origin).rpartition('/')[0])
        return original(spec)

    common.fallback_resources = fallback_resources


def adapt_pkg_resources(pkg_resources):
    """Adds resources of served packages, and the served distributions in the working set."""
    class Provider(pkg_resources.NullProvider):
        """A provider of the resources of served packages."""

        def _has(self, path):
            """Returns whether the controller has a file or directory at a full path."""
            return entry(below(path)) is not None

        def _isdir(self, path):
            """Returns whether the controller has a directory at a full path."""
            return Path(below(path)).is_dir()

        def _listdir(self, path):
            """Returns the sorted names in a directory; none if it does not exist."""
            return sorted(listing(below(path)) or ())

        def get_resource_filename(self, manager, name):
            """Returns the path of a spooled resource; raises NotImplementedError for others."""
            path = self._fn(self.module_path, name)
            if not os.path.exists(path):
                raise NotImplementedError(path + core.advice(path))
            return path

    class Metadata(Provider):
        """A provider of the metadata of one served distribution."""

        def __init__(self, directory):
            """Takes the metadata directory; the base class would take a module."""
            self.loader, self.module_path, self.egg_info = core.child.importer, str(directory), str(directory)

        def _has(self, path):
            """Returns whether a file exists, without a round trip for those that came in advance."""
            if path.endswith('/namespace_packages.txt'):
                return False  # the importer makes namespaces by itself
            if path.endswith('/entry_points.txt'):
                fetch_entry_points()
            path = below(path)
            return contents[path] is not None if path in contents else Provider._has(self, path)

    def find(importer, path, only=False):
        """Yields the served distributions for ROOT on sys.path, and none for a path below it."""
        if path + '/' == core.ROOT:
            for directory in metadata_directories():
                yield pkg_resources.Distribution.from_location(path, directory.name, Metadata(directory))

    pkg_resources.register_loader_type(core.Importer, Provider)
    pkg_resources.register_finder(core.Entry, find)
    pkg_resources.working_set.add_entry(core.ROOT[:-1])


def adapt_distlib(resources):
    """Adds resources of served packages; distlib knows the types of the loaders that it can ask."""
    class Finder(resources.ResourceFinder):
        """A finder of the resources of served packages."""

        def _find(self, path):
            """Returns whether the controller has a file or directory at a full path."""
            return entry(below(path)) is not None

        def get_stream(self, resource):
            """Returns a binary file object of a resource."""
            return Path(below(resource.path)).open('rb')

        def get_bytes(self, resource):
            """Returns the content of a resource."""
            return read(resource.path)

        def get_size(self, resource):
            """Returns the size of a resource in bytes."""
            return entry(below(resource.path))[1]

        def get_resources(self, resource):
            """Returns the set of names in a resource that is a directory."""
            return set(listing(below(resource.path)) or ())

        @staticmethod
        def _is_directory(path):
            """Returns whether the controller has a directory at a full path."""
            return Path(below(path)).is_dir()

    resources.register_finder(core.child.importer, Finder)
