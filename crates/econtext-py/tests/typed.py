"""Code for type checkers: mypy --strict and pyright read it, and it is never run."""
from __future__ import annotations

import asyncio
import concurrent.futures
import os
import shutil
from typing import AsyncIterator, Iterator

from typing_extensions import assert_type

import econtext
from econtext import aio


def add(a: int, b: str = '') -> list[int]:
    return [a, len(b)]


def lines(path: str) -> Iterator[str]:
    yield from open(path)


def one() -> None:
    with econtext.ssh('web01', user='me') as host:
        assert_type(host, econtext.Host)
        assert_type(host.call(add, 1, b='x'), list[int])
        assert_type(host.call(os.getpid), int)
        assert_type(host.options(timeout=3).call(os.getcwd), str)
        assert_type(host.call(shutil.disk_usage, '/').free, int)
        assert_type(host.submit(add, 1).result(), list[int])
        assert_type(host.stream(lines, '/etc/passwd'), Iterator[str])
        assert_type(host.run(['true'], check=True).returncode, int)
        host.call(add, 'no')  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
        host.call(add)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        host.call('os:getpid', 1)
    with econtext.sudo(via=host) as root:
        assert_type(root, econtext.Host)


def many() -> None:
    group = econtext.hosts('web[01-20]', become='root', via='bastion', limit=64) - econtext.hosts('web07')
    assert_type(group, econtext.Group)
    for result in group.call(add, 1):
        assert_type(result, econtext.Result[list[int]])
        assert_type(result.get(), list[int])
    assert_type(group.call(os.getpid).raise_failures().values(), dict[str, int])
    assert_type(group.map(len, ['a', 'b']), list[int])
    assert_type(group.where(os.path.exists, '/'), econtext.Group)
    with econtext.Executor(group) as executor:
        assert_type(executor.submit(add, 1), concurrent.futures.Future[list[int]])


async def later() -> None:
    async with aio.ssh('web01') as host, aio.hosts('web[01-03]') as group:
        assert_type(await host.call(add, 1), list[int])
        assert_type(host.submit(add, 1), asyncio.Task[list[int]])
        assert_type(host.stream(lines, '/'), AsyncIterator[str])
        async for result in group.call(os.getpid):
            assert_type(result.get(), int)
        assert_type(await group.call(os.getpid).values(), dict[str, int])


@econtext.register
class Refused(Exception):
    pass


def errors() -> None:
    try:
        one()
    except econtext.RemoteError as error:
        assert_type(error.frames[0].line, int)
    except Refused as error:
        assert_type(error, Refused)
