"""Results of learning from labels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from simsearch.learn.moments import MapSettings
from simsearch.text import name_counts

MAX_P = 0.01


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean average precision with the vectors as they are and with the learned map, on images held out from learning.

    `low` and `high` bound the mean difference with 95 % confidence (bootstrap over queries). `p` is the p-value of a
    paired randomization test.
    """

    n_queries: int
    before: float
    after: float
    low: float
    high: float
    p: float

    @property
    def is_better(self) -> bool:
        """Whether the gain is above 0 beyond doubt.

        p must be below `MAX_P`, less than the usual 0.05: two tasks are tested, and queries of one set share images.
        """
        return self.low > 0 and self.p < MAX_P

    @property
    def is_worse(self) -> bool:
        """Whether the gain is below 0 with 95 % confidence."""
        return self.high < 0


@dataclass(frozen=True, slots=True)
class LearnReport:
    """What was learned from which labels, and the expected gain.

    `known` is the gain for new images of the learned classes, `new` the gain for classes that were not learned; None
    where the labels do not allow to measure it. `name` is the backbone name of the learned model; it and `model`, the
    fingerprint, are None where nothing was stored. `settings` are None where nothing was learned.
    """

    collection: str
    base: str
    labels: str
    n_images: int
    n_classes: int
    n_copies: int
    known: Gain | None
    new: Gain | None
    settings: MapSettings | None
    name: str | None
    model: str | None
    width: int | None
    exported: str | None
    elapsed_s: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `simsearch learn --json`."""
        fields = name_counts(asdict(self))
        fields["seconds"] = round(fields.pop("elapsed_s"), 3)
        fields["learned"] = self.model is not None
        return fields
