"""The same measures of Mitogen: connect N | call N | pipeline N, and the child's Python; import N PYTHON MODULE SITE."""
import os
import sys
import time

import mitogen.utils


def main(router):
    mode, n, python = sys.argv[1], int(sys.argv[2]), sys.argv[3]

    def connect():
        return router.local(python_path=[python])

    if mode == 'connect':
        for _ in range(n):
            start = time.perf_counter()
            child = connect()
            child.call(os.getpid)
            print((time.perf_counter() - start) * 1e3)
            child.shutdown(wait=True)
        return
    if mode == 'import':
        module, site = sys.argv[4:]
        sys.path.append(site)
        for _ in range(n):
            start = time.perf_counter()
            connect().call(exec, 'import ' + module)
            print((time.perf_counter() - start) * 1e3)
        return
    child = connect()
    child.call(os.getpid)
    start = time.perf_counter()
    if mode == 'call':
        for _ in range(n):
            child.call(os.getpid)
    else:
        for receiver in [child.call_async(os.getpid) for _ in range(n)]:
            receiver.get().unpickle()
    print((time.perf_counter() - start) * 1e6 / n)


mitogen.utils.run_with_router(main)
