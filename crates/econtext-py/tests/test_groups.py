"""Many hosts at a time."""
import os
import sys
import time

import pytest

import econtext


def group(count=4, **options):
    return econtext.hosts('local:[1-%d]' % count, python=sys.executable, **options)


def test_results_come_as_they_are_ready():
    def wait(path):
        import time
        if core_name().endswith('1'):
            time.sleep(0.5)
        return 1

    def core_name():
        from econtext import core
        return core.child.context.name

    with group(3) as hosts:
        hosts.connect()
        order = [result.host for result in hosts.call(wait, '/')]
        assert order[-1] == 'local:1' and sorted(order) == hosts.names


def test_results_say_what_came_of_each():
    def odd(path):
        from econtext import core
        number = int(core.child.context.name[-1])
        if number % 2:
            raise ValueError(number)
        return number

    with group() as hosts:
        results = hosts.call(odd, '/')
        assert not results.ok
        assert results.values() == {'local:2': 2, 'local:4': 4}
        assert list(results.errors()) == ['local:1', 'local:3']
        assert results['local:2'] == 2 and len(results) == 4
        with pytest.raises(ValueError):
            results['local:1']
        with pytest.raises(econtext.FailedHosts) as caught:
            results.raise_failures()
        assert [error.args for error in caught.value.exceptions] == [(1,), (3,)]
        assert 'local:[1,3]' in str(caught.value)
        if sys.version_info >= (3, 11):
            assert isinstance(caught.value, ExceptionGroup)  # noqa: F821
            assert caught.value.split(ValueError)[1] is None
        first = [result for result in results if result.host == 'local:1'][0]
        assert not first.ok and isinstance(first.error, ValueError) and 'error=' in repr(first)
        with pytest.raises(ValueError):
            first.get()
        assert hosts.call(os.getpid).raise_failures().ok
        html = results._repr_html_()
        assert html.count('<tr>') == 5 and 'ValueError' in html


def test_sets_are_those_of_the_command():
    a, b = econtext.hosts('web[01-05]!web03,db1'), econtext.hosts('web[04-06]')
    assert a.names == ['web01', 'web02', 'web04', 'web05', 'db1']
    assert (a & b).names == ['web04', 'web05']
    assert (a - b).names == ['web01', 'web02', 'db1']
    assert (a | b).names == a.names + ['web06']
    assert set((a ^ b).names) == {'web01', 'web02', 'db1', 'web06'}
    assert 'web01' in a and 'web03' not in a and len(a) == 5
    assert a.only('web[01-02]').names == ['web01', 'web02'] and a == a.only(a.names)
    assert repr(b) == '<econtext.Group web[04-06] (3)>'
    assert (a - 'web[01-02]').names == ['web04', 'web05', 'db1'] and (a & 'db1').names == ['db1']
    assert econtext.hosts(['web1', 'web2'], 'db1').names == ['web1', 'web2', 'db1']
    with pytest.raises(TypeError):
        a | 'web1'
    with pytest.raises(TypeError):
        a - 3
    with pytest.raises(econtext.UsageError):
        econtext.hosts('web[3-1]')
    with pytest.raises(econtext.UsageError, match='setting|become'):
        econtext.hosts('web1', become='root', become_method='magic')


def test_inventories_are_read(tmp_path):
    (tmp_path / 'hosts').write_text('[web]\nlocal:a color=blue\nlocal:b\n[all:vars]\nansible_python_interpreter=%s\n' % sys.executable)
    with econtext.hosts('@web', inventory=tmp_path / 'hosts') as web:
        assert web.names == ['local:a', 'local:b']
        assert web.variables('local:a')['color'] == 'blue'
        versions = web.call('platform:python_version').raise_failures().values()
        assert set(versions.values()) == {'%d.%d.%d' % sys.version_info[:3]}


def test_hosts_are_chosen_by_what_they_say():
    def is_second():
        from econtext import core
        return core.child.context.name == 'local:2'

    with group() as hosts:
        assert hosts.where(is_second).names == ['local:2']
        with pytest.raises(econtext.FailedHosts):
            hosts.where('os:no_such_function')


def test_work_is_spread():
    with group(3) as hosts:
        pids = hosts.map(lambda n: (__import__('time').sleep(0.02), __import__('os').getpid())[1], range(30))
        assert len(set(pids)) == 3


def test_no_more_than_the_limit_work_at_a_time(tmp_path):
    def count(path):
        import os
        import time
        name = '%s/%d' % (path, os.getpid())
        open(name, 'w').close()
        time.sleep(0.05)
        n = len(os.listdir(path))
        os.unlink(name)
        return n

    with group(6, limit=2) as hosts:
        for _ in range(2):  # while they are connected, and afterwards
            assert max(hosts.call(count, str(tmp_path)).raise_failures().values().values()) <= 2


def test_rollouts_end_when_too_many_have_failed():
    with group(6, limit=1) as hosts:
        results = hosts.rollout('os:no_such_function', batch=2, fail_on='any')
        errors = results.errors()
        assert len(errors) == 6
        assert sum(isinstance(error, AttributeError) for error in errors.values()) == 1
        assert sum(isinstance(error, econtext.CancelledError) for error in errors.values()) == 5
        assert hosts.rollout(os.getpid, batch='50%', pause=0.01).ok
        with pytest.raises(econtext.UsageError):
            hosts.rollout(os.getpid, batch='x')


def test_commands_and_files_go_to_all(tmp_path):
    with group(2) as hosts:
        assert {o.stdout for o in hosts.run(['echo', 'x']).values().values()} == {'x\n'}
        assert len(hosts.run(['false'], check=True).errors()) == 2
        late = hosts.run(['sleep', '60'], timeout=0.3).errors()
        assert all(isinstance(error, econtext.TimeoutError) for error in late.values()) and len(late) == 2
        (tmp_path / 'file').write_text('content')
        assert all(t.files == 1 for t in hosts.only(['local:1']).put(tmp_path / 'file', tmp_path / 'copy').values().values())
        hosts.get(tmp_path / 'copy', tmp_path / 'back').raise_failures()
        assert (tmp_path / 'back' / 'local:2' / 'copy').read_text() == 'content'


def test_one_host_of_a_group_is_a_host_and_a_lost_one_is_connected_anew():
    with group(2) as hosts:
        one = hosts['local:1']
        pid = one.call(os.getpid)
        assert hosts.call(os.getpid)['local:1'] == pid
        hosts.only(['local:1']).call(os._exit, 1).wait()
        deadline = time.monotonic() + 20
        while not one.closed and time.monotonic() < deadline:
            time.sleep(0.01)
        assert hosts.call(os.getpid)['local:1'] != pid
        assert [host.name for host in hosts] == hosts.names
        with pytest.raises(KeyError):
            hosts['local:9']


def test_what_does_not_come_up_is_a_result():
    with econtext.hosts('local:1,chroot:/no/such/root') as hosts:
        errors = hosts.call(os.getpid).errors()
        assert list(errors) == ['chroot:/no/such/root']
        assert isinstance(errors['chroot:/no/such/root'], econtext.ConnectError)


def test_a_user_is_become():
    if os.geteuid():
        pytest.skip('root is needed')
    import shutil
    if not shutil.which('sudo'):
        from conftest import missing
        missing('sudo')
    with econtext.hosts('local:1', become='nobody') as hosts:  # who may not see this Python
        assert hosts.call('os:getuid').values() == {'local:1': __import__('pwd').getpwnam('nobody').pw_uid}
    with econtext.local(python=sys.executable) as host:
        with econtext.sudo(via=host, user='nobody') as other:
            assert other.name.endswith(' on local') and other.call(os.getuid) != 0


def test_many_threads_connect_a_host_once():
    import threading
    with group(1) as hosts:
        pids = []
        threads = [threading.Thread(target=lambda: pids.append(hosts.call(os.getpid)['local:1'])) for _ in range(6)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(pids) == 6 and len(set(pids)) == 1


def test_output_has_the_name_of_its_host(capfd):
    def say():
        import os
        import sys
        print('out')
        sys.stderr.write('no end of line')
        os.write(1, b'raw\n')

    with group(2) as hosts:
        hosts.call(say).raise_failures()
    out, err = capfd.readouterr()
    for name in '12':
        assert 'local:%s: out\n' % name in out and 'local:%s: raw\n' % name in out
        assert 'local:%s: no end of line' % name in err
    seen = []
    with econtext.hosts('local:1', output=lambda *event: seen.append(event)) as hosts:
        hosts.call('builtins:print', 'x').wait()
    assert seen == [('local:1', 1, b'x\n')]
