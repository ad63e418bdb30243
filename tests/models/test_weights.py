"""The search for weights, and downloads."""

from __future__ import annotations

import dataclasses
import hashlib
import socket
import sys
from pathlib import Path

import pytest

from simsearch.errors import WeightsMismatch, WeightsMissing
from simsearch.models.keras_runtime import download
from simsearch.models.weights import (
    WeightsOptions,
    find,
    find_cache_folder,
    find_local,
    has_head,
    hash_file,
    list_local,
)
from simsearch.models.zoo import BACKBONES

pytestmark = pytest.mark.long

VGG16 = BACKBONES["vgg16"]
TOP = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
NOTOP = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
OFFLINE = WeightsOptions(offline=True)
CONTENT = b"weights of the network, as it were"


def refuse_download(*_):
    pytest.fail("something was to be downloaded")


def make_published(content, digest=hashlib.md5):
    """Make a VGG16 row whose weights without head are `content`."""
    return dataclasses.replace(VGG16, notop=dataclasses.replace(VGG16.notop, digest=digest(content).hexdigest()))


def find_weights(backbone):
    return find(backbone, WeightsOptions(), with_head=False, download=download)


def list_files(folder):
    return sorted(path.name for path in Path(folder).rglob("*") if path.is_file())


# Places and names ----------------------------------------------------------------------------------------------------


def test_the_named_file_goes_before_every_place(places, tmp_path):
    places.put("named", NOTOP)
    mine = tmp_path / "mine.h5"
    mine.write_bytes(b"mine")
    assert find(VGG16, WeightsOptions(str(mine)), with_head=False, download=refuse_download) == str(mine)


def test_a_named_file_that_is_not_there_is_not_replaced_by_another(places):
    places.put("named", NOTOP)
    with pytest.raises(WeightsMissing, match=r"no weights for vgg16: mine\.h5 does not exist"):
        find(VGG16, WeightsOptions("mine.h5"), with_head=False, download=refuse_download)


def test_the_places_are_searched_in_their_order(places):
    files = [places.put(place, NOTOP) for place in ("keras", "cache", "named")]
    for file in reversed(files):
        assert find(VGG16, WeightsOptions(), with_head=False, download=refuse_download) == file
        Path(file).unlink()
    assert find_local(VGG16, with_head=False) is None


def test_without_a_named_folder_the_caches_are_searched(places, monkeypatch):
    monkeypatch.delenv("SIMSEARCH_WEIGHTS")
    assert find_local(VGG16, with_head=False) is None
    file = places.put("keras", NOTOP)
    assert find_local(VGG16, with_head=False) == file


def test_a_place_goes_before_a_preferred_name(places):
    places.put("cache", NOTOP)
    with_head = places.put("named", TOP)
    assert find_local(VGG16, with_head=False) == with_head


def test_features_prefer_weights_without_head_and_our_names(places):
    names = [TOP, "vgg16.weights.h5", NOTOP, "vgg16_notop.weights.h5"]
    for name in names:
        file = places.put("named", name)
        assert find_local(VGG16, with_head=False) == file
    assert list(list_local(VGG16, with_head=False)) == [str(places.named / name) for name in reversed(names)]


def test_classes_need_weights_with_head(places):
    places.put("named", NOTOP)
    places.put("named", "vgg16_notop.weights.h5")
    assert find_local(VGG16, with_head=True) is None
    file = places.put("named", TOP)
    assert find_local(VGG16, with_head=True) == file
    file = places.put("named", "vgg16.weights.h5")
    assert find_local(VGG16, with_head=True) == file


def test_a_folder_of_that_name_is_no_weights_file(places):
    (places.named / NOTOP).mkdir(parents=True)
    assert find_local(VGG16, with_head=False) is None


def test_found_weights_have_an_absolute_path(places, monkeypatch, tmp_path):
    places.put("named", NOTOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIMSEARCH_WEIGHTS", "named")
    assert find_local(VGG16, with_head=False) == str(places.named / NOTOP)


@pytest.mark.parametrize("name", [NOTOP, "mobilenet_1_0_224_tf_no_top.h5", "NASNet-mobile-no-top.h5"])
def test_file_name_shows_that_there_is_no_head(name):
    assert not has_head(f"weights/{name}")


@pytest.mark.parametrize("path", [TOP, "notop/vgg16.weights.h5", "mine.h5"])
def test_any_other_name_stands_for_weights_with_head(path):
    assert has_head(path)


def test_the_cache_is_a_folder_of_the_platform_unless_one_is_named(places, monkeypatch):
    assert find_cache_folder() == places.cache.parent
    monkeypatch.delenv("SIMSEARCH_CACHE")
    assert find_cache_folder().name == "simsearch"


def test_a_digest_is_of_the_content(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for path, content in zip(paths, (b"x" * 5_000_000, b"x" * 5_000_000, b"x" * 4_999_999 + b"y"), strict=True):
        path.write_bytes(content)
    first, same, other = (hash_file(str(path)) for path in paths)
    assert first == same != other
    assert len(first) == 32
    with pytest.raises(WeightsMismatch, match=r"cannot read .*missing.*; check the path"):
        hash_file(str(tmp_path / "missing"))


# Without a network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("with_head", "file"), [(True, TOP), (False, NOTOP)])
def test_a_miss_names_file_url_and_place(places, monkeypatch, with_head, file):
    monkeypatch.delenv("SIMSEARCH_WEIGHTS_URL")
    with pytest.raises(WeightsMissing) as caught:
        find(VGG16, OFFLINE, with_head=with_head, download=refuse_download)
    url = f"https://storage.googleapis.com/tensorflow/keras-applications/vgg16/{file}"
    assert (caught.value.file, caught.value.url, caught.value.place) == (file, url, str(places.cache))
    assert str(caught.value) == (
        f"no weights for vgg16: none in {places.named}, {places.cache}, {places.keras}, and --offline forbids a "
        f"download; download {url} and save it in {places.cache} as {file}, or give a file with --weights"
    )


def test_a_miss_names_the_mirror(places, monkeypatch):
    monkeypatch.setenv("SIMSEARCH_WEIGHTS_URL", "https://mirror.example/keras/")
    with pytest.raises(WeightsMissing) as caught:
        find(VGG16, OFFLINE, with_head=False, download=refuse_download)
    assert caught.value.url == f"https://mirror.example/keras/{NOTOP}"


def test_advice_for_missing_weights_works(places):
    with pytest.raises(WeightsMissing) as caught:
        find(VGG16, OFFLINE, with_head=False, download=refuse_download)
    Path(caught.value.place).mkdir(parents=True)
    (Path(caught.value.place) / caught.value.file).write_bytes(CONTENT)
    assert find(VGG16, OFFLINE, with_head=False, download=refuse_download)


# Downloads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", [hashlib.md5, hashlib.sha256], ids=["md5", "sha256"])
def test_a_download_lands_in_the_cache_and_serves_the_next_time(places, mirror, digest):
    mirror.files[NOTOP] = CONTENT
    file = find_weights(make_published(CONTENT, digest))
    assert file == str(places.cache / NOTOP)
    assert Path(file).read_bytes() == CONTENT
    assert list_files(places.cache.parent) == [NOTOP]

    assert find(VGG16, OFFLINE, with_head=False, download=refuse_download) == file
    assert mirror.asked == [NOTOP]


def test_download_writes_nothing_to_stdout(mirror, capfd):
    mirror.files[NOTOP] = CONTENT * 10_000
    find_weights(make_published(CONTENT * 10_000))
    assert capfd.readouterr() == ("", "")


def test_weights_with_head_are_fetched_where_they_are_needed(places, mirror):
    mirror.files[TOP] = CONTENT
    backbone = dataclasses.replace(VGG16, top=dataclasses.replace(VGG16.top, digest=""))
    assert find(backbone, WeightsOptions(), with_head=True, download=download) == str(places.cache / TOP)


def test_weights_without_a_published_digest_are_taken_as_they_come(places, mirror):
    row = BACKBONES["mobilenet"]
    mirror.files[row.notop.name] = CONTENT
    assert Path(find_weights(row)).read_bytes() == CONTENT


def test_an_altered_answer_leaves_nothing_behind(places, mirror):
    mirror.files[NOTOP] = CONTENT.replace(b"weights", b"virus  ")
    with pytest.raises(
        WeightsMissing, match=f"the download failed .*{mirror.url}.* does not have the published digest"
    ):
        find_weights(make_published(CONTENT))
    assert list_files(places.cache.parent) == []


@pytest.mark.parametrize("backbone", [make_published(CONTENT), BACKBONES["mobilenet"]], ids=["digest", "no digest"])
def test_a_truncated_answer_leaves_nothing_behind(places, mirror, backbone):
    mirror.files[backbone.notop.name] = CONTENT
    mirror.promised = 100
    with pytest.raises(WeightsMissing, match="the download failed"):
        find_weights(backbone)
    assert list_files(places.cache.parent) == []


def test_failed_download_keeps_existing_files(places, mirror):
    kept = places.put("cache", "resnet50.weights.h5")
    with pytest.raises(WeightsMissing):
        find_weights(VGG16)
    assert list_files(places.cache) == ["resnet50.weights.h5"]
    assert Path(kept).read_bytes() == b"weights"


def test_a_file_that_the_server_has_not_is_reported(places, mirror):
    with pytest.raises(WeightsMissing, match=rf"none in {places.named}, .* the download failed .*{mirror.url}.* 404"):
        find_weights(VGG16)
    assert list_files(places.cache.parent) == []


def test_a_dead_server_is_reported(places, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("SIMSEARCH_WEIGHTS_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(WeightsMissing, match=f"the download failed .*http://127.0.0.1:{port}/"):
        find_weights(VGG16)
    assert list_files(places.cache.parent) == []


def test_a_cache_that_cannot_be_made_is_reported(places, mirror, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SIMSEARCH_CACHE", str(tmp_path / "file"))
    mirror.files[NOTOP] = CONTENT
    with pytest.raises(WeightsMissing, match=f"the download failed .*{tmp_path}/file"):
        find_weights(make_published(CONTENT))
    assert mirror.asked == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows replaces no file that is open")
def test_a_download_replaces_nothing_while_it_runs(places, mirror):
    """Two processes may download the same weights; each sees a complete file."""
    mirror.files[NOTOP] = CONTENT
    find_weights(make_published(CONTENT))
    with open(places.cache / NOTOP, "rb") as reading:
        download(make_published(CONTENT).notop, f"{mirror.url}/{NOTOP}", places.cache)
        assert reading.read() == CONTENT
    assert list_files(places.cache) == [NOTOP]
