"""A collection made by version 0.1 opens, and answers as version 0.1 did.

`fixtures/version_0_1/catalog.db` was written by commit 72f4691: twelve pictures of `data/objects`, a copy
of one, two backbones (`builtin` with one augmented view of each image, `histogram`), columns of the user's, a rejected
pair, a skipped file and a deleted one. `answers.json` holds what that commit printed with `--json`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.long

FIXTURE = Path(__file__).parent / "fixtures" / "version_0_1"
ANSWERS = json.loads((FIXTURE / "answers.json").read_text())
VOLATILE = {"milliseconds", "notes", "size_bytes"}


def stable_part(document: Any, before: Any) -> Any:
    """The document without durations, file sizes and sentences, and without keys that version 0.1 did not have."""
    if isinstance(document, dict):
        kept = (key for key in document if key not in VOLATILE and key in before)
        return {key: stable_part(document[key], before[key]) for key in kept}
    if isinstance(document, list) and len(document) == len(before):
        return [stable_part(*pair) for pair in zip(document, before, strict=True)]
    return pytest.approx(document, abs=2e-6) if isinstance(document, float) and document is before else document


def print_json(folder: Path, command: list[str]) -> tuple[int, Any]:
    """Run a command on the collection `old` in `folder`; its exit status and JSON document."""
    words = [word.replace("{objects}", str(ROOT / "data/objects")) for word in command]
    done = subprocess.run(
        [sys.executable, "-m", "simsearch", *words, "--in", "old", "--json"],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: " ".join(answer["command"]))
def test_a_collection_of_the_previous_version_answers_as_it_did(tmp_path: Path, answer: dict[str, Any]):
    shutil.copytree(FIXTURE, tmp_path / "old", ignore=shutil.ignore_patterns("*.json"))
    status, document = print_json(tmp_path, answer["command"])
    if "query" in document:
        document["query"] = [name.replace(str(ROOT / "data/objects"), "{objects}") for name in document["query"]]
    assert status == answer["exit"]
    expected = answer["document"]
    assert stable_part(document, expected) == stable_part(expected, expected)
