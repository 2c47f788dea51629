"""The exceptions: one tree, in which `kind` is the name that the command and the Rust crate use too.

An exception of a function there is a `RemoteError`. If it was one of Python's own, or one that was registered, it is
that as well, so that both of these catch it:

    except FileNotFoundError: ...
    except econtext.RemoteError: ...

Nothing that a target sends chooses a class: names are looked up among Python's own exceptions and the registered ones, and
any other arrives as a plain `RemoteError` that says what it was.
"""
from __future__ import annotations

import builtins
import json
import socket
import subprocess
import sys
import types
from typing import Any, ClassVar, NamedTuple, Optional, Sequence

__all__ = [
    'AuthError', 'BecomeError', 'BootstrapError', 'CancelledError', 'ClosedError', 'CommandError', 'ConnectError', 'Error',
    'HostKeyError', 'LocalError', 'NoPythonError', 'ProtocolError', 'RemoteError', 'RemoteFrame', 'RemoteTraceback', 'TimeoutError',
    'UnpermittedError', 'UnreachableError', 'UsageError']


class Error(Exception):
    """The base of all errors. `host` says where, if it was on a host; `stderr` has the last output of ssh, sudo or the child."""

    kind: ClassVar[str] = 'usage'
    host: Optional[str]
    message: str
    stderr: str

    def __init__(self, message: str = '', host: Optional[str] = None, stderr: str = '') -> None:
        super().__init__(message)
        self.message, self.host, self.stderr = message, host, stderr

    def __str__(self) -> str:
        text = '%s: %s' % (self.host, self.message) if self.host else self.message
        return '%s; stderr: %s' % (text, self.stderr.rstrip()) if self.stderr else text

    def __reduce__(self) -> Any:
        return type(self), (self.message, self.host, self.stderr)


class UsageError(Error, ValueError):
    """The request makes no sense, or a value cannot be sent. Nothing was contacted."""


class LocalError(Error, OSError):
    """The system here refused something: a file that was to be read or written, a socket, a thread."""

    kind = 'local'

    def __init__(self, message: str = '', host: Optional[str] = None, stderr: str = '', errno: Optional[int] = None) -> None:
        super().__init__(message, host, stderr)
        self.errno = errno

    def __reduce__(self) -> Any:
        return type(self), (self.message, self.host, self.stderr, self.errno)


class ConnectError(Error, ConnectionError):
    """No child came up, so no function can have run there."""

    kind = 'unreachable'


class UnreachableError(ConnectError):
    """The host could not be reached."""


class AuthError(ConnectError):
    """The login was refused."""

    kind = 'auth'


class HostKeyError(ConnectError):
    """The host's key is unknown, or not the one known."""

    kind = 'host_key'


class BecomeError(ConnectError):
    """The switch to another user failed there."""

    kind = 'become'


class NoPythonError(ConnectError):
    """There is no usable Python there."""

    kind = 'no_python'


class BootstrapError(ConnectError):
    """The child did not come up."""

    kind = 'bootstrap'


class ProtocolError(Error):
    """The child sent malformed data. The connection is closed."""

    kind = 'protocol'


class UnpermittedError(Error, TypeError):
    """The result holds an instance of a class that was neither declared nor registered."""

    kind = 'unpermitted'


class TimeoutError(Error, builtins.TimeoutError):
    """The call took too long, and was interrupted there."""

    kind = 'timeout'


class CancelledError(Error):
    """The call was stopped."""

    kind = 'cancelled'


class ClosedError(Error, ConnectionError):
    """The child is gone."""

    kind = 'closed'


class CommandError(Error, subprocess.CalledProcessError):
    """A command of `run(..., check=True)` ended with a status other than 0."""

    kind = 'exception'

    def __init__(self, host: Optional[str], returncode: int, cmd: Any, output: Any = None, stderr: Any = None) -> None:
        subprocess.CalledProcessError.__init__(self, returncode, cmd, output, stderr)
        self.host = host
        self.message = subprocess.CalledProcessError.__str__(self)

    def __str__(self) -> str:
        text = self.stderr.decode('utf-8', 'replace') if isinstance(self.stderr, bytes) else self.stderr or ''
        return '%s: %s' % (self.host, self.message) + ('; stderr: ' + text.rstrip() if text.strip() else '')

    def __reduce__(self) -> Any:
        return type(self), (self.host, self.returncode, self.cmd, self.output, self.stderr)


class RemoteFrame(NamedTuple):
    """One frame of a traceback there."""

    file: str
    line: int
    function: str
    source: str


class RemoteTraceback(Exception):
    """The traceback there, as the cause of the exception here, so that code that prints one prints both."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return '\n' + self.text.rstrip()


class RemoteError(Error):
    """The exception that a function raised there."""

    kind: ClassVar[str] = 'exception'
    #: The qualified name of its type there.
    type_name: str = 'Exception'
    #: The frames there, outermost first.
    frames: Sequence[RemoteFrame] = ()
    #: The traceback there as Python prints it, with those of its causes.
    traceback: str = ''
    #: The exception that it was raised from, or while handling.
    remote_cause: Optional[RemoteError] = None
    _parts: Any = None

    def __str__(self) -> str:
        # Attributes of these names may be those of a class of yours.
        own = vars(self)
        text = str(own.get('_text', own.get('message')))
        return '%s: %s' % (own['host'], text) if own.get('host') else text

    def __repr__(self) -> str:
        own = vars(self)
        return '<%s from %s: %s>' % (type(self).__name__, own.get('host'), own.get('_text', own.get('message')))

    def __reduce__(self) -> Any:
        return remote, vars(self)['_parts']


_BY_KIND: dict[str, type[Error]] = {
    kind.__dict__.get('kind', 'unreachable'): kind for kind in (
        LocalError, UnreachableError, AuthError, HostKeyError, BecomeError, NoPythonError, BootstrapError, ProtocolError, UnpermittedError,
        TimeoutError, CancelledError, ClosedError)}
_BY_KIND.update({'usage': UsageError, 'exception': RemoteError, 'import': RemoteError})  # the last is an ImportError too


def make(kind: str, host: Optional[str], message: str, stderr: str, errno: Optional[int], unpermitted: Optional[str]) -> Error:
    """The exception for an error of the Rust crates."""
    if kind == 'local':
        return LocalError(message, host, stderr, errno)
    if errno is not None:
        # The command could not be started; the error is that of subprocess.
        return remote(host, 'builtins', 'OSError', message, (errno, message), '', (), None)
    if unpermitted is not None:
        message = 'the result holds the class %s, which was not allowed' % unpermitted
    return _BY_KIND.get(kind, Error)(message, host, stderr)


# Exceptions that have another meaning if they are raised here: they end programs and iterations.
_NOT_REBUILT = 'StopIteration', 'StopAsyncIteration'
_OS_ERRORS = 'OSError', 'IOError', 'EnvironmentError', 'WindowsError'
#: Exceptions, by their module and qualified name, that are rebuilt beside Python's own.
registered: dict[tuple[str, str], type[Exception]] = {
    ('json.decoder', 'JSONDecodeError'): json.JSONDecodeError, ('subprocess', 'CalledProcessError'): subprocess.CalledProcessError,
    ('subprocess', 'TimeoutExpired'): subprocess.TimeoutExpired, ('socket', 'gaierror'): socket.gaierror,
    ('socket', 'herror'): socket.herror, ('socket', 'error'): OSError, ('select', 'error'): OSError}
_classes: dict[type[Exception], type[RemoteError]] = {}


def _base(module: str, name: str, args: tuple[Any, ...]) -> Optional[type[Exception]]:
    found: Any = None
    if module in ('builtins', 'exceptions', '__builtin__'):
        if name in _OS_ERRORS:
            found = OSError
        elif name not in _NOT_REBUILT:
            found = vars(builtins).get(name)
    else:
        found = registered.get((module, name))
    if not (isinstance(found, type) and issubclass(found, Exception)) or issubclass(found, Error):
        return None
    if found is OSError:
        # Python 2 has one class for all of them.
        found = type(OSError(*args[:2]))
    kind: type[Exception] = found
    return kind


def _class(base: type[Exception]) -> type[RemoteError]:
    if base not in _classes:
        name = 'RemoteError[%s]' % base.__name__
        kind = 'import' if issubclass(base, ImportError) else 'exception'
        _classes[base] = type(name, (RemoteError, base), {'__module__': 'econtext', 'kind': kind, '__qualname__': name})
    return _classes[base]


def _rebuilt(base: type[Exception], args: tuple[Any, ...], state: dict[str, Any], group: Sequence[RemoteError]) -> RemoteError:
    """An exception with the arguments and attributes that it has there. Its own `__init__` is not run: it may compute arguments from
    others, and has done so there."""
    kind = _class(base)
    builtin: Any = next(known for known in base.__mro__ if known.__module__ == 'builtins')
    error: Any
    if group:
        error = builtin.__new__(kind, *args[:1], list(group))
    else:
        taken = args
        if issubclass(builtin, SyntaxError) and sys.version_info < (3, 10) and len(args) == 2 and type(args[1]) is tuple:
            taken = args[0], args[1][:4]  # from Python 3.10 on there is an end, too
        try:
            error = builtin.__new__(kind, *taken)
            builtin.__init__(error, *taken)
        except Exception:
            error = builtin.__new__(kind)  # an older Python takes other arguments
        error.args = args
    for name, value in state.items():
        member = getattr(builtin, name, None)
        if name.startswith('__') and name != '__notes__' or type(member) is types.GetSetDescriptorType:
            continue
        if type(member) is types.MemberDescriptorType:
            try:
                member.__set__(error, value)
            except (AttributeError, TypeError):
                pass  # it is read-only, and follows from the arguments
        else:
            vars(error)[name] = value
    return error  # type: ignore[no-any-return]


def remote(host: Optional[str], module: str, name: str, message: str, args: tuple[Any, ...], traceback: str,
           frames: Sequence[Any], cause: Optional[RemoteError], state: dict[str, Any] = {}, group: Sequence[Any] = ()) -> RemoteError:
    """The exception that was raised there, as one of this process. Nothing that was sent can make this raise."""
    parts = host, module, name, message, args, traceback, frames, cause, state, group
    if name == 'AssertionError' and not message and frames:
        message = frames[-1][3]  # the statement
    base = _base(module, name, args)
    error: Optional[RemoteError] = None
    if base is not None:
        try:
            error = _rebuilt(base, args, state, group)
        except Exception:
            pass  # an argument is missing: the exception is then a plain one
    full = name if module in ('builtins', 'exceptions', '__builtin__') else '%s.%s' % (module, name)
    if error is None:
        error = RemoteError.__new__(RemoteError, message)
        vars(error).update((name, value) for name, value in state.items() if not name.startswith('__') or name == '__notes__')
        message = '%s: %s' % (full, message) if message else full
    own = vars(error)
    own.update(host=host, type_name=full, frames=[RemoteFrame(*frame) for frame in frames], traceback=traceback,
               remote_cause=cause, _parts=parts, _text=message)
    # An exception has the attributes of these names that it has there: `CalledProcessError.stderr`.
    own.setdefault('message', message)
    own.setdefault('stderr', '')
    if group:
        own.setdefault('exceptions', tuple(group))
    if traceback:
        error.__cause__ = RemoteTraceback('on %s:\n%s' % (host, traceback) if host else traceback)
    return error
