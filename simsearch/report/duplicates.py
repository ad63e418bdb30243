"""What a collection holds more than once, as a page with pictures, as a table, and as one JSON document."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsearch.duplicates.results import TIERS, DuplicateGroup, DuplicateReport, GroupMember, Tier
from simsearch.errors import UsageError
from simsearch.files import make_output_folder, write_output_file
from simsearch.images.thumbnails import make_thumbnail
from simsearch.report.html import render_page
from simsearch.text import join_names

MAX_PICTURES = 1_500
"""So many pictures are on a page, which makes about 8 MB; the table and the JSON have all groups."""

MAX_IN_GROUP = 24
_PICTURE_PX = 220
_N_THREADS = 4
_COLUMNS = ("group", "tier", "suggestion", "path", "image_id", "similarity", "width", "height", "size_bytes")

TIER_TITLES: dict[Tier, str] = {"exact": "The same bytes", "near": "The same picture, edited", "similar": "Alike"}
TIER_DESCRIPTIONS: dict[Tier, str] = {
    "exact": "Files that are equal to the last byte. Any one of them is as good as the others.",
    "near": "One picture saved again, resized, mirrored, slightly cropped, turned or brightened: the network finds "
    "them close, and their pixels can be laid over each other.",
    "similar": "Different pictures that look much alike, such as a burst of shots. All are suggested to be kept.",
}


@dataclass(frozen=True, slots=True)
class DuplicatesContext:
    """Which collection was asked, by which model, and with which command."""

    collection: str
    backbone: str
    model: str
    command: str


@dataclass(frozen=True, slots=True)
class GroupPicture:
    """A picture of the page: an image by its files, the first of which is kept or could go."""

    member: GroupMember
    data: str | None
    suggestion: str


@dataclass(frozen=True, slots=True)
class GroupCard:
    """A group of the page, with its number in the report and the pictures that are shown of it."""

    number: int
    group: DuplicateGroup
    tiles: tuple[GroupPicture, ...]
    image_ids: str


def check_report_path(file: str | os.PathLike[str]) -> None:
    """Before work is done for it: whether a report can be written under that name. Raises `UsageError`."""
    if Path(file).suffix.lower() not in (".html", ".csv", ".json"):
        raise UsageError(f"{os.fspath(file)} is no kind of report there is", "end its name in .html, .csv or .json")


def write_duplicates(report: DuplicateReport, about: DuplicatesContext, file: str | os.PathLike[str]) -> None:
    """Write the report as its name's extension says: .html, .csv or .json.

    Raises `UsageError` on another extension, `SimsearchError` when it cannot be written.
    """
    check_report_path(file)
    place = Path(file)
    kind = place.suffix.lower()
    if kind == ".html":
        content = render_duplicates(report, about).encode("utf-8")
    elif kind == ".csv":
        content = build_duplicates_csv(report).encode(
            "utf-8", "surrogateescape"
        )  # a path that is no UTF-8 as its bytes
    else:
        content = (json.dumps(build_duplicates_document(report, about), indent=2) + "\n").encode()
    make_output_folder(place.parent)
    write_output_file(place, content)


def build_duplicates_document(report: DuplicateReport, about: DuplicatesContext) -> dict[str, Any]:
    """Plain lists, texts and numbers; groups in the order of the report, numbered from 1."""
    return {
        "collection": about.collection,
        "backbone": about.backbone,
        "model": about.model,
        **report.to_dict(),
    }


def build_duplicates_csv(report: DuplicateReport) -> str:
    """CSV, a row a file: the number and tier of its group, `keep`, `remove` or `look`, the path, and facts."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(_COLUMNS)
    for number, group in enumerate(report.groups, start=1):
        for member in group.members:
            facts = (f"{member.similarity:.6f}", member.width, member.height, member.size_bytes)
            for path in member.paths:
                writer.writerow((number, group.tier, suggest_action(group, path), path, member.image_id, *facts))
    return stream.getvalue()


def render_duplicates(report: DuplicateReport, about: DuplicatesContext) -> str:
    """One HTML page that needs nothing else: within a tier the groups that free most come first."""
    blocks = list(_build_cards(report))
    return render_page(
        "duplicates.html.j2",
        report=report,
        about=about,
        sentences=summarize_duplicates(report),
        sections=[
            (tier, TIER_TITLES[tier], TIER_DESCRIPTIONS[tier], [block for block in blocks if block.group.tier == tier])
            for tier in TIERS
            if report.select_tier(tier)
        ],
        n_removable=len(report.removable_paths),
        freed=report.freed_bytes,
        collection_quoted=shlex.quote(about.collection),
        n_hidden=len(report.groups) - len(blocks),
        most_in_group=MAX_IN_GROUP,
    )


def summarize_duplicates(report: DuplicateReport) -> list[str]:
    """What was found, in sentences."""
    n_files, counts = len(report.removable_paths), {tier: len(report.select_tier(tier)) for tier in TIERS}
    if not report.groups:
        return [f"No duplicates among {report.n_images:,} images."]
    kinds = {"exact": "of equal files", "near": "of edited pictures", "similar": "of look-alikes"}
    found = [f"{_format_count(n, 'group')} {kinds[tier]}" for tier, n in counts.items() if n]
    sentences = [f"{join_names(found)}."]
    if n_files:
        sentences.append(f"{_format_count(n_files, 'file')} could go. Nothing was deleted.")
    else:
        sentences.append("No file is suggested to go. Nothing was deleted.")
    return sentences


def suggest_action(group: DuplicateGroup, path: str) -> str:
    """`keep`, `remove`, or `look` where the pictures are different ones."""
    if group.tier == "similar":
        return "look"
    return "keep" if path in group.kept_paths else "remove"


def _format_count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _build_cards(report: DuplicateReport) -> Iterator[GroupCard]:
    """The groups that are shown, with their pictures, until there are enough of these."""
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
            pictures = pool.map(lambda member: make_thumbnail(member.paths[0], _PICTURE_PX), shown)
            tiles = tuple(
                GroupPicture(member, data, suggest_action(group, member.paths[0]))
                for member, data in zip(shown, pictures, strict=True)
            )
            yield GroupCard(number, group, tiles, ",".join(str(member.image_id) for member in group.members))
