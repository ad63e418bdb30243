"""`simsearch push`, `index --store milvus`, and every command on a collection that is searched in Milvus."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simsearch import Collection, ModelChoice
from simsearch.images.views import ViewChoice
from simsearch.index.milvus.config import StoreChoice
from simsearch.maintenance import Verification
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.command_line import read_document, run, run_process

pytestmark = pytest.mark.long

ASKED = ("photos/a/picture_00.png", "photos/b/picture_07.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, and a collection of them with a backbone and its augmented views, and one with another."""
    root = tmp_path_factory.mktemp("pushing")
    for seed in range(12):
        draw_picture(root / "photos" / ("a" if seed < 6 else "b") / f"picture_{seed:02}.png", seed)
    oneshot.ingest(root / "files", [root / "photos"], HISTOGRAM, augment=ViewChoice(2))
    oneshot.ingest(root / "files", [root / "photos"], ModelChoice(backbone="builtin"))
    (root / "prices.csv").write_text("path,price\n" + "".join(f"photos/a/picture_{n:02}.png,{n}\n" for n in range(6)))
    oneshot.annotate(root / "files", root / "prices.csv")
    return root


@pytest.fixture(scope="module")
def in_milvus(root: Path) -> Path:
    """A copy of the collection that is searched in Milvus Lite, to be asked."""
    copied = shutil.copytree(root / "files", root / "in_milvus")
    oneshot.push(copied, StoreChoice.from_options("milvus", str(copied / "vectors.db")))
    return copied


@pytest.fixture
def folder(in_milvus: Path, tmp_path: Path) -> Path:
    """A copy of that, to be changed."""
    return shutil.copytree(in_milvus, tmp_path / "collection")


@pytest.fixture(autouse=True)
def _beside_the_pictures(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)


def hits(folder: Path, query: str, **options: Any) -> list[tuple[int, float, str]]:
    with Collection.open(folder) as collection:
        answer = collection.search(query, **options)
        assert not any("lags" in note for note in answer.notes)
        return [(hit.image_id, hit.similarity, hit.view.kind) for hit in answer.hits]


QUESTIONS: list[dict[str, Any]] = [
    {},
    {"k": None},
    {"k": 3, "offset": 4},
    {"exclude_self": True},
    {"min_similarity": 0.9, "k": None},
    {"where": "class = b"},
    {"where": "price between 2 and 4"},
    {"where": "name ~ '_0'", "k": 100},
    {"where": "price > 100"},
    {"backbone": "builtin"},
    {"backbone": "builtin", "where": "not price = 3", "k": 20},
    {"rerank": "aqe5"},
    {"rerank": "pca4+dba2"},
    {"rerank": "k-reciprocal4"},
    {"rerank": "aqe3", "where": "class = a"},
]


@pytest.mark.parametrize("asked", QUESTIONS, ids=str)
def test_every_query_has_the_same_answer_as_with_files(root: Path, in_milvus: Path, asked: dict[str, Any]):
    for query in ASKED:
        found, wanted = hits(in_milvus, query, **asked), hits(root / "files", query, **asked)
        assert [(image, view) for image, _, view in found] == [(image, view) for image, _, view in wanted]
        assert [near for _, near, _ in found] == pytest.approx([near for _, near, _ in wanted], abs=1.5e-6)


def test_other_commands_work_as_before(folder: Path):
    with Collection.open(folder) as collection:
        assert collection.verify() == Verification((), ())
        model = collection.info().to_dict()["models"][0]["index"]
        assert (model["kind"], model["vectors"], model["is_current"]) == ("milvus", 36, True)
        collection.duplicates()
        assert collection.export(folder / "out.csv").n_rows == 36


def test_later_index_remove_annotate_and_prune_reach_milvus(root: Path, folder: Path, tmp_path: Path):
    own = shutil.copytree(root / "photos", tmp_path / "own")
    oneshot.ingest(folder, [own], HISTOGRAM)
    draw_picture(own / "c" / "new.png", 99)
    report = oneshot.ingest(folder, [own], HISTOGRAM)
    assert report.n_embedded == 1
    assert hits(folder, ASKED[0], where="class = c")[0][0] == 13
    oneshot.remove(folder, [str(own / "c")])
    assert hits(folder, ASKED[0], where="class = c") == []
    assert 13 not in [image for image, _, _ in hits(folder, ASKED[0], k=None)]
    (tmp_path / "more.csv").write_text(f"path,price\n{own}/b/picture_07.png,7\n")
    oneshot.annotate(folder, tmp_path / "more.csv")
    assert [image for image, _, _ in hits(folder, ASKED[0], where="price = 7")] == [8]
    oneshot.clear_columns(folder, ["price"])
    oneshot.annotate(folder, tmp_path / "more.csv")
    assert [image for image, _, _ in hits(folder, ASKED[0], where="price is present")] == [8]
    assert oneshot.prune(folder).to_dict()["images"] == 1
    assert oneshot.prune(folder, only_augmented=True).to_dict()["views"] == 24
    assert oneshot.prune(folder, "builtin").to_dict()["models"] == 1
    with Collection.open(folder) as collection:
        assert collection.verify().notes == ()
        assert [model["index"]["vectors"] for model in collection.info().to_dict()["models"]] == [12]
    made = oneshot.rebuild(folder)
    assert len(made) == 1
    assert "vectors.db" in made[0]
    assert len(hits(folder, ASKED[0], k=None)) == 12


# The commands, as they are typed


def test_a_collection_can_be_created_in_milvus_searched_moved_back_and_dropped_there(root: Path, tmp_path: Path):
    into, uri = tmp_path / "made", tmp_path / "lite" / "vectors.db"
    index = ["index", "photos", "--into", into, "--backbone", "histogram", "--store", "milvus", "--milvus-uri", uri]
    made = run_process(*index, cwd=root)  # the file is closed for this process, which goes on with it
    assert (made.returncode, made.stderr) == (0, "")
    assert not list(into.glob("*.faiss"))
    query = ("query", ASKED[0], "--in", into, "-k", "3", "--where", "class = a")
    asked = read_document(*query, cwd=root)
    assert asked["hits"][0]["path"].endswith(ASKED[0])
    assert len(asked["hits"]) == 3
    assert read_document("info", "--in", into, cwd=root)["models"][0]["index"]["uri"] == str(uri)
    assert read_document("verify", "--in", into, cwd=root) == {"problems": [], "notes": []}
    assert read_document("index", "photos", "--into", into, "--backbone", "histogram", cwd=root)["embedded"] == 0
    back = read_document("push", "--in", into, "--store", "faiss", "--drop", cwd=root)
    assert (back["store"], back["uri"], back["vectors"]) == ("faiss", None, 12)
    assert not list((uri / "collections").iterdir())
    assert read_document(*query, cwd=root)["hits"] == asked["hits"]


def test_a_push_reports_its_result_and_can_be_repeated(root: Path, tmp_path: Path):
    folder = shutil.copytree(root / "files", tmp_path / "collection")
    push = ["push", "--in", folder, "--milvus-uri", folder / "vectors.db"]
    done = read_document(*push, cwd=root)
    assert (done["collection"], done["store"], done["vectors"]) == (str(folder), "milvus", 48)
    assert sorted(model["vectors"] for model in done["models"]) == [12, 36]
    assert read_document("push", "--in", folder, cwd=root)["vectors"] == 48
    said = run(*push, cwd=root)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(f"{folder}: 48 vectors, searched in Milvus at ")
    assert said.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        (["push", "--in", "files"], 2, "--milvus-uri"),
        (["push", "--in", "files", "--store", "milvus"], 2, "--milvus-uri"),
        (["push", "--in", "nowhere", "--milvus-uri", "x.db"], 1, "no collection at nowhere"),
        (["push", "--in", "files", "--milvus-uri", "http://a:b@host"], 2, "MILVUS_TOKEN"),
        (["index", "photos", "--into", "never", "--store", "faiss", "--milvus-uri", "x.db"], 2, "--store milvus"),
    ],
)
def test_a_wrong_option_gets_one_line(root: Path, command: list[str], code: int, line: str):
    done = run(*command, cwd=root)
    assert (done.returncode, done.stdout) == (code, "")
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (root / "never").exists()


def test_an_unreachable_server_gets_one_line_and_nothing_is_created_or_moved(root: Path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{held.getsockname()[1]}"
        for command in (["push", "--in", "files"], ["index", "photos", "--into", "never"]):
            done = run(*command, "--milvus-uri", uri, cwd=root)
            assert (done.returncode, done.stdout) == (1, "")
            assert f"{uri} cannot be reached" in done.stderr
            assert done.stderr.count("\n") == 1
    assert not (root / "never").exists()
    assert read_document("info", "--in", "files", cwd=root)["models"][0]["index"]["kind"] != "milvus"


def test_without_pymilvus_one_line_names_the_extra_and_files_still_work(root: Path, tmp_path: Path):
    """A folder before all others on the path holds a pymilvus that cannot be imported, as if it were not there."""
    (tmp_path / "absent" / "pymilvus").mkdir(parents=True)
    (tmp_path / "absent" / "pymilvus" / "__init__.py").write_text("raise ImportError('not installed')")
    env = {"PYTHONPATH": str(tmp_path / "absent")}
    done = run_process("push", "--in", "files", "--milvus-uri", tmp_path / "x.db", cwd=root, env=env)
    assert done.returncode == 1
    assert "pymilvus>=3.0" in done.stderr
    assert done.stderr.count("\n") == 1
    done = run_process("query", ASKED[0], "--in", "files", cwd=root, env=env)
    assert done.returncode == 0


def test_a_query_with_faiss_files_does_not_import_pymilvus(root: Path):
    code = (
        "import sys\nfrom simsearch import Collection\n"
        f"with Collection.open('files') as collection:\n    collection.search({ASKED[0]!r})\n"
        "print([name for name in ('pymilvus', 'milvus_lite', 'grpc') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
