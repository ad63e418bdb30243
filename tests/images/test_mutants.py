"""Thousands of damaged and hostile files, indexed by a real process with 1 GB: each is found or reported."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from simsearch import Collection
from tests.support.mutants import make_mutants

MEMORY_BYTES = 1 << 30
"""The limit of the data of the process (`RLIMIT_DATA`): heap, stacks, anonymous mappings; not the code of libraries."""

CPU_LIMIT_S = 60
N_TOGETHER = 50
MAX_FILE_S = 5.0

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="limits of processes as on Linux")]


def write_mutants(folder: Path, n: int, seed: int) -> list[str]:
    folder.mkdir()
    paths = []
    for name, data in make_mutants(n, seed):
        (folder / name).write_bytes(data)
        paths.append(str(folder / name))
    return paths


def index_under_limits(folder: Path, collection: Path) -> tuple[set[str], float]:
    """Index a folder, check what the process says, and return the files that were reported and the processor time."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))

    command = [sys.executable, "-m", "simsearch", "index", str(folder), "--into", str(collection), "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--backbone", "histogram"], capture_output=True, text=True, preexec_fn=limit, env=environment
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line for line in done.stderr.splitlines() if str(folder) not in line] == []
    reported = {skip["path"] for skip in json.loads(done.stdout)["skipped"]}
    return reported, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def check_mutants(home: Path, n: int, seed: int) -> float:
    """Index mutants and check that each is found or reported; return the processor time of the process."""
    paths = write_mutants(home / f"mutants_{seed}", n, seed)
    reported, seconds = index_under_limits(home / f"mutants_{seed}", home / f"ix_{seed}")
    with Collection.open(home / f"ix_{seed}") as opened:
        found = set(opened.catalog.iterate_paths())
        assert opened.verify().problems == ()
    assert reported | found == set(paths)
    assert reported & found == set()
    assert 0 < len(found) < n
    return seconds


def test_a_hundred_and_fifty_mutants_are_each_found_or_reported(tmp_path: Path):
    check_mutants(tmp_path, 150, seed=0)


@pytest.mark.thorough
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(4))
def test_two_thousand_mutants_take_no_more_than_five_seconds_each(part: int, tmp_path: Path):
    """Fifty files in one process that take no more than that together need no look at each."""
    for seed in range(1000 + part * 10, 1010 + part * 10):
        if check_mutants(tmp_path, N_TOGETHER, seed) > MAX_FILE_S:
            for file in sorted((tmp_path / f"mutants_{seed}").iterdir()):
                alone = tmp_path / f"alone_{seed}_{file.name}"
                alone.mkdir()
                file.rename(alone / file.name)
                (alone / "good.ppm").write_bytes(b"P6 2 1 255\n123456")  # a folder without a picture is an error
                _, seconds = index_under_limits(alone, tmp_path / f"ix_{seed}_{file.name}")
                assert seconds < MAX_FILE_S, file.name
