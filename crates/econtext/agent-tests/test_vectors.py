"""Frames and pickles, against vectors that the Rust half is tested with too."""
import os
import struct
import unittest

import alone


class Frames(unittest.TestCase):
    def setUp(self):
        self.core = alone.load()
        self.vectors = alone.vectors('frames.json')
        self.ours, self.theirs = os.pipe(), os.pipe()
        self.stream = self.core.Stream(self.ours[0], self.theirs[1], self.vectors['key'].encode('ascii'), 1 << 20)
        self.delivered = []
        self.stream.deliver = lambda data: self.delivered.append(bytes(data))

    def tearDown(self):
        for fd in self.ours + self.theirs:
            os.close(fd)

    def receive(self, data):
        os.write(self.ours[1], data)
        with self.stream.reading:
            self.stream.receive()

    def test_frames_are_sealed_with_the_childs_key_and_counted(self):
        for vector in self.vectors['child']:
            data = alone.unhex(vector['data'])
            head = struct.pack('>QL', self.stream.sent, len(data))
            self.stream.sent += 1
            self.assertEqual(self.stream.send_mac.digest(head, data) + head[8:] + data, alone.unhex(vector['frame']))

    def test_frames_of_the_controller_arrive_split_at_every_byte(self):
        frames = [alone.unhex(vector['frame']) for vector in self.vectors['controller']]
        whole = b''.join(frames)
        wanted = [alone.unhex(vector['data']) for vector in self.vectors['controller']]
        for at in range(0, len(whole), 7):
            self.tearDown()
            self.setUp()
            for part in whole[:at], whole[at:]:
                if part:
                    self.receive(part)
            self.assertEqual(self.delivered, wanted, at)

    def test_a_frame_that_was_changed_ends_the_child(self):
        frame = bytearray(alone.unhex(self.vectors['controller'][1]['frame']))
        frame[30] ^= 1
        self.receive(alone.unhex(self.vectors['controller'][0]['frame']))
        with self.assertRaises(alone.Ended) as caught:
            self.receive(bytes(frame))
        self.assertEqual(caught.exception.args, (9, 'bad MAC on frame 1'))

    def test_frames_of_another_key_or_order_end_the_child(self):
        for frame in self.vectors['child'][0]['frame'], self.vectors['controller'][1]['frame']:
            self.tearDown()
            self.setUp()
            self.assertRaises(alone.Ended, self.receive, alone.unhex(frame))
            self.assertEqual(self.delivered, [])


class Pickles(unittest.TestCase):
    def setUp(self):
        self.core = alone.load()
        self.vectors = alone.vectors('pickles.json')['pickles']

    def test_values_of_the_controller_are_read(self):
        for vector in self.vectors:
            value = alone.value_of(self.core, vector['value'])
            read = self.core.loads(alone.unhex(vector['controller']))
            self.assertEqual(read, (1000, value), vector['name'])
            # On Python 2 a number is an int or a long as the opcode has it.
            kind = self.core.long if isinstance(value, self.core.long) else type(value)
            self.assertTrue(type(read[1]) is kind or isinstance(value, int), vector['name'])

    def test_values_are_written_as_the_controller_reads_them(self):
        major = '3' if self.core.PY3 else '2'
        for vector in self.vectors:
            value = alone.value_of(self.core, vector['value'])
            written = self.core.dumps((1000, value))
            self.assertEqual(self.core.loads(written), (1000, value), vector['name'])
            # Interpreters differ in what they memoize: what was recorded is read like what is written.
            self.assertEqual(self.core.loads(alone.unhex(vector['child'][major])), (1000, value), vector['name'])


if __name__ == '__main__':
    unittest.main()
