#!/usr/bin/env python3
"""A slow link: runs a command with every byte of its stdin and stdout held back.

    relay.py MILLISECONDS COMMAND [ARG...]

Each direction takes MILLISECONDS, so a round trip takes twice that; the bandwidth is not limited. It stands where a
controller expects the command. With RELAY_STATS=FILE it appends one JSON line at the end: bytes in each direction,
and turns, the times that the controller spoke after the command had. The command's exit status is its own.
"""
import json
import os
import queue
import subprocess
import sys
import threading
import time


class Direction:
    """Copies one file descriptor to another, later."""

    def __init__(self, source, target, delay, spoke):
        self.source, self.target, self.delay, self.spoke = source, target, delay, spoke
        self.bytes = 0
        self.held = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.writer = threading.Thread(target=self.write, daemon=True)
        self.writer.start()

    def read(self):
        data = b'-'
        while data:
            try:
                data = os.read(self.source, 1 << 16)
            except OSError:
                data = b''
            if data:
                self.spoke.append(self)
            self.bytes += len(data)
            self.held.put((time.monotonic() + self.delay, data))

    def write(self):
        while True:
            due, data = self.held.get()
            time.sleep(max(0, due - time.monotonic()))
            if not data:
                return os.close(self.target)
            try:
                while data:
                    data = data[os.write(self.target, data):]
            except OSError:
                return


def main():
    delay = float(sys.argv[1]) / 1e3
    command = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    spoke = []
    there = Direction(0, command.stdin.fileno(), delay, spoke)
    back = Direction(command.stdout.fileno(), 1, delay, spoke)
    status = command.wait()
    back.writer.join()
    if 'RELAY_STATS' in os.environ:
        turns = sum(1 for before, after in zip([back] + spoke, spoke) if (before, after) == (back, there))
        with open(os.environ['RELAY_STATS'], 'a') as stats:
            stats.write(json.dumps({'there': there.bytes, 'back': back.bytes, 'turns': turns}) + '\n')
    os._exit(status if status >= 0 else 128 - status)


main()
