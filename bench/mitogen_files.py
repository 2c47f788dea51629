"""Has a Mitogen child fetch a file of the controller by the file service: PYTHON SOURCE TARGET."""
import sys

import mitogen.service
import mitogen.utils


def fetch(context, source, target):
    with open(target, 'wb') as f:
        ok, _ = mitogen.service.FileService.get(context, source, f)
    return ok


def main(router):
    python, source, target = sys.argv[1:]
    service = mitogen.service.FileService(router)
    pool = mitogen.service.Pool(router, services=[service], size=1)
    service.register(source)
    child = router.local(python_path=[python])
    assert child.call(fetch, router.myself(), source, target)
    pool.stop()


if __name__ == '__main__':
    mitogen.utils.run_with_router(main)
