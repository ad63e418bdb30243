"""`simsearch duplicates`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from simsearch.cli.options import (
    BackboneOption,
    CollectionOption,
    JsonOption,
    MaxMegapixelsOption,
    MovedWeightsOption,
    OfflineOption,
    find_collection,
    to_pixels,
)
from simsearch.cli.output import (
    ProgressBar,
    format_command_line,
    format_path,
    print_json,
    print_line,
    print_message,
    print_paths0,
    print_summary,
)
from simsearch.errors import UsageError
from simsearch.text import format_size

if TYPE_CHECKING:
    from simsearch.duplicates.results import DuplicateGroup, DuplicateReport, GroupMember, MemberFile

TierName = Literal["exact", "near", "similar"]
KeepRuleName = Literal["largest", "oldest", "newest", "shortest-path"]

_MAX_GROUPS_SHOWN, _MAX_FILES_SHOWN = 20, 8
_SUGGESTION_LABELS = {"keep": "keep", "remove": "remove", "look": "review"}


def duplicates(
    in_: CollectionOption = None,
    backbone: BackboneOption = None,
    tier: Annotated[
        TierName | None,
        typer.Option(
            "--tier",
            help="Lowest tier to search. exact: same bytes. near (default): edited copies. similar: similar images.",
        ),
    ] = None,
    false_positive_rate: Annotated[
        float | None,
        typer.Option(
            "--false-positive-rate",
            metavar="X",
            help="Removed: edited copies are verified by a fixed rule.",
            hidden=True,
        ),
    ] = None,
    min_similarity: Annotated[
        float | None,
        typer.Option("--min-similarity", metavar="X", help="Cosine threshold of the tier similar. Default: measured."),
    ] = None,
    keep: Annotated[
        KeepRuleName | None,
        typer.Option("--keep", help="First criterion for the file to keep; ties: other evidence. Default: largest."),
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            "--out", metavar="FILE", help="Write .html, .csv, .json, or .sh, a script that moves files. Repeatable."
        ),
    ] = None,
    print0: Annotated[
        bool,
        typer.Option("--print0", help="Print only the paths that could be removed, each ended by a NUL, for xargs -0."),
    ] = False,
    reject: Annotated[
        list[str] | None,
        typer.Option(
            "--reject", metavar="IDS", help="Remember that these images are not duplicates: 12,15. Repeatable."
        ),
    ] = None,
    unreject: Annotated[
        list[str] | None, typer.Option("--unreject", metavar="IDS", help="Undo --reject. Repeatable.")
    ] = None,
    weights: MovedWeightsOption = None,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find duplicate images in a collection, and suggest which files to keep. Nothing is ever deleted.

    Edited copies (re-encoded, resized, mirrored, rotated, cropped, other tones, overlays) are found among the nearest
    images and verified by their pixels. Results are kept: a later search compares only new images. A file is suggested
    for removal only if the kept file has everything that it has; links and files with several names never are. With
    --reject or --unreject nothing is searched.

    Example:  simsearch duplicates --in indexes/photos --out duplicates.html --out move.sh
    """
    from simsearch.collection import Collection
    from simsearch.models.weights import WeightsOptions

    folder = find_collection(in_)
    if false_positive_rate is not None:
        problem = "--false-positive-rate was removed: edited copies are verified by a fixed rule"
        raise UsageError(problem, "leave it out; --min-similarity sets the threshold of the tier similar")
    if print0 and as_json:
        raise UsageError("--print0 and --json cannot be combined", "give one of them")
    if reject or unreject:
        _update_rejections(folder, reject or [], unreject or [], as_json=as_json)
        return
    from simsearch.duplicates.options import DuplicateOptions
    from simsearch.report.duplicates import DuplicatesContext, check_report_path, write_duplicates

    for file in out or ():
        check_report_path(file)
    given: dict[str, Any] = {
        "down_to": tier,
        "min_similarity": min_similarity,
        "keep": keep,
        "max_pixels": to_pixels(megapixels),
    }
    options = DuplicateOptions(**{name: value for name, value in given.items() if value is not None})
    with Collection.open(folder) as collection, ProgressBar() as bar:
        collection.check_outputs(out or ())
        stored = collection.model(backbone)
        report = collection.duplicates(
            options, backbone=backbone, weights=WeightsOptions(weights, offline), progress=bar.show_stage
        )
    context = DuplicatesContext(folder, stored.model.backbone, stored.fingerprint, format_command_line())
    for file in out or ():
        write_duplicates(report, context, file)
    _print_unreadable(report.unread)
    if print0:
        print_paths0(report.removable_paths)
        return
    if as_json:
        print_json(context.to_dict() | report.to_dict())
        return
    _print_report(report)
    for file in out or ():
        print_summary(f"written: {format_path(file)}")


def _update_rejections(folder: str, rejected: list[str], unrejected: list[str], *, as_json: bool) -> None:
    """Store and remove rejected pairs, and print how many."""
    from simsearch.collection import Collection

    to_reject = [_parse_ids(text, "--reject") for text in rejected]
    to_unreject = [_parse_ids(text, "--unreject") for text in unrejected]
    with Collection.open(folder) as collection:
        n_rejected = sum(collection.reject_duplicates(ids) for ids in to_reject)
        n_unrejected = sum(collection.unreject_duplicates(ids) for ids in to_unreject)
    if as_json:
        print_json({"collection": folder, "rejected_pairs": n_rejected, "forgotten_pairs": n_unrejected})
        return
    if rejected:
        print_summary(f"{n_rejected:,} pairs will not be reported as duplicates again; --unreject undoes it")
    if unrejected:
        print_summary(f"{n_unrejected:,} rejected pairs removed")


def _parse_ids(text: str, option: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"{option} {text} is not a list of image ids", "write the ids with commas: 12,15")
    return [int(part) for part in parts]


def _print_unreadable(paths: Sequence[str]) -> None:
    for path in paths[:_MAX_FILES_SHOWN]:
        print_message(f"  cannot be read now: {format_path(path)}")
    if len(paths) > _MAX_FILES_SHOWN:
        print_message(f"  and {len(paths) - _MAX_FILES_SHOWN:,} more")


def _print_report(report: DuplicateReport) -> None:
    from simsearch.report.duplicates import summarize_duplicates

    for number, group in enumerate(report.groups[:_MAX_GROUPS_SHOWN], start=1):
        _print_group(number, group)
    if len(report.groups) > _MAX_GROUPS_SHOWN:
        print_line(f"and {len(report.groups) - _MAX_GROUPS_SHOWN:,} more groups: see --out or --json")
    size = report.freed_bytes
    print_line(" ".join(summarize_duplicates(report)) + (f" That would free {format_size(size)}." if size else ""))
    if measured := report.calibration:
        print_line(f"similar: cosine of at least {measured.similar_similarity:.3f}")


def _print_group(number: int, group: DuplicateGroup) -> None:
    from simsearch.report.duplicates import TIER_TITLES

    ids = ",".join(str(member.image_id) for member in group.members)
    print_line(f"{number}  {TIER_TITLES[group.tier]}  ({'image' if len(group.members) == 1 else 'images'} {ids})")
    lines = [
        f"   {_SUGGESTION_LABELS[file.action]:<8} {member.similarity:.3f}  "
        f"{f'{member.width} x {member.height}':>13}  {format_size(member.size_bytes):>9}  {format_path(file.path)}"
        f"{_format_remarks(member, file)}"
        for member in group.members
        for file in member.files
    ]
    for line in lines[:_MAX_FILES_SHOWN]:
        print_line(line)
    if len(lines) > _MAX_FILES_SHOWN:
        print_line(f"   and {len(lines) - _MAX_FILES_SHOWN:,} more files")


def _format_remarks(member: GroupMember, file: MemberFile) -> str:
    """How a copy differs, and the reason of the suggestion."""
    remarks = [text for text in (member.copy_text, file.reason) if text]
    return f"  ({'; '.join(remarks)})" if remarks else ""
