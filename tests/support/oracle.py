"""The sample's records read straight from its file, and a database held against them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec

from gapless.domain.coverage import Coverage, Outcome
from gapless.domain.intervals import Interval
from gapless.providers.sample import PRICES, read_histories
from gapless.store.base import Store

EVERYTHING = Interval(-(1 << 60), 1 << 60)


class SampleOracle:
    """What a sample's range must hold, known without a hub."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[int, dict[str, Any]]]] = {
            ticker: [
                (record.time, msgspec.json.decode(msgspec.json.encode(record.row)))
                for record in history.records
            ]
            for ticker, history in read_histories(PRICES).items()
        }

    @property
    def tickers(self) -> list[str]:
        return sorted(self._rows)

    def rows(self, ticker: str, interval: Interval) -> list[dict[str, Any]]:
        """Return the records whose time lies in `interval`."""
        return [row for time, row in self._rows[ticker] if interval.start <= time < interval.end]

    async def faults(self, store: Store) -> tuple[list[str], dict[str, list[Interval]]]:
        """Return what is not true in a database, and what it covers, by ticker."""
        wrong: list[str] = []
        covered: dict[str, list[Interval]] = {}
        for state in await store.all_series("sample"):
            ticker = state.key.ticker
            snapshot = await store.read(state.key, EVERYTHING)
            held = {
                row["timestamp"] * 1000: row
                for block in snapshot.state.blocks
                if block.number is not None
                for row in json.loads(b"[" + snapshot.runs[block.number].text + b"]")
            }
            for one, next_ in pairwise(snapshot.state.coverage):
                if one.end > next_.start:
                    wrong.append(f"{ticker}: coverage overlaps at {next_.start}")
            for row in snapshot.state.coverage:
                wrong += self._untrue(ticker, row, held)
            spans = [row.interval for row in snapshot.state.coverage]
            wrong += [
                f"{ticker}: a record at {time} that no coverage knows of"
                for time in held
                if not any(span.start <= time < span.end for span in spans)
            ]
            covered[ticker] = spans
        return wrong, covered

    def _untrue(self, ticker: str, row: Coverage, held: dict[int, dict[str, Any]]) -> list[str]:
        mine = [held[time] for time in sorted(held) if row.start <= time < row.end]
        true = self.rows(ticker, row.interval)
        if mine != true:
            return [f"{ticker}: {row} has {len(mine)} records, {len(true)} are true"]
        if (row.outcome is Outcome.HELD) != bool(true):
            return [f"{ticker}: {row} has {len(true)} records"]
        return []
