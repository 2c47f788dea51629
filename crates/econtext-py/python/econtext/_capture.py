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
import hashlib
import inspect
import io
import linecache
import marshal
import pathlib
import pickle
import sys
import types
import weakref
from typing import Any, Callable, NamedTuple, Optional

from . import _econtext
from ._channel import Channel
from ._errors import UsageError

_GLOBAL_NAMES = frozenset(('LOAD_GLOBAL', 'LOAD_NAME', 'STORE_GLOBAL', 'DELETE_GLOBAL', 'LOAD_FROM_DICT_OR_GLOBALS'))

# What every module has of its own.
_OWN = frozenset(('__name__', '__builtins__', '__spec__', '__loader__', '__package__', '__doc__'))


def request(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: Optional[float], trust: bool,
            declared: Any) -> _econtext.Request:
    """A call of a function object, or of `module:function`."""
    if isinstance(function, str):
        function, name = _named(function)
    else:
        name = importable(function)
        if name is None and not callable(function):
            raise UsageError('%r is neither a function nor of the form module:function' % (function,))
    if name is not None and not trust:
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
        payload = capture.dumps((reference, args, kwargs))
    except UsageError:
        raise
    except Exception:
        payload = capture.blame(reference, args, kwargs)
    return _econtext.Request.pickled(
        capture.needed, capture.bodies, payload, trust, capture.channels, name, '\n'.join(capture.texts).encode() if capture.texts else None,
        timeout, declared)


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


class _Reference:
    """What a definition will be there."""

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key


#: An argument that is the child's own `Context` there.
CHILDS_CONTEXT = _Reference(('', ''))


class _Pickler(pickle.Pickler):
    """Leaves to the child's half what it has to find or make by itself. Protocol 2 is what every Python reads."""

    def __init__(self, capture: _Capture, file: io.BytesIO) -> None:
        super().__init__(file, 2)
        self.capture = capture

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
            self.capture.channels.append(thing._channel)
            return 'channel', len(self.capture.channels) - 1
        if thing is CHILDS_CONTEXT:
            return 'context', None
        if getattr(thing, 'fold', 0) and isinstance(thing, (datetime.datetime, datetime.time)):
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
        self.channels: list[_econtext.Channel] = []
        self.known: dict[Any, Optional[tuple[str, str]]] = {}
        self.alive: list[Any] = []  # by whose identity things are known
        self.counts: dict[str, int] = {}

    def dumps(self, value: Any) -> bytes:
        file = io.BytesIO()
        _Pickler(self, file).dump(value)
        return file.getvalue()

    def blame(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Raises what says which argument cannot be sent."""
        named = [('the function', function)] + [('argument %d' % (i + 1), arg) for i, arg in enumerate(args)]
        for what, value in named + [('argument %s=' % key, value) for key, value in kwargs.items()]:
            self.dumps_named(what, value)
        return self.dumps((function, args, kwargs))

    def dumps_named(self, what: str, value: Any) -> bytes:
        try:
            return self.dumps(value)
        except UsageError:
            raise
        except Exception as error:
            kind = type(value)
            raise UsageError('%s is a %s.%s, which cannot be sent: %s' % (
                what, kind.__module__, kind.__qualname__, error)) from error

    def add(self, key: str, name: Optional[str], space: str, body: tuple[Any, ...]) -> tuple[str, str]:
        """Notes a definition; what it needs is there already."""
        digest = hashlib.sha1(repr(body).encode('utf-8', 'surrogatepass')).hexdigest()[:20]
        self.bodies[key] = digest, body
        self.needed.append((key, digest, space, name))
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

    # -- functions and classes

    def function(self, function: types.FunctionType, name: Optional[str] = None) -> tuple[str, str]:
        """The definition of a function; `name` is that of the global variable that holds it."""
        title = '%s()' % function.__qualname__
        known = self.begin(function, title)
        if known:
            return known
        space = _space(function.__globals__)
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
                                     _futures(code), tuple(free) if code.co_freevars else None, data)
        else:
            body = 'code', marshal.dumps(code), sys.version_info[:2], function.__name__, tuple(free), data
        found = self.add(self.key(space, function.__qualname__), name, space, body)
        self.known[id(function)] = found
        return found

    def decorated(self, thing: Any, name: Optional[str] = None) -> tuple[str, str]:
        """The definition of what decorators made of a function, where that is no function itself, as of functools.cache."""
        inner = inspect.unwrap(thing)
        title = '%s()' % getattr(thing, '__qualname__', name)
        known = self.begin(thing, title)
        if known:
            return known
        source = _of_decorated(inner) if isinstance(inner, types.FunctionType) else None
        if source is None or inner.__code__.co_freevars:
            raise UsageError('%s cannot be sent: it is a %s, whose source is not to be had' % (title, type(thing).__name__))
        space = _space(inner.__globals__)
        self.globals(title, space, inner.__globals__, source.names, source.attributes, {source.name})
        self.texts.append(source.text)
        body = ('source', source.text, source.line, source.indented, source.filename, source.name, _futures(inner.__code__), None,
                self.dumps(((), None, None)))
        found = self.known[id(thing)] = self.add(self.key(space, inner.__qualname__), name, space, body)
        return found

    def klass(self, kind: type, name: Optional[str] = None) -> tuple[str, str]:
        """The definition of a class."""
        title = 'the class %s' % kind.__qualname__
        known = self.begin(kind, title)
        if known:
            return known
        source, names_of = _of_class(kind)
        if source is None:
            raise UsageError('%s cannot be sent: its source is not to be had' % title)
        for method in vars(kind).values():
            method = getattr(method, '__func__', method)
            around = set(getattr(getattr(method, '__code__', None), 'co_freevars', ())) - {'__class__'}
            if isinstance(method, types.FunctionType) and around and method.__code__.co_filename == source.filename:
                raise UsageError('%s uses the variable %r around it, which cannot be sent' % (title, sorted(around)[0]))
        space = _space(names_of)
        # Of its own name it has no need while it is made.
        self.known[id(kind)] = None
        later = self.key(space, kind.__qualname__)
        self.globals(title, space, names_of, source.names, source.attributes, {source.name})
        # A class inside of a function may have its bases from there.
        bases = {base.__name__: base for base in kind.__bases__}
        free = tuple(n for n in source.names if n in bases and n not in names_of and n != source.name)
        self.texts.append(source.text)
        future = ('annotations',) if names_of.get('annotations') is getattr(__future__, 'annotations') else ()
        data = self.dumps((tuple(bases[name] for name in free), None, None))
        body = 'source', source.text, source.line, source.indented, source.filename, source.name, future, free or None, data
        found = self.known[id(kind)] = self.add(later, name or kind.__name__, space, body)
        return found

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
                    continue  # it is being defined, and will have its name
                define: Any = self.klass if isinstance(value, type) else self.function
                if not isinstance(value, (types.FunctionType, type)):
                    define = self.decorated
                before = self.known.get(id(value))
                found = before or define(value, name)
                if before:
                    self.needed.append((*before, space, name))
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
        if node is not None:
            source = _source(lines, node, code.co_filename, code)
    _sources[code] = source
    return source


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
    program = '\n' * (first - 1 - indented) + ('if 1:\n' if indented else '') + text
    names, attributes = _names(compile(program, filename, 'exec', flags, True))
    return Source(text, first, indented, filename, name, names, attributes)


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
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name]
        if nodes:
            # Of several in one file, the last is what the name stands for.
            return _source(lines, max(nodes, key=lambda node: node.lineno), filename, None), names_of
    return None, names_of
