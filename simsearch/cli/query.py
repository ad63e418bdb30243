"""`simsearch query`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simsearch.cli.options import (
    BackboneOption,
    CollectionOption,
    JsonOption,
    MaxMegapixelsOption,
    OfflineOption,
    WhereOption,
    find_collection,
    to_pixels,
)
from simsearch.cli.output import format_path, print_json, print_message
from simsearch.errors import SourceError, UsageError

if TYPE_CHECKING:
    from simsearch.collection import Collection
    from simsearch.search.examples import Example
    from simsearch.search.query import SearchOptions
    from simsearch.search.results import Answer
    from simsearch.sources.scan import Skip

_QUERY_PANEL, _RANKING_PANEL, _OUTPUT_PANEL = (
    "What is asked with",
    "Which answers, in which order",
    "How they are shown",
)
_EXPANSION_METHOD = "aqe"

QueryImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE",
        help="Files, addresses (https://, s3://, ...), or - for a picture on stdin. "
        "Several are averaged; 2:a.jpg counts twice.",
    ),
]
LikeOption = Annotated[
    list[str] | None,
    typer.Option("--like", metavar="IMAGE", help="The same; may be repeated.", rich_help_panel=_QUERY_PANEL),
]
UnlikeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unlike",
        metavar="IMAGE",
        help="Subtracted: what answers are not to be like; may be repeated.",
        rich_help_panel=_QUERY_PANEL,
    ),
]
IdsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--id", metavar="N", help="A stored image instead of a file; may be repeated.", rich_help_panel=_QUERY_PANEL
    ),
]
CropOption = Annotated[
    str | None,
    typer.Option(
        "--crop",
        metavar="X,Y,W,H",
        help="Ask with this part of the picture: in pixels, or in fractions if no number is above 1.",
        rich_help_panel=_QUERY_PANEL,
    ),
]
EachOption = Annotated[
    bool,
    typer.Option(
        "--each",
        help="Ask with each picture by itself, and with all in folders; --json gives a line each.",
        rich_help_panel=_QUERY_PANEL,
    ),
]
ListOption = Annotated[
    str | None,
    typer.Option(
        "--list",
        metavar="FILE",
        help="A text file of paths: one answer for each of them.",
        rich_help_panel=_QUERY_PANEL,
    ),
]
CountOption = Annotated[
    int, typer.Option("-k", metavar="N", help="How many images to find.", rich_help_panel=_RANKING_PANEL)
]
AllOption = Annotated[
    bool,
    typer.Option("--all", help="Find all, such as all above --min-similarity.", rich_help_panel=_RANKING_PANEL),
]
OffsetOption = Annotated[
    int,
    typer.Option("--offset", metavar="N", help="Leave out the first N: the next page.", rich_help_panel=_RANKING_PANEL),
]
MinSimilarityOption = Annotated[
    float,
    typer.Option(
        "--min-similarity",
        metavar="X",
        help="Leave out what is less similar, from -1 to 1.",
        rich_help_panel=_RANKING_PANEL,
    ),
]
ExcludeSelfOption = Annotated[
    bool,
    typer.Option(
        "--exclude-self", help="Leave out images with the very content of the query.", rich_help_panel=_RANKING_PANEL
    ),
]
RerankOption = Annotated[
    str | None,
    typer.Option(
        "--rerank",
        metavar="METHOD",
        help="pca, whiten, dba, aqe, k-reciprocal, with a number or without, joined by +: pca256+dba5. Ranks by the "
        "cosine in the space so made; k-reciprocal changes the order alone. none: not even the collection's default.",
        rich_help_panel=_RANKING_PANEL,
    ),
]
ExpandOption = Annotated[
    bool,
    typer.Option(
        "--expand",
        help="Ask again with the query moved towards its five nearest (alpha-QE); --rerank aqe10: ten.",
        rich_help_panel=_RANKING_PANEL,
    ),
]
MovedWeightsOption = Annotated[
    str | None,
    typer.Option("--weights", metavar="PATH", help="Where the weights lie now, if they were moved."),
]
SheetOption = Annotated[
    str | None,
    typer.Option(
        "--sheet",
        metavar="FILE",
        help="Draw query and hits into a picture, such as out.png.",
        rich_help_panel=_OUTPUT_PANEL,
    ),
]
OpenOption = Annotated[bool, typer.Option("--open", help="Show that picture.", rich_help_panel=_OUTPUT_PANEL)]


def query(
    images: QueryImagesArgument = None,
    like: LikeOption = None,
    unlike: UnlikeOption = None,
    ids: IdsOption = None,
    crop: CropOption = None,
    each: EachOption = False,
    list_file: ListOption = None,
    in_: CollectionOption = None,
    backbone: BackboneOption = None,
    k: CountOption = 10,
    all_: AllOption = False,
    offset: OffsetOption = 0,
    min_similarity: MinSimilarityOption = -1.0,
    exclude_self: ExcludeSelfOption = False,
    where: WhereOption = None,
    rerank: RerankOption = None,
    expand: ExpandOption = False,
    weights: MovedWeightsOption = None,
    sheet: SheetOption = None,
    show: OpenOption = False,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the images most similar to a picture, by cosine similarity from -1 to 1.

    Example:  simsearch query vase.jpg -k 5 --sheet hits.png
    """
    from simsearch.collection import Collection
    from simsearch.models.weights import WeightsOptions
    from simsearch.search.query_vectors import refuse_network

    named = [*(images or []), *(like or [])]
    if each or list_file is not None:
        has_others = bool(unlike or ids or crop or sheet or show or (each and list_file))
        _check_batch_options("--each" if each else "--list", named, has_others=has_others)
    with Collection.open(find_collection(in_)) as collection:
        if expand:
            base = collection.default_rerank if rerank is None else rerank
            rerank = _EXPANSION_METHOD if base == "none" else f"{base}+{_EXPANSION_METHOD}"
        options: SearchOptions = {
            "k": None if all_ else k,
            "offset": offset,
            "min_similarity": min_similarity,
            "exclude_self": exclude_self,
            "where": where,
            "rerank": rerank,
            "backbone": backbone,
            "weights": WeightsOptions(weights, offline),
            "max_pixels": to_pixels(megapixels),
        }
        if each:
            _search_each(collection, named, options, as_json=as_json)
        elif list_file is not None:
            _search_list(collection, _read_list(list_file), options, as_json=as_json)
        else:
            examples = _build_examples(named, unlike or [], ids or [], crop)
            if (sheet or show) and not offline:
                examples = [_fetch_example(example) for example in examples]
            answer = collection.search(examples, **options)
            if sheet or show:
                if offline:
                    refuse_network(hit.path for hit in answer.hits)
                _draw_sheet(collection, examples, answer, sheet, show)
            _print_notes([answer])
            if as_json:
                print_json(answer.to_dict())
            else:
                _print_answer(answer)


def _check_batch_options(flag: str, named: Sequence[str], *, has_others: bool) -> None:
    """Refuse what makes no sense where many pictures are asked with, each by itself."""
    if flag == "--list" and named:
        raise UsageError("--list comes with pictures of its own", "name either the list or the pictures")
    if has_others:
        advice = f"give {flag} without other pictures, --crop, --sheet or --open"
        raise UsageError(f"{flag} asks with whole pictures by themselves", advice)


def _build_examples(
    likes: Sequence[str], unlikes: Sequence[str], ids: Sequence[str], crop: str | None
) -> list[Example]:
    """What is asked with, in the order given: files first, then stored images, then what answers are to be unlike."""
    from simsearch.search.examples import Crop, Example

    examples = [_parse_example(text) for text in likes]
    for text in ids:
        parsed = Example.parse(text)
        if not str(parsed.picture).isdecimal():
            raise UsageError(f"--id {text} is no id of a stored image", "answers show the ids: numbers from 1")
        examples.append(Example(int(str(parsed.picture)), parsed.weight))
    if crop is not None:
        if len(examples) != 1:
            raise UsageError(f"--crop is a part of one picture, not of {len(examples)}", "name one to ask with")
        examples = [replace(examples[0], crop=Crop.parse(crop))]
    negative = [_parse_example(text) for text in unlikes]
    return [*examples, *(replace(example, weight=-example.weight) for example in negative)]


def _parse_example(text: str) -> Example:
    """A file, a URL, or what comes on stdin."""
    from simsearch.search.examples import Example

    example = Example.parse(text)
    if example.picture == "-":
        return replace(example, picture=sys.stdin.buffer.read(), name="-")
    if isinstance(example.picture, str) and os.path.isdir(example.picture):
        raise UsageError(f"{example.picture} is a folder", "--each asks with every picture in it")
    return example


def _fetch_example(example: Example) -> Example:
    """The example with what is at its URL, which is wanted twice: to ask with and to draw."""
    from simsearch.sources.addresses import is_url
    from simsearch.sources.web import fetch

    if isinstance(example.picture, str) and is_url(example.picture):
        return replace(example, picture=fetch(example.picture), name=str(example))
    return example


def _search_each(collection: Collection, named: Sequence[str], options: SearchOptions, *, as_json: bool) -> None:
    """An answer to each picture, as they come; one that cannot be read is told in its place and stops nothing."""
    if not named:
        raise UsageError("there is nothing to ask", "name pictures, or folders of them")
    n_answers = n_skips = 0
    for found in collection.search_each(named, **options):
        if (answer := _as_answer(found)) is None:
            n_skips += 1
        else:
            n_answers += 1
        if as_json:
            typer.echo(json.dumps(_build_batch_item(found)))
        elif answer is not None:
            _print_answer(answer)
        else:
            print_message(f"  skipped {_build_batch_item(found)['query'][0]}: {_build_batch_item(found)['error']}")
    if not n_answers:
        problem = "none of the pictures could be read" if n_skips else f"there is no picture in {', '.join(named)}"
        raise SourceError(named[0], problem, "check the paths")


def _as_answer(found: Answer | Skip) -> Answer | None:
    from simsearch.search.results import Answer

    return found if isinstance(found, Answer) else None


def _build_batch_item(found: Answer | Skip) -> dict[str, Any]:
    from simsearch.search.results import Answer

    return found.to_dict() if isinstance(found, Answer) else {"query": [found.path], "error": found.reason}


def _search_list(collection: Collection, paths: Sequence[str], options: SearchOptions, *, as_json: bool) -> None:
    answers = [collection.search(path, **options) for path in paths]
    _print_notes(answers)
    if as_json:
        print_json({"answers": [answer.to_dict() for answer in answers]})
    else:
        for answer in answers:
            _print_answer(answer)


def _print_notes(answers: Iterable[Answer]) -> None:
    for note in dict.fromkeys(note for answer in answers for note in answer.notes):
        print_message(f"simsearch: {note}")


def _read_list(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise SourceError(path, f"{path} cannot be read ({error.strerror})", "check the path") from error
    return [os.fsdecode(line) for line in lines if line.strip()]


def _draw_sheet(
    collection: Collection, examples: Sequence[Example], answer: Answer, sheet: str | None, show: bool
) -> None:
    from simsearch.report.drawing.contact_sheet import draw_contact_sheet

    with tempfile.TemporaryDirectory(prefix="simsearch-") as folder:
        liked = [example for example in examples if example.weight > 0] or list(examples)
        file = sheet or os.path.join(tempfile.mkdtemp(prefix="simsearch-"), "hits.png")
        draw_contact_sheet(collection.files_of(liked, folder), answer.hits, answer.backbone, file)
    if show:
        typer.launch(file)


def _print_answer(answer: Answer) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = ", ".join(format_path(name) for name in answer.queries)
    console = Console()
    if not answer.hits:
        console.print(Text(f"{names}: nothing as similar as that"))
        return
    how = answer.backbone if answer.rerank == "none" else f"{answer.backbone}, {answer.rerank}"
    table = Table(title=Text(f"{names}  ({how})"), title_justify="left", box=None, pad_edge=False)
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
            Text(format_path(hit.path) + copies + view),
        )
    console.print(table)
