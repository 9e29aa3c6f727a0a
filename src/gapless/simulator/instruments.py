"""What can be traded in the simulated market, and when.

Apart from the prices, because stamps and sessions depend on time zones alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple
from zoneinfo import ZoneInfo

HOUR = 3600
DAY = 86_400


class Kind(StrEnum):
    """What an instrument is, as `meta.instrumentType` says it."""

    EQUITY = "EQUITY"
    CURRENCY = "CURRENCY"
    CRYPTOCURRENCY = "CRYPTOCURRENCY"
    MUTUALFUND = "MUTUALFUND"


class Session(NamedTuple):
    """One trading day: its number (`date.toordinal`) and its hours `[open_s, close_s)` in UTC."""

    day: int
    open_s: int
    close_s: int


@dataclass(frozen=True, slots=True)
class Instrument:
    """A symbol with its trading hours.

    `open_local_s` and `close_local_s` are seconds after local midnight (`86400`: the next
    midnight), `weekdays` count from Monday = 0, `early_closes` maps a half-day to its close.
    `publishes_local_s`: when a day's only price comes out, seconds after its local midnight, as
    with a fund: no row before, no intraday bars ever. `closing_auction`: once a session is over
    there is an intraday bar stamped exactly at its end, at the close and without volume.
    """

    symbol: str
    kind: Kind = Kind.EQUITY
    tz: str = "America/New_York"
    open_local_s: int = 34_200
    close_local_s: int = 57_600
    weekdays: frozenset[int] = frozenset(range(5))
    holidays: frozenset[date] = frozenset()
    early_closes: Mapping[date, int] = field(default_factory=dict)
    currency: str = "USD"
    exchange: str = "NMS"
    first_trade: date = date(1990, 1, 2)
    publishes_local_s: int | None = None
    closing_auction: bool = False

    @property
    def round_the_clock(self) -> bool:
        """Whether a session is the whole local day, as with currencies and coins."""
        return self.open_local_s == 0 and self.close_local_s == DAY


def equity(
    symbol: str,
    *,
    tz: str = "America/New_York",
    hours: tuple[int, int] = (34_200, 57_600),
    currency: str = "USD",
    first_trade: date = date(1990, 1, 2),
    holidays: frozenset[date] = frozenset(),
    early_closes: Mapping[date, int] | None = None,
) -> Instrument:
    """Return a share that trades Monday to Friday, from 9:30 to 16:00 unless told otherwise.

    `early_closes` maps half-days to their close, in seconds after local midnight.
    """
    return Instrument(
        symbol,
        tz=tz,
        open_local_s=hours[0],
        close_local_s=hours[1],
        currency=currency,
        first_trade=first_trade,
        holidays=holidays,
        early_closes=early_closes or {},
    )


def fund(
    symbol: str,
    *,
    publishes_local_s: int = 72_300,
    first_trade: date = date(1990, 1, 2),
    holidays: frozenset[date] = frozenset(),
) -> Instrument:
    """Return a New York fund, whose value of the day comes out at 20:05 unless told otherwise."""
    return Instrument(
        symbol,
        kind=Kind.MUTUALFUND,
        exchange="NAS",
        first_trade=first_trade,
        holidays=holidays,
        publishes_local_s=publishes_local_s,
    )


def currency_pair(symbol: str, *, first_trade: date = date(2003, 12, 1)) -> Instrument:
    """Return a currency pair: whole London days, Monday to Friday, and no volume."""
    return Instrument(
        symbol,
        kind=Kind.CURRENCY,
        tz="Europe/London",
        open_local_s=0,
        close_local_s=DAY,
        exchange="CCY",
        first_trade=first_trade,
    )


def coin(symbol: str, *, first_trade: date = date(2014, 9, 17)) -> Instrument:
    """Return a crypto currency: every UTC day, around the clock."""
    return Instrument(
        symbol,
        kind=Kind.CRYPTOCURRENCY,
        tz="UTC",
        open_local_s=0,
        close_local_s=DAY,
        weekdays=frozenset(range(7)),
        exchange="CCC",
        first_trade=first_trade,
    )


class Calendar:
    """An instrument's days in UTC seconds; it remembers what it worked out.

    A day is its number (`date.toordinal`) in the exchange's own time zone. A period is named by
    its first day: Monday, the 1st of the month, the 1st of the quarter.
    """

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.zone = ZoneInfo(instrument.tz)
        self._midnights: dict[int, int] = {}
        self._hours: dict[int, Session] = {}
        self._sessions: dict[int, Session | None] = {}

    @cached_property
    def first_day(self) -> int:
        """The number of the first trading day."""
        return self.instrument.first_trade.toordinal()

    def day_of(self, at_s: float) -> int:
        """Return the local day that `at_s` lies in."""
        return datetime.fromtimestamp(at_s, self.zone).toordinal()

    def midnight(self, day: int) -> int:
        """Return the instant at which `day` begins locally."""
        known = self._midnights.get(day)
        if known is None:
            known = self._midnights[day] = self._instant(day, 0)
        return known

    def hours(self, day: int) -> Session:
        """Return the hours of `day` as if it were a trading day."""
        known = self._hours.get(day)
        if known is None:
            what = self.instrument
            close = what.early_closes.get(date.fromordinal(day), what.close_local_s)
            opens_s, closes_s = self._instant(day, what.open_local_s), self._instant(day, close)
            known = self._hours[day] = Session(day, opens_s, closes_s)
        return known

    def published_s(self, day: int) -> int | None:
        """Return when the only price of `day` comes out, or `None` where there is trade."""
        local_s = self.instrument.publishes_local_s
        return None if local_s is None else self._instant(day, local_s)

    def session(self, day: int) -> Session | None:
        """Return the session of `day`, or `None` where the calendar has none."""
        if day in self._sessions:
            return self._sessions[day]
        when = date.fromordinal(day)
        what = self.instrument
        trades = (
            day >= self.first_day and when.weekday() in what.weekdays and when not in what.holidays
        )
        found = self.hours(day) if trades else None
        self._sessions[day] = found
        return found

    def offset(self, at_s: float) -> tuple[int, str]:
        """Return the UTC offset in seconds and the short zone name in force at `at_s`."""
        local = datetime.fromtimestamp(at_s, self.zone)
        delta = local.utcoffset() or timedelta()
        return int(delta.total_seconds()), local.tzname() or "UTC"

    def _instant(self, day: int, local_s: int) -> int:
        day, local_s = day + local_s // DAY, local_s % DAY
        when = datetime.fromordinal(day) + timedelta(seconds=local_s)
        return int(when.replace(tzinfo=self.zone).astimezone(UTC).timestamp())


def period_start(interval: str, day: int, anchor_weekday: int = 0) -> int:
    """Return the first day of the week, month or quarter that `day` lies in.

    Weeks begin on `anchor_weekday` (Monday = 0).
    """
    if interval == "1wk":
        return day - (date.fromordinal(day).weekday() - anchor_weekday) % 7
    when = date.fromordinal(day)
    month = when.month if interval == "1mo" else (when.month - 1) // 3 * 3 + 1
    return date(when.year, month, 1).toordinal()


def period_end(interval: str, first: int) -> int:
    """Return the day after the last day of the period that begins on day `first`."""
    if interval == "1wk":
        return first + 7
    when = date.fromordinal(first)
    months = when.month - 1 + (1 if interval == "1mo" else 3)
    return date(when.year + months // 12, months % 12 + 1, 1).toordinal()
