"""Synchronize Milvus with the catalog by the differences of rows.

A vector never changes under its view id, and each row has a digest of its other fields. An interrupted run is
repeated: the sync record is written last, and every step compares with the rows that are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from simsearch.index.milvus.client import MAX_HITS, MilvusTable
from simsearch.index.milvus.config import SyncRecord
from simsearch.index.milvus.expected_rows import ExpectedRows
from simsearch.index.milvus.schema import IMAGE, KEY, MilvusRow
from simsearch.store.writer import CatalogWriter

SyncProgress = Callable[[int, int], object]
"""Called with the number of rows that are synchronized, and the total number of rows."""

_IMAGES_PER_STEP = 200
"""The number of changed images in one step; with their views they are fewer than `MAX_HITS` rows."""


def sync_table(
    table: MilvusTable,
    expected: ExpectedRows,
    writer: CatalogWriter,
    *,
    is_thorough: bool = False,
    progress: SyncProgress = lambda *_: 0,
) -> None:
    """Insert and update rows from the catalog, and delete rows that it no longer has.

    If the sync record matches, only rows of changed images are compared. All rows are compared if it does not, if the
    number of rows differs afterwards, or with `is_thorough`.
    """
    stored, record = expected.stored, SyncRecord.from_catalog(writer, expected.stored.fingerprint)
    is_known = record is not None and record.token == table.token and not is_thorough
    if is_known and record is not None and record.is_current(stored, expected.last_change):
        return
    table.save_token("")  # an interruption from here on leads to a full comparison
    if record is not None and is_known:
        _reconcile_images(table, expected, expected.list_changed_images(record.change))
    if not is_known or table.count() != len(expected):
        _reconcile_all(table, expected, progress)
    table.flush()
    record = SyncRecord.create(stored.change_token, expected.last_change)
    table.save_token(record.token)
    record.save(writer, stored.fingerprint)


def count_differences(table: MilvusTable, expected: ExpectedRows) -> tuple[int, int, int]:
    """Count the rows that are missing, the surplus rows, and the rows whose fields differ from the catalog."""
    missing = surplus = other = 0
    for wanted, held in _iter_windows(table, expected):
        keys = {row.view_id for row in wanted}
        missing += len(keys - held.keys())
        surplus += len(held.keys() - keys)
        other += sum(row.view_id in held and held[row.view_id] != row.digest for row in wanted)
    return missing, surplus + table.count(f"{KEY} > {expected.last_view_id}"), other


def _reconcile_images(table: MilvusTable, expected: ExpectedRows, image_ids: Sequence[int]) -> None:
    for start in range(0, len(image_ids), _IMAGES_PER_STEP):
        some = list(image_ids[start : start + _IMAGES_PER_STEP])
        _reconcile_rows(table, expected, expected.read_image_rows(some), table.read_digests(f"{IMAGE} in {some}"))


def _reconcile_all(table: MilvusTable, expected: ExpectedRows, progress: SyncProgress) -> None:
    n_done, n_all = 0, len(expected)
    for wanted, held in _iter_windows(table, expected):
        _reconcile_rows(table, expected, wanted, held)
        n_done += len(wanted)
        progress(n_done, n_all)
    table.delete_above(expected.last_view_id)


def _iter_windows(table: MilvusTable, expected: ExpectedRows) -> Iterator[tuple[list[MilvusRow], dict[int, int]]]:
    """Iterate over ranges of ids that one query can return: the expected rows, and the digests of the stored rows."""
    is_empty = table.count() == 0
    for above in range(0, expected.last_view_id, MAX_HITS):
        up_to = min(above + MAX_HITS, expected.last_view_id)
        held = {} if is_empty else table.read_digests(f"{KEY} > {above} and {KEY} <= {up_to}")
        yield expected.read_row_range(above, up_to), held


def _reconcile_rows(
    table: MilvusTable, expected: ExpectedRows, wanted: Sequence[MilvusRow], held: dict[int, int]
) -> None:
    rows = {row.view_id: row for row in wanted}
    if surplus := [view_id for view_id in held if view_id not in rows]:
        table.delete(surplus)
    due = [row.view_id for row in wanted if held.get(row.view_id) != row.digest]
    for start in range(0, len(due), 1000):
        ids, vectors = expected.read_vectors(np.array(due[start : start + 1000], np.int64))
        table.upsert([{KEY: view_id, **rows[view_id].fields} for view_id in ids.tolist()], vectors)
