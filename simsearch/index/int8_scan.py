"""Exact search that reads one byte a dimension: a scan of int8 codes, then full vectors of what may be nearest.

The error of a similarity that is computed from codes is bounded: |q x - q' x'| <= |q| |x - x'| + |q - q'| |x'| (Cauchy
and Schwarz). Only vectors within that bound of the nearest ones are compared in float32, so no neighbor is missed. That
comparison is the one of FAISS's flat index, so the results are those of a scan of all full vectors.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Hashable

import faiss
import numpy as np

from simsearch.index.protocol import Ids, Vectors

_LARGEST = 127
_SMALLEST = 1e-30
_BLOCK_ROWS = 16_384
_FIRST_CANDIDATES = 200
_MAX_CANDIDATES = 3_200
_GROWTH = 4
_N_TRIALS = 8
"""After so many queries the scan is given up if most of them needed a scan of the full vectors too."""


_lock = threading.Lock()
_scans: weakref.WeakValueDictionary[Hashable, Int8Scan] = weakref.WeakValueDictionary()


def share_scan(key: Hashable, rows: Vectors) -> Int8Scan:
    """Return the codes of rows (n, d), which this process may have made already; equal keys stand for equal rows.

    Threads that search one collection, each with an index of its own, have one copy of the codes.
    """
    with _lock:
        scan = _scans.get(key)
        if scan is None:
            scan = _scans[key] = Int8Scan(rows)
        return scan


class Int8Scan:
    """Codes of rows (n, d) for finding those nearest to one query. The rows are not kept; `search` takes them again."""

    def __init__(self, rows: Vectors) -> None:
        n, width = rows.shape
        largest = max(float(np.abs(rows[start : start + _BLOCK_ROWS]).max()) for start in _starts(n))
        self._scale = _LARGEST / max(largest, _SMALLEST)
        self._codes = faiss.IndexScalarQuantizer(
            width, faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
        )
        self._longest_error = self._longest_code = 0.0
        self._n_queries = self._n_failed = 0
        if not math.isfinite(largest):  # the content of the file is damaged: every row may be the nearest
            self._longest_error = math.inf
            return
        for start in _starts(n):
            block = rows[start : start + _BLOCK_ROWS]
            codes = np.rint(block * self._scale)
            self._codes.add(codes)
            self._longest_code = max(self._longest_code, _find_longest(codes) / self._scale)
            self._longest_error = max(self._longest_error, _find_longest(block - codes / self._scale))

    @property
    def is_useful(self) -> bool:
        """Whether most queries so far needed no scan of the full vectors."""
        return self._n_queries < _N_TRIALS or 2 * self._n_failed < self._n_queries

    def search(self, query: Vectors, n: int, rows: Vectors) -> tuple[Vectors, Ids] | None:
        """Find the n of the rows nearest to a unit vector (d,): similarities and positions (n,), most similar first.

        None where more rows than are worth comparing may be among them.
        """
        self._n_queries += 1
        if self._longest_error == math.inf:
            self._n_failed += 1
            return None
        scale = _LARGEST / max(float(np.abs(query).max()), _SMALLEST)
        code = np.rint(query * scale)
        error = math.sqrt(float(query @ query)) * self._longest_error
        rest = query - code / scale
        error += math.sqrt(float(rest @ rest)) * self._longest_code
        n_candidates = max(_FIRST_CANDIDATES, 4 * n)
        while n_candidates <= min(_MAX_CANDIDATES, len(rows)):
            sums, positions = self._codes.search(code[None], n_candidates)
            similarities = _compare(query, rows, positions[0])
            order = np.argsort(-similarities, kind="stable")[:n]
            if sums[0, -1] / (scale * self._scale) + error < similarities[order[-1]]:  # what is not found is lower
                return similarities[order], positions[0][order]
            n_candidates *= _GROWTH
        self._n_failed += 1
        return None


def _compare(query: Vectors, rows: Vectors, positions: Ids) -> Vectors:
    """Compute the similarities (m,) of rows at positions (m,), as FAISS's flat index does."""
    similarities = np.empty(len(positions), np.float32)
    faiss.fvec_inner_products_by_idx(
        faiss.swig_ptr(similarities), faiss.swig_ptr(query), faiss.swig_ptr(rows), faiss.swig_ptr(positions),
        rows.shape[1], 1, len(positions),
    )  # fmt: skip
    return similarities


def _starts(n: int) -> range:
    return range(0, n, _BLOCK_ROWS)


def _find_longest(rows: Vectors) -> float:
    """The largest length of rows (m, d), rounded up beyond the error of float32."""
    return 1.00001 * math.sqrt(float(np.einsum("ij,ij->i", rows, rows).max(initial=0)))
