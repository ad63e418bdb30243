"""`simsearch query`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import (
    BackboneOption,
    CollectionOption,
    JsonOption,
    MaxMegapixelsOption,
    MovedWeightsOption,
    NulOption,
    OfflineOption,
    WhereOption,
    find_collection,
    to_pixels,
)
from simsearch.cli.output import (
    format_path,
    make_table,
    print_json,
    print_line,
    print_message,
    print_missing_pictures,
    print_notes,
    print_paths,
    print_table,
)
from simsearch.errors import SourceError, UsageError

if TYPE_CHECKING:
    from simsearch.collection import Collection
    from simsearch.search.examples import AnyExample, Example, QueryVector
    from simsearch.search.query import SearchOptions
    from simsearch.search.results import Answer, Hit

_QUERY_PANEL, _RANKING_PANEL, _OUTPUT_PANEL = "Query", "Ranking", "Output"
_EXPANSION_METHOD, _VERIFICATION_METHOD = "aqe", "geometric"

QueryImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE",
        help="Files, addresses (https://, s3://, ...), or - for an image on stdin. Several are averaged; 2:a.jpg has "
        "weight 2.",
    ),
]
LikeOption = Annotated[
    list[str] | None,
    typer.Option("--like", metavar="IMAGE", help="The same as IMAGE. Repeatable.", rich_help_panel=_QUERY_PANEL),
]
UnlikeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unlike",
        metavar="IMAGE",
        help="A negative example: its vector is subtracted. Repeatable.",
        rich_help_panel=_QUERY_PANEL,
    ),
]
TextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        metavar="TEXT",
        help="What the hits should show: words with an ImageNet network, any text with a model that has a text tower. "
        "2:lamp has weight 2. Repeatable, also together with images.",
        rich_help_panel=_QUERY_PANEL,
    ),
]
UnlikeTextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unlike-text",
        metavar="TEXT",
        help="What the hits should not show: its vector is subtracted. Repeatable.",
        rich_help_panel=_QUERY_PANEL,
    ),
]
PromptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        metavar="TEMPLATE",
        help="A template for the texts, such as 'a photo of a {}', for a model that has a text tower. Repeatable: the "
        "vectors are averaged.",
        rich_help_panel=_QUERY_PANEL,
    ),
]
IdsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--id", metavar="N", help="An image of the collection, by its id. Repeatable.", rich_help_panel=_QUERY_PANEL
    ),
]
CropOption = Annotated[
    str | None,
    typer.Option(
        "--crop",
        metavar="X,Y,W,H",
        help="Search with this part of the image: in pixels, or in fractions if no number is above 1.",
        rich_help_panel=_QUERY_PANEL,
    ),
]
EachOption = Annotated[
    bool,
    typer.Option(
        "--each",
        help="Search with every image separately; folders stand for all their images. --json prints one line each.",
        rich_help_panel=_QUERY_PANEL,
    ),
]
ListOption = Annotated[
    str | None,
    typer.Option(
        "--list",
        metavar="FILE",
        help="Search with every image of a text file with one path per line.",
        rich_help_panel=_QUERY_PANEL,
    ),
]
CountOption = Annotated[int, typer.Option("-k", metavar="N", help="Number of hits.", rich_help_panel=_RANKING_PANEL)]
AllOption = Annotated[
    bool,
    typer.Option("--all", help="Return all hits, for example above --min-similarity.", rich_help_panel=_RANKING_PANEL),
]
OffsetOption = Annotated[
    int,
    typer.Option("--offset", metavar="N", help="Skip the first N hits (next page).", rich_help_panel=_RANKING_PANEL),
]
MinSimilarityOption = Annotated[
    float,
    typer.Option(
        "--min-similarity",
        metavar="X",
        help="Leave out hits below this cosine similarity, from -1 to 1.",
        rich_help_panel=_RANKING_PANEL,
    ),
]
MinProbabilityOption = Annotated[
    float | None,
    typer.Option(
        "--min-probability",
        metavar="P",
        help="Leave out hits below this probability, from 0 to 1. Needs `simsearch calibrate`.",
        rich_help_panel=_RANKING_PANEL,
    ),
]
ExcludeSelfOption = Annotated[
    bool,
    typer.Option(
        "--exclude-self", help="Leave out images with the same content as the query.", rich_help_panel=_RANKING_PANEL
    ),
]
RerankOption = Annotated[
    str | None,
    typer.Option(
        "--rerank",
        metavar="METHOD",
        help="Re-ranking steps joined by +, each with an optional number, such as pca256+dba5: pca, whiten, dba, aqe, "
        "k-reciprocal, feedback, geometric. Similarities are cosines in the new space; the last three change only the "
        "order. none: without. Default: the method of the collection, and feedback with three examples for and three "
        "against.",
        rich_help_panel=_RANKING_PANEL,
    ),
]
ExpandOption = Annotated[
    bool,
    typer.Option(
        "--expand",
        help="Query expansion: search again with the query moved towards its 5 nearest images (alpha-QE). For 10: "
        "--rerank aqe10.",
        rich_help_panel=_RANKING_PANEL,
    ),
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Compare the first 100 hits with the pixels of the query; copies and parts of it come first. For 30: "
        "--rerank geometric30.",
        rich_help_panel=_RANKING_PANEL,
    ),
]
SheetOption = Annotated[
    str | None,
    typer.Option(
        "--sheet",
        metavar="FILE",
        help="Draw the query and the hits as a contact sheet, such as out.png.",
        rich_help_panel=_OUTPUT_PANEL,
    ),
]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the contact sheet.", rich_help_panel=_OUTPUT_PANEL)]


PathsOption = Annotated[
    bool,
    typer.Option("--paths", help="Print the paths of the hits and nothing else.", rich_help_panel=_OUTPUT_PANEL),
]


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How answers are printed: as a table, as JSON, or as paths, each ended by a line break or a NUL character."""

    as_json: bool
    as_paths: bool
    ends_in_nul: bool

    def __post_init__(self) -> None:
        if self.as_json and self.as_paths:
            raise UsageError("--json and paths only cannot be combined", "leave out --json, or --paths and -0")

    def show(self, answer: Answer, options: SearchOptions) -> None:
        """Print an answer on stdout."""
        if self.as_paths:
            print_paths((hit.path for hit in answer.hits), ends_in_nul=self.ends_in_nul)
            if not answer.hits:
                print_message(f"simsearch: no results; {_advise_on_no_results(options)}")
        else:
            _print_answer(answer, options)


def query(
    images: QueryImagesArgument = None,
    like: LikeOption = None,
    unlike: UnlikeOption = None,
    ids: IdsOption = None,
    text: TextOption = None,
    unlike_text: UnlikeTextOption = None,
    prompt: PromptOption = None,
    crop: CropOption = None,
    each: EachOption = False,
    list_file: ListOption = None,
    in_: CollectionOption = None,
    backbone: BackboneOption = None,
    k: CountOption = 10,
    all_: AllOption = False,
    offset: OffsetOption = 0,
    min_similarity: MinSimilarityOption = -1.0,
    min_probability: MinProbabilityOption = None,
    exclude_self: ExcludeSelfOption = False,
    where: WhereOption = None,
    rerank: RerankOption = None,
    expand: ExpandOption = False,
    verify: VerifyOption = False,
    weights: MovedWeightsOption = None,
    sheet: SheetOption = None,
    show: OpenOption = False,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineOption = False,
    paths: PathsOption = False,
    nul: NulOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the most similar images, by cosine similarity from -1 to 1.

    Example:  simsearch query vase.jpg -k 5 --sheet hits.png

    Example:  simsearch query --text lamp -k 5

    Example:  simsearch query vase.jpg --paths -0 | xargs -0 ls -l
    """
    from simsearch.collection import Collection
    from simsearch.models.weights import WeightsOptions

    likes = [*(images or []), *(like or [])]
    shown = AnswerFormat(as_json, paths or nul, nul)
    if each or list_file is not None:
        has_others = bool(unlike or ids or text or unlike_text or crop or sheet or show or (each and list_file))
        _check_batch_options("--each" if each else "--list", likes, has_others=has_others)
    with Collection.open(find_collection(in_)) as collection:
        for step in [*([_EXPANSION_METHOD] if expand else []), *([_VERIFICATION_METHOD] if verify else [])]:
            base = collection.find_default_rerank(backbone) if rerank is None else rerank
            rerank = step if base == "none" else f"{base}+{step}"
        options: SearchOptions = {
            "k": None if all_ else k,
            "offset": offset,
            "min_similarity": min_similarity,
            "min_probability": min_probability,
            "exclude_self": exclude_self,
            "where": where,
            "rerank": rerank,
            "prompts": prompt or [],
            "backbone": backbone,
            "weights": WeightsOptions(weights, offline),
            "max_pixels": to_pixels(megapixels),
        }
        if each:
            _search_each(collection, likes, options, shown)
        elif list_file is not None:
            _search_list(collection, _read_list(list_file), options, shown)
        else:
            examples = [
                *_build_examples(likes, unlike or [], ids or [], crop),
                *_build_text_examples(text or [], unlike_text or []),
            ]
            answer = _search_and_draw(collection, examples, options, sheet, show, offline=offline)
            print_notes(answer.notes)
            if as_json:
                print_json(answer.to_dict())
            else:
                shown.show(answer, options)


def _check_batch_options(flag: str, likes: Sequence[str], *, has_others: bool) -> None:
    """Check that a batch of queries has no option that works for a single query only."""
    if flag == "--list" and likes:
        raise UsageError("--list cannot be combined with IMAGE arguments", "give either the list or the images")
    if has_others:
        advice = f"leave out --unlike, --id, --text, --unlike-text, --crop, --sheet and --open with {flag}"
        raise UsageError(f"{flag} searches with whole images, one by one", advice)


def _build_examples(
    likes: Sequence[str], unlikes: Sequence[str], ids: Sequence[str], crop: str | None
) -> list[Example]:
    """Return the examples of the query: files in the given order, stored images, then negative examples."""
    from simsearch.search.examples import Crop, Example

    examples = [_parse_example(text) for text in likes]
    for text in ids:
        parsed = Example.parse(text)
        if not str(parsed.picture).isdecimal():
            raise UsageError(f"--id {text} is not an image id", "use a number from the search results")
        examples.append(Example(int(str(parsed.picture)), parsed.weight))
    if crop is not None:
        if len(examples) != 1:
            raise UsageError(f"--crop applies to one image, not to {len(examples)}", "give a single image")
        examples = [replace(examples[0], crop=Crop.parse(crop))]
    negative = [_parse_example(text) for text in unlikes]
    return [*examples, *(replace(example, weight=-example.weight) for example in negative)]


def _build_text_examples(texts: Sequence[str], unlike_texts: Sequence[str]) -> list[AnyExample]:
    from simsearch.search.examples import TextExample

    negative = [TextExample.parse(text) for text in unlike_texts]
    return [
        *(TextExample.parse(text) for text in texts),
        *(replace(example, weight=-example.weight) for example in negative),
    ]


def _parse_example(text: str) -> Example:
    """Parse a path, an address, or - for an image on stdin, with an optional weight."""
    from simsearch.search.examples import Example

    example = Example.parse(text)
    if example.picture == "-":
        return replace(example, picture=sys.stdin.buffer.read(), name="-")
    if isinstance(example.picture, str) and os.path.isdir(example.picture):
        raise UsageError(f"{example.picture} is a folder", "search with every image in it: --each")
    if isinstance(example.picture, str) and example.picture.lower().endswith(".npy"):
        return replace(example, picture=_read_vector(example.picture), name=example.picture)
    return example


def _read_vector(file: str) -> QueryVector:
    """Read the vector (d,) or (1, d) in a .npy file."""
    import numpy as np

    from simsearch.search.examples import QueryVector
    from simsearch.search.inputs import normalize_vector

    try:
        vector = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read as a vector ({error})", "save one vector with numpy.save") from error
    if vector.dtype.kind not in "fiu" or vector.size != max(vector.shape, default=0):
        problem = f"{file} is an array {vector.shape} of {vector.dtype}, not a vector"
        raise UsageError(problem, "save one row (d,) of numbers")
    return QueryVector(normalize_vector(vector.ravel()))


def _search_and_draw(
    collection: Collection,
    examples: list[AnyExample],
    options: SearchOptions,
    sheet: str | None,
    show: bool,
    *,
    offline: bool,
) -> Answer:
    """Search, and draw the contact sheet if one is wanted."""
    from simsearch.search.examples import Example
    from simsearch.search.query_vectors import refuse_network

    if not (sheet or show):
        return collection.search(examples, **options)
    if sheet:
        collection.check_outputs([sheet], [example for example in examples if isinstance(example, Example)])
    if not offline:
        examples = [_fetch_example(example) for example in examples]
    answer = collection.search(examples, **options)
    if offline:
        refuse_network(hit.path for hit in answer.hits)
    _draw_sheet(collection, examples, answer, sheet, show)
    return answer


def _fetch_example(example: AnyExample) -> AnyExample:
    """Return the example with the bytes at its URL, which are used twice: for the query and for the sheet."""
    from simsearch.search.examples import Example
    from simsearch.sources.addresses import is_url
    from simsearch.sources.web import fetch

    if isinstance(example, Example) and isinstance(example.picture, str) and is_url(example.picture):
        return replace(example, picture=fetch(example.picture), name=str(example))
    return example


def _search_each(collection: Collection, likes: Sequence[str], options: SearchOptions, shown: AnswerFormat) -> None:
    """Search with each image and print each answer at once. An unreadable image is reported and skipped."""
    from simsearch.search.results import Answer

    if not likes:
        raise UsageError("no query images", "give images, or folders of images")
    n_answers = n_skips = 0
    for found in collection.search_each(likes, **options):
        if isinstance(found, Answer):
            n_answers += 1
            if shown.as_json:
                print_json(found.to_dict(), indent=None)
            else:
                shown.show(found, options)
        else:
            n_skips += 1
            if shown.as_json:
                print_json({"query": [found.path], "error": found.reason}, indent=None)
            else:
                print_message(f"  skipped {format_path(found.path)}: {found.reason}")
    if not n_answers:
        problem = "none of the images could be read" if n_skips else f"no images in {', '.join(likes)}"
        raise SourceError(likes[0], problem, "check the paths")


def _search_list(collection: Collection, paths: Sequence[str], options: SearchOptions, shown: AnswerFormat) -> None:
    answers = [collection.search(path, **options) for path in paths]
    print_notes(note for answer in answers for note in answer.notes)
    if shown.as_json:
        print_json({"answers": [answer.to_dict() for answer in answers]})
    else:
        for answer in answers:
            shown.show(answer, options)


def _read_list(path: str) -> list[str]:
    from simsearch.sources.list_files import parse_list

    try:
        with open(path, "rb") as file:
            return parse_list(file.read(), path)
    except OSError as error:
        raise SourceError(path, f"cannot read the list {path} ({error.strerror})", "check the path") from error


def _draw_sheet(
    collection: Collection, examples: Sequence[AnyExample], answer: Answer, sheet: str | None, show: bool
) -> None:
    from simsearch.report.drawing.contact_sheet import draw_contact_sheet
    from simsearch.search.examples import TextExample

    with tempfile.TemporaryDirectory(prefix="simsearch-") as folder:
        liked = [example for example in examples if example.weight > 0] or list(examples)
        file = sheet or os.path.join(tempfile.mkdtemp(prefix="simsearch-"), "hits.png")
        texts = [example.text for example in liked if isinstance(example, TextExample)]
        missing = draw_contact_sheet(
            collection.files_of(liked, folder), answer.hits, answer.backbone, file, texts=texts
        )
    print_missing_pictures("sheet", missing)
    if show:
        typer.launch(file)


def _print_answer(answer: Answer, options: SearchOptions) -> None:
    from rich.text import Text

    names = ", ".join(format_path(name) for name in answer.queries)
    if not answer.hits:
        print_line(f"{names}: no results; {_advise_on_no_results(options)}")
        return
    table = make_table(f"{names}  ({answer.model_description})")
    table.add_column("rank", justify="right")
    table.add_column("similarity", justify="right")
    if answer.relation:
        table.add_column("P", justify="right")
    is_verified = any(hit.verification is not None for hit in answer.hits)
    if is_verified:
        table.add_column("match")
    table.add_column("id", justify="right")
    table.add_column("image", overflow="fold")
    for hit in answer.hits:
        copies = f"  (and {len(hit.paths) - 1} more)" if len(hit.paths) > 1 else ""
        view = "" if hit.view.kind == "original" else f"  ({hit.view.kind}: {hit.view.description})"
        table.add_row(
            str(hit.rank),
            f"{hit.similarity:.4f}",
            *([] if hit.probability is None else [f"{hit.probability:.2f}"]),
            *([_describe_match(hit)] if is_verified else []),
            str(hit.image_id),
            Text(format_path(hit.path) + copies + view),
        )
    print_table(table)
    if answer.relation:
        print_line(f"P: probability that the image is {answer.relation}, by `simsearch calibrate`")


def _describe_match(hit: Hit) -> str:
    """Describe the verification of a hit: the mark, and how the pictures differ."""
    found = hit.verification
    if found is None:
        return ""
    kinds = [kind for kind in found.kinds if kind not in ("exact", "re-encoded", "crop of")]
    return ", ".join([found.description, *kinds])


def _advise_on_no_results(options: SearchOptions) -> str:
    """Name the options that can leave no image, or else say that the collection has none."""
    flags = []
    if options.get("offset", 0) > 0:
        flags.append("lower --offset")
    if options.get("min_similarity", -1.0) > -1:
        flags.append("lower --min-similarity")
    if options.get("min_probability") is not None:
        flags.append("lower --min-probability")
    if options.get("where"):
        flags.append("relax --where")
    if options.get("exclude_self"):
        flags.append("leave out --exclude-self")
    return " or ".join(flags) or "the collection has no images left; add some with `simsearch index`"
