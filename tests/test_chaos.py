"""Random histories of operations, kills and restored copies end with the answers of a new index of the same folder.

`tests/support/chaos.py` runs them. A difference is reported with its seed and what was done; kills depend on the load
of the machine too, so a seed gives a similar history, not the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

N_OPERATIONS = 12
N_IN_PROCESS = 25
ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.long, pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")]


def run_histories(folder: Path, seeds: range) -> None:
    command = [sys.executable, "-m", "tests.support.chaos", str(folder), str(N_OPERATIONS), *map(str, seeds)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # the pictures are tiny
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    histories = [json.loads(line) for line in done.stdout.splitlines()]
    assert [history["seed"] for history in histories] == list(seeds)
    assert [history for history in histories if history["difference"]] == []
    assert sum(history["kills"] for history in histories) >= len(seeds), "hardly anything was killed"


def test_a_few_histories_end_as_a_new_index(tmp_path: Path):
    run_histories(tmp_path, range(3))


@pytest.mark.thorough
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(20))
def test_five_hundred_histories_end_as_a_new_index(part: int, tmp_path: Path):
    first = 1000 + part * N_IN_PROCESS
    run_histories(tmp_path, range(first, first + N_IN_PROCESS))
