"""What answers on another basis, and of actions, are held to while upstream lives.

From the rules' text alone: at some moment since the series became due, upstream told of the bar
and of the splits what the answer is made of. It shares no code with the hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from math import isclose, prod
from typing import Any, NamedTuple

from gapless.simulator.happenings import CapitalGain, Dividend, Split
from gapless.simulator.market import Market

PRICES = ("open", "high", "low", "close")
# Prices of single precision, by which others were multiplied.
_NEAR = 1e-6
Row = dict[str, Any]
Named = dict[int, Row]


class Window(NamedTuple):
    """From when to when upstream may have been asked for what is told, in seconds."""

    since: float
    until: float


class Bases:
    """The oracle of one market."""

    def __init__(self, market: Market) -> None:
        self._market = market

    def check_bars(self, symbol: str, adjust: str, rows: Sequence[Row], window: Window) -> None:
        """Hold daily bars to it: each is one that was served, with what was named at that moment.

        A bar that upstream served without prices at every moment is none to be held to anything.
        """
        moments = self._moments(symbol, window)
        worlds = [
            (self._served(symbol, at_s, edge, rows), self._splits(symbol, at_s, edge))
            for at_s in moments
            for edge in range(len(self._market.edge_lags_s))
        ]
        for row in rows:
            fits = [
                self._expected(served[row["timestamp"]], adjust, self._undone(row, splits))
                for served, splits in worlds
                if row["timestamp"] in served
            ]
            assert any(_same(row, one) for one in fits), (adjust, row, fits, moments)

    def check_actions(
        self, symbol: str, told: Sequence[Row], asked: tuple[int, int], window: Window
    ) -> None:
        """Hold actions to it: each was named at some moment, and what always was is there."""
        start, end = asked
        named = [
            self._named(symbol, at_s, edge)
            for at_s in self._moments(symbol, window)
            for edge in range(len(self._market.edge_lags_s))
        ]
        for row in told:
            assert any(_alike(row, one.get(row["timestamp"])) for one in named), (row, named)
        stamps = {row["timestamp"] for row in told}
        always = set(named[0]).intersection(*named[1:])
        for stamp in always:
            assert stamp in stamps or not start <= stamp * 1000 < end, (stamp, told)

    def _moments(self, symbol: str, window: Window) -> list[float]:
        """Return the moments at which what is served of a symbol may be another than before."""
        turns = self._market.turns(symbol, *window)
        # On its ex-date an action is named, whenever it began to show.
        opens = [
            self._opens(symbol, one.ex_date) + lag_s
            for one in self._market.happenings(symbol)
            if isinstance(one, Split | Dividend | CapitalGain)
            for lag_s in self._market.edge_lags_s
        ]
        around = {at_s + aside for at_s in (*turns, *opens) for aside in (-1, 0, 1)}
        found = {*window, *around}
        return sorted(at_s for at_s in found if window.since <= at_s <= window.until)

    def _served(self, symbol: str, at_s: float, edge: int, rows: Sequence[Row]) -> dict[int, Row]:
        if not rows:
            return {}
        first, last = rows[0]["timestamp"], rows[-1]["timestamp"] + 1
        bars = self._market.served(symbol, "1d", first, last, at_s, edge)
        names = (*PRICES, "adjclose", "volume")
        return {bar.t: {name: getattr(bar, name) for name in names} for bar in bars}

    def _splits(self, symbol: str, at_s: float, edge: int) -> list[tuple[int, float]]:
        """Return the splits that are named at a moment: by their ex-dates' opening, and ratio."""
        seen_s = self._market.seen_by(edge, at_s)
        events = self._market.view(symbol, seen_s, edge).events()
        return [
            (opens, float(one.ratio))
            for opens, one, _ in events
            if isinstance(one, Split) and opens <= seen_s
        ]

    def _named(self, symbol: str, at_s: float, edge: int) -> Named:
        seen_s = self._market.seen_by(edge, at_s)
        found: Named = {}
        for opens, one, amount in self._market.view(symbol, seen_s, edge).events():
            if opens > seen_s:
                continue
            row = found.setdefault(opens, {"split": None, "dividend": None, "capital_gain": None})
            match one:
                case Split():
                    row["split"] = float(one.ratio)
                case Dividend():
                    row["dividend"] = amount
                case CapitalGain():
                    row["capital_gain"] = amount
        return found

    def _undone(self, row: Row, splits: Sequence[tuple[int, float]]) -> float:
        return prod(ratio for opens, ratio in splits if row["timestamp"] < opens)

    def _expected(self, served: Row, adjust: str, ratio: float) -> Row:
        if adjust == "none":
            by: float | None = ratio
        else:
            close, adjusted = served["close"], served["adjclose"]
            by = adjusted / close if close and adjusted is not None else None
        return {
            name: None if served[name] is None or by is None else served[name] * by
            for name in PRICES
        }

    def _opens(self, symbol: str, day: date) -> float:
        return self._market.calendar(symbol).hours(day.toordinal()).open_s


def _same(row: Row, other: Row) -> bool:
    return all(_close(row[name], other[name], _NEAR) for name in PRICES)


def _alike(row: Row, other: Row | None) -> bool:
    if other is None:
        return False
    return all(_close(row[name], amount, 1e-4) for name, amount in other.items())


def _close(one: float | None, other: float | None, near: float) -> bool:
    if one is None or other is None:
        return one is other
    return isclose(one, other, rel_tol=near)
