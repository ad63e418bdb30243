"""Results of a search for duplicates: groups, files to keep, and the measured accuracy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from simsearch.duplicates.options import DuplicateOptions, Tier
from simsearch.duplicates.pairs import CopyPair
from simsearch.matching.evidence import Box, CopyKind

Action = Literal["keep", "remove", "look"]


@dataclass(frozen=True, slots=True)
class MemberFile:
    """A file of an image in a group: what to do with it, and why."""

    path: str
    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class MemberCopy:
    """How an image of a group differs from another one, `of_image`.

    `kind` is the most important of the `kinds` (`matching.evidence.CopyKind`). `whole_image` is the one that shows
    more, and `box` the part of it that the other one shows, as shares of its sides: left, top, right, bottom.
    `n_inliers` and `agreement` are as in `PairEvidence`, `hash_distance` as in `CopyPair`.
    """

    of_image: int
    kind: CopyKind
    kinds: tuple[CopyKind, ...]
    whole_image: int
    box: Box
    n_inliers: int
    agreement: float
    hash_distance: int | None

    @classmethod
    def from_pair(cls, pair: CopyPair, image_id: int) -> MemberCopy:
        """What a pair says about one of its images."""
        evidence = pair.evidence
        return cls(
            of_image=pair.find_other(image_id),
            kind=evidence.kind,
            kinds=evidence.kinds,
            whole_image=pair.whole_id,
            box=evidence.box,
            n_inliers=evidence.n_inliers,
            agreement=evidence.agreement,
            hash_distance=pair.hash_distance,
        )


@dataclass(frozen=True, slots=True)
class GroupMember:
    """An image of a group with all its files, the file to keep first; upright size in px, size of one file in bytes.

    `similarity` is the cosine to the first member of the group. `copy` says how a copy differs from another image of
    the group: from the first one if they were compared. It is None for the first image and in the tiers `exact` and
    `similar`.
    """

    image_id: int
    files: tuple[MemberFile, ...]
    width: int
    height: int
    size_bytes: int
    similarity: float
    copy: MemberCopy | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the files."""
        return tuple(file.path for file in self.files)

    @property
    def copy_text(self) -> str:
        """How the image differs from another one, such as `crop of image 12, mirrored`; empty without a copy."""
        if (copy := self.copy) is None:
            return ""
        other = f"image {copy.of_image}"
        kinds = [kind for kind in copy.kinds if kind != "crop of"]
        if "crop of" not in copy.kinds:
            return f"{', '.join(kinds)}; compared with {other}"
        return ", ".join([f"crop of {other}" if copy.whole_image == copy.of_image else f"contains {other}", *kinds])


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
class Calibration:
    """The threshold of the tier `similar`, measured on the vectors of the collection.

    Pairs from `similar_similarity` on are similar. For `n_compared` images the nearest different picture was found.
    """

    similar_similarity: float
    n_compared: int

    def to_dict(self) -> dict[str, Any]:
        """The calibration as in the JSON report."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """The groups: exact, near, similar, each sorted by the id of the image to keep.

    `pairs` are the verified pairs of copies; further pairs of a group follow from these. `n_compared` pairs were
    compared by this search; the results of earlier ones are kept in the catalog. `calibration` is None unless `similar`
    was requested. `n_images` images have a vector of the model. `unread` are files that are gone or were changed since
    they were indexed; they are in no group. `seconds` is the time of each stage.
    """

    options: DuplicateOptions
    groups: tuple[DuplicateGroup, ...]
    calibration: Calibration | None
    n_images: int
    unread: tuple[str, ...]
    seconds: dict[str, float]
    pairs: tuple[CopyPair, ...] = ()
    n_compared: int = 0

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
            "pairs": [pair.to_dict() for pair in self.pairs],
            "compared_pairs": self.n_compared,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "unread": list(self.unread),
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
        }
