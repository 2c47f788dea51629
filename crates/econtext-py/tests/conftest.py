"""Hosts for tests. Where ECONTEXT_TEST_ALL is set, nothing may be skipped."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

# A process that a shell starts in the background ignores Ctrl-C, and so does a Python under it.
signal.signal(signal.SIGINT, signal.default_int_handler)
HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / 'modules'))


def _pyenv():
    try:
        root = subprocess.run(['pyenv', 'root'], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        root = os.environ.get('PYENV_ROOT', os.path.expanduser('~/.pyenv'))
    return sorted(pathlib.Path(root).glob('versions/*/bin/python'))


def version(path):
    code = 'import sys; print("%d.%d" % sys.version_info[:2])'
    return subprocess.run([str(path), '-c', code], stdout=subprocess.PIPE, text=True).stdout.strip()


def pythons():
    """A Python of each version that there is, by version: those that the caller found, and those that are found here."""
    given = os.environ.get('ECONTEXT_TEST_PYTHONS', '')
    found = dict(word.split('=', 1) for word in given.split(':') if word)
    found['%d.%d' % sys.version_info[:2]] = sys.executable
    for path in [shutil.which('python3')] + _pyenv():
        if path:
            found.setdefault(version(path), str(path))
    return found


PYTHONS = pythons()
# As `CLAIMED` of the Rust tests.
WANTED = ['2.7'] + ['3.%d' % minor for minor in range(6, 15)]


def missing(what):
    """Skips, unless everything has to be there."""
    if os.environ.get('ECONTEXT_TEST_ALL'):
        pytest.fail('%s is missing, and ECONTEXT_TEST_ALL is set' % what)
    pytest.skip('%s is missing' % what)


@pytest.fixture(params=WANTED)
def any_python(request):
    """The path of each Python that children may have."""
    if request.param not in PYTHONS:
        missing('Python ' + request.param)
    return PYTHONS[request.param]


@pytest.fixture(scope='module')
def host():
    import econtext
    with econtext.local('here', python=sys.executable) as host:
        yield host


@pytest.fixture
def own():
    import econtext
    with econtext.local('own', python=sys.executable) as host:
        yield host


def run_python(code, *args, timeout=60, **options):
    """Runs a program with this Python and this package."""
    return subprocess.run([sys.executable, *args, '-c', code] if isinstance(code, str) else [sys.executable, *code],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout, **options)
