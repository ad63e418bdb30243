"""A quality check finds pictures that were made dark, bright, uniform, blurred, tiny or long, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from simsearch import Collection
from simsearch.images.statistics import compute_statistics
from simsearch.index.kinds import IndexKindChoice
from simsearch.quality.results import QUALITY_KINDS, QualityKind
from simsearch.store.snapshot import open_snapshot
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM, ROOT
from tests.support import command_line, oneshot
from tests.support.synthetic import WIDTH, fill

OBJECTS = ROOT / "data" / "objects"

_EDITS: dict[QualityKind, Callable[[Image.Image], Image.Image]] = {
    "dark": lambda image: image.point(lambda level: level // 12),
    "bright": lambda image: image.point(lambda level: 240 + level // 17),
    "uniform": lambda image: Image.new("RGB", image.size, (120, 130, 110)),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(0.03 * max(image.size))),
    "tiny": lambda image: image.resize((60, 60)),
    "odd-shaped": lambda image: image.crop((0, 0, image.width, image.height // 4)).resize((1200, 200)),
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six usual pictures and one of each kind, in a folder named after the kind."""
    home = tmp_path_factory.mktemp("checked")
    sources = sorted((OBJECTS / "vase").glob("*.jpg"))[:6]
    for number, source in enumerate(sources):
        image = Image.open(source).convert("RGB")
        (home / "photos" / "usual").mkdir(parents=True, exist_ok=True)
        image.save(home / "photos" / "usual" / f"{number}.png")
    image = Image.open(sources[0]).convert("RGB")
    for kind, edit in _EDITS.items():
        (home / "photos" / kind).mkdir()
        edit(image).save(home / "photos" / kind / "edited.png")
    oneshot.ingest(home / "ix", [home / "photos"], HISTOGRAM)
    return home / "ix"


@pytest.mark.parametrize("kind", _EDITS)
def test_an_edited_picture_is_found_and_no_usual_one(checked: Path, kind: QualityKind):
    with Collection.open(checked) as collection:
        report = collection.check_quality()
    found = {Path(finding.path).parent.name for finding in report.select(kind)}
    assert kind in found
    assert "usual" not in found
    assert report.n_unread == 0
    assert sum(report.count().values()) == len(report.findings)


def test_statistics_of_an_older_collection_are_computed_from_its_files_and_kept(checked: Path):
    with open_snapshot(checked) as snapshot:
        recorded = snapshot.read_statistics()
    assert len(recorded) == 12
    with CatalogWriter.open(checked) as writer, writer.transaction():
        writer._execute("DELETE FROM picture_statistics")
    with Collection.open(checked) as collection:
        report = collection.check_quality()
    with open_snapshot(checked) as snapshot:
        again = snapshot.read_statistics()
    assert report.n_unread == 0
    assert {image_id: round(one.brightness) for image_id, one in again.items()} == {
        image_id: round(one.brightness) for image_id, one in recorded.items()
    }


def test_the_sharpness_of_a_checkerboard_is_that_worked_out_by_hand():
    levels = 100 + 50 * (np.indices((40, 40)).sum(0) % 2 * 2 - 1)
    measured = compute_statistics(Image.fromarray(levels.astype(np.uint8)))
    assert (measured.brightness, measured.contrast) == (100, 50)
    assert measured.sharpness == pytest.approx(8)  # each pixel differs by 100 from its four neighbors: 400 / 50


def make_vectors() -> np.ndarray:
    """A hundred unit rows in two tight clusters, and one far from both in the last row."""
    random = np.random.default_rng(0)
    centers = np.repeat(np.eye(WIDTH)[:2], 50, axis=0)
    rows = np.concatenate([centers + 0.05 * random.standard_normal((100, WIDTH)), -np.eye(WIDTH)[2:3]])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_outliers_and_wrong_labels_are_found_by_vectors(tmp_path: Path):
    folder, _ = fill(tmp_path / "ix", make_vectors(), IndexKindChoice("flat"))
    labels = ["a"] * 50 + ["b"] * 50 + ["b"]
    labels[7] = "b"  # among fifty of a
    with Collection.open(folder) as collection:
        collection.set_values({(row + 1, "label"): label for row, label in enumerate(labels)})
        report = collection.check_quality(labels="label")
    assert [finding.image_id for finding in report.select("outlier")] == [101]
    assert [finding.image_id for finding in report.select("mislabelled")] == [8]
    assert "labelled b, but 10 of its 10 nearest images are a" in report.select("mislabelled")[0].reason
    assert report.n_unread == 101  # these pictures do not exist


def test_the_command_lists_kinds_and_json_has_all(checked: Path):
    listed = command_line.run("check", "--in", checked, "--kind", "dark", cwd=checked.parent)
    assert "dark: 1" in listed.stdout
    assert "uniform" not in listed.stdout
    assert "of 12 images are worth a look" in listed.stderr
    document = json.loads(command_line.run("check", "--in", checked, "--json", cwd=checked.parent).stdout)
    assert set(document["counts"]) == set(QUALITY_KINDS)
    assert sum(document["counts"].values()) == len(document["findings"])
    assert command_line.run("check", "--in", checked, "--labels", "colour", cwd=checked.parent).returncode == 2
