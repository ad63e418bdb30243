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
from simsearch.cli.output import (
    format_path,
    make_table,
    print_json,
    print_message,
    print_notes,
    print_skips,
    print_table,
)

if TYPE_CHECKING:
    from simsearch.study.predict import PredictionResult


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Image files.")],
    backbones: BackbonesOption = None,
    top: Annotated[int, typer.Option("--top", metavar="N", help="Number of classes to show.")] = 5,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="LABEL,...",
            help="Classify by these labels instead, with a network that answers texts (default: builtin).",
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt", metavar="TEMPLATE", help="A template for the labels, such as 'a photo of a {}'. Repeatable."
        ),
    ] = None,
    weights: WeightsOption = None,
    resize: ResizeOption = None,
    sheet: Annotated[
        str | None,
        typer.Option("--sheet", metavar="FILE", help="Draw the images with bars of their probabilities: out.png."),
    ] = None,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineWeightsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Classify images: the most probable of the 1000 ImageNet classes under each network.

    Default: builtin, and --resize crop, the evaluation protocol of ImageNet networks.

    Example:  simsearch predict vase.jpg --labels lamp,vase,bottle

    Example:  simsearch predict vase.jpg --backbone vgg16 --backbone resnet50 --top 5 --sheet classes.png
    """
    from simsearch.errors import UsageError
    from simsearch.files import check_is_no_input
    from simsearch.report.drawing.canvas import check_extension
    from simsearch.report.drawing.predictions import MAX_IMAGES, draw_predictions
    from simsearch.study.predict import predict as predict_classes
    from simsearch.study.predict import predict_labels

    if sheet is not None:
        check_extension(sheet)
        check_is_no_input(sheet, images)
    choices = build_choices(backbones, weights=weights, resize=resize, offline=offline)
    if labels is not None:
        predictions = predict_labels(
            images, labels.split(","), choices, prompts=prompt or (), top=top, max_pixels=to_pixels(megapixels)
        )
    elif prompt:
        raise UsageError("--prompt applies to --labels", "add --labels, or leave out --prompt")
    else:
        predictions = predict_classes(images, choices, top=top, max_pixels=to_pixels(megapixels))
    print_notes(predictions.notes)
    print_skips(predictions.skips)
    if sheet is not None:
        check_is_no_input(sheet, (image.path for image in predictions.images))
        draw_predictions(predictions, sheet)
        if len(predictions.images) > MAX_IMAGES:
            print_message(f"simsearch: {sheet} shows the first {MAX_IMAGES} of {len(predictions.images):,} images")
    if as_json:
        print_json(predictions.to_dict(sheet=sheet))
    else:
        _print_predictions(predictions)


def _print_predictions(predictions: PredictionResult) -> None:
    from rich.text import Text

    for image in predictions.images:
        table = make_table(format_path(image.path))
        table.add_column("rank", justify="right")
        for name in image.top_classes:
            table.add_column(name, overflow="fold")
            table.add_column("P", justify="right")
        for row in zip(*image.top_classes.values(), strict=True):
            cells = [cell for x in row for cell in (Text(x.cls.label), f"{x.probability:.4f}")]
            table.add_row(str(row[0].rank), *cells)
        print_table(table)
