"""Every state of the search page has a URL, and its links lead to the right state."""

from __future__ import annotations

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsearch.errors import UsageError
from simsearch.web.page_state import PageState

UPLOAD = "0123456789abcdef" * 2
picks = st.one_of(st.integers(1, 2**63 - 1), st.text("0123456789abcdef", min_size=32, max_size=32))
states = st.builds(
    PageState,
    like=st.lists(picks, unique=True, max_size=8).map(tuple),
    unlike=st.lists(picks, unique=True, max_size=8).map(tuple),
    text=st.text(max_size=60).map(str.strip),
    unlike_text=st.sampled_from(["", "a&b=c#d"]),
    crop=st.sampled_from(["", "0.1,0.2,0.3,0.4"]),
    where=st.text(max_size=60).map(str.strip),
    min_similarity=st.one_of(st.just(-1.0), st.floats(0.01, 1).map(lambda number: round(number, 3))),
    backbone=st.sampled_from(["", "builtin", "a&b=c#d"]),
    beside=st.sampled_from(["", "histogram"]),
    offset=st.integers(0, 10_000),
    root=st.sampled_from(["", "/c/my%20photos"]),
)


def read(address: str, root: str = "") -> PageState:
    parameters = urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query, keep_blank_values=True)
    return PageState.parse(parameters, root)


@given(states)
def test_a_url_holds_the_whole_state(state: PageState):
    url = state.build_url(offset=state.offset)
    assert urllib.parse.urlsplit(url).path == state.root + "/"
    assert read(url, state.root) == state


def test_links_change_one_part_of_the_query():
    state = PageState(like=(3, UPLOAD), unlike=(7,), crop="0,0,0.5,0.5", where="width > 5", offset=96)
    assert read(state.build_more_like_url(7)) == PageState(like=(3, UPLOAD, 7), crop="0,0,0.5,0.5", where="width > 5")
    assert read(state.build_less_like_url(3)).like == (UPLOAD,)
    assert read(state.build_less_like_url(3)).unlike == (7, 3)
    assert read(state.build_removal_url(3)) == PageState(
        like=(UPLOAD,), unlike=(7,), where="width > 5"
    )  # the crop was of it
    assert read(state.build_search_url(9)) == PageState(like=(9,), where="width > 5")


def test_a_text_is_a_query_and_stays_with_its_pictures():
    state = PageState(text="lamp", where="width > 5")
    assert not state.is_empty
    assert read(state.build_more_like_url(7)) == PageState(text="lamp", like=(7,), where="width > 5")
    assert read(state.build_search_url(9)) == PageState(like=(9,), where="width > 5")


@pytest.mark.parametrize(
    "query",
    ["like=0", "like=-1", "like=9999999999999999999", "like=u-xyz", f"like={UPLOAD}", "like=%00", "like=1.5",
     "min=2", "min=x", "from=-1", "from=99999999", "from=%C2%B2", "where=" + "x" * 3000, "backbone=" + "x" * 300,
     "text=" + "x" * 1001],
)  # fmt: skip
def test_an_invalid_url_is_a_usage_error(query: str):
    with pytest.raises(UsageError):
        read("/?" + query)
