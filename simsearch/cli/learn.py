"""`simsearch learn`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from simsearch.cli.options import CollectionOption, JsonOption, find_collection
from simsearch.cli.output import format_path, print_json, print_line, print_summary, show_activity
from simsearch.errors import UsageError

if TYPE_CHECKING:
    from simsearch.learn.results import Gain, LearnReport

TaskName = Literal["known", "new"]


def learn(
    in_: CollectionOption = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="FILE|COLUMN", help="A label file, or a column of the collection. Default: the folders."
        ),
    ] = None,
    group_by: Annotated[
        str | None, typer.Option("--group-by", metavar="REGEX", help="The match in the path is the label.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", metavar="NAME", help="The backbone whose vectors are mapped. Default: the last."),
    ] = None,
    task: Annotated[
        TaskName | None,
        typer.Option(
            "--for",
            help="known: best for new images of the labeled classes. new: best for other classes. Default: best for "
            "both together, but not worse for new ones.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the result. Default: <backbone>-learned.")
    ] = None,
    export: Annotated[
        str | None,
        typer.Option("--export", metavar="FILE.onnx", help="Also write the backbone with its map as a model file."),
    ] = None,
    suggest: Annotated[
        int | None,
        typer.Option(
            "--suggest",
            metavar="N",
            help="Learn nothing, but list N images to label next: unsure ones, and ones unlike all that have a label. "
            "Labels: a column or file; default: the column label.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Store the result even if it does not help.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of the splits.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Learn from labels: make retrieval better on your own images, and measure by how much.

    The result is a backbone of the collection like any other. It maps vectors that are stored, so no image is read
    again; images that are indexed later get their vectors of it too. The expected gain is measured on images that were
    not learned from. Where nothing helps, nothing is stored.

    Example:  simsearch learn --in indexes/photos

    Example:  simsearch learn --in indexes/photos --export flowers.onnx

    Example:  simsearch query photo.jpg --in indexes/photos --backbone builtin-learned

    Example:  simsearch learn --in indexes/photos --suggest 20
    """
    if suggest is not None:
        if group_by is not None:
            raise UsageError("--group-by labels every image, so that none is left to suggest", "leave it out")
        _suggest(find_collection(in_), suggest, backbone, labels, seed, as_json=as_json)
        return
    from simsearch.collection import Collection
    from simsearch.learn.image_labels import LabelChoice
    from simsearch.learn.learn import LearnOptions, learn_from_labels

    stages = contextlib.ExitStack()

    def show_stage(stage: str) -> None:
        stages.close()
        stages.enter_context(show_activity(stage))

    options = LearnOptions(
        backbone=backbone, labels=LabelChoice(labels, group_by), task=task, name=name, seed=seed, force=force,
        export=None if export is None else Path(export),
        progress=show_stage,
    )  # fmt: skip
    with stages, Collection.open(find_collection(in_)) as collection:
        report = learn_from_labels(collection, options)
    if as_json:
        print_json(report.to_dict())
    else:
        _print_report(report)


def _suggest(folder: str, n: int, backbone: str | None, labels: str | None, seed: int, *, as_json: bool) -> None:
    from simsearch.collection import Collection
    from simsearch.learn.suggestions import suggest_images

    with Collection.open(folder) as collection:
        found = suggest_images(collection, n, backbone=backbone, labels=labels, seed=seed)
    if as_json:
        print_json({"suggestions": [one.to_dict() for one in found]})
        return
    for one in found:
        shares = " or ".join(f"{label} ({share:.0%})" for label, share in one.labels)
        why = f"unsure: {shares}" if one.labels else "unlike all that have a label"
        print_line(f"{one.image_id:>8}  {format_path(one.path)}  {why}")


def _print_report(report: LearnReport) -> None:
    print_line(
        f"{format_path(report.collection)}: {report.n_images:,} images of {report.n_classes:,} classes "
        f"(labels: {format_path(report.labels)}), {report.base}"
    )
    for note in report.notes:
        print_line(f"  {note}")
    print_line("expected mean average precision (mAP) on images that were not learned from:")
    print_line(f"  new images of known classes  {_format_gain(report.known)}")
    print_line(f"  new classes                  {_format_gain(report.new)}")
    if report.name is None:
        print_line("no reliable gain: nothing was stored (--force stores it all the same)")
        return
    print_summary(f"stored as {report.name} ({report.width} d); use it with --backbone {report.name}")
    if report.exported:
        print_summary(f"written to {format_path(report.exported)}; any folder can be indexed with --backbone FILE")


def _format_gain(gain: Gain | None) -> str:
    if gain is None:
        return "not measurable with these labels"
    difference = f"{gain.after - gain.before:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
    return f"{gain.before:.3f} -> {gain.after:.3f}  {difference}, p = {gain.p:.2g}, {gain.n_queries:,} queries"
