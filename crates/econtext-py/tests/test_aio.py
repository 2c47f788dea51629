"""The same from asyncio."""
import asyncio
import os
import sys
import time

import facts
import pytest

import econtext
from econtext import aio


def local(name='local'):
    return aio.local(name, python=sys.executable)


def test_what_waits_is_awaited(tmp_path):
    async def main():
        async with local() as host:
            assert await host.connect() is host and 'Python' in repr(host)
            assert await host.connect() is host
            assert await host.call(os.path.basename, '/a/b') == 'b'
            assert await host.call(lambda n: n + 1, 1) == 2
            assert await host.call(facts.color) is facts.Color.BLUE
            assert await host.options(trust=True).call(facts.color_undeclared) is facts.Color.BLUE
            with pytest.raises(FileNotFoundError):
                await host.call(open, '/no/such/file')
            task = host.submit(pow, 2, 5)
            assert await task == 32
            assert [n async for n in host.stream(lambda: iter_to(40))] == list(range(40))
            assert (await host.run(['echo', 'x'])).stdout == 'x\n'
            (tmp_path / 'file').write_text('x')
            assert (await host.put(tmp_path / 'file', tmp_path / 'copy')).files == 1
            assert (await host.get(tmp_path / 'copy', tmp_path / 'back')).files == 1
        async with aio.command(['false']) as nowhere:
            with pytest.raises(econtext.ConnectError):
                await nowhere.connect()
            with pytest.raises(econtext.ConnectError):
                await nowhere.call(os.getpid)

    asyncio.run(main())


def iter_to(n):
    for i in range(n):
        yield i


def test_cancelling_interrupts_what_runs_there(tmp_path):
    def slow(path):
        import time
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            open(path, 'w').close()
            raise

    async def main():
        async with local() as host:
            await host.call(os.getpid)
            started = time.monotonic()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(host.call(slow, str(tmp_path / 'interrupted')), 0.3)
            assert await host.call(os.getpid)
            assert time.monotonic() - started < 30 and (tmp_path / 'interrupted').exists()
            with pytest.raises(econtext.TimeoutError):
                await host.run(['sleep', '60'], timeout=0.2)
            stream = host.stream(endless)
            assert await stream.__anext__() == 0
            await stream.aclose()
            assert await host.call(os.getpid)

    asyncio.run(main())


def endless():
    n = 0
    while True:
        yield n
        n += 1


def test_a_thousand_calls_at_once():
    async def main():
        async with local() as host:
            results = await asyncio.gather(*(host.call(pow, 2, n % 50) for n in range(1000)))
            assert results == [2 ** (n % 50) for n in range(1000)]

    asyncio.run(main())


def test_groups_are_iterated_and_awaited():
    async def main():
        async with aio.hosts('local:[1-3]', python=sys.executable) as hosts:
            assert not await (await hosts.connect()).errors()
            seen = [result async for result in hosts.call(os.getpid)]
            assert sorted(result.host for result in seen) == hosts.names and all(result.ok for result in seen)
            assert list(await hosts.call(os.getpid).values()) == hosts.names
            with pytest.raises(econtext.FailedHosts):
                await hosts.call('os:no_such_function').raise_failures()
            assert await hosts.map(abs, [-1, 2, -3, 4]) == [1, 2, 3, 4]
            assert len(await hosts.where('os.path:exists', '/')) == 3
            assert await (await hosts.host('local:2')).call(os.getpid)
            assert (await hosts.run(['echo', 'x']).values())['local:1'].stdout == 'x\n'
            started = time.monotonic()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(hosts.call(time.sleep, 60).wait(), 0.3)
            assert await hosts.call(os.getpid).raise_failures()
            assert time.monotonic() - started < 30

    asyncio.run(main())


def test_a_loop_that_is_closed_hears_nothing():
    host = econtext.aio.local(python=sys.executable)

    async def leave():
        asyncio.ensure_future(host.call(time.sleep, 0.2))
        await asyncio.sleep(0.05)

    asyncio.run(leave())
    time.sleep(0.4)
    host.close()
