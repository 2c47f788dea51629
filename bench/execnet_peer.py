"""The same measures of execnet. It has no call on a live gateway: an echo loop in the child stands for it."""
import sys
import time

import execnet

ECHO = 'while 1: channel.send(channel.receive())'


def main():
    mode, n, python = sys.argv[1], int(sys.argv[2]), sys.argv[3]

    def connect():
        gateway = execnet.makegateway('popen//python=' + python)
        return gateway, gateway.remote_exec(ECHO)

    if mode == 'connect':
        for _ in range(n):
            start = time.perf_counter()
            gateway, channel = connect()
            channel.send(1)
            channel.receive()
            print((time.perf_counter() - start) * 1e3)
            gateway.exit()
        return
    gateway, channel = connect()
    channel.send(1)
    channel.receive()
    start = time.perf_counter()
    if mode == 'call':
        for _ in range(n):
            channel.send(1)
            channel.receive()
    else:
        for _ in range(n):
            channel.send(1)
        for _ in range(n):
            channel.receive()
    print((time.perf_counter() - start) * 1e6 / n)
    gateway.exit()


main()
