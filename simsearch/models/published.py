"""The table of published ONNX models: where they are, what they need, and under which license.

Revisions are commits, so the files cannot change. Sizes and SHA-256 digests are of these revisions, as several projects
that pin the same files state them; a file without a digest is pinned by its first download (`hub.py`). Pre-processing
is that of the model's own settings file. This project has no network while it is developed: `is_verified` says whether
it has run a row with its real weights (`simsearch backbones --check NAME`).

To add a row: pin a commit, take size and digest from its file list, and add tests for what is new in its form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from simsearch.models.image_processor import ImageSettings
from simsearch.models.model import SCALINGS


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository. `size_bytes` is 0 and `sha256` empty where they are not known."""

    path: str
    size_bytes: int = 0
    sha256: str = ""
    repository: str = ""
    """Where it is not in the repository of its row."""
    revision: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedText:
    """The text encoder of a row: its graph, and how texts become ids; see `TextTower`."""

    graph: HubFile
    tokenizer: HubFile
    context_length: int
    pad_token: str | None
    lowers_case: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedBackbone:
    """A published model.

    The first of `files` is the image encoder; the others are its data files. `output` is the tensor that is the
    embedding, None for the choice by name (`onnx_graph.py`). `license_file` is its path in the repository. A restricted
    license has limits on use, so a download needs the user's consent.
    """

    name: str
    repository: str
    revision: str
    files: tuple[HubFile, ...]
    settings: ImageSettings
    width: int
    parameters: int
    license: str
    license_url: str
    paper: str
    output: str | None = None
    text: PublishedText | None = None
    license_file: str | None = None
    is_restricted: bool = False
    is_verified: bool = False

    @property
    def size_bytes(self) -> int:
        """The size of the files of the image encoder; 0 where it is not known."""
        sizes = [file.size_bytes for file in self.files]
        return sum(sizes) if all(sizes) else 0


_DINOV2 = ImageSettings(side_px=224, resize="crop", shortest_px=256, interpolation="bicubic", scaling=SCALINGS["torch"])
_OPEN_CLIP_256 = ImageSettings(
    side_px=256,
    resize="crop",
    shortest_px=256,
    crop_offset="round",
    interpolation="bicubic",
    scaling=SCALINGS["clip"],
)
_CLIP_224 = ImageSettings(
    side_px=224, resize="crop", shortest_px=224, interpolation="bicubic", scaling=SCALINGS["clip"]
)
_MOBILECLIP = ImageSettings(
    side_px=256, resize="crop", shortest_px=256, crop_offset="round", interpolation="bilinear", scaling=SCALINGS["unit"]
)
_SIGLIP2 = ImageSettings(side_px=224, resize="squash", interpolation="bilinear", scaling=SCALINGS["tf"])
_DINOV3 = ImageSettings(side_px=224, resize="squash", interpolation="bilinear", scaling=SCALINGS["torch"])

_APACHE_URL = "https://www.apache.org/licenses/LICENSE-2.0"
_DINOV2_PAPER = "Oquab et al. 2023, arXiv:2304.07193"
_REGISTERS_PAPER = "Darcet et al. 2024, arXiv:2309.16588"


def _make_dinov2(
    name: str, repository: str, revision: str, file: HubFile, width: int, parameters: int, paper: str
) -> PublishedBackbone:
    return PublishedBackbone(
        name=name,
        repository=f"onnx-community/{repository}",
        revision=revision,
        files=(file,),
        settings=_DINOV2,
        width=width,
        parameters=parameters,
        license="Apache-2.0",
        license_url=_APACHE_URL,
        paper=paper,
    )


def _make_mobileclip2(size: str, files: tuple[HubFile, HubFile], parameters: int) -> PublishedBackbone:
    return PublishedBackbone(
        name=f"mobileclip2_{size}",
        repository="plhery/mobileclip2-onnx",
        revision="ba95759a5bdbaca53e9111e2550a76ec09c8fd9e",
        files=(files[0],),
        settings=_MOBILECLIP,
        width=512,
        parameters=parameters,
        license="Apple AMLR",
        license_url="https://github.com/apple/ml-mobileclip/blob/main/LICENSE_weights_data",
        is_restricted=True,
        paper="Faghri et al. 2025, arXiv:2508.20691",
        text=PublishedText(
            graph=files[1],
            tokenizer=HubFile(
                "tokenizer.json", 2_224_041, "b556ac8c99757ffb677208af34bc8c6721572114111a6e0aaf5fa69ff0b8d842"
            ),
            context_length=77,
            pad_token=None,
        ),
    )


_ROWS = (
    _make_dinov2(
        "dinov2_small", "dinov2-small", "8b1f705a3a7f6f062f6bdd21986c1583d3ef105d",
        HubFile("onnx/model.onnx", 88_532_934, "f22797eabf810a75e41de68d378541ebea372122b25c4ce3ef25ff618250c20a"),
        384, 22_056_576, _DINOV2_PAPER,
    ),
    _make_dinov2(
        "dinov2_base", "dinov2-base", "31ef06cac16d5d301c5930d147002a058c85a5e4",
        HubFile("onnx/model.onnx", 346_627_111, "320d1012a6fc65b101fc85ca30ee7a47b2e4f6a2e8bd78fb9d7036def0e30cb0"),
        768, 86_580_480, _DINOV2_PAPER,
    ),
    _make_dinov2(
        "dinov2_small_registers", "dinov2-with-registers-small", "ec7abea1a8757ec4f9f7b26399d31234ffaa6e6a",
        HubFile("onnx/model.onnx", 0, "815e440d222e60294bb5b165491c4760e7f08dc7ecd2488a5450e93d50887efe"),
        384, 22_058_112, _REGISTERS_PAPER,
    ),
    _make_dinov2(
        "dinov2_base_registers", "dinov2-with-registers-base", "main",
        HubFile("onnx/model.onnx"), 768, 86_583_552, _REGISTERS_PAPER,
    ),
    PublishedBackbone(
        name="siglip2_base",
        repository="onnx-community/siglip2-base-patch16-224-ONNX",
        revision="ba1f3b0843f24bc5417d38e19c37b287d719b2f4",
        files=(HubFile("onnx/vision_model.onnx"),),
        settings=_SIGLIP2,
        output="pooler_output",
        width=768,
        parameters=92_900_000,
        license="Apache-2.0",
        license_url=_APACHE_URL,
        paper="Tschannen et al. 2025, arXiv:2502.14786",
        text=PublishedText(
            graph=HubFile("onnx/text_model.onnx"),
            tokenizer=HubFile(
                "tokenizer.json", 0, "cb9140fae3ac5122c972d37adf83e1248471a38147ad76f8215c8872c6fd8322"
            ),
            context_length=64,
            pad_token="<pad>",
            lowers_case=True,
        ),
    ),
    PublishedBackbone(
        name="clip_vit_b32",
        repository="yurijmikhalevich/rclip-models",
        revision="17b9d07433aad73f70d338d8a1c7a4cef83887e0",
        files=(
            HubFile(
                "ViT-B-32-256-datacomp_s34b_b86k/visual.onnx", 351_826_068,
                "3f7e6f94e5a34bc7ee8aba84aec0f963f56974ab405fbcd334c8e1c3f832bd2c",
            ),
        ),
        settings=_OPEN_CLIP_256,
        width=512,
        parameters=87_900_000,
        license="MIT",
        license_url="https://github.com/mlfoundations/open_clip/blob/main/LICENSE",
        paper="Gadre et al. 2023, arXiv:2304.14108",
        text=PublishedText(
            graph=HubFile(
                "ViT-B-32-256-datacomp_s34b_b86k/textual.onnx", 254_344_274,
                "ee267cd64f0f77362670ae0140476ed51ee8c5a761d41636e09997f2fdddcacc",
            ),
            tokenizer=HubFile(
                "tokenizer.json", 2_224_081, "72ed5c96db5729294468543e4bc75fce14ca63f58e37300290189ba1c1e52b85",
                "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", "4afec35ffe57a943d569ff7ee888061830164da8",
            ),
            context_length=77,
            pad_token=None,
        ),
    ),
    PublishedBackbone(
        name="tinyclip_8m",
        repository="onnx-community/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M-ONNX",
        revision="9463a9c508a344c837ffefe9d724f3827bf2dc79",
        files=(
            HubFile(
                "onnx/model.onnx", 94_071_688, "31d28cb07209533d10fc4fef73ac324ce17de6741a2372e7e1531a4ac8fdaeb2"
            ),
        ),
        settings=_CLIP_224,
        output="image_embeds",
        width=512,
        parameters=8_300_000,
        license="MIT",
        license_url="https://github.com/microsoft/Cream/blob/main/TinyCLIP/LICENSE",
        paper="Wu et al. 2023, arXiv:2309.12314",
        text=PublishedText(
            graph=HubFile(
                "onnx/model.onnx", 94_071_688, "31d28cb07209533d10fc4fef73ac324ce17de6741a2372e7e1531a4ac8fdaeb2"
            ),
            tokenizer=HubFile(
                "tokenizer.json", 3_642_073, "6d9109cc838977f3ca94a379eec36aecc7c807e1785cd729660ca2fc0171fb35"
            ),
            context_length=77,
            pad_token="<|endoftext|>",
        ),
    ),
    PublishedBackbone(
        name="dinov3_vits16",
        repository="onnx-community/dinov3-vits16-pretrain-lvd1689m-ONNX",
        revision="48988dfe73065df8d6f5ccc0edc7c8bcf307de41",
        files=(
            HubFile("onnx/model.onnx", 137_969, "bb75e9e30ff382ecdbd150266445ab41272be4acc85fd3563218dd89781e36da"),
            HubFile(
                "onnx/model.onnx_data", 86_347_776, "1eff0bb9f4fdef831ca61c8bc2b5c88d8cc21ef4756d3b483d9b9c15d8d5d27f"
            ),
        ),
        settings=_DINOV3,
        output="pooler_output",
        width=384,
        parameters=21_600_000,
        license="DINOv3 License",
        license_url="https://ai.meta.com/resources/models-and-libraries/dinov3-license",
        license_file="LICENSE.md",
        is_restricted=True,
        paper="Siméoni et al. 2025, arXiv:2508.10104",
    ),
    _make_mobileclip2(
        "s0",
        (
            HubFile(
                "onnx/s0/vision_model.onnx", 45_555_784,
                "13d20ebfa8a8f63890eb2727fe4dc63009ff970f43e0f7d9d2ed999659f70c8a",
            ),
            HubFile(
                "onnx/s0/text_model.onnx", 254_053_669,
                "df590d47744f2ee9f3ccb67c4414d17419568c05bca0c4d166f2faeedf8b92f3",
            ),
        ),
        11_400_000,
    ),
    _make_mobileclip2(
        "s2",
        (
            HubFile(
                "onnx/s2/vision_model.onnx", 143_044_797,
                "a841f72c5a5085748bbe271a1d5718aba877822a15cba865bdbd0d37036b849e",
            ),
            HubFile(
                "onnx/s2/text_model.onnx", 254_053_669,
                "622f10372bca71b5017f2efc5f8c2886610a2592b636de8984d717f03213f031",
            ),
        ),
        35_700_000,
    ),
)  # fmt: skip

PUBLISHED: Mapping[str, PublishedBackbone] = MappingProxyType({row.name: row for row in _ROWS})
"""All rows, in the order of the table, by `--backbone`."""
