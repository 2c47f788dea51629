"""Frames of megabytes, which are read to their final place and digested while they come. It is loaded before the first."""
# It runs with the core's names: see on_load.


def receive(self, plain=Stream.receive):
    """Receives as the core's function does, which it calls for short frames."""
    if self.need - self.have < 1 << 20 and not self.bulk:
        return plain(self)
    if not self.bulk:
        view = memoryview(bytearray(self.need))
        view[:self.have] = b''.join(self.parts)
        self.parts = [b'']
        inner = self.receive_mac.inner.copy()
        inner.update(struct.pack('>Q', self.received))
        inner.update(view[20:self.have])
        self.bulk = view, inner
    view, inner = self.bulk
    try:
        size = self.file.readinto(view[self.have:self.have + (1 << 20)])
    except EnvironmentError as e:
        if e.errno == errno.EINTR:
            return
        size = 0
    if size is None:
        return select.select([self.rfd], [], [])
    if not size:
        end(9)
    inner.update(view[self.have:self.have + size])
    self.have += size
    if self.have == self.need:
        outer = self.receive_mac.outer.copy()
        outer.update(inner.digest())
        if not same(outer.digest(), view[:20].tobytes()):
            end(9, 'bad MAC on frame %d' % self.received)
        self.received += 1
        self.bulk, self.have, self.need = None, 0, 24
        self.deliver(view[24:] if PY3 else view[24:].tobytes())


def set_up(stream):
    """Selects the fast SHA-1, and adds the attributes that receive() needs to the stream."""
    stream.hurry()
    stream.bulk, stream.file = None, io.FileIO(stream.rfd, 'rb', False)


set_up(child.stream)
Stream.receive = receive
