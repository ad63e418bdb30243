"""The parser of `--where`: the language, its canonical text, its errors and its limits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsearch.errors import UsageError
from simsearch.filters import compile_sql, parse

COLUMNS = ["price", "stars", "odd column name"]


def error_of(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        compile_sql(parse(text), COLUMNS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("width>=800", "width >= 800"),
        ("WIDTH >= 8e2", "width >= 800"),
        ("width == 3 AND height <> 4", "width = 3 and height != 4"),
        ("class = lamp", "class = 'lamp'"),
        ('class = "lamp"', "class = 'lamp'"),
        ("class = 'it''s'", "class = 'it''s'"),
        ("class = 2024-05", "class = '2024-05'"),
        ("class in (001, 'and', a.b-c)", "class in ('001', 'and', 'a.b-c')"),
        ("not (camera = 'X100V')", "camera != 'X100V'"),
        ("not camera not like '%x'", "not camera not like '%x'"),
        ("taken between 2024-05 and '2024-06-01 10:30'", "taken >= 2024-05 and taken <= 2024-06-01T10:30"),
        ("width not between 1 and 2 or id = 3", "not (width >= 1 and width <= 2) or id = 3"),
        ("size > 2MB and size<1.5 gb", "size > 2000000 and size < 1500000000"),
        ("size = 3 and size < 4kB or size > 0.5B", "size = 3 and size < 4000 or size > 0.5"),
        ("format in (PNG, jpg, 'HEIC')", "format in ('png', 'jpeg', 'heif')"),
        ("price is missing or stars is not missing", "price is missing or stars is present"),
        ("not (price is present)", "not price is present"),
        ("not (width > 3)", "not width > 3"),
        ('"odd column name" = 3', '"odd column name" = 3'),
        ('"price" = 3 and "size" = 4', 'price = 3 and "size" = 4'),
        ('"a""b" = -.5', '"a""b" = -0.5'),
        ("shot = 2024-05-01T10 and shot = 2024", "shot = 2024-05-01T10 and shot = 2024"),
        ("name !~ 'IMG_' and name ~ b", "name !~ 'IMG_' and name ~ 'b'"),
        (
            "(id = 1 or id = 2) and (id = 3 and (id = 4 or id = 5))",
            "(id = 1 or id = 2) and id = 3 and (id = 4 or id = 5)",
        ),
        ("id = 1 or (id = 2 or id = 3) and id = 4", "id = 1 or (id = 2 or id = 3) and id = 4"),
        ("not id = 1 and id = 2 or id = 3", "id != 1 and id = 2 or id = 3"),
        ("not (id = 1 and id = 2)", "not (id = 1 and id = 2)"),
        ("größe > 3", "größe > 3"),
        ("price < 1e-9 and price > 1e20", "price < 1e-09 and price > 1e+20"),
    ],
)
def test_a_condition_has_a_canonical_text_that_parses_to_itself(text: str, spelling: str):
    condition = parse(text)
    assert str(condition) == spelling
    assert parse(spelling) == condition


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--where: expected a field at column 1: ▮; write a condition such as width >= 800"),
        ("width >= ", "--where: expected a number after '>=' at column 10: width >= ▮; write a number such as 800"),
        ("width > height", "expected a number after '>' at column 9: width > ▮height"),
        ("width", "expected a comparison after 'width' at column 6: width▮"),
        ("width not 3", "expected 'in', 'like', 'glob' or 'between' after 'not' at column 11"),
        ("width is 3", "expected 'missing' after 'is' at column 10"),
        ("width between 3 or 4", "expected 'and' after '3' at column 17: width between 3 ▮or 4"),
        ("id in 3", "expected '(' after 'in' at column 7"),
        ("id in (3 4)", "expected ')' after '3' at column 10: id in (3 ▮4); write commas"),
        ("id in ()", "expected a number after '(' at column 8"),
        ("camera = and", "expected a value after '=' at column 10: camera = ▮and"),
        ("'class' = 3", "expected a field at column 1: ▮'class' = 3"),
        ("or = 3", "expected a field at column 1"),
        ('"" = 3', "expected a field at column 1"),
        ("camera = Leica M6", "after 'Leica' at column 16: camera = Leica ▮M6; put a text of several words"),
        ("(id = 1", "expected ')' after '1' at column 8: (id = 1▮; close the '(' at column 1"),
        ("id = 1)", "at column 7: id = 1▮); remove this ')' or add the '('"),
        ("size > 2 TB", "at column 10: size > 2 ▮TB; use B, kB, MB or GB as the unit"),
        ("width > 2kB", "expected 'and', 'or' or the end of the condition after '2' at column 10"),
        ("folder = holiday/2024", "unexpected character at column 17: folder = holiday▮/2024"),
        ("name = 'it", "missing closing quote for the quote at column 8: name = ▮'it"),
        ("name = 'it''", "missing closing quote for the quote at column 8"),
        ('"name = 3', "missing closing quote for the quote at column 1"),
        ("taken = 2024-13", "invalid date (month must be in 1..12) at column 9: taken = ▮2024-13"),
        ("taken = 2023-02-29", "invalid date (day is out of range for month)"),
        ("taken = 2024-5-1", "invalid date (not in the form of a date)"),
        ("taken = 0001", "invalid date (the year must be in 1000..2999)"),
        ("taken = yesterday", "expected a date after '=' at column 9"),
        ("price = 12-34", "or put the text between quotes"),
        ("format = pgn", "expected a format after '=' at column 10: format = ▮pgn; use one of avif, bmp"),
        ("format ~ 'p'", "format is not a text field at column 8: format ▮~ 'p'; use one of =, !=, in"),
        ("width like '8%'", "width is not a text field"),
        ("path > 'a'", "path has no order at column 6: path ▮> 'a'; use one of =, !=, in, like, glob, ~"),
        ("name glob 'a[b'", "missing ']' in the pattern at column 11"),
        ("name glob '[]'", "missing ']' in the pattern"),
        ("width = 1e999", "number out of range at column 9"),
        ("id = 1; drop", "unexpected character at column 7: id = 1▮; drop"),
        ("name = 'a\0b'", "invalid character at column 10"),
        ("name = '\ud800'", "invalid character at column 9"),
        ("widht > 3", "unknown field 'widht' at column 1; did you mean 'width'? fields: path, folder, name"),
        ("id = 1 and prize < 3", "unknown field 'prize' at column 12; did you mean 'price'"),
        ("wxyz = 3", "'wxyz' at column 1; fields: path, folder"),
        ("Price = 3", "user columns: odd column name, price, stars"),
    ],
)
def test_an_error_shows_the_position_and_the_advice(text: str, message: str):
    assert message in error_of(text)


def test_an_error_quotes_one_short_line():
    shown = error_of("id = 1 and\n\x1b[31m" + "x" * 3000 + " y")
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert len(shown) < 300
    assert len(error_of("x" * 4000 + " = 1")) < 400


def test_a_collection_without_user_columns_says_how_to_add_some():
    with pytest.raises(UsageError, match="no user columns; add some with `simsearch annotate`"):
        compile_sql(parse("price < 3"), [])


def test_many_columns_are_not_all_listed():
    with pytest.raises(UsageError, match=r"column_019 and 980 more$"):
        compile_sql(parse("price < 3"), [f"column_{number:03}" for number in range(1000)])


@pytest.mark.parametrize("opening", ["(", "not ", "(not(", "id=1 and("])
@pytest.mark.parametrize("n", [17, 400, 100_000])
def test_deep_nesting_is_refused(opening: str, n: int):
    message = error_of(opening * n)
    assert "more than 16 nested" in message or "shorten it to 4096" in message


def test_sixteen_levels_are_accepted():
    assert str(parse("(" * 16 + "id = 1" + ")" * 16)) == "id = 1"


def test_long_conditions_are_refused():
    assert "characters; shorten it to 4096" in error_of("id = " + "1" * 1_000_000)
    assert "more than 500 values" in error_of(f"id in ({'1,' * 1000}1)")
    assert "more than 500 values" in error_of(" or ".join(["id=1"] * 501))
    assert "more than 500 values" in error_of("or ".join(["a~b "] * 501))


PIECES = [
    *"()=<>~,",
    *(" and ", " or ", " not ", " in ", " between ", " like ", " glob ", " is ", "missing", "present", "!=", "!~"),
    *("width", "class", "path", "folder", "name", "taken", "modified", "format", "size", "price", '"odd column name"'),
    *("3", "-1.5", "2024-05", "png", "'it''s'", "'%_*?[^]a-z]'", "'/a/b*'", "MB", "'", '"', "é", "\udce9"),
]
TESTS = st.sampled_from(
    ["width > 3", "class = 'a'", "price ~ 'x'", "taken < 2024", "format in (png, gif)", "stars is missing"]
)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        inner.map("not {}".format),
        inner.map("({})".format),
        st.lists(inner, min_size=2, max_size=3).map(" and ".join),
        st.lists(inner, min_size=2, max_size=3).map(" or ".join),
    ),
    max_leaves=12,
)


@settings(max_examples=10 * settings().max_examples)
@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), CONDITIONS, st.text(max_size=30)))
def test_any_text_is_a_valid_condition_or_a_usage_error(text: str):
    try:
        condition = parse(text)
        sql, parameters = compile_sql(condition, COLUMNS)
    except UsageError:
        return
    assert parse(str(condition)) == condition
    assert sql.count("?") == len(parameters)
