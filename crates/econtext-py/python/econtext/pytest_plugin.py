"""Tests of remote machines, for pytest.

With `--econtext-hosts 'web[01-03]'` the fixture `host` is each of them in turn, and a test that is marked
`@pytest.mark.remote` runs there as a whole: the objects that it uses go with it, and an assertion that fails shows its lines.

    @pytest.mark.remote
    def test_the_service_answers():
        assert socket.create_connection(('localhost', 80), 5)

    def test_the_disk_is_not_full(host):
        assert host.call(shutil.disk_usage, '/').free > 2**30

Each option can be in the ini file too: `econtext_hosts = web[01-03]`. The fixture is also called `econtext_host`. Beside
pytest-testinfra, which has a fixture `host` of its own, it has that name only.
"""
from __future__ import annotations

from typing import Any, Iterator, Optional

import pytest

import econtext

# Exceptions of pytest by which a test there decides its own outcome.
_OUTCOMES: dict[str, Any] = {'Skipped': pytest.skip, 'Failed': pytest.fail, 'XFailed': pytest.xfail, 'Exit': pytest.exit}
_KEY: pytest.StashKey[econtext.Group] = pytest.StashKey()


#: Each option, without `--econtext-`: its metavar and its description.
_OPTIONS = {
    'hosts': ('SET', 'hosts for the fixture `host`, as of the command; default: local:'),
    'inventory': ('FILE', 'an inventory of the command'),
    'become': ('USER', 'the user that tests run as there'),
    'via': ('HOST', 'the host that they are reached from'),
    'python': ('PATH', 'the Python to run there'),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup('econtext', 'tests of remote machines')
    for name, (metavar, text) in _OPTIONS.items():
        is_list = name == 'inventory'
        group.addoption('--econtext-' + name, metavar=metavar, help=text, action='append' if is_list else 'store')
        if is_list:
            parser.addini('econtext_' + name, text, 'linelist')
        else:
            parser.addini('econtext_' + name, text, 'string')


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line('markers', 'remote: the test runs on each of the hosts that --econtext-hosts names')
    loaded = {getattr(plugin, '__name__', None) for plugin in config.pluginmanager.get_plugins()}
    if 'testinfra.plugin' not in loaded:
        config.pluginmanager.register(_Host(), 'econtext_host')


def _option(config: pytest.Config, name: str) -> Any:
    """The value from the command line, or the ini file; None if neither has one."""
    return config.getoption('--econtext-' + name) or config.getini('econtext_' + name) or None


def _group(config: pytest.Config) -> econtext.Group:
    if _KEY not in config.stash:
        hosts, *others = (_option(config, name) for name in _OPTIONS)
        config.stash[_KEY] = econtext.hosts(hosts or 'local:', **dict(zip(list(_OPTIONS)[1:], others)))
    return config.stash[_KEY]


def pytest_unconfigure(config: pytest.Config) -> None:
    if _KEY in config.stash:
        config.stash[_KEY].close()


@pytest.fixture
def econtext_host(request: pytest.FixtureRequest) -> Iterator[econtext.Host]:
    """A connected host; one of those of `--econtext-hosts`."""
    yield _group(request.config)[request.param]


class _Host:
    """A plugin with the short name of the fixture."""

    @pytest.fixture
    def host(self, econtext_host: econtext.Host) -> econtext.Host:
        """A connected host; one of those of `--econtext-hosts`."""
        return econtext_host


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marked = any(True for _ in metafunc.definition.iter_markers('remote'))
    if marked and 'econtext_host' not in metafunc.fixturenames:
        metafunc.fixturenames.append('econtext_host')
    if 'econtext_host' in metafunc.fixturenames:
        metafunc.parametrize('econtext_host', _group(metafunc.config).names, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Optional[bool]:
    """Runs marked tests there."""
    if pyfuncitem.get_closest_marker('remote') is None:
        return None
    arguments: dict[str, Any] = {
        name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames if name in pyfuncitem.funcargs}
    arguments.pop('econtext_host', None)
    target: Any = pyfuncitem._request.getfixturevalue('econtext_host')
    if arguments.get('host') is target:
        del arguments['host']
    __tracebackhide__ = True
    try:
        target.call(pyfuncitem.obj, **arguments)
    except econtext.RemoteError as error:
        outcome = _OUTCOMES.get(error.type_name.rpartition('.')[2])
        if outcome is None:
            raise
        outcome(error.message.partition(': ')[2])
    return True
