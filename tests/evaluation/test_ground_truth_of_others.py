"""Ground truth in the forms of OpenMetricLearning and of MTEB."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from simsearch.errors import SourceError, UsageError
from simsearch.evaluation.benchmark import run_benchmark
from simsearch.evaluation.protocol import RetrievalTask, TaskImage
from simsearch.evaluation.results import BenchmarkResult
from simsearch.evaluation.spec import BenchmarkSpec, LabelSource
from tests.conftest import HISTOGRAM, draw_picture


def told(task: RetrievalTask) -> dict[str, int]:
    return {exclusion.rule: exclusion.count for exclusion in task.exclusions}


def answers_of(task: RetrievalTask) -> dict[str, set[str]]:
    """The names of the relevant images of each query."""
    return {
        Path(query.path).name: {Path(task.images[at].paths[0]).name for at in task.main_truth.relevant[number].tolist()}
        for number, query in enumerate(task.queries)
    }


# OpenMetricLearning

OML = [
    # label, path, split, is_query, is_gallery
    (3, "img/t1.jpg", "train", "", ""), (3, "img/t2.jpg", "train", "", ""),
    (7, "img/a1.jpg", "validation", "True", "False"), (7, "img/a2.jpg", "validation", "False", "True"),
    (7, "img/a3.jpg", "validation", "True", "True"), (8, "img/b1.jpg", "validation", "False", "True"),
]  # fmt: skip


def write_oml(file: Path, rows: Sequence[tuple], extra: Sequence[str] = ()) -> Path:
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["label", "path", "split", "is_query", "is_gallery", *extra])
        writer.writerows(rows)
    return file


def oml_task(folder: Path, rows: Sequence[tuple], extra: Sequence[str] = (), protocol: str = "self-excluded"):
    table = write_oml(folder / "df.csv", rows, extra)
    images = [TaskImage(name, (str(folder / "img" / f"{name}.jpg"),)) for name in ("t1", "t2", "a1", "a2", "a3", "b1")]
    return LabelSource(file=str(table), protocol=protocol).build_task(images, str(folder))


def test_queries_and_gallery_of_an_oml_table_are_those_of_the_validation_split(tmp_path: Path):
    task = oml_task(tmp_path, OML)
    assert answers_of(task) == {"a1.jpg": {"a2.jpg", "a3.jpg"}, "a3.jpg": {"a2.jpg"}}
    assert [image.digest for image in task.images] == ["a2", "a3", "b1"]
    assert [query.position for query in task.queries] == [-1, 1]
    assert (task.origin, task.kind) == ("OML table", "a table names the queries")
    assert told(task) == {
        "rows of the split train are left out": 2,
        "images that the table names neither as query nor as gallery are ignored": 2,
    }


def test_where_all_are_queries_and_gallery_each_is_compared_with_the_rest(tmp_path: Path):
    rows = [(label, path, split, "1", "1") for label, path, split, *_ in OML]
    task = oml_task(tmp_path, rows)
    assert answers_of(task) == {
        "a1.jpg": {"a2.jpg", "a3.jpg"}, "a2.jpg": {"a1.jpg", "a3.jpg"}, "a3.jpg": {"a1.jpg", "a2.jpg"},
    }  # fmt: skip
    assert task.kind == "every image is a query"
    assert len(oml_task(tmp_path, rows, protocol="counted").main_truth.relevant[0]) == 3


def test_boxes_of_an_oml_table_are_reported_as_not_used(tmp_path: Path):
    task = oml_task(tmp_path, [(*row, 0, 5, 0, 5) for row in OML], ("x_1", "x_2", "y_1", "y_2"))
    assert told(task)["boxes are not used: whole images are compared"] == 4


def test_an_oml_table_without_queries_is_refused(tmp_path: Path):
    rows = [(*row[:3], "False", "True") for row in OML]
    with pytest.raises(UsageError, match="has no row with is_query outside the split train"):
        oml_task(tmp_path, rows)


# MTEB

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encode(picture: Path, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    with Image.open(picture) as image:
        image.save(content, kind)
    return content.getvalue()


def write_images(file: Path, images: dict[str, bytes]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "id": pa.array(list(images)), "modality": pa.array(["image"] * len(images)),
        "image": pa.array([{"bytes": content, "path": None} for content in images.values()], IMAGE),
        "text": pa.array([None] * len(images), pa.string()),
    }  # fmt: skip
    parquet.write_table(pa.table(columns), file)


def write_qrels(file: Path, rows: Sequence[tuple[str, str, int]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    query, corpus, score = zip(*rows, strict=True)
    parquet.write_table(pa.table({"query-id": query, "corpus-id": corpus, "score": score}), file)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("drawn")
    kinds = ["PNG", "JPEG", "WEBP"]
    return {f"test/{seed}": encode(draw_picture(folder / f"{seed}.png", seed), kinds[seed % 3]) for seed in range(12)}


def write_dataset(folder: Path, pictures: dict[str, bytes], *, is_flat: bool) -> Path:
    """Every picture is a query and in the corpus, as in MTEB's CUB-200; the even and the odd are two classes."""
    names = list(pictures)
    rows = [(a, b, int(i % 2 == j % 2)) for i, a in enumerate(names) for j, b in enumerate(names) if i != j]
    if is_flat:
        write_images(folder / "corpus-00000-of-00002.parquet", dict(list(pictures.items())[:7]))
        write_images(folder / "corpus-00001-of-00002.parquet", dict(list(pictures.items())[7:]))
        write_images(folder / "query-00000-of-00001.parquet", pictures)
        write_qrels(folder / "qrels-00000-of-00001.parquet", rows)
    else:
        write_images(folder / "corpus" / "test-00000-of-00001.parquet", pictures)
        write_images(folder / "queries" / "test-00000-of-00001.parquet", pictures)
        write_qrels(folder / "qrels" / "test-00000-of-00001.parquet", rows)
        write_qrels(folder / "qrels" / "train-00000-of-00001.parquet", [("x", "y", 1)])
    return folder


def measure(dataset: Path, home: Path, protocol: str = "self-excluded") -> BenchmarkResult:
    return run_benchmark(
        BenchmarkSpec(
            source=str(dataset), collection_folder=str(home / "ix"), choices=(HISTOGRAM,), n_robustness=0, probe_s=0.05,
            label_source=LabelSource(protocol=protocol),
        )
    )  # fmt: skip


@pytest.mark.parametrize("is_flat", [True, False])
def test_the_tables_of_an_mteb_data_set_are_measured_as_they_come(
    pictures: dict[str, bytes], tmp_path: Path, is_flat: bool
):
    dataset = write_dataset(tmp_path / "set", pictures, is_flat=is_flat)
    found = measure(dataset, tmp_path, "skip-first")
    assert (found.dataset.n_images, found.dataset.n_queries, found.dataset.labels) == (12, 12, "qrels")
    assert any("are unpacked in" in note for note in found.notes)
    folder = tmp_path / "ix-images"
    for part in ("corpus", "query"):
        written = {path.name: path.read_bytes() for path in (folder / part).iterdir()}
        assert len(written) == 12
        assert written["test%2F0.png"] == pictures["test/0"]
        assert {Path(name).suffix for name in written} == {".png", ".jpg", ".webp"}
    # hit@1 as MIEB computes it: rank everything, drop the first, look at the next
    by_name = {path.stem: path for path in (folder / "corpus").iterdir()}
    from simsearch.images.decode import decode_square, read_raw_file
    from simsearch.images.resize import ResizeRule
    from simsearch.models.histogram import compute_histograms

    names = [f"test%2F{seed}" for seed in range(12)]
    raws = [read_raw_file(str(by_name[name]), has_picture_extension=True, max_pixels=10**8) for name in names]
    vectors = compute_histograms(
        np.array([decode_square(raw, ResizeRule(128, "squash"), max_pixels=10**8)[1] for raw in raws])
    )
    order = np.argsort(-(vectors @ vectors.T), axis=1, kind="stable")[:, 1:]
    expected = {name: float(order[at, 0] % 2 == at % 2) for at, name in enumerate(names)}
    values = found.rows[0].per_query["hit_at_1"]
    assert {Path(query.path).stem: value for query, value in zip(found.queries, values, strict=True)} == expected


def test_images_are_unpacked_once_and_anew_for_other_tables(pictures: dict[str, bytes], tmp_path: Path):
    dataset = write_dataset(tmp_path / "set", pictures, is_flat=True)
    measure(dataset, tmp_path)
    kept = tmp_path / "ix-images" / "corpus" / "test%2F0.png"
    before = kept.stat().st_mtime_ns
    measure(dataset, tmp_path)
    assert kept.stat().st_mtime_ns == before
    some = dict(list(pictures.items())[:8])
    write_images(dataset / "corpus-00000-of-00002.parquet", some)
    (dataset / "corpus-00001-of-00002.parquet").unlink()
    assert measure(dataset, tmp_path).dataset.n_images == 8
    assert len(list((tmp_path / "ix-images" / "corpus").iterdir())) == 8


def test_tables_of_texts_are_refused_before_anything_is_embedded(pictures: dict[str, bytes], tmp_path: Path):
    dataset = write_dataset(tmp_path / "set", pictures, is_flat=True)
    texts = pa.table({"id": ["q"], "text": ["a vase"], "image": pa.array([None], IMAGE)})
    parquet.write_table(texts, dataset / "query-00000-of-00001.parquet")
    with pytest.raises(SourceError, match=r"the table query of .* has no images"):
        measure(dataset, tmp_path)
    assert not (tmp_path / "ix-images").exists()


@pytest.mark.parametrize("ending", ["parquet", "tsv", "csv", "qrels"])
def test_qrels_name_files_of_a_folder(tmp_path: Path, ending: str):
    files = [f"{label}{number}" for label in "ab" for number in range(3)]
    rows = [(one, other, int(one[0] == other[0])) for one in files for other in files if one != other]
    file = tmp_path / f"judged.{ending}"
    if ending == "parquet":
        write_qrels(file, rows)
    elif ending == "qrels":
        file.write_text("".join(f"{query} 0 {document} {score}\n" for query, document, score in rows))
    else:
        separator = "\t" if ending == "tsv" else ","
        lines = [("query-id", "corpus-id", "score"), *rows]
        file.write_text("".join(separator.join(map(str, line)) + "\n" for line in lines))
    images = [TaskImage(name, (str(tmp_path / f"{name}.jpg"),)) for name in files]
    task = LabelSource(file=str(file)).build_task(images, str(tmp_path))
    assert answers_of(task)["a0.jpg"] == {"a1.jpg", "a2.jpg"}
    assert len(task.queries) == 6


def test_qrels_that_cannot_be_read_or_match_nothing_are_told(tmp_path: Path):
    images = [TaskImage(name, (str(tmp_path / f"{name}.jpg"),)) for name in "ab"]
    for name, content, message in (
        ("x.qrels", "a 0 b\n", r"TREC qrels has 4 values, not 3: a 0 b"),
        ("y.csv", "query-id,corpus-id,score\na,b,much\n", r"has the relevance 'much'"),
        ("z.csv", "query-id,corpus-id,score\nq,r,1\n", r"z\.csv names no image in .*; it names, for example, q"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(UsageError, match=message):
            LabelSource(file=str(tmp_path / name)).build_task(images, str(tmp_path))
    (tmp_path / "w.parquet").write_text(json.dumps({}))
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        LabelSource(file=str(tmp_path / "w.parquet")).build_task(images, str(tmp_path))
