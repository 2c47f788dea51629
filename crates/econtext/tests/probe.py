"""The functions that tests call in children."""
from __future__ import print_function

import os
import sys
import time

events = []


def same(x):
    return x


def parse_int(text):
    return int(text)


def format(x):
    return '%s' % (x,)


def shifted(n):
    return 1 << n


def hex_of(n):
    return hex(n)


def text(n):
    return u'x' * n


def count(n, counter=[-1]):
    counter[0] += 1
    return n, counter[0]


def keywords(a, b=None, c=()):
    return a, b, c


def report(context, handle):
    from econtext.core import _DEAD
    context.send(handle, 1)
    context.send(handle, u'two')
    context.send(handle, _DEAD)


def squares(channel):
    n = 0
    for x in channel:
        channel.send(x * x)
        n += 1
    return n


def sleep(seconds):
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        events.append('interrupted')
        raise


def spin():
    while True:
        pass


def note(event):
    events.append(event)


def seen():
    return events


def stubborn(mark):
    import subprocess
    subprocess.Popen(['sleep', mark])
    while True:
        try:
            time.sleep(1)
        except KeyboardInterrupt:
            pass


class Custom(Exception):
    pass


class Unprintable(Exception):
    def __str__(self):
        raise TypeError('no text')

    __repr__ = __unicode__ = __str__


def recurse():
    return recurse()


def throw(kind):
    if kind == 'RecursionError':
        recurse()
    error = globals().get(kind) or getattr(sys.modules.get('builtins') or sys.modules['__builtin__'], kind)
    raise error(u'text \xe9', 3)


def long_error(n):
    raise ValueError('x' * n)


def unsendable(what):
    import socket
    import threading
    cycle = []
    cycle.append(cycle)
    thing = {
        'generator': lambda: (n for n in ()),
        'lock': threading.Lock,
        'socket': socket.socket,
        'instance': Custom,
        'function': lambda: unsendable,
        'cycle': lambda: cycle,
    }[what]()
    return {'a': [1, thing]}


def nested(n):
    value = []
    for _ in range(n):
        value = [value]
    return value


def subclasses():
    import collections

    class Number(int):
        pass

    class Text(type(u'')):
        pass

    return Number(7), collections.namedtuple('Pair', 'a b')(1, 2), collections.OrderedDict(k=1), Text(u'text')


def evil(module, name, argument):
    """A result as a child might send it that somebody has taken over."""
    import pickle
    from econtext import core
    good = core.dumps

    class Evil(object):
        def __reduce__(self):
            return thing, (argument,)

    __import__(module) if module != 'builtins' or core.PY3 else None
    thing = type('Thing', (), {})

    def bad(value):
        core.dumps = good
        handle, _ = value
        argument_pickle = pickle.dumps(argument, 2)[2:-1]
        body = ('c%s\n%s\n' % (module, name)).encode() + b'(' + argument_pickle + b'tR'
        return b'\x80\x02' + pickle.dumps(handle, 2)[2:-1] + body + b'\x86.'

    core.dumps = bad


def speak():
    import logging
    import subprocess
    print('a')
    os.write(1, b'b\n')
    subprocess.check_call(['echo', 'c'])
    print('d')
    logging.getLogger('probe').warning('e %d', 1)
    sys.stdout.write('f')


def forks():
    import multiprocessing
    context = multiprocessing.get_context('fork') if hasattr(multiprocessing, 'get_context') else multiprocessing
    pool = context.Pool(2)
    try:
        return pool.map(square, range(3))
    finally:
        pool.terminate()
        pool.join()


def square(n):
    return n * n


def leave_late():
    import atexit
    atexit.register(print, 'at exit')
    time.sleep(.1)


def die():
    os._exit(7)
