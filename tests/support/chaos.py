"""Random histories of a collection: operations, kills, restored copies. Run as a process, so that kills are real.

    python -m tests.support.chaos FOLDER N_OPERATIONS SEED...

prints one JSON line for each seed. The process itself never searches: a fork of a process whose libraries have threads
is not safe. Every operation runs in a child that is forked for it, and so does a reader that stays open over many.

After every operation the answers of the open reader and of a new one are compared with the vectors in the catalog, by
brute force. After the last one the folder is indexed once more, and everything is compared by path with a new index.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simsearch import Collection, ModelChoice
from simsearch.errors import CollectionNotFound, ModelNotIndexed, SimsearchError, SourceError, UsageError
from simsearch.images.views import ViewChoice
from simsearch.index.cache import IndexCache
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter

CHOICES = (ModelChoice(backbone="histogram"), ModelChoice(backbone="histogram", resize="pad"))
RERANK = "dba2+aqe2"
DEADLINE_S = 120.0
TOLERANCE = 3e-5

_LAZY_MODULES = ("ingest.run", "store.migrations", "interchange.annotations", "interchange.importer", "maintenance")
"""Modules that operations import; imported once here, or every child would spend half a second on them."""

_N_CONTENTS = 40
_KILL_SHARE = 0.6
_STRACE_SHARE = 0.3  # of the kills
_SYSTEM_CALLS = "write,pwrite64,fsync,fdatasync,ftruncate,rename,unlink,openat,mkdir,rmdir,fcntl,mmap"
_MOST_SYSTEM_CALLS = 400
_NOT_THERE = (CollectionNotFound, ModelNotIndexed)

Similarities = dict[tuple[str, ...], float]
Answers = dict[tuple[str, ...], Similarities]
"""From the paths of an image to the similarities of all images, by their paths."""


class Difference(Exception):
    """An answer, or an error, that should not be."""


# What runs in children


def ingest(folder: Path, pictures: Path, choice: ModelChoice | None, n_views: int | None) -> None:
    with Collection.open(folder, create=True) as opened:
        opened.ingest([pictures], choice, augment=ViewChoice(n_views))


def refresh_with_deltas(folder: Path) -> None:
    """Update index files as those of large collections are updated: by delta files."""
    with CatalogWriter.open(folder) as writer, IndexCache(writer, rewrite_limit_bytes=0) as indexes:
        for stored in writer.list_models():
            indexes.refresh(stored.fingerprint)


def import_vectors(folder: Path, vectors: Path) -> None:
    with Collection.open(folder, create=True) as opened:
        opened.import_embeddings(vectors, "clip")


def read_truth(folder: Path) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """The vectors of the images that have a file: {model: {image: (vector of the original, those of all views)}}."""
    found: dict[str, dict[int, list[tuple[bool, np.ndarray]]]] = {}
    statement = (
        "SELECT fingerprint, views.image_id, kind, vector FROM vectors JOIN views ON views.id = view_id"
        " JOIN models ON models.id = model_id WHERE views.image_id IN (SELECT image_id FROM files)"
    )
    with contextlib.closing(sqlite3.connect(folder / "catalog.db", timeout=30)) as catalog:
        for fingerprint, image_id, kind, vector in catalog.execute(statement):
            rows = found.setdefault(fingerprint, {}).setdefault(image_id, [])
            rows.append((kind == "original", np.frombuffer(vector, "<f4")))
    return {
        fingerprint: {
            image_id: (next(row for is_original, row in rows if is_original), np.stack([row for _, row in rows]))
            for image_id, rows in images.items()
        }
        for fingerprint, images in found.items()
    }


def check_answers(opened: Collection, who: str) -> None:
    """Compare the answers for every image under every model with the vectors in the catalog."""
    for fingerprint, images in read_truth(opened.folder).items():
        for image_id, (query, _) in images.items():
            expected = {other: float((views @ query).max()) for other, (_, views) in images.items()}
            hits = opened.search(image_id, k=None, backbone=fingerprint, rerank="none").hits
            answer = {hit.image_id: hit.similarity for hit in hits}
            if answer.keys() != expected.keys():
                lost, extra = expected.keys() - answer.keys(), answer.keys() - expected.keys()
                raise Difference(f"{who}: image {image_id} under {fingerprint}: lost {lost}, not expected {extra}")
            worst = max(expected, key=lambda other: abs(expected[other] - answer[other]))
            if abs(expected[worst] - answer[worst]) > TOLERANCE:
                raise Difference(
                    f"{who}: image {image_id} under {fingerprint}: {worst} has {answer[worst]}, not {expected[worst]}"
                )


def check_folder(folder: Path) -> None:
    with Collection.open(folder) as opened:
        check_answers(opened, "a new reader")


def collect_answers(folder: Path, fingerprint: str, rerank: str) -> Answers:
    with Collection.open(folder) as opened:
        ids = read_truth(folder).get(fingerprint, {})
        found: Answers = {}
        for image_id in ids:
            hits = opened.search(image_id, k=None, backbone=fingerprint, rerank=rerank).hits
            own = next(hit for hit in hits if hit.image_id == image_id)
            found[tuple(sorted(own.paths))] = {tuple(sorted(hit.paths)): hit.similarity for hit in hits}
        return found


def compare_with_new_index(folder: Path, pictures: Path, new: Path, n_views: int) -> None:
    """Compare a collection that was just indexed with a new one of the same pictures, by path, and verify it."""
    for choice in CHOICES:
        ingest(folder, pictures, choice, n_views)
        ingest(new, pictures, choice, n_views)
    with Collection.open(folder) as opened:
        if problems := opened.verify().problems:
            raise Difference(f"verify: {problems}")
        check_answers(opened, "the last reader")
        before = read_columns(folder)
    with Collection.open(new) as opened:
        fingerprints = [stored.fingerprint for stored in opened.catalog.list_models()]
    for fingerprint in fingerprints:
        found, expected = (collect_answers(one, fingerprint, "none") for one in (folder, new))
        _compare(found, expected, fingerprint)
    reranked = {fingerprint: collect_answers(folder, fingerprint, RERANK) for fingerprint in fingerprints}
    with Collection.open(folder) as opened:
        opened.rebuild()
    for fingerprint, found in reranked.items():  # images without a file still count as neighbors
        _compare(found, collect_answers(folder, fingerprint, RERANK), f"{fingerprint}, {RERANK}, before a rebuild")
    with Collection.open(folder) as opened:
        opened.prune()
    for fingerprint in fingerprints:
        found, expected = (collect_answers(one, fingerprint, RERANK) for one in (folder, new))
        _compare(found, expected, f"{fingerprint}, {RERANK}")
    with Collection.open(folder) as opened:
        check_answers(opened, "a reader after rebuild and prune")
        found_problems = opened.verify()
        # A model that was not indexed last, or was imported, may lack images; nothing else is left to say.
        notes = [note for note in found_problems.notes if " no vector of " not in note]
        if found_problems.problems or notes:
            raise Difference(f"verify after rebuild and prune: {found_problems}")
    if read_columns(folder) != before:
        raise Difference("rebuild and prune changed columns")


def read_columns(folder: Path) -> dict[str, tuple[str, Any]]:
    """The user's column of each file."""
    statement = "SELECT path, name, value FROM annotations JOIN files USING (image_id)"
    with contextlib.closing(sqlite3.connect(folder / "catalog.db", timeout=30)) as catalog:
        return {path: (name, value) for path, name, value in catalog.execute(statement)}


def _compare(found: Answers, expected: Answers, what: str) -> None:
    if found.keys() != expected.keys():
        lost, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
        raise Difference(f"{what}: lost {lost}, not expected {extra}")
    for paths, similarities in expected.items():
        if found[paths].keys() != similarities.keys():
            raise Difference(f"{what}: {paths} finds {found[paths].keys()}, not {similarities.keys()}")
        for other, similarity in similarities.items():
            if abs(found[paths][other] - similarity) > 10 * TOLERANCE:
                raise Difference(f"{what}: {paths} to {other}: {found[paths][other]}, not {similarity}")


# Children


def _run_child(work: Callable[[], None], allowed: tuple[type[SimsearchError], ...], result: int) -> None:
    """Run a function in this forked process, write what came of it, and end the process."""
    try:
        work()
        text = "ok"
    except allowed as error:
        text = f"ok, {type(error).__name__}"
    except BaseException as error:
        import traceback

        text = f"{type(error).__name__}: {error}\n" + "".join(traceback.format_tb(error.__traceback__)[-4:])
    with contextlib.suppress(OSError):
        os.write(result, text.encode())
    os._exit(0)


class Child:
    """A forked process that runs a function once, and can be killed meanwhile."""

    def __init__(self, work: Callable[[], None], allowed: tuple[type[SimsearchError], ...], *, stops: bool) -> None:
        self._result, result = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._result)
            if stops:
                os.kill(os.getpid(), signal.SIGSTOP)
            _run_child(work, allowed, result)
        os.close(result)

    def kill_after(self, delay_s: float) -> None:
        """Kill the process unless it ends before."""
        select.select([self._result], [], [], delay_s)
        self.kill()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> str | None:
        """What came of it; None where it was killed. Raises `Difference` where it does not end."""
        text, deadline = b"", time.monotonic() + DEADLINE_S
        while select.select([self._result], [], [], max(0.0, deadline - time.monotonic()))[0]:
            part = os.read(self._result, 65536)
            if not part:
                break
            text += part
        else:
            self.kill()
            os.waitpid(self.pid, 0)
            os.close(self._result)
            raise Difference(f"no end after {DEADLINE_S:g} s")
        _, status = os.waitpid(self.pid, 0)
        os.close(self._result)
        if os.WIFSIGNALED(status):
            if os.WTERMSIG(status) != signal.SIGKILL:
                raise Difference(f"ended by signal {os.WTERMSIG(status)}")
            return None
        return text.decode()


class Reader:
    """A process that keeps a collection open, as a server or a notebook does, and checks its answers when asked."""

    def __init__(self, folder: Path) -> None:
        (commands, self._commands), (self._results, results) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._commands)
            os.close(self._results)
            self._serve(folder, commands, results)
        os.close(commands)
        os.close(results)

    @staticmethod
    def _serve(folder: Path, commands: int, results: int) -> None:
        opened: Collection | None = None
        while command := os.read(commands, 1):
            try:
                if opened is None:
                    opened = Collection.open(folder)
                if command == b"c":
                    check_answers(opened, "the open reader")
                else:
                    opened.search(1, k=3)
                text = "ok"
            except (*_NOT_THERE, SimsearchError) as error:
                allowed = isinstance(error, _NOT_THERE) or (command == b"q" and "no image" in str(error))
                text = "ok" if allowed else f"{type(error).__name__}: {error}"
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
            os.write(results, text.encode() + b"\0")
        os._exit(0)

    def start(self, command: bytes) -> None:
        """Start a query (`q`) or the check of all answers (`c`)."""
        os.write(self._commands, command)

    def finish(self) -> None:
        """Wait for what was started. Raises `Difference`."""
        text, deadline = b"", time.monotonic() + DEADLINE_S
        while not text.endswith(b"\0"):
            if not select.select([self._results], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Difference(f"the open reader gives no answer in {DEADLINE_S:g} s")
            part = os.read(self._results, 65536)
            if not part:
                raise Difference("the open reader has crashed")
            text += part
        if text != b"ok\0":
            raise Difference(f"the open reader: {text.decode()}")

    def close(self) -> None:
        os.close(self._commands)
        os.close(self._results)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


# Histories


def draw_contents(n: int = _N_CONTENTS) -> list[bytes]:
    """Small PNGs; those of one seed are the same everywhere."""
    contents = []
    for seed in range(n):
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((16 + seed % 5, 16), Image.Resampling.BICUBIC).save(file, "PNG")
        contents.append(file.getvalue())
    return contents


class History:
    """One random history. `has_strace` permits kills at system calls."""

    def __init__(self, home: Path, seed: int, contents: list[bytes], *, has_strace: bool) -> None:
        self._random = random.Random(seed)
        self._contents = contents
        self._has_strace = has_strace
        self._pictures, self._folder, self._saved = home / "pictures", home / "ix", home / "saved"
        self._home = home
        self._mtime_ns = 1_000_000_000 * 10**9
        self._duration_s: dict[str, float] = {}
        self._reader: Reader | None = None
        self.n_kills = 0
        self.log: list[str] = []
        for name in "ab":
            (self._pictures / name).mkdir(parents=True)
        for number in range(self._random.randint(3, 8)):
            self._write(self._pictures / self._random.choice("ab") / f"{number}.png")

    def run(self, n_operations: int) -> None:
        """Run the history. Raises `Difference`."""
        try:
            for _ in range(n_operations):
                name = self._random.choice(_OPERATIONS)
                self.log.append(name)
                getattr(self, f"_{name}")()
                if self._folder.exists():
                    self._check()
            self._finish()
        finally:
            if self._reader is not None:
                self._reader.close()

    # Files

    def _files(self) -> list[Path]:
        return sorted(file for file in self._pictures.rglob("*.png") if not file.is_symlink())

    def _sample_files(self, most: int) -> list[Path]:
        files = self._files()
        return self._random.sample(files, min(len(files), self._random.randint(1, most)))

    def _write(self, file: Path) -> None:
        """Write some content with a time that no content had before: equal size and time mean unchanged."""
        file.write_bytes(self._random.choice(self._contents))
        self._touch(file)

    def _touch(self, file: Path) -> None:
        """Let the clock jump, back or ahead."""
        self._mtime_ns += self._random.choice((1, 10**9, 10**13))
        sign = self._random.choice((1, -1))
        os.utime(file, ns=(0, sign * self._mtime_ns if sign > 0 else 2 * 10**18 - self._mtime_ns))

    def _change_files(self) -> None:
        for _ in range(self._random.randint(1, 3)):
            files = self._files()
            file, kind = self._random.choice(files), self._random.randrange(6)
            if kind == 0 and len(files) > 2:
                file.unlink()
            elif kind == 1:
                file.rename(file.with_name(f"r{self._random.randrange(1000)}.png"))
            elif kind == 2:
                shutil.copy2(file, self._pictures / self._random.choice("ab") / f"c{self._random.randrange(1000)}.png")
            elif kind == 3:
                self._touch(file)
            elif kind == 4:
                self._write(self._pictures / self._random.choice("ab") / f"n{self._random.randrange(1000)}.png")
            else:
                self._write(file)

    # Operations on the collection

    def _index(self) -> None:
        self._change_files()
        choice = self._random.choice((*CHOICES, *CHOICES, None))
        n_views = self._random.choice((None, None, None, 0, 1, 2))
        source = self._random.choice((self._pictures, self._pictures, self._pictures, self._pictures / "a"))
        if not any(source.rglob("*.png")):
            source = self._pictures
        self._do("index", lambda: ingest(self._folder, source, choice, n_views), ())

    def _prune(self) -> None:
        self._do("prune", lambda: _on(self._folder, lambda opened: opened.prune()), _NOT_THERE)

    def _prune_backbone(self) -> None:
        names = ["histogram", "clip"]
        if self._folder.exists():
            names += [file.name.removesuffix(".faiss") for file in self._folder.glob("histogram-*.faiss")]
        name = self._random.choice(names)
        self._do("prune", lambda: _on(self._folder, lambda opened: opened.prune(name)), _NOT_THERE)

    def _rebuild(self) -> None:
        self._do("rebuild", lambda: _on(self._folder, lambda opened: opened.rebuild()), _NOT_THERE)

    def _refresh_with_deltas(self) -> None:
        self._do("refresh", lambda: refresh_with_deltas(self._folder), _NOT_THERE)

    def _remove(self) -> None:
        paths = [str(file) for file in self._sample_files(2)]
        self._do("remove", lambda: _on(self._folder, lambda opened: opened.remove(paths)), (*_NOT_THERE, UsageError))

    def _annotate(self) -> None:
        table = self._home / "table.csv"
        table.write_text("path,mark\n" + "".join(f"{file},{file.name}\n" for file in self._files()))
        work = lambda: _on(self._folder, lambda opened: opened.annotate(table))  # noqa: E731
        self._do("annotate", work, (*_NOT_THERE, SourceError))

    def _import(self) -> None:
        rows = self._home / "vectors.jsonl"
        with rows.open("w") as file:
            for path in self._sample_files(3):
                seed = int.from_bytes(path.read_bytes()[-16:-12])  # of the content
                vector = np.random.default_rng(seed).standard_normal(8).tolist()
                file.write(json.dumps({"path": str(path), "vector": vector}) + "\n")
        self._do("import", lambda: import_vectors(self._folder, rows), ())

    def _query_reranked(self) -> None:
        def query() -> None:
            with Collection.open(self._folder) as opened:
                ids = sorted(read_truth(self._folder).get(opened.model().fingerprint, ()))
                for image_id in ids[:2]:
                    opened.search(image_id, k=None, rerank=RERANK)

        self._do("query", query, _NOT_THERE)

    # Copies

    def _save(self) -> None:
        if Catalog.exists(self._folder):  # a killed first run may have left an empty one
            shutil.rmtree(self._saved, ignore_errors=True)
            shutil.copytree(self._folder, self._saved)

    def _restore(self) -> None:
        """Bring back an earlier catalog, earlier index files, or both, as a user would from a backup."""
        if not self._saved.exists() or not self._folder.exists():
            return
        self._close_reader()
        kind = self._random.choice(("catalog", "catalog", "indexes", "all"))
        if kind == "all":
            shutil.rmtree(self._folder)
            self._folder.mkdir()
        if kind != "indexes":
            for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
                (self._folder / name).unlink(missing_ok=True)
        for file in self._saved.iterdir():
            is_index = file.suffix not in (".db", ".db-wal", ".lock")
            if file.suffix != ".db-shm" and (kind == "all" or is_index == (kind == "indexes")):
                shutil.copy2(file, self._folder)

    def _lose_indexes(self) -> None:
        for file in self._folder.glob("*.faiss"):
            if self._random.random() < 0.5:
                file.unlink()

    # Children and checks

    def _do(self, name: str, work: Callable[[], object], allowed: tuple[type[SimsearchError], ...]) -> None:
        kills = self._random.random() < _KILL_SHARE
        by_strace = kills and self._has_strace and self._random.random() < _STRACE_SHARE
        number, share = self._random.randint(1, _MOST_SYSTEM_CALLS), self._random.uniform(0.0, 1.1)
        self._close_reader(at_random=True)
        if self._reader is not None:
            self._reader.start(b"q")  # while the operation runs
        started = time.monotonic()
        child = Child(work, allowed, stops=by_strace)
        if by_strace:
            _kill_at_system_call(child, number)
        elif kills:
            child.kill_after(share * self._duration_s.get(name, 0.03))
        result = child.wait()
        self.log[-1] += f" ({name}: {'killed' if result is None else result.splitlines()[0]})"
        if result is None:
            self.n_kills += 1
        elif not kills:
            self._duration_s[name] = 0.5 * self._duration_s.get(name, 0.03) + 0.5 * (time.monotonic() - started)
        if self._reader is not None:
            self._reader.finish()
        if result is not None and not result.startswith("ok"):
            raise Difference(f"{name}: {result}")

    def _check(self) -> None:
        if self._reader is not None:
            self._reader.start(b"c")
            self._reader.finish()
        elif self._random.random() < 0.5:
            self._reader = Reader(self._folder)
            self._reader.start(b"c")
            self._reader.finish()
        if self._random.random() < 0.5:
            self._run("check", lambda: check_folder(self._folder), _NOT_THERE)

    def _close_reader(self, *, at_random: bool = False) -> None:
        if self._reader is not None and not (at_random and self._random.random() < 0.8):
            self._reader.close()
            self._reader = None

    def _run(self, name: str, work: Callable[[], object], allowed: tuple[type[SimsearchError], ...] = ()) -> None:
        """Run a check in a child that is not killed."""
        result = Child(work, allowed, stops=False).wait()
        if result is None or not result.startswith("ok"):
            raise Difference(f"{name}: {result}")

    def _finish(self) -> None:
        self.log.append("compare with a new index")
        n_views = self._random.choice((0, 0, 2))
        new = self._home / "new"
        self._run("last", lambda: compare_with_new_index(self._folder, self._pictures, new, n_views))
        self._check()


_OPERATIONS = (
    *["index"] * 7, "prune", *["prune_backbone"] * 2, "rebuild", *["refresh_with_deltas"] * 2, "remove", "annotate",
    "import", "query_reranked", *["save"] * 2, *["restore"] * 2, "lose_indexes",
)  # fmt: skip


def _on(folder: Path, work: Callable[[Collection], object]) -> None:
    with Collection.open(folder) as opened:
        work(opened)


def _kill_at_system_call(child: Child, number: int) -> None:
    """Let a stopped child run until its system call of that number, counted over those that change anything."""
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={_SYSTEM_CALLS}", "-e", "signal=none"]
    command += ["-e", f"inject={_SYSTEM_CALLS}:signal=KILL:when={number}", "-p", str(child.pid)]
    os.waitpid(child.pid, os.WUNTRACED)  # it has stopped itself
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr is not None
        tracer.stderr.readline()  # attached
        os.kill(child.pid, signal.SIGCONT)
        tracer.stderr.read()


def can_inject_kills() -> bool:
    """Whether strace is here and may kill a process at a system call."""
    if shutil.which("strace") is None:
        return False
    command = ["strace", "-o", "/dev/null", "-e", "inject=write:signal=KILL:when=1", "-e", "trace=write", "echo", "x"]
    return subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL


def run_histories(home: Path, n_operations: int, seeds: list[int], *, has_strace: bool) -> Iterator[dict[str, Any]]:
    """Run a history of each seed in a folder of its own, which is deleted where there was no difference."""
    for name in _LAZY_MODULES:
        importlib.import_module(f"simsearch.{name}")
    contents = draw_contents()
    for seed in seeds:
        folder, started = home / f"history_{seed}", time.monotonic()
        history = History(folder, seed, contents, has_strace=has_strace)
        found = {"seed": seed, "difference": None}
        try:
            history.run(n_operations)
            shutil.rmtree(folder)
        except Difference as error:
            found |= {"difference": str(error), "log": history.log}
        yield found | {"kills": history.n_kills, "seconds": round(time.monotonic() - started, 2)}


if __name__ == "__main__":
    place, n_words, *seed_words = sys.argv[1:]
    has_strace = can_inject_kills()
    for line in run_histories(Path(place), int(n_words), list(map(int, seed_words)), has_strace=has_strace):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
