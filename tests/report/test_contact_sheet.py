"""The contact sheet of a query."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch import Hit, View
from simsearch.errors import SimsearchError
from simsearch.report.drawing.contact_sheet import draw_contact_sheet
from tests.conftest import draw_picture


def hits_in(folder: Path, names: list[str]) -> list[Hit]:
    paths = [str(draw_picture(folder / name, seed)) for seed, name in enumerate(names)]
    return [
        Hit(rank, 1 - rank / 20, rank, path, (path,), View("original", {}))
        for rank, path in enumerate(paths, start=1)
    ]  # fmt: skip


@pytest.mark.parametrize("pair", [("é", "ö"), ("é", "猫"), ("Привет", "Ελλάδα"), ("ع", "é")])
def test_names_in_different_letters_look_different(pair: tuple[str, str], tmp_path: Path):
    """In a font without these letters each is the same box."""
    drawn = []
    for name in pair:
        hits = hits_in(tmp_path / "same", [f"{name}.png"])
        draw_contact_sheet([hits[0].path], hits, "histogram", tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as sheet:
            drawn.append(np.asarray(sheet)[262:284, 344:544])
    assert (drawn[0] != drawn[1]).any()


def test_folders_that_are_missing_are_made(tmp_path: Path):
    hits = hits_in(tmp_path, ["a.png", "b.png"])
    draw_contact_sheet([hits[0].path], hits, "histogram", tmp_path / "new" / "dir" / "x.png")
    with Image.open(tmp_path / "new" / "dir" / "x.png") as sheet:
        assert sheet.format == "PNG"


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SimsearchError, match="cannot be written"):
        draw_contact_sheet([], hits_in(tmp_path, ["a.png"]), "histogram", tmp_path / "file" / "x.png")


def test_an_answer_without_hits_has_a_sheet_of_its_query(tmp_path: Path):
    query = str(draw_picture(tmp_path / "query.png", 1))
    draw_contact_sheet([query], [], "histogram", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 2 * 28 + 280 + 60


def test_the_first_three_queries_are_drawn(tmp_path: Path):
    paths = [str(draw_picture(tmp_path / f"{seed}.png", seed)) for seed in range(5)]
    draw_contact_sheet(paths, hits_in(tmp_path, ["a.png"]), "histogram", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 2 * 28 + 3 * (280 + 60)


def test_pictures_that_cannot_be_read_are_returned_and_an_unreachable_host_is_waited_for_once(tmp_path: Path):
    with socket.socket() as free:  # bound, but nobody listens: connections are refused
        free.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{free.getsockname()[1]}"
        paths = [f"{host}/{number}.jpg" for number in range(12)] + [str(tmp_path / "gone.png")]
        hits = [Hit(rank, 0.5, rank, path, (path,), View("original", {})) for rank, path in enumerate(paths, start=1)]
        failures = draw_contact_sheet([], hits, "histogram", tmp_path / "sheet.png")
    assert len(failures) == 13
    assert len({str(failure) for failure in failures}) == 2  # one for the host, one for the file
