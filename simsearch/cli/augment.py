"""`simsearch augment`."""

from __future__ import annotations

from typing import Annotated

import typer

from simsearch.cli.options import JsonOption, MaxMegapixelsOption, RangesOption, SeedOption, to_pixels
from simsearch.cli.output import format_path, print_json, print_line


def augment(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Image files.")],
    n: Annotated[int, typer.Option("-n", metavar="N", help="Number of views per image.")] = 10,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder for the views.")] = "augmented",
    ranges: RangesOption = None,
    seed: SeedOption = None,
    megapixels: MaxMegapixelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write augmented views of images: rotated, shifted, sheared, scaled, brighter or darker, flipped.

    The shear of 0.15 degrees, Keras's default, cannot be seen; --ranges strong slants by up to 20 degrees.

    The same image, seed and ranges give the same views, here and in `simsearch index --augment N`.

    Example:  simsearch augment vase.jpg -n 10 --out views
    """
    from simsearch.study.views import parse_augmentation, write_views

    written = write_views(images, out, parse_augmentation(n, seed, ranges), to_pixels(megapixels))
    if as_json:
        print_json({"views": [view.to_dict() for view in written]})
        return
    for view in written:
        print_line(f"{format_path(view.file)}: {view.transformation.describe()}")
