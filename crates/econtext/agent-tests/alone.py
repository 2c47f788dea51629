"""The agent's core as a module of this process, without a controller; and the vectors that the Rust half reads too."""
import binascii
import json
import os
import sys
import types

HERE = os.path.dirname(os.path.abspath(__file__))
AGENT = os.path.join(HERE, os.pardir, 'agent')
VECTORS = os.path.join(HERE, os.pardir, os.pardir, os.pardir, 'testdata', 'vectors')


class Ended(Exception):
    """The agent would have ended its process: (status, why)."""


class Context(object):
    """A controller that has a dict of modules, and notes the questions."""

    name = 'alone'

    def __init__(self, modules=()):
        self.modules, self.asked, self.sent = dict(modules), [], []

    def ask(self, handle, name):
        """Answers a question for a module."""
        self.asked.append(name)
        return self.modules.get(name)

    def send(self, handle, value):
        """Notes a message."""
        self.sent.append((handle, value))


class Child(object):
    """The parts of ExternalContext that the functions under test use."""

    rich = None

    def __init__(self, core):
        self.pid, self.main_thread, self.at_end = os.getpid(), core.thread.get_ident(), []
        self.context = Context()
        self.importer = core.Importer(self.context)


def load():
    """A fresh copy of core.py."""
    path = os.path.join(AGENT, 'core.py')
    core = types.ModuleType('econtext.core')
    package = types.ModuleType('econtext')
    package.__path__, package.core = [], core
    sys.modules['econtext'], sys.modules['econtext.core'] = package, core
    with open(path, 'rb') as f:
        exec(compile(f.read(), path, 'exec', 0, True), core.__dict__)

    def end(status, why=None):
        raise Ended(status, why)

    core.end = end
    core.child = Child(core)
    return core


def vectors(name):
    """A file of vectors."""
    with open(os.path.join(VECTORS, name)) as f:
        return json.load(f)


def unhex(text):
    """Bytes from hexadecimal digits."""
    return binascii.unhexlify(text.encode('ascii'))


def value_of(core, spec):
    """The value that a vector describes."""
    if spec is None or isinstance(spec, bool):
        return spec
    (kind, content), = spec.items()
    items = [value_of(core, item) for item in content] if kind in ('list', 'tuple', 'set', 'frozenset') else ()
    if kind == 'int':
        return int(content)
    if kind == 'float':
        return float(content)
    if kind == 'complex':
        return complex(*map(float, content))
    if kind == 'text':
        return content
    if kind == 'bytes':
        return unhex(content)
    if kind == 'dict':
        return dict((value_of(core, key), value_of(core, value)) for key, value in content)
    if kind == 'dead':
        return core._DEAD
    return {'list': list, 'tuple': tuple, 'set': set, 'frozenset': frozenset}[kind](items)
