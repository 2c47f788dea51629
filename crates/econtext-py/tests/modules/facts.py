"""A module that only the controller has."""
from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import logging
import pathlib
import uuid
from typing import Iterator, NamedTuple, Optional

import econtext
from econtext import ssh  # noqa: F401  the controller's own names may be imported there


class Point(NamedTuple):
    x: int
    y: int


class Color(enum.Enum):
    RED = 'red'
    BLUE = 'blue'


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass(frozen=True)
class Disk:
    path: str
    free: int
    where: Optional[Point] = None


@econtext.register
@dataclasses.dataclass
class Registered:
    name: str


@econtext.register
class Refused(Exception):
    pass


class Unknown(Exception):
    pass


def disks() -> list[Disk]:
    return [Disk('/', 1, Point(1, 2)), Disk('/var', 2)]


def undeclared():
    return Disk('/', 1)


def registered():
    return {'a': Registered('x')}


def color() -> Color:
    return Color.BLUE


def color_undeclared():
    return Color.BLUE


def level_undeclared():
    return Level.LOW


def point_undeclared():
    return Point(1, 2)


def points() -> Iterator[Point]:
    for i in range(40):
        yield Point(i, -i)


VALUES = [
    datetime.datetime(2024, 2, 29, 23, 59, 59, 999999), datetime.datetime(2024, 1, 1, fold=1),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))),
    datetime.date(1, 1, 1), datetime.time(1, 2, 3, 4), datetime.timedelta(-1, 5, 6), datetime.timezone.utc,
    decimal.Decimal('NaN').copy_abs(), decimal.Decimal('-1.50'), uuid.UUID(int=2**128 - 1), fractions.Fraction(-1, 3),
    pathlib.PurePosixPath('/a/b'), pathlib.PureWindowsPath('C:/x'), pathlib.Path('/etc'),
    ipaddress.ip_address('::1'), ipaddress.ip_network('10.0.0.0/8'), ipaddress.ip_interface('10.0.0.1/8')]


def values():
    return VALUES


def echo(*args, **kwargs):
    return args, kwargs


def describe(*args, **kwargs):
    return repr((args, kwargs))


def refuse():
    raise Refused('no', 3)


def unknown():
    raise Unknown('no')


def chained():
    try:
        {}['inner']
    except KeyError as error:
        raise ValueError('outer') from error


def log():
    logger = logging.getLogger('facts.log')
    logger.warning('careful %d', 1)
    try:
        1 / 0
    except ZeroDivisionError:
        logger.exception('failed')
