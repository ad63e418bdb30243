"""The tests of a module run in one worker of pytest-xdist: they share fixtures, which every worker would build."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT, find_group, pytest_ignore_collect

QUICK = "not long and not thorough"


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run, which its workers share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.mark.parametrize("turn", range(6))
def test_a_module_stays_in_one_worker(turn: int, run_folder: Path):
    (run_folder / f"worker-{os.getpid()}").touch()
    assert len(list(run_folder.glob("worker-*"))) == 1


def test_modules_that_share_a_server_are_one_group():
    assert find_group("tests/web/test_api.py::test_a[b::c]") == find_group("tests/web/test_hostile.py::test_d")
    assert find_group("tests/index/test_milvus_index.py::test_a") == find_group("tests/cli/test_push.py::test_b")
    assert find_group("tests/store/test_writer.py::test_a") == "tests/store/test_writer.py"


def test_long_tests_that_share_nothing_are_groups_of_their_own():
    assert find_group("tests/test_chaos.py::test_a[1]") != find_group("tests/test_chaos.py::test_a[2]")


def is_read(module: Path, expression: str) -> bool:
    config = argparse.Namespace(option=argparse.Namespace(markexpr=expression))
    return not pytest_ignore_collect(module, config)


def test_the_quick_suite_does_not_read_what_it_leaves_out_and_has_something_of_every_folder():
    long_one = ROOT / "tests" / "models" / "test_keras_runtime.py"
    assert is_read(long_one, "")
    assert is_read(long_one, "not thorough")
    assert not is_read(long_one, QUICK)
    folders = {module.parent for module in (ROOT / "tests").rglob("test_*.py")}
    for folder in folders:
        assert any(is_read(module, QUICK) for module in folder.glob("test_*.py")), folder


def test_no_module_of_the_quick_suite_imports_a_framework_when_it_is_collected():
    """Each worker would: TensorFlow and Keras take three seconds of processor time, Ray and Milvus one."""
    packages = "tensorflow|keras|ray|pymilvus|milvus_lite|playwright|moto|nncf"
    modules = r"simsearch\.models\.keras_runtime|simsearch\.index\.milvus\.(cache|client)|tests\.support\.networks"
    heavy = re.compile(rf"^(import|from) ({packages}|{modules})\b", re.M)
    for module in (ROOT / "tests").rglob("test_*.py"):
        if is_read(module, QUICK):
            assert not heavy.search(module.read_text("utf-8")), module
