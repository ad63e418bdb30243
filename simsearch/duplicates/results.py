"""What a search for duplicates answers: groups, what is suggested to be kept, and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from simsearch.errors import UsageError

Tier = Literal["exact", "near", "similar"]
"""`exact`: files of the same bytes. `near`: one picture, edited. `similar`: different pictures that look alike."""

TIERS: tuple[Tier, ...] = get_args(Tier)

KeepRule = Literal["largest", "oldest", "newest", "shortest-path"]
"""Which member of a group is kept: the most pixels, then bytes; the first or last taken, or else modified; the
shortest path. Equal ones: the image indexed first."""

KEEP_RULES: tuple[KeepRule, ...] = get_args(KeepRule)


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateOptions:
    """What to look for.

    All tiers up to `down_to` are answered. `false_positive_rate`: of how many images it is accepted that they are
    given a wrong partner as `near`. `min_similarity` is where `similar` begins; without one it begins where
    `similar_share` of the images have a different picture as close. The same `seed` calibrates on the same images.
    `max_pixels` limits the pictures that are read; None is what this machine can hold.

    Raises `UsageError` on a value out of range.
    """

    down_to: Tier = "near"
    keep: KeepRule = "largest"
    false_positive_rate: float = 1e-3
    min_similarity: float | None = None
    similar_share: float = 0.05
    seed: int = 0
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        if self.down_to not in TIERS:
            raise UsageError(f"there is no tier {self.down_to!r}", f"choose of {', '.join(TIERS)}")
        if self.keep not in KEEP_RULES:
            raise UsageError(f"there is no rule {self.keep!r}", f"choose of {', '.join(KEEP_RULES)}")
        for name, share in (
            ("false positive rate", self.false_positive_rate),
            ("share of similar images", self.similar_share),
        ):
            if not 0 < share < 1:
                raise UsageError(f"the {name} is {share:g}", "give a number between 0 and 1, such as 0.001")
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            problem = f"the least similarity is {self.min_similarity:g}"
            raise UsageError(problem, "it is a cosine: give a number from -1 to 1")


@dataclass(frozen=True, slots=True)
class GroupMember:
    """An image of a group with all its files, the one to keep first; upright size in px, bytes of a file.

    `similarity` is to the group's first member.
    """

    image_id: int
    paths: tuple[str, ...]
    width: int
    height: int
    size_bytes: int
    similarity: float


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images, or files of one image, that belong together: the one to keep first, then by falling similarity.

    `keep` and `remove` are paths, all of the group's. Of `similar` ones none is to be removed: they are different
    pictures. Nothing here deletes anything.
    """

    tier: Tier
    members: tuple[GroupMember, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file of the group."""
        return tuple(path for member in self.members for path in member.paths)

    @property
    def keep(self) -> tuple[str, ...]:
        """The files to keep: one, or all where the pictures are different ones."""
        return self.paths if self.tier == "similar" else self.paths[:1]

    @property
    def remove(self) -> tuple[str, ...]:
        """The files that could go."""
        return self.paths[len(self.keep) :]

    @property
    def freed_bytes(self) -> int:
        """How much room the files take that could go."""
        if self.tier == "similar":
            return 0
        return sum(len(member.paths) * member.size_bytes for member in self.members) - self.members[0].size_bytes


@dataclass(frozen=True, slots=True)
class EditRecall:
    """Of the calibration's pictures with one edit: which share is close enough to the original, and is found."""

    edit: str
    close: float
    found: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured on the collection's own pictures, and the thresholds that follow.

    `near_similarity` and `similar_similarity` are where pairs are looked at as `near` and told as `similar`.
    `n_edited` images were edited. Of `n_compared` images the nearest *different* picture was found; the share
    `close_share` of those lies above `near_similarity`, and of those the share `overlaid_share`, which is estimated,
    can be laid over the image all the same. The product is the rate of false positives to expect.
    """

    near_similarity: float
    similar_similarity: float
    least_likeness: float
    n_edited: int
    n_compared: int
    close_share: float
    overlaid_share: float
    recalls: tuple[EditRecall, ...]

    @property
    def false_positive_rate(self) -> float:
        """The share of images expected to be given a wrong partner as `near`."""
        return self.close_share * self.overlaid_share

    @property
    def recall(self) -> float:
        """The share of edited pictures expected to be found, all edits alike."""
        return sum(recall.found for recall in self.recalls) / max(1, len(self.recalls))


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """The groups: exact, near, similar, each by the id of the image to keep.

    `calibration` is None where there was nothing to calibrate: fewer than two images, or only `exact` asked for.
    `n_images` images with a vector of the model were compared; the pictures of `unread` could not be read now and
    are in no `near` group. `seconds` by stage.
    """

    question: DuplicateOptions
    groups: tuple[DuplicateGroup, ...]
    calibration: Calibration | None
    n_images: int
    unread: tuple[str, ...]
    seconds: dict[str, float]

    def of_tier(self, tier: Tier) -> tuple[DuplicateGroup, ...]:
        """The groups of one tier."""
        return tuple(group for group in self.groups if group.tier == tier)
