"""One symbol of the simulated market: its bars as shown under a given state of knowledge.

Apart from market.py, which is about ranges, periods and edges; here a day becomes its bars.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import inf

import msgspec

from gapless.simulator.happenings import (
    Action,
    Change,
    Happening,
    Hole,
    MissingRow,
    Payout,
    Restatement,
    Serving,
    Split,
    span,
)
from gapless.simulator.instruments import Session
from gapless.simulator.prices import Minutes, Row
from gapless.simulator.tape import Tape

_FLOAT32 = struct.Struct("<f")
_SINGLE = struct.Struct("<4f")
_NEVER: tuple[float, None] = (inf, None)


class Bar(msgspec.Struct, frozen=True, gc=False):
    """One row: `t` in UTC seconds; prices `None` in a null row; `adjclose` `None` intraday."""

    t: int
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: int | None
    adjclose: float | None = None


def float32(value: float) -> float:
    """Return `value` rounded to single precision, widened again."""
    widened: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
    return widened


class Book:
    """A symbol's tape and what happens to it.

    `shown(at_s)` gives the knowledge of an instant; instants with the same knowledge share it,
    and with it every finished bar.
    """

    def __init__(self, tape: Tape, *, single: bool) -> None:
        self.tape = tape
        self.calendar = tape.calendar
        self.first_day = tape.first_day
        self.single = single
        self._changes: list[tuple[Change, Mapping[int, float]]] = []
        self._servings: list[tuple[Serving, Mapping[int, float]]] = []
        self._shown: dict[tuple[Change, ...], Shown] = {}

    def add(self, happening: Happening, delays_s: Mapping[int, float]) -> None:
        """Make something happen, and forget what was worked out without it.

        `delays_s`: how much later than the others an edge shows it, and its end.
        """
        if isinstance(happening, Serving):
            self._servings.append((happening, delays_s))
            return
        self._changes.append((happening, delays_s))
        self._shown.clear()

    def shown(self, at_s: float, edge: int = 0) -> Shown:
        """Return what the host `edge` shows at `at_s`."""
        key = tuple(
            what
            for what, delays_s in self._changes
            if self._in_force(what, at_s - delays_s.get(edge, 0.0))
        )
        known = self._shown.get(key)
        if known is None:
            known = self._shown[key] = Shown(self, key)
        return known

    def servings(self, at_s: float, edge: int = 0) -> tuple[Serving, ...]:
        """Return what decides at `at_s` which rows the host `edge` serves, and how."""
        return tuple(
            what
            for what, delays_s in self._servings
            if self._in_force(what, at_s - delays_s.get(edge, 0.0))
        )

    def happenings(self) -> list[Happening]:
        """Return all that was added."""
        return [what for what, _ in (*self._changes, *self._servings)]

    def edges_of_spans(self, edge: int) -> Iterator[float]:
        """Yield when the host `edge` begins and ceases to show anything that happens."""
        for what, delays_s in (*self._changes, *self._servings):
            for at_s in self._span(what):
                yield at_s + delays_s.get(edge, 0.0)

    def traded_divisor(self, day: int) -> Fraction:
        """Return by what the source's prices of `day` are divided to be as traded."""
        divisor = Fraction(1)
        if self.tape.source.continuous:
            for split in self._traded_splits():
                if split.ex_date.toordinal() <= day:
                    divisor *= split.ratio
        return divisor

    def payout_factor(self, payout: Payout) -> float:
        """Return 1 - amount / close of the day before, both in the ex-date's shares."""
        ex_day = payout.ex_date.toordinal()
        before = ex_day - 1
        while before >= self.first_day and self.tape.session(before) is None:
            before -= 1
        if before < self.first_day:
            return 1.0
        divisor = self.traded_divisor(before)
        for split in self._traded_splits():
            if before < split.ex_date.toordinal() <= ex_day:
                divisor *= split.ratio
        close = self.tape.row(before).close / float(divisor)
        return 1.0 - payout.amount / close

    def _traded_splits(self) -> Iterator[Split]:
        for what, _ in self._changes:
            if isinstance(what, Split) and not what.mistaken:
                yield what

    def _in_force(self, what: Happening, at_s: float) -> bool:
        begin_s, end_s = self._span(what)
        return begin_s <= at_s < end_s

    def _span(self, what: Happening) -> tuple[float, float]:
        if isinstance(what, Action) and what.seen_s is None:
            return span(what, self.calendar.hours(what.ex_date.toordinal()).open_s)
        return span(what, inf)


class Shown:
    """What upstream shows of one symbol under one state of knowledge."""

    def __init__(self, book: Book, happenings: tuple[Change, ...]) -> None:
        self.splits = [what for what in happenings if isinstance(what, Split)]
        self.payouts = [what for what in happenings if isinstance(what, Payout)]
        self._restatements = [what for what in happenings if isinstance(what, Restatement)]
        self._holes = [what for what in happenings if isinstance(what, Hole)]
        self._book = book
        self._tape = book.tape
        # A final bar with the instant from which it is final: `at_s` may go back again.
        self._days: dict[int, tuple[float, Bar | None]] = {}
        self._parts: dict[tuple[int, int], tuple[float, list[Bar]]] = {}
        self._adjustments: dict[int, tuple[Fraction, float]] = {}

    def day(self, day: int, at_s: float) -> Bar | None:
        """Return the daily bar of `day` at `at_s`: final, forming, or `None`."""
        final_from, bar = self._days.get(day, _NEVER)
        if at_s >= final_from:
            return bar
        session = self._tape.session(day)
        if session is None:
            self._days[day] = (-inf, None)
            return None
        published_s = self._book.calendar.published_s(day)
        if published_s is not None:
            if at_s < published_s:
                return None
            close = self._row(day).close
            bar = self._day_bar(session, Row(close, close, close, close, 0))
            self._days[day] = (published_s, bar)
            return bar
        if session.close_s <= at_s:
            bar = self._day_bar(session, self._row(day))
            self._days[day] = (session.close_s, bar)
            return bar
        if session.open_s >= at_s:
            return None
        so_far = self._minutes_of(session).between(0, (at_s - session.open_s) / 60)
        return self._day_bar(session, so_far)

    def parts(self, day: int, step_s: int, at_s: float) -> list[Bar]:
        """Return the bars of `step_s` seconds of `day` that had begun before `at_s`."""
        final_from, known = self._parts.get((day, step_s), _NEVER)
        if known is not None and at_s >= final_from:
            return known
        session = self._tape.session(day)
        if session is None or session.open_s >= at_s:
            return []
        if self._book.calendar.published_s(day) is not None:
            return []
        bars = self._cut(session, step_s, min(at_s, session.close_s))
        if session.close_s <= at_s:
            if self._tape.instrument.closing_auction:
                bars += self._auction(session)
            self._parts[day, step_s] = (session.close_s, bars)
        return bars

    def adjustment(self, day: int) -> tuple[Fraction, float]:
        """Return the divisor of the source's prices and the factor from close to adjclose."""
        known = self._adjustments.get(day)
        if known is not None:
            return known
        divisor = self._book.traded_divisor(day)
        for split in self.splits:
            if split.ex_date.toordinal() > day:
                divisor *= split.ratio
        factor = 1.0
        for payout in self.payouts:
            if payout.ex_date.toordinal() > day:
                factor *= self._book.payout_factor(payout)
        found = self._adjustments[day] = (divisor, factor)
        return found

    def _row(self, day: int) -> Row:
        row = self._tape.row(day)
        for what in self._restatements:
            if what.day.toordinal() == day:
                opened, close = row.open * what.open, row.close * what.close
                high, low = row.high * what.high, row.low * what.low
                row = Row(
                    opened,
                    max(opened, high, low, close),
                    min(opened, high, low, close),
                    close,
                    round(row.volume * what.volume),
                )
        return row

    def _minutes_of(self, session: Session) -> Minutes:
        return self._tape.minutes(session, self._row(session.day))

    def _day_bar(self, session: Session, row: Row) -> Bar | None:
        divisor, factor = self.adjustment(session.day)
        volume = round(row.volume * divisor)
        for hole in self._holes:
            if hole.day is not None and hole.day.toordinal() == session.day:
                return _hollow(hole, session.open_s, volume)
        return self._bar(session.open_s, row, float(divisor), volume, factor)

    def _bar(self, stamp: int, row: Row, divisor: float, volume: int, factor: float | None) -> Bar:
        opened, high = row.open / divisor, row.high / divisor
        low, close = row.low / divisor, row.close / divisor
        adjclose = None if factor is None else close * factor
        if self._book.single:
            opened, high, low, close = _SINGLE.unpack(_SINGLE.pack(opened, high, low, close))
            adjclose = None if adjclose is None else float32(adjclose)
        return Bar(stamp, opened, high, low, close, volume, adjclose)

    def _auction(self, session: Session) -> list[Bar]:
        """Return the bar at the session's end: at the day's close, without volume."""
        close = self._row(session.day).close
        divisor, _ = self.adjustment(session.day)
        row = Row(close, close, close, close, 0)
        return [self._bar(session.close_s, row, float(divisor), 0, None)]

    def _cut(self, session: Session, step_s: int, until_s: float) -> list[Bar]:
        minutes = self._minutes_of(session)
        divisor, _ = self.adjustment(session.day)
        by = float(divisor)
        step = step_s // 60
        end = (until_s - session.open_s) / 60
        holes = {hole.stamp_s: hole for hole in self._holes if hole.stamp_s is not None}
        bars: list[Bar] = []
        first, traded = 0, 0
        while first < end:
            last = min(float(first + step), end)
            row = minutes.between(first, last)
            total = round(minutes.traded_before(last) * divisor)
            stamp = session.open_s + first * 60
            bar: Bar | None = self._bar(stamp, row, by, total - traded, None)
            if stamp in holes:
                bar = _hollow(holes[stamp], stamp, total - traded)
            if bar is not None:
                bars.append(bar)
            first, traded = first + step, total
        return bars


def _hollow(hole: Hole, stamp: int, volume: int) -> Bar | None:
    if isinstance(hole, MissingRow):
        return None
    return Bar(stamp, None, None, None, None, volume if hole.partly else None, None)
