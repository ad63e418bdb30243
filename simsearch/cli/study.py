"""`simsearch study`: all that can be said of a few pictures, on one page."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.studying import (
    REPORT_FOLDER,
    Backbones,
    Offline,
    ResizeRule,
    Weights,
    choices_of,
    tell_notes,
    tell_skips,
)
from simsearch.cli.terminal import AsJson, MaxMegapixels, Ranges, Seed, max_pixels, print_json, shown_path

if TYPE_CHECKING:
    from simsearch.report.study.writer import StudyReport


def study(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="A few pictures, 24 at most.")],
    backbones: Backbones = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="The layer to compare, such as fc2 of vgg16; default: features."),
    ] = None,
    n: Annotated[int, typer.Option("-n", metavar="N", help="How many augmented views of each; 0: none.")] = 10,
    top: Annotated[int, typer.Option("--top", metavar="N", help="How many classes to show.")] = 5,
    seed: Seed = None,
    ranges: Ranges = None,
    resize: ResizeRule = None,
    weights: Weights = None,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where the report goes.")] = REPORT_FOLDER,
    megapixels: MaxMegapixels = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Look closely at a few pictures: one page with predictions, feature maps, similarities and augmented views.

    Writes DIR/study.html, which needs nothing else, with study.json and the pictures beside it. Default backbones:
    vgg16 and resnet50, as in the study this grew out of, if their weights are on this machine; else builtin, which
    needs none, beside mobilenet_v2 or histogram. Those you name are downloaded if they have to be.

    Example:  simsearch study vase.jpg vase2.jpg flowerpot.jpg --backbone vgg16 --backbone resnet50 --out report
    """
    from simsearch.report.study.writer import write_study
    from simsearch.report.writing import make_folder
    from simsearch.study.study import default_choices, study
    from simsearch.study.views import augmentation

    views = augmentation(n, seed, ranges)
    words = {"weights": weights, "layer": layer, "resize": resize, "precision": "f32", "offline": offline}
    choices, note = (choices_of(backbones, **words), "") if backbones else default_choices(**words)
    tell_notes([note] if note else [])
    make_folder(out)
    limit = max_pixels(megapixels)
    found = study(images, choices, views, top=top, max_pixels=limit)
    tell_notes(found.notes)
    tell_skips(found.comparison)
    command = shlex.join(["simsearch", *sys.argv[1:]])
    report = write_study(found, out, command, limit)
    if as_json:
        print_json(report.document)
    else:
        _print(report, out)


def _print(report: StudyReport, out: str) -> None:
    for sentence in report.document["summary"]:
        typer.echo(sentence)
    typer.echo(f"page: {shown_path(str(Path(out, report.page.name)))}")
