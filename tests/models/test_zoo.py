"""The table of backbones against the installed Keras."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import keras
import pytest

from simsearch.models.zoo import BACKBONES

pytestmark = pytest.mark.long

ROWS = tuple(BACKBONES.values())

# The networks that are built in every run, without head; the others, 3 s each on average, are thorough. The table
# changes only with an edit of a row or another Keras.
QUICK = {"mobilenet", "mobilenet_v2", "mobilenet_v3_small"}
# Of these, those that are built with head as well, and asked for their weights in a process of their own.
QUICK_WITH_HEAD = {"mobilenet", "mobilenet_v3_small"}


def list_rows(quick):
    return [pytest.param(row, marks=() if row.name in quick else pytest.mark.thorough, id=row.name) for row in ROWS]


class BackboneNetwork:
    """One row and its two Keras graphs, each built as the first graph of a process.

    Clearing the session also frees the memory of the row before, up to 1.5 GB.
    """

    def __init__(self, row):
        self.row = row

    @cached_property
    def without_head(self):
        keras.backend.clear_session()
        return getattr(keras.applications, self.row.constructor)(
            weights=None, include_top=False, input_shape=(self.row.side_px, self.row.side_px, 3)
        )

    @cached_property
    def with_head(self):
        keras.backend.clear_session()
        return getattr(keras.applications, self.row.constructor)(weights=None)


@pytest.fixture(scope="module")
def network(request):
    return BackboneNetwork(request.param)


def test_every_network_of_keras_has_a_row():
    constructors = [name for name, value in vars(keras.applications).items() if inspect.isfunction(value)]
    assert sorted(row.constructor for row in ROWS) == sorted(constructors)


def test_a_row_is_found_by_its_name():
    assert {name: row.name for name, row in BACKBONES.items()} == {name: name for name in BACKBONES}


def test_vgg16_and_resnet50_come_first():
    assert list(BACKBONES)[:2] == ["vgg16", "resnet50"]


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        BACKBONES["mine"] = BACKBONES["vgg16"]


def test_importing_the_table_imports_no_keras():
    ask = "import sys, simsearch.models.zoo; sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", ask], check=False).returncode == 0


@pytest.mark.parametrize("network", list_rows(QUICK), indirect=True)
def test_the_layer_is_the_last_without_head(network):
    assert network.without_head.layers[-1].name == network.row.layer


@pytest.mark.parametrize("network", list_rows(QUICK), indirect=True)
def test_layer_has_the_channels_of_the_row(network):
    shape = network.without_head.get_layer(network.row.layer).output.shape
    assert (len(shape), shape[-1]) == (4, network.row.width)


@pytest.mark.parametrize("network", list_rows(QUICK), indirect=True)
def test_graph_without_head_has_the_parameters_of_the_row(network):
    assert network.without_head.count_params() == network.row.parameters


@pytest.mark.parametrize("network", list_rows(QUICK_WITH_HEAD), indirect=True)
def test_graph_with_head_has_the_input_side_of_the_row(network):
    side = network.with_head.input_shape[1]
    if side is None:  # MobileNetV3's graph takes any; the published file's name tells what it was trained on
        side = int(re.search(r"_(\d+)_", network.row.top.name)[1])
    assert side == network.row.side_px


@pytest.mark.parametrize("network", list_rows(QUICK_WITH_HEAD), indirect=True)
def test_the_layers_of_the_head_are_those_only_the_graph_with_head_has(network):
    others = {layer.name for layer in network.without_head.layers}
    head = tuple(layer.name for layer in network.with_head.layers if layer.name not in others)
    assert head == network.row.head_layers


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_digests_stand_in_the_sources_of_keras(row):
    folder = Path(inspect.getfile(keras.applications.VGG16)).parent
    known = set(re.findall(r'"([0-9a-f]{32}|[0-9a-f]{64})"', "".join(map(Path.read_text, folder.glob("*.py")))))
    assert {row.top.digest, row.notop.digest} <= known | {""}


def test_no_two_weights_files_share_a_name_or_a_url():
    files = [file for row in ROWS for file in (row.top, row.notop)]
    assert len({file.name for file in files}) == len({file.url for file in files}) == len(files)


# Keras is asked for each file of weights where no download can succeed, with a wrong file in its cache under
# the name the row gives. It finds that file, or the row's name is wrong; it says which digest it expects, if
# it expects one, and from where it would download.
ASK = """
import contextlib, io, json, os, pathlib, re, sys
import keras

def build(constructor, side, head):
    keras.backend.clear_session()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            getattr(keras.applications, constructor)(
                weights="imagenet", include_top=head, input_shape=(side, side, 3)
            )
        except Exception:
            return said.getvalue()
    raise SystemExit(f"{constructor}: Keras took a wrong file for its weights")

cache = pathlib.Path(os.environ["KERAS_HOME"], "models")
cache.mkdir()
for constructor, side, head, name in json.load(sys.stdin):
    (cache / name).write_bytes(b"no weights")
    said = build(constructor, side, head)
    digest = re.search(r"the original value of (\\w+)", said)
    downloads = "Downloading data from " in said
    if not downloads:
        (cache / name).unlink()
        said = build(constructor, side, head)
    print(json.dumps({
        "name": name if digest or not downloads else None,
        "url": re.search(r"Downloading data from (\\S+)", said)[1],
        "digest": digest[1] if digest else "",
    }))
"""


def ask_keras(rows, home):
    """The files that Keras requests, by row name: with head, without head."""
    nowhere = "http://127.0.0.1:9"  # nothing listens there
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment |= {"http_proxy": nowhere, "https_proxy": nowhere}
    environment["KERAS_HOME"] = str(home)
    questions = [
        (row.constructor, row.side_px, head, file.name)
        for row in rows
        for head, file in ((True, row.top), (False, row.notop))
    ]
    answer = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps(questions),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    files = [json.loads(line) for line in answer.stdout.splitlines()]
    return dict(zip((row.name for row in rows), zip(files[::2], files[1::2], strict=True), strict=True))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return ask_keras([row for row in ROWS if row.name in QUICK_WITH_HEAD], tmp_path_factory.mktemp("keras"))


@pytest.fixture(scope="module")
def published_others(tmp_path_factory):
    return ask_keras([row for row in ROWS if row.name not in QUICK_WITH_HEAD], tmp_path_factory.mktemp("keras"))


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in QUICK_WITH_HEAD], ids=lambda row: row.name)
def test_the_weights_files_are_those_keras_asks_for(row, published):
    check_published(row, published)


@pytest.mark.thorough
@pytest.mark.parametrize("row", [row for row in ROWS if row.name not in QUICK_WITH_HEAD], ids=lambda row: row.name)
def test_the_weights_files_of_the_larger_networks_are_those_keras_asks_for(row, published_others):
    check_published(row, published_others)


def check_published(row, published):
    ours = tuple({"name": file.name, "url": file.url, "digest": file.digest} for file in (row.top, row.notop))
    assert published[row.name] == ours
