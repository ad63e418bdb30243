"""Scores of whole tasks against definitions written out query by query."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simsearch.errors import UsageError
from simsearch.evaluation.embedding import TaskVectors
from simsearch.evaluation.labels import LabelGroups, ListedQuery, RelevanceLists
from simsearch.evaluation.protocol import (
    RetrievalTask,
    TaskImage,
    build_label_task,
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
    "p_at_1", "p_at_5", "p_at_10", "recall_at_1", "recall_at_10", "recall_at_100", "recall_at_1000",
    "hit_at_1", "hit_at_10", "hit_at_100", "hit_at_1000", "map", "map_at_10", "map_min_at_10", "map_min_at_100",
    "map_at_r", "mrr", "ndcg_at_10", "r_precision",
)  # fmt: skip


def labelled(vectors: np.ndarray, *, protocol: str = "self-excluded") -> RetrievalTask:
    """Rows as images of classes of every size, some of them alone or without a label."""
    sizes = np.random.default_rng(1).choice([1, 2, 3, 5, 30], 200)
    labels = np.repeat(np.arange(200), sizes)[: len(vectors)]
    labels = np.random.default_rng(2).permutation(labels)
    some = [TaskImage(str(at), (f"/{at}",)) for at in range(len(vectors))]
    return build_label_task(
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

    def add_precisions(k: int) -> float:
        return sum(precision[rank - 1] for rank in ranks if rank <= k)

    return {
        **{f"p_at_{k}": sum(answers[:k]) / k for k in (1, 5, 10)},
        **{f"recall_at_{k}": sum(answers[:k]) / n_right for k in (1, 10, 100, 1000)},
        **{f"hit_at_{k}": float(any(answers[:k])) for k in (1, 10, 100, 1000)},
        "map": add_precisions(len(answers)) / n_right,
        "map_at_10": add_precisions(10) / n_right,
        "map_min_at_10": add_precisions(10) / min(10, n_right),
        "map_min_at_100": add_precisions(100) / min(100, n_right),
        "map_at_r": add_precisions(n_right) / n_right,
        "mrr": 1 / ranks[0] if ranks else 0.0,
        "ndcg_at_10": gains / sum(1 / math.log2(rank + 1) for rank in range(1, min(n_right, 10) + 1)),
        "r_precision": sum(answers[:n_right]) / n_right,
        "ns": float(1 + sum(answers[:3])),
    }


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
    task = build_label_task(some, LabelGroups({f"/{at:02}": str(at // 5) for at in range(20)}, ""), "")
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
    task = build_label_task(some, LabelGroups({f"/{at:03}": str(at // 4) for at in range(N)}, ""), "ukbench")
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


def test_a_chosen_metric_is_computed_and_judges_classes_and_the_worst_queries(
    task: RetrievalTask, scored: RankingScores, vectors: np.ndarray
):
    found = score(task, Ranker(plain(vectors), RerankMethod()), queries_of(task, vectors), ("p_at_3", "map_min_at_7"))
    assert tuple(found.per_query) == list_metrics(task, ("p_at_3", "map_min_at_7"))
    for at, answers in enumerate(rankings(task, vectors, queries_of(task, vectors))):
        assert found.per_query["p_at_3"][at] == pytest.approx(sum(answers[:3]) / 3)
    labels = np.array([query.label for query in task.queries])
    for label, value in found.per_class.items():
        assert value == pytest.approx(found.per_query["p_at_3"][labels == label].mean())
    keys = sorted(zip(found.per_query["p_at_3"].tolist(), found.per_query["map"].tolist(), strict=True))
    assert [failure.average_precision for failure in found.worst] == [precision for _, precision in keys[:8]]
    with pytest.raises(UsageError, match="metric ns is not defined for this task; it needs --protocol ukbench"):
        list_metrics(task, ("ns",))


# Protocols of other benchmarks, written out from their published definitions


def order_of(vectors: np.ndarray, position: int) -> list[int]:
    return np.argsort(-np.rint(1e6 * (vectors @ vectors[position]).astype(np.float64)), kind="stable").tolist()


def test_counted_is_the_evaluation_of_gpr1200(vectors: np.ndarray):
    """Average precision over the whole ranking with the query itself in it, divided by the size of its class."""
    task = labelled(vectors, protocol="counted")
    found = score(task, Ranker(plain(vectors), RerankMethod()), queries_of(task, vectors))
    labels = np.array(task.labels)
    assert task.protocol == "counted"
    for at, query in enumerate(task.queries):
        relevant = labels[order_of(vectors, query.position)] == query.label
        precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
        assert found.per_query["map"][at] == pytest.approx(precision[relevant].sum() / relevant.sum(), abs=1e-9)
        expected = by_hand(relevant.tolist(), int(relevant.sum()))
        for metric in METRICS:
            assert found.per_query[metric][at] == pytest.approx(expected[metric], abs=1e-9), metric
    assert found.per_query["p_at_1"].mean() == 1  # why this protocol says nothing about the first answer


def test_skip_first_is_the_hit_rate_of_mieb(vectors: np.ndarray):
    """The best hit is dropped, whatever it is: the query itself, or an image that is as similar."""
    vectors = vectors.copy()
    vectors[2] = vectors[1]  # image 1 is the first hit of image 2
    task = labelled(vectors, protocol="skip-first")
    found = score(task, Ranker(plain(vectors), RerankMethod()), queries_of(task, vectors))
    labels = np.array(task.labels)
    for at, query in enumerate(task.queries):
        relevant_documents = set(np.flatnonzero(labels == query.label).tolist()) - {query.position}
        ranked = order_of(vectors, query.position)
        first = ranked.pop(0)
        assert first == (1 if query.position == 2 else query.position)
        expected = by_hand([position in relevant_documents for position in ranked], len(relevant_documents))
        for metric in METRICS:
            assert found.per_query[metric][at] == pytest.approx(expected[metric], abs=1e-9), metric
        shown = next((worst for worst in found.worst if worst.path == query.path), None)
        assert shown is None or shown.answers[0].path == f"/{ranked[0]}"


def test_map_at_r_and_r_precision_are_those_of_metric_learning(
    task: RetrievalTask, scored: RankingScores, vectors: np.ndarray
):
    """Musgrave et al. 2020: sum of P(i) over i <= R where the i-th is right, by R; and the share of the first R."""
    labels = np.array(task.labels)
    for at, query in enumerate(task.queries):
        ranked = np.array([position for position in order_of(vectors, query.position) if position != query.position])
        n_same = int((labels == query.label).sum()) - 1
        is_same = labels[ranked[:n_same]] == query.label
        precision_at_i = np.cumsum(is_same) / np.arange(1, n_same + 1)
        assert scored.per_query["map_at_r"][at] == pytest.approx((precision_at_i * is_same).sum() / n_same, abs=1e-9)
        assert scored.per_query["r_precision"][at] == pytest.approx(is_same.mean(), abs=1e-9)


@pytest.mark.parametrize("method", ["pca8", "pca8+dba3", "aqe3", "k-reciprocal5"])
def test_a_counted_query_is_an_image_like_any_other_to_re_ranking(vectors: np.ndarray, method: str):
    """The ranking is that of a search by the same picture in a collection that has it."""
    task = labelled(vectors, protocol="counted")
    ranker = Ranker(plain(vectors), RerankMethod.parse(method))
    orders = []
    score(task, ranker, queries_of(task, vectors), on_block=lambda block: orders.extend(block.order))
    for at in (0, 50, 120):
        searched = ranker.search(vectors[task.queries[at].position], 10)
        assert orders[at][:10].tolist() == searched.tolist()
