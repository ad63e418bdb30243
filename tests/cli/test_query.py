"""The options of `simsearch query` and `simsearch annotate`, and the error line of each wrong value."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.command_line import read_document, run
from tests.support.servers import serving


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/ indexed under indexes/. No test changes it."""
    folder = tmp_path_factory.mktemp("home")
    for seed in range(12):
        draw_picture(folder / "photos" / ("a" if seed < 6 else "b") / f"picture_{seed:02}.png", seed)
    draw_picture(folder / "new.png", 77)
    oneshot.ingest(folder / "indexes" / "photos", [folder / "photos"], HISTOGRAM)
    return folder


def hits(*arguments: object, home: Path, **options) -> list[tuple[int, float]]:
    return [
        (hit["image_id"], hit["similarity"]) for hit in read_document("query", *arguments, cwd=home, **options)["hits"]
    ]


def test_several_images_are_averaged_with_their_weights(home: Path):
    first, second = "photos/a/picture_00.png", "photos/a/picture_01.png"
    both = hits(first, second, home=home)
    assert hits("--like", first, "--like", second, home=home) == both
    assert hits("--id", 1, "--id", "1:2", home=home) == both
    assert hits(f"2:{first}", second, home=home) != both
    told = read_document("query", f"2:{first}", "--unlike", second, "--unlike", f"0.5:{first}", cwd=home)
    assert told["query"] == [f"2:{first}", f"-1:{second}", f"-0.5:{first}"]


def test_an_image_is_read_from_stdin(home: Path):
    data = (home / "new.png").read_bytes()
    told = read_document("query", "-", cwd=home, stdin=data)
    assert told["query"] == ["-"]
    assert [(hit["image_id"], hit["similarity"]) for hit in told["hits"]] == hits("new.png", home=home)


def test_a_crop_of_an_image_is_the_query(home: Path):
    whole = hits("new.png", home=home)
    assert hits("new.png", "--crop", "0,0,1,1", home=home) == whole
    part = hits("new.png", "--crop", "5,5,20,20", home=home)
    assert part != whole
    assert hits("--id", 3, "--crop", "0,0,0.5,0.5", home=home)[0][1] < 1


def test_an_image_at_an_address_is_the_query_and_is_drawn(home: Path, tmp_path: Path):
    with serving({"/new.png": (home / "new.png").read_bytes()}) as address:
        url = f"{address}/new.png"
        told = read_document("query", url, "--sheet", tmp_path / "sheet.png", cwd=home)
        assert told["query"] == [url]
        assert [(hit["image_id"], hit["similarity"]) for hit in told["hits"]] == hits("new.png", home=home)
        refused = run("query", url, "--offline", cwd=home)
        missing = run("query", f"{address}/old.png", cwd=home)
    with Image.open(tmp_path / "sheet.png") as sheet, Image.open(home / "new.png") as picture:
        shown = sheet.convert("RGB").crop((28, 28, 308, 308)).resize((4, 4))
        assert shown.tobytes() != Image.new("RGB", (4, 4), "#eceef0").tobytes()
        expected = picture.convert("RGB").resize((4, 4))
        assert sum(abs(a - b) for a, b in zip(shown.tobytes(), expected.tobytes(), strict=True)) / 48 < 30
    assert (refused.returncode, missing.returncode) == (2, 1)
    assert "is on the network; use a local file, or omit --offline" in refused.stderr
    assert f"cannot read {address}/old.png: the server answers 404 Not Found" in missing.stderr


def test_offset_threshold_and_all(home: Path):
    everything = hits("--id", 1, "--all", home=home)
    assert len(everything) == 12
    assert hits("--id", 1, "-k", 3, "--offset", 2, home=home) == everything[2:5]
    assert hits("--id", 1, "--all", "--min-similarity", everything[4][1], home=home) == everything[:5]
    ranks = [hit["rank"] for hit in read_document("query", "--id", 1, "-k", 2, "--offset", 5, cwd=home)["hits"]]
    assert ranks == [6, 7]


def test_a_filter_and_a_reranking_method(home: Path):
    assert {number for number, _ in hits("--id", 1, "--all", "--where", "class = b", home=home)} == set(range(7, 13))
    told = read_document("query", "--id", 1, "--rerank", "PCA4+dba2", "--expand", cwd=home)
    assert told["rerank"] == "pca4+dba2+aqe5"
    assert "rerank" not in read_document("query", "--id", 1, cwd=home)
    shown = run("query", "--id", 1, "--rerank", "k-reciprocal", cwd=home)
    assert "(histogram, k-reciprocal20)" in shown.stdout
    nothing = run("query", "--id", 1, "--where", "width > 5000", cwd=home)
    assert (nothing.returncode, nothing.stdout) == (0, "1: no results; relax --where\n")
    assert "matches the filter" in nothing.stderr


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--offset", "99"], "lower --offset"),
        (["--offset", "99", "--min-similarity", "0.5"], "lower --offset or lower --min-similarity"),
        (["--where", "name = 'picture_00.png'", "--exclude-self"], "relax --where or leave out --exclude-self"),
    ],
)
def test_the_advice_on_no_results_names_the_options_that_were_given(home: Path, words: list[str], advice: str):
    assert run("query", "--id", 1, *words, cwd=home).stdout == f"1: no results; {advice}\n"


def test_the_advice_on_an_emptied_collection_is_to_index(tmp_path: Path):
    path = draw_picture(tmp_path / "photos" / "a.png", 1)
    run("index", "photos", "--into", "ix", "--backbone", "histogram", cwd=tmp_path)
    run("remove", "photos", "--in", "ix", cwd=tmp_path)
    done = run("query", path, "--in", "ix", cwd=tmp_path)
    assert (
        done.stdout == "photos/a.png: no results; the collection has no images left; add some with `simsearch index`\n"
    )


@pytest.mark.parametrize("number", [0, 2**63 - 1, 2**63, 10**30])
def test_an_id_of_any_size_that_no_image_has_is_not_found(home: Path, number: int):
    done = run("query", "--id", number, cwd=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no image {number}" in done.stderr
    assert run("duplicates", "--reject", f"1,{number}", cwd=home).returncode in (1, 2)


@pytest.mark.parametrize("size", ["inf", "nan", "1e308"])
def test_a_limit_in_megapixels_is_finite(home: Path, size: str):
    done = run("query", "--id", 1, "--max-megapixels", size, cwd=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--max-megapixels" in done.stderr


def test_the_default_reranking_of_the_collection_is_used_shown_and_switched_off(home: Path, tmp_path: Path):
    import shutil

    shutil.copytree(home / "indexes", tmp_path / "indexes")
    oneshot.set_default_rerank(tmp_path / "indexes" / "photos", "pca4")
    assert read_document("query", "--id", 1, cwd=tmp_path)["rerank"] == "pca4"
    assert read_document("query", "--id", 1, "--expand", cwd=tmp_path)["rerank"] == "pca4+aqe5"
    assert "rerank" not in read_document("query", "--id", 1, "--rerank", "none", cwd=tmp_path)
    assert "ranked by pca4" in run("info", cwd=tmp_path).stdout


def test_each_prints_one_line_per_image(home: Path, tmp_path: Path):
    for name in ("new_1.png", "new_2.png"):
        (tmp_path / name).write_bytes((home / "new.png").read_bytes())
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    done = run("query", tmp_path, "photos/a/picture_03.png", "--each", "-k", 2, "--json", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["query"][0]).name for line in lines] == ["broken.png", "new_1.png", "new_2.png", "picture_03.png"]
    assert [set(line) for line in lines[:2]] == [
        {"schema_version", "query", "error"},
        {"schema_version", "query", "backbone", "model", "default_backbone", "hits", "milliseconds"},
    ]  # fmt: skip
    people = run("query", tmp_path, "--each", "-k", 2, cwd=home)
    assert people.stdout.count("similarity") == 2
    assert re.search(r"skipped .*broken\.png: ", people.stderr)
    nothing = run("query", tmp_path / "broken.png", "--each", cwd=home)
    assert nothing.returncode == 1
    assert nothing.stderr.splitlines()[-1] == "simsearch: none of the images could be read; check the paths"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["photos"], 2, "photos is a folder; search with every image in it: --each"),
        (["0:new.png"], 2, "new.png has the weight 0"),
        (["new.png", "--unlike", "new.png"], 2, "cancel each other out"),
        (["--id", "x"], 2, "--id x is not an image id"),
        (["--id", "99", "--crop", "0,0,1,1"], 2, "no image 99"),
        (["new.png", "--crop", "1,2"], 2, "'1,2' is not a crop; write x,y,w,h"),
        (["new.png", "--crop", "1,2,0,3"], 2, "the crop 1,2,0,3 is empty"),
        (["new.png", "--crop", "900,2,5,3"], 1, "the crop 900,2,5,3 is outside the picture; its size is 48 x 48 px"),
        (["new.png", "--id", "1", "--crop", "0,0,1,1"], 2, "--crop applies to one image, not to 2"),
        (["new.png", "--offset", "-1"], 2, "the offset is -1"),
        (["new.png", "--where", "width >> 3"], 2, "expected a number after '>' at column 8"),
        (["new.png", "--where", "price > 3"], 2, "unknown field 'price' at column 1"),
        (["new.png", "--rerank", "pac"], 2, "unknown re-ranking step 'pac'; did you mean 'pca'"),
        (["new.png", "--rerank", "aqe3", "--expand"], 2, "has the step aqe twice"),
        (["--each"], 2, "no query images; give images, or folders of images"),
        (["--each", "photos", "--crop", "0,0,1,1"], 2, "--each searches with whole images, one by one"),
        (["--list", "x.txt", "--each"], 2, "searches with whole images"),
        (["-"], 1, "cannot read -: the file is empty"),
        (["http://127.0.0.1:9/x.jpg"], 1, "cannot read http://127.0.0.1:9/x.jpg: no connection"),
    ],
)
def test_a_wrong_query_gets_one_clear_line(home: Path, arguments: list[str], code: int, message: str):
    done = run("query", *arguments, cwd=home)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in re.sub(r"\s+", " ", done.stderr)
    assert done.stderr.count("\n") == 1


def test_custom_columns_are_stored_and_cleared(home: Path, tmp_path: Path):
    import shutil

    shutil.copytree(home / "indexes", tmp_path / "indexes")
    (tmp_path / "prices.csv").write_text("image_id,price\n3,10\n4,30\n99,1\n")
    told = read_document("annotate", "prices.csv", cwd=tmp_path)
    assert told == {
        "collection": "indexes/photos", "cleared": 0, "values": 2, "images": 2, "columns": ["price"], "unknown": ["99"],
    }  # fmt: skip
    assert [number for number, _ in hits("--id", 1, "--where", "price < 20", home=tmp_path)] == [3]
    people = run("annotate", "prices.csv", "--clear", "price", cwd=tmp_path)
    assert people.stdout == "2 values deleted from price\nindexes/photos: 2 values of 2 images stored in price\n"
    assert "not in the collection: 99" in people.stderr
    assert "your columns: price (2)" in run("info", cwd=tmp_path).stdout
    assert read_document("annotate", "--clear", "price", cwd=tmp_path)["cleared"] == 2
    for arguments, code, message in (
        ([], 2, "nothing to annotate"),
        (["no.csv"], 1, "no.csv cannot be read (No such file or directory)"),
        (["--clear", "x"], 2, "no column 'x' of yours; it has no columns of yours"),
    ):
        done = run("annotate", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (code, "")
        assert message in done.stderr
