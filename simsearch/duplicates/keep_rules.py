"""Choose the file of a group to keep, by evidence, and what could go without losing anything. Nothing is deleted.

A rule is a list of criteria. The files that are worse than the best by the first criterion drop out, then those that
are worse by the second, and so on until one is left. The criterion by which a file dropped out is the reason shown.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simsearch.duplicates.file_states import FileState
from simsearch.duplicates.options import KeepRule
from simsearch.duplicates.picture_evidence import PictureEvidence
from simsearch.duplicates.results import MemberFile
from simsearch.store.snapshot import StoredImage
from simsearch.text import shorten_path

_SIMILAR_AREA = 0.99
_SIMILAR_SHARPNESS = 0.9
"""JPEG quality 90 leaves 0.91 to 0.96 of the sharpness of a photograph, quality 50 0.67 to 0.94, a slight blur 0.3."""
_EPOCH_S = (datetime.datetime.fromtimestamp(0) - datetime.datetime.min).total_seconds()
_CLOCK_STEP_S = 2.0  # of the FAT file system
_COPY_NAME = re.compile(
    r"\(\d+\)\s*$"
    r"|(?<![^\W_])(?:copy|copie|copia|kopie|edit|edited|resized|scaled|cropped|compressed|thumb|thumbnail|preview)\d*"
    r"(?![^\W\d_])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file of an image that could be kept."""

    image: StoredImage
    state: FileState


@dataclass(frozen=True, slots=True)
class _Criterion:
    """A criterion: the score (larger is better) of a candidate, the scores as good as the best, and two wordings.

    `virtue` says what the kept file has, `fault` what another file lacks.
    """

    score: Callable[[Candidate, PictureEvidence], float]
    virtue: str
    fault: str
    is_as_good: Callable[[float, float], bool] = lambda score, best: score >= best


def choose_file(
    candidates: Sequence[Candidate], rule: KeepRule, evidence: PictureEvidence
) -> tuple[Candidate, str, dict[str, str]]:
    """Choose the candidate to keep; the reason for it, and the reason against each other path.

    Ties: the first candidate.
    """
    left, faults, virtues = list(candidates), dict[str, str](), list[str]()
    for criterion in _CRITERIA[rule]:
        if len(left) == 1:
            break
        scores = [criterion.score(candidate, evidence) for candidate in left]
        best = max(scores)
        is_good = [criterion.is_as_good(score, best) for score in scores]
        if not all(is_good):
            virtues.append(criterion.virtue)
            faults |= {left[row].state.path: criterion.fault for row, good in enumerate(is_good) if not good}
            left = [candidate for candidate, good in zip(left, is_good, strict=True) if good]
    kept, *others = left
    faults |= {other.state.path: "indexed later" for other in others}
    return kept, ", ".join(virtues) or "indexed first", faults


def find_loss(other: StoredImage, kept: StoredImage, evidence: PictureEvidence) -> str:
    """Say what would be lost if `kept` remained without its edit `other`; empty if nothing would be."""
    if other.image_id in evidence.framed and kept.image_id not in evidence.framed:
        return "has a border or another picture around it"
    if evidence.may_be_covered(other.image_id, kept.image_id):
        return "something covers a part of it or of the kept file"
    if _count_pixels(kept) < _SIMILAR_AREA * _count_pixels(other):
        return "more pixels than the kept file"
    if other.taken_at is not None and kept.taken_at is None:
        return "has the date taken, which the kept file lacks"
    if other.camera is not None and kept.camera is None:
        return "has camera data, which the kept file lacks"
    if evidence.has_color(other) and not evidence.has_color(kept):
        return "in color, the kept file is gray"
    is_as_large = _count_pixels(other) >= _SIMILAR_AREA * _count_pixels(kept)
    if is_as_large and evidence.measure_sharpness(kept) < _SIMILAR_SHARPNESS * evidence.measure_sharpness(other):
        return "sharper than the kept file"
    return ""


def suggest_actions(
    candidates: Sequence[Candidate], rule: KeepRule, evidence: PictureEvidence
) -> dict[str, MemberFile]:
    """Suggest what to do with each file of one picture and its edits, by path.

    The names of one file (links) have one fate: those of the kept file are kept; a file that has several names is never
    suggested, because moving one name frees nothing or breaks the others. Of an image with something that the kept file
    lacks, one file stays.
    """
    kept, virtue, faults = choose_file(candidates, rule, evidence)
    files = {kept.state.path: MemberFile(kept.state.path, "keep", virtue)}
    for image_id in dict.fromkeys(candidate.image.image_id for candidate in candidates):
        own = [candidate for candidate in candidates if candidate.image.image_id == image_id]
        if image_id != kept.image.image_id and (loss := find_loss(own[0].image, kept.image, evidence)):
            best, _, own_faults = choose_file(own, rule, evidence)
            files[best.state.path] = MemberFile(best.state.path, "look", loss)
            faults |= own_faults
        for candidate in own:
            path, link = candidate.state.path, _describe_links(candidate, candidates)
            if candidate.state.identity == kept.state.identity:
                files.setdefault(path, MemberFile(path, "keep", link))
            elif link:
                files[path] = MemberFile(path, "look", link)
            else:
                files.setdefault(path, MemberFile(path, "remove", faults[path]))
    return files


def _describe_links(candidate: Candidate, candidates: Sequence[Candidate]) -> str:
    """Describe the other names of a file; empty where it has none."""
    state = candidate.state
    if state.target:
        return f"symbolic link to {state.target}"
    names = [other.state.path for other in candidates if other.state.identity == state.identity]
    others = [path for path in names if path != state.path]
    if state.n_hard_links > 1:
        return f"hard link, one of {state.n_hard_links} names of a file"
    return f"{shorten_path(others[0])} is a link to it" if others else ""


def _count_pixels(image: StoredImage) -> int:
    return image.width * image.height


def _find_time_s(candidate: Candidate) -> float:
    """Find the date taken, or else the file's modification time: seconds since year 1 in local time.

    An edited copy that lost its EXIF data was made when its file was written. EXIF dates have no time zone.
    """
    if candidate.image.taken_at is None:
        return _EPOCH_S + candidate.state.file.mtime_ns / 1e9
    return (datetime.datetime.fromisoformat(candidate.image.taken_at) - datetime.datetime.min).total_seconds()


def has_copy_name(path: str) -> bool:
    """Whether the name of a file says that it is a copy or an edit: `photo (1).jpg`, `photo - copy.jpg`."""
    name = path.replace("\\", "/").rpartition("/")[2]
    return _COPY_NAME.search(name.rpartition(".")[0] or name) is not None


def _is_within_clock_step(score: float, best: float) -> bool:
    return score >= best - _CLOCK_STEP_S


def _is_about(share: float) -> Callable[[float, float], bool]:
    return lambda score, best: score >= share * best


_NO_LINK = _Criterion(lambda one, _: -bool(one.state.target), "the file itself", "symbolic link")
_NO_FRAME = _Criterion(
    lambda one, evidence: one.image.image_id not in evidence.framed,
    "nothing around the picture",
    "has a border or another picture around it",
)
_LARGER = _Criterion(lambda one, _: _count_pixels(one.image), "most pixels", "fewer pixels", _is_about(_SIMILAR_AREA))
_METADATA = _Criterion(
    lambda one, _: (one.image.taken_at is not None) + (one.image.camera is not None), "camera data", "less camera data"
)
_COLOR = _Criterion(lambda one, evidence: evidence.has_color(one.image), "in color", "gray")
_SHARPER = _Criterion(
    lambda one, evidence: evidence.measure_sharpness(one.image), "sharpest", "less sharp", _is_about(_SIMILAR_SHARPNESS)
)
_OLDER = (
    _Criterion(lambda one, _: -_find_time_s(one), "oldest", "newer", _is_within_clock_step),
    _Criterion(lambda one, _: -one.state.file.mtime_ns / 1e9, "oldest file", "newer file", _is_within_clock_step),
)
_NEWER = (
    _Criterion(lambda one, _: _find_time_s(one), "newest", "older", _is_within_clock_step),
    _Criterion(lambda one, _: one.state.file.mtime_ns / 1e9, "newest file", "older file", _is_within_clock_step),
)
_PLAIN_NAME = _Criterion(lambda one, _: -has_copy_name(one.state.path), "plain name", "named as a copy or an edit")
_SHORTER_PATH = _Criterion(lambda one, _: -len(one.state.path), "shortest path", "longer path")

_EVIDENCE = (_LARGER, _METADATA, _COLOR, _SHARPER, *_OLDER, _PLAIN_NAME)
_CRITERIA: dict[KeepRule, tuple[_Criterion, ...]] = {
    "largest": (_NO_LINK, _NO_FRAME, *_EVIDENCE),
    "oldest": (_NO_LINK, _NO_FRAME, *_OLDER, *_EVIDENCE),
    "newest": (_NO_LINK, _NO_FRAME, *_NEWER, *_EVIDENCE),
    "shortest-path": (_NO_LINK, _NO_FRAME, _SHORTER_PATH, *_EVIDENCE),
}
