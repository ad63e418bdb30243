"""The query of a search: example pictures and texts, a filter, a re-ranking method, and the range of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from simsearch.errors import UsageError
from simsearch.models.text.encoder import check_prompts
from simsearch.models.weights import WeightsOptions
from simsearch.search.examples import AnyExample, Example, TextExample

MIN_FEEDBACK = 3
"""Examples for, and examples against, from which a search that names no re-ranking method uses the step `feedback`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A search for the images most similar to some examples.

    `k` is the number of results, None for all of them; the first `offset` results are left out. `min_similarity` is
    a cosine, `min_probability` a probability of the model's calibration. `exclude_self` leaves out images with the same
    bytes as an example. `where` is a filter on metadata. `rerank` is a method such as `pca256+aqe5`, `none` for no
    re-ranking, None for the collection's default, with the step `feedback` where the query has examples for it.
    `prompts` are templates that texts are put into, at the place of `{}`; the vectors of several are averaged.
    `backbone` names the model, None for the default one; `weights` says where its weights are if they must be
    loaded. `max_pixels` limits the pictures that are decoded, None for this machine's limit.

    Raises `UsageError` on no example or a value out of range.
    """

    examples: tuple[AnyExample, ...]
    k: int | None = 10
    offset: int = 0
    min_similarity: float = -1.0
    min_probability: float | None = None
    exclude_self: bool = False
    where: str | None = None
    rerank: str | None = None
    prompts: tuple[str, ...] = ()
    backbone: str | None = None
    weights: WeightsOptions = field(default_factory=WeightsOptions)
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        if not self.examples:
            raise UsageError("the query has no example", "name an image, --id of a stored one, or --text")
        check_prompts(self.prompts)
        if self.k is not None and self.k <= 0:
            raise UsageError(f"k is {self.k}", "request one result or more")
        if self.offset < 0:
            raise UsageError(f"the offset is {self.offset}", "it is the number of results to leave out: give 0 or more")
        if not -1 <= self.min_similarity <= 1:
            problem = f"the minimum similarity is {self.min_similarity}"
            raise UsageError(problem, "it is a cosine: give a number from -1 to 1")
        if self.min_probability is not None and not 0 <= self.min_probability <= 1:
            problem = f"the minimum probability is {self.min_probability}"
            raise UsageError(problem, "give a number from 0 to 1")

    @property
    def pictures(self) -> tuple[Example, ...]:
        """The examples that are pictures."""
        return tuple(example for example in self.examples if isinstance(example, Example))

    @property
    def has_feedback(self) -> bool:
        """Whether there are enough pictures for and against, and no text, for the step `feedback` of re-ranking."""
        n_for = sum(example.weight > 0 for example in self.pictures)
        return not self.texts and min(n_for, len(self.pictures) - n_for) >= MIN_FEEDBACK

    @property
    def texts(self) -> tuple[TextExample, ...]:
        """The examples that are texts."""
        return tuple(example for example in self.examples if isinstance(example, TextExample))


class SearchOptions(TypedDict, total=False):
    """The keyword arguments of `Collection.search`: the fields of `Query` other than the examples."""

    k: int | None
    offset: int
    min_similarity: float
    min_probability: float | None
    exclude_self: bool
    where: str | None
    rerank: str | None
    prompts: Sequence[str]
    backbone: str | None
    weights: WeightsOptions | None
    max_pixels: int | None
