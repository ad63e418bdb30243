"""The HTML report of a study: one self-contained page, study.html."""

from __future__ import annotations

from simsearch.report.html import render_page
from simsearch.report.study.findings import format_sensitivity
from simsearch.report.study.view import MAX_LISTED_PAIRS, StudyView


def render_study(view: StudyView) -> str:
    """Render the page."""
    return render_page("study.html.j2", view=view, format_sensitivity=format_sensitivity, max_pairs=MAX_LISTED_PAIRS)
