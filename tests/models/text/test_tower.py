"""Texts become the ids of the model's own tokenizer, and vectors equal to those of an independent evaluator."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from simsearch import Collection, ModelChoice
from simsearch.errors import ModelError, UsageError
from simsearch.images.decode import compute_digest
from simsearch.models.choice import resolve_model
from simsearch.models.model import LearnedMap
from simsearch.models.text.cache import TextVectorCache
from simsearch.models.text.loader import can_encode_text, open_text_encoder
from simsearch.models.text.tower import TowerEncoder, TowerTokenizer
from simsearch.models.text_tower import TextTower
from simsearch.models.weights import WeightsOptions
from simsearch.study.predict import predict_labels
from simsearch.web.settings import ServerSettings
from tests.conftest import draw_picture
from tests.support import command_line, oneshot
from tests.support.onnx_models import TinyEncoder, make_two_towers, write_json
from tests.support.tokenizer_files import write_siglip_tokenizer
from tests.web.conftest import serving

# The part of CLIP's published vocabulary and merges that the sentences below need (openai/CLIP, MIT license).
CLIP_MERGES = (
    "o r,t o</w>,a t</w>,o f</w>,e l,r a,d i,a g,h o,d o,w or,l d</w>,p ho,el l,wor ld</w>,pho to</w>,do g</w>,"
    "ra m</w>,c at</w>,ag ram</w>,ell o</w>,h ello</w>,di agram</w>"
)
CLIP_IDS = (
    "a 64 c 66 d 67 e 68 g 70 h 71 i 72 l 75 o 78 p 79 r 81 t 83 w 86 !</w> 256 a</w> 320 d</w> 323 f</w> 325 "
    "g</w> 326 m</w> 332 o</w> 334 t</w> 339 or 523 to</w> 531 at</w> 536 of</w> 539 el 544 ra 559 di 570 ag 602 "
    "ho 606 do 639 wor 641 ld</w> 730 pho 816 ell 826 world</w> 1002 photo</w> 1125 dog</w> 1929 ram</w> 2007 "
    "cat</w> 2368 agram</w> 2447 ello</w> 2512 hello</w> 3306 diagram</w> 22697"
)
START, END = 49406, 49407


def write_clip_tokenizer(path: Path) -> Path:
    """A `tokenizer.json` of CLIP's form: byte-level BPE in lower case, with a start and an end token."""
    words = CLIP_IDS.split()
    ids = {word: int(number) for word, number in zip(words[::2], words[1::2], strict=True)}
    merges = [tuple(pair.split()) for pair in CLIP_MERGES.split(",")]
    specials = {"<|startoftext|>": START, "<|endoftext|>": END}
    tokenizer = Tokenizer(
        models.BPE(ids | specials, merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>")  # type: ignore[arg-type]
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.add_special_tokens(list(specials))
    tokenizer.post_processor = processors.RobertaProcessing(
        ("<|endoftext|>", END), ("<|startoftext|>", START), add_prefix_space=False, trim_offsets=False
    )
    tokenizer.save(str(path))
    return path


def encode(tower: TextTower, *texts: str) -> list[list[int]]:
    ids, mask = TowerTokenizer(tower).encode(texts)
    assert ids.shape == mask.shape == (len(texts), tower.context_length)
    assert (np.diff(mask, axis=1) <= 0).all()  # padding follows the text
    return ids.tolist()


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("a diagram", [320, 22697]),
        ("a dog", [320, 1929]),
        ("A  Photo\tof a CAT", [320, 1125, 539, 320, 2368]),
        ("hello world!", [3306, 1002, 256]),
    ],
)
def test_the_ids_of_clip_are_the_published_ones(text: str, published: list[int], tmp_path: Path):
    tokenizer = write_clip_tokenizer(tmp_path / "tokenizer.json")
    tower = TextTower(graph="", tokenizer=str(tokenizer), context_length=77)
    row = [START, *published, END]
    assert encode(tower, text) == [row + [0] * (77 - len(row))]
    padded = dataclasses.replace(tower, pad_token="<|endoftext|>")
    assert encode(padded, text) == [row + [END] * (77 - len(row))]


def test_ids_beyond_the_context_are_cut_and_the_end_token_is_kept(tmp_path: Path):
    tokenizer = write_clip_tokenizer(tmp_path / "tokenizer.json")
    tower = TextTower(graph="", tokenizer=str(tokenizer), context_length=5)
    assert encode(tower, "a photo of a cat", "a cat") == [[START, 320, 1125, 539, END], [START, 320, 2368, END, 0]]


def test_siglip_pads_to_its_context_lowers_case_and_strips_punctuation(tmp_path: Path):
    tokenizer = write_siglip_tokenizer(tmp_path / "tokenizer.json")
    plain = TextTower(graph="", tokenizer=str(tokenizer), context_length=6, pad_token="<pad>")
    assert encode(plain, "A red vase") == [[7, 4, 5, 1, 0, 0]]
    assert encode(dataclasses.replace(plain, lowers_case=True), "A RED vase") == [[3, 4, 5, 1, 0, 0]]
    canonical = dataclasses.replace(plain, lowers_case=True, strips_punctuation=True)
    assert encode(canonical, "A 'red'_vase: DON'T!") == [[3, 4, 5, 6, 1, 0]]
    assert encode(canonical, "a a a a a a a a") == [[3, 3, 3, 3, 3, 1]]


# Vectors


def write_tokenizer(folder: Path) -> None:
    write_siglip_tokenizer(folder / "tokenizer.json")
    write_json(folder / "tokenizer_config.json", pad_token="<pad>")


@pytest.fixture
def towers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMSEARCH_CACHE", str(tmp_path / "cache"))
    folder = make_two_towers(tmp_path / "clip")
    write_tokenizer(folder)
    return folder


def evaluate_text(graph: Path, ids: list[int], **more: np.ndarray) -> np.ndarray:
    rows = ReferenceEvaluator(onnx.load(str(graph))).run(["text_embeds"], {"input_ids": np.array([ids]), **more})[0]
    return rows / np.linalg.norm(rows)


def open_encoder(folder: Path) -> TowerEncoder:
    model = resolve_model(ModelChoice(backbone=str(folder)))
    assert can_encode_text(model)
    encoder = open_text_encoder(model, WeightsOptions(offline=True))
    assert isinstance(encoder, TowerEncoder)
    return encoder


def test_a_text_has_the_vector_of_an_independent_evaluator(towers: Path):
    (red, vase) = open_encoder(towers).encode(["a red vase", "vase"])
    graph = towers / "onnx" / "text_model.onnx"
    np.testing.assert_allclose(red.rows, evaluate_text(graph, [3, 4, 5, 1, 0, 0, 0]), atol=1e-5)
    np.testing.assert_allclose(vase.rows, evaluate_text(graph, [5, 1, 0, 0, 0, 0, 0]), atol=1e-5)
    assert red.rows.dtype == np.float32


def test_texts_of_requests_have_the_vectors_of_the_tower_beside_pictures(towers: Path, photos: Path, tmp_path: Path):
    oneshot.ingest(tmp_path / "ix", [photos], ModelChoice(backbone=str(towers)))
    settings = ServerSettings(collection=str(tmp_path / "ix"), port=0, offline=True)
    with serving(settings) as address, httpx.Client(base_url=address, timeout=60) as client:
        both = client.post("/api/v1/embed", data={"id": "2", "text": ["a red vase", "vase"]})
        only_texts = client.post("/api/v1/embed", params={"text": "vase"})
    assert both.status_code == 200, both.text
    graph = towers / "onnx" / "text_model.onnx"
    vectors = np.array(both.json()["vectors"])
    np.testing.assert_allclose(vectors[1:2], evaluate_text(graph, [3, 4, 5, 1, 0, 0, 0]), atol=1e-5)
    np.testing.assert_allclose(vectors[2:], evaluate_text(graph, [5, 1, 0, 0, 0, 0, 0]), atol=1e-5)
    assert only_texts.json()["vectors"] == both.json()["vectors"][2:]
    with Collection.open(tmp_path / "ix") as opened:
        np.testing.assert_allclose(vectors[0], opened.embed(2), atol=1e-6)


def test_a_learned_map_leaves_the_space_of_the_texts(towers: Path):
    model = resolve_model(ModelChoice(backbone=str(towers)))
    learned = dataclasses.replace(model, learned=LearnedMap("1f", model.backbone, "2e"))
    assert can_encode_text(model)
    assert not can_encode_text(learned)
    with pytest.raises(UsageError, match="cannot answer text queries"):
        open_text_encoder(learned, WeightsOptions(offline=True))


def test_the_text_part_of_a_combined_file_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SIMSEARCH_CACHE", str(tmp_path / "cache"))
    folder = make_two_towers(tmp_path / "both")
    shutil.rmtree(folder / "onnx")
    outputs = ("logits_per_image", "text_embeds", "image_embeds")
    graph = TinyEncoder(has_texts=True, outputs=outputs).save(folder / "onnx" / "model.onnx")
    write_tokenizer(folder)
    (found,) = open_encoder(folder).encode(["red"])
    ids = [4, 1, 0, 0, 0, 0, 0]
    more = {"attention_mask": np.ones((1, 7), np.int64), "pixel_values": np.zeros((1, 3, 24, 24), np.float32)}
    np.testing.assert_allclose(found.rows, evaluate_text(graph, ids, **more), atol=1e-5)


def test_vectors_are_kept_and_need_no_text_tower_again(towers: Path):
    (first,) = open_encoder(towers).encode(["red"])
    graph = towers / "onnx" / "text_model.onnx"
    stat = os.stat(graph)
    graph.write_bytes(b"\0" * stat.st_size)  # the same size and time: only a run of it would notice
    os.utime(graph, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    tower = TextTower(graph=str(graph), tokenizer=str(towers / "tokenizer.json"), context_length=7, pad_token="<pad>")
    again = TowerEncoder(tower, TextVectorCache(tower))
    np.testing.assert_array_equal(again.encode(["red"])[0].rows, first.rows)
    with pytest.raises(ModelError):
        again.encode(["vase"])


def test_a_changed_tower_and_a_damaged_cache_are_encoded_again(towers: Path, tmp_path: Path):
    encoder = open_encoder(towers)
    (first,) = encoder.encode(["red"])
    (stored,) = (tmp_path / "cache" / "texts").rglob("*.npy")
    stored.write_bytes(b"damaged")
    np.testing.assert_array_equal(encoder.encode(["red"])[0].rows, first.rows)
    make_two_towers(towers, seed=9)
    write_tokenizer(towers)
    (changed,) = open_encoder(towers).encode(["red"])
    assert float((changed.rows * first.rows).sum()) < 0.99


def test_a_collection_of_two_towers_answers_any_text(towers: Path, tmp_path: Path):
    for seed in range(12):
        draw_picture(tmp_path / "pictures" / f"{seed}.png", seed)
    folder = tmp_path / "collection"
    with Collection.open(folder, create=True) as collection:
        collection.ingest([tmp_path / "pictures"], ModelChoice(backbone=str(towers), precision="f32"))
        stored = collection.model()
        ids = collection.catalog.list_original_ids(stored.id)
        vectors = np.concatenate([rows for _, rows in collection.catalog.iterate_vectors(stored, ids)])
        graph = towers / "onnx" / "text_model.onnx"
        red, vase = (evaluate_text(graph, row)[0] for row in ([4, 1, 0, 0, 0, 0, 0], [5, 1, 0, 0, 0, 0, 0]))
        for query, direction in ({"text": "red"}, red), ({"text": "red", "unlike_text": "vase"}, red - vase):
            found = [hit.similarity for hit in collection.search(**query, k=12).hits]
            expected = np.sort(vectors @ direction / np.linalg.norm(direction))[::-1]
            np.testing.assert_allclose(found, expected, atol=1e-5)
        a_red = evaluate_text(graph, [3, 4, 1, 0, 0, 0, 0])[0]
        hits = collection.search(text="red", prompts=["{}", "a {}"]).hits
        mean = (red + a_red) / np.linalg.norm(red + a_red)
        assert hits[0].similarity == pytest.approx(float((vectors @ mean).max()), abs=1e-5)
        first = hits[0].path
    done = command_line.run(
        "query", "--text", "red", "--prompt", "{}", "--prompt", "a {}", "--in", folder, "--json", cwd=tmp_path
    )
    assert json.loads(done.stdout)["hits"][0]["path"] == first
    refused = command_line.run("query", "--text", "red", "--prompt", "a photo", "--in", folder, cwd=tmp_path)
    assert refused.returncode == 2
    assert "has no place for the text" in refused.stderr


def test_pictures_are_classified_by_labels(towers: Path, tmp_path: Path):
    pictures = [draw_picture(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    choice = ModelChoice(backbone=str(towers), precision="f32")
    graph = towers / "onnx" / "text_model.onnx"
    texts = np.concatenate(
        [evaluate_text(graph, row) for row in ([3, 4, 1, 0, 0, 0, 0], [3, 5, 1, 0, 0, 0, 0], [3, 2, 1, 0, 0, 0, 0])]
    )
    found = predict_labels(pictures, ["red", " vase", "blorp", "red"], [choice], prompts=["a {}"], top=2)
    with Collection.open(tmp_path / "collection", create=True) as collection:
        collection.ingest(pictures, choice)
        for picture, image in zip(pictures, found.images, strict=True):
            stored = collection.model()
            view = collection.catalog.find_view_by_digest(compute_digest(picture.read_bytes()), stored)
            assert view is not None
            logits = 100 * texts @ collection.catalog.find_vector(stored, view)
            expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
            (classes,) = image.top_classes.values()
            order = np.argsort(-expected)[:2]
            assert [one.cls.name for one in classes] == [["red", "vase", "blorp"][at] for at in order]
            np.testing.assert_allclose([one.probability for one in classes], expected[order], atol=1e-3)
    done = command_line.run("predict", pictures[0], "--labels", "red,vase", "--backbone", towers, cwd=tmp_path)
    assert "vase" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("labels", "prompts", "problem"),
    [(["a"], [], "1 different labels"), (["a", "a "], [], "1 different"), (["a", "b"], ["a photo"], "no place")],
)
def test_too_few_labels_and_a_prompt_without_a_place_are_refused(labels: list[str], prompts: list[str], problem: str):
    with pytest.raises(UsageError, match=problem):
        predict_labels(["a.png"], labels, [ModelChoice(backbone="histogram")], prompts=prompts)


def test_a_missing_package_is_named_with_its_extra(towers: Path, tmp_path: Path):
    code = (
        "import sys\nsys.modules['tokenizers'] = None\n"
        "from simsearch import ModelChoice\nfrom simsearch.errors import MissingExtra\n"
        "from simsearch.models.choice import resolve_model\n"
        "from simsearch.models.text.loader import open_text_encoder\n"
        "from simsearch.models.weights import WeightsOptions\n"
        f"model = resolve_model(ModelChoice(backbone={str(towers)!r}))\n"
        "try:\n    open_text_encoder(model, WeightsOptions()).encode(['red'])\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'tokenizers>=0.21'" in done.stdout
