"""A `concurrent.futures.Executor` over hosts. It has no threads: the end of a call on a host makes the next one begin."""
from __future__ import annotations

import collections
import concurrent.futures
import itertools
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Optional, TypeVar, Union

from . import _econtext
from ._errors import ClosedError, ConnectError, UsageError
from ._group import Group
from ._host import Host, Options, request

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    P = ParamSpec('P')

T = TypeVar('T')


class _Slots:
    """A host, and the number of its slots in use."""

    def __init__(self, host: Host, free: int) -> None:
        self.host, self.free, self.size = host, free, free


class Executor(concurrent.futures.Executor):
    """Runs functions on hosts, each where there is room: on a group, on some hosts, or on a set as `econtext.hosts` takes it.

    Work that is not begun is not sent, so that it can be cancelled, and goes where there is room first. A host that is
    lost fails the calls that ran on it with `ClosedError`, and gets no more. Hosts that were given stay connected; those of a set are
    closed by `shutdown`. `per_host` says how many calls a host is given at a time: one runs, the others wait there.

    >>> import econtext
    >>> with econtext.Executor('local:[1-2]') as executor:
    ...     list(executor.map(pow, [2, 3, 4], [5, 6, 7]))
    [32, 729, 16384]
    """

    def __init__(self, hosts: Union[Group, Iterable[Host], Host, str], *, per_host: int = 1, timeout: Optional[float] = None,
                 trust: bool = False, **ways: Any) -> None:
        if per_host < 1:
            raise ValueError('per_host must be greater than 0')
        self._owned: Optional[Group] = None
        if isinstance(hosts, str):
            from . import hosts as group_of
            hosts = self._owned = group_of(hosts, **ways)
        elif ways:
            raise TypeError('%s: these hosts are connected already' % ', '.join(ways))
        if isinstance(hosts, Group):
            failed = hosts.connect().errors()
            found = [hosts[name] for name in hosts.names if name not in failed]
            if not found and failed:
                raise next(iter(failed.values()))
        elif isinstance(hosts, Host):
            found = [hosts]
        else:
            found = list(hosts)
        if not found:
            raise UsageError('an executor needs a host at least')
        self._slots = [_Slots(host, per_host) for host in found]
        self._options = Options(timeout, trust)
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._waiting: collections.deque[tuple[concurrent.futures.Future[Any], _econtext.Request]] = collections.deque()
        self._running: dict[concurrent.futures.Future[Any], Optional[_econtext.Call]] = {}
        self._is_shut_down = False

    @property
    def _max_workers(self) -> int:
        """The number of workers, as the standard library's executors have it: joblib and others ask for it."""
        return sum(slot.size for slot in self._slots)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
        """Schedules a call; see `Host.call` for the functions that can be called."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError('cannot schedule new futures after shutdown')
            if _exiting:
                raise RuntimeError('cannot schedule new futures after interpreter shutdown')
        try:
            made = request(self._options, fn, args, kwargs)
        except Exception as error:
            # A call that cannot be sent fails by itself, as in a process pool.
            future.set_exception(error)
            return future
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError('cannot schedule new futures after shutdown')
            self._waiting.append((future, made))
            _busy.add(self)
        self._pump()
        return future

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: Optional[float] = None, chunksize: int = 1,
            buffersize: Optional[int] = None) -> Iterator[T]:
        """The result of `fn` for each of the items, in their order. An error says which item it is of, counted from 0.

        It works as in the standard library's executors. `chunksize` is for processes, and changes nothing; with `buffersize` no more
        items are submitted ahead of those that were taken.
        """
        if buffersize is not None and buffersize < 1:
            raise ValueError('buffersize must be None or > 0')
        end = None if timeout is None else time.monotonic() + timeout
        items = iter(zip(*iterables))
        futures = collections.deque(self.submit(fn, *item) for item in itertools.islice(items, buffersize))

        def results() -> Iterator[T]:
            try:
                for number in itertools.count():
                    if not futures:
                        return
                    for item in itertools.islice(items, 0 if buffersize is None else 1):
                        futures.append(self.submit(fn, *item))
                    yield _taken(futures, number, None if end is None else end - time.monotonic())
            finally:
                for future in futures:
                    future.cancel()

        return results()

    def _pump(self) -> None:
        """Begins the calls that there is room for."""
        while True:
            with self._lock:
                if not self._waiting:
                    break
                if not self._slots:
                    lost = [future for future, _ in self._waiting]
                    self._waiting.clear()
                else:
                    slot = max(self._slots, key=lambda slot: slot.free)
                    if slot.free < 1:
                        return
                    future, made = self._waiting.popleft()
                    if not future.set_running_or_notify_cancel():
                        continue
                    slot.free -= 1
                    self._running[future] = None
                    lost = []
            if lost:
                for future in lost:
                    if future.set_running_or_notify_cancel():
                        future.set_exception(ClosedError('all hosts of the executor are gone'))
                break
            try:
                call = slot.host._child.start(made)
            except Exception as error:
                self._done(slot, future, None, error)
                continue
            del made
            with self._lock:
                if future in self._running:
                    self._running[future] = call
            call.when_done(_Done(self, slot, future))
            del call, future
        self._rest()

    def _done(self, slot: _Slots, future: concurrent.futures.Future[Any], value: Any, error: Optional[BaseException]) -> None:
        with self._lock:
            slot.free += 1
            self._running.pop(future, None)
            if isinstance(error, (ClosedError, ConnectError)) and error.host == slot.host.name and slot in self._slots:
                self._slots.remove(slot)
        if error is None and self._options.trust:
            import pickle
            try:
                value = pickle.loads(value)
            except Exception as e:
                error = e
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def _rest(self) -> None:
        """Wakes the threads that wait for the end of all calls."""
        with self._lock:
            idle = not self._running and not self._waiting
            if idle:
                _busy.discard(self)
                self._idle.notify_all()
        if idle and self._is_shut_down and self._owned is not None:
            self._owned.close()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more work; with `wait`, returns when all submitted work is done."""
        with self._lock:
            self._is_shut_down = True
            cancelled = [future for future, _ in self._waiting] if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
        for future in cancelled:
            future.cancel()
            future.set_running_or_notify_cancel()
        if wait:
            self._wait()
        self._rest()

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        """Waits for all submitted work; after Ctrl-C, or another exception that ends a program, the work is stopped there."""
        stops = kind is not None and not issubclass(kind, Exception)
        if stops:
            with self._lock:
                calls = [call for call in self._running.values() if call is not None]
            for call in calls:
                call.cancel()
        self.shutdown(wait=True, cancel_futures=stops)

    def _wait(self) -> None:
        with self._lock:
            while self._running or self._waiting:
                self._idle.wait()

    def __repr__(self) -> str:
        return '<econtext.Executor: %d hosts, %d running, %d waiting>' % (len(self._slots), len(self._running), len(self._waiting))


def _taken(futures: collections.deque[concurrent.futures.Future[T]], number: int, timeout: Optional[float]) -> T:
    """The result of the first future, which is then no longer held here."""
    future = futures.popleft()
    try:
        return future.result(timeout)
    except Exception as error:
        if future.done():
            _note(error, number)
        raise
    finally:
        future.cancel()
        del future


def _note(error: BaseException, number: int) -> None:
    """Adds to an error which item of a map it is of. Before Python 3.11 only our own errors have a place for it."""
    note = 'item %d of map()' % number
    if isinstance(error, UsageError):
        error.message = '%s: %s' % (note, error.message)
    elif hasattr(error, 'add_note'):
        error.add_note(note)


class _Done:
    """The callback for the end of a call. It holds nothing of the call afterwards."""

    def __init__(self, executor: Executor, slot: _Slots, future: concurrent.futures.Future[Any]) -> None:
        self.parts: Optional[tuple[Executor, _Slots, concurrent.futures.Future[Any]]] = (executor, slot, future)

    def __call__(self, value: Any, error: Optional[BaseException]) -> None:
        parts, self.parts = self.parts, None
        if parts is not None:
            executor, slot, future = parts
            executor._done(slot, future, value, error)
            del future, parts, value, error
            executor._pump()


_busy: set[Executor] = set()
_exiting = False


def _at_exit() -> None:
    """Finishes submitted work before the interpreter ends, as the standard library's executors do."""
    global _exiting
    _exiting = True
    for executor in list(_busy):
        executor._wait()


# A fork does not wait for the work of its original.
os.register_at_fork(after_in_child=_busy.clear)
# This runs before threads are waited for, and long before children are ended; there is no public hook for it.
getattr(threading, '_register_atexit', weakref.ref)(_at_exit)
