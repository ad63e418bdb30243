"""The names of fused models, and their rows against cosines of centered vectors computed one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsearch.errors import UsageError
from simsearch.models.fusion import FusionTerm, RowFusion, join_terms, parse_fusion


def draw_rows(seed: int, n: int, d: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(0.3, 1, size=(n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_similarity_is_the_mean_of_centered_cosines_weighted_by_squares():
    parts = [draw_rows(1, 9, 5), draw_rows(2, 9, 7)]
    centers = [part.mean(axis=0) for part in parts]
    fused = RowFusion(tuple(centers), (1.0, 0.3)).join(parts)
    assert fused.shape == (9, 12)
    for a in range(9):
        for b in range(9):
            cosines = []
            for part, center in zip(parts, centers, strict=True):
                x, y = part[a] - center, part[b] - center
                cosines.append(float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)))
            expected = (cosines[0] + 0.09 * cosines[1]) / 1.09
            assert float(fused[a] @ fused[b]) == pytest.approx(expected, abs=1e-5)


def test_a_part_at_its_center_contributes_nothing_and_an_image_at_all_centers_becomes_zeros():
    parts = [draw_rows(1, 3, 5), draw_rows(2, 3, 7)]
    fused = RowFusion((parts[0][0], parts[1][1]), (1.0, 1.0)).join(parts)
    assert not fused[0, :5].any()
    assert np.linalg.norm(fused, axis=1) == pytest.approx([1, 1, 1])
    assert not RowFusion((parts[0][0], parts[1][0]), (1.0, 1.0)).join(parts)[0].any()


def test_names_are_parsed_and_written_in_one_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    terms = parse_fusion("builtin + .30 * histogram+2*resnet50")
    assert terms == (FusionTerm("builtin"), FusionTerm("histogram", 0.3), FusionTerm("resnet50", 2.0))
    assert join_terms(terms) == "builtin+0.3*histogram+2*resnet50"
    assert parse_fusion("builtin") is None
    monkeypatch.chdir(tmp_path)
    Path("a+b.onnx").touch()
    assert parse_fusion("a+b.onnx") is None  # an existing file


@pytest.mark.parametrize("name", ["builtin+", "+builtin", "builtin+0*histogram", "builtin+histogram+builtin", "a++b"])
def test_other_names_are_refused(name: str):
    with pytest.raises(UsageError):
        parse_fusion(name)


def test_centers_survive_serialization_and_other_bytes_are_refused():
    fusion = RowFusion((draw_rows(1, 1, 5)[0], draw_rows(2, 1, 3)[0]), (1.0, 0.5))
    restored = RowFusion.from_bytes(fusion.to_bytes(), [1.0, 0.5])
    assert restored.digest == fusion.digest
    for stored, weights in ((b"", [1.0, 0.5]), (fusion.to_bytes()[:-30], [1.0, 0.5]), (fusion.to_bytes(), [1.0])):
        with pytest.raises(ValueError, match="center"):
            RowFusion.from_bytes(stored, weights)
