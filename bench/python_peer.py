"""The measures of bench/run, of econtext's Python package: MODE N PYTHON [MORE]; prints one JSON object."""
import json
import os
import sys
import time

import econtext

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench_target as target
from common import cpu, resident


def main():
    mode, n, python, more = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]

    def connect():
        if more:
            return econtext.ssh(more[0], port=int(more[1]), identity=more[2], config='/dev/null', python=python,
                                options=['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR'])
        return econtext.local(python=python)

    def up():
        child = connect()
        child.call(os.getpid)
        return child

    if mode == 'connect':
        times = []
        for _ in range(n):
            start = time.perf_counter()
            child = up()
            times.append((time.perf_counter() - start) * 1e3)
            child.close()
        result = {'ms': times}
    elif mode == 'call':
        child = up()
        start = time.perf_counter()
        for _ in range(n):
            child.call(os.getpid)
        result = {'us': (time.perf_counter() - start) * 1e6 / n}
    elif mode == 'pipeline':
        child = up()
        start, before = time.perf_counter(), cpu()
        for future in [child.submit(os.getpid) for _ in range(n)]:
            future.result()
        elapsed = time.perf_counter() - start
        result = {'per_second': n / elapsed, 'cpu_us': (cpu() - before) * 1e6 / n}
    elif mode == 'payload':
        child = up()
        child.call(target.length, b'')
        data = b'x' * (n << 20)
        start = time.perf_counter()
        child.call(target.length, data)
        middle = time.perf_counter()
        child.call(target.make, n << 20)
        result = {'up': n / (middle - start), 'down': n / (time.perf_counter() - middle)}
    elif mode == 'fanout':
        group = econtext.hosts('local:[1-%d]' % n, python=python, limit=16)
        kib, before, start = resident(), cpu(), time.perf_counter()
        group.call(os.getpid).raise_failures()
        result = {'wall_s': time.perf_counter() - start, 'cpu_ms': (cpu() - before) * 1e3 / n, 'kib': (resident() - kib) / n}
        before, start = cpu(), time.perf_counter()
        group.call(os.getpid).raise_failures()
        result.update(round_ms=(time.perf_counter() - start) * 1e3, round_cpu_us=(cpu() - before) * 1e6 / n)
    else:
        return  # what is the same as of the Rust library
    print(json.dumps(result))
    sys.stdout.flush()
    if mode in ('fanout', 'payload'):
        os._exit(0)  # as the others


main()
