"""The converter of published ground truth: every pickle of plain data becomes JSON, and no pickle runs code."""

from __future__ import annotations

import io
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.convert_revisited import main, read_pickle
from tests.evaluation.test_label_file import check_revisited, photos, read, revisited

__all__ = ["photos"]


def with_arrays() -> dict:
    """The ground truth with NumPy arrays and numbers, as published."""
    content = revisited()
    for truth in content["gnd"]:
        truth |= {grade: np.array(truth[grade], int) for grade in ("easy", "hard", "junk")}
    content["gnd"][0]["bbx"] = list(np.array(content["gnd"][0]["bbx"]))  # NumPy's numbers in a plain list
    return content


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_with_arrays_become_json(protocol: int):
    assert read_pickle(io.BytesIO(pickle.dumps(with_arrays(), protocol))) == revisited()


def test_a_pickle_of_an_older_numpy_is_read():
    """NumPy 1 wrote its internal names under `numpy.core`."""
    written = pickle.dumps(with_arrays(), 2)
    assert b"numpy._core.multiarray" in written
    old = written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert read_pickle(io.BytesIO(old)) == revisited()


def test_the_converted_file_is_a_label_file(tmp_path: Path, photos: list[str], capsys):
    (tmp_path / "gnd.pkl").write_bytes(pickle.dumps(with_arrays(), 2))
    main([str(tmp_path / "gnd.pkl"), str(tmp_path / "gnd.json")])
    assert "2 queries, 3 images" in capsys.readouterr().out
    check_revisited(read(tmp_path, photos, json.loads((tmp_path / "gnd.json").read_text())), photos)


class _Evil:
    def __init__(self, place: Path) -> None:
        self._place = place

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self._place),)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path):
    content = with_arrays() | {"more": _Evil(tmp_path / "run")}
    with pytest.raises(pickle.UnpicklingError, match=r"it contains posix\.mkdir"):
        read_pickle(io.BytesIO(pickle.dumps(content)))
    assert not (tmp_path / "run").exists()
    pickle.loads(pickle.dumps(content))  # it would have
    assert (tmp_path / "run").exists()


@given(st.binary(max_size=60))
def test_bytes_that_are_not_such_a_pickle_are_a_clear_error(content: bytes):
    with pytest.raises(pickle.UnpicklingError):
        read_pickle(io.BytesIO(content))


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", pickle.dumps(list(range(99)))[:20], pickle.dumps({"imlist": []})]
)
def test_a_broken_file_is_refused_in_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "gnd.pkl").write_bytes(content)
    with pytest.raises(SystemExit, match=r"gnd\.pkl cannot be read: "):
        main([str(tmp_path / "gnd.pkl"), str(tmp_path / "gnd.json")])
    assert not (tmp_path / "gnd.json").exists()
