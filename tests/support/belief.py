"""What may be believed of what upstream says to be gone or never there: stitching rule 6, replayed.

A model of the rule over the log of answers, written from the rule's text. It follows one series:
what its answers have brought, what a later one lacks, since when that is in doubt, and what two
answers that are six hours apart have settled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from math import inf

from gapless.simulator.view import PERIODS
from support.history import History, Series, Snapshot, concerns, priced, said_at

BELIEVED_AFTER_S = 6 * 3600
MOST_LOST = 2
MOST_WEEKDAYS = 10
# Of the days at the edges a part may have been known before, so that they count or not.
MOST_BARE = MOST_WEEKDAYS + 1


@dataclass(slots=True)
class Belief:
    """The state of one series after the answers taken in so far.

    `held`: stamps that answers have brought with prices and no believed answer has taken away;
    `perhaps`: stamps that answers in doubt have brought, which are held or not.
    `final`: those that were final when they were brought last.
    `lost`: since when a held final stamp is lacking; `empty`: since when a weekday without rows
    is in doubt, as day numbers of the exchange; `bare`: since when it was said to be so, also
    while it was not final. `kept`: stamps believed lost, and kept because they are too many to be
    deleted. `unknown_s`: since when upstream says that it knows no such ticker; `spared`: stamps
    kept because that is believed. An answer that comes after all and lacks them leaves it open
    whether they stay. `known_empty`: days that are believed to be
    without rows.
    """

    history: History
    series: Series
    held: set[int] = field(default_factory=set)
    final: set[int] = field(default_factory=set)
    lost: dict[int, float] = field(default_factory=dict)
    empty: dict[int, float] = field(default_factory=dict)
    bare: dict[int, float] = field(default_factory=dict)
    perhaps: set[int] = field(default_factory=set)
    kept: set[int] = field(default_factory=set)
    spared: set[int] = field(default_factory=set)
    unknown_s: float | None = None
    known_empty: set[int] = field(default_factory=set)
    _taken: int = 0
    _late: list[int] = field(default_factory=list)

    def follow(self, until_s: float) -> None:
        """Take in the requests logged since, up to an instant, in the order of their answers."""
        waiting, self._late = [*self._late, *range(self._taken, len(self.history.log))], []
        self._taken = len(self.history.log)
        for number in sorted(waiting, key=lambda one: said_at(self.history.log[one])):
            request = self.history.log[number]
            if not request.done or said_at(request) > until_s:
                self._late.append(number)
            elif concerns(request, self.series):
                answer = self.history.answer(number)
                if answer is not None:
                    self.take(answer)

    def forget(self) -> None:
        """Begin anew, as a hub does whose series is deleted."""
        for known in (
            self.held,
            self.perhaps,
            self.final,
            self.kept,
            self.spared,
            self.known_empty,
        ):
            known.clear()
        for since in (self.lost, self.empty, self.bare):
            since.clear()
        self.unknown_s = None

    def may_be_kept(self, stamp: int) -> bool:
        """Return whether upstream is believed to serve a stamp no longer that was held."""
        return stamp in self.kept or stamp in self.spared

    def take(self, answer: Snapshot) -> None:
        """Take in one answer."""
        if answer.unknown:
            self.unknown_s = answer.at_s if self.unknown_s is None else self.unknown_s
            if answer.at_s - self.unknown_s >= BELIEVED_AFTER_S:
                self.spared |= (self.held | self.perhaps) - self.kept
                self.lost.clear()
            return
        # Where it is believed, an answer without rows does not unsay it.
        if answer.rows or not self.spared:
            self.unknown_s = None
        lacking = self._lacking(answer)
        brought = {stamp for stamp, one in answer.rows.items() if priced(one)}
        if len(lacking) > MOST_LOST:
            self._doubt(lacking, answer)
        else:
            self._gone(lacking)
        self.kept -= brought
        self.spared -= brought
        awaited = self._awaited(answer, brought)
        for stamp in brought:
            self.lost.pop(stamp, None)
            final_s = self.history.final_s(self.series, stamp, answer.rows[stamp])
            if final_s <= answer.at_s and stamp < awaited:
                self.final.add(stamp)
            else:
                self.final.discard(stamp)
        if self.series.interval not in PERIODS:
            self._days(answer)
        # What else an answer in doubt brings is stored only if it agrees with what is held.
        if len(lacking) <= MOST_LOST and not self._nearly_empty(answer):
            self.held |= brought
        self.perhaps = (self.perhaps | answer.rows.keys()) - self.held

    def _nearly_empty(self, answer: Snapshot) -> bool:
        """Return whether an answer may lack rows for so many days that it is in doubt."""
        with_rows = self._days_of(answer.rows)
        days = range(self._day(answer.start), self._day(answer.end - 1) + 1)
        # A day more or less, for those at the edges.
        return sum(_weekday(day) for day in set(days) - with_rows) > MOST_WEEKDAYS - 2

    def _lacking(self, answer: Snapshot) -> list[int]:
        return [
            stamp
            for stamp in sorted(self.held - self.kept - self.spared)
            if stamp in self.final and answer.tells(stamp) and not priced(answer.rows.get(stamp))
        ]

    def _awaited(self, answer: Snapshot, brought: set[int]) -> float:
        """Return from when on nothing is final, for the last session's bars have yet to come."""
        for session in self.history.closed_before(self.series, answer.at_s, 1):
            opens, closes = 1000 * session.open_s, 1000 * session.close_s
            if self.series.interval not in PERIODS and not any(
                opens <= stamp < closes for stamp in brought
            ):
                return 1000 * self.history.market.calendar(self.series.symbol).midnight(session.day)
        return inf

    def _doubt(self, lacking: list[int], answer: Snapshot) -> None:
        at_s = answer.at_s
        believed = [
            stamp
            for stamp in lacking
            if at_s - self.lost.setdefault(stamp, at_s) >= BELIEVED_AFTER_S
        ]
        # What was lost at the same time counts together.
        since = {self.lost[stamp] for stamp in believed}
        alike = [at for at, at_s in self.lost.items() if at_s in since and not answer.tells(at)]
        together = {*believed, *alike}
        weekdays = {day for day in self._days_of(together) if _weekday(day)}
        if len(weekdays) > MOST_WEEKDAYS:
            self.kept |= together
            for stamp in together:
                del self.lost[stamp]
        elif alike and len(weekdays) > MOST_WEEKDAYS - 2:
            # Holidays between them count, or do not.
            self._gone(believed)
            self.spared |= together
            self.perhaps |= together
        else:
            self._gone(believed)

    def _gone(self, stamps: list[int]) -> None:
        self.held -= set(stamps)
        for stamp in stamps:
            self.lost.pop(stamp, None)
        # What is believed to be lost is known to be empty.
        self.known_empty |= {self._day(stamp) for stamp in stamps} - set(map(self._day, self.held))

    def _days(self, answer: Snapshot) -> None:
        """Doubt weekdays without any row, or believe that they have none."""
        with_rows = {self._day(stamp) for stamp in (*answer.rows, *self.held, *self.perhaps)}
        for day in with_rows:
            self.empty.pop(day, None)
            self.bare.pop(day, None)
        self.known_empty -= with_rows
        believed: list[int] = []
        for bare in self._bare(answer, with_rows, settling_s=0):
            if len(bare) > MOST_BARE:
                self.bare |= dict.fromkeys(bare, answer.at_s) | self.bare
        # What is not yet final says nothing of its own, but was said.
        for bare in self._bare(answer, with_rows, settling_s=2 * 86_400):
            for day in bare:
                since_s = self.bare.get(day, answer.at_s)
                if len(bare) <= MOST_BARE or answer.at_s - since_s >= BELIEVED_AFTER_S:
                    believed.append(day)
                else:
                    self.empty[day] = since_s
        for day in believed:
            self.empty.pop(day, None)
            self.bare.pop(day, None)
            self.known_empty.add(day)

    def _bare(self, answer: Snapshot, with_rows: set[int], settling_s: int) -> list[list[int]]:
        """Return the stretches of whole weekdays, over for so long, in which there is no row."""
        midnight = self.history.market.calendar(self.series.symbol).midnight
        first = max(self._day(answer.start), self._day(1000 * self._first_trade_s()))
        last = self._day(min(answer.end - 1, round((answer.at_s - settling_s) * 1000)))
        stretches: list[list[int]] = [[]]
        for day in range(first, last + 1):
            whole = answer.start <= midnight(day) * 1000 and midnight(day + 1) * 1000 <= answer.end
            if day in with_rows or day in self.known_empty:
                stretches.append([])
            elif whole and _weekday(day):
                stretches[-1].append(day)
        return stretches

    def _first_trade_s(self) -> int:
        return self.history.market.first_session(self.series.symbol).open_s

    def _days_of(self, stamps: Iterable[int]) -> set[int]:
        """Return the days of bars; of a week's, all of them."""
        length = 7 if self.series.interval in PERIODS else 1
        return {self._day(stamp) + at for stamp in stamps for at in range(length)}

    def _day(self, stamp: int) -> int:
        return self.history.market.calendar(self.series.symbol).day_of(stamp / 1000)


def _weekday(day: int) -> bool:
    return date.fromordinal(day).weekday() < 5
