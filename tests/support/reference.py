"""The simplest cache that keeps the promise of `ready`: it fetches the whole each time.

Small enough to be read, it shows that the oracle of support/promise.py can be satisfied, whatever
upstream does. What `tests/unit/test_promise.py` makes of it breaks one clause each.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from itertools import pairwise
from typing import Any

from gapless.simulator.chart import Query, answer, parse
from gapless.simulator.market import Market
from gapless.simulator.quirks import Quirks
from gapless.simulator.server import Request
from support.history import COLUMNS, History, Record, Series, priced
from support.promise import CLIP_MS, LOOK_BACK_MS
from support.told import Covered, Facts, Span, Told, Why

PRICES = ("open", "high", "low", "close")


class Reference:
    """One series' cache; `log` is what it asked of upstream, without a socket between."""

    def __init__(self, market: Market, symbol: str, interval: str = "1d") -> None:
        instrument = market.instrument(symbol)
        assert instrument is not None
        self.market, self.series = market, Series(symbol, interval)
        self.facts = Facts.of(instrument)
        self.log: list[Request] = []
        self.history = History(market, self.log, {})
        self.held: dict[int, Record] = {}
        self.fetched: dict[int, float] = {}
        self.marks: dict[int, str] = {}
        self.kept: set[int] = set()
        self.doubts: dict[int, float] = {}
        self.known_empty: set[int] = set()
        self.known_splits: set[int] = set()
        self.begin: int | None = None

    def ask(self, start_s: int, end_s: int, at_s: int, edge: int = 0) -> Told:
        """Fetch a range and answer it, both at `at_s`."""
        asked = Span(start_s * 1000, end_s * 1000)
        look_back = LOOK_BACK_MS.get(self.series.interval)
        low = asked.start
        if look_back is not None:
            low = max(low, (at_s + 1) * 1000 - look_back + CLIP_MS)
        window = Span(low, asked.end)
        got = self.fetch(window, at_s, edge)
        sure = got is not None and self.store(window, got, at_s)
        return self.told(asked, low, at_s, sure=sure)

    def fetch(self, window: Span, at_s: int, edge: int) -> dict[str, Any] | None:
        """Ask upstream; return the result, or `None` where it is no answer."""
        target = (
            f"/v8/finance/chart/{self.series.symbol}?interval={self.series.interval}"
            f"&period1={window.start // 1000}&period2={window.end // 1000}&events=split"
        )
        query = parse(target)
        assert isinstance(query, Query)
        found = answer(self.market, Quirks.none(), query, at_s, edge)
        self.log.append(
            Request(
                float(at_s),
                edge,
                target,
                query.symbol,
                query.interval,
                query.period1,
                query.period2,
                "",
                status=found.status,
                served=found.served,
                rows=found.rows,
                done=True,
                shown_t=float(at_s),
            )
        )
        body = json.loads(found.body)["chart"]
        if found.status == 400 and found.served:
            return {"meta": {"symbol": self.series.symbol}, "indicators": {"quote": [{}]}}
        return None if body["result"] is None else dict(body["result"][0])

    def store(self, window: Span, got: dict[str, Any], at_s: int) -> bool:
        """Take in an answer as far as it can be believed; return whether that is all of it."""
        rows = self.read(window, got)
        if rows is None:
            return False
        lost = [
            stamp
            for stamp, one in self.held.items()
            if window.start <= stamp < window.end
            and priced(one)
            and stamp not in self.kept
            and not priced(rows.get(stamp))
            and self.history.final_s(self.series, stamp, None) <= self.fetched[stamp]
        ]
        unsure, gone = self.believed(lost, at_s) if len(lost) > 2 else (set(), set(lost))
        if len(lost) > 2 and len({self.day(one) for one in gone if self.weekday(one)}) > 10:
            self.kept |= gone
        empty = self.unsure_days(window, rows, at_s)
        for stamp in [one for one in self.held if window.start <= one < window.end]:
            if stamp not in unsure | self.kept or priced(rows.get(stamp)):
                del self.held[stamp]
                self.marks.pop(stamp, None)
                self.kept.discard(stamp)
        for stamp in sorted(rows.keys() - unsure - self.kept):
            self.held[stamp], self.fetched[stamp] = rows[stamp], at_s
        for stamp, one in rows.items():
            if priced(one):
                self.doubts.pop(stamp, None)
        self.rescale(window, got, at_s)
        self.begin = window.start if self.begin is None else min(self.begin, window.start)
        return not unsure and not empty

    def read(self, window: Span, got: dict[str, Any]) -> dict[int, Record] | None:
        """Return the rows of an answer, or `None` where it does not answer the question."""
        if got["meta"].get("symbol") != self.series.symbol:
            return None
        stamps = [1000 * one for one in got.get("timestamp", [])]
        if any(stamps.count(one) > 2 for one in stamps[:1]):
            return None
        if sum(later < one for one, later in pairwise(stamps)) > 2:
            return None
        within = [one for one in stamps if window.start <= one < window.end]
        if len(stamps) > 1 and not within and max(stamps) < window.start:
            return None
        columns = dict(got["indicators"]["quote"][0])
        columns |= (got["indicators"].get("adjclose") or [{}])[0]
        if stamps and not {*PRICES, "volume"} <= columns.keys():
            return None
        if stamps and self.series.interval == "1d" and "adjclose" not in columns:
            return None
        columns.setdefault("adjclose", [None] * len(stamps))
        return {
            stamp: tuple(_number(columns[name][i]) for name in COLUMNS)
            for i, stamp in enumerate(stamps)
            if window.start <= stamp < window.end
        }

    def believed(self, doubtful: list[int], at_s: int) -> tuple[set[int], set[int]]:
        """Return what is in doubt still, and what two answers six hours apart agree on."""
        gone = {one for one in doubtful if at_s - self.doubts.setdefault(one, at_s) >= 6 * 3600}
        for one in gone:
            del self.doubts[one]
        return set(doubtful) - gone, gone

    def unsure_days(self, window: Span, rows: dict[int, Record], at_s: int) -> set[int]:
        """Return the days of long stretches without rows that are in doubt."""
        first_s = self.market.first_session(self.series.symbol).open_s
        first = self.day(max(window.start, 1000 * first_s))
        last = self.day(min(window.end - 1, 1000 * (at_s - 86_400)))
        days = {self.day(stamp) for stamp in (*rows, *self.held)}
        self.known_empty -= days
        for day in days:
            self.doubts.pop(day, None)
        unsure: set[int] = set()
        stretch: list[int] = []
        for day in range(first, last + 2):
            if day <= last and day not in days and day not in self.known_empty:
                stretch += [day] if date.fromordinal(day).weekday() < 5 else []
                continue
            still, gone = self.believed(stretch, at_s) if len(stretch) > 10 else (set(), set())
            unsure |= still
            self.known_empty |= gone
            stretch = []
        return unsure

    def rescale(self, window: Span, got: dict[str, Any], at_s: int) -> None:
        """Put what is out of window on the basis of a split that the answer names first."""
        for split in got.get("events", {}).get("splits", {}).values():
            ex_s, ratio = split["date"], split["numerator"] / split["denominator"]
            if ex_s in self.known_splits:
                continue
            self.known_splits.add(ex_s)
            for stamp in [one for one in self.held if one < min(window.start, 1000 * ex_s)]:
                if self.fetched[stamp] >= ex_s:
                    if self.fetched[stamp] < at_s:
                        self.marks[stamp] = "unverified"
                    continue
                columns = zip(COLUMNS, self.held[stamp], strict=True)
                self.held[stamp] = tuple(
                    one if one is None else round(one * ratio) if name == "volume" else one / ratio
                    for name, one in columns
                )
                self.marks.setdefault(stamp, "rescaled")

    def told(self, asked: Span, low: int, at_s: int, *, sure: bool) -> Told:
        """Return what is held of a range as the answer."""
        begin = asked.start if self.begin is None else max(asked.start, min(self.begin, low))
        records = {s: one for s, one in sorted(self.held.items()) if begin <= s < asked.end}
        moving = [
            stamp
            for stamp, one in records.items()
            if self.history.final_s(self.series, stamp, one) > at_s
        ]
        moving += [one for one in self.history.unsettled(self.series, at_s) if one >= begin]
        final = min(min(moving, default=asked.end), asked.end)
        at = at_s * 1000
        coverage = [Covered(begin, final, at), Covered(final, asked.end, at, at + 60_000)]
        missing = [Span(asked.start, begin)] if asked.start < begin else []
        state = "partial" if missing else "ready"
        return Told(
            self.series,
            asked,
            state if sure else "stale",
            records,
            at,
            at,
            [one for one in coverage if one.start < one.end],
            self.facts,
            missing,
            [
                *(Why(mark, s, s + 1) for s, mark in self.marks.items() if s in records),
                *(Why("unverified", s, s + 1) for s in sorted(self.kept) if s in records),
            ],
        )

    def day(self, stamp: int) -> int:
        """Return the day of the exchange that a stamp lies in."""
        return self.market.calendar(self.series.symbol).day_of(stamp / 1000)

    def weekday(self, stamp: int) -> bool:
        """Return whether a stamp lies on a weekday of the exchange."""
        return date.fromordinal(self.day(stamp)).weekday() < 5


def changed(told: Told, records: dict[int, Record]) -> Told:
    """Return an answer with other records."""
    return replace(told, records=dict(sorted(records.items())))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return None if abs(value) >= 2**63 else value
