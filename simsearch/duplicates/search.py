"""The search for duplicates from end to end: exact, near, similar. It suggests what to keep and deletes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from simsearch.duplicates.alignment import MIN_LIKENESS
from simsearch.duplicates.calibration import calibrate
from simsearch.duplicates.calibration_samples import CalibrationInputs
from simsearch.duplicates.grouping import build_stars
from simsearch.duplicates.holdings import ImageSnapshot, SnapshotImage, open_image_snapshot
from simsearch.duplicates.keep_rules import sort_by_preference
from simsearch.duplicates.results import DuplicateGroup, DuplicateOptions, DuplicateReport, GroupMember, Tier
from simsearch.duplicates.similarity_graph import OriginalVectors, RejectedPairs, build_similarity_graph
from simsearch.duplicates.thumbnails import AlignmentThumbnails
from simsearch.images.decode import compute_default_max_pixels
from simsearch.index import ExactIndex
from simsearch.models.embedder import Embedder
from simsearch.store.catalog import Catalog, StoredModel

ImagePairs = Collection[tuple[int, int]]
"""Pairs of image ids."""


@dataclass(frozen=True, slots=True)
class SearchedModel:
    """A model with vectors in the collection: its index, and how to load it where pictures have to be embedded."""

    stored: StoredModel
    index: ExactIndex
    open_embedder: Callable[[], Embedder]


@dataclass(slots=True)
class _DuplicateSearch:
    """A search at work."""

    options: DuplicateOptions
    snapshot: ImageSnapshot
    thumbnails: AlignmentThumbnails
    rejected: ImagePairs
    progress: Callable[[str, float], None]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time_stage(self, name: str) -> Iterator[Callable[[float], None]]:
        """Time a stage, and tell of it: gives what is to be told the share that is done."""
        started = time.perf_counter()
        self.progress(name, 0.0)
        yield lambda share: self.progress(name, share)
        self.seconds[name] = time.perf_counter() - started


def find_duplicates(
    catalog: Catalog,
    model: SearchedModel,
    options: DuplicateOptions,
    *,
    rejected: ImagePairs = (),
    progress: Callable[[str, float], None] = lambda _stage, _share: None,
) -> DuplicateReport:
    """Groups of files that hold the same bytes, the same picture or pictures alike, as far down as is asked.

    `rejected` are pairs of image ids that never stand in one group. A near group stands among the similar ones by
    the image to keep, so nothing is told twice but an image with several files, which is in an exact group too.
    `progress` is told the stage and the share of it that is done.

    Raises `Unreadable` when the pictures are out of reach, or a `ModelError`; neither when only `exact` is asked for.
    """
    with open_image_snapshot(catalog) as held:
        thumbnails = AlignmentThumbnails(held, options.max_pixels or compute_default_max_pixels())
        search = _DuplicateSearch(options, held, thumbnails, rejected, progress)
        with search.time_stage("exact"):
            groups = _find_exact(search)
        originals = OriginalVectors.from_index(model.index, *held.read_original_ids(model.stored.id))
        calibration = None
        if options.down_to != "exact" and len(originals) > 1:
            with search.time_stage("calibrate"):
                calibration = calibrate(CalibrationInputs(originals, held, thumbnails, model.open_embedder()), options)
            groups += (near := _find_near(search, originals, calibration.near_similarity))
            if options.down_to == "similar":
                groups += _find_similar(
                    search, _select_representatives(originals, near), calibration.similar_similarity
                )
        unread = tuple(thumbnails.unread[image_id] for image_id in sorted(thumbnails.unread))
        return DuplicateReport(options, tuple(groups), calibration, len(originals), unread, search.seconds)


def _find_exact(search: _DuplicateSearch) -> list[DuplicateGroup]:
    images = search.snapshot.read_images(search.snapshot.find_copied_images())
    return [_build_group("exact", sort_by_preference([image], search.options.keep), [1.0]) for image in images.values()]


def _find_near(search: _DuplicateSearch, originals: OriginalVectors, least: float) -> list[DuplicateGroup]:
    """The same picture by the model and by the overlay with one centre."""
    rejections = RejectedPairs(originals, search.rejected)
    with search.time_stage("link") as progress:
        links = build_similarity_graph(originals, least, rejections, progress)
    ids = originals.image_ids

    def check(pairs: Sequence[tuple[int, int]]) -> list[bool]:
        likenesses = search.thumbnails.measure_likenesses(
            [(int(ids[centre]), int(ids[other])) for centre, other in pairs]
        )
        return [bool(holds) for holds in likenesses >= MIN_LIKENESS]  # NaN, of what cannot be read, does not

    with search.time_stage("compare"):
        found = build_stars(originals, links, rejections, check)
        return _build_groups(search, "near", originals, found)


def _find_similar(search: _DuplicateSearch, originals: OriginalVectors, least: float) -> list[DuplicateGroup]:
    rejections = RejectedPairs(originals, search.rejected)

    def check(pairs: Sequence[tuple[int, int]]) -> list[bool]:
        centres, others = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        return [bool(holds) for holds in originals.compute_pair_similarities(centres, others) >= least]

    with search.time_stage("similar") as progress:
        links = build_similarity_graph(originals, least, rejections, progress)
        return _build_groups(search, "similar", originals, build_stars(originals, links, rejections, check))


def _select_representatives(originals: OriginalVectors, near: Sequence[DuplicateGroup]) -> OriginalVectors:
    """The images without those of a near group that are not the one to keep."""
    others = [member.image_id for group in near for member in group.members[1:]]
    return originals.select(np.flatnonzero(~np.isin(originals.image_ids, others)))


def _build_groups(
    search: _DuplicateSearch, tier: Tier, originals: OriginalVectors, stars: Sequence[Sequence[int]]
) -> list[DuplicateGroup]:
    """Groups of places as they are told, by the id of the image to keep."""
    place_of = {int(originals.image_ids[place]): place for star in stars for place in star}
    images = search.snapshot.read_images(sorted(place_of))
    ordered = [
        sort_by_preference([images[int(originals.image_ids[place])] for place in star], search.options.keep)
        for star in stars
    ]
    groups = []
    for members in ordered:
        places = np.array([place_of[member.image_id] for member in members])
        similarities = originals.compute_similarities(int(places[0]), places[1:]).tolist()
        groups.append(_build_group(tier, members, [1.0, *similarities]))
    return sorted(groups, key=lambda group: group.members[0].image_id)


def _build_group(tier: Tier, images: Sequence[SnapshotImage], similarities: Sequence[float]) -> DuplicateGroup:
    keeper, *others = (
        GroupMember(
            image.image_id,
            tuple(file.path for file in image.files),
            image.width,
            image.height,
            image.size_bytes,
            similarity,
        )
        for image, similarity in zip(images, similarities, strict=True)
    )
    return DuplicateGroup(tier, (keeper, *sorted(others, key=lambda member: (-member.similarity, member.image_id))))
