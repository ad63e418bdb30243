"""`simsearch benchmark`."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import JsonOption, MaxMegapixelsOption, derive_collection_folder, to_pixels
from simsearch.cli.output import ProgressBar, format_path, print_json, print_message

if TYPE_CHECKING:
    from simsearch.evaluation.results import BenchmarkResult


def benchmark(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder of pictures, a folder for each class.")],
    backbones: Annotated[
        list[str] | None,
        typer.Option(
            "--backbone",
            metavar="NAME|FILE",
            help="What to compare; may be repeated. Default: the baseline, builtin, and all whose weights are here.",
        ),
    ] = None,
    precisions: Annotated[
        list[str] | None, typer.Option("--precision", help="auto, f32, bf16 or int8; may be repeated.")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="NAME", help="Layers instead of the default; may be repeated."),
    ] = None,
    poolings: Annotated[list[str] | None, typer.Option("--pooling", help="avg, max, gem; may be repeated.")] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="PATH", help="A weights file, for a single backbone.")
    ] = None,
    reranks: Annotated[
        list[str] | None,
        typer.Option(
            "--rerank",
            metavar="METHOD",
            help="none, pca, whiten, dba, aqe, k-reciprocal, joined by +; may be repeated. "
            "Default: none, pca, pca+dba, pca+dba+aqe.",
        ),
    ] = None,
    augments: Annotated[
        list[int] | None,
        typer.Option("--augment", metavar="N", help="Augmented views of every image in the index; may be repeated."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="FILE", help="Labels, or lists of answers, from CSV or JSON; see the README."),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option("--group-by", metavar="REGEX", help="What it finds in a path is the label; else folders are."),
    ] = None,
    queries: Annotated[
        str | None, typer.Option("--queries", metavar="DIR", help="Ask with the pictures of this folder only.")
    ] = None,
    protocol: Annotated[str, typer.Option("--protocol", help="leave-one-out or ukbench.")] = "leave-one-out",
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", help="Ask with N of the queries, drawn at random.")
    ] = None,
    robustness: Annotated[
        int, typer.Option("--robustness", metavar="N", help="Change N images in every way; 0 leaves that out.")
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", help="For samples, intervals and tests.")] = 0,
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="DIR", help="The collection to keep vectors in; default: indexes/<name>."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Write report.html, .md, .json, plots and scores here.")
    ] = None,
    megapixels: MaxMegapixelsOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download weights.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure which backbone retrieves best on your own pictures, and what it costs.

    Every combination of backbone, precision, layer, pooling, augmentation and re-ranking is a row. What the
    collection has embedded is used, what is missing is embedded once and stays there.

    Example:  simsearch benchmark ~/photos-by-class --backbone builtin --backbone resnet50 --out report
    """
    from simsearch.evaluation.benchmark import run_benchmark as measure
    from simsearch.evaluation.spec import (
        DEFAULT_METHODS,
        BenchmarkCallbacks,
        BenchmarkSpec,
        LabelSource,
        RerankMethod,
        combine_choices,
        list_default_backbones,
    )
    from simsearch.report.benchmark.writer import prepare_folder

    choices = combine_choices(
        backbones or list_default_backbones(), precisions or ["auto"], layers or [None], poolings or [None],
        weights=weights, offline=offline,
    )  # fmt: skip
    question = BenchmarkSpec(
        source=source,
        collection_folder=into or derive_collection_folder(source),
        choices=choices,
        label_source=LabelSource(pattern=group_by, file=labels, queries=queries, protocol=protocol),
        view_counts=tuple(augments or [0]),
        methods=tuple(dict.fromkeys(RerankMethod.parse(text) for text in reranks or DEFAULT_METHODS)),
        n_queries=sample,
        n_robustness=robustness,
        seed=seed,
        max_pixels=to_pixels(megapixels),
        command=shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]]),
    )
    if out is not None:
        prepare_folder(out)
    try:
        with ProgressBar() as bar:
            found = measure(question, BenchmarkCallbacks(_print_stage, bar))
    except KeyboardInterrupt:
        print_message(
            f"simsearch: stopped; what was embedded is safe in {question.collection_folder}, "
            "the same command goes on from there"
        )
        raise typer.Exit(130) from None
    for note in found.notes:
        print_message(f"simsearch: {note}")
    _report_benchmark(found, out, as_json=as_json)


def _print_stage(stage: str) -> None:
    if sys.stderr.isatty():
        print_message(f"simsearch: {stage}")


def _report_benchmark(found: BenchmarkResult, out: str | None, *, as_json: bool) -> None:
    from simsearch.report.benchmark.findings import summarize_benchmark
    from simsearch.report.benchmark.writer import write_report

    written = None if out is None else write_report(found, out)
    if as_json:
        print_json(found.to_dict(summary=summarize_benchmark(found)))
        return
    from rich.console import Console

    from simsearch.report.benchmark.terminal import build_terminal_table

    facts = found.dataset
    typer.echo(
        f"{format_path(facts.source)}: {facts.n_images:,} images, {facts.n_queries:,} queries, "
        f"{facts.n_classes:,} classes ({facts.protocol}, labels from {facts.labels})"
    )
    for exclusion in facts.exclusions:
        typer.echo(f"  {exclusion.count:,}: {exclusion.rule}, such as {format_path(exclusion.examples[0])}")
    console = Console()
    console.print(build_terminal_table(found, console.width))
    for sentence in summarize_benchmark(found):
        typer.echo(sentence)
    typer.echo(f"Report: {written.page}" if written else "Write the whole report with --out DIR.")
