"""The source of functions, with the names that it looks up outside of itself.

It is found by the place that their code names, in files, cells of notebooks and prompts. The text is that of a function without its
decorators, which have done their work, without annotations, which an old Python may not know, and without defaults, whose values
are sent.
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

_GLOBAL_NAMES = frozenset(('LOAD_GLOBAL', 'LOAD_NAME', 'STORE_GLOBAL', 'DELETE_GLOBAL', 'LOAD_FROM_DICT_OR_GLOBALS'))


class Source(NamedTuple):
    """The text of one function or class, as whole lines or as the expression of a lambda."""

    text: str
    line: int
    indented: bool
    filename: str
    name: str
    names: tuple[str, ...]  # the names that it looks up outside of itself
    attributes: frozenset[str]
    owner: str  # the class whose private names it has, or an empty text


# The cache is by code: a file is parsed once for each.
_functions: weakref.WeakKeyDictionary[Any, Optional[Source]] = weakref.WeakKeyDictionary()


def names(code: types.CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    """The names that code looks up in its module, and the attributes that it looks up anywhere."""
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
    """The source of a function, or None if it is not available."""
    code = function.__code__
    if code not in _functions:
        _functions[code] = None
        lines = _lines(code)
        try:
            tree = None if lines is None else ast.parse(''.join(lines))
            node = None if tree is None else _node(tree, code)
        except (SyntaxError, ValueError):
            node = None
        if lines is not None and tree is not None and node is not None and _is_that(''.join(lines), code):
            _functions[code] = _source(lines, node, code, _owner(tree, node))
    return _functions[code]


_started = time.time()


def _is_that(text: str, code: types.CodeType) -> bool:
    """Whether the text still is the source of the code: a file may have been edited since."""
    try:
        if os.stat(code.co_filename).st_mtime < _started:
            return True
        todo = [compile(text, code.co_filename, 'exec', 0, True)]
    except (OSError, SyntaxError, ValueError):
        return True  # it is not a file, but a cell or a prompt
    if any(name.startswith('@py') for name in code.co_names + code.co_varnames):
        return True  # pytest has rewritten its assertions
    while todo:
        other = todo.pop()
        if _does_the_same(other, code):
            return True
        todo += [inner for inner in other.co_consts if isinstance(inner, types.CodeType)]
    return False


def _does_the_same(other: types.CodeType, code: types.CodeType) -> bool:
    """Whether two pieces of code of one line are the same."""
    if (other.co_name, other.co_firstlineno) != (code.co_name, code.co_firstlineno) or other.co_code != code.co_code:
        return False
    plain, inner = [], []
    for each in other, code:
        plain.append([repr(c) for c in each.co_consts if not isinstance(c, types.CodeType)])
        inner.append([c for c in each.co_consts if isinstance(c, types.CodeType)])
    return (other.co_names == code.co_names and plain[0] == plain[1] and len(inner[0]) == len(inner[1])
            and all(map(_does_the_same, *inner)))


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
    # The one that compiles to that code is chosen. Lambdas with the same text are the same.
    found = [node for node in found if len(found) == 1 or _compiles_to(tree, node, code)]
    same = {ast.dump(node) for node in found}
    return found[0] if len(same) == 1 else None


def _compiles_to(tree: ast.Module, node: Any, code: types.CodeType) -> bool:
    """Whether a lambda is the source of the code: the code changes when the lambda does."""
    if not isinstance(node, ast.Lambda):
        return True
    body, node.body = node.body, ast.copy_location(ast.Constant('another body'), node.body)
    try:
        todo = [compile(tree, code.co_filename, 'exec', 0, True)]
    except (SyntaxError, ValueError):
        return True
    finally:
        node.body = body
    count = 0
    while todo:
        other = todo.pop()
        count += _does_the_same(other, code)
        todo += [inner for inner in other.co_consts if isinstance(inner, types.CodeType)]
    return not count


def _owner(tree: ast.Module, node: Any) -> str:
    """The innermost class that a node is in, at any depth: private names in it are that class's."""
    found = ''
    todo: list[tuple[Any, str]] = [(tree, '')]
    while todo:
        parent, owner = todo.pop()
        for child in ast.iter_child_nodes(parent):
            if child is node:
                return owner
            todo.append((child, child.name if isinstance(child, ast.ClassDef) else owner))
    return found


def _source(lines: list[str], node: Any, code: types.CodeType, owner: str) -> Source:
    """The text of a function: without decorators, which have done their work, and without the parts that go as values."""
    if isinstance(node, ast.Lambda):
        name, indented = '__lambda__', False
        text = '__lambda__ = (%s)\n' % _without_defaults(ast.get_source_segment(''.join(lines), node) or '', node)
    else:
        name = node.name
        text = ''.join(lines[node.lineno - 1:node.end_lineno])
        indented = lines[node.lineno - 1][:1].isspace()
        text = _bare_signature(text, node.lineno, node)
        if not text.endswith('\n'):
            text += '\n'
    return Source(text, node.lineno, indented, code.co_filename, name, *names(code), owner)


def imports_relatively(code: types.CodeType) -> bool:
    """Whether code has a relative import."""
    todo = [code]
    while todo:
        code = todo.pop()
        level: Any = 0
        before: list[Any] = []
        for instruction in dis.get_instructions(code):
            if instruction.opname == 'IMPORT_NAME':
                level = before[-2].argval if len(before) > 1 else 0
                if type(level) is int and level > 0:
                    return True
            before.append(instruction)
        todo += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return False


def _without_defaults(text: str, node: Any) -> str:
    """The text of a lambda with None for defaults: their values are sent. If they cannot be found, it is unchanged."""
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
        """The text with pieces replaced. The lines stay where they are: all pieces are in parentheses."""
        data = self.data
        for start, end, new in sorted(places, reverse=True):
            data = data[:start] + new + b'\n' * data[start:end].count(b'\n') + data[end:]
        return data.decode()


def _edited(text: str, line: int, column: int, nodes: list[Any]) -> str:
    """The text with None for some nodes of its tree."""
    lines = _Text(text, line, column)
    return lines.replaced([
        (lines.at(n.lineno, n.col_offset), lines.at(n.end_lineno, n.end_col_offset), b'None') for n in nodes])


def _bare_signature(text: str, first: int, node: Any) -> str:
    """The text of a function without annotations, which an old Python may not know, and with None for defaults: their values are sent."""
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
    """The functions that were written in a class. Functions that dataclasses make are of other modules."""
    found: list[Any] = []
    for value in vars(kind).values():
        if type(value) in (classmethod, staticmethod):
            value = value.__func__
        elif type(value) is property:
            value = value.fget
        if type(value) is types.FunctionType and value.__globals__.get('__name__') == kind.__module__:
            found.append(value)
    return found


def variables_of(kind: type) -> dict[str, Any]:
    """The variables of the module that a class is of."""
    for method in _methods(kind):
        return method.__globals__
    return getattr(sys.modules.get(kind.__module__), '__dict__', {})


def assigned(kind: type, name: str) -> Optional[tuple[str, tuple[str, ...], frozenset[str]]]:
    """The expression that an attribute was set to in a class statement: its text, and the names and attributes that it looks up.
    None if it was set in another way, or more than once."""
    found = []
    for text, node in _statements_of(kind):
        for part in node.body:
            targets = part.targets if isinstance(part, ast.Assign) else [part.target] if isinstance(part, ast.AnnAssign) else []
            if any(isinstance(target, ast.Name) and target.id == name for target in targets) and part.value is not None:
                found.append(ast.get_source_segment(text, part.value))
    if len(found) != 1 or not found[0]:
        return None
    try:
        code = compile('(%s)' % found[0], '<expression>', 'eval', 0, True)
    except SyntaxError:
        return None
    return (found[0], *names(code))


def _statements_of(kind: type) -> list[tuple[str, Any]]:
    """The class statements that a class may be of, with the texts that they are in: from the first file that has any."""
    names_of, module = variables_of(kind), sys.modules.get(kind.__module__)
    candidates: list[list[str]] = []
    for method in _methods(kind):
        lines = _lines(method.__code__)
        if lines is not None:
            candidates.append(lines)
    file = getattr(module, '__file__', None)
    if file:
        candidates.append(linecache.getlines(file, names_of))
    # These are cells of a notebook and lines of a prompt, the latest first.
    for filename in reversed(list(linecache.cache)):
        if 'ipykernel' in str(filename) or str(filename).startswith(('<ipython', '<python', '<stdin', '<doctest')):
            candidates.append(linecache.getlines(filename))
    for lines in candidates:
        text = ''.join(lines)
        try:
            nodes = _classes(ast.parse(text), kind.__qualname__.replace('<locals>.', '').split('.'))
        except (SyntaxError, ValueError):
            continue
        if nodes:
            return [(text, node) for node in nodes]
    return []


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
