"""Selection of layers: by name, by index, and the last convolution of each map size."""

from __future__ import annotations

import pytest

from simsearch.errors import ModelError, UnknownLayer
from simsearch.models.layers import Layer, find_last_convolutions, select_layers


def make_network(*layers: tuple[str, tuple[int, int, int] | None]) -> list[Layer]:
    """Make layers by name and shape; names that start with conv are convolutions."""
    return [Layer(index, name, shape, name.startswith("conv")) for index, (name, shape) in enumerate(layers)]


SMALL = make_network(
    ("input", (8, 8, 3)),
    ("conv_a", (8, 8, 4)),
    ("conv_b", (8, 8, 4)),
    ("pool", (4, 4, 4)),
    ("conv_c", (4, 4, 6)),
    ("relu", (4, 4, 6)),
    ("conv_squeezed", None),
    ("flat", None),
    ("7", (4, 4, 6)),
)


def list_names(layers: list[Layer]) -> list[str]:
    return [layer.name for layer in layers]


def test_the_last_convolution_of_each_size_is_taken_in_the_order_of_the_network():
    assert list_names(select_layers(SMALL, (), "mine")) == ["conv_b", "conv_c"]


def test_map_size_that_recurs_is_one_block():
    branched = make_network(("conv_a", (8, 8, 1)), ("conv_b", (4, 4, 1)), ("conv_c", (8, 8, 1)), ("conv_d", (4, 8, 1)))
    assert list_names(find_last_convolutions(branched)) == ["conv_b", "conv_c", "conv_d"]


def test_layers_are_selected_by_name_or_index_in_order_without_repeats():
    assert list_names(select_layers(SMALL, ["relu", 1, "4", "conv_a", 0], "mine")) == [
        "relu",
        "conv_a",
        "conv_c",
        "input",
    ]


def test_a_layer_that_is_called_like_a_number_is_found_by_its_name():
    assert select_layers(SMALL, ["7"], "mine")[0].index == 8


@pytest.mark.parametrize("index", [9, -1, "9", "-3"])
def test_index_out_of_range_names_the_range(index: int | str):
    with pytest.raises(ModelError, match=rf"mine has no layer {index}; give an index from 0 \(the input\) to 8"):
        select_layers(SMALL, [index], "mine")


def test_a_misspelt_name_is_answered_with_near_ones():
    with pytest.raises(UnknownLayer) as caught:
        select_layers(SMALL, ["conv_aa"], "mine")
    assert caught.value.nearest[0] == "conv_a"


@pytest.mark.parametrize("layer", ["flat", 7, "conv_squeezed"])
def test_a_layer_without_maps_is_refused(layer: str | int):
    with pytest.raises(ModelError, match="outputs no feature maps"):
        select_layers(SMALL, [layer], "mine")


def test_a_network_without_convolutions_asks_for_layers():
    with pytest.raises(ModelError, match="mine has no convolution layer; choose the layers"):
        select_layers(make_network(("input", (8, 8, 3)), ("flat", None)), (), "mine")
