"""The images of a collection as a list that is read when it is asked for, and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from simsearch.dataframes import build_arrow_table, build_data_frame, collect_columns
from simsearch.errors import use_python_terms
from simsearch.store.snapshot import StoredImage, open_snapshot

_BLOCK_IMAGES = 2_000


class ImageList(Sequence[StoredImage]):
    """Images of the collection in `folder` by their `ids` (n,). An image that was removed meanwhile is left out.

    A slice is a list, too. `to_pandas` and `to_arrow` give one row for each image, with the user's own columns.
    """

    def __init__(self, folder: Path, ids: NDArray[np.int64]) -> None:
        self.folder = folder
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, position: int) -> StoredImage: ...

    @overload
    def __getitem__(self, position: slice) -> ImageList: ...

    def __getitem__(self, position: int | slice) -> StoredImage | ImageList:
        """The image at a position, or the list of those at several. Raises `IndexError`, `ImageNotFound`."""
        if isinstance(position, slice):
            return ImageList(self.folder, self.ids[position])
        with use_python_terms(), open_snapshot(self.folder) as snapshot:
            return snapshot.read_image(int(self.ids[position]))

    def __iter__(self) -> Iterator[StoredImage]:
        for start in range(0, len(self.ids), _BLOCK_IMAGES):
            with use_python_terms(), open_snapshot(self.folder) as snapshot:
                wanted = self.ids[start : start + _BLOCK_IMAGES].tolist()
                images = snapshot.read_images(wanted)
            yield from (images[image_id] for image_id in wanted if image_id in images)

    def __repr__(self) -> str:
        return f"ImageList({len(self):,} images of {str(self.folder)!r})"

    def to_pandas(self) -> Any:
        """The images as a `pandas.DataFrame`. Raises `MissingExtra` without pandas."""
        return build_data_frame(self._collect_columns())

    def to_arrow(self) -> Any:
        """The images as a `pyarrow.Table`. Raises `MissingExtra` without pyarrow."""
        return build_arrow_table(self._collect_columns())

    def to_dicts(self) -> list[dict[str, Any]]:
        """The images as `simsearch ls --json` prints them."""
        return [describe_image(image) for image in self]

    def _collect_columns(self) -> dict[str, list[Any]]:
        return collect_columns([describe_image(image) for image in self]) or {name: [] for name in _COLUMNS}


_COLUMNS = (
    "image_id", "path", "paths", "width", "height", "format", "size_bytes", "taken_at", "camera", "digest",
)  # fmt: skip


def describe_image(image: StoredImage) -> dict[str, Any]:
    """The values of an image by column; a column of the user's own never replaces one of them."""
    paths = [file.path for file in image.files]
    values = (
        image.image_id, paths[0], paths, image.width or None, image.height or None, image.format or None,
        image.size_bytes, image.taken_at, image.camera, image.digest,
    )  # fmt: skip
    known = dict(zip(_COLUMNS, values, strict=True))
    return known | {name: value for name, value in image.columns.items() if name not in known}
