"""What upstream would have said at any instant, and what it did say: the history of a market.

Taken from the simulated market and the log of its requests alone. Instants of upstream are UTC
seconds, stamps and ranges of records milliseconds, as a hub has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from gapless.simulator.book import Bar
from gapless.simulator.happenings import Odd
from gapless.simulator.instruments import DAY, Session, period_end, period_start
from gapless.simulator.market import Market
from gapless.simulator.server import Request
from gapless.simulator.view import INTRADAY, PERIODS

COLUMNS = ("open", "high", "low", "close", "adjclose", "volume")
JUST_BEFORE_S = 0.001
_VALUES = attrgetter(*COLUMNS)

Record = tuple[float | None, ...]
"""The values of `COLUMNS`."""


Bounds = tuple[str, str, int, int]
"""Symbol, interval, period1 and period2 of a request."""


class Series(NamedTuple):
    """A ticker's bars of one interval."""

    symbol: str
    interval: str


def record(bar: Bar) -> Record:
    """Return a bar's values as the provider reads them."""
    found: Record = _VALUES(bar)
    return found


def values(told: Mapping[str, float | None]) -> Record:
    """Return the values of a record as a hub tells it."""
    return tuple(told.get(name) for name in COLUMNS)


def priced(one: Record | None) -> bool:
    """Return whether there is a record and it has a price."""
    return one is not None and one[COLUMNS.index("close")] is not None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rows stamped in `[start, end)` that a host had at an instant.

    `asked`: it was truly said to a request. `unknown`: it was said that there is no such ticker.
    """

    at_s: float
    edge: int
    start: int
    end: int
    rows: Mapping[int, Record]
    asked: bool = False
    unknown: bool = False

    def tells(self, stamp: int) -> bool:
        """Return whether it says anything of a stamp."""
        return self.start <= stamp < self.end


class History:
    """A market with the log of what was asked of it, which grows while it is used.

    `wanted`: of which range a request for longer bars was, where that is known: it asks upstream
    for whole periods, and what it was not for is dropped.
    """

    def __init__(
        self, market: Market, log: Sequence[Request], wanted: Mapping[Bounds, tuple[int, int]]
    ) -> None:
        self.market = market
        self.log = log
        self._wanted = wanted
        self._answers: dict[int, Snapshot | None] = {}
        self._over: dict[tuple[Series, int], float] = {}

    @property
    def edges(self) -> range:
        """The numbers of the hosts."""
        return range(len(self.market.edge_lags_s))

    def moments(self, series: Series, start_s: float, end_s: float) -> list[float]:
        """Return instants in `[start_s, end_s]`, after which and before which nothing is new.

        What a bar that is over was at any instant, it was at one of these.
        """
        turns = self.market.turns(series.symbol, start_s, end_s)
        before = [turn_s - JUST_BEFORE_S for turn_s in turns if turn_s - JUST_BEFORE_S > start_s]
        return sorted({start_s, end_s, *turns, *before})

    def snapshot(
        self, series: Series, at_s: float, edge: int, start: int, end: int
    ) -> Snapshot | None:
        """Return what a host would have said of each stamp by itself.

        `None` where it said nothing that is an answer (stitching rule 6).
        """
        view = self.market.view(series.symbol, self.market.seen_by(edge, at_s), edge)
        servings = view.servings(series.interval)
        if servings.delisted or any(map(_never_read, servings.odd)):
            return None
        bars = view.bars(series.interval, start / 1000, end / 1000)
        served = [bar for one in bars if (bar := servings.one(one)) is not None]
        return Snapshot(at_s, edge, start, end, _rows(served))

    def snapshots(
        self, series: Series, moments: Iterable[float], start: int, end: int
    ) -> list[Snapshot]:
        """Return what every host would have said at each of these moments."""
        found = [
            self.snapshot(series, at_s, edge, start, end) for at_s in moments for edge in self.edges
        ]
        return [one for one in found if one is not None]

    def answers(self, series: Series, since_s: float, until_s: float) -> list[Snapshot]:
        """Return what was said to requests in `[since_s, until_s]`, in order.

        What is no answer to its question is left out, and so is what did not arrive.
        """
        found = [
            answer
            for number, one in enumerate(self.log)
            if one.done
            and concerns(one, series)
            and since_s <= said_at(one) <= until_s
            and (answer := self.answer(number)) is not None
        ]
        return sorted(found, key=lambda one: one.at_s)

    def answer(self, number: int) -> Snapshot | None:
        """Return what was said to a request of the log, or `None` where that is no answer.

        The request is done: what it was answered is remembered.
        """
        if number not in self._answers:
            self._answers[number] = self._answer(self.log[number])
        return self._answers[number]

    def _answer(self, request: Request) -> Snapshot | None:
        if request.period1 is None or request.period2 is None:
            return None
        at_s, edge = said_at(request), request.edge
        start, end = request.period1 * 1000, request.period2 * 1000
        if request.status == 404:
            return Snapshot(at_s, edge, start, end, {}, asked=True, unknown=True)
        if not request.served:
            return None
        view = self.market.view(request.symbol, self.market.seen_by(edge, at_s), edge)
        servings = view.servings(request.interval)
        begin_s = start / 1000
        if request.interval in PERIODS:
            # The first period comes as well, though its stamp lies before what was asked.
            first = period_start(request.interval, view.calendar.day_of(begin_s))
            begin_s = view.calendar.midnight(first)
        # A bar of a day or longer that begins just when the range ends comes too, and counts where
        # it is cut.
        end_s = end / 1000 + (request.interval not in INTRADAY)
        bars = view.bars(request.interval, begin_s, end_s)
        if request.interval in PERIODS:
            # One is there as soon as its first day is, and days come by their opening.
            bars = [bar for bar in bars if self._first_open_s(request.symbol, bar.t) < end_s]
        served = servings.rows(bars)
        if any(_refused(odd, request.rows) for odd in servings.odd):
            return None
        rows = _rows(served)
        if any(odd.stamps == "outside" for odd in servings.odd):
            # One such row is dropped, and what is left is an answer.
            rows = {}
        order = list(rows)
        for odd in servings.odd:
            if odd.stamps == "one":
                rows, order = dict(zip(order[:1], list(rows.values())[-1:], strict=True)), order[:1]
            if odd.stamps == "reversed":
                order.reverse()
        bad = {name for odd in servings.odd for name, _ in odd.values}
        for stamp in order[:1]:
            columns = zip(COLUMNS, rows[stamp], strict=True)
            rows[stamp] = tuple(None if name in bad else value for name, value in columns)
        bounds = request.symbol, request.interval, request.period1, request.period2
        start, end = self._wanted.get(bounds, (start, end))
        rows = {stamp: one for stamp, one in rows.items() if start <= stamp < end}
        return Snapshot(at_s, edge, start, end, rows, asked=True)

    def _first_open_s(self, symbol: str, stamp_s: float) -> float:
        """Return when the first session from a midnight on opens."""
        day = self.market.calendar(symbol).day_of(stamp_s)
        while (session := self.market.session(symbol, day)) is None:
            day += 1
        return session.open_s

    def over_s(self, series: Series, stamp: int) -> float:
        """Return when the bar with this stamp is over and moves no longer."""
        known = self._over.get((series, stamp))
        if known is None:
            known = self._over[series, stamp] = self._over_s(series, stamp)
        return known

    def _over_s(self, series: Series, stamp: int) -> float:
        calendar = self.market.calendar(series.symbol)
        day = calendar.day_of(stamp / 1000)
        if series.interval in PERIODS:
            first = period_start(series.interval, day)
            return calendar.midnight(period_end(series.interval, first))
        published_s = calendar.published_s(day)
        closes_s = calendar.hours(day).close_s if published_s is None else published_s
        if series.interval == "1d":
            return closes_s
        return max(stamp / 1000, min(stamp / 1000 + INTRADAY[series.interval], closes_s))

    def final_s(self, series: Series, stamp: int, one: Record | None) -> float:
        """Return from when the bar is final (stitching rule 3)."""
        over_s = self.over_s(series, stamp)
        if series.interval in PERIODS:
            return over_s
        if series.interval == "1d":
            calendar = self.market.calendar(series.symbol)
            closes_s = calendar.hours(calendar.day_of(stamp / 1000)).close_s
            final_s = max(over_s, closes_s + DAY)
            if one is not None and not priced(one):
                return max(final_s, stamp / 1000 + 7 * DAY)
            return final_s
        return over_s + 1800

    def unsettled(self, series: Series, at_s: float) -> list[int]:
        """Return the stamps of bars that had begun by an instant and are final only later.

        Whether or not there is such a bar; of days and parts of days.
        """
        calendar = self.market.calendar(series.symbol)
        today = calendar.day_of(at_s)
        stamps: list[int] = []
        for day in range(today - 4, today + 1):
            session = self.market.session(series.symbol, day)
            if session is None or series.interval in PERIODS:
                continue
            if series.interval == "1d":
                stamps.append(session.open_s)
            elif calendar.published_s(day) is None:
                stamps += range(session.open_s, session.close_s, INTRADAY[series.interval])
        found = [1000 * stamp_s for stamp_s in stamps if stamp_s < at_s]
        return [stamp for stamp in found if self.final_s(series, stamp, None) > at_s]

    def session_after(self, series: Series, at_s: float) -> Session:
        """Return the session that is open at an instant, or else the next one."""
        day = self.market.calendar(series.symbol).day_of(at_s) - 1
        while True:
            found = self.market.session(series.symbol, day)
            if found is not None and found.close_s > at_s:
                return found
            day += 1

    def closed_before(self, series: Series, at_s: float, most: int) -> list[Session]:
        """Return the last sessions that were closed by an instant, the latest first."""
        day = self.market.calendar(series.symbol).day_of(at_s)
        first = self.market.first_session(series.symbol).day
        found: list[Session] = []
        while len(found) < most and day >= first:
            session = self.market.session(series.symbol, day)
            if session is not None and session.close_s <= at_s:
                found.append(session)
            day -= 1
        return found


def concerns(request: Request, series: Series) -> bool:
    """Return whether a request asked for bars of this series."""
    asked = request.symbol, _one_name(request.interval)
    return asked == (series.symbol, _one_name(series.interval))


def said_at(request: Request) -> float:
    """Return of which instant the answer to a logged request is, in UTC seconds."""
    return request.t if request.shown_t is None else request.shown_t


def _rows(bars: Iterable[Bar]) -> dict[int, Record]:
    return {bar.t * 1000: record(bar) for bar in bars}


def _one_name(interval: str) -> str:
    return "1h" if interval == "60m" else interval


def _never_read(odd: Odd) -> bool:
    """Return whether no row comes through: another's name, a lacking column, a wrong stamp."""
    named = any(name == "symbol" for name, _ in odd.meta)
    return named or bool(odd.lacks) or odd.repeats > 2 or odd.stamps in ("outside", "one")


def _refused(odd: Odd, rows: int) -> bool:
    """Return whether an answer of so many rows is none to its question (stitching rule 6)."""
    return (
        any(name == "symbol" for name, _ in odd.meta)
        or (rows > 0 and (bool(odd.lacks) or odd.repeats > 2))
        or (odd.stamps == "outside" and rows > 1)
        or (odd.stamps == "one" and rows > 2)
        # Two steps back are the live row's; rows in another order may be anybody's.
        or (odd.stamps == "reversed" and rows > 3)
    )
