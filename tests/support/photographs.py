"""1,200 real photographs of 100 classes, indexed once in a run of the tests; every test works on a copy."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from simsearch import ModelChoice
from tests.support import oneshot

SHARED = Path(__file__).parents[3] / "shared"
PHOTOGRAPHS = SHARED / "photos" / "caltech101_small"
CHOICES: Mapping[str, ModelChoice] = MappingProxyType(
    {
        "builtin": ModelChoice(backbone="builtin", precision="f32"),
        "mobilenet_v2": ModelChoice(
            backbone="mobilenet_v2",
            weights=str(SHARED / "weights" / "mobilenet_v2.weights.h5"),
            precision="f32",
            offline=True,
        ),
    }
)


def copy_indexed_photographs(run_folder: Path, backbone: str, into: Path) -> Path:
    """Copy the collection of the photographs with a backbone of `CHOICES` to the folder `into`; return `into`.

    The first test that asks makes the collection in `run_folder`, which the workers of a run share; others wait.
    """
    if not SHARED.is_dir():
        pytest.skip("../shared, with real photographs, is not on this machine")
    made = run_folder / f"photographs-{backbone}"
    with (run_folder / f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            oneshot.ingest(made.with_suffix(".new"), [PHOTOGRAPHS], CHOICES[backbone])
            os.rename(made.with_suffix(".new"), made)
    shutil.copytree(made, into)
    return into
