"""Image tiles for the grids of the pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simsearch.duplicates.results import DuplicateGroup
from simsearch.matching.evidence import Box
from simsearch.search.results import Answer, HitVerification
from simsearch.store.snapshot import StoredImage, open_snapshot
from simsearch.web.images import read_stored_images

LIKELY = 0.5
"""The probability from which a hit is shown as likely; less likely ones are grayed."""

_N_SAMPLE_TILES = 48
_MAX_IN_GROUP, _MAX_BOXES = 24, 8
_MIN_ASPECT, _MAX_ASPECT = 5, 30
_LONG_ASPECT = 3


@dataclass(frozen=True, slots=True)
class ImageTile:
    """An image in a grid. `aspect` is its width / height in tenths, clipped to what the grid can lay out.

    `variant` describes the augmentation of the most similar view, `rank_beside` is the rank under the other backbone;
    both are empty or 0 where they do not apply. `probability` is that of the hit, None without a calibration.
    `verification` is that of the hit, None where it was not compared; `width` and `height` are those of the
    image in px. `remark` is a text about the image.
    `boxes` are parts of the image that other ones show, each with a description.
    """

    image_id: int
    name: str
    folder: str
    aspect: int
    n_files: int
    rank: int = 0
    similarity: float = 0.0
    variant: str = ""
    rank_beside: int = 0
    probability: float | None = None
    verification: HitVerification | None = None
    width: int = 1
    height: int = 1
    remark: str = ""
    boxes: tuple[tuple[Box, str], ...] = ()

    @property
    def is_long(self) -> bool:
        """Whether the picture is so wide or tall that the grid shows a part of it."""
        return is_long(self.width, self.height)

    @property
    def is_unlikely(self) -> bool:
        """Whether the hit is more likely wrong than right."""
        return self.probability is not None and self.probability < LIKELY


def is_long(width: int, height: int) -> bool:
    """Whether a picture is more than three times as wide as high, or as high as wide."""
    return max(width, height) > _LONG_ASPECT * min(width, height)


def sample_tiles(folder: Path, n: int = _N_SAMPLE_TILES) -> list[ImageTile]:
    """Choose `n` images from the whole collection for a start page."""
    with open_snapshot(folder) as snapshot:
        images = snapshot.read_images(snapshot.sample_image_ids(n))
    return [_build_tile(images[image_id]) for image_id in sorted(images)]


def build_tiles(folder: Path, image_ids: Sequence[int], *, most: int = _MAX_IN_GROUP) -> list[ImageTile]:
    """Build the tiles of at most `most` images by id; those that were removed are left out."""
    images = read_stored_images(folder, image_ids[:most])
    return [_build_tile(images[image_id]) for image_id in image_ids if image_id in images]


def build_hit_tiles(folder: Path, answer: Answer) -> list[ImageTile]:
    """Build the tiles of the hits; images that were removed in the meantime are left out."""
    images = read_stored_images(folder, [hit.image_id for hit in answer.hits])
    return [
        replace(
            _build_tile(images[hit.image_id], hit.rank, hit.similarity, hit.view.description),
            probability=hit.probability,
            verification=hit.verification,
            boxes=_list_hit_boxes(hit.verification),
        )
        for hit in answer.hits
        if hit.image_id in images
    ]


def _build_tile(image: StoredImage, rank: int = 0, similarity: float = 0.0, variant: str = "") -> ImageTile:
    path = Path(image.files[0].path)
    width, height = (image.width or 4, image.height or 3)  # that of a picture that has not been read is unknown
    aspect = min(_MAX_ASPECT, max(_MIN_ASPECT, round(10 * width / height)))
    n_files = len(image.files)
    return ImageTile(
        image.image_id, path.name, path.parent.name, aspect, n_files, rank, similarity, variant,
        width=max(1, image.width), height=max(1, image.height),
    )  # fmt: skip


def _list_hit_boxes(verification: HitVerification | None) -> tuple[tuple[Box, str], ...]:
    if verification is None or not verification.hit_box:
        return ()
    return ((verification.hit_box, "The part that the query picture shows"),)


def add_other_ranks(tiles: Sequence[ImageTile], others: Sequence[ImageTile]) -> list[ImageTile]:
    """Add to each tile the rank of the same image among the others."""
    ranks = {tile.image_id: tile.rank for tile in others}
    return [replace(tile, rank_beside=ranks.get(tile.image_id, 0)) for tile in tiles]


def build_group_tiles(folder: Path, group: DuplicateGroup) -> list[ImageTile]:
    """Build the tiles of a group of duplicates, each with its similarity to the image to keep."""
    members = {member.image_id: member for member in group.members[:_MAX_IN_GROUP]}
    images = read_stored_images(folder, list(members))
    return [
        replace(_build_tile(images[id_], 1, member.similarity), boxes=_list_group_boxes(group, id_))
        for id_, member in members.items()
        if id_ in images
    ]


def _list_group_boxes(group: DuplicateGroup, image_id: int) -> tuple[tuple[Box, str], ...]:
    """List the parts of an image that other images of its group show."""
    boxes: list[tuple[Box, str]] = []
    for member in group.members:
        copy = member.copy
        if copy is not None and copy.whole_image == image_id and "crop of" in copy.kinds:
            part = copy.of_image if member.image_id == image_id else member.image_id
            boxes.append((copy.box, f"The part that image {part} shows"))
    return tuple(boxes[:_MAX_BOXES])
