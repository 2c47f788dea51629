"""The exceptions here for those that were raised there."""
import copy
import json
import os
import pickle
import traceback

import facts
import pytest

import econtext
from econtext import _econtext, _errors


def test_an_exception_there_is_caught_as_both(host):
    for kind in FileNotFoundError, OSError, econtext.RemoteError, econtext.Error:
        with pytest.raises(kind) as caught:
            host.call(open, '/no/such/file')
    error = caught.value
    assert (error.errno, error.filename, error.host, error.kind) == (2, '/no/such/file', 'here', 'exception')
    assert str(error) == "here: [Errno 2] No such file or directory: '/no/such/file'"
    assert type(error).__name__ == 'RemoteError[FileNotFoundError]'


def test_every_builtin_exception_is_itself():
    for kind, args in [(KeyError, ('k',)), (UnicodeDecodeError, ('utf-8', b'\xff', 0, 1, 'bad')), (ZeroDivisionError, ('x',)),
                       (SyntaxError, ('bad', ('f', 1, 2, 'text'))), (PermissionError, (13, 'no', 'file')), (ImportError, ('x',))]:
        error = _errors.remote('h', 'builtins', kind.__name__, 'text', args, '', (), None)
        assert isinstance(error, kind) and isinstance(error, econtext.RemoteError) and error.args, kind
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error) == 'h: text'
    assert isinstance(_errors.remote('h', 'exceptions', 'IOError', 'x', (2, 'x'), '', (), None), FileNotFoundError)
    assert isinstance(_errors.remote('h', 'builtins', 'OSError', 'x', (), '', (), None), OSError)
    assert copy.copy(error).host == 'h'


def test_what_ends_programs_and_iterations_is_only_a_remote_error(host):
    for name in 'SystemExit', 'KeyboardInterrupt', 'StopIteration', 'GeneratorExit', 'exit', '__import__', 'dict':
        error = _errors.remote('h', 'builtins', name, 'x', (1,), '', (), None)
        assert type(error) is econtext.RemoteError, name
    with pytest.raises(econtext.RemoteError, match='SystemExit: 3'):
        host.call('sys:exit', 3)


def test_a_class_is_never_taken_from_the_wire(host):
    with pytest.raises(econtext.RemoteError) as caught:
        host.call(facts.unknown)
    assert type(caught.value) is econtext.RemoteError and caught.value.type_name == 'facts.Unknown'
    assert str(caught.value) == 'here: facts.Unknown: no'


def test_odd_arguments_make_no_other_exception():
    error = _errors.remote('h', 'builtins', 'UnicodeDecodeError', 'text', (1,), '', (), None)
    assert isinstance(error, econtext.RemoteError) and str(error).endswith('text')
    error = _errors.remote('h', 'json.decoder', 'JSONDecodeError', 'text', ('m',), '', (), None)
    assert isinstance(error, json.JSONDecodeError) and isinstance(error, ValueError) and str(error) == 'h: text'


def test_frames_and_source_lines_show(host):
    def inner(n):
        return n / 0  # the line that fails

    def outer():
        return inner(1)

    with pytest.raises(ZeroDivisionError) as caught:
        host.call(outer)
    text = ''.join(traceback.format_exception(type(caught.value), caught.value, caught.value.__traceback__))
    assert 'the line that fails' in text and 'on here:' in text and 'return inner(1)' in text
    assert [frame.function for frame in caught.value.frames] == ['outer', 'inner']
    assert caught.value.frames[1].source == 'return n / 0  # the line that fails'
    assert caught.value.frames[1].file == __file__
    with pytest.raises(ValueError) as caught:
        host.call(facts.chained)
    assert isinstance(caught.value.remote_cause, KeyError)
    assert 'facts.py' in caught.value.frames[0].file


def test_the_kinds_are_those_of_the_command():
    assert set(_errors._BY_KIND) == set(_econtext.KINDS)
    for kind, cls in _errors._BY_KIND.items():
        error = _errors.make(kind, 'h', 'message', '', None, None)
        assert type(error) is cls and str(error).startswith('h: ')
        if kind not in ('import', 'exception'):
            assert cls.kind == kind
        assert pickle.loads(pickle.dumps(econtext.UsageError('m', 'h', 's'))).stderr == 's'


def test_an_import_that_fails_says_so(host):
    with pytest.raises(ModuleNotFoundError) as caught:
        host.call('no_such_module_at_all:f')
    assert caught.value.kind == 'import'


def test_a_lost_child_fails_all_calls():
    with econtext.local() as host:
        futures = [host.submit(os._exit, 3), host.submit(os.getpid)]
        for future in futures:
            with pytest.raises(econtext.ClosedError):
                future.result(30)
