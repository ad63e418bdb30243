"""Rendering of Jinja templates to self-contained HTML pages and to Markdown. The only import of jinja2."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

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
"""Functions that templates use, under short names."""

_MARKDOWN_MARKUP = re.compile(r"([\\`*{}\[\]<>|#~$!&]|(?<!\w)_|_(?!\w))")


def render_page(template: str, **values: Any) -> str:
    """Render an HTML template of this package; every text is cleaned of unprintable characters and escaped.

    The template also gets `script`, the sorting of tables, and `script_digest`, with which the content security policy
    of the page allows that script and no other.
    """
    script = _read_template("table.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _make_environment(_PACKAGE).get_template(template).render(**values, script=script, script_digest=digest)


def render_package_page(package: str, template: str, **values: Any) -> str:
    """Render an HTML template in the folder `templates` of another package, with the same filters and escaping."""
    return _make_environment(package).get_template(template).render(**values)


def render_markdown_page(template: str, **values: Any) -> str:
    """Render a Markdown template of this package; every text is cleaned, and escaped so that it is no markup.

    The filter `verbatim` cleans a text without escaping it, for code blocks.
    """
    return _make_markdown_environment().get_template(template).render(**values)


@functools.cache
def _make_environment(package: str) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(functools.partial(_read_template, package=package)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean_value,
    )
    environment.filters.update(_FILTERS)
    return environment


@functools.cache
def _make_markdown_environment() -> jinja2.Environment:
    environment = jinja2.Environment(  # `finalize` escapes values for Markdown
        loader=jinja2.FunctionLoader(_read_template),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_escape_markdown,
    )
    environment.filters.update(_FILTERS | {"verbatim": lambda text: Markup(clean_text(text))})
    return environment


def _read_template(name: str, package: str = _PACKAGE) -> str:
    return (resources.files(package) / "templates" / name).read_text("utf-8")


def _clean_value(value: Any) -> Any:
    """Clean plain text; markup, a subclass of `str`, stays as it is."""
    return clean_text(value) if type(value) is str else value


def _escape_markdown(value: Any) -> Any:
    """Clean plain text and escape it so that nothing in it is Markdown."""
    return _MARKDOWN_MARKUP.sub(r"\\\1", clean_text(value)) if type(value) is str else value
