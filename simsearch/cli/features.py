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
from simsearch.cli.output import format_path, print_json, print_notes

if TYPE_CHECKING:
    from simsearch.study.features import ImageFeatures


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
        print_json(found.to_dict(picture=file))
    else:
        _print_features(found, file)


def _print_features(found: ImageFeatures, file: str) -> None:
    for block in found.layers:
        height, width = block.maps.shape[:2]
        typer.echo(f"  {block.index:>4}  {block.layer:<40} {block.n_maps:>5,} maps of {width} x {height}")
    typer.echo(f"picture: {format_path(os.path.abspath(file))}")
