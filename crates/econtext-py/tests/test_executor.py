"""The executor: the standard library's own tests of executors, and ours."""
import asyncio
import concurrent.futures
import importlib.util
import os
import sys
import threading
import time
import unittest

import pytest
from conftest import missing, run_python

import econtext

try:
    if importlib.util.find_spec('test.test_concurrent_futures').submodule_search_locations:
        from test.test_concurrent_futures import executor as stdlib_executor
        from test.test_concurrent_futures import test_as_completed as stdlib_completed
        from test.test_concurrent_futures import test_wait as stdlib_wait
        ExecutorTest, WaitTests, AsCompletedTests = (
            stdlib_executor.ExecutorTest, stdlib_wait.WaitTests, stdlib_completed.AsCompletedTests)
    else:
        from test import test_concurrent_futures as stdlib
        ExecutorTest, WaitTests, AsCompletedTests = stdlib.ExecutorTest, stdlib.WaitTests, stdlib.AsCompletedTests
except (ImportError, AttributeError):
    ExecutorTest = WaitTests = AsCompletedTests = None


def on_hosts(tests, without=()):
    """A class of the standard library's tests, run with our executor."""
    class Tests(tests, unittest.TestCase):
        worker_count = 3

        def setUp(self):
            self.hosts = econtext.hosts('local:[1-3]', python=sys.executable)
            # Theirs return objects of classes of their own.
            self.executor = econtext.Executor(self.hosts, trust=True)

        def tearDown(self):
            self.executor.shutdown(wait=True)
            self.hosts.close()

    for name in without:
        setattr(Tests, name, None)
    Tests.__name__ = Tests.__qualname__ = 'TestOnHosts' + tests.__name__
    return Tests


if ExecutorTest:
    # Those that are left out are about what hosts do not have: a number of workers to choose, a lock shared with threads.
    TestExecutor = on_hosts(ExecutorTest, ('test_max_workers_negative', 'test_no_stale_references'))
    # Theirs rely on a barrier or an event of this process.
    TestWait = on_hosts(WaitTests, ('test_20369', 'test_first_completed', 'test_first_completed_some_already_completed',
                                    'test_first_exception', 'test_first_exception_some_already_complete',
                                    'test_first_exception_one_already_failed', 'test_all_completed', 'test_timeout'))
    TestCompleted = on_hosts(AsCompletedTests, ('test_future_times_out',))
    del ExecutorTest, WaitTests, AsCompletedTests
else:
    def test_the_standard_librarys_tests_are_there():
        missing("the standard library's test package")


@pytest.fixture
def executor():
    with econtext.hosts('local:[1-2]', python=sys.executable) as hosts:
        with econtext.Executor(hosts) as executor:
            yield executor


def test_waiting_is_as_of_any_executor(executor):
    first, slow = executor.submit(pow, 2, 3), executor.submit(time.sleep, 1)
    done, pending = concurrent.futures.wait([first, slow], return_when=concurrent.futures.FIRST_COMPLETED)
    assert done == {first} and pending == {slow}
    failing = executor.submit(open, '/no/such/file')
    done, _ = concurrent.futures.wait([failing, executor.submit(time.sleep, 1)], return_when=concurrent.futures.FIRST_EXCEPTION)
    assert failing in done and isinstance(failing.exception(), FileNotFoundError)
    assert len(concurrent.futures.wait([slow], timeout=30).done) == 1


def test_what_is_not_begun_can_be_cancelled(executor):
    running = [executor.submit(time.sleep, 0.5) for _ in range(2)]
    waiting = executor.submit(pow, 2, 3)
    assert running[0].running() and not waiting.running()
    assert waiting.cancel() and waiting.cancelled() and not running[0].cancel()
    later = [executor.submit(time.sleep, 0.1) for _ in range(4)]
    executor.shutdown(wait=True, cancel_futures=True)
    assert all(future.cancelled() for future in later) and all(future.done() for future in running)
    with pytest.raises(RuntimeError, match='after shutdown'):
        executor.submit(pow, 2, 3)


def test_work_goes_where_there_is_room(executor):
    def slow_pid(n):
        import os
        import time
        time.sleep(0.3 if n == 0 else 0.01)
        return os.getpid()

    pids = list(executor.map(slow_pid, range(20)))
    assert len(set(pids)) == 2 and pids.count(pids[0]) < 10


def test_a_lost_host_fails_what_ran_there_and_gets_no_more(executor):
    with pytest.raises(econtext.ClosedError):
        executor.submit(os._exit, 1).result(30)
    assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))
    with pytest.raises(econtext.ClosedError):
        executor.submit(os._exit, 1).result(30)
    with pytest.raises(econtext.ClosedError):
        executor.submit(abs, 1).result(30)


def test_what_cannot_be_sent_fails_by_itself(executor):
    assert isinstance(executor.submit(abs, threading.Lock()).exception(), econtext.UsageError)
    with pytest.raises(ValueError):
        econtext.Executor('local:', per_host=0)
    with pytest.raises(TypeError):
        econtext.Executor([], user='x')


def test_ctrl_c_stops_what_runs():
    import signal
    with econtext.hosts('local:[1-2]', python=sys.executable) as hosts:
        hosts.connect()
        for work in [lambda: hosts.map(time.sleep, [60] * 4), lambda: hosts['local:1'].submit(time.sleep, 60).result()]:
            threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT)).start()
            started = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                work()
            assert hosts.call(os.getpid).ok and time.monotonic() - started < 30


def test_a_fork_does_not_wait_for_it(executor):
    executor.submit(time.sleep, 3)
    fork = os.fork()
    if not fork:
        threading._shutdown()
        os._exit(0)
    started = time.monotonic()
    assert os.waitpid(fork, 0)[1] == 0 and time.monotonic() - started < 2.5


def test_callbacks_may_submit_and_may_not_wait(executor):
    again, seen = threading.Event(), []

    def then(future):
        executor.submit(abs, -7).add_done_callback(lambda future: (seen.append(future.result()), again.set()))

    executor.submit(abs, -1).add_done_callback(then)
    assert again.wait(30) and seen == [7]


def test_asyncio_runs_in_it(executor):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, pow, 2, n) for n in range(10)))

    assert asyncio.run(main()) == [2 ** n for n in range(10)]


def test_joblib_runs_on_it(executor):
    try:
        import joblib
    except ImportError:
        missing('joblib')
    from econtext.joblib import register
    register()
    factor = 3
    with joblib.parallel_config('econtext', executor=executor):
        found = joblib.Parallel(n_jobs=2)(joblib.delayed(lambda n: (n * factor, __import__('os').getpid()))(n) for n in range(40))
        assert [n for n, _ in found] == [3 * n for n in range(40)] and os.getpid() not in {pid for _, pid in found}
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel(n_jobs=-1)(joblib.delayed(divmod)(1, n) for n in range(3))


def test_the_interpreters_end_waits_for_what_was_submitted(tmp_path):
    code = '''
import econtext, sys
def say(path):
    import time
    time.sleep(0.5)
    open(path, 'w').write('done')
executor = econtext.Executor('local:', python=sys.executable)
for n in range(3):
    executor.submit(say, sys.argv[1] + str(n))
'''
    ran = run_python(['-c', code, str(tmp_path / 'done')])
    assert (ran.returncode, ran.stderr) == (0, '')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['done0', 'done1', 'done2']


def test_map_says_which_item_an_error_is_of(host):
    with econtext.Executor(host) as executor:
        assert list(executor.map(int, ['1', '2'], buffersize=1)) == [1, 2]
        with pytest.raises(econtext.UsageError, match='item 2 of map\\(\\): argument 1 '):
            list(executor.map(str, [1, 2, open('/dev/null'), 3]))
        with pytest.raises(ValueError) as caught:
            list(executor.map(int, ['1', 'x']))
        if sys.version_info >= (3, 11):
            assert caught.value.__notes__ == ['item 1 of map()']
        with pytest.raises(concurrent.futures.TimeoutError):
            list(executor.map(time.sleep, [2], timeout=0.1))
    assert list(econtext.Executor(host).map(pow, [2, 3], [5])) == [32]
