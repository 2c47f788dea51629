"""Functions, classes and values of this process, in a form from which a child makes them again.

A function of a module is called by its name: the child imports the module, from here if it has none. Other objects
are sent as parts: functions of the running script, a notebook or a prompt, lambdas, inner functions, and classes.
The parts of a function are its code, as source, and its cells, defaults and attributes; those of a class its bases and attributes, as
they are now. `values.py` in the child puts them together. Bytecode is sent only where there is no source, because it runs on one
version of Python only.

Two kinds of things are sent ahead of a call, each once and again when it has changed. A *definition* makes an object under a key.
A *setting* puts values in places: variables of a module, cells and defaults of functions, attributes of classes. Places whose
values have an object in common are one setting, and those that have one in common with the arguments are a part of the call: so
what is one object here is one object there.

No value is compared, hashed, iterated or tested for truth: a value may give any answer.
"""
from __future__ import annotations

import abc
import builtins
import contextlib
import copyreg
import dataclasses
import datetime
import enum
import functools
import hashlib
import inspect
import io
import marshal
import pathlib
import pickle
import sys
import threading
import types
import typing
import weakref
from typing import Any, Callable, Iterable, NamedTuple, Optional

from . import _econtext, _source
from ._channel import Channel
from ._errors import UsageError

#: The length from which on bytes are sent beside a pickle: in it, they would grow by half.
_LONG = 4096
#: The number of bytes that one value may have, as `Limits::frame` of the Rust crate.
MAX_VALUE = 128 << 20
# The variables that every module has of its own.
_OWN = frozenset(('__name__', '__builtins__', '__spec__', '__loader__', '__package__', '__doc__'))

#: A place in the child: ('global', module, name), ('cell', key), ('defaults', key), ('attribute', key, name) and others.
Target = tuple[str, ...]


def request(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: Optional[float], trust: bool,
            declared: Any, stream: bool = False) -> _econtext.Request:
    """A call of a function object, or of `module:function`; with `stream`, for the items of its result."""
    if type(function) is str:
        function, name = _named(function)
    else:
        name = importable(function)
        if name is None and not callable(function):
            raise UsageError('this is a %s, which is neither a function nor of the form module:function' % _type_name(function))
        if issubclass(type(function), types.FunctionType) and inspect.iscoroutinefunction(function):
            raise UsageError('%s() is a coroutine function: call one that runs it, as lambda: asyncio.run(%s())' % (
                (function.__qualname__,) * 2))
    # Builtins have another module on Python 2, which a pickle takes into account.
    if name is not None and not trust and not stream and name[0] != 'builtins' and not reloaded(name[0]):
        found = _econtext.Request.plain('%s:%s' % name, args, kwargs, timeout, declared)
        if found is not None:
            return found
    capture = _Capture()
    if name is not None:
        # The name is sent even if the function is not available here.
        reference: Any = _Reference(capture.define('call %s:%s' % name, ('import', *name)))
        capture.reload(name[0])
    else:
        reference = function
    calls = capture.call(reference, args, kwargs)
    return _econtext.Request.pickled(
        calls.needed, calls.bodies, calls.payload, calls.targets, (trust, stream), calls.aside, name,
        '\n'.join(capture.texts).encode() if capture.texts else None, timeout, declared, capture.owner())


def _named(target: str) -> tuple[Any, Optional[tuple[str, str]]]:
    module, colon, path = target.partition(':')
    if not colon or not module or not all(part.isidentifier() for part in path.split('.')):
        hint = ''
        if not colon and '.' in target and all(part.isidentifier() for part in target.split('.')):
            hint = '; did you mean %s:%s?' % tuple(target.rsplit('.', 1))
        raise UsageError('%r is not of the form module:function%s' % (target, hint))
    if module != '__main__':
        return None, (module, path)
    # This is the program that runs here.
    found: Any = sys.modules['__main__']
    for part in path.split('.'):
        found = getattr(found, part)
    return found, None


def importable(thing: Any) -> Optional[tuple[str, str]]:
    """The module and qualified name by which a child can import a function or class; None if it cannot."""
    kind = type(thing)
    if kind is types.BuiltinFunctionType and type(thing.__self__) is types.ModuleType:
        module = thing.__self__.__name__
    elif kind in (types.MethodType, types.BuiltinMethodType):
        if not issubclass(type(thing.__self__), type):
            return None
        module = thing.__self__.__module__  # it is a classmethod
    elif issubclass(kind, type) or kind in _FUNCTIONS:
        module = thing.__module__
    else:
        return None
    path = getattr(thing, '__qualname__', None)
    if type(module) is not str or type(path) is not str or module == '__main__':
        return None
    if module.partition('.')[0] == 'econtext':
        return None  # there, that is another package
    found: Any = sys.modules.get(module)
    if found is None or getattr(found, '__spec__', None) is None:
        return None
    for part in path.split('.'):
        found = getattr(found, part, None)
    if found is thing or kind in (types.MethodType, types.BuiltinMethodType) and type(found) is kind and found == thing:
        return module, path
    return None


#: Types whose instances may be found under their qualified name.
_FUNCTIONS = frozenset((
    types.FunctionType, types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType,
    types.ClassMethodDescriptorType, type(functools.lru_cache(lambda: None))))


def _type_name(value: Any) -> str:
    kind = type(value)
    return '%s.%s' % (kind.__module__, kind.__qualname__)


def _size(count: int) -> str:
    return '%.1f MiB' % (count / (1 << 20))


# -- keys

_lock = threading.Lock()
#: The things that have a key with the same text, by number; the number of a thing that has gone is used again.
_things: dict[str, list[Any]] = {}
#: The names that a class had when it was sent.
_attributes: weakref.WeakKeyDictionary[type, set[str]] = weakref.WeakKeyDictionary()
#: The key of a variable that functions share, by the cell's id, with the function after which it is called.
_cells: dict[int, tuple[Any, str]] = {}


def _key(space: str, name: str, thing: Any) -> str:
    """The key of a thing, which it keeps for as long as it lives. A thing that takes its place here takes it there too."""
    text = '%s:%s' % (space, name)
    with _lock:
        things = _things.setdefault(text, [])
        free = None
        for number, reference in enumerate(things):
            known = reference()
            if known is thing:
                return '%s:%d' % (text, number)
            if known is None and free is None:
                free = number
        if free is None:
            free = len(things)
            things.append(None)
        try:
            things[free] = weakref.ref(thing)
        except TypeError:
            things[free] = lambda: thing  # an alias of a type, which has no weak references
        return '%s:%d' % (text, free)


def _cell_key(cell: types.CellType, function: types.FunctionType, key: str) -> str:
    """The key of a cell, which it keeps for as long as the function lives with which it was first sent."""
    with _lock:
        owner, known = _cells.get(id(cell), (None, ''))
        if owner is not None and owner() is not None and any(cell is other for other in owner().__closure__ or ()):
            return known
        if len(_cells) > 10000:
            for identity in [identity for identity, (owner, _) in _cells.items() if owner() is None]:
                del _cells[identity]
        _cells[id(cell)] = weakref.ref(function), key
        return key


# -- modules that were reloaded

#: The spec of each module when a function of it was first called: another one is a sign that it was reloaded.
_specs: dict[str, Any] = {}


def reloaded(name: str) -> bool:
    """Whether a module was reloaded here since a function of it was first called."""
    module = sys.modules.get(name)
    spec = getattr(module, '__spec__', None)
    return spec is not None and _specs.setdefault(name, spec) is not spec


# -- parts of a call

class _Reference:
    """A reference to the object that a definition will make there."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self) -> None:
        """Makes a reference callable: it stands for a function, and pickle requires that of one."""


#: An argument that is the child's own `Context` there.
CHILDS_CONTEXT = _Reference('')


class Calls(NamedTuple):
    """A call, ready to be sent."""

    #: (key, digest, targets of a setting or ()) in the order in which they are to be applied.
    needed: list[tuple[str, str, tuple[Target, ...]]]
    #: (digest, content) by key.
    bodies: dict[str, tuple[str, tuple[Any, ...]]]
    #: The pickle of (function, args, kwargs, values of `targets`).
    payload: bytes
    targets: tuple[Target, ...]
    aside: list[Any]


class _Pickled(NamedTuple):
    """A pickle, and facts about it."""

    data: bytes
    #: Objects in it that another value may share.
    objects: frozenset[int]
    #: Keys of definitions that it refers to.
    references: frozenset[str]


class _Place(NamedTuple):
    """A value and where it goes."""

    target: Target
    value: Any
    #: Its description in an error: `f() uses the variable 'lock', which`.
    what: str
    #: The value by itself.
    pickled: _Pickled


class _Pickler(pickle.Pickler):
    """A pickler that leaves to the child the objects that it has to find or make by itself. Every Python reads protocol 2."""

    def __init__(self, capture: _Capture, file: io.BytesIO, long_aside: bool) -> None:
        super().__init__(file, 2)
        self.capture, self.long_aside = capture, long_aside
        self.references: set[str] = set()

    def persistent_id(self, thing: Any) -> Any:
        found = self.found(thing)
        if found is not None and found[0] == 'definition':
            self.references.add(found[1])
        return found

    def found(self, thing: Any) -> Any:
        """The reference to an object that the child finds by itself."""
        kind = type(thing)
        capture = self.capture
        if kind is _Reference:
            return ('context', None) if thing is CHILDS_CONTEXT else ('definition', thing.key)
        if kind is types.FunctionType:
            return None if importable(thing) else ('definition', capture.function(thing))
        if issubclass(kind, type):
            if thing is enum.EnumMeta:
                return 'named', 'enum', 'EnumMeta'  # it is EnumType only from 3.11 on
            if thing.__module__ == 'builtins' and getattr(builtins, thing.__name__, None) is thing or importable(thing):
                return None
            return ('definition', capture.klass(thing))
        if kind is types.ModuleType:
            return capture.module(thing)
        if kind is types.CellType:
            return 'cell', capture.cell(thing)
        if kind is Channel:
            # The number makes another definition of a function with another channel.
            return 'aside', capture.beside(thing._channel), thing._channel.number
        if kind is bytes and self.long_aside and len(thing) > _LONG:
            return 'aside', capture.beside(thing)
        if kind is object:
            return 'definition', capture.sentinel(thing)
        if kind in _TYPE_PARAMETERS:
            return 'definition', capture.type_parameter(thing)
        if id(thing) in _SINGLETONS:
            return ('named', *_SINGLETONS[id(thing)])
        if kind in (datetime.datetime, datetime.time) and thing.fold:
            return 'fold', thing.replace(fold=0)  # old protocols lose it
        if issubclass(kind, pathlib.PurePath) and kind.__module__.startswith('pathlib'):
            return kind.__name__, thing.parts
        return None

    def reducer_override(self, thing: Any) -> Any:
        kind: Any = type(thing)
        reduce = _REDUCERS.get(kind)
        if reduce is not None and not (kind in _FUNCTIONS and importable(thing)):
            return reduce(thing)
        if any('__class__' in vars(base) for base in kind.__mro__[:-1]):
            # The object may claim to be of another class, and pickle asks it.
            parts: Any = object.__reduce_ex__(thing, 2)
            is_new = parts[0] is copyreg.__newobj__  # type: ignore[attr-defined]
            return (_Reference('make new') if is_new else parts[0], *parts[1:])
        plain: Any = object
        if kind.__reduce__ is plain.__reduce__ and kind.__reduce_ex__ is plain.__reduce_ex__ or kind.__module__ == 'builtins':
            return NotImplemented
        if issubclass(kind, enum.Enum):
            return NotImplemented
        reduced = thing.__reduce_ex__(2)
        if type(reduced) is not str:
            return reduced
        # A text means that it is a variable of its module.
        module = pickle.whichmodule(thing, reduced)  # type: ignore[attr-defined]
        if module != '__main__' and getattr(sys.modules.get(module), '__spec__', None) is not None:
            return reduced
        reduced = copyreg.__newobj__, (kind,), getattr(thing, '__dict__', None)  # type: ignore[attr-defined]
        return reduced


def _partial_method(thing: Any) -> Any:
    return type(thing), (thing.func, *thing.args), {'keywords': thing.keywords}


def _lru_cache(thing: Any) -> Any:
    parameters = thing.cache_parameters()
    return _Reference('make cached'), (thing.__wrapped__, parameters['maxsize'], parameters['typed'])


def _cached_property(thing: Any) -> Any:
    return functools.cached_property, (thing.func,), {'attrname': thing.attrname, '__doc__': thing.__doc__}


#: The ways in which objects of types that pickle refuses are made again.
_REDUCERS: dict[Any, Callable[[Any], Any]] = {
    property: lambda p: (property, (p.fget, p.fset, p.fdel, p.__doc__)),
    classmethod: lambda m: (classmethod, (m.__func__,)),
    staticmethod: lambda m: (staticmethod, (m.__func__,)),
    type(functools.lru_cache(lambda: None)): _lru_cache,
    functools.cached_property: _cached_property,
    types.MappingProxyType: lambda m: (_Reference('make proxy'), (dict(m),)),
    weakref.WeakSet: lambda s: (weakref.WeakSet, (list(s),)),
    weakref.WeakKeyDictionary: lambda d: (weakref.WeakKeyDictionary, (dict(d),)),
    weakref.WeakValueDictionary: lambda d: (weakref.WeakValueDictionary, (dict(d),)),
}

_TYPE_PARAMETERS = {getattr(typing, name) for name in ('TypeVar', 'ParamSpec', 'TypeVarTuple', 'NewType', 'TypeAliasType')
                    if isinstance(getattr(typing, name, None), type)}

#: Objects of the standard library whose identity is their meaning, by their own id.
_SINGLETONS: dict[int, tuple[str, str]] = {}
for _module, _names in (('dataclasses', ('MISSING', 'KW_ONLY', '_FIELD', '_FIELD_CLASSVAR', '_FIELD_INITVAR', '_HAS_DEFAULT_FACTORY')),
                        ('inspect', ()), ('functools', ('_NOT_FOUND',))):
    for _name in _names:
        if hasattr(sys.modules[_module], _name):
            _SINGLETONS[id(getattr(sys.modules[_module], _name))] = _module, _name

#: Types for which it makes no difference whether two equal values are one object.
_ATOMS = frozenset((str, bytes, int, float, complex, bool, type(None), tuple, frozenset))

#: Types whose instances are found by a name, or a value.
_KNOWN_BY_NAME = (types.BuiltinFunctionType, type, enum.Enum)

_contextmanager = contextlib.contextmanager(lambda: iter(())).__code__
_asynccontextmanager = contextlib.asynccontextmanager(lambda: iter(())).__code__  # type: ignore[arg-type,return-value]


class _Capture:
    """The definitions and settings that one call needs."""

    def __init__(self) -> None:
        self.bodies: dict[str, tuple[str, tuple[Any, ...]]] = {}
        #: Keys of definitions and places, in the order in which they can be applied.
        self.order: list[Any] = []
        self.texts: list[str] = []
        self.aside: list[Any] = []  # values beside the pickles: channels, and long bytes of arguments
        self.keys: dict[int, str] = {}  # of what was defined, by its id
        self.taken: set[Target] = set()
        self.alive: list[Any] = []  # things that are known by their identity
        #: Classes that are being defined, with the places that have to wait for them.
        self.making: dict[str, list[_Place]] = {}
        self.waits_for: set[str] = set()

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Calls:
        """Prepares a call."""
        try:
            data, objects, _ = self.pickled((function, args, kwargs, ()), True)
        except UsageError:
            raise
        except Exception as error:
            self.blame(function, args, kwargs)
            raise UsageError('the arguments cannot be sent: %s' % error) from error
        places = [entry for entry in self.order if type(entry) is _Place]
        groups = self.grouped(places, objects)
        inside = [place for place in places if groups[place.target] is None]
        if inside:
            data = self.pickled((function, args, kwargs, [place.value for place in inside]), True).data
        size = len(data) + sum(len(thing) for thing in self.aside if type(thing) is bytes)
        if size > MAX_VALUE:
            raise UsageError('the arguments take %s, and one call may have %s: a file goes by put, more than one value by a channel '
                             'or in several calls' % (_size(size), _size(MAX_VALUE)))
        needed: list[tuple[str, str, tuple[Target, ...]]] = []
        left: dict[int, int] = {}
        for place in places:
            group = groups[place.target]
            if group is not None:
                left[id(group)] = left.get(id(group), 0) + 1
        bodies = dict(self.bodies)
        for entry in self.order:
            if type(entry) is not _Place:
                needed.append((entry, self.bodies[entry][0], ()))
                continue
            group = groups[entry.target]
            if group is None:
                continue
            left[id(group)] -= 1
            if not left[id(group)]:
                needed.append(self.setting(group, bodies))
        return Calls(needed, bodies, data, tuple(place.target for place in inside), self.aside)

    @staticmethod
    def grouped(places: list[_Place], payload: frozenset[int]) -> dict[Target, Optional[list[_Place]]]:
        """The places that have objects in common, by target; None for those that have one in common with the payload."""
        groups: list[tuple[set[int], list[_Place]]] = []
        for place in places:
            objects, members = set(place.pickled.objects), [place]
            rest = []
            for other in groups if objects else ():
                if objects.isdisjoint(other[0]):
                    rest.append(other)
                else:
                    objects |= other[0]
                    members = other[1] + members
            groups = (rest if objects else groups) + [(objects, members)]
        found: dict[Target, Optional[list[_Place]]] = {}
        for objects, members in groups:
            for place in members:
                found[place.target] = None if not payload.isdisjoint(objects) else members
        return found

    def setting(self, places: list[_Place], bodies: dict[str, tuple[str, tuple[Any, ...]]]) -> tuple[str, str, tuple[Target, ...]]:
        """A setting of places, which goes into `bodies`."""
        targets = tuple(place.target for place in places)
        key = 'set ' + '|'.join(map(':'.join, targets))
        if len(key) > 400:
            key = 'set ' + hashlib.sha1(key.encode('utf-8', 'surrogatepass')).hexdigest()
        many = len(places) > 1
        data, _, references = self.pickled([place.value for place in places]) if many else places[0].pickled
        if len(data) > MAX_VALUE:
            raise UsageError('%s takes %s, and one value may have %s: a file goes by put, more than one value by a channel' % (
                places[0].what, _size(len(data)), _size(MAX_VALUE)))
        body = 'set', data, many
        digest = self.digest(body, references)
        bodies[key] = digest, body
        return key, digest, targets

    def owner(self) -> Optional[int]:
        """The child whose channels are among the arguments."""
        owners = {thing.owner for thing in self.aside if type(thing) is _econtext.Channel}
        if len(owners) > 1:
            raise UsageError('channels of several hosts are among the arguments')
        return owners.pop() if owners else None

    def beside(self, thing: Any) -> int:
        for index, known in enumerate(self.aside):
            if known is thing:
                return index
        self.aside.append(thing)
        return len(self.aside) - 1

    def pickled(self, value: Any, long_aside: bool = False) -> _Pickled:
        """A pickle of a value."""
        file = io.BytesIO()
        pickler = _Pickler(self, file, long_aside)
        pickler.dump(value)
        found = []
        for identity, (_, thing) in pickler.memo.copy().items():
            if type(thing) not in _ATOMS and not issubclass(type(thing), _KNOWN_BY_NAME):
                found.append(identity)
                self.alive.append(thing)
        return _Pickled(file.getvalue(), frozenset(found), frozenset(pickler.references))

    def blame(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises an error that says which argument cannot be sent."""
        named = [('the function', function)] + [('argument %d' % (i + 1), arg) for i, arg in enumerate(args)]
        for what, value in named + [('argument %s=' % key, value) for key, value in kwargs.items()]:
            self.pickled_named(what, value)

    def pickled_named(self, what: str, value: Any) -> _Pickled:
        try:
            return self.pickled(value)
        except UsageError:
            raise
        except RecursionError:
            raise UsageError('%s is a %s, which is nested too deep to be sent' % (what, _type_name(value))) from None
        except Exception as error:
            raise UsageError('%s is a %s, which cannot be sent: %s' % (what, _type_name(value), error)) from error

    # -- definitions and places

    def define(self, key: str, body: tuple[Any, ...], references: frozenset[str] = frozenset()) -> str:
        """Notes a definition; those that it refers to are there already. It is made anew when one of them is."""
        self.bodies[key] = self.digest(body, references), body
        self.order.append(key)
        return key

    def digest(self, body: tuple[Any, ...], references: frozenset[str]) -> str:
        """The digest of a content, together with the digests of the definitions that it refers to."""
        known = [(key, self.bodies[key][0]) for key in sorted(references) if key in self.bodies]
        return hashlib.sha1(repr((body, known)).encode('utf-8', 'surrogatepass')).hexdigest()[:20]

    def begin(self, thing: Any, space: str, name: str) -> tuple[str, bool]:
        """The key of a thing, and whether it is known."""
        if id(thing) in self.keys:
            key = self.keys[id(thing)]
            if key in self.making:
                self.waits_for.add(key)
            return key, True
        key = self.keys[id(thing)] = _key(space, name, thing)
        self.alive.append(thing)
        return key, False

    def put(self, target: Target, value: Any, what: str, fallback: Optional[Callable[[], Any]] = None) -> None:
        """Notes that a value goes to a place."""
        if target in self.taken:
            return
        self.taken.add(target)
        waited, self.waits_for = self.waits_for, set()
        try:
            try:
                pickled = self.pickled_named(what, value)
            except UsageError:
                value = fallback() if fallback is not None else None
                if value is None:
                    raise
                pickled = self.pickled_named(what, value)
        finally:
            waits, self.waits_for = self.waits_for, waited | self.waits_for
        place = _Place(target, value, what, pickled)
        self.alive.append(value)
        waits = {key for key in waits if key in self.making}
        if waits:
            # The last of them is the innermost, which is made first; the outermost is made last.
            outermost = next(key for key in self.making if key in waits)
            self.making[outermost].append(place)
        else:
            self.order.append(place)

    def sentinel(self, thing: object) -> str:
        """An object that has only an identity, as a default that means that nothing was given."""
        if id(thing) not in self.keys:
            self.keys[id(thing)] = self.define('object:%x' % id(thing), ('object',))
            self.alive.append(thing)
        return self.keys[id(thing)]

    def type_parameter(self, thing: Any) -> str:
        """A TypeVar and the like, which are pickled by a name that only their module knows."""
        module = getattr(thing, '__module__', None)
        name = thing.__name__
        if type(module) is str and module != '__main__' and getattr(sys.modules.get(module), name, None) is thing:
            key = 'import %s:%s' % (module, name)
            return key if key in self.bodies else self.define(key, ('import', module, name))
        key, known = self.begin(thing, str(module), 'type parameter ' + name)
        if known:
            return key
        kind = type(thing)
        args: tuple[Any, ...] = (name,)
        options: dict[str, Any] = {}
        if kind is typing.TypeVar:
            args += thing.__constraints__
            options = {'bound': thing.__bound__, 'covariant': thing.__covariant__, 'contravariant': thing.__contravariant__}
        elif kind.__name__ == 'NewType':
            args += (thing.__supertype__,)
        elif kind.__name__ == 'TypeAliasType':
            args += (thing.__value__,)
            options = {'type_params': thing.__type_params__}
        elif kind.__name__ == 'ParamSpec':
            options = {'covariant': thing.__covariant__, 'contravariant': thing.__contravariant__}
        options = {name: value for name, value in options.items() if value is not None and value is not False and value != ()}
        data, _, references = self.pickled_named('the type parameter %s' % name, (args, options))
        body = 'type parameter', kind.__name__, data, '__main__' if module is None else str(module)
        return self.define(key, body, references)

    def module(self, module: types.ModuleType) -> Any:
        """A module: by its name, or by its content if it was made here."""
        name = module.__name__
        if sys.modules.get(name) is module and (name == '__main__' or getattr(module, '__spec__', None) is not None):
            self.reload(name)
            return 'module', name
        key, known = self.begin(module, 'module', name)
        if not known:
            self.define(key, ('module', name, module.__doc__))
            for variable, value in list(vars(module).items()):
                if variable not in _OWN:
                    self.put(('module', key, variable), value, 'the module %s has the variable %r, which' % (name, variable))
        return 'definition', key

    def reload(self, name: str) -> None:
        """Has a child import a module again if that was done here and the child has an old one."""
        if not reloaded(name) or 'reload ' + name in self.bodies:
            return
        loader = getattr(sys.modules[name].__spec__, 'loader', None)
        try:
            source = loader.get_source(name)  # type: ignore[union-attr]
        except Exception:
            return
        if source is not None:
            self.define('reload ' + name, ('reload', name, hashlib.sha1(source.encode('utf-8', 'surrogatepass')).hexdigest()))

    # -- functions

    def cell(self, cell: types.CellType) -> str:
        """A variable of a function that an inner function uses."""
        if id(cell) not in self.keys:
            # It is a cell that is an argument by itself.
            self.keys[id(cell)] = 'cell:%x' % id(cell)
            self.alive.append(cell)
        return self.keys[id(cell)]

    def function(self, function: types.FunctionType) -> str:
        """The definition of a function."""
        title = '%s()' % function.__qualname__
        space = _space(function.__globals__)
        key, known = self.begin(function, space, function.__qualname__)
        if known:
            return key
        if self.recipe(function, key, title):
            return key
        code, source = function.__code__, _source.of_function(function)
        cells = []
        for variable, cell in zip(code.co_freevars, function.__closure__ or ()):
            if id(cell) not in self.keys:
                self.keys[id(cell)] = _cell_key(cell, function, '%s %s' % (key, variable))
                self.alive.append(cell)
            cells.append((variable, self.keys[id(cell)]))
        if source is not None:
            self.texts.append(source.text)
            text: tuple[Any, ...] = ('source', source.text, source.line, source.indented, source.filename, source.name,
                                     source.owner, _source.futures(code))
        else:
            text = 'code', marshal.dumps(code), sys.version_info[:2]
        module = function.__module__ if type(function.__module__) is str else '?'
        self.define(key, ('function', space, text, tuple(cells), function.__name__, function.__qualname__, module))
        for (variable, cell_key), cell in zip(cells, function.__closure__ or ()):
            try:
                value = cell.cell_contents
            except ValueError:
                raise UsageError('%s uses the variable %r, which has no value yet' % (title, variable)) from None
            self.put(('cell', cell_key), value, '%s uses the variable %r, which' % (title, variable))
        if function.__defaults__ is not None:
            self.put(('defaults', key), function.__defaults__, 'a default of %s' % title)
        if function.__kwdefaults__:
            self.put(('kwdefaults', key), function.__kwdefaults__, 'a default of %s' % title)
        for name, value in list(function.__dict__.items()):
            self.put(('attribute', key, name), value, '%s has the attribute %r, which' % (title, name))
        names, attributes = (source.names, source.attributes) if source else _source.names(code)
        self.globals(title, space, function.__globals__, names, attributes)
        self.package(space, function.__globals__, code)
        self.bind(space, function.__globals__, function.__name__, function)
        return key

    def recipe(self, function: types.FunctionType, key: str, title: str) -> bool:
        """Defines a product of a decorator of the standard library by that decorator: it may work in another way there."""
        code = function.__code__
        if code in (_contextmanager, _asynccontextmanager):
            name = 'contextmanager' if code is _contextmanager else 'asynccontextmanager'
            inner = inspect.getclosurevars(function).nonlocals['func']
            data, _, references = self.pickled_named(title, inner)
            self.define(key, ('decorated', 'contextlib', name, data), references)
        elif code.co_filename == functools.__file__ and code.co_name == 'wrapper' and hasattr(function, 'dispatch'):
            registry = dict(function.registry)  # type: ignore[attr-defined]
            data, _, references = self.pickled_named(title, registry.pop(object))
            self.define(key, ('decorated', 'functools', 'singledispatch', data), references)
            self.put(('dispatch', key), list(registry.items()), 'a function registered with %s' % title)
        else:
            return False
        space = _space(inspect.unwrap(function).__globals__)
        self.bind(space, inspect.unwrap(function).__globals__, function.__name__, function)
        return True

    def bind(self, space: str, names_of: dict[str, Any], name: str, thing: Any) -> None:
        """Lets a thing be found by its own name, as here, so that it can be pickled there."""
        if name.isidentifier() and names_of.get(name) is thing:
            self.put(('global', space, name), thing, name)

    def package(self, space: str, names_of: dict[str, Any], code: types.CodeType) -> None:
        """Notes the package that relative imports are relative to."""
        package = names_of.get('__package__')
        if space == '__main__' and type(package) is str and package and _source.imports_relatively(code):
            self.put(('global', space, '__package__'), package, '__package__')

    def globals(self, title: str, space: str, names_of: dict[str, Any], names: Iterable[str], attributes: frozenset[str]) -> None:
        """Notes the variables that a function looks up in its module."""
        for name in names:
            if name in _OWN or name not in names_of or names_of[name] is getattr(builtins, name, self):
                continue
            value = names_of[name]
            if type(value) is types.ModuleType:
                # `import a.b` binds `a`, and `a.b.c()` needs b.
                for other in list(sys.modules):
                    if other.startswith(value.__name__ + '.') and getattr(sys.modules[other], '__spec__', None) is not None:
                        rest = other[len(value.__name__) + 1:].split('.')
                        if all(part in attributes for part in rest) and 'import ' + other not in self.bodies:
                            self.define('import ' + other, ('import', other, ''))
            self.put(('global', space, name), value, '%s uses the variable %r, which' % (title, name))

    # -- classes

    def klass(self, kind: type) -> str:
        """The definition of a class, and all of its attributes as they are."""
        title = 'the class %s' % kind.__qualname__
        names_of = _source.variables_of(kind)
        space = _space(names_of) if names_of else str(kind.__module__)
        key, known = self.begin(kind, space, kind.__qualname__)
        if known:
            return key
        attributes = dict(vars(kind))
        module = attributes.pop('__module__', None)
        first = {'__module__': module if type(module) is str else '__main__', '__qualname__': kind.__qualname__,
                 '__doc__': attributes.pop('__doc__', None)}
        self.making[key] = []
        body, references = self.made_class(kind, title, first, attributes)
        if not self.waits_for.isdisjoint(self.making):
            raise UsageError('%s and what it is made of refer to each other, which cannot be sent' % title)
        waiting = self.making.pop(key)
        self.define(key, body, references)
        self.order += waiting
        is_dataclass = '__dataclass_fields__' in attributes
        with _lock:
            seen = _attributes.setdefault(kind, set())
            gone = sorted(seen.difference(attributes))
            seen.update(attributes)
        if gone:
            self.put(('deleted', key), gone, title)
        for name, value in attributes.items():
            if name in _NOT_SENT or type(value) in _DESCRIPTORS or is_dataclass and _is_generated(value):
                continue
            self.put(('attribute', key, name), value, '%s has the attribute %r, which' % (title, name),
                     functools.partial(self.expression, kind, space, names_of, name))
        if _is_own(kind, '__annotations__', '__annotate__', '__annotate_func__', '__annotations_cache__'):
            self.put(('annotations', key), self.annotations(kind), 'the annotations of %s' % title)
        if '__abstractmethods__' in attributes:
            self.put(('attribute', key, '__abstractmethods__'), kind.__abstractmethods__, title)  # type: ignore[attr-defined]
        if isinstance(kind, abc.ABCMeta):
            registered = [reference() for reference in abc._get_dump(kind)[0]]  # type: ignore[attr-defined]
            if registered:
                self.put(('registered', key), registered, 'a class registered with %s' % title)
        if is_dataclass:
            self.dataclass(kind, key, title)
        self.bind(space, names_of, kind.__name__, kind)
        return key

    def made_class(self, kind: type, title: str, first: dict[str, Any], attributes: dict[str, Any]) -> tuple[tuple[Any, ...], frozenset[str]]:
        """The body of the definition of a class, and the keys that it refers to. Attributes that it makes are removed from `attributes`."""
        fields = attributes.get('_fields')
        if kind.__bases__ == (tuple,) and type(fields) is tuple and '_make' in attributes:
            usual: Any = __import__('collections').namedtuple(kind.__name__, fields)
            defaults = attributes.get('_field_defaults', {})
            for name in list(vars(usual)) + list(fields) + ['_fields_defaults', '_field_defaults', '__orig_bases__', '__match_args__']:
                attributes.pop(name, None)
            attributes.pop('__annotations__', None)
            values = tuple(defaults[name] for name in fields if name in defaults)
            data, _, references = self.pickled_named('a default of %s' % title, values)
            return ('namedtuple', kind.__name__, tuple(fields), data, first), references
        if type(kind).__name__ == '_TypedDictMeta':
            keys = attributes.get('__required_keys__'), attributes.get('__optional_keys__'), attributes.get('__total__', True)
            annotations = self.annotations(kind)
            attributes.clear()
            data, _, references = self.pickled_named('the annotations of %s' % title, (annotations, keys, first))
            return ('typed dict', kind.__name__, data), references
        if issubclass(kind, enum.Enum) and type(kind).__module__ == 'enum':
            return self.enumeration(kind, title, first, attributes)
        slots = attributes.pop('__slots__', None)
        if slots is not None:
            slots = (slots,) if type(slots) is str else tuple(slots)
            prefix = '_' + kind.__name__.lstrip('_')
            for name in slots:
                attributes.pop(prefix + name if name.startswith('__') and not name.endswith('__') else name, None)
            first['__slots__'] = slots
        for name in list(attributes):
            # A descriptor that its metaclass has under such a name would be called instead: they can be given only with the class.
            if name == '__orig_bases__' or name not in _NOT_SENT and _is_set_by(type(kind), name):
                first[name] = attributes.pop(name)
        data, _, references = self.pickled_named('a base of %s' % title, (type(kind), kind.__bases__, first))
        # Our own need not be run again: their results are in the attributes.
        plainly = not (type(kind).__module__ == 'builtins' or importable(type(kind)))
        return ('class', kind.__name__, data, plainly), references

    def enumeration(self, kind: Any, title: str, first: dict[str, Any],
                    attributes: dict[str, Any]) -> tuple[tuple[Any, ...], frozenset[str]]:
        members = [(name, member._value_) for name, member in kind.__members__.items()]
        # Functions that make members have to be there before those.
        early: dict[str, Any] = {name: attributes.pop(name) for name in ('__new_member__', '_generate_next_value_', '_missing_', '__init__')
                                 if name in attributes}
        if '__new_member__' in early:
            made = early.pop('__new_member__')
            inner = getattr(made, '__func__', made)
            if type(inner) is types.FunctionType and inner.__module__ != 'enum':
                early['__new__'] = made
        if '_generate_next_value_' in early and getattr(early['_generate_next_value_'], '__module__', '') == 'enum':
            del early['_generate_next_value_']
        for name in list(attributes):
            value = attributes[name]
            if (name in kind.__members__ or name in _ENUMS or type(value).__module__ == 'enum' and name != '_ignore_'
                    or type(value) is types.FunctionType and value.__module__ == 'enum'):
                del attributes[name]
        early = {name: value for name, value in early.items() if name != '__init__' or type(value) is types.FunctionType}
        attributes.update({'__init__': early.pop('__init__')} if '__init__' in early and not members else {})
        data, _, references = self.pickled_named('a member of %s' % title, (type(kind), kind.__bases__, members, early, first))
        return ('enum', kind.__name__, data), references

    def annotations(self, kind: type) -> dict[str, Any]:
        """The annotations of a class: each as text, and, where possible, as a pickle of its value."""
        try:
            if sys.version_info >= (3, 14):
                import annotationlib
                found = annotationlib.get_annotations(kind, format=annotationlib.Format.FORWARDREF)
            else:
                found = dict(vars(kind).get('__annotations__') or {})
        except Exception:
            return {}
        sent: dict[str, Any] = {}
        for name, value in found.items():
            if type(value) is str:
                sent[name] = (value, None)
                continue
            try:
                data: Optional[bytes] = self.pickled(value).data
            except Exception:
                data = None
            sent[name] = (value.__name__ if type(value) is type else repr(value), data)
        return sent

    def dataclass(self, kind: Any, key: str, title: str) -> None:
        """Has the decorator of a dataclass run there, where the functions that it writes are other ones."""
        own = list(self.annotations(kind))
        fields = []
        for name in own:
            field = vars(kind)['__dataclass_fields__'].get(name)
            if field is None or field._field_type is dataclasses._FIELD_CLASSVAR:  # type: ignore[attr-defined]
                continue
            init_only = field._field_type is dataclasses._FIELD_INITVAR  # type: ignore[attr-defined]
            options = {option: getattr(field, option) for option in ('init', 'repr', 'hash', 'compare', 'kw_only') if hasattr(field, option)}
            options['metadata'] = dict(field.metadata)
            for option in 'default', 'default_factory':
                if getattr(field, option) is not dataclasses.MISSING:
                    options[option] = getattr(field, option)
            fields.append((name, init_only, {k: v for k, v in options.items() if v is not dataclasses.MISSING}))
        parameters = vars(kind)['__dataclass_params__']
        wanted = {name: getattr(parameters, name) for name in ('init', 'repr', 'eq', 'order', 'unsafe_hash', 'frozen', 'match_args')
                  if hasattr(parameters, name)}
        self.put(('dataclass', key), (wanted, fields), 'a field of %s' % title)

    def expression(self, kind: type, space: str, names_of: dict[str, Any], name: str) -> Optional[_Reference]:
        """An attribute that cannot be sent, such as a lock, as the expression in the class statement that made it."""
        found = _source.assigned(kind, name)
        if found is None:
            return None
        text, names, attributes = found
        self.texts.append(text)
        self.globals('the class %s' % kind.__qualname__, space, names_of, names, attributes)
        return _Reference(self.define('%s.%s' % (self.keys[id(kind)], name), ('expression', space, text)))


#: Attributes of classes that are made with these, or mean nothing elsewhere.
_NOT_SENT = frozenset((
    '__dict__', '__weakref__', '_abc_impl', '_abc_registry', '_abc_cache', '_abc_negative_cache', '_abc_negative_cache_version',
    '__abstractmethods__', '__annotations__', '__annotate__', '__annotate_func__', '__annotations_cache__', '__firstlineno__',
    '__static_attributes__', '__qualname__', '__dataclass_fields__', '__dataclass_params__', '__classdictcell__'))
_DESCRIPTORS = frozenset((types.MemberDescriptorType, types.GetSetDescriptorType))
_ENUMS = frozenset((
    '_member_names_', '_member_map_', '_value2member_map_', '_unhashable_values_', '_unhashable_values_map_', '_hashable_values_',
    '_member_type_', '_use_args_', '_value_repr_', '_new_member_', '__new__', '_flag_mask_', '_all_bits_', '_boundary_', '_inverted_',
    '_singles_mask_', '_sunder_', '_order_', '_missing_', '__reduce_ex__', '__format__', '__str__', '__repr__'))


def _is_set_by(metaclass: type, name: str) -> bool:
    """Whether setting an attribute of a class calls a descriptor of its metaclass."""
    found: Any = next((vars(base)[name] for base in metaclass.__mro__ if name in vars(base)), None)
    return hasattr(type(found), '__set__')


def _is_own(kind: type, *names: str) -> bool:
    return any(name in vars(kind) for name in names)


def _is_generated(value: Any) -> bool:
    """Whether a function of a dataclass is one that its decorator has written."""
    return type(value) is types.FunctionType and (
        value.__module__ == 'dataclasses' or inspect.unwrap(value).__code__.co_filename == '<string>')


def _space(names_of: dict[str, Any]) -> str:
    """The child's name of the module of these variables."""
    main = sys.modules.get('__main__')
    if main is not None and names_of is main.__dict__:
        return '__main__'
    name = str(names_of.get('__name__', '?'))
    # A namespace that is not a module, as of exec or a doctest, is known as long as it is the same.
    return '%s@%x' % (name, id(names_of))
