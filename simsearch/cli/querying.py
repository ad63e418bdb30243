"""`simsearch query`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simsearch.cli.terminal import (
    AsJson,
    Backbone,
    In,
    MaxMegapixels,
    chosen_collection,
    max_pixels,
    print_json,
    shown_path,
    tell,
)
from simsearch.errors import SourceError, UsageError

if TYPE_CHECKING:
    from simsearch.collection import Answer


def query(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE", help="One picture, or several that are averaged."),
    ] = None,
    in_: In = None,
    backbone: Backbone = None,
    ids: Annotated[
        list[int] | None,
        typer.Option("--id", metavar="N", help="A stored image instead of a file; may be repeated."),
    ] = None,
    list_file: Annotated[
        str | None,
        typer.Option("--list", metavar="FILE", help="A text file of paths: one answer for each of them."),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many images to find.")] = 10,
    min_similarity: Annotated[
        float,
        typer.Option("--min-similarity", metavar="X", help="Leave out what is less similar, from -1 to 1."),
    ] = -1.0,
    exclude_self: Annotated[
        bool, typer.Option("--exclude-self", help="Leave out images with the very content of the query.")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="PATH", help="Where the weights lie now, if they were moved."),
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option("--sheet", metavar="FILE", help="Draw query and hits into a picture, such as out.png."),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Show that picture.")] = False,
    megapixels: MaxMegapixels = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download weights.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find the images most similar to a picture, by cosine similarity from -1 to 1.

    Example:  simsearch query vase.jpg -k 5 --sheet hits.png
    """
    from simsearch.collection import Collection, WeightsOrder

    asked: list[list[str | int]] = [[*(images or []), *(ids or [])]]
    if list_file is not None:
        if asked[0]:
            raise UsageError("--list comes with pictures of its own", "name either the list or the pictures")
        asked = [[path] for path in _read_list(list_file)]
    if sheet and len(asked) > 1:
        raise UsageError("--sheet draws one answer", "ask with one picture at a time")
    with Collection.open(chosen_collection(in_)) as collection:
        answers = [
            collection.search(
                queries,
                k=k,
                backbone=backbone,
                min_similarity=min_similarity,
                exclude_self=exclude_self,
                weights=WeightsOrder(weights, offline),
                max_pixels=max_pixels(megapixels),
            )
            for queries in asked
        ]
        if sheet or show:
            _draw(collection.paths_of(asked[0]), answers[0], sheet, show)
    for note in dict.fromkeys(note for answer in answers for note in answer.notes):
        tell(f"simsearch: {note}")
    if as_json:
        documents = [_document(answer) for answer in answers]
        print_json(documents[0] if list_file is None else {"answers": documents})
    else:
        for answer in answers:
            _print(answer)


def _read_list(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise SourceError(path, f"{path} cannot be read ({error.strerror})", "check the path") from error
    return [os.fsdecode(line) for line in lines if line.strip()]


def _draw(query_paths: list[str], answer: Answer, sheet: str | None, show: bool) -> None:
    import tempfile

    from simsearch.report.sheet import draw_sheet

    file = sheet or os.path.join(tempfile.mkdtemp(prefix="simsearch-"), "hits.png")
    draw_sheet(query_paths, answer.hits, answer.backbone, file)
    if show:
        typer.launch(file)


def _document(answer: Answer) -> dict[str, Any]:
    return {
        "query": list(answer.queries),
        "backbone": answer.backbone,
        "model": answer.model,
        "hits": [
            {
                "rank": hit.rank,
                "similarity": hit.similarity,
                "image_id": hit.image_id,
                "path": hit.path,
                "paths": list(hit.paths),
                "view": {"kind": hit.view.kind, **hit.view.parameters},
            }
            for hit in answer.hits
        ],
        "milliseconds": {stage: round(value, 2) for stage, value in answer.milliseconds.items()},
    }


def _print(answer: Answer) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = ", ".join(shown_path(name) for name in answer.queries)
    console = Console()
    if not answer.hits:
        console.print(Text(f"{names}: nothing as similar as that"))
        return
    table = Table(title=Text(f"{names}  ({answer.backbone})"), title_justify="left", box=None, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("similarity", justify="right")
    table.add_column("id", justify="right")
    table.add_column("image", overflow="fold")
    for hit in answer.hits:
        copies = f"  (and {len(hit.paths) - 1} more)" if len(hit.paths) > 1 else ""
        view = "" if hit.view.kind == "original" else f"  ({hit.view.kind}: {hit.view.description})"
        table.add_row(
            str(hit.rank),
            f"{hit.similarity:.4f}",
            str(hit.image_id),
            Text(shown_path(hit.path) + copies + view),
        )
    console.print(table)
