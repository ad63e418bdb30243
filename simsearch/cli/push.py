"""`simsearch push`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import CollectionOption, JsonOption, MilvusUriOption, StoreOption, find_collection
from simsearch.cli.output import ProgressBar, format_path, print_json, print_message, print_summary

if TYPE_CHECKING:
    from simsearch.index.milvus.migrate import PushReport


def push(
    in_: CollectionOption = None,
    store: StoreOption = None,
    milvus_uri: MilvusUriOption = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Delete the collection's vectors from the Milvus that it leaves.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy the vectors of a collection to Milvus and search them there from now on; --store faiss moves back.

    The catalog stays in the folder, and every command works as before. An interrupted push resumes when the same
    command is run again. Without a URI, the Milvus of the collection is compared row by row and repaired.

    Example:  simsearch push --in indexes/photos --milvus-uri http://localhost:19530

    Example:  simsearch push --in indexes/photos --store faiss --drop
    """
    from simsearch.collection import Collection
    from simsearch.index.milvus.config import StoreChoice

    choice = StoreChoice.from_options(store, milvus_uri)
    folder = find_collection(in_)
    try:
        with Collection.open(folder) as collection, ProgressBar("pushing", "vectors") as bar:
            report = collection.push(choice, drops=drop, progress=bar.show)
    except KeyboardInterrupt:
        print_message(f"simsearch: stopped; {folder} is searched in the same store as before, the same command resumes")
        raise typer.Exit(130) from None
    if as_json:
        print_json(report.to_dict())
    else:
        _print_report(report)


def _print_report(report: PushReport) -> None:
    place = "FAISS files in its folder" if report.uri is None else f"Milvus at {format_path(report.uri)}"
    print_summary(f"{report.collection}: {report.n_vectors:,} vectors, searched in {place} ({report.elapsed_s:.1f} s)")
