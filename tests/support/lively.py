"""A market of every kind, and whatever may happen to one of its tickers from now on.

What the living-upstream test draws from. Apart from it, because it knows the market and the hour
alone, and nothing of a hub.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

from hypothesis import strategies as st

from gapless.simulator.happenings import (
    Absent,
    Action,
    CapitalGain,
    Correction,
    Cut,
    Delisted,
    Dividend,
    Happening,
    MissingRow,
    NullRow,
    Odd,
    Restatement,
    Split,
)
from gapless.simulator.instruments import coin, currency_pair, equity, fund
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.view import INTRADAY, PERIODS

HOUR, DAY = 3600, 86_400
FIRST = date(2024, 1, 2)
MARKET = Market(
    [
        equity(
            "AAA",
            first_trade=FIRST,
            holidays=frozenset({date(2025, 4, 18)}),
            early_closes={date(2025, 3, 14): 13 * HOUR},
        ),
        equity("EAST.NZ", tz="Pacific/Auckland", hours=(10 * HOUR, 60_300), first_trade=FIRST),
        equity("WEST", tz="Pacific/Honolulu", hours=(8 * HOUR, 14 * HOUR), first_trade=FIRST),
        currency_pair("EURUSD=X", first_trade=FIRST),
        coin("BTC-USD", first_trade=FIRST),
        fund("VFIAX", first_trade=FIRST),
    ],
    prices=RandomWalk(7),
    # One host is behind the other: by less than bars take to be final.
    edge_lags_s=(0.0, 600.0),
)
TRADED = tuple(one for one in MARKET.symbols if one != "VFIAX")
"""Those that have intraday bars."""

# Hours after the ex-date's open at which an action is registered; -1: as soon as it is known.
LATE = st.sampled_from([-1, 0, 0, 3, 47, 120])
# By how much later the second host shows what happens, in hours; mostly it does not.
BEHIND = st.sampled_from([0, 0, 0, 0, 5, 40])
FACTORS: Sequence[dict[str, float]] = (
    {"close": 1.01},
    {"volume": 1.2},
    {"high": 1.02, "volume": 0.9},
)
WRONG: Sequence[dict[str, float | bool | None]] = (
    {"close": 1.003},
    {"close": None},
    {"low": 0.5, "volume": 0.0},
    {"close": 0.997, "flat": True},
    {"adjclose": 0.9},
)


class Lively:
    """What may happen to one symbol at an instant, UTC seconds of upstream's clock.

    `interval`: that of which single bars and single answers are another.
    """

    def __init__(self, market: Market, symbol: str, interval: str, now_s: float) -> None:
        self._market, self._symbol, self._interval = market, symbol, interval
        self._now_s = now_s
        self._today = market.calendar(symbol).day_of(now_s)

    def action(self, kind: str, late: int) -> Action | None:
        """Return a split, dividend or capital gain of the next session, unless it has one."""
        day = self._today + 1
        while (session := self._market.session(self._symbol, day)) is None:
            day += 1
        ex = date.fromordinal(day)
        happened = self._market.happenings(self._symbol)
        if any(isinstance(one, Action) and one.ex_date == ex for one in happened):
            return None
        seen_s = self._now_s if late < 0 else float(session.open_s + HOUR * late)
        name, _, amount = kind.partition(" ")
        if name == "split":
            new, old = map(int, amount.split(":"))
            return Split(self._symbol, ex, new, old, seen_s=seen_s)
        payout = Dividend if name == "dividend" else CapitalGain
        return payout(self._symbol, ex, float(amount), seen_s=seen_s)

    def restatements(self, back: int, days: int, factors: dict[str, float]) -> list[Happening]:
        """Return revisions of some days of the past."""
        past = sorted({self._session(back + i) for i in range(days)})
        return [Restatement(self._symbol, day, self._now_s, **factors) for day in past]

    def hole(self, back: int, heals_s: float, kind: str) -> Happening:
        """Return a row that is null or missing for a while."""
        day, until_s = self._session(back), self._now_s + heals_s
        if kind == "missing":
            return MissingRow(self._symbol, day, from_s=self._now_s, heals_s=until_s)
        partly = kind == "partly"
        return NullRow(self._symbol, day, from_s=self._now_s, heals_s=until_s, partly=partly)

    def correction(
        self, back: int, heals_s: float | None, columns: dict[str, float | bool | None]
    ) -> Happening | None:
        """Return one bar that is another, for a while or for good."""
        step_s = INTRADAY.get(self._interval, 8 * DAY if self._interval in PERIODS else DAY)
        end_s = self._now_s - back * step_s - step_s
        start_s = end_s - max(40 * step_s, 20 * DAY)
        bars = self._market.bars(self._symbol, self._interval, start_s, end_s, self._now_s)
        if not bars:
            return None
        until_s = None if heals_s is None else self._now_s + heals_s
        return Correction(self._symbol, self._interval, bars[-1].t, self._now_s, until_s, **columns)  # type: ignore[arg-type]

    def absent(self, hours: int, back: int, days: int, alone: bool) -> Happening:
        """Return a stretch, or everything, that is not served for a while."""
        end = self._now_s - DAY * back
        start, end = (end - DAY * days, end) if days else (-math.inf, math.inf)
        of = frozenset({self._interval}) if alone else None
        heals_s = self._now_s + HOUR * hours
        return Absent(self._symbol, start, end, self._now_s, heals_s, of)

    def cut(self, hours: int, rows: int, first: bool) -> Happening:
        """Return that answers have but so many rows for a while."""
        shown = self._now_s, self._now_s + HOUR * hours
        return Cut(self._symbol, rows, "first" if first else "last", *shown)

    def delisted(self, hours: int) -> Happening:
        """Return that the symbol is not known for a while."""
        return Delisted(self._symbol, self._now_s, self._now_s + HOUR * hours)

    def odd(self, hours: int, kind: str) -> Happening | None:
        """Return that its answers are none to the question for a while, or have bad values.

        In one way at a time.
        """
        happened = self._market.happenings(self._symbol)
        if any(isinstance(one, Odd) and (one.heals_s or 0) > self._now_s for one in happened):
            return None
        shown = self._symbol, self._now_s, self._now_s + HOUR * hours
        return {
            "outside": Odd(*shown, stamps="outside"),
            # Of a bar and the live row once each nobody could tell which is meant.
            "one": Odd(*shown, stamps="one", repeats=2),
            "reversed": Odd(*shown, stamps="reversed"),
            "repeats": Odd(*shown, repeats=3),
            "twice": Odd(*shown, repeats=2),
            "another": Odd(*shown, meta=(("symbol", b'"ZZZ"'),)),
            "lacks": Odd(*shown, lacks=frozenset({"open"})),
            "word": Odd(*shown, values=(("close", b'"n/a"'),)),
            "huge": Odd(*shown, values=(("volume", b"9223372036854775808"),)),
        }[kind]

    def _session(self, back: int) -> date:
        day = self._today - back
        while self._market.session(self._symbol, day) is None:
            day -= 1
        return date.fromordinal(day)


ACTIONS = (
    "split 2:1",
    "split 3:2",
    "split 1:10",
    "split 20:1",
    "dividend 0.002",
    "dividend 0.005",
    "dividend 0.2",
    "dividend 1.5",
    "gain 0.3",
)
ODDITIES = ("outside", "one", "reversed", "repeats", "twice", "another", "lacks", "word", "huge")
REFUSED = frozenset({"outside", "one", "repeats", "another", "lacks"})
"""Those of which an answer may be none at all."""
