"""The same hosts and groups for asyncio: methods that wait there are awaited here, under the same names.

>>> import asyncio, econtext.aio, os
>>> async def main():
...     async with econtext.aio.local() as host:
...         return await host.call(os.path.basename, '/etc/hosts')
>>> asyncio.run(main())
'hosts'

Cancelling a task interrupts the function that it awaits there.
"""
from __future__ import annotations

import asyncio
import os
import pickle
from typing import (
    TYPE_CHECKING, Any, AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping, Optional, TypeVar, Union, overload)

from . import _connect, _econtext, _group, _host, _runtime
from ._errors import TimeoutError
from ._group import Result
from ._host import Argv, Output, StrPath, Transferred, command_of, output_of, paths_of, request, sources_of, wishes_of

if TYPE_CHECKING:
    from types import TracebackType
    from typing_extensions import ParamSpec, Self

    P = ParamSpec('P')

__all__ = ['Group', 'Host', 'Results', 'chroot', 'command', 'doas', 'docker', 'hosts', 'incus', 'jail', 'kubectl', 'local', 'lxc',
           'nsenter', 'nspawn', 'podman', 'ssh', 'su', 'sudo']

T = TypeVar('T')


def _ring(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> Callable[[], None]:
    """A function that wakes the task that awaits a future, from another thread."""
    def wake() -> None:
        if not future.done():
            future.set_result(None)

    def ring() -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:
            pass  # the loop is closed: no task awaits anything

    return ring


async def _polled(poll: Callable[[Callable[[], None]], Optional[T]]) -> T:
    """The result of `poll`, once it has one."""
    loop = asyncio.get_running_loop()
    while True:
        rung: asyncio.Future[None] = loop.create_future()
        found = poll(_ring(loop, rung))
        if found is not None:
            return found
        await rung


async def _result(child: _econtext.Child, made: _econtext.Request) -> Any:
    """The result of a call, which is stopped if it is no longer awaited."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: Optional[BaseException]) -> None:
        if not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)

    def done(value: Any, error: Optional[BaseException]) -> None:
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            pass  # the loop is closed: no task awaits anything

    call = child.start(made)
    call.when_done(done)
    try:
        return await future
    except asyncio.CancelledError:
        call.cancel()
        raise


class Host(_host.HostBase):
    """A child on one host; see `econtext.Host`."""

    if TYPE_CHECKING:
        @overload
        def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...
        @overload
        def call(self, function: str, /, *args: Any, **kwargs: Any) -> Awaitable[Any]: ...
        def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Awaitable[Any]: ...
    else:
        async def call(self, function, /, *args, **kwargs):
            """Calls a function there, and returns its result. Cancelling interrupts it."""
            result = await _result(self._child, request(self._options, function, args, kwargs))
            return pickle.loads(result) if self._options.trust else result

    if TYPE_CHECKING:
        @overload
        def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Task[T]: ...
        @overload
        def submit(self, function: str, /, *args: Any, **kwargs: Any) -> asyncio.Task[Any]: ...

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        """A task that calls a function there."""
        made = request(self._options, function, args, kwargs)

        async def run() -> Any:
            result = await _result(self._child, made)
            return pickle.loads(result) if self._options.trust else result

        return asyncio.get_running_loop().create_task(run())

    if TYPE_CHECKING:
        @overload
        def stream(self, function: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]: ...
        @overload
        def stream(self, function: str, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]: ...
        def stream(self, function: Any, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]: ...
    else:
        async def stream(self, function, /, *args, **kwargs):
            """Calls a generator there, and yields its items as they come."""
            items = self._child.stream(request(self._options, function, args, kwargs, True))
            try:
                while True:
                    item = await _next(items)
                    if item is None:
                        return
                    yield pickle.loads(item[0]) if self._options.trust else item[0]
            finally:
                items.close()

    async def run(self, argv: Argv, *, input: Union[str, bytes, None] = None, check: bool = False, text: bool = True,
                  env: Optional[Mapping[str, Optional[str]]] = None, cwd: Optional[StrPath] = None,
                  umask: Optional[int] = None, timeout: Optional[float] = None) -> Output:
        """Runs a command there; cancelling ends it."""
        process = self._child.run(*command_of(argv, input, env, cwd, umask))
        limit = self._options.timeout if timeout is None else timeout
        try:
            finished = await asyncio.wait_for(_polled(process.poll), limit)
        except asyncio.TimeoutError:
            process.kill()
            raise TimeoutError('the command took more than %s s' % limit, self.name) from None
        except asyncio.CancelledError:
            process.kill()
            raise
        return output_of(self.name, argv, finished, text, check)

    async def put(self, sources: Union[StrPath, Iterable[StrPath]], destination: StrPath, *, preserve: bool = False,
                  links: bool = False, mode: Optional[int] = None, owner: Optional[str] = None, backup: bool = False,
                  progress: Optional[Callable[[str, int, int], Any]] = None) -> Transferred:
        """Copies files there."""
        return await _transferred(self._child.put(
            sources_of(sources), os.fsdecode(destination), wishes_of(preserve, links, mode, owner, backup),
            self._options.timeout, progress))

    async def get(self, sources: Union[StrPath, Iterable[StrPath]], directory: StrPath = '.', *, preserve: bool = False,
                  links: bool = False, progress: Optional[Callable[[str, int, int], Any]] = None) -> Transferred:
        """Copies files from there."""
        return await _transferred(self._child.get(
            paths_of(sources), os.fsdecode(directory), wishes_of(preserve, links), self._options.timeout, progress))

    async def connect(self) -> Self:
        """Waits until the child is up."""
        if self._hello is None:
            loop = asyncio.get_running_loop()
            rung: asyncio.Future[None] = loop.create_future()
            self._child.when_ready(_ring(loop, rung))
            await rung
            self._hello = self._child.wait_ready()
        return self

    def close(self, grace: float = 2.0) -> None:
        """Asks the child to end when its calls are done, and ends it after `grace` seconds. Returns at once."""
        self._child.shutdown(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Optional[type[BaseException]], value: Optional[BaseException],
                        traceback: Optional[TracebackType]) -> None:
        self.close()


async def _next(items: _econtext.Items) -> Optional[tuple[Any]]:
    def poll(callback: Callable[[], None]) -> Any:
        try:
            return items.poll(callback)
        except StopIteration:
            return ()

    return await _polled(poll) or None


async def _transferred(transfer: _econtext.Transfer) -> Transferred:
    try:
        return Transferred(*await _polled(transfer.poll))
    except asyncio.CancelledError:
        transfer.cancel()
        raise


class Results(_group.ResultsBase[T]):
    """The results of a group: `async for` has a `Result` for each host, in the order in which they come; `await` waits for all."""

    async def __aiter__(self) -> AsyncIterator[Result[T]]:
        def poll(callback: Callable[[], None]) -> Any:
            try:
                return self._run.poll(callback)
            except StopIteration:
                return ()

        at = 0
        try:
            while True:
                while at < len(self._seen):
                    at += 1
                    yield self._seen[at - 1]
                told = await _polled(poll)
                if not told:
                    return
                self._take(told)
        except asyncio.CancelledError:
            self._run.cancel()
            raise

    async def wait(self) -> Self:
        """Waits for all of them."""
        async for _ in self:
            pass
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.wait().__await__()

    async def values(self) -> dict[str, T]:
        """The values by host of those that succeeded."""
        return (await self.wait())._values()

    async def errors(self) -> dict[str, Exception]:
        """The errors by host of those that failed."""
        return (await self.wait())._errors()

    async def raise_failures(self) -> Self:
        """Raises `FailedHosts`, an ExceptionGroup, if any failed."""
        failed = await self.errors()
        if failed:
            raise _group.failure(failed, len(self._names))
        return self


class Group(_group.GroupBase):
    """Hosts; see `econtext.Group`."""

    def connect(self) -> Results[None]:
        """Connects all hosts that are not connected."""
        run = _econtext.Run(_runtime.broker())
        self._begin(run)
        return Results(self.names, run, lambda host, value: None)

    if TYPE_CHECKING:
        @overload
        def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Results[T]: ...
        @overload
        def call(self, function: str, /, *args: Any, **kwargs: Any) -> Results[Any]: ...

    def call(self, function: Any, /, *args: Any, **kwargs: Any) -> Results[Any]:
        """Calls a function on every host."""
        return Results(self.names, self._call(function, args, kwargs), self._convert)

    def rollout(self, function: Any, /, *args: Any, batch: Union[int, str, None] = None, pause: float = 0.0,
                fail_on: Union[int, str, None] = None, **kwargs: Any) -> Results[Any]:
        """Calls as `call` does, in batches, until too many failed."""
        return Results(self.names, self._call(function, args, kwargs, batch, pause, fail_on), self._convert)

    async def where(self, predicate: Any, /, *args: Any, **kwargs: Any) -> Self:
        """The hosts on which a function returns a true value."""
        values = await (await self.call(predicate, *args, **kwargs).raise_failures()).values()
        return self._of(name for name in self._members if values[name])

    async def map(self, function: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
        """Calls a function for each item, on any host that is free, and returns the results in the order of the items."""
        every = list(items)
        failed = await (await self.connect()).errors()
        free: asyncio.Queue[_econtext.Child] = asyncio.Queue()
        for name, (fleet, index) in self._members.items():
            child = None if name in failed else fleet.child(index)
            if child is not None:
                free.put_nowait(child)
        if free.empty():
            raise next(iter(failed.values()))
        done: list[Any] = [None] * len(every)
        numbers = iter(range(len(every)))

        async def worker() -> None:
            child = await free.get()
            for number in numbers:
                result = await _result(child, request(self._options, function, (every[number],), {}))
                done[number] = pickle.loads(result) if self._options.trust else result

        tasks = [asyncio.ensure_future(worker()) for _ in range(free.qsize())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return done

    def run(self, argv: Argv, *, input: Union[str, bytes, None] = None, check: bool = False, text: bool = True,
            env: Optional[Mapping[str, Optional[str]]] = None, cwd: Optional[StrPath] = None, umask: Optional[int] = None,
            timeout: Optional[float] = None) -> Results[Output]:
        """Runs a command on every host."""
        return Results(self.names, *self._running(argv, input, check, text, env, cwd, umask, timeout))

    def put(self, sources: Union[StrPath, Iterable[StrPath]], destination: StrPath, *, preserve: bool = False,
            links: bool = False, mode: Optional[int] = None, owner: Optional[str] = None,
            backup: bool = False) -> Results[Transferred]:
        """Copies files to every host."""
        return Results(self.names, *self._copying(
            put=(sources_of(sources), os.fsdecode(destination), wishes_of(preserve, links, mode, owner, backup))))

    def get(self, sources: Union[StrPath, Iterable[StrPath]], directory: StrPath = '.', *, preserve: bool = False,
            links: bool = False) -> Results[Transferred]:
        """Copies files from every host, into a directory for each."""
        return Results(self.names, *self._copying(get=(paths_of(sources), os.fsdecode(directory), wishes_of(preserve, links))))

    async def host(self, name: str) -> Host:
        """One host of the group, connected; it is closed with the group."""
        fleet, index = self._members[name]
        child = fleet.child(index)
        if child is None:
            await self._of([name]).connect().raise_failures()
            child = fleet.child(index)
        assert child is not None
        return Host(child, name, self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: Optional[type[BaseException]], value: Optional[BaseException],
                        traceback: Optional[TracebackType]) -> None:
        self.close()


_ways: _connect.Ways[Host, Group] = _connect.Ways(Host, Group)
local, ssh, command, hosts = _ways.local, _ways.ssh, _ways.command, _ways.hosts
docker, podman, kubectl, lxc, incus = _ways.docker, _ways.podman, _ways.kubectl, _ways.lxc, _ways.incus
nspawn, nsenter, chroot, jail = _ways.nspawn, _ways.nsenter, _ways.chroot, _ways.jail
sudo, su, doas = _ways.sudo, _ways.su, _ways.doas
