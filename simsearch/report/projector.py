"""Export to TensorBoard's Embedding Projector: vectors, metadata, a sprite of thumbnails, and the configuration.

`tensorboard --logdir FOLDER` opens the folder (`projector_config.pbtxt`). The stand-alone projector opens it when it
is served from the same folder with `?config=projector_config.json`, or at projector.tensorflow.org by loading the two
.tsv files.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simsearch.errors import ModelNotIndexed
from simsearch.files import create_output_folder
from simsearch.report.drawing.canvas import build_mark
from simsearch.report.drawing.tiles import TileSheet, load_tiles
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.snapshot import ModelViews, ViewRecord, open_model_views
from simsearch.text import escape_formula, replace_invalid_unicode
from simsearch.visualization.clusters import derive_folder_labels

MAX_POINTS = 100_000
"""The limit of the projector; a sample of a larger collection is exported."""

MAX_SPRITE_PX = 8_192
"""The projector rejects a sprite with a longer side."""

_MAX_TILE_PX = 64
_TENSORS, _METADATA, _SPRITE = "tensors.tsv", "metadata.tsv", "sprite.png"


@dataclass(frozen=True, slots=True)
class ProjectorExport:
    """The exported folder: `n_points` of `n_images` images, with thumbnails of `tile_px` px."""

    folder: Path
    n_points: int
    n_images: int
    tile_px: int

    def to_dict(self) -> dict[str, Any]:
        """The export as `export --format projector --json` prints it, below the model."""
        return {"path": str(self.folder), "format": "projector", "rows": self.n_points, "of_images": self.n_images}


def export_projector(
    catalog: Catalog, stored: StoredModel, folder: Path, *, n_most: int = MAX_POINTS, seed: int = 0
) -> ProjectorExport:
    """Export the original views of a model's images, at most `n_most`; the same seed gives the same sample.

    Thumbnails are 64 px wide, or smaller so that all fit in a sprite of 8,192 x 8,192 px (25 px for 100,000).

    Raises `ModelNotIndexed` when there are no images, `UsageError` when the folder is not empty, `SimsearchError` when
    it cannot be written.
    """
    with (
        open_model_views(catalog.folder, stored, originals_only=True) as views,
        create_output_folder(folder) as temporary,
    ):
        n_images = len(views.list_view_ids())
        chosen = views.sample_ids(min(n_most, MAX_POINTS), seed)
        if not len(chosen):
            problem = f"{catalog.folder} has no images of backbone {stored.model.backbone}"
            raise ModelNotIndexed(str(catalog.folder), problem, "index a folder into it first")
        records = _write_vectors(views, chosen, temporary / _TENSORS)
        _write_metadata(records, tuple(views.image_columns), temporary / _METADATA)
        sheet = plan_sprite(len(records))
        _write_sprite((record.path for record in records), sheet, temporary / _SPRITE)
        _write_config(stored, len(records), sheet, temporary)
    return ProjectorExport(folder, len(records), n_images, sheet.side_px)


def plan_sprite(n: int) -> TileSheet:
    """Plan the sprite of n tiles: nearly square, with the largest tiles that fit in 8,192 px, 64 px at most."""
    columns = math.ceil(math.sqrt(n))
    side_px = min(_MAX_TILE_PX, MAX_SPRITE_PX // columns)
    return TileSheet(side_px, columns, math.ceil(n / columns))


def _write_vectors(views: ModelViews, chosen: NDArray[np.int64], file: Path) -> list[ViewRecord]:
    line_format = "\t".join(["%.6g"] * views.stored.width) + "\n"
    records: list[ViewRecord] = []
    with file.open("w", encoding="ascii", newline="\n") as stream:
        for block, vectors in views.iterate_blocks(chosen):
            stream.writelines(line_format % tuple(row) for row in vectors.tolist())
            records += block
    return records


def _write_metadata(records: Sequence[ViewRecord], image_columns: tuple[str, ...], file: Path) -> None:
    """Write a header and a line per point; the projector splits at every tab and line end, without quotes."""
    labels = derive_folder_labels([record.path for record in records])
    names = ["name", *(["class"] if labels else []), "path", "image_id", *image_columns]
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write("\t".join(names) + "\n")
        for number, record in enumerate(records):
            label = [labels[number]] if labels else []
            fields = [os.path.basename(record.path), *label, record.path, record.image_id, *record.image_values]
            stream.write("\t".join(_format_field(field) for field in fields) + "\n")


def _format_field(value: object) -> str:
    """Format a value on one line without tabs; bytes of a path that are not UTF-8 become U+FFFD.

    A text that a spreadsheet takes for a formula is escaped.
    """
    if isinstance(value, int | float):
        return str(value)
    text = replace_invalid_unicode("" if value is None else str(value))
    return escape_formula(" ".join(text.replace("\t", " ").splitlines()))


def _write_sprite(paths: Iterable[str], sheet: TileSheet, file: Path) -> None:
    sprite = Image.new("RGB", sheet.size, "white")
    for number, tile in enumerate(load_tiles(paths, sheet.side_px)):
        sprite.paste(tile, sheet.locate_tile(number))
    sprite.save(file, **build_mark(file.suffix))


def _write_config(stored: StoredModel, n: int, sheet: TileSheet, folder: Path) -> None:
    """Write the configuration for TensorBoard and for the stand-alone projector; paths are relative."""
    name, side = stored.fingerprint, sheet.side_px
    config = {
        "embeddings": [
            {
                "tensorName": name,
                "tensorShape": [n, stored.width],
                "tensorPath": _TENSORS,
                "metadataPath": _METADATA,
                "sprite": {"imagePath": _SPRITE, "singleImageDim": [side, side]},
            }
        ]
    }
    (folder / "projector_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    lines = [
        "embeddings {",
        f"  tensor_name: {json.dumps(name)}",
        f'  metadata_path: "{_METADATA}"',
        f'  tensor_path: "{_TENSORS}"',
        "  sprite {",
        f'    image_path: "{_SPRITE}"',
        f"    single_image_dim: {side}",
        f"    single_image_dim: {side}",
        "  }",
        "}",
    ]
    (folder / "projector_config.pbtxt").write_text("\n".join(lines) + "\n", encoding="utf-8")
