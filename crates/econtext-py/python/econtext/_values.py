"""Values beyond plain ones: those that results may hold, and your own classes that are rebuilt.

The controller never unpickles what a target sends. Dates, paths, decimals and the like are known. Instances of your own
classes are rebuilt if the function that is called declares to return them, or if they are registered:

    def disks() -> list[Disk]: ...

    @econtext.register
    @dataclass
    class Disk: ...
"""
from __future__ import annotations

import datetime
import dataclasses
import decimal
import enum
import fractions
import ipaddress
import pathlib
import types
import typing
import uuid
import weakref
from typing import Any, Callable, Optional, TypeVar, overload

from . import _errors

T = TypeVar('T', bound=type)
Classes = dict[tuple[str, str], type]

_registered: Classes = {}
_declared: weakref.WeakKeyDictionary[Any, Optional[Classes]] = weakref.WeakKeyDictionary()


@overload
def register(kind: T) -> T: ...
@overload
def register() -> Callable[[T], T]: ...


def register(kind: Any = None) -> Any:
    """Lets results hold instances of a dataclass, a namedtuple or an Enum, and lets an exception be itself again.

    It can be used as a decorator. In a child it does nothing: the module may be imported there.

    >>> import dataclasses, econtext
    >>> @econtext.register
    ... @dataclasses.dataclass
    ... class Disk:
    ...     path: str
    ...     free: int
    """
    if kind is None:
        return register
    if not isinstance(kind, type):
        raise TypeError('%r is no class' % (kind,))
    if issubclass(kind, Exception):
        _errors.registered[kind.__module__, kind.__qualname__] = kind
    if _is_rebuilt(kind):
        _note(_registered, kind)
    elif not issubclass(kind, Exception):
        raise TypeError('%s is neither a dataclass, a namedtuple, an Enum nor an exception' % kind.__qualname__)
    return kind


def _is_rebuilt(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, enum.Enum)
                                       or issubclass(kind, tuple) and hasattr(kind, '_fields'))


def _note(classes: Classes, kind: type) -> None:
    classes[kind.__module__, kind.__qualname__] = kind


def declared(function: Any) -> Optional[Classes]:
    """The classes in a function's return annotation, and the classes that these are made of."""
    if type(function) is types.MethodType:
        function = function.__func__
    # Other callables may have a hash and an equality of their own.
    is_plain = type(function) is types.FunctionType
    if is_plain and function in _declared:
        return _declared[function]
    found: Classes = {}
    try:
        hint = typing.get_type_hints(function).get('return')
    except Exception:
        hint = None  # nothing is known of names that cannot be resolved
    if hint is not None:
        _walk(hint, found, set())
    if is_plain:
        _declared[function] = found or None
    return found or None


def classes(hint: Any) -> Optional[Classes]:
    """The classes that a type is made of."""
    found: Classes = {}
    _walk(hint, found, set())
    return found or None


def _walk(hint: Any, found: Classes, seen: set[int]) -> None:
    if id(hint) in seen:
        return
    seen.add(id(hint))
    for part in typing.get_args(hint):
        _walk(part, found, seen)
    if _is_rebuilt(hint):
        _note(found, hint)
        if not issubclass(hint, enum.Enum):
            try:
                hints = typing.get_type_hints(hint)
            except Exception:
                return
            for part in hints.values():
                _walk(part, found, seen)


# -- rebuilding

def _zone(zone: Any) -> Optional[datetime.tzinfo]:
    if zone is None:
        return None
    if isinstance(zone, str):
        try:
            import zoneinfo
            return zoneinfo.ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise _errors.UsageError('there is no time zone %r here' % zone) from None
    if isinstance(zone, tuple):
        return datetime.timezone(datetime.timedelta(seconds=zone[0]), zone[1])
    return datetime.timezone(datetime.timedelta(seconds=zone))


def _fraction(numerator: Any, denominator: Any) -> fractions.Fraction:
    if type(numerator) is not int or type(denominator) is not int:
        raise _errors.ProtocolError('a fraction of something else than integers')
    return fractions.Fraction(numerator, denominator)


def _datetime(year: int, month: int, day: int, hour: int, minute: int, second: int, microsecond: int, fold: int,
              zone: Any) -> datetime.datetime:
    return datetime.datetime(year, month, day, hour, minute, second, microsecond, _zone(zone), fold=fold)


def _time(hour: int, minute: int, second: int, microsecond: int, fold: int, zone: Any) -> datetime.time:
    return datetime.time(hour, minute, second, microsecond, _zone(zone), fold=fold)


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ('datetime', 'datetime'): _datetime, ('datetime', 'date'): datetime.date, ('datetime', 'time'): _time,
    ('datetime', 'timedelta'): datetime.timedelta, ('datetime', 'timezone'): lambda seconds: _zone(seconds),
    ('decimal', 'Decimal'): decimal.Decimal, ('uuid', 'UUID'): uuid.UUID, ('fractions', 'Fraction'): _fraction}
for _name in 'PurePath', 'PurePosixPath', 'PureWindowsPath', 'Path', 'PosixPath':
    _KNOWN['pathlib', _name] = getattr(pathlib, _name)
_KNOWN['pathlib', 'WindowsPath'] = pathlib.PureWindowsPath
for _name in 'Address', 'Network', 'Interface':
    for _version in '46':
        _KNOWN['ipaddress', 'IPv' + _version + _name] = getattr(ipaddress, 'IPv' + _version + _name)


class Record(tuple[Any, ...]):
    """A result with named fields, as of `os.stat`: a tuple, as it is there, with all of its attributes."""

    def __repr__(self) -> str:
        return '%s(%s)' % (type(self).__name__, ', '.join('%s=%r' % item for item in vars(self).items()))

    def __reduce__(self) -> Any:
        return _record, (type(self).__module__, type(self).__name__, tuple(self), dict(vars(self)))


_MAX_RECORDS = 1000  # kinds that targets invent must not fill this process
_records: dict[tuple[str, str], type[Record]] = {}


def _record(module: str, name: str, values: tuple[Any, ...], attributes: dict[str, Any]) -> tuple[Any, ...]:
    kind = _records.get((module, name))
    if kind is None:
        if len(_records) >= _MAX_RECORDS:
            return tuple(values)
        kind = _records[module, name] = type(name, (Record,), {'__module__': module})
    record = tuple.__new__(kind, values)
    for attribute, value in attributes.items():
        if not attribute.startswith('__'):
            record.__dict__[attribute] = value
    return record


def _instance(kind: Any, attributes: dict[str, Any], content: Any) -> Any:
    """An instance of a dataclass with the attributes that it has there; none of its own functions is run."""
    bases = [base for base in kind.__mro__ if base in (dict, list, set, tuple, str, bytes, int, float, Exception)]
    base: Any = bases[0] if bases else object
    if base in (dict, list, set):
        instance = base.__new__(kind)
        base.update(instance, content) if base is not list else list.extend(instance, content)
    elif base is object:
        instance = object.__new__(kind)
    else:
        instance = base.__new__(kind, *content) if base is Exception else base.__new__(kind, content)
    for name, value in attributes.items():
        # A field that was never set there is not set here.
        object.__setattr__(instance, name, value)
    return instance


def rebuild(parts: tuple[Any, ...], declared: Optional[Classes]) -> Any:
    """A value of a class, from the parts that `values.py` there made of it."""
    kind, module, name, content = parts[:4]
    if kind == 'known':
        make = _KNOWN.get((module, name))
        if make is None:
            raise _errors.ProtocolError('a value of the unknown class %s.%s' % (module, name))
        return make(*content)
    if kind == 'record':
        return _record(module, name, *content)
    found = (declared or {}).get((module, name)) or _registered.get((module, name))
    if kind == 'namedtuple':
        fields, values = content
        if found is None or getattr(found, '_fields', None) != tuple(fields):
            return _record(module, name, values, dict(zip(fields, values)))
        return tuple.__new__(found, values)
    if kind == 'enum':
        value, is_plain = content
        if found is not None and issubclass(found, enum.Enum):
            return found(value)
        if is_plain:
            return value
    elif kind == 'dataclass' and found is not None and dataclasses.is_dataclass(found):
        return _instance(found, content, parts[4])
    raise _errors.UnpermittedError(
        'the result holds the class %s.%s: annotate the function with what it returns, or econtext.register it' % (module, name))
