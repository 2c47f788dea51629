"""The state that all hosts of this process share: the broker, and the module finders. Both are made on first use."""
from __future__ import annotations

import atexit
import codecs
import os
import sys
import sysconfig
import threading
from typing import Any, Callable, Optional

from . import _econtext

#: A callback that takes the host's name, 1 or 2, and the bytes that were written to that file descriptor there.
OutputCallback = Callable[[str, int, bytes], Any]

_lock = threading.Lock()
_broker: Optional[_econtext.Broker] = None
_descriptors: list[int] = []
_finders: dict[tuple[Any, ...], _econtext.Finder] = {}
_before_shutdown: list[Callable[[], Any]] = []


def broker() -> _econtext.Broker:
    """This process's broker."""
    global _broker
    with _lock:
        if _broker is None:
            _broker = _econtext.Broker()
            _register_once()
        return _broker


_is_registered = False


def _register_once() -> None:
    global _is_registered
    if not _is_registered:
        _is_registered = True
        atexit.register(_shutdown)
        os.register_at_fork(before=_before_fork, after_in_parent=_descriptors.clear, after_in_child=_after_fork)


def _shutdown() -> None:
    """Ends all children before the interpreter does."""
    global _broker
    with _lock:
        gone, _broker = _broker, None
    if gone is not None:
        gone.shutdown()


def _before_fork() -> None:
    if _broker is not None:
        _descriptors.extend(_broker.descriptors())


def _after_fork() -> None:
    """Closes the children's streams in a fork. The children are the original's, and could not see it end otherwise."""
    global _broker, _finders, _lock
    for descriptor in _descriptors:
        try:
            os.close(descriptor)
        except OSError:
            pass
    _descriptors.clear()
    _finders = {}  # another thread may have been using one
    _broker, _lock = None, threading.Lock()


# -- modules

def finder() -> _econtext.Finder:
    """The finder of modules for children: on `sys.path` as it is now, then with the other finders of `sys.meta_path`."""
    main = getattr(sys.modules.get('__main__'), '__file__', None)
    key = tuple(sys.path), main, os.getcwd() if '' in sys.path else None
    with _lock:
        if key not in _finders:
            sources, sites = _directories()
            _finders[key] = _econtext.Finder(sources, sites, main if main and os.path.isfile(main) else None, _other)
        return _finders[key]


def _standard() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    found = {paths['stdlib'], paths['platstdlib']}
    return tuple(os.path.realpath(path) for path in found)


def _is_standard(path: str) -> bool:
    """Whether a path is in the standard library, which children have themselves."""
    path = os.path.realpath(path)
    for root in _standard():
        if path == root or path.startswith(root + os.sep):
            rest = path[len(root):].strip(os.sep).split(os.sep)[0]
            return rest not in ('site-packages', 'dist-packages')
    return False


def _directories() -> tuple[list[str], list[str]]:
    """`sys.path` without the standard library: directories with much else in them, and those of installed packages."""
    sources: list[str] = []
    sites: list[str] = []
    for entry in sys.path:
        path = entry or os.getcwd()
        if not os.path.exists(path) or _is_standard(path):
            continue
        name = os.path.basename(path.rstrip(os.sep))
        (sites if name in ('site-packages', 'dist-packages') or os.path.isfile(path) else sources).append(path)
    return sources, sites


def _spec(name: str) -> Any:
    """The spec of a module, of those that are imported already or from finders that are not the interpreter's own."""
    spec = getattr(sys.modules.get(name), '__spec__', None)
    if spec is not None:
        return spec
    parent, path = name.rpartition('.')[0], None
    if parent:
        path = getattr(_spec(parent), 'submodule_search_locations', None)
        if path is None:
            return None
    for finder in sys.meta_path:
        # Modules that the interpreter's own find are there too, or are in the directories.
        home = finder.__module__ if isinstance(finder, type) else type(finder).__module__
        find = getattr(finder, 'find_spec', None)
        if find is None or home.startswith(('_frozen_importlib', 'importlib.', '_distutils_hack')):
            continue
        spec = find(name, path)
        if spec is not None:
            return spec
    return None


def _other(name: str) -> Optional[tuple[int, str, Optional[bytes], list[tuple[str, int]]]]:
    """A module that the directories do not have: (kind, path, source, children). Nothing is imported for it."""
    import pkgutil
    if name.partition('.')[0] in ('econtext', '__main__'):
        return None
    spec = _spec(name)
    if spec is None or spec.origin in ('built-in', 'frozen') or spec.origin and _is_standard(spec.origin):
        return None
    locations = spec.submodule_search_locations
    children = []
    if locations is not None:
        below = {info.name: 1 if info.ispkg else 0 for info in pkgutil.iter_modules(list(locations))}
        for other in list(sys.modules):
            parent, _, tail = other.rpartition('.')
            if parent == name:
                below.setdefault(tail, 1 if hasattr(sys.modules[other], '__path__') else 0)
        # Only a custom finder itself knows which further modules it has.
        children = sorted(below.items()) + ([] if spec.has_location and locations else [('*', 0)])
    get_source = getattr(spec.loader, 'get_source', None)
    source = get_source(name) if get_source else None
    at = name.replace('.', '/')
    if source is None:
        if locations is not None and spec.origin is None:
            return 2, at, None, children
        return 3, 'it is compiled, and has no source to send', None, []
    return (1, at + '/__init__.py', source.encode(), children) if locations is not None else (0, at + '.py', source.encode(), [])


# -- output and logs of children

def log_level() -> int:
    """The level of the root logger, which that of a child gets."""
    logging = sys.modules.get('logging')
    return min(logging.getLogger().getEffectiveLevel(), 255) if logging else 30


class Events:
    """Forwards output to `sys.stdout` and `sys.stderr`, or to a callback; log records to the logger `econtext.ctx.HOST`."""

    def __init__(self, output: Optional[OutputCallback], prefix: bool) -> None:
        self.output, self.prefix = output, prefix
        self.decoders: dict[tuple[str, int], Any] = {}
        self.at_start: dict[tuple[str, int], bool] = {}

    def __call__(self, host: str, what: str, *rest: Any) -> None:
        if what == 'output':
            if self.output is not None:
                self.output(host, *rest)
            else:
                self.show(host, *rest)
        else:
            self.log(host, *rest)

    def show(self, host: str, descriptor: int, data: bytes) -> None:
        key = host, descriptor
        if key not in self.decoders:
            self.decoders[key] = codecs.getincrementaldecoder('utf-8')('replace')
        text = self.decoders[key].decode(data)
        if self.prefix:
            lines = text.splitlines(True)
            started = not self.at_start.get(key, True)
            head = '' if started else host + ': '
            text = head + (host + ': ').join(lines) if lines else ''
        if text:
            self.at_start[key] = text.endswith('\n')
            file = sys.stderr if descriptor == 2 else sys.stdout
            if file is not None:
                file.write(text)
                file.flush()

    @staticmethod
    def log(host: str, name: str, level: int, message: str, time: float, traceback: Optional[str], fields: dict[Any, Any]) -> None:
        import logging
        logger = logging.getLogger('econtext.ctx.' + host)
        if not logger.isEnabledFor(level):
            return
        path, line = fields.get('pathname', '(%s)' % host), fields.get('lineno', 0)
        record = logging.LogRecord(name, level, str(path), line if isinstance(line, int) else 0, message, (), None)
        record.created = time or record.created
        record.msecs = (record.created - int(record.created)) * 1000
        # These are the attributes of `extra`, and of the place of the call; the attributes made in this process are not the child's.
        vars(record).update((str(field), value) for field, value in fields.items() if field not in _OWN_FIELDS)
        record.host = host
        if traceback:
            from . import _errors
            error = _errors.RemoteError(traceback.rstrip().rpartition('\n')[2], host)
            error.traceback = traceback
            record.exc_info, record.exc_text = (type(error), error, None), traceback
        logger.handle(record)


#: Attributes of log records that are made here.
_OWN_FIELDS = frozenset(('name', 'msg', 'args', 'levelname', 'levelno', 'pathname', 'lineno', 'exc_info', 'exc_text', 'created', 'msecs',
                         'relativeCreated', 'host'))
