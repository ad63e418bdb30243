"""Pairs of copies: the verified evidence with the similarity and the hash distance, and its form in the catalog."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from simsearch.matching.evidence import PairEvidence

VERIFIER_VERSION = 5
"""Changes when the comparison of pictures changes, so that pairs of an older version are compared again."""


@dataclass(frozen=True, slots=True)
class CopyPair:
    """Two images, the smaller id first, that are copies of one picture.

    `similarity` is their cosine, `hash_distance` the number of different bits of their perceptual hashes, of the
    mirrored one if that is closer; None where an image has no hash.
    """

    image_a: int
    image_b: int
    evidence: PairEvidence
    similarity: float
    hash_distance: int | None

    @property
    def key(self) -> tuple[int, int]:
        """The two image ids."""
        return self.image_a, self.image_b

    def find_other(self, image_id: int) -> int:
        """The other image of the pair."""
        return self.image_b if image_id == self.image_a else self.image_a

    @property
    def whole_id(self) -> int:
        """The image that shows more; the box lies in it."""
        return self.image_a if self.evidence.whole == "a" else self.image_b

    def to_dict(self) -> dict[str, Any]:
        """The pair as in the JSON report."""
        evidence = self.evidence.to_dict()
        return {
            "images": list(self.key),
            **evidence,
            "whole": self.whole_id,
            "similarity": round(self.similarity, 6),
            "hash_distance": self.hash_distance,
        }

    def to_json(self) -> str:
        """The evidence as stored in the catalog."""
        return json.dumps([self.evidence.to_dict(), self.similarity, self.hash_distance])

    @classmethod
    def from_json(cls, image_a: int, image_b: int, text: str) -> CopyPair:
        """The pair with evidence from the catalog."""
        evidence, similarity, hash_distance = json.loads(text)
        return cls(image_a, image_b, PairEvidence.from_dict(evidence), similarity, hash_distance)
