"""Functions, and what they use, in a form that can be sent.

A function of a module is called by its name: the child imports the module, from here if it has none. What cannot be imported
goes as definitions: functions of the running script, of a notebook or a prompt, lambdas, and functions inside of others. A
definition is the source of one function or class, or the value of one variable, with what that uses in turn; `values.py` in
the child makes them again. Bytecode is sent only where there is no source, because it runs on one version of Python only.
"""
from __future__ import annotations

import __future__
import ast
import builtins
import datetime
import dis
import enum
import hashlib
import inspect
import io
import linecache
import marshal
import os
import pathlib
import pickle
import sys
import time
import types
import weakref
from typing import Any, Callable, NamedTuple, Optional

from . import _econtext
from ._channel import Channel
from ._errors import UsageError

_GLOBAL_NAMES = frozenset(('LOAD_GLOBAL', 'LOAD_NAME', 'STORE_GLOBAL', 'DELETE_GLOBAL', 'LOAD_FROM_DICT_OR_GLOBALS'))

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


class Source(NamedTuple):
    """The text of one function or class, as whole lines or as the expression of a lambda."""

    text: str
    line: int
    indented: bool
    filename: str
    name: str
    names: tuple[str, ...]  # that it looks up outside of itself
    attributes: frozenset[str]
    around: tuple[str, ...]  # of those, variables of the function around it


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
                and not inner.__code__.co_freevars and _of_decorated(inner)):
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
        source = _of_function(function)
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
        names, attributes = (source.names, source.attributes) if source else _names(code)
        self.globals(title, space, function.__globals__, names, attributes, set(free))
        data = self.dumps_named('a default of %s' % title, (tuple(values), function.__defaults__, function.__kwdefaults__))
        if source is not None:
            self.texts.append(source.text)
            body: tuple[Any, ...] = ('source', source.text, source.line, source.indented, source.filename, source.name,
                                     function.__qualname__, _futures(code), tuple(free) if code.co_freevars else None, data)
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
        source = _of_decorated(inner) if isinstance(inner, types.FunctionType) else None
        if source is None or source.around or inner.__code__.co_freevars:
            raise UsageError('%s cannot be sent: it is a %s, whose source is not to be had' % (title, type(thing).__name__))
        space = _space(inner.__globals__)
        self.globals(title, space, inner.__globals__, source.names, source.attributes, {source.name})
        self.texts.append(source.text)
        body = ('source', source.text, source.line, source.indented, source.filename, source.name, '', _futures(inner.__code__),
                None, self.dumps(((), None, None)))
        return self.add(self.key(space, inner.__qualname__), None, space, body, thing)

    def klass(self, kind: type) -> tuple[str, str]:
        """The definition of a class."""
        title = 'the class %s' % kind.__qualname__
        known = self.begin(kind, title)
        if known:
            return known
        source, names_of = _of_class(kind)
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


# -- sources

_sources: weakref.WeakKeyDictionary[Any, Optional[Source]] = weakref.WeakKeyDictionary()


def _names(code: types.CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    """Names that code looks up in its module, and attributes that it looks up anywhere."""
    found: dict[str, None] = {}
    attributes: set[str] = set()
    todo = [code]
    while todo:
        code = todo.pop()
        for instruction in dis.get_instructions(code):
            if instruction.opname in _GLOBAL_NAMES:
                found[instruction.argval] = None
        attributes.update(code.co_names)
        todo.extend(constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return tuple(found), frozenset(attributes)


def _lines(thing: Any) -> Optional[list[str]]:
    try:
        return inspect.findsource(thing)[0]
    except (OSError, TypeError, IndexError, SyntaxError):
        return None


def _of_function(function: types.FunctionType) -> Optional[Source]:
    code = function.__code__
    try:
        return _sources[code]
    except KeyError:
        pass
    lines = _lines(code)
    source = None
    if lines is not None:
        try:
            tree = ast.parse(''.join(lines))
        except (SyntaxError, ValueError):
            tree = None
        node = _node(tree, code) if tree is not None else None
        if node is not None and _is_that(''.join(lines), code):
            source = _source(lines, node, code.co_filename, code)
    _sources[code] = source
    return source


_started = time.time()


def _is_that(text: str, code: types.CodeType) -> bool:
    """Whether the text still is what code was made of: a file may have been edited since."""
    try:
        if os.stat(code.co_filename).st_mtime < _started:
            return True
        todo = [compile(text, code.co_filename, 'exec', 0, True)]
    except (OSError, SyntaxError, ValueError):
        return True  # no file, but a cell or a prompt
    if any(name.startswith('@py') for name in code.co_names + code.co_varnames):
        return True  # pytest has rewritten its assertions
    while todo:
        other = todo.pop()
        if (other.co_name, other.co_firstlineno) == (code.co_name, code.co_firstlineno) and other.co_code == code.co_code:
            plain = [[c for c in o.co_consts if not isinstance(c, types.CodeType)] for o in (other, code)]
            if other.co_names == code.co_names and plain[0] == plain[1]:
                return True
        todo += [inner for inner in other.co_consts if isinstance(inner, types.CodeType)]
    return False


def _of_decorated(function: types.FunctionType) -> Optional[Source]:
    """The whole statement, with its decorators and defaults."""
    lines = _lines(function.__code__)
    try:
        node = None if lines is None else _node(ast.parse(''.join(lines)), function.__code__)
    except (SyntaxError, ValueError):
        return None
    return None if lines is None or node is None else _source(lines, node, function.__code__.co_filename, function.__code__, True)


def _futures(code: types.CodeType) -> tuple[str, ...]:
    return tuple(f for f in __future__.all_feature_names if code.co_flags & getattr(__future__, f).compiler_flag)


def _first_line(node: Any) -> int:
    lines: list[int] = [node.lineno] + [decorator.lineno for decorator in getattr(node, 'decorator_list', ())]
    return min(lines)


def _node(tree: ast.Module, code: types.CodeType) -> Any:
    """The part of a source that code was made of; None if that is not sure."""
    kinds = (ast.Lambda,) if code.co_name == '<lambda>' else (ast.FunctionDef, ast.AsyncFunctionDef)
    arguments = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
    found: list[Any] = []
    for node in ast.walk(tree):
        if isinstance(node, kinds) and _first_line(node) == code.co_firstlineno and getattr(node, 'name', code.co_name) == code.co_name:
            args = node.args
            if tuple(a.arg for a in args.posonlyargs + args.args + args.kwonlyargs) == arguments:
                found.append(node)
    if len(found) < 2:
        return found[0] if found else None
    if hasattr(code, 'co_positions'):
        spans = [p for p in code.co_positions() if None not in p and p[2] != p[3]]
        inside = [n for n in found if all(
            (n.lineno, n.col_offset) <= (p[0], p[2]) and (p[1], p[3]) <= (n.end_lineno, n.end_col_offset) for p in spans)]
        inside.sort(key=lambda n: (n.end_lineno - n.lineno, n.end_col_offset - n.col_offset))
        return inside[0] if spans and inside else None
    # Those that say the same are the same.
    same = {ast.dump(node) for node in found}
    return found[0] if len(same) == 1 else None


def _source(lines: list[str], node: Any, filename: str, code: Optional[types.CodeType], whole: bool = False) -> Source:
    """The text of a part of a file. Of a function that is what its code is of: without decorators, which have done their
    work, and without what goes as values; of a class, and of all else if `whole`, it is the statement."""
    flags = sum(getattr(__future__, f).compiler_flag for f in _futures(code)) if code else 0
    whole = whole or isinstance(node, ast.ClassDef)
    first = _first_line(node) if whole else node.lineno
    if isinstance(node, ast.Lambda):
        name, indented = '__lambda__', False
        text = '__lambda__ = (%s)\n' % _without_defaults(ast.get_source_segment(''.join(lines), node) or '', node)
    else:
        name = node.name
        text = ''.join(lines[first - 1:node.end_lineno])
        indented = lines[first - 1][:1].isspace()
        if not whole:
            text = _bare_signature(text, first, node)
        if not text.endswith('\n'):
            text += '\n'
    if code is None or whole:
        program = '\n' * (first - 1 - indented) + ('if 1:\n' if indented else '') + text
        code = compile(program, filename, 'exec', flags, True)
    names, attributes = _names(code)
    around = _variables_around(lines, node) if whole else frozenset()
    return Source(text, first, indented, filename, name, names, attributes, tuple(n for n in _evaluated(code) if n in around))


def _evaluated(code: types.CodeType) -> list[str]:
    """Names that a statement looks up when it runs, and not only what it makes."""
    found = [i.argval for i in dis.get_instructions(code) if i.opname in _GLOBAL_NAMES and not i.opname.startswith('STORE')]
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType) and not inner.co_flags & inspect.CO_NEWLOCALS:  # the body of a class
            own = {i.argval for i in dis.get_instructions(inner) if i.opname == 'STORE_NAME'}
            found += [name for name in _evaluated(inner) if name not in own]
    return found


def _variables_around(lines: list[str], node: Any) -> frozenset[str]:
    """The variables of the functions that a part of a file is in."""
    found: set[str] = set()
    for function in ast.walk(ast.parse(''.join(lines))):
        if (isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and (function.end_lineno or 0) >= node.end_lineno
                and function.lineno < _first_line(node)):
            for part in ast.walk(function):
                if isinstance(part, ast.arg):
                    found.add(part.arg)
                elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    found.add(part.id)
                elif isinstance(part, (ast.FunctionDef, ast.ClassDef)):
                    found.add(part.name)
                elif isinstance(part, ast.alias):
                    found.add((part.asname or part.name).partition('.')[0])
    return frozenset(found - {node.name})


def _without_defaults(text: str, node: Any) -> str:
    """A lambda whose defaults are None: their values are sent. Where none can be told from the text, it is as it was."""
    defaults = [d for d in node.args.defaults + node.args.kw_defaults if d is not None]
    if all(isinstance(d, ast.Constant) for d in defaults):
        return text
    return _edited(text, node.lineno, node.col_offset, defaults)


class _Text:
    """A text that begins at (line, column) of a file, by the positions that trees have: lines, and columns in bytes."""

    def __init__(self, text: str, line: int, column: int = 0) -> None:
        lines = text.encode().splitlines(True)
        self.data, self.line, self.column, self.starts = b''.join(lines), line, column, [0]
        for part in lines:
            self.starts.append(self.starts[-1] + len(part))

    def at(self, line: int, column: int) -> int:
        return self.starts[line - self.line] + column - (self.column if line == self.line else 0)

    def replaced(self, places: list[tuple[int, int, bytes]]) -> str:
        """With pieces replaced, so that the lines stay where they are: all of them are in parentheses."""
        data = self.data
        for start, end, new in sorted(places, reverse=True):
            data = data[:start] + new + b'\n' * data[start:end].count(b'\n') + data[end:]
        return data.decode()


def _edited(text: str, line: int, column: int, nodes: list[Any]) -> str:
    """A text with None for some nodes of its tree."""
    lines = _Text(text, line, column)
    return lines.replaced([
        (lines.at(n.lineno, n.col_offset), lines.at(n.end_lineno, n.end_col_offset), b'None') for n in nodes])


def _bare_signature(text: str, first: int, node: Any) -> str:
    """A function without annotations, which an old Python may not know, and with None for defaults: their values are sent."""
    arguments, lines = node.args, _Text(text, first)
    every = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
    every += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    places = []
    for default in arguments.defaults + arguments.kw_defaults:
        if default is not None and not isinstance(default, ast.Constant):
            places.append((lines.at(default.lineno, default.col_offset),
                           lines.at(default.end_lineno, default.end_col_offset), b'None'))
    annotated = [(lines.at(a.lineno, a.col_offset) + len(a.arg.encode()), a.annotation, b':') for a in every if a.annotation]
    if node.returns is not None:
        arrow = lines.data.rfind(b'->', 0, lines.at(node.returns.lineno, node.returns.col_offset))
        annotated.append((arrow, node.returns, b'->'))
    for start, annotation, sign in annotated:
        begin = lines.at(annotation.lineno, annotation.col_offset)
        end = lines.at(annotation.end_lineno, annotation.end_col_offset)
        if lines.data[start:begin].split() == [sign] and b'\n' not in lines.data[start:end]:
            places.append((start, end, b''))
        else:
            places.append((begin, end, b'None'))  # in parentheses of its own, or with a comment in between
    return lines.replaced(places)


def _of_class(kind: type) -> tuple[Optional[Source], dict[str, Any]]:
    """The source of a class, and the variables of its module."""
    module = sys.modules.get(kind.__module__)
    names_of: dict[str, Any] = getattr(module, '__dict__', {})
    candidates: list[tuple[str, list[str]]] = []
    for method in vars(kind).values():
        method = getattr(method, '__func__', method)
        method = getattr(method, 'fget', method)
        # Those that dataclasses make are of other modules.
        if isinstance(method, types.FunctionType) and method.__globals__.get('__name__') == kind.__module__:
            lines = _lines(method.__code__)
            if lines is not None:
                names_of = method.__globals__
                candidates.append((method.__code__.co_filename, lines))
    file = getattr(module, '__file__', None)
    if file:
        candidates.append((file, linecache.getlines(file, names_of)))
    # Cells of a notebook and lines of a prompt, the latest first.
    for filename in reversed(list(linecache.cache)):
        if 'ipykernel' in str(filename) or str(filename).startswith(('<ipython', '<python', '<stdin', '<doctest')):
            candidates.append((filename, linecache.getlines(filename)))
    name = kind.__qualname__.rpartition('.')[2]
    for filename, lines in candidates:
        try:
            tree = ast.parse(''.join(lines))
        except (SyntaxError, ValueError):
            continue
        nodes = _classes(tree, kind.__qualname__.replace('<locals>.', '').split('.'))
        lines_of = {method.__code__.co_firstlineno for method in map(lambda m: getattr(m, '__func__', m), vars(kind).values())
                    if isinstance(method, types.FunctionType) and method.__code__.co_filename == filename}
        first = getattr(kind, '__firstlineno__', None)
        if len(nodes) > 1 and (lines_of or first):
            nodes = [node for node in nodes if first == _first_line(node) or lines_of and all(
                node.lineno < line <= node.end_lineno for line in lines_of)]
        # Of several at the top of a file, the last is what the name stands for.
        if len(nodes) > 1 and kind.__qualname__ == name and names_of.get(name) is kind:
            nodes = nodes[-1:]
        if len(nodes) == 1:
            return _source(lines, nodes[0], filename, None), names_of
        if nodes:
            raise UsageError('the class %s cannot be sent: there are several of that name' % kind.__qualname__)
    return None, names_of


def _classes(tree: ast.AST, path: list[str]) -> list[Any]:
    """The class statements that a path of names leads to, through functions and classes."""
    found: list[Any] = []
    todo = list(ast.iter_child_nodes(tree))
    while todo:
        node = todo.pop(0)
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.name == path[0]:
                if len(path) > 1:
                    found += _classes(node, path[1:])
                elif isinstance(node, ast.ClassDef):
                    found.append(node)
        else:
            todo += ast.iter_child_nodes(node)
    return sorted(found, key=lambda node: node.lineno)
