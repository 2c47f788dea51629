"""The floor below which no tool can be: MODE N PYTHON [MORE]; prints one JSON object as the peers do.

Bare starts of Python, an echo through two pipes, `cat`, a process that sleeps.
"""
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

ECHO = 'import os\nwhile 1:\n    data = os.read(0, 65536)\n    if not data: break\n    os.write(1, data)'


def main():
    mode, n, python, more = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    if mode == 'connect':
        command = [python, '-c', 'pass']
        if more:
            command = ['ssh', '-F', '/dev/null', '-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null',
                       '-o', 'LogLevel=ERROR', '-p', more[1], '-i', more[2], more[0], python + ' -c pass']
        times = []
        for _ in range(n):
            start = time.perf_counter()
            subprocess.check_call(command, stdin=subprocess.DEVNULL)
            times.append((time.perf_counter() - start) * 1e3)
        result = {'ms': times}
    elif mode == 'call':
        child = subprocess.Popen([python, '-c', ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        there, back = child.stdin.fileno(), child.stdout.fileno()
        message = b'x' * 80
        os.write(there, message)
        os.read(back, 65536)
        start = time.perf_counter()
        for _ in range(n):
            os.write(there, message)
            os.read(back, 65536)
        result = {'us': (time.perf_counter() - start) * 1e6 / n}
        child.stdin.close()
    elif mode == 'payload':
        # Through cat and back: each byte is written and read twice.
        child = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        chunk = b'x' * (1 << 20)
        start = time.perf_counter()
        with ThreadPoolExecutor(1) as pool:
            def write():
                for _ in range(n):
                    child.stdin.write(chunk)
                child.stdin.close()
            pool.submit(write)
            while os.read(child.stdout.fileno(), 1 << 20):
                pass
        rate = n / (time.perf_counter() - start)
        result = {'up': rate, 'down': rate}
    elif mode == 'fanout':
        start = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda _: subprocess.check_call([python, '-c', 'pass']), range(n)))
        result = {'wall_s': time.perf_counter() - start}
    elif mode == 'memory':
        code = "print([l for l in open('/proc/self/status') if l.startswith('VmRSS')][0].split()[1])"
        result = {'kib': int(subprocess.check_output([python, '-c', code]))}
    print(json.dumps(result))


main()
