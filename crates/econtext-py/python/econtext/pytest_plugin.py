"""Tests of remote machines, for pytest.

With `--hosts 'web[01-03]'` the fixture `host` is each of them in turn, and a test that is marked `@pytest.mark.remote` runs
there, whole: what it uses goes with it, and an assertion that fails shows its lines.

    @pytest.mark.remote
    def test_the_service_answers():
        assert socket.create_connection(('localhost', 80), 5)

    def test_the_disk_is_not_full(host):
        assert host.call(shutil.disk_usage, '/').free > 2**30
"""
from __future__ import annotations

from typing import Any, Iterator, Optional

import pytest

import econtext

# What pytest raises there for a test that says what is to become of it.
_OUTCOMES: dict[str, Any] = {'Skipped': pytest.skip, 'Failed': pytest.fail, 'XFailed': pytest.xfail, 'Exit': pytest.exit}
_KEY: pytest.StashKey[econtext.Group] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup('econtext', 'tests of remote machines')
    group.addoption('--hosts', metavar='SET', default='local:', help='hosts for the fixture `host`, as of the command; default: local:')
    group.addoption('--hosts-inventory', metavar='FILE', action='append', default=[], help='an inventory of the command')
    group.addoption('--hosts-become', metavar='USER', help='the user that is become there')
    group.addoption('--hosts-via', metavar='HOST', help='the host that they are reached from')
    group.addoption('--hosts-python', metavar='PATH', help='the Python to run there')


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line('markers', 'remote: the test runs on each of the hosts that --hosts names')


def _group(config: pytest.Config) -> econtext.Group:
    if _KEY not in config.stash:
        option = config.getoption
        config.stash[_KEY] = econtext.hosts(
            option('--hosts'), inventory=option('--hosts-inventory') or None, become=option('--hosts-become'),
            via=option('--hosts-via'), python=option('--hosts-python'))
    return config.stash[_KEY]


def pytest_unconfigure(config: pytest.Config) -> None:
    if _KEY in config.stash:
        config.stash[_KEY].close()


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[econtext.Host]:
    """A connected host; one of those of `--hosts`."""
    yield _group(request.config)[request.param]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marked = any(True for _ in metafunc.definition.iter_markers('remote'))
    if marked and 'host' not in metafunc.fixturenames:
        metafunc.fixturenames.append('host')
    if 'host' in metafunc.fixturenames and metafunc._arg2fixturedefs.get('host', [None])[-1] is not None:
        if metafunc._arg2fixturedefs['host'][-1].func.__module__ != __name__:
            return  # the project has a fixture `host` of its own
    if 'host' in metafunc.fixturenames:
        metafunc.parametrize('host', _group(metafunc.config).names, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Optional[bool]:
    """Runs marked tests there."""
    if pyfuncitem.get_closest_marker('remote') is None:
        return None
    arguments: dict[str, Any] = {
        name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames if name in pyfuncitem.funcargs}
    arguments.pop('host', None)
    target: Any = pyfuncitem._request.getfixturevalue('host')
    __tracebackhide__ = True
    try:
        target.call(pyfuncitem.obj, **arguments)
    except econtext.RemoteError as error:
        outcome = _OUTCOMES.get(error.type_name)
        if outcome is None:
            raise
        outcome(error.message.partition(': ')[2])
    return True
