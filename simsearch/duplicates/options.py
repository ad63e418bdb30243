"""Options of a search for duplicates: tiers, thresholds, and the rule for the file to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from simsearch.errors import UsageError

Tier = Literal["exact", "near", "similar"]
"""`exact`: files with the same bytes. `near`: edits of one picture. `similar`: different pictures that look alike."""

TIERS: tuple[Tier, ...] = get_args(Tier)

KeepRule = Literal["largest", "oldest", "newest", "shortest-path"]
"""The first criterion for the file of a group to keep: the most pixels; the first or last date taken, or else
modification time; the shortest path. Ties are decided by the other evidence: size in px, camera data and date, color,
sharpness, age, a name that is not that of a copy."""

KEEP_RULES: tuple[KeepRule, ...] = get_args(KeepRule)


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateOptions:
    """What to search for.

    All tiers up to `down_to` are searched. `min_similarity` is the lower limit of `similar`; None sets the limit so
    that the share `similar_share` of the images has a different picture above it. `seed` selects the images that this
    is measured on. `max_pixels` limits the pictures that are decoded; None is the limit of this machine.

    Raises `UsageError` on a value out of range.
    """

    down_to: Tier = "near"
    keep: KeepRule = "largest"
    min_similarity: float | None = None
    similar_share: float = 0.05
    seed: int = 0
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        if self.down_to not in TIERS:
            raise UsageError(f"unknown tier {self.down_to!r}", f"choose one of {', '.join(TIERS)}")
        if self.keep not in KEEP_RULES:
            raise UsageError(f"unknown rule {self.keep!r}", f"choose one of {', '.join(KEEP_RULES)}")
        if not 0 < self.similar_share < 1:
            problem = f"the share of similar images is {self.similar_share:g}"
            raise UsageError(problem, "give a number between 0 and 1, such as 0.05")
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            problem = f"the minimum similarity is {self.min_similarity:g}"
            raise UsageError(problem, "it is a cosine: give a number from -1 to 1")
