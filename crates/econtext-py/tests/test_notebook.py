"""A Jupyter kernel: cells are defined, called there, defined anew."""
import sys

from conftest import missing

CELLS = [
    '''
import econtext, dataclasses, sys, time
host = econtext.local(python=sys.executable)
FACTOR = 2
def helper(n):
    return n * FACTOR
def f(n):
    return helper(n) + 1
host.call(f, 5)
''',
    'def helper(n):\n    return -n',
    'host.call(f, 5)',
    'FACTOR = 7\ndef helper(n):\n    return n * FACTOR',
    'host.call(f, 5)',
    '''
@dataclasses.dataclass
class Fact:
    name: str
    def upper(self) -> str:
        return self.name.upper()
def facts() -> list[Fact]:
    return [Fact('a'), Fact('b')]
host.call(facts)
''',
    'host.call(lambda fact: fact.upper(), Fact("x"))',
    'print(host.call(print, "from there"))',
    'econtext.hosts("local:[1-2]", python=sys.executable).call(f, 1)',
    'host.call(lambda: 1 / 0)',
    'host',
]


def test_cells_are_called_and_called_anew(tmp_path):
    try:
        import ipykernel  # noqa: F401
        import nbclient
        import nbformat
    except ImportError:
        missing('nbclient and ipykernel')
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(notebook, timeout=60, allow_errors=True, kernel_name='python3',
                            resources={'metadata': {'path': str(tmp_path)}}).execute()

    def shown(number, kind='text/plain'):
        return [output['data'][kind] for output in notebook.cells[number].outputs if output.output_type == 'execute_result'][-1]

    assert shown(0) == '11', notebook.cells[0].outputs
    assert shown(2) == '-4' and shown(4) == '36'
    assert shown(5) == "[Fact(name='a'), Fact(name='b')]" and shown(6) == "'X'"
    assert ''.join(output.get('text', '') for output in notebook.cells[7].outputs) == 'from there\nNone\n'
    assert '<table>' in shown(8, 'text/html') and '>8<' in shown(8, 'text/html')
    error = notebook.cells[9].outputs[-1]
    assert error.ename == 'RemoteError[ZeroDivisionError]' and any('1 / 0' in line for line in error.traceback)
    assert 'econtext.Host' in shown(10, 'text/html')
    assert sys.version_info >= (3, 9)
