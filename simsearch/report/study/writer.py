"""A study written into a folder: a page that needs nothing else, the same as JSON, and the pictures it is made of."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsearch.evaluation.machine import machine, versions
from simsearch.report.study.document import study_document
from simsearch.report.study.html import study_page
from simsearch.report.study.pictures import Making, draw_pieces
from simsearch.report.writing import make_folder, write_whole
from simsearch.study.study import Study


@dataclass(frozen=True, slots=True)
class StudyReport:
    """Where a study was written, and its JSON document."""

    page: Path
    file: Path
    document: dict[str, Any]


def write_study(study: Study, folder: str | Path, command: str, max_pixels: int | None = None) -> StudyReport:
    """Write study.html, study.json and the pictures into a folder, made if it is not there.

    What is there of an earlier study under the same names is written over. Raises `UsageError` when the folder's place
    is taken by a file, `SimsearchError` when something cannot be written.
    """
    place = Path(folder)
    make_folder(place)
    made_at = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    making = Making(command, machine(), versions(), made_at)
    pieces = draw_pieces(study, place, max_pixels)
    document = study_document(study, pieces, making)
    page = study_page(study, place, pieces, making)
    report = StudyReport(place / "study.html", place / "study.json", document)
    write_whole(report.file, (json.dumps(document, indent=2) + "\n").encode())
    write_whole(report.page, page.encode("utf-8"))
    return report
