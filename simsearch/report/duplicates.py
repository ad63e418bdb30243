"""The report of duplicates: an HTML page with thumbnails, a CSV table, JSON, or a script that moves files."""

from __future__ import annotations

import csv
import io
import os
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsearch.duplicates.options import TIERS, Tier
from simsearch.duplicates.results import Action, DuplicateGroup, DuplicateReport, GroupMember
from simsearch.errors import UsageError
from simsearch.files import make_output_folder, write_output_file
from simsearch.images.thumbnails import make_thumbnail
from simsearch.report.html import render_page
from simsearch.report.move_script import build_move_script
from simsearch.text import clean_text, format_document, join_names

MAX_PICTURES = 1_500
"""The page shows at most this many images, which makes about 8 MB; the table and the JSON have all groups."""

MAX_IN_GROUP = 24
_PICTURE_PX = 220
_N_THREADS = 4
_COLUMNS = (
    "group", "tier", "suggestion", "path", "image_id", "similarity", "width", "height", "size_bytes", "reason"
)  # fmt: skip
_EXTENSIONS = (".html", ".csv", ".json", ".sh")

TIER_TITLES: dict[Tier, str] = {"exact": "Identical files", "near": "Edited copies", "similar": "Similar images"}
TIER_DESCRIPTIONS: dict[Tier, str] = {
    "exact": "Files with the same bytes. Any of them can be kept.",
    "near": "The same image, saved again, resized, mirrored, cropped, rotated, with other tones or partly covered: the "
    "pixels agree when the images are aligned.",
    "similar": "Different images that look much the same, such as a burst of shots. Only exact copies of one of them "
    "could go.",
}
_TIER_KINDS: dict[Tier, str] = {"exact": "identical files", "near": "edited copies", "similar": "similar images"}


@dataclass(frozen=True, slots=True)
class DuplicatesContext:
    """The collection that was searched, the model, and the command."""

    collection: str
    backbone: str
    model: str
    command: str

    def to_dict(self) -> dict[str, Any]:
        """The part of the JSON report that is not in `DuplicateReport.to_dict()`."""
        return {"collection": self.collection, "backbone": self.backbone, "model": self.model}


@dataclass(frozen=True, slots=True)
class GroupPicture:
    """An image of the page; `data` is a data URL, None if unreadable."""

    member: GroupMember
    data: str | None

    @property
    def suggestion(self) -> Action:
        """The suggestion for its first file."""
        return self.member.files[0].action


@dataclass(frozen=True, slots=True)
class GroupCard:
    """A group of the page, with its number in the report, the images shown, and the ids of all, joined by commas."""

    number: int
    group: DuplicateGroup
    pictures: tuple[GroupPicture, ...]
    image_ids: str


@dataclass(frozen=True, slots=True)
class TierSection:
    """A section of the page: the groups of one tier, those that free most bytes first."""

    tier: Tier
    cards: tuple[GroupCard, ...]

    @property
    def title(self) -> str:
        """The heading of the section."""
        return TIER_TITLES[self.tier]

    @property
    def description(self) -> str:
        """A definition of the tier."""
        return TIER_DESCRIPTIONS[self.tier]


@dataclass(frozen=True, slots=True)
class DuplicatesView:
    """What the template of the page shows."""

    report: DuplicateReport
    context: DuplicatesContext
    summary: tuple[str, ...]
    sections: tuple[TierSection, ...]

    @property
    def n_hidden(self) -> int:
        """The number of groups that are not shown."""
        return len(self.report.groups) - sum(len(section.cards) for section in self.sections)

    @property
    def quoted_collection(self) -> str:
        """The collection as an argument of a shell command."""
        return shlex.quote(self.context.collection)


def check_report_path(file: str | os.PathLike[str]) -> None:
    """Check that a report can have this name, before any work is done for it. Raises `UsageError`."""
    if Path(file).suffix.lower() not in _EXTENSIONS:
        problem = f"{clean_text(os.fspath(file))} has no extension of a report format"
        raise UsageError(problem, "use .html, .csv, .json, or .sh for a script that moves files")


def write_duplicates(report: DuplicateReport, context: DuplicatesContext, file: str | os.PathLike[str]) -> None:
    """Write the report in the format of the file's extension: .html, .csv, .json, or .sh (a script that moves files).

    Raises `UsageError` for another extension, `SimsearchError` when the file cannot be written.
    """
    check_report_path(file)
    file = Path(file)
    kind = file.suffix.lower()
    if kind == ".html":
        content = render_duplicates(report, context).encode("utf-8")
    elif kind == ".csv":
        content = build_duplicates_csv(report).encode("utf-8", "surrogateescape")  # keeps bytes that are not UTF-8
    elif kind == ".sh":
        content = build_move_script(report)
    else:
        document = context.to_dict() | report.to_dict()
        content = (format_document(document) + "\n").encode()
    make_output_folder(file.parent)
    write_output_file(file, content)


def build_duplicates_csv(report: DuplicateReport, name_path: Callable[[str], str] = str) -> str:
    """Build a CSV with a row per file: group number, tier, suggestion, path, and facts of the image.

    `name_path` gives the path that is written.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(_COLUMNS)
    for number, group in enumerate(report.groups, start=1):
        for member in group.members:
            facts = (f"{member.similarity:.6f}", member.width, member.height, member.size_bytes)
            for file in member.files:
                row = (number, group.tier, file.action, name_path(file.path), member.image_id, *facts, file.reason)
                writer.writerow(row)
    return stream.getvalue()


def render_duplicates(report: DuplicateReport, context: DuplicatesContext) -> str:
    """Render one self-contained HTML page; in a section, the groups that free most bytes come first."""
    cards = list(_build_cards(report))
    sections = tuple(
        TierSection(tier, tuple(card for card in cards if card.group.tier == tier))
        for tier in TIERS
        if report.select_tier(tier)
    )
    view = DuplicatesView(report, context, summarize_duplicates(report), sections)
    return render_page("duplicates.html.j2", view=view, max_in_group=MAX_IN_GROUP)


def summarize_duplicates(report: DuplicateReport) -> tuple[str, ...]:
    """Summarize the groups and the suggestion in sentences."""
    if not report.groups:
        return (f"No duplicates among {report.n_images:,} images.",)
    counts = {tier: len(report.select_tier(tier)) for tier in TIERS}
    groups = [f"{_format_count(n, 'group')} of {_TIER_KINDS[tier]}" for tier, n in counts.items() if n]
    n_files = len(report.removable_paths)
    suggestion = f"{_format_count(n_files, 'file')} can be removed." if n_files else "No file is suggested for removal."
    return f"{join_names(groups)}.", f"{suggestion} Nothing was deleted."


def _format_count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _build_cards(report: DuplicateReport) -> Iterator[GroupCard]:
    """Yield the groups to show with their images, until the page has enough images."""
    numbered = sorted(
        enumerate(report.groups, start=1),
        key=lambda pair: (TIERS.index(pair[1].tier), -pair[1].freed_bytes, pair[0]),
    )
    n_pictures = 0
    with ThreadPoolExecutor(_N_THREADS) as pool:
        for number, group in numbered:
            shown = group.members[:MAX_IN_GROUP]
            n_pictures += len(shown)
            if n_pictures > MAX_PICTURES:
                return
            thumbnails = pool.map(lambda member: make_thumbnail(member.paths[0], _PICTURE_PX), shown)
            pictures = tuple(GroupPicture(member, data) for member, data in zip(shown, thumbnails, strict=True))
            yield GroupCard(number, group, pictures, ",".join(str(member.image_id) for member in group.members))
