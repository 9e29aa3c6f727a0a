"""A ranged plugin with a record a minute, handed over in the way that the ticker names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

MINUTE_S = 60
PAGE = 20_000
HELD_BACK = 200


class Provider:
    """All ways have the same records but for those of what it fails at."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def name(self) -> str:
        return "lengthy"

    def describe(self) -> dict[str, Any]:
        return {"bar": "1m", "data_start": "2020-01-01", "rate": 1_000_000, "burst": 1_000_000}

    def fetch(self, ticker: str, start: datetime, end: datetime) -> Any:
        print(f"asked {ticker} {start:%Y-%m-%dT%H:%M} {end:%Y-%m-%dT%H:%M}")  # noqa: T201
        way = ticker.partition("-")[0].lower()
        self.calls[ticker] = self.calls.get(ticker, 0) + 1
        first, last = -(-int(start.timestamp()) // MINUTE_S), -(-int(end.timestamp()) // MINUTE_S)
        return getattr(self, way)(range(first, last), self.calls[ticker])

    def list(self, minutes: range, call: int) -> Any:
        return [record(one) for one in minutes]

    def frame(self, minutes: range, call: int) -> Any:
        import polars as pl

        at = pl.int_range(minutes.start, minutes.stop, eager=True)
        return pl.DataFrame({"timestamp": at * MINUTE_S, "value": at / 4, "place": at % 1000})

    def each(self, minutes: range, call: int) -> Iterator[Any]:
        yield from map(record, minutes)

    def raising(self, minutes: range, call: int) -> Iterator[Any]:
        """Break off at 99 of 100 records, the first time."""
        yield from map(record, minutes[: len(minutes) * 99 // 100] if call == 1 else minutes)
        if call == 1:
            raise ConnectionError("the line went dead")

    def descending(self, minutes: range, call: int) -> Iterator[Any]:
        yield from map(record, reversed(minutes))

    def back(self, minutes: range, call: int) -> Iterator[Any]:
        """Go back for some that were left out."""
        left_out = minutes[100 : 100 + HELD_BACK]
        yield from (record(one) for one in minutes if one not in left_out)
        yield from map(record, left_out)

    def woven(self, minutes: range, call: int) -> Iterator[Any]:
        yield from map(record, minutes[::2])
        yield from map(record, minutes[1::2])

    def stretches(self, minutes: range, call: int) -> Iterator[Any]:
        """Hand over a list of two stretches: what the first leaves out, and what follows it."""
        left_out = [minutes[1], minutes[-1]]
        yield [record(one) for one in (*(one for one in minutes if one not in left_out), *left_out)]

    def backing(self, minutes: range, call: int) -> Iterator[Any]:
        """Answer as a whole; then go back in a list, and from then on fail."""
        if call == 1:
            return self.each(minutes, call)
        if call > 2:
            raise ConnectionError("the line went dead")
        return self.halves(minutes)

    def halves(self, minutes: range) -> Iterator[Any]:
        half = len(minutes) // 2
        for part in (minutes[:half], minutes[100:200], minutes[half:]):
            yield [record(one) for one in part]

    def pages(self, minutes: range, call: int) -> Iterator[Any]:
        """Hand over the latest page first."""
        for at in reversed(range(0, len(minutes), PAGE)):
            yield [record(one) for one in minutes[at : at + PAGE]]

    def broken(self, minutes: range, call: int) -> Iterator[Any]:
        """Do the same, and break off after the first page, the first few times."""
        pages = self.pages(minutes, call)
        yield next(pages)
        if call < 3:
            raise ConnectionError("the line went dead")
        yield from pages


def record(minute: int) -> dict[str, Any]:
    """Return the record of a minute since 1970."""
    return {"timestamp": minute * MINUTE_S, "value": minute / 4, "place": minute % 1000}
