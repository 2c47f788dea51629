"""The parts that the benchmarks share: where things are, the rivals in an environment of their own, CPU and memory."""
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(HERE, '..', 'target')
MITOGEN, EXECNET = '0.3.54', '2.1.2'


def rivals():
    """A Python that has the rivals, of the versions that the figures are of. It is outside the repository."""
    place = os.path.join(os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache')), 'econtext-bench')
    place = os.path.join(place, '%s-%s' % (MITOGEN, EXECNET))
    python = os.path.join(place, 'bin', 'python')
    if not os.path.exists(os.path.join(place, 'complete')):
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        subprocess.check_call([python, '-m', 'pip', 'install', '-q', 'mitogen==' + MITOGEN, 'execnet==' + EXECNET])
        open(os.path.join(place, 'complete'), 'w').close()
    return python


def system_python():
    return shutil.which('python3', path='/usr/local/bin:/usr/bin:/bin')


def corpus():
    """Where the packages are that are imported, and a Python that has none of them; .ci/setup makes both."""
    place = os.path.realpath(os.path.join(TARGET, 'corpus'))
    return os.path.join(place, 'site'), os.path.join(place, 'bare-3.11/bin/python3.11'), os.path.join(place, 'bare-3.11/lib')


def behind_link(path, delay, python):
    """Makes `path` a Python behind a link of `delay` milliseconds each way."""
    relay = [sys.executable, os.path.join(HERE, 'relay.py'), str(delay)] if delay else []
    with open(path, 'w') as script:
        script.write('#!/bin/sh\nexec %s "$@"\n' % shlex.join(relay + [python]))
    os.chmod(path, 0o755)


def build():
    """The programs to be measured: the library's bench, and the command."""
    subprocess.check_call(['cargo', 'build', '-q', '--release', '-p', 'econtext', '--example', 'bench'])
    subprocess.check_call(['cargo', 'build', '-q', '--release', '-p', 'econtext-cli', '-p', 'econtext-py'])
    return os.path.join(TARGET, 'release', 'examples', 'bench'), os.path.join(TARGET, 'release', 'econtext')


def package():
    """The directory of our Python package as it was built, for PYTHONPATH."""
    source, stage = os.path.join(HERE, '..', 'crates', 'econtext-py', 'python', 'econtext'), os.path.join(TARGET, 'bench-package')
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(source, os.path.join(stage, 'econtext'), ignore=shutil.ignore_patterns('*.so', '__pycache__'))
    shutil.copy(os.path.join(TARGET, 'release', 'lib_econtext.so'), os.path.join(stage, 'econtext', '_econtext.abi3.so'))
    return os.path.realpath(stage)


def cpu():
    """Seconds of CPU of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident(pid='self'):
    """KiB of a process."""
    with open('/proc/%s/status' % pid) as status:
        return int(next(line for line in status if line.startswith('VmRSS')).split()[1])


def scratch():
    """A directory in memory, if there is one."""
    return tempfile.mkdtemp(dir='/dev/shm' if os.path.isdir('/dev/shm') else None)
