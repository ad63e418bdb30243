"""Whole benchmarks of drawn pictures, with the backbone that needs no network."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simsearch import Collection, ModelChoice
from simsearch.errors import ImageError, NoImages, SimsearchError, SourceError, UsageError
from simsearch.evaluation.benchmark import run_benchmark
from simsearch.evaluation.comparison import compare_rows, name_rows
from simsearch.evaluation.results import BenchmarkResult, BenchmarkRow
from simsearch.evaluation.spec import BenchmarkCallbacks, BenchmarkSpec, LabelSource, combine_choices
from simsearch.images.decode import decode_square, read_raw_file
from simsearch.images.resize import ResizeRule
from simsearch.images.views import ViewChoice
from simsearch.ingest.pipeline import Progress
from simsearch.models.histogram import compute_histograms
from simsearch.rerank.method import RerankMethod
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.benchmarks import row as made_row
from tests.support.onnx_models import TinyEncoder

pytestmark = pytest.mark.long

PLAIN, PCA, DBA = (RerankMethod.parse(text) for text in ("none", "pca5", "pca5+dba2"))


def draw_classes(folder: Path, **counts: int) -> Path:
    """So many pictures of each class; classes differ by their colour, so that something can be found."""
    for number, (label, count) in enumerate(sorted(counts.items())):
        for at in range(count):
            path = draw_picture(folder / label / f"{at}.png", 100 * number + at)
            _tint(path, number)
    return folder


def _tint(path: Path, number: int) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        pixels = np.asarray(picture).copy()
    pixels[..., number % 3] = pixels[..., number % 3] // 8 * 7
    Image.fromarray(pixels).save(path)


def question(photos: Path, **changes: object) -> BenchmarkSpec:
    plain = BenchmarkSpec(
        source=str(photos),
        collection_folder=str(photos.parent / "ix"),
        choices=(HISTOGRAM,),
        n_robustness=0,
        probe_s=0.05,
    )
    return replace(plain, **changes)


def measured(asked: BenchmarkSpec) -> tuple[BenchmarkResult, list[Progress]]:
    """What it found, and the progress of all that was embedded for it."""
    told: list[Progress] = []
    return run_benchmark(asked, BenchmarkCallbacks(on_ingest=told.append)), told


def n_vectors(collection: Path | str) -> dict[str, int]:
    with Collection.open(collection) as opened:
        return {model["backbone"]: model["views"] for model in opened.info().to_dict()["models"]}


def told(found: BenchmarkResult) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {exclusion.rule: (exclusion.count, exclusion.examples) for exclusion in found.dataset.exclusions}


UNREAD = "files that cannot be read, or were not embedded by every backbone, are ignored"


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Path:
    return draw_classes(tmp_path_factory.mktemp("benchmark") / "photos", red=6, green=5, blue=4)


@pytest.fixture(scope="module")
def found(classes: Path) -> BenchmarkResult:
    asked = question(
        classes,
        view_counts=(2, 0),
        methods=(PLAIN, PCA, DBA),
        n_robustness=5,
        seed=3,
        command="simsearch benchmark photos",
    )
    return run_benchmark(asked)


# Rows


def test_every_combination_is_a_row_under_a_name_of_its_own(found: BenchmarkResult):
    assert [row.name for row in found.rows] == [
        "histogram", "histogram pca5", "histogram pca5+dba2",
        "histogram +2 views", "histogram +2 views pca5", "histogram +2 views pca5+dba2",
    ]  # fmt: skip
    assert [(row.augment, row.rerank, row.width) for row in found.rows] == [
        (0, "none", 864), (0, "pca5", 5), (0, "pca5+dba2", 5), (2, "none", 864), (2, "pca5", 5), (2, "pca5+dba2", 5),
    ]  # fmt: skip
    assert {(row.backbone, row.precision, row.layer) for row in found.rows} == {("histogram", "f32", None)}


def test_scores_are_those_of_plain_numpy(found: BenchmarkResult):
    paths = [query.path for query in found.queries]
    assert paths == sorted(paths)
    raws = [read_raw_file(path, has_picture_extension=True, max_pixels=10**8) for path in paths]
    vectors = compute_histograms(
        np.array([decode_square(raw, ResizeRule(128, "squash"), max_pixels=10**8)[1] for raw in raws])
    )
    labels = np.array([Path(path).parent.name for path in paths])
    assert [query.label for query in found.queries] == labels.tolist()
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -2)
    right = (labels == labels[np.argsort(-similarities, axis=1)[:, :-1]].T).T
    precision = np.cumsum(right, axis=1) / np.arange(1, 15)
    average = (precision * right).sum(axis=1) / right.sum(axis=1)
    plain = found.rows[0]
    np.testing.assert_allclose(plain.per_query["map"], average, atol=1e-9)
    np.testing.assert_allclose(plain.per_query["p_at_1"], right[:, 0])
    assert plain.scores["map"].mean == pytest.approx(average.mean())
    assert plain.scores["map"].low < average.mean() < plain.scores["map"].high
    assert plain.per_class == pytest.approx(
        {label: average[labels == label].mean() for label in ("blue", "green", "red")}
    )


def test_the_dataset_and_the_question_are_told(found: BenchmarkResult, classes: Path):
    facts = found.dataset
    assert (facts.source, facts.protocol, facts.labels) == (str(classes), "self-excluded", "folder")
    assert (facts.n_images, facts.n_classes, facts.n_queries, facts.n_queries_of, facts.exclusions) == (
        15,
        3,
        15,
        15,
        (),
    )
    assert (found.seed, found.command, found.n_robustness_images) == (3, "simsearch benchmark photos", 5)
    assert len(found.robustness) == 12
    assert all(set(change.hit_at_1) == {0, 2} for change in found.robustness)
    assert {"simsearch", "numpy", "python"} <= found.versions.keys()


def test_costs_are_measured_and_memory_is_counted(found: BenchmarkResult):
    for row in found.rows:
        cost, n_views = row.cost, 1 + row.augment
        assert cost.memory_bytes_per_image == n_views * (4 * row.width + 8)
        assert cost.disk_bytes_per_image == n_views * 4 * 864 + cost.memory_bytes_per_image
        assert 0 < cost.query_ms_p50 <= cost.query_ms_p99
        assert cost.embedded_per_second > 0
        assert cost.images_per_second > 0
        assert (cost.parameters, cost.weights_bytes) == (0, 0)


def test_the_best_row_is_not_compared_with_itself_and_all_others_are(found: BenchmarkResult):
    values = [row.p_value for row in found.rows]
    assert values.count(None) == 1
    assert found.best.p_value is None
    assert all(value is None or 0 < value <= 1 for value in values)


def test_the_same_question_twice_gives_the_same_scores(found: BenchmarkResult, classes: Path, tmp_path: Path):
    again = run_benchmark(
        question(classes, collection_folder=str(tmp_path / "ix"), view_counts=(0, 2), methods=(PLAIN, PCA, DBA), seed=3)
    )
    for before, after in zip(found.rows, again.rows, strict=True):
        assert (before.name, before.scores, before.p_value) == (after.name, after.scores, after.p_value)
        for metric in found.metrics:
            np.testing.assert_array_equal(before.per_query[metric], after.per_query[metric])


def test_a_sample_asks_fewer_queries_among_all_images(found: BenchmarkResult, classes: Path):
    some = run_benchmark(question(classes, n_queries=6, seed=1))
    assert (some.dataset.n_queries, some.dataset.n_queries_of, some.dataset.n_images) == (6, 15, 15)
    whole = {query.path: at for at, query in enumerate(found.queries)}
    rows = [whole[query.path] for query in some.queries]
    np.testing.assert_array_equal(some.rows[0].per_query["map"], found.rows[0].per_query["map"][rows])


def test_identical_rows_differ_by_chance_alone():
    first, other = made_row("alpha", 0.5), made_row("beta", 0.5)
    assert [found.p_value for found in compare_rows([first, other, made_row("gamma", 0.5)], "map", seed=0)] == [
        None,
        1.0,
        1.0,
    ]
    assert [found.p_value for found in compare_rows([first], "map", seed=0)] == [None]


def _bare(backbone: str, **changes: object) -> BenchmarkRow:
    return replace(made_row(backbone, 0.5), **changes)


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([_bare("a"), _bare("b", precision="bf16")], ["a", "b"]),
        ([_bare("a"), _bare("a", model="2", precision="bf16"), _bare("b")], ["a f32", "a bf16", "b"]),
        ([_bare("a"), _bare("a", model="2", layer="conv_1")], ["a default", "a conv_1"]),
        ([_bare("a", pooling="avg"), _bare("a", model="2", pooling="gem", rerank="pca5")], ["a avg", "a gem pca5"]),
        ([_bare("a", model="a-1234567"), _bare("a", model="a-7654321")], ["a 234567", "a 654321"]),
        ([_bare("a", augment=3), _bare("a", augment=0, rerank="dba5")], ["a +3 views", "a dba5"]),
    ],
)
def test_rows_are_named_by_what_tells_them_apart(rows: list[BenchmarkRow], names: list[str]):
    assert [row.name for row in name_rows(rows)] == names


def test_two_weights_of_one_backbone_are_two_rows(tmp_path: Path):
    """Model files of one name in two folders: the fingerprint tells them apart."""
    photos = draw_classes(tmp_path / "photos", a=3, b=3)
    choices = []
    for number in (1, 2):
        file = TinyEncoder(outputs=("image_embeds",), seed=number).save(tmp_path / str(number) / "net.onnx")
        file.with_suffix(".json").write_text('{"side": 24, "scaling": "tf"}')
        choices.append(ModelChoice(backbone=str(file), precision="f32"))
    found = run_benchmark(question(photos, choices=tuple(choices)))
    first, second = found.rows
    assert first.model != second.model
    assert first.name != second.name


# What is embedded


def test_a_second_run_embeds_nothing_and_another_backbone_only_itself(classes: Path, tmp_path: Path):
    asked = question(classes, collection_folder=str(tmp_path / "ix"))
    _, first = measured(asked)
    _, again = measured(asked)
    assert first[-1].n_embedded == 15
    assert {progress.n_embedded for progress in again} == {0}
    both, told = measured(replace(asked, choices=(HISTOGRAM, ModelChoice(backbone="builtin", precision="f32"))))
    assert [row.backbone for row in both.rows] == ["histogram", "builtin"]
    assert n_vectors(tmp_path / "ix") == {"histogram": 15, "builtin": 15}
    ends = [at for at in range(len(told)) if at + 1 == len(told) or told[at + 1].n_done < told[at].n_done]
    assert [told[at].n_embedded for at in ends] == [0, 15]  # the last of each ingest's progress


def test_views_are_added_and_never_taken_away(classes: Path, tmp_path: Path):
    asked = question(classes, collection_folder=str(tmp_path / "ix"))
    run_benchmark(replace(asked, view_counts=(1,)))
    assert n_vectors(tmp_path / "ix") == {"histogram": 30}
    found = run_benchmark(replace(asked, view_counts=(0, 3)))
    assert n_vectors(tmp_path / "ix") == {"histogram": 60}
    assert [row.augment for row in found.rows] == [0, 3]
    run_benchmark(asked)
    assert n_vectors(tmp_path / "ix") == {"histogram": 60}


def test_views_stay_where_the_collection_holds_images_that_the_model_has_not(classes: Path, tmp_path: Path):
    others = draw_classes(tmp_path / "others", c=40)
    oneshot.ingest(tmp_path / "ix", [others], ModelChoice(backbone="builtin", precision="f32"))
    oneshot.ingest(tmp_path / "ix", [classes], HISTOGRAM, augment=ViewChoice(1))
    found = run_benchmark(question(classes, collection_folder=str(tmp_path / "ix")))
    assert n_vectors(tmp_path / "ix")["histogram"] == 30
    assert found.dataset.n_images == 15


def test_other_images_of_the_collection_take_no_part(classes: Path, found: BenchmarkResult, tmp_path: Path):
    others = draw_classes(tmp_path / "others", c=5)
    oneshot.ingest(tmp_path / "ix", [others], HISTOGRAM)
    again = run_benchmark(question(classes, collection_folder=str(tmp_path / "ix")))
    assert again.dataset == found.dataset
    np.testing.assert_array_equal(again.rows[0].per_query["map"], found.rows[0].per_query["map"])


def test_stopped_while_embedding_it_goes_on_from_there(classes: Path, found: BenchmarkResult, tmp_path: Path):
    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.n_embedded:
            raise Stop

    asked = question(classes, collection_folder=str(tmp_path / "ix"), view_counts=(0, 2), seed=3)
    with pytest.raises(Stop):
        run_benchmark(asked, BenchmarkCallbacks(on_ingest=stop))
    again = run_benchmark(asked)
    assert n_vectors(tmp_path / "ix") == {"histogram": 45}
    assert again.rows[0].scores == found.rows[0].scores
    assert again.rows[1].scores == found.rows[3].scores


def test_labels_that_cannot_be_measured_cost_no_embedding(tmp_path: Path):
    photos = draw_classes(tmp_path / "photos", a=1, b=1)
    with pytest.raises(UsageError, match="no class has two images"):
        run_benchmark(question(photos))
    assert not (tmp_path / "ix").exists()


# What takes no part is told


def test_files_that_cannot_be_read_are_reported_and_the_rest_is_measured(tmp_path: Path):
    photos = draw_classes(tmp_path / "photos", a=4, b=3)
    (photos / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (photos / "b" / "notes.txt").write_text("not a picture, and does not say so")
    (photos / "b" / "nowhere.jpg").symlink_to("gone.jpg")
    (photos / "only_broken").mkdir()
    (photos / "only_broken" / "x.png").write_bytes(b"")
    (photos / "empty").mkdir()
    found = run_benchmark(question(photos))
    assert (found.dataset.n_images, found.dataset.n_queries) == (7, 7)
    assert told(found) == {
        UNREAD: (3, tuple(str(photos / name) for name in ("a/broken.jpg", "only_broken/x.png", "b/nowhere.jpg"))),
        "class folders without an image are ignored": (2, ("empty", "only_broken")),
    }


def test_images_that_are_gone_since_they_were_embedded_take_no_part(tmp_path: Path):
    photos = draw_classes(tmp_path / "photos", a=4, b=3)
    run_benchmark(question(photos))
    (photos / "a" / "0.png").unlink()
    (photos / "b" / "0.png").write_bytes(b"broken now")
    found = run_benchmark(question(photos))
    assert found.dataset.n_images == 5
    assert told(found) == {UNREAD: (1, (str(photos / "b" / "0.png"),))}


def test_every_rule_is_told_with_its_count(tmp_path: Path):
    photos = draw_classes(tmp_path / "photos", a=3, b=3, single=1)
    draw_picture(photos / "loose.png", 999)
    shutil.copy(photos / "a" / "0.png", photos / "b" / "copy of a.png")
    found = run_benchmark(question(photos))
    counts = {rule: count for rule, (count, _) in told(found).items()}
    assert sorted(counts.values()) == [1, 1, 1]
    assert any("several labels" in rule for rule in counts)
    assert any("alone in their class" in rule for rule in counts)
    assert any("without a label" in rule for rule in counts)
    assert found.dataset.n_queries + 3 == 8


def test_a_query_folder_is_asked_against_the_database(tmp_path: Path):
    database = draw_classes(tmp_path / "database", a=4, b=4)
    queries = draw_classes(tmp_path / "queries", a=0, b=0)
    for label, seed in (("a", 501), ("b", 502), ("c", 503)):
        draw_picture(queries / label / "new.png", seed)
    shutil.copy(database / "a" / "1.png", queries / "a" / "known.png")
    (queries / "a" / "broken.png").write_bytes(b"broken")
    (queries / "a" / "readme.md").write_text("no picture")
    found = run_benchmark(question(database, label_source=LabelSource(queries=str(queries))))
    assert [Path(query.path).relative_to(queries.resolve()).as_posix() for query in found.queries] == [
        "a/known.png", "a/new.png", "b/new.png",
    ]  # fmt: skip
    assert (found.dataset.n_images, found.dataset.task) == (8, "the images of a folder are queries")
    assert told(found) == {
        UNREAD: (1, (str(queries / "a" / "broken.png"),)),
        "queries without a relevant image in the database are left out": (1, (str(queries / "c" / "new.png"),)),
    }
    assert n_vectors(tmp_path / "ix") == {"histogram": 8}
    assert "known" not in {Path(answer.path).stem for failure in found.rows[0].worst for answer in failure.answers}


def test_queries_of_a_folder_are_ranked_by_their_own_vectors(tmp_path: Path):
    database = draw_classes(tmp_path / "database", a=4, b=4)
    queries = tmp_path / "queries"
    shutil.copytree(database / "a", queries / "a")
    for path in (queries / "a").iterdir():  # other bytes, the same pixels
        path.write_bytes(path.read_bytes() + b"\0")
    found = run_benchmark(question(database, label_source=LabelSource(queries=str(queries))))
    for failure in found.rows[0].worst:
        assert Path(failure.answers[0].path).name == Path(failure.path).name
        assert failure.answers[0].similarity == pytest.approx(1, abs=1e-5)


def test_boxes_of_lists_are_what_is_asked_with(tmp_path: Path):
    """A picture whose left half is another one: asked with that half it finds the other, not its own kind."""
    from PIL import Image

    photos = draw_classes(tmp_path / "photos", a=3, b=3)
    with Image.open(photos / "a" / "0.png") as left, Image.open(photos / "b" / "0.png") as right:
        both = Image.new("RGB", (96, 48))
        both.paste(left.resize((48, 48)), (0, 0))
        both.paste(right.resize((48, 48)), (48, 0))
        both.save(photos / "both.png")
    answers = '"positives": ["a/0.png"]'
    boxes = {"left": ', "box": [0, 0, 48, 48]', "right": ', "box": [48, 0, 96, 48]'}
    first = {}
    for name, box in boxes.items():
        (tmp_path / "lists.json").write_text(f'[{{"query": "both.png", {answers}{box}}}]')
        found = run_benchmark(question(photos, label_source=LabelSource(file=str(tmp_path / "lists.json"))))
        (failure,) = found.rows[0].worst
        first[name] = Path(failure.answers[0].path).relative_to(photos).as_posix()
        assert "both.png" not in {Path(answer.path).name for answer in failure.answers}
    assert (first["left"], first["right"]) == ("a/0.png", "b/0.png")


def test_a_box_beside_the_picture_is_refused(tmp_path: Path):
    photos = draw_classes(tmp_path / "photos", a=3, b=3)
    (tmp_path / "lists.json").write_text('[{"query": "a/0.png", "positives": ["a/1.png"], "box": [900, 0, 950, 9]}]')
    with pytest.raises(ImageError, match=r"lies outside the picture"):
        run_benchmark(question(photos, label_source=LabelSource(file=str(tmp_path / "lists.json"))))


def test_fours_keep_their_places_where_a_picture_is_broken(tmp_path: Path):
    photos = tmp_path / "photos"
    for number in range(12):
        draw_picture(photos / f"ukbench{number:05}.png", number)
    (photos / "ukbench00001.png").write_bytes(b"broken")
    (photos / "Thumbs.db").write_bytes(b"no picture")
    found = run_benchmark(question(photos, label_source=LabelSource(protocol="ukbench")))
    labels = {Path(query.path).stem[-2:]: query.label for query in found.queries}
    assert labels == {f"{number:02}": f"object {number // 4 + 1}" for number in range(12) if number != 1}
    assert "ns" in found.metrics
    assert 1 <= found.rows[0].scores["ns"].mean <= 4
    assert told(found) == {UNREAD: (1, (str(photos / "ukbench00001.png"),))}


def test_labels_of_a_file_serve_queries_and_database_alike(tmp_path: Path):
    database, queries = draw_classes(tmp_path / "database", x=4, y=4), tmp_path / "queries"
    draw_picture(queries / "q.png", 700)
    rows = [f"{label}/{at}.png,{label}" for label in "xy" for at in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows, "q.png,x", "gone.png,x"]))
    found = run_benchmark(
        question(database, label_source=LabelSource(file=str(tmp_path / "labels.csv"), queries=str(queries)))
    )
    assert [(Path(query.path).name, query.label) for query in found.queries] == [("q.png", "x")]
    assert told(found) == {"names in the labels that match no image are ignored": (1, ("gone.png",))}


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_queries": 0}, "--sample is 0; give 1 or more"),
        ({"n_robustness": -1}, "--robustness is -1; give 0 or more"),
        ({"probe_s": 0.0}, "probe_s is 0.0; give more than 0"),
        ({"view_counts": (0, -2)}, "invalid number of augmented views -2"),
        ({"view_counts": (9999,)}, "invalid number of augmented views 9999"),
    ],
)
def test_numbers_that_cannot_be_are_refused(tmp_path: Path, changes: dict, message: str):
    with pytest.raises(UsageError, match=message):
        question(tmp_path, **changes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"protocol": "oxford"},
            "unknown protocol 'oxford'; choose one of self-excluded, counted, skip-first, ukbench",
        ),
        ({"pattern": "x", "file": "y.csv"}, "labels come from more than one option"),
        ({"pattern": "x", "protocol": "ukbench"}, "labels come from more than one option"),
        ({"queries": "q", "protocol": "ukbench"}, "ukbench uses every image as a query; leave out --queries"),
    ],
)
def test_labels_from_two_places_are_refused(words: dict, message: str):
    with pytest.raises(UsageError, match=message):
        LabelSource(**words)


def test_lists_and_a_query_folder_are_refused(classes: Path, tmp_path: Path):
    (tmp_path / "lists.json").write_text('[{"query": "red/0.png", "positives": ["red/1.png"]}]')
    with pytest.raises(UsageError, match="the lists in --labels already contain the queries; leave out --queries"):
        run_benchmark(
            question(classes, label_source=LabelSource(file=str(tmp_path / "lists.json"), queries=str(classes / "red")))
        )


@pytest.mark.parametrize("empty", ["source", "queries"])
def test_a_folder_without_pictures_is_refused(classes: Path, tmp_path: Path, empty: str):
    (tmp_path / "empty").mkdir()
    asked = question(
        classes, collection_folder=str(tmp_path / "ix"), label_source=LabelSource(queries=str(tmp_path / "empty"))
    )
    if empty == "source":
        asked = replace(asked, source=str(tmp_path / "empty"), label_source=LabelSource())
    with pytest.raises(NoImages, match=r"no images in .*empty"):
        run_benchmark(asked)
    with pytest.raises(SourceError, match="does not exist"):
        run_benchmark(replace(asked, source=str(tmp_path / "nowhere")))


def test_one_class_only_is_refused_also_where_files_that_are_no_pictures_hide_it(tmp_path: Path):
    photos = draw_classes(tmp_path / "photos", a=3)
    (photos / "readme.txt").write_text("no picture")
    with pytest.raises(UsageError, match="all images have the same class, a"):
        run_benchmark(question(photos))


def test_combinations_leave_out_what_a_backbone_does_not_have():
    found = combine_choices(
        ["histogram", "mobilenet"], ["f32", "auto"], [None, "conv_pw_5"], ["avg", "gem"], weights=None, offline=True
    )
    assert [(c.backbone, c.precision, c.layer, c.pooling) for c in found][:3] == [
        ("histogram", "f32", None, None), ("histogram", "auto", None, None), ("mobilenet", "f32", None, "avg"),
    ]  # fmt: skip
    assert len(found) == 2 + 2 * 2 * 2
    with pytest.raises(UsageError, match="unknown pooling 'mean'"):
        combine_choices(["histogram"], ["auto"], [None], ["mean"], weights=None, offline=True)
    with pytest.raises(UsageError, match="--weights is for one backbone"):
        combine_choices(["histogram", "builtin"], ["auto"], [None], [None], weights="x.h5", offline=True)


def test_nothing_that_can_be_read_any_more_is_a_clear_error(classes: Path, tmp_path: Path):
    """The pictures go away between embedding and measuring."""
    photos = tmp_path / "photos"
    shutil.copytree(classes, photos)

    def take_away(stage: str) -> None:
        if stage.startswith("measuring"):
            os.rename(photos, tmp_path / "elsewhere")

    with pytest.raises(SimsearchError, match="cannot read"):
        run_benchmark(question(photos), BenchmarkCallbacks(on_stage=take_away))


# The default backbone


def default_of(folder: Path) -> str:
    with Collection.open(folder) as collection:
        return collection.catalog.list_models()[0].model.backbone


def test_measuring_does_not_change_the_default_backbone_of_a_collection(classes: Path, tmp_path: Path):
    other = ModelChoice(backbone="builtin", precision="f32")
    spec = question(classes, collection_folder=str(tmp_path / "ix"), choices=(HISTOGRAM,))
    run_benchmark(spec)
    run_benchmark(replace(spec, choices=(HISTOGRAM, other)))
    assert default_of(tmp_path / "ix") == "histogram"
    with Collection.open(tmp_path / "ix") as collection:
        collection.set_default_model("builtin")
    run_benchmark(replace(spec, choices=(HISTOGRAM,)))
    assert default_of(tmp_path / "ix") == "builtin"


def test_the_baseline_is_not_the_default_backbone_of_a_collection_that_a_benchmark_makes(classes: Path, tmp_path: Path):
    other = ModelChoice(backbone="builtin", precision="f32")
    run_benchmark(question(classes, collection_folder=str(tmp_path / "ix"), choices=(HISTOGRAM, other)))
    assert default_of(tmp_path / "ix") == "builtin"
