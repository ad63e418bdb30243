"""The table of Keras backbones: every network of `keras.applications`, one row each.

Layer names, sizes, URLs and digests are those of Keras 3.15. Each license is the one that the Keras documentation and
the project behind the weights state for the weights. `tests/models/test_zoo.py` compares everything but licenses and
papers with the installed Keras.

To add a row: choose a `_BackboneFamily` below, or add one for a new naming scheme; add one line to `_ROWS` and, where
Keras publishes them, the digests to `_DIGESTS`; run the tests with `-m "long or not long"`. Take the values from a
graph built with `input_shape=(side_px, side_px, 3)` in a process where Keras has built nothing else, because the names
that Keras numbers itself (`activation_17`) depend on both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file of published ImageNet weights."""

    name: str
    """File name in Keras's cache; for NASNet it differs from the last part of `url`."""
    url: str
    """URL that Keras downloads it from."""
    digest: str
    """MD5 (32 hexadecimal digits) or SHA-256 (64), as Keras publishes it; empty where Keras publishes none."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A Keras network, with what is needed to build it, to scale its input and to take its features.

    The values hold for a graph built with `input_shape=(side_px, side_px, 3)`. Layer names that Keras numbers itself
    also require that it is the first graph of its process, or is built after `keras.backend.clear_session()`.
    """

    name: str
    """Value of `--backbone`."""
    constructor: str
    """Name of the function in `keras.applications`."""
    side_px: int
    """Width and height of the input for the published weights."""
    scaling: str
    """Keras's `preprocess_input` mode: caffe, tf or torch; none where the network contains the scaling."""
    layer: str
    """The last layer of the graph without head and pooling."""
    width: int
    """Channels of that layer: the length of a vector after pooling."""
    parameters: int
    """Number of parameters of the graph without head, trainable or not."""
    head_layers: tuple[str, ...]
    """Layers that only the graph with head has, in graph order."""
    license: str
    """License of the published weights (SPDX)."""
    paper: str
    """Authors, year and arXiv number."""
    top: WeightsFile
    """Weights with the classification head."""
    notop: WeightsFile
    """Weights without the head."""


@dataclass(frozen=True, slots=True)
class _BackboneFamily:
    """Values that several rows share. `{stem}` is replaced by the row's part of Keras's file names.

    `urls` and `names` are pairs: with head, without head. An empty name stands for the last part of the URL.
    """

    urls: tuple[str, str]
    scaling: str
    layer: str
    head_layers: tuple[str, ...]
    license: str
    paper: str
    names: tuple[str, str] = ("", "")

    def make(self, name: str, constructor: str, stem: str, side_px: int, width: int, parameters: int) -> Backbone:
        top_digest, notop_digest = _DIGESTS.get(name, ("", ""))
        return Backbone(
            name=name,
            constructor=constructor,
            side_px=side_px,
            scaling=self.scaling,
            layer=self.layer,
            width=width,
            parameters=parameters,
            head_layers=tuple(pattern.format(stem=stem) for pattern in self.head_layers),
            license=self.license,
            paper=self.paper,
            top=self._build_weights_file(0, stem, top_digest),
            notop=self._build_weights_file(1, stem, notop_digest),
        )

    def _build_weights_file(self, part: int, stem: str, digest: str) -> WeightsFile:
        url = self.urls[part].format(stem=stem)
        return WeightsFile(self.names[part].format(stem=stem) or url.rpartition("/")[2], url, digest)


_BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"


def _make_kernel_urls(folder: str) -> tuple[str, str]:
    start = f"{_BASE_URL}{folder}/{{stem}}_weights_tf_dim_ordering_tf_kernels"
    return f"{start}.h5", f"{start}_notop.h5"


_VGG = _BackboneFamily(
    urls=_make_kernel_urls("{stem}"),
    scaling="caffe",
    layer="block5_pool",
    head_layers=("flatten", "fc1", "fc2", "predictions"),
    license="CC-BY-4.0",
    paper="Simonyan & Zisserman 2015, arXiv:1409.1556",
)
_RESNET = _BackboneFamily(
    urls=_make_kernel_urls("resnet"),
    scaling="caffe",
    layer="conv5_block3_out",
    head_layers=("avg_pool", "predictions"),
    license="MIT",
    paper="He et al. 2016, arXiv:1512.03385",
)
_RESNET_V2 = _BackboneFamily(
    urls=_make_kernel_urls("resnet"),
    scaling="tf",
    layer="post_relu",
    head_layers=("avg_pool", "predictions"),
    license="BSD-3-Clause",
    paper="He et al. 2016, arXiv:1603.05027",
)
_XCEPTION = _BackboneFamily(
    urls=_make_kernel_urls("{stem}"),
    scaling="tf",
    layer="block14_sepconv2_act",
    head_layers=("avg_pool", "predictions"),
    license="MIT",
    paper="Chollet 2017, arXiv:1610.02357",
)
_INCEPTION_V3 = _BackboneFamily(
    urls=_make_kernel_urls("{stem}"),
    scaling="tf",
    layer="mixed10",
    head_layers=("avg_pool", "predictions"),
    license="Apache-2.0",
    paper="Szegedy et al. 2016, arXiv:1512.00567",
)
_INCEPTION_RESNET = _BackboneFamily(
    urls=_make_kernel_urls("{stem}"),
    scaling="tf",
    layer="conv_7b_ac",
    head_layers=("avg_pool", "predictions"),
    license="Apache-2.0",
    paper="Szegedy et al. 2017, arXiv:1602.07261",
)
_MOBILENET = _BackboneFamily(
    urls=(f"{_BASE_URL}mobilenet/{{stem}}_tf.h5", f"{_BASE_URL}mobilenet/{{stem}}_tf_no_top.h5"),
    scaling="tf",
    layer="conv_pw_13_relu",
    head_layers=("global_average_pooling2d", "dropout", "conv_preds", "reshape_2", "predictions"),
    license="Apache-2.0",
    paper="Howard et al. 2017, arXiv:1704.04861",
)
_MOBILENET_V2 = _BackboneFamily(
    urls=(
        f"{_BASE_URL}mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{{stem}}.h5",
        f"{_BASE_URL}mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{{stem}}_no_top.h5",
    ),
    scaling="tf",
    layer="out_relu",
    head_layers=("global_average_pooling2d", "predictions"),
    license="Apache-2.0",
    paper="Sandler et al. 2018, arXiv:1801.04381",
)


def _make_mobilenet_v3_family(activation: int) -> _BackboneFamily:
    start = f"{_BASE_URL}mobilenet_v3/weights_mobilenet_v3_{{stem}}_float"
    head = f"global_average_pooling2d conv_2 activation_{activation + 1} dropout logits flatten predictions"
    return _BackboneFamily(
        urls=(f"{start}.h5", f"{start}_no_top_v2.h5"),
        scaling="none",
        layer=f"activation_{activation}",
        head_layers=tuple(head.split()),
        license="Apache-2.0",
        paper="Howard et al. 2019, arXiv:1905.02244",
    )


_MOBILENET_V3_SMALL, _MOBILENET_V3_LARGE = _make_mobilenet_v3_family(17), _make_mobilenet_v3_family(19)
_DENSENET = _BackboneFamily(
    urls=_make_kernel_urls("densenet"),
    scaling="torch",
    layer="relu",
    head_layers=("avg_pool", "predictions"),
    license="BSD-3-Clause",
    paper="Huang et al. 2017, arXiv:1608.06993",
)


def _make_nasnet_family(activation: int) -> _BackboneFamily:
    return _BackboneFamily(
        urls=(f"{_BASE_URL}nasnet/NASNet-{{stem}}.h5", f"{_BASE_URL}nasnet/NASNet-{{stem}}-no-top.h5"),
        scaling="tf",
        layer=f"activation_{activation}",
        head_layers=("global_average_pooling2d", "predictions"),
        license="Apache-2.0",
        paper="Zoph et al. 2018, arXiv:1707.07012",
        names=("nasnet_{stem}.h5", "nasnet_{stem}_no_top.h5"),
    )


_NASNET_MOBILE, _NASNET_LARGE = _make_nasnet_family(187), _make_nasnet_family(259)
_EFFICIENTNET = _BackboneFamily(
    urls=(
        "https://storage.googleapis.com/keras-applications/{stem}.h5",
        "https://storage.googleapis.com/keras-applications/{stem}_notop.h5",
    ),
    scaling="none",
    layer="top_activation",
    head_layers=("avg_pool", "top_dropout", "predictions"),
    license="Apache-2.0",
    paper="Tan & Le 2019, arXiv:1905.11946",
)
_EFFICIENTNET_V2 = _BackboneFamily(
    urls=(f"{_BASE_URL}efficientnet_v2/{{stem}}.h5", f"{_BASE_URL}efficientnet_v2/{{stem}}_notop.h5"),
    scaling="none",
    layer="top_activation",
    head_layers=("avg_pool", "top_dropout", "predictions"),
    license="Apache-2.0",
    paper="Tan & Le 2021, arXiv:2104.00298",
)
_CONVNEXT = _BackboneFamily(
    urls=(f"{_BASE_URL}convnext/{{stem}}.h5", f"{_BASE_URL}convnext/{{stem}}_notop.h5"),
    scaling="none",
    layer="layer_normalization",
    head_layers=("{stem}_head_gap", "{stem}_head_layernorm", "{stem}_head_dense"),
    license="MIT",
    paper="Liu et al. 2022, arXiv:2201.03545",
)

# With head, without head. Keras publishes none for MobileNet and MobileNetV2.
_DIGESTS = {
    "vgg16": ("64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"),
    "resnet50": ("2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
    "vgg19": ("cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"),
    "resnet101": ("f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"),
    "resnet152": ("100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    "resnet50_v2": ("3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"),
    "resnet101_v2": ("6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"),
    "resnet152_v2": ("a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"),
    "xception": ("0a58e3b7378bc2990ea3b43d5981f1f6", "b0042744bf5b25fce3cb969f33bebb97"),
    "inception_v3": ("9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"),
    "inception_resnet_v2": ("e693bd0210a403b3192acc6073ad2e96", "d19885ff4a710c122648d3b5c3b684e4"),
    "mobilenet_v3_small": ("8768d4c2e7dee89b9d02b2d03d65d862", "d3e8ec802a04aa4fc771ee12a9a9b836"),
    "mobilenet_v3_large": ("59e551e166be033d707958cf9e29a6a7", "07fb09a5933dd0c8eaafa16978110389"),
    "densenet121": ("9d60b8095a5708f2dcce2bca79d332c7", "30ee3e1110167f948a6b9946edeeb738"),
    "densenet169": ("d699b8f76981ab1b30698df4c175e90b", "b8c4d4c20dd625c148057b9ff1c1176b"),
    "densenet201": ("1ceb130c1ea1b78c3bf6114dbdfd8807", "c13680b51ded0fb44dff2d8f86ac8bb1"),
    "nasnet_mobile": ("020fb642bf7360b370c678b08e0adf61", "1ed92395b5b598bdda52abe5c0dbfd63"),
    "nasnet_large": ("11577c9a518f0070763c2b964a382f17", "d81d89dc07e6e56530c4e77faddd61b5"),
    "efficientnet_b0": ("902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d"),
    "efficientnet_b1": ("1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432"),
    "efficientnet_b2": ("b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39"),
    "efficientnet_b3": ("ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226"),
    "efficientnet_b4": ("18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba"),
    "efficientnet_b5": ("ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f"),
    "efficientnet_b6": ("165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743"),
    "efficientnet_b7": ("8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a"),
    "efficientnet_v2_b0": ("21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff"),
    "efficientnet_v2_b1": ("069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37"),
    "efficientnet_v2_b2": ("424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb"),
    "efficientnet_v2_b3": ("1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856"),
    "efficientnet_v2_s": ("e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070"),
    "efficientnet_v2_m": ("a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342"),
    "efficientnet_v2_l": ("27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615"),
    "convnext_tiny": (
        "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
        "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
    "convnext_small": (
        "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
        "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
    ),
    "convnext_base": (
        "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
        "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
    ),
    "convnext_large": (
        "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
        "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
    ),
    "convnext_xlarge": (
        "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee",
        "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
    ),
}

# name, constructor, stem of the files' names, side_px, width, parameters
_ROWS = (
    _VGG.make("vgg16", "VGG16", "vgg16", 224, 512, 14_714_688),
    _RESNET.make("resnet50", "ResNet50", "resnet50", 224, 2048, 23_587_712),
    _VGG.make("vgg19", "VGG19", "vgg19", 224, 512, 20_024_384),
    _RESNET.make("resnet101", "ResNet101", "resnet101", 224, 2048, 42_658_176),
    _RESNET.make("resnet152", "ResNet152", "resnet152", 224, 2048, 58_370_944),
    _RESNET_V2.make("resnet50_v2", "ResNet50V2", "resnet50v2", 224, 2048, 23_564_800),
    _RESNET_V2.make("resnet101_v2", "ResNet101V2", "resnet101v2", 224, 2048, 42_626_560),
    _RESNET_V2.make("resnet152_v2", "ResNet152V2", "resnet152v2", 224, 2048, 58_331_648),
    _XCEPTION.make("xception", "Xception", "xception", 299, 2048, 20_861_480),
    _INCEPTION_V3.make("inception_v3", "InceptionV3", "inception_v3", 299, 2048, 21_802_784),
    _INCEPTION_RESNET.make("inception_resnet_v2", "InceptionResNetV2", "inception_resnet_v2", 299, 1536, 54_336_736),
    _MOBILENET.make("mobilenet", "MobileNet", "mobilenet_1_0_224", 224, 1024, 3_228_864),
    _MOBILENET_V2.make("mobilenet_v2", "MobileNetV2", "1.0_224", 224, 1280, 2_257_984),
    _MOBILENET_V3_SMALL.make("mobilenet_v3_small", "MobileNetV3Small", "small_224_1.0", 224, 576, 939_120),
    _MOBILENET_V3_LARGE.make("mobilenet_v3_large", "MobileNetV3Large", "large_224_1.0", 224, 960, 2_996_352),
    _DENSENET.make("densenet121", "DenseNet121", "densenet121", 224, 1024, 7_037_504),
    _DENSENET.make("densenet169", "DenseNet169", "densenet169", 224, 1664, 12_642_880),
    _DENSENET.make("densenet201", "DenseNet201", "densenet201", 224, 1920, 18_321_984),
    _NASNET_MOBILE.make("nasnet_mobile", "NASNetMobile", "mobile", 224, 1056, 4_269_716),
    _NASNET_LARGE.make("nasnet_large", "NASNetLarge", "large", 331, 4032, 84_916_818),
    _EFFICIENTNET.make("efficientnet_b0", "EfficientNetB0", "efficientnetb0", 224, 1280, 4_049_571),
    _EFFICIENTNET.make("efficientnet_b1", "EfficientNetB1", "efficientnetb1", 240, 1280, 6_575_239),
    _EFFICIENTNET.make("efficientnet_b2", "EfficientNetB2", "efficientnetb2", 260, 1408, 7_768_569),
    _EFFICIENTNET.make("efficientnet_b3", "EfficientNetB3", "efficientnetb3", 300, 1536, 10_783_535),
    _EFFICIENTNET.make("efficientnet_b4", "EfficientNetB4", "efficientnetb4", 380, 1792, 17_673_823),
    _EFFICIENTNET.make("efficientnet_b5", "EfficientNetB5", "efficientnetb5", 456, 2048, 28_513_527),
    _EFFICIENTNET.make("efficientnet_b6", "EfficientNetB6", "efficientnetb6", 528, 2304, 40_960_143),
    _EFFICIENTNET.make("efficientnet_b7", "EfficientNetB7", "efficientnetb7", 600, 2560, 64_097_687),
    _EFFICIENTNET_V2.make("efficientnet_v2_b0", "EfficientNetV2B0", "efficientnetv2-b0", 224, 1280, 5_919_312),
    _EFFICIENTNET_V2.make("efficientnet_v2_b1", "EfficientNetV2B1", "efficientnetv2-b1", 240, 1280, 6_931_124),
    _EFFICIENTNET_V2.make("efficientnet_v2_b2", "EfficientNetV2B2", "efficientnetv2-b2", 260, 1408, 8_769_374),
    _EFFICIENTNET_V2.make("efficientnet_v2_b3", "EfficientNetV2B3", "efficientnetv2-b3", 300, 1536, 12_930_622),
    _EFFICIENTNET_V2.make("efficientnet_v2_s", "EfficientNetV2S", "efficientnetv2-s", 384, 1280, 20_331_360),
    _EFFICIENTNET_V2.make("efficientnet_v2_m", "EfficientNetV2M", "efficientnetv2-m", 480, 1280, 53_150_388),
    _EFFICIENTNET_V2.make("efficientnet_v2_l", "EfficientNetV2L", "efficientnetv2-l", 480, 1280, 117_746_848),
    _CONVNEXT.make("convnext_tiny", "ConvNeXtTiny", "convnext_tiny", 224, 768, 27_820_128),
    _CONVNEXT.make("convnext_small", "ConvNeXtSmall", "convnext_small", 224, 768, 49_454_688),
    _CONVNEXT.make("convnext_base", "ConvNeXtBase", "convnext_base", 224, 1024, 87_566_464),
    _CONVNEXT.make("convnext_large", "ConvNeXtLarge", "convnext_large", 224, 1536, 196_230_336),
    _CONVNEXT.make("convnext_xlarge", "ConvNeXtXLarge", "convnext_xlarge", 224, 2048, 348_147_968),
)

BACKBONES: Mapping[str, Backbone] = MappingProxyType({row.name: row for row in _ROWS})
"""Rows by name, in table order."""

VERIFIED_BACKBONES = frozenset({"mobilenet", "mobilenet_v2"})
"""The rows that this project has run with their published weights; the others with random weights, against Keras."""
