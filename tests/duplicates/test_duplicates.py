"""Duplicates: which pictures are held to be the same, how groups come about, and what is suggested."""

from __future__ import annotations

import itertools
import math
import os
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.duplicates import write_family
from simsearch import Collection, ModelChoice
from simsearch.duplicates.alignment import MIN_LIKENESS, measure_likeness
from simsearch.duplicates.calibration import estimate_overlaid_share, find_threshold
from simsearch.duplicates.edits import EDITS
from simsearch.duplicates.grouping import build_stars
from simsearch.duplicates.options import DuplicateOptions
from simsearch.duplicates.results import DuplicateReport
from simsearch.duplicates.search import SearchedModel, find_duplicates
from simsearch.duplicates.similarity_graph import OriginalVectors, RejectedPairs, build_similarity_graph
from simsearch.duplicates.thumbnails import make_alignment_thumbnail
from simsearch.errors import UnreadableFile, UsageError
from simsearch.images.decode import DecodedImage
from simsearch.index.cache import IndexCache
from simsearch.models.loader import open_embedder
from simsearch.store.catalog import Catalog
from tests.conftest import HISTOGRAM, ROOT, draw_picture
from tests.support import oneshot

BUILTIN = ModelChoice(backbone="builtin", precision="f32")


# Laying pictures over each other


@pytest.fixture(scope="module")
def objects() -> list[DecodedImage]:
    """Every third rendered picture of the project's own collection: thirteen kinds of things, no duplicates."""
    files = sorted((ROOT / "data" / "objects").rglob("*.jpg"))[::3]
    images = [Image.open(file).convert("RGB") for file in files]
    return [DecodedImage(image, image.width, image.height, "JPEG") for image in images]


def edited(picture: DecodedImage, name: str, seed: int) -> np.ndarray:
    image = EDITS[name](picture.image, np.random.default_rng(seed))
    return make_alignment_thumbnail(DecodedImage(image, image.width, image.height, "JPEG"))


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_picture_is_the_same_picture(objects: list[DecodedImage], name: str):
    originals = np.stack([make_alignment_thumbnail(picture) for picture in objects])
    edits = np.stack([edited(picture, name, seed) for seed, picture in enumerate(objects)])
    assert np.mean(measure_likeness(originals, edits) >= MIN_LIKENESS) >= 0.95
    assert np.mean(measure_likeness(edits, originals) >= MIN_LIKENESS) >= 0.9


def test_different_pictures_are_not_the_same_picture_even_of_one_kind(objects: list[DecodedImage]):
    thumbnails = np.stack([make_alignment_thumbnail(picture) for picture in objects])
    a, b = np.array(list(itertools.combinations(range(len(objects)), 2))).T
    assert measure_likeness(thumbnails[a], thumbnails[b]).max() < MIN_LIKENESS


def test_two_edits_at_once_are_still_the_same_picture(objects: list[DecodedImage]):
    random = np.random.default_rng(0)
    found = []
    for picture in objects:
        image = EDITS["cropped to 95 %"](EDITS["mirrored"](picture.image, random), random)
        image = EDITS["recompressed, JPEG quality 50"](image, random)
        found.append(
            measure_likeness(
                make_alignment_thumbnail(picture)[None],
                make_alignment_thumbnail(DecodedImage(image, 0, 0, "JPEG"))[None],
            )[0]
        )
    assert np.mean(np.array(found) >= MIN_LIKENESS) >= 0.9


def test_a_picture_without_detail_is_like_none():
    grey, white = np.full((1, 32, 32, 3), 128, np.uint8), np.full((1, 32, 32, 3), 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    assert (
        max(measure_likeness(grey, grey)[0], measure_likeness(grey, white)[0], measure_likeness(noise, grey)[0]) < 0.1
    )
    assert len(measure_likeness(grey[:0], grey[:0])) == 0


def test_likeness_does_not_depend_on_what_else_is_compared(objects: list[DecodedImage]):
    thumbnails = np.stack([make_alignment_thumbnail(picture) for picture in objects])
    together = measure_likeness(thumbnails[:-1], thumbnails[1:])
    alone = [
        measure_likeness(thumbnails[row : row + 1], thumbnails[row + 1 : row + 2])[0] for row in range(len(objects) - 1)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-3)


# Linking


def originals_of(vectors: np.ndarray) -> OriginalVectors:
    """Images 1, 2, ... with those vectors, which lie in the index in another order."""
    places = np.random.default_rng(7).permutation(len(vectors))
    rows = np.empty_like(vectors, dtype=np.float32)
    rows[places] = vectors
    return OriginalVectors(np.arange(1, len(vectors) + 1), rows, places)


def clustered(n: int, width: int, seed: int) -> np.ndarray:
    """Unit vectors (n, width) around n / 5 directions."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n // 5, width))[random.integers(n // 5, size=n)]
    rows = rows + 0.35 * random.standard_normal((n, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def brute_components(is_alike: np.ndarray) -> list[list[int]]:
    """Components of at least two by a walk over the whole matrix."""
    left, found = set(range(len(is_alike))), []
    while left:
        todo, component = [left.pop()], []
        while todo:
            component.append(place := todo.pop())
            todo += (new := left & set(np.flatnonzero(is_alike[place]).tolist()))
            left -= new
        found += [sorted(component)] if len(component) > 1 else []
    return sorted(found)


def test_components_equal_those_of_the_whole_matrix_across_blocks():
    vectors = clustered(5000, 12, seed=1)
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -1)
    random = np.random.default_rng(2)
    alike = np.argwhere(np.triu(similarities >= 0.9))
    rejected = alike[random.choice(len(alike), len(alike) // 3, replace=False)]
    originals = originals_of(vectors)
    links = build_similarity_graph(originals, 0.9, RejectedPairs(originals, (rejected + 1).tolist()))
    is_alike = similarities >= 0.9
    is_alike[rejected[:, 0], rejected[:, 1]] = is_alike[rejected[:, 1], rejected[:, 0]] = False
    np.testing.assert_array_equal(links.degrees, is_alike.sum(1))
    assert [places.tolist() for places in links.iterate_components()] == brute_components(is_alike)


def test_the_nearest_others_equal_those_of_the_whole_matrix():
    vectors = clustered(5000, 12, seed=3)
    sample = np.array([4999, 0, 4096, 17])
    similarities, places = originals_of(vectors).find_nearest(sample, 9)
    exact = vectors[sample] @ vectors.T
    exact[np.arange(4), sample] = -np.inf
    np.testing.assert_array_equal(places, np.argsort(-exact, axis=1, kind="stable")[:, :9])
    np.testing.assert_allclose(similarities, -np.sort(-exact, axis=1)[:, :9], atol=1e-6)


def test_thousands_of_pictures_that_look_alike_are_one_group_in_the_memory_of_a_block():
    vectors = np.tile(np.array([[0.6, 0.8]], np.float32), (6_000, 1))
    originals = originals_of(vectors)
    rejections = RejectedPairs(originals, [])
    tracemalloc.start()
    links = build_similarity_graph(originals, 0.9, rejections)
    groups = build_stars(originals, links, rejections, lambda pairs: [True] * len(pairs))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [sorted(group) for group in groups] == [list(range(6_000))]
    assert links.degrees.tolist() == [5_999] * 6_000
    assert peak_bytes < 100e6  # all pairs would be 18 million, or 36 million similarities


# Grouping


def on_a_circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def groups_of(
    vectors: np.ndarray,
    least: float,
    rejected: Sequence[tuple[int, int]] = (),
    check: Callable | None = None,
) -> list[list[int]]:
    originals = originals_of(vectors)
    rejections = RejectedPairs(originals, rejected)

    def close(pairs: list[tuple[int, int]]) -> list[bool]:
        return [bool(vectors[a] @ vectors[b] >= least) for a, b in pairs]

    found = build_stars(originals, build_similarity_graph(originals, least, rejections), rejections, check or close)
    return sorted(sorted(place + 1 for place in group) for group in found)


def test_a_chain_does_not_become_one_group():
    """Each is alike to the next, the first and the last are a right angle apart."""
    chain = on_a_circle(*range(0, 91, 10))
    least = math.cos(math.radians(15))
    found = groups_of(chain, least)
    assert len(found) >= 3
    for group in found:
        within = chain[np.array(group) - 1] @ chain[np.array(group) - 1].T
        assert within.min() >= math.cos(math.radians(30.1))
        assert len(group) > 1


def test_nobody_is_in_a_group_alone():
    assert groups_of(on_a_circle(0, 1, 40, 80, 120), 0.99) == [[1, 2]]
    assert groups_of(on_a_circle(0, 40, 80), 0.99) == []
    assert groups_of(on_a_circle(0, 1, 2), 0.99, check=lambda pairs: [False] * len(pairs)) == []


def test_images_that_do_not_match_the_center_form_their_own_groups():
    families = [0, 1, 0, 1, 0, 1, 2]
    found = groups_of(
        on_a_circle(0, 1, 2, 3, 4, 5, 6), 0.9, check=lambda pairs: [families[a] == families[b] for a, b in pairs]
    )
    assert found == [[1, 3, 5], [2, 4, 6]]


def test_a_rejected_pair_is_never_in_one_group_whoever_stands_between():
    near = on_a_circle(0, 1, 2)
    assert groups_of(near, 0.99) == [[1, 2, 3]]
    for pair in itertools.combinations((1, 2, 3), 2):
        (found,) = groups_of(near, 0.99, [pair])
        assert len(found) == 2
        assert set(found) != set(pair)


def test_a_rejected_group_does_not_come_back():
    assert groups_of(on_a_circle(0, 1, 2, 30, 31), 0.99, list(itertools.combinations((1, 2, 3), 2))) == [[4, 5]]


def test_pairs_of_images_that_are_no_longer_there_are_no_hindrance():
    assert groups_of(on_a_circle(0, 1), 0.99, [(1, 77), (80, 90)]) == [[1, 2]]


# Thresholds


def test_no_more_than_the_share_reaches_the_threshold():
    similarities = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
    assert 0.8 < find_threshold(similarities, 0.2) < 0.8001  # one of five may, 0.9 does
    assert 0.9 < find_threshold(similarities, 0.1) < 0.9001  # none of five may
    assert find_threshold(similarities, 1) == -1
    assert 0.7 < find_threshold(np.array([0.7, 0.7, 0.7, 0.1], np.float32), 0.5) < 0.7001  # all equal ones or none


def test_the_share_that_can_be_overlaid_is_that_of_a_normal_distribution_cut_where_pictures_are_the_same():
    z = np.random.default_rng(0).normal(1.2, 0.5, 200_000)
    beyond = 0.5 * math.erfc((math.atanh(MIN_LIKENESS) - 1.2) / 0.5 / math.sqrt(2))
    likenesses = np.tanh(z)
    different = likenesses[likenesses < MIN_LIKENESS]
    assert estimate_overlaid_share(different.astype(np.float32)) == pytest.approx(beyond, rel=0.05)


def test_nothing_is_claimed_to_be_rarer_than_what_was_looked_at():
    assert estimate_overlaid_share(np.full(50, 0.1, np.float32)) == 1 / 50
    assert estimate_overlaid_share(np.empty(0, np.float32)) == 1


# From a folder to groups


def duplicates(
    collection: Path, question: DuplicateOptions | None = None, rejected: Sequence[tuple[int, int]] = ()
) -> DuplicateReport:
    with Catalog.open(collection) as catalog:
        stored = catalog.list_models()[0]
        index = IndexCache(catalog).open_index(stored.fingerprint)
        model = SearchedModel(stored, index, lambda: open_embedder(stored.model))
        return find_duplicates(catalog, model, question or DuplicateOptions(), rejected=rejected)


def names(report: DuplicateReport, tier: str) -> list[list[str]]:
    return [sorted(Path(path).name for path in group.paths) for group in report.groups if group.tier == tier]


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of thirty rendered pictures, edits of five of them, and exact copies of two; indexed beside it."""
    folder = tmp_path_factory.mktemp("album")
    (folder / "pictures").mkdir()
    files = sorted((ROOT / "data" / "objects").rglob("*.jpg"))[::4]
    assert len(files) == 30
    for number, file in enumerate(files):
        data = file.read_bytes()
        (folder / "pictures" / f"{number:02}.jpg").write_bytes(data)
        if number < 2:
            (folder / "pictures" / f"{number:02}_copy.jpg").write_bytes(data)
        if number < 5:
            image, random = Image.open(file).convert("RGB"), np.random.default_rng(number)
            for name in ("mirrored", "cropped to 95 %", "half the size", "recompressed, JPEG quality 30"):
                edit = EDITS[name](image, random)
                edit.save(folder / "pictures" / f"{number:02}_{name.split()[0].strip(',')}.jpg", quality=92)
    oneshot.ingest(folder / "indexes", [folder / "pictures"], BUILTIN)
    return folder


@pytest.fixture(scope="module")
def found(album: Path) -> DuplicateReport:
    return duplicates(album / "indexes", DuplicateOptions(down_to="similar"))


def test_copies_are_exact_and_edits_are_near(found: DuplicateReport):
    assert names(found, "exact") == []  # each image is in one group
    assert len(names(found, "near")) == 5
    for group in names(found, "near"):
        assert {name[:2] for name in group} == {group[0][:2]}
        copy = [f"{group[0][:2]}_copy.jpg"] if group[0][:2] in ("00", "01") else []
        edits = [f"{group[0][:2]}_{name}.jpg" for name in ("cropped", "half", "mirrored", "recompressed")]
        assert group == sorted([f"{group[0][:2]}.jpg", *copy, *edits])


def test_each_image_is_in_one_group_and_no_similar_one_is_to_go(found: DuplicateReport):
    image_ids = [member.image_id for group in found.groups for member in group.members]
    assert len(image_ids) == len(set(image_ids))
    for group in found.select_tier("similar"):
        assert (group.kept_paths, group.removable_paths, group.freed_bytes) == (group.paths, (), 0)


def test_the_largest_stays_and_every_picture_keeps_a_file(album: Path, found: DuplicateReport):
    gone = {path for group in found.groups for path in group.removable_paths}
    for group in found.select_tier("near"):
        sizes = [member.width * member.height for member in group.members]
        assert sizes[0] == max(sizes)
        assert not set(group.kept_paths) & gone
        assert group.freed_bytes == sum(os.path.getsize(path) for path in group.removable_paths)
        assert [member.similarity for member in group.members[1:]] == sorted(
            (member.similarity for member in group.members[1:]), reverse=True
        )
    assert len(list((album / "pictures").iterdir())) == 30 + 2 + 20  # nothing was deleted


def test_calibration_tells_what_to_expect_and_what_is_found_agrees(found: DuplicateReport):
    calibration = found.calibration
    assert calibration is not None
    assert calibration.false_positive_rate <= DuplicateOptions().false_positive_rate
    assert [recall.edit for recall in calibration.recalls] == list(EDITS)
    assert calibration.recall >= 0.9
    assert (calibration.n_edited, calibration.n_compared) == (50, 50)
    assert all(recall.found <= recall.close for recall in calibration.recalls)


def test_exact_alone_needs_no_network_and_no_picture(album: Path):
    with Catalog.open(album / "indexes") as catalog:
        stored = catalog.list_models()[0]
        index = IndexCache(catalog).open_index(stored.fingerprint)
        report = find_duplicates(catalog, SearchedModel(stored, index, pytest.fail), DuplicateOptions(down_to="exact"))
    assert names(report, "exact") == [["00.jpg", "00_copy.jpg"], ["01.jpg", "01_copy.jpg"]]
    assert report.calibration is None
    assert len(report.groups) == 2


@pytest.fixture
def twins(photos: Path, collection: Path) -> tuple[Path, Path]:
    """Twelve drawn pictures and a recompressed one, indexed, with the path of that one."""
    edit = photos / "a" / "picture_03_edit.jpg"
    with Image.open(photos / "a" / "picture_03.png") as image:
        image.convert("RGB").save(edit, quality=90)
    oneshot.ingest(collection, [photos], HISTOGRAM)
    return collection, edit


def test_the_same_question_has_the_same_answer_and_a_stricter_one_asks_for_more(twins: tuple[Path, Path]):
    once, again = duplicates(twins[0]), duplicates(twins[0])
    assert (again.groups, again.calibration) == (once.groups, once.calibration)
    lax = duplicates(twins[0], DuplicateOptions(false_positive_rate=0.5)).calibration
    assert lax is not None
    assert once.calibration is not None
    assert lax.near_similarity < once.calibration.near_similarity
    assert lax.close_share > once.calibration.close_share


def test_a_rejected_near_group_does_not_come_back(twins: tuple[Path, Path]):
    (group,) = duplicates(twins[0]).groups
    a, b = sorted(member.image_id for member in group.members)
    assert duplicates(twins[0], rejected=[(a, b)]).groups == ()


def test_a_file_that_is_gone_or_another_is_not_told_as_near(twins: tuple[Path, Path]):
    collection, edit = twins
    assert names(duplicates(collection), "near") == [["picture_03.png", "picture_03_edit.jpg"]]
    edit.write_bytes(draw_picture(edit.with_name("other.png"), 99).read_bytes())
    report = duplicates(collection)
    assert (report.select_tier("near"), report.unread) == ((), (str(edit),))
    edit.unlink()
    assert duplicates(collection).unread == (str(edit),)


def test_pictures_that_are_all_out_of_reach_are_an_error_with_advice(twins: tuple[Path, Path]):
    collection, edit = twins
    edit.parent.parent.rename(edit.parent.parent.with_name("elsewhere"))
    with pytest.raises(UnreadableFile, match=r"missing.*index the pictures at their current location"):
        duplicates(collection)


def test_one_picture_has_no_duplicate(tmp_path: Path):
    draw_picture(tmp_path / "photos" / "one.png", 1)
    oneshot.ingest(tmp_path / "ix", [tmp_path / "photos"], HISTOGRAM)
    report = duplicates(tmp_path / "ix", DuplicateOptions(down_to="similar"))
    assert (report.groups, report.calibration, report.n_images) == ((), None, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"down_to": "nearly"}, "exact, near, similar"),
        ({"keep": "prettiest"}, "largest, oldest, newest, shortest-path"),
        ({"false_positive_rate": 0}, "false positive rate is 0"),
        ({"similar_share": 1}, "share of similar images is 1"),
        ({"min_similarity": 2}, "it is a cosine"),
    ],
)
def test_a_wrong_question_is_a_usage_error(wrong: dict, message: str):
    with pytest.raises(UsageError, match=message):
        DuplicateOptions(**wrong)


# Real photographs


@pytest.mark.long
@pytest.mark.parametrize("backbone", [pytest.param("mobilenet_v2", marks=pytest.mark.thorough), "builtin"])
def test_nine_edits_of_a_hundred_photographs_are_found(shared: Path, tmp_path: Path, backbone: str):
    """The same as `python -m bench duplicates` with a tenth of the photographs."""
    (tmp_path / "photos").mkdir()
    for number, file in enumerate(sorted((shared / "photos" / "imagenet_sample").glob("*.jpg"))[::10]):
        write_family(tmp_path / "photos", number, file)
    weights = None if backbone == "builtin" else str(shared / "weights" / f"{backbone}.weights.h5")
    oneshot.ingest(tmp_path / "ix", [tmp_path / "photos"], ModelChoice(backbone=backbone, weights=weights))
    with Collection.open(tmp_path / "ix") as collection:
        groups = collection.duplicates().groups
    pairs = [pair for group in groups for pair in itertools.combinations(group.paths, 2)]
    n_right = sum(Path(a).name[:4] == Path(b).name[:4] for a, b in pairs)
    assert n_right / len(pairs) >= 0.99
    assert n_right / (100 * 45) >= 0.9


@pytest.mark.long
def test_the_duplicates_of_a_public_data_set_are_found_and_its_look_alikes_are_not(shared: Path, tmp_path: Path):
    """Looked at one by one: a mirrored cougar and tick, a cropped skate, recompressed ibis, rhino and drawings.

    As near as these to the network are brains, motorbikes and signs that are different ones.
    """
    folder = shared / "photos" / "caltech101_small"
    choice = ModelChoice(backbone="mobilenet_v2", weights=str(shared / "weights" / "mobilenet_v2.weights.h5"))
    oneshot.ingest(tmp_path / "ix", [folder], choice)
    with Collection.open(tmp_path / "ix") as collection:
        groups = collection.duplicates().select_tier("near")
    same = {
        frozenset({"cougar_face/image_0061.jpg", "cougar_face/image_0066.jpg"}),
        frozenset({"garfield/image_0023.jpg", "garfield/image_0024.jpg", "garfield/image_0025.jpg"}),
        frozenset(f"garfield/image_00{number}.jpg" for number in (27, 32, 33, 34)),
        frozenset({"ibis/image_0076.jpg", "ibis/image_0079.jpg"}),
        frozenset({"inline_skate/image_0027.jpg", "inline_skate/image_0030.jpg"}),
        frozenset({"rhino/image_0051.jpg", "rhino/image_0055.jpg"}),
        frozenset({"tick/image_0043.jpg", "tick/image_0049.jpg"}),
    }
    found = [frozenset(Path(path).relative_to(folder.resolve()).as_posix() for path in group.paths) for group in groups]
    assert all(any(group <= family for family in same) for group in found)
    assert len(found) >= 6
