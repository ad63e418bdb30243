"""The user's own model and its JSON file; no network is loaded."""

from __future__ import annotations

import json
import shutil

import pytest

from simsearch.errors import ModelError
from simsearch.models.custom_model import hash_model, is_model_file, read_model_file
from simsearch.models.model import SCALINGS, Scaling
from tests.support.onnx_models import TinyEncoder

WELL = {"side": 96, "scaling": "torch"}
OWN = {"channels": "bgr", "scale": [0.5, 1, 2], "offset": [0, -1.5, 3]}


@pytest.fixture
def path(tmp_path):
    """An `.onnx` file with valid settings."""
    TinyEncoder(outputs=("image_embeds",)).save(tmp_path / "flowers.onnx")
    (tmp_path / "flowers.json").write_text(json.dumps(WELL))
    return tmp_path / "flowers.onnx"


def read_model(path, **choice):
    return read_model_file(str(path), **({"layer": None, "pooling": None, "resize": None} | choice))


def write_settings(path, settings):
    text = settings if isinstance(settings, str) else json.dumps(settings)
    path.with_suffix(".json").write_text(text, encoding="utf-8")


def make_saved_model(folder, content=b"a graph, as it were"):
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(content)
    (folder / "variables" / "variables.data").write_bytes(b"numbers")
    write_settings(folder, WELL)
    return folder


# What is read --------------------------------------------------------------------------------------------------------


def test_fields_missing_in_the_json_have_defaults(path):
    model = read_model(path)
    assert (model.backbone, model.runtime, model.file) == ("flowers", "onnx", str(path))
    assert (model.side_px, model.scaling) == (96, SCALINGS["torch"])
    assert (model.resize, model.layer, model.pooling) == ("squash", None, "avg")


def test_json_holds_all_input_settings(path):
    write_settings(path, {"side": 32, "scaling": "caffe", "resize": "pad", "layer": "features", "pooling": "gem"})
    model = read_model(path)
    assert (model.side_px, model.scaling) == (32, SCALINGS["caffe"])
    assert (model.resize, model.layer, model.pooling) == ("pad", "features", "gem")


def test_arguments_override_the_json(path):
    write_settings(path, WELL | {"resize": "pad", "layer": "features", "pooling": "gem"})
    model = read_model(path, resize="crop", layer="other", pooling="max")
    assert (model.resize, model.layer, model.pooling) == ("crop", "other", "max")


@pytest.mark.parametrize(
    ("own", "scaling"),
    [
        (OWN, Scaling("bgr", (0.5, 1.0, 2.0), (0.0, -1.5, 3.0))),
        ({"scale": [1, 2, 3]}, Scaling("rgb", (1.0, 2.0, 3.0), (0.0, 0.0, 0.0))),
    ],
    ids=["whole", "shortest"],
)
def test_a_scaling_can_be_written_in_numbers(path, own, scaling):
    write_settings(path, WELL | {"scaling": own})
    assert read_model(path).scaling == scaling


def test_extension_determines_the_format(path):
    assert read_model(path).runtime == "onnx"
    path.with_name("flowers.keras").write_bytes(b"")
    assert read_model(path.with_name("flowers.keras")).runtime == "keras-file"


def test_a_folder_with_a_saved_model_is_one(tmp_path):
    model = read_model(make_saved_model(tmp_path / "flowers"))
    assert (model.backbone, model.runtime, model.file) == ("flowers", "saved-model", str(tmp_path / "flowers"))


def test_a_slash_behind_a_folder_changes_nothing(tmp_path):
    folder = make_saved_model(tmp_path / "flowers")
    assert read_model(f"{folder}/") == read_model(folder)


def test_name_is_made_valid_for_every_file_system(path):
    odd = path.with_name("my flowers (größer).onnx")
    shutil.copy(path, odd)
    write_settings(odd, WELL)
    assert read_model(odd).backbone == "my_flowers_gr_er_"


def test_the_file_of_a_relative_path_is_absolute(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    assert read_model("flowers.onnx") == read_model(path)


@pytest.mark.parametrize("name", ["flowers.onnx", "flowers.keras", "somewhere/flowers"])
def test_a_path_or_an_ending_means_a_model_file(name):
    assert is_model_file(name)


def test_a_bare_name_means_a_model_file_only_where_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_model_file("flowers")
    make_saved_model(tmp_path / "flowers")
    assert is_model_file("flowers")


# Digests -------------------------------------------------------------------------------------------------------------


def test_the_digest_is_of_the_content_and_not_of_the_place(path, tmp_path):
    before = read_model(path)
    moved = tmp_path / "elsewhere" / "flowers.onnx"
    moved.parent.mkdir()
    shutil.copy(path, moved)
    shutil.copy(path.with_suffix(".json"), moved.with_suffix(".json"))
    assert read_model(moved).fingerprint == before.fingerprint
    TinyEncoder(outputs=("image_embeds",), seed=1).save(path)
    assert read_model(path).weights != before.weights


def test_every_file_of_a_saved_model_counts(tmp_path):
    folder = make_saved_model(tmp_path / "flowers")
    digests = {hash_model(str(folder))}
    (folder / "variables" / "variables.data").write_bytes(b"other numbers")
    digests.add(hash_model(str(folder)))
    (folder / "variables" / "variables.data").rename(folder / "variables" / "variables.old")
    digests.add(hash_model(str(folder)))
    (folder / "assets").write_bytes(b"")
    digests.add(hash_model(str(folder)))
    assert len(digests) == 4
    assert hash_model(str(shutil.copytree(folder, tmp_path / "copy"))) in digests


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scaling": "torch"}, "side is None; give the side of the input in pixels, a whole number above 0"),
        (WELL | {"side": 0}, "side is 0; give the side of the input in pixels, a whole number above 0"),
        (WELL | {"side": -8}, "side is -8; give the side of the input in pixels, a whole number above 0"),
        (WELL | {"side": 22.5}, "side is 22.5; give the side of the input in pixels, a whole number above 0"),
        (WELL | {"side": "224"}, "side is '224'; give the side of the input in pixels, a whole number above 0"),
        (WELL | {"side": True}, "side is True; give the side of the input in pixels, a whole number above 0"),
        (
            WELL | {"side": [224, 224]},
            "side is [224, 224]; give the side of the input in pixels, a whole number above 0",
        ),
        (WELL | {"resize": "stretch"}, "resize is 'stretch'; choose one of squash, crop, pad, nearest"),
        (WELL | {"resize": None}, "resize is None; choose one of squash, crop, pad, nearest"),
        (WELL | {"pooling": ["avg"]}, "pooling is ['avg']; choose one of avg, max, gem, cls"),
        (WELL | {"layer": 7}, "layer is 7; give the name of a layer, or null"),
        (
            WELL | {"sides": 3, "mean": 0},
            "unknown fields ['mean', 'sides']; the known fields are "
            "['interpolation', 'layer', 'name', 'pooling', 'resize', 'scaling', 'shortest', 'side']",
        ),
    ],
    ids=str,
)
def test_each_wrong_field_gets_one_clear_message(path, settings, message):
    write_settings(path, settings)
    with pytest.raises(ModelError) as caught:
        read_model(path)
    assert str(caught.value) == f"{path.with_suffix('.json')}: {message}"


@pytest.mark.parametrize(
    "scaling",
    [
        None,
        "imagenet",
        127.5,
        [1, 1, 1],
        {},
        OWN | {"channels": "gbr"},
        OWN | {"channels": None},
        OWN | {"scale": 0.5},
        OWN | {"scale": [1, 1]},
        OWN | {"scale": [1, 1, "1"]},
        OWN | {"scale": [1, 1, True]},
        OWN | {"scale": [1, 1, 0]},
        OWN | {"scale": [1, 1, float("nan")]},
        OWN | {"offset": [0, 0, float("inf")]},
        OWN | {"offset": None},
        OWN | {"mean": [0, 0, 0]},
    ],
    ids=str,
)
def test_a_wrong_scaling_is_answered_with_the_names_and_an_example(path, scaling):
    write_settings(path, WELL | {"scaling": scaling})
    with pytest.raises(ModelError) as caught:
        read_model(path)
    assert caught.value.problem == f"{path.with_suffix('.json')}: scaling is {scaling!r}"
    names, _, example = caught.value.advice.partition(", or write ")
    assert names == "choose one of none, unit, tf, torch, caffe, clip"
    write_settings(path, WELL | {"scaling": json.loads(example)})
    assert read_model(path).scaling.channels == "rgb"


def test_a_missing_json_is_answered_with_an_example_that_works(path):
    path.with_suffix(".json").unlink()
    with pytest.raises(ModelError) as caught:
        read_model(path)
    assert caught.value.problem == f"the settings file {path.with_suffix('.json')} is missing"
    write_settings(path, caught.value.advice.removeprefix("create it with the settings of the model's input, such as "))
    assert read_model(path).side_px == 224


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"flowers\.json cannot be read \(.*\); write a JSON object such as"),
        ("{'side': 224}", r"flowers\.json cannot be read \(.*\); write a JSON object such as"),
        ("[224]", r"flowers\.json does not contain a JSON object; write one such as"),
        ("null", r"flowers\.json does not contain a JSON object; write one such as"),
    ],
)
def test_a_text_that_is_no_json_object_is_refused(path, text, message):
    write_settings(path, text)
    with pytest.raises(ModelError, match=message):
        read_model(path)


def test_a_json_in_another_encoding_is_refused(path):
    path.with_suffix(".json").write_bytes('{"side": 224, "layer": "größer"}'.encode("latin-1"))
    with pytest.raises(ModelError, match=r"flowers\.json cannot be read"):
        read_model(path)


def test_a_folder_in_the_place_of_the_json_is_refused(path):
    path.with_suffix(".json").unlink()
    path.with_suffix(".json").mkdir()
    with pytest.raises(ModelError, match=r"flowers\.json cannot be read"):
        read_model(path)


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no model at .*flowers\.onnx; check the path"):
        read_model(tmp_path / "flowers.onnx")


def test_a_file_of_another_kind_is_no_model(tmp_path):
    (tmp_path / "flowers.txt").write_text("no network")
    with pytest.raises(ModelError, match=r"flowers\.txt has no supported model format; give a \.keras file"):
        read_model(tmp_path / "flowers.txt")


def test_a_folder_of_pictures_is_no_model(photos):
    with pytest.raises(
        ModelError, match=r"photos has no supported model format; give a \.keras file, a SavedModel folder"
    ):
        read_model(photos)
