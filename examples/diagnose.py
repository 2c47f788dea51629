#!/usr/bin/env python
"""A script as one has it lying around: arguments, stdin, an exit status, a module beside it.

    econtext run web01 examples/diagnose.py /var /tmp
"""
from __future__ import print_function

import sys

import facts


def main():
    full = 0
    for path in sys.argv[1:] or ['/']:
        total, used, available = facts.disk(path)
        print('%-20s %3d%% of %.1f GiB' % (path, 100 * used // max(total, 1), total / 2.0 ** 30))
        full += available * 10 < total
    return 1 if full else 0


if __name__ == '__main__':
    sys.exit(main())
