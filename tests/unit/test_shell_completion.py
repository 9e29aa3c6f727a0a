"""What may come next on a line: from verbs to dates, and what a suggestion makes of the line."""

from __future__ import annotations

import pytest

from gapless.protocol.language import SEARCH_KEYS, VERBS
from gapless.protocol.messages import FRESH_WORDS
from gapless.protocol.times import parse_instant
from gapless.shell.administration import choices_of
from gapless.shell.commands import COMMANDS
from gapless.shell.completion import Known, complete

NOW = parse_instant("2025-09-05T12:00:00Z", now_ms=0)
KNOWN = Known(
    providers=("sample", "yahoo_finance", "my own"),
    params={
        "sample": {},
        "yahoo_finance": {"interval": ("1d", "1h", "1m"), "adjust": ()},
        "my own": {"Kind": ("a b", "c")},
    },
    tickers={
        "sample": ("AAPL", "AMZN", "BRK B", "O'NEIL"),
        "yahoo_finance": ("MSFT", "^GSPC"),
    },
    plugins=("mine", "my own"),
    saved=("daily", "last year"),
)


def texts(before: str, known: Known = KNOWN) -> list[str]:
    """Return what is suggested."""
    return [one.text for one in complete(before, known, NOW)]


def applied(before: str, known: Known = KNOWN) -> list[str]:
    """Return the lines that the suggestions make."""
    return [before[: one.start] + one.text for one in complete(before, known, NOW)]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", ["provider", "providers"]),
        ("  pro", ["  provider", "  providers"]),
        ("PROVIDERS", ["providers"]),
        (
            "provider ",
            ["provider sample", "provider yahoo_finance", 'provider "my own"', "provider list"],
        ),
        ("provider SAM", ["provider sample"]),
        ("PROVIDER y", ["PROVIDER yahoo_finance"]),
        ("provider my", ['provider "my own"']),
        ('provider "my o', ['provider "my own"']),
        ("provider sample ", [f"provider sample {verb}" for verb in VERBS]),
        ("provider sample GE", ["provider sample get", "provider sample get-many"]),
        ("provider sample all ", ["provider sample all limit=", "provider sample all offset="]),
        ("provider sample get-all l", ["provider sample get-all limit="]),
        ("provider sample all limit=5 ", ["provider sample all limit=5 offset="]),
        ("provider sample report ", ["provider sample report url="]),
        ("provider sample RECORD u", ["provider sample RECORD url="]),
        (
            "provider sample search t",
            ["provider sample search ticker=", "provider sample search tags="],
        ),
        ("provider sample search TIC", ["provider sample search ticker="]),
        (
            "provider sample search ticker=A",
            ["provider sample search ticker=AAPL", "provider sample search ticker=AMZN"],
        ),
        ("provider sample search TICKER=aa", ["provider sample search TICKER=AAPL"]),
        ("provider sample search ticker=B", ['provider sample search ticker="BRK B"']),
        ('provider sample search ticker="BRK ', ['provider sample search ticker="BRK B"']),
        ('provider sample search "ticker=BRK', ['provider sample search ticker="BRK B"']),
        ("provider sample search ticker=O", ['provider sample search ticker="O\'NEIL"']),
        ("provider yahoo_finance search ticker=^", ["provider yahoo_finance search ticker=^GSPC"]),
        (
            "provider yahoo_finance search ticker=MSFT ",
            [
                f"provider yahoo_finance search ticker=MSFT {key}"
                for key in ("date=", "interval=", "adjust=", "fresh=")
            ],
        ),
        (
            "provider yahoo_finance search ticker=MSFT interval=1",
            [
                f"provider yahoo_finance search ticker=MSFT interval={choice}"
                for choice in ("1d", "1h", "1m")
            ],
        ),
        (
            "provider yahoo_finance search INTERVAL=1H",
            ["provider yahoo_finance search INTERVAL=1h"],
        ),
        (
            "provider sample search ticker=AAPL fresh=",
            [f"provider sample search ticker=AAPL fresh={word}" for word in FRESH_WORDS],
        ),
        ("provider sample search FRESH=h", ["provider sample search FRESH=held"]),
        ("provider sample search state=r", ["provider sample search state=ready"]),
        ("provider sample search source=y", ["provider sample search source=yahoo_finance"]),
    ],
)
def test_queries_are_completed(before: str, expected: list[str]) -> None:
    """Each stage offers what fits, in the place of the word under the cursor."""
    assert applied(before) == expected


def test_all_keys_are_offered_and_those_of_a_range_come_first() -> None:
    """A search begins with its ticker; what is there already is not offered again."""
    found = texts("provider sample search ")
    assert sorted(found) == sorted(f"{key}=" for key in SEARCH_KEYS)
    assert found[:2] == ["ticker=", "date="]
    assert "state=" not in texts("provider sample search state=ready ")


@pytest.mark.parametrize("key", ["date", "daterange", "DATE_RANGE", "updated", "updated_at"])
def test_dates_are_offered_for_ranges(key: str) -> None:
    """Ranges that people ask for, counted from today."""
    found = texts(f"provider sample search {key}=")
    assert {"30d", "3mo", "1y", "ytd", "max", "2024-01-01..2025-01-01"} <= {*found}
    assert texts(f"provider sample search {key}=3") == ["30d", "3mo"]


@pytest.mark.parametrize(
    ("value", "ends"),
    [
        ("2010-05-01..", ["", "2025-09-05", "2011-01-01"]),
        ("2010-05-01..2", ["2025-09-05", "2011-01-01"]),
        ("2010-05-01..2011", ["2011-01-01"]),
        ("0009-05-01..", ["", "2025-09-05", "0010-01-01"]),
        ("-30d..", ["", "2025-09-05"]),
        ("..", ["", "2025-09-05"]),
        ("2099-01-01..", ["2100-01-01"]),
        ("9999-01-01..", []),
        ("2010..", []),
        ("²²²²..", []),
        ("..x", []),
    ],
)
def test_a_range_that_is_begun_gets_ends_that_lie_behind_it(value: str, ends: list[str]) -> None:
    """No end is offered that makes no range with the beginning."""
    start = value.partition("..")[0]
    assert texts(f"provider sample search date={value}") == [f"{start}..{end}" for end in ends]


@pytest.mark.parametrize(
    "before",
    [
        "x",
        "providers ",
        "x sample ",
        "provider nosuch search ticker=",
        "provider sample get ",
        "provider sample get-many a,",
        "provider sample search limit=",
        "provider sample search tags=",
        "provider sample search nosuch=",
        "provider sample search ticker=ZZZ",
        "provider yahoo_finance search adjust=",
        "provider sample nosuch ",
        "provider sample report http://x ",
        "provider list ",
        "provider list get ",
        "provider sample search ticker=AAPL | ",
        "provider sample search ticker=AAPL | t",
        "providers | p",
        ":nosuch ",
        ":quit ",
        ":s ",
    ],
)
def test_nothing_is_offered_where_nothing_fits(before: str) -> None:
    """A wrong guess would be worse than none."""
    assert texts(before) == []


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (":he", [":help"]),
        (":PL", [":plugins", ":plan", ":plot"]),
        (" :ti", [" :timing"]),
        (":help pl", [":help plugins", ":help plan", ":help plot"]),
        (":auth ", [":auth clear", ":auth show"]),
        (":timing o", [":timing on", ":timing off"]),
        (":format N", [":format ndjson"]),
        (":form nd", [":form ndjson"]),
        (":reload m", [":reload mine", ':reload "my own"']),
        (":unl mi", [":unl mine"]),
        (":run l", [':run "last year"']),
        (":save d", [":save daily"]),
        (":set ", [":set rows", ":set strict", ":set timeout"]),
        (":set strict o", [":set strict on", ":set strict off"]),
        (":loadpy f", [":loadpy file="]),
        (":loadpy file=a.py class=A n", [":loadpy file=a.py class=A name="]),
        (":coverage s", [":coverage sample"]),
        (":cov sample AA", [":cov sample AAPL"]),
        (":coverage sample BRK", [':coverage sample "BRK B"']),
        (":coverage yahoo_finance MSFT i", [":coverage yahoo_finance MSFT interval="]),
        (":coverage yahoo_finance MSFT interval=1h", [":coverage yahoo_finance MSFT interval=1h"]),
        (":coverage yahoo_finance MSFT INTERVAL=1H", [":coverage yahoo_finance MSFT INTERVAL=1h"]),
        (":plan provider sa", [":plan provider sample"]),
        (":plan pro", [":plan provider", ":plan providers"]),
        (
            ":watch 5 provider sample search ticker=AAP",
            [":watch 5 provider sample search ticker=AAPL"],
        ),
        (":wat 5 provider sa", [":wat 5 provider sample"]),
    ],
)
def test_commands_are_completed(before: str, expected: list[str]) -> None:
    """Commands and what they take, also where the command is not written out."""
    assert applied(before) == expected


@pytest.mark.parametrize(
    "before",
    [
        ":reload mine ",
        ":help plot ",
        ":set rows ",
        ":set rows 5 ",
        ":watch ",
        ":plan :he",
        ":watch 5 :he",
        ":auth show ",
        ":loadpy file=a.py fi",
        ":coverage sample AAPL x",
        ":set strict on ",
    ],
)
def test_commands_take_no_more_than_they_do(before: str) -> None:
    """Behind what a command takes nothing is offered, and no command within another."""
    assert texts(before) == []


def test_every_command_is_offered_with_what_it_does() -> None:
    """A colon lists them all."""
    found = complete(":", KNOWN, NOW)
    assert [(one.text, one.about) for one in found] == [
        (f":{command.name}", command.about) for command in COMMANDS.values()
    ]


def test_parameters_that_differ_in_case_are_still_their_own() -> None:
    """A parameter in capitals offers its choices, in quotes where they need them."""
    before = 'provider "my own" search Kind=a'
    known = Known(("my own",), {"my own": {"kind": ("a b", "c")}})
    assert applied(before, known) == ['provider "my own" search Kind="a b"']


def test_so_many_tickers_are_cut() -> None:
    """A menu of thousands helps nobody, and costs time with every key."""
    many = Known(("s",), {"s": {}}, {"s": tuple(f"T{number}" for number in range(5_000))})
    assert len(texts("provider s search ticker=", many)) == 200


def test_nothing_known_still_offers_the_language() -> None:
    """Without a hub the words of the language are there."""
    assert texts("provider ", Known()) == ["list"]
    assert texts("provider x search d", Known()) == ["date="]
    assert texts("provider x search ticker=", Known()) == []


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        ({"choices": ["1d", "1h"], "aliases": {"60m": "1h"}}, ("1d", "1h", "60m")),
        ({"choices": [], "aliases": {"x": "y"}}, ()),
        ({}, ()),
        ({"choices": ["a"], "aliases": None}, ("a",)),
    ],
)
def test_other_spellings_of_choices_are_known(
    param: dict[str, object], expected: tuple[str, ...]
) -> None:
    """What the hub takes is neither kept from completion nor marked as wrong."""
    assert choices_of(param) == expected
