"""Pictures as a grid shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simsearch.duplicates.results import DuplicateGroup
from simsearch.search.results import Answer
from simsearch.text import replace_invalid_unicode
from simsearch.web.engine import SearchEngine
from simsearch.web.images import StoredImage, load_stored_images, sample_image_ids

_N_SAMPLE_TILES = 48
_MAX_IN_GROUP = 24
_MIN_ASPECT, _MAX_ASPECT = 5, 30


@dataclass(frozen=True, slots=True)
class ImageTile:
    """A picture in a grid. `aspect` is its width over its height in tenths, within what a grid can lay out."""

    image_id: int
    name: str
    folder: str
    aspect: int
    n_files: int
    rank: int = 0
    similarity: float = 0.0
    variant: str = ""
    rank_beside: int = 0


def sample_tiles(engine: SearchEngine) -> list[ImageTile]:
    """Pictures from all over the collection."""
    found = load_stored_images(engine.folder, sample_image_ids(engine.folder, _N_SAMPLE_TILES))
    return [_build_tile(found[image_id]) for image_id in sorted(found)]


def build_hit_tiles(engine: SearchEngine, answer: Answer) -> list[ImageTile]:
    """The hits with what their tiles need; an image that was removed meanwhile has none."""
    found = load_stored_images(engine.folder, [hit.image_id for hit in answer.hits])
    return [
        _build_tile(found[hit.image_id], hit.rank, hit.similarity, hit.view.description)
        for hit in answer.hits
        if hit.image_id in found
    ]


def _build_tile(image: StoredImage, rank: int = 0, similarity: float = 0.0, variant: str = "") -> ImageTile:
    path = Path(image.files[0].path)
    aspect = min(_MAX_ASPECT, max(_MIN_ASPECT, round(10 * image.width / max(1, image.height))))
    return ImageTile(
        image.image_id,
        replace_invalid_unicode(path.name),
        replace_invalid_unicode(path.parent.name),
        aspect,
        len(image.files),
        rank,
        similarity,
        variant,
    )


def add_other_ranks(tiles: Sequence[ImageTile], others: Sequence[ImageTile]) -> list[ImageTile]:
    """The tiles, each with the rank of the same image among the others."""
    ranks = {tile.image_id: tile.rank for tile in others}
    return [replace(tile, rank_beside=ranks.get(tile.image_id, 0)) for tile in tiles]


def build_group_tiles(engine: SearchEngine, group: DuplicateGroup) -> list[ImageTile]:
    """The images of a group, each once, with how similar they are to the one to keep."""
    members = {member.image_id: member for member in group.members[:_MAX_IN_GROUP]}
    found = load_stored_images(engine.folder, list(members))
    return [_build_tile(found[id_], 1, member.similarity) for id_, member in members.items() if id_ in found]
