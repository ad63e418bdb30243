"""`simsearch benchmark`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from simsearch.cli.options import (
    JsonOption,
    MaxMegapixelsOption,
    OfflineWeightsOption,
    PoolingName,
    PrecisionName,
    derive_collection_folder,
    to_pixels,
)
from simsearch.cli.output import (
    ProgressBar,
    format_command_line,
    format_path,
    print_json,
    print_line,
    print_message,
    print_notes,
    print_summary,
    print_table,
)

if TYPE_CHECKING:
    from simsearch.evaluation.improvements import LearningComparison
    from simsearch.evaluation.results import BenchmarkResult, TextScores
    from simsearch.evaluation.spec import BenchmarkSpec

ProtocolName = Literal["self-excluded", "counted", "skip-first", "ukbench", "leave-one-out"]

# Typer accepts no list of Literal: these two options state their choices themselves, and the library checks them.
_ALL_COLUMNS = 10_000
"""A width at which no column of the table is left out."""
_PRECISIONS, _POOLINGS = get_args(PrecisionName), get_args(PoolingName)


def _complete_precisions() -> tuple[str, ...]:
    return _PRECISIONS


def _complete_poolings() -> tuple[str, ...]:
    return _POOLINGS


def benchmark(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of images, one subfolder per class; or the Parquet tables of an MTEB data set.",
        ),
    ],
    backbones: Annotated[
        list[str] | None,
        typer.Option(
            "--backbone",
            metavar="NAME|FILE",
            help="Backbones to compare: repeatable, or with commas. Default: histogram (the baseline), builtin, and "
            "all with weights on this machine.",
        ),
    ] = None,
    precisions: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            metavar=f"<{'|'.join(_PRECISIONS)}>",
            help="Numeric precisions. Repeatable. Default: auto.",
            autocompletion=_complete_precisions,
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="NAME", help="Layers instead of the feature layer. Repeatable."),
    ] = None,
    poolings: Annotated[
        list[str] | None,
        typer.Option(
            "--pooling",
            metavar=f"<{'|'.join(_POOLINGS)}>",
            help="Poolings. Repeatable. Default: by backbone.",
            autocompletion=_complete_poolings,
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="PATH", help="A weights file, with a single backbone.")
    ] = None,
    reranks: Annotated[
        list[str] | None,
        typer.Option(
            "--rerank",
            metavar="METHOD",
            help="Re-ranking methods: none, or pca, whiten, dba, aqe, k-reciprocal joined by +. Repeatable. "
            "Default: none, pca, pca+dba, pca+dba+aqe.",
        ),
    ] = None,
    augments: Annotated[
        list[int] | None,
        typer.Option("--augment", metavar="N", help="Numbers of augmented views per indexed image. Repeatable."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="Labels, or relevant images per query: CSV or JSON, a table of OpenMetricLearning, or qrels of TREC "
            "or MTEB.",
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option("--group-by", metavar="REGEX", help="The match in the path is the label. Default: the folder."),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            metavar="NAME",
            help="SOURCE is a collection: measure its stored vectors, with a column of yours as labels.",
        ),
    ] = None,
    queries: Annotated[
        str | None, typer.Option("--queries", metavar="DIR", help="Use only the images of this folder as queries.")
    ] = None,
    protocol: Annotated[
        ProtocolName,
        typer.Option(
            "--protocol",
            help="What happens to the query itself: it is left out of its ranking (self-excluded; leave-one-out is an "
            "older name), it counts as an answer (counted, as in GPR1200), or the first result is dropped (skip-first, "
            "as in MIEB). ukbench: every four files are one object.",
        ),
    ] = "self-excluded",
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="The metric that ranks and compares the rows: mAP, P@1, hit@10, recall@10, MAP@R, R-precision, "
            "nDCG@10, MRR, mAP@k, map_min@k (mAP@k divided by min(k, relevant)). Repeatable: further ones are "
            "computed, too. Default: mAP.",
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", help="Use a random sample of N queries.")
    ] = None,
    robustness: Annotated[
        int, typer.Option("--robustness", metavar="N", help="Measure robustness with edits of N images; 0: do not.")
    ] = 100,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="labels|FILE",
            help="Measure text queries too: the labels as texts, or a CSV file with the columns text and path.",
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", metavar="TEMPLATE", help="A template for the texts: 'a photo of a {}'. Repeatable."),
    ] = None,
    fuse: Annotated[
        bool,
        typer.Option("--fuse", help="Try every pair of the backbones joined, and report the gain and the cost."),
    ] = False,
    learn: Annotated[
        bool,
        typer.Option(
            "--learn",
            help="Compare re-ranking with `simsearch learn`, on images and classes that were held out from learning.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of samples, intervals and tests.")] = 0,
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="DIR", help="The collection that keeps the vectors. Default: indexes/<name>."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="Write report.html, .md, .json, plots and scores to this folder."),
    ] = None,
    trec: Annotated[
        str | None,
        typer.Option(
            "--trec",
            metavar="DIR",
            help="Write qrels.txt and a run for each row to this folder, for trec_eval, ranx or ir_measures.",
        ),
    ] = None,
    trec_depth: Annotated[
        int, typer.Option("--trec-depth", metavar="N", help="The ranks of each query in a run; 0: all.")
    ] = 1000,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineWeightsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure which backbone retrieves best on your own images, and its cost.

    Every combination of backbone, precision, layer, pooling, augmentation and re-ranking is one row. Vectors that the
    collection has are used again; missing ones are computed once and kept.

    With --column the source is a collection: its stored vectors are measured, imported ones too, and nothing is read.

    Example:  simsearch benchmark ~/photos-by-class --backbone builtin --backbone resnet50 --out report
    """
    from simsearch.evaluation.benchmark import run_benchmark
    from simsearch.evaluation.metric_names import parse_metric
    from simsearch.evaluation.spec import (
        DEFAULT_METHODS,
        BenchmarkCallbacks,
        BenchmarkSpec,
        LabelSource,
        combine_choices,
        list_default_backbones,
    )
    from simsearch.rerank.method import RerankMethod

    if column is not None:
        _prepare_outputs(out, trec, is_stored=True)
        result = _benchmark_stored(
            source, column, backbones or [], reranks or ["none"], list(map(parse_metric, metrics or ())), sample, seed
        )
        print_notes(result.notes)
        _report_result(result, out, None, as_json=as_json)
        return
    choices = combine_choices(
        _split_names(backbones or ()) or list_default_backbones(), precisions or ["auto"], layers or [None],
        poolings or [None], weights=weights, offline=offline,
    )  # fmt: skip
    spec = BenchmarkSpec(
        source=source,
        collection_folder=into or derive_collection_folder(source),
        choices=choices,
        label_source=LabelSource(pattern=group_by, file=labels, queries=queries, protocol=protocol),
        view_counts=tuple(augments or [0]),
        methods=tuple(dict.fromkeys(RerankMethod.parse(text) for text in reranks or DEFAULT_METHODS)),
        n_queries=sample,
        n_robustness=robustness,
        metrics=tuple(dict.fromkeys(map(parse_metric, metrics or ()))),
        text=text,
        prompts=tuple(prompt or ()),
        fuses=fuse,
        trec_folder=trec,
        trec_depth=trec_depth,
        seed=seed,
        max_pixels=to_pixels(megapixels),
        command=format_command_line(),
    )
    _prepare_outputs(out, trec)
    try:
        with ProgressBar() as bar:
            result = run_benchmark(spec, BenchmarkCallbacks(_print_stage, bar), _prepare_learning(spec, learn))
    except KeyboardInterrupt:
        print_message(
            f"simsearch: stopped; {spec.collection_folder} keeps what was embedded, and the same command resumes"
        )
        raise typer.Exit(130) from None
    print_notes(result.notes)
    _report_result(result, out, trec, as_json=as_json)


def _prepare_outputs(out: str | None, trec: str | None, *, is_stored: bool = False) -> None:
    """Create the folders of the outputs before anything is measured."""
    from simsearch.errors import UsageError
    from simsearch.evaluation.trec import prepare_trec_folder
    from simsearch.report.benchmark.writer import prepare_folder

    if is_stored and trec is not None:
        raise UsageError("--trec is for pictures, not for stored vectors", "leave it out")
    if out is not None:
        prepare_folder(out)
    if trec is not None:
        prepare_trec_folder(trec)


def _prepare_learning(spec: BenchmarkSpec, is_wanted: bool) -> LearningComparison | None:
    if not is_wanted:
        return None
    from functools import partial

    from simsearch.learn.comparison import compare_learning

    return partial(compare_learning, methods=spec.methods, metric=spec.main_metric, seed=spec.seed)


def _benchmark_stored(
    source: str, column: str, backbones: Sequence[str], reranks: Sequence[str], metrics: Sequence[str],
    sample: int | None, seed: int,
) -> BenchmarkResult:  # fmt: skip
    """Measure the stored vectors of the collection in the folder `source`."""
    from simsearch.api import benchmark as measure
    from simsearch.collection import Collection
    from simsearch.evaluation.stored_benchmark import DEFAULT_QUERIES

    with Collection.open(source) as collection:
        return measure(
            collection, backbones or None, labels=column, rerank=reranks, on_stage=_print_stage,
            metrics=tuple(dict.fromkeys(metrics)), n_queries=DEFAULT_QUERIES if sample is None else sample, seed=seed,
            command=format_command_line(),
        )  # fmt: skip


def _split_names(values: Sequence[str]) -> list[str]:
    """Split names that are joined by commas; a file may have commas in its name."""
    names = [name for value in values for name in ([value] if os.path.exists(value) else value.split(","))]
    return [name for name in names if name]


def _print_stage(stage: str) -> None:
    if sys.stderr.isatty():
        print_message(f"simsearch: {stage}")


def _report_result(result: BenchmarkResult, out: str | None, trec: str | None, *, as_json: bool) -> None:
    """Write the report to `out`, if given, and print the result."""
    from simsearch.report.benchmark.findings import summarize_benchmark
    from simsearch.report.benchmark.writer import write_report

    written = None if out is None else write_report(result, out)
    if as_json:
        print_json(result.to_dict(summary=summarize_benchmark(result)))
        return
    from rich.console import Console

    from simsearch.report.benchmark.terminal import build_improvement_tables, build_terminal_table

    dataset = result.dataset
    print_line(
        f"{format_path(dataset.source)}: {dataset.n_images:,} images, {dataset.n_queries:,} queries, "
        f"{dataset.n_classes:,} classes ({dataset.protocol}; {dataset.task}; labels from {dataset.labels})"
    )
    for exclusion in dataset.exclusions:
        print_line(f"  {exclusion.rule}: {exclusion.count:,}, such as {format_path(exclusion.examples[0])}")
    is_terminal = sys.stdout.isatty()
    width = Console().width if is_terminal else _ALL_COLUMNS
    for table in (build_terminal_table(result, width), *build_improvement_tables(result)):
        if is_terminal:
            Console().print(table)
        else:
            print_table(table)
    for scores in result.texts:
        print_line(_describe_text_scores(scores))
    for sentence in summarize_benchmark(result):
        print_line(sentence)
    print_summary(f"Report: {written.page}" if written else "Write the full report with --out DIR.")
    if trec is not None:
        print_summary(f"qrels and runs of TREC: {format_path(trec)}")


def _describe_text_scores(scores: TextScores) -> str:
    from simsearch.report.format import format_metric, format_score

    values = ", ".join(f"{format_metric(name)} {format_score(value)}" for name, value in scores.scores.items())
    unknown = f"; {len(scores.unknown):,} unknown texts are left out" if scores.unknown else ""
    return f"{scores.n_texts:,} text queries with {scores.model}: {values}{unknown}"
