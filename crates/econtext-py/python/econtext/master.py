"""The names of the 2016 design for the controller. New programs should use `econtext` itself.

>>> from econtext.master import Broker
>>> broker = Broker()
>>> context = broker.get_local('worker')
>>> context.call_with_deadline(5, False, pow, 2, 10)
1024
>>> broker.shutdown()
"""
from __future__ import annotations

from typing import Any, Callable, Optional

from . import _capture, _econtext, _host, _values, local, ssh

__all__ = ['Broker', 'Context', 'LocalStream', 'minimize_source']


class Context(_host.Host):
    """A child, with the calls of the 2016 design beside those of `econtext.Host`."""

    def call_with_deadline(self, deadline: Optional[float], with_context: bool, fn: Callable[..., Any], *args: Any,
                           **kwargs: Any) -> Any:
        """Calls a function there; after `deadline` seconds it is interrupted. With a context, it gets the child's own
        `Context` first, to send with."""
        host = self.options(timeout=deadline)
        return host.call(fn, *((_capture.CHILDS_CONTEXT,) if with_context else ()) + args, **kwargs)


class LocalStream:
    """The stream to a child of this machine."""

    def __init__(self, name: str = 'local', python: str = 'auto') -> None:
        self.name, self.python = name, python

    def connect(self) -> Context:
        """Starts the child."""
        child = local(self.name, python=self.python)._child
        return Context(child, self.name)

    @staticmethod
    def allow_class(kind: type) -> None:
        """Lets results hold instances of a class; `econtext.register`."""
        _values.register(kind)

    @staticmethod
    def _first_stage() -> str:
        """The source of the program that the command line runs."""
        import os
        with open(os.path.join(os.path.dirname(__file__), '_first_stage.txt')) as file:
            return file.read()


class Broker:
    """Starts children, and ends those that it started. All of them share the one thread that owns the IO."""

    def __init__(self) -> None:
        self._contexts: list[Context] = []

    def get_local(self, name: str = 'local', python: str = 'auto') -> Context:
        """A child on this machine."""
        return self._add(LocalStream(name, python).connect())

    def get_remote(self, hostname: str, **options: Any) -> Context:
        """A child behind ssh; see `econtext.ssh`."""
        return self._add(Context(ssh(hostname, **options)._child, hostname))

    def _add(self, context: Context) -> Context:
        self._contexts.append(context)
        return context

    def shutdown(self) -> None:
        """Asks its children to end."""
        for context in self._contexts:
            context.close()

    def wait(self) -> None:
        """Waits until its children have ended."""
        import time
        while any(not context.closed for context in self._contexts):
            time.sleep(0.01)


def minimize_source(source: str) -> str:
    """Source without comments and docstrings, with its line numbers.

    >>> minimize_source('x = 1  # one\\n')
    'x=1\\n'
    """
    return _econtext.minimize_source(source.encode()).decode()
