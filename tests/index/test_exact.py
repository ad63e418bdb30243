"""The exact index against brute force in NumPy, and damaged or foreign index files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsearch.index.exact import ExactIndex, compare_ids
from simsearch.index.files import IndexStamp, is_intact, read_stamp
from simsearch.index.int8_scan import Int8Scan
from tests.support.synthetic import clustered

STAMP = IndexStamp("uuid", "model-1", 3, 200)


def _unit(n: int, width: int = 24, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def vectors() -> np.ndarray:
    return _unit(200)


@pytest.fixture
def index(vectors: np.ndarray) -> ExactIndex:
    index = ExactIndex.create_empty(24)
    index.add(np.arange(200) * 3 + 5, vectors)
    return index


def test_search_equals_brute_force(index: ExactIndex, vectors: np.ndarray):
    queries = _unit(10, seed=1)
    similarities, ids = index.search(queries, 7)
    products = queries @ vectors.T
    order = np.argsort(-products, axis=1)[:, :7]
    np.testing.assert_array_equal(ids, order * 3 + 5)
    np.testing.assert_allclose(similarities, np.take_along_axis(products, order, axis=1), atol=1e-6)


def test_similarity_never_leaves_its_range(vectors: np.ndarray):
    index = ExactIndex.create_empty(24)
    index.add(np.arange(2), np.stack([vectors[0], -vectors[0]]) * np.float32(1.0001))
    similarities, _ = index.search(vectors[:1], 2)
    assert similarities.tolist() == [[1.0, -1.0]]


def test_a_search_for_more_than_all_vectors_returns_all(index: ExactIndex):
    assert index.search(_unit(1), 1000)[1].shape == (1, 200)


@pytest.mark.parametrize("n", [0, 1, 40, 512, 513, 1500])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_a_subset_of_an_index_is_searched_like_an_index_of_its_own(tmp_path: Path, n: int, is_mapped: bool):
    """A small subset is copied, a large one is scanned with a filter: both find what NumPy finds."""
    vectors, random = _unit(1500), np.random.default_rng(n)
    ids = random.permutation(np.arange(1500) * 3 + 5)
    index = ExactIndex.create_empty(24)
    index.add(ids, vectors)
    if is_mapped:
        index.save(tmp_path / "x.faiss", STAMP)
        index = ExactIndex.open_mapped(tmp_path / "x.faiss")
    chosen = np.sort(random.choice(1500, n, replace=False))
    part = index.select(np.sort(np.append(ids[chosen], [0, 6, 10**6])))  # three that are not here
    query = _unit(1, seed=9)
    products = vectors[chosen] @ query[0]
    order = np.argsort(-products)[:20]
    similarities, found = part.search(query, 20)
    assert len(part) == n
    np.testing.assert_array_equal(found[0], ids[chosen][order])
    np.testing.assert_allclose(similarities[0], products[order], atol=1e-6)
    similarities, found = part.range_search(query[0], 0.2)
    assert set(found.tolist()) == set(ids[chosen][products > 0.2].tolist())
    assert similarities.min(initial=1) >= 0.2


def test_all_above_a_threshold_are_found(index: ExactIndex, vectors: np.ndarray):
    similarities, ids = index.range_search(vectors[0], 0.1)
    products = vectors @ vectors[0]
    assert set(ids.tolist()) == set((np.flatnonzero(products > 0.1) * 3 + 5).tolist())
    np.testing.assert_allclose(similarities, products[(ids - 5) // 3].clip(-1, 1), atol=1e-6)


def test_rows_and_ids_stay_aligned_after_every_change(index: ExactIndex, vectors: np.ndarray):
    np.testing.assert_array_equal(index.rows[index.find_positions(np.array([8, 5]))], vectors[[1, 0]])
    index.remove(np.array([5]))
    index.add(np.array([2]), -vectors[:1])
    np.testing.assert_array_equal(index.rows[index.find_positions(np.array([2, 8]))], [-vectors[0], vectors[1]])
    with pytest.raises(ValueError, match="read-only"):
        index.rows[0] = 0


def test_reserved_memory_holds_no_vectors(index: ExactIndex, vectors: np.ndarray):
    index.reserve(500)
    assert len(index) == 200
    index.add(np.array([1]), -vectors[:1])
    assert index.search(-vectors[:1], 1)[1].tolist() == [[1]]
    np.testing.assert_array_equal(index.vectors[:200], vectors)


def test_an_empty_index_finds_nothing():
    assert ExactIndex.create_empty(4).search(np.zeros((2, 4), np.float32), 5)[0].shape == (2, 0)


def test_removed_vectors_are_not_found_and_ids_do_not_shift(index: ExactIndex, vectors: np.ndarray):
    index.remove(np.array([5, 8]))
    assert len(index) == 198
    assert index.search(vectors[2:3], 1)[1].tolist() == [[11]]


@pytest.mark.parametrize("opened", [ExactIndex.open_mapped, ExactIndex.read])
def test_a_saved_index_returns_the_same_results(index: ExactIndex, tmp_path: Path, opened):
    file = tmp_path / "größe.faiss"
    index.save(file, STAMP)
    again = opened(file)
    queries = _unit(3, seed=2)
    for was, now in zip(index.search(queries, 5), again.search(queries, 5), strict=True):
        np.testing.assert_array_equal(was, now)
    assert read_stamp(file) == STAMP
    assert is_intact(file)
    assert [path.name for path in tmp_path.iterdir()] == ["größe.faiss"]


def test_a_mapped_index_refuses_to_change(index: ExactIndex, tmp_path: Path):
    index.save(tmp_path / "x.faiss", STAMP)
    with pytest.raises(ValueError, match="mapped"):
        ExactIndex.open_mapped(tmp_path / "x.faiss").remove(np.array([5]))


@pytest.mark.parametrize("keep", [0, 1, 11, 100, -1, -30])
def test_a_truncated_file_has_no_stamp(index: ExactIndex, tmp_path: Path, keep: int):
    file = tmp_path / "x.faiss"
    index.save(file, STAMP)
    file.write_bytes(file.read_bytes()[:keep])
    assert read_stamp(file) is None
    assert not is_intact(file)


def test_a_flipped_bit_is_noticed(index: ExactIndex, tmp_path: Path):
    file = tmp_path / "x.faiss"
    index.save(file, STAMP)
    content = bytearray(file.read_bytes())
    content[500] ^= 1
    file.write_bytes(content)
    assert read_stamp(file) == STAMP
    assert not is_intact(file)


def test_a_git_lfs_pointer_has_no_stamp(tmp_path: Path):
    (tmp_path / "x.faiss").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert read_stamp(tmp_path / "x.faiss") is None


def test_a_failed_save_leaves_the_old_file(index: ExactIndex, tmp_path: Path):
    file = tmp_path / "missing" / "x.faiss"
    with pytest.raises(OSError, match="missing"):
        index.save(file, STAMP)
    assert list(tmp_path.iterdir()) == []


def test_a_second_query_alone_is_answered_by_codes_and_finds_the_same(tmp_path: Path):
    random = np.random.default_rng(0)
    rows = random.standard_normal((12_000, 48)).astype(np.float32)
    rows[5_000:5_040] = rows[17] + 1e-3 * random.standard_normal((40, 48))  # near ties
    rows[:, 0] *= 6  # an outlying dimension makes the codes coarse
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    made = ExactIndex.create_empty(48)
    made.add(np.arange(7, 12_007), rows)
    made.save(tmp_path / "x.faiss", STAMP)
    index = ExactIndex.open_mapped(tmp_path / "x.faiss")
    for number in (17, 5_003, 3, 11_999):
        for n in (1, 18, 300):
            similarities, ids = index.search(rows[number][None], n)
            expected, _ = made.search(rows[number][None], n)
            assert (similarities == expected).all()
            assert len(set(ids[0].tolist())) == n
            assert np.abs(rows[ids[0] - 7] @ rows[number] - similarities[0]).max() < 1e-6
    assert index._scan is not None


def test_codes_are_given_up_where_they_decide_nothing():
    rows = np.ones((12_000, 16), np.float32) + 1e-5 * np.random.default_rng(0).random((12_000, 16), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scan = Int8Scan(rows)
    assert [scan.search(rows[number], 10, rows) for number in range(8)] == [None] * 8
    assert not scan.is_useful


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_codes_of_damaged_vectors_find_nothing_and_fail_in_no_way(value: float):
    rows = np.full((10_000, 8), value, np.float32)
    scan = Int8Scan(rows)
    assert scan.search(clustered(1, seed=1)[0][:8].copy(), 3, rows) is None


def test_indexes_of_one_file_share_their_codes(tmp_path: Path):
    rows = clustered(10_000, seed=3)
    made = ExactIndex.create_empty(rows.shape[1])
    made.add(np.arange(10_000), rows)
    made.save(tmp_path / "x.faiss", STAMP)
    indexes = [ExactIndex.open_mapped(tmp_path / "x.faiss") for _ in range(2)]
    for index in indexes * 2:
        assert index.search(rows[5][None], 1)[1].tolist() == [[5]]
    first, second = (index._scan for index in indexes)
    assert first is not None
    assert second is not None
    assert first[0] is second[0]


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ([], []),
        ([], [1, 2]),
        ([1, 2], []),
        ([1, 2, 3], [1, 2, 3]),
        ([1, 2, 3], [1, 2, 3, 7, 9]),
        ([1, 2, 3, 4], [1, 3, 4, 9]),
        ([2, 5, 6], [1, 2, 6, 7]),
    ],
)
def test_ids_are_compared_as_sets(held: list[int], wanted: list[int]):
    missing, surplus = compare_ids(np.array(held, np.int64), np.array(wanted, np.int64))
    assert missing.tolist() == sorted(set(wanted) - set(held))
    assert surplus.tolist() == sorted(set(held) - set(wanted))
