"""An interactive interpreter whose lines come from the controller. Sent on first use."""
from __future__ import absolute_import

import ast
import codeop
import linecache
import sys

from econtext import core

main = sys.modules['__main__'] = type(sys)('__main__')
main.__builtins__ = sys.modules['builtins' if core.PY3 else '__builtin__']
count = 0


def is_complete(source):
    """Whether this is a whole statement or several, or wrong; not whether more lines could follow.

    Code that ends within an indented block is complete with an empty line behind it.
    """
    try:
        if codeop.compile_command(native(source), '<console>', 'exec') is None:
            return False
    except (SyntaxError, ValueError, OverflowError):
        return True
    last = source.split('\n')[-1]
    return '\n' not in source or not last[:1].isspace() or not last.strip()


def run(source):
    """Runs code in the module that all of it shares; the text of a last expression's value, or None."""
    global count
    count += 1
    name = '<console %d>' % count
    # Tracebacks and inspect find the text there.
    lines = source if core.PY3 else source.encode('utf-8')
    linecache.cache[name] = len(source), None, lines.splitlines(True), name
    tree = compile(native(source), name, 'exec', ast.PyCF_ONLY_AST, True)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, 'exec', 0, True), main.__dict__)
    if last:
        value = eval(compile(ast.Expression(last.value), name, 'eval', 0, True), main.__dict__)
        if value is not None:
            main.__dict__['_'] = value
            shown = repr(value)
            return shown if core.PY3 else shown.decode('utf-8', 'replace')


def complete(text):
    """The names that begin so: of the module, of builtins and keywords, or attributes of a dotted name."""
    import rlcompleter
    completer = rlcompleter.Completer(main.__dict__)
    found = []
    while len(found) < 500:
        name = completer.complete(text, len(found))
        if name is None:
            return found
        found.append(name)
    return found


def native(source):
    """Text, or what Python 2 takes for it: bytes with a mark that they are UTF-8."""
    return source if core.PY3 else '\xef\xbb\xbf' + source.encode('utf-8')
