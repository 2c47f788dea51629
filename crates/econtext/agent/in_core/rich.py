"""For controllers that are Python programs: results beyond plain values, and their package's names. It is run at start-up.

The file is a part of econtext.core: it is run with that module's globals.
"""


DEFINE = 114


def rich(value, where, parents):
    """A value of a type that the controller knows, in a form that can be sent; None for all others."""
    from econtext import values
    return values.rich(value, where, parents)


class ControllersOwn(object):
    """A name of the controller's package. A module with functions for this side may import it; only the controller can use it."""

    def __init__(self, name):
        """Takes the dotted name, for the error message."""
        self.name = name

    def __call__(self, *args, **kwargs):
        """Raises an error that says where the name can be used."""
        raise RuntimeError('%s is the controller\'s, and this is the child %s' % (self.name, child.context.name))

    def __getitem__(self, item):
        """Returns itself, so that annotations with subscripts or `|` can be evaluated."""
        return self

    __or__ = __ror__ = __getitem__  # in annotations

    def __getattr__(self, name):
        """Returns a placeholder for the attribute too, except for dunder names."""
        if name.startswith('__'):
            raise AttributeError(name)
        return ControllersOwn('%s.%s' % (self.name, name))


def define(new):
    """Keeps definitions for calls. They come by themselves, so that none is lost with a cancelled call."""
    for key in new:
        child.bodies.setdefault(key, []).append(new[key])


def register(kind=None, **options):
    """Does nothing here: classes are registered on the controller."""
    return (lambda kind: kind) if kind is None else kind


def receive(self):
    """The next value of a channel, which may be more than a plain one."""
    value = receive_plain(self)
    if type(value) is tuple and len(value) == 2 and value[0] == MADE:
        from econtext import values
        return values.call(*value[1])
    return value


MADE = '\0econtext made'  # with the arguments of values.call
receive_plain, Channel.receive = Channel.receive, receive
child.rich = rich
main = sys.modules['__main__'] = type(sys)('__main__')  # it has the definitions that are sent, and never runs a program
main.__builtins__ = sys.modules['builtins' if PY3 else '__builtin__']
child.bodies = {}  # by key: (digest, content) of definitions, for values.py, in the order in which they came
child.stream.handlers[DEFINE] = define
package = sys.modules['econtext']
package.register = register
for name in ('CallFuture Channel Executor Group Host Options Output Record RemoteFrame Result Results Transferred aio chroot command doas docker '
             'hosts incus jail kubectl local lxc nsenter nspawn podman ssh su sudo').split():
    setattr(package, name, ControllersOwn('econtext.' + name))
for name in 'Auth Become Bootstrap Cancelled Channel Closed Command Connect HostKey Local NoPython Protocol Remote Timeout Unpermitted Unreachable Usage'.split():
    setattr(package, name + 'Error', type(name + 'Error', (Exception,), {'__module__': 'econtext'}))
package.Error = package.FailedHosts = package.RemoteTraceback = Exception
package.__version__ = ''
