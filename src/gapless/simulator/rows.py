"""Which rows a chart request gets: the market's true bars, cut and garbled as upstream does.

Apart from chart.py, which wraps rows into HTTP answers; pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import inf

import msgspec

from gapless.simulator.book import Bar
from gapless.simulator.instruments import HOUR, Session, period_start
from gapless.simulator.market import Market
from gapless.simulator.prices import symbol_seed, unit
from gapless.simulator.quirks import Quirks
from gapless.simulator.view import INTRADAY, PERIODS, View, in_periods

PRE_S = 11 * HOUR // 2
POST_S = 4 * HOUR
_PAST_PERIOD2_S = 20 * HOUR


def regular_market_time(view: View, session: Session) -> int:
    """Return when the last trade was: now, or a second past the close; a fund's publication."""
    published_s = view.calendar.published_s(session.day)
    if published_s is not None:
        return published_s
    whole_day = view.calendar.instrument.round_the_clock
    return min(int(view.at_s), session.close_s + (-1 if whole_day else 1))


@dataclass(frozen=True, slots=True)
class Window:
    """What a request asks for: `start_s` is period1, `end_s` period2, `at_s` the instant of it.

    `at_s` is the instant that the answering host, `edge`, shows, its lag taken off.
    """

    symbol: str
    interval: str
    start_s: int
    end_s: int
    at_s: float
    pre_post: bool = False
    edge: int = 0

    def view(self, market: Market) -> View:
        """Return the symbol as this request gets to see it."""
        return market.view(self.symbol, self.at_s, self.edge)


def chart_rows(market: Market, quirks: Quirks, window: Window) -> list[Bar]:
    """Return the rows of the window, in upstream's order."""
    cut = _Cut(market, quirks, window)
    if window.interval in PERIODS:
        return cut.periods()
    if window.interval == "1d":
        return [cut.spoiled(bar) for bar in cut.daily()]
    pre_post = window.pre_post or quirks.pre_post_unasked
    return cut.intraday(INTRADAY[window.interval], pre_post=pre_post)


class _Cut:
    """One request's view of one symbol."""

    def __init__(self, market: Market, quirks: Quirks, window: Window) -> None:
        self.quirks = quirks
        self.view = window.view(market)
        self.servings = self.view.servings(window.interval)
        self.symbol, self.interval, self.at_s = window.symbol, window.interval, window.at_s
        self.start_s, self.end_s = window.start_s, window.end_s
        self.calendar = self.view.calendar
        self.first = self.calendar.day_of(self.start_s)
        self.last = self.calendar.day_of(min(self.end_s, self.at_s))
        self.session = self._live_session()

    def daily(self) -> list[Bar]:
        days = self._days()
        true = [bar for _, bar in days]
        rows = self.servings.rows(true)
        live = self._live()
        if live is None or self.session is None or self._cut_off(true, rows):
            return rows
        if days and days[-1][0] == self.session.day:
            held = rows.pop()
            if self.quirks.live_duplicate:
                less = None if held.volume is None else held.volume * 99 // 100
                rows.append(msgspec.structs.replace(held, volume=less))
        return [*rows, live]

    def periods(self) -> list[Bar]:
        days = self._days()
        live = self._live()
        anchor = 0
        if self.quirks.weeks_from_period1:
            anchor = date.fromordinal(self.first).weekday()
        true = in_periods(self.interval, days, self.calendar, anchor)
        rows = self.servings.rows(true)
        if live is None or self.session is None or self._cut_off(true, rows):
            return rows
        today = self.session.day
        if self.servings.hides(self.calendar.midnight(period_start(self.interval, today, anchor))):
            return rows
        if self.quirks.live_in_period == "left_out":
            left = {bar.t for bar in rows}
            days = [(day, bar) for day, bar in days if day != today]
            true = in_periods(self.interval, days, self.calendar, anchor)
            rows = [bar for one in true if one.t in left and (bar := self.servings.one(one))]
        return [*rows, live]

    def intraday(self, step_s: int, *, pre_post: bool) -> list[Bar]:
        rows = self.view.intraday(step_s, self.first, self.last)
        if self.quirks.first_bar_volume_zero:
            rows = [self._without_first_volume(bar) for bar in rows]
        if pre_post:
            rows = self._with_pre_post(rows, step_s)
        rows = [bar for bar in rows if self.start_s <= bar.t and self._before_end(bar.t)]
        true, rows = rows, self.servings.rows(rows)
        live = self._snapshot()
        if live is None or self._cut_off(true, rows) or any(bar.t == live.t for bar in rows[-1:]):
            return rows
        return [*rows, live]

    def _cut_off(self, true: Sequence[Bar], rows: Sequence[Bar]) -> bool:
        """Return whether the answer ends before the last bar there is, and so has no live row."""
        whole = [bar for one in true if (bar := self.servings.one(one)) is not None]
        return bool(whole) and (not rows or rows[-1].t != whole[-1].t)

    def spoiled(self, bar: Bar) -> Bar:
        quirks = self.quirks
        if not quirks.zero_low_on and not quirks.infinite_adjclose_on:
            return bar
        when = date.fromordinal(self.calendar.day_of(bar.t))
        if when in quirks.zero_low_on:
            bar = msgspec.structs.replace(bar, low=0.0)
        if when in quirks.infinite_adjclose_on:
            bar = msgspec.structs.replace(bar, adjclose=inf)
        return bar

    def _days(self) -> list[tuple[int, Bar]]:
        days = self.view.daily(self.first, self.last)
        if self.quirks.period2_inclusive_daily:
            return [item for item in days if self.start_s <= item[1].t <= self.end_s]
        return [item for item in days if self.start_s <= item[1].t < self.end_s]

    def _before_end(self, t: int) -> bool:
        return t <= self.end_s if self.quirks.period2_inclusive_intraday else t < self.end_s

    def _live_session(self) -> Session | None:
        if not self.quirks.live_row:
            return None
        session = self.view.session_before(self.at_s)
        if session is None or self.at_s - session.close_s >= self.quirks.live_settles_s:
            return None
        return session

    def _live(self) -> Bar | None:
        """Return the live day's bar on its live stamp, if this request gets to see it."""
        session = self.session
        if session is None:
            return None
        stamp = regular_market_time(self.view, session)
        bar = self._today(session)
        if bar is None or not self._sees(session.open_s, stamp):
            return None
        return msgspec.structs.replace(bar, t=stamp)

    def _snapshot(self) -> Bar | None:
        """Return the intraday live row: the last price, no volume, on a stamp of its own."""
        session = self.session
        if session is None or self.calendar.published_s(session.day) is not None:
            return None
        stamp = min(regular_market_time(self.view, session), session.close_s)
        bar = self._today(session)
        if bar is None or self.servings.hides(stamp) or not self._sees(stamp, stamp):
            return None
        return Bar(stamp, bar.close, bar.close, bar.close, bar.close, 0, None)

    def _today(self, session: Session) -> Bar | None:
        """Return the bar of the live day, unless it is missing or absent from this interval."""
        found = self.view.daily(session.day, session.day)
        if not found or self.servings.hides(found[0][1].t):
            return None
        bar = found[0][1]
        return self.servings.one(bar) if self.interval == "1d" else bar

    def _sees(self, begins_s: int, stamp: int) -> bool:
        if begins_s > self.end_s:
            near = stamp - self.end_s <= _PAST_PERIOD2_S
            return self.quirks.live_past_period2 and near
        if stamp < self.start_s:
            return self.quirks.live_before_period1
        return True

    def _without_first_volume(self, bar: Bar) -> Bar:
        session = self.view.book.tape.session(self.calendar.day_of(bar.t))
        if session is None or bar.t != session.open_s or bar.volume is None:
            return bar
        return msgspec.structs.replace(bar, volume=0)

    def _with_pre_post(self, rows: list[Bar], step_s: int) -> list[Bar]:
        if self.calendar.instrument.round_the_clock:
            return rows
        by_day: dict[int, list[Bar]] = {}
        for bar in rows:
            by_day.setdefault(self.calendar.day_of(bar.t), []).append(bar)
        every: list[Bar] = []
        for day, bars in by_day.items():
            session = self.calendar.hours(day)
            begin, end = session.open_s - PRE_S, session.close_s + POST_S
            every += self._thin(begin, session.open_s, step_s, bars[0].open)
            every += bars
            every += self._thin(session.close_s, end, step_s, bars[-1].close)
        return every

    def _thin(self, begin_s: int, end_s: int, step_s: int, price: float | None) -> list[Bar]:
        """Return rows of thin trade about `price`: no volume, and not in single precision."""
        bars: list[Bar] = []
        seed = symbol_seed(self.symbol, 11)
        for stamp in range(begin_s, end_s, step_s):
            if stamp >= self.at_s:
                break
            at = None if price is None else round(price * (0.998 + 0.004 * unit(seed, 0, stamp)), 2)
            bars.append(Bar(stamp, at, at, at, at, 0, None))
        return bars
