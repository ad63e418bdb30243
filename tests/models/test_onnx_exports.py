"""ONNX exports as they come: folders, axes, types and outputs, against the evaluator of the `onnx` package."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from simsearch.errors import ModelError
from simsearch.models.choice import ModelChoice, has_text_tower, locate_text_tower, resolve_model
from simsearch.models.loader import open_embedder
from simsearch.models.model import SCALINGS, Model
from simsearch.models.portable import pack_model, unpack_model
from simsearch.models.weights import WeightsOptions
from tests.models.conftest import apply_scaling, make_random_pixels, normalize_rows, pool_maps
from tests.support.onnx_models import CLIP_PROCESSOR, TinyEncoder, evaluate, make_two_towers, write_json

PIXELS = make_random_pixels(3, 24)
PLAIN = TinyEncoder()


def open_model(path, **choice):
    return open_embedder(resolve_model(ModelChoice(backbone=str(path), **choice)))


def compute_output(path, model, output, pixels=PIXELS):
    return evaluate(path, apply_scaling(pixels, model.scaling), output)


def assert_same_direction(vectors, expected):
    assert vectors.shape == expected.shape
    assert np.sum(vectors * normalize_rows(expected), axis=1).min() >= 0.9999


# The matrix of exports -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("input_type", ["float32", "float16", "uint8"])
@pytest.mark.parametrize(
    ("layout", "fixed"),
    [*(("NCHW", fixed) for fixed in ("none", "channels", "picture", "all")),
     *(("NHWC", fixed) for fixed in ("channels", "picture", "all"))],
)  # fmt: skip
def test_axes_layouts_and_input_types(tmp_path, fixed, layout, input_type):
    """An input without a fixed axis is taken for NCHW, as exporters of PyTorch write it."""
    network = dataclasses.replace(PLAIN, fixed=fixed, layout=layout, input_type=input_type)
    path = network.save(tmp_path / "mine.onnx")
    write_json(tmp_path / "mine.json", side=24, scaling="none" if input_type == "uint8" else "tf")
    loaded = open_model(path)
    assert_same_direction(loaded.embed(PIXELS), compute_output(path, loaded.model, "pooler_output"))


@pytest.mark.parametrize("n_prefix", [1, 2, 5])
@pytest.mark.parametrize("pooling", ["cls", "avg", "max", "gem"])
def test_tokens_are_pooled_without_class_and_register_tokens(tmp_path, n_prefix, pooling):
    path = dataclasses.replace(PLAIN, n_prefix=n_prefix, outputs=("last_hidden_state",)).save(tmp_path / "mine.onnx")
    write_json(tmp_path / "mine.json", side=24, scaling="torch")
    loaded = open_model(path, pooling=pooling)
    tokens = compute_output(path, loaded.model, "last_hidden_state")
    assert tokens.shape == (3, n_prefix + 36, 8)
    assert_same_direction(
        loaded.embed(PIXELS), tokens[:, 0] if pooling == "cls" else pool_maps(tokens[:, n_prefix:], pooling)
    )


def test_the_class_token_is_the_default_of_last_hidden_state(tmp_path):
    path = dataclasses.replace(PLAIN, n_prefix=5, outputs=("last_hidden_state",)).save(tmp_path / "mine.onnx")
    write_json(tmp_path / "mine.json", side=24, scaling="torch")
    loaded = open_model(path)
    assert loaded.model.pooling == "cls"
    assert_same_direction(loaded.embed(PIXELS), compute_output(path, loaded.model, "last_hidden_state")[:, 0])


def test_tokens_without_a_class_token_need_another_pooling(tmp_path):
    path = dataclasses.replace(PLAIN, n_prefix=0, outputs=("last_hidden_state",)).save(tmp_path / "mine.onnx")
    write_json(tmp_path / "mine.json", side=24, scaling="torch")
    with pytest.raises(ModelError, match="the output of mine has no class token; choose --pooling avg, max or gem"):
        open_model(path)
    loaded = open_model(path, pooling="avg")
    tokens = compute_output(path, loaded.model, "last_hidden_state")
    assert_same_direction(loaded.embed(PIXELS), tokens.mean(axis=1))


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_maps_have_no_class_token(tmp_path, pooling):
    path = dataclasses.replace(PLAIN, outputs=("maps",)).save(tmp_path / "mine.onnx")
    write_json(tmp_path / "mine.json", side=24, scaling="torch")
    if pooling == "cls":
        with pytest.raises(ModelError, match="the output of mine has no class token"):
            open_model(path, pooling=pooling)
        return
    loaded = open_model(path, pooling=pooling)
    assert_same_direction(loaded.embed(PIXELS), compute_output(path, loaded.model, "maps").max(axis=(2, 3)))


@pytest.mark.parametrize(
    ("outputs", "chosen"),
    [
        (("last_hidden_state", "pooler_output", "image_embeds"), "image_embeds"),
        (("last_hidden_state", "pooler_output"), "pooler_output"),
        (("pooler_output", "last_hidden_state"), "pooler_output"),
        (("class_token", "maps"), "class_token"),
    ],
)
def test_the_output_is_chosen_by_its_name(tmp_path, outputs, chosen):
    path = dataclasses.replace(PLAIN, outputs=outputs).save(tmp_path / "mine.onnx")
    write_json(tmp_path / "mine.json", side=24, scaling="torch")
    loaded = open_model(path)
    assert_same_direction(loaded.embed(PIXELS), compute_output(path, loaded.model, chosen))


def test_a_layer_overrides_the_choice_of_the_output(tmp_path):
    path = dataclasses.replace(PLAIN, n_prefix=5).save(tmp_path / "mine.onnx")
    write_json(tmp_path / "mine.json", side=24, scaling="torch")
    loaded = open_model(path, layer="last_hidden_state", pooling="avg")
    tokens = compute_output(path, loaded.model, "last_hidden_state")
    assert_same_direction(loaded.embed(PIXELS), tokens[:, 5:].mean(axis=1))


def test_a_file_in_float16(tmp_path):
    network = dataclasses.replace(PLAIN, weights_type="float16", input_type="float16")
    path = network.save(tmp_path / "mine.onnx")
    write_json(tmp_path / "mine.json", side=24, scaling="tf")
    loaded = open_model(path)
    vectors = loaded.embed(PIXELS)
    assert vectors.dtype == np.float32
    assert_same_direction(vectors, compute_output(path, loaded.model, "pooler_output"))


def test_a_combined_file_of_two_towers_gives_its_image_encoder(tmp_path):
    outputs = ("logits_per_image", "text_embeds", "image_embeds")
    path = dataclasses.replace(PLAIN, has_texts=True, outputs=outputs).save(tmp_path / "clip" / "onnx" / "model.onnx")
    write_json(tmp_path / "clip" / "preprocessor_config.json", **CLIP_PROCESSOR)
    loaded = open_model(tmp_path / "clip")
    assert (loaded.model.backbone, loaded.model.layer, loaded.width) == ("clip", "image_embeds", 6)
    assert_same_direction(loaded.embed(PIXELS), compute_output(path, loaded.model, "image_embeds"))


def test_a_network_with_a_fixed_batch_inside_embeds_one_by_one(tmp_path):
    """Exports traced with one picture have its batch size in their reshape operations."""
    import onnx

    path = dataclasses.replace(PLAIN, fixed="all").save(tmp_path / "mine.onnx")
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        if tensor.name == "row_shape":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 8, 36]), "row_shape"))
    onnx.save(model, str(path))
    write_json(tmp_path / "mine.json", side=24, scaling="torch")
    loaded = open_model(path)
    assert_same_direction(loaded.embed(PIXELS), compute_output(path, loaded.model, "pooler_output"))
    assert loaded.embed(PIXELS[:0]).shape == (0, 8)


# External data -------------------------------------------------------------------------------------------------------


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model whose weights are in a data file beside it."""
    write_json(tmp_path / "mine.json", side=24, scaling="torch")
    return dataclasses.replace(PLAIN, is_external=True).save(tmp_path / "mine.onnx")


def test_weights_in_a_data_file_are_read_and_are_part_of_the_identity(external, tmp_path):
    loaded = open_model(external)
    assert_same_direction(loaded.embed(PIXELS), compute_output(external, loaded.model, "pooler_output"))
    data = tmp_path / "mine.onnx_data"
    content = bytearray(data.read_bytes())
    content[8] ^= 1
    data.write_bytes(content)
    assert resolve_model(ModelChoice(backbone=str(external))).weights != loaded.model.weights


def test_a_missing_data_file_is_named(external, tmp_path):
    (tmp_path / "mine.onnx_data").unlink()
    with pytest.raises(ModelError, match=r"cannot read .*mine\.onnx_data \(No such file or directory\)"):
        open_model(external)


def test_a_data_file_elsewhere_is_refused(external, tmp_path):
    content = external.read_bytes()
    external.write_bytes(content.replace(b"mine.onnx_data", b"../../etc/data"))
    with pytest.raises(ModelError, match=r"names the data file \.\./\.\./etc/data, which is outside of its folder"):
        open_model(external)


def test_a_portable_model_has_the_weights_of_the_data_file(external, tmp_path):
    loaded = open_model(external)
    expected = loaded.embed(PIXELS)
    packed = pack_model(loaded)
    for file in (external, tmp_path / "mine.onnx_data"):
        file.unlink()
    np.testing.assert_allclose(unpack_model(packed, 1).embed(PIXELS), expected, atol=1e-5)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_to_blobs_are_followed_as_a_cache_of_hugging_face_has_them(external, tmp_path):
    snapshot = tmp_path / "models--owner--tiny-vit" / "snapshots" / "0123abc"
    blobs = snapshot.parent.parent / "blobs"
    blobs.mkdir(parents=True)
    (snapshot / "onnx").mkdir(parents=True)
    for number, name in enumerate(("mine.onnx", "mine.onnx_data")):
        shutil.move(tmp_path / name, blobs / str(number))
        (snapshot / "onnx" / name.replace("mine", "mine")).symlink_to(f"../../../blobs/{number}")
    write_json(snapshot / "preprocessor_config.json", **CLIP_PROCESSOR)
    loaded = open_model(snapshot)
    assert np.isfinite(loaded.embed(PIXELS)).all()


# Folders, names, settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("graph", "settings", "name"),
    [
        ("model.onnx", "preprocessor_config.json", "tiny_vit"),
        ("onnx/model.onnx", "preprocessor_config.json", "tiny_vit"),
        ("onnx/vision_model.onnx", "preprocessor_config.json", "tiny_vit"),
        ("onnx/s0/vision_model.onnx", "onnx/s0/preprocessor_config.json", "tiny_vit_s0"),
        ("onnx/model_fp16.onnx", "processor_config.json", "tiny_vit_fp16"),
        ("visual/model.onnx", "visual/preprocess_cfg.json", "tiny_vit"),
        ("visual.onnx", "open_clip_config.json", "tiny_vit"),
        ("flowers.onnx", "preprocessor_config.json", "flowers"),
    ],
)
def test_folders_of_the_usual_exporters(tmp_path, graph, settings, name):
    folder = tmp_path / "tiny-vit"
    PLAIN.save(folder / graph)
    fields = {
        "processor_config.json": {"image_processor": CLIP_PROCESSOR},
        "preprocess_cfg.json": {"size": [24, 24], "resize_mode": "shortest", "interpolation": "bicubic"},
        "open_clip_config.json": {"model_cfg": {"vision_cfg": {"image_size": 24}}, "preprocess_cfg": {}},
    }.get(Path(settings).name, CLIP_PROCESSOR)
    write_json(folder / settings, **fields)
    whole = resolve_model(ModelChoice(backbone=str(folder)))
    assert (whole.backbone, whole.file) == (name, str(folder / graph))
    assert (whole.side_px, whole.resize, whole.shortest_px, whole.interpolation) == (24, "crop", 24, "bicubic")
    assert whole.scaling == SCALINGS["clip"]
    assert resolve_model(ModelChoice(backbone=str(folder / graph))) == whole


def test_float32_goes_before_other_number_formats(tmp_path):
    for name in ("model_fp16.onnx", "model_quantized.onnx", "model.onnx", "model_q4.onnx"):
        PLAIN.save(tmp_path / "onnx" / name)
    write_json(tmp_path / "preprocessor_config.json", **CLIP_PROCESSOR)
    assert resolve_model(ModelChoice(backbone=str(tmp_path))).file == str(tmp_path / "onnx" / "model.onnx")


def test_a_cache_of_hugging_face_names_the_repository(tmp_path):
    snapshot = tmp_path / "models--onnx-community--dinov2-small" / "snapshots" / "8b1f705a"
    PLAIN.save(snapshot / "onnx" / "model.onnx")
    write_json(snapshot / "preprocessor_config.json", **CLIP_PROCESSOR)
    assert resolve_model(ModelChoice(backbone=str(snapshot))).backbone == "dinov2_small"


def test_our_own_json_goes_before_published_settings(tmp_path):
    PLAIN.save(tmp_path / "onnx" / "model.onnx")
    write_json(tmp_path / "preprocessor_config.json", **CLIP_PROCESSOR | {"size": {"shortest_edge": 32}})
    write_json(tmp_path / "onnx" / "model.json", side=48, name="leaves", pooling="max", interpolation="lanczos")
    model = resolve_model(ModelChoice(backbone=str(tmp_path)))
    assert (model.backbone, model.side_px, model.shortest_px) == ("leaves", 48, 64)  # the ratio of the crop stays
    assert (model.interpolation, model.pooling, model.scaling) == ("lanczos", "max", SCALINGS["clip"])
    squashed = resolve_model(ModelChoice(backbone=str(tmp_path), resize="squash"))
    assert (squashed.resize, squashed.shortest_px) == ("squash", None)
    assert squashed.fingerprint != model.fingerprint


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"side": 24, "scaling": "tf", "resize": "crop", "shortest": 16}, "shortest is 16; give at least the side"),
        ({"side": 24, "scaling": "tf", "shortest": 0}, "shortest is 0; give the shorter side before the crop"),
        ({"side": 24, "scaling": "tf", "interpolation": "cubic"}, "interpolation is 'cubic'; choose one of nearest"),
        ({"side": 24, "scaling": "tf", "name": 3}, "name is 3; give a text, or null"),
    ],
    ids=str,
)
def test_wrong_fields_of_our_json_are_named(tmp_path, fields, problem):
    path = PLAIN.save(tmp_path / "mine.onnx")
    write_json(tmp_path / "mine.json", **fields)
    with pytest.raises(ModelError, match=problem):
        resolve_model(ModelChoice(backbone=str(path)))


def test_a_uint8_input_scales_its_pixels_itself(tmp_path):
    path = dataclasses.replace(PLAIN, input_type="uint8").save(tmp_path / "mine.onnx")
    write_json(tmp_path / "preprocessor_config.json", **CLIP_PROCESSOR)
    assert resolve_model(ModelChoice(backbone=str(path))).scaling == SCALINGS["none"]
    write_json(tmp_path / "mine.json", side=24, scaling="torch")
    with pytest.raises(ModelError, match=r'the input of the model is uint8; write "scaling": "none"'):
        resolve_model(ModelChoice(backbone=str(path)))


def test_a_folder_of_several_networks_is_ambiguous(tmp_path):
    for name in ("roses.onnx", "tulips.onnx"):
        PLAIN.save(tmp_path / name)
    with pytest.raises(ModelError, match=r"has several ONNX files \(roses\.onnx, tulips\.onnx\); give the path"):
        resolve_model(ModelChoice(backbone=str(tmp_path)))


def test_a_text_encoder_names_the_file_to_take_instead(tmp_path):
    folder = make_two_towers(tmp_path / "clip")
    with pytest.raises(ModelError, match=r"text_model\.onnx reads texts, not pictures; take .*vision_model\.onnx"):
        resolve_model(ModelChoice(backbone=str(folder / "onnx" / "text_model.onnx")))


def test_a_combined_file_without_image_embeds_names_the_file_to_take_instead(tmp_path):
    outputs = ("logits_per_image",)
    path = dataclasses.replace(PLAIN, has_texts=True, outputs=outputs).save(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"has no output image_embeds; take the image encoder, such as vision_model"):
        resolve_model(ModelChoice(backbone=str(path)))


# Text towers ---------------------------------------------------------------------------------------------------------


def test_the_text_encoder_of_a_folder_is_found_with_its_settings(tmp_path):
    folder = make_two_towers(tmp_path / "clip")
    model = resolve_model(ModelChoice(backbone=str(folder)))
    assert has_text_tower(model)
    tower = locate_text_tower(model, WeightsOptions(offline=True))
    assert (tower.graph, tower.tokenizer) == (str(folder / "onnx/text_model.onnx"), str(folder / "tokenizer.json"))
    assert (tower.context_length, tower.pad_token) == (7, "<|endoftext|>")
    assert (tower.lowers_case, tower.strips_punctuation) == (False, False)


def test_the_layout_of_immich_has_its_settings_in_its_own_places(tmp_path):
    folder = tmp_path / "ViT-B-32-SigLIP2-256__webli"
    towers = make_two_towers(tmp_path / "clip")
    (folder / "visual").mkdir(parents=True)
    (folder / "textual").mkdir()
    shutil.copy(towers / "onnx/vision_model.onnx", folder / "visual/model.onnx")
    shutil.copy(towers / "onnx/text_model.onnx", folder / "textual/model.onnx")
    write_json(
        folder / "visual/preprocess_cfg.json", size=[24, 24], resize_mode="squash", mean=[0.5] * 3, std=[0.5] * 3
    )
    write_json(folder / "textual/tokenizer.json")
    write_json(folder / "textual/tokenizer_config.json", pad_token={"content": "<pad>"})
    text = {"context_length": 64, "tokenizer_kwargs": {"clean": "canonicalize"}}
    write_json(folder / "config.json", embed_dim=6, text_cfg=text)
    model = resolve_model(ModelChoice(backbone=str(folder)))
    assert (model.backbone, model.resize, model.scaling) == ("ViT_B_32_SigLIP2_256__webli", "squash", SCALINGS["tf"])
    tower = locate_text_tower(model, WeightsOptions(offline=True))
    assert tower.graph == str(folder / "textual/model.onnx")
    assert (tower.context_length, tower.pad_token) == (64, "<pad>")
    assert (tower.lowers_case, tower.strips_punctuation) == (True, True)


def test_a_combined_file_is_its_own_text_encoder(tmp_path):
    outputs = ("logits_per_image", "text_embeds", "image_embeds")
    path = dataclasses.replace(PLAIN, has_texts=True, outputs=outputs).save(tmp_path / "clip" / "onnx" / "model.onnx")
    write_json(tmp_path / "clip" / "preprocessor_config.json", **CLIP_PROCESSOR)
    write_json(tmp_path / "clip" / "tokenizer.json")
    model = resolve_model(ModelChoice(backbone=str(tmp_path / "clip")))
    assert locate_text_tower(model, WeightsOptions(offline=True)).graph == str(path)


def test_an_image_encoder_alone_has_no_text_encoder(tmp_path):
    path = PLAIN.save(tmp_path / "mine.onnx")
    PLAIN.save(tmp_path / "another.onnx")
    write_json(tmp_path / "mine.json", side=24, scaling="torch")
    model = resolve_model(ModelChoice(backbone=str(path)))
    assert not has_text_tower(model)
    with pytest.raises(ModelError, match="mine has no text encoder: it embeds pictures only; index with a two-tower"):
        locate_text_tower(model, WeightsOptions(offline=True))


# Stored models of earlier versions -----------------------------------------------------------------------------------


def test_models_of_earlier_versions_keep_their_fingerprint():
    """The text is the record of a version 0.2 catalog."""
    text = (
        '{"backbone": "mine", "runtime": "onnx", "weights": "5485ae5c4593599bf6f288f6513e0485", '
        '"file": "/a/mine.onnx", "side_px": 24, "resize": "squash", '
        '"scaling": {"channels": "rgb", "scale": [1.0, 1.0, 1.0], "offset": [0.0, 0.0, 0.0]}, '
        '"layer": null, "pooling": "avg", "precision": "f32", "calibration": ""}'
    )
    model = Model.from_json(text)
    assert model.to_json() == text
    assert model.tokens == "all"
    assert model.fingerprint == "mine-997779125748"
