"""Text-to-image retrieval: the metrics of texts equal those computed by hand, and a report has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from simsearch.errors import SourceError, UsageError
from simsearch.evaluation.protocol import TaskImage
from simsearch.evaluation.spec import LabelSource
from simsearch.evaluation.text_queries import TextQuery, build_text_queries, score_texts
from simsearch.models.text.encoder import TextDirections
from tests.conftest import draw_picture
from tests.support import command_line
from tests.support.onnx_models import make_two_towers, write_json
from tests.support.tokenizer_files import write_siglip_tokenizer

N, WIDTH = 30, 8


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


class SeededEncoder:
    """Directions from a seed per text; it does not know `unknown`, and only a part of `half`."""

    def encode(self, texts: Sequence[str]) -> list[TextDirections]:
        if texts == ["unknown"]:
            raise UsageError("unknown text")
        return [TextDirections(self.draw(text), ("a note",) if text == "half" else ()) for text in texts]

    def draw(self, text: str) -> np.ndarray:
        random = np.random.default_rng(sum(text.encode()))
        return unit(random.standard_normal((3 if text == "many" else 1, WIDTH)))


def test_the_metrics_of_texts_are_those_of_their_rankings():
    random = np.random.default_rng(3)
    vectors = unit(random.standard_normal((N, WIDTH)))
    relevant = {text: np.sort(random.choice(N, 4, replace=False)) for text in ("one", "many", "unknown", "half")}
    found = score_texts("m", [TextQuery(*one) for one in relevant.items()], SeededEncoder(), vectors, ())
    assert (found.n_texts, found.unknown) == (2, ("unknown", "half"))
    precisions, hits, at_r = [], [], []
    for text in ("one", "many"):
        scores = (vectors @ SeededEncoder().draw(text).T).max(axis=1)
        ranks = np.array([1 + int((scores > scores[at]).sum()) for at in relevant[text]])
        precisions.append(np.mean(np.arange(1, 5) / np.sort(ranks)))
        hits.append(ranks.min() <= 5)
        at_r.append(np.mean(ranks <= 4))
    assert found.scores["map"] == pytest.approx(np.mean(precisions))
    assert found.scores["hit_at_5"] == pytest.approx(np.mean(hits))
    assert found.scores["r_precision"] == pytest.approx(np.mean(at_r))
    queries = [TextQuery(text, relevant[text]) for text in ("one", "many")]
    chosen = score_texts("m", queries, SeededEncoder(), vectors, chosen=("p_at_3", "map_hard")).scores
    nearest = [set(np.argsort(-(vectors @ SeededEncoder().draw(one.text).T).max(axis=1))[:3]) for one in queries]
    shares = [len(found & set(query.relevant)) / 3 for found, query in zip(nearest, queries, strict=True)]
    assert chosen["p_at_3"] == pytest.approx(np.mean(shares))
    assert next(iter(chosen)) == "p_at_3"
    assert "map_hard" not in chosen
    with pytest.raises(UsageError, match="m knows none of the 1 texts"):
        score_texts("m", [TextQuery("unknown", relevant["one"])], SeededEncoder(), vectors, ())


def test_texts_are_the_labels_or_those_of_a_table(tmp_path: Path):
    files = [str(draw_picture(tmp_path / "pictures" / f"{name}.png", seed)) for seed, name in enumerate(
        ["red_vase/1", "red_vase/2", "lamp/3", "lamp/4"]
    )]  # fmt: skip
    source = str(tmp_path / "pictures")
    images = [TaskImage(file, (file,)) for file in files]
    task = LabelSource().build_task(images, source)
    by_label = {query.text: query.relevant.tolist() for query in build_text_queries("labels", task, source)}
    assert by_label == {"red vase": [0, 1], "lamp": [2, 3]}
    table = tmp_path / "texts.csv"
    table.write_text("text,path\na vase,red_vase/1.png\nany,lamp/4.png\nany,red_vase/1.png\nlost,gone.png\n")
    listed = {query.text: query.relevant.tolist() for query in build_text_queries(str(table), task, source)}
    assert listed == {"a vase": [0], "any": [0, 3]}
    table.write_text("caption,file\na,b\n")
    with pytest.raises(SourceError, match="no columns text and path"):
        build_text_queries(str(table), task, source)
    with pytest.raises(SourceError, match="cannot read the texts"):
        build_text_queries(str(tmp_path / "none.csv"), task, source)


@pytest.mark.long
def test_a_benchmark_measures_the_labels_as_texts(tmp_path: Path):
    for seed in range(8):
        draw_picture(tmp_path / "pictures" / ("red" if seed % 2 else "vase") / f"{seed}.png", seed)
    towers = make_two_towers(tmp_path / "clip")
    write_siglip_tokenizer(towers / "tokenizer.json")
    write_json(towers / "tokenizer_config.json", pad_token="<pad>")
    done = command_line.run(
        *("benchmark", tmp_path / "pictures", "--backbone", "histogram", "--backbone", towers, "--precision", "f32"),
        *("--text", "labels", "--prompt", "a {}", "--robustness", "0", "--rerank", "none"),
        *("--out", tmp_path / "report", "--json"),
        cwd=tmp_path,
        env={"SIMSEARCH_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    (texts,) = json.loads(done.stdout)["texts"]
    assert (texts["model"], texts["n_texts"], texts["unknown"]) == ("clip", 2, [])
    assert set(texts["scores"]) == {
        "hit_at_1", "hit_at_5", "hit_at_10", "recall_at_10", "p_at_10", "map", "map_at_r", "r_precision",
        "mrr", "ndcg_at_10",
    }  # fmt: skip
    assert "no text queries with histogram" in done.stderr
    for name in ("report.md", "report.html"):
        assert "Text queries" in (tmp_path / "report" / name).read_text()
