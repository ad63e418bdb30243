"""A real export, end to end: EfficientNet-Lite0 with its ImageNet weights, as PyTorch exports it.

The weights are in a pip package, the export needs PyTorch; `tests/support/export_lite0.py` makes the file.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simsearch.evaluation.model_check import check_model
from simsearch.models.choice import ModelChoice
from tests.conftest import ROOT

EXPORT = Path(os.environ.get("SIMSEARCH_LITE0", ROOT / "../shared/weights/efficientnet_lite0.onnx"))
PHOTOGRAPHS = ROOT / "../shared/photos/caltech101_small"


@pytest.mark.thorough
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not EXPORT.is_file(), reason="no export of EfficientNet-Lite0 (tests/support/export_lite0.py)")
@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="no photographs in ../shared")
def test_a_real_export_retrieves_as_it_was_measured_elsewhere():
    found = check_model(ModelChoice(backbone=str(EXPORT)), str(PHOTOGRAPHS))
    assert (found.backbone, found.width, found.n_images) == ("efficientnet_lite0", 1280, 1200)
    figures = (found.precision_at_1, found.precision_at_10, found.mean_average_precision)
    assert figures == pytest.approx((0.865, 0.682, 0.705), abs=0.01)
