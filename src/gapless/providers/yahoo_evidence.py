"""An answer of Yahoo's as evidence: read without trust, and without making anything good.

Apart from yahoo_chart.py, which reads the same answers to make bars of them whatever their quirks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from gapless.instants import format_instant

TICKER: Final = "AAPL"
"""A share that has long been traded, and will be; with a split and dividends in its past."""

_NEW_YORK: Final = ZoneInfo("America/New_York")
# A live row is stamped at the last trade or at the last poll, some minutes apart at most.
NEAR_S: Final = 3_600


@dataclass(frozen=True, slots=True)
class Question:
    """One request: `about` what, in words; the bounds in Unix seconds, as they are sent.

    `refused`: an error is what is expected.
    """

    name: str
    about: str
    interval: str
    period1: int
    period2: int
    ticker: str = TICKER
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer: status, headers in lower case, the body, and the own clock when it came.

    `complaint` is why the provider can make no chart of it, if it cannot.
    """

    question: Question
    status: int
    headers: Mapping[str, str]
    body: bytes
    at_s: float
    complaint: str | None = None

    @property
    def clock_s(self) -> int | None:
        """What upstream's clock showed: `Date`, and the `Age` of what a cache had."""
        try:
            when = parsedate_to_datetime(self.headers.get("date", ""))
        except ValueError:
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        age = self.headers.get("age", "0").strip()
        return int(when.timestamp()) + (int(age) if age.isdecimal() else 0)


class Odd(Exception):
    """An answer is not of the form that an assumption is about; the message says how."""


class Unseen(Exception):
    """An answer tells nothing about an assumption; the message says why."""


class Chart:
    """A chart as it came; what is not of its form raises `Odd` where it is looked at."""

    def __init__(self, seen: Seen) -> None:
        found = dug(decoded(seen), "chart", "result", 0)
        if seen.complaint is not None or not isinstance(found, dict):
            raise Unseen("there was no chart to see it in")
        self._found = found
        self.question = seen.question

    @property
    def stamps(self) -> list[int]:
        """All stamps, in upstream's order, Unix seconds."""
        found = self._found.get("timestamp", [])
        if not isinstance(found, list) or not all(type(one) is int for one in found):
            raise Odd("timestamp is no list of whole numbers")
        return found

    @property
    def settled(self) -> list[int]:
        """The stamps but for those of rows at the last trade."""
        last = self.last_trade
        return [one for one in self.stamps if last is None or abs(one - last) >= NEAR_S]

    @property
    def last_trade(self) -> int | None:
        """When the last trade was, Unix seconds; `None` where that is not told."""
        found = self.meta.get("regularMarketTime")
        return found if type(found) is int else None

    @property
    def meta(self) -> Mapping[str, Any]:
        """What it says of its instrument."""
        found = self._found.get("meta")
        if not isinstance(found, dict):
            raise Odd("there is no meta")
        return found

    @property
    def quote(self) -> object:
        """What holds the columns."""
        return dug(self._found, "indicators", "quote")

    @property
    def adjusted(self) -> object:
        """The column of adjusted closes, `None` where there is none."""
        return dug(self._found, "indicators", "adjclose", 0, "adjclose")

    def column(self, name: str) -> list[Any]:
        """Return a column, which has a value for each stamp."""
        found = self.adjusted if name == "adjclose" else dug(self.quote, 0, name)
        if not isinstance(found, list):
            raise Odd(f"there is no column {name}")
        if len(found) != len(self.stamps):
            raise Odd(f"{name} has {len(found):,} values for {len(self.stamps):,} stamps")
        return found

    def closes(self) -> dict[int, float]:
        """Return the closes that are there by their stamps."""
        pairs = zip(self.stamps, self.column("close"), strict=True)
        return {stamp: close for stamp, close in pairs if isinstance(close, int | float)}

    def events(self, kind: str) -> Mapping[str, Any]:
        """Return the events of a kind by their keys."""
        found = dug(self._found, "events", kind)
        if not isinstance(found, dict):
            raise Odd(f"there are no {kind} among its events")
        return found

    def has(self, name: str) -> bool:
        """Whether it has a part of that name at all."""
        return name in self._found


def decoded(seen: Seen) -> object:
    """Return the body as JSON; `None` where it is none."""
    try:
        return msgspec.json.decode(seen.body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def dug(value: object, *path: str | int) -> object:
    """Return what lies at a path into decoded JSON, `None` where it leads nowhere."""
    for step in path:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def local_time(stamp: int) -> datetime:
    """Return what clocks in New York show; raise `Odd` for what is no time."""
    try:
        return datetime.fromtimestamp(stamp, _NEW_YORK)
    except (OverflowError, ValueError, OSError):
        raise Odd(f"a bar is stamped {stamp}, which is no time") from None


def local_second(stamp: int) -> int:
    """Return the second of the day in New York."""
    local = local_time(stamp)
    return local.hour * 3_600 + local.minute * 60 + local.second


def told(stamp: int) -> str:
    """Return Unix seconds as they are shown; raise `Odd` for what is no time."""
    try:
        return format_instant(stamp * 1_000)
    except OverflowError:
        raise Odd(f"a bar is stamped {stamp}, which is no time") from None
