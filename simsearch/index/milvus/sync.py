"""Bringing Milvus in step with the catalog. A vector never changes under its id, and a row has a digest of the rest.

Whatever is interrupted is done again: the record is written last, and every step is a difference of what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from simsearch.index.milvus.client import MAX_HITS, MilvusTable
from simsearch.index.milvus.config import SyncRecord
from simsearch.index.milvus.expected_rows import ExpectedRows
from simsearch.index.milvus.schema import IMAGE, KEY, MilvusRow
from simsearch.store.writer import CatalogWriter

SyncProgress = Callable[[int, int], object]
"""Called with how many rows are as they should be, and how many there are to be."""

_IMAGES_PER_STEP = 200
"""How many changed images are looked at together: with their views they are fewer than `MOST_HITS`."""


def sync_table(
    table: MilvusTable,
    ledger: ExpectedRows,
    writer: CatalogWriter,
    *,
    is_thorough: bool = False,
    progress: SyncProgress = lambda *_: 0,
) -> None:
    """Write what the catalog has more or otherwise, delete what it has less.

    Only images that have changed are looked at, where it is known which; all rows where it is not, where their
    number shows that something else went wrong, or where it is asked for.
    """
    stored, record = ledger.stored, SyncRecord.from_catalog(writer, ledger.stored.fingerprint)
    is_known = record is not None and record.token == table.token and not is_thorough
    if is_known and record is not None and record.is_current(stored, ledger.last_change):
        return
    table.save_token("")  # what is interrupted from here on is compared whole
    if record is not None and is_known:
        _reconcile_images(table, ledger, ledger.list_changed_images(record.change))
    if not is_known or table.count() != len(ledger):
        _reconcile_all(table, ledger, progress)
    table.flush()
    record = SyncRecord.create(stored.generation, ledger.last_change)
    table.save_token(record.token)
    record.save(writer, stored.fingerprint)


def count_differences(table: MilvusTable, ledger: ExpectedRows) -> tuple[int, int, int]:
    """How many rows are missing, are more than there should be, and say something else than the catalog."""
    missing = surplus = other = 0
    for wanted, held in _iter_windows(table, ledger):
        keys = {row.view_id for row in wanted}
        missing += len(keys - held.keys())
        surplus += len(held.keys() - keys)
        other += sum(row.view_id in held and held[row.view_id] != row.digest for row in wanted)
    return missing, surplus + table.count(f"{KEY} > {ledger.last_view_id}"), other


def _reconcile_images(table: MilvusTable, ledger: ExpectedRows, image_ids: Sequence[int]) -> None:
    for start in range(0, len(image_ids), _IMAGES_PER_STEP):
        some = list(image_ids[start : start + _IMAGES_PER_STEP])
        _reconcile_rows(table, ledger, ledger.read_image_rows(some), table.read_digests(f"{IMAGE} in {some}"))


def _reconcile_all(table: MilvusTable, ledger: ExpectedRows, progress: SyncProgress) -> None:
    n_done, n_all = 0, len(ledger)
    for wanted, held in _iter_windows(table, ledger):
        _reconcile_rows(table, ledger, wanted, held)
        n_done += len(wanted)
        progress(n_done, n_all)
    table.delete_above(ledger.last_view_id)


def _iter_windows(table: MilvusTable, ledger: ExpectedRows) -> Iterator[tuple[list[MilvusRow], dict[int, int]]]:
    """Ranges of ids that Milvus can tell of at once: the rows there should be, and the digests of those there are."""
    is_empty = table.count() == 0
    for above in range(0, ledger.last_view_id, MAX_HITS):
        up_to = min(above + MAX_HITS, ledger.last_view_id)
        held = {} if is_empty else table.read_digests(f"{KEY} > {above} and {KEY} <= {up_to}")
        yield ledger.read_row_range(above, up_to), held


def _reconcile_rows(
    table: MilvusTable, ledger: ExpectedRows, wanted: Sequence[MilvusRow], held: dict[int, int]
) -> None:
    rows = {row.view_id: row for row in wanted}
    if surplus := [view_id for view_id in held if view_id not in rows]:
        table.delete(surplus)
    due = [row.view_id for row in wanted if held.get(row.view_id) != row.digest]
    for start in range(0, len(due), 1000):
        ids, vectors = ledger.read_vectors(due[start : start + 1000])
        table.upsert([{KEY: view_id, **rows[view_id].fields} for view_id in ids.tolist()], vectors)
