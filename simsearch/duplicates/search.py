"""Search a collection for duplicates: exact, near, similar. The result suggests files to keep; nothing is deleted."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from simsearch.duplicates.calibration import calibrate
from simsearch.duplicates.candidates import NeighborSearch
from simsearch.duplicates.copy_groups import build_copy_groups
from simsearch.duplicates.copy_search import CopySearch
from simsearch.duplicates.file_states import FileState, read_file_state
from simsearch.duplicates.grouping import build_stars
from simsearch.duplicates.keep_rules import Candidate, suggest_actions
from simsearch.duplicates.options import DuplicateOptions, Tier
from simsearch.duplicates.pairs import CopyPair
from simsearch.duplicates.picture_evidence import PictureEvidence
from simsearch.duplicates.renditions import RenditionCache
from simsearch.duplicates.results import DuplicateGroup, DuplicateReport, GroupMember, MemberCopy, MemberFile
from simsearch.duplicates.similarity_graph import OriginalVectors, RejectedPairs, build_similarity_graph
from simsearch.errors import ImageNotFound, UnreadableFile, UsageError
from simsearch.images.decode import compute_default_max_pixels
from simsearch.index.exact import ExactIndex
from simsearch.index.protocol import IndexBackend, Searchable
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.snapshot import Snapshot, StoredImage, open_snapshot
from simsearch.store.writer import CatalogWriter

StageProgress = Callable[[str, float], None]
"""Called with the name of the current stage and its finished share, from 0 to 1."""

ImagePairs = Collection[tuple[int, int]]
"""Pairs of image ids."""


@dataclass(frozen=True, slots=True)
class SearchedModel:
    """A model of the collection: its vectors, and its index, perhaps approximate, to search for neighbors."""

    stored: StoredModel
    vectors: ExactIndex
    index: Searchable


@dataclass(slots=True)
class _DuplicateSearch:
    """The state of one search."""

    options: DuplicateOptions
    snapshot: Snapshot
    evidence: PictureEvidence
    rejected: ImagePairs
    progress: StageProgress
    seconds: dict[str, float] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)

    @contextmanager
    def time_stage(self, name: str) -> Iterator[Callable[[float], None]]:
        """Time a stage and report its progress; gives a function to call with the finished share."""
        started = time.perf_counter()
        self.progress(name, 0.0)
        yield lambda share: self.progress(name, share)
        self.seconds[name] = time.perf_counter() - started


def search_duplicates(
    catalog: Catalog, cache: IndexBackend, stored: StoredModel, *, options: DuplicateOptions, progress: StageProgress
) -> DuplicateReport:
    """Search a collection for duplicates with one of its models. Rejected pairs never share a group.

    Raises what `find_duplicates` raises.
    """
    model = SearchedModel(stored, cache.open_exact_index(stored.fingerprint), cache.open_index(stored.fingerprint))
    return find_duplicates(catalog, model, options, rejected=catalog.list_rejected_pairs(), progress=progress)


def find_duplicates(
    catalog: Catalog,
    model: SearchedModel,
    options: DuplicateOptions,
    *,
    rejected: ImagePairs = (),
    progress: StageProgress = lambda _stage, _share: None,
) -> DuplicateReport:
    """Find groups of files with the same bytes, of edits of one picture, and of similar pictures, down to a tier.

    `rejected` are pairs of image ids that never share a group. An image is in one group only: one with edits is in no
    similar group, and the exact copies of an image are in the group of its edits or of its similar images.

    An image that was imported by its vector alone, without its picture, can only be in a similar group.

    Raises `UnreadableFile` if none of the pictures to compare can be read, `UsageError` if `near` is requested and no
    image has a picture; neither if only `exact` is requested.
    """
    with open_snapshot(catalog.folder) as snapshot:
        max_pixels = options.max_pixels or compute_default_max_pixels()
        search = _DuplicateSearch(options, snapshot, PictureEvidence(max_pixels), rejected, progress)
        originals = OriginalVectors.from_index(model.vectors, *snapshot.list_original_ids(model.stored.id))
        read = originals.select(np.flatnonzero(~np.isin(originals.image_ids, snapshot.catalog.list_unread_image_ids())))
        if options.down_to == "near" and len(originals) and not len(read):
            problem = "the collection has vectors without pictures, and copies are found by comparing pictures"
            raise UsageError(problem, "search for similar images, which needs only vectors: --tier similar")
        calibration, groups, pairs, n_compared = None, list[DuplicateGroup](), list[CopyPair](), 0
        if options.down_to != "exact" and len(originals) > 1:
            if len(read) > 1:
                pairs, n_compared = _find_copies(search, model, read, max_pixels)
            copies = build_copy_groups(pairs, set(rejected))
            search.evidence.framed |= _list_framed(pairs, copies)
            _note_covered(search.evidence, pairs)
            groups += _describe_copies(search, originals, copies, pairs)
            if options.down_to == "similar":
                with search.time_stage("calibrate"):
                    calibration = calibrate(originals, copies, options)
                others = originals.select(np.flatnonzero(~np.isin(originals.image_ids, _list_image_ids(groups))))
                groups += _find_similar(search, others, calibration.similar_similarity)
        with search.time_stage("exact"):
            groups = [*_find_exact(search, set(_list_image_ids(groups))), *groups]
        return DuplicateReport(
            options, tuple(groups), calibration, len(originals), tuple(sorted(search.unread)), search.seconds,
            tuple(sorted(pairs, key=lambda pair: pair.key)), n_compared,
        )  # fmt: skip


def reject(writer: CatalogWriter, image_ids: Sequence[int]) -> int:
    """Store that no two of these images are duplicates, and return the number of pairs.

    Raises `UsageError` on fewer than two images, `ImageNotFound` if one is not in the collection.
    """
    pairs = _list_pairs(writer, image_ids)
    with writer.transaction():
        writer.reject_pairs(pairs)
    return len(pairs)


def unreject(writer: CatalogWriter, image_ids: Sequence[int]) -> int:
    """Delete the rejected pairs among these images, and return their number. Raises what `reject` raises."""
    pairs = _list_pairs(writer, image_ids)
    with writer.transaction():
        return writer.unreject_pairs(pairs)


def _list_pairs(catalog: Catalog, image_ids: Sequence[int]) -> list[tuple[int, int]]:
    """List all pairs of the images, the smaller id first."""
    ids = sorted(set(image_ids))
    if len(ids) < 2:
        raise UsageError("one image is not a pair", "give the ids of two or more images, such as 12,15")
    for image_id in ids:
        if catalog.find_original_view(image_id) is None:
            folder = catalog.folder
            raise ImageNotFound(str(folder), f"{folder} has no image {image_id}", "the groups show the ids")
    return list(itertools.combinations(ids, 2))


def _list_image_ids(groups: Sequence[DuplicateGroup]) -> list[int]:
    return [member.image_id for group in groups for member in group.members]


def _find_exact(search: _DuplicateSearch, grouped: Collection[int]) -> list[DuplicateGroup]:
    """Find the images with several files, without those that are in another group."""
    images = search.snapshot.read_images(
        [image_id for image_id in search.snapshot.find_copied_images() if image_id not in grouped]
    )
    groups = (_build_group(search, "exact", [image]) for image in images.values())
    return [group for group in groups if group is not None]


def _find_copies(
    search: _DuplicateSearch, model: SearchedModel, originals: OriginalVectors, max_pixels: int
) -> tuple[list[CopyPair], int]:
    """Find the verified pairs of copies, and count the pairs compared now. Raises `UnreadableFile`."""
    views = search.snapshot.catalog.list_view_numbers(model.stored.id)
    order = np.argsort(originals.image_ids)
    at = np.clip(np.searchsorted(originals.image_ids[order], views[:, 1]), 0, len(order) - 1)
    positions = np.where(originals.image_ids[order[at]] == views[:, 1], order[at], -1)
    n_views = 1 + model.stored.augmentation.n_views
    neighbors = NeighborSearch(model.index, views[:, 0], positions, n_views)
    renditions = RenditionCache(max_pixels)
    copies = CopySearch(search.snapshot, model.stored.id, originals, neighbors, renditions, max_pixels)
    pairs, comparer = copies.run(search.time_stage)
    if len(renditions.unread) == len(originals):
        path = min(renditions.unread.values())
        problem = "none of the pictures can be read: they are missing or were changed since they were indexed"
        raise UnreadableFile(path, problem, "index the pictures at their current location, then search again")
    search.unread.update(renditions.unread.values())
    return [pair for pair in pairs if renditions.unread.keys().isdisjoint(pair.key)], comparer.n_compared


def _note_covered(evidence: PictureEvidence, pairs: Sequence[CopyPair]) -> None:
    """Note which copies show the same picture with nothing over a part of one of them."""
    for pair in pairs:
        evidence.compared.update(pair.key)
        if "overlay" not in pair.evidence.kinds:
            evidence.uncovered.unite(*pair.key)


def _list_framed(pairs: Sequence[CopyPair], copies: Sequence[Sequence[int]]) -> set[int]:
    """List the images with a border or another picture around an image of their group."""
    group_of = {image_id: number for number, group in enumerate(copies) for image_id in group}
    return {
        pair.whole_id
        for pair in pairs
        if pair.evidence.is_framed and pair.image_a in group_of and group_of[pair.image_a] == group_of.get(pair.image_b)
    }


def _describe_copies(
    search: _DuplicateSearch, originals: OriginalVectors, copies: Sequence[Sequence[int]], pairs: Sequence[CopyPair]
) -> list[DuplicateGroup]:
    """Build the near groups, and say of each member how it differs from the first or from another member."""
    position_of = {int(image_id): position for position, image_id in enumerate(originals.image_ids)}
    stars = [[position_of[image_id] for image_id in group] for group in copies]
    groups = _build_groups(search, "near", originals, stars)
    pairs_of: dict[int, list[CopyPair]] = {}
    for pair in pairs:
        for image_id in pair.key:
            pairs_of.setdefault(image_id, []).append(pair)
    return [replace(group, members=_add_copies(group.members, pairs_of)) for group in groups]


def _add_copies(members: Sequence[GroupMember], pairs_of: Mapping[int, Sequence[CopyPair]]) -> tuple[GroupMember, ...]:
    first, own = members[0].image_id, {member.image_id for member in members}
    described = []
    for member in members[1:]:
        inner = [pair for pair in pairs_of.get(member.image_id, ()) if own.issuperset(pair.key)]
        best = max(inner, key=lambda pair: (first in pair.key, pair.evidence.agreement), default=None)
        copy = None if best is None else MemberCopy.from_pair(best, member.image_id)
        described.append(replace(member, copy=copy))
    return (members[0], *described)


def _find_similar(search: _DuplicateSearch, originals: OriginalVectors, min_similarity: float) -> list[DuplicateGroup]:
    """Find groups whose members are similar to one center, by the model alone."""
    rejections = RejectedPairs(originals, search.rejected)

    def check(pairs: Sequence[tuple[int, int]]) -> list[bool]:
        centers, others = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        return [bool(is_close) for is_close in originals.compute_pair_similarities(centers, others) >= min_similarity]

    with search.time_stage("similar") as progress:
        graph = build_similarity_graph(originals, min_similarity, rejections, progress)
        return _build_groups(search, "similar", originals, build_stars(originals, graph, rejections, check))


def _build_groups(
    search: _DuplicateSearch, tier: Tier, originals: OriginalVectors, stars: Sequence[Sequence[int]]
) -> list[DuplicateGroup]:
    """Convert stars of positions to groups, sorted by the id of the image to keep."""
    position_of = {int(originals.image_ids[position]): position for star in stars for position in star}
    images = search.snapshot.read_images(sorted(position_of))
    groups = []
    for star in stars:
        star_images = [images[int(originals.image_ids[position])] for position in star]
        group = _build_group(search, tier, star_images)
        if group is not None:
            groups.append(_add_similarities(group, originals, position_of))
    return sorted(groups, key=lambda group: group.members[0].image_id)


def _add_similarities(
    group: DuplicateGroup, originals: OriginalVectors, position_of: Mapping[int, int]
) -> DuplicateGroup:
    """Add the similarities to the first member, and sort the others by them."""
    first, *others = group.members
    positions = np.array([position_of[member.image_id] for member in others], np.intp)
    similarities = originals.compute_similarities(position_of[first.image_id], positions).tolist()
    scored = [replace(member, similarity=score) for member, score in zip(others, similarities, strict=True)]
    return DuplicateGroup(group.tier, (first, *sorted(scored, key=lambda one: (-one.similarity, one.image_id))))


def _build_group(search: _DuplicateSearch, tier: Tier, images: Sequence[StoredImage]) -> DuplicateGroup | None:
    """Build a group of the files that are unchanged, the image to keep first; None if fewer than two files are left."""
    candidates = []
    for image in sorted(images, key=lambda image: image.image_id):
        for file in image.files:
            state = FileState(file, file.path) if image.is_unread else read_file_state(file)
            if state is None:
                search.unread.add(file.path)
            else:
                candidates.append(Candidate(image, state))
    n_images = len({candidate.image.image_id for candidate in candidates})
    n_files = len({candidate.state.identity for candidate in candidates})
    if n_files < 2 or (n_images < 2 and tier != "exact"):
        return None
    actions = _suggest_actions(search, tier, candidates)
    members = [
        GroupMember(
            image.image_id,
            tuple(sorted((actions[file.path] for file in image.files if file.path in actions), key=_rank_action)),
            image.width,
            image.height,
            image.size_bytes,
            1.0,
        )
        for image in {candidate.image.image_id: candidate.image for candidate in candidates}.values()
    ]
    return DuplicateGroup(tier, tuple(sorted(members, key=lambda member: _rank_action(member.files[0]))))


def _suggest_actions(search: _DuplicateSearch, tier: Tier, candidates: Sequence[Candidate]) -> dict[str, MemberFile]:
    """Suggest an action for each path. Similar images are different pictures: one file of each is to look at."""
    if tier != "similar":
        return suggest_actions(candidates, search.options.keep, search.evidence)
    actions: dict[str, MemberFile] = {}
    for image_id in dict.fromkeys(candidate.image.image_id for candidate in candidates):
        own = [candidate for candidate in candidates if candidate.image.image_id == image_id]
        first, *others = suggest_actions(own, search.options.keep, search.evidence).values()
        actions[first.path] = MemberFile(first.path, "look", "")
        actions |= {file.path: replace(file, action="look") if file.action == "keep" else file for file in others}
    return actions


def _rank_action(file: MemberFile) -> int:
    return ("keep", "look", "remove").index(file.action)
