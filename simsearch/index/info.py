"""Facts about an index: how it was built and what recall it reached."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self

_RECALL_TOLERANCE = 0.01
"""The sampling error of a recall that is measured with 300 vectors."""


@dataclass(frozen=True, slots=True)
class IndexDetails:
    """How an index was built, how it is searched, and the recall it reached.

    `effort` is the number of inverted lists searched (nprobe) or of candidates in a graph search (efSearch); `refine`
    is the number of candidates per result that are re-ranked with the full vectors. `recall_at_10` is the share of the
    ten nearest neighbors that is found, measured with `n_queries` vectors of the collection when it had `n_vectors`;
    `wanted` is the requested recall. The index was trained when the collection had `n_trained` vectors.

    `trials` are the times by which `auto` chose the kind: for each kind tried, milliseconds of a query (`query_ms`),
    seconds to build it (`build_s`) and its `bytes`, measured or estimated with `n_timed` vectors.

    The field names are keys of JSON stored in catalogs and index files.
    """

    kind: str
    n_vectors: int
    n_trained: int = 0
    effort: int = 1
    refine: int = 1
    wanted: float = 1.0
    recall_at_10: float = 1.0
    n_queries: int = 0
    build_s: float = 0.0
    trials: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def has_wanted_recall(self) -> bool:
        """Whether the measured recall misses the wanted one by no more than its sampling error."""
        return self.recall_at_10 >= self.wanted - _RECALL_TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON object; the details of an exact index are only kind, size and recall."""
        if self.kind == "flat":
            return {"kind": self.kind, "n_vectors": self.n_vectors, "recall_at_10": self.recall_at_10}
        return asdict(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_dict` wrote. Raises `ValueError` on other text."""
        try:
            details = cls(**json.loads(text))
        except (TypeError, json.JSONDecodeError) as error:  # no object, or other fields
            raise ValueError("the text does not describe an index") from error
        numbers = [value for name, value in asdict(details).items() if name not in ("kind", "trials")]
        try:
            numbers += [
                float(trial[key]) for trial in details.trials.values() for key in ("query_ms", "build_s", "bytes")
            ]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError("the text does not describe an index") from error
        if not isinstance(details.kind, str) or not all(isinstance(number, int | float) for number in numbers):
            raise ValueError("the text does not describe an index")
        return details


@dataclass(frozen=True, slots=True)
class FaissIndexInfo:
    """Facts about an index in a FAISS file, as `IndexInfo` says.

    `details` are None where they are not stored. `n_added` vectors were added and `n_removed` removed since it was
    built.
    """

    kind: str
    details: IndexDetails | None
    n_added: int = 0
    n_removed: int = 0

    @property
    def summary(self) -> str:
        """As `IndexInfo` says."""
        parts = [self.kind]
        if self.details is not None and self.details.n_queries:
            measured = f"{self.details.n_queries} of {self.details.n_vectors:,} vectors"
            parts.append(f"recall@10 {self.details.recall_at_10:.3f}, measured with {measured}")
        if self.details is not None and self.details.build_s:
            parts.append(f"built in {self.details.build_s:.1f} s")
        if self.details is not None and self.details.trials:
            tried = sorted(self.details.trials.items(), key=lambda item: item[1]["query_ms"])
            n = self.details.n_trained
            parts.append("ms a query: " + "; ".join(_describe_trial(name, trial, n) for name, trial in tried))
        if self.n_added or self.n_removed:
            parts.append(f"since then {self.n_added:,} vectors added and {self.n_removed:,} removed")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """As `IndexInfo` says."""
        details = {"kind": self.kind} if self.details is None else self.details.to_dict()
        return details | {"recent": self.n_added, "removed": self.n_removed}


def _describe_trial(name: str, trial: dict[str, float], n: int) -> str:
    return f"{name} {trial['query_ms']:.2f} ({'measured' if trial.get('n_timed', 0) >= n else 'estimated'})"
