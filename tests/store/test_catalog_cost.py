"""The cost of catalog queries for one file does not grow with the number of vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simsearch.index.kinds import IndexKindChoice
from simsearch.store.catalog import Catalog, StoredModel
from tests.support.synthetic import clustered, fill

QUERIES: dict[str, Callable[[Catalog, StoredModel], Any]] = {
    "known_files": lambda catalog, stored: catalog.find_known_files(["/pictures/000007.png"], stored.id),
    "embedded_views": lambda catalog, stored: catalog.find_embedded_views(f"{7:032x}", stored.id),
    "view_of_content": lambda catalog, stored: catalog.find_view_by_digest(f"{7:032x}", stored),
    "live_views": lambda catalog, _: catalog.find_live_views([8]),
    "original_view": lambda catalog, _: catalog.find_original_view(8),
}


def n_steps(folder: Path, query: Callable[[Catalog, StoredModel], Any]) -> int:
    """Count the steps of SQLite's virtual machine for a query."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with Catalog.open(folder) as catalog:
        stored = catalog.list_models()[0]
        catalog._connection.set_progress_handler(count, 1)
        assert query(catalog, stored)
        catalog._connection.set_progress_handler(None, 0)
    return steps


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_for_one_file_scans_no_others(name: str, tmp_path: Path):
    few = fill(tmp_path / "few", clustered(20, seed=1), IndexKindChoice()).folder
    many = fill(tmp_path / "many", clustered(2_000, seed=1), IndexKindChoice()).folder
    assert n_steps(many, QUERIES[name]) <= n_steps(few, QUERIES[name]) + 5
