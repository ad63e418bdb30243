"""`simsearch features`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import (
    REPORT_FOLDER,
    BackboneOption,
    JsonOption,
    MaxMegapixelsOption,
    OfflineWeightsOption,
    ResizeOption,
    WeightsOption,
    build_choices,
    to_pixels,
)
from simsearch.cli.output import format_path, print_json, print_line, print_notes, print_summary

if TYPE_CHECKING:
    from simsearch.study.features import ImageFeatures


def features(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image file.")],
    backbone: BackboneOption = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="NAME|INDEX", help="A layer; 0 is the input. Repeatable."),
    ] = None,
    max_maps: Annotated[
        int, typer.Option("--max-maps", metavar="N", help="Maximum number of maps drawn per layer.")
    ] = 64,
    by_activation: Annotated[
        bool, typer.Option("--sort", help="Draw the maps with the highest mean activation, in descending order.")
    ] = False,
    weights: WeightsOption = None,
    resize: ResizeOption = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FILE", help="The image to write. Default: report/features/<backbone>/<image>.png."
        ),
    ] = None,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineWeightsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw the feature maps of network layers for an image, one grid per layer.

    Default: the last convolution before each reduction of the map size. Each map is scaled to its own range.

    Example:  simsearch features vase.jpg --backbone vgg16 --layer block1_conv2 --layer 17
    """
    from simsearch.files import check_is_no_input
    from simsearch.report.drawing.canvas import check_extension
    from simsearch.report.drawing.feature_maps import draw_feature_maps
    from simsearch.study.features import extract_features

    if out is not None:
        check_extension(out)
        check_is_no_input(out, [image])
    (choice,) = build_choices([backbone] if backbone else None, weights=weights, resize=resize, offline=offline)
    (extracted,) = extract_features(
        [image],
        choice,
        layers=layers or (),
        max_maps=max_maps,
        by_activation=by_activation,
        max_pixels=to_pixels(megapixels),
    )
    file = out or str(Path(REPORT_FOLDER, "features", extracted.model.backbone, f"{Path(image).stem}.png"))
    print_notes(extracted.notes)
    draw_feature_maps(extracted, file)
    if as_json:
        print_json(extracted.to_dict(picture=file))
    else:
        _print_layers(extracted, file)


def _print_layers(extracted: ImageFeatures, file: str) -> None:
    for layer in extracted.layers:
        height, width = layer.maps.shape[:2]
        print_line(f"  {layer.index:>4}  {layer.layer:<40} {layer.n_maps:>5,} maps of {width} x {height}")
    print_summary(f"image: {format_path(os.path.abspath(file))}")
