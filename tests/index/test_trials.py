"""The kinds that `auto` tries, and the table of their times."""

from __future__ import annotations

import json

import numpy as np
import pytest

from simsearch.index import build as build_module
from simsearch.index import trials as trials_module
from simsearch.index.build import VectorSource
from simsearch.index.info import FaissIndexInfo, IndexDetails
from simsearch.index.kinds import AUTO_CANDIDATES, KINDS
from simsearch.index.quantized import VectorReaders
from simsearch.index.trials import KindTrial, build_quickest, try_kinds
from tests.support.synthetic import WIDTH, clustered

N = 6_000
TABLE = {
    "hnsw-sq8": {"query_ms": 0.15, "build_s": 160.0, "bytes": 408e6, "n_timed": 20_000},
    "ivf-sq8": {"query_ms": 0.25, "build_s": 50.0, "bytes": 270e6, "n_timed": 1_000_000},
}


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


def estimate(times_ms: dict[str, float], n_bytes: float = 1e6) -> list[KindTrial]:
    return [KindTrial(KINDS[name], query_ms, 1.0, n_bytes, 3_000) for name, query_ms in times_ms.items()]


@pytest.mark.parametrize(
    ("estimates", "built"),
    [
        ({"hnsw-sq8": 1e-6, "ivf-sq8": 2e-6}, {"hnsw-sq8", "ivf-sq8"}),  # too good to be true
        ({"hnsw-sq8": 1e-6, "ivf-sq8": 1e6}, {"hnsw-sq8"}),
        ({"ivf-sq8": 1e-6, "hnsw-sq8": 1e6}, {"ivf-sq8"}),
    ],
)
def test_while_another_estimate_is_below_the_measured_time_that_kind_is_built_too(
    estimates: dict[str, float], built: set[str], source: VectorSource, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trials_module, "try_kinds", lambda *_: estimate(estimates))
    index, trials = build_quickest([KINDS[name] for name in estimates], source, 0.9, np.inf)
    measured = {trial.kind.name: trial.query_ms for trial in trials if trial.n_timed == N}
    assert set(measured) == built
    assert index is not None
    assert (index.kind.name, len(index)) == (min(measured, key=measured.__getitem__), N)


def test_a_kind_that_is_too_large_is_not_built_beside_another(source: VectorSource, monkeypatch: pytest.MonkeyPatch):
    large = estimate({"ivf-sq8": 1e-6}) + estimate({"hnsw-sq8": 1e-7}, n_bytes=1e12)
    monkeypatch.setattr(trials_module, "try_kinds", lambda *_: large)
    index, _ = build_quickest([trial.kind for trial in large], source, 0.9, 1e9)
    assert index is not None
    assert index.kind.name == "ivf-sq8"


def test_no_index_is_returned_where_no_kind_reaches_the_recall(source: VectorSource, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build_module, "_REFINE_FACTORS", (1,))  # too few candidates for half a byte a dimension
    index, trials = build_quickest([KINDS["ivf-pq"]], source, 0.9999, np.inf, (1_200, 3_000))
    assert index is None
    assert trials[0].n_timed == N


def test_the_table_is_kept_with_the_details_and_told():
    details = IndexDetails("ivf-sq8", 1_000_000, 1_000_000, recall_at_10=0.99, n_queries=300, trials=TABLE)
    assert IndexDetails.from_json(json.dumps(details.to_dict())) == details
    summary = FaissIndexInfo("ivf-sq8", details).summary
    assert "ms a query: hnsw-sq8 0.15 (estimated); ivf-sq8 0.25 (measured)" in summary


@pytest.mark.parametrize("trials", [3, [1], {"ivf": 3}, {"ivf": {"query_ms": "much"}}])
def test_a_damaged_table_is_no_description_of_an_index(trials: object):
    with pytest.raises(ValueError, match="does not describe"):
        IndexDetails.from_json(json.dumps({"kind": "ivf", "n_vectors": 3, "trials": trials}))
