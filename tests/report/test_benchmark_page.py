"""The page of a benchmark."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from simsearch.evaluation.results import BenchmarkResult, BenchmarkRow
from simsearch.report.benchmark.html import render_benchmark
from simsearch.report.benchmark.markdown import render_markdown
from simsearch.report.benchmark.plots import PALETTE, Plot, draw_plots
from simsearch.report.benchmark.view import build_view
from tests.support.benchmarks import benchmark, row
from tests.support.pages import Elements


def rendered(benchmark: BenchmarkResult, plots: tuple[Plot, ...]) -> str:
    return render_benchmark(build_view(benchmark, len(PALETTE)), plots)


@pytest.fixture(scope="module")
def page(awkward: BenchmarkResult, plots: tuple[Plot, ...]) -> str:
    return rendered(awkward, plots)


def test_names_are_text_and_never_elements(page: str):
    parsed = Elements(page)
    assert len(parsed.of("script")) == 1
    assert {"i", "em", "s", "u"} & {tag for tag, found in parsed.elements if not found.get("style")} == set()
    for attributes in (found for _, found in parsed.elements):
        assert not any(name.startswith("on") for name in attributes)
    assert "<script>alert(1)<!--.png" in " ".join(str(found.get("title")) for _, found in parsed.elements)
    assert "<b>vase</b>" in parsed.text
    assert "<s>a note</s>" in parsed.text


def test_names_that_are_no_utf8_are_shown_as_far_as_they_can_be(page: str):
    assert page.encode("utf-8")
    assert "caf\ufffd.png" in page


def test_the_page_fetches_nothing(page: str):
    parsed = Elements(page)
    for _, attributes in parsed.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            target = attributes.get(name) or ""
            assert target.startswith(("data:", "#")) or not target
    assert not re.search(r"@import|url\((?!#)", page)
    policy = next(found["content"] for found in parsed.of("meta") if "http-equiv" in found)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-")


def test_worst_queries_come_with_their_pictures_and_verdicts(page: str):
    parsed = Elements(page)
    pictures = [found["src"] or "" for found in parsed.of("img")]
    assert all(source.startswith("data:image/webp;base64,") for source in pictures)
    # Three rows have worst queries, but alpha's second row is not shown: 2 rows x 3 queries x (1 + 4 of 5 answers).
    assert len(pictures) == 2 * 3 * 5
    assert parsed.text.count("not readable") == 2 * 3
    assert len(parsed.classed("right")) == 2 * 3
    assert len(parsed.classed("wrong")) == 2 * 3 * 4
    assert parsed.text.count("✓") - parsed.text.count("and a solid frame") == 2 * 3


def test_the_rank_of_the_first_relevant_result_is_computed_from_its_reciprocal(
    awkward: BenchmarkResult, plots: tuple[Plot, ...]
):
    ranks = awkward.best.per_query["mrr"] * 0 + [1 / 37, 0.0, 1 / 1200]
    best = replace(awkward.best, per_query={**awkward.best.per_query, "mrr": ranks})
    made = rendered(replace(awkward, rows=(best, *awkward.rows[1:])), plots)
    assert "first relevant result at rank 37" in made
    assert "first relevant result at rank 1,200" in made
    assert "at rank 0" not in made


def test_best_and_tied_rows_are_marked_and_the_test_is_named(page: str):
    parsed = Elements(page)
    assert len(parsed.classed("is-best")) == 1
    assert len(parsed.classed("is-tied")) == 1
    assert "tied, p = 0.31" in parsed.text
    assert "worse, p < 0.001" in parsed.text
    assert "paired randomization test over the queries, Holm-corrected" in parsed.text
    assert "0.650 to 0.750" in parsed.text


def test_every_part_of_a_full_benchmark_is_there(page: str):
    parsed = Elements(page)
    ids = {found.get("id") for found in parsed.of("section")}
    assert ids == {"quality", "cost", "curves", "classes", "worst", "robustness", "pictures", "measured"}
    assert {(found["href"] or "")[1:] for found in parsed.of("a")} == ids
    assert "takes no part" in parsed.text
    assert "sampled from 12 with seed 7" in parsed.text
    assert len(parsed.classed("heat")) == 3 * 2 * 3
    assert "turned by 25°" in parsed.text
    assert "found first" in parsed.text
    assert "with 4 augmented views" in parsed.text
    assert "self-excluded: the query itself is removed from its own ranking" in parsed.text


def test_every_row_states_its_protocol_and_pre_processing(awkward: BenchmarkResult, plots: tuple[Plot, ...]):
    rows = [replace(found, preprocessing=f"squashed {at}", protocol="counted") for at, found in enumerate(awkward.rows)]
    made = replace(awkward, rows=tuple(rows))
    html, markdown = rendered(made, plots), render_markdown(build_view(made, len(PALETTE)), plots)
    document = made.to_dict(summary=())
    for at in range(len(rows)):
        assert f"squashed {at}" in html
        assert f"squashed {at}; protocol counted" in markdown
        assert (document["rows"][at]["preprocessing"], document["rows"][at]["protocol"]) == (
            f"squashed {at}",
            "counted",
        )


@pytest.mark.parametrize(
    "rows",
    [
        (row("alpha", 0.7),),
        (row("alpha", 0.0), row("beta", 0.0, p_value=1.0)),
        (row("alpha", 1.0), row("alpha dba", 1.0, p_value=1.0)),
    ],
    ids=["one row", "nothing found", "all perfect"],
)
def test_a_benchmark_without_the_rest_makes_a_page_without_the_rest(rows: tuple[BenchmarkRow, ...]):
    bare = benchmark(*(replace(found, per_class={}) for found in rows))
    parsed = Elements(rendered(bare, draw_plots(bare)))
    assert {found.get("id") for found in parsed.of("section")} == {"quality", "cost", "curves", "pictures", "measured"}
    assert "All images and labels are used." in parsed.text
    assert "nan" not in parsed.text.lower()
    assert len(parsed.classed("is-best")) == (len(rows) > 1)
