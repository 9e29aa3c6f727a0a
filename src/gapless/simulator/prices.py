"""As-traded prices of the simulated market: one row a day, and the minutes derived from it.

The day comes first and its minutes are drawn inside it, so that years of daily bars cost little
while every longer bar is still the exact aggregate of its minutes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from math import exp
from typing import NamedTuple, Protocol
from zlib import crc32

from gapless.errors import InvalidQuery
from gapless.simulator.instruments import Calendar, Instrument, Kind, Session

_MASK = (1 << 64) - 1
_OCTAVES = 9
_DAILY_SWING = 0.008
_DAILY_GROWTH = 0.00015
_GROWTH_FROM = date(2020, 1, 1).toordinal()


def unit(seed: int, a: int, b: int) -> float:
    """Return a number in `[0, 1)` that depends on the three integers alone (splitmix64)."""
    x = (seed + a * 0x9E3779B97F4A7C15 + b * 0xD1B54A32D192ED03) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((x ^ (x >> 31)) >> 11) * 2.0**-53


class Row(NamedTuple):
    """Open, high, low, close and volume of one day or part of a day, as traded."""

    open: float
    high: float
    low: float
    close: float
    volume: int


class PriceSource(Protocol):
    """Where a day's as-traded row comes from.

    `continuous`: the rows know nothing of splits, so the market divides what follows a split.
    Otherwise the rows are taken as they were printed on the day, splits included.
    """

    @property
    def continuous(self) -> bool:
        """Whether splits are still to be worked into the rows."""

    def first_day(self, calendar: Calendar) -> int:
        """Return the number of the first trading day."""

    def session(self, calendar: Calendar, day: int) -> Session | None:
        """Return the session of `day`, or `None` where there was none."""

    def row(self, instrument: Instrument, day: int) -> Row:
        """Return the row of `day`, which has a session."""


class RandomWalk:
    """Prices made up from a seed: the same seed and symbol always give the same rows.

    The walk is noise summed over nine doubling time scales, so that any day is found without
    walking to it. One object may serve many markets, which then share what it remembers.
    """

    continuous = True

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed
        self._rows: dict[tuple[str, int], Row] = {}

    def first_day(self, calendar: Calendar) -> int:
        """Return the first session at or after the instrument's first trade."""
        day = calendar.first_day
        while calendar.session(day) is None:
            day += 1
        return day

    def session(self, calendar: Calendar, day: int) -> Session | None:
        """Return the calendar's own session."""
        return calendar.session(day)

    def row(self, instrument: Instrument, day: int) -> Row:
        """Return the row of `day`: prices to the cent (currencies: four decimals)."""
        key = (instrument.symbol, day)
        known = self._rows.get(key)
        if known is None:
            known = self._rows[key] = self._make(instrument, day)
        return known

    def _make(self, instrument: Instrument, day: int) -> Row:
        seed = symbol_seed(instrument.symbol, self.seed)
        if instrument.kind is Kind.CURRENCY:
            base, places, swing = 0.7 + 0.8 * unit(seed, 0, 0), 4, 0.3
        elif instrument.kind is Kind.CRYPTOCURRENCY:
            base, places, swing = 50.0 * 1000 ** unit(seed, 0, 0), 2, 2.5
        else:
            base, places, swing = 40.0 * 8 ** unit(seed, 0, 0), 2, 1.0
        if instrument.kind is not Kind.CURRENCY:
            base *= exp(_DAILY_GROWTH * (day - _GROWTH_FROM))
        close = base * exp(swing * _noise(seed, day))
        before = base * exp(swing * _noise(seed, day - 1))
        scale = swing * _DAILY_SWING
        opened = before * (1 + scale * (unit(seed, 21, day) - 0.5))
        high = max(opened, close) * (1 + scale * unit(seed, 22, day))
        low = min(opened, close) * (1 - scale * unit(seed, 23, day))
        if instrument.kind is Kind.CURRENCY:
            volume = 0
        else:
            volume = int(10 ** (5.0 + 2.0 * unit(seed, 0, 1)) * (0.5 + unit(seed, 24, day))) * 10
        return Row(
            round(opened, places),
            round(high, places),
            round(low, places),
            round(close, places),
            volume,
        )


class GivenSeries:
    """A daily series handed in: exactly its days have sessions, whatever the calendar says.

    `continuous=False` takes the rows as printed on the day; with `True` a split that is added to
    the market divides the rows from its ex-date on.
    """

    def __init__(self, rows: Mapping[date, Row], *, continuous: bool = False) -> None:
        if not rows:
            raise InvalidQuery("A series for the simulator needs at least one row; this has none.")
        self.continuous = continuous
        self._rows = {day.toordinal(): row for day, row in rows.items()}

    def first_day(self, calendar: Calendar) -> int:
        """Return the first day of the series."""
        return min(self._rows)

    def session(self, calendar: Calendar, day: int) -> Session | None:
        """Return the instrument's hours on a day of the series."""
        return calendar.hours(day) if day in self._rows else None

    def row(self, instrument: Instrument, day: int) -> Row:
        """Return the row handed in for `day`."""
        return self._rows[day]


@dataclass(frozen=True, slots=True)
class Minutes:
    """A day's minutes: prices per minute, `volume[i]` what was traded before minute `i`."""

    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[int]

    def between(self, first: int, last: float) -> Row:
        """Return the row of minutes `[first, last)`, which may end inside a minute.

        A minute that is still forming has moved from its open towards its close in proportion
        to the time gone; its wicks show when it is over.
        """
        whole = int(last)
        opened = self.open[first]
        high = max(self.high[first:whole], default=opened)
        low = min(self.low[first:whole], default=opened)
        traded = self.traded_before(last) - self.volume[first]
        part = last - whole
        if part <= 0:
            return Row(opened, high, low, self.close[whole - 1], traded)
        a, b = self.open[whole], self.close[whole]
        close = a + (b - a) * part
        return Row(opened, max(high, a, close), min(low, a, close), close, traded)

    def traded_before(self, minute: float) -> int:
        """Return the volume traded before a point in time, in minutes after the open."""
        whole = int(minute)
        part = minute - whole
        if part <= 0:
            return self.volume[whole]
        return self.volume[whole] + int((self.volume[whole + 1] - self.volume[whole]) * part)


def draw_minutes(seed: int, day: int, row: Row, count: int) -> Minutes:
    """Draw the `count` minutes of a day so that their aggregate is exactly `row`.

    The path runs from the open by the high and the low, each at a minute the seed picks, to the
    close, with noise that is clamped to the day's range; volume is heaviest at both ends.
    """
    top, bottom = int(unit(seed, 31, day) * count), int(unit(seed, 32, day) * count)
    anchors = {0.0: row.open, top + 0.5: row.high, bottom + 0.5: row.low, float(count): row.close}
    xs = sorted(anchors)
    ys = [anchors[x] for x in xs]
    wiggle = 0.08 * (row.high - row.low)
    path = [row.open]
    for i in range(1, count):
        at = bisect_right(xs, i) - 1
        x0, x1 = xs[at], xs[at + 1]
        level = ys[at] + (ys[at + 1] - ys[at]) * (i - x0) / (x1 - x0)
        level += wiggle * (unit(seed, 1000 + i, day) - 0.5)
        path.append(min(row.high, max(row.low, level)))
    path.append(row.close)
    high = [max(a, b) for a, b in pairwise(path)]
    low = [min(a, b) for a, b in pairwise(path)]
    high[top], low[bottom] = row.high, row.low
    weights = [0.0]
    for i in range(count):
        edge = 2.0 * i / count - 1.0
        weights.append(weights[-1] + 0.3 + edge * edge + 0.5 * unit(seed, 5000 + i, day))
    volume = [int(row.volume * (weight / weights[-1])) for weight in weights]
    return Minutes(path[:-1], high, low, path[1:], volume)


def symbol_seed(symbol: str, seed: int = 0) -> int:
    """Return the seed of one symbol's numbers."""
    return crc32(symbol.encode(), seed & 0xFFFFFFFF) * 0x2545F4914F6CDD1D & _MASK


def _noise(seed: int, day: int) -> float:
    total = 0.0
    swing = _DAILY_SWING
    for octave in range(_OCTAVES):
        cell, rest = day >> octave, day & ((1 << octave) - 1)
        value = unit(seed, octave, cell)
        if rest:
            value += (unit(seed, octave, cell + 1) - value) * (rest / (1 << octave))
        total += swing * (2.0 * value - 1.0)
        swing *= 1.5
    return total
