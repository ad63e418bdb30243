"""`simsearch compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import (
    REPORT_FOLDER,
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
    from simsearch.study.compare import ImageComparison


_MAX_PAIRS_SHOWN = 100


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
        print_json(comparison.to_dict(pictures=drawn.pairs, heat_maps=drawn.heat_maps))
    else:
        _print_comparison(comparison)
        typer.echo(f"pictures: {format_path(str(Path(out, 'cos_sim')))}")


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
