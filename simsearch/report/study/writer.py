"""Writing a study report into a folder: an HTML page, JSON, and the pictures of both."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsearch.files import make_output_folder, write_output_file
from simsearch.machine import describe_machine, list_versions
from simsearch.report.study.findings import summarize_study
from simsearch.report.study.html import render_study
from simsearch.report.study.pictures import draw_study_pictures
from simsearch.report.study.view import StudyProvenance, build_view
from simsearch.study.study import StudyPictures, StudyResult
from simsearch.text import format_document


@dataclass(frozen=True, slots=True)
class StudyReport:
    """A study with its files in the folder of the report: the page, the JSON file and the pictures."""

    page: Path
    file: Path
    study: StudyResult
    pictures: StudyPictures
    provenance: StudyProvenance
    summary: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The content of study.json, which `simsearch study --json` prints."""
        study = self.study.to_dict(self.pictures, summary=self.summary)
        return {"page": self.page.name, **study, **dataclasses.asdict(self.provenance)}


def write_study(study: StudyResult, folder: str | Path, command: str, max_pixels: int | None = None) -> StudyReport:
    """Write study.html, study.json and the pictures into a folder, which is created if missing.

    Files of an earlier study under the same names are replaced. Raises `UsageError` when a file has the name of the
    folder, `ImageError` when an image cannot be read any more, `SimsearchError` when a file cannot be written.
    """
    folder = Path(folder)
    make_output_folder(folder)
    made_at = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    provenance = StudyProvenance(command, describe_machine(), list_versions(), made_at)
    pictures, summary = draw_study_pictures(study, folder, max_pixels), summarize_study(study)
    report = StudyReport(folder / "study.html", folder / "study.json", study, pictures, provenance, summary)
    page = render_study(build_view(study, folder, pictures, provenance, summary))
    write_output_file(report.file, (format_document(report.to_dict()) + "\n").encode())
    write_output_file(report.page, page.encode("utf-8"))
    return report
