"""`simsearch predict`, `features` and `compare`: a few pictures, looked at closely."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simsearch.cli.terminal import (
    BackboneOption,
    JsonOption,
    MaxMegapixelsOption,
    format_path,
    print_json,
    print_message,
    to_pixels,
)

if TYPE_CHECKING:
    from simsearch import ModelChoice
    from simsearch.report.drawing.comparison import ComparisonPictures
    from simsearch.study.compare import ImageComparison
    from simsearch.study.features import ImageFeatures
    from simsearch.study.predict import PredictionResult

REPORT_FOLDER = "report"
_MAX_PAIRS_SHOWN = 100

BackbonesOption = Annotated[
    list[str] | None,
    typer.Option("--backbone", metavar="NAME", help="A row of `simsearch backbones`; several stand side by side."),
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", metavar="PATH", help="A weights file, or `random` (to see how a network is built)."),
]
ResizeOption = Annotated[
    str | None, typer.Option("--resize", help="How pictures become square: squash, crop, pad or nearest.")
]
OfflineWeightsOption = Annotated[bool, typer.Option("--offline", help="Never download weights.")]


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
        print_json(_build_predictions_document(predictions, sheet))
    else:
        _print_predictions(predictions)


def features(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A picture.")],
    backbone: BackboneOption = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="NAME|INDEX", help="A layer; 0 is the input. May be repeated."),
    ] = None,
    most_maps: Annotated[int, typer.Option("--max-maps", metavar="N", help="How many maps of a layer to draw.")] = 64,
    by_activation: Annotated[bool, typer.Option("--sort", help="Draw the maps of the highest mean, in order.")] = False,
    weights: WeightsOption = None,
    resize: ResizeOption = None,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="The drawing; default: report/features/<backbone>/<image>.png."),
    ] = None,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineWeightsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw what the layers of a network make of a picture, a grid of feature maps for each layer.

    Default: the last convolution of each block, that is, of each size of map. Each map is scaled to its own range.

    Example:  simsearch features vase.jpg --backbone vgg16 --layer block1_conv2 --layer 17
    """
    from simsearch.report.drawing.canvas import check_extension
    from simsearch.report.drawing.feature_maps import draw_feature_maps
    from simsearch.study.features import extract_features

    if out is not None:
        check_extension(out)
    (choice,) = build_choices([backbone] if backbone else None, weights=weights, resize=resize, offline=offline)
    (found,) = extract_features(
        [image],
        choice,
        layers=layers or (),
        max_maps=most_maps,
        by_activation=by_activation,
        max_pixels=to_pixels(megapixels),
    )
    file = out or str(Path(REPORT_FOLDER, "features", found.model.backbone, f"{Path(image).stem}.png"))
    print_notes(found.notes)
    draw_feature_maps(found, file)
    if as_json:
        print_json(_build_features_document(found, file))
    else:
        _print_features(found, file)


def compare(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Two pictures or more.")],
    backbones: BackbonesOption = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="Any layer, such as fc2 of vgg16; default: the features."),
    ] = None,
    pooling: Annotated[str | None, typer.Option("--pooling", help="avg, max or gem.")] = None,
    resize: ResizeOption = None,
    precision: Annotated[str, typer.Option("--precision", help="f32, bf16, int8 or auto.")] = "f32",
    weights: WeightsOption = None,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where pictures of the pairs go.")] = REPORT_FOLDER,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineWeightsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show how alike pictures are: the cosine similarity of each pair under each backbone, from -1 to 1.

    Pictures of the first 100 pairs go to DIR/cos_sim/<backbone>/, and a heat map of all where there are four images
    or more. Default: the built-in backbone.

    Example:  simsearch compare vase.jpg vase2.jpg flowerpot.jpg --backbone vgg16 --backbone resnet50
    """
    from simsearch.report.drawing.comparison import MAX_PAIRS, draw_comparison
    from simsearch.study.compare import compare

    choices = build_choices(
        backbones, weights=weights, layer=layer, pooling=pooling, resize=resize, precision=precision, offline=offline
    )
    comparison = compare(images, choices, max_pixels=to_pixels(megapixels))
    print_notes(comparison.notes)
    print_skipped_images(comparison)
    drawn = draw_comparison(comparison, out)
    if comparison.n_pairs > MAX_PAIRS:
        print_message(f"simsearch: pictures are drawn of the first {MAX_PAIRS} of {comparison.n_pairs:,} pairs")
    if as_json:
        print_json(_build_comparison_document(comparison, drawn))
    else:
        _print_comparison(comparison)
        typer.echo(f"pictures: {format_path(str(Path(out, 'cos_sim')))}")


def build_choices(backbones: list[str] | None, **words: str | bool | None) -> list[ModelChoice]:
    """A choice for each backbone named, once, or one for the default backbone; `words` go into all of them.

    Raises `UsageError` on a word that there is none of.
    """
    from simsearch import ModelChoice

    if not backbones:
        return [ModelChoice.from_options(**words)]
    return [ModelChoice.from_options(backbone=backbone, **words) for backbone in dict.fromkeys(backbones)]


def print_notes(notes: Iterable[str]) -> None:
    """What a person should know, each once."""
    for note in dict.fromkeys(notes):
        print_message(f"simsearch: {note}")


def print_skipped_images(found: PredictionResult | ImageComparison) -> None:
    """What could not be read, and why."""
    for skip in found.skips:
        print_message(f"  skipped {format_path(skip.path)}: {skip.reason}")


def _build_shared_fields(found: PredictionResult | ImageComparison) -> dict[str, Any]:
    """What both documents say besides their answer."""
    models = {
        name: {
            "model": model.fingerprint,
            "layer": model.layer,
            "pooling": model.pooling,
            "resize": model.resize,
            "precision": model.precision,
        }
        for name, model in found.models.items()
    }
    skipped = [{"path": skip.path, "reason": skip.reason} for skip in found.skips]
    return {"models": models, "skipped": skipped, "notes": list(found.notes)}


def _build_predictions_document(predictions: PredictionResult, sheet: str | None) -> dict[str, Any]:
    return {
        "images": [
            {
                "path": image.path,
                "predictions": {
                    name: [
                        {"rank": x.rank, "class_id": x.cls.id, "name": x.cls.name, "probability": x.probability}
                        for x in guesses
                    ]
                    for name, guesses in image.top_classes.items()
                },
            }
            for image in predictions.images
        ],
        "sheet": sheet,
        **_build_shared_fields(predictions),
    }


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


def _build_features_document(found: ImageFeatures, file: str) -> dict[str, Any]:
    return {
        "image": found.path,
        "backbone": found.model.backbone,
        "resize": found.model.resize,
        "layers": [
            {
                "name": block.layer,
                "index": block.index,
                "height": block.maps.shape[0],
                "width": block.maps.shape[1],
                "maps": block.n_maps,
                "channels": list(block.channels),
                "mean_activations": [float(mean) for mean in block.activations],
            }
            for block in found.layers
        ],
        "picture": file,
        "notes": list(found.notes),
    }


def _print_features(found: ImageFeatures, file: str) -> None:
    for block in found.layers:
        height, width = block.maps.shape[:2]
        typer.echo(f"  {block.index:>4}  {block.layer:<40} {block.n_maps:>5,} maps of {width} x {height}")
    typer.echo(f"picture: {format_path(os.path.abspath(file))}")


def _build_comparison_document(comparison: ImageComparison, drawn: ComparisonPictures) -> dict[str, Any]:
    return {
        "pairs": [
            {
                "a": comparison.paths[pair.first],
                "b": comparison.paths[pair.second],
                "similarities": dict(pair.similarities),
                "pictures": {
                    name: str(files[pair.first, pair.second])
                    for name, files in drawn.pairs.items()
                    if (pair.first, pair.second) in files
                },
            }
            for pair in comparison.iterate_pairs()
        ],
        "heat_maps": {name: str(file) for name, file in drawn.heat_maps.items()},
        **_build_shared_fields(comparison),
    }


def _print_comparison(comparison: ImageComparison) -> None:
    from itertools import islice

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="cosine similarity", title_justify="left", box=None, pad_edge=False)
    for heading in ("image", "image"):
        table.add_column(heading, overflow="fold")
    for name in comparison.models:
        table.add_column(name, justify="right")
    for pair in islice(comparison.iterate_pairs(), _MAX_PAIRS_SHOWN):
        names = (Text(format_path(comparison.paths[at])) for at in (pair.first, pair.second))
        table.add_row(*names, *(f"{similarity:.4f}" for similarity in pair.similarities.values()))
    Console().print(table)
    if comparison.n_pairs > _MAX_PAIRS_SHOWN:
        typer.echo(f"and {comparison.n_pairs - _MAX_PAIRS_SHOWN:,} pairs more: --json lists them all")
