"""From templates to pages that need nothing else. The only import of jinja2."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from typing import Any

import jinja2

from simsearch.report import format as wording
from simsearch.report.format import clean

_HERE = "simsearch.report"
_FILTERS = (
    wording.amount,
    wording.difference,
    wording.duration,
    wording.metric_label,
    wording.metric_meaning,
    wording.parameters,
    wording.score,
    wording.share,
    wording.short_path,
    wording.size,
)


def render(template: str, **values: Any) -> str:
    """A page from a template of this package; every text put in is made showable and escaped, in any encoding whole.

    The page gets `script`, our only one, and `script_digest`, by which its policy allows that one and no other.
    """
    script = _source("table.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _environment(_HERE).get_template(template).render(**values, script=script, script_digest=digest)


def render_from(package: str, template: str, **values: Any) -> str:
    """A page from a template in the folder `templates` of another package, by the same rules; without a script."""
    return _environment(package).get_template(template).render(**values)


@functools.cache
def _environment(package: str) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(functools.partial(_source, package=package)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_showable,
    )
    made.filters.update({function.__name__: function for function in _FILTERS})
    return made


def _source(name: str, package: str = _HERE) -> str:
    return (resources.files(package) / "templates" / name).read_text("utf-8")


def _showable(value: Any) -> Any:
    """Plain texts are cleaned; markup, which is a kind of text, is ours and stays."""
    return clean(value) if type(value) is str else value
