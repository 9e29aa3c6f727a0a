"""What `ready` promises, as an oracle: the five points at the end of the rules of stitching.

It knows the whole history of the simulated upstream and the log of what was asked of it, and of
the hub only what it answers. It is written from the rules' text and shares no code with the hub:
its worth is that it does not know what the code knows. It holds for providers that revise, with
`cache.check=session` and `fresh=check`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from math import isclose, prod
from typing import NamedTuple

from gapless.simulator.happenings import Action, Split
from gapless.simulator.instruments import DAY
from gapless.simulator.market import Market
from gapless.simulator.server import Request
from gapless.simulator.view import INTRADAY
from support.belief import Belief
from support.history import COLUMNS, Bounds, History, Record, Series, Snapshot, priced
from support.told import DAY_MS, MINUTE_MS, Covered, Span, Told

TOLERANCE = 1e-4
CLIP_MS = 3_600_000
LOOK_BACK_MS = {
    "1m": 30 * DAY_MS,
    **dict.fromkeys(("2m", "5m", "15m", "30m", "90m"), 60 * DAY_MS),
    **dict.fromkeys(("60m", "1h", "4h"), 730 * DAY_MS),
}
"""How far back upstream serves; the provider stays `CLIP_MS` inside."""
MARKS = ("rescaled", "unverified")
QUARTER_S, SIX_HOURS_S = 900, 21_600


@dataclass(slots=True)
class Promise:
    """The oracle of one hub on one upstream; `check` raises an `AssertionError`.

    `log`: the requests to upstream since the hub's database was empty; it may grow. `drift_s`:
    how far the hub's clock and upstream's may differ. `refresh_s`: how long what is provisional
    holds while a session is open, of bars of a day or longer and of intraday ones. `wanted`: as
    `History` has it.
    """

    market: Market
    log: Sequence[Request]
    look_back_ms: Mapping[str, int] = field(default_factory=lambda: LOOK_BACK_MS)
    drift_s: float = 0.0
    refresh_s: tuple[int, int] = (900, 60)
    wanted: Mapping[Bounds, tuple[int, int]] = field(default_factory=dict)
    _history: History = field(init=False)
    _beliefs: dict[Series, Belief] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._history = History(self.market, self.log, self.wanted)

    def check(self, told: Told) -> None:
        """Hold an answer to the promise, if it makes it.

        A `partial` answer makes it for what is not missing, unless `why` doubts anything else.
        """
        if told.state == "stale":
            return
        if told.state == "partial" and any(
            one.reason not in MARKS
            and not any(gap.start <= one.start and one.end <= gap.end for gap in told.missing)
            for one in told.why
        ):
            return
        _Case(self, told, self._belief(told)).check()

    def forgotten(self, series: Series, at_s: float) -> None:
        """Be told that the hub's copy of a series was deleted."""
        belief = self._beliefs.get(series)
        if belief is not None:
            belief.follow(at_s)
            belief.forget()

    def _belief(self, told: Told) -> Belief:
        belief = self._beliefs.get(told.series)
        if belief is None:
            belief = self._beliefs[told.series] = Belief(self._history, told.series)
        belief.follow((told.t0 if told.beside else told.t1) / 1000 + self.drift_s)
        return belief


class _Origin(NamedTuple):
    """Where a record may come from: what was said, and the splits it was rescaled by since."""

    said: Snapshot
    rescaled: tuple[Split, ...] = ()


class _Case:
    """One answer before the oracle."""

    def __init__(self, promise: Promise, told: Told, belief: Belief) -> None:
        self.told, self.belief, self.series = told, belief, told.series
        self.market, self.history = promise.market, belief.history
        self.drift_s = promise.drift_s
        self.refresh_s = promise.refresh_s[self.series.interval in INTRADAY]
        self.since_s = told.due / 1000 - self.drift_s
        self.until_s = told.t1 / 1000 + self.drift_s
        # Which of the answers that came meanwhile it knows of cannot be told from outside.
        asked_s = told.t0 / 1000 - self.drift_s
        came = self.history.answers(self.series, asked_s, self.until_s) if told.beside else []
        self.meanwhile = bool(came)
        look_back = promise.look_back_ms.get(self.series.interval)
        self.reach = 0 if look_back is None else told.t1 - look_back + CLIP_MS
        self.origins: dict[int, list[_Origin]] = {}
        self.actions = self._actions()
        self.shown: dict[tuple[Action, float, int], bool] = {}

    def check(self) -> None:
        for stamp in self.told.records:
            if self.told.lacks(stamp):
                raise self._broken(1, stamp, "is told, and not asked or missing")
        self._doubts()
        self._final()
        for span, covered in self.told.provisional():
            if span.end > self.reach:
                self._provisional(Span(max(span.start, self.reach), span.end), covered)
        for stamp, one in self.told.records.items():
            if not self._in_reach(stamp):
                self._out_of_reach(stamp, one)
        self._one_side()

    def _broken(self, point: int, stamp: int, message: str) -> AssertionError:
        where = f"{self.series.symbol} {self.series.interval} {_at(stamp)}"
        told = f"answered {self.told.state} at {_at(self.told.t1)}"
        return AssertionError(f"point {point}: {where} {message}; {told}")

    def _in_reach(self, stamp: int) -> bool:
        return stamp >= self.reach and not self.belief.may_be_kept(stamp)

    def _final_here(self, stamp: int) -> bool:
        covered = self.told.coverage_of(stamp)
        return covered is None or covered.refresh_after is None

    # Point 1

    def _final(self) -> None:
        told, history = self.told, self.history
        moments = history.moments(self.series, self.since_s, self.until_s)
        views = history.snapshots(self.series, moments, *told.asked)
        said = history.answers(self.series, self.since_s, self.until_s)
        views += [one for one in said if not one.unknown]
        for stamp, one in told.records.items():
            if not self._in_reach(stamp) or not self._final_here(stamp):
                continue
            self._settled(stamp, history.final_s(self.series, stamp, one))
            over_s = history.over_s(self.series, stamp)
            self.origins[stamp] = [
                _Origin(view)
                for view in views
                if view.rows.get(stamp) == one
                and self.market.seen_by(view.edge, view.at_s) >= over_s
            ]
            if not self.origins[stamp]:
                was = {view.rows.get(stamp) for view in views if view.tells(stamp)}
                since = f"was not served since {_at(told.due)}"
                raise self._broken(1, stamp, f"is {one}, which {since}: {was}")
        for stamp in history.unsettled(self.series, told.t1 / 1000):
            here = not told.lacks(stamp) and self._in_reach(stamp)
            if here and self._final_here(stamp):
                self._settled(stamp, history.final_s(self.series, stamp, None))
        # Of a ticker that is believed to be gone there is nothing but what is kept.
        gone = self.belief.unknown_s is not None and bool(self.belief.spared)
        common = set().union(*(view.rows for view in views)) if views and not gone else set()
        for stamp in sorted(common - told.records.keys()):
            if told.lacks(stamp) or not self._in_reach(stamp) or not self._final_here(stamp):
                continue
            if all(stamp in view.rows for view in views if view.tells(stamp)):
                since = f"was served ever since {_at(told.due)}"
                raise self._broken(1, stamp, f"is missing, and {since}")

    def _settled(self, stamp: int, final_s: float) -> None:
        """See to it that nothing is called final before it can be."""
        if final_s > self.told.t1 / 1000 + self.drift_s + 300:
            raise self._broken(1, stamp, f"is final from {_at(1000 * final_s)} on, not before")

    # Point 2

    def _provisional(self, span: Span, covered: Covered) -> None:
        told = self.told
        assert covered.refresh_after is not None
        fresh = told.t0 < covered.refresh_after or covered.fetched_at >= told.t0 - 5 * MINUTE_MS
        if not fresh:
            raise self._broken(2, span.start, f"was due at {_at(covered.refresh_after)}")
        latest_s = self._due_again_s(span, covered)
        # By the hub's clock the close is longer past, and so much longer it takes from there.
        if covered.refresh_after / 1000 > latest_s + 2 * self.drift_s + 1:
            later = f"not before {_at(covered.refresh_after)}"
            raise self._broken(2, span.start, f"is due at {_at(1000 * latest_s)}, {later}")
        since_s = covered.fetched_at / 1000 - self.drift_s
        mine = {
            stamp: one
            for stamp, one in told.records.items()
            if span.start <= stamp < span.end and self._in_reach(stamp)
        }
        moments = self.history.moments(self.series, since_s, self.until_s)
        said = self.history.answers(self.series, since_s, self.until_s)
        moments = sorted({*moments, *(one.at_s for one in said)})
        views = self.history.snapshots(self.series, moments, *span)
        views += [
            one
            for one in said
            if one.start <= span.start
            and min(span.end, 1000 * one.at_s) <= one.end + 1000 * (1 + self.drift_s)
        ]
        same = [view for view in views if self._as_told(view, span) == mine]
        if not same and (views or mine):
            since = f"at one moment since {_at(covered.fetched_at)}"
            near = self._nearest(views, span, mine)
            raise self._broken(2, span.start, f"to {_at(span.end)} is not as served {since}{near}")
        for stamp in mine:
            self.origins[stamp] = [_Origin(view) for view in same]

    def _nearest(self, views: Sequence[Snapshot], span: Span, mine: Mapping[int, Record]) -> str:
        """Return how what is told differs from what was served most like it."""
        differing = [
            {
                _at(stamp): (mine.get(stamp), served.get(stamp))
                for served in [self._as_told(view, span)]
                for stamp in sorted(mine.keys() | served.keys())
                if mine.get(stamp) != served.get(stamp)
            }
            for view in views
        ]
        return f": {min(differing, key=len)} (told, served)" if differing else ""

    def _due_again_s(self, span: Span, covered: Covered) -> float:
        """Return when at the latest a provisional stretch has to be due again (rule 3).

        Of what lies before the tail, such as null rows, the rule says only that it is soon.
        """
        fetched_s = covered.fetched_at / 1000
        if self.belief.unknown_s is not None:
            # A ticker that upstream is believed not to know is asked for once a session.
            return fetched_s + 4 * DAY
        session = self.history.session_after(self.series, fetched_s)
        latest_s = max(fetched_s, session.open_s) + self.refresh_s
        past_ms = fetched_s * 1000 - 1000 * (1 + self.drift_s)
        if covered.end < max(past_ms, *(one.end for one in self.told.coverage)):
            return max(latest_s, fetched_s + DAY)
        if self.series.interval != "1d":
            return latest_s
        closed = self.history.closed_before(self.series, fetched_s, 5)
        without = [one for one in closed if self._without_bar(span, one.open_s * 1000)]
        if without[:1] != closed[:1] or len(without) == 5:
            return latest_s
        past_s = fetched_s - closed[0].close_s
        return min(latest_s, fetched_s + min(max(past_s, QUARTER_S), SIX_HOURS_S))

    def _without_bar(self, span: Span, stamp: int) -> bool:
        """Return whether the answer tells that a session has no bar, or one without prices."""
        inside = span.start <= stamp < span.end and not self.told.lacks(stamp)
        return inside and not priced(self.told.records.get(stamp))

    def _as_told(self, view: Snapshot, span: Span) -> dict[int, Record]:
        return {
            stamp: one
            for stamp, one in view.rows.items()
            if span.start <= stamp < span.end
            and not self.told.lacks(stamp)
            and self._in_reach(stamp)
        }

    # Point 3

    def _one_side(self) -> None:
        for ex_s, action in self.actions:
            sides: dict[bool, int] = {}
            for stamp in sorted(self.told.records):
                if stamp >= ex_s * 1000 or self.told.marked(stamp, "unverified"):
                    continue
                origins = self.origins.get(stamp, [])
                on = {self._shows(action, origin) for origin in origins}
                if len(on) == 1:
                    sides.setdefault(on.pop(), stamp)
            if len(sides) == 2:
                other = sides[False]
                what = f"is as after {action} was registered, {_at(other)} as before"
                raise self._broken(3, sides[True], what)

    def _actions(self) -> list[tuple[int, Action]]:
        """Return the actions that count, with their ex-date's open, whenever they show."""
        intraday = self.series.interval in INTRADAY
        calendar = self.market.calendar(self.series.symbol)
        found = []
        for one in self.market.happenings(self.series.symbol):
            if not isinstance(one, Action):
                continue
            ex_s = calendar.hours(one.ex_date.toordinal()).open_s
            if isinstance(one, Split) or (not intraday and self._moves(ex_s, one.amount)):
                found.append((ex_s, one))
        return found

    def _moves(self, ex_s: int, amount: float) -> bool:
        """Return whether a payout moves prices beyond the tolerance."""
        before = self.market.bars(
            self.series.symbol, "1d", ex_s - 20 * DAY, ex_s, max(self.until_s, ex_s)
        )
        closes = [bar.close for bar in before if bar.close is not None]
        return not closes or amount / closes[-1] > TOLERANCE

    def _shows(self, action: Action, origin: _Origin) -> bool:
        return action in origin.rescaled or self._shown(action, origin.said)

    def _shown(self, action: Action, said: Snapshot) -> bool:
        key = (action, said.at_s, said.edge)
        if key not in self.shown:
            at_s = self.market.seen_by(said.edge, said.at_s)
            events = self.market.view(self.series.symbol, at_s, said.edge).events()
            self.shown |= {(one, said.at_s, said.edge): False for _, one in self.actions}
            self.shown |= {(one, said.at_s, said.edge): True for _, one, _ in events}
        return self.shown[key]

    # Point 4

    def _out_of_reach(self, stamp: int, one: Record) -> None:
        lost = self.belief.may_be_kept(stamp)
        marked = self.told.marked(stamp, "unverified", "out_of_window")
        if lost and not marked and not self.meanwhile:
            raise self._broken(4, stamp, "is believed lost, and not marked")
        told_of = False
        for said in reversed(self.history.answers(self.series, 0.0, self.until_s)):
            if stamp not in said.rows or (lost and priced(one) and not priced(said.rows[stamp])):
                continue
            told_of = True
            origin = self._origin(stamp, one, said)
            if origin is not None:
                self.origins[stamp] = [origin]
                if origin.rescaled and not self.told.marked(stamp, *MARKS):
                    raise self._broken(4, stamp, "is rescaled, and not marked")
                return
            # What an answer with a loss in it brought need not have been believed.
            if self._whole(said):
                break
        what = "is not as it was served last" if told_of else "was never served"
        raise self._broken(4, stamp, f"{what}: {one}")

    def _origin(self, stamp: int, one: Record, said: Snapshot) -> _Origin | None:
        served = said.rows[stamp]
        if served == one:
            return _Origin(said)
        later = [
            action
            for ex_s, action in self.actions
            if isinstance(action, Split)
            and stamp < ex_s * 1000
            and said.at_s < ex_s
            and not self._shown(action, said)
        ]
        for count in range(1, len(later) + 1):
            for splits in combinations(later, count):
                if _rescaled(served, float(prod(one.ratio for one in splits)), one):
                    return _Origin(said, splits)
        return None

    def _whole(self, said: Snapshot) -> bool:
        """Return whether the answer had all that upstream truly held."""
        true = self.market.bars(
            self.series.symbol,
            self.series.interval,
            said.start / 1000,
            said.end / 1000,
            said.at_s,
            said.edge,
        )
        return {bar.t * 1000 for bar in true} == said.rows.keys()

    # Point 5

    def _doubts(self) -> None:
        told, belief = self.told, self.belief
        if self.meanwhile:
            return
        for stamp, since_s in sorted(belief.lost.items()):
            if not told.lacks(stamp) and stamp >= self.reach:
                since = _at(1000 * since_s)
                raise self._broken(5, stamp, f"was lost at {since}, and that is not confirmed")
        midnight = self.market.calendar(self.series.symbol).midnight
        for day, since_s in sorted(belief.empty.items()):
            start, end = 1000 * midnight(day), 1000 * midnight(day + 1)
            if start >= self.reach and self._all_told(start, end):
                since = _at(1000 * since_s)
                raise self._broken(5, start, f"was empty at {since}, and that is not confirmed")
        for stamp in sorted(belief.kept):
            if stamp not in told.records and not told.lacks(stamp):
                raise self._broken(5, stamp, "is gone, and was too much to be believed lost")
        for stamp in told.records:
            if self._in_reach(stamp) and told.marked(stamp, "unverified"):
                raise self._broken(5, stamp, "is unverified, and upstream serves it")

    def _all_told(self, start: int, end: int) -> bool:
        told = self.told
        if start < told.asked.start or end > told.asked.end:
            return False
        return not any(one.start < end and start < one.end for one in told.missing)


def _rescaled(served: Record, ratio: float, one: Record) -> bool:
    """Return whether a record is what was served, by a split of this ratio."""
    for name, old, new in zip(COLUMNS, served, one, strict=True):
        if old is None or new is None:
            if old is not new:
                return False
        elif name == "volume":
            if not isclose(new, old * ratio, rel_tol=1e-6, abs_tol=1.0):
                return False
        elif not isclose(new, old / ratio, rel_tol=1e-6):
            return False
    return True


def _at(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()
