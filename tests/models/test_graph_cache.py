"""The graph cache: atomic writes, detection of damage, several processes at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simsearch.models import graph_cache


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMSEARCH_CACHE", str(tmp_path))
    return tmp_path


def _save(definition: Path) -> None:
    definition.write_text("<net/>")
    definition.with_suffix(".bin").write_bytes(b"weights")


def test_unknown_key_is_not_found():
    assert graph_cache.find("net") is None


def test_stored_graph_is_found():
    kept = graph_cache.keep("net", _save)
    assert graph_cache.find("net") == kept
    assert (kept.read_text(), kept.with_suffix(".bin").read_bytes()) == ("<net/>", b"weights")


@pytest.mark.parametrize("name", ["graph.xml", "graph.bin", "seal.json"])
@pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:-1])])
def test_damage_is_detected_and_repaired_by_storing_again(name: str, harm):
    harm(graph_cache.keep("net", _save).parent / name)
    with pytest.raises(ValueError, match="net"):
        graph_cache.find("net")
    graph_cache.keep("net", _save)
    assert graph_cache.find("net") is not None


def test_a_failed_save_leaves_nothing(cache: Path):
    def fail(definition: Path) -> None:
        definition.write_text("half")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        graph_cache.keep("net", fail)
    assert graph_cache.find("net") is None
    assert list((cache / "graphs").iterdir()) == []


def test_several_processes_may_keep_the_same_graph_at_once(cache: Path):
    code = (
        "from simsearch.models import graph_cache\n"
        "def save(d):\n    d.write_text('<net/>'); d.with_suffix('.bin').write_bytes(b'w' * 100000)\n"
        "for _ in range(40):\n    graph_cache.keep('net', save)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert graph_cache.find("net") is not None
    assert [path.name for path in (cache / "graphs").iterdir()] == ["net"]
