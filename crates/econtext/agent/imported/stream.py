"""Calls of generators, whose items go to the controller as they come. It is sent on first use."""
from __future__ import absolute_import

from econtext import core


def call(items, credit, spec):
    """Makes a call as the core does; a generator's items go to the channel, and its return value is the result."""
    return drain(core.child.call(*spec), items, credit)


def drain(value, items, credit):
    """Sends what a generator yields, `credit` items ahead of what the other side asks for. Anything else is returned.

    When the other side closes the channel the generator is closed.
    """
    if not hasattr(type(value), 'gi_frame'):
        return value
    try:
        while 1:
            while not credit or items.queue.items:
                credit += items.receive()
            try:
                item = next(value)
            except StopIteration as end:
                return getattr(end, 'value', None)
            items.send(item)
            credit -= 1
    except core.ChannelError:
        return None
    finally:
        value.close()
