"""Which file of a group is kept and why, and which files are never suggested."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from simsearch.duplicates.file_states import FileState, read_file_state
from simsearch.duplicates.keep_rules import Candidate, choose_file, has_copy_name, suggest_actions
from simsearch.duplicates.options import KEEP_RULES
from simsearch.duplicates.picture_evidence import PictureEvidence, is_colored, measure_sharpness
from simsearch.duplicates.results import Action, MemberFile
from simsearch.images.decode import compute_digest
from simsearch.store.snapshot import StoredFile, StoredImage
from tests.conftest import ROOT

PHOTO = ROOT / "data" / "objects" / "lamp" / "lamp_01.jpg"


def read_photo() -> Image.Image:
    return Image.open(PHOTO).convert("RGB")


def store(image_id: int, *files: Path, taken_at: str | None = None, camera: str | None = None) -> list[Candidate]:
    """An image with these files, which all exist, as the catalog has it."""
    data = files[0].read_bytes()
    with Image.open(files[0]) as picture:
        width, height = picture.size
    stored = tuple(StoredFile(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    image = StoredImage(
        image_id, compute_digest(data), width, height, "PNG", len(data), taken_at, camera, stored
    )  # fmt: skip
    states = [read_file_state(file) for file in stored]
    return [Candidate(image, state) for state in states if state is not None]


def save(picture: Image.Image, file: Path, age_s: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, "PNG")
    os.utime(file, (1_700_000_000 - age_s,) * 2)
    return file


def choose(candidates: Sequence[Candidate], rule: str) -> tuple[str, str, dict[str, str]]:
    kept, virtue, faults = choose_file(candidates, rule, PictureEvidence(10**9))  # type: ignore[arg-type]
    return Path(kept.state.path).name, virtue, {Path(path).name: fault for path, fault in faults.items()}


def suggest(candidates: Sequence[Candidate], rule: str = "largest") -> dict[str, tuple[Action, str]]:
    files = suggest_actions(candidates, rule, PictureEvidence(10**9)).values()  # type: ignore[arg-type]
    return {Path(file.path).name: (file.action, file.reason) for file in files}


# The evidence of pixels


def test_colors_are_told_from_gray_even_after_compression():
    photo = read_photo()
    stream = io.BytesIO()
    photo.convert("L").convert("RGB").save(stream, "JPEG", quality=30)
    assert is_colored(photo.copy())
    assert not is_colored(Image.open(stream).convert("RGB"))
    small_red_spot = Image.new("RGB", (400, 400), "gray")
    small_red_spot.paste("red", (0, 0, 60, 60))
    assert is_colored(small_red_spot)


def test_blur_and_compression_make_a_picture_less_sharp_and_contrast_does_not_make_it_sharper():
    photo = read_photo()
    sharp = measure_sharpness(photo)
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=10)
    assert measure_sharpness(photo.filter(ImageFilter.GaussianBlur(1))) < 0.7 * sharp
    assert measure_sharpness(Image.open(stream).convert("RGB")) < sharp
    assert measure_sharpness(photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == pytest.approx(sharp, rel=1e-5)
    low = Image.fromarray((np.asarray(photo) // 2).astype(np.uint8))
    assert measure_sharpness(low) == pytest.approx(sharp, rel=0.15)


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (500, 2), (3, 3)])
def test_a_picture_of_few_pixels_has_a_sharpness(size: tuple[int, int]):
    assert measure_sharpness(Image.new("RGB", size, "red")) == 0


@pytest.mark.parametrize(
    ("name", "is_copy"),
    [
        ("IMG_1 (1).jpg", True), ("IMG_1(12).jpg", True), ("photo - Copy.jpg", True), ("photo copy 2.jpg", True),
        ("copy of photo.jpg", True), ("photo-edited.jpg", True), ("photo_edited.JPG", True), ("photo_edit2.jpg", True),
        ("foto - Kopie.jpg", True), ("foto (copia).jpg", True), ("thumb_1.jpg", True),
        ("photo.jpg", False), ("copyright.jpg", False), ("credits.jpg", False), ("photocopy.jpg", False),
        ("(1) first.jpg", False), ("editor.jpg", False), ("copy/photo.jpg", False),
    ],
)  # fmt: skip
def test_names_of_copies(name: str, is_copy: bool):
    assert has_copy_name(f"/photos/{name}") is is_copy


# The file to keep


def test_each_criterion_decides_where_the_earlier_ones_are_equal(tmp_path: Path):
    photo = read_photo()
    blurred, gray = photo.filter(ImageFilter.GaussianBlur(2)), photo.convert("L").convert("RGB")
    small = photo.resize((photo.width // 2, photo.height // 2))
    original = store(1, save(photo, tmp_path / "original.png", age_s=50))
    others = {
        "fewer pixels": store(2, save(small, tmp_path / "small.png", age_s=99)),
        "gray": store(3, save(gray, tmp_path / "gray.png", age_s=99)),
        "less sharp": store(4, save(blurred, tmp_path / "blurred.png", age_s=99)),
        "newer": store(5, save(photo, tmp_path / "new.png")),
        "named as a copy or an edit": store(6, save(photo, tmp_path / "original (1).png", age_s=51)),
    }
    for fault, other in others.items():
        for candidates in ([*original, *other], [*other, *original]):
            name, _, faults = choose(candidates, "largest")
            assert (name, list(faults.values())) == ("original.png", [fault])
    name, virtue, faults = choose([one for other in others.values() for one in other] + original, "largest")
    assert (name, sorted(faults.values())) == ("original.png", sorted(others))
    assert virtue == "most pixels, in color, sharpest, oldest, plain name"
    with_camera = store(7, save(gray, tmp_path / "camera.png"), taken_at="2020-01-01T00:00:00", camera="NIKON D90")
    assert choose([*original, *with_camera], "largest")[::2] == ("camera.png", {"original.png": "less camera data"})


def test_each_rule_puts_its_own_criterion_first(tmp_path: Path):
    photo = read_photo()
    large = store(1, save(photo, tmp_path / "of_medium_length.png", age_s=10))
    old = store(2, save(photo.resize((40, 40)), tmp_path / "a_file_with_a_long_name.png", age_s=500))
    short = store(3, save(photo.resize((50, 50)), tmp_path / "s.png", age_s=100))
    new = store(4, save(photo.resize((60, 60)), tmp_path / "somewhat_longer_name.png"))
    for candidates in itertools.permutations([*large, *old, *short, *new]):
        chosen = {rule: choose(candidates, rule)[:2] for rule in KEEP_RULES}
        assert chosen == {
            "largest": ("of_medium_length.png", "most pixels"),
            "oldest": ("a_file_with_a_long_name.png", "oldest"),
            "newest": ("somewhat_longer_name.png", "newest"),
            "shortest-path": ("s.png", "shortest path"),
        }


def test_the_date_taken_counts_before_the_time_of_the_file(tmp_path: Path):
    photo = read_photo()
    taken = store(1, save(photo, tmp_path / "taken.png"), taken_at="1999-12-31T23:59:59")
    older_file = store(2, save(photo, tmp_path / "older.png", age_s=1000))
    assert choose([*older_file, *taken], "oldest")[0] == "taken.png"
    assert choose([*older_file, *taken], "newest")[0] == "older.png"


# What could go


@pytest.mark.parametrize("rule", KEEP_RULES)
def test_nothing_is_suggested_that_has_what_the_kept_file_lacks(tmp_path: Path, rule: str):
    photo = read_photo()
    candidates = [
        *store(1, save(photo, tmp_path / "p.png", age_s=7)),
        *store(2, save(photo.convert("L").resize((900, 900)), tmp_path / "large_gray.png", age_s=300)),
        *store(3, save(photo.resize((30, 30)), tmp_path / "q.png", age_s=900), camera="NIKON D90"),
        *store(4, save(photo.convert("L").resize((20, 20)), tmp_path / "m.png")),
    ]
    actions = suggest(candidates, rule)
    kept = {name for name, (action, _) in actions.items() if action != "remove"}
    assert {"p.png", "large_gray.png", "q.png"} <= kept  # the colors, the pixels, the camera data
    assert len([name for name, (action, _) in actions.items() if action == "keep"]) == 1
    if rule != "newest":
        assert actions["m.png"][0] == "remove"


def test_a_blurred_picture_with_camera_data_does_not_replace_a_sharp_one(tmp_path: Path):
    photo = read_photo()
    blurred = store(1, save(photo.filter(ImageFilter.GaussianBlur(3)), tmp_path / "blurred.png"), camera="NIKON D90")
    sharp = store(2, save(photo, tmp_path / "sharp.png"))
    assert suggest([*blurred, *sharp]) == {
        "blurred.png": ("keep", "camera data"),
        "sharp.png": ("look", "sharper than the kept file"),
    }


def test_of_an_image_that_is_to_be_looked_at_the_exact_copies_can_go(tmp_path: Path):
    photo = read_photo()
    large = store(1, save(photo.convert("L").resize((900, 900)), tmp_path / "gray.png"))
    first = save(photo, tmp_path / "color.png", age_s=9)
    second = save(photo, tmp_path / "color (1).png", age_s=9)
    actions = suggest([*large, *store(2, second, first)])
    assert actions["color.png"] == ("look", "in color, the kept file is gray")
    assert actions["color (1).png"] == ("remove", "named as a copy or an edit")


# Links


@pytest.mark.parametrize("rule", KEEP_RULES)
def test_a_link_and_its_target_are_one_file(tmp_path: Path, rule: str):
    real = save(read_photo(), tmp_path / "z" / "real.png")
    (tmp_path / "a").mkdir()
    link = tmp_path / "a" / "l.png"
    link.symlink_to(Path("..", "z", "real.png"))
    hard = tmp_path / "h.png"
    hard.hardlink_to(real)
    for files in itertools.permutations([real, link, hard]):
        actions = suggest(store(1, *files), rule)
        assert {action for action, _ in actions.values()} == {"keep"}
        assert actions["l.png"][1] == f"symbolic link to {os.path.realpath(real)}"


@pytest.mark.parametrize("rule", KEEP_RULES)
def test_a_file_with_another_name_is_never_suggested(tmp_path: Path, rule: str):
    """Neither the target of a link, nor a hard link, nor a file that is reached through a linked folder."""
    photo = read_photo()
    kept = save(photo.resize((900, 900)), tmp_path / "k.png", age_s=99)
    target = save(photo, tmp_path / "target.png", age_s=50)
    (tmp_path / "link.png").symlink_to(target)
    inside = save(photo, tmp_path / "album" / "in_a_folder.png", age_s=50)
    (tmp_path / "folder").symlink_to(tmp_path / "album", target_is_directory=True)
    hard = save(photo, tmp_path / "hard.png", age_s=50)
    (tmp_path / "outside_the_collection").hardlink_to(hard)
    single = save(photo, tmp_path / "single.png", age_s=50)
    through = tmp_path / "folder" / "in_a_folder.png"
    actions = suggest([*store(1, kept), *store(2, target, tmp_path / "link.png", inside, through, hard, single)], rule)
    removable = {name for name, (action, _) in actions.items() if action == "remove"}
    assert removable <= {"single.png", "k.png"}
    if rule in ("largest", "oldest"):
        assert removable == {"single.png"}
        assert actions["hard.png"] == ("look", "hard link, one of 2 names of a file")
        assert "is a link to it" in actions["target.png"][1]


def test_a_link_to_a_file_outside_the_collection_is_not_kept_before_a_file(tmp_path: Path):
    outside = save(read_photo(), tmp_path / "outside" / "a_long_name_of_a_file.png", age_s=999)
    (tmp_path / "l.png").symlink_to(outside)
    own = save(read_photo(), tmp_path / "in" / "own.png")
    for rule in KEEP_RULES:
        actions = suggest(store(1, tmp_path / "l.png", own), rule)
        assert actions["own.png"] == ("keep", "the file itself")
        assert actions["l.png"][0] == "look"


def test_names_that_differ_in_case_are_two_files_where_the_disk_has_two(tmp_path: Path):
    lower, upper = save(read_photo(), tmp_path / "photo.png"), tmp_path / "PHOTO.PNG"
    if not upper.exists():  # a file system that tells upper from lower case
        save(read_photo(), upper)
        assert sorted(action for action, _ in suggest(store(1, lower, upper)).values()) == ["keep", "remove"]
    else:
        assert {action for action, _ in suggest(store(1, lower, upper)).values()} == {"keep"}


def test_a_file_that_is_gone_or_changed_has_no_state(tmp_path: Path):
    file = save(read_photo(), tmp_path / "one.png")
    status = file.stat()
    stored = StoredFile(str(file), status.st_size, status.st_mtime_ns)
    assert isinstance(read_file_state(stored), FileState)
    os.utime(file, (1, 1))
    assert read_file_state(stored) is None
    file.unlink()
    assert read_file_state(stored) is None
    assert read_file_state(StoredFile("/a\0b.png", 1, 1)) is None
    remote = StoredFile("s3://bucket/one.png", 0, 0)
    assert read_file_state(remote) == FileState(remote, "s3://bucket/one.png")


def test_a_reason_is_shown_for_every_file(tmp_path: Path):
    photo = read_photo()
    candidates = [
        *store(1, save(photo, tmp_path / "1.png"), save(photo, tmp_path / "2.png")),
        *store(2, save(photo.resize((40, 40)), tmp_path / "3.png")),
    ]
    files = suggest_actions(candidates, "largest", PictureEvidence(10**9))
    assert all(isinstance(file, MemberFile) and file.reason for file in files.values())


@pytest.mark.parametrize("rule", KEEP_RULES)
def test_a_larger_picture_with_a_border_around_the_original_is_never_kept_and_never_suggested(
    tmp_path: Path, rule: str
):
    photo = read_photo()
    screen = Image.new("RGB", (photo.width + 80, photo.height + 200), "white")
    screen.paste(photo, (40, 100))
    candidates = store(1, save(screen, tmp_path / "s.png", 50)) + store(2, save(photo, tmp_path / "a" / "photo.png"))
    evidence = PictureEvidence(10**9)
    evidence.framed.add(1)
    files = suggest_actions(candidates, rule, evidence)  # type: ignore[arg-type]
    told = {Path(file.path).name: (file.action, file.reason) for file in files.values()}
    assert told == {
        "photo.png": ("keep", "nothing around the picture"),
        "s.png": ("look", "has a border or another picture around it"),
    }


def test_neither_a_covered_picture_nor_its_original_is_suggested(tmp_path: Path):
    """Letters over a picture make it sharper, so that it may be the one to keep."""
    photo = read_photo()
    covered = photo.copy()
    covered.paste("black", (10, 10, 60, 60))
    candidates = store(1, save(covered, tmp_path / "covered.png", 50)) + store(2, save(photo, tmp_path / "photo.png"))
    candidates += store(3, save(photo.resize((90, 60)), tmp_path / "small.png"))
    evidence = PictureEvidence(10**9)
    evidence.compared |= {1, 2, 3}
    evidence.uncovered.unite(2, 3)
    files = suggest_actions(candidates, "oldest", evidence)
    told = {Path(file.path).name: file.action for file in files.values()}
    assert told == {"covered.png": "keep", "photo.png": "look", "small.png": "look"}
