"""`simsearch tune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import BackboneOption, CollectionOption, JsonOption, find_collection
from simsearch.cli.output import make_table, print_json, print_line, print_summary, print_table
from simsearch.text import count

if TYPE_CHECKING:
    from simsearch.evaluation.tuning import TuningResult


def tune(
    in_: CollectionOption = None,
    backbone: BackboneOption = None,
    reranks: Annotated[
        list[str] | None,
        typer.Option("--rerank", metavar="METHOD", help="Methods to try instead of the nine defaults. Repeatable."),
    ] = None,
    sample: Annotated[int, typer.Option("--sample", metavar="N", help="Number of queries.")] = 500,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of the sample.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the table; keep the default of the collection.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare re-ranking methods on a backbone of a collection, and make the best one its default.

    Folder names serve as classes. Without classes, edited copies of images must retrieve their originals. Of the
    methods without a significant difference, and at most 3 times as slow as the fastest, the simplest one is chosen.
    `simsearch query --rerank none` searches without it.

    Example:  simsearch tune --in indexes/photos
    """
    from simsearch.evaluation.tuning import TUNED_METHODS
    from simsearch.evaluation.tuning import tune as tune_collection

    folder = find_collection(in_)
    result = tune_collection(
        folder, backbone, methods=reranks or TUNED_METHODS, n_queries=sample, seed=seed, keep=not dry_run
    )
    if as_json:
        print_json(result.to_dict() | {"kept": not dry_run})
    else:
        _print_trials(result, is_kept=not dry_run)


def _print_trials(result: TuningResult, *, is_kept: bool) -> None:
    from simsearch.evaluation.tuning import MAX_SLOWDOWN

    print_line(
        f"{result.collection}, {result.backbone}: {count(result.n_queries, 'query', 'queries')} "
        f"among {count(result.n_images, 'image')}, "
        f"judged by {result.judged_by}"
    )
    table = make_table()
    for heading in ("method", "mAP", "95 % interval", "P@1", "p", "answer ms"):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    for trial in sorted(result.trials, key=lambda trial: -trial.mean_average_precision.mean):
        score = trial.mean_average_precision
        table.add_row(
            f"{trial.method}  <- chosen" if trial.method == result.chosen else trial.method,
            f"{score.mean:.3f}", f"{score.low:.3f}-{score.high:.3f}", f"{trial.precision_at_1:.3f}",
            "" if trial.p_value is None else f"{trial.p_value:.3f}", f"{trial.answer_ms:.1f}",
            style="bold" if trial.method == result.chosen else "",
        )  # fmt: skip
    print_table(table)
    print_line("p: paired randomization test against the best, Holm-corrected. Chosen: the simplest with p >= 0.05")
    print_line(f"that takes at most {MAX_SLOWDOWN:g} times as long as the fastest of these.")
    if is_kept:
        print_summary(
            f"Queries of {result.collection} with {result.backbone} now use {result.chosen}; override it with --rerank."
        )
