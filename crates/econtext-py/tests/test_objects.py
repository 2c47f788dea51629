"""Functions and classes of a script are in a child what they are here, at the time of the call.

Each case is a script with definitions and pairs of an expression and what it is. The script's own statements must run once."""
import sys
import textwrap

import pytest
from conftest import PYTHONS, missing, run_python

HEADER = '''
import dataclasses, enum, functools, os, sys, types, typing
import econtext
print('the script runs')
'''

CASES = {}


def case(definitions, *pairs, since=(3, 9), name=None):
    """A case, with the first version of Python that has its syntax."""
    CASES[name] = definitions, pairs, since


case('''
def worker(x):
    return x * 10

def pool(method):
    import multiprocessing
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(worker, [1, 2])

def executor(method):
    import concurrent.futures, multiprocessing
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        return list(pool.map(worker, [1, 2]))

def imports_main():
    import __main__
    return sorted(name for name in vars(__main__) if not name.startswith('__'))
''',
     ("host.call(pool, 'fork')", [10, 20]),
     ("host.call(pool, 'spawn')", [10, 20]),
     ("host.call(pool, 'forkserver')", [10, 20]),
     ("host.call(executor, 'spawn')", [10, 20]),
     ("host.call(executor, 'forkserver')", [10, 20]),
     ("'HEADER' in host.call(imports_main) or 'host' in host.call(imports_main)", False),
     name='multiprocessing')

case('''
T = typing.TypeVar('T')
Names = typing.List[str]

class Box(typing.Generic[T]):
    def __init__(self, value: T):
        self.value = value

    def get(self) -> T:
        return self.value

class Singleton:
    def __reduce__(self):
        return 'THE_ONE'

THE_ONE = Singleton()

def is_the_one(value):
    return value is THE_ONE
''',
     ("host.call(lambda: Box(3).get())", 3),
     ("host.call(lambda box: (box.get(), type(box).__module__, type(box).__qualname__), Box(4))", (4, '__main__', 'Box')),
     ("host.call(lambda: Box[int](5).get())", 5),
     ("host.call(lambda: (Names.__args__[0] is str, T.__name__))", (True, 'T')),
     ("host.call(is_the_one, THE_ONE)", True),
     name='type variables, aliases and singletons')

case('''
class Stack[T]:
    def __init__(self):
        self.items: list[T] = []

    def push(self, item: T) -> None:
        self.items.append(item)

def first[T](items: list[T]) -> T:
    return items[0]

type Names = list[str]
''',
     ("host.call(lambda: (s := Stack(), s.push(3), s.items)[-1])", [3]),
     ("host.call(first, [7, 8])", 7),
     ("host.call(lambda: Names.__name__)", 'Names'),
     since=(3, 12), name='type parameters')

case('''
class Job:
    class Status(enum.Enum):
        OK = 1
        BAD = 2

    class Part:
        pass

    status = Status.OK

def checks(status):
    return status is Job.Status.OK, status == Job.status, {Job.Status.OK: 1}[status], isinstance(status, Job.Status)

def caught():
    class Outer:
        class Error(Exception):
            pass
    try:
        raise Outer.Error('a')
    except Outer.Error as error:
        return str(error)
''',
     ("host.call(checks, Job.Status.OK)", (True, True, 1, True)),
     ("host.call(lambda part: type(part) is Job.Part, Job.Part())", True),
     ("host.call(lambda status, job: status is job.Status.OK, Job.Status.OK, Job)", True),
     ("host.call(caught)", 'a'),
     name='a class inside a class')

case('''
class Settings:
    host = 'a'
    seen = []

class Base:
    registry = {}

    def __init_subclass__(cls, **more):
        super().__init_subclass__(**more)
        Base.registry[cls.__name__] = cls

class One(Base):
    pass

class Two(Base):
    pass

class Counter:
    count = 0

    @classmethod
    def more(cls):
        cls.count += 1
        return cls.count

def added(self):
    return 'added'

def set_host(value):
    Settings.host = value
''',
     ("host.call(lambda: Settings.host)", 'a'),
     ("(set_host('b'), host.call(lambda: Settings.host))[1]", 'b'),
     ("(Settings.seen.append(1), host.call(lambda: Settings.seen))[1]", [1]),
     ("host.call(lambda: (sorted(Base.registry), Base.registry['One'] is One))", (['One', 'Two'], True)),
     ("(Counter.more(), host.call(Counter.more))[1]", 2),
     ("(setattr(Counter, 'added', added), host.call(lambda: Counter().added()))[1]", 'added'),
     ("(delattr(Counter, 'added'), host.call(lambda: hasattr(Counter, 'added')))[1]", False),
     name='state of a class')

case('''
@functools.singledispatch
def kind(value):
    return 'other'

@kind.register(int)
def _(value):
    return 'int'

class Shape:
    @functools.singledispatchmethod
    def of(self, value):
        return 'other'

    @of.register(str)
    def _(self, value):
        return 'str'

def late(value):
    return 'float'
''',
     ("[host.call(kind, value) for value in (1, 'a')]", ['int', 'other']),
     ("(kind.register(float, late), host.call(kind, 1.5))[1]", 'float'),
     ("host.call(lambda: (Shape().of('a'), Shape().of(1)))", ('str', 'other')),
     name='registrations of singledispatch')

case('''
def loud(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args).upper()
    return wrapper

def times(count):
    def decorator(function):
        def wrapper():
            return function() * count
        return wrapper
    return decorator

def hello():
    return 'hello'

shouted = loud(hello)
COUNT = 2

@times(COUNT)
@loud
def stacked():
    return 'a'

COUNT = 5
FUNCTIONS = {}
for number in range(3):
    @times(number)
    def looped():
        return 'b'
    FUNCTIONS[number] = looped

@functools.lru_cache(None)
def cached(value):
    return value * 2

class Decorated:
    @functools.cached_property
    def once(self):
        return 1

    @property
    def value(self):
        return self._value

    @value.setter
    def value(self, value):
        self._value = value

    @staticmethod
    @loud
    def static():
        return 'static'

def uses_property():
    it = Decorated()
    it.value = 3
    return it.value, it.once, it.static()
''',
     ("host.call(shouted)", 'HELLO'),
     ("host.call(lambda: shouted() + hello())", 'HELLOhello'),
     ("host.call(stacked)", 'AA'),
     ("[host.call(function) for function in FUNCTIONS.values()]", ['', 'b', 'bb']),
     ("host.call(cached, 2)", 4),
     ("host.call(uses_property)", (3, 1, 'STATIC')),
     name='decorators')

case('''
class Missing:
    pass

MISSING = Missing()

def given(value=MISSING):
    return value is not MISSING

D = {'a': 1}
E = D
SHARED = []
LEFT = {'shared': SHARED}
RIGHT = {'shared': SHARED}
LOOP = []
LOOP.append(LOOP)

def counter():
    count = 0

    def step():
        nonlocal count
        count += 1
        return count

    def value():
        return count
    return step, value

step, value = counter()
''',
     ("[host.call(given), host.call(given, MISSING), host.call(given, 1)]", [False, False, True]),
     ("host.call(lambda: D is E)", True),
     ("[host.call(lambda d: d is D, D), host.call(lambda d: d is D, {'a': 1})]", [True, False]),
     ("host.call(lambda: LEFT['shared'] is RIGHT['shared'])", True),
     ("host.call(lambda d: d['shared'] is RIGHT['shared'], LEFT)", True),
     ("host.call(lambda: LOOP[0] is LOOP)", True),
     ("host.call(lambda: (step(), step(), value()))", (1, 2, 2)),
     ("host.call(lambda a, b: a is b, SHARED, SHARED)", True),
     ("host.call(lambda a, b: a is b['shared'], SHARED, LEFT)", True),
     name='identity')

case('''
made = types.ModuleType('made')
exec('VALUE = 1\\ndef get():\\n    return VALUE\\nclass Thing:\\n    value = 3\\n', vars(made))
''',
     ("host.call(lambda: (made.VALUE, made.get(), made.Thing.value, made.__name__))", (1, 1, 3, 'made')),
     ("(setattr(made, 'VALUE', 2), host.call(lambda: made.get()))[1]", 2),
     ("host.call(made.get)", 2),
     name='a module made here')

case('''
@dataclasses.dataclass
class Disk:
    path: str
    free: int = 0
    tags: list = dataclasses.field(default_factory=list)

    def is_big(self):
        return self.free > 10

@dataclasses.dataclass(frozen=True, order=True)
class Key:
    name: str

@dataclasses.dataclass
class More(Disk):
    size: int = 5

class Private:
    def __init__(self):
        self.__x = 5

    def get(self):
        return self.__x

class Derived(Private):
    def get(self):
        return super().get() + 1

class Slots:
    __slots__ = 'a', '__b'

    def __init__(self):
        self.a, self.__b = 1, 2

    def both(self):
        return self.a, self.__b

class Meta(type):
    def __call__(cls, *args):
        made = super().__call__(*args)
        made.meta = True
        return made

class WithMeta(metaclass=Meta):
    pass

class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2

    @property
    def word(self):
        return self.name.lower()

class Flags(enum.Flag):
    A = enum.auto()
    B = enum.auto()

class Row(typing.NamedTuple):
    a: int
    b: str = 'x'

    def joined(self):
        return self.b * self.a

class Typed(typing.TypedDict):
    a: int

class Proto(typing.Protocol):
    def get(self) -> int: ...
''',
     ("host.call(lambda: (Disk('/', 20).is_big(), More('/').size, Disk('/') == Disk('/'), Disk('/').tags))", (True, 5, True, [])),
     ("host.call(lambda disk: (disk == Disk('/a', 1), repr(disk)), Disk('/a', 1))", (True, "Disk(path='/a', free=1, tags=[])")),
     ("host.call(lambda: {Key('a'): 1}[Key('a')] + (Key('a') < Key('b')))", 2),
     ("[host.call(lambda: Derived().get()), host.call(Derived().get)]", [6, 6]),
     ("host.call(lambda slots: (slots.both(), hasattr(slots, '__dict__')), Slots())", ((1, 2), False)),
     ("host.call(lambda: WithMeta().meta)", True),
     ("host.call(lambda level: (level is Level.HIGH, level.word, level + 1, list(Level) == [1, 2]), Level.HIGH)", (True, 'high', 3, True)),
     ("host.call(lambda flag: (flag == Flags.A | Flags.B, Flags.A in flag), Flags.A | Flags.B)", (True, True)),
     ("host.call(lambda row: (row.joined(), row == Row(2), row._replace(a=1).a), Row(2))", ('xx', True, 1)),
     ("host.call(lambda: Typed(a=1))", {'a': 1}),
     ("host.call(lambda: Proto.__name__)", 'Proto'),
     name='kinds of classes')

case('''
import contextlib, re, threading

@contextlib.contextmanager
def opened():
    yield 'open'

PATTERN = re.compile('a+')
LOCK = threading.Lock()
PARTIAL = functools.partial(int, base=2)

def inside():
    with opened() as word:
        return word

def matches(text):
    return PATTERN.match(text).end()

def locked():
    with LOCK:
        return True

async def coroutine():
    return 3

def runs():
    import asyncio
    return asyncio.run(coroutine())

def generator():
    yield from (1, 2)

def keyword_only(a, /, b=1, *args, c=2, **more):
    return a, b, args, c, more
''',
     ("host.call(inside)", 'open'),
     ("host.call(matches, 'aab')", 2),
     ("host.call(PARTIAL, '101')", 5),
     ("host.call(lambda: PARTIAL('11'))", 3),
     ("host.call(runs)", 3),
     ("host.call(lambda: list(generator()))", [1, 2]),
     ("host.call(keyword_only, 1, c=3, d=4)", (1, 1, (), 3, {'d': 4})),
     name='kinds of functions')


@pytest.mark.parametrize('name', CASES)
def test_what_goes_is_what_is_here(name, tmp_path):
    definitions, pairs, since = CASES[name]
    if sys.version_info < since:
        return  # its syntax is not this Python's
    script = HEADER + definitions + '\nwith econtext.local(python=sys.argv[1]) as host:\n'
    script += ''.join('    print(%s)\n' % expression for expression, _ in pairs)
    (tmp_path / 'script.py').write_text(script)
    ran = run_python([str(tmp_path / 'script.py'), sys.executable], timeout=120)
    assert ran.stdout.splitlines() == ['the script runs'] + [str(value) for _, value in pairs], ran.stderr
    assert ran.returncode == 0, ran.stderr


def run(path, text, *args, timeout=60):
    path.write_text(textwrap.dedent(text))
    ran = run_python([str(path)] + list(args), timeout=timeout)
    return ran.stdout.splitlines(), ran.stderr


def test_a_worker_that_cannot_start_ends_the_pool_with_its_error(tmp_path):
    out, errors = run(tmp_path / 'script.py', '''
        import econtext, sys

        class Broken:
            def __reduce__(self):
                return int, ('not a number',)

        BROKEN = Broken()

        def worker(x):
            return x, BROKEN

        def pool(method):
            import multiprocessing
            with multiprocessing.get_context(method).Pool(1) as pool:
                return pool.map(worker, [1])

        def fails():
            raise SystemExit(3)

        def initialized():
            import multiprocessing
            with multiprocessing.get_context('spawn').Pool(1, fails) as pool:
                return pool.map(abs, [-1])

        with econtext.local(python=sys.executable) as host:
            for call in (lambda: host.call(pool, 'spawn'), lambda: host.call(initialized)):
                try:
                    print(call())
                except Exception as error:
                    print(type(error).__name__)
        ''')
    assert len(out) == 2 and not any('1' in line for line in out), (out, errors)


def test_a_module_that_was_reloaded_is_sent_again(tmp_path):
    (tmp_path / 'edited.py').write_text('def value():\n    return 1\n')
    out, errors = run(tmp_path / 'script.py', '''
        import econtext, importlib, pathlib, sys, time
        import edited

        def uses():
            return edited.value()

        def late():
            import edited
            return edited.value()

        with econtext.local(python=sys.executable) as host:
            print(host.call(uses), host.call(edited.value), host.call('edited:value'), host.call(late))
            path = pathlib.Path(edited.__file__)
            path.write_text('def value():\\n    return 2222\\n')
            importlib.reload(edited)
            print(host.call(uses), host.call(edited.value), host.call('edited:value'), host.call(late))
        ''')
    assert out == ['1 1 1 1', '2222 2222 2222 2222'], errors


def test_a_package_that_runs_has_its_relative_imports(tmp_path):
    package = tmp_path / 'program'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / 'helper.py').write_text('def value():\n    return 7\n')
    (package / '__main__.py').write_text(textwrap.dedent('''
        import econtext, sys
        from . import helper

        def outer():
            return helper.value()

        def inner():
            from .helper import value
            from . import helper as again
            return value() + again.value()

        if __name__ == '__main__':
            with econtext.local(python=sys.executable) as host:
                print(host.call(outer), host.call(inner))
        '''))
    ran = run_python(['-m', 'program'], cwd=str(tmp_path), timeout=60)
    assert ran.stdout == '7 14\n', ran.stderr


def test_a_variable_over_the_limit_is_named_with_its_size(tmp_path):
    out, errors = run(tmp_path / 'script.py', '''
        import econtext, sys
        TABLE = b'x' * (200 << 20)

        def uses():
            return len(TABLE)

        with econtext.local(python=sys.executable) as host:
            try:
                host.call(uses)
            except econtext.Error as error:
                print(error)
            print(host.call('os:getpid') > 0)
        ''')
    assert len(out) == 2 and out[1] == 'True', (out, errors)
    for word in 'TABLE', 'MiB', 'put':
        assert word in out[0], out


EXCEPTIONS = '''
import dataclasses, json, subprocess, sys
import econtext

@econtext.register
class Coded(Exception):
    def __init__(self, code):
        super().__init__('code %d' % code)
        self.code = code

@econtext.register
class Property(Exception):
    @property
    def message(self):
        raise RuntimeError('not to be read')

    host = property(lambda self: 1 / 0)

@econtext.register
class Two(Exception):
    def __init__(self, first, second, *, third):
        self.first, self.second, self.third = first, second, third

@econtext.register
@dataclasses.dataclass
class Fields(Exception):
    a: int

def fails(what):
    if what == 'coded':
        raise Coded(5)
    if what == 'property':
        raise Property('x')
    if what == 'two':
        raise Two(1, 2, third=3)
    if what == 'fields':
        raise Fields(3)
    if what == 'json':
        json.loads('[1,')
    if what == 'process':
        subprocess.run(['sh', '-c', 'echo out; echo err >&2; exit 3'], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if what == 'import':
        import nosuch.thing
    if what == 'unicode':
        b'\\xff'.decode()
    if what == 'attributes':
        error = ValueError('x')
        error.extra = {'a': 1}
        error.object = object()
        raise error
    if what == 'notes':
        error = ValueError('x')
        error.add_note('a note')
        raise error
    if what == 'os':
        open('/nosuch')
    if what == 'exit':
        raise SystemExit(4)
    if what == 'stop':
        raise StopIteration(5)
    if what == 'group':
        raise ExceptionGroup('both', [ValueError(1), OSError(2, 'x'), ExceptionGroup('inner', [KeyError('k')])])

def caught(what):
    try:
        host.call(fails, what)
    except Exception as error:
        return error

with econtext.local(python=sys.argv[1]) as host:
    e = caught('coded')
    print(isinstance(e, Coded), e.code, e.args, e)
    e = caught('property')
    print(isinstance(e, Property), e.args, e)
    e = caught('two')
    print(isinstance(e, Two), e.first, e.second, e.third)
    e = caught('fields')
    print(isinstance(e, Fields), e.a)
    e = caught('json')
    print(isinstance(e, json.JSONDecodeError), e.pos, e.doc, e.lineno)
    e = caught('process')
    print(isinstance(e, subprocess.CalledProcessError), e.returncode, e.output, e.stderr, e.stdout)
    e = caught('import')
    print(isinstance(e, ModuleNotFoundError), e.name)
    e = caught('unicode')
    print(isinstance(e, UnicodeDecodeError), e.start, e.reason, e.object)
    e = caught('attributes')
    print(isinstance(e, ValueError), e.extra, hasattr(e, 'object'))
    e = caught('os')
    print(isinstance(e, FileNotFoundError), e.errno, e.filename)
    e = caught('exit')
    print(isinstance(e, econtext.RemoteError), e.type_name, e)
    e = caught('stop')
    print(isinstance(e, econtext.RemoteError), e.type_name)
    import pickle
    again = pickle.loads(pickle.dumps(caught('coded')))
    print(type(again) is type(caught('coded')), again.code, again)
'''


def test_exceptions_have_the_state_that_they_had(tmp_path):
    out, errors = run(tmp_path / 'script.py', EXCEPTIONS, sys.executable)
    assert out == [
        "True 5 ('code 5',) local: code 5", "True ('x',) local: x", 'True 1 2 3', 'True 3', 'True 3 [1, 1',
        r"True 3 b'out\n' b'err\n' b'out\n'", 'True nosuch', r"True 0 invalid start byte b'\xff'", "True {'a': 1} False",
        'True 2 /nosuch', 'True SystemExit local: SystemExit: 4', 'True StopIteration', 'True 5 local: code 5'], (out, errors)


def test_groups_of_exceptions_are_groups(tmp_path):
    if sys.version_info < (3, 11):
        return  # there are none
    script = EXCEPTIONS[:EXCEPTIONS.index('with econtext')] + '''
with econtext.local(python=sys.argv[1]) as host:
    print(caught('notes').__notes__)
    try:
        host.call(fails, 'group')
    except* ValueError as group:
        print('value', [e.args for e in group.exceptions])
    except* KeyError as group:
        print('key', [[e.args for e in inner.exceptions] for inner in group.exceptions])
    except* OSError as group:
        print('os', group.exceptions[0].errno)
    e = caught('group')
    print(e.message, e)
'''
    out, errors = run(tmp_path / 'script.py', script, sys.executable)
    assert out == ["['a note']", 'value [(1,)]', "key [[('k',)]]", 'os 2',
                   'both local: both (3 sub-exceptions)'], (out, errors)


def test_an_exception_of_one_host_takes_nothing_from_the_others(tmp_path):
    out, errors = run(tmp_path / 'script.py', '''
        import econtext, sys

        @econtext.register
        class Odd(Exception):
            message = property(lambda self: 1 / 0)
            args = property(lambda self: 1 / 0)

            def __init__(self, *, needed):
                pass

            def __setattr__(self, name, value):
                raise RuntimeError('never')

        def some(number):
            if number == 1:
                raise Odd(needed=1)
            return number

        with econtext.connect([]) if False else econtext.local(python=sys.executable) as host:
            try:
                host.call(some, 1)
            except Exception as error:
                print(isinstance(error, econtext.RemoteError), error.host)
            print(host.call(some, 2))
        ''')
    assert out == ['True local', '2'], (out, errors)


def test_results_that_are_dataclasses_are_whole(tmp_path):
    out, errors = run(tmp_path / 'script.py', '''
        import dataclasses, sys
        import econtext

        @econtext.register
        @dataclasses.dataclass
        class Plain:
            a: int
            late: int = dataclasses.field(init=False)

        @econtext.register
        @dataclasses.dataclass
        class Mapping(dict):
            a: int = 0

        @econtext.register
        @dataclasses.dataclass
        class Error(Exception):
            a: int

        @econtext.register
        @dataclasses.dataclass(frozen=True)
        class Frozen:
            __slots__ = 'a',
            a: int

        def make():
            plain = Plain(1)
            plain.more = [2]
            mapping = Mapping(5)
            mapping['x'] = 1
            return plain, mapping, Error(3), Frozen(4)

        with econtext.local(python=sys.executable) as host:
            plain, mapping, error, frozen = host.call(make)
            print(plain.a, plain.more, hasattr(plain, 'late'))
            print(type(mapping) is Mapping, mapping.a, dict(mapping))
            print(type(error) is Error, error.a, error.args)
            print(frozen)
        ''')
    assert out == ['1 [2] False', "True 5 {'x': 1}", 'True 3 (3,)', 'Frozen(a=4)'], (out, errors)


def test_records_have_all_that_they_had(tmp_path):
    out, errors = run(tmp_path / 'script.py', '''
        import logging, sys
        import econtext

        class Handler(logging.Handler):
            def emit(self, record):
                print(record.filename, record.lineno > 5, record.funcName, record.getMessage(), record.host, record.user, record.odd)
                print((record.stack_info or '').startswith('Stack'), record.process != record_process, record.exc_text is not None)

        record_process = __import__('os').getpid()
        logging.getLogger().addHandler(Handler())

        def logs():
            import logging
            try:
                1 / 0
            except ZeroDivisionError:
                logging.getLogger('app').warning('100% done', extra={'user': 7, 'odd': {'a': [1]}}, stack_info=True, exc_info=True)

        with econtext.local(python=sys.executable) as host:
            host.call(logs)
        ''')
    assert out == ["script.py True logs 100% done local 7 {'a': [1]}", 'True True True'], (out, errors)


def test_what_cannot_be_sent_is_named_with_the_way_that_works(tmp_path):
    out, errors = run(tmp_path / 'script.py', '''
        import datetime, sys
        import econtext

        class Liar:
            def _no(self, *args):
                raise RuntimeError('asked')
            __eq__ = __bool__ = __hash__ = __len__ = __iter__ = __getitem__ = __contains__ = _no

            def __getattr__(self, name):
                if name.startswith('__') and name.endswith('__'):
                    raise AttributeError(name)
                raise RuntimeError('asked for ' + name)

            @property
            def __class__(self):
                raise RuntimeError('asked for its class')

        class Lister:
            def tolist(self):
                return [1]

        class Stamp(datetime.datetime):
            nanosecond = 5

        def give(what):
            return {'o': object, 'l': Lister, 'g': lambda: (i for i in [1]), 'liar': Liar, 's': lambda: Stamp(2026, 1, 1)}[what]()

        def takes(value):
            return type(value).__name__

        LIAR = Liar()

        with econtext.local(python=sys.executable) as host:
            for what in 'o', 'l', 'g', 'liar', 's':
                try:
                    host.call(give, what)
                except Exception as error:
                    print(error)
            # The class is of this script, and goes with its value.
            print(host.call(takes, Liar()), host.call(lambda: type(LIAR).__name__))
            try:
                host.call('os:fspath', Liar())
            except Exception as error:
                print(type(error).__name__)
        ''')
    assert len(out) == 7, (out, errors)
    assert 'builtins.object' in out[0] and 'trust=True' in out[0]
    assert '.tolist()' in out[1] and 'host.stream()' in out[2] and 'Liar' in out[3] and '.isoformat()' in out[4], out
    assert out[5] == 'Liar Liar', (out, errors)


@pytest.mark.parametrize('version', ['2.7', '3.6', '3.8', '3.14'])
def test_functions_go_to_other_versions(version, tmp_path):
    if version not in PYTHONS:
        missing('Python ' + version)
    out, errors = run(tmp_path / 'script.py', '''
        import functools, sys
        import econtext

        class Settings(object):
            host = 'a'

        class Job(object):
            class Part(object):
                value = 1

        def loud(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args).upper()
            return wrapper

        def hello():
            return 'hello'

        shouted = loud(hello)
        D = {'a': 1}

        def checks(d):
            return d is D, Job.Part.value, Settings.host, shouted()

        with econtext.local(python=sys.argv[1]) as host:
            print(host.call(checks, D))
            Settings.host = 'b'
            print(host.call(checks, {}))
        ''', PYTHONS[version])
    assert out == ["(True, 1, 'a', 'HELLO')", "(False, 1, 'b', 'HELLO')"], (out, errors)


def test_syntax_that_is_newer_than_the_target_is_named(tmp_path):
    if '2.7' not in PYTHONS or '3.6' not in PYTHONS:
        missing('Python 2.7 or 3.6')
    out, errors = run(tmp_path / 'script.py', '''
        import sys
        import econtext

        def uses_f_string(name):
            return f'hello {name}'

        def uses_walrus(value):
            if (n := value) > 1:
                return n

        for python, function, argument in (sys.argv[1], uses_f_string, 'x'), (sys.argv[2], uses_walrus, 2):
            with econtext.local(python=python) as host:
                try:
                    host.call(function, argument)
                except Exception as error:
                    print(str(error).replace('\\n', ' '))
        ''', PYTHONS['2.7'], PYTHONS['3.6'])
    assert len(out) == 2, (out, errors)
    assert '2.7' in out[0] and 'uses_f_string' in out[0] and 'script.py' in out[0], out
    assert '3.6' in out[1] and 'uses_walrus' in out[1] and 'script.py' in out[1], out
