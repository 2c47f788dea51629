"""Calls whose functions, arguments or results are more than names and plain values. It is sent on first use.

Functions and classes of the controller's `__main__`, of notebooks and inside of other functions cannot be imported. They arrive in
parts: definitions make objects, settings put values in their places. Each has a key, under which it is known here, and a digest
of its content; the controller sends the content once, ahead of the call, and again when it is another one.
"""
from __future__ import absolute_import

import sys

from econtext import core

PY3 = core.PY3
FUTURE = () if PY3 else ('division', 'print_function', 'absolute_import', 'unicode_literals')  # the source is Python 3's

bodies = getattr(core.child, 'bodies', {})  # a spawned process has its parent's
made = {}  # (digest, object made), by key
bound = {}  # the digest of the setting that a place has its value from
cells = {}  # variables of functions that inner functions use
aside = []  # the values beside the pickles of the call that is being read
namespaces = {}  # globals of functions, by the name of their module there


# -- calls

def call(needed, payload, targets, trust, stream, beside):
    """Calls the function in `payload`, a pickle of (function, args, kwargs, values), with what it needs defined and set.

    `needed` has (key, digest, places) of definitions, and of settings, in the order in which they are applied. A setting is applied
    if one of its places has its value from another one: a change to a value here stays until it changes there. The values of
    the payload go to the places `targets`, at each call: they have something in common with the arguments. `beside` is the values
    that pickles have by number. With `stream` the items of the result are wanted. With `trust` the result is a pickle of any value,
    for a controller that accepts one.
    """
    aside[:] = beside
    apply(needed)
    function, args, kwargs, values = loads(payload)
    for target, value in zip(targets, values):
        bound.pop(tuple(target), None)
        put(target, value)
    del aside[:]
    result = function(*args, **kwargs)
    if stream and not is_generator(result):
        result = (item for item in result)
    if not trust:
        return result
    if is_generator(result):
        return Pickled(result)
    return core.pickle.dumps(result, -1)


def same(value):
    """Returns its argument: a call of it is the form in which a channel carries values that are not plain."""
    return value


def is_generator(value):
    """Whether a value is a generator, by its type: a value's own answers cannot be trusted."""
    return hasattr(type(value), 'gi_frame')


class Pickled(object):
    """A generator of the pickles of the items of another one, and of its return value."""

    gi_frame = None  # generators are known by it

    def __init__(self, items):
        """Takes the generator, whose close() is that of this one too."""
        self.items, self.close = items, items.close

    def __iter__(self):
        """Returns itself, as an iterator does."""
        return self

    def __next__(self):
        """Returns the pickle of the next item; the StopIteration at the end has that of the return value."""
        try:
            return core.pickle.dumps(next(self.items), -1)
        except StopIteration as end:
            raise StopIteration(core.pickle.dumps(getattr(end, 'value', None), -1))

    next = __next__


def apply(needed):
    """Makes the definitions, and sets the values, in (key, digest, places) that differ from those here."""
    for key, digest, targets in needed:
        while bodies[key][0][0] != digest:
            del bodies[key][0]  # those of earlier calls
        targets = [tuple(target) for target in targets]
        if targets:
            if [target for target in targets if bound.get(target) != digest]:
                _, data, many = bodies[key][0][1]
                values = loads(data) if many else [loads(data)]
                for target, value in zip(targets, values):
                    put(target, value)
                    bound[target] = digest
                order[key] = digest, targets
        elif key not in made or made[key][0] != digest:
            made[key] = digest, make(key, *bodies[key][0][1])
            order[key] = digest, targets


order = {}  # (digest, places) by key, as far as it was applied


def snapshot():
    """Everything that was applied, for a process that this one starts: (key, digest, places, content)."""
    return [(key, order[key][0], order[key][1], bodies[key][0][1]) for key in sorted(order, key=lambda key: key.startswith('set '))
            if bodies[key][0][0] == order[key][0]]


def replay(snapshot):
    """Applies the definitions and settings of a parent process. Those that depend on the child, as channels, are not available."""
    left = [(key, digest, targets) for key, digest, targets, body in snapshot]
    for key, digest, targets, body in snapshot:
        bodies[key] = [(digest, body)]
    while left:
        # They depend on each other; the order in which they came is lost once some were replaced.
        failed = []
        for entry in left:
            try:
                apply([entry])
            except Exception:
                failed.append(entry)
        if len(failed) == len(left):
            return
        left = failed


def globals_of(name):
    """Returns the namespace for functions of a module of the controller, created on first use."""
    if name not in namespaces:
        if name == '__main__':
            if name not in sys.modules:
                sys.modules[name] = type(sys)(str(name))
            namespaces[name] = sys.modules[name].__dict__
        else:
            namespaces[name] = {'__name__': str(name.partition('@')[0])}
        namespaces[name].setdefault('__builtins__', __builtins__)
        if not PY3:
            namespaces[name]['__metaclass__'] = type  # a class without bases is one of Python 3's
    return namespaces[name]


def put(target, value):
    """Puts a value in its place."""
    kind, owner, name = (tuple(target) + (None,))[:3]
    if kind == 'global':
        if name == '__package__':
            __import__(value)
        globals_of(owner)[name] = value
    elif kind == 'cell':
        set_cell(cell(owner), value)
    elif kind == 'module':
        setattr(made[owner][1], name, value)
    elif kind == 'defaults':
        made[owner][1].__defaults__ = value
    elif kind == 'kwdefaults':
        made[owner][1].__kwdefaults__ = value
    elif kind == 'attribute':
        thing = made[owner][1]
        if isinstance(thing, type):
            type.__setattr__(thing, str(name), value)
        else:
            setattr(thing, name, value)
    elif kind == 'deleted':
        for name in value:
            bound.pop(('attribute', owner, name), None)
            if name in made[owner][1].__dict__:
                type.__delattr__(made[owner][1], name)
    elif kind == 'annotations':
        made[owner][1].__annotations__ = dict((key, annotation(*value[key])) for key in value)
    elif kind == 'registered':
        for subclass in value:
            made[owner][1].register(subclass)
    elif kind == 'dispatch':
        for subclass, function in value:
            made[owner][1].register(subclass, function)
    elif kind == 'dataclass':
        decorate(made[owner][1], *value)


def annotation(text, data):
    """Returns the annotation in the pickle `data`; its text if that is None or cannot be read here."""
    try:
        return text if data is None else loads(data)
    except Exception:
        return text  # it is of a newer Python


def decorate(kind, parameters, fields):
    """Makes a class a dataclass, as its decorator did."""
    import dataclasses
    import inspect
    known = inspect.signature(dataclasses.field).parameters
    annotations, own = dict(kind.__dict__.get('__annotations__', {})), {}
    slots = dict((name, kind.__dict__[name]) for name, _, _ in fields if inspect.ismemberdescriptor(kind.__dict__.get(name)))
    for name, init_only, options in fields:
        own[name] = dataclasses.InitVar[object] if init_only else object
        setattr(kind, name, dataclasses.field(**dict((key, options[key]) for key in options if key in known)))
    kind.__annotations__ = own
    allowed = inspect.signature(dataclasses.dataclass).parameters
    dataclasses.dataclass(**dict((key, parameters[key]) for key in parameters if key in allowed))(kind)
    for name, field in kind.__dataclass_fields__.items():
        if name in own and name in annotations:
            field.type = annotations[name]
    kind.__annotations__ = annotations
    for name in slots:
        setattr(kind, name, slots[name])  # the decorator took them for defaults


def persistent(reference):
    """An object that the controller's pickler leaves to us: a definition, module, channel, or path of any Python's pathlib."""
    kind, value = reference[0], reference[1]
    if kind == 'definition':
        return made[value][1]
    if kind == 'cell':
        return cell(value)
    if kind == 'module':
        __import__(value)
        return sys.modules[value]
    if kind == 'named':
        __import__(value)
        return getattr(sys.modules[value], reference[2])
    if kind == 'aside':
        return aside[value]
    if kind == 'fold':
        return value.replace(fold=1)
    if kind == 'context':
        return core.child.context
    import pathlib
    return getattr(pathlib, kind)(*value)


def loads(data):
    """Returns the value of a pickle of the controller, with its references resolved by `persistent`."""
    import io
    if PY3:
        return Unpickler(io.BytesIO(data)).load()
    unpickler = core.pickle.Unpickler(io.BytesIO(data))
    unpickler.persistent_load = persistent
    return unpickler.load()


if PY3:
    class Unpickler(core.pickle.Unpickler):
        """An unpickler that resolves the references of the controller's pickler."""

        def persistent_load(self, reference):
            """Returns the object that a reference stands for."""
            return persistent(reference)


def cached(function, size, typed):
    """Returns the function with a cache of functools.lru_cache, which starts empty."""
    import functools
    return functools.lru_cache(size, typed)(function)


def proxy(mapping):
    """Returns a read-only view of a dict; on Python 2 the dict itself."""
    import types
    return types.MappingProxyType(mapping) if PY3 else mapping


def new(kind, *args):
    """Returns an instance of a class, made without a call of `__init__`."""
    return kind.__new__(kind, *args)


made['make cached'] = '', cached
made['make new'] = '', new
made['make proxy'] = '', proxy


# -- definitions

def make(key, kind, *body):
    """Returns the object that a definition describes; `key` has no effect."""
    makers = {'import': imported, 'reload': reloaded, 'object': object, 'function': function, 'class': klass, 'namedtuple': tupled,
              'typed dict': typed_dict, 'enum': enumerated, 'module': module, 'decorated': decorated, 'type parameter': type_parameter, 'expression': expression}
    return makers[kind](*body)


def imported(module, path):
    """Imports a module and returns the object at a dotted path in it; the module for an empty path."""
    if module == 'builtins' and not PY3:
        module = '__builtin__'
    __import__(module)
    value = sys.modules[module]
    for name in filter(None, path.split('.')):
        value = getattr(value, name)
    return value


def reloaded(name, digest):
    """Imports a module of the controller again if the one here is not of that source."""
    importer = core.child.importer
    record = importer.records.get(name)
    if name not in sys.modules or not record or record.source is None:
        return
    import hashlib
    if hashlib.sha1(core.zlib.decompress(record.source)).hexdigest() != digest:
        del importer.records[name]  # it is asked for anew
        importer.record(name)
        if PY3:
            import importlib
            importlib.reload(sys.modules[name])
        else:
            reload(sys.modules[name])  # noqa: F821


def module(name, doc):
    """Returns a new module, which sys.modules gets too unless it has one of that name."""
    made = type(sys)(str(name), doc)
    sys.modules.setdefault(name, made)  # functions in it may be pickled by name
    return made


def expression(namespace, text):
    """Returns the value of an expression, evaluated in the namespace of a module."""
    return eval(compile('(%s)' % text, '<expression>', 'eval', 0, True), globals_of(namespace))


def decorated(module, name, data):
    """Returns the result of a decorator of an importable module, applied to the object in a pickle."""
    return imported(module, name)(loads(data))


def type_parameter(kind, data, module):
    """Returns a TypeVar or another such object of typing, given the name of its class."""
    args, options = loads(data)
    known = imported('typing', kind)(*args, **options)
    try:
        known.__module__ = module
    except (AttributeError, TypeError):
        pass
    return known


def tupled(name, fields, defaults, first):
    """Returns a namedtuple class; `defaults` is a pickle, `first` has its module, name and docstring."""
    import collections
    kind = collections.namedtuple(str(name), fields)
    for attribute in '__module__', '__qualname__', '__doc__':
        if attribute != '__doc__' or first[attribute] is not None and PY3:
            setattr(kind, attribute, first[attribute])
    kind.__new__.__defaults__ = loads(defaults)
    return kind


def typed_dict(name, data):
    """Returns a TypedDict class, or where typing has none, a subclass of dict with the same attributes."""
    annotations, (required, optional, total), first = loads(data)
    fields = dict((key, annotation(*annotations[key])) for key in annotations)
    try:
        from typing import TypedDict
        kind = TypedDict(name, fields, total=total)
    except ImportError:
        kind = type(str(name), (dict,), {})
        kind.__annotations__ = fields
    kind.__required_keys__, kind.__optional_keys__ = required, optional
    for attribute in first:
        type.__setattr__(kind, attribute, first[attribute])
    return kind


def enumerated(name, data):
    """Returns an Enum class, with its members in the order of the original."""
    metaclass, bases, members, early, first = loads(data)
    space = metaclass.__prepare__(name, bases)
    for attribute in early:
        space[attribute] = early[attribute]
    space['__module__'], space['__qualname__'] = first['__module__'], first['__qualname__']
    for member, value in members:
        space[member] = value
    return metaclass.__new__(metaclass, name, bases, space)


def klass(name, data, plainly):
    """A class without its attributes. Work that classes of the controller's program do on a derived class was done there: it
    is in the attributes. Classes that are imported do it here."""
    metaclass, bases, first = loads(data)
    if sys.version_info < (3, 7) and '__orig_bases__' in first:
        bases = first.pop('__orig_bases__')  # generic classes were classes themselves
        metaclass = type(bases[0])
    quiet = [base for base in bases if '__init_subclass__' in base.__dict__ and any(base is thing for _, thing in made.values())]
    kept = [base.__dict__['__init_subclass__'] for base in quiet]
    for base in quiet:
        type.__setattr__(base, '__init_subclass__', classmethod(lambda kind, **options: None))
    try:
        return (type.__new__ if plainly else call_metaclass)(metaclass, str(name), bases, first)
    finally:
        for base, own in zip(quiet, kept):
            type.__setattr__(base, '__init_subclass__', own)


def call_metaclass(metaclass, name, bases, first):
    """Creates a class by a call of its metaclass, which runs all of the metaclass's own code."""
    return metaclass(name, bases, first)


def cell(key):
    """Returns the cell of a variable, given its key; functions with the same key share the variable."""
    if key not in cells:
        cells[key] = new_cell()
    return cells[key]


def new_cell():
    """Returns a fresh cell, whose value is None."""
    value = None
    return (lambda: value).__closure__[0]


def set_cell(cell, value):
    """Sets the value of a cell, on every version of Python."""
    try:
        cell.cell_contents = value
    except AttributeError:  # before Python 3.7
        import ctypes
        ctypes.pythonapi.PyCell_Set(ctypes.py_object(cell), ctypes.py_object(value))


codes = {}  # code of sources, which several functions may share


def function(namespace, text, cell_keys, name, qualname, module):
    """A function without its values: those are set when everything that they need is there."""
    code = codes.get(text)
    if code is None:
        if len(codes) > 1000:
            codes.clear()
        code = codes[text] = (compiled if text[0] == 'source' else unmarshalled)(tuple(free for free, _ in cell_keys), name, *text[1:])
    keys = dict(cell_keys)
    closure = tuple(cell(keys[free]) for free in code.co_freevars)
    made = type(make)(code, globals_of(namespace), str(name), None, closure)
    made.__module__ = str(module)
    if PY3:
        made.__qualname__ = qualname
    return made


def compiled(free, title, text, line, indented, filename, name, owner, futures):
    """The code of a function, from its source at `line` of `filename` there."""
    import __future__
    import ast
    flags = 0
    for feature in tuple(futures) + FUTURE:
        flags |= getattr(__future__, feature).compiler_flag if hasattr(__future__, feature) else 0
    show(filename, line, text)
    text = '\n' * (line - 1 - indented) + ('if 1:\n' if indented else '') + text
    tree = core.compile_for_here(text, filename, flags | ast.PyCF_ONLY_AST, title + '() of')
    node = tree.body[0].body[0] if indented else tree.body[0]
    # Variables of enclosing functions become those of one enclosing function, and private names those of its class. The names
    # that this adds are not variables.
    names = [made for made in (owner, name) if made and made not in free]
    around = ast.parse('def around(%s):\n %s\n %s' % (
        ', '.join(f for f in free if f != '__class__'), 'global ' + ', '.join(names) if names else 'pass',
        'class %s:\n  pass' % owner if owner else 'pass'))
    if owner:
        around.body[0].body[1].body[0] = node
    else:
        around.body[0].body[1] = node
    return found(compile(around, filename, 'exec', flags, True), '<lambda>' if name == '__lambda__' else name)


def found(code, name):
    """The outermost function of that name in some code."""
    level = [code]
    while level:
        level = [inner for code in level for inner in code.co_consts if isinstance(inner, type(make.__code__))]
        for code in level:
            if code.co_name == name:
                return code
    raise TypeError('no %s in its source' % name)


def show(filename, line, text):
    """Lets tracebacks and inspect.getsource see the lines. One file may have several definitions."""
    import linecache
    old = linecache.cache.get(filename)
    lines = list(old[2]) if old and old[1] is None else []
    new = text.splitlines(True)
    lines += ['\n'] * (line - 1 + len(new) - len(lines))
    lines[line - 1:line - 1 + len(new)] = new
    linecache.cache[filename] = sum(map(len, lines)), None, lines, filename


def unmarshalled(free, title, data, version):
    """The code of a function without available source, as one typed at a prompt of Python, from its bytecode."""
    if tuple(version) != sys.version_info[:2]:
        raise TypeError('the source of %s() is not to be had on the controller, and the bytecode of its Python %d.%d does not run '
                        'on the %d.%d of %s' % ((title,) + tuple(version) + sys.version_info[:2] + (core.child.context.name,)))
    import marshal
    return marshal.loads(data)


# -- results

class Rich(object):
    """A value as (kind, its class's module, its class, its parts); the controller rebuilds those that it knows."""

    def __init__(self, *args):
        """Takes the kind, the module, the class name and the parts."""
        self.args = args

    def __reduce__(self):
        """Returns the class and the args, all of which are plain."""
        return Rich, self.args


core.SENDABLE.add(Rich)
core.CONSTRUCTORS.add(id(Rich))


def zone(value, where, parents):
    """A time zone as its name, if it is one of the database; else as its difference to UTC in seconds."""
    tz = value.tzinfo
    if tz is None:
        return None
    key = getattr(tz, 'key', None) or getattr(tz, 'zone', None)  # zoneinfo and pytz
    if key:
        return text(key)
    return shift(value.utcoffset(), tz.tzname(None) if type(tz).__name__ == 'timezone' else None)


def shift(offset, name):
    """A time zone as its difference to UTC in seconds, with its name if it has one of its own."""
    if offset is None:
        return None
    seconds = offset.days * 86400 + offset.seconds
    return seconds if name is None or name.startswith('UTC') else (seconds, text(name))


text = core.text
clock = lambda v: (v.hour, v.minute, v.second, v.microsecond)
fold = lambda v: getattr(v, 'fold', 0)

# The parts of values of the standard library's classes, by module and class.
KNOWN = {
    ('datetime', 'datetime'): lambda v, *at: (v.year, v.month, v.day) + clock(v) + (fold(v), zone(v, *at)),
    ('datetime', 'date'): lambda v, *at: (v.year, v.month, v.day),
    ('datetime', 'time'): lambda v, *at: clock(v) + (fold(v), zone(v, *at)),
    ('datetime', 'timedelta'): lambda v, *at: (v.days, v.seconds, v.microseconds),
    ('datetime', 'timezone'): lambda v, *at: (shift(v.utcoffset(None), v.tzname(None)),),
    ('decimal', 'Decimal'): lambda v, *at: (text(v),),
    ('uuid', 'UUID'): lambda v, *at: (text(v),),
    ('fractions', 'Fraction'): lambda v, *at: (v.numerator, v.denominator),
}
for name in 'PurePosixPath', 'PureWindowsPath', 'PurePath':
    KNOWN['pathlib', name] = lambda v, *at: (str(v),)
for name in 'Address', 'Network', 'Interface':
    for version in '46':
        KNOWN['ipaddress', 'IPv' + version + name] = lambda v, *at: (text(v),)


BASES = {dict: lambda v: dict(dict.items(v)), list: lambda v: list(list.__iter__(v)), set: lambda v: set(set.__iter__(v)),
         tuple: lambda v: tuple(tuple.__iter__(v)), Exception: lambda v: v.args}
for base in core.text, bytes, int, float:
    BASES[base] = lambda v, base=base: base.__getnewargs__(v)[0]


def has_more(kind, value):
    """Whether an instance of a subclass of a known class is more than that: it would not come back the same."""
    return bool(getattr(value, '__dict__', None)) or any(
        getattr(value, name, 0) for name in ('nanosecond', 'nanoseconds')) or any(
        '__slots__' in base.__dict__ and base.__dict__['__slots__'] for base in kind.__mro__ if base.__module__ == kind.__module__)


def rich(value, where, parents):
    """A Rich for a value of a known class, a dataclass, a tuple with names or a member of an Enum; None for any other."""
    kind = type(value)
    name = kind.__module__, getattr(kind, '__qualname__', kind.__name__)
    fields = getattr(kind, '__dataclass_fields__', None)
    if fields is not None:
        named = [field for field in fields if getattr(fields[field], '_field_type').name == '_FIELD' and hasattr(value, field)]
        # Attributes beyond the fields, and the content that a dict, a list or an exception has beside its attributes.
        named += [field for field in getattr(value, '__dict__', ()) if field not in named]
        parts = dict((field, core.plain(getattr(value, field), '%s.%s' % (where, field), parents)) for field in named)
        base = [base for base in kind.__mro__ if base in BASES]
        content = core.plain(BASES[base[0]](value), where, parents) if base else None
        return Rich('dataclass', *name + (parts, content))
    if issubclass(kind, tuple) and hasattr(kind, '_fields'):
        return Rich('namedtuple', *name + ((tuple(kind._fields), tuple(
            core.plain(item, '%s.%s' % (where, field), parents) for field, item in zip(kind._fields, value))),))
    if hasattr(kind, 'n_sequence_fields'):
        # A tuple with more names than items, as that of os.stat. None of them holds another object.
        names = [key for key in kind.__dict__ if not key.startswith(('_', 'n_')) and not callable(kind.__dict__[key])]
        fields = dict((key, getattr(value, key)) for key in names)
        if all(type(item) in core.PLAIN or item is None for item in fields.values()):
            return Rich('record', *name + ((tuple(value), fields),))
    if hasattr(kind, '__members__') and hasattr(value, '_value_'):
        is_plain = issubclass(kind, core.PLAIN)
        return Rich('enum', *name + ((core.plain(value._value_, where, parents), is_plain),))
    for base in kind.__mro__:
        module = 'pathlib' if base.__module__ == 'pathlib._local' else base.__module__
        if (module, base.__name__) in KNOWN:
            if base is not kind and module != 'pathlib' and has_more(kind, value):
                break
            # A path of this system is one of that system there: the class at hand says which.
            concrete = name[1] if module == 'pathlib' and name[0].startswith('pathlib') else base.__name__
            return Rich('known', text(module), text(concrete), KNOWN[module, base.__name__](value, where, parents))
    if not issubclass(kind, core.PLAIN + (dict, list, tuple, set, frozenset, bytearray, memoryview)):
        hint = 'host.options(trust=True) takes it as it is, from a target that is trusted'
        for attribute in 'tolist', 'to_dict', 'isoformat':
            if callable(getattr(kind, attribute, None)):
                hint = 'return its .%s(), or host.options(trust=True) takes it as it is' % attribute
                break
        if kind.__name__ in ('generator', 'async_generator', 'coroutine'):
            hint = 'host.stream() has the items of a generator as they come'
        raise TypeError('%s is a %s.%s, which cannot be sent: %s' % (where, name[0], name[1], hint))
