"""`simsearch push`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import CollectionOption, JsonOption, MilvusUriOption, StoreOption, find_collection
from simsearch.cli.output import ProgressBar, format_path, print_json, print_message

if TYPE_CHECKING:
    from simsearch.index.milvus.migrate import PushReport


def push(
    in_: CollectionOption = None,
    store: StoreOption = None,
    milvus_uri: MilvusUriOption = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Delete what the Milvus that is left has of the collection.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a collection's vectors to Milvus, and search it there from then on; --store faiss moves it back.

    The catalog stays where it is, and every command works as before. A push that is stopped, or killed, goes on where
    it was when the same command is given again. Without a URI the Milvus of the collection is compared row by row,
    and put right.

    Example:  simsearch push --in indexes/photos --milvus-uri http://localhost:19530

    Example:  simsearch push --in indexes/photos --store faiss --drop
    """
    from simsearch.collection import Collection
    from simsearch.index.milvus.config import StoreChoice

    choice = StoreChoice.from_options(store, milvus_uri)
    folder = find_collection(in_)
    try:
        with Collection.open(folder) as collection, ProgressBar("pushing", "vectors") as bar:
            done = collection.push(choice, drops=drop, progress=bar.show)
    except KeyboardInterrupt:
        print_message(f"simsearch: stopped; {folder} is searched where it was, the same command goes on from there")
        raise typer.Exit(130) from None
    if as_json:
        print_json(_build_document(done))
    else:
        _print_result(done)


def _build_document(done: PushReport) -> dict[str, object]:
    return {
        "collection": done.collection,
        "store": "faiss" if done.uri is None else "milvus",
        "uri": done.uri,
        "models": [{"model": model, "vectors": n} for model, n in done.vectors.items()],
        "vectors": done.n_vectors,
        "seconds": round(done.elapsed_s, 3),
    }


def _print_result(done: PushReport) -> None:
    place = "FAISS files in its folder" if done.uri is None else f"Milvus at {format_path(done.uri)}"
    typer.echo(f"{done.collection}: {done.n_vectors:,} vectors, searched in {place} ({done.elapsed_s:.1f} s)")
