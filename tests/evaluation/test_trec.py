"""Export of qrels and runs, checked with trec_eval itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pytrec_eval

from simsearch.errors import UsageError
from simsearch.evaluation.benchmark import run_benchmark
from simsearch.evaluation.results import BenchmarkResult
from simsearch.evaluation.spec import BenchmarkSpec, LabelSource
from simsearch.rerank.method import RerankMethod
from tests.conftest import HISTOGRAM, draw_picture

METHODS = tuple(RerankMethod.parse(text) for text in ("none", "pca4+dba2+k-reciprocal3"))
MEASURES = {
    "map": "map", "recip_rank": "mrr", "Rprec": "r_precision", "P_1": "p_at_1", "P_10": "p_at_10",
    "recall_10": "recall_at_10", "recall_100": "recall_at_100", "success_1": "hit_at_1", "success_10": "hit_at_10",
    "map_cut_10": "map_at_10", "ndcg_cut_10": "ndcg_at_10",
}  # fmt: skip


def draw(folder: Path) -> Path:
    for seed in range(18):
        draw_picture(
            folder / ("a b" if seed % 2 else "caf\N{LATIN SMALL LETTER E WITH ACUTE}%41") / f"n {seed:02}.png", seed
        )
    return folder


def measure(photos: Path, out: Path, protocol: str = "self-excluded", **changes: object) -> BenchmarkResult:
    spec = BenchmarkSpec(
        source=str(photos), collection_folder=str(photos.parent / "ix"), choices=(HISTOGRAM,), n_robustness=0,
        probe_s=0.05, methods=METHODS, label_source=LabelSource(protocol=protocol), trec_folder=str(out), **changes,
    )  # fmt: skip
    return run_benchmark(spec)


def read_qrels(file: Path) -> dict[str, dict[str, int]]:
    with file.open() as lines:
        return pytrec_eval.parse_qrel(lines)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("trec") / "photos")


@pytest.mark.parametrize("protocol", ["self-excluded", "counted", "skip-first"])
def test_trec_eval_computes_the_same_scores_from_the_export(photos: Path, tmp_path: Path, protocol: str):
    found = measure(photos, tmp_path / "trec", protocol)
    qrels = read_qrels(tmp_path / "trec" / "qrels.txt")
    runs = sorted((tmp_path / "trec").glob("*.run"))
    assert sorted(path.name for path in (tmp_path / "trec").iterdir()) == [*(run.name for run in runs), "qrels.txt"]
    by_method = {run.name.removesuffix(".run").rpartition(".")[2]: run for run in runs}
    assert set(by_method) == {str(method) for method in METHODS}
    evaluator = pytrec_eval.RelevanceEvaluator(
        qrels,
        {"map", "recip_rank", "Rprec", "P.1,10", "recall.10,100", "success.1,10", "map_cut.10", "ndcg_cut.10"},
    )
    for row in found.rows:
        with by_method[row.rerank].open() as lines:
            run = pytrec_eval.parse_run(lines)
        answers = evaluator.evaluate(run)
        assert len(answers) == len(found.queries) == 18
        ids = {id_of(query.path, photos): at for at, query in enumerate(found.queries)}
        for query, scores in answers.items():
            for theirs, ours in MEASURES.items():
                assert scores[theirs] == pytest.approx(row.per_query[ours][ids[query]], abs=1e-6), (theirs, query)


def id_of(path: str, photos: Path) -> str:
    name = Path(path).relative_to(photos.resolve()).as_posix()
    return name.replace("%", "%25").replace(" ", "%20").replace("\N{LATIN SMALL LETTER E WITH ACUTE}", "%C3%A9")


def test_a_run_is_as_deep_as_asked_for_and_never_has_the_query(photos: Path, tmp_path: Path):
    measure(photos, tmp_path / "some", trec_depth=5)
    measure(photos, tmp_path / "all", trec_depth=0)
    for folder, depth in (("some", 5), ("all", 17)):
        for file in (tmp_path / folder).glob("*.run"):
            lines = [line.split() for line in file.read_text("ascii").splitlines()]
            assert len(lines) == 18 * depth
            assert all(query != document and zero == "Q0" for query, zero, document, *_ in lines)
            assert [int(line[3]) for line in lines] == list(range(1, depth + 1)) * 18
            assert [int(line[4]) for line in lines] == list(range(depth, 0, -1)) * 18
            assert {line[5] for line in lines} == {file.name.removesuffix(".run")}
    with pytest.raises(UsageError, match="--trec-depth is -1; give 0 or more"):
        measure(photos, tmp_path, trec_depth=-1)


def test_exported_qrels_are_labels(photos: Path, tmp_path: Path):
    exported = measure(photos, tmp_path / "trec")
    spec = BenchmarkSpec(
        source=str(photos), collection_folder=str(photos.parent / "ix"), choices=(HISTOGRAM,), n_robustness=0,
        probe_s=0.05, methods=METHODS, label_source=LabelSource(file=str(tmp_path / "trec" / "qrels.txt")),
    )  # fmt: skip
    read = run_benchmark(spec)
    assert (read.dataset.labels, read.dataset.task) == ("qrels", "lists name the queries")
    order = [[query.path for query in found.queries] for found in (exported, read)]
    for before, after in zip(exported.rows, read.rows, strict=True):
        at = [order[1].index(path) for path in order[0]]
        np.testing.assert_allclose(after.per_query["map"][at], before.per_query["map"], atol=1e-12)
