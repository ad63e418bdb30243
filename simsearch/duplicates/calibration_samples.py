"""The samples of a calibration: edits of the collection's pictures, and the nearest different picture of each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from simsearch.duplicates.alignment import MIN_LIKENESS, measure_likeness
from simsearch.duplicates.edits import EDITS
from simsearch.duplicates.similarity_graph import Floats, OriginalVectors, Positions
from simsearch.duplicates.thumbnails import AlignmentThumbnails, make_alignment_thumbnail, read_image
from simsearch.errors import UnreadableFile
from simsearch.images.decode import DecodedImage, Pixels, resize_to_square
from simsearch.models.embedder import Embedder
from simsearch.models.model import Model
from simsearch.store.snapshot import Snapshot

_N_NEAREST = 48
_STEPS = ((0, 2), (2, 6), (6, 12), (12, 24), (24, _N_NEAREST))  # few images have many duplicates


@dataclass(frozen=True, slots=True)
class CalibrationInputs:
    """The images to sample from, with their files and thumbnails, and the model that embeds edited pictures."""

    originals: OriginalVectors
    snapshot: Snapshot
    thumbnails: AlignmentThumbnails
    embedder: Embedder


@dataclass(frozen=True, slots=True)
class EditedSamples:
    """Edited pictures (m,): name of the edit, cosine to the vector of the original, likeness to its thumbnail."""

    names: list[str]
    similarities: Floats
    likenesses: Floats


@dataclass(frozen=True, slots=True)
class HardNegatives:
    """The nearest different picture of each image of a sample (m,): its similarity and its likeness."""

    similarities: Floats
    likenesses: Floats


def measure_edits(inputs: CalibrationInputs, sample: Positions, random: np.random.Generator) -> EditedSamples:
    """Apply every edit to the images at positions `sample`, and compare the results with the originals.

    Edits are applied to the picture as it is decoded for the model, before it is resized to a square. Raises
    `UnreadableFile` if no picture can be read.
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
        original = np.broadcast_to(make_alignment_thumbnail(picture), thumbnails.shape)
        return similarities, measure_likeness(original, thumbnails)

    with ThreadPoolExecutor(max_workers=max(1, inputs.embedder.n_parallel)) as pool:
        found = [measured for measured in pool.map(measure, range(len(image_ids))) if measured is not None]
    if not found:
        problem = "the file is missing or was changed, as are all other files of the sample"
        advice = "index the pictures at their current location, or search for exact duplicates only"
        raise UnreadableFile(images[image_ids[0]].files[0].path, problem, advice)
    similarities, likenesses = (np.concatenate(some) for some in zip(*found, strict=True))
    return EditedSamples(list(EDITS) * len(found), np.clip(similarities, -1, 1), likenesses)


def _render_edits(picture: DecodedImage, model: Model, random: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Render all edits of a picture as squares (m, side, side, 3) for the model and thumbnails (m, 32, 32, 3)."""
    edits = [picture.with_image(edit(picture.image, random)) for edit in EDITS.values()]
    squares = np.stack([resize_to_square(some, model.resize_rule) for some in edits])
    return squares, np.stack([make_alignment_thumbnail(some) for some in edits])


def find_hard_negatives(inputs: CalibrationInputs, sample: Positions) -> HardNegatives:
    """Find for each image of the sample its nearest other image that does not align with it.

    An image is left out if all of its `_N_NEAREST` nearest images are duplicates or unreadable.
    """
    similarities, nearest = inputs.originals.find_nearest(sample, _N_NEAREST)
    found: dict[int, tuple[float, float]] = {}
    for start, stop in _STEPS:
        rows = [row for row in range(len(sample)) if row not in found]
        ids = inputs.originals.image_ids
        pairs = [(int(ids[sample[row]]), int(ids[other])) for row in rows for other in nearest[row, start:stop]]
        likenesses = inputs.thumbnails.measure_likenesses(pairs).reshape(len(rows), len(nearest[0, start:stop]))
        for row, row_likenesses in zip(rows, likenesses, strict=True):
            is_different = row_likenesses < MIN_LIKENESS  # False for NaN, of unreadable pictures
            if is_different.any():
                first = int(is_different.argmax())
                found[row] = (float(similarities[row, start + first]), float(row_likenesses[first]))
    numbers = np.array(list(found.values()), dtype=np.float32).reshape(-1, 2)
    return HardNegatives(numbers[:, 0], numbers[:, 1])
