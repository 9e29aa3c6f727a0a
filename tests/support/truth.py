"""What an answer must be, worked out from the simulated market and the ledger alone.

Each record is held against upstream now. Where they differ, one of the latitudes that the rules
grant must explain it, and nothing else may: a bar that is provisional and not due, a basis that
changed since it was last due to be checked, a final bar that was revised and not fetched since.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import portion

from gapless.domain.series import SeriesKey
from gapless.hub.answers import Answer
from gapless.hub.upstream import Asked
from gapless.simulator.book import Bar
from gapless.simulator.happenings import (
    Dividend,
    Happening,
    MissingRow,
    NullRow,
    Restatement,
    Split,
)
from gapless.simulator.market import Market
from support.world import Kept, Ledger

DAY_MS = 86_400_000
TTL_MS = DAY_MS
BAR_MS = {"15m": 900_000, "1h": 3_600_000, "1d": DAY_MS, "1wk": 7 * DAY_MS}
# The shortest time for which a provisional bar is not asked for again, by kind of interval.
DAILY_REFRESH_MS, INTRADAY_REFRESH_MS, NULL_REFRESH_MS = 900_000, 60_000, 3_600_000
LOOK_BACK_MS = {"15m": 60 * DAY_MS - 3_600_000, "1h": 730 * DAY_MS - 3_600_000}
COLUMNS = ("open", "high", "low", "close", "adjclose", "volume")


def record(bar: Bar) -> dict[str, Any]:
    """Return a true bar as the provider's record."""
    values = {name: getattr(bar, name) for name in COLUMNS}
    return {"timestamp": int(bar.t), **values}


@dataclass(slots=True)
class Truth:
    """The market, all that happened in it, and when upstream was asked and answered."""

    market: Market
    happenings: list[Happening]
    ledger: Ledger
    disagreeing: bool = False
    """Whether, now or before, the hosts took turns in answering."""

    @property
    def lag(self) -> int:
        """Milliseconds by which an answer of upstream may be behind."""
        return round(1000 * self.market.edge_lags_s[-1]) if self.disagreeing else 0

    def now(
        self, key: SeriesKey, start: int, end: int, now: int, edge: int = 0
    ) -> dict[int, dict[str, Any]]:
        """Return a host's records in a range at an instant, by milliseconds."""
        bars = self.market.bars(
            key.ticker, key.param("interval", "1d"), start / 1000, end / 1000, now / 1000, edge
        )
        return {int(bar.t) * 1000: record(bar) for bar in bars}

    def check(
        self,
        key: SeriesKey,
        answer: Answer,
        now: int,
        asked: list[Asked],
        served: set[float],
        alone: bool = True,
    ) -> None:
        """Hold the answer against upstream.

        `served`: when upstream answered, in seconds. `alone`: no other request is under way, so
        that what was asked upstream is stored by now.
        """
        told = json.loads(answer.text())
        times = [one["timestamp"] * 1000 for one in told]
        assert times == sorted(set(times)), "records ascend, one a time"
        self._partition(answer)
        marked = portion.Interval(
            *(
                portion.closedopen(*one.interval)
                for one in answer.why
                if one.reason in ("rescaled", "unverified")
            )
        )
        missing = portion.Interval(*(portion.closedopen(*one) for one in answer.missing))
        held = dict(zip(times, told, strict=True))
        assert not any(time in missing for time in held), "what is missing has no records"
        if answer.state == "stale" or any(
            one.reason not in ("rescaled", "out_of_window") and one.interval not in answer.missing
            for one in answer.why
        ):
            self._one_generation(key, answer, held)
            return
        truth = self.now(key, *answer.asked, now)
        behind = self.now(key, *answer.asked, now, 1) if self.disagreeing else truth
        for time in sorted({*held, *truth}):
            if time in missing:
                continue
            kept = self.ledger.last(key, time)
            if kept is None:
                # Nothing was ever stored here: it is known by a tail that is not due.
                assert time not in held
                self._after_tail(key, time, now)
                continue
            if time in marked:
                self._rescaled(held.get(time), truth.get(time))
                continue
            view = self._as_served(key, time, held.get(time), kept, served)
            self._one_basis(key, time, view, now, asked if answer.requests else [])
            if held.get(time) not in (truth.get(time), behind.get(time)):
                stored = asked if alone else []
                self._excused(key, time, kept, view, now, stored, held.get(time), truth.get(time))

    def _partition(self, answer: Answer) -> None:
        parts = [
            portion.closedopen(*one) for one in (*answer.cached, *answer.fetched, *answer.missing)
        ]
        whole = portion.Interval(*parts)
        wanted = (
            portion.closedopen(*answer.asked)
            if answer.asked[0] < answer.asked[1]
            else portion.empty()
        )
        assert whole == wanted, f"{answer.cached} {answer.fetched} {answer.missing}"
        length = sum(one.upper - one.lower for one in parts)
        assert length == answer.asked[1] - answer.asked[0], "the parts overlap"
        assert (answer.state == "partial") == bool(answer.missing)

    def _as_served(
        self,
        key: SeriesKey,
        time: int,
        mine: dict[str, Any] | None,
        kept: Kept,
        served: set[float],
    ) -> int:
        """Return as of when the record is: one of the instants of the fetch that stored it."""
        # Seconds as upstream's clock has them: the ledger's milliseconds are rounded.
        instants = [at for at in served if kept.planned - 1 <= at * 1000 <= kept.stored + 1] or [
            kept.stored / 1000
        ]
        views: list[float] = []
        for at in instants:
            for edge in (0, 1) if self.disagreeing else (0,):
                bars = self.market.bars(
                    key.ticker,
                    key.param("interval", "1d"),
                    time / 1000,
                    time / 1000 + 1,
                    at,
                    edge,
                )
                if mine == (record(bars[0]) if bars else None):
                    views.append(1000 * self.market.seen_by(edge, at))
        assert views, f"{_at(time)}: {mine} was never served between {instants}"
        return round(max(views))

    def _one_basis(
        self, key: SeriesKey, time: int, view: int, now: int, asked: list[Asked]
    ) -> None:
        """No change of basis since the record was stored may have gone unnoticed too long."""
        for change in self._basis_changes(key, time, view, now - self.lag):
            compared = self.ledger.compared.get(key, 0)
            answered = [one for one in asked if one.error is None]
            if not self._servable(key, time, now):
                continue
            assert change > compared - self.lag, (
                f"{_at(time)}: compared at {_at(compared)}, changed before"
            )
            assert not answered, f"{_at(time)}: fetched beside a basis from before {_at(change)}"
            assert now - compared <= TTL_MS or not self._closed(key, compared, now), (
                f"{_at(time)}: basis last checked at {_at(compared)}, now {_at(now)}"
            )

    def _excused(
        self,
        key: SeriesKey,
        time: int,
        kept: Kept,
        view: int,
        now: int,
        asked: list[Asked],
        mine: dict[str, Any] | None,
        true: dict[str, Any] | None,
    ) -> None:
        """A record that differs from upstream now is excused by a rule, or the answer is wrong."""
        if self._basis_changes(key, time, view, now):
            return
        row = next((one for one in kept.coverage if one.start <= time < one.end), None)
        assert row is not None
        if row.refresh_after is not None and now < row.refresh_after:
            self._provisional(key, time, row.refresh_after, kept)
            return
        servable = self._servable(key, time, now)
        assert row.refresh_after is None or not servable, f"{_at(time)} is due: {row}"
        revised = [
            one.seen_s * 1000
            for one in self.happenings
            if isinstance(one, Restatement)
            and one.symbol == key.ticker
            and view < one.seen_s * 1000 <= now
            and self._day_in_bar(key, one.day, time)
        ]
        revised += [
            edge * 1000
            for one in self.happenings
            if isinstance(one, NullRow | MissingRow)
            and one.symbol == key.ticker
            and one.day is not None
            and self._day_in_bar(key, one.day, time)
            for edge in (one.from_s, one.heals_s or math.inf)
            if view < edge * 1000 <= now
        ]
        assert revised, f"{_at(time)}: {mine} is not {true}, and nothing explains it"
        told = max(revised) <= now - self.lag
        priced = mine is None or mine["close"] is not None
        if servable and told and priced and not _nearly(mine, true):
            # A bar without prices beside a gap is passed over when bars are compared.
            anew = [
                one
                for one in asked
                if one.error is None and one.interval.start <= time < one.interval.end
            ]
            assert not anew, f"{_at(time)} was fetched anew and not replaced"

    def _provisional(self, key: SeriesKey, time: int, due: int, kept: Kept) -> None:
        """What is not due is not due for longer than the rule says (stitching rule 3)."""
        if kept.times and time in kept.times:
            interval = key.param("interval", "1d")
            refresh = INTRADAY_REFRESH_MS if interval in LOOK_BACK_MS else DAILY_REFRESH_MS
            open_ = self._open(key, kept.planned)
            limit = max(refresh, NULL_REFRESH_MS) if not open_ else NULL_REFRESH_MS
            if open_ and due - kept.planned > limit + 1000:
                raise AssertionError(f"{_at(time)} is not due until {_at(due)}")

    def _after_tail(self, key: SeriesKey, time: int, now: int) -> None:
        """What came after a provisional tail is unknown only while that tail is not due."""
        tails = [
            row
            for kept in self.ledger.kept.get(key, [])
            for row in kept.coverage
            if row.refresh_after is not None and row.end <= time and now < row.refresh_after
        ]
        assert tails, f"{_at(time)} is upstream, was never stored, and no tail covers it"

    def _rescaled(self, mine: dict[str, Any] | None, true: dict[str, Any] | None) -> None:
        if mine is None or true is None:
            return
        if mine["close"] is not None and true["close"] is not None:
            assert math.isclose(mine["close"], true["close"], rel_tol=0.3)

    def _one_generation(
        self, key: SeriesKey, answer: Answer, held: dict[int, dict[str, Any]]
    ) -> None:
        """A stale answer is old, but all of it is of one basis."""
        generations = set()
        for time in held:
            generations |= {
                kept.generation
                for kept in self.ledger.kept[key]
                if kept.interval.start <= time < kept.interval.end and time in kept.times
            }
        blocks = {
            block.generation
            for block in answer.entry.state.blocks
            if any(block.start <= time < block.end for time in held)
        }
        assert len(blocks) <= 1 or not held, f"generations {blocks} in one answer"

    def _basis_changes(self, key: SeriesKey, time: int, since: int, now: int) -> list[int]:
        """Return when upstream moved this bar to another basis in `(since, now]`."""
        intraday = key.param("interval", "1d") in LOOK_BACK_MS
        day = self.market.calendar(key.ticker).day_of(time / 1000)
        return [
            round(seen * 1000)
            for one in self.happenings
            if isinstance(one, Split) or (isinstance(one, Dividend) and not intraday)
            if one.symbol == key.ticker and one.ex_date.toordinal() > day
            if (seen := one.seen_s) is not None and since < seen * 1000 <= now
        ]

    def _day_in_bar(self, key: SeriesKey, day: date, time: int) -> bool:
        calendar = self.market.calendar(key.ticker)
        first = calendar.day_of(time / 1000)
        days = 7 if key.param("interval", "1d") == "1wk" else 1
        return bool(first <= day.toordinal() < first + days)

    def _servable(self, key: SeriesKey, time: int, now: int) -> bool:
        look_back = LOOK_BACK_MS.get(key.param("interval", "1d"))
        return look_back is None or time >= now - look_back

    def _closed(self, key: SeriesKey, since: int, now: int) -> bool:
        """Whether a session closed in `(since, now]`, which no holiday is known to be."""
        calendar = self.market.calendar(key.ticker)
        for day in range(calendar.day_of(since / 1000) - 1, calendar.day_of(now / 1000) + 1):
            session = self.market.session(key.ticker, day)
            if session is not None and since < session.close_s * 1000 <= now:
                return True
        return False

    def may_have_closed(self, key: SeriesKey, since: int, now: int) -> bool:
        """Whether a session closed, or would have but for a holiday that the hub cannot know."""
        instrument = self.market.instrument(key.ticker)
        assert instrument is not None
        if instrument.round_the_clock:
            # Whether Saturdays and Sundays are days of it is not told by upstream either.
            return now - since >= DAY_MS
        days = {datetime.fromtimestamp(at / 1000, UTC).date() for at in (since, now)}
        return self._closed(key, since, now) or any(
            min(days) <= day <= max(days) for day in instrument.holidays
        )

    def _open(self, key: SeriesKey, at: int) -> bool:
        calendar = self.market.calendar(key.ticker)
        session = self.market.session(key.ticker, calendar.day_of(at / 1000))
        return session is not None and session.open_s * 1000 <= at < session.close_s * 1000


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger says is known of a series, as `portion` intervals."""

    fresh: portion.Interval
    final: portion.Interval
    comparable: bool

    @classmethod
    def of(cls, ledger: Ledger, key: SeriesKey, now: int) -> Known:
        """Lay all that was stored over one another, the later over the earlier."""
        rows = portion.IntervalDict()
        generation = ledger.generation.get(key, 0)
        for kept in ledger.kept.get(key, []):
            for row in kept.coverage:
                rows[portion.closedopen(row.start, row.end)] = (kept, row)
        fresh = final = portion.empty()
        last: tuple[int, Any, int] | None = None
        for where, (kept, row) in rows.items():
            if kept.generation != generation:
                continue
            if row.refresh_after is None:
                final |= where
            if row.refresh_after is None or row.refresh_after > now:
                fresh |= where
            if last is None or where.upper > last[0]:
                last = (where.upper, row, kept.planned)
        if last is not None:
            upper, row, planned = last
            open_end = row.refresh_after is not None and upper >= planned - 1000
            if open_end and row.refresh_after > now and upper < now:
                fresh |= portion.closedopen(upper, now)
        comparable = any(
            time in final
            for kept in ledger.kept.get(key, [])
            if kept.generation == generation
            for time in kept.times
        )
        return cls(fresh, final, comparable)


def expected_gaps(ledger: Ledger, answer: Answer, known: Known, now: int) -> list[portion.Interval]:
    """Return the gaps that the rules call for, worked out without the planner."""
    asked = portion.closedopen(*answer.asked)
    look_back = LOOK_BACK_MS.get(answer.key.param("interval", "1d"))
    served = portion.closedopen(
        -(1 << 60) if look_back is None else now - now % 1000 - look_back, portion.inf
    )
    return [one for one in (asked - known.fresh) & served if not one.empty]


def _nearly(mine: dict[str, Any] | None, true: dict[str, Any] | None) -> bool:
    """Whether two records agree within the tolerance of comparing (stitching rule 11)."""
    if mine is None or true is None:
        return mine is true
    for name in COLUMNS:
        a, b = mine[name], true[name]
        if (a is None) != (b is None):
            return False
        tolerance = 5e-3 if name == "volume" else 1e-4
        if a is not None and not math.isclose(a, b, rel_tol=tolerance):
            return False
    return True


def _at(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def purposes(asked: Iterable[Asked]) -> dict[str, list[Asked]]:
    """Return what was answered upstream, by what it was asked for."""
    result: dict[str, list[Asked]] = {"gap": [], "probe": [], "restatement": []}
    for one in asked:
        if one.error is None:
            result[one.purpose].append(one)
    return result
