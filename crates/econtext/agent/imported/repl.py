"""An interactive interpreter whose lines come from the controller. It is sent on first use."""
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
    """Whether the source is one whole statement or several, or wrong; not whether more lines could follow.

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
    """Runs code in the module that all lines share, as Python's own prompt does: values of expressions are shown.

    Returns (the text of the last one's value or None, None), or (None, exit status) if the code ends the program.
    """
    global count
    count += 1
    name = '<console %d>' % count
    # Tracebacks and inspect find the text there.
    lines = source if core.PY3 else source.encode('utf-8')
    linecache.cache[name] = len(source), None, lines.splitlines(True), name
    tree = compile(native(source), name, 'exec', ast.PyCF_ONLY_AST, True)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    sys.displayhook = display
    try:
        for statement in tree.body:
            exec(compile(ast.Interactive([statement]), name, 'single', 0, True), main.__dict__)
        if last:
            return shown(eval(compile(ast.Expression(last.value), name, 'eval', 0, True), main.__dict__)), None
    except SystemExit:
        from econtext import runner
        return None, runner.exit_status(sys.exc_info()[1].code)
    return None, None


def shown(value):
    """The text of a value, which is `_` from now on; None for None."""
    if value is not None:
        main.__dict__['_'] = value
        text = repr(value)
        return text if core.PY3 else text.decode('utf-8', 'replace')


def display(value):
    """Writes the text of a value to stdout, as sys.displayhook; writes nothing for None."""
    text = shown(value)
    if text is not None:
        sys.stdout.write(text + '\n')


def complete(word, line):
    """The completions of `word` at the end of `line`: modules and names in an import; else names of the module, of
    builtins and keywords, or attributes of a dotted name."""
    words = line.rpartition(';')[2].split()
    if words and words[0] == 'import' and word != 'import':
        return modules(word)
    if words and words[0] == 'from' and word != 'from':
        if 'import' in words[2:] and word != 'import':
            return names_in(words[1], word)
        return modules(word) if len(words) < 3 else ['import']
    import rlcompleter
    completer = rlcompleter.Completer(main.__dict__)
    found = []
    while len(found) < LIMIT:
        name = completer.complete(word, len(found))
        if name is None:
            return found
        found.append(name)
    return found


LIMIT = 500  # the number of candidates


def modules(word):
    """The modules whose names begin with a word."""
    import pkgutil
    package, dot, _ = word.rpartition('.')
    if package:
        names = [found[1] for found in pkgutil.iter_modules(path_of(package))]
    else:
        names = [found[1] for found in pkgutil.iter_modules()] + list(sys.builtin_module_names)
    return beginning(word, [package + dot + name for name in names])


def names_in(module, word):
    """The names that can be imported from a module and begin with a word."""
    import pkgutil
    path = path_of(module)
    names = list(getattr(sys.modules.get(module), '__all__', None) or dir(sys.modules.get(module)))
    return beginning(word, names + [found[1] for found in pkgutil.iter_modules(path)])


def path_of(module):
    """The path of a module's own modules; the module is imported."""
    try:
        __import__(module)
    except Exception:
        return []
    return getattr(sys.modules[module], '__path__', [])


def beginning(word, names):
    """The names that begin with a word; private ones only if the word is private."""
    private = word.rpartition('.')[2].startswith('_')
    return sorted(set(name for name in names if name.startswith(word) and (
        private or not name.rpartition('.')[2].startswith('_'))))[:LIMIT]


def native(source):
    """Source as text, or, for Python 2, as bytes with a mark that they are UTF-8."""
    return source if core.PY3 else '\xef\xbb\xbf' + source.encode('utf-8')
