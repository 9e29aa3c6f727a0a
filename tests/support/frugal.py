"""Which requests the rules of stitching call for: rules 3, 5, 6, 9 and 11, by their own words.

A model of one answer to one request, alone and without failures, from what was known before it.
It shares no code with the hub. Instants are milliseconds UTC by the hub's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import portion

from gapless.simulator.view import INTRADAY
from support.told import DAY_MS

MOST_BARS = 10
BAR_MS = {name: 1000 * step_s for name, step_s in INTRADAY.items()} | {
    "1d": DAY_MS,
    "1wk": 7 * DAY_MS,
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of coverage as it was before."""

    start: int
    end: int
    fetched_at: int
    refresh_after: int | None
    commit: int


@dataclass(frozen=True, slots=True)
class Before:
    """What was known of a series when a request for `asked` came, and the rules' other words.

    `due`: the latest due moment. `due_before`: what earlier commits wrote is due. `times`: stamps
    of held records that can be compared. `waiting`: what is in doubt and not to be tried yet;
    `doubted`: what is held and in doubt, and is to be. `served_from`: where upstream's reach
    begins. `fresh`: how fresh it was wanted.
    """

    interval: str
    now: int
    asked: tuple[int, int]
    rows: Sequence[Row]
    due: int
    due_before: int
    times: Sequence[int]
    waiting: Sequence[tuple[int, int]] = ()
    doubted: Sequence[tuple[int, int]] = ()
    served_from: int = 0
    fresh: str = "check"

    def called_for(self) -> tuple[portion.Interval, portion.Interval, portion.Interval]:
        """Return the gaps, what of the asked range is to be fetched again, and what else is."""
        served = portion.closedopen(self.served_from, portion.inf)
        asked = portion.closedopen(*self.asked) & served
        known = old = aged = portion.empty()
        for row in self.rows:
            due = row.refresh_after is not None and row.refresh_after <= self.now
            here = portion.closedopen(row.start, self._to(row))
            fresh = self._fresh(row)
            if not due:
                known |= here
                aged |= portion.empty() if fresh else here
            if due or not fresh:
                old |= portion.closedopen(row.start, row.end)
        waiting = portion.empty()
        for start, end in self.waiting:
            waiting |= portion.closedopen(start, end)
        for start, end in self.doubted:
            aged |= portion.closedopen(start, end)
            old |= portion.closedopen(start, end)
        gaps, old = asked - known, (old & served) - waiting
        if self.fresh == "now":
            return gaps, asked & known, old
        again = portion.empty() if self.fresh == "held" else (asked & aged) - waiting
        return gaps - waiting, again, old

    def check(self, sent: Sequence[tuple[int, int]], seams: int) -> None:
        """Hold the requests that were sent, single bars apart, to those called for."""
        gaps, again, old = self.called_for()
        wanted = gaps | again
        told = f"{sent} for {gaps} and {again}; not fresh: {old}"
        if not wanted:
            assert not sent, f"for nothing: {told}"
            assert not seams, f"{seams} single bars for nothing"
            return
        # No interval here spans more than one request does.
        count = 1 if again or old else len(list(gaps))
        assert len(sent) == count, f"not {count}: {told}"
        assert not seams, f"{seams} single bars beside {told}"
        parts = list(wanted) if count > 1 else [(wanted | old).enclosure]
        for one, part in zip(sorted(sent, key=itemgetter(1)), parts, strict=True):
            assert part in portion.closedopen(*one), f"not for {part}: {told}"
            # Of several gaps one may be beside what another has brought, or without what it lost.
            more = self._more(one, part) if count == 1 else ""
            assert not more, f"{more} {part}: {told}"

    def _more(self, one: tuple[int, int], part: portion.Interval) -> str:
        """Return on which side a request takes along more than rule 11 lets it; mostly on none.

        That is up to ten held bars on each side, or what may still change where there is no bar.
        """
        fresh = [row for row in self.rows if self._fresh(row)]
        times = [time for time in self.times if any(row.start <= time < row.end for row in fresh)]
        before = [time for time in times if one[0] <= time < part.lower]
        after = [time for time in times if part.upper <= time < one[1]]
        forming = [row for row in self.rows if row.refresh_after is not None]
        if before and len(before) <= MOST_BARS:
            fits = one[0] == before[0]
        else:
            fits = not before and one[0] in [row.start for row in forming]
        if one[0] < part.lower and not fits:
            return f"{len(before)} bars, or more than held bars, before"
        if after and len(after) <= MOST_BARS:
            fits = one[1] <= after[-1] + BAR_MS[self.interval]
        else:
            fits = not after and any(row.start < one[1] <= self._to(row) for row in forming)
        # A long bar that begins before it may end after it.
        own_end = max(part.upper, max(before, default=0) + BAR_MS[self.interval])
        if one[1] > own_end and not fits:
            return f"{len(after)} bars, or more than held bars, after"
        return ""

    def _fresh(self, row: Row) -> bool:
        return row.fetched_at >= self.due and row.commit >= self.due_before

    def _to(self, row: Row) -> int:
        """Return how far a row reaches.

        What was asked up to the present then, and may still change, reaches up to now.
        """
        last = row.end == max(one.end for one in self.rows)
        tail = last and row.refresh_after is not None and row.end >= row.fetched_at - 1000
        return max(row.end, self.now) if tail else row.end
