"""Verify hits against the pixels of the query: the same picture, a part of it, or not verified.

The first hits by the model are compared with the query picture, as in copy detection: local features align the two, and
their pixels decide (`matching.verification`). Verified hits come first; within both parts the order stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from simsearch.errors import ImageError
from simsearch.images.decode import DecodedImage, decode_image
from simsearch.machine import count_cores
from simsearch.matching.evidence import PairEvidence
from simsearch.matching.features import DECODE_PX, PictureRendition, render_for_matching
from simsearch.matching.verification import verify_pair
from simsearch.search.results import UNVERIFIED, Hit, HitVerification
from simsearch.store.originals import read_original
from simsearch.store.snapshot import Snapshot, StoredImage


def verify_hits(
    query: DecodedImage, hits: Sequence[Hit], n: int, snapshot: Snapshot, max_pixels: int
) -> tuple[list[Hit], int]:
    """Verify the first n hits, sort the verified ones to the front, and count those whose files cannot be read.

    Ranks are counted anew from 1.
    """
    rendition = render_for_matching(query)
    first = hits[:n]
    images = snapshot.read_images([hit.image_id for hit in first])
    with ThreadPoolExecutor(count_cores()) as pool:
        verifications = list(pool.map(lambda hit: _verify(rendition, images.get(hit.image_id), max_pixels), first))
    marked = [
        replace(hit, verification=verification or UNVERIFIED)
        for hit, verification in zip(first, verifications, strict=True)
    ]
    ordered = sorted(marked, key=lambda hit: hit.verification == UNVERIFIED)
    numbered = [replace(hit, rank=rank) for rank, hit in enumerate([*ordered, *hits[n:]], start=1)]
    return numbered, sum(verification is None for verification in verifications)


def _verify(query: PictureRendition, image: StoredImage | None, max_pixels: int) -> HitVerification | None:
    """Compare an image with the query; None if it cannot be read."""
    if image is None:
        return None
    try:
        raw = read_original(image, max_pixels)
        picture = decode_image(raw.data, raw.path, max_pixels=max_pixels, target_px=DECODE_PX)
    except ImageError:
        return None
    return describe_match(verify_pair(query, render_for_matching(picture)))


def describe_match(evidence: PairEvidence | None) -> HitVerification:
    """Describe the evidence of a pair (query, hit) as the mark of the hit."""
    if evidence is None:
        return UNVERIFIED
    is_part = "crop of" in evidence.kinds
    return HitVerification(
        "part of" if is_part else "same picture", evidence.kinds, evidence.n_inliers, round(evidence.agreement, 4),
        "query" if evidence.whole == "a" else "hit", evidence.box if is_part else None,
    )  # fmt: skip
