"""Frames of many tickers, put together while others are on their way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gapless.client import frames

if TYPE_CHECKING:
    import polars as pl

# Memory that was just given back is sooner had than new one, of which the whole is made but once.
_ROWS = 1 << 15
_OWN_TICKER = "ticker_"


class Stack:
    """Frames of many tickers, one below the other in the order of the tickers.

    They come in any order, and are put together as soon as their turn is there.
    """

    def __init__(self, tickers: Sequence[str], rows: int = _ROWS) -> None:
        """`rows`: as soon as there are so many of one schema, they are put together."""
        self._most = rows
        self._tickers = tickers
        self._places = {ticker: place for place, ticker in enumerate(tickers)}
        # Those that came before their turn.
        self._early: dict[int, pl.DataFrame | None] = {}
        self._next = 0
        self._names: list[str] = []
        self._heights: list[int] = []
        self._together: list[pl.DataFrame] = []
        self._loose: list[pl.DataFrame] = []
        self._rows = 0

    @property
    def lacking(self) -> list[str]:
        """The tickers of which nothing is known yet."""
        return [
            self._tickers[at]
            for at in range(self._next, len(self._tickers))
            if at not in self._early
        ]

    def put(self, ticker: str, frame: pl.DataFrame | None) -> None:
        """Take the frame of a ticker, `timestamp` in Unix seconds; `None`: there is none."""
        self._early[self._places[ticker]] = frame
        while self._next in self._early:
            there = self._early.pop(self._next)
            # Without records it says nothing of columns, either: not all doors know any then.
            if there is not None and there.height:
                self._take(self._tickers[self._next], there)
            self._next += 1

    def frame(self) -> pl.DataFrame:
        """Return all of them as one, with a column `ticker` before the others."""
        import polars as pl

        found = [*self._together, *self._loose]
        if not found:
            instants = pl.Datetime("us", "UTC")
            return pl.DataFrame(schema={"ticker": pl.String, "timestamp": instants})
        # Which ticker each row is of as a number first: that repeats faster than a text.
        number = pl.DataFrame(
            {"at": range(len(self._names)), "n": self._heights},
            schema={"at": pl.UInt32, "n": pl.UInt32},
        ).select(pl.col("at").repeat_by("n").explode(empty_as_null=False))
        column = pl.Series("ticker", self._names, dtype=pl.String).gather(number.to_series())
        whole = frames.dated(frames.together(found))
        if "ticker" in whole.columns:
            # The records have a column of that name themselves.
            own = _OWN_TICKER
            while own in whole.columns:
                own += "_"
            whole = whole.rename({"ticker": own})
        return whole.insert_column(0, column)

    def _take(self, ticker: str, frame: pl.DataFrame) -> None:
        import polars as pl

        self._names.append(ticker)
        self._heights.append(frame.height)
        if self._loose and frame.schema != self._loose[0].schema:
            # What gives way to what is decided when all are there.
            self._together += self._loose
            self._loose = []
            self._rows = 0
        self._loose.append(frame)
        self._rows += frame.height
        if self._rows >= self._most:
            self._together.append(pl.concat(self._loose, rechunk=True))
            self._loose = []
            self._rows = 0
