"""A benchmark and a study with everything in them and what is made of them, once."""

from __future__ import annotations

import pytest

from simsearch import ModelChoice
from simsearch.evaluation.results import BenchmarkResult
from simsearch.images.views import Augmentation
from simsearch.report.benchmark.plots import Plot, draw_plots
from simsearch.report.study.writer import StudyReport, write_study
from simsearch.study.study import StudyResult, run_study
from tests.conftest import HISTOGRAM, draw_picture
from tests.support.benchmarks import HOSTILE, NOT_UTF8, SCRIPT, awkward_benchmark


@pytest.fixture(scope="session")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkResult:
    return awkward_benchmark(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def plots(awkward: BenchmarkResult) -> tuple[Plot, ...]:
    return draw_plots(awkward)


@pytest.fixture(scope="session")
def awkward_study(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """Four pictures under names that hurt and a file that is none, under two backbones, one of which shows layers."""
    folder = tmp_path_factory.mktemp("pictures") / "<i>a"
    paths = [draw_picture(folder / name, seed) for seed, name in enumerate((HOSTILE, SCRIPT, NOT_UTF8, "plain.png"))]
    torn = folder / "<u>torn.jpg"
    torn.write_bytes(b"\xff\xd8\xff\xe0 torn")
    small = ModelChoice(backbone="mobilenet_v3_small", weights="random", engine="tensorflow", precision="f32")
    return run_study([*paths[:2], torn, *paths[2:]], [small, HISTOGRAM], Augmentation(3, seed=5), top=3)


@pytest.fixture(scope="session")
def study_report(awkward_study: StudyResult, tmp_path_factory: pytest.TempPathFactory) -> StudyReport:
    return write_study(awkward_study, tmp_path_factory.mktemp("study") / "report", "simsearch study '<i>a'")
