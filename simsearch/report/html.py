"""From templates to pages that need nothing else. The only import of jinja2."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from typing import Any

import jinja2

from simsearch.report import format as wording
from simsearch.report.format import clean_text

_PACKAGE = "simsearch.report"
_FILTERS = (
    wording.format_number,
    wording.format_difference,
    wording.format_duration,
    wording.format_metric,
    wording.describe_metric,
    wording.format_parameter_count,
    wording.format_score,
    wording.format_share,
    wording.shorten_path,
    wording.format_size,
)


def render_page(template: str, **values: Any) -> str:
    """A page from a template of this package; every text put in is made showable and escaped, in any encoding whole.

    The page gets `script`, our only one, and `script_digest`, by which its policy allows that one and no other.
    """
    script = _read_template("table.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _make_environment(_PACKAGE).get_template(template).render(**values, script=script, script_digest=digest)


def render_package_page(package: str, template: str, **values: Any) -> str:
    """A page from a template in the folder `templates` of another package, by the same rules; without a script."""
    return _make_environment(package).get_template(template).render(**values)


@functools.cache
def _make_environment(package: str) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(functools.partial(_read_template, package=package)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean_value,
    )
    made.filters.update({function.__name__: function for function in _FILTERS})
    return made


def _read_template(name: str, package: str = _PACKAGE) -> str:
    return (resources.files(package) / "templates" / name).read_text("utf-8")


def _clean_value(value: Any) -> Any:
    """Plain texts are cleaned; markup, which is a kind of text, is ours and stays."""
    return clean_text(value) if type(value) is str else value
