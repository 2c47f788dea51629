# The first stage: the program that the target's Python gets on its command line.
#
# The decoder in front of it (bootstrap_command.rs) has imported `sys` and all of `zlib`; the context's name is sys.argv[2], behind it
# are options of the interpreter.
# It runs on every Python from 2.7 on, and is short: it is part of an argv.
#
#   1. Fork. The parent half becomes a fresh Python that reads its program from a pipe. Its argv[0] is the context's
#      name in the interpreter's own directory, so that it finds its library, or its virtualenv, as before. The number
#      that was the pipe's write end now holds the real stdin, for the core.
#   2. The child half reads a payload of an announced size from stdin: a zlib stream, then plain text. It writes the
#      program into the pipe, with the number of the saved stdin and the interpreter's path behind it, says OK and goes.
#
# Python reads a program on stdin a byte at a time, which for all of the core takes as long as its own start. So what is
# there is one line, which reads the rest from a second pipe.
#
# Every read waits in select, so a non-blocking stdin is as good as any. Ten silent seconds, or the end of the input,
# end both halves: the reader of the pipe then sees an empty program.
import os
from select import *
r, w = os.pipe()
s, t = os.pipe()
e = sys.executable
P = os.path
if os.fork():
    os.dup2(0, w)
    os.dup2(r, 0)
    os.dup2(s, r)
    os.close(t)
    os.execl(e, P.dirname(P.exists(P.dirname(e) + "/../pyvenv.cfg") and e or P.realpath(e)) + "/" + sys.argv[2], *sys.argv[3:])
os.close(s)
def R(n):
    b = b""
    while n > len(b): b += select([0], [], [], 10)[0] and os.read(0, n - len(b)) or sys.exit("econtext: payload ended early")
    return b
d = decompressobj()
b = d.decompress(R(int(R(5))))
os.write(w, b"import os;exec(os.fdopen(%d,'rb').read())" % r)
os.close(w)
os.write(t, b + d.unused_data + b"%d,%r)" % (w, e))
os.write(1, b"OK\n")
os._exit(0)
