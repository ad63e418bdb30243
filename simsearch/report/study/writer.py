"""A study written into a folder: a page that needs nothing else, the same as JSON, and the pictures it is made of."""

from __future__ import annotations

import dataclasses
import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsearch.files import make_output_folder, write_output_file
from simsearch.machine import describe_machine, list_versions
from simsearch.report.study.findings import summarize_study
from simsearch.report.study.html import render_study
from simsearch.report.study.pictures import StudyProvenance, draw_study_pictures
from simsearch.study.study import StudyResult


@dataclass(frozen=True, slots=True)
class StudyReport:
    """Where a study was written, and its JSON document."""

    page: Path
    file: Path
    document: dict[str, Any]


def write_study(study: StudyResult, folder: str | Path, command: str, max_pixels: int | None = None) -> StudyReport:
    """Write study.html, study.json and the pictures into a folder, made if it is not there.

    What is there of an earlier study under the same names is written over. Raises `UsageError` when the folder's place
    is taken by a file, `SimsearchError` when something cannot be written.
    """
    place = Path(folder)
    make_output_folder(place)
    made_at = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    making = StudyProvenance(command, describe_machine(), list_versions(), made_at)
    pieces = draw_study_pictures(study, place, max_pixels)
    found = study.to_dict(pieces, summary=summarize_study(study))
    document = {"page": "study.html", **found, **dataclasses.asdict(making)}
    page = render_study(study, place, pieces, making)
    report = StudyReport(place / "study.html", place / "study.json", document)
    write_output_file(report.file, (json.dumps(document, indent=2) + "\n").encode())
    write_output_file(report.page, page.encode("utf-8"))
    return report
