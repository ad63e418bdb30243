"""A catalog with a damaged value: every verb works, or says in one line that the catalog is damaged."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from simsearch import Collection
from simsearch.errors import CollectionDamaged
from simsearch.store.sqlite_errors import CATALOG_NAME
from simsearch.store.values import find_invalid_values
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.command_line import run

VALUES = {
    "empty": "", "text": "x", "blob": b"\x00\xff", "list": "[]", "nothing": "{}", "open": "{", "huge": 2**62,
    "negative": -1, "real": 0.5, "no UTF-8": "CAST(x'C328FF' AS TEXT)",
}  # fmt: skip
VERBS: dict[str, tuple[object, ...]] = {
    "info": ("info",), "query": ("query", "--id", "1", "--rerank", "dba1"), "verify": ("verify",),
    "export": ("export", "out.csv"), "duplicates": ("duplicates", "--tier", "exact"), "clusters": ("clusters",),
    "annotate": ("annotate", "columns.json"), "remove": ("remove", "none.png"), "prune": ("prune",),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection with a row in each table that commands write."""
    home = tmp_path_factory.mktemp("whole")
    for seed in range(6):
        draw_picture(home / "photos" / f"{seed}.png", seed)
    (home / "photos" / "bad.jpg").write_bytes(b"\xff\xd8\xffjunk")
    (home / "columns.json").write_text('[{"path": "photos/0.png", "color": "red"}]')
    assert run("index", "photos", "--into", "ix", "--backbone", "histogram", "--augment", "1", cwd=home).returncode == 0
    assert run("annotate", "columns.json", "--in", "ix", cwd=home).returncode == 0
    return home


def list_columns(folder: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(folder / CATALOG_NAME)) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            if "sqlite_" not in name and connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
        ]
        return [
            (table, row[1])
            for table in tables
            for row in connection.execute(f"PRAGMA table_info({table})").fetchall()
            if row[1] != "id"
        ]


def damage(folder: Path, table: str, column: str, value: object) -> bool:
    """Put a value into every row; return whether SQLite accepts it."""
    is_expression = isinstance(value, str) and value.startswith("CAST")
    with closing(sqlite3.connect(folder / CATALOG_NAME, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        try:
            query = f"UPDATE OR IGNORE {table} SET {column} = {value if is_expression else '?'}"
            connection.execute(query, () if is_expression else (value,))
        except sqlite3.IntegrityError:
            return False
    return True


def list_failures(home: Path, folder: Path) -> list[str]:
    """The verbs that crash, or print more than a line of an error and one of advice."""
    failures = []
    for name, words in VERBS.items():
        try:
            done = run(*words, "--in", folder, cwd=home)
        except Exception as error:
            failures.append(f"{name}: {error!r}")
            continue
        (home / "out.csv").unlink(missing_ok=True)
        if "Traceback" in done.stderr or done.returncode not in (0, 1, 2) or done.stderr.count("\n") > 2:
            failures.append(f"{name}: {done.stderr}")
    return failures


@pytest.mark.long
@pytest.mark.parametrize(
    ("part", "n_parts"), [(0, 61), *(pytest.param(part, 23, marks=pytest.mark.thorough) for part in range(23))]
)
def test_no_verb_crashes_on_a_damaged_value(whole: Path, tmp_path: Path, part: int, n_parts: int):
    cases = [(*place, name) for place in list_columns(whole / "ix") for name in VALUES]
    assert len(cases) > 400
    for number, (table, column, name) in enumerate(cases):
        if number % n_parts == part:
            folder = tmp_path / str(number)
            shutil.copytree(whole / "ix", folder)
            if damage(folder, table, column, VALUES[name]):
                failures = list_failures(whole, folder)
                assert failures == [], f"{table}.{column} = {name}"
            shutil.rmtree(folder)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM collection",
        "UPDATE models SET details = 'x'",
        "UPDATE models SET details = '{}'",
        "UPDATE models SET augmentation = '{'",
        "UPDATE models SET width = x'00ff'",
        "UPDATE views SET parameters = '['",
        "UPDATE runs SET sources = 'x'",
    ],
)
def test_a_damaged_value_is_named_by_the_verbs_that_need_it_and_by_verify(whole: Path, tmp_path: Path, statement: str):
    shutil.copytree(whole / "ix", tmp_path / "ix")
    with closing(sqlite3.connect(tmp_path / "ix" / CATALOG_NAME, isolation_level=None)) as connection:
        connection.execute(statement)
    with Collection.open(tmp_path / "ix") as opened, pytest.raises(CollectionDamaged, match="from a backup"):
        _use(opened)
    done = run("verify", "--in", tmp_path / "ix", cwd=tmp_path)
    assert done.returncode == 1
    assert "valid" in done.stdout + done.stderr or "not one row" in done.stdout + done.stderr


def _use(opened: Collection) -> None:
    opened.info()
    opened.search(1, k=None)


def test_every_value_that_simsearch_writes_is_valid(whole: Path, photos: Path, tmp_path: Path):
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    old = Path(__file__).parent.parent / "fixtures" / "version_0_1" / CATALOG_NAME
    for file in (whole / "ix" / CATALOG_NAME, tmp_path / "ix" / CATALOG_NAME, old):
        with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as connection:
            assert find_invalid_values(connection) == []


def test_an_error_of_the_caller_is_not_called_damage(whole: Path):
    with Collection.open(whole / "ix") as opened, pytest.raises(TypeError):
        opened.search(object())  # type: ignore[arg-type]
