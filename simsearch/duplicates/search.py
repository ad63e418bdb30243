"""The search for duplicates from end to end: exact, near, similar. It suggests what to keep and deletes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from simsearch.duplicates.alignment import SAME_PICTURE
from simsearch.duplicates.calibration import calibrate
from simsearch.duplicates.calibration_samples import Sight
from simsearch.duplicates.grouping import stars
from simsearch.duplicates.holdings import HeldImage, Holdings, holdings
from simsearch.duplicates.keep_rules import by_preference
from simsearch.duplicates.results import DuplicateQuestion, DuplicateReport, Group, Member, Tier
from simsearch.duplicates.similarity_graph import Originals, Rejections, link
from simsearch.duplicates.thumbnails import Thumbnails
from simsearch.images.decode import default_max_pixels
from simsearch.index import AnnIndex
from simsearch.models.embedder import Embedder
from simsearch.store.catalog import Catalog, StoredModel

Pairs = Collection[tuple[int, int]]
"""Pairs of image ids."""


@dataclass(frozen=True, slots=True)
class SearchedModel:
    """A model with vectors in the collection: its index, and how to load it where pictures have to be embedded."""

    stored: StoredModel
    index: AnnIndex
    open_embedder: Callable[[], Embedder]


@dataclass(slots=True)
class _Search:
    """A search at work."""

    question: DuplicateQuestion
    holdings: Holdings
    thumbnails: Thumbnails
    rejected: Pairs
    progress: Callable[[str, float], None]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[float], None]]:
        """Time a stage, and tell of it: gives what is to be told the share that is done."""
        started = time.perf_counter()
        self.progress(name, 0.0)
        yield lambda share: self.progress(name, share)
        self.seconds[name] = time.perf_counter() - started


def find_duplicates(
    catalog: Catalog,
    model: SearchedModel,
    question: DuplicateQuestion,
    *,
    rejected: Pairs = (),
    progress: Callable[[str, float], None] = lambda _stage, _share: None,
) -> DuplicateReport:
    """Groups of files that hold the same bytes, the same picture or pictures alike, as far down as is asked.

    `rejected` are pairs of image ids that never stand in one group. A near group stands among the similar ones by
    the image to keep, so nothing is told twice but an image with several files, which is in an exact group too.
    `progress` is told the stage and the share of it that is done.

    Raises `Unreadable` when the pictures are out of reach, or a `ModelError`; neither when only `exact` is asked for.
    """
    with holdings(catalog) as held:
        thumbnails = Thumbnails(held, question.max_pixels or default_max_pixels())
        search = _Search(question, held, thumbnails, rejected, progress)
        with search.stage("exact"):
            groups = _exact(search)
        originals = Originals.of(model.index, *held.originals(model.stored.id))
        calibration = None
        if question.down_to != "exact" and len(originals) > 1:
            with search.stage("calibrate"):
                calibration = calibrate(Sight(originals, held, thumbnails, model.open_embedder()), question)
            groups += (near := _near(search, originals, calibration.near_similarity))
            if question.down_to == "similar":
                groups += _similar(search, _representatives(originals, near), calibration.similar_similarity)
        unread = tuple(thumbnails.unread[image_id] for image_id in sorted(thumbnails.unread))
        return DuplicateReport(question, tuple(groups), calibration, len(originals), unread, search.seconds)


def _exact(search: _Search) -> list[Group]:
    images = search.holdings.images(search.holdings.copied())
    return [_group("exact", by_preference([image], search.question.keep), [1.0]) for image in images.values()]


def _near(search: _Search, originals: Originals, least: float) -> list[Group]:
    """The same picture by the model and by the overlay with one centre."""
    rejections = Rejections(originals, search.rejected)
    with search.stage("link") as progress:
        links = link(originals, least, rejections, progress)
    ids = originals.image_ids

    def check(pairs: Sequence[tuple[int, int]]) -> list[bool]:
        likenesses = search.thumbnails.likenesses([(int(ids[centre]), int(ids[other])) for centre, other in pairs])
        return [bool(holds) for holds in likenesses >= SAME_PICTURE]  # NaN, of what cannot be read, does not

    with search.stage("compare"):
        found = stars(originals, links, rejections, check)
        return _groups(search, "near", originals, found)


def _similar(search: _Search, originals: Originals, least: float) -> list[Group]:
    rejections = Rejections(originals, search.rejected)

    def check(pairs: Sequence[tuple[int, int]]) -> list[bool]:
        centres, others = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        return [bool(holds) for holds in originals.similarities_of_pairs(centres, others) >= least]

    with search.stage("similar") as progress:
        links = link(originals, least, rejections, progress)
        return _groups(search, "similar", originals, stars(originals, links, rejections, check))


def _representatives(originals: Originals, near: Sequence[Group]) -> Originals:
    """The images without those of a near group that are not the one to keep."""
    others = [member.image_id for group in near for member in group.members[1:]]
    return originals.only(np.flatnonzero(~np.isin(originals.image_ids, others)))


def _groups(search: _Search, tier: Tier, originals: Originals, stars: Sequence[Sequence[int]]) -> list[Group]:
    """Groups of places as they are told, by the id of the image to keep."""
    place_of = {int(originals.image_ids[place]): place for star in stars for place in star}
    images = search.holdings.images(sorted(place_of))
    ordered = [
        by_preference([images[int(originals.image_ids[place])] for place in star], search.question.keep)
        for star in stars
    ]
    groups = []
    for members in ordered:
        places = np.array([place_of[member.image_id] for member in members])
        similarities = originals.similarities(int(places[0]), places[1:]).tolist()
        groups.append(_group(tier, members, [1.0, *similarities]))
    return sorted(groups, key=lambda group: group.members[0].image_id)


def _group(tier: Tier, images: Sequence[HeldImage], similarities: Sequence[float]) -> Group:
    keeper, *others = (
        Member(
            image.image_id,
            tuple(file.path for file in image.files),
            image.width,
            image.height,
            image.size_bytes,
            similarity,
        )
        for image, similarity in zip(images, similarities, strict=True)
    )
    return Group(tier, (keeper, *sorted(others, key=lambda member: (-member.similarity, member.image_id))))
