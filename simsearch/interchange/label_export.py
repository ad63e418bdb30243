"""Export of labels: a column of the user's own as a table of paths and labels, which benchmark and learn read."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsearch.errors import UsageError
from simsearch.files import replace_output_file
from simsearch.store.catalog import Catalog
from simsearch.store.snapshot import open_snapshot


@dataclass(frozen=True, slots=True)
class LabelExportReport:
    """A file of labels, the column they are from, and the numbers of rows (files) and of different labels."""

    path: str
    column: str
    n_rows: int
    n_labels: int

    def to_dict(self) -> dict[str, Any]:
        """The report as `export --labels csv --json` prints it."""
        return {
            "path": self.path, "format": "labels", "column": self.column, "rows": self.n_rows, "labels": self.n_labels,
        }  # fmt: skip


def export_labels(catalog: Catalog, output: Path, column: str) -> LabelExportReport:
    """Write the files of all images that have a value in the column, by path, as CSV with the columns path and label.

    The bytes of a path that is not UTF-8 are written as they are. Raises `UsageError` where there is no such column.
    """
    columns = catalog.count_columns()
    if column not in columns:
        held = ", ".join(columns) or "none"
        raise UsageError(f"the collection has no column {column}", f"give one of its columns with --column ({held})")
    with open_snapshot(catalog.folder) as snapshot:
        image_ids = list(dict.fromkeys(image_id for _, image_id, _ in catalog.iterate_contents()))
        rows = [
            (file.path, str(image.columns[column]))
            for image in snapshot.read_images(image_ids).values()
            if column in image.columns
            for file in image.files
        ]
    rows.sort()
    with (
        replace_output_file(output) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(("path", "label"))
        writer.writerows(rows)
    return LabelExportReport(str(output), column, len(rows), len({label for _, label in rows}))
