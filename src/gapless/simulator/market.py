"""The simulated market: which bars upstream truly holds at an instant.

Pure but for what it remembers, and independent of the hub, so that tests can take its answers
as the truth. How upstream garbles them on the way out is chart.py's matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gapless.errors import NotFound, Unsupported
from gapless.simulator.book import Bar, Book
from gapless.simulator.happenings import Dividend, Happening, Split
from gapless.simulator.instruments import (
    HOUR,
    Calendar,
    Instrument,
    Session,
    period_end,
    period_start,
)
from gapless.simulator.prices import PriceSource, RandomWalk
from gapless.simulator.tape import Tape

INTRADAY = {
    "1m": 60,
    "2m": 120,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "60m": HOUR,
    "1h": HOUR,
    "90m": 5400,
    "4h": 4 * HOUR,
}
PERIODS = ("1wk", "1mo", "3mo")


class Market:
    """Instruments, their prices, and what upstream shows of them when.

    `prices` serves every instrument that `series` has no source of its own for (default: a
    `RandomWalk`). `edge_lags_s`: the hosts disagree: edge k shows the world as it was that many
    seconds ago. `float32`: prices are rounded to single precision, as upstream's are.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument] = (),
        *,
        prices: PriceSource | None = None,
        series: Mapping[str, PriceSource] | None = None,
        edge_lags_s: Sequence[float] = (0.0,),
        float32: bool = True,
    ) -> None:
        self._prices = prices if prices is not None else RandomWalk()
        self._float32 = float32
        self._books: dict[str, Book] = {}
        self.edge_lags_s = tuple(edge_lags_s)
        for instrument in instruments:
            self.enlist(instrument, (series or {}).get(instrument.symbol))

    def fresh(self) -> Market:
        """Return a market of the same instruments and prices to which nothing has happened.

        It shares what was worked out of calendars and prices, so it costs next to nothing.
        """
        other = Market(prices=self._prices, edge_lags_s=self.edge_lags_s, float32=self._float32)
        for symbol, book in self._books.items():
            other._books[symbol] = Book(book.tape, single=self._float32)
        return other

    def enlist(self, instrument: Instrument, prices: PriceSource | None = None) -> None:
        """Add or replace an instrument, with prices of its own if given."""
        source = prices if prices is not None else self._prices
        self._books[instrument.symbol] = Book(Tape(instrument, source), single=self._float32)

    def delist(self, symbol: str) -> None:
        """Remove a symbol: upstream knows it no longer."""
        self._books.pop(symbol, None)

    def add(self, *happenings: Happening) -> None:
        """Make something happen. Raises `NotFound` for a symbol that is not listed."""
        for what in happenings:
            self._book(what.symbol).add(what)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The listed symbols."""
        return tuple(self._books)

    def instrument(self, symbol: str) -> Instrument | None:
        """Return the instrument, or `None` if it is not listed."""
        book = self._books.get(symbol)
        return None if book is None else book.tape.instrument

    def calendar(self, symbol: str) -> Calendar:
        """Return the calendar of a symbol. Raises `NotFound`."""
        return self._book(symbol).calendar

    def session(self, symbol: str, day: int) -> Session | None:
        """Return the session of a day, or `None` where there is none. Raises `NotFound`."""
        return self._book(symbol).tape.session(day)

    def first_session(self, symbol: str) -> Session:
        """Return the first session that ever was. Raises `NotFound`."""
        book = self._book(symbol)
        return book.calendar.hours(book.first_day)

    def last_session(self, symbol: str, at_s: float) -> Session | None:
        """Return the latest session that had opened before `at_s`, or `None`."""
        book = self._book(symbol)
        for day in range(book.calendar.day_of(at_s), book.first_day - 1, -1):
            found = book.tape.session(day)
            if found is not None and found.open_s < at_s:
                return found
        return None

    def seen_by(self, edge: int, at_s: float) -> float:
        """Return the instant whose world `edge` shows at `at_s`."""
        return at_s - self.edge_lags_s[edge]

    def bars(
        self, symbol: str, interval: str, start_s: float, end_s: float, at_s: float, edge: int = 0
    ) -> list[Bar]:
        """Return the true bars stamped in `[start_s, end_s)` as upstream knows them at `at_s`.

        A bar is there once its stamp lies before `at_s`. The forming bar has its session's
        stamp; longer bars hold the whole period so far, whatever the range. Raises `NotFound`
        for an unknown symbol and `Unsupported` for an unknown interval.
        """
        if interval not in INTRADAY and interval not in ("1d", *PERIODS):
            raise Unsupported(f"The simulated market has no bars of interval {interval!r}.")
        book = self._book(symbol)
        at_s = self.seen_by(edge, at_s)
        end_s = min(end_s, at_s)
        if start_s >= end_s:
            return []
        first, last = book.calendar.day_of(start_s), book.calendar.day_of(end_s)
        if interval in PERIODS:
            first = period_start(interval, first)
            last = period_end(interval, period_start(interval, last)) - 1
            days = self.daily(symbol, first, last, at_s)
            found = in_periods(interval, days, book.calendar)
        elif interval == "1d":
            found = [bar for _, bar in self.daily(symbol, first, last, at_s)]
        else:
            found = self.intraday(symbol, INTRADAY[interval], first, last, at_s)
        return [bar for bar in found if start_s <= bar.t < end_s]

    def daily(self, symbol: str, first: int, last: int, at_s: float) -> list[tuple[int, Bar]]:
        """Return `(day, bar)` of the days from `first` to `last`, both included."""
        book = self._book(symbol)
        shown = book.shown(at_s)
        last = min(last, book.calendar.day_of(at_s))
        found = []
        for day in range(max(first, book.first_day), last + 1):
            bar = shown.day(day, at_s)
            if bar is not None:
                found.append((day, bar))
        return found

    def intraday(self, symbol: str, step_s: int, first: int, last: int, at_s: float) -> list[Bar]:
        """Return the bars of `step_s` seconds of the days from `first` to `last`."""
        book = self._book(symbol)
        shown = book.shown(at_s)
        last = min(last, book.calendar.day_of(at_s))
        found: list[Bar] = []
        for day in range(max(first, book.first_day), last + 1):
            found += shown.parts(day, step_s, at_s)
        return found

    def events(self, symbol: str, at_s: float) -> list[tuple[int, Split | Dividend, float]]:
        """Return what is shown at `at_s` as `(ex-date's open, event, amount)`.

        A dividend's amount is in today's shares: divided by the splits after it.
        """
        book = self._book(symbol)
        shown = book.shown(at_s)
        found: list[tuple[int, Split | Dividend, float]] = []
        for split in shown.splits:
            found.append((book.calendar.hours(split.ex_date.toordinal()).open_s, split, 0.0))
        for dividend in shown.dividends:
            amount = dividend.amount
            for split in shown.splits:
                if split.ex_date > dividend.ex_date:
                    amount /= float(split.ratio)
            opened = book.calendar.hours(dividend.ex_date.toordinal()).open_s
            found.append((opened, dividend, amount))
        return sorted(found, key=lambda item: item[0])

    def _book(self, symbol: str) -> Book:
        book = self._books.get(symbol)
        if book is None:
            raise NotFound(f"The simulated market does not list {symbol!r}.")
        return book


def in_periods(
    interval: str, days: Iterable[tuple[int, Bar]], calendar: Calendar, anchor_weekday: int = 0
) -> list[Bar]:
    """Return the weekly, monthly or quarterly bars of these days, stamped at local midnight."""
    grouped: dict[int, list[Bar]] = {}
    for day, bar in days:
        grouped.setdefault(period_start(interval, day, anchor_weekday), []).append(bar)
    return [aggregate(calendar.midnight(first), bars) for first, bars in grouped.items()]


def aggregate(t: int, bars: Sequence[Bar]) -> Bar:
    """Return one bar, stamped `t`, of one or more bars in order; null rows are left out.

    Of null rows alone comes a null row. The adjclose is the last one.
    """
    whole = [bar for bar in bars if bar.close is not None]
    volumes = [bar.volume for bar in bars if bar.volume is not None]
    return Bar(
        t,
        whole[0].open if whole else None,
        max((bar.high for bar in whole if bar.high is not None), default=None),
        min((bar.low for bar in whole if bar.low is not None), default=None),
        whole[-1].close if whole else None,
        sum(volumes) if volumes else None,
        whole[-1].adjclose if whole else None,
    )
