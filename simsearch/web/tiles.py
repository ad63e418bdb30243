"""Pictures as a grid shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simsearch.collection import Answer
from simsearch.duplicates.results import Group
from simsearch.web.engine import Engine
from simsearch.web.images import StoredImage, spread_ids, stored_images
from simsearch.web.schemas import shown

_N_BEGINNINGS = 48
_MOST_IN_GROUP = 24
_NARROWEST, _WIDEST = 5, 30


@dataclass(frozen=True, slots=True)
class Tile:
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


def beginnings(engine: Engine) -> list[Tile]:
    """Pictures from all over the collection."""
    found = stored_images(engine.folder, spread_ids(engine.folder, _N_BEGINNINGS))
    return [_tile(found[image_id]) for image_id in sorted(found)]


def tiles_of(engine: Engine, answer: Answer) -> list[Tile]:
    """The hits with what their tiles need; an image that was removed meanwhile has none."""
    found = stored_images(engine.folder, [hit.image_id for hit in answer.hits])
    return [
        _tile(found[hit.image_id], hit.rank, hit.similarity, hit.view.description)
        for hit in answer.hits
        if hit.image_id in found
    ]


def _tile(image: StoredImage, rank: int = 0, similarity: float = 0.0, variant: str = "") -> Tile:
    path = Path(image.files[0].path)
    aspect = min(_WIDEST, max(_NARROWEST, round(10 * image.width / max(1, image.height))))
    return Tile(
        image.image_id, shown(path.name), shown(path.parent.name), aspect, len(image.files), rank, similarity, variant
    )


def compared(tiles: Sequence[Tile], others: Sequence[Tile]) -> list[Tile]:
    """The tiles, each with the rank of the same image among the others."""
    ranks = {tile.image_id: tile.rank for tile in others}
    return [replace(tile, rank_beside=ranks.get(tile.image_id, 0)) for tile in tiles]


def group_tiles(engine: Engine, group: Group) -> list[Tile]:
    """The images of a group, each once, with how similar they are to the one to keep."""
    members = {member.image_id: member for member in group.members[:_MOST_IN_GROUP]}
    found = stored_images(engine.folder, list(members))
    return [_tile(found[id_], 1, member.similarity) for id_, member in members.items() if id_ in found]
