"""The values that arguments and results may hold."""
import dataclasses
import decimal
import pathlib
import threading
import typing

import facts
import pytest

import econtext


def test_values_of_the_standard_library_come_back_as_they_went(host):
    for value, back in zip(facts.VALUES, host.call(facts.values)):
        assert type(back) is type(value) and repr(back) == repr(value)
    (args,), kwargs = host.call(facts.echo, facts.VALUES)
    assert repr(args) == repr(facts.VALUES)


def test_old_pythons_send_what_they_have(any_python):
    def values():
        import collections
        import datetime
        import decimal
        import uuid
        point = collections.namedtuple('Point', 'x y')
        return [datetime.datetime(2024, 1, 2, 3, 4, 5), datetime.timedelta(1), decimal.Decimal('1.5'), uuid.UUID(int=1),
                point(1, b'\xff'), {'k': datetime.date(2024, 1, 2)}]

    def types(*args):
        return [type(arg).__name__ for arg in args]

    with econtext.local(python=any_python) as host:
        import datetime
        import uuid
        back = host.call(values)
        assert back[:4] == [datetime.datetime(2024, 1, 2, 3, 4, 5), datetime.timedelta(1), decimal.Decimal('1.5'), uuid.UUID(int=1)]
        assert back[4].x == 1 and back[4] == (1, b'\xff')
        assert back[5] == {'k': datetime.date(2024, 1, 2)}
        assert host.call(types, *back[:4]) == ['datetime', 'timedelta', 'Decimal', 'UUID']


def test_declared_classes_are_rebuilt(host):
    assert host.call(facts.disks) == [facts.Disk('/', 1, facts.Point(1, 2)), facts.Disk('/var', 2)]
    assert host.call(facts.color) is facts.Color.BLUE
    assert list(host.stream(facts.points))[39] == facts.Point(39, -39)
    assert host.options(returns=facts.Disk).call('facts:undeclared') == facts.Disk('/', 1)


def test_dataclasses_are_their_fields(host):
    @econtext.register
    @dataclasses.dataclass
    class Job:
        name: str
        lock: typing.ClassVar[typing.Any] = threading.Lock

    assert host.call(lambda: Job('x')) == Job('x')
    import datetime
    cet = datetime.timezone(datetime.timedelta(hours=1), 'CET')
    back = host.call(lambda: (cet, datetime.datetime(2024, 1, 1, tzinfo=cet)))
    assert back[0].tzname(None) == 'CET' and back[1].tzname() == 'CET'


def test_registered_classes_are_rebuilt(host):
    assert host.call('facts:registered') == {'a': facts.Registered('x')}
    with pytest.raises(facts.Refused) as caught:
        host.call(facts.refuse)
    assert caught.value.args == ('no', 3) and isinstance(caught.value, econtext.RemoteError)


def test_other_classes_are_refused_and_named(host):
    with pytest.raises(econtext.UnpermittedError, match='facts.Disk'):
        host.call('facts:undeclared')
    with pytest.raises(econtext.UnpermittedError, match='facts.Color'):
        host.call(facts.color_undeclared)
    with pytest.raises(econtext.RemoteError, match='cannot be sent'):
        host.call(lambda: object())
    assert host.call(facts.level_undeclared) == 1
    point = host.call(facts.point_undeclared)
    assert point == (1, 2) and point.x == 1
    with pytest.raises(TypeError):
        econtext.register(int)


def test_arguments_may_be_of_any_class_that_can_be_pickled(host):
    @dataclasses.dataclass
    class Local:
        path: pathlib.Path

    assert host.call(facts.describe, facts.Disk('/', 1), k=facts.Color.RED) == repr(
        ((facts.Disk('/', 1),), {'k': facts.Color.RED}))
    assert host.call(lambda thing: str(thing.path), Local(pathlib.Path('/x'))) == '/x'


def test_trust_takes_whatever_a_pickle_holds(host):
    trusting = host.options(trust=True)
    assert trusting.call('facts:undeclared') == facts.Disk('/', 1)
    assert trusting.submit('facts:color_undeclared').result() is facts.Color.BLUE
    assert list(trusting.stream(lambda: (decimal.Decimal(n) for n in range(3)))) == [0, 1, 2]


def test_a_pickle_of_the_target_is_not_loaded():
    """A child that sends a class of its own choice is refused, and nothing is run."""
    class Evil:
        def __reduce__(self):
            import os
            return os.system, ('touch /tmp/econtext-evil',)

    def attack():
        from econtext import core
        core.SENDABLE.add(Evil)
        import os
        core.CONSTRUCTORS.append(os.system)
        return [Evil()]

    with econtext.local() as host:
        with pytest.raises(econtext.Error) as caught:
            host.call(attack)
        assert caught.value.kind in ('unpermitted', 'exception'), caught.value
    assert not pathlib.Path('/tmp/econtext-evil').exists()


def test_odd_texts_and_numbers_survive(host):
    for value in ['\udcff', '\0', 'é' * 1000, 2**63, -2**63 - 1, 10**100, float('inf'), 1j, b'\0\xff', frozenset([1]), {1: {2}},
                  [[[]]], '', (), True, None]:
        assert host.call(facts.echo, value) == ((value,), {})


def test_large_values_go_both_ways(host):
    data = bytes(range(256)) * (4 << 12)
    assert host.call(facts.echo, data)[0][0] == data
    assert host.call(len, data) == len(data)
