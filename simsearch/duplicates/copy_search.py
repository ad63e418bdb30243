"""Search a collection for copies: fill in missing hashes, find candidates, compare them, and keep what was found.

Results are written to the catalog after each step, so that an interrupted search continues, and a later one compares
only what is new. Where the catalog cannot be written, the search still works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from simsearch.duplicates.candidates import (
    N_NEIGHBORS,
    HashSearch,
    NeighborSearch,
    find_candidates,
    measure_hash_distances,
)
from simsearch.duplicates.comparison import PairComparer
from simsearch.duplicates.pairs import VERIFIER_VERSION, CopyPair
from simsearch.duplicates.pictures import read_image
from simsearch.duplicates.region_search import RegionSearch
from simsearch.duplicates.renditions import RenditionCache
from simsearch.duplicates.search_order import order_by_likeness
from simsearch.duplicates.similarity_graph import OriginalVectors
from simsearch.duplicates.weak_links import find_weak_links
from simsearch.errors import CollectionBusy, CollectionNotWritable
from simsearch.images.perceptual_hash import PictureHashes, compute_hashes
from simsearch.machine import count_cores
from simsearch.matching.evidence import PairEvidence
from simsearch.matching.region_hashes import N_REGIONS, RegionHashes
from simsearch.store.snapshot import Snapshot
from simsearch.store.writer import CatalogWriter

TimeStage = Callable[[str], AbstractContextManager[Callable[[float], None]]]
"""Times a stage by its name, and gives a function to call with the finished share."""

_N_HASHED, _N_IMAGES = 4096, 512
_HASH_PX = 32
_NO_HASH = (0, -1)  # as far as possible from each other and, in the mean, from all others


@dataclass(frozen=True, slots=True)
class CopySearch:
    """A search for copies with one model. `model_id` and `neighbors` are those of the model."""

    snapshot: Snapshot
    model_id: int
    originals: OriginalVectors
    neighbors: NeighborSearch
    renditions: RenditionCache
    max_pixels: int

    def run(self, time_stage: TimeStage) -> tuple[list[CopyPair], PairComparer]:
        """Find all pairs of copies: those kept in the catalog, and those of images not searched for yet."""
        with time_stage("hash") as progress:
            hashes = HashSearch(self._read_hashes(progress))
        known = self._read_known()
        comparer = PairComparer(self.snapshot, self.renditions, known)
        ids = self.originals.image_ids
        searched = self.snapshot.list_searched_images(self.model_id, VERIFIER_VERSION)
        new = order_by_likeness(self.originals, np.flatnonzero(~np.isin(ids, searched)))
        found = list(known)
        regions = _RegionHashes(self, len(new))
        with time_stage("compare") as progress:
            for start in range(0, len(new), _N_IMAGES):
                rows = new[start : start + _N_IMAGES]

                def report(share: float, done: int = start, n: int = len(rows)) -> None:
                    progress((done + share * n) / max(1, len(new)))

                pairs = self._compare(rows, hashes, regions, comparer, report)
                found += pairs
                self._keep(pairs, ids[rows])
            found += self._confirm(found, hashes, comparer)
        return found, comparer

    def _confirm(self, found: Sequence[CopyPair], hashes: HashSearch, comparer: PairComparer) -> list[CopyPair]:
        """Compare other pairs of the groups that a weak link connects; returns those that are copies."""
        others = [pair for link in find_weak_links(found) for pair in link.others]
        confirmed = comparer.compare_further(others, self._prepare_description(hashes))
        if confirmed:
            self._keep(confirmed, self.originals.image_ids[:0])
        return confirmed

    def _compare(
        self, rows: NDArray[np.intp], hashes: HashSearch, regions: _RegionHashes, comparer: PairComparer,
        progress: Callable[[float], None],
    ) -> list[CopyPair]:  # fmt: skip
        ids = self.originals.image_ids
        covered = regions.find_pairs(rows)
        progress(0.3)
        candidates = find_candidates(
            self.originals, self.neighbors, hashes, rows, lambda part: progress(0.3 + 0.1 * part), [covered]
        )
        describe = self._prepare_description(hashes)
        return comparer.compare(candidates, ids, describe, lambda part: progress(0.4 + 0.6 * part))

    def _prepare_description(self, hashes: HashSearch) -> Callable[[int, int, PairEvidence], CopyPair]:
        """Prepare a function that makes the result of two image ids and their evidence."""
        order = np.argsort(self.originals.image_ids)
        return lambda a, b, evidence: self.describe_pair(a, b, evidence, hashes.hashes, order)

    def describe_pair(
        self, a: int, b: int, evidence: PairEvidence, hashes: NDArray[np.uint64], order: NDArray[np.intp]
    ) -> CopyPair:
        """Add the similarity and the hash distance to the evidence; `order` sorts the image ids."""
        positions = order[np.searchsorted(self.originals.image_ids[order], [a, b])]
        one, other = positions[:1], positions[1:]
        similarity = float(self.originals.compute_pair_similarities(one, other)[0])
        has_hashes = bool((hashes[positions, 0] != hashes[positions, 1] ^ np.uint64(2**64 - 1)).all())
        distance = int(measure_hash_distances(hashes, one, other)[0]) if has_hashes else None
        return CopyPair(a, b, evidence, similarity, distance)

    def _read_known(self) -> list[CopyPair]:
        present = set(self.originals.image_ids.tolist())
        kept = self.snapshot.read_copy_pairs(VERIFIER_VERSION)
        return [CopyPair.from_json(a, b, text) for (a, b), text in kept.items() if a in present and b in present]

    def _read_hashes(self, progress: Callable[[float], None]) -> NDArray[np.uint64]:
        """The hashes of all images and of their mirror images (n, 2); missing ones are computed and kept."""
        ids = self.originals.image_ids
        found = np.array(_NO_HASH, np.int64).astype(np.uint64)[None].repeat(len(ids), 0)
        known_ids, known = self.snapshot.read_hashes()
        at = np.clip(np.searchsorted(known_ids, ids), 0, max(0, len(known_ids) - 1))
        has_hash = known_ids[at] == ids if len(known_ids) else np.zeros(len(ids), np.bool_)
        found[has_hash] = known[at[has_hash]]
        missing = np.flatnonzero(~has_hash)
        for start in range(0, len(missing), _N_HASHED):
            rows = missing[start : start + _N_HASHED]
            computed = self._compute_hashes(ids[rows].tolist())
            for row in rows:
                if (hashes := computed.get(int(ids[row]))) is not None:
                    found[row] = np.array(hashes, np.int64).astype(np.uint64)
            self._write(partial(_record_hashes, computed))
            progress((start + len(rows)) / len(missing))
        return found

    def _compute_hashes(self, image_ids: list[int]) -> dict[int, PictureHashes]:
        images = list(self.snapshot.read_images(image_ids).values())
        with ThreadPoolExecutor(max_workers=count_cores()) as pool:
            pictures = pool.map(lambda image: read_image(image, _HASH_PX, self.max_pixels), images)
            found: Iterator[tuple[int, PictureHashes]] = (
                (image.image_id, compute_hashes(picture.image))
                for image, picture in zip(images, pictures, strict=True)
                if picture is not None
            )
            return dict(found)

    def compute_region_hashes(self, image_ids: Sequence[int]) -> dict[int, RegionHashes]:
        """Compute the region hashes of images whose pictures can be read, and keep them in the catalog."""
        images = list(self.snapshot.read_images(image_ids).values())
        with ThreadPoolExecutor(max_workers=count_cores()) as pool:
            renditions = pool.map(self.renditions.load, images)
            computed = {
                image.image_id: rendition.region_hashes
                for image, rendition in zip(images, renditions, strict=True)
                if rendition is not None
            }
        self._write(partial(_record_region_hashes, computed))
        return computed

    def _keep(self, pairs: list[CopyPair], searched: NDArray[np.int64]) -> None:
        """Write pairs of copies, and that the candidates of these images are compared, without those not readable."""
        readable = [image_id for image_id in searched.tolist() if image_id not in self.renditions.unread]

        def write(writer: CatalogWriter) -> None:
            rows = [(pair.image_a, pair.image_b, pair.to_json()) for pair in pairs]
            writer.record_copies(rows, VERIFIER_VERSION)
            writer.record_searched_images(self.model_id, readable, VERIFIER_VERSION)

        self._write(write)

    def _write(self, write: Callable[[CatalogWriter], None]) -> None:
        """Write to the catalog in one transaction, unless it is read-only or another process writes."""
        try:
            with CatalogWriter.open(self.snapshot.catalog.folder) as writer, writer.transaction():
                write(writer)
        except (CollectionBusy, CollectionNotWritable):
            pass


class _RegionHashes:
    """The region hashes of the images of a search, computed as far as they are not kept yet."""

    def __init__(self, search: CopySearch, n_new: int) -> None:
        self._search = search
        self._ids = search.originals.image_ids
        self._known = np.zeros((len(self._ids), N_REGIONS), np.uint32)
        self._is_known = np.zeros(len(self._ids), np.bool_)
        self._found = RegionSearch(len(self._ids))
        if n_new:
            self._read_known()

    def find_pairs(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Find candidates, (3, p), of the images at positions `rows` (m,) among these and those known before."""
        missing = rows[~self._is_known[rows]]
        computed = self._search.compute_region_hashes(self._ids[missing].tolist())
        readable = np.array([row for row in missing.tolist() if int(self._ids[row]) in computed], np.intp)
        for row in readable.tolist():
            self._known[row] = computed[int(self._ids[row])]
        self._found.add(readable, self._known[readable])
        return self._found.find_pairs(rows, self._known[rows], N_NEIGHBORS)

    def _read_known(self) -> None:
        image_ids, hashes = self._search.snapshot.read_region_hashes(VERIFIER_VERSION)
        if not len(image_ids):
            return
        at = np.clip(np.searchsorted(image_ids, self._ids), 0, len(image_ids) - 1)
        self._is_known = image_ids[at] == self._ids
        rows = np.flatnonzero(self._is_known)
        self._known[rows] = hashes[at[rows]]
        self._found.add(rows, self._known[rows])


def _record_region_hashes(hashes: Mapping[int, RegionHashes], writer: CatalogWriter) -> None:
    writer.record_region_hashes(hashes.items(), VERIFIER_VERSION)


def _record_hashes(hashes: Mapping[int, PictureHashes], writer: CatalogWriter) -> None:
    writer.record_hashes(hashes.items())
