"""The measures of bench/run, of execnet: MODE N PYTHON [MORE]; prints one JSON object.

It has no call on a live gateway: an echo loop in the child stands for it, which looks nothing up and dispatches nothing.
"""
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import execnet

from common import cpu, resident

ECHO = 'for item in channel: channel.send(item)'
PID = 'import os; channel.send(os.getpid())'


def main():
    mode, n, python, more = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]

    def connect():
        if more:
            return execnet.makegateway(
                'ssh=-F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR '
                '-p %s -i %s %s//python=%s' % (more[1], more[2], more[0], python))
        return execnet.makegateway('popen//python=' + python)

    def up():
        channel = connect().remote_exec(ECHO)
        channel.send(1)
        channel.receive()
        return channel

    if mode == 'connect':
        times = []
        for _ in range(n):
            start = time.perf_counter()
            gateway = connect()
            gateway.remote_exec(PID).receive()
            times.append((time.perf_counter() - start) * 1e3)
            gateway.exit()
        result = {'ms': times}
    elif mode == 'call':
        channel = up()
        start = time.perf_counter()
        for _ in range(n):
            channel.send(1)
            channel.receive()
        result = {'us': (time.perf_counter() - start) * 1e6 / n}
    elif mode == 'pipeline':
        channel = up()
        start, before = time.perf_counter(), cpu()
        for _ in range(n):
            channel.send(1)
        for _ in range(n):
            channel.receive()
        elapsed = time.perf_counter() - start
        result = {'per_second': n / elapsed, 'cpu_us': (cpu() - before) * 1e6 / n}
    elif mode == 'payload':
        gateway = connect()
        length = gateway.remote_exec('for item in channel: channel.send(len(item))')
        make = gateway.remote_exec("for item in channel: channel.send(b'x' * item)")
        length.send(b'')
        length.receive()
        data = b'x' * (n << 20)
        start = time.perf_counter()
        length.send(data)
        length.receive()
        middle = time.perf_counter()
        make.send(n << 20)
        make.receive()
        result = {'up': n / (middle - start), 'down': n / (time.perf_counter() - middle)}
    elif mode == 'fanout':
        kib, before, start = resident(), cpu(), time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            gateways = list(pool.map(lambda _: connect(), range(n)))
        channels = [gateway.remote_exec(ECHO) for gateway in gateways]
        for channel in channels:
            channel.send(1)
        for channel in channels:
            channel.receive()
        result = {'wall_s': time.perf_counter() - start, 'cpu_ms': (cpu() - before) * 1e3 / n,
                  'kib': (resident() - kib) / n}
        before, start = cpu(), time.perf_counter()
        for channel in channels:
            channel.send(1)
        for channel in channels:
            channel.receive()
        result.update(round_ms=(time.perf_counter() - start) * 1e3, round_cpu_us=(cpu() - before) * 1e6 / n)
    elif mode == 'memory':
        result = {'kib': resident(connect().remote_exec(PID).receive())}
    print(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)


main()
