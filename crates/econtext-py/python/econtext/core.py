"""The names of the 2016 design for messages. New programs should use `econtext` itself.

`CALL_FUNCTION`, `FORWARD_LOG` and `GET_MODULE` are handles, `_DEAD` ends a channel, a `CallError` is an exception of a function
there, `Context` and `Broker` are the controller's. Classes that only a child runs, as `ExternalContext` or `Importer`, are that
child's own source, and are here for reading only.
"""
from __future__ import annotations

from typing import Any

from ._channel import _DEAD, Channel, ChannelError
from ._errors import RemoteError as CallError
from ._host import Host as Context

__all__ = ['CALL_FUNCTION', 'Broker', 'CallError', 'Channel', 'ChannelError', 'Context', 'FORWARD_LOG', 'GET_MODULE', '_DEAD']

#: Controller: (logger, level, message, seconds since 1970, traceback or None).
FORWARD_LOG = 100
#: Controller: (reply handle, module name).
GET_MODULE = 101
#: Child: (reply handle, with context, module, class or None, function, args, kwargs).
CALL_FUNCTION = 102

_OF_THE_CHILD = 'ExternalContext', 'Importer', 'IoLogger', 'LogHandler', 'Stream', 'Dead', 'Output', 'Queue', 'Mac'


def __getattr__(name: str) -> Any:
    if name == 'Broker':
        from .master import Broker
        return Broker
    if name in _OF_THE_CHILD:
        from . import _child
        return getattr(_child, name)
    raise AttributeError('module %r has no attribute %r' % (__name__, name))
