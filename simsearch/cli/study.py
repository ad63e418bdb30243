"""`simsearch study`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import (
    REPORT_FOLDER,
    BackbonesOption,
    JsonOption,
    LayerOption,
    MaxMegapixelsOption,
    OfflineWeightsOption,
    RangesOption,
    ResizeOption,
    SeedOption,
    WeightsOption,
    build_choices,
    to_pixels,
)
from simsearch.cli.output import (
    format_command_line,
    format_path,
    print_json,
    print_line,
    print_notes,
    print_skips,
    print_summary,
)

if TYPE_CHECKING:
    from simsearch.report.study.writer import StudyReport


def study(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Image files, at most 24.")],
    backbones: BackbonesOption = None,
    layer: LayerOption = None,
    n: Annotated[int, typer.Option("-n", metavar="N", help="Number of augmented views per image; 0: none.")] = 10,
    top: Annotated[int, typer.Option("--top", metavar="N", help="Number of classes to show.")] = 5,
    seed: SeedOption = None,
    ranges: RangesOption = None,
    resize: ResizeOption = None,
    weights: WeightsOption = None,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder of the report.")] = REPORT_FOLDER,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineWeightsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Study a few images in detail: one page with predictions, feature maps, similarities and augmented views.

    Writes DIR/study.html, a self-contained page, and study.json with all pictures next to it. Default backbones: vgg16
    and resnet50 if their weights are on this machine; otherwise builtin, which needs none, and mobilenet_v2 or
    histogram. Weights of the backbones that you name are downloaded if necessary.

    Example:  simsearch study vase.jpg vase2.jpg flowerpot.jpg --backbone vgg16 --backbone resnet50 --out report
    """
    from simsearch.files import make_output_folder
    from simsearch.report.study.writer import write_study
    from simsearch.study.study import choose_default_models, run_study
    from simsearch.study.views import parse_augmentation

    views = parse_augmentation(n, seed, ranges)
    options = {"weights": weights, "layer": layer, "resize": resize, "precision": "f32", "offline": offline}
    choices, note = (build_choices(backbones, **options), "") if backbones else choose_default_models(**options)
    print_notes([note] if note else [])
    make_output_folder(out)
    max_pixels = to_pixels(megapixels)
    result = run_study(images, choices, views, top=top, max_pixels=max_pixels)
    print_notes(result.notes)
    print_skips(result.comparison.skips)
    report = write_study(result, out, format_command_line(), max_pixels)
    if as_json:
        print_json(report.to_dict())
    else:
        _print_report(report, out)


def _print_report(report: StudyReport, out: str) -> None:
    for sentence in report.summary:
        print_line(sentence)
    print_summary(f"page: {format_path(str(Path(out, report.page.name)))}")
