"""Renders a page with jinja2, which need not be installed where it runs.

    pip install --target vendor jinja2
    econtext run --path vendor web01 examples/page.py
"""
import platform

import jinja2

template = jinja2.Template(u'{{ node }} runs Python {{ python }}, says jinja2 {{ version }}')
print(template.render(node=platform.node(), python=platform.python_version(), version=jinja2.__version__))
