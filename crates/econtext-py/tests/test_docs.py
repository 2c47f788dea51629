"""Every example of the documentation, over a real sshd."""
import doctest
import importlib
import os
import pathlib
import pkgutil
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import HERE, missing, run_python

import econtext

ROOT = next((p for p in [HERE.parents[2], pathlib.Path(os.environ.get('ECONTEXT_CHECKOUT', '/'))]
             if (p / 'docs' / 'python.md').exists()), None)


@pytest.fixture(scope='module')
def ssh_path(tmp_path_factory):
    """A directory with an `ssh` that finds web01 and the others behind an sshd of this test's own."""
    sshd = shutil.which('sshd', path='/usr/sbin:/usr/local/sbin:/sbin')
    if not sshd or not shutil.which('ssh') or os.geteuid():
        missing('sshd, ssh or root')
    at = tmp_path_factory.mktemp('ssh')
    at.chmod(0o755)
    for key in 'host', 'user':
        subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', str(at / key)], check=True)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    (at / 'sshd_config').write_text(
        'Port %d\nListenAddress 127.0.0.1\nHostKey %s/host\nPidFile none\nAuthorizedKeysFile %s/user.pub\nStrictModes no\n'
        'PermitRootLogin yes\nMaxStartups 100\nMaxSessions 100\nSetEnv PATH=%s/bin:%s\n' % (port, at, at, at, os.environ['PATH']))
    os.makedirs('/run/sshd', exist_ok=True)
    server = subprocess.Popen([sshd, '-D', '-e', '-f', str(at / 'sshd_config')], stderr=subprocess.PIPE, text=True)
    (at / 'known_hosts').write_text('* ' + (at / 'host.pub').read_text())
    (at / 'config').write_text(
        'Host web* db* bastion\nHostName 127.0.0.1\nPort %d\nUser root\nIdentityFile %s/user\nIdentitiesOnly yes\n'
        'UserKnownHostsFile %s/known_hosts\nGlobalKnownHostsFile /dev/null\n' % (port, at, at))
    (at / 'bin').mkdir()
    (at / 'bin' / 'ssh').write_text('#!/bin/sh\nexec %s -F %s/config "$@"\n' % (shutil.which('ssh'), at))
    (at / 'bin' / 'ssh').chmod(0o755)
    deadline = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(('127.0.0.1', port)) == 0:
                break
        if server.poll() is not None or time.monotonic() > deadline:
            pytest.fail('sshd does not start: %s' % (server.stderr.read() if server.poll() is not None else 'silent'))
        time.sleep(0.05)
    yield at / 'bin'
    server.terminate()
    server.wait()


def blocks(page):
    """The Python of a page that is ours, as one program whose lines are those of the page."""
    program, inside = [], False
    for line in page.read_text().split('\n'):
        if line.startswith('```'):
            inside = not inside and line == '```python'
            line = ''
        program.append(line if inside else '')
    return '\n'.join(program)


@pytest.mark.parametrize('name', ['python.md', 'coming-from-mitogen.md'])
def test_the_blocks_of_a_page_run(name, ssh_path, tmp_path):
    if ROOT is None:
        missing('the checkout')
    script = tmp_path / 'page.py'
    script.write_text(blocks(ROOT / 'docs' / name))
    assert script.read_text().count('econtext.') > 5
    ran = run_python([str(script)], timeout=120, cwd=str(ROOT), env=dict(os.environ, PATH='%s:%s' % (ssh_path, os.environ['PATH'])))
    assert (ran.returncode, ran.stderr) == (0, ''), ran.stderr


def test_the_example_of_the_packages_own_page_runs(ssh_path):
    """With hosts that are there."""
    page = HERE.parent / 'README.md'
    if not page.exists():
        missing('the checkout')
    ran = run_python(blocks(page).replace('web[01-20]', 'web[01-04]'), env=dict(os.environ, PATH='%s:%s' % (ssh_path, os.environ['PATH'])))
    assert (ran.returncode, ran.stderr) == (0, '') and ran.stdout.count('web0') == 4 and 'Error' not in ran.stdout


def modules():
    names = [info.name for info in pkgutil.iter_modules(econtext.__path__)]
    return ['econtext'] + ['econtext.' + name for name in names if name not in ('_econtext', '_child', 'joblib', 'pytest_plugin')]


@pytest.mark.parametrize('name', modules())
def test_the_examples_in_docstrings_are_true(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert not failed


def test_every_public_name_has_a_docstring():
    for name in econtext.__all__:
        thing = getattr(econtext, name)
        assert name == '__version__' or thing.__doc__, name
        if isinstance(thing, type):
            for attribute, value in vars(thing).items():
                if not attribute.startswith('_') and (callable(value) or isinstance(value, property)):
                    assert value.__doc__, '%s.%s' % (name, attribute)


def test_the_plugin_runs_tests_there(ssh_path, tmp_path):
    page = (ROOT / 'docs' / 'python.md').read_text() if ROOT else missing('the checkout')
    source = re.search(r'```python test_web.py\n(.*?)```', page, re.S).group(1)
    (tmp_path / 'test_web.py').write_text(source.replace('22)', 'free)').replace('import pytest\n', 'import pytest\nfree = 1\n') + textwrap.dedent('''
        LIMIT = 3

        @pytest.mark.remote
        @pytest.mark.parametrize("n", [2, 5])
        def test_of_ours(n):
            import econtext
            assert not hasattr(econtext.core, "Broker") or n < LIMIT, econtext.core.child.context.name
    '''))
    ran = run_python(['-m', 'pytest', '-v', '-p', 'econtext.pytest_plugin', '--econtext-hosts', 'web[01-02]', 'test_web.py'], cwd=str(tmp_path),
                     env=dict(os.environ, PATH='%s:%s' % (ssh_path, os.environ['PATH']), PYTEST_DISABLE_PLUGIN_AUTOLOAD='1'))
    assert '4 passed, 4 failed' in ran.stdout.replace('4 failed, 4 passed', '4 passed, 4 failed'), ran.stdout + ran.stderr
    assert ran.stdout.count('ConnectionRefusedError') >= 2 and 'test_there_is_room[web02] PASSED' in ran.stdout
    assert 'assert not hasattr' in ran.stdout and 'AssertionError: web0' in ran.stdout


def test_the_plugin_lives_beside_testinfra_and_outcomes_are_kept(tmp_path):
    (tmp_path / 'pytest.ini').write_text('[pytest]\necontext_hosts = local:a,local:b\n')
    (tmp_path / 'test_both.py').write_text(textwrap.dedent('''
        import pytest

        @pytest.mark.remote
        def test_expected_to_fail():
            import pytest
            pytest.xfail('known')

        @pytest.mark.remote
        def test_skipped():
            import pytest
            pytest.skip('not here')

        def test_host(econtext_host):
            assert econtext_host.call('os:getpid') > 0
    '''))
    (tmp_path / 'test_theirs.py').write_text('def test_theirs(host):\n    assert host.file("/").exists\n')
    runs = [['test_both.py']]
    try:
        import testinfra  # noqa: F401
        runs.append(['-p', 'testinfra.plugin', '--hosts', 'local://', 'test_both.py', 'test_theirs.py'])
    except ImportError:
        if sys.version_info >= (3, 13):
            missing('pytest-testinfra')
    for words in runs:
        ran = run_python(['-m', 'pytest', '-v', '-p', 'econtext.pytest_plugin', *words], cwd=str(tmp_path),
                         env=dict(os.environ, PYTEST_DISABLE_PLUGIN_AUTOLOAD='1'))
        assert '2 skipped' in ran.stdout and '2 xfailed' in ran.stdout and ' failed' not in ran.stdout, ran.stdout + ran.stderr
        assert ran.returncode == 0, ran.stdout + ran.stderr
