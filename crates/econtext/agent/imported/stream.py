"""Calls of generators: what they yield goes to the controller as it comes. Sent on first use."""
from __future__ import absolute_import

from econtext import core


def call(items, credit, spec):
    """A call as of the core; of a generator the items go to the channel, and what it returns is the result."""
    return drain(core.core.call(*spec), items, credit)


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
