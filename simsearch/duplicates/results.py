"""Results of a search for duplicates: groups, files to keep, and the measured accuracy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from simsearch.duplicates.options import DuplicateOptions, Tier

Action = Literal["keep", "remove", "look"]


@dataclass(frozen=True, slots=True)
class MemberFile:
    """A file of an image in a group: what to do with it, and why."""

    path: str
    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class GroupMember:
    """An image of a group with all its files, the file to keep first; upright size in px, size of one file in bytes.

    `similarity` is the cosine to the first member of the group.
    """

    image_id: int
    files: tuple[MemberFile, ...]
    width: int
    height: int
    size_bytes: int
    similarity: float

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the files."""
        return tuple(file.path for file in self.files)


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images, or files of one image, that belong together: first the image to keep, then by falling similarity.

    An image is in one group only. `kept_paths` and `removable_paths` are together all files of the group. A file is
    removable if the kept file has everything that it has: it is no link, and is not larger, in color, or with camera
    data where the kept file is not. Different pictures, of `similar` images, are never removable, only exact copies of
    one of them. Nothing is deleted.
    """

    tier: Tier
    members: tuple[GroupMember, ...]

    @property
    def files(self) -> tuple[MemberFile, ...]:
        """All files of the group."""
        return tuple(file for member in self.members for file in member.files)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of all files of the group."""
        return tuple(file.path for file in self.files)

    @property
    def kept_paths(self) -> tuple[str, ...]:
        """The files that stay: to keep, or for a person to look at."""
        return tuple(file.path for file in self.files if file.action != "remove")

    @property
    def removable_paths(self) -> tuple[str, ...]:
        """The files that can be removed."""
        return tuple(file.path for file in self.files if file.action == "remove")

    @property
    def freed_bytes(self) -> int:
        """The total size of the removable files."""
        return sum(member.size_bytes for member in self.members for file in member.files if file.action == "remove")

    def find_keeper(self, path: str) -> tuple[str, bool]:
        """Find a file that stays and makes a removable file redundant, and whether it has the same bytes."""
        own = next(member for member in self.members if path in member.paths)
        for member in (own, self.members[0]):
            for file in member.files:
                if file.action != "remove":
                    return file.path, member is own
        raise AssertionError(f"nothing is kept of the group of {path}")

    def to_dict(self) -> dict[str, Any]:
        """The group as in the JSON report, without its number."""
        return {
            "tier": self.tier,
            "keep": list(self.kept_paths),
            "remove": list(self.removable_paths),
            "freed_bytes": self.freed_bytes,
            "members": [dataclasses.asdict(member) | {"paths": list(member.paths)} for member in self.members],
        }


@dataclass(frozen=True, slots=True)
class EditRecall:
    """The recall of one kind of edit: the share above the similarity threshold, and the share that is found."""

    edit: str
    close: float
    found: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds measured on the collection's own pictures, and the error rates to expect.

    Pairs from `near_similarity` on are compared as `near`, pairs from `similar_similarity` on are `similar`. A near
    pair must also align with a likeness of `least_likeness`. `n_edited` images were edited to measure the recalls. For
    `n_compared` images the nearest *different* picture was found: the share `close_share` of these lies above
    `near_similarity`. The estimated share `overlaid_share` of different pictures aligns nevertheless. The product is
    the expected rate of false positives.
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
        """The expected share of images with a wrong `near` duplicate."""
        return self.close_share * self.overlaid_share

    @property
    def recall(self) -> float:
        """The expected share of edited pictures that are found, averaged over the kinds of edits."""
        return sum(recall.found for recall in self.recalls) / max(1, len(self.recalls))

    def to_dict(self) -> dict[str, Any]:
        """The calibration as in the JSON report."""
        return {
            **dataclasses.asdict(self),
            "false_positive_rate": self.false_positive_rate,
            "recall": self.recall,
        }


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """The groups: exact, near, similar, each sorted by the id of the image to keep.

    `calibration` is None if there are fewer than two images or if only `exact` was requested. `n_images` images with a
    vector of the model were compared. `unread` are files that are gone or were changed since they were indexed; they
    are in no group. `seconds` is the time of each stage.
    """

    options: DuplicateOptions
    groups: tuple[DuplicateGroup, ...]
    calibration: Calibration | None
    n_images: int
    unread: tuple[str, ...]
    seconds: dict[str, float]

    def select_tier(self, tier: Tier) -> tuple[DuplicateGroup, ...]:
        """Select the groups of one tier."""
        return tuple(group for group in self.groups if group.tier == tier)

    @property
    def removable_paths(self) -> tuple[str, ...]:
        """The files that can be removed."""
        return tuple(path for group in self.groups for path in group.removable_paths)

    @property
    def freed_bytes(self) -> int:
        """The total size of the removable files."""
        return sum(group.freed_bytes for group in self.groups)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON, without the collection and the model; groups are numbered from 1."""
        return {
            "images": self.n_images,
            "question": dataclasses.asdict(self.options),
            "groups": [{"group": number, **group.to_dict()} for number, group in enumerate(self.groups, start=1)],
            "removable": len(self.removable_paths),
            "freed_bytes": self.freed_bytes,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "unread": list(self.unread),
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
        }
