"""A package that behaves in a process that is not its own."""
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import facts
import pytest
from conftest import run_python

import econtext


def gone(pid, patience=20):
    """Whether a process ends."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        try:
            with open('/proc/%d/stat' % pid) as stat:
                if stat.read().rpartition(')')[2].split()[0] == 'Z':
                    return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_ctrl_c_ends_the_waiting_at_once_and_the_function_there(own, tmp_path):
    def slow(path):
        import time
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            open(path, 'w').close()
            raise

    own.call(os.getpid)
    for wait in [lambda: own.call(slow, str(tmp_path / 'call')), lambda: own.run(['sleep', '60']),
                 lambda: list(own.stream(slow, str(tmp_path / 'stream')))]:
        threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT)).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            wait()
        # The issue says under a second; on a busy machine the timer itself may be late.
        assert time.monotonic() - started < 10
        own.call(os.getpid)
    assert (tmp_path / 'call').exists() and (tmp_path / 'stream').exists()


def test_ctrl_c_ends_the_waiting_for_a_group():
    with econtext.hosts('local:[1-2]', python=sys.executable) as hosts:
        for _ in range(2):  # while they are connected, and afterwards
            threading.Timer(0.6, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                hosts.call(time.sleep, 60).wait()
        assert hosts.call(os.getpid).ok


def test_other_threads_run_while_one_waits(own):
    count = 0
    future = own.submit(time.sleep, 0.5)
    waiter = threading.Thread(target=own.call, args=(os.getpid,))
    waiter.start()
    while not future.done():
        count += 1
        time.sleep(0.001)
    waiter.join()
    assert count > 20


def test_a_thousand_calls_from_sixteen_threads(own):
    wrong = []

    def work(start):
        for n in range(start, 1000, 16):
            if own.call(pow, 3, n % 30) != 3 ** (n % 30):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def test_nothing_is_started_before_it_is_used():
    code = textwrap.dedent('''
        import os, threading
        before = len(os.listdir('/proc/self/task'))
        import econtext, econtext.aio
        group = None
        assert len(os.listdir('/proc/self/task')) == before and threading.active_count() == 1
        import sys
        print(sorted(m for m in ('asyncio', 'joblib', 'pytest') if m in sys.modules))
    ''')
    ran = run_python(code.replace(', econtext.aio', ''))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, '[]\n', '')


def test_the_interpreters_end_leaves_no_child():
    code = textwrap.dedent('''
        import econtext, os, sys, time, threading
        hosts = [econtext.local(str(n), python=sys.executable) for n in range(3)]
        group = econtext.hosts('local:[1-2]', python=sys.executable)
        print(*[host.call(os.getpid) for host in hosts], *group.call(os.getpid).values().values())
        hosts[0].submit(time.sleep, 60)
        threading.Thread(target=hosts[1].call, args=(time.sleep, 60), daemon=True).start()
        channel = hosts[2].channel()
        stream = hosts[2].stream(lambda: (n for n in range(100)))
        next(stream)
        time.sleep(0.1)
        %s
    ''')
    for end, status in [('', 0), ('sys.exit(3)', 3), ('raise ValueError', 1), ('os._exit(4)', 4), ('os.kill(os.getpid(), 9)', -9)]:
        ran = run_python(code % end)
        assert ran.returncode == status, ran
        assert 'ValueError' in ran.stderr if status == 1 else ran.stderr == '', ran
        pids = [int(pid) for pid in ran.stdout.split()]
        assert len(pids) == 5 and all(gone(pid) for pid in pids), end


def test_a_fork_has_no_part_in_the_children(own):
    pid = own.call(os.getpid)
    stream = own.stream(lambda: (n for n in range(100)))
    next(stream)
    group = econtext.hosts('local:1', python=sys.executable)
    group.connect()
    fork = os.fork()
    if not fork:
        status = 1
        try:
            for attempt in [lambda: own.call(os.getpid), lambda: group.call(os.getpid), lambda: next(stream)]:
                try:
                    attempt()
                    os._exit(2)
                except econtext.UsageError as error:
                    assert 'fork' in str(error)
            del stream, group
            with econtext.local(python=sys.executable) as other:
                assert other.call(os.getpid) != pid
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(fork, 0)[1] == 0
    assert next(stream) == 1
    stream.close()
    assert own.call(os.getpid) == pid and group.call(os.getpid).ok
    group.close()


def test_children_go_with_the_original_although_a_fork_lives_on():
    code = textwrap.dedent('''
        import econtext, os, sys, time
        host = econtext.local(python=sys.executable)
        print(host.call(os.getpid), flush=True)
        if not os.fork():
            os.close(1)
            os.close(2)
            time.sleep(20)
            os._exit(0)
        os.kill(os.getpid(), 9)
    ''')
    ran = run_python(code)
    assert gone(int(ran.stdout))


def test_multiprocessing_works_beside_it(own):
    own.call(os.getpid)
    ran = run_python(textwrap.dedent('''
        import econtext, multiprocessing, os, sys
        host = econtext.local(python=sys.executable)
        host.call(os.getpid)
        with multiprocessing.get_context('fork').Pool(2) as pool:
            print(pool.map(abs, [-1, -2]))
    '''))
    assert (ran.stdout, ran.stderr) == ('[1, 2]\n', '')


def test_records_of_the_remote_are_logged(caplog, own):
    with caplog.at_level(logging.INFO):
        own.call(facts.log)
    first, second = [record for record in caplog.records if record.name == 'facts.log']
    assert (first.levelno, first.getMessage(), first.host) == (logging.WARNING, 'careful 1', 'own')
    assert abs(first.created - time.time()) < 60
    assert second.exc_info[0] is not None and 'ZeroDivisionError' in second.exc_text and '1 / 0' in second.exc_text
    assert 'ZeroDivisionError' in logging.Formatter().format(second)


def test_the_level_is_that_of_the_controller():
    code = textwrap.dedent('''
        import econtext, logging, sys
        logging.basicConfig(level=%s, format='%%(name)s|%%(message)s', stream=sys.stdout)
        def log():
            import logging
            logging.getLogger('a').info('info')
            logging.getLogger('a').error('error')
        with econtext.local(python=sys.executable) as host:
            host.call(log)
    ''')
    assert run_python(code % 'logging.INFO').stdout == 'a|info\na|error\n'
    assert run_python(code % 'logging.ERROR').stdout == 'a|error\n'


def test_output_appears_where_python_prints(capsys):
    with econtext.local(python=sys.executable) as host:
        host.call(print, 'hélo')
        host.call('os:system', 'echo from a program >&2')
    assert capsys.readouterr() == ('hélo\n', 'from a program\n')


def test_a_script_calls_its_own_functions(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(textwrap.dedent('''
        """A script without a guard: it must not run again in the child."""
        import dataclasses
        import os
        import sys
        import econtext
        import helper

        LIMIT = 3
        print('running')

        @econtext.register
        @dataclasses.dataclass
        class Fact:
            name: str
            value: int

        def facts(names):
            return [Fact(name, helper.size(name) + LIMIT) for name in names]

        with econtext.local(python=sys.executable) as host:
            print(host.call(facts, ['a', 'bb']))
            print(host.call('__main__:facts', ['c']))
            print(host.call(lambda fact: fact.value, Fact('x', 5)))
    '''))
    (tmp_path / 'helper.py').write_text('def size(name):\n    return len(name)\n')
    ran = run_python([str(script)])
    assert ran.stderr == ''
    assert ran.stdout == "running\n[Fact(name='a', value=4), Fact(name='bb', value=5)]\n[Fact(name='c', value=4)]\n5\n"


def test_modules_of_other_finders_are_served(own):
    import importlib.abc
    import importlib.machinery
    import importlib.util

    class Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
        sources = {'made_up': 'from made_up import inner\ndef f():\n    return inner.VALUE\n', 'made_up.inner': 'VALUE = 42\n'}

        def find_spec(self, name, path, target=None):
            if name in self.sources:
                return importlib.machinery.ModuleSpec(name, self, is_package=name == 'made_up')

        def get_source(self, name):
            return self.sources[name]

        def is_package(self, name):
            return name == 'made_up'

    finder = Finder()
    sys.meta_path.append(finder)
    try:
        assert own.call('made_up:f') == 42
        with pytest.raises(ModuleNotFoundError):
            own.call('made_up.other:f')
        assert 'made_up.inner' not in sys.modules  # nothing is imported here for it
    finally:
        sys.meta_path.remove(finder)


def test_the_standard_library_is_not_served():
    code = 'import econtext, sys\nfrom econtext import _runtime\nprint([_runtime._other(n) for n in ("json", "decimal", "econtext", "no_such")])'
    assert run_python(code).stdout == '[None, None, None, None]\n'


def test_the_names_of_2016_import():
    from econtext.core import _DEAD, CALL_FUNCTION, FORWARD_LOG, GET_MODULE, CallError, Channel, ExternalContext, Importer
    from econtext.core import IoLogger, LogHandler, Stream
    from econtext.master import Broker, LocalStream, minimize_source
    assert (FORWARD_LOG, GET_MODULE, CALL_FUNCTION) == (100, 101, 102) and repr(_DEAD) == '<Dead>'
    assert CallError is econtext.RemoteError and all((Channel, ExternalContext, Importer, IoLogger, LogHandler, Stream))
    assert 'fork' in LocalStream._first_stage() and minimize_source('"""x"""\ny = 1\n')
    broker = Broker()
    context = broker.get_local('worker', python=sys.executable)

    def with_context(context, n):
        return context.name, n

    assert context.call_with_deadline(10, True, with_context, 3) == ('worker', 3)
    with pytest.raises(econtext.TimeoutError):
        context.call_with_deadline(0.2, False, time.sleep, 60)
    broker.shutdown()
    broker.wait()
    assert context.closed


def test_every_public_name_may_be_imported_there(own):
    def lacking(names):
        import econtext
        return [name for name in names if not hasattr(econtext, name)]

    assert own.call(lacking, list(econtext.__all__)) == []
    assert own.call(lambda: repr(__import__('econtext').Host | None)) != ''


def test_passwords_show_nowhere(tmp_path):
    program = tmp_path / 'ssh'
    program.write_text('#!/bin/sh\necho "$*" >&2; env >&2; exit 255\n')
    program.chmod(0o755)
    with pytest.raises(econtext.ConnectError) as caught:
        econtext.ssh('web01', password='s3cret!', program=str(program)).call(os.getpid)
    text = '%r %s %s' % (caught.value, caught.value, caught.value.stderr)
    assert 's3cret!' not in text and 'web01' in text
    assert subprocess.run(['grep', '-c', 's3cret!', '/proc/self/environ'], stdout=subprocess.PIPE, text=True).stdout == '0\n'


@pytest.mark.parametrize('how', ['ignored', 'reaped'])
def test_a_program_may_ignore_sigchld_or_reap_all_children_by_itself(how):
    code = '''
import os, signal, sys
def reap(number, frame):
    while True:
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                return
        except ChildProcessError:
            return
handler = signal.SIG_IGN if sys.argv[1] == 'ignored' else reap
signal.signal(signal.SIGCHLD, handler)
import econtext
host, other = econtext.local(), econtext.local()
print(host.call(os.path.basename, '/a/b'), host.run(['sh', '-c', 'exit 7']).returncode, other.call(pow, 2, 3))
other.close()
assert signal.getsignal(signal.SIGCHLD) == handler
'''
    ran = run_python(['-c', code, how])
    assert (ran.stdout, ran.stderr, ran.returncode) == ('b 7 8\n', '', 0)
