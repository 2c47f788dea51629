"""Runs local Python on remote machines that have nothing but Python.

>>> import econtext, shutil
>>> with econtext.local() as host:                    # or econtext.ssh('web01')
...     total, used, free = host.call(shutil.disk_usage, '/')
>>> total >= used + free
True
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _connect
from ._channel import Channel, ChannelError
from ._econtext import __version__
from ._errors import (
    AuthError, BecomeError, BootstrapError, CancelledError, ClosedError, CommandError, ConnectError, Error, HostKeyError, LocalError,
    NoPythonError, ProtocolError, RemoteError, RemoteFrame, RemoteTraceback, TimeoutError, UnpermittedError, UnreachableError,
    UsageError)
from ._group import FailedHosts, Group, Result, Results
from ._host import CallFuture, Host, Options, Output, Transferred
from ._values import Record, register

if TYPE_CHECKING:
    from . import aio
    from ._executor import Executor

__all__ = [
    'AuthError', 'BecomeError', 'BootstrapError', 'CallFuture', 'CancelledError', 'Channel', 'ChannelError', 'ClosedError', 'CommandError', 'ConnectError',
    'Error', 'Executor', 'FailedHosts', 'Group', 'Host', 'HostKeyError', 'LocalError', 'NoPythonError', 'Options', 'Output', 'ProtocolError',
    'Record', 'RemoteError', 'RemoteFrame', 'RemoteTraceback', 'Result', 'Results', 'TimeoutError', 'Transferred',
    'UnpermittedError', 'UnreachableError', 'UsageError', '__version__', 'aio', 'chroot', 'command', 'doas', 'docker', 'hosts',
    'incus', 'jail', 'kubectl', 'local', 'lxc', 'nsenter', 'nspawn', 'podman', 'register', 'ssh', 'su', 'sudo']

_ways: _connect.Ways[Host, Group] = _connect.Ways(Host, Group)
local, ssh, command, hosts = _ways.local, _ways.ssh, _ways.command, _ways.hosts
docker, podman, kubectl, lxc, incus = _ways.docker, _ways.podman, _ways.kubectl, _ways.lxc, _ways.incus
nspawn, nsenter, chroot, jail = _ways.nspawn, _ways.nsenter, _ways.chroot, _ways.jail
sudo, su, doas = _ways.sudo, _ways.su, _ways.doas


def __getattr__(name: str) -> Any:
    """Imports the names that not every program needs, on first use."""
    if name == 'Executor':
        from ._executor import Executor
        return Executor
    if name == 'aio':
        import importlib
        return importlib.import_module('econtext.aio')
    raise AttributeError('module %r has no attribute %r' % (__name__, name))
