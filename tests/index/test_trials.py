"""The kinds that `auto` tries, and the table of their times."""

from __future__ import annotations

import json

import numpy as np
import pytest

from simsearch.index import trials as trials_module
from simsearch.index.build import VectorSource
from simsearch.index.info import FaissIndexInfo, IndexDetails
from simsearch.index.kinds import AUTO_CANDIDATES, KINDS
from simsearch.index.quantized import VectorReaders
from simsearch.index.trials import KindTrial, try_kinds
from tests.support.synthetic import WIDTH, clustered

N = 6_000
TABLE = {"hnsw-sq8": {"query_ms": 0.15, "build_s": 160.0, "bytes": 408e6}}


@pytest.fixture(scope="module")
def source() -> VectorSource:
    rows, ids = clustered(N, seed=1), np.arange(N)
    return VectorSource(ids, WIDTH, lambda: iter([(ids, rows)]), VectorReaders.from_file(lambda some: rows[some], None))


def run_trials(source: VectorSource, max_bytes: float) -> list[KindTrial]:
    return try_kinds([KINDS[name] for name in AUTO_CANDIDATES], source, 0.9, max_bytes, (1_200, 3_000))


def test_each_kind_is_timed_and_the_quickest_comes_first(source: VectorSource):
    trials = run_trials(source, np.inf)
    assert {trial.kind.name for trial in trials} == set(AUTO_CANDIDATES)
    assert all(trial.query_ms > 0 and trial.build_s > 0 for trial in trials)
    assert trials[0].query_ms <= trials[1].query_ms
    codes_and_links = {"ivf-sq8": WIDTH + 8, "hnsw-sq8": WIDTH + 8 + 2 * 16 * 4}
    for trial in trials:
        assert trial.n_bytes == pytest.approx(N * codes_and_links[trial.kind.name], rel=0.25)


def test_a_kind_that_is_too_large_comes_last(source: VectorSource):
    assert run_trials(source, N * 100)[0].kind.name == "ivf-sq8"


def test_of_kinds_that_take_too_long_to_build_the_shortest_comes_first(
    source: VectorSource, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trials_module, "MAX_BUILD_S", 0.0)
    trials = run_trials(source, np.inf)
    assert trials[0].build_s <= trials[1].build_s
    assert trials[0].kind.name == "ivf-sq8"  # a graph of a few thousand vectors takes many times as long


def test_the_table_is_kept_with_the_details_and_told():
    details = IndexDetails("hnsw-sq8", 1_000_000, recall_at_10=0.99, n_queries=300, trials=TABLE)
    assert IndexDetails.from_json(json.dumps(details.to_dict())) == details
    assert "estimated ms a query: hnsw-sq8 0.15" in FaissIndexInfo("hnsw-sq8", details).summary


@pytest.mark.parametrize("trials", [3, [1], {"ivf": 3}, {"ivf": {"query_ms": "much"}}])
def test_a_damaged_table_is_no_description_of_an_index(trials: object):
    with pytest.raises(ValueError, match="does not describe"):
        IndexDetails.from_json(json.dumps({"kind": "ivf", "n_vectors": 3, "trials": trials}))
