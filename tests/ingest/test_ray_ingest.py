"""Ingest with a real Ray cluster of two machines with one worker each: the same catalog as a local run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch import ModelChoice
from simsearch.errors import ClusterError
from simsearch.images.views import ViewChoice
from simsearch.ingest.run import IngestReport
from simsearch.store.connection import SHARDS_NAME
from tests.conftest import ROOT, draw_picture
from tests.support import oneshot

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = pytest.mark.long

N_PICTURES = 300
BUILTIN = ModelChoice(backbone="builtin", precision="f32")
HISTOGRAM = ModelChoice(backbone="histogram")
TABLES = {
    "files": "SELECT * FROM files ORDER BY id",
    "images": "SELECT * FROM images ORDER BY id",
    "views": "SELECT * FROM views ORDER BY id",
    "vectors": "SELECT * FROM vectors ORDER BY model_id, view_id",
    "perceptual_hashes": "SELECT * FROM perceptual_hashes ORDER BY image_id",
    "picture_statistics": "SELECT * FROM picture_statistics ORDER BY image_id",
    "skips": "SELECT path, reason FROM skips ORDER BY path",
    "models": "SELECT id, fingerprint, width, details, augmentation FROM models ORDER BY id",
}


def content(collection: Path) -> dict[str, list]:
    """Every row, ids and bytes, but for runs, times and counters."""
    with contextlib.closing(sqlite3.connect(collection / "catalog.db")) as connection:
        return {table: connection.execute(query).fetchall() for table, query in TABLES.items()}


def summary(report: IngestReport) -> tuple:
    return (
        report.model, report.n_files, report.n_images, report.n_views, report.n_embedded, report.n_reused,
        report.n_gone, report.skips,
    )  # fmt: skip


class Machines:
    """A Ray cluster of two machines, as far as Ray can tell, and this process connected to it."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        from simsearch.ingest.ray_cluster import cluster

        cluster._import_ray()  # sets what keeps Ray quiet, before its processes start
        settings = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=settings)
        self.second = self.cluster.add_node(**settings)
        self.address = self.cluster.address
        ray.init(address=self.address, log_to_driver=False, logging_level="CRITICAL")

    def close(self) -> None:
        ray.shutdown()
        self.cluster.shutdown()


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    both = Machines()
    try:
        yield both
    finally:
        both.close()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some hundred pictures, with copies near and far, broken ones, texts, and the pictures of the demonstration."""
    folder = tmp_path_factory.mktemp("mixed")
    for seed in range(N_PICTURES):
        draw_picture(folder / f"{seed:03}.png", seed)
    (folder / "010_broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (folder / "150_cut.png").write_bytes((folder / "150.png").read_bytes()[:300])
    (folder / "151_text.jpg").write_text("no picture")
    (folder / "152_notes").write_text("no picture, and nobody said so")
    for name in ("021_copy.png", "220_copy.png", "299_copy.png"):
        shutil.copy(folder / "020.png", folder / name)
    (folder / os.fsdecode(b"160_\xff.png")).write_bytes((folder / "161.png").read_bytes())
    shutil.copytree(ROOT / "data" / "objects", folder / "objects")
    return folder


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that take a worker some seconds; those of the first block many times as long as the others."""
    folder = tmp_path_factory.mktemp("large")
    random = np.random.default_rng(0)
    noise = [_png(random.integers(0, 256, (side, side, 3), dtype=np.uint8)) for side in (60, 1500)]
    for number in range(256):  # what follows the end of a picture makes it another content
        (folder / f"{number:03}.png").write_bytes(noise[number < 32] + bytes((number,)))
    return folder


@pytest.fixture(scope="module")
def expected(large: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """What a run on this machine makes of the large pictures."""
    collection = tmp_path_factory.mktemp("expected") / "ix"
    oneshot.ingest(collection, [large], HISTOGRAM)
    return content(collection)


def working() -> list[int]:
    """The processes of workers that are at a block right now."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (place / "cmdline").read_bytes()
            if title.startswith(b"ray::") and b"Worker" in title and b".submit" in title:
                found.append(int(place.name))
    return found


def wait_for(condition: Callable[[], object], deadline_s: float = 60) -> None:
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, "it did not come to pass"
        time.sleep(0.02)


@contextlib.contextmanager
def meanwhile(disturb: Callable[[threading.Event], None]) -> Iterator[None]:
    """Disturb a run from a thread, which is told when it is over, and has to end well itself."""
    over, failures = threading.Event(), []

    def run() -> None:
        try:
            disturb(over)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not failures, failures


def command(source: Path, collection: Path, *options: str) -> list[str]:
    words = ["index", str(source), "--into", str(collection), "--backbone", "histogram", "--json"]
    return [sys.executable, "-m", "simsearch", *words, *options]


def test_the_catalog_is_the_same_to_the_last_bit(machines: Machines, mixed: Path, tmp_path: Path):
    here = oneshot.ingest(tmp_path / "here", [mixed], BUILTIN)
    there = oneshot.ingest(tmp_path / "there", [mixed], BUILTIN, ray=machines.address)
    assert summary(there) == summary(here)
    assert here.n_embedded == N_PICTURES + 120
    assert {Path(skip.path).name for skip in there.skips} == {"010_broken.jpg", "150_cut.png", "151_text.jpg"}
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert there.notes[-1] == "embedded by 2 workers on 2 machines of a Ray cluster"
    assert all(there.stages[stage] > 0 for stage in ("read", "decode", "embed", "write"))
    assert {file.name for file in (tmp_path / "there").iterdir()} == {
        "catalog.db", "catalog.lock", f"{there.model}.faiss"
    }  # fmt: skip


def test_changes_are_handled_as_in_a_local_run(machines: Machines, mixed: Path, tmp_path: Path):
    source = shutil.copytree(mixed, tmp_path / "photos")
    oneshot.ingest(tmp_path / "here", [source], HISTOGRAM)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    draw_picture(source / "005.png", 1005)
    (source / "006.png").unlink()
    (source / "007.png").rename(source / "207_moved.png")
    shutil.copy(source / "008.png", source / "new_copy.png")
    draw_picture(source / "new.png", 1006)
    (source / "009.png").write_bytes(b"\x89PNG broken")
    views = ViewChoice(2, seed=3)
    reports = [
        oneshot.ingest(tmp_path / name, [source], HISTOGRAM, augment=augment, ray=address)
        for augment in (None, views)
        for name, address in (("here", None), ("there", machines.address))
    ]
    assert summary(reports[0]) == summary(reports[1])
    assert summary(reports[2]) == summary(reports[3])
    assert (reports[1].n_embedded, reports[1].n_gone) == (2, 2)
    n_live, n_orphans = N_PICTURES + 120 - 1, 3  # orphans keep their one view until `prune`
    assert reports[3].n_views == 3 * n_live + n_orphans
    assert content(tmp_path / "there") == content(tmp_path / "here")


@pytest.mark.thorough
def test_a_killed_worker_is_replaced_and_its_block_done_again(
    machines: Machines, large: Path, expected: dict[str, list], tmp_path: Path
):
    killed: list[int] = []

    def kill_one(over: threading.Event) -> None:
        wait_for(lambda: len(working()) == 2 or over.is_set())
        victim = working()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(
            lambda: not Path(f"/proc/{victim}/cmdline").exists() or not Path(f"/proc/{victim}/cmdline").read_bytes()
        )
        killed.append(victim)

    with meanwhile(kill_one):
        words = command(large, tmp_path / "ix", "--ray", machines.address)
        done = subprocess.run(words, capture_output=True, text=True)
    assert len(killed) == 1
    report = json.loads(done.stdout)  # one document, whatever Ray has to tell of the killed worker
    assert (report["embedded"], report["images"]) == (256, 256)
    assert done.stderr == "simsearch: embedded by 2 workers on 2 machines of a Ray cluster\n"
    assert content(tmp_path / "ix") == expected


@pytest.mark.thorough
def test_a_block_that_kills_its_worker_every_time_ends_the_run(machines: Machines, large: Path, tmp_path: Path):
    killed: list[int] = []

    def kill_all(over: threading.Event) -> None:
        while not over.is_set():
            for victim in working():
                if not over.wait(0.1):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
                        killed.append(victim)
            over.wait(0.05)

    one_block = sorted(large.iterdir())[:20]
    message = rf"the worker died 3 times on this block: 20 files, starting with {one_block[0]}"
    with meanwhile(kill_all), pytest.raises(ClusterError, match=message) as raised:
        oneshot.ingest(tmp_path / "ix", one_block, HISTOGRAM, ray=machines.address)
    assert "\n" not in str(raised.value)
    assert len(set(killed)) >= 3
    assert not (tmp_path / "ix").exists()


@pytest.mark.thorough
def test_a_run_after_a_killed_driver_continues_from_its_shards(
    machines: Machines, large: Path, expected: dict[str, list], tmp_path: Path
):
    collection, source = tmp_path / "ix", large
    pictures = {path: path.read_bytes() for path in source.iterdir()}
    options = ["--ray", machines.address]
    driver = subprocess.Popen(command(source, collection, *options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def waiting() -> list[Path]:
        return sorted(collection.glob(f"{SHARDS_NAME}/*/block-*.parquet"))

    wait_for(lambda: len(waiting()) >= 2)
    driver.kill()
    assert (driver.communicate()[0], driver.returncode) == (b"", -signal.SIGKILL)
    from simsearch.ingest.ray_cluster.shards import decode_shard

    done = [prepared.file for shard in waiting() for prepared in decode_shard(shard).files]
    assert len(done) >= 64
    try:
        for file in done:  # of the same size and time, and no picture any more: read again, it would be a skip
            Path(file.path).write_bytes(bytes(file.size_bytes))
            os.utime(file.path, ns=(file.mtime_ns, file.mtime_ns))
        again = subprocess.run(command(source, collection, *options), capture_output=True, text=True)
    finally:
        for path, raw in pictures.items():
            status = path.stat()
            path.write_bytes(raw)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)  # one document, and nothing else
    assert report["embedded"] == report["images"] == 256
    assert f"{len(done)} files were embedded by an earlier run that was stopped" in report["notes"]
    assert all(line.startswith("simsearch: ") for line in again.stderr.splitlines())
    assert content(collection) == expected
    assert not (collection / SHARDS_NAME).exists()


@pytest.mark.thorough
def test_ctrl_c_stops_a_cluster_run_like_a_local_run(machines: Machines, large: Path, tmp_path: Path):
    words = command(large, tmp_path / "ix", "--ray", machines.address)
    wait_for(lambda: not working())  # workers of an earlier test; else the signal could come before this run has begun
    driver = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(working)
    os.killpg(driver.pid, signal.SIGINT)
    output, errors = driver.communicate(timeout=60)
    assert (driver.returncode, output) == (130, "")
    assert errors == (f"simsearch: stopped; {tmp_path / 'ix'} keeps what was indexed, and the same command resumes\n")
    wait_for(lambda: not working())


def test_a_run_with_nothing_to_embed_does_not_load_ray(tmp_path: Path):
    objects = ROOT / "data" / "objects"
    oneshot.ingest(tmp_path / "ix", [objects], HISTOGRAM)
    expected = content(tmp_path / "ix")
    code = (
        "import sys\nfrom simsearch import Collection\n"
        f"report = Collection.open({str(tmp_path / 'ix')!r}).ingest([{str(objects)!r}], ray='local')\n"
        "print(report.n_embedded, report.n_reused, 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 120 False\n"
    assert content(tmp_path / "ix") == expected


@pytest.mark.thorough
def test_without_an_address_a_cluster_is_started_and_ended(mixed: Path, tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    words = [*command(mixed / "objects", tmp_path / "ix"), "--ray"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert (done.returncode, json.loads(done.stdout)["embedded"]) == (0, 120), done.stderr
    assert done.stderr == "simsearch: embedded by 2 workers of a Ray cluster\n"


def test_workers_of_another_version_are_rejected(machines: Machines, mixed: Path):
    from simsearch.images.views import NO_AUGMENTATION
    from simsearch.ingest.ray_cluster.blocks import split_into_blocks
    from simsearch.ingest.ray_cluster.cluster import plan_workers
    from simsearch.ingest.ray_cluster.known_contents import KnownContents
    from simsearch.ingest.ray_cluster.rounds import embed_blocks
    from simsearch.ingest.ray_cluster.worker import WorkerConfig
    from simsearch.models.choice import resolve_model
    from simsearch.models.portable import PortableModel
    from simsearch.sources.scan import scan_sources

    model = resolve_model(HISTOGRAM)
    order = WorkerConfig(model, NO_AUGMENTATION, 10**8, 1, PortableModel(model), KnownContents())
    blocks = list(split_into_blocks(scan_sources([str(mixed / "objects")]).files, 100))
    with pytest.raises(ClusterError, match=r"has simsearch .*, this machine has 0\.0\.0; install the same version"):
        list(embed_blocks(blocks, replace(order, version="0.0.0"), plan_workers()))


@pytest.mark.thorough
def test_a_run_survives_the_loss_of_a_machine(
    machines: Machines, large: Path, expected: dict[str, list], tmp_path: Path
):
    """The last test of the module, as the machine is not restarted."""

    def lose_one(over: threading.Event) -> None:
        wait_for(lambda: len(working()) == 2 or over.is_set())
        machines.cluster.remove_node(machines.second, allow_graceful=False)

    assert sum(node["Alive"] for node in ray.nodes()) == 2
    with meanwhile(lose_one):
        report = oneshot.ingest(tmp_path / "ix", [large], HISTOGRAM, ray=machines.address)
    assert sum(node["Alive"] for node in ray.nodes()) == 1
    assert report.n_embedded == 256
    assert content(tmp_path / "ix") == expected
