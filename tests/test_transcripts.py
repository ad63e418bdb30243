"""The command blocks of README and the documentation: each command runs, and prints what the block shows.

Commands that need weights, a network, a server or another tool are left out by name. Numbers may differ.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tests.support.command_line import run

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
CLASSES = ("lamp", "teapot", "vase", "bell")
_N_OF_CLASS = 6

NOT_RUN = {
    r"vgg16|resnet50|mobilenet_v2|dinov2|siglip|efficientnet|convnext": "needs weights",
    r"s3://|https?://|hf:|huggingface": "needs a network",
    r"--ray|milvus|simsearch (serve|watch|push|mcp)": "needs a server, or runs until it is stopped",
    r"\.onnx|optimum-cli|trec_eval|flowers": "needs files of other tools",
    r"^(pip|make|cd|docker|uv|python|export|FONTS|apt-get|curl|sqlite-utils|for) ?": "no command of simsearch",
    r"red wine|red vase": "needs a model with a text tower",
    r"bird\.|study |learn ": "has tests of its own",
    r"benchmark (?!indexes)": "has tests of its own, and takes minutes",
}


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a block, and the lines that follow it there."""

    command: str
    shown: tuple[str, ...]


def list_steps(page: str) -> list[Step]:
    """The commands of the console blocks of a page, without their comments."""
    steps: list[Step] = []
    for block in re.findall(r"^```console\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                command = re.sub(r"\s{2,}#.*$| # .*$", "", line.removeprefix("$ "))
                steps.append(Step(command.strip(), ()))
            elif steps and line.strip() and line.strip() != "...":
                steps[-1] = Step(steps[-1].command, (*steps[-1].shown, line))
    return steps


def find_reason_to_skip(command: str) -> str | None:
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, command)), None)


RUN = [page for page in PAGES if any(find_reason_to_skip(step.command) is None for step in list_steps(page))]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the pictures that the pages name, a collection of ~/photos, and a table of columns."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("project")
    rows = ["path,price,species,sold"]
    for label in CLASSES:
        for number, picture in enumerate(sorted((ROOT / "data" / "objects" / label).glob("*.jpg"))[:_N_OF_CLASS]):
            copy = home / "photos" / label / picture.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, copy)
            rows.append(f"{copy},{10 * number},{label},{number % 2 == 0}")
    (folder / "prices.csv").write_text("\n".join(rows) + "\n")
    lamp = ROOT / "data" / "objects" / "lamp" / "lamp_09.jpg"
    for name in ("a", "b", "c", "rose", "vase", "vase2", "flowerpot", "street", "detail", "example"):
        shutil.copy(lamp, folder / f"{name}.jpg")
    (folder / "queries").mkdir()
    shutil.copy(lamp, folder / "queries" / "one.jpg")
    (folder / "backup" / "copies").mkdir(parents=True)
    shutil.copytree(ROOT / "data" / "objects", folder / "data" / "objects")
    write_embeddings(folder)
    tools = folder / "bin"
    tools.mkdir()
    (tools / "simsearch").write_text(f'#!/bin/sh\nexec {sys.executable} -m simsearch "$@"\n')
    (tools / "simsearch").chmod(0o755)
    (folder / "home").symlink_to(home)  # shared by the copies of the project
    environment = make_environment(folder)
    for words in (["index", str(home / "photos")], ["annotate", "prices.csv"], ["calibrate"]):
        done = run(*words, cwd=folder, env=environment)
        assert done.returncode == 0, done.stderr
    assert run("export", "clip.parquet", cwd=folder, env=environment).returncode == 0
    return folder


def write_embeddings(folder: Path) -> None:
    """Write embeddings as clip-retrieval does, of two labels, and one to search with."""
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    vectors = (random.normal(size=(2, 16))[labels] + 0.3 * random.normal(size=(40, 16))).astype(np.float32)
    for name in ("img_emb", "metadata"):
        (folder / "embeddings" / name).mkdir(parents=True)
    np.save(folder / "embeddings" / "img_emb" / "img_emb_0.npy", vectors)
    columns = {
        "image_path": [f"{number}.jpg" for number in range(40)],
        "label": ["lamp" if label else "vase" for label in labels],
        "likes": list(range(40)),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "embeddings" / "metadata" / "metadata_0.parquet")
    np.save(folder / "question.npy", vectors[1])


def make_environment(project: Path) -> dict[str, str]:
    return {"HOME": str(project / "home"), "PATH": f"{project / 'bin'}:{os.environ['PATH']}"}


def run_step(command: str, project: Path) -> tuple[int, str, str]:
    """Run a command: in this process, or by a shell where it needs one. Nothing is opened on a screen."""
    line = command.replace(" --open", "").replace("/backup", str(project / "backup"))
    if re.search(r"[|&;<>]", re.sub(r"\"[^\"]*\"|'[^']*'", "", line)):
        env = {**os.environ, **make_environment(project)}
        done = subprocess.run(["/bin/bash", "-c", line], cwd=project, env=env, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr
    words = [
        word.replace("~", str(project / "home"), 1) if word.startswith("~/") else word for word in shlex.split(line)
    ]
    result = run(*words[1:], cwd=project, env=make_environment(project))
    return result.returncode, result.stdout, result.stderr


def blur(line: str) -> str:
    """A line without numbers, precisions and widths of columns, which depend on the machine."""
    line = re.sub(r"\b(int8|bf16|f32)\b", "", line)
    return " ".join(re.sub(r"\d[\d.,]*", "#", line).split())


@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run_and_print_what_it_shows(page: str, template: Path, tmp_path: Path):
    project = tmp_path / "project"
    shutil.copytree(template, project, symlinks=True)
    if page == "README.md":  # it begins without a collection
        shutil.rmtree(project / "indexes")
    for step in list_steps(page):
        if find_reason_to_skip(step.command) is not None:
            continue
        status, out, err = run_step(step.command, project)
        assert status == 0, f"{step.command}\n{err}"
        printed = {blur(line) for line in out.splitlines()}
        expected = [line for line in step.shown if "against f32" not in line]  # only where a lower precision is native
        assert [line for line in expected if blur(line) not in printed] == [], f"{step.command}\n{out}"
        assert "Traceback" not in err, f"{step.command}\n{err}"


def test_most_commands_are_run():
    """The list of what is left out is no way around the test."""
    commands = [step.command for page in PAGES for step in list_steps(page)]
    simsearch = [command for command in commands if command.startswith("simsearch ")]
    assert sum(find_reason_to_skip(command) is None for command in simsearch) >= 0.7 * len(simsearch)
