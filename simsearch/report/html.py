"""From templates to pages that need nothing else. The only import of jinja2."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from typing import Any

import jinja2

from simsearch.report.format import (
    describe_metric,
    format_difference,
    format_duration,
    format_metric,
    format_number,
    format_parameter_count,
    format_score,
    format_share,
)
from simsearch.text import clean_text, format_size, shorten_path

_PACKAGE = "simsearch.report"
_FILTERS = {
    "amount": format_number,
    "difference": format_difference,
    "duration": format_duration,
    "metric_label": format_metric,
    "metric_meaning": describe_metric,
    "parameters": format_parameter_count,
    "score": format_score,
    "share": format_share,
    "short_path": shorten_path,
    "size": format_size,
}
"""Functions of templates, under short names."""


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
    made.filters.update(_FILTERS)
    return made


def _read_template(name: str, package: str = _PACKAGE) -> str:
    return (resources.files(package) / "templates" / name).read_text("utf-8")


def _clean_value(value: Any) -> Any:
    """Plain texts are cleaned; markup, which is a kind of text, is ours and stays."""
    return clean_text(value) if type(value) is str else value
