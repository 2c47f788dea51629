"""Values and exceptions on their way to the controller."""
import collections
import unittest

import alone

Point = collections.namedtuple('Point', 'x y')


class Text(type(u'')):
    pass


class Number(int):
    pass


class Plain(unittest.TestCase):
    def setUp(self):
        self.core = alone.load()

    def test_subclasses_are_sent_as_their_base(self):
        plain = self.core.plain
        for value, wanted in [(Point(1, 2), (1, 2)), (Text('x'), u'x'), (Number(3), 3), (bytearray(b'ab'), b'ab'),
                              (memoryview(b'ab'), b'ab'), (collections.OrderedDict(a=1), {'a': 1}), ([Number(1), (Text('y'),)], [1, (u'y',)])]:
            sent = plain(value, 'value')
            self.assertEqual(sent, wanted)
            self.assertIs(type(sent), type(wanted))

    def test_a_value_that_cannot_be_sent_is_named_with_its_place(self):
        for value, place in [(object(), 'v is a '), ({'rows': [1, (2, object())]}, "v['rows'][1][1] is a "), ({1: {2: print_nothing}}, 'v[1][2] is a ')]:
            with self.assertRaises(TypeError) as caught:
                self.core.plain(value, 'v')
            self.assertTrue(str(caught.exception).startswith(place), str(caught.exception))
            self.assertRaises(Exception, self.core.dumps, value)

    def test_cycles_and_depth_are_refused(self):
        cycle = []
        cycle.append(cycle)
        with self.assertRaises(ValueError) as caught:
            self.core.plain(cycle, 'v')
        self.assertEqual(str(caught.exception), 'v[0] refers to itself')
        deep = []
        for _ in range(300):
            deep = [deep]
        self.assertRaises(ValueError, self.core.plain, deep, 'v')

    def test_advice_is_given_for_paths_in_memory(self):
        self.assertIn('--spool pkg ', self.core.advice("No such file: '%spkg/data.txt'" % self.core.ROOT))
        self.assertIn('--spool PACKAGE ', self.core.advice("No such file: '%sdata.txt'" % self.core.ROOT))
        self.assertEqual(self.core.advice('No such file: /etc/none'), '')


def print_nothing():
    """A function is no plain value."""


class Exceptions(unittest.TestCase):
    def setUp(self):
        self.core = alone.load()

    def described(self, function):
        try:
            function()
        except BaseException as error:
            import sys
            return self.core.describe(error, sys.exc_info()[2])
        raise AssertionError('it did not raise')

    def test_an_exception_has_its_class_message_arguments_and_frames(self):
        def fails():
            raise KeyError('missing', 3)

        module, name, message, args, trace, frames, cause, state, group = self.described(fails)
        self.assertEqual((name, args, cause, group), ('KeyError', ('missing', 3), None, ()))
        self.assertIn('missing', message)
        self.assertIn('KeyError', trace)
        self.assertEqual(frames[-1][2:], ('fails', "raise KeyError('missing', 3)"))
        self.assertEqual(frames[-1][0].rstrip('c').rpartition('/')[2], 'test_values.py')

    def test_files_of_an_error_of_the_system_are_kept(self):
        described = self.described(lambda: open('/no/such/file'))
        self.assertEqual(described[3][::2], (2, '/no/such/file'))

    def test_hostile_exceptions_are_described_all_the_same(self):
        class Hostile(Exception):
            def __str__(self):
                raise ValueError('no text')

            __unicode__ = __repr__ = __str__

        def fails():
            error = Hostile(object())
            error.secret = object()
            error.number = 5
            raise error

        described = self.described(fails)
        self.assertEqual(described[1].rpartition('.')[2], 'Hostile')
        self.assertIn('str() raised', described[2])
        self.assertEqual((described[3], described[7]), ((), {'number': 5}))
        self.core.dumps(self.core.CallError(*described))

    def test_messages_are_cut_at_the_limit(self):
        def fails():
            raise ValueError('x' * (5 << 20))

        described = self.described(fails)
        self.assertEqual((len(described[2]), described[3]), (4 << 20, ()))

    def test_causes_and_groups_are_followed_to_a_depth(self):
        if not self.core.PY3:
            return  # exceptions of Python 2 have neither
        scope = {}
        exec('def chain(n):\n    try:\n        chain(n - 1) if n else {}[n]\n    except KeyError as e:\n        raise KeyError(n) from e', scope)
        described = self.described(lambda: scope['chain'](40))
        depth = 0
        while described:
            depth, described = depth + 1, described[6]
        self.assertEqual(depth, 17)


if __name__ == '__main__':
    unittest.main()
