"""`simsearch predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import (
    BackbonesOption,
    JsonOption,
    MaxMegapixelsOption,
    OfflineWeightsOption,
    ResizeOption,
    WeightsOption,
    build_choices,
    to_pixels,
)
from simsearch.cli.output import format_path, print_json, print_message, print_notes, print_skipped_images

if TYPE_CHECKING:
    from simsearch.study.predict import PredictionResult


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Pictures.")],
    backbones: BackbonesOption = None,
    top: Annotated[int, typer.Option("--top", metavar="N", help="How many classes to show.")] = 5,
    weights: WeightsOption = None,
    resize: ResizeOption = None,
    sheet: Annotated[
        str | None,
        typer.Option("--sheet", metavar="FILE", help="Draw the pictures with their bars, such as out.png."),
    ] = None,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineWeightsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show which of ImageNet's 1000 classes networks take pictures for, with probabilities.

    Default: mobilenet_v2, and the resize rule `crop`, as ImageNet networks are evaluated.

    Example:  simsearch predict vase.jpg --backbone vgg16 --backbone resnet50 --top 5 --sheet classes.png
    """
    from simsearch.report.drawing.canvas import check_extension
    from simsearch.report.drawing.predictions import MAX_IMAGES, draw_predictions
    from simsearch.study.predict import predict

    if sheet is not None:
        check_extension(sheet)
    choices = build_choices(backbones, weights=weights, resize=resize, offline=offline)
    predictions = predict(images, choices, top=top, max_pixels=to_pixels(megapixels))
    print_notes(predictions.notes)
    print_skipped_images(predictions)
    if sheet is not None:
        draw_predictions(predictions, sheet)
        if len(predictions.images) > MAX_IMAGES:
            print_message(f"simsearch: {sheet} shows the first {MAX_IMAGES} of {len(predictions.images):,} images")
    if as_json:
        print_json(predictions.to_dict(sheet=sheet))
    else:
        _print_predictions(predictions)


def _print_predictions(predictions: PredictionResult) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for image in predictions.images:
        table = Table(title=Text(format_path(image.path)), title_justify="left", box=None, pad_edge=False)
        table.add_column("rank", justify="right")
        for name in image.top_classes:
            table.add_column(name, overflow="fold")
            table.add_column("", justify="right")
        for row in zip(*image.top_classes.values(), strict=True):
            cells = [cell for x in row for cell in (Text(x.cls.label), f"{x.probability:.4f}")]
            table.add_row(str(row[0].rank), *cells)
        console.print(table)
