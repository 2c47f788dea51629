"""One host: a child there, and its operations."""
from __future__ import annotations

import concurrent.futures
import os
import pickle
from typing import (
    TYPE_CHECKING, Any, Callable, Generator, Generic, Iterable, Iterator, Mapping, NamedTuple, Optional, Sequence, TypeVar, Union, overload)

from . import _capture, _econtext, _runtime, _values
from ._channel import Channel
from ._errors import CommandError, TimeoutError, UsageError

if TYPE_CHECKING:
    from types import TracebackType
    from typing_extensions import ParamSpec, Self

    P = ParamSpec('P')

T = TypeVar('T')
StrPath = Union[str, bytes, 'os.PathLike[str]', 'os.PathLike[bytes]']
Argv = Sequence[Union[str, bytes, 'os.PathLike[str]']]


class Output(NamedTuple):
    """The result of a command, as that of `subprocess.run`: negative codes are signals."""

    args: Any
    returncode: int
    stdout: Any
    stderr: Any

    @property
    def ok(self) -> bool:
        """Whether the command ended with 0."""
        return self.returncode == 0


class Transferred(NamedTuple):
    """The result of a transfer."""

    files: int
    skipped: int
    bytes: int


class Options(NamedTuple):
    """The options of calls beside their arguments; see `Host.options`."""

    timeout: Optional[float] = None
    trust: bool = False
    returns: Any = None


def options_of(timeout: Optional[float], trust: bool, returns: Any) -> Options:
    """Checks options and returns them."""
    if timeout is not None and not timeout > 0:
        raise UsageError('a timeout is a number of seconds above 0, and this is %r' % (timeout,))
    return Options(timeout, trust, returns)


def request(options: Options, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any],
            stream: bool = False) -> _econtext.Request:
    """A call of a function, prepared for any number of children."""
    return _capture.request(function, args, kwargs, options.timeout, options.trust, declared(options, function), stream)


def declared(options: Options, function: Any) -> Any:
    """The classes that a result may be made of."""
    if options.returns is not None:
        return _values.classes(options.returns)
    return None if isinstance(function, str) else _values.declared(function)


def argv_of(argv: Argv) -> list[bytes]:
    """The words of a command."""
    if isinstance(argv, (str, bytes)):
        raise UsageError('a command is a list of words, and a line for a shell is ["sh", "-c", line]; this is %r' % (argv,))
    return [os.fsencode(word) for word in argv]


def command_of(argv: Argv, input: Union[str, bytes, None], env: Optional[Mapping[str, Optional[str]]],
               cwd: Optional[StrPath], umask: Optional[int]) -> tuple[Any, ...]:
    """A command as the native half takes it."""
    pairs = [(os.fsencode(name), None if value is None else os.fsencode(value)) for name, value in (env or {}).items()]
    data = input.encode() if isinstance(input, str) else input
    return argv_of(argv), data, pairs, None if cwd is None else os.fsencode(cwd), umask


def output_of(host: Optional[str], argv: Argv, finished: tuple[int, bytes, bytes], text: bool, check: bool) -> Output:
    """The end of a command as an `Output`."""
    code, stdout, stderr = finished
    show: Any = (lambda data: data.decode('utf-8', 'surrogateescape')) if text else (lambda data: data)
    output = Output(argv, code, show(stdout), show(stderr))
    if check and code:
        raise CommandError(host, code, argv, output.stdout, output.stderr)
    return output


def sources_of(paths: Union[StrPath, Iterable[StrPath]]) -> list[str]:
    """The paths that are to be read here. A missing one raises Python's own error."""
    found = paths_of(paths)
    for path in found:
        os.stat(path)
    return found


def paths_of(paths: Union[StrPath, Iterable[StrPath]]) -> list[str]:
    """A list of one path, or of several."""
    return [os.fsdecode(paths)] if isinstance(paths, (str, bytes, os.PathLike)) else [os.fsdecode(path) for path in paths]


def wishes_of(preserve: bool, links: bool, mode: Optional[int] = None, owner: Optional[str] = None,
              backup: bool = False) -> tuple[bool, bool, Optional[int], Optional[str], bool]:
    """The wanted properties of files beside their content, as the native half takes them."""
    if mode is not None and not 0 <= mode <= 0o7777:
        raise UsageError('a mode is a number such as 0o644, and this is %r' % (mode,))
    return preserve, links, mode, owner, backup


class CallFuture(concurrent.futures.Future[T], Generic[T]):
    """The future of one call. Cancelling it stops the function there, if it has begun."""

    _call: Optional[_econtext.Call] = None

    def cancel(self) -> bool:
        """Stops the call; False if it is done already."""
        if self.cancelled():
            return True
        if not super().cancel():
            return False
        try:
            self.set_running_or_notify_cancel()
        except (concurrent.futures.InvalidStateError, RuntimeError):
            return True  # another thread was faster
        if self._call is not None:
            self._call.cancel()
        return True

    def result(self, timeout: Optional[float] = None) -> T:
        """The function's return value. Ctrl-C during the wait interrupts the function there."""
        try:
            return super().result(timeout)
        except KeyboardInterrupt:
            self.cancel()
            raise

    def _settle(self, value: Any, error: Optional[BaseException]) -> None:
        try:
            if error is not None:
                self.set_exception(error)
            else:
                self.set_result(value)
        except concurrent.futures.InvalidStateError:
            pass  # the future was cancelled


class HostBase:
    """The common base of hosts that are waited for and hosts that are awaited."""

    _child: _econtext.Child
    name: str

    def __init__(self, child: _econtext.Child, name: str, options: Options = Options()) -> None:
        self._child, self.name, self._options = child, name, options
        self._hello: Optional[tuple[str, int, str]] = None

    @property
    def closed(self) -> bool:
        """Whether the child is gone, or about to be."""
        return self._child.closed

    def __repr__(self) -> str:
        state = 'closed' if self.closed else 'not up yet'
        if not self.closed:
            try:
                self._hello = self._hello or self._child.wait_ready(0)
            except Exception:
                state = 'did not come up'
            if self._hello:
                state = 'Python %s, pid %d, user %s' % self._hello
        return '<%s.%s %r, %s>' % (type(self).__module__.replace('._host', ''), type(self).__name__, self.name, state)

    def _repr_html_(self) -> str:
        import html
        return '<code>%s</code>' % html.escape(repr(self))

    def __reduce__(self) -> Any:
        raise TypeError('a host belongs to the process that connected it')

    def options(self, *, timeout: Optional[float] = None, trust: bool = False, returns: Any = None) -> Self:
        """The same host, with options for its calls.

        `timeout`: seconds until the function is interrupted there. `returns`: a type that the result is made of, as an
        annotation of the function would say. `trust`: the result may be of any class, and is unpickled by Python's pickle.
        That runs code of the target's choice here: only for targets that are trusted as much as this machine.

        >>> import econtext
        >>> with econtext.local() as host:
        ...     host.options(timeout=5).call('os.path:basename', '/etc/hosts')
        'hosts'
        """
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._options = options_of(timeout, trust, returns)
        return other


class Host(HostBase):
    """A child on one host. The functions `ssh`, `local`, `docker` and so on start one.

    The host may be used before it is up: calls may follow at once, and raise the error if it fails. As a context manager it is closed
    at the end.

    >>> import econtext, os
    >>> with econtext.local() as host:
    ...     host.call(os.path.join, '/etc', 'hosts')
    '/etc/hosts'
    """

    # -- calls

    if TYPE_CHECKING:
        @overload
        def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
        @overload
        def call(self, function: str, /, *args: Any, **kwargs: Any) -> Any: ...

    def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a function there, and waits for its result.

        `function` is a function, or its name as `module:function`. It may be of an importable module, of the running script,
        a notebook or a prompt, a lambda, or an inner function: the objects that it uses go with it. Ctrl-C interrupts it there.

        >>> import econtext
        >>> with econtext.local() as host:
        ...     factor = 3
        ...     host.call(lambda n: n * factor, 14)
        42
        """
        __tracebackhide__ = True
        result = self._child.call(request(self._options, function, args, kwargs))
        return pickle.loads(result) if self._options.trust else result

    if TYPE_CHECKING:
        @overload
        def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> CallFuture[T]: ...
        @overload
        def submit(self, function: str, /, *args: Any, **kwargs: Any) -> CallFuture[Any]: ...

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> CallFuture[Any]:
        """Calls a function there without waiting, and returns a `concurrent.futures.Future` of its result.

        Calls of one host run one after the other. Cancelling the future interrupts the function.

        >>> import econtext
        >>> with econtext.local() as host:
        ...     futures = [host.submit(pow, 2, n) for n in range(4)]
        ...     [future.result() for future in futures]
        [1, 2, 4, 8]
        """
        future: CallFuture[Any] = CallFuture()
        call = future._call = self._child.start(request(self._options, function, args, kwargs))
        trust = self._options.trust

        def done(value: Any, error: Optional[BaseException]) -> None:
            if trust and error is None:
                try:
                    value = pickle.loads(value)
                except Exception as e:
                    error = e
            future._settle(value, error)

        call.when_done(done)
        return future

    if TYPE_CHECKING:
        @overload
        def stream(self, function: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]: ...
        @overload
        def stream(self, function: str, /, *args: Any, **kwargs: Any) -> Iterator[Any]: ...

    def stream(self, function: Any, /, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Calls a generator there, and returns an iterator over its items as they come. It runs at most 16 items ahead. For a
        function that returns something else, the items are those of the result. A generator's return value is that of `yield from`.

        >>> import econtext
        >>> def squares(n):
        ...     for i in range(n):
        ...         yield i * i
        >>> with econtext.local() as host:
        ...     list(host.stream(squares, 4))
        [0, 1, 4, 9]
        """
        items = self._child.stream(request(self._options, function, args, kwargs, True))
        return _unpickled(items) if self._options.trust else items

    def channel(self) -> Channel:
        """A channel. If it is an argument of a call, the function there has its other end."""
        return Channel(self._child.channel(), self.name)

    # -- commands and files

    def run(self, argv: Argv, *, input: Union[str, bytes, None] = None, check: bool = False, text: bool = True,
            env: Optional[Mapping[str, Optional[str]]] = None, cwd: Optional[StrPath] = None, umask: Optional[int] = None,
            timeout: Optional[float] = None) -> Output:
        """Runs a command there, without a shell, and waits for its end.

        With `check`, an exit status other than 0 is a `CommandError`. Variables of `env` are set beside those there; the value None
        removes one.

        >>> import econtext
        >>> with econtext.local() as host:
        ...     host.run(['printf', 'hello']).stdout
        'hello'
        """
        process = self._child.run(*command_of(argv, input, env, cwd, umask))
        limit = self._options.timeout if timeout is None else timeout
        finished = process.wait(limit)
        if finished is None:
            process.kill()
            error = TimeoutError('the command took more than %s s' % limit, self.name)
            error.stderr = process.output()[1].decode('utf-8', 'replace')
            raise error
        return output_of(self.name, argv, finished, text, check)

    def spool(self, *packages: str) -> None:
        """Makes files, in memory there, of packages that open files beside their own; all packages with `'all'`."""
        made = _econtext.Request.plain('econtext.spool:start', (list(packages), None), {})
        assert made is not None
        self._child.call(made)

    def put(self, sources: Union[StrPath, Iterable[StrPath]], destination: StrPath, *, preserve: bool = False,
            links: bool = False, mode: Optional[int] = None, owner: Optional[str] = None, backup: bool = False,
            progress: Optional[Callable[[str, int, int], Any]] = None) -> Transferred:
        """Copies files and directories there: into `destination` if that is a directory or ends in a slash; else to that name.

        Each file is checked, and replaced atomically. `preserve` keeps modes, times and owners; `links` copies symbolic links as
        such. `mode`, as `0o644`, and `owner`, as `'root'` or `'root:adm'`, are set on the files there. With `backup` a
        file that is replaced is kept beside it, with the time in its name. `progress` is called with a name, the number of bytes that are there, and the size.
        """
        return Transferred(*self._child.put(
            sources_of(sources), os.fsdecode(destination), wishes_of(preserve, links, mode, owner, backup),
            self._options.timeout, progress).wait())

    def get(self, sources: Union[StrPath, Iterable[StrPath]], directory: StrPath = '.', *, preserve: bool = False,
            links: bool = False, progress: Optional[Callable[[str, int, int], Any]] = None) -> Transferred:
        """Copies files and directories from there into a directory here, which is made if it is missing. A source that is not
        there and has wildcards stands for all that match."""
        return Transferred(*self._child.get(
            paths_of(sources), os.fsdecode(directory), wishes_of(preserve, links), self._options.timeout, progress).wait())

    # -- the child

    def connect(self, timeout: Optional[float] = None) -> Self:
        """Waits until the child is up. This is optional: calls wait for it too."""
        if self._hello is None:
            hello = self._child.wait_ready(timeout)
            if hello is None:
                raise TimeoutError('connecting took more than %s s' % timeout, self.name)
            self._hello = hello
        return self

    @property
    def python(self) -> str:
        """The version of its Python, as `3.11.2`."""
        self.connect()
        assert self._hello is not None
        return self._hello[0]

    @property
    def user(self) -> str:
        """The user that it runs as."""
        self.connect()
        assert self._hello is not None
        return self._hello[2]

    @property
    def pid(self) -> int:
        """Its process id, there."""
        self.connect()
        assert self._hello is not None
        return self._hello[1]

    def close(self, grace: float = 2.0) -> None:
        """Asks the child to end when its calls are done, and ends it after `grace` seconds. Returns at once."""
        self._child.shutdown(grace)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], value: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.close()


def _unpickled(items: Iterator[bytes]) -> Generator[Any, None, Any]:
    while True:
        try:
            item = next(items)
        except StopIteration as end:
            return None if end.value is None else pickle.loads(end.value)
        yield pickle.loads(item)


def start(name: str, word: Optional[str], argv: Optional[list[str]], via: Optional[HostBase], python: StrPath,
          connect_timeout: float, output: Optional[_runtime.OutputCallback], settings: dict[str, Any]) -> _econtext.Child:
    """Starts a child."""
    if via is not None and not isinstance(via, HostBase):
        raise UsageError('via is a host, and this is %r' % (via,))
    return _econtext.Child(
        _runtime.broker(), name, word, argv, settings, _runtime.finder(), None if via is None else via._child, os.fsdecode(python),
        _runtime.log_level(), connect_timeout, _runtime.Events(output, False))
