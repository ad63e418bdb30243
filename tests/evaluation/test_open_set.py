"""Open-set figures of a benchmark, against plain NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsearch.evaluation.open_set import MIN_PROBABILITIES, measure_open_set
from simsearch.evaluation.protocol import RetrievalTask, TaskImage
from simsearch.evaluation.spec import LabelSource
from tests.support.pages import Elements

pytestmark = pytest.mark.long


def build_task(labels: list[str]) -> RetrievalTask:
    images = [TaskImage(f"{number:032x}", (f"/p/{label}/{number}.jpg",)) for number, label in enumerate(labels)]
    return LabelSource().build_task(images, "/p")


def draw_classes(n_classes: int, n_each: int, spread: float) -> tuple[list[str], np.ndarray]:
    random = np.random.default_rng(0)
    centers = random.standard_normal((n_classes, 24))
    labels = [f"class {number % n_classes:02}" for number in range(n_classes * n_each)]
    rows = centers[np.arange(len(labels)) % n_classes] + spread * random.standard_normal((len(labels), 24))
    return labels, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_answers_are_counted_as_by_plain_numpy():
    labels, rows = draw_classes(20, 12, 0.9)
    found = measure_open_set(build_task(labels), rows, "model", 0)
    assert [result.min_probability for result in found] == list(MIN_PROBABILITIES)
    names = np.array(labels)
    held_out = np.random.default_rng(0).permutation(20)[:10]
    queries = np.flatnonzero(np.isin(np.arange(len(labels)) % 20, held_out))
    for result in found:
        n_false, n_right, n_kept, n_good = [], 0, 0, 0
        for query in queries.tolist():
            similarities = rows @ rows[query]
            strangers = np.sort(similarities[names != names[query]])[::-1][:10]
            n_false.append(int((strangers >= result.min_similarity).sum()))
            order = [other for other in np.argsort(-similarities) if other != query][:10]
            right = names[order] == names[query]
            kept = similarities[order] >= result.min_similarity
            n_right, n_kept, n_good = n_right + right.sum(), n_kept + kept.sum(), n_good + (right & kept).sum()
        assert (result.n_queries, result.n_classes, result.model) == (len(queries), 10, "model")
        assert result.false_per_query == pytest.approx(np.mean(n_false))
        assert result.share_with_false == pytest.approx(np.mean(np.array(n_false) > 0))
        assert result.right_kept == pytest.approx(n_good / n_right)
        assert result.precision == pytest.approx(n_good / n_kept)
        assert result.brier < result.brier_constant
        assert result.calibration_error < 0.15
    assert found[0].false_per_query >= found[1].false_per_query


def test_a_few_classes_or_single_images_have_no_open_set_figures():
    labels, rows = draw_classes(3, 10, 0.5)
    assert measure_open_set(build_task(labels), rows, "model", 0) == []


def test_a_benchmark_reports_them(tmp_path: Path):
    from tests.conftest import ROOT
    from tests.support.command_line import read_document

    read = read_document(
        "benchmark", ROOT / "data" / "objects", "--backbone", "histogram", "--out", "report", "--robustness", 0,
        cwd=tmp_path,
    )  # fmt: skip
    assert [result["min_probability"] for result in read["open_set"]] == list(MIN_PROBABILITIES)
    page = Elements((tmp_path / "report" / "report.html").read_text("utf-8"))
    assert "Nothing similar" in page.text
    assert "false answers per query" in (tmp_path / "report" / "report.md").read_text("utf-8")
