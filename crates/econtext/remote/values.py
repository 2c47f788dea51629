"""Calls of functions, and with arguments, that are more than names and plain values; results that are. Sent on first use.

Functions and classes of the controller's `__main__`, of notebooks and inside of other functions cannot be imported. They
arrive as definitions: their source, with the values that it uses. A definition has a key, under which it is known here, and
a digest of its content; the controller sends the content once, ahead of the call, and again when it is another one.
"""
from __future__ import absolute_import

import sys

from econtext import core

PY3 = core.PY3
FUTURE = () if PY3 else ('division', 'print_function', 'absolute_import', 'unicode_literals')  # the source is Python 3's

bodies = core.core.bodies
made = {}  # (digest, what came of it), by key
bound = {}  # (key, digest), by (namespace, variable)
aside = []  # what the call that is read has beside its pickles
namespaces = {}  # globals of definitions, by the name of their module there


# -- calls

def call(needed, payload, trust, stream, beside):
    """Calls the function in `payload`, a pickle of (function, args, kwargs), with what it needs defined.

    `needed` has (key, digest, namespace, name or None), what others need first; `beside` is what pickles have by number. A
    variable is set when what it stands for there is another one: what is done to it here stays until then. With `stream` the
    items of the result are wanted. With `trust` the result is a pickle of whatever it is, for a controller that takes such.
    """
    aside[:] = beside
    for key, digest, namespace, name in needed:
        while bodies[key][0][0] != digest:
            del bodies[key][0]  # of calls that were before this one
        if key not in made or made[key][0] != digest:
            made[key] = digest, make(namespace, *bodies[key][0][1])
        if name is not None and bound.get((namespace, name)) != (key, digest):
            bound[namespace, name] = key, digest
            globals_of(namespace)[name] = made[key][1]
    function, args, kwargs = loads(payload)
    del aside[:]
    result = function(*args, **kwargs)
    if stream and not hasattr(result, 'gi_frame'):
        result = (item for item in result)
    if not trust:
        return result
    if hasattr(result, 'gi_frame'):
        return Pickled(result)
    return core.pickle.dumps(result, -1)


class Pickled(object):
    """A generator of the pickles of what another one yields, and returns."""

    gi_frame = None  # by which generators are known

    def __init__(self, items):
        self.items, self.close = items, items.close

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return core.pickle.dumps(next(self.items), -1)
        except StopIteration as end:
            raise StopIteration(core.pickle.dumps(getattr(end, 'value', None), -1))

    next = __next__


def globals_of(name):
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


def persistent(reference):
    """What the controller's pickler leaves to us: definitions, modules, channels, paths of any Python's pathlib."""
    kind, value = reference[0], reference[1]
    if kind == 'definition':
        return made[value][1]
    if kind == 'module':
        __import__(value)
        return sys.modules[value]
    if kind == 'aside':
        return aside[value]
    if kind == 'fold':
        return value.replace(fold=1)
    if kind == 'context':
        return core.core.context
    import pathlib
    return getattr(pathlib, kind)(*value)


def loads(data):
    import io
    if PY3:
        return Unpickler(io.BytesIO(data)).load()
    unpickler = core.pickle.Unpickler(io.BytesIO(data))
    unpickler.persistent_load = persistent
    return unpickler.load()


if PY3:
    class Unpickler(core.pickle.Unpickler):
        def persistent_load(self, reference):
            return persistent(reference)


# -- definitions

def make(namespace, kind, *body):
    makers = {'import': imported, 'value': unpickled, 'source': compiled, 'code': unmarshalled, 'namedtuple': tupled, 'enum': enumerated,
              'attribute': attribute, 'object': lambda namespace: object()}
    return makers[kind](namespace, *body)


def imported(namespace, module, path):
    if module == 'builtins' and not PY3:
        module = '__builtin__'
    __import__(module)
    value = sys.modules[module]
    for name in filter(None, path.split('.')):
        value = getattr(value, name)
    return value


def unpickled(namespace, data):
    return loads(data)


def attribute(namespace, data):
    owner, name = loads(data)
    return getattr(owner, name)


def tupled(namespace, name, fields, defaults):
    import collections
    kind = collections.namedtuple(str(name), fields)
    kind.__module__ = globals_of(namespace)['__name__']
    kind.__new__.__defaults__ = loads(defaults)
    return kind


def enumerated(namespace, name, data):
    base, members = loads(data)
    return base(name, members, module=globals_of(namespace)['__name__'])


def compiled(namespace, text, line, indented, filename, name, qualname, futures, free, data, depends=()):
    """A function or class from its source, which stands at `line` of `filename` there."""
    import __future__
    import ast
    flags = 0
    for feature in tuple(futures) + FUTURE:
        flags |= getattr(__future__, feature).compiler_flag if hasattr(__future__, feature) else 0
    show(filename, line, text)
    text = '\n' * (line - 1 - indented) + ('if 1:\n' if indented else '') + text
    tree = compile(text, filename, 'exec', flags | ast.PyCF_ONLY_AST, True)
    node = tree.body[0].body[0] if indented else tree.body[0]
    if free is not None:
        # The variables of the function around it, and its own name, are those of one made here.
        around = ast.parse('def around(%s):\n pass\n return %s' % (', '.join(free), name))
        around.body[0].body[0] = node
        tree = around
    else:
        tree.body = [node]
    found = {}
    exec(compile(tree, filename, 'exec', flags, True), globals_of(namespace), found)
    values, defaults, keyword_defaults = loads(data)
    made = found[name] if free is None else found['around'](*values)
    if PY3 and qualname:
        made.__qualname__ = qualname
    if defaults is not None:
        made.__defaults__ = defaults
    if keyword_defaults:
        made.__kwdefaults__ = keyword_defaults
    return made


def show(filename, line, text):
    """Lets tracebacks and inspect.getsource see the lines. Several definitions may be from one file."""
    import linecache
    old = linecache.cache.get(filename)
    lines = list(old[2]) if old and old[1] is None else []
    new = text.splitlines(True)
    lines += ['\n'] * (line - 1 + len(new) - len(lines))
    lines[line - 1:line - 1 + len(new)] = new
    linecache.cache[filename] = sum(map(len, lines)), None, lines, filename


def unmarshalled(namespace, data, version, name, free, values):
    """A function whose source is not to be had, as it was typed at a prompt of Python: its bytecode."""
    if tuple(version) != sys.version_info[:2]:
        raise TypeError('the source of %s() is not to be had on the controller, and the bytecode of its Python %d.%d does not run '
                        'on the %d.%d of %s' % ((name,) + tuple(version) + sys.version_info[:2] + (core.core.context.name,)))
    import marshal
    closure, defaults, keyword_defaults = loads(values)
    cell = lambda value: (lambda: value).__closure__[0]
    function = type(make)(marshal.loads(data), globals_of(namespace), name, defaults, tuple(map(cell, closure)))
    function.__kwdefaults__ = keyword_defaults
    return function


# -- results

class Rich(object):
    """A value as (kind, its class's module, its class, its parts); the controller rebuilds those it knows."""

    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return Rich, self.args


core.SENDABLE.add(Rich)
core.CONSTRUCTORS.append(Rich)


def zone(value, where, parents):
    """A time zone: its name, if it is one of the database; else its difference to UTC in seconds."""
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


def rich(value, where, parents):
    """A Rich for a value of a known class, a dataclass, a tuple with names or a member of an Enum; None for any other."""
    kind = type(value)
    name = kind.__module__, getattr(kind, '__qualname__', kind.__name__)
    fields = getattr(kind, '__dataclass_fields__', None)
    if fields is not None:
        return Rich('dataclass', *name + (dict(
            (field, core.plain(getattr(value, field), '%s.%s' % (where, field), parents))
            for field in fields if getattr(fields[field], '_field_type').name == '_FIELD' and hasattr(value, field)),))
    if isinstance(value, tuple) and hasattr(kind, '_fields'):
        return Rich('namedtuple', *name + ((tuple(kind._fields), tuple(
            core.plain(item, '%s.%s' % (where, field), parents) for field, item in zip(kind._fields, value))),))
    if hasattr(kind, 'n_sequence_fields'):
        # As os.stat's: a tuple of which more has a name than it has items. None of them holds another object.
        names = [key for key in kind.__dict__ if not key.startswith(('_', 'n_')) and not callable(kind.__dict__[key])]
        fields = dict((key, getattr(value, key)) for key in names)
        if all(type(item) in core.PLAIN or item is None for item in fields.values()):
            return Rich('record', *name + ((tuple(value), fields),))
    if hasattr(kind, '__members__') and hasattr(value, '_value_'):
        is_plain = isinstance(value, core.PLAIN)
        return Rich('enum', *name + ((core.plain(value._value_, where, parents), is_plain),))
    for base in kind.__mro__:
        module = 'pathlib' if base.__module__ == 'pathlib._local' else base.__module__
        if (module, base.__name__) in KNOWN:
            # A path of this system is one of that: which it is says the class at hand.
            concrete = name[1] if module == 'pathlib' and name[0].startswith('pathlib') else base.__name__
            return Rich('known', text(module), text(concrete), KNOWN[module, base.__name__](value, where, parents))
