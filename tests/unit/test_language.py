"""The query language: every verb and key, and errors that point at the word."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.errors import InvalidQuery
from gapless.instants import format_instant
from gapless.protocol.language import SEARCH_KEYS, format_line, parse_line
from gapless.protocol.messages import (
    FRESH_WORDS,
    ById,
    BySource,
    ByState,
    ByTags,
    ByUpdatedAtRange,
    ByUrl,
    DateRange,
    Fresh,
    GetAllEntities,
    GetEntities,
    GetEntity,
    GetReport,
    Param,
    ProviderList,
    ProviderRequest,
    Request,
    SearchEntities,
    Ticker,
)

NOW = 1_757_030_400_000


@pytest.mark.parametrize("line", ["providers", "provider list", "  PROVIDERS ", "Provider LIST"])
def test_provider_list(line: str) -> None:
    """Both spellings ask for the providers."""
    assert parse_line(line) == ProviderList()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("get sample:A:1..2", GetEntity("sample:A:1..2")),
        ("GET x=y", GetEntity("x=y")),
        ("get-many a,b,c", GetEntities(("a", "b", "c"))),
        ("getmany a", GetEntities(("a",))),
        (r'get-many "a\,b",c', GetEntities(("a,b", "c"))),
        ("all", GetAllEntities()),
        ("get-all Limit=5 offset=10", GetAllEntities(5, 10)),
        ("search ticker=AAPL", SearchEntities((Ticker("AAPL"),))),
        ("search TICKER=aapl", SearchEntities((Ticker("aapl"),))),
        ("search id=1 limit=0", SearchEntities((ById("1"),), 0)),
        ("search source=s state=ready", SearchEntities((BySource("s"), ByState("ready")))),
        ("search tags=a=1,b", SearchEntities((ByTags(("a=1", "b")),))),
        ('search tag="a b,c"', SearchEntities((ByTags(("a b", "c")),))),
        ("search url=http://x/?a=1", SearchEntities((ByUrl("http://x/?a=1"),))),
        ("search date=2025-01-01..", SearchEntities((DateRange("2025-01-01", ""),))),
        ("search date_range=..now", SearchEntities((DateRange("", "now"),))),
        ('search daterange="-2d..-1d"', SearchEntities((DateRange("-2d", "-1d"),))),
        ("search date=30d", SearchEntities((DateRange("-30d", "now"),))),
        ("search updated=-12h", SearchEntities((ByUpdatedAtRange("-12h", "now"),))),
        ("search updated_at=..", SearchEntities((ByUpdatedAtRange("", ""),))),
        ("search Interval=1H", SearchEntities((Param("interval", "1H"),))),
        ("search ticker='BRK B'", SearchEntities((Ticker("BRK B"),))),
        ("search ticker=O'Neil", SearchEntities((Ticker("O'Neil"),))),
        (r'search ticker="a\"b\\c"', SearchEntities((Ticker('a"b\\c'),))),
        ("search ticker=", SearchEntities((Ticker(""),))),
        ("report url=http://x/?a=1", GetReport("http://x/?a=1")),
        ("report http://x/?a=1", GetReport("http://x/?a=1")),
        ("record record=x", GetReport("x")),
        (r'report "C:\My Data\a.csv"', GetReport(r"C:\My Data\a.csv")),
    ],
)
def test_verbs_and_keys(words: str, expected: Request) -> None:
    """Each verb, key, alias and way of quoting gives its request."""
    assert parse_line(f"provider p {words}") == ProviderRequest("p", expected)


@pytest.mark.parametrize("word", FRESH_WORDS)
def test_a_range_may_say_how_fresh(word: Fresh) -> None:
    """The word is no filter, and may stand anywhere."""
    for words in (f"ticker=A FRESH={word}", f"fresh='{word}' ticker=A"):
        expected = ProviderRequest("p", SearchEntities((Ticker("A"),)), word)
        assert parse_line(f"provider p search {words}") == expected


@pytest.mark.parametrize(
    ("line", "expected", "marked"),
    [
        ("", "ends too early", ""),
        ("foo bar", "`providers` or `provider`", "foo"),
        ("providers x", "nothing more", "x"),
        ("provider", "provider's name", ""),
        ("provider p", "one of get, get-many", ""),
        ("provider p fetch x", "one of get, get-many", "fetch"),
        ("provider p get", "entity's id", ""),
        ("provider p get a b", "takes one id", "b"),
        ("provider p get-many a, b", "no spaces", "b"),
        ("provider p get-many a,,b", "one id is empty", "a,,b"),
        ("provider p all limit=-1", "limit=N", "limit=-1"),
        ("provider p all limit=1 limit=2", "more than once", "limit=2"),
        ("provider p all limit=9999999999999999999", "limit=N", "limit=9999999999999999999"),
        ("provider p all size=1", "limit=N or offset=N", "size=1"),
        ("provider p search", "at least one filter", ""),
        ("provider p search limit=5", "at least one filter", ""),
        ("provider p search AAPL", "KEY=VALUE", "AAPL"),
        ("provider p search =5", "KEY=VALUE", "=5"),
        ("provider p search date=2025-01-01", "date=A..B", "date=2025-01-01"),
        ("provider p search ticker=A date=x..y", "start `x`", "date=x..y"),
        ("provider p search date=now..-1d", "not before", "date=now..-1d"),
        ("provider p search ticker='A", "not closed", "'"),
        ("provider p search ticker=A fresh=soon", "one of fresh=held", "fresh=soon"),
        ("provider p search ticker=A fresh=HELD", "one of fresh=held", "fresh=HELD"),
        ("provider p search fresh=now ticker=A fresh=now", "more than once", "fresh=now"),
        ("provider p search fresh=held", "goes with a range", ""),
        ("provider p search state=ready fresh=held", "goes with a range", ""),
        ("provider p all fresh=held", "limit=N or offset=N", "fresh=held"),
        ("provider p report", "url=URL", ""),
        ("provider p report url=", "url=URL", "url="),
    ],
)
def test_errors_point_at_the_word(line: str, expected: str, marked: str) -> None:
    """An error says what was expected, shows the line and marks the word."""
    with pytest.raises(InvalidQuery, match=expected) as caught:
        parse_line(line, now_ms=NOW)
    _, shown, mark = caught.value.message.split("\n")
    at = mark.index("^")
    assert shown == f"  {line}"
    assert shown[at : at + mark.count("^")] == marked


def test_errors_in_long_lines_show_only_the_surroundings() -> None:
    """A line of a megabyte does not come back as an error of a megabyte."""
    line = "provider p search " + "ticker=A " * 50_000 + "bad " + "ticker=A " * 50_000
    with pytest.raises(InvalidQuery) as caught:
        parse_line(line)
    _, shown, mark = caught.value.message.split("\n")
    assert len(caught.value.message) < 500
    assert shown[mark.index("^") :].startswith("bad ")


@given(st.text(max_size=60))
def test_any_text_is_a_query_or_an_invalid_query(text: str) -> None:
    """No line raises anything but InvalidQuery."""
    for line in (text, f"provider p search {text}", f"provider p get-many {text}"):
        with contextlib.suppress(InvalidQuery):
            parse_line(line, now_ms=NOW)


texts = st.text(max_size=12)
items = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4).map(tuple)
counts = st.none() | st.integers(0, 2**63 - 1)
bounds = st.sampled_from(["", "now", "-30d", "-12h", "2025-01-01"]) | st.integers(
    0, 4_000_000_000_000
).map(format_instant)
params = st.from_regex(r"[a-z_][a-z0-9_.-]{0,8}", fullmatch=True).filter(
    lambda name: name not in SEARCH_KEYS and not name.startswith(("tag", "date", "updated"))
)
filters = st.one_of(
    st.builds(ById, texts),
    st.builds(BySource, texts),
    st.builds(ByState, texts),
    st.builds(ByTags, items),
    st.builds(Ticker, texts),
    st.builds(DateRange, bounds, bounds),
    st.builds(ByUpdatedAtRange, bounds, bounds),
    st.builds(ByUrl, texts),
    st.builds(Param, params, texts),
)
requests = st.one_of(
    st.builds(GetEntity, texts),
    st.builds(GetEntities, items),
    st.builds(GetAllEntities, counts, counts),
    st.builds(SearchEntities, st.lists(filters, min_size=1, max_size=5).map(tuple), counts),
    st.builds(GetReport, st.text(min_size=1, max_size=30)),
)


ranges = st.builds(
    lambda ticker, others: SearchEntities((*others, Ticker(ticker))),
    texts,
    st.lists(filters, max_size=3),
)


@given(
    st.just(ProviderList())
    | st.builds(ProviderRequest, texts, requests)
    | st.builds(ProviderRequest, texts, ranges, st.sampled_from(FRESH_WORDS))
)
def test_a_formatted_query_reads_as_the_same_query(query: ProviderList | ProviderRequest) -> None:
    """`format_line` is the inverse of `parse_line`."""
    assert parse_line(format_line(query)) == query


@pytest.mark.parametrize(
    "request_",
    [
        SearchEntities(()),
        SearchEntities((Param("ticker", "A"),)),
        SearchEntities((Param("Upper", "A"),)),
        SearchEntities((DateRange("gestern", ""),)),
        GetEntities(("a", "")),
        GetReport(""),
    ],
)
def test_what_cannot_be_said_is_refused(request_: Request) -> None:
    """A query that the language has no words for is never written as another one."""
    with pytest.raises(InvalidQuery, match="cannot say this"):
        format_line(ProviderRequest("p", request_))


def test_how_fresh_what_is_no_range_is_wanted_cannot_be_said() -> None:
    """The language has the word for searches by ticker alone."""
    for request_ in (GetEntity("a"), GetAllEntities(), SearchEntities((ById("a"),))):
        with pytest.raises(InvalidQuery, match="cannot say this"):
            format_line(ProviderRequest("p", request_, "now"))
