"""Calls of every kind of function, on every kind of Python."""
import functools
import os
import pathlib
import shutil
import sys
import threading
import time

import facts
import pytest

import econtext


def test_a_function_of_the_standard_library_is_called_by_name(host):
    assert host.call(os.path.basename, '/a/b') == 'b'
    assert host.call('os.path:basename', '/a/b') == 'b'
    total, used, free = host.call(shutil.disk_usage, '/')
    assert host.call(shutil.disk_usage, '/').total == total
    assert host.call(os.stat, '/').st_mode == os.stat('/').st_mode
    assert host.call(os.stat, '/').st_mtime == os.stat('/').st_mtime
    assert host.call(len, [1, 2]) == 2
    assert host.call(dict.fromkeys, 'ab') == {'a': None, 'b': None}


def test_modules_of_ours_are_served(host):
    assert host.call(facts.echo, 1, b=2) == ((1,), {'b': 2})
    assert host.call('facts:echo') == ((), {})


def test_functions_without_a_module_work_on_every_python(any_python):
    offset = 5

    def twice(n):
        return [n * 2, -n][0]

    def add(n, more=offset):
        return twice(n) + offset + more

    with econtext.local(python=any_python) as host:
        assert host.call(add, 1) == 12
        assert host.call(add, 1, more=0) == 7
        assert host.call(lambda a, *b: (a, b), 1, 2) == (1, (2,))
        assert host.call(lambda: 7 / 2) == 3.5  # Python 3's, also on Python 2
        assert list(host.stream(lambda n: (i * offset for i in range(n)), 3)) == [0, 5, 10]


def test_annotations_do_not_keep_a_function_from_an_old_python():
    if '2.7' not in __import__('conftest').PYTHONS:
        __import__('conftest').missing('Python 2.7')

    def annotated(a: int, b: "list[str]" = ['x'], *args: (int), c: (
            int) = 3) -> dict:
        return [a, b, args]

    def plainly(a: int, b: list = ['x']) -> dict:
        return {'a': a, 'b': b}

    with econtext.local(python=__import__('conftest').PYTHONS['2.7']) as host:
        assert host.call(plainly, 1) == {'a': 1, 'b': ['x']}
    with econtext.local(python=sys.executable) as host:
        assert host.call(annotated, 1) == [1, ['x'], ()]


def test_a_function_may_call_itself_and_others(host):
    def factorial(n):
        return 1 if n < 2 else n * factorial(n - 1)

    assert host.call(factorial, 5) == 120
    assert host.call(lambda: facts.echo(factorial(3))) == ((6,), {})


def test_lambdas_of_one_line_are_told_apart(host):
    pair = [lambda: 'first', lambda: 'second']
    assert [host.call(function) for function in pair] == ['first', 'second']
    adders = [lambda x, n=n: x + n for n in range(3)]
    assert [host.call(adder, 10) for adder in adders] == [10, 11, 12]


def test_a_multi_line_lambda_is_whole(host):
    scale = 3
    function = (lambda x: [
        x,
        x * scale,  # with a comment ) in it
    ])
    assert host.call(function, 2) == [2, 6]


def test_classes_inside_of_functions_go_along(host):
    class Base:
        def __init__(self, n):
            self.n = n

        def value(self):
            return self.n

    class Derived(Base):
        def value(self):
            return super().value() + 1

    step = 3

    class Stepping:
        def value(self):
            return step

    assert host.call(lambda: Derived(1).value()) == 2
    assert host.call(lambda: Base(3).value()) == 3
    assert host.call(lambda: Stepping().value()) == 3


def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return ['logged', function(*args)]
    return wrapper


def unwrapped(function):
    return lambda *args: ['unwrapped', function(*args)]


@logged
@unwrapped
def decorated(n, more=[1]):
    return n + more[0]


@functools.lru_cache(maxsize=None)
def cached(n):
    return n * 2


class Countdown:
    step = 1

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        while self.n > 0:
            yield self.n
            self.n -= self.step

    @classmethod
    def made(cls, n):
        return list(cls(n))

    @staticmethod
    def double(n):
        return 2 * n

    def total(self):
        return sum(self)


def test_decorators_have_done_their_work_once(own):
    """In a module that cannot be imported, as a notebook."""
    space = {'__name__': 'cells'}
    text = pathlib.Path(__file__).read_text()
    import linecache
    linecache.cache['<cells>'] = len(text), None, text.splitlines(True), '<cells>'
    exec(compile(text, '<cells>', 'exec'), space)
    assert own.call(space['decorated'], 3) == decorated(3) == ['logged', ['unwrapped', 4]]
    assert own.call(space['cached'], 3) == 6
    cells_cached, kind = space['cached'], space['Countdown']
    assert own.call(lambda: cells_cached(5)) == 10
    assert own.call(lambda n: list(kind(n)), 3) == [3, 2, 1]
    assert own.call(kind(3).total) == 6


def test_methods_of_classes_are_called_by_name(host):
    assert host.call(Countdown.made, 3) == [3, 2, 1]
    assert host.call(Countdown.double, 3) == 6
    assert host.call(decorated, 1) == ['logged', ['unwrapped', 2]] and host.call(cached, 2) == 4


def test_methods_partials_and_callables_are_called(host):
    assert host.call('abc'.upper) == 'ABC'
    assert host.call(functools.partial(facts.echo, 1, k=2), 3) == ((1, 3), {'k': 2})
    assert host.call([1, 2, 3].index, 3) == 2


def test_what_cannot_go_is_refused_by_its_name(host):
    lock = threading.Lock()
    with pytest.raises(econtext.UsageError, match=r"uses the variable 'lock', which is a _thread\.lock"):
        host.call(lambda: lock)
    with pytest.raises(econtext.UsageError, match='argument 2 is a _thread.lock'):
        host.call(facts.echo, 1, lock)
    with pytest.raises(econtext.UsageError, match='argument k= is a'):
        host.call(facts.echo, k=[lock])
    with pytest.raises(econtext.UsageError, match="'host'.*belongs to the process"):
        host.call(lambda: host)
    with pytest.raises(econtext.UsageError, match='neither a function'):
        host.call(3)
    with pytest.raises(econtext.UsageError, match='module:function'):
        host.call('os.getpid')
    assert host.call(os.getpid)


def test_a_timeout_interrupts_the_function(own):
    started = time.monotonic()
    with pytest.raises(econtext.TimeoutError) as caught:
        own.options(timeout=0.3).call(time.sleep, 60)
    assert caught.value.kind == 'timeout' and isinstance(caught.value, TimeoutError)
    assert own.call(os.getpid)
    assert time.monotonic() - started < 30


def test_a_future_can_be_cancelled(own):
    own.call(os.getpid)
    future = own.submit(time.sleep, 60)
    assert future.cancel() and future.cancelled()
    assert own.call(os.getpid)
    done = own.submit(pow, 2, 5)
    assert done.result(10) == 32 and not done.cancel()


def test_streams_are_closed_when_nobody_reads(own):
    def endless(path):
        try:
            n = 0
            while True:
                yield n
                n += 1
        finally:
            open(path, 'w').write('closed')

    path = '/tmp/econtext-py-stream-%d' % os.getpid()
    stream = own.stream(endless, path)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    stream.close()
    del stream
    own.call(os.getpid)
    assert pathlib.Path(path).read_text() == 'closed'
    os.unlink(path)


def test_commands_are_run(host):
    output = host.run(['sh', '-c', 'cat; echo error >&2; exit 3'], input='in')
    assert (output.returncode, output.stdout, output.stderr, output.ok) == (3, 'in', 'error\n', False)
    with pytest.raises(econtext.CommandError) as caught:
        host.run(['false'], check=True)
    import subprocess
    assert isinstance(caught.value, subprocess.CalledProcessError) and caught.value.host == 'here'
    assert host.run(['sh', '-c', 'kill -9 $$']).returncode == -9
    assert host.run(['pwd'], cwd='/').stdout == '/\n'
    assert host.run(['sh', '-c', 'echo $A $HOME'], env={'A': 'x', 'HOME': None}).stdout == 'x\n'
    with pytest.raises(econtext.UsageError, match='sh.*-c'):
        host.run('echo $HOME | wc')
    with pytest.raises(econtext.TimeoutError):
        host.run(['sleep', '60'], timeout=0.2)
    with pytest.raises(FileNotFoundError):
        host.run(['no-such-program-here'])
    assert host.run(['printf', '\\377'], text=False).stdout == b'\xff'


def test_files_go_there_and_back(host, tmp_path):
    source, there, back = tmp_path / 'source', tmp_path / 'there', tmp_path / 'back'
    source.write_bytes(os.urandom(3 << 20))
    seen = []
    done = host.put(source, there, progress=lambda name, done, size: seen.append((done, size)))
    assert (done.files, done.bytes) == (1, 3 << 20) and seen[-1] == (3 << 20, 3 << 20)
    assert host.put(source, there).skipped == 1
    assert host.get(there, back).files == 1
    assert (back / 'there').read_bytes() == source.read_bytes()


def test_channels_go_both_ways(own):
    def sums(channel):
        total = 0
        for number in channel:
            total += number
            channel.send(total)
        return total

    channel = own.channel()
    done = own.submit(sums, channel)
    for number in range(5):
        channel.send(number)
    assert [channel.receive(10) for _ in range(5)] == [0, 1, 3, 6, 10]
    channel.close()
    assert done.result(10) == 10


def test_a_child_starts_from_another(own):
    with econtext.local('inner', via=own, python=sys.executable) as inner:
        assert inner.call(os.getppid) != os.getpid()
        assert inner.call(os.getpid) != own.call(os.getpid)


def test_the_same_definition_is_sent_once_and_a_new_one_takes_its_place(own):
    space = {'__name__': 'cells'}

    def define(text):
        import linecache
        name = '<cell %d>' % hash(text)
        linecache.cache[name] = len(text), None, text.splitlines(True), name
        exec(compile(text, name, 'exec'), space)

    define('FACTOR = 2\ndef helper(n):\n    return n * FACTOR\ndef f(n):\n    return helper(n) + 1\n')
    assert own.call(space['f'], 5) == 11
    define('def helper(n):\n    return -n\n')
    assert own.call(space['f'], 5) == -4
    space['helper'] = abs
    assert own.call(space['f'], -5) == 6


def test_queued_calls_have_what_they_were_made_with(own):
    values = [own.submit(lambda: (__import__('time').sleep(0.02), n)[1]) for n in range(6)]
    assert [value.result(30) for value in values] == list(range(6))
    with econtext.Executor(own, per_host=4) as executor:
        values = [executor.submit(lambda: (__import__('time').sleep(0.02), n)[1]) for n in range(6)]
        assert [value.result(30) for value in values] == list(range(6))


SCRIPT = """
import collections, contextlib, enum, functools, sys
import econtext

def factorial(n):
    return 1 if n < 2 else n * factorial(n - 1)

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

@contextlib.contextmanager
def managed(n):
    yield n

def uses():
    with managed(4) as n:
        return n

COUNT = 0
SEEN = []

def count():
    global COUNT
    COUNT += 1
    SEEN.append(1)
    return COUNT, len(SEEN)

_MISSING = object()

def given(x=_MISSING):
    return x is _MISSING

class Private:
    def __init__(self):
        self.__x = 5

    def get(self):
        return self.__x

    @classmethod
    def made(cls):
        return Private().get()

Pair = collections.namedtuple('Pair', 'a b', defaults=[7])
Color = enum.Enum('Color', 'RED GREEN')

@econtext.register
class AppError(Exception):
    pass

def throw():
    raise AppError('a')

def counter():
    n = 0
    def step():
        nonlocal n
        n += 1
        return n
    return step

with econtext.local(python=sys.argv[1]) as host:
    old = len(sys.argv) > 2
    print(host.call(factorial, 5), host.call(even, 10), host.call(uses))
    print([host.call(count) for _ in range(3)])
    COUNT = 10
    print(host.call(count), host.call(given), host.call(given, 1))
    print(host.call(Private.get, Private()), host.call(Private.made), host.call(lambda p: (p.a, p.b), Pair(1)))
    print(host.call(pow, 2, 5), host.call('builtins:len', 'ab'))
    try:
        host.call(throw)
    except AppError as error:
        print(error.type_name, error.args)
    if not old:
        print(host.call(counter()), host.call(lambda c: c.name, Color.GREEN))
        print(list(host.stream(lambda: [1, 2])), len(list(host.stream('os:listdir', '/'))) > 3)
"""


@pytest.mark.parametrize('version', ['2.7', '3.6', '3.13', '3.14'])
def test_a_script_on_every_kind_of_python(version, tmp_path):
    from conftest import PYTHONS, missing, run_python
    if version not in PYTHONS:
        missing('Python ' + version)
    (tmp_path / 'script.py').write_text(SCRIPT)
    ran = run_python([str(tmp_path / 'script.py'), PYTHONS[version]] + (['old'] if version == '2.7' else []))
    expected = ["120 True 4", "[(1, 1), (2, 2), (3, 3)]", "(11, 4) True False", "5 5 (1, 7)", "32 2", "__main__.AppError ('a',)",
                "1 GREEN", "[1, 2] True"]
    assert ran.stdout.splitlines() == (expected[:6] if version == '2.7' else expected), ran.stderr


def test_classes_are_told_apart_and_what_is_around_them_goes_along(own):
    def first():
        class P:
            x = 1
        return P

    def second():
        class P:
            x = 2
        return P

    one, two = first(), second()
    assert own.call(lambda: (one.x, two.x)) == (1, 2)

    def third():
        k = 3

        class Uses:
            x = k
        return Uses

    uses = third()
    assert own.call(lambda: uses.x) == 3


def test_a_class_follows_its_base(own):
    space = {'__name__': 'cells'}

    def define(text):
        import linecache
        name = '<ipython cell %d>' % hash(text)
        linecache.cache[name] = len(text), None, text.splitlines(True), name
        exec(compile(text, name, 'exec'), space)

    derived = 'class Derived(Base):\n    def more(self):\n        return self.value() + 1\n'
    define('class Base:\n    def value(self):\n        return 1\n')
    define(derived)
    define('def f():\n    return Derived().more()\n')
    assert own.call(space['f']) == 2
    define('class Base:\n    def value(self):\n        return 5\n')
    define(derived)
    assert own.call(space['f']) == 6


def test_a_file_that_was_edited_meanwhile_is_not_what_is_sent(tmp_path, own):
    from conftest import run_python
    script = tmp_path / 'script.py'
    script.write_text("""
import econtext, sys, time
def f():
    return 'old'
with econtext.local(python=sys.executable) as host:
    text = open(__file__).read()
    time.sleep(0.05)
    open(__file__, 'w').write(text.replace("'old'", "'new'"))
    print(host.call(f))
""")
    assert run_python([str(script)]).stdout == 'old\n'


def test_coroutine_functions_are_refused_before_they_are_sent(own):
    async def later():
        return 1

    with pytest.raises(econtext.UsageError, match='asyncio.run'):
        own.call(later)
    assert own.call(lambda: __import__('asyncio').run(later())) == 1


def test_many_may_wait_for_one_thing():
    with econtext.local(python=sys.executable) as host:
        threads = [threading.Thread(target=host.connect) for _ in range(5)]
        [thread.start() for thread in threads]
        [thread.join(30) for thread in threads]
        assert not any(thread.is_alive() for thread in threads)
        channel, got = host.channel(), []
        threads = [threading.Thread(target=lambda: got.append(channel.receive(30))) for _ in range(3)]
        [thread.start() for thread in threads]
        host.call(lambda channel: [channel.send(n) for n in range(3)] and None, channel)
        [thread.join(30) for thread in threads]
        assert sorted(got) == [0, 1, 2]


def test_channels_take_what_they_give(own):
    def give(channel):
        import datetime
        import decimal
        import os
        import pathlib
        import uuid
        for value in [2**100, 'caf\udce9', b'x', {1}, datetime.datetime(2020, 1, 1, fold=1), datetime.timedelta(1), decimal.Decimal('1.5'),
                      pathlib.PurePosixPath('/x'), uuid.UUID(int=5), [(1, {'a': None})], os.stat('/')]:
            channel.send(value)

    def echo(channel):
        for value in channel:
            channel.send((value, type(value).__name__))

    channel = own.channel()
    own.call(give, channel)
    given = list(channel)
    assert len(given) == 11
    channel = own.channel()
    done = own.submit(echo, channel)
    for value in given:
        channel.send(value)
        back, kind = channel.receive(30)
        assert (back, kind) == (value, type(value).__name__)
    # A value that may be an argument may be sent.
    local = 3
    channel.send(functools.partial(pow, local))
    with pytest.raises(econtext.RemoteError):
        done.result()
    with pytest.raises(econtext.ChannelError):
        channel.receive(0.1)

    def used(channel):
        function, kept = channel.receive()
        return function(2), kept.price

    channel = own.channel()
    done = own.submit(used, channel)
    channel.send((lambda n: n + local, Kept(4)))
    assert done.result() == (5, 4)
    with pytest.raises(econtext.UsageError):
        own.channel().send(open(os.devnull))


class Kept:
    def __init__(self, price):
        self.price = price


def test_words_and_paths_are_bytes_or_text(own, tmp_path):
    out = own.run(['printf', r'caf\351']).stdout
    assert out == 'caf\udce9'
    for word in (out, b'caf\xe9', os.fsencode(out)):
        assert own.run([b'printf', '%s', word], env={'LC_ALL': 'C', b'X': b'\xff'}, cwd=os.fsencode(tmp_path)).stdout == out
    here = os.fsencode(tmp_path)
    with open(here + b'/caf\xe9', 'wb') as file:
        file.write(b'text')
    own.put(here + b'/caf\xe9', here + b'/there\xe9')
    own.get([os.fsdecode(here + b'/there\xe9')], here + b'/back')
    assert os.listdir(here + b'/back') == [b'there\xe9']


def test_what_an_older_python_cannot_read_says_which_python_it_is(any_python, tmp_path, monkeypatch):
    source = 'def f(x):\n    return x !!\n'
    (tmp_path / 'badly_spelled.py').write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with econtext.local(python=any_python) as host:
        with pytest.raises(SyntaxError) as caught:
            host.call('badly_spelled:f', 1)
        assert 'sent by the controller, for the Python %s of local' % '.'.join(host.python.split('.')[:2]) in str(caught.value)
    assert 'badly_spelled.py' in str(caught.value)


def test_functions_are_neither_hashed_nor_compared(own):
    class Odd:
        __hash__ = None

        def __eq__(self, other):
            raise RuntimeError

        def __bool__(self):
            raise RuntimeError

        def __len__(self):
            raise RuntimeError

        def __call__(self, n):
            return n + 1

    assert own.call(Odd(), 1) == 2


def test_channels_go_to_their_own_host_only(own):
    channel = own.channel()
    own.call(lambda: channel.send(5))
    assert channel.receive(10) == 5
    other = own.channel()
    own.call(lambda c: c.send(6), other)
    assert other.receive(10) == 6
    with econtext.local('other', python=sys.executable) as host:
        with pytest.raises(econtext.UsageError, match='another host'):
            host.call(lambda c: c.send(7), channel)


def test_long_bytes_go_beside_the_pickle(own):
    data = os.urandom(100 << 20)
    assert own.call(lambda data: len(data), data) == len(data)


def test_definitions_of_a_cancelled_call_are_there_for_the_next(own):
    own.call(os.getpid)
    busy = own.submit(time.sleep, 0.5)

    def helper():
        return 'there'

    waiting = own.submit(lambda: helper())
    assert waiting.cancel()
    assert own.call(lambda: helper()) == 'there'
    busy.result(10)


def test_neither_side_keeps_definitions_that_nobody_needs(own):
    def kept():
        from econtext import core, values
        return len(core.child.bodies), len(values.made)

    for n in range(300):
        assert own.call(lambda: n) == n
    assert max(own.call(kept)) < 10


def test_what_has_no_source_goes_as_bytecode_to_the_same_python_only(own):
    space = {'__name__': 'typed'}
    exec('def f(n, m=4):\n    return n + m\n', space)
    assert own.call(space['f'], 3) == 7
    other = [path for number, path in __import__('conftest').PYTHONS.items() if number != '%d.%d' % sys.version_info[:2]]
    if not other:
        __import__('conftest').missing('another Python')
    with econtext.local(python=other[0]) as host:
        with pytest.raises(TypeError, match='bytecode'):
            host.call(space['f'], 3)


def test_a_host_shows_what_it_is(own):
    assert repr(own) == "<econtext.Host 'own', not up yet>" or own.python in repr(own)
    assert own.connect() is own
    assert own.python.startswith('%d.%d' % sys.version_info[:2])
    assert own.pid == own.call(os.getpid)
    assert repr(own) == "<econtext.Host 'own', Python %s, pid %d, user %s>" % (own.python, own.pid, own.user)
    assert '&lt;' in own._repr_html_()
    own.close()
    with pytest.raises(econtext.ClosedError):
        for _ in range(1000):
            own.call(os.getpid)
            time.sleep(0.01)


def test_what_does_not_come_up_says_why():
    with pytest.raises(econtext.NoPythonError) as caught:
        econtext.local(python='/no/such/python').call(os.getpid)
    assert caught.value.kind == 'no_python' and isinstance(caught.value, ConnectionError)
    with pytest.raises(econtext.ConnectError):
        econtext.ssh('127.0.0.1', port=1).call(os.getpid)
    with pytest.raises(econtext.UsageError):
        econtext.ssh('-oProxyCommand=x')
    with pytest.raises(econtext.UsageError):
        econtext.command([])
