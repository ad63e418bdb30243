"""What a calibration looks at: edits of the collection's pictures, and the nearest different picture of each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from simsearch.duplicates.alignment import MIN_LIKENESS, measure_likeness
from simsearch.duplicates.edits import EDITS
from simsearch.duplicates.holdings import ImageSnapshot
from simsearch.duplicates.similarity_graph import Floats, OriginalVectors, Positions
from simsearch.duplicates.thumbnails import AlignmentThumbnails, make_alignment_thumbnail, read_image
from simsearch.errors import UnreadableFile
from simsearch.images.decode import DecodedImage, Pixels, resize_to_square
from simsearch.models.embedder import Embedder
from simsearch.models.model import Model

_N_NEAREST = 48
_STEPS = ((0, 2), (2, 6), (6, 12), (12, 24), (24, _N_NEAREST))  # few images have many duplicates


@dataclass(frozen=True, slots=True)
class CalibrationInputs:
    """What there is to see, and to see with: images, their files, their thumbnails, the model."""

    originals: OriginalVectors
    snapshot: ImageSnapshot
    thumbnails: AlignmentThumbnails
    embedder: Embedder


@dataclass(frozen=True, slots=True)
class EditedSamples:
    """Edited pictures (m,): the name of the edit, cosine to the original's vector, likeness to its thumbnail."""

    names: list[str]
    similarities: Floats
    likenesses: Floats


@dataclass(frozen=True, slots=True)
class HardNegatives:
    """The nearest different picture of each of some images (m,): its similarity and its likeness."""

    similarities: Floats
    likenesses: Floats


def measure_edits(inputs: CalibrationInputs, sample: Positions, random: np.random.Generator) -> EditedSamples:
    """Every edit of the images at those places, as the model and the overlay see them.

    Edits act on the picture as it was decoded for the model, before it becomes a square. Raises `Unreadable` when
    none of the pictures can be read.
    """
    image_ids = inputs.originals.image_ids[sample].tolist()
    images = inputs.snapshot.read_images(image_ids)
    seeds = random.integers(2**63, size=len(image_ids)).tolist()

    def measure(row: int) -> tuple[Floats, Floats] | None:
        picture = read_image(images[image_ids[row]], 2 * inputs.embedder.model.side_px, inputs.thumbnails.max_pixels)
        if picture is None:
            return None
        squares, thumbnails = _render_edits(picture, inputs.embedder.model, np.random.default_rng(seeds[row]))
        similarities = inputs.embedder.embed(squares) @ inputs.originals.read_vectors(sample[row : row + 1])[0]
        return similarities, measure_likeness(
            np.broadcast_to(make_alignment_thumbnail(picture), thumbnails.shape), thumbnails
        )

    with ThreadPoolExecutor(max_workers=max(1, inputs.embedder.n_parallel)) as pool:
        found = [of_image for of_image in pool.map(measure, range(len(image_ids))) if of_image is not None]
    if not found:
        problem = "it is gone, or another picture by now, and so are all others that were tried"
        advice = "index the pictures where they are now, or look for exact duplicates only"
        raise UnreadableFile(images[image_ids[0]].files[0].path, problem, advice)
    similarities, likenesses = (np.concatenate(some) for some in zip(*found, strict=True))
    return EditedSamples(list(EDITS) * len(found), np.clip(similarities, -1, 1), likenesses)


def _render_edits(picture: DecodedImage, model: Model, random: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Squares (m, side, side, 3) for the model and thumbnails (m, 32, 32, 3) of all edits of a picture."""
    edits = [replace(picture, image=edit(picture.image, random)) for edit in EDITS.values()]
    squares = np.stack([resize_to_square(some, model.side_px, model.resize) for some in edits])
    return squares, np.stack([make_alignment_thumbnail(some) for some in edits])


def find_hard_negatives(inputs: CalibrationInputs, sample: Positions) -> HardNegatives:
    """For each image of the sample, from its nearest other outwards, the first that cannot be laid over it.

    An image of which all that are looked at are duplicates, or cannot be read, tells nothing and is left out.
    """
    similarities, nearest = inputs.originals.find_nearest(sample, _N_NEAREST)
    found: dict[int, tuple[float, float]] = {}
    for start, stop in _STEPS:
        rows = [row for row in range(len(sample)) if row not in found]
        ids = inputs.originals.image_ids
        pairs = [(int(ids[sample[row]]), int(ids[other])) for row in rows for other in nearest[row, start:stop]]
        likenesses = inputs.thumbnails.measure_likenesses(pairs).reshape(len(rows), len(nearest[0, start:stop]))
        for row, of_row in zip(rows, likenesses, strict=True):
            is_different = of_row < MIN_LIKENESS  # unreadable ones are NaN
            if is_different.any():
                first = int(is_different.argmax())
                found[row] = (float(similarities[row, start + first]), float(of_row[first]))
    numbers = np.array(list(found.values()), dtype=np.float32).reshape(-1, 2)
    return HardNegatives(numbers[:, 0], numbers[:, 1])
