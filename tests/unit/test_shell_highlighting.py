"""Lines as they look while they are typed: what is wrong for good, what may become right."""

from __future__ import annotations

import pytest

from gapless.protocol.times import parse_instant
from gapless.shell.completion import Known
from gapless.shell.highlighting import Piece, invalid, pieces

NOW = parse_instant("2025-09-05", now_ms=0)
KNOWN = Known(
    providers=("sample", "yahoo_finance"),
    params={"sample": {}, "yahoo_finance": {"interval": ("1d", "1h"), "adjust": ()}},
    tickers={"sample": ("AAPL",)},
)
SEARCH = "provider sample search ticker=AAPL"
YAHOO = "provider yahoo_finance search ticker=A"


def wrong(line: str, known: Known = KNOWN) -> str | None:
    """Return the part of a line that is marked as wrong."""
    span = invalid(line, known, NOW)
    return None if span is None else line[span.start : span.end]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("x", "x"),
        ("hello world", "hello"),
        ("providerx sample", "providerx"),
        ("providers x", "x"),
        ("provider nosuch", "nosuch"),
        ("provider nosuch ", "nosuch"),
        ("provider nosuch se", "nosuch"),
        ("provider nosuch search ticker=A date=2010-01-01..", "nosuch"),
        ("provider SAMPLE search ", "SAMPLE"),
        ("provider list all ", "list"),
        ("provider sample fetch", "fetch"),
        ("provider sample sear ticker=A", "sear"),
        ("provider sample get a b", "b"),
        ("provider sample all offset=x", "offset=x"),
        ("provider sample all ticker=A", "ticker=A"),
        (f"{SEARCH} foo", "foo"),
        (f"{SEARCH} tick date=30d", "tick"),
        (f"{SEARCH} interval=1h", "interval=1h"),
        (f"{YAHOO} nosuch=1 date=30d", "nosuch=1"),
        (f"{YAHOO} nosuch=", "nosuch="),
        (f"{YAHOO} interval=9z", "interval=9z"),
        (f"{YAHOO} interval=1 date=30d", "interval=1"),
        (f"{YAHOO} interval=1H ", "interval=1H"),
        (f"{SEARCH} date=yesterday..", "date=yesterday.."),
        (f"{SEARCH} date=2010-01-32.. ", "date=2010-01-32.."),
        (f"{SEARCH} date=2010 limit=1", "date=2010"),
        (f"{SEARCH} date=2012-01-01..2011-01-01 ", "date=2012-01-01..2011-01-01"),
        (f"{SEARCH} date=2012-01-01..2012-01-01 limit=1", "date=2012-01-01..2012-01-01"),
        (f"{SEARCH} updated=2099-01-01.. ", "updated=2099-01-01.."),
        (f"{SEARCH} limit=many", "limit=many"),
        (f"{SEARCH} limit=- ", "limit=-"),
        ("provider sample get-many a,,b ", "a,,b"),
        ("provider sample search tags=a, limit=1", "tags=a,"),
        ("provider nosuch search 'a b", "nosuch"),
    ],
)
def test_what_cannot_become_right_is_marked(line: str, part: str) -> None:
    """Words that are whole and wrong, and begun ones that nothing known begins with."""
    assert wrong(line) == part


@pytest.mark.parametrize(
    "line",
    [
        "",
        "   ",
        "p",
        "PROV",
        "providers",
        "provider ",
        "provider l",
        "provider list",
        "provider sam",
        "provider SAM",
        "provider sample ",
        "provider sample s",
        "provider sample getm",
        "provider sample get-a",
        "provider sample rec",
        "provider sample get ",
        "provider sample get anything",
        "provider sample get-many a,",
        "provider sample all lim",
        "provider sample all limit=",
        "provider sample all offset=",
        "provider sample report ",
        "provider sample report url=",
        "provider sample search ",
        "provider sample search tick",
        "provider sample search ticker=",
        "provider sample search ticker=nosuch ",
        "provider sample search tags=",
        "provider sample search tags=a,",
        "provider sample search TAG=a,b",
        "provider sample search date_r",
        "provider sample search updated_",
        f"{SEARCH} tick",
        f"{SEARCH} limit=",
        f"{SEARCH} fresh=",
        f"{SEARCH} fresh=he",
        f"{SEARCH} fresh=held ",
        "provider sample search fresh=now ",
        "provider sample search fresh=now tic",
        f"{SEARCH} date=",
        f"{SEARCH} date=2010-0",
        f"{SEARCH} date=2010-01-01.",
        f"{SEARCH} date=2012-01-01..2011",
        f"{SEARCH} date=2012-01-01T00:00",
        f"{SEARCH} date=30",
        f"{SEARCH} date=30D",
        f"{SEARCH} date=-30d..no",
        f"{SEARCH} daterange=2010-01-01..2011-01-01 ",
        f"{YAHOO} inter",
        f"{YAHOO} interval=",
        f"{YAHOO} interval=1",
        f"{YAHOO} interval=1h ",
        f"{YAHOO} INTERVAL=1h ",
        f"{YAHOO} adjust=anything ",
        'provider sample search ticker="A',
        'provider sample search ticker="A B ',
        "provider sample search ticker='A",
        'provider sample search ticker="A\\',
        'provider sample search ticker="A B" ',
    ],
)
def test_what_may_be_right_is_not_marked(line: str) -> None:
    """A line that only ends too early is no mistake, nor is a word that has just begun."""
    assert wrong(line) is None


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (":nosuch", ":nosuch"),
        (":nosuch x", ":nosuch"),
        (": x", ":"),
        (":p x", ":p"),
        (":", None),
        (":p", None),
        (":PLO", None),
        (":plot close", None),
        (":plo close", None),
        (":export nosuch", None),
    ],
)
def test_commands_are_marked_by_their_names(line: str, part: str | None) -> None:
    """A command that is none is wrong; one that is not written out is clear or begun."""
    assert wrong(line) == part


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (f"{SEARCH} | jq nosuch=1", None),
        ("providers |", None),
        (f"{YAHOO} interval=1 | jq .", "interval=1"),
        (f"{SEARCH} date=2010 | jq .", "date=2010"),
        ("provider sample sea | jq .", "sea"),
        (":nosuch | jq .", ":nosuch"),
    ],
)
def test_only_what_is_before_a_pipe_is_judged(line: str, part: str | None) -> None:
    """The command of the system is its own business; before it every word is whole."""
    assert wrong(line) == part


@pytest.mark.parametrize(
    "line", ["provider nosuch search a=b ", "provider nosuch search ticker=A a", "provider x all"]
)
def test_without_knowing_the_hub_nothing_of_it_is_wrong(line: str) -> None:
    """Before the hub has answered any provider and any parameter may be there."""
    assert wrong(line, Known()) is None


def test_parameters_of_a_provider_that_is_not_told_may_be_any() -> None:
    """The names of the providers alone say nothing on their parameters."""
    known = Known(("sample",))
    assert wrong("provider sample search ticker=A interval=1h ", known) is None
    assert wrong("provider sample search ticker=A inter", known) is None
    assert wrong("provider other search ticker=A ", known) == "other"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "provider sample search ticker=AAPL",
            [
                ("keyword", "provider"),
                ("plain", " "),
                ("name", "sample"),
                ("plain", " "),
                ("keyword", "search"),
                ("plain", " "),
                ("key", "ticker="),
                ("value", "AAPL"),
            ],
        ),
        ("  providers ", [("plain", "  "), ("keyword", "providers"), ("plain", " ")]),
        ("provider nosuch", [("keyword", "provider"), ("plain", " "), ("invalid", "nosuch")]),
        (
            "providers | jq 'a | b'",
            [("keyword", "providers"), ("plain", " "), ("pipe", "| jq 'a | b'")],
        ),
        (":plot close", [("command", ":plot"), ("plain", " "), ("value", "close")]),
        (
            ":loadpy file=a.py",
            [("command", ":loadpy"), ("plain", " "), ("key", "file="), ("value", "a.py")],
        ),
        (":nosuch", [("invalid", ":nosuch")]),
        (
            ":wat 5 providers",
            [
                ("command", ":wat"),
                ("plain", " "),
                ("value", "5"),
                ("plain", " "),
                ("keyword", "providers"),
            ],
        ),
        (
            ":plan provider sample",
            [
                ("command", ":plan"),
                ("plain", " "),
                ("keyword", "provider"),
                ("plain", " "),
                ("name", "sample"),
            ],
        ),
        ("", []),
    ],
)
def test_lines_are_cut_into_pieces(line: str, expected: list[tuple[str, str]]) -> None:
    """Every part has its look, and all of them are the line."""
    found = pieces(line, KNOWN, NOW)
    assert found == [Piece(*one) for one in expected]  # type: ignore[arg-type]  # kinds as texts
    assert "".join(piece.text for piece in found) == line


@pytest.mark.parametrize(
    ("line", "marked"),
    [
        (f"{YAHOO} interval=9z ", ["interval=", "9z"]),
        (f"{SEARCH} date=2010 | jq", ["date=", "2010"]),
        (f'{SEARCH} "nosuch=1" ', ['"nosuch=1"']),
        (f"{SEARCH} nosuch= date=30d", ["nosuch="]),
    ],
)
def test_a_wrong_word_is_marked_with_its_key_and_its_value(line: str, marked: list[str]) -> None:
    """What is wrong in a pair is told by the pair."""
    found = pieces(line, KNOWN, NOW)
    assert [piece.text for piece in found if piece.kind == "invalid"] == marked
