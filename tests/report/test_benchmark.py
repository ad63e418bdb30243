"""A report in its folder."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simsearch.errors import SimsearchError, UsageError
from simsearch.evaluation.results import BenchmarkResult, LabeledQuery
from simsearch.report.benchmark.findings import summarize_benchmark
from simsearch.report.benchmark.markdown import render_markdown
from simsearch.report.benchmark.plots import PALETTE, Plot
from simsearch.report.benchmark.view import build_view
from simsearch.report.benchmark.writer import BenchmarkReport, build_per_query_csv, prepare_folder, write_report
from tests.support.benchmarks import METRICS, benchmark, row


@pytest.fixture(scope="module")
def report(awkward: BenchmarkResult, tmp_path_factory: pytest.TempPathFactory) -> BenchmarkReport:
    return write_report(awkward, tmp_path_factory.mktemp("out") / "deep" / "report")


def test_everything_is_written_and_nothing_else(report: BenchmarkReport):
    folder = report.page.parent
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    plots = ["quality_speed", "precision_recall", "precision_at_k", "per_class", "robustness"]
    drawn = {f"plots/{name}.{ending}" for name in plots for ending in ("svg", "png")}
    assert names == {"report.html", "report.md", "report.json", "per_query.csv"} | drawn
    assert {path.relative_to(folder).as_posix() for path in report.plots} == drawn


def test_the_json_file_is_the_document(report: BenchmarkReport, awkward: BenchmarkResult):
    document = {"schema_version": 1, **awkward.to_dict(summary=summarize_benchmark(awkward))}
    assert json.loads(report.document.read_text("utf-8")) == document


def test_the_csv_file_has_the_score_of_every_query_in_every_row_and_metric(
    report: BenchmarkReport, awkward: BenchmarkResult
):
    with report.per_query.open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file)
    assert head == ["path", "label", "row", "metric", "value"]
    assert len(lines) == len(awkward.queries) * len(awkward.rows) * len(METRICS)
    assert [line[1] for line in lines[:3]] == [query.label for query in awkward.queries]
    assert lines[0][0] == awkward.queries[0].path
    assert lines[2][0].endswith("caf\\udce9.png")
    for found in awkward.rows:
        for metric in METRICS:
            values = [float(line[4]) for line in lines if line[2:4] == [found.name, metric]]
            assert values == pytest.approx(found.per_query[metric])


def test_a_query_that_a_metric_does_not_judge_has_no_value():
    judged = replace(row("alpha", 0.5), per_query=dict.fromkeys(METRICS, np.array([0.5, math.nan, 1.0])))
    lines = list(csv.reader(io.StringIO(build_per_query_csv(benchmark(judged)), newline="")))
    assert [line[4] for line in lines[1:4]] == ["0.5", "", "1"]


def test_no_cell_of_the_csv_file_is_a_formula():
    found = replace(
        benchmark(row("=cmd|x", 0.5)),
        queries=(
            LabeledQuery("-1+1/a.png", "=cmd|' /C calc'!A0"),
            LabeledQuery("/p/=1.png", "@x"),
            LabeledQuery("a", "b"),
        ),
    )
    _, *lines = csv.reader(io.StringIO(build_per_query_csv(found), newline=""))
    assert {line[2] for line in lines} == {"'=cmd|x"}
    assert [line[:2] for line in lines[:3]] == [
        ["'-1+1/a.png", "'=cmd|' /C calc'!A0"], ["/p/=1.png", "'@x"], ["a", "b"],
    ]  # fmt: skip


def test_the_markdown_links_plots_that_are_there(report: BenchmarkReport):
    text = report.markdown.read_text("utf-8")
    links = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(links) == 5
    assert all((report.markdown.parent / link).is_file() for link in links)


def test_names_break_no_table_and_are_no_markup_in_markdown(awkward: BenchmarkResult, plots: tuple[Plot, ...]):
    text = render_markdown(build_view(awkward, len(PALETTE)), plots)
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 6
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    outside = re.sub(r"\\.", "", text.replace("    simsearch benchmark '<i>a'", ""))
    assert not re.search(r"[<>`]", outside.replace("<!-- made by simsearch -->", ""))
    assert "tied, p = 0.31" in text
    assert "gamma\\|\\`" in text


def test_a_report_that_is_there_is_written_over(tmp_path: Path):
    write_report(benchmark(row("alpha", 0.7)), tmp_path)
    (tmp_path / "own notes.txt").write_text("mine")
    report = write_report(benchmark(row("beta", 0.7)), tmp_path)
    assert "beta" in report.page.read_text("utf-8")
    assert "alpha" not in report.page.read_text("utf-8")
    assert (tmp_path / "own notes.txt").read_text() == "mine"


@pytest.mark.parametrize("taken", ["report", "report/plots"])
def test_a_file_in_the_place_of_a_folder_is_told_before_anything_is_measured(taken: str, tmp_path: Path):
    place = tmp_path / taken
    place.parent.mkdir(exist_ok=True)
    place.write_text("a file")
    with pytest.raises(UsageError, match="is a file, not a folder; name another folder with --out"):
        prepare_folder(tmp_path / "report")
    assert place.read_text() == "a file"


def test_a_folder_below_a_file_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        prepare_folder(tmp_path / "file" / "report")


def test_a_name_that_no_folder_can_have_is_told():
    with pytest.raises(SimsearchError, match="cannot be written") as caught:
        prepare_folder("a\0b")
    assert "\0" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written_to_is_told(tmp_path: Path):
    (tmp_path / "report").mkdir(mode=0o555)
    with pytest.raises(SimsearchError, match="cannot be written"):
        prepare_folder(tmp_path / "report")


def test_a_failed_write_is_one_clear_line_and_leaves_no_part(tmp_path: Path):
    (tmp_path / "report.md").mkdir()
    with pytest.raises(SimsearchError, match=r"report\.md cannot be written \(Is a directory\)"):
        write_report(benchmark(row("alpha", 0.7)), tmp_path)
    assert not list(tmp_path.rglob("*.part"))
