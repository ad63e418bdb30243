"""Models of a hub, with a hub on this machine that behaves well and badly."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from simsearch import files
from simsearch.errors import ModelError, WeightsMismatch, WeightsMissing
from simsearch.models import hub
from simsearch.models.choice import ModelChoice, locate_text_tower, relocate_weights, resolve_model
from simsearch.models.hub_models import build_published_model, find_repository, locate_published_text_tower
from simsearch.models.loader import open_embedder
from simsearch.models.published import PUBLISHED, HubFile, PublishedBackbone, PublishedText
from simsearch.models.weights import WeightsOptions
from simsearch.sources.progress import LISTENER, PreparationListener
from tests.models.conftest import make_random_pixels
from tests.support.onnx_models import CLIP_PROCESSOR, TinyEncoder, make_two_towers, write_json
from tests.support.servers import Hub, serving_hub

OFFLINE = WeightsOptions(offline=True)
ONLINE = WeightsOptions()
NO_OPTIONS = {"layer": None, "pooling": None, "resize": None}
REPOSITORY = "owner/tiny-clip"


@pytest.fixture
def hub_server(places, monkeypatch) -> Hub:
    with serving_hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


@pytest.fixture
def source(tmp_path) -> Path:
    """The files of a two-tower model, as they are published."""
    folder = make_two_towers(tmp_path / "source")
    (folder / "LICENSE").write_text("the license")
    return folder


def make_file(source: Path, path: str) -> HubFile:
    content = (source / path).read_bytes()
    return HubFile(path, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def row(source, hub_server) -> PublishedBackbone:
    """A row of the table whose files are on the hub of this machine."""
    hub_server.add_folder(REPOSITORY, source)
    return dataclasses.replace(
        PUBLISHED["tinyclip_8m"],
        name="tiny_clip",
        repository=REPOSITORY,
        revision="v1",
        files=(make_file(source, "onnx/vision_model.onnx"),),
        settings=dataclasses.replace(PUBLISHED["tinyclip_8m"].settings, side_px=24, shortest_px=24),
        license_file="LICENSE",
        text=PublishedText(
            graph=make_file(source, "onnx/text_model.onnx"),
            tokenizer=make_file(source, "tokenizer.json"),
            context_length=7,
            pad_token=None,
        ),
    )


def build(row, options=ONLINE):
    return build_published_model(row, options, **NO_OPTIONS)


def list_cache(places) -> set[str]:
    """The files in the cache, but for locks."""
    return {path.name for path in places.cache.rglob("*") if path.is_file() and path.suffix != ".lock"}


# Published rows ------------------------------------------------------------------------------------------------------


def test_a_row_is_downloaded_once_with_its_license_and_then_found(row, hub_server, places):
    model = build(row)
    folder = places.cache / "owner--tiny-clip" / "v1"
    assert (model.backbone, model.source, model.layer) == ("tiny_clip", "tiny_clip", "image_embeds")
    assert model.file == str(folder / "onnx/vision_model.onnx")
    assert (folder / "LICENSE").read_text() == "the license"
    assert "MIT" in (folder / "LICENSE.txt").read_text()
    assert open_embedder(model).embed(make_random_pixels(2, 24)).shape == (2, 6)
    asked = list(hub_server.asked)
    assert build(row, OFFLINE) == model
    assert hub_server.asked == asked
    assert not any("text_model" in path for path in asked)


@pytest.mark.parametrize("place", ["named", "named repository", "Hugging Face"])
def test_files_on_this_machine_go_before_a_download(row, hub_server, places, source, tmp_path, place):
    folder = {
        "named": places.named / "tiny_clip",
        "named repository": places.named / "owner" / "tiny-clip",
        "Hugging Face": tmp_path / "hf" / "models--owner--tiny-clip" / "snapshots" / "v1",
    }[place]
    folder.parent.mkdir(parents=True)
    source.rename(folder)
    assert build(row, OFFLINE).file == str(folder / "onnx/vision_model.onnx")
    assert build(row).file == str(folder / "onnx/vision_model.onnx")
    assert hub_server.asked == []


def test_a_file_of_another_size_is_not_taken(row, hub_server, places, source):
    torn = places.named / "tiny_clip" / "onnx" / "vision_model.onnx"
    torn.parent.mkdir(parents=True)
    torn.write_bytes((source / "onnx/vision_model.onnx").read_bytes()[:-1])
    assert build(row).file != str(torn)


def test_a_folder_or_a_file_can_be_named(row, hub_server, source):
    for given in (source, source / "onnx" / "vision_model.onnx"):
        model = build(row, WeightsOptions(str(given)))
        assert model.file == str(source / "onnx/vision_model.onnx")
    with pytest.raises(ModelError, match=r"no weights for tiny_clip: nowhere does not exist; check the path"):
        build(row, WeightsOptions("nowhere"))
    assert hub_server.asked == []


@pytest.mark.parametrize("variable", [None, "HF_HUB_OFFLINE"])
def test_offline_is_obeyed_and_the_error_says_where_to_put_the_file(row, hub_server, places, monkeypatch, variable):
    if variable:
        monkeypatch.setenv(variable, "1")
    with pytest.raises(WeightsMissing) as caught:
        build(row, ONLINE if variable else OFFLINE)
    assert hub_server.asked == []
    assert f"{variable or '--offline'} forbids a download" in str(caught.value)
    assert caught.value.url == f"{hub_server.url}/owner/tiny-clip/resolve/v1/onnx/vision_model.onnx"
    place = Path(caught.value.place)
    place.mkdir(parents=True)
    content = hub_server.files["owner/tiny-clip/onnx/vision_model.onnx"]
    (place / caught.value.file).write_bytes(content)
    assert build(row, OFFLINE).file == str(place / caught.value.file)


def test_a_restricted_license_must_be_accepted(row, hub_server):
    row = dataclasses.replace(row, is_restricted=True)
    with pytest.raises(ModelError, match=r"tiny_clip is under the MIT, which limits its use .*--accept-license"):
        build(row)
    assert hub_server.asked == []
    assert build(row, WeightsOptions(accept_license=True)).file
    assert build(row).file  # it is here now


def test_a_file_without_a_published_digest_is_pinned_and_said(row, hub_server, places):
    (file,) = row.files
    row = dataclasses.replace(row, files=(HubFile(file.path),))
    notes: list[str] = []
    token = LISTENER.set(PreparationListener(on_note=notes.append))
    try:
        model = build(row)
    finally:
        LISTENER.reset(token)
    assert any(f"is pinned to SHA-256 {file.sha256}" in note for note in notes)
    Path(model.file).unlink()
    hub_server.files["owner/tiny-clip/onnx/vision_model.onnx"] += b"another version"
    with pytest.raises(WeightsMissing, match=r"has the SHA-256 digest .*, and the published one"):
        build(row)
    assert "vision_model.onnx" not in list_cache(places)


def test_the_text_encoder_is_downloaded_when_it_is_asked_for(row, hub_server, monkeypatch):
    monkeypatch.setattr(files._Overwriting, "checks", True)  # as for commands
    build(row)
    tower = locate_published_text_tower(row, ONLINE)
    assert tower is not None
    assert locate_published_text_tower(dataclasses.replace(row, text=None), ONLINE) is None
    assert Path(tower.graph).is_file()
    assert Path(tower.tokenizer).is_file()
    assert (tower.context_length, tower.pad_token) == (7, None)


# A hub that behaves badly --------------------------------------------------------------------------------------------

GRAPH = "owner/tiny-clip/onnx/vision_model.onnx"


@pytest.mark.parametrize("faults", [["redirect"], [429], [503, 429], ["cut"], ["cut", "redirect", "cut"]], ids=str)
def test_faults_that_pass_are_survived(row, hub_server, faults, source):
    hub_server.faults[GRAPH] = list(faults)
    model = build(row)
    assert Path(model.file).read_bytes() == (source / "onnx/vision_model.onnx").read_bytes()
    assert len(hub_server.ranges) == faults.count("cut")  # a cut transfer goes on where it ended


def test_progress_is_told(row, hub_server):
    told: list[tuple[str, int, int]] = []
    token = LISTENER.set(PreparationListener(on_progress=lambda *progress: told.append(progress)))
    try:
        build(row)
    finally:
        LISTENER.reset(token)
    size = row.files[0].size_bytes
    assert ("tiny_clip vision_model.onnx", size, size) in told


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ([404], r"the download failed \(the server answers 404 Not Found\)"),
        (
            [401],
            r"owner/tiny-clip is not open to everybody \(the server answers 401 Unauthorized\); accept its terms",
        ),
        ([403], r"owner/tiny-clip is not open to everybody \(the server answers 403 Forbidden\); accept its terms"),
        (["redirect"] * 7, r"the download failed \(there are more than 5 redirects"),
    ],
    ids=str,
)
def test_faults_that_stay_get_one_clear_line(row, hub_server, places, faults, message):
    hub_server.faults[GRAPH] = list(faults)
    with pytest.raises(ModelError, match=message) as caught:
        build(row)
    assert "\n" not in str(caught.value)
    assert "vision_model.onnx" not in list_cache(places)


def test_a_wrong_content_is_never_used(row, hub_server, places):
    content = hub_server.files[GRAPH]
    hub_server.files[GRAPH] = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(WeightsMissing, match=r"the download failed \(the file has the SHA-256 digest .*, and the"):
        build(row)
    hub_server.files[GRAPH] = content + b"more"
    with pytest.raises(WeightsMissing, match=r"the file has .* bytes, and the published one"):
        build(row)
    assert not {name for name in list_cache(places) if "vision_model" in name}


def test_a_half_downloaded_file_of_a_killed_process_is_completed_or_replaced(row, hub_server, places):
    content = hub_server.files[GRAPH]
    target = places.cache / "owner--tiny-clip" / "v1" / "onnx" / "vision_model.onnx"
    target.parent.mkdir(parents=True)
    target.with_name("vision_model.onnx.part").write_bytes(content[:100])
    target.with_name("vision_model.onnx.part.etag").write_text('"another version"')
    assert Path(build(row).file).read_bytes() == content
    assert {name for name in list_cache(places) if ".part" in name} == set()


def test_two_processes_download_it_once(row, hub_server, places):
    """Each process reports the digest of the file that it got."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom simsearch.sources.download import download_file\n"
        "print(download_file(sys.argv[1], Path(sys.argv[2])))\n"
    )
    url = hub.make_url(find_repository(row), row.files[0].path)
    command = [sys.executable, "-c", code, url, str(places.cache / "one" / "model.onnx")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {process.communicate()[0].strip() for process in processes}
    assert digests == {row.files[0].sha256}
    assert len(hub_server.asked) == 1


# Any repository ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hf:owner", "hf:owner/../x", "hf:a/b/c", "hf:owner/name@../x", "hf:/x"])
def test_a_name_that_is_no_repository_is_refused(name):
    with pytest.raises(ModelError, match="is no repository; write hf:owner/repository"):
        hub.parse_repository(name)


def test_any_repository_is_pinned_to_its_commit(source, hub_server, places):
    hub_server.add_folder(REPOSITORY, source)
    notes: list[str] = []
    token = LISTENER.set(PreparationListener(on_note=notes.append))
    try:
        model = resolve_model(ModelChoice(backbone="hf:owner/tiny-clip"))
    finally:
        LISTENER.reset(token)
    assert notes == [f"hf:owner/tiny-clip is pinned to its commit {hub_server.commit}"]
    assert (model.backbone, model.source) == ("tiny_clip", f"hf:owner/tiny-clip@{hub_server.commit}")
    assert (model.side_px, model.resize, model.shortest_px) == (24, "crop", 24)
    assert (Path(model.file).parents[1] / "LICENSE").is_file()
    asked = list(hub_server.asked)
    assert not any("text_model" in path or "tokenizer" in path for path in asked)
    hub_server.files[GRAPH] += b"another version"
    for backbone in ("hf:owner/tiny-clip", model.source):
        assert resolve_model(ModelChoice(backbone=backbone, offline=True)) == model
    assert hub_server.asked == asked


def test_the_text_encoder_of_any_repository_is_downloaded_when_it_is_asked_for(source, hub_server):
    hub_server.add_folder(REPOSITORY, source)
    model = resolve_model(ModelChoice(backbone="hf:owner/tiny-clip@main"))
    with pytest.raises(ModelError, match="has no text encoder"):
        locate_text_tower(model, OFFLINE)
    tower = locate_text_tower(model, ONLINE)
    assert Path(tower.graph).name == "text_model.onnx"
    assert (tower.context_length, tower.pad_token) == (7, "<|endoftext|>")


@pytest.mark.parametrize("has_digests", [True, False])
def test_external_data_of_any_repository_comes_with_it(tmp_path, hub_server, has_digests):
    hub_server.has_digests = has_digests
    folder = tmp_path / "source"
    TinyEncoder(is_external=True).save(folder / "onnx" / "model.onnx")
    write_json(folder / "preprocessor_config.json", **CLIP_PROCESSOR)
    hub_server.add_folder("owner/tiny", folder)
    model = resolve_model(ModelChoice(backbone="hf:owner/tiny"))
    assert open_embedder(model).embed(make_random_pixels(1, 24)).shape == (1, 8)


def test_a_download_that_ended_early_is_not_taken_for_a_model(source, hub_server, places):
    hub_server.add_folder(REPOSITORY, source)
    hub_server.faults[GRAPH] = [404]
    with pytest.raises(ModelError, match=r"the download failed .*; download the repository with another tool"):
        resolve_model(ModelChoice(backbone="hf:owner/tiny-clip"))
    with pytest.raises(ModelError, match="--offline forbids a download"):
        resolve_model(ModelChoice(backbone="hf:owner/tiny-clip", offline=True))
    assert resolve_model(ModelChoice(backbone="hf:owner/tiny-clip")).backbone == "tiny_clip"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, r"the hub has no repository hf:owner/tiny-clip \(the server answers 404 Not Found\); check its name"),
        (401, "hf:owner/tiny-clip does not exist, or is not open to everybody"),
    ],
)
def test_a_repository_that_cannot_be_listed_is_named(source, hub_server, status, message):
    hub_server.add_folder(REPOSITORY, source)
    hub_server.faults["owner/tiny-clip"] = [status]
    with pytest.raises(ModelError, match=message):
        resolve_model(ModelChoice(backbone="hf:owner/tiny-clip"))


def test_a_repository_without_an_export_is_named(hub_server):
    hub_server.files["owner/torch-only/model.safetensors"] = b"weights"
    with pytest.raises(ModelError, match="hf:owner/torch-only has no ONNX file of an image encoder; export one"):
        resolve_model(ModelChoice(backbone="hf:owner/torch-only"))


# Stored models -------------------------------------------------------------------------------------------------------


def test_a_stored_model_finds_its_file_again(source, hub_server):
    hub_server.add_folder(REPOSITORY, source)
    model = resolve_model(ModelChoice(backbone="hf:owner/tiny-clip"))
    moved = dataclasses.replace(model, file="/was/somewhere/else.onnx")
    assert relocate_weights(moved, OFFLINE) == model
    stranger = dataclasses.replace(moved, weights="0" * 32)
    with pytest.raises(WeightsMismatch, match="differ from those that the collection was indexed with"):
        relocate_weights(stranger, OFFLINE)


# The table -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=lambda row: row.name)
def test_every_row_is_complete(row):
    assert row.files[0].path.endswith(".onnx")
    assert row.license
    assert row.license_url.startswith("https://")
    assert "arXiv:" in row.paper
    files = [*row.files, *([row.text.graph, row.text.tokenizer] if row.text else [])]
    for file in files:
        assert file.sha256 == "" or (len(file.sha256) == 64 and int(file.sha256, 16))
    assert row.revision == "main" or len(row.revision) == 40
    assert json.dumps(dataclasses.asdict(row))


def test_the_names_that_users_ask_for_are_in_the_table():
    names = {"dinov2_small", "dinov2_base", "siglip2_base", "clip_vit_b32", "tinyclip_8m"}
    restricted = {"dinov3_vits16", "mobileclip2_s0", "mobileclip2_s2"}
    assert names | restricted <= PUBLISHED.keys()
    assert {name for name, row in PUBLISHED.items() if row.is_restricted} == restricted
