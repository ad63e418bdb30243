"""The SQL of `--where` in a real database, compared with plain Python over the same rows."""

from __future__ import annotations

import datetime
import os
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from simsearch.errors import UsageError
from simsearch.filters import FIELD_KINDS, compile_sql, parse
from simsearch.sources.path_codec import encode_path
from simsearch.store.migrations import migrate

COLUMNS = ["price", "colour", "shot", "odd column name"]
QUERY = "SELECT DISTINCT files.image_id FROM files JOIN images ON images.id = files.image_id WHERE "


@dataclass(frozen=True)
class Row:
    """A file with its image."""

    path: str
    size: int
    mtime_ns: int
    id: int
    width: int
    height: int
    format: str
    taken: str | None
    camera: str | None
    own: dict[str, Any]

    def value(self, name: str) -> Any:
        folder, name_of_file = os.path.split(self.path)
        if name in COLUMNS:
            return self.own.get(name)
        if name == "modified":
            return datetime.datetime.fromtimestamp(self.mtime_ns // 10**9).isoformat()
        derived = {
            "name": name_of_file,
            "folder": folder,
            "class": folder.rpartition("/")[2] or None,
            "megapixels": self.width * self.height / 1e6,
            "aspect": self.width / self.height,
        }
        return derived[name] if name in derived else getattr(self, name)


FOLDERS = [
    "/photos/holiday/2024",
    "/photos/holiday",
    "/photos/lamp",
    "/photos/lamp/lamp",
    "/other/Lamp",
    "/",
    "/a*b/[x]",
]
FOLDERS += ["/photos/holiday/2024/été", "/photos/100%", "/photos/caf\udce9", "/photos/holiday2"]
NAMES = ["IMG_0001.jpg", "img_2.JPG", "Übung.png", "a.gif", "it's.png", "100%.webp", "[b]*?.png", "x\udcff.jpg", "lamp"]
CAMERAS = [None, None, "FUJIFILM X100V", "Canon EOS 5D", "canon eos 5d", "NIKON D90"]
FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "BMP": "bmp", "DIB": "bmp", "GIF": "gif"}
TIMES = [
    "2023-12-31T23:59:59",
    "2024-01-01T00:00:00",
    "2024-05-01T10:30:00",
    "2024-05-31T23:00:00",
    "2024-06-01T00:00:00",
]
OWN = {
    "price": [1, 2, 2.5, 20, -3, "20", "cheap", 2**53, None],
    "colour": ["blue", "Blue", "dark blue", "", "größer", 3],
    "shot": ["2024-05-01", "2024-05-01 10:30:00", "2024-05-31T23:00:00", "2024-06", "unknown", "2024", 2024],
    "odd column name": ["a", 1],
}


def drawn_rows(seed: int) -> list[Row]:
    """Files in several folders; three in four have their own image, the others share one."""
    draw = random.Random(seed)
    paths = [os.path.join(folder, name) for folder in FOLDERS for name in NAMES if draw.random() < 0.6]
    images = []
    for number in range(1, len(paths) * 3 // 4):
        taken = draw.choice([None, *TIMES])
        size = (draw.choice([100, 800, 1200, 4000]), draw.choice([100, 600, 1200, 3000]))
        own = {name: draw.choice(values) for name, values in OWN.items() if draw.random() < 0.6}
        images.append((number, *size, draw.choice(list(FORMATS)), taken, draw.choice(CAMERAS), own))
    return [
        Row(path, draw.choice([0, 999, 2_000_000, 5_000_000_000]), _mtime(draw), *draw.choice(images)) for path in paths
    ]


def _mtime(draw: random.Random) -> int:
    moment = datetime.datetime.fromisoformat(draw.choice(TIMES)).timestamp()
    return int(moment) * 10**9 + draw.choice([0, 1, 999_999_999])


def database(rows: list[Row]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    migrate(connection)
    for row in rows:
        image = (row.id, f"{row.id:032x}", row.width, row.height, row.format, row.taken, row.camera)
        connection.execute(
            """INSERT OR IGNORE INTO images (id, digest, width, height, format, size_bytes, taken_at, camera)
               VALUES (?, ?, ?, ?, ?, 0, ?, ?)""",
            image,
        )
        file = (encode_path(row.path), row.size, row.mtime_ns, row.id)
        connection.execute("INSERT INTO files (path, size_bytes, mtime_ns, image_id) VALUES (?, ?, ?, ?)", file)
        own = [(row.id, name, value) for name, value in row.own.items()]
        connection.executemany("INSERT OR IGNORE INTO annotations (image_id, name, value) VALUES (?, ?, ?)", own)
    return connection


ROWS = drawn_rows(0)


@pytest.fixture(scope="module")
def catalog():
    connection = database(ROWS)
    yield connection
    connection.close()


def found(connection: sqlite3.Connection, text: str) -> set[int]:
    sql, parameters = compile_sql(parse(text), COLUMNS)
    return {image_id for (image_id,) in connection.execute(QUERY + sql, parameters)}


def expected(test: Callable[[Row], bool]) -> set[int]:
    return {row.id for row in ROWS if test(row)}


# The oracle: a condition is drawn as a text and as a Python function

Drawn = tuple[str, Callable[[Row], bool]]

ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, other: one == other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}
NUMBERS = {
    "size": ["0", "999", "1kB", "2MB", "5 GB", "2.5MB"],
    "width": ["100", "799", "800", "1200.5", "-1"],
    "height": ["100", "600", "3000", "1e3"],
    "megapixels": ["0.08", "1.44", "2"],
    "aspect": ["1", "0.5", "1.5"],
    "id": ["1", "5", "20", "1000"],
}
UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
MOMENTS = ["2024", "2023", "2024-05", "2024-06", "2024-05-01", "2024-05-31", "2024-05-01T10", "2024-05-01T10:30"]
MOMENTS += ["2024-05-31T23:00:00", "2023-12-31T23:59:59", "1066", "2999-12-31T23:59:59"]
PATTERNS = {
    "like": [
        "img%",
        "%LAMP%",
        "%",
        "_mg\\_%",
        "2024",
        "holiday/%",
        "/photos/%",
        "%/",
        "été",
        "%É%",
        "100%",
        "übung%",
        "%.jp_",
    ],
    "glob": [
        "IMG*",
        "*lamp*",
        "*",
        "holiday/*",
        "/photos/holiday/*",
        "/photos/holiday*",
        "*/2024/*.jpg",
        "[Ll]amp",
        "[^a-z]*",
    ],
    "~": ["IMG_", "lamp", "", "E", "é", "0", "*", "[", "?", "%", "/", "holiday/2", "BLUE", "eos 5D", "GRÖSS", "größ"],
}
PATTERNS["glob"] += ["/photos/h?liday/20*", "[[]*", "*[]]*", "/", "/photos/*/", "/other/Lamp", "*caf?*", "[*]"]
TEXTS = [
    "lamp",
    "Lamp",
    "IMG_0001.jpg",
    "a.gif",
    "it's.png",
    "FUJIFILM X100V",
    "blue",
    "20",
    "2024",
    "",
    "[b]*?.png",
    "é",
]
PLACES = [
    "holiday",
    "holiday/2024",
    "/photos/holiday",
    "/photos/holiday/",
    "lamp",
    "lamp/lamp",
    "/",
    "a*b/[x]",
    "caf\udce9",
]
PLACES += [
    "lamp/IMG_0001.jpg",
    "/photos/lamp/a.gif",
    "a.gif",
    "liday",
    "/photos/caf\udce9",
    "x\udcff.jpg",
    "100%/a.gif",
]


def quoted(text: str, mark: str) -> str:
    return mark + text.replace(mark, mark * 2) + mark


def written(text: str, draw: random.Random) -> str:
    is_bare = text.isalpha() and text.isascii() and draw.random() < 0.5
    return text if is_bare else quoted(text, draw.choice("'\""))


def number_test(name: str, draw: random.Random) -> Drawn:
    operator, text = draw.choice(list(ORDERS)), draw.choice(NUMBERS[name])
    number, unit = re.fullmatch(r"([-\d.e]+) ?(\w*)", text).groups()
    bound = float(number) * UNITS.get(unit, 1)
    return f"{name} {operator} {text}", lambda row: ORDERS[operator](row.value(name), bound)


def date_test(name: str, draw: random.Random) -> Drawn:
    """Compare with the precision of the given date: years with years, days with days."""
    operator, moment = draw.choice(list(ORDERS)), draw.choice(MOMENTS)
    is_own = name in COLUMNS
    moment = moment if not is_own or "-" in moment else f"{moment}-05"

    def test(row: Row) -> bool:
        value = row.value(name)
        if value is None or (is_own and not re.match(r"\d{4}-\d\d", str(value))):
            return False
        return ORDERS[operator](value.replace(" ", "T")[: len(moment)], moment)

    return f"{name} {operator} {moment}", test


def own_test(name: str, draw: random.Random) -> Drawn:
    operator = draw.choice(list(ORDERS))
    if draw.random() < 0.5:
        number = draw.choice([1, 2, 2.5, 3, 20, -5, 2**53 - 1])
        shown, bound, kinds = str(number), number, (int, float)
    else:
        text = draw.choice(["blue", "Blue", "a", "", "20", "größer", "m"])
        shown, bound, kinds = written(text, draw), text, (str,)

    def test(row: Row) -> bool:
        value = row.value(name)
        return isinstance(value, kinds) and ORDERS[operator](value, bound)

    return f'"{name}" {operator} {shown}', test


def text_test(name: str, draw: random.Random) -> Drawn:
    operator, text = draw.choice(list(ORDERS)), draw.choice(TEXTS)

    def test(row: Row) -> bool:
        value = row.value(name)
        return value is not None and ORDERS[operator](os.fsencode(value), os.fsencode(text))

    return f"{name} {operator} {written(text, draw)}", test


def in_test(name: str, draw: random.Random) -> Drawn:
    texts = draw.choices(TEXTS if name in ("name", "class", "camera") else PLACES, k=draw.randint(1, 4))
    tests = [is_place(name, text) if name in ("path", "folder") else is_text(name, text) for text in texts]
    return f"{name} in ({', '.join(written(text, draw) for text in texts)})", lambda row: any(t(row) for t in tests)


def is_text(name: str, text: str) -> Callable[[Row], bool]:
    return lambda row: row.value(name) == text


def is_place(name: str, place: str) -> Callable[[Row], bool]:
    def test(row: Row) -> bool:
        wanted = place.rstrip("/") if name == "folder" else place
        value = row.value(name).rstrip("/") if name == "folder" else row.value(name)
        return value == wanted if place.startswith("/") or not place else value.endswith(f"/{wanted}")

    return test


def place_test(name: str, draw: random.Random) -> Drawn:
    place = draw.choice(PLACES)
    return f"{name} = {written(place, draw)}", is_place(name, place)


def regex(pattern: str, *, any_text: str, any_char: str) -> str:
    """Convert a pattern to a regular expression; sets are recognized if `any_text` is `*`."""
    parts = re.findall(r"\[\^?\]?[^\]]*\]|." if any_text == "*" else ".", pattern, re.DOTALL)
    return "".join(
        ".*" if part == any_text else "." if part == any_char else _set(part) if len(part) > 1 else re.escape(part)
        for part in parts
    )


def _set(part: str) -> str:
    negation = "^" if part[1] == "^" else ""
    members = re.sub(r"([\[\]\\])", r"\\\1", part[1 + len(negation) : -1])
    return f"[{negation}{members}]"


def match_test(name: str, draw: random.Random) -> Drawn:
    operator = draw.choice(list(PATTERNS))
    pattern = draw.choice(PATTERNS[operator])
    wanted = pattern.rstrip("/") if name == "folder" and operator != "~" else pattern
    any_text, any_char = {"like": "%_", "glob": "*?", "~": "  "}[operator]
    expression = re.escape(pattern) if operator == "~" else regex(wanted, any_text=any_text, any_char=any_char)
    if operator == "~":
        expression = f".*{expression}.*"
    elif name in ("path", "folder") and not pattern.startswith(("/", any_text)):
        expression = f".*/{expression}"
    flags = re.DOTALL | (0 if operator == "glob" else re.IGNORECASE)

    def test(row: Row) -> bool:
        value = row.value(name)
        if name == "folder":  # a pattern may end in "/" or not; a text is looked for with it
            value = value.rstrip("/") + "/" * (operator == "~")
        return isinstance(value, str) and re.fullmatch(expression, value, flags) is not None

    return f"{name} {operator} '{pattern}'", test


def format_test(name: str, draw: random.Random) -> Drawn:
    names = draw.choices(["jpeg", "png", "bmp", "gif", "webp"], k=draw.randint(1, 3))
    shown = f"= {names[0]}" if len(names) == 1 else f"in ({', '.join(names).upper()})"
    return f"format {shown}", lambda row: FORMATS[row.format] in names


def missing_test(name: str, draw: random.Random) -> Drawn:
    shown = name if name in FIELD_KINDS else quoted(name, '"')
    return f"{shown} is missing", lambda row: row.value(name) is None


TESTS: dict[str, list[Callable[[str, random.Random], Drawn]]] = {
    **{name: [number_test] for name in NUMBERS},
    **{name: [date_test] for name in ("taken", "modified")},
    **{name: [text_test, in_test, match_test] for name in ("name", "class", "camera")},
    **{name: [place_test, in_test, match_test] for name in ("path", "folder")},
    **{name: [own_test] for name in ("price", "odd column name")},
    "colour": [own_test, match_test],
    "shot": [own_test, date_test, match_test],
    "format": [format_test],
}


def drawn_test(draw: random.Random) -> Drawn:
    name = draw.choice(list(TESTS))
    kind = missing_test if draw.random() < 0.1 else draw.choice(TESTS[name])
    return kind(name, draw)


def drawn_condition(draw: random.Random, depth: int) -> Drawn:
    shape = draw.choice(["test", "not", "and", "or"]) if depth else "test"
    if shape == "test":
        return drawn_test(draw)
    if shape == "not":
        text, test = drawn_condition(draw, depth - 1)
        return f"not ({text})", lambda row: not test(row)
    parts = [drawn_condition(draw, depth - 1) for _ in range(draw.randint(2, 3))]
    tests = [test for _, test in parts]
    together = all if shape == "and" else any
    return f" {shape} ".join(f"({text})" for text, _ in parts), lambda row: together(test(row) for test in tests)


def test_every_field_is_tested_against_the_oracle():
    assert set(TESTS) == {*FIELD_KINDS, *COLUMNS}


@pytest.mark.parametrize("name", TESTS)
def test_each_field_finds_what_plain_python_finds(catalog: sqlite3.Connection, name: str):
    draw = random.Random(name)
    sizes = set()
    for _ in range(150):
        for kind in TESTS[name]:
            text, test = kind(name, draw)
            assert found(catalog, text) == expected(test), text
            assert found(catalog, f"not ({text})") == expected(lambda row, test=test: not test(row)), text
            sizes.add(len(expected(test)))
    assert len(sizes) > 2, "the conditions drawn must tell images apart"


def test_three_thousand_random_conditions_find_what_plain_python_finds(catalog: sqlite3.Connection):
    draw = random.Random(7)
    n_telling = 0
    for _ in range(3000):
        text, test = drawn_condition(draw, 3)
        wanted = expected(test)
        assert found(catalog, text) == wanted, text
        assert found(catalog, str(parse(text))) == wanted, text
        n_telling += 0 < len(wanted) < len({row.id for row in ROWS})
    assert n_telling > 1000


# By hand


@pytest.fixture
def few():
    """Two files of image 1, one each of images 2 and 3; only image 1 has a camera, only image 2 a price."""
    fields = [100, 100, "PNG", None]
    rows = [
        Row("/p/small/a.png", 10, 0, 1, *fields, "Leica", {}),
        Row("/p/large/b.png", 99, 0, 1, *fields, "Leica", {}),
        Row("/p/small/c.png", 10, 0, 2, *fields, None, {"price": 5}),
        Row("/p/large/d.png", 99, 0, 3, *fields, None, {"price": "5"}),
    ]
    connection = database(rows)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("folder = small and size < 50", {1, 2}),
        ("folder = small and size > 50", set()),  # one file is small, another large: not the same file
        ("not (folder = small)", {1, 3}),
        ("camera = 'Leica'", {1}),
        ("camera != 'Leica'", {2, 3}),
        ("not (camera = 'Leica')", {2, 3}),
        ("not camera != 'Leica'", {1}),
        ("camera != 'X'", {1, 2, 3}),
        ("camera != 'X' and camera is present", {1}),
        ("price < 20", {2}),
        ("price >= 5", {2}),
        ("not price < 20", {1, 3}),
        ("price = '5'", {3}),
        ("price > ''", {3}),
        ("price is missing", {1}),
        ("price is present", {2, 3}),
    ],
)
def test_a_test_of_a_missing_value_is_false_and_conditions_apply_to_one_file(
    few: sqlite3.Connection, text: str, ids: set[int]
):
    assert found(few, text) == ids


def test_values_are_bound_and_not_part_of_the_sql(catalog: sqlite3.Connection):
    evil = "x'; DROP TABLE files; --"
    shown = evil.replace("'", "''")
    for text in (f"class = '{shown}'", f"camera ~ '{shown}'", f"path glob '/{shown}/*'", f"colour in ('{shown}', q)"):
        sql, parameters = compile_sql(parse(text), COLUMNS)
        assert "DROP" not in sql
        assert any(evil[:3] in str(value) or "[Dd]" in str(value) for value in parameters)
        assert found(catalog, text) == set()
    sql, parameters = compile_sql(parse(f'"{evil}" is missing'), [evil])
    assert (evil in sql, parameters) == (False, (evil,))


@pytest.mark.parametrize(
    "text",
    [
        "path glob '/photos/lamp/*'",
        "folder = '/photos/lamp'",
        "folder glob '/photos/la*'",
        "path = '/photos/lamp/a.gif'",
    ],
)
def test_a_literal_path_prefix_uses_the_index(catalog: sqlite3.Connection, text: str):
    sql, parameters = compile_sql(parse(text), COLUMNS)
    plan = [row[3] for row in catalog.execute(f"EXPLAIN QUERY PLAN {QUERY}{sql}", parameters)]
    assert not any(step.startswith("SCAN") for step in plan)
    assert any("sqlite_autoindex_files_1" in step for step in plan)


LEAVES = ["class ~ 'x'", "price in (1, 2024-05-01)", "folder glob '/a/b*'", "name not like 'x'"]
SHAPES = [
    "id=1 or id=2 and ({})",
    "not({})",
    "id=1 or not(id=2 and {})",
    "({0}) and ({0})",
    "id=1 or id=2 and (({0}) and id=3 or {0})",
]


def deepest(shape: str, leaf: str) -> str:
    """Nest the shape as deep as allowed."""
    text = leaf
    while True:
        try:
            parse(shape.format(text))
        except UsageError:
            return text
        text = shape.format(text)


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_deepest_condition_allowed_is_not_too_deep_for_sqlite(catalog: sqlite3.Connection, leaf: str, shape: str):
    """SQLite's parser has a stack of 100 entries."""
    text = deepest(shape, leaf)
    assert text.count(leaf) >= 2**5 or text.count("(") >= 8
    found(catalog, text)


def test_the_widest_condition_allowed_runs_in_sqlite(catalog: sqlite3.Connection):
    for text in (" or ".join(["id=1"] * 500), f"not class in ({','.join(['ab'] * 500)})", "or ".join(["id=1 "] * 500)):
        found(catalog, text)


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        ("2024", (2024, 1, 1), (2025, 1, 1)),
        ("2024-11", (2024, 11, 1), (2024, 12, 1)),
        ("2024-12", (2024, 12, 1), (2025, 1, 1)),
        ("2024-02-28", (2024, 2, 28), (2024, 2, 29)),
        ("2024-12-31T23", (2024, 12, 31, 23), (2025, 1, 1)),
        ("2024-05-01T10:59", (2024, 5, 1, 10, 59), (2024, 5, 1, 11)),
        ("2024-05-01T10:30:59", (2024, 5, 1, 10, 30, 59), (2024, 5, 1, 10, 31)),
    ],
)
def test_a_date_covers_its_whole_timespan(moment: str, start: tuple[int, ...], end: tuple[int, ...]):
    bounds = [int(datetime.datetime(*parts).timestamp()) * 10**9 for parts in (start, end)]
    assert compile_sql(parse(f"modified = {moment}"), []).parameters == tuple(bounds)
    for operator, bound in (("<", 0), ("<=", 1), (">", 1), (">=", 0)):
        assert compile_sql(parse(f"modified {operator} {moment}"), []).parameters == (bounds[bound],)


def test_file_dates_are_in_local_time():
    condition = "parse('modified = 2024-05-01')"
    code = f"from simsearch.filters import compile_sql, parse\nprint(*compile_sql({condition}, []).parameters)"
    for zone, offset_h in (("UTC0", 0), ("JST-9", -9), ("EST5", 5)):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "TZ": zone}
        )
        start_s = 1714521600 + offset_h * 3600  # 2024-05-01T00:00:00 there
        assert done.stdout.split() == [f"{start_s}000000000", f"{start_s + 86400}000000000"]
