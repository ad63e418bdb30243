"""A collection in clusters and laid out, and answers as a notebook shows them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from simsearch import Collection, ModelChoice
from simsearch.errors import ModelNotIndexed, UsageError
from simsearch.notebook import GalleryItem, render_gallery
from simsearch.visualization.clusters import Cluster
from simsearch.visualization.grid import snap_to_grid
from simsearch.visualization.overview import CollectionLayout, ImageSelection, OverviewImage
from tests.conftest import HISTOGRAM, ROOT, draw_picture
from tests.support import oneshot
from tests.support.pages import Elements

BUILTIN = ModelChoice(backbone="builtin")


@pytest.fixture
def filled(photos: Path, collection: Path) -> Path:
    oneshot.ingest(collection, [photos], HISTOGRAM)
    return collection


def test_every_image_is_in_one_cluster_and_the_larger_ones_come_first(filled: Path, photos: Path):
    with Collection.open(filled) as opened:
        found = opened.clusters(3)
    assert (found.backbone, found.n_images, len(found.clusters)) == ("histogram", 12, 3)
    paths = [image.path for cluster in found.clusters for image in found.list_members(cluster)]
    assert sorted(paths) == sorted(map(str, photos.rglob("*.png")))
    sizes = [cluster.size for cluster in found.clusters]
    assert sizes == sorted(sizes, reverse=True)


def test_labels_are_the_folders_and_the_typical_ones_lead_the_members(filled: Path):
    with Collection.open(filled) as opened:
        found = opened.clusters(2)
    for cluster in found.clusters:
        members = found.list_members(cluster)
        assert found.list_typical(cluster) == members[:5]
        labels = [os.path.basename(os.path.dirname(image.path)) for image in members]
        assert [image.label for image in members] == labels
        assert cluster.label_share == pytest.approx(labels.count(cluster.label) / len(labels))


def test_a_condition_and_a_limit_choose_what_is_looked_at(filled: Path):
    with Collection.open(filled) as opened:
        some = opened.clusters(1, selection=ImageSelection(where="class = a"))
        assert {image.label for image in some.images} == {None}  # one folder says nothing
        assert {os.path.basename(os.path.dirname(image.path)) for image in some.images} == {"a"}
        assert (some.n_images, len(some.images)) == (6, 6)
        sample = opened.clusters(1, selection=ImageSelection(max_images=5))
        assert (sample.n_images, len(sample.images)) == (12, 5)
        assert sample.images == opened.clusters(1, selection=ImageSelection(max_images=5)).images
        other = opened.clusters(1, selection=ImageSelection(max_images=5, seed=1))
        assert other.images != sample.images


def test_an_arrangement_gives_each_image_a_cell_of_its_own(filled: Path):
    with Collection.open(filled) as opened:
        found = opened.arrangement()
    cells = set(zip(found.grid.columns.tolist(), found.grid.rows.tolist(), strict=True))
    assert len(cells) == len(found.images) == 12
    assert np.isfinite(found.grid.exact).all()
    assert sum(cluster.size for cluster in found.clusters) == 12


@pytest.mark.parametrize(
    ("label", "share", "words", "name"),
    [
        ("lamp", 0.5, ("table lamp",), "lamp"),
        ("2021", 0.49, ("table lamp",), "table lamp"),
        ("2021", 0.49, ("",), "2021"),
        ("2021", 0.1, (), "2021"),
        (None, 0.0, ("goblet",), "goblet"),
        (None, 0.0, ("",), ""),
        (None, 0.0, (), ""),
    ],
)
def test_a_cluster_is_named_by_a_clear_label_else_by_a_word(
    label: str | None, share: float, words: tuple[str, ...], name: str
):
    grid = snap_to_grid(np.zeros((1, 2), np.float32))
    cluster = Cluster(1, (0,), 1.0, label, share)
    layout = CollectionLayout("builtin", "x", 1, (OverviewImage(1, "a", label),), (cluster,), grid, words)
    assert layout.name_clusters() == (name,)


def test_clusters_of_a_network_with_words_have_words_and_others_none(filled: Path):
    with Collection.open(filled) as opened:
        assert opened.arrangement(2).words == ()
    oneshot.ingest(filled, [ROOT / "data" / "objects" / name for name in ("hourglass", "teapot")], BUILTIN)
    with Collection.open(filled) as opened:
        found = opened.arrangement(2, backbone="builtin")
    named = {cluster.label: word for cluster, word in zip(found.clusters, found.words, strict=True)}
    assert named == {"hourglass": "hourglass", "teapot": "teapot"}


def test_nothing_to_look_at_is_said(filled: Path, photos: Path):
    with Collection.open(filled) as opened:
        with pytest.raises(UsageError, match=r"no image of .* matches"):
            opened.clusters(selection=ImageSelection(where="class = z"))
        with pytest.raises(UsageError, match="12 images cannot form 13 clusters"):
            opened.clusters(13)
    oneshot.remove(filled, [str(photos)])
    with Collection.open(filled) as opened, pytest.raises(ModelNotIndexed, match="no image of histogram"):
        opened.arrangement()


def test_an_answer_shows_its_pictures_in_a_notebook(filled: Path, photos: Path):
    with Collection.open(filled) as opened:
        answer = opened.search(photos / "a" / "picture_02.png", k=3)
        clusters = opened.clusters(2)
    page = Elements(answer._repr_html_())
    assert [image["src"][:23] for image in page.of("img")] == ["data:image/webp;base64,"] * 3
    assert "1 · 1.0000" in page.text
    assert os.path.join("a", "picture_02.png") in page.text
    shown = Elements(clusters._repr_html_())
    assert len(shown.of("img")) == sum(len(cluster.typical) for cluster in clusters.clusters)


def test_names_in_a_notebook_are_escaped_and_an_unreadable_picture_is_named(tmp_path: Path):
    hostile = draw_picture(tmp_path / "plain.png", 1).rename(tmp_path / "<img src=x onerror=alert(1)>.png")
    lost = os.path.join(os.fspath(tmp_path), os.fsdecode(b"caf\xe9.png"))
    page = Elements(render_gallery('<b>"q"</b>', [GalleryItem(str(hostile), "<i>"), GalleryItem(lost)]))
    assert len(page.of("img")) == 1
    assert page.of("i") == []
    for text in ('<b>"q"</b>', "<i>", "<img src=x onerror=alert(1)>.png", "caf\ufffd.png", "not readable"):
        assert text in page.text


def test_clusters_of_another_backbone_can_be_asked_for(filled: Path, photos: Path):
    oneshot.ingest(filled, [photos], ModelChoice(backbone="builtin", precision="f32"))
    with Collection.open(filled) as opened:
        assert opened.clusters(2).backbone == "histogram"
        assert opened.clusters(2, backbone="builtin").backbone == "builtin"
