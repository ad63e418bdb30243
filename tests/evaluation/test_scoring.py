"""Scores of whole tasks against definitions written out query by query."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simsearch.evaluation.embedding import TaskVectors
from simsearch.evaluation.labels import LabelGroups, ListedQuery, RelevanceLists
from simsearch.evaluation.protocol import (
    RetrievalTask,
    TaskImage,
    build_leave_one_out_task,
    build_list_task,
    build_query_folder_task,
    sample_queries,
)
from simsearch.evaluation.ranking import Ranker
from simsearch.evaluation.scoring import RankingScores, list_metrics, score
from simsearch.rerank.method import RerankMethod
from tests.rerank.conftest import clustered

N = 300
METRICS = (
    "p_at_1", "p_at_5", "p_at_10", "recall_at_10", "hit_at_10", "map", "map_at_10", "mrr", "ndcg_at_10", "r_precision",
)  # fmt: skip


def labelled(vectors: np.ndarray, *, protocol: str = "leave-one-out") -> RetrievalTask:
    """Rows as images of classes of every size, some of them alone or without a label."""
    sizes = np.random.default_rng(1).choice([1, 2, 3, 5, 30], 200)
    labels = np.repeat(np.arange(200), sizes)[: len(vectors)]
    labels = np.random.default_rng(2).permutation(labels)
    some = [TaskImage(str(at), (f"/{at}",)) for at in range(len(vectors))]
    return build_leave_one_out_task(
        some, LabelGroups({f"/{at}": f"c{label}" for at, label in enumerate(labels) if label % 9}, ""), protocol
    )


def plain(vectors: np.ndarray) -> TaskVectors:
    return TaskVectors(vectors, np.empty((len(vectors), 0, vectors.shape[1]), np.float32))


def rankings(task: RetrievalTask, vectors: np.ndarray, queries: np.ndarray) -> list[list[bool]]:
    """Whether each answer to each query is right, in order, without the query itself and junk."""
    found = []
    for at, query in enumerate(queries):
        similarities = np.rint(1e6 * (vectors @ query).astype(np.float64))
        ignored, right = set(task.main_truth.ignored[at].tolist()), set(task.main_truth.relevant[at].tolist())
        order = np.argsort(-similarities, kind="stable").tolist()
        found.append([position in right for position in order if position not in ignored])
    return found


def by_hand(answers: list[bool], n_right: int) -> dict[str, float]:
    """Every metric of one query, from its definition."""
    precision = [sum(answers[:rank]) / rank for rank in range(1, len(answers) + 1)]
    ranks = [rank for rank, is_right in enumerate(answers, 1) if is_right]
    gains = sum(1 / math.log2(rank + 1) for rank in ranks if rank <= 10)
    return {
        "p_at_1": precision[0], "p_at_5": precision[4], "p_at_10": precision[9],
        "recall_at_10": sum(answers[:10]) / n_right, "hit_at_10": float(any(answers[:10])),
        "map": sum(precision[rank - 1] for rank in ranks) / n_right,
        "map_at_10": sum(precision[rank - 1] for rank in ranks if rank <= 10) / n_right,
        "mrr": 1 / ranks[0],
        "ndcg_at_10": gains / sum(1 / math.log2(rank + 1) for rank in range(1, min(n_right, 10) + 1)),
        "r_precision": sum(answers[:n_right]) / n_right,
        "ns": float(1 + sum(answers[:3])),
    }  # fmt: skip


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(N, n_clusters=20)


@pytest.fixture(scope="module")
def task(vectors: np.ndarray) -> RetrievalTask:
    return labelled(vectors)


@pytest.fixture(scope="module")
def scored(task: RetrievalTask, vectors: np.ndarray) -> RankingScores:
    return score(task, Ranker(plain(vectors), RerankMethod()), queries_of(task, vectors))


def queries_of(task: RetrievalTask, vectors: np.ndarray) -> np.ndarray:
    return vectors[[query.position for query in task.queries]]


def test_every_metric_of_every_query_is_that_of_its_definition(
    task: RetrievalTask, scored: RankingScores, vectors: np.ndarray
):
    assert len(task.queries) > 200
    assert len(task.images) == N
    assert tuple(scored.per_query) == list_metrics(task) == METRICS
    for at, answers in enumerate(rankings(task, vectors, queries_of(task, vectors))):
        expected = by_hand(answers, len(task.main_truth.relevant[at]))
        for metric in METRICS:
            assert scored.per_query[metric][at] == pytest.approx(expected[metric], abs=1e-9), (metric, at)


def test_the_curves_are_means_over_the_queries(task: RetrievalTask, scored: RankingScores, vectors: np.ndarray):
    found = rankings(task, vectors, queries_of(task, vectors))
    precision = np.array([np.cumsum(answers) / np.arange(1, N) for answers in found])
    np.testing.assert_allclose(scored.precision_at, precision[:, :50].mean(axis=0), atol=1e-9)
    recall = np.array([np.cumsum(answers) / sum(answers) for answers in found])
    for percent in (0, 1, 33, 50, 67, 99, 100):
        highest = [p[100 * r >= percent - 1e-9].max() for p, r in zip(precision, recall, strict=True)]
        assert scored.precision_recall[percent] == pytest.approx(np.mean(highest), abs=1e-9)
    assert scored.precision_recall.shape == (101,)


def test_classes_are_means_over_their_queries_and_only_those_that_were_asked(
    task: RetrievalTask, scored: RankingScores
):
    of_class: dict[str, list[float]] = {}
    for query, value in zip(task.queries, scored.per_query["map"].tolist(), strict=True):
        of_class.setdefault(query.label, []).append(value)
    assert scored.per_class == pytest.approx({label: np.mean(values) for label, values in of_class.items()})
    assert "" not in scored.per_class
    assert len(scored.per_class) < len(set(task.labels))


def test_the_worst_queries_come_with_what_they_got(task: RetrievalTask, scored: RankingScores, vectors: np.ndarray):
    values = scored.per_query["map"]
    assert [failure.average_precision for failure in scored.worst] == sorted(values.tolist())[:8]
    assert len({failure.path for failure in scored.worst}) == 8
    for failure in scored.worst:
        at = next(at for at, query in enumerate(task.queries) if query.path == failure.path)
        own = task.queries[at].position
        similarities = vectors @ vectors[own]
        nearest = [position for position in np.argsort(-similarities).tolist() if position != own][:6]
        assert [answer.path for answer in failure.answers] == [f"/{position}" for position in nearest]
        assert [answer.label for answer in failure.answers] == [task.labels[position] for position in nearest]
        np.testing.assert_allclose([a.similarity for a in failure.answers], similarities[nearest], atol=1e-6)
        right = set(task.main_truth.relevant[at].tolist())
        assert [answer.is_relevant for answer in failure.answers] == [position in right for position in nearest]


def test_of_equally_bad_queries_the_earlier_ones_are_shown():
    """All images of a class are the same: every query scores the same."""
    vectors = np.eye(4, dtype=np.float32)[np.repeat(np.arange(4), 5)]
    some = [TaskImage(str(at), (f"/{at:02}",)) for at in range(20)]
    task = build_leave_one_out_task(some, LabelGroups({f"/{at:02}": str(at // 5) for at in range(20)}, ""), "")
    worst = score(task, Ranker(plain(vectors), RerankMethod()), vectors).worst
    assert [failure.path for failure in worst] == [f"/{at:02}" for at in range(8)]
    assert [failure.average_precision for failure in worst] == [1] * 8


def test_worst_queries_never_show_themselves_nor_junk():
    vectors = clustered(5)
    some = [TaskImage(str(at), (f"/{at}",)) for at in range(5)]
    query = ListedQuery("/0", frozenset({"/1"}), frozenset(), frozenset({"/2"}))
    task = build_list_task(some, RelevanceLists((query,), None, False, ""))
    (failure,) = score(task, Ranker(plain(vectors), RerankMethod()), vectors[:1]).worst
    assert sorted(answer.path for answer in failure.answers) == ["/1", "/3", "/4"]
    assert (failure.label, score(task, Ranker(plain(vectors), RerankMethod()), vectors[:1]).per_class) == ("", {})


def test_the_n_s_score_counts_the_query_among_its_first_four(vectors: np.ndarray):
    some = [TaskImage(str(at), (f"/{at:03}",)) for at in range(N)]
    task = build_leave_one_out_task(some, LabelGroups({f"/{at:03}": str(at // 4) for at in range(N)}, ""), "ukbench")
    assert list_metrics(task) == (*METRICS, "ns")
    own_and_near = clustered(N // 4).repeat(4, axis=0) + 0.1 * vectors
    near = (own_and_near / np.linalg.norm(own_and_near, axis=1, keepdims=True)).astype(np.float32)
    found = score(task, Ranker(plain(near), RerankMethod()), near).per_query["ns"]
    expected = [by_hand(answers, 3)["ns"] for answers in rankings(task, near, near)]
    assert found.tolist() == expected
    assert 1 < found.mean() <= 4


def test_queries_from_a_folder_ignore_their_own_content_only(vectors: np.ndarray):
    some = [TaskImage(str(at), (f"/{at}",)) for at in range(100)]
    asked = [TaskImage(str(at), (f"/q{at}",)) for at in range(80, 120)]  # twenty of them are in the database
    labels = LabelGroups({item.paths[0]: f"c{int(item.digest) % 7}" for item in [*some, *asked]}, "")
    task = build_query_folder_task(asked, labels, some, labels)
    queries = vectors[80:120]
    found = score(task, Ranker(plain(vectors[:100]), RerankMethod()), queries)
    for at, answers in enumerate(rankings(task, vectors[:100], queries)):
        assert len(answers) == (99 if at < 20 else 100)
        expected = by_hand(answers, len(task.main_truth.relevant[at]))
        assert found.per_query["map"][at] == pytest.approx(expected["map"], abs=1e-9)


def test_a_sample_scores_as_its_queries_do_among_all(task: RetrievalTask, scored: RankingScores, vectors: np.ndarray):
    some = sample_queries(task, 40, seed=5)
    found = score(some, Ranker(plain(vectors), RerankMethod()), queries_of(some, vectors))
    all_paths = [query.path for query in task.queries]
    rows = [all_paths.index(query.path) for query in some.queries]
    for metric in METRICS:
        np.testing.assert_allclose(found.per_query[metric], scored.per_query[metric][rows], atol=1e-9)
