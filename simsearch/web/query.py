"""Build the query of a search from the parameters of a request, for the API and the pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from simsearch.errors import UsageError
from simsearch.models.weights import WeightsOptions
from simsearch.search.examples import Crop, Example, make_text_examples
from simsearch.search.query import Query
from simsearch.web.settings import ServerSettings

MAX_RESULTS = 200
MAX_OFFSET = 10_000
MAX_EXAMPLES = 32
MAX_ID = 2**63 - 1
MAX_WHERE_LENGTH = 2_000
MAX_TEXT_LENGTH = 1_000

Rerank = Literal["default", "none", "aqe5", "geometric"]
"""Re-ranking methods of requests. `default` is the collection's; the others need no preparation and no disk space.
`geometric` compares the first 100 results with the query picture, which takes seconds."""

RequestPicture = int | tuple[str, bytes]
"""A picture in a request: the id of a stored image, or a name and the bytes of a file."""


def build_query(
    settings: ServerSettings,
    like: Sequence[RequestPicture],
    unlike: Sequence[RequestPicture] = (),
    *,
    text: Sequence[str] = (),
    unlike_text: Sequence[str] = (),
    crop: str | None = None,
    where: str | None = None,
    k: int = 20,
    offset: int = 0,
    min_similarity: float = -1.0,
    min_probability: float | None = None,
    exclude_self: bool = False,
    backbone: str | None = None,
    rerank: Rerank = "default",
) -> Query:
    """Build a query under the limits of the server. `crop` applies to the first picture of `like`.

    Raises `UsageError`.
    """
    if not (like or text):
        raise UsageError("the request has no query", "send an image, the id of a stored one, or a text")
    check_example_count(len(like) + len(unlike) + len(text) + len(unlike_text))
    if crop is not None and not like:
        raise UsageError("the request has a crop but no query picture", "send an image, or leave out the crop")
    crops = [None if crop is None else Crop.parse(crop), *[None] * len(like)]
    return Query(
        examples=(
            *(_build_example(picture, 1.0, part) for picture, part in zip(like, crops, strict=False)),
            *(_build_example(picture, -1.0) for picture in unlike),
            *make_text_examples(text, unlike_text),
        ),
        k=k,
        offset=offset,
        min_similarity=min_similarity,
        min_probability=min_probability,
        exclude_self=exclude_self,
        where=where or None,
        backbone=backbone or settings.backbone,
        rerank=None if rerank == "default" else rerank,
        weights=WeightsOptions(offline=settings.offline),
        max_pixels=settings.max_pixels,
    )


def check_example_count(n: int) -> None:
    """Raise `UsageError` if a query has too many pictures and texts."""
    if n > MAX_EXAMPLES:
        raise UsageError(f"the query has more than {MAX_EXAMPLES} pictures and texts", "remove some")


def _build_example(picture: RequestPicture, weight: float, crop: Crop | None = None) -> Example:
    if isinstance(picture, int):
        return Example(picture, weight, crop, name=f"image {picture}")
    name, data = picture
    return Example(data, weight, crop, name=name)
