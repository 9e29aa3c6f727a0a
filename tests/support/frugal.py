"""Which requests the rules of stitching call for: rules 3, 5, 6, 9 and 11, by their own words.

A model of one answer to one request, alone and without failures, from what was known before it.
It shares no code with the hub. Instants are milliseconds UTC by the hub's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    of held records, `after`: of those that are held now. `waiting`: what is in doubt and not to be
    tried yet. `served_from`: where upstream's reach begins. `fresh`: how fresh it was wanted.
    """

    interval: str
    now: int
    asked: tuple[int, int]
    rows: Sequence[Row]
    due: int
    due_before: int
    times: Sequence[int]
    after: Sequence[int]
    waiting: Sequence[tuple[int, int]] = ()
    served_from: int = 0
    fresh: str = "check"

    def called_for(self) -> tuple[portion.Interval, portion.Interval, portion.Interval]:
        """Return the gaps, what of the asked range is to be fetched again, and what else is."""
        served = portion.closedopen(self.served_from, portion.inf)
        asked = portion.closedopen(*self.asked) & served
        known = old = aged = portion.empty()
        last = max((row.end for row in self.rows), default=0)
        for row in self.rows:
            due = row.refresh_after is not None and row.refresh_after <= self.now
            # What was asked up to the present then, and is not final, reaches up to now.
            present = row.refresh_after is not None and row.end >= row.fetched_at - 1000
            tail = present and row.end == last
            here = portion.closedopen(row.start, max(row.end, self.now) if tail else row.end)
            fresh = row.fetched_at >= self.due and row.commit >= self.due_before
            if not due:
                known |= here
                aged |= portion.empty() if fresh else here
            if due or not fresh:
                old |= portion.closedopen(row.start, row.end)
        waiting = portion.empty()
        for start, end in self.waiting:
            waiting |= portion.closedopen(start, end)
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
        for part in wanted if count > 1 else [(wanted | old).enclosure]:
            here = [one for one in sent if one[0] <= part.lower and part.upper <= one[1]]
            assert len(here) == 1, f"not once: {part} in {told}"
            # Of several gaps one may be beside what another has brought.
            times = sorted({*self.times, *self.after}) if count > 1 else self.times
            self._beside(here[0], part, times, told)

    def _beside(
        self, one: tuple[int, int], part: portion.Interval, times: Sequence[int], told: str
    ) -> None:
        """See to it that no more is asked for beside than ten held bars on each side."""
        bar = BAR_MS[self.interval]
        before = [time for time in times if one[0] <= time < part.lower]
        after = [time for time in times if part.upper <= time < one[1]]
        assert len(before) <= MOST_BARS, f"{len(before)} bars before {part}: {told}"
        assert len(after) <= MOST_BARS, f"{len(after)} bars after {part}: {told}"
        if one[0] < part.lower:
            assert one[0] in before, f"more than held bars before {part}: {told}"
        if one[1] > part.upper:
            assert after, f"more than held bars after {part}: {told}"
            assert one[1] <= after[-1] + bar, f"more than held bars after {part}: {told}"
