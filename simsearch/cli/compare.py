"""`simsearch compare`."""

from __future__ import annotations

from itertools import islice
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
    PoolingOption,
    PrecisionOption,
    ResizeOption,
    WeightsOption,
    build_choices,
    to_pixels,
)
from simsearch.cli.output import (
    format_path,
    make_table,
    print_json,
    print_line,
    print_message,
    print_notes,
    print_skips,
    print_summary,
    print_table,
)

if TYPE_CHECKING:
    from simsearch.study.compare import ImageComparison

_MAX_PAIRS_SHOWN = 100


def compare(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Two or more image files.")],
    backbones: BackbonesOption = None,
    layer: LayerOption = None,
    pooling: PoolingOption = None,
    resize: ResizeOption = None,
    precision: PrecisionOption = "f32",
    weights: WeightsOption = None,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder for the images of pairs.")] = REPORT_FOLDER,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineWeightsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare images: the cosine similarity of each pair under each backbone, from -1 to 1.

    Writes an image of each of the first 100 pairs to DIR/cos_sim/<backbone>/, and a heat map of all pairs for four or
    more images. Default: the built-in backbone.

    Example:  simsearch compare vase.jpg vase2.jpg flowerpot.jpg --backbone vgg16 --backbone resnet50
    """
    from simsearch.report.drawing.comparison import MAX_PAIRS, draw_comparison
    from simsearch.study.compare import compare as compare_images

    choices = build_choices(
        backbones, weights=weights, layer=layer, pooling=pooling, resize=resize, precision=precision, offline=offline
    )
    comparison = compare_images(images, choices, max_pixels=to_pixels(megapixels))
    print_notes(comparison.notes)
    print_skips(comparison.skips)
    drawn = draw_comparison(comparison, out)
    if comparison.n_pairs > MAX_PAIRS:
        print_message(f"simsearch: images are drawn for the first {MAX_PAIRS} of {comparison.n_pairs:,} pairs")
    if as_json:
        print_json(comparison.to_dict(pictures=drawn.pairs, heat_maps=drawn.heat_maps))
    else:
        _print_similarities(comparison)
        print_summary(f"images of pairs: {format_path(str(Path(out, 'cos_sim')))}")


def _print_similarities(comparison: ImageComparison) -> None:
    from rich.text import Text

    table = make_table("cosine similarity")
    for heading in ("image", "image"):
        table.add_column(heading, overflow="fold")
    for name in comparison.models:
        table.add_column(name, justify="right")
    for pair in islice(comparison.iterate_pairs(), _MAX_PAIRS_SHOWN):
        names = (Text(format_path(comparison.paths[row])) for row in (pair.first, pair.second))
        table.add_row(*names, *(f"{similarity:.4f}" for similarity in pair.similarities.values()))
    print_table(table)
    if comparison.n_pairs > _MAX_PAIRS_SHOWN:
        print_line(f"and {comparison.n_pairs - _MAX_PAIRS_SHOWN:,} more pairs; all of them: --json")
