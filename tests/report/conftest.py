"""A benchmark with everything in it and what is drawn of it, made once."""

from __future__ import annotations

import pytest

from simsearch.evaluation.results import Benchmark
from simsearch.report.plots import Plot, draw_plots
from tests.report.benchmarks import awkward_benchmark


@pytest.fixture(scope="session")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return awkward_benchmark(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def plots(awkward: Benchmark) -> tuple[Plot, ...]:
    return draw_plots(awkward)
