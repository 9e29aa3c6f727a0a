"""Caches that break one clause each of the promise of `ready`: the oracle has to catch them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from support.history import Record
from support.reference import Reference, changed
from support.told import Covered, Span, Told, Why

DAY = 86_400


class Stubborn(Reference):
    """Never fetches again what it has once fetched as final, like a cache without ageing."""

    def store(self, window: Span, got: dict[str, Any], at_s: int) -> bool:
        final = {
            stamp: one
            for stamp, one in self.held.items()
            if self.history.final_s(self.series, stamp, one) <= at_s
        }
        sure = super().store(window, got, at_s)
        self.held |= final
        return sure


class Weekly(Reference):
    """Fetches again after five days instead of once a session."""

    def fetch(self, window: Span, at_s: int, edge: int) -> dict[str, Any] | None:
        last = max((one.t for one in self.log), default=0.0)
        return None if at_s - last < 5 * DAY else super().fetch(window, at_s, edge)

    def ask(self, start_s: int, end_s: int, at_s: int, edge: int = 0) -> Told:
        return replace(super().ask(start_s, end_s, at_s, edge), state="ready")


class Forgetful(Reference):
    """Leaves out a bar in the middle."""

    def ask(self, start_s: int, end_s: int, at_s: int, edge: int = 0) -> Told:
        told = super().ask(start_s, end_s, at_s, edge)
        middle = list(told.records)[len(told.records) // 2]
        return changed(told, {s: one for s, one in told.records.items() if s != middle})


class Inventive(Reference):
    """Fills a Saturday with the bar of the day before."""

    def ask(self, start_s: int, end_s: int, at_s: int, edge: int = 0) -> Told:
        told = super().ask(start_s, end_s, at_s, edge)
        friday = next(
            s for s in told.records if datetime.fromtimestamp(s / 1000, UTC).weekday() == 4
        )
        return changed(told, {**told.records, friday + 1000 * DAY: told.records[friday]})


class Rounding(Reference):
    """Rounds prices to a cent."""

    def ask(self, start_s: int, end_s: int, at_s: int, edge: int = 0) -> Told:
        told = super().ask(start_s, end_s, at_s, edge)
        rounded: dict[int, Record] = {
            stamp: tuple(None if value is None else round(value, 2) for value in one)
            for stamp, one in told.records.items()
        }
        return changed(told, rounded)


class Hasty(Reference):
    """Calls everything final at once."""

    def ask(self, start_s: int, end_s: int, at_s: int, edge: int = 0) -> Told:
        told = super().ask(start_s, end_s, at_s, edge)
        return replace(told, coverage=[Covered(*told.asked, told.t0)])


class Sealing(Reference):
    """Keeps the first form of a bar, the forming one, for good."""

    def store(self, window: Span, got: dict[str, Any], at_s: int) -> bool:
        first = dict(self.held)
        sure = super().store(window, got, at_s)
        self.held |= first
        return sure


class Mixing(Reference):
    """Keeps a forming bar as it was beside the bars that came later."""

    def store(self, window: Span, got: dict[str, Any], at_s: int) -> bool:
        first = {s: self.held[s] for s in sorted(self.held)[-1:]}
        sure = super().store(window, got, at_s)
        self.held |= first
        return sure


class Backdating(Reference):
    """Answers what it had minutes ago as if it were of now."""

    def fetch(self, window: Span, at_s: int, edge: int) -> dict[str, Any] | None:
        super().fetch(window, at_s, edge)
        return super().fetch(window, at_s - 400, edge)


class Overdue(Reference):
    """Does not fetch a provisional tail again when it is due."""

    def ask(self, start_s: int, end_s: int, at_s: int, edge: int = 0) -> Told:
        if not self.held:
            return super().ask(start_s, end_s, at_s, edge)
        told = self.told(Span(start_s * 1000, end_s * 1000), start_s * 1000, at_s, sure=True)
        then = round(1000 * self.log[-1].t)
        coverage = [Covered(s, e, then, due and then + 60_000) for s, e, _, due in told.coverage]
        return replace(told, coverage=coverage)


class Lazy(Reference):
    """Says that what is provisional holds for a week."""

    def told(self, asked: Span, low: int, at_s: int, *, sure: bool) -> Told:
        told = super().told(asked, low, at_s, sure=sure)
        later = told.t0 + 7000 * DAY
        return replace(told, coverage=[one._replace(refresh_after=later) for one in told.coverage])


class Overnight(Reference):
    """Asks again at the next opening, when a session is over, whether or not its bar has come."""

    def told(self, asked: Span, low: int, at_s: int, *, sure: bool) -> Told:
        told = super().told(asked, low, at_s, sure=sure)
        opening = 1000 * self.history.session_after(self.series, at_s).open_s
        coverage = [
            one._replace(refresh_after=one.refresh_after and max(opening, one.refresh_after))
            for one in told.coverage
        ]
        return replace(told, coverage=coverage)


class Patching(Reference):
    """Fetches only the last bars again: those before them stay on the old basis."""

    def store(self, window: Span, got: dict[str, Any], at_s: int) -> bool:
        old = {s: self.held[s] for s in sorted(self.held)[:-10]}
        sure = super().store(window, got, at_s)
        self.held |= old
        return sure


class Guessing(Reference):
    """Multiplies what upstream no longer serves by a ratio of its own."""

    def rescale(self, window: Span, got: dict[str, Any], at_s: int) -> None:
        for stamp in [one for one in self.held if one < window.start]:
            columns = self.held[stamp]
            self.held[stamp] = tuple(None if one is None else one * 0.997 for one in columns)
            self.marks[stamp] = "rescaled"


class Discreet(Reference):
    """Rescales what upstream no longer serves, and does not say so."""

    def ask(self, start_s: int, end_s: int, at_s: int, edge: int = 0) -> Told:
        return replace(super().ask(start_s, end_s, at_s, edge), why=[])


class Unbending(Reference):
    """Leaves what upstream no longer serves on the old basis, and does not say so."""

    def rescale(self, window: Span, got: dict[str, Any], at_s: int) -> None:
        pass


class Credulous(Reference):
    """Believes every answer at once."""

    def believed(self, doubtful: list[int], at_s: int) -> tuple[set[int], set[int]]:
        return set(), set(doubtful)


class Confident(Reference):
    """Answers what is in doubt as if it were not."""

    def store(self, window: Span, got: dict[str, Any], at_s: int) -> bool:
        super().store(window, got, at_s)
        return True


class Evasive(Reference):
    """Marks all it has as unverified instead of looking."""

    def ask(self, start_s: int, end_s: int, at_s: int, edge: int = 0) -> Told:
        told = super().ask(start_s, end_s, at_s, edge)
        return replace(told, state="ready", why=[Why("unverified", *told.asked)])


class Destructive(Reference):
    """Deletes whatever is believed to be lost, however much it is."""

    def store(self, window: Span, got: dict[str, Any], at_s: int) -> bool:
        sure = super().store(window, got, at_s)
        for stamp in self.kept:
            self.held.pop(stamp, None)
        return sure


class Trusting(Reference):
    """Answers what an unknown ticker had as if it were still known."""

    def ask(self, start_s: int, end_s: int, at_s: int, edge: int = 0) -> Told:
        return replace(super().ask(start_s, end_s, at_s, edge), state="ready")


def _weekday(stamp: int) -> int:
    return datetime.fromtimestamp(stamp / 1000, UTC).weekday()
