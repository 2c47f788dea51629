"""Functions, and what they use, in a form that can be sent.

A function of a module is called by its name: the child imports the module, from here if it has none. What cannot be imported
goes as definitions: functions of the running script, of a notebook or a prompt, lambdas, and functions inside of others. A
definition is the source of one function or class, or the value of one variable, with what that uses in turn; `values.py` in
the child makes them again. Bytecode is sent only where there is no source, because it runs on one version of Python only.
"""
from __future__ import annotations

import __future__
import builtins
import datetime
import enum
import hashlib
import inspect
import io
import marshal
import pathlib
import pickle
import sys
import types
from typing import Any, Optional

from . import _econtext, _source
from ._channel import Channel
from ._errors import UsageError

#: Bytes that go beside a pickle: in it, they would grow by half.
_LONG = 4096
# What every module has of its own.
_OWN = frozenset(('__name__', '__builtins__', '__spec__', '__loader__', '__package__', '__doc__'))


def request(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: Optional[float], trust: bool,
            declared: Any, stream: bool = False) -> _econtext.Request:
    """A call of a function object, or of `module:function`; with `stream`, for the items of what it returns."""
    if isinstance(function, str):
        function, name = _named(function)
    else:
        name = importable(function)
        if name is None and not callable(function):
            raise UsageError('%r is neither a function nor of the form module:function' % (function,))
        if inspect.iscoroutinefunction(function):
            raise UsageError('%s() is a coroutine function: call one that runs it, as lambda: asyncio.run(%s())' % (
                (function.__qualname__,) * 2))
    # Builtins have another module on Python 2, which a pickle knows.
    if name is not None and not trust and not stream and name[0] != 'builtins':
        found = _econtext.Request.plain('%s:%s' % name, args, kwargs, timeout, declared)
        if found is not None:
            return found
    capture = _Capture()
    if name is not None:
        # By name even where the function is not to be had here.
        reference: Any = _Reference(capture.add('call %s:%s' % name, None, '', ('import', *name)))
    else:
        reference = function
    try:
        payload = capture.dumps((reference, args, kwargs), capture.aside)
    except UsageError:
        raise
    except Exception:
        _Capture().blame(reference, args, kwargs)
        raise
    return _econtext.Request.pickled(
        capture.needed, capture.bodies, payload, (trust, stream), capture.aside, name, '\n'.join(capture.texts).encode() if capture.texts else None,
        timeout, declared, capture.owner())


def _named(target: str) -> tuple[Any, Optional[tuple[str, str]]]:
    module, colon, path = target.partition(':')
    if not colon or not all(part.isidentifier() for part in (module + '.' + path).split('.')):
        raise UsageError('%r is not of the form module:function' % target)
    if module != '__main__':
        return None, (module, path)
    # The program that runs here.
    found: Any = sys.modules['__main__']
    for part in path.split('.'):
        found = getattr(found, part)
    return found, None


def importable(thing: Any) -> Optional[tuple[str, str]]:
    """The module and qualified name by which a child can import a function or class; None if it cannot."""
    module, path = getattr(thing, '__module__', None), getattr(thing, '__qualname__', None)
    if isinstance(thing, types.BuiltinFunctionType) and isinstance(thing.__self__, types.ModuleType):
        module = thing.__self__.__name__
    elif isinstance(getattr(thing, '__self__', None), type):
        module = thing.__self__.__module__  # a classmethod
    elif isinstance(thing, (types.MethodType, types.BuiltinMethodType)):
        return None
    if not isinstance(module, str) or not isinstance(path, str) or module == '__main__':
        return None
    if module.partition('.')[0] == 'econtext':
        return None  # there that is another package
    found: Any = sys.modules.get(module)
    if found is None or getattr(found, '__spec__', None) is None:
        return None
    for part in path.split('.'):
        found = getattr(found, part, None)
    return (module, path) if found is thing or found == thing else None


class _Reference:
    """What a definition will be there."""

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key


#: An argument that is the child's own `Context` there.
CHILDS_CONTEXT = _Reference(('', ''))


class _Pickler(pickle.Pickler):
    """Leaves to the child's half what it has to find or make by itself. Protocol 2 is what every Python reads."""

    def __init__(self, capture: _Capture, file: io.BytesIO, aside: Optional[list[Any]]) -> None:
        super().__init__(file, 2)
        self.capture, self.aside = capture, aside

    def persistent_id(self, thing: Any) -> Any:
        kind = type(thing)
        if kind is _Reference and thing is not CHILDS_CONTEXT:
            return ('definition', *thing.key)
        if kind is types.FunctionType:
            return None if importable(thing) else ('definition', *self.capture.function(thing))
        if isinstance(thing, type):
            if thing.__module__ == 'builtins' or importable(thing):
                return None
            return ('definition', *self.capture.klass(thing))
        if kind is types.ModuleType:
            return 'module', thing.__name__
        if kind.__module__ == 'functools' and hasattr(thing, '__wrapped__') and not importable(thing):
            return ('definition', *self.capture.decorated(thing))
        if kind is Channel:
            # The number makes another definition of what has another channel.
            self.capture.aside.append(thing._channel)
            return 'aside', len(self.capture.aside) - 1, thing._channel.number
        if kind is bytes and self.aside is not None and len(thing) > _LONG:
            self.aside.append(thing)
            return 'aside', len(self.aside) - 1
        if thing is CHILDS_CONTEXT:
            return 'context', None
        if kind is object:
            return ('definition', *self.capture.sentinel(thing))
        if isinstance(thing, (datetime.datetime, datetime.time)) and thing.fold:
            return 'fold', thing.replace(fold=0)  # old protocols lose it
        if isinstance(thing, pathlib.PurePath) and kind.__module__.startswith('pathlib'):
            return kind.__name__, thing.parts
        return None


class _Capture:
    """What one call needs to be defined."""

    def __init__(self) -> None:
        self.needed: list[tuple[str, str, str, Optional[str]]] = []
        self.bodies: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self.texts: list[str] = []
        self.aside: list[Any] = []  # what goes beside the pickles: channels, and long bytes of arguments
        self.later: dict[int, list[tuple[str, str]]] = {}  # names of what is being defined
        self.known: dict[Any, Optional[tuple[str, str]]] = {}
        self.alive: list[Any] = []  # by whose identity things are known
        self.counts: dict[str, int] = {}

    def owner(self) -> Optional[int]:
        """The child whose channels are among the arguments."""
        owners = {thing.owner for thing in self.aside if isinstance(thing, _econtext.Channel)}
        if len(owners) > 1:
            raise UsageError('channels of several hosts are among the arguments')
        return owners.pop() if owners else None

    def dumps(self, value: Any, aside: Optional[list[Any]] = None) -> bytes:
        file = io.BytesIO()
        _Pickler(self, file, aside).dump(value)
        return file.getvalue()

    def blame(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises what says which argument cannot be sent."""
        named = [('the function', function)] + [('argument %d' % (i + 1), arg) for i, arg in enumerate(args)]
        for what, value in named + [('argument %s=' % key, value) for key, value in kwargs.items()]:
            self.dumps_named(what, value)

    def dumps_named(self, what: str, value: Any) -> bytes:
        try:
            return self.dumps(value)
        except UsageError:
            raise
        except Exception as error:
            kind = type(value)
            raise UsageError('%s is a %s.%s, which cannot be sent: %s' % (
                what, kind.__module__, kind.__qualname__, error)) from error

    def add(self, key: str, name: Optional[str], space: str, body: tuple[Any, ...], thing: Any = None) -> tuple[str, str]:
        """Notes a definition, and with a name the variable that it is; what it needs is there already."""
        digest = hashlib.sha1(repr(body).encode('utf-8', 'surrogatepass')).hexdigest()[:20]
        self.bodies[key] = digest, body
        self.needed.append((key, digest, space, name))
        if thing is not None:
            self.known[id(thing)] = key, digest
            # Variables by which it, or what it uses, finds it.
            self.needed += [(key, digest, *at) for at in self.later.pop(id(thing), ())]
        return key, digest

    def key(self, space: str, name: str) -> str:
        """A key that is the same for the same thing in the next call, so that there it takes the place of what was."""
        number = self.counts.get(space + name, 0)
        self.counts[space + name] = number + 1
        return '%s:%s:%d' % (space, name, number)

    def begin(self, thing: Any, name: str) -> Optional[tuple[str, str]]:
        if id(thing) in self.known:
            key = self.known[id(thing)]
            if key is None:
                raise UsageError('%s refers to itself by way of its variables, which cannot be sent' % name)
            return key
        self.known[id(thing)] = None
        self.alive.append(thing)
        return None

    def sentinel(self, thing: object) -> tuple[str, str]:
        """An object whose identity is all there is to it, as of a default that means that nothing was given."""
        known = self.known.get(id(thing))
        self.alive.append(thing)
        return known or self.add('object:%x' % id(thing), None, '__main__', ('object',), thing)

    # -- functions and classes

    def function(self, function: types.FunctionType) -> tuple[str, str]:
        """The definition of a function."""
        title = '%s()' % function.__qualname__
        inner = inspect.unwrap(function)
        if (isinstance(inner, types.FunctionType) and inner.__globals__ is not function.__globals__
                and not inner.__code__.co_freevars and _source.of_decorated(inner)):
            # A decorator of a module made it, of which the one there may be of another version.
            return self.decorated(function)
        known = self.begin(function, title)
        if known:
            return known
        space = _space(function.__globals__)
        owner = self.owner_of(function)
        if owner is not None:
            data = self.dumps((owner, function.__name__))
            return self.add(self.key(space, function.__qualname__), None, space, ('attribute', data), function)
        source = _source.of_function(function)
        code = function.__code__
        free, values = [], []
        for variable, cell in zip(code.co_freevars, function.__closure__ or ()):
            try:
                value = cell.cell_contents
            except ValueError:
                raise UsageError('%s uses the variable %r, which has no value yet' % (title, variable)) from None
            if source is not None and value is function and variable == source.name:
                continue  # it calls itself
            free.append(variable)
            values.append(value)
        for variable, value in zip(free, values):
            self.dumps_named('%s uses the variable %r, which' % (title, variable), value)
        names, attributes = (source.names, source.attributes) if source else _source.names(code)
        self.globals(title, space, function.__globals__, names, attributes, set(free))
        data = self.dumps_named('a default of %s' % title, (tuple(values), function.__defaults__, function.__kwdefaults__))
        if source is not None:
            self.texts.append(source.text)
            body: tuple[Any, ...] = ('source', source.text, source.line, source.indented, source.filename, source.name,
                                     function.__qualname__, _source.futures(code), tuple(free) if code.co_freevars else None, data)
        else:
            body = 'code', marshal.dumps(code), sys.version_info[:2], function.__name__, tuple(free), data
        return self.add(self.key(space, function.__qualname__), None, space, body, function)

    @staticmethod
    def owner_of(function: types.FunctionType) -> Optional[type]:
        """The class that a function is a method of: it goes with that, in which its private names are what they are."""
        path = function.__qualname__.split('.')
        if len(path) < 2 or '<locals>' in path:
            return None
        found: Any = function.__globals__.get(path[0])
        for part in path[1:-1]:
            found = getattr(found, part, None)
        own = vars(found).get(path[-1]) if isinstance(found, type) else None
        return found if getattr(own, '__func__', own) is function else None

    def decorated(self, thing: Any) -> tuple[str, str]:
        """The definition of what decorators made of a function, where that is no function itself, as of functools.cache."""
        inner = inspect.unwrap(thing)
        title = '%s()' % getattr(thing, '__qualname__', '?')
        known = self.begin(thing, title)
        if known:
            return known
        source = _source.of_decorated(inner) if isinstance(inner, types.FunctionType) else None
        if source is None or source.around or inner.__code__.co_freevars:
            raise UsageError('%s cannot be sent: it is a %s, whose source is not to be had' % (title, type(thing).__name__))
        space = _space(inner.__globals__)
        self.globals(title, space, inner.__globals__, source.names, source.attributes, {source.name})
        self.texts.append(source.text)
        body = ('source', source.text, source.line, source.indented, source.filename, source.name, '', _source.futures(inner.__code__),
                None, self.dumps(((), None, None)))
        return self.add(self.key(space, inner.__qualname__), None, space, body, thing)

    def klass(self, kind: type) -> tuple[str, str]:
        """The definition of a class."""
        title = 'the class %s' % kind.__qualname__
        known = self.begin(kind, title)
        if known:
            return known
        source, names_of = _source.of_class(kind), _source.variables_of(kind)
        if source is None:
            return self.made_class(kind, title, _space(names_of))
        for attribute, method in vars(kind).items():
            if attribute.startswith('__annotate'):
                continue  # Python 3.14 makes it of the annotations, and will there
            method = getattr(method, '__func__', method)
            around = set(getattr(getattr(method, '__code__', None), 'co_freevars', ())) - {'__class__', '__classdict__'}
            if isinstance(method, types.FunctionType) and around and method.__code__.co_filename == source.filename:
                raise UsageError('%s uses the variable %r around it, which cannot be sent' % (title, sorted(around)[0]))
        space = _space(names_of)
        later = self.key(space, kind.__qualname__)
        self.globals(title, space, names_of, source.names, source.attributes, {source.name})
        # A class inside of a function may have its bases from there.
        bases = {base.__name__: base for base in kind.__bases__}
        lost = [name for name in source.around if name not in bases]
        if lost:
            raise UsageError('%s uses the variable %r around it, which cannot be sent' % (title, lost[0]))
        free = tuple(n for n in source.names if n in bases and n not in names_of and not hasattr(builtins, n) and n != source.name)
        self.texts.append(source.text)
        future = ('annotations',) if names_of.get('annotations') is getattr(__future__, 'annotations') else ()
        data = self.dumps((tuple(bases[name] for name in free), None, None))
        # It is made anew when what it is made of is.
        depends = tuple(digest for _, digest, at, name in self.needed if at == space and name in source.names)
        body = ('source', source.text, source.line, source.indented, source.filename, source.name, kind.__qualname__, future,
                free or None, data, depends)
        # By its own name its methods find it.
        return self.add(later, kind.__name__ if names_of.get(kind.__name__) is kind else None, space, body, kind)

    def made_class(self, kind: type, title: str, space: str) -> tuple[str, str]:
        """The definition of a namedtuple or an Enum that no class statement made."""
        fields = getattr(kind, '_fields', None)
        if kind.__bases__ == (tuple,) and fields is not None:
            defaults = getattr(kind, '_field_defaults', {})
            data = self.dumps_named('a default of %s' % title, tuple(defaults[name] for name in fields if name in defaults))
            body: tuple[Any, ...] = 'namedtuple', kind.__name__, tuple(fields), data
        elif issubclass(kind, enum.Enum) and len(kind.__bases__) == 1 and importable(kind.__bases__[0]):
            members = [(member.name, member.value) for member in kind]
            body = 'enum', kind.__name__, self.dumps_named('a member of %s' % title, (kind.__bases__[0], members))
        else:
            raise UsageError('%s cannot be sent: its source is not to be had; a class statement, or a module, makes it known' % title)
        return self.add(self.key(space, kind.__qualname__), None, space, body, kind)

    def globals(self, title: str, space: str, names_of: dict[str, Any], names: tuple[str, ...],
                attributes: frozenset[str], but: set[str]) -> None:
        """What a function or class looks up in its module."""
        for name in names:
            if name in but or name in _OWN or name not in names_of or names_of[name] is getattr(builtins, name, self):
                continue
            value = names_of[name]
            if (space, name) in self.known:
                continue
            self.known[space, name] = '', ''
            self.alive.append(value)
            key = '%s.%s' % (space, name)
            if isinstance(value, types.ModuleType):
                self.add(key, name, space, ('import', value.__name__, ''))
                # `import a.b` binds `a`, and `a.b.c()` needs b.
                for other in list(sys.modules):
                    if other.startswith(value.__name__ + '.'):
                        rest = other[len(value.__name__) + 1:].split('.')
                        if all(part in attributes for part in rest):
                            self.add('import ' + other, None, space, ('import', other, ''))
                continue
            found = importable(value) if callable(value) else None
            if found is not None:
                self.add(key, name, space, ('import', *found))
            elif isinstance(value, (types.FunctionType, type)) or type(value).__module__ == 'functools' and hasattr(value, '__wrapped__'):
                if self.known.get(id(value), '') is None:
                    self.later.setdefault(id(value), []).append((space, name))  # it is being defined
                    continue
                define: Any = self.klass if isinstance(value, type) else self.function
                if not isinstance(value, (types.FunctionType, type)):
                    define = self.decorated
                self.needed.append((*define(value), space, name))
            else:
                data = self.dumps_named('%s uses the variable %r, which' % (title, name), value)
                self.add(key, name, space, ('value', data))


def _space(names_of: dict[str, Any]) -> str:
    """What the child calls the module of these variables."""
    main = sys.modules.get('__main__')
    if main is not None and names_of is main.__dict__:
        return '__main__'
    name = str(names_of.get('__name__', '?'))
    # One that is no module, as of exec or a doctest, is known as long as it is the same.
    return '%s@%x' % (name, id(names_of))
