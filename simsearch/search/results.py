"""The result of a search: an answer with ranked hits, and its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from simsearch.dataframes import build_arrow_table, build_data_frame
from simsearch.images.augmentation import Transformation
from simsearch.matching.evidence import Box
from simsearch.text import replace_invalid_unicode

_MAX_NOTEBOOK_HITS = 20
_MAX_REPR_HITS = 10


@dataclass(frozen=True, slots=True)
class View:
    """The view of an image that is nearest to the query: `original`, or `augmented` with its parameters."""

    kind: str
    parameters: Mapping[str, Any]

    @property
    def description(self) -> str:
        """The transformation in a few words; empty for the original."""
        return Transformation.from_parameters(self.parameters).describe() if self.parameters else ""

    def to_dict(self) -> dict[str, Any]:
        """The kind and the parameters in one object, as `simsearch query --json` prints them."""
        return {"kind": self.kind, **self.parameters}


Mark = Literal["same picture", "part of", "unverified"]
"""`part of`: the query is a part of the hit, or the hit a part of the query."""


@dataclass(frozen=True, slots=True)
class HitVerification:
    """The result of comparing a hit with the pixels of the query.

    `kinds`, `n_inliers` and `agreement` are as in `matching.evidence.PairEvidence`. `whole` is the picture that shows
    more, and `box` the part of it that the other one shows, as shares of its size; None if both show the same.
    """

    mark: Mark
    kinds: tuple[str, ...] = ()
    n_inliers: int = 0
    agreement: float = 0.0
    whole: Literal["query", "hit"] | None = None
    box: Box | None = None

    @property
    def description(self) -> str:
        """The mark in words that say which picture is a part of the other."""
        if self.mark != "part of":
            return self.mark
        return "query is a part" if self.whole == "hit" else "part of the query"

    @property
    def hit_box(self) -> Box | None:
        """The part of the hit that is the query; None where there is none to draw."""
        return self.box if self.whole == "hit" else None

    def to_dict(self) -> dict[str, Any]:
        """The verification as in the JSON of a hit."""
        return {
            "mark": self.mark,
            "kinds": list(self.kinds),
            "inliers": self.n_inliers,
            "agreement": self.agreement,
            "whole": self.whole,
            "box": None if self.box is None else [round(edge, 4) for edge in self.box],
        }


UNVERIFIED = HitVerification("unverified")


@dataclass(frozen=True, slots=True, repr=False)
class Hit:
    """One result: an image, represented by its most similar view. `paths` are all its files, `path` is the first.

    `similarity` is a cosine, rounded to six decimals. With a projection it is the cosine in the projected space, with
    query expansion the cosine to the expanded query. k-reciprocal re-ranking changes ranks but not similarities, so
    similarities need not fall from rank to rank. `probability` is that of the model's calibration; None without one.
    `verification` is None unless the step `geometric` compared the hit with the query.
    """

    rank: int
    similarity: float
    image_id: int
    path: str
    paths: tuple[str, ...]
    view: View
    probability: float | None = None
    verification: HitVerification | None = None

    def __repr__(self) -> str:
        return f"Hit(rank={self.rank}, similarity={self.similarity}, image_id={self.image_id}, path={self.path!r})"

    def to_dict(self) -> dict[str, Any]:
        """The hit as `simsearch query --json` prints it; probability and verification are left out if there is none."""
        optional: dict[str, Any] = {} if self.probability is None else {"probability": self.probability}
        if self.verification is not None:
            optional["verification"] = self.verification.to_dict()
        return self._to_fields() | optional | {"view": self.view.to_dict()}

    def to_api_dict(self) -> dict[str, Any]:
        """The hit as the HTTP API returns it: view parameters are an object, and paths are valid Unicode."""
        return self._to_fields() | {
            "path": replace_invalid_unicode(self.path),
            "paths": [replace_invalid_unicode(path) for path in self.paths],
            "view": {"kind": self.view.kind, "parameters": dict(self.view.parameters)},
            "probability": self.probability,
            "verification": None if self.verification is None else self.verification.to_dict(),
        }

    def _to_fields(self) -> dict[str, Any]:
        return {
            "rank": self.rank,
            "similarity": self.similarity,
            "image_id": self.image_id,
            "path": self.path,
            "paths": list(self.paths),
        }


@dataclass(frozen=True, slots=True, repr=False)
class Answer(Sequence[Hit]):
    """The hits of a query, and the milliseconds that loading the model, embedding and searching took.

    An answer is a sequence of its hits: `len(answer)`, `answer[0]`, `for hit in answer`.

    `queries` are the labels of the examples, `model` is the model's fingerprint, `rerank` the method that ranked the
    hits, `none` if there was none. `notes` are messages for the user. `relation` says what the probability of a hit is
    of, such as `of the same class`; empty without a calibration. `default_backbone` is the collection's backbone of
    queries that name none, one of its `n_models` models.
    """

    queries: tuple[str, ...]
    backbone: str
    model: str
    hits: tuple[Hit, ...]
    milliseconds: dict[str, float]
    notes: tuple[str, ...]
    rerank: str = "none"
    relation: str = ""
    default_backbone: str = ""
    n_models: int = 1

    @property
    def model_description(self) -> str:
        """The backbone, with the default where the collection has several, and the re-ranking method."""
        parts = [self.backbone]
        if self.n_models > 1 and self.default_backbone:
            is_default = self.backbone == self.default_backbone
            parts = [f"{self.backbone}, {'the default' if is_default else f'the default is {self.default_backbone}'}"]
        return ", ".join(parts + ([] if self.rerank == "none" else [self.rerank]))

    def to_dict(self) -> dict[str, Any]:
        """The answer as `simsearch query --json` prints it; `rerank` and `notes` are left out where there are none."""
        return {
            "query": list(self.queries),
            "backbone": self.backbone,
            "model": self.model,
            "default_backbone": self.default_backbone,
            **({"rerank": self.rerank} if self.rerank != "none" else {}),
            **({"probability_of": self.relation} if self.relation else {}),
            "hits": [hit.to_dict() for hit in self.hits],
            "milliseconds": {stage: round(value, 2) for stage, value in self.milliseconds.items()},
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    def to_api_dict(self) -> dict[str, Any]:
        """The answer as the HTTP API returns it: every field is present, and every text is valid Unicode."""
        return {
            "query": [replace_invalid_unicode(name) for name in self.queries],
            "backbone": self.backbone,
            "model": self.model,
            "rerank": self.rerank,
            "probability_of": self.relation,
            "hits": [hit.to_api_dict() for hit in self.hits],
            "milliseconds": {stage: round(value, 3) for stage, value in self.milliseconds.items()},
            "notes": list(self.notes),
        }

    @overload
    def __getitem__(self, position: int) -> Hit: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[Hit]: ...

    def __getitem__(self, position: int | slice) -> Hit | Sequence[Hit]:
        """The hit at a position, from 0, or the hits of a slice."""
        return self.hits[position]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __repr__(self) -> str:
        """The query, and a line for each of the first ten hits: rank, similarity, image id, path."""
        n = len(self.hits)
        lines = [f"Answer({', '.join(self.queries)}: {n:,} {'hit' if n == 1 else 'hits'} of {self.backbone})"]
        lines += [
            f"{hit.rank:>4}  {hit.similarity:.4f}  {hit.image_id:>6}  {hit.path}" for hit in self.hits[:_MAX_REPR_HITS]
        ]
        return "\n".join([*lines, *([f"      and {n - _MAX_REPR_HITS:,} more"] if n > _MAX_REPR_HITS else [])])

    def to_pandas(self) -> Any:
        """The hits as a `pandas.DataFrame`, a row for each. Raises `MissingExtra` without pandas."""
        return build_data_frame(self._collect_columns())

    def to_arrow(self) -> Any:
        """The hits as a `pyarrow.Table`, a row for each. Raises `MissingExtra` without pyarrow."""
        return build_arrow_table(self._collect_columns())

    def _collect_columns(self) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {
            name: [getattr(hit, name) for hit in self.hits]
            for name in ("rank", "similarity", "probability", "image_id", "path")
        }
        columns["paths"] = [list(hit.paths) for hit in self.hits]
        columns["view"] = [hit.view.kind for hit in self.hits]
        columns["verification"] = [hit.verification and hit.verification.mark for hit in self.hits]
        return columns

    def _repr_html_(self) -> str:
        """Render the first twenty hits with their pictures, for a notebook."""
        from simsearch.notebook import GalleryItem, render_gallery  # only a notebook needs them

        shown = [GalleryItem(hit.path, f"{hit.rank} · {hit.similarity:.4f}") for hit in self.hits[:_MAX_NOTEBOOK_HITS]]
        return render_gallery(f"{', '.join(self.queries)} ({self.backbone})", shown)
