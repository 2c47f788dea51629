"""The source of functions and classes, with what it looks up outside of itself.

Found by where their code says that it is, in files, cells of notebooks and prompts. The text is what the object is of: of a function
without its decorators, which have done their work, without annotations, which an old Python may not know, and without
defaults, whose values are sent.
"""
from __future__ import annotations

import __future__
import ast
import dis
import inspect
import linecache
import os
import sys
import time
import types
import weakref
from typing import Any, NamedTuple, Optional

from ._errors import UsageError

_GLOBAL_NAMES = frozenset(('LOAD_GLOBAL', 'LOAD_NAME', 'STORE_GLOBAL', 'DELETE_GLOBAL', 'LOAD_FROM_DICT_OR_GLOBALS'))


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


# By code, by code for whole statements, by class: a file is parsed for each of them once.
_functions: weakref.WeakKeyDictionary[Any, Optional[Source]] = weakref.WeakKeyDictionary()
_statements: weakref.WeakKeyDictionary[Any, Optional[Source]] = weakref.WeakKeyDictionary()
_kinds: weakref.WeakKeyDictionary[type, Optional[Source]] = weakref.WeakKeyDictionary()


def names(code: types.CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
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


def of_function(function: types.FunctionType) -> Optional[Source]:
    """What the code of a function is of."""
    code = function.__code__
    if code not in _functions:
        _functions[code] = None
        lines = _lines(code)
        try:
            node = None if lines is None else _node(ast.parse(''.join(lines)), code)
        except (SyntaxError, ValueError):
            node = None
        if lines is not None and node is not None and _is_that(''.join(lines), code):
            _functions[code] = _source(lines, node, code.co_filename, code)
    return _functions[code]


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


def of_decorated(function: types.FunctionType) -> Optional[Source]:
    """The whole statement, with its decorators and defaults."""
    code = function.__code__
    if code not in _statements:
        lines = _lines(code)
        try:
            node = None if lines is None else _node(ast.parse(''.join(lines)), code)
        except (SyntaxError, ValueError):
            node = None
        _statements[code] = None if lines is None or node is None else _source(lines, node, code.co_filename, code, True)
    return _statements[code]


def futures(code: types.CodeType) -> tuple[str, ...]:
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
    flags = sum(getattr(__future__, f).compiler_flag for f in futures(code)) if code else 0
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
    looked_up, attributes = names(code)
    around = _variables_around(lines, node) if whole else frozenset()
    return Source(text, first, indented, filename, name, looked_up, attributes, tuple(n for n in _evaluated(code) if n in around))


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


def _methods(kind: type) -> list[types.FunctionType]:
    """The functions that were written in a class. Those that dataclasses make are of other modules."""
    found = [getattr(method, '__func__', method) for method in vars(kind).values()]
    found = [getattr(method, 'fget', method) for method in found]
    return [method for method in found
            if isinstance(method, types.FunctionType) and method.__globals__.get('__name__') == kind.__module__]


def variables_of(kind: type) -> dict[str, Any]:
    """The variables of the module that a class is of."""
    for method in _methods(kind):
        return method.__globals__
    return getattr(sys.modules.get(kind.__module__), '__dict__', {})


def of_class(kind: type) -> Optional[Source]:
    """The class statement."""
    if kind not in _kinds:
        _kinds[kind] = _find_class(kind)
    return _kinds[kind]


def _find_class(kind: type) -> Optional[Source]:
    names_of, module = variables_of(kind), sys.modules.get(kind.__module__)
    candidates: list[tuple[str, list[str]]] = []
    for method in _methods(kind):
        lines = _lines(method.__code__)
        if lines is not None:
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
            return _source(lines, nodes[0], filename, None)
        if nodes:
            raise UsageError('the class %s cannot be sent: there are several of that name' % kind.__qualname__)
    return None


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
