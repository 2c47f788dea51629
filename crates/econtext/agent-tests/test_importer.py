"""Modules of a controller, found by a child that has none."""
import sys
import unittest
import zlib

import alone


def source(text):
    return zlib.compress(text.encode('utf-8'))


class Importing(unittest.TestCase):
    def setUp(self):
        self.core = alone.load()
        self.context = self.core.child.context
        self.importer = self.core.child.importer
        core = self.core
        self.context.modules.update({
            'sent': (core.MODULE, 'sent.py', source(u'VALUE = "\u00e9"\ndef fail():\n    raise ValueError(1)\n'), None),
            'pack': (core.PACKAGE, 'pack/__init__.py', source(u'from . import inner\n'), {'inner': core.MODULE}),
            'pack.inner': (core.MODULE, 'pack/inner.py', source(u'NAME = __name__\n'), None),
            'space': (core.NAMESPACE, 'space', None, {'part': core.MODULE}),
            'space.part': (core.MODULE, 'space/part.py', source(u'X = 1\n'), None),
            'native': (core.COMPILED, 'is compiled', None, None),
            'refused': (core.REFUSED, 'not allowed here', None, None),
            'broken': (core.MODULE, 'broken.py', source(u'x = = 1\n'), None),
        })
        if core.PY3:
            sys.meta_path.append(self.importer)
        else:
            sys.meta_path.insert(0, self.importer)
        self.before = set(sys.modules)

    def tearDown(self):
        sys.meta_path.remove(self.importer)
        for name in set(sys.modules) - self.before:
            del sys.modules[name]

    def test_a_module_is_asked_for_once_and_knows_where_it_is_from(self):
        import sent
        self.assertEqual((sent.VALUE if self.core.PY3 else sent.VALUE.decode('utf-8')), u'\u00e9')
        self.assertEqual(sent.__file__, self.core.ROOT + 'sent.py')
        self.assertEqual(self.importer.get_source('sent').splitlines()[1], 'def fail():')
        del sys.modules['sent']
        import sent
        self.assertEqual(self.context.asked.count('sent'), 1)

    def test_a_package_answers_for_its_modules_without_questions(self):
        import pack
        self.assertEqual(pack.inner.NAME, 'pack.inner')
        self.assertEqual(pack.__path__, [self.core.ROOT + 'pack'])
        with self.assertRaises(ImportError):
            __import__('pack.absent')
        self.assertNotIn('pack.absent', self.context.asked)

    def test_what_was_pushed_is_not_asked_for(self):
        core = self.core
        self.importer.on_push(([('pushed', core.MODULE, 'pushed.py', source(u'X = 2\n'), None)], 'gone nowhere'))
        import pushed
        self.assertEqual(pushed.X, 2)
        self.assertRaises(ImportError, __import__, 'nowhere')
        self.assertEqual(self.context.asked, [])
        self.importer.tell()
        self.assertEqual(self.context.sent, [])
        # One that the machine has by itself is told, so that no more of its package is sent.
        self.importer.on_push(([('json', core.MODULE, 'json.py', source(u''), None)], ''))
        import json
        self.importer.tell()
        self.assertEqual(self.context.sent, [(core.HAVE, json.__name__)])

    def test_a_compiled_or_refused_module_says_so(self):
        for name, text in [('native', 'install it there'), ('refused', 'not allowed here')]:
            with self.assertRaises(self.core.NotFound) as caught:
                if self.core.PY3:
                    __import__(name)
                else:
                    self.importer.load_module(name)
            self.assertIn(text, str(caught.exception))
            self.assertEqual(caught.exception.name, name)

    def test_a_syntax_error_names_this_python(self):
        with self.assertRaises(SyntaxError) as caught:
            __import__('broken')
        self.assertIn('sent by the controller, for the Python %d.%d of alone' % sys.version_info[:2], caught.exception.msg)

    def test_a_namespace_package_has_its_parts(self):
        if self.core.PY3:
            from space import part
            self.assertEqual(part.X, 1)

    def test_absent_modules_are_asked_for_anew_after_invalidate_caches(self):
        self.assertRaises(ImportError, __import__, 'later')
        self.context.modules['later'] = (self.core.MODULE, 'later.py', source(u'X = 3\n'), None)
        self.assertRaises(ImportError, __import__, 'later')
        self.importer.invalidate_caches()
        import later
        self.assertEqual(later.X, 3)


class Waiting(unittest.TestCase):
    def test_a_queue_gives_in_order_and_times_out(self):
        core = alone.load()
        queue = core.Queue()
        for n in range(3):
            queue.put(n)
        self.assertEqual([queue.get(), queue.get(1), queue.get()], [0, 1, 2])
        self.assertRaises(core.ChannelError, queue.get, .01)
        core.thread.start_new_thread(queue.put, ('late',))
        self.assertEqual(queue.get(60), 'late')


if __name__ == '__main__':
    unittest.main()
