"""One symbol as one host shows it at an instant: its days, parts, periods and actions.

Apart from market.py, which keeps the books; a view only reads one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gapless.errors import Unsupported
from gapless.simulator.book import Bar, Book
from gapless.simulator.happenings import Action
from gapless.simulator.instruments import HOUR, Calendar, Session, period_end, period_start
from gapless.simulator.serving import Servings

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


@dataclass(frozen=True, slots=True)
class View:
    """A symbol's book as the host `edge` shows it; `at_s`: the instant, its lag taken off."""

    book: Book
    at_s: float
    edge: int = 0

    @property
    def calendar(self) -> Calendar:
        """The calendar of the symbol."""
        return self.book.calendar

    def bars(self, interval: str, start_s: float, end_s: float) -> list[Bar]:
        """Return the true bars stamped in `[start_s, end_s)`, as `Market.bars` tells."""
        if interval not in INTRADAY and interval not in ("1d", *PERIODS):
            raise Unsupported(f"The simulated market has no bars of interval {interval!r}.")
        end_s = min(end_s, self.at_s)
        if start_s >= end_s:
            return []
        first, last = self.calendar.day_of(start_s), self.calendar.day_of(end_s)
        if interval in PERIODS:
            first = period_start(interval, first)
            last = period_end(interval, period_start(interval, last)) - 1
            found = in_periods(interval, self.daily(first, last), self.calendar)
        elif interval == "1d":
            found = [bar for _, bar in self.daily(first, last)]
        else:
            found = self.intraday(INTRADAY[interval], first, last)
        return [bar for bar in found if start_s <= bar.t < end_s]

    def daily(self, first: int, last: int) -> list[tuple[int, Bar]]:
        """Return `(day, bar)` of the days from `first` to `last`, both included."""
        shown = self.book.shown(self.at_s, self.edge)
        last = min(last, self.calendar.day_of(self.at_s))
        found = []
        for day in range(max(first, self.book.first_day), last + 1):
            bar = shown.day(day, self.at_s)
            if bar is not None:
                found.append((day, bar))
        return found

    def intraday(self, step_s: int, first: int, last: int) -> list[Bar]:
        """Return the bars of `step_s` seconds of the days from `first` to `last`."""
        shown = self.book.shown(self.at_s, self.edge)
        last = min(last, self.calendar.day_of(self.at_s))
        found: list[Bar] = []
        for day in range(max(first, self.book.first_day), last + 1):
            found += shown.parts(day, step_s, self.at_s)
        return found

    def servings(self, interval: str) -> Servings:
        """Return what decides which bars of an interval are served."""
        in_force = self.book.servings(self.at_s, self.edge)
        return Servings(interval, in_force, single=self.book.single)

    def session_before(self, before_s: float) -> Session | None:
        """Return the latest session that had opened (a fund: was published) before an instant."""
        for day in range(self.calendar.day_of(before_s), self.book.first_day - 1, -1):
            found = self.book.tape.session(day)
            if found is None:
                continue
            published_s = self.calendar.published_s(day)
            if found.open_s < before_s if published_s is None else published_s <= before_s:
                return found
        return None

    def events(self) -> list[tuple[int, Action, float]]:
        """Return what is shown as `(ex-date's open, action, amount)`.

        What is paid out is in today's shares: divided by the splits after it.
        """
        shown = self.book.shown(self.at_s, self.edge)
        found: list[tuple[int, Action, float]] = [
            (self._ex_s(split), split, 0.0) for split in shown.splits
        ]
        for payout in shown.payouts:
            amount = payout.amount
            for split in shown.splits:
                if split.ex_date > payout.ex_date:
                    amount /= float(split.ratio)
            found.append((self._ex_s(payout), payout, amount))
        return sorted(found, key=lambda item: item[0])

    def _ex_s(self, action: Action) -> int:
        return self.calendar.hours(action.ex_date.toordinal()).open_s


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
