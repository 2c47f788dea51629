"""The ways to a host: one function for each, and `hosts` for many."""
from __future__ import annotations

import functools
import os
import sys
import types
from typing import Any, Generic, Iterable, Optional, Sequence, TypeVar, Union

from . import _group, _host
from ._errors import UsageError
from ._host import StrPath
from ._runtime import OutputCallback

H = TypeVar('H', bound=_host.HostBase)
G = TypeVar('G', bound=_group.GroupBase)


class Ways(Generic[H, G]):
    """Functions that start children, for hosts of one kind: those that are waited for, or those that are awaited."""

    def __init__(self, host: type[H], group: type[G]) -> None:
        self._host, self._group = host, group
        # For help() and inspect, each function says what it returns.
        for name, function in vars(Ways).items():
            if not name.startswith('_'):
                own = types.FunctionType(function.__code__, function.__globals__, name, function.__defaults__)
                functools.update_wrapper(own, function)
                del own.__wrapped__  # type: ignore[attr-defined]
                own.__kwdefaults__ = function.__kwdefaults__
                own.__annotations__ = dict(function.__annotations__, **{'return': group if name == 'hosts' else host})
                setattr(self, name, types.MethodType(own, self))

    def _start(self, word: Optional[str], name: Optional[str], via: Optional[_host.HostBase], python: StrPath,
               connect_timeout: float, output: Optional[OutputCallback], argv: Optional[list[str]] = None,
               **settings: Any) -> H:
        name = name or word or '?'
        child = _host.start(name, word, argv, via, python, connect_timeout, output, settings)
        return self._host(child, name)

    def local(self, name: str = 'local', *, python: Optional[StrPath] = None, via: Optional[_host.HostBase] = None,
              connect_timeout: float = 60.0, output: Optional[OutputCallback] = None) -> H:
        """A child on this machine, or next to another one (`via`).

        `python` is the Python to run; by default this one, and with `via` the first that is found there. The child's output goes to `sys.stdout` and
        `sys.stderr`, or to `output(host, 1 or 2, bytes)`.
        """
        if python is None:
            python = sys.executable if via is None and sys.executable else 'auto'
        return self._start('local:', name, via, python, connect_timeout, output)

    def ssh(self, host: str, *, user: Optional[str] = None, port: Optional[int] = None, identity: Optional[str] = None,
            jump: Optional[str] = None, password: Optional[str] = None, config: Optional[str] = None,
            options: Union[str, Iterable[str]] = (), program: Optional[str] = None, name: Optional[str] = None, python: StrPath = 'auto',
            via: Optional[_host.HostBase] = None, connect_timeout: float = 60.0,
            output: Optional[OutputCallback] = None) -> H:
        """A child behind your own `ssh`, with your configuration, agent, keys and jump hosts.

        `host` may be `user@host:port`. `options` are those of `ssh -o`. A password is typed on a terminal of ssh's own, and is
        shown nowhere.
        """
        return self._start(
            'ssh:' + host, name or host, via, python, connect_timeout, output, user=user, port=port, identity=identity, jump=jump,
            password=password, ssh_config=config, ssh_options=[options] if isinstance(options, str) else list(options), ssh_program=program)

    def docker(self, container: str, *, user: Optional[str] = None, name: Optional[str] = None, python: StrPath = 'auto',
               via: Optional[_host.HostBase] = None, connect_timeout: float = 60.0,
               output: Optional[OutputCallback] = None) -> H:
        """A child in a container, by `docker exec`."""
        return self._start('docker:' + container, name, via, python, connect_timeout, output, user=user)

    def podman(self, container: str, *, user: Optional[str] = None, name: Optional[str] = None, python: StrPath = 'auto',
               via: Optional[_host.HostBase] = None, connect_timeout: float = 60.0,
               output: Optional[OutputCallback] = None) -> H:
        """A child in a container, by `podman exec`."""
        return self._start('podman:' + container, name, via, python, connect_timeout, output, user=user)

    def _inside(self, scheme: str, which: str, name: Optional[str], python: StrPath, via: Optional[_host.HostBase],
                connect_timeout: float, output: Optional[OutputCallback]) -> H:
        return self._start('%s:%s' % (scheme, which), name, via, python, connect_timeout, output)

    def kubectl(self, pod: str, *, name: Optional[str] = None, python: StrPath = 'auto', via: Optional[_host.HostBase] = None,
                connect_timeout: float = 60.0, output: Optional[OutputCallback] = None) -> H:
        """A child in a pod (`[namespace/]pod[/container]`), by `kubectl exec`."""
        return self._inside('kubectl', pod, name, python, via, connect_timeout, output)

    def lxc(self, container: str, *, name: Optional[str] = None, python: StrPath = 'auto', via: Optional[_host.HostBase] = None,
            connect_timeout: float = 60.0, output: Optional[OutputCallback] = None) -> H:
        """A child in a container, by `lxc-attach`."""
        return self._inside('lxc', container, name, python, via, connect_timeout, output)

    def incus(self, instance: str, *, name: Optional[str] = None, python: StrPath = 'auto', via: Optional[_host.HostBase] = None,
              connect_timeout: float = 60.0, output: Optional[OutputCallback] = None) -> H:
        """A child in an instance, by `incus exec`."""
        return self._inside('incus', instance, name, python, via, connect_timeout, output)

    def nspawn(self, directory: str, *, name: Optional[str] = None, python: StrPath = 'auto', via: Optional[_host.HostBase] = None,
               connect_timeout: float = 60.0, output: Optional[OutputCallback] = None) -> H:
        """A child in a root file system, by `systemd-nspawn`."""
        return self._inside('nspawn', directory, name, python, via, connect_timeout, output)

    def nsenter(self, pid: Union[int, str], *, name: Optional[str] = None, python: StrPath = 'auto',
                via: Optional[_host.HostBase] = None, connect_timeout: float = 60.0,
                output: Optional[OutputCallback] = None) -> H:
        """A child in the namespaces of a process."""
        return self._inside('nsenter', str(pid), name, python, via, connect_timeout, output)

    def chroot(self, directory: str, *, name: Optional[str] = None, python: StrPath = 'auto', via: Optional[_host.HostBase] = None,
               connect_timeout: float = 60.0, output: Optional[OutputCallback] = None) -> H:
        """A child in a root file system, by `chroot`."""
        return self._inside('chroot', directory, name, python, via, connect_timeout, output)

    def jail(self, which: str, *, name: Optional[str] = None, python: StrPath = 'auto', via: Optional[_host.HostBase] = None,
             connect_timeout: float = 60.0, output: Optional[OutputCallback] = None) -> H:
        """A child in a jail, by `jexec`."""
        return self._inside('jail', which, name, python, via, connect_timeout, output)

    def _become(self, tool: str, via: Optional[_host.HostBase], user: str, password: Optional[str], name: Optional[str],
                python: StrPath, connect_timeout: float, output: Optional[OutputCallback]) -> H:
        if via is not None and not isinstance(via, _host.HostBase):
            raise UsageError('via is a host, and this is %r' % (via,))
        name = name or ('%s on %s' % (user, via.name) if via else user)
        settings = {'become': tool, 'become_user': user, 'become_password': password}
        child = _host.start(name, None, None, via, python, connect_timeout, output, settings)
        return self._host(child, name)

    def sudo(self, *, via: Optional[_host.HostBase] = None, user: str = 'root', password: Optional[str] = None,
             name: Optional[str] = None, python: StrPath = 'auto', connect_timeout: float = 60.0,
             output: Optional[OutputCallback] = None) -> H:
        """A child of another user on the host `via`, or on this machine, by sudo. The password is typed to a prompt that is known."""
        return self._become('sudo', via, user, password, name, python, connect_timeout, output)

    def su(self, *, via: Optional[_host.HostBase] = None, user: str = 'root', password: Optional[str] = None,
           name: Optional[str] = None, python: StrPath = 'auto', connect_timeout: float = 60.0,
           output: Optional[OutputCallback] = None) -> H:
        """A child of another user on the host `via`, or on this machine, by su."""
        return self._become('su', via, user, password, name, python, connect_timeout, output)

    def doas(self, *, via: Optional[_host.HostBase] = None, user: str = 'root', password: Optional[str] = None,
             name: Optional[str] = None, python: StrPath = 'auto', connect_timeout: float = 60.0,
             output: Optional[OutputCallback] = None) -> H:
        """A child of another user on the host `via`, or on this machine, by doas."""
        return self._become('doas', via, user, password, name, python, connect_timeout, output)

    def command(self, argv: Sequence[str], *, name: Optional[str] = None, python: StrPath = 'auto',
                via: Optional[_host.HostBase] = None, connect_timeout: float = 60.0,
                output: Optional[OutputCallback] = None) -> H:
        """A child behind any command that runs what follows it, with its stdin and stdout: `['ip', 'netns', 'exec', 'blue']`."""
        if isinstance(argv, str) or not argv:
            raise UsageError('a command is a list of words, and this is %r' % (argv,))
        return self._start(None, name or argv[0], via, python, connect_timeout, output, argv=list(argv))

    def hosts(self, *sets: Union[str, Iterable[str]], inventory: _group.Inventory = None, limit: int = 64, via: Union[str, Iterable[str], None] = None,
              become: Optional[str] = None, become_method: str = 'sudo', become_password: Optional[str] = None,
              user: Optional[str] = None, port: Optional[int] = None, identity: Optional[str] = None,
              jump: Optional[str] = None, password: Optional[str] = None, config: Optional[str] = None,
              options: Union[str, Iterable[str]] = (), python: Optional[StrPath] = None, retries: int = 0, connect_timeout: float = 60.0,
              connect_rate: Optional[float] = None, output: Optional[OutputCallback] = None) -> G:
        """A group of hosts by the grammar of the command: `web[01-20]`, `@group`, `a,b!c`, `docker:name`, `local:`.

        `inventory` has files as the command's `-i` does. `become` is the user to run as on each host, `via` the hosts that
        they are reached from, `limit` the number of hosts at a time, `connect_rate` the logins per second. Nothing is connected
        before it is used.
        """
        settings = dict(
            user=user, port=port, identity=identity, jump=jump, password=password, ssh_config=config, ssh_options=[options] if isinstance(options, str) else list(options),
            python=None if python is None else os.fspath(python), via=[via] if isinstance(via, str) else list(via or ()))
        if become is not None:
            settings.update(become=become_method, become_user=become, become_password=become_password)
        return self._group(_group.members(
            [one for some in sets for one in ([some] if isinstance(some, str) else some)], inventory, limit, retries, connect_timeout, connect_rate, output, settings))
