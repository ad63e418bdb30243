"""The result of a quality check: findings, each with an image, a kind and a reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, get_args

QualityKind = Literal["blurred", "dark", "bright", "uniform", "tiny", "odd-shaped", "outlier", "mislabelled"]
QUALITY_KINDS: tuple[QualityKind, ...] = get_args(QualityKind)


@dataclass(frozen=True, slots=True)
class QualityFinding:
    """A picture that is worth a look. `value` is the measured number, `reason` says what it means.

    `path` is the image's first file.
    """

    kind: QualityKind
    image_id: int
    path: str
    value: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The finding as `check --json` prints it."""
        return {
            "kind": self.kind,
            "image_id": self.image_id,
            "path": self.path,
            "value": round(self.value, 4),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class QualityReport:
    """The findings, by kind, the worst first; a picture may have several.

    `n_images` were checked. `n_unread` of them have no statistics because their files cannot be read. `labels_from`
    says where the labels come from; empty without labels, when nothing is said about mislabelled images.
    """

    n_images: int
    n_unread: int
    labels_from: str
    findings: tuple[QualityFinding, ...]

    def count(self) -> dict[QualityKind, int]:
        """The number of findings of each kind, zeros included."""
        counts = Counter(finding.kind for finding in self.findings)
        return {kind: counts[kind] for kind in QUALITY_KINDS}

    def select(self, kind: QualityKind) -> tuple[QualityFinding, ...]:
        """The findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def to_dict(self) -> dict[str, Any]:
        """The report as `check --json` prints it, below the collection."""
        return {
            "images": self.n_images,
            "unread": self.n_unread,
            "labels": self.labels_from,
            "counts": self.count(),
            "findings": [finding.to_dict() for finding in self.findings],
        }
