"""For controllers that are Python programs: results beyond plain values, and their package's names. Run at start-up.

Part of what econtext.core is: it is run with that module's globals.
"""


DEFINE = 114


def rich(value, where, parents):
    """A value of a type that the controller knows, in a form that can be sent; None for all others."""
    from econtext import values
    return values.rich(value, where, parents)


class ControllersOwn(object):
    """A name of the controller's package. A module that has functions for here may import it; only there it can be used."""

    def __init__(self, name):
        self.name = name

    def __call__(self, *args, **kwargs):
        raise RuntimeError('%s is the controller\'s, and this is the child %s' % (self.name, core.context.name))

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return ControllersOwn('%s.%s' % (self.name, name))


def register(kind=None, **options):
    """Whatever is registered is so on the controller."""
    return (lambda kind: kind) if kind is None else kind


core.rich = rich
core.bodies = {}  # contents of definitions by key, for values.py; they are kept although the call that needs them is cancelled
core.stream.handlers[DEFINE] = core.bodies.update
package = sys.modules['econtext']
package.register = register
for name in ('ssh local docker podman kubectl lxc incus nspawn nsenter chroot jail sudo su doas command hosts Host Group '
             'Options Result Results Executor Output FailedHosts aio').split():
    setattr(package, name, ControllersOwn('econtext.' + name))
for name in 'Error RemoteError CommandError UsageError ConnectError TimeoutError ClosedError CancelledError'.split():
    setattr(package, name, type(name, (Exception,), {'__module__': 'econtext'}))
