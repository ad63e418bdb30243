"""`simsearch study`: all that can be said of a few pictures, on one page."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import (
    REPORT_FOLDER,
    BackbonesOption,
    JsonOption,
    MaxMegapixelsOption,
    OfflineWeightsOption,
    RangesOption,
    ResizeOption,
    SeedOption,
    WeightsOption,
    build_choices,
    to_pixels,
)
from simsearch.cli.output import format_path, print_json, print_notes, print_skipped_images

if TYPE_CHECKING:
    from simsearch.report.study.writer import StudyReport


def study(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="A few pictures, 24 at most.")],
    backbones: BackbonesOption = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="The layer to compare, such as fc2 of vgg16; default: features."),
    ] = None,
    n: Annotated[int, typer.Option("-n", metavar="N", help="How many augmented views of each; 0: none.")] = 10,
    top: Annotated[int, typer.Option("--top", metavar="N", help="How many classes to show.")] = 5,
    seed: SeedOption = None,
    ranges: RangesOption = None,
    resize: ResizeOption = None,
    weights: WeightsOption = None,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where the report goes.")] = REPORT_FOLDER,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineWeightsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Look closely at a few pictures: one page with predictions, feature maps, similarities and augmented views.

    Writes DIR/study.html, which needs nothing else, with study.json and the pictures beside it. Default backbones:
    vgg16 and resnet50, as in the study this grew out of, if their weights are on this machine; else builtin, which
    needs none, beside mobilenet_v2 or histogram. Those you name are downloaded if they have to be.

    Example:  simsearch study vase.jpg vase2.jpg flowerpot.jpg --backbone vgg16 --backbone resnet50 --out report
    """
    from simsearch.files import make_output_folder
    from simsearch.report.study.writer import write_study
    from simsearch.study.study import choose_default_models, run_study
    from simsearch.study.views import parse_augmentation

    views = parse_augmentation(n, seed, ranges)
    words = {"weights": weights, "layer": layer, "resize": resize, "precision": "f32", "offline": offline}
    choices, note = (build_choices(backbones, **words), "") if backbones else choose_default_models(**words)
    print_notes([note] if note else [])
    make_output_folder(out)
    limit = to_pixels(megapixels)
    found = run_study(images, choices, views, top=top, max_pixels=limit)
    print_notes(found.notes)
    print_skipped_images(found.comparison)
    command = shlex.join(["simsearch", *sys.argv[1:]])
    report = write_study(found, out, command, limit)
    if as_json:
        print_json(report.document)
    else:
        _print_report(report, out)


def _print_report(report: StudyReport, out: str) -> None:
    for sentence in report.document["summary"]:
        typer.echo(sentence)
    typer.echo(f"page: {format_path(str(Path(out, report.page.name)))}")
