"""A backend for joblib: `Parallel` over hosts.

>>> import econtext, joblib                                               # doctest: +SKIP
>>> from econtext.joblib import register
>>> register()
>>> with econtext.hosts('web[01-20]') as group:
...     with joblib.parallel_config('econtext', hosts=group):
...         joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(100))
"""
from __future__ import annotations

from typing import Any, Callable, Optional

import joblib  # type: ignore[import-untyped]
from joblib._parallel_backends import ParallelBackendBase  # type: ignore[import-untyped]

from ._executor import Executor

__all__ = ['EcontextBackend', 'register']


def _run_batch(calls: list[Any]) -> list[Any]:
    return [function(*args, **kwargs) for function, args, kwargs in calls]


class EcontextBackend(ParallelBackendBase):  # type: ignore[misc]
    """Runs batches of calls in an `Executor`. joblib itself is not needed there."""

    supports_retrieve_callback = True
    uses_threads = False
    supports_sharedmem = False

    def __init__(self, hosts: Any = None, executor: Optional[Executor] = None, **options: Any) -> None:
        backend = {name: options.pop(name) for name in ('nesting_level', 'inner_max_num_threads') if name in options}
        super().__init__(**backend)
        if executor is None and hosts is None:
            raise ValueError('hosts= or executor= is wanted')
        self._is_ours = executor is None
        self.executor = Executor(hosts, **options) if executor is None else executor

    def effective_n_jobs(self, n_jobs: int) -> int:
        """The number of calls that there is room for, or the smaller number that is asked for."""
        room = self.executor._max_workers
        return room if n_jobs is None or n_jobs < 2 else min(n_jobs, room)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Begins one run of `Parallel`."""
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Any, callback: Optional[Callable[[Any], Any]] = None) -> Any:
        """Begins a batch."""
        future = self.executor.submit(_run_batch, [(f, args, kwargs) for f, args, kwargs in func.items])
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit

    def retrieve_result_callback(self, out: Any) -> Any:
        """The result of a batch."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Begins nothing more of this run."""
        with self.executor._lock:
            waiting = [future for future, _ in self.executor._waiting]
        for future in waiting:
            future.cancel()


def register() -> None:
    """Makes the backend `econtext` known to joblib."""
    joblib.register_parallel_backend('econtext', EcontextBackend)
