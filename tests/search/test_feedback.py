"""Searches with examples for and against: when they are classified, in which order hits come, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsearch import Collection
from simsearch.errors import UsageError
from simsearch.images.views import ViewChoice
from simsearch.search.examples import Example, TextExample
from tests.conftest import HISTOGRAM, draw_picture
from tests.support.command_line import run

N_PICTURES = 40
LIKED, UNLIKED = (1, 4, 7), (2, 5, 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("feedback")
    for number in range(N_PICTURES):
        draw_picture(place / "photos" / f"{number:02}.png", number)
    with Collection.open(place / "ix", create=True) as collection:
        collection.ingest([place / "photos"], HISTOGRAM, augment=ViewChoice(1))
    return place


def make_examples(liked=LIKED, unliked=UNLIKED) -> list[Example]:
    return [*map(Example, liked), *(Example(image_id, -1.0) for image_id in unliked)]


def test_three_for_and_three_against_are_classified_and_fewer_are_averaged(folder: Path):
    with Collection.open(folder / "ix") as collection:
        assert collection.search(make_examples()).rerank == "feedback200"
        assert collection.search(make_examples(unliked=UNLIKED[:2])).rerank == "none"
        assert collection.search(make_examples(), rerank="none").rerank == "none"
        assert collection.search([Example(1), Example(2, -1.0)], rerank="pca8+feedback20").rerank == "pca8+feedback20"


def test_examples_for_come_first_and_examples_against_last(folder: Path):
    with Collection.open(folder / "ix") as collection:
        hits = collection.search(make_examples(), k=N_PICTURES).hits
    ids = [hit.image_id for hit in hits]
    assert sorted(ids) == list(range(1, N_PICTURES + 1))
    assert set(ids[:3]) == set(LIKED)
    assert max(map(ids.index, LIKED)) < min(map(ids.index, UNLIKED))


def test_pictures_that_are_not_stored_count_as_the_stored_ones_do(folder: Path, tmp_path: Path):
    copies = [draw_picture(tmp_path / f"{number}.png", number - 1) for number in (*LIKED, *UNLIKED)]
    for copy in copies:
        copy.write_bytes(copy.read_bytes() + b"another content")
    examples = [Example(str(copy), 1.0 if at < len(LIKED) else -1.0) for at, copy in enumerate(copies)]
    with Collection.open(folder / "ix") as collection:
        stored, new = collection.search(make_examples(), k=12), collection.search(examples, k=12)
    assert new.rerank == "feedback200"
    assert set(LIKED) <= {hit.image_id for hit in new.hits[:6]}
    assert len({hit.image_id for hit in stored.hits} & {hit.image_id for hit in new.hits}) >= 8


def test_pages_and_excluded_examples_fit_together(folder: Path):
    with Collection.open(folder / "ix") as collection:
        whole = collection.search(make_examples(), k=30).hits
        parts = [collection.search(make_examples(), k=10, offset=offset).hits for offset in (0, 10, 20)]
        others = collection.search(make_examples(), k=N_PICTURES, exclude_self=True).hits
    assert [hit.image_id for hit in whole] == [hit.image_id for part in parts for hit in part]
    assert [hit.rank for part in parts for hit in part] == list(range(1, 31))
    assert {hit.image_id for hit in others} == set(range(1, N_PICTURES + 1)) - {*LIKED, *UNLIKED}


def test_results_behind_the_first_ones_follow_in_the_order_of_similarity(folder: Path):
    with Collection.open(folder / "ix") as collection:
        hits = collection.search(make_examples(), k=None, rerank="feedback10").hits
    tail = [hit.similarity for hit in hits[10:]]
    assert len(hits) == N_PICTURES
    assert tail == sorted(tail, reverse=True)
    assert np.diff([hit.similarity for hit in hits[:10]]).max() > 0  # the first ones are in another order


def test_what_feedback_cannot_use_is_refused(folder: Path):
    with Collection.open(folder / "ix") as collection:
        for examples in ([Example(1)], [Example(1, -1.0)]):
            with pytest.raises(UsageError, match="for and against"):
                collection.search(examples, rerank="feedback")
        with pytest.raises(UsageError):
            collection.search([*make_examples(), TextExample("lamp")], rerank="feedback")
        with pytest.raises(UsageError, match="takes the place"):
            collection.search(make_examples(), rerank="aqe+feedback")
        with pytest.raises(UsageError, match="too many results"):
            collection.search(make_examples(), rerank="feedback5000")
    done = run("tune", "--in", "ix", "--rerank", "feedback", cwd=folder)
    assert done.returncode == 2
    assert "feedback" in done.stderr


def test_the_command_line_says_that_examples_were_classified(folder: Path):
    pictures = sorted((folder / "photos").glob("*.png"))
    unlike = [word for picture in pictures[3:6] for word in ("--unlike", str(picture))]
    done = run("query", *map(str, pictures[:3]), *unlike, "--in", "ix", cwd=folder)
    assert "feedback200" in done.stdout.replace("\n", "")
