"""The measures of bench/run, of Mitogen: MODE N PYTHON [MORE]; prints one JSON object."""
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import mitogen.core
import mitogen.parent
import mitogen.utils

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench_target as target
from common import cpu, resident


def main(router):
    mode, n, python, more = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]

    def local():
        return router.local(python_path=[python])

    def up():
        child = local()
        child.call(os.getpid)
        return child

    if mode == 'sizes':
        options = mitogen.parent.Options(max_message_size=0)
        connection = mitogen.parent.Connection(options, router)
        connection.context = mitogen.core.Context(router, 0, 'bench')
        result = {'command_line': len(' '.join(['python3'] + connection.get_boot_command()[1:])),
                  'payload': len(connection.get_preamble())}
    elif mode == 'connect':
        times = []
        for _ in range(n):
            start = time.perf_counter()
            if more:
                child = router.ssh(hostname=more[0], port=int(more[1]), identity_file=more[2], python_path=[python],
                                   check_host_keys='ignore', ssh_args=['-F', '/dev/null'])
            else:
                child = local()
            child.call(os.getpid)
            times.append((time.perf_counter() - start) * 1e3)
            child.shutdown(wait=True)
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
        for receiver in [child.call_async(os.getpid) for _ in range(n)]:
            receiver.get().unpickle()
        elapsed = time.perf_counter() - start
        result = {'per_second': n / elapsed, 'cpu_us': (cpu() - before) * 1e6 / n}
    elif mode == 'payload':
        child = up()
        child.call(target.length, b'')
        data = mitogen.core.Blob(b'x' * (n << 20))
        start = time.perf_counter()
        child.call(target.length, data)
        middle = time.perf_counter()
        child.call(target.make, n << 20)
        result = {'up': n / (middle - start), 'down': n / (time.perf_counter() - middle)}
    elif mode == 'fanout':
        kib, before, start = resident(), cpu(), time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            children = list(pool.map(lambda _: local(), range(n)))
        for receiver in [child.call_async(os.getpid) for child in children]:
            receiver.get().unpickle()
        result = {'wall_s': time.perf_counter() - start, 'cpu_ms': (cpu() - before) * 1e3 / n,
                  'kib': (resident() - kib) / n}
        before, start = cpu(), time.perf_counter()
        for receiver in [child.call_async(os.getpid) for child in children]:
            receiver.get().unpickle()
        result.update(round_ms=(time.perf_counter() - start) * 1e3, round_cpu_us=(cpu() - before) * 1e6 / n)
    elif mode == 'memory':
        result = {'kib': resident(local().call(os.getpid))}
    elif mode == 'import':
        module, site = more
        sys.path.append(site)
        times = []
        for _ in range(n):
            start = time.perf_counter()
            local().call(exec, 'import ' + module)
            times.append((time.perf_counter() - start) * 1e3)
        result = {'ms': times}
    print(json.dumps(result))
    sys.stdout.flush()
    if mode in ('fanout', 'payload'):
        os._exit(0)  # an orderly end of a thousand takes as long again


mitogen.utils.run_with_router(main)
