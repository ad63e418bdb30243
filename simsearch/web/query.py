"""A question as a request has it, for the API and the page alike, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from simsearch.errors import UsageError
from simsearch.search.examples import Crop, Example
from simsearch.search.results import Answer
from simsearch.web.engine import SearchEngine

MAX_RESULTS = 200
MAX_OFFSET = 10_000
MAX_EXAMPLES = 32
MAX_ID = 2**63 - 1
MAX_WHERE_LENGTH = 2_000

Rerank = Literal["default", "none", "aqe5"]
"""`default`: what the collection is set to. Of the others those that cost no preparation and leave nothing on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What is asked: pictures (ids, or bytes with a name) that answers are to be like or unlike, and which answers.

    `crop` is the part that is meant of the first picture that answers are to be like.
    """

    like: Sequence[int | tuple[str, bytes]]
    unlike: Sequence[int | tuple[str, bytes]] = field(default=())
    crop: str | None = None
    where: str | None = None
    k: int = 20
    offset: int = 0
    min_similarity: float = -1.0
    exclude_self: bool = False
    backbone: str | None = None
    rerank: Rerank = "default"


async def run_search(question: SearchRequest, engine: SearchEngine) -> Answer:
    """The answer. Raises `UsageError` and what `Engine.search` raises."""
    if not question.like:
        raise UsageError("there is nothing to ask with", "send an image, or the id of a stored one")
    if len(question.like) + len(question.unlike) > MAX_EXAMPLES:
        raise UsageError(f"there are more than {MAX_EXAMPLES} pictures", "ask with fewer")
    part = None if question.crop is None else Crop.parse(question.crop)
    first = _build_example(question.like[0], 1.0, part)
    rest = [_build_example(picture, 1.0) for picture in question.like[1:]]
    others = [_build_example(picture, -1.0) for picture in question.unlike]
    return await engine.search(
        [first, *rest, *others],
        k=question.k,
        offset=question.offset,
        min_similarity=question.min_similarity,
        exclude_self=question.exclude_self,
        where=question.where or None,
        backbone=question.backbone or engine.settings.backbone,
        rerank=None if question.rerank == "default" else question.rerank,
    )


def _build_example(picture: int | tuple[str, bytes], weight: float, crop: Crop | None = None) -> Example:
    if isinstance(picture, int):
        return Example(picture, weight, crop, name=f"image {picture}")
    name, data = picture
    return Example(data, weight, crop, name=name)
