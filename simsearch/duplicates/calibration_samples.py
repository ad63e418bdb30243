"""What a calibration looks at: edits of the collection's pictures, and the nearest different picture of each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from simsearch.duplicates.alignment import SAME_PICTURE, likeness
from simsearch.duplicates.edits import EDITS
from simsearch.duplicates.holdings import Holdings
from simsearch.duplicates.similarity_graph import Floats, Originals, Places
from simsearch.duplicates.thumbnails import Thumbnails, read_image, thumbnail
from simsearch.errors import Unreadable
from simsearch.images.decode import Picture, Pixels, fit
from simsearch.models.embedder import Embedder
from simsearch.models.model import Model

_N_NEAREST = 48
_STEPS = ((0, 2), (2, 6), (6, 12), (12, 24), (24, _N_NEAREST))  # few images have many duplicates


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is to see, and to see with: images, their files, their thumbnails, the model."""

    originals: Originals
    holdings: Holdings
    thumbnails: Thumbnails
    embedder: Embedder


@dataclass(frozen=True, slots=True)
class Edited:
    """Edited pictures (m,): the name of the edit, cosine to the original's vector, likeness to its thumbnail."""

    names: list[str]
    similarities: Floats
    likenesses: Floats


@dataclass(frozen=True, slots=True)
class Rivals:
    """The nearest different picture of each of some images (m,): its similarity and its likeness."""

    similarities: Floats
    likenesses: Floats


def edited(sight: Sight, sample: Places, random: np.random.Generator) -> Edited:
    """Every edit of the images at those places, as the model and the overlay see them.

    Edits act on the picture as it was decoded for the model, before it becomes a square. Raises `Unreadable` when
    none of the pictures can be read.
    """
    image_ids = sight.originals.image_ids[sample].tolist()
    images = sight.holdings.images(image_ids)
    seeds = random.integers(2**63, size=len(image_ids)).tolist()

    def measured(row: int) -> tuple[Floats, Floats] | None:
        picture = read_image(images[image_ids[row]], 2 * sight.embedder.model.side_px, sight.thumbnails.max_pixels)
        if picture is None:
            return None
        squares, thumbnails = _edits_of(picture, sight.embedder.model, np.random.default_rng(seeds[row]))
        similarities = sight.embedder.embed(squares) @ sight.originals.vectors(sample[row : row + 1])[0]
        return similarities, likeness(np.broadcast_to(thumbnail(picture), thumbnails.shape), thumbnails)

    with ThreadPoolExecutor(max_workers=max(1, sight.embedder.n_parallel)) as pool:
        found = [of_image for of_image in pool.map(measured, range(len(image_ids))) if of_image is not None]
    if not found:
        problem = "it is gone, or another picture by now, and so are all others that were tried"
        advice = "index the pictures where they are now, or look for exact duplicates only"
        raise Unreadable(images[image_ids[0]].files[0].path, problem, advice)
    similarities, likenesses = (np.concatenate(some) for some in zip(*found, strict=True))
    return Edited(list(EDITS) * len(found), np.clip(similarities, -1, 1), likenesses)


def _edits_of(picture: Picture, model: Model, random: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Squares (m, side, side, 3) for the model and thumbnails (m, 32, 32, 3) of all edits of a picture."""
    edits = [replace(picture, image=edit(picture.image, random)) for edit in EDITS.values()]
    squares = np.stack([fit(some, model.side_px, model.resize) for some in edits])
    return squares, np.stack([thumbnail(some) for some in edits])


def rivals(sight: Sight, sample: Places) -> Rivals:
    """For each image of the sample, from its nearest other outwards, the first that cannot be laid over it.

    An image of which all that are looked at are duplicates, or cannot be read, tells nothing and is left out.
    """
    similarities, nearest = sight.originals.nearest(sample, _N_NEAREST)
    found: dict[int, tuple[float, float]] = {}
    for start, stop in _STEPS:
        rows = [row for row in range(len(sample)) if row not in found]
        ids = sight.originals.image_ids
        pairs = [(int(ids[sample[row]]), int(ids[other])) for row in rows for other in nearest[row, start:stop]]
        likenesses = sight.thumbnails.likenesses(pairs).reshape(len(rows), len(nearest[0, start:stop]))
        for row, of_row in zip(rows, likenesses, strict=True):
            is_different = of_row < SAME_PICTURE  # unreadable ones are NaN
            if is_different.any():
                first = int(is_different.argmax())
                found[row] = (float(similarities[row, start + first]), float(of_row[first]))
    numbers = np.array(list(found.values()), dtype=np.float32).reshape(-1, 2)
    return Rivals(numbers[:, 0], numbers[:, 1])
