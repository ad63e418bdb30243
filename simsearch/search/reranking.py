"""Answers under a method: projections and blended rows prepared once, expansion and re-ranking for each query.

The rules are those that the benchmark measures by: projection, blending and neighbours are of the original views;
augmented ones are projected, and an image is as similar as its best view.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import CollectionBusy, CollectionNotWritable, DiskFull
from simsearch.index import AnnIndex, Ids, Index, Searchable, Vectors
from simsearch.index.cache import Derivation, Indexes
from simsearch.rerank.database_augmentation import blend
from simsearch.rerank.k_reciprocal import Reciprocal, Settings
from simsearch.rerank.method import Method
from simsearch.rerank.neighbors import Database, nearest_others
from simsearch.rerank.patched_database import Amended
from simsearch.rerank.projection import Projection
from simsearch.rerank.query_expansion import expand
from simsearch.search.ranking import Found, Hit, Limits, first, nearest, numbered
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.writer import CatalogWriter

_VERSION = 1  # raise it when the same method makes other vectors of the same ones: cached indexes are then made anew

_N_CANDIDATES = 100
"""How many first answers k-reciprocal re-ranking puts in order."""


class Methods:
    """The methods of an open collection, each made ready when it is first asked for and kept for the next query."""

    def __init__(self, catalog: Catalog, cache: Indexes) -> None:
        self._catalog = catalog
        self._cache = cache
        self._projections: dict[tuple[str, str], _Fitted] = {}
        self._points: _Points | None = None

    def ready(self, stored: StoredModel, method: Method) -> Ready:
        """What answers under a method. A projection is fitted, and an index made, where there is none yet.

        Raises `UsageError` when there are no two different pictures to fit a projection to, `CollectionDamaged`.
        """
        fitted = self._projection(stored, method) if method.width is not None else None
        derivation = _derivation(stored, method, fitted)
        index = self._cache.index(stored.fingerprint, derivation)
        points = None
        if method.k_reciprocal is not None:
            whole = self._cache.exact(stored.fingerprint, derivation)
            points = self._points_of(whole, stored, method.k_reciprocal)
        return Ready(method, index, None if fitted is None else fitted.projection, self._catalog, points)

    def _projection(self, stored: StoredModel, method: Method) -> _Fitted:
        """Fitted to the original vectors, anew when there are twice or half as many as then; kept if it can be."""
        name = str(Method(pca=method.pca, whiten=method.whiten))
        key = stored.fingerprint, name
        n_vectors = self._catalog.n_vectors(stored.id)
        n_kept, held = self._catalog.n_fitted(stored.id, name), self._projections.get(key)
        if n_kept is not None and _is_near(n_kept, n_vectors) and (held is None or held.n_vectors != n_kept):
            with contextlib.suppress(ValueError):  # damaged: as if there were none
                held = _Fitted.of(n_kept, Projection.from_bytes(self._catalog.projection(stored.id, name)))
        if held is None or not _is_near(held.n_vectors, n_vectors):
            held = _Fitted.of(n_vectors, self._fit(stored, method))
            self._keep(stored, name, held)
        self._projections[key] = held
        return held

    def _fit(self, stored: StoredModel, method: Method) -> Projection:
        ids = self._catalog.original_ids(stored.id)
        blocks = (vectors for _, vectors in self._catalog.vectors(stored, ids))
        return Projection.fit(blocks, method.width or stored.width, method.whitening)

    def _keep(self, stored: StoredModel, name: str, fitted: _Fitted) -> None:
        """In the catalog, unless another process writes or the place cannot be written to: then for this time only."""
        with (
            contextlib.suppress(CollectionBusy, CollectionNotWritable, DiskFull),
            CatalogWriter.open_or_create(self._catalog.folder) as writer,
            writer.transaction(),
        ):
            if writer.find_model(stored.fingerprint) is not None:
                writer.keep_projection(stored.id, name, fitted.n_vectors, fitted.projection.to_bytes())

    def _points_of(self, index: AnnIndex, stored: StoredModel, k1: int) -> _Points:
        if self._points is None or self._points.index is not index or self._points.settings.k1 != k1:
            self._points = _points(index, self._catalog.original_ids(stored.id), k1)
        return self._points


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """A projection, its digest, and how many vectors there were when it was fitted."""

    n_vectors: int
    projection: Projection
    digest: str

    @classmethod
    def of(cls, n_vectors: int, projection: Projection) -> _Fitted:
        return cls(n_vectors, projection, projection.digest)


@dataclass(frozen=True, slots=True)
class Own:
    """What a query is of: the contents of its pictures, and its view where it is one picture of the collection."""

    digests: Collection[str] = ()
    view_id: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A method made ready: the index that is searched, and what is done to queries and answers."""

    method: Method
    index: Index
    projection: Projection | None
    catalog: Catalog
    points: _Points | None

    def placed(self, vectors: Vectors) -> Vectors:
        """Vectors of the model (m, d) where the index has theirs (m, width)."""
        return vectors if self.projection is None else self.projection.apply(vectors)

    def answers(self, query: Vectors, own: Own, part: Searchable, limits: Limits) -> list[Hit]:
        """Hits among a part of the index for a placed unit vector (width,).

        A query is expanded with its nearest images, those outside the part among them, but not with itself. The first
        100 answers of the part are put in order by k-reciprocal re-ranking; what comes after them follows.
        """
        if self.method.aqe is not None:
            query = self._expanded(query, self.method.aqe, own)
        if self.points is None:
            return nearest(query, part, self.catalog, limits)
        wanted = limits
        if limits.k is not None:
            wanted = replace(limits, k=max(limits.k, _N_CANDIDATES - limits.offset))
        found = first(query, part, self.catalog, wanted)
        head, tail = found[:_N_CANDIDATES], found[_N_CANDIDATES:]
        return numbered([*self._reordered(self.points, query, own, head), *tail], limits)

    def _expanded(self, query: Vectors, n: int, own: Own) -> Vectors:
        near = first(query, self.index, self.catalog, Limits(n, excluded_digests=own.digests))
        if not near:
            return query
        rows = self.index.vectors_of(self._originals(near))
        return expand(query, rows, np.array([found.similarity for found in near], np.float32))

    def _reordered(self, points: _Points, query: Vectors, own: Own, found: list[Found]) -> list[Found]:
        candidates = points.positions_of(self._originals(found))
        similarities = np.array([some.similarity for some in found], np.float32)
        itself, reciprocal = len(points.database), points.shared
        if own.view_id is not None and own.view_id in points.ids:
            itself = int(points.positions_of(np.array([own.view_id]))[0])
        if itself == len(points.database) or self.method.aqe is not None or self.method.dba is not None:
            changed = Amended(points.database, np.array([itself]), query[None])
            reciprocal = Reciprocal(changed, points.settings)
        return [found[at] for at in reciprocal.reorder(itself, candidates, similarities).order]

    def _originals(self, found: list[Found]) -> Ids:
        views = self.catalog.original_views([some.view.image_id for some in found])
        return np.array([views[some.view.image_id] for some in found], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Points:
    """The original views of an index among themselves, known by position; `ids` (n,) are rising, `order` is theirs."""

    index: AnnIndex
    database: Database
    ids: Ids
    order: NDArray[np.intp]
    settings: Settings
    shared: Reciprocal

    def positions_of(self, ids: Ids) -> NDArray[np.int64]:
        """Of those view ids (m,)."""
        return self.order[np.searchsorted(self.ids, ids)].astype(np.int64)


def _points(index: AnnIndex, original_ids: Ids, k1: int) -> _Points:
    depth = k1 + 1  # one more than is asked for: lists of which a changed row falls out
    ids = index.ids
    if (is_original := np.isin(ids, original_ids, assume_unique=True)).all():
        database = Database(index, index.rows, depth)
    else:
        ids = ids[is_original]
        database = Database.of(index.rows[is_original], depth)
    order = np.argsort(ids, kind="stable")
    settings = Settings(k1=k1)
    return _Points(index, database, ids[order], order, settings, Reciprocal(database, settings))


def _derivation(stored: StoredModel, method: Method, fitted: _Fitted | None) -> Derivation | None:
    """What the method makes of vectors before any query; None where it searches them as they are."""
    if fitted is None and method.dba is None:
        return None
    name = str(Method(pca=method.pca, whiten=method.whiten, dba=method.dba))
    digest = f"{_VERSION}" if fitted is None else f"{_VERSION} {fitted.digest}"
    width = stored.width if fitted is None else fitted.projection.width
    n_blended = method.dba

    def each(vectors: Vectors) -> Vectors:
        return vectors if fitted is None else fitted.projection.apply(vectors)

    def together(rows: Vectors) -> Vectors:
        assert n_blended is not None  # else nothing is blended
        return blend(rows, nearest_others(rows, n_blended), n_blended)

    return Derivation(name, digest, width, each, None if n_blended is None else together)


def _is_near(n_then: int, n_now: int) -> bool:
    return n_then < 2 * n_now and n_now < 2 * n_then
