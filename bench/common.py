"""What the benchmarks share: where things are, and the rivals in an environment of their own."""
import os
import subprocess
import venv

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(HERE, '..', 'target')


def rivals():
    python = os.path.join(TARGET, 'bench-venv', 'bin', 'python')
    if not os.path.exists(python):
        venv.create(os.path.dirname(os.path.dirname(python)), with_pip=True)
        subprocess.check_call([python, '-m', 'pip', 'install', '-q', 'mitogen', 'execnet'])
    return python
