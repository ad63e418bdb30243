"""Stored views that a query was made of, as candidates of an approximate index that may miss them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simsearch.index.protocol import Ids, Searchable, Vectors


class KnownViews:
    """A searchable set of vectors in which some known ids are always found by `search`.

    `read_vectors` reads the vectors (m, d) of ids (m,). `is_member` says whether an id belongs to the set; it is asked
    only for ids that a search missed.
    """

    def __init__(
        self, found: Searchable, ids: Ids, read_vectors: Callable[[Ids], Vectors], is_member: Callable[[int], bool]
    ) -> None:
        self._found = found
        self._ids = ids
        self._read_vectors = read_vectors
        self._is_member = is_member

    def __len__(self) -> int:
        return len(self._found)

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """As `Searchable` says, of one query."""
        similarities, ids = self._found.search(queries, n)
        found = set(ids.ravel().tolist())
        missed = np.array([id_ for id_ in self._ids.tolist() if id_ not in found and self._is_member(id_)], np.int64)
        if not len(missed):
            return similarities, ids
        exact = (queries @ self._read_vectors(missed).T).clip(-1, 1)
        similarities, ids = np.hstack([similarities, exact]), np.hstack([ids, missed[None]])
        order = np.argsort(-similarities, axis=1, kind="stable")[:, : min(n, len(self))]
        return np.take_along_axis(similarities, order, 1), np.take_along_axis(ids, order, 1)

    def range_search(self, query: Vectors, min_similarity: float) -> tuple[Vectors, Ids]:
        """As `Searchable` says."""
        return self._found.range_search(query, min_similarity)
