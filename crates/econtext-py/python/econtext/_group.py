"""Many hosts at a time."""
from __future__ import annotations

import dataclasses
import json
import os
import pickle
import sys
from typing import (
    TYPE_CHECKING, Any, Callable, Generic, Iterable, Iterator, Mapping, Optional, Sequence, TypeVar, Union, overload)

from . import _econtext, _runtime
from ._errors import Error
from ._host import (
    Argv, Host, HostBase, Options, Output, StrPath, Transferred, command_of, declared, options_of, output_of, paths_of,
    request, sources_of, wishes_of)

if TYPE_CHECKING:
    from types import TracebackType
    from typing_extensions import ParamSpec, Self

    P = ParamSpec('P')

T = TypeVar('T')
Inventory = Union[StrPath, Sequence[StrPath], None]

if sys.version_info >= (3, 11):
    class FailedHosts(ExceptionGroup[Exception]):
        """The failures of some hosts: `.exceptions` has one for each."""

        def derive(self, excs: Any, /) -> Any:
            """A group of some of them, as `except*` and `split` make it."""
            return FailedHosts(self.message, excs)
else:
    class FailedHosts(Exception):
        """The failures of some hosts: `.exceptions` has one for each. From Python 3.11 on it is an ExceptionGroup."""

        def __init__(self, message: str, exceptions: Sequence[Exception]) -> None:
            super().__init__(message, exceptions)
            self.message, self.exceptions = message, tuple(exceptions)

        def __str__(self) -> str:
            return '%s (%d)\n' % (self.message, len(self.exceptions)) + '\n'.join('  %s' % e for e in self.exceptions)


def failure(failed: dict[str, Exception], among: int) -> FailedHosts:
    """The exception for hosts that failed."""
    return FailedHosts('%d of %d hosts failed: %s' % (len(failed), among, _econtext.fold(list(failed))), list(failed.values()))


@dataclasses.dataclass(frozen=True)
class Result(Generic[T]):
    """The result of one host: `value`, or `error`."""

    host: str
    value: Optional[T]
    error: Optional[Exception]

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None

    def get(self) -> T:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]

    def __repr__(self) -> str:
        return 'Result(%r, %s)' % (self.host, repr(self.value) if self.ok else 'error=%r' % self.error)


class ResultsBase(Generic[T]):
    """The base of results: those that have come, and their display."""

    def __init__(self, names: Sequence[str], runs: _econtext.Run, convert: Callable[[str, Any], Any]) -> None:
        self._names, self._run, self._convert = names, runs, convert
        self._seen: list[Result[T]] = []

    def _take(self, told: tuple[int, Any, Any]) -> Result[T]:
        position, value, error = told
        host = self._names[position]
        if error is None:
            try:
                value = self._convert(host, value)
            except Exception as e:
                value, error = None, e
        result: Result[T] = Result(host, value, error)
        self._seen.append(result)
        return result

    def _values(self) -> dict[str, T]:
        """The values that have come, by host, in the order of the group."""
        found = {result.host: result.get() for result in self._seen if result.ok}
        return {name: found[name] for name in self._names if name in found}

    def _errors(self) -> dict[str, Exception]:
        found = {result.host: result.error for result in self._seen if result.error is not None}
        return {name: found[name] for name in self._names if name in found}

    def cancel(self) -> None:
        """Stops the calls that run, and begins nothing more."""
        self._run.cancel()

    def __repr__(self) -> str:
        failed = sum(not result.ok for result in self._seen)
        return '<econtext.Results: %d of %d, %d failed>' % (len(self._seen), len(self._names), failed)


class Results(ResultsBase[T]):
    """The results of a group: an iterator of `Result`, in the order in which they come. It can be iterated again.

    A method that needs all of them, as `values()` or `len()`, waits for all of them.
    """

    def __iter__(self) -> Iterator[Result[T]]:
        at = 0
        while True:
            while at < len(self._seen):
                at += 1
                yield self._seen[at - 1]
            told = next(self._run, None)
            if told is None:
                return
            self._take(told)

    def wait(self) -> Self:
        """Waits for all of them."""
        for _ in self:
            pass
        return self

    @property
    def ok(self) -> bool:
        """Whether every host succeeded."""
        return all(result.ok for result in self)

    @property
    def failed(self) -> list[Result[T]]:
        """The results of the hosts that failed."""
        return [result for result in self if not result.ok]

    def values(self) -> dict[str, T]:
        """The values by host, in the order of the group, of those that succeeded."""
        return self.wait()._values()

    def errors(self) -> dict[str, Exception]:
        """The errors by host, in the order of the group, of those that failed."""
        return self.wait()._errors()

    def raise_failures(self) -> Self:
        """Raises `FailedHosts`, an ExceptionGroup, if any failed."""
        failed = self.errors()
        if failed:
            raise failure(failed, len(self))
        return self

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, host: str) -> T:
        """The value of a host; raises its error."""
        for result in self:
            if result.host == host:
                return result.get()
        raise KeyError(host)

    def _repr_html_(self) -> str:
        import html
        rows = []
        order = {name: position for position, name in enumerate(self._names)}
        for result in sorted(self, key=lambda result: order[result.host]):
            text = repr(result.value) if result.ok else '%s: %s' % (type(result.error).__name__, result.error)
            style = '' if result.ok else ' style="color: #b00"'
            rows.append('<tr><td>%s</td><td%s><code>%s</code></td></tr>' % (
                html.escape(result.host), style, html.escape(text)))
        return '<table><tr><th>host</th><th>result</th></tr>%s</table>' % ''.join(rows)


Others = Union['GroupBase', HostBase, str]
Members = dict[str, tuple[_econtext.Fleet, int]]


def _names(other: Others) -> set[str]:
    """The names of a group, of one host, or of a set like `web[01-05]`."""
    if isinstance(other, GroupBase):
        return set(other._members)
    if isinstance(other, HostBase):
        return {other.name}
    if isinstance(other, str):
        return set(_econtext.expand(other, []))
    raise TypeError('%r is neither a group, a host nor a set of hosts' % (other,))


class GroupBase:
    """The common base of groups that are waited for and groups that are awaited."""

    def __init__(self, members: Members, options: Options = Options()) -> None:
        self._members, self._options = members, options

    @property
    def names(self) -> list[str]:
        """The names of the hosts."""
        return list(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupBase) and set(self._members) == set(other._members)

    def __hash__(self) -> int:
        return hash(frozenset(self._members))

    def _of(self, names: Iterable[str], other: Optional[GroupBase] = None) -> Self:
        every = {**(other._members if other else {}), **self._members}
        return type(self)({name: every[name] for name in names}, self._options)

    def __or__(self, other: GroupBase) -> Self:
        if not isinstance(other, GroupBase):
            return NotImplemented
        return self._of({**self._members, **other._members}, other)

    def __and__(self, other: Others) -> Self:
        names = _names(other)
        return self._of(name for name in self._members if name in names)

    def __sub__(self, other: Others) -> Self:
        names = _names(other)
        return self._of(name for name in self._members if name not in names)

    def __xor__(self, other: GroupBase) -> Self:
        if not isinstance(other, GroupBase):
            return NotImplemented
        return (self - other) | self._of((name for name in other._members if name not in self._members), other)

    def only(self, names: Union[str, Iterable[str]]) -> Self:
        """The hosts of a set like `web[01-05]`, or of some names, that are in the group."""
        wanted = set(_econtext.expand(names, []) if isinstance(names, str) else names)
        return self._of(name for name in self._members if name in wanted)

    def variables(self, name: str) -> dict[str, Any]:
        """The variables that the inventory has for a host."""
        return json.loads(self._members[name][0].variables(name))  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return '<%s.%s %s (%d)>' % (type(self).__module__.replace('._group', ''), type(self).__name__,
                                    _econtext.fold(self.names), len(self))

    def _repr_html_(self) -> str:
        import html
        return '<code>%s</code>' % html.escape(repr(self))

    def __reduce__(self) -> Any:
        raise TypeError('a group belongs to the process that connected it')

    def options(self, *, timeout: Optional[float] = None, trust: bool = False, returns: Any = None) -> Self:
        """The same hosts, with options for their calls; see `Host.options`."""
        return type(self)(self._members, options_of(timeout, trust, returns))

    def _fleets(self) -> Iterable[tuple[_econtext.Fleet, list[tuple[int, int]]]]:
        """Each fleet, with (index, position) of its hosts."""
        fleets: dict[int, tuple[_econtext.Fleet, list[tuple[int, int]]]] = {}
        for position, (fleet, index) in enumerate(self._members.values()):
            fleets.setdefault(id(fleet), (fleet, []))[1].append((index, position))
        return fleets.values()

    def _begin(self, run: _econtext.Run, **job: Any) -> None:
        """Begins a job on all hosts; the hosts of one fleet together."""
        for fleet, members in self._fleets():
            fleet.start(run, members, **job)

    def _convert(self, host: str, value: Any) -> Any:
        return pickle.loads(value) if self._options.trust else value

    def _call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], batch: Union[int, str, None] = None,
              pause: float = 0.0, fail_on: Union[int, str, None] = None) -> _econtext.Run:
        run = _econtext.Run(_runtime.broker(), declared(self._options, function))
        self._begin(run, request=request(self._options, function, args, kwargs), pause=pause,
                    batch=None if batch is None else str(batch), fail_on=None if fail_on is None else str(fail_on))
        return run

    # The jobs, and the display of their results, are the same for both kinds of groups.

    def _running(self, argv: Argv, input: Union[str, bytes, None], check: bool, text: bool,
                 env: Optional[Mapping[str, Optional[str]]], cwd: Optional[StrPath], umask: Optional[int],
                 timeout: Optional[float]) -> tuple[_econtext.Run, Callable[[str, Any], Output]]:
        run = _econtext.Run(_runtime.broker())
        self._begin(run, command=command_of(argv, input, env, cwd, umask),
                    timeout=self._options.timeout if timeout is None else timeout)
        return run, lambda host, finished: output_of(host, argv, finished, text, check)

    def _copying(self, **job: Any) -> tuple[_econtext.Run, Callable[[str, Any], Transferred]]:
        run = _econtext.Run(_runtime.broker())
        self._begin(run, timeout=self._options.timeout, **job)
        return run, lambda host, counts: Transferred(*counts)

    def close(self) -> None:
        """Ends the children on these hosts."""
        for fleet, members in self._fleets():
            fleet.close([index for index, _ in members])


class Group(GroupBase):
    """A group of hosts, which are connected when they are needed: `econtext.hosts` makes one.

    >>> import econtext, os
    >>> with econtext.hosts('local:web[1-3]') as web:
    ...     results = web.call(os.path.basename, '/etc/hosts')
    ...     sorted(result.host for result in results if result.ok)
    ['local:web1', 'local:web2', 'local:web3']
    >>> (web - econtext.hosts('local:web2')).names
    ['local:web1', 'local:web3']
    """

    def connect(self) -> Results[None]:
        """Connects all hosts that are not connected, and waits for that; errors are in the results."""
        run = _econtext.Run(_runtime.broker())
        self._begin(run)
        results: Results[None] = Results(self.names, run, lambda host, value: None)
        return results.wait()

    if TYPE_CHECKING:
        @overload
        def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Results[T]: ...
        @overload
        def call(self, function: str, /, *args: Any, **kwargs: Any) -> Results[Any]: ...

    def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Results[Any]:
        """Calls a function on every host, at most `limit` at a time. The results come as they are ready."""
        return Results(self.names, self._call(function, args, kwargs), self._convert)

    def rollout(self, function: Any, /, *args: Any, batch: Union[int, str, None] = None, pause: float = 0.0,
                fail_on: Union[int, str, None] = None, **kwargs: Any) -> Results[Any]:
        """Calls as `call` does, in batches (`5` or `'10%'`) with a pause between them, until too many failed: `'any'`, `'all'` of a
        batch, a number, or a percentage."""
        return Results(self.names, self._call(function, args, kwargs, batch, pause, fail_on), self._convert)

    def map(self, function: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
        """Calls a function for each item, on any host that is free, and returns the results in the order of the items.

        >>> import econtext
        >>> with econtext.hosts('local:[1-2]') as workers:
        ...     workers.map(abs, [-1, 2, -3])
        [1, 2, 3]
        """
        from ._executor import Executor
        with Executor(self) as executor:
            return list(executor.map(function, items))

    def where(self, predicate: Any, /, *args: Any, **kwargs: Any) -> Self:
        """The hosts on which a function returns a true value. A host that fails raises `FailedHosts`.

        >>> import econtext
        >>> with econtext.hosts('local:[1-2]') as group:
        ...     len(group.where('os.path:exists', '/etc/passwd'))
        2
        """
        values = self.call(predicate, *args, **kwargs).raise_failures().values()
        return self._of(name for name in self._members if values[name])

    def run(self, argv: Argv, *, input: Union[str, bytes, None] = None, check: bool = False, text: bool = True,
            env: Optional[Mapping[str, Optional[str]]] = None, cwd: Optional[StrPath] = None, umask: Optional[int] = None,
            timeout: Optional[float] = None) -> Results[Output]:
        """Runs a command on every host; see `Host.run`. With `check`, an exit status other than 0 is a failure."""
        return Results(self.names, *self._running(argv, input, check, text, env, cwd, umask, timeout))

    def put(self, sources: Union[StrPath, Iterable[StrPath]], destination: StrPath, *, preserve: bool = False,
            links: bool = False, mode: Optional[int] = None, owner: Optional[str] = None,
            backup: bool = False) -> Results[Transferred]:
        """Copies files to every host; see `Host.put`."""
        return Results(self.names, *self._copying(
            put=(sources_of(sources), os.fsdecode(destination), wishes_of(preserve, links, mode, owner, backup))))

    def get(self, sources: Union[StrPath, Iterable[StrPath]], directory: StrPath = '.', *, preserve: bool = False,
            links: bool = False) -> Results[Transferred]:
        """Copies files from every host, into a directory for each."""
        return Results(self.names, *self._copying(get=(paths_of(sources), os.fsdecode(directory), wishes_of(preserve, links))))

    def __getitem__(self, name: str) -> Host:
        """One host of the group, connected; it is closed with the group."""
        fleet, index = self._members[name]
        child = fleet.child(index)
        if child is None:
            self._of([name]).connect().raise_failures()
            child = fleet.child(index)
        if child is None:
            raise Error('it is gone again', name)
        return Host(child, name, self._options)

    def __iter__(self) -> Iterator[Host]:
        return (self[name] for name in self.names)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], value: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.close()


def members(sets: Union[str, Iterable[str]], inventory: Inventory, limit: int, retries: int, connect_timeout: float,
            connect_rate: Optional[float], output: Optional[_runtime.OutputCallback], settings: dict[str, Any]) -> Members:
    """Hosts of sets and inventories, none of them connected."""
    paths = [] if inventory is None else paths_of(inventory)
    fleet = _econtext.Fleet(
        _runtime.broker(), [sets] if isinstance(sets, str) else list(sets), paths, settings, _runtime.finder(), limit, retries,
        connect_timeout, connect_rate, _runtime.log_level(), _runtime.Events(output, True))
    return {name: (fleet, index) for index, name in enumerate(fleet.names())}
