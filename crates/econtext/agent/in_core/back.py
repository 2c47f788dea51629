"""Connecting back: the stream moves from the ssh that it began on to the child's own TLS connection. It is loaded if wanted."""
# The file runs with the core's names: see on_load.
import socket
import ssl

BACK = 113


class Back(object):
    """The move. The controller offers (addresses, port, certificate, token); then sends None as the last on the old stream.

    This side sends None as its own last. If no address can be reached, the reason is sent, and nothing changes.
    """

    end = None  # our end of a pair of sockets; the other is pumped through TLS

    def on_message(self, value):
        """Starts the attempt in a thread of its own; on None, moves the stream."""
        if value is None:
            self.switch()
        else:
            thread.start_new_thread(self.attempt, value)

    def attempt(self, addresses, port, certificate, token):
        """Connects to the first address that can be reached, sends the token, and pumps until the end."""
        # A login over ssh came from that address.
        origin = os.environ.get('SSH_CONNECTION', os.environ.get('SSH_CLIENT', '')).split()[:1]
        context = ssl.SSLContext(getattr(ssl, 'PROTOCOL_TLS_CLIENT', ssl.PROTOCOL_SSLv23))
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=certificate if PY3 else certificate.decode())
        reason = 'no address is known'
        for address in addresses or origin:
            try:
                plain = socket.create_connection((address, port), 5)
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, seconds in ('TCP_KEEPIDLE', 30), ('TCP_KEEPINTVL', 10), ('TCP_KEEPCNT', 3):
                    if hasattr(socket, option):
                        plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                secure = context.wrap_socket(plain)
                self.end, other = socket.socketpair()
                secure.sendall(token)
            except (EnvironmentError, ValueError):
                reason = '%s port %d: %s' % (address, port, sys.exc_info()[1])
                continue
            return pump(secure, other)
        child.stream.send(BACK, text(reason))

    def switch(self):
        """Sends the last message on the old stream, then replaces its descriptors by the new connection."""
        stream, fd = child.stream, no_inherit(os.dup(self.end.fileno()))
        self.end.close()
        data = dumps((BACK, None))
        with stream.writing:
            head = struct.pack('>QL', stream.sent, len(data))
            stream.sent += 1
            write_all(stream.wfd, stream.send_mac.digest(head, data) + head[8:] + data)
            old = stream.rfd, stream.wfd
            child.broker.stop_receive(stream.rfd)
            stream.rfd = stream.wfd = fd
        leads = child.broker.leads and thread.get_ident() == child.main_thread
        child.broker.start_receive(fd, child.on_stream, 0 if leads else READ)
        if hasattr(stream, 'file'):
            stream.file = io.FileIO(fd, 'rb', False)
        # The old ssh, with its stderr, may go.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, child.stderr)
        no_inherit(child.stderr)
        for unused in old + (null,):
            os.close(unused)


def pump(secure, other):
    """Moves bytes between TLS and the stream until either ends; then the stream's reader sees the end."""
    secure.setblocking(0)
    other.setblocking(0)
    there, back = b'', b''
    try:
        while 1:
            ready = select.select([] if there else [other], [], [], 0)[0] if secure.pending() else select.select(
                ([] if there else [other]) + ([] if back else [secure]), ([secure] if there else []) + ([other] if back else []), [])[0]
            try:
                if not back:
                    back = secure.recv(1 << 18)
                    if not back:
                        return
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            try:
                if back:
                    back = back[other.send(back):]
            except EnvironmentError as e:
                if e.errno != errno.EAGAIN:
                    raise
            if other in ready:
                there = other.recv(1 << 16)
                if not there:
                    return
            try:
                if there:
                    there = there[secure.send(there):]
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
    except EnvironmentError:
        pass
    finally:
        other.close()
        secure.close()


child.stream.handlers[BACK] = Back().on_message
