"""`simsearch benchmark`: JSON, text, report, errors."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import draw_picture
from tests.support.command_line import read_document, run

pytestmark = pytest.mark.long

QUICK = ["--backbone", "histogram", "--robustness", 0]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with photos/ of two classes, and things that are none."""
    folder = tmp_path_factory.mktemp("cli")
    for seed in range(12):
        draw_picture(folder / "photos" / ("a" if seed < 6 else "b") / f"picture_{seed:02}.png", seed)
    (folder / "photos" / "a" / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    draw_picture(folder / "flat" / "1.png", 50)
    draw_picture(folder / "flat" / "2.png", 51)
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("to do")
    (folder / "lists.json").write_text('[{"query": "a/picture_00.png"}]')
    return folder


def test_json_has_the_documented_keys_and_the_report_is_written(home: Path):
    told = read_document(
        "benchmark", "photos", "--backbone", "histogram", "--augment", 0, "--augment", 1, "--rerank", "none",
        "--rerank", "pca4+dba2", "--robustness", 3, "--out", "report", "--seed", 4, cwd=home,
    )  # fmt: skip
    assert told["dataset"] == {
        "source": "photos", "protocol": "self-excluded", "task": "every image is a query", "labels": "folder",
        "images": 12, "n_classes": 2,
        "queries": 12, "n_queries_of": 12,
        "exclusions": [
            {
                "rule": "files that cannot be read, or were not embedded by every backbone, are ignored", "count": 1,
                "examples": [str(home / "photos" / "a" / "torn.jpg")],
            }
        ],
    }  # fmt: skip
    assert [row["name"] for row in told["rows"]] == [
        "histogram", "histogram pca4+dba2", "histogram +1 views", "histogram +1 views pca4+dba2",
    ]  # fmt: skip
    for row in told["rows"]:
        assert row.keys() >= {
            "backbone", "precision", "d", "p_at_1", "p_at_5", "p_at_10", "recall_at_10", "map", "mrr", "ndcg_at_10",
            "images_per_second", "query_ms_p50", "bytes_per_image", "augment", "rerank", "p_value", "worst",
        }  # fmt: skip
        assert all(0 <= row[metric] <= 1 for metric in told["metrics"])
    assert (told["seed"], told["robustness_images"], len(told["robustness"])) == (4, 3, 12)
    assert told["command"].endswith("benchmark photos --backbone histogram --augment 0 --augment 1 --rerank none "
        "--rerank pca4+dba2 --robustness 3 --out report --seed 4 --json")  # fmt: skip
    assert json.loads((home / "report" / "report.json").read_text()) == {"schema_version": 1, **told}
    for name in ("report.html", "report.md", "per_query.csv", "plots"):
        assert (home / "report" / name).exists()


def test_the_text_output_has_a_table_the_excluded_files_and_the_path_of_the_report(home: Path):
    done = run("benchmark", "photos", *QUICK, "--rerank", "none", "--out", "told", cwd=home, env={"COLUMNS": "120"})
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "photos: 12 images, 12 queries, 2 classes (self-excluded; every image is a query; labels from folder)"
        in done.stdout
    )
    assert re.search(r"files that cannot be read.*: 1, such as photos/a/torn\.jpg", done.stdout)
    assert re.search(r"row\tmAP\t95 % interval", done.stdout)
    assert f"Report: {Path('told') / 'report.html'}" in done.stdout


def test_without_out_the_option_is_named_and_vectors_stay_in_the_given_collection(home: Path):
    done = run("benchmark", "photos", *QUICK, "--rerank", "none", "--into", "elsewhere", cwd=home)
    assert done.stdout.endswith("Write the full report with --out DIR.\n")
    assert read_document("info", "--in", "elsewhere", cwd=home)["images"] == 12


def test_the_default_methods_are_none_and_three_rerankings(home: Path):
    told = read_document("benchmark", "photos", *QUICK, "--sample", 3, cwd=home)
    assert [row["rerank"] for row in told["rows"]] == ["none", "pca256", "pca256+dba5", "pca256+dba5+aqe5"]
    assert (told["dataset"]["queries"], told["dataset"]["n_queries_of"]) == (3, 12)


def test_labels_can_come_from_file_names_and_two_spellings_of_a_method_are_one_row(home: Path):
    told = read_document(
        "benchmark", "photos", *QUICK, "--rerank", "dba+pca8", "--rerank", "PCA8+DBA5", "--group-by", r"picture_(\d)",
        cwd=home,
    )  # fmt: skip
    assert [row["rerank"] for row in told["rows"]] == ["pca8+dba5"]
    assert (told["dataset"]["n_classes"], told["dataset"]["labels"]) == (2, r"regular expression picture_(\d)")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 1, "nowhere does not exist; check the path"),
        (["empty"], 1, "no images in empty"),
        (["flat"], 2, "no image has a label; sort the images into a folder for each class"),
        (["photos", "--backbone", "resnet5"], 2, "did you mean resnet50"),
        (["photos", "--backbone", "builtin", "--weights", "x.h5"], 2, "--weights is for one backbone"),
        (["photos", "--pooling", "mean"], 2, "choose one of avg, max, gem"),
        (["photos", "--backbone", "histogram,resnet5"], 2, "unknown backbone 'resnet5'; did you mean resnet50"),
        (["photos", "--metric", "R@1"], 2, "R@1 has two meanings; name hit@k"),
        (["photos", "--metric", "N-S"], 2, "the metric ns is not defined for this task; it needs --protocol ukbench"),
        (["photos", "--protocol", "counts"], 2, "'counts' is not one of"),
        (["photos", "--rerank", "dbaa"], 2, "unknown re-ranking step 'dbaa'; did you mean 'dba'"),
        (["photos", "--sample", "0"], 2, "--sample is 0; give 1 or more"),
        (["photos", "--robustness", "-1"], 2, "--robustness is -1; give 0 or more"),
        (["photos", "--group-by", "("], 2, "'(' is not a valid regular expression"),
        (["photos", "--labels", "nowhere.csv"], 2, "nowhere.csv cannot be read (No such file or directory)"),
        (["photos", "--labels", "lists.json"], 2, "lists.json has a query without a list of positives"),
        (["photos", "--queries", "flat"], 2, "no query has a relevant image in the database"),
        (["photos", "--out", "notes.txt"], 2, "notes.txt"),
        (["photos", "--into", "photos"], 1, "holds other things"),
        ([], 2, "Missing argument"),
    ],
)
def test_bad_input_gets_one_clear_line(home: Path, arguments: list[str], code: int, message: str):
    done = run("benchmark", *QUICK, *arguments, cwd=home)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in re.sub(r"\s+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    if "Usage" not in done.stderr:
        assert done.stderr.count("\n") == 1
    assert not (home / "indexes" / "flat").exists()


def test_another_metric_and_protocol_rank_the_rows_and_the_export_is_named(home: Path):
    arguments = ["benchmark", "photos", *QUICK, "--metric", "P@1", "--protocol", "counted", "--trec", "trec"]
    done = run(*arguments, "--rerank", "none", cwd=home, env={"COLUMNS": "120"})
    assert done.returncode == 0
    assert "with --protocol counted the first result is nearly always the query itself" in done.stderr
    assert re.search(r"row\tP@1\t95 % interval", done.stdout)
    assert "(counted; every image is a query; labels from folder)" in done.stdout
    assert done.stdout.endswith("qrels and runs of TREC: trec\n")
    assert (home / "trec" / "qrels.txt").read_text().startswith("a/picture_00.png 0 a/picture_00.png 1\n")
    told = read_document("benchmark", "photos", *QUICK, "--metric", "MAP@R", "--metric", "P@2", cwd=home)
    assert told["headline"] == "map_at_r"
    assert "p_at_2" in told["metrics"]
    assert told["best"] == max(told["rows"], key=lambda row: row["map_at_r"])["name"]
    assert {row["protocol"] for row in told["rows"]} == {"self-excluded"}
    assert all(row["preprocessing"].startswith("both sides scaled to 128 x 128 px") for row in told["rows"])


def test_an_interrupted_benchmark_names_what_is_kept_and_resumes(tmp_path: Path):
    for seed in range(80):
        draw_picture(tmp_path / "photos" / "ab"[seed % 2] / f"{seed}.png", seed)
    command = ["benchmark", "photos", "--backbone", "histogram", "--rerank", "none"]
    process = subprocess.Popen(
        [sys.executable, "-m", "simsearch", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("indexes/photos/catalog.db-wal")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, messages = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert "stopped; indexes/photos keeps what was embedded, and the same command resumes" in messages
    assert "Traceback" not in messages
    done = run(*command, "--json", "--robustness", 0, cwd=tmp_path)
    assert json.loads(done.stdout)["dataset"]["images"] == 80
