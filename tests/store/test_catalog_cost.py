"""What is asked of the catalog for every file costs the same, however many vectors there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simsearch.index.kinds import IndexKindChoice
from simsearch.store.catalog import Catalog, StoredModel
from tests.support.synthetic import clustered, fill

ASKED: dict[str, Callable[[Catalog, StoredModel], Any]] = {
    "known_files": lambda catalog, stored: catalog.find_known_files(["/pictures/000007.png"], stored.id),
    "embedded_views": lambda catalog, stored: catalog.find_embedded_views(f"{7:032x}", stored.id),
    "view_of_content": lambda catalog, stored: catalog.find_view_by_digest(f"{7:032x}", stored),
    "live_views": lambda catalog, _: catalog.find_live_views([8]),
    "original_view": lambda catalog, _: catalog.find_original_view(8),
}


def n_steps(folder: Path, ask: Callable[[Catalog, StoredModel], Any]) -> int:
    """How many steps SQLite's virtual machine takes for a question."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    with Catalog.open(folder) as catalog:
        stored = catalog.list_models()[0]
        catalog._connection.set_progress_handler(count, 1)
        assert ask(catalog, stored)
        catalog._connection.set_progress_handler(None, 0)
    return steps


@pytest.mark.parametrize("name", ASKED)
def test_a_question_about_one_file_walks_over_no_others(name: str, tmp_path: Path):
    few = fill(tmp_path / "few", clustered(20, seed=1), IndexKindChoice()).folder
    many = fill(tmp_path / "many", clustered(2_000, seed=1), IndexKindChoice()).folder
    assert n_steps(many, ASKED[name]) <= n_steps(few, ASKED[name]) + 5
