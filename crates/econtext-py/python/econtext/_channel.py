"""Messages in both directions, beside calls."""
from __future__ import annotations

from typing import Any, Iterator, Optional

from . import _econtext
from ._errors import Error


class _Dead:
    def __repr__(self) -> str:
        return '<Dead>'


_DEAD = _Dead()


class ChannelError(Error):
    """The channel is closed, or nothing came in time."""

    kind = 'closed'


class Channel:
    """A channel: ordered messages between this process and a function there, which gets the channel as an argument.

    >>> import econtext
    >>> def double(channel):
    ...     for number in channel:
    ...         channel.send(2 * number)
    >>> with econtext.local() as host:
    ...     channel = host.channel()
    ...     done = host.submit(double, channel)
    ...     channel.send(21)
    ...     channel.receive()
    42
    """

    def __init__(self, channel: _econtext.Channel, host: str) -> None:
        self._channel, self._host = channel, host

    def send(self, value: Any) -> None:
        """Sends a value: any that may be an argument of a call."""
        if value is _DEAD:
            return self.close()
        if not self._channel.send(value):
            from ._capture import request
            self._channel.send_made(request('econtext.values:same', (value,), {}, None, False, None))

    def receive(self, timeout: Optional[float] = None) -> Any:
        """The next value. Raises `ChannelError` if the other side has closed, or nothing came within `timeout` seconds."""
        try:
            found = self._channel.receive(timeout)
        except StopIteration:
            raise ChannelError('the other side has closed the channel', self._host) from None
        if found is None:
            raise ChannelError('nothing came within %s s' % timeout, self._host)
        return found[0]

    def close(self) -> None:
        """Tells the other side that no more will come."""
        self._channel.close()

    def __iter__(self) -> Iterator[Any]:
        while True:
            try:
                value = self.receive()
            except ChannelError:
                return
            yield value
