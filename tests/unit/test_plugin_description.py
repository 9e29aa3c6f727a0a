"""What a plugin may say of itself, and what is refused at load."""

from __future__ import annotations

from typing import Any

import pytest

from gapless.domain.comparing import Basis
from gapless.instants import DAY_MS
from gapless.providers.base import Param
from gapless.providers.plugins.description import (
    DATA_START,
    BadDescription,
    Description,
    parse_description,
)

SAID: list[tuple[str, dict[str, Any], Description]] = [
    ("nothing", {}, Description()),
    ("nulls", {"name": None, "bar": None, "revises": None}, Description()),
    ("names", {"name": "a", "title": "A title"}, Description(name="a", title="A title")),
    (
        "seconds",
        {"final_after": 90, "refresh_after": 0.5},
        Description(None, None, (), "timestamp", (), 90_000, 500),
    ),
    (
        "durations",
        {"final_after": "1d", "bar": "15m", "look_back": "2w", "max_span": "1.5h"},
        Description(final_after=DAY_MS, bar=900_000, look_back=14 * DAY_MS, max_span=5_400_000),
    ),
    (
        "instants",
        {"data_start": "1970-01-02", "data_end": "1970-01-03T00:00:00Z"},
        Description(data_start=DAY_MS, data_end=2 * DAY_MS),
    ),
    (
        "instants in seconds",
        {"data_start": -86_400, "data_end": 0.5},
        Description(data_start=-DAY_MS, data_end=500),
    ),
    ("pace", {"rate": 2, "burst": 5.0}, Description(rate=2.0, burst=5)),
    (
        "columns",
        {"time_column": "date", "columns": ["date", "close"]},
        Description(time_column="date", columns=("close",)),
    ),
    ("deadline", {"deadline": "1m"}, Description(deadline_s=60.0)),
    ("no revisions", {"revises": False}, Description()),
    ("revisions", {"revises": True}, Description(revises=Basis())),
    (
        "revisions of some",
        {"revises": True, "columns": ["open", "high", "low", "close"]},
        Description(
            columns=("open", "high", "low", "close"), revises=Basis(adjusted=None, volume=None)
        ),
    ),
    (
        "revisions of own",
        {"revises": {"prices": ["price"], "adjusted": None, "volume": "n"}},
        Description(revises=Basis(("price",), None, "n")),
    ),
    (
        "a parameter",
        {
            "params": [
                {
                    "name": "side",
                    "default": "left",
                    "choices": ["left", "right"],
                    "aliases": {"l": "left"},
                    "help": "which",
                }
            ]
        },
        Description(params=(Param("side", "left", ("left", "right"), {"l": "left"}, "which"),)),
    ),
    (
        "parameters by name",
        {"params": {"interval": "1d", "depth": {"default": 5, "choices": [5, 10]}, "all": True}},
        Description(
            params=(Param("interval", "1d"), Param("depth", "5", ("5", "10")), Param("all", "true"))
        ),
    ),
    ("an empty default", {"params": {"sheet": ""}}, Description(params=(Param("sheet", ""),))),
]

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("an unknown key", {"tittle": "x"}, "unknown key 'tittle'; its keys are: name, title, params"),
    ("a name", {"name": 5}, "name is 5; it must be text"),
    ("an empty title", {"title": " "}, "title is ' '; it must be text"),
    ("an escape", {"title": "a\x1b[2J"}, "it must be text"),
    ("a long text", {"title": "x" * 201}, "has 201 characters; 200 are the most"),
    ("columns", {"columns": "close"}, "columns is 'close'; it must be a list of texts"),
    ("a column", {"columns": ["a", 1]}, "columns is 1; it must be text"),
    ("a duration", {"bar": "1 day"}, "bar is '1 day'; it must be seconds, or text such as 1d"),
    ("no duration", {"bar": 0}, "bar is 0; it must be at least a millisecond"),
    ("a negative one", {"final_after": -1}, "final_after is -1; it must not be less than 0"),
    ("no number", {"final_after": [1]}, "final_after is [1]; it must be a number"),
    ("not a number", {"rate": float("nan")}, "rate is nan; it must be a number"),
    ("a truth", {"rate": True}, "rate is True; it must be a number"),
    ("no pace", {"rate": 0}, "rate is 0; it must be more than 0"),
    ("half a burst", {"burst": 1.5}, "burst is 1.5; it must be a whole number"),
    ("an instant", {"data_start": "yesterday"}, "data_start is 'yesterday'; it must be an instant"),
    ("a relative one", {"data_start": "now"}, "data_start is 'now'; it must be an instant"),
    ("milliseconds", {"data_start": 1e15}, "lies outside the years 1 to 9999"),
    (
        "no data",
        {"data_start": "2020-01-01", "data_end": "2020-01-01"},
        "data_end is not after data_start",
    ),
    ("revisions", {"revises": "yes"}, "revises is 'yes'; it must be true, false or"),
    ("revisions without prices", {"revises": {"prices": []}}, "prices names no column"),
    (
        "revisions of nothing",
        {"revises": {"price": ["a"]}},
        "unknown key 'price'; it may be prices, adjusted, volume",
    ),
    ("usual revisions", {"revises": True, "columns": ["close"]}, "columns has no open, high, low"),
    ("params", {"params": "interval"}, "params is 'interval'; it must be a list or a dict by name"),
    ("a param", {"params": ["interval"]}, "params has 'interval', which is no dict"),
    ("a param without name", {"params": [{"default": "1d"}]}, "name is None; it must be text"),
    (
        "a param without default",
        {"params": [{"name": "interval"}]},
        "params: interval has no default",
    ),
    (
        "a param's key",
        {"params": [{"name": "a", "default": "1", "choice": []}]},
        "params: a has the unknown key 'choice'",
    ),
    ("a param's name", {"params": {"Interval": "1d"}}, "must be a Python name in small letters"),
    (
        "a taken name",
        {"params": {"ticker": "1d"}},
        "none of self, ticker, start, end, date",
    ),
    (
        "a name twice",
        {"params": [{"name": "a", "default": "1"}, {"name": "a", "default": "2"}]},
        "has 'a' twice",
    ),
    (
        "a default",
        {"params": {"a": {"default": "3", "choices": ["1"]}}},
        "its default '3' is none of its choices",
    ),
    (
        "an alias",
        {"params": {"a": {"default": "1", "choices": ["1"], "aliases": {"x": "2"}}}},
        "aliases names '2'",
    ),
    (
        "aliases",
        {"params": {"a": {"default": "1", "aliases": ["x"]}}},
        "aliases is ['x']; it must be a dict",
    ),
    (
        "choices",
        {"params": {"a": {"default": "1", "choices": "12"}}},
        "choices is '12'; it must be a list",
    ),
    ("a value", {"params": {"a": {"default": {}}}}, "default is {}; it must be text"),
]


@pytest.mark.parametrize(
    ("said", "expected"), [case[1:] for case in SAID], ids=[c[0] for c in SAID]
)
def test_what_is_said_is_read(said: dict[str, Any], expected: Description) -> None:
    """Each key is read in the spellings it has; what is not said has its default."""
    assert parse_description(said) == expected


@pytest.mark.parametrize(
    ("said", "why"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_makes_no_sense_is_refused(said: dict[str, Any], why: str) -> None:
    """The message names the key, what it says and what it may say."""
    with pytest.raises(BadDescription) as caught:
        parse_description(said)
    assert "describe()" in str(caught.value)
    assert why in str(caught.value)


def test_data_of_which_nothing_is_said_begins_in_1900() -> None:
    """Early data is neither declared away nor asked for back to the year 1."""
    assert parse_description({}).data_start == DATA_START
    assert parse_description({"data_start": "1900-01-01"}).data_start == DATA_START
