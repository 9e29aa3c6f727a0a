"""What a hub answers, and what it knew, as the oracle of its promise takes it.

Instants are milliseconds UTC by the hub's clock, ranges are half open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gapless.simulator.instruments import Instrument, Kind
from support.history import Record, Series

DAY_MS, MINUTE_MS = 86_400_000, 60_000


class Span(NamedTuple):
    """A half-open range of milliseconds."""

    start: int
    end: int


class Why(NamedTuple):
    """A reason that the answer gives for a range."""

    reason: str
    start: int
    end: int


class Covered(NamedTuple):
    """An interval of coverage after the answer; `refresh_after` is `None` where it is final."""

    start: int
    end: int
    fetched_at: int
    refresh_after: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a hub knows of an exchange's sessions: when they open, on which days.

    `opens_local_s`: seconds after local midnight. `closed`: days that upstream has told to be
    without a session.
    """

    zone: str
    opens_local_s: int = 0
    weekdays: frozenset[int] = frozenset(range(5))
    closed: frozenset[date] = frozenset()

    @classmethod
    def of(cls, what: Instrument) -> Facts:
        """Return what upstream tells of an instrument sooner or later."""
        around = what.round_the_clock
        weekdays = frozenset(range(7)) if what.kind is Kind.CRYPTOCURRENCY else what.weekdays
        return cls(what.tz, 0 if around else what.open_local_s, weekdays, what.holidays)

    def due_ms(self, at_ms: int) -> int:
        """Return the latest opening, and 15 min, not after an instant (stitching rule 9)."""
        zone = ZoneInfo(self.zone)
        today = datetime.fromtimestamp(at_ms / 1000, zone).date()
        for back in range(400):
            day = today - timedelta(days=back)
            if day.weekday() not in self.weekdays or day in self.closed:
                continue
            opens = datetime.combine(day, time(), zone) + timedelta(seconds=self.opens_local_s)
            due = round(opens.timestamp() * 1000) + 15 * MINUTE_MS
            if due <= at_ms:
                return due
        raise AssertionError(f"{self} has had no session for a year")


@dataclass(frozen=True, slots=True)
class Told:
    """One answer of a hub, for `asked` of a series.

    `records` by stamp in milliseconds. `t0`: when the request was received, `t1`: when it was
    answered, by the hub's clock. `facts`: as stored at `t0`, `None` where there were none.
    `beside`: other requests of the series were under way, so that what they asked upstream may
    not be stored yet. `anew`: everything was to be fetched again (`fresh=now`).
    """

    series: Series
    asked: Span
    state: str
    records: Mapping[int, Record]
    t0: int
    t1: int
    coverage: Sequence[Covered]
    facts: Facts | None = None
    missing: Sequence[Span] = ()
    why: Sequence[Why] = ()
    beside: bool = False
    anew: bool = False

    @property
    def due(self) -> int:
        """The latest due moment not after `t0`; `t0` itself where all is wanted anew."""
        if self.anew:
            return self.t0
        return self.t0 - DAY_MS if self.facts is None else self.facts.due_ms(self.t0)

    def marked(self, stamp: int, *reasons: str) -> bool:
        """Return whether `why` gives one of these reasons for a stamp."""
        return any(one.reason in reasons and one.start <= stamp < one.end for one in self.why)

    def lacks(self, stamp: int) -> bool:
        """Return whether the answer says nothing of a stamp."""
        inside = self.asked.start <= stamp < self.asked.end
        return not inside or any(one.start <= stamp < one.end for one in self.missing)

    def coverage_of(self, stamp: int) -> Covered | None:
        """Return the coverage of a stamp; after a provisional tail all is covered by it."""
        before = None
        for one in self.coverage:
            if one.start <= stamp < one.end:
                return one
            if one.end <= stamp and (before is None or one.end > before.end):
                before = one
        later = any(one.start > stamp for one in self.coverage)
        provisional = before is not None and before.refresh_after is not None
        return before if provisional and not later else None

    def provisional(self) -> list[tuple[Span, Covered]]:
        """Return what of the asked range is not final, the uncovered tail included."""
        found = []
        last = max((one.end for one in self.coverage), default=0)
        for one in self.coverage:
            if one.refresh_after is None:
                continue
            end = max(one.end, self.asked.end) if one.end == last else one.end
            end = min(end, self.asked.end)
            # Nothing is said of an end that is missing.
            end = min([gap.start for gap in self.missing if gap.start < end <= gap.end] or [end])
            span = Span(max(one.start, self.asked.start), end)
            if span.start < span.end:
                found.append((span, one))
        return found
