"""Templates to answers."""

from __future__ import annotations

from typing import Any

from fastapi.responses import HTMLResponse, Response

from simsearch.report.html import render_package_page


def render_response(template: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> Response:
    """A page that may be kept, but is asked for again each time."""
    html = render_package_page("simsearch.web", template, **values)
    return HTMLResponse(html, status, {"Cache-Control": "private, no-cache", **(headers or {})})
