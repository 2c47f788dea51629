"""The types: of the package itself, of programs that use it, and the stubs against the built module."""
import pathlib
import shutil
import subprocess
import sys

import pytest
from conftest import HERE, missing

import econtext


def checker(module):
    try:
        __import__(module)
    except ImportError:
        missing(module)
    return [sys.executable, '-m', module]


def check(command, **options):
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert ran.returncode == 0, ran.stdout


def test_mypy_finds_nothing(tmp_path):
    # Of what is installed mypy shows no errors.
    mypy = checker('mypy') + ['--strict', '--cache-dir', str(tmp_path / 'cache')]
    shutil.copytree(pathlib.Path(econtext.__file__).parent, tmp_path / 'here' / 'econtext')
    check(mypy + ['econtext'], cwd=str(tmp_path / 'here'))
    check(mypy + [str(HERE / 'typed.py')], cwd=str(tmp_path))


def test_pyright_finds_nothing(tmp_path):
    check(checker('pyright') + ['--pythonpath', sys.executable, str(HERE / 'typed.py')], cwd=str(tmp_path))


def test_signatures_and_hints_name_real_types():
    import inspect
    import typing

    import econtext
    for module in econtext, econtext.aio:
        for name in 'ssh', 'local', 'sudo', 'podman':
            assert inspect.signature(getattr(module, name)).return_annotation is module.Host
            assert typing.get_type_hints(getattr(module, name))['name'] in (str, typing.Optional[str])
        assert inspect.signature(module.hosts).return_annotation is module.Group
        assert 'A child' in module.local.__doc__


def test_the_stubs_are_those_of_the_module(tmp_path):
    checker('mypy')
    check([sys.executable, '-m', 'mypy.stubtest', 'econtext._econtext'], cwd=str(tmp_path))


def test_the_package_says_that_it_has_types():
    assert (pathlib.Path(econtext.__file__).parent / 'py.typed').exists()
    with pytest.raises(AttributeError):
        econtext.no_such_name
    assert set(econtext.__all__) <= set(dir(econtext)) | {'Executor', 'aio'}
