"""Which of a symbol's bars are served at an instant: what is absent, cut short or corrected alone.

Apart from book.py, which is about the data themselves and all intervals at once; here an interval
has its own. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gapless.simulator.book import Bar, float32
from gapless.simulator.happenings import Absent, Correction, Cut, Delisted, Odd, Serving

_SAME = {"60m": "1h"}


class Servings:
    """What is in force for one interval of one symbol, at one host and instant.

    `delisted`: the symbol is not known. `odd`: how the answer is no answer to the question.
    """

    def __init__(self, interval: str, servings: Sequence[Serving], *, single: bool) -> None:
        interval = _SAME.get(interval, interval)
        self._single = single
        self._corrections = {
            what.stamp_s: what
            for what in servings
            if isinstance(what, Correction) and _SAME.get(what.interval, what.interval) == interval
        }
        self._absences = [
            what for what in servings if isinstance(what, Absent) and _concerns(what, interval)
        ]
        self._cuts = [
            what for what in servings if isinstance(what, Cut) and _concerns(what, interval)
        ]
        self.delisted = any(isinstance(what, Delisted) for what in servings)
        self.odd = tuple(what for what in servings if isinstance(what, Odd))

    def hides(self, stamp: int) -> bool:
        """Return whether what has this stamp is absent."""
        return any(what.start_s <= stamp < what.end_s for what in self._absences)

    def one(self, bar: Bar) -> Bar | None:
        """Return a bar as it is served by itself, or `None` where it is absent."""
        if self.hides(bar.t):
            return None
        correction = self._corrections.get(bar.t)
        return bar if correction is None else self._corrected(bar, correction)

    def rows(self, bars: Sequence[Bar]) -> list[Bar]:
        """Return the bars of one answer as they are served, in order."""
        found = [served for bar in bars if (served := self.one(bar)) is not None]
        return self.cut(found)

    def cut(self, rows: list[Bar]) -> list[Bar]:
        """Return as many rows as one answer has."""
        for what in self._cuts:
            rows = rows[: what.rows] if what.keeps == "first" else rows[-what.rows :]
        return rows

    def reach(self, rows: Sequence[Bar]) -> tuple[float, float]:
        """Return from when to when (inclusive) an answer with these rows names actions."""
        begin_s, end_s = float("-inf"), float("inf")
        for what in self._cuts:
            if not rows:
                end_s = float("-inf")
            elif what.keeps == "first":
                end_s = rows[-1].t
            else:
                begin_s = rows[0].t
        return begin_s, end_s

    def _corrected(self, bar: Bar, what: Correction) -> Bar:
        close = self._times(bar.close, what.close)
        return msgspec.structs.replace(
            bar,
            open=close if what.flat else self._times(bar.open, what.open),
            high=close if what.flat else self._times(bar.high, what.high),
            low=close if what.flat else self._times(bar.low, what.low),
            close=close,
            volume=_whole(bar.volume, what.volume),
            adjclose=self._times(bar.adjclose, what.adjclose),
        )

    def _times(self, price: float | None, factor: float | None) -> float | None:
        if price is None or factor is None:
            return None
        return float32(price * factor) if self._single else price * factor


def _whole(volume: int | None, factor: float | None) -> int | None:
    return None if volume is None or factor is None else round(volume * factor)


def _concerns(what: Absent | Cut, interval: str) -> bool:
    if what.intervals is None:
        return True
    return any(_SAME.get(one, one) == interval for one in what.intervals)
