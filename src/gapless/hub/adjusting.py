"""Answers of bars on another basis than they are held on: made when they are asked for.

What is held is looked up and fetched by the searcher as ever; here is what is known of the splits
since, and the bars that come of it. Nothing of it is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC

from msgspec import structs

from gapless.clock import Clock
from gapless.domain.actions import splits_of
from gapless.domain.adjusting import Adjustment, Undoing, as_traded, less_dividends
from gapless.domain.coverage import Coverage, Outcome
from gapless.domain.freshness import Freshness
from gapless.domain.intervals import ALWAYS, Interval, covers, intersect, subtract, union
from gapless.domain.series import SeriesKey
from gapless.errors import Overloaded, ProviderError
from gapless.hub.answers import Answer, Slice
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.holdings import Holdings
from gapless.hub.look import Look
from gapless.hub.ranges import Adjusted, RangeSearch, present, reach
from gapless.hub.searching import Searcher
from gapless.hub.series import HotRun, Series
from gapless.providers.base import Provider
from gapless.zones import local_date, midnight_ms, zone_named

# The second time all of it is fetched at once; more is a series that changes all the while.
_MOST_TRIES = 3
# More records take so long that nobody else should have to wait for it.
_MOST_AT_ONCE = 1_000
# While the event loop waits.
_MOST_HELD = 300


class Adjuster:
    """Answers range searches that want bars on another basis."""

    def __init__(self, searcher: Searcher, holdings: Holdings, clock: Clock) -> None:
        self._searcher = searcher
        self._holdings = holdings
        self._clock = clock

    async def search(self, look: Look, *, caller: Caller = ANYBODY, strict: bool = False) -> Answer:
        """Answer a search; see `Searcher.search` for the rest.

        Prices as they were traded take all splits from the first bar up to now, and these come
        with daily bars, so that these are fetched up to now. Raises what that fails with, and
        `ProviderError` where nobody can tell.
        """
        adjusted, provider = look.said.adjusted, look.provider
        assert adjusted is not None
        plain = structs.replace(look.said, adjusted=None)

        async def ask(search: RangeSearch, most_loaded: int | None = None) -> Answer:
            seen = await self._searcher.look(provider, search, self._clock.now_ms())
            return await self._searcher.search(
                seen, caller=caller, strict=strict, most_loaded=most_loaded
            )

        if adjusted.how.adjustment is Adjustment.ALL:
            return await _made(await ask(plain), adjusted, ())
        now = self._clock.now_ms()
        fetched: list[Interval] = []
        requests = 0
        since: Answer | None = None
        for attempt in range(_MOST_TRIES):
            if (
                attempt
                or plain.fresh is Freshness.NOW
                or not await self._told(provider, plain, now)
            ):
                since = await ask(_up_to_now(plain, present(now), anew=attempt > 0), most_loaded=0)
                fetched += since.fetched
                requests += since.requests
            answer = await ask(structs.replace(plain, fresh=_not_again(plain.fresh, since)))
            try:
                splits = await self._splits(provider, answer, adjusted, plain.fresh, now)
            except _Overtaken:
                continue
            if splits is not None:
                return await _made(_fetched(answer, fetched, requests), adjusted, splits)
            again = not attempt and plain.fresh is not Freshness.HELD
            if since is not None and not (again and since.state == "ready"):
                raise _not_known(adjusted, since)
        raise Overloaded(f"{adjusted.key.text} changes faster than it can be put as it was traded")

    async def needed(self, look: Look) -> Look:
        """Return the look at all that an answer is made of, as far as it is not held."""
        adjusted, provider, now = look.said.adjusted, look.provider, look.now
        assert adjusted is not None
        plain = structs.replace(look.said, adjusted=None)
        if adjusted.how.adjustment is not Adjustment.NONE or await self._told(provider, plain, now):
            return await self._searcher.look(provider, plain, now)
        wide = _up_to_now(plain, present(now), anew=False)
        seen = await self._searcher.look(provider, wide, now)
        if seen.plan.gaps or seen.plan.aged:
            return seen
        # Where all of it is held, it is fetched again for its splits.
        return await self._searcher.look(provider, structs.replace(wide, fresh=Freshness.NOW), now)

    def held(self, answer: Answer, adjusted: Adjusted) -> Answer | None:
        """Return an answer of what is held on the other basis; `None` where it cannot be told."""
        if adjusted.how.adjustment is not Adjustment.ALL or answer.count > _MOST_HELD:
            return None
        return _on(answer, adjusted, ())

    async def as_held(
        self, provider: Provider, answer: Answer, adjusted: Adjusted
    ) -> Answer | None:
        """Return an answer as it is held on the other basis; `None` where it cannot be told."""
        splits: Sequence[Undoing] | None = ()
        if adjusted.how.adjustment is Adjustment.NONE:
            now = self._clock.now_ms()
            try:
                splits = await self._splits(provider, answer, adjusted, Freshness.HELD, now)
            except (_Overtaken, ProviderError):
                return None
        return None if splits is None else await _made(answer, adjusted, splits)

    async def _told(self, provider: Provider, search: RangeSearch, now: int) -> bool:
        """Whether what is held is enough to say what the bars of a range were traded at."""
        look = await self._searcher.look(provider, search, now)
        wanted = look.plan
        if not (look.placed and wanted.complete):
            return False
        if not (wanted.fresh or search.fresh is Freshness.HELD):
            return False
        rows = look.series.state.coverage.over(wanted.asked)
        actions = await self._actions(provider, search.key)
        return self._covered(provider, _Bars(wanted.asked, rows, search.fresh, now), actions)

    async def _splits(
        self,
        provider: Provider,
        answer: Answer,
        adjusted: Adjusted,
        fresh: Freshness,
        now: int,
    ) -> Sequence[Undoing] | None:
        """Return the splits that the bars of an answer are divided by; `None`: not known yet.

        Raises `_Overtaken` where the bars were changed meanwhile, which may be of another side of
        a registration, and `ProviderError` where no request would tell.
        """
        if answer.missing:
            return None
        state = answer.series.state
        rows = state.coverage.over(answer.asked)
        actions = await self._actions(provider, answer.key)
        if not answer.series.current:
            raise _Overtaken
        if any(row.mark is not None or row.outcome is Outcome.OUT_OF_WINDOW for row in rows):
            raise ProviderError(
                f"{adjusted.key.text}: upstream no longer serves a part of these bars, and which "
                "splits are in them is not known",
                reason="unverified",
            )
        asked = _Bars(answer.asked, rows, fresh, now)
        if not _one_side(state.due_before, rows):
            return None
        if not self._covered(provider, asked, actions):
            return None
        return _undoings(actions, asked, adjusted)

    async def _actions(self, provider: Provider, key: SeriesKey) -> Series:
        params = provider.traits(key).actions
        assert params is not None, "who has bars as they were traded tells splits"
        return await self._holdings.load(key.sibling(params), ALWAYS)

    def _covered(self, provider: Provider, asked: _Bars, actions: Series) -> bool:
        """Whether all splits after the beginning of a range are known.

        An answer that came before one that brought bars may not know of a split that upstream has
        registered since (stitching rule 13).
        """
        state = actions.state
        known = [row for row in state.coverage if _one_side(state.due_before, [row])]
        until = asked.latest
        if asked.fresh is not Freshness.HELD:
            ageing = self._searcher.rules.ageings.of(provider, actions, asked.now)
            if ageing is not None:
                known = [row for row in known if ageing.fresh(row)]
                until = max(until, ageing.since)
        known = [
            row for row in known if row.start < asked.span.end or row.fetched_at >= asked.latest
        ]
        start = max(asked.span.start, reach(provider, state.key, asked.now).data_start)
        return start >= until or covers(map(_reach, known), Interval(start, until))


class _Overtaken(Exception):
    """What an answer was made of has changed since."""


@dataclass(frozen=True, slots=True)
class _Bars:
    """Bars that are asked for: their range, what is known of it, how fresh they are wanted, when.

    `now` is the instant of the request, milliseconds UTC.
    """

    span: Interval
    rows: Sequence[Coverage]
    fresh: Freshness
    now: int

    @property
    def latest(self) -> int:
        """When the latest of them were asked for."""
        return max((row.fetched_at for row in self.rows), default=0)


def _undoings(actions: Series, asked: _Bars, adjusted: Adjusted) -> Sequence[Undoing]:
    """Return the splits after the beginning of a range, by the midnights of their ex-dates.

    Raises `ProviderError` for one that is still to come: whether bars show it already, nobody says.
    """
    found: list[Undoing] = []
    if not asked.rows:
        return found
    zone = zone_named(actions.state.ticker.zone) or UTC
    for time, ratio in splits_of(actions.held(ALWAYS)):
        day = local_date(time / 1000, zone)
        first = time if day is None else midnight_ms(day, zone)
        if first > asked.latest:
            raise ProviderError(
                f"{adjusted.key.text}: upstream names a split of {day} ahead, and whether it is in "
                "its prices already is not known; ask again from that day on",
                reason="unverified",
            )
        if first > asked.span.start:
            found.append(Undoing(first, ratio))
    return found


def _up_to_now(search: RangeSearch, now: int, *, anew: bool) -> RangeSearch:
    """Return the search for all bars since the beginning of a range."""
    asked = Interval(search.asked.start, max(now, search.asked.end))
    fresh = Freshness.NOW if anew and search.fresh is not Freshness.HELD else search.fresh
    return structs.replace(search, asked=asked, absolute=False, dates=None, fresh=fresh, latitude=0)


def _one_side(due_before: int, rows: Sequence[Coverage]) -> bool:
    """Whether nothing was seen to have changed upstream since all of it was written."""
    return all(row.commit >= due_before for row in rows)


def _reach(row: Coverage) -> Interval:
    """Return what a row tells of: what was asked for up to now tells of all until it was sent."""
    end = max(row.end, row.fetched_at) if row.asked_to_present else row.end
    return Interval(row.start, end)


def _not_again(fresh: Freshness, since: Answer | None) -> Freshness:
    """Return how fresh a part is wanted of what has been fetched just now.

    Fetched once more, it would be younger than what is known of splits.
    """
    if since is not None and since.state == "ready":
        return Freshness.HELD
    return Freshness.CHECK if fresh is Freshness.NOW else fresh


def _fetched(answer: Answer, before: Sequence[Interval], requests: int) -> Answer:
    """Return an answer with what was fetched for it before (stitching rule 14)."""
    if not before and not requests:
        return answer
    fetched = intersect(union(answer.fetched, before), [answer.asked])
    cached = subtract(subtract([answer.asked], fetched), answer.missing)
    return structs.replace(
        answer,
        fetched=tuple(fetched),
        cached=tuple(cached),
        requests=answer.requests + requests,
    )


def _not_known(adjusted: Adjusted, since: Answer) -> ProviderError:
    # What is held may be marked as well, which is no reason why something is missing.
    first = sorted(
        since.why, key=lambda one: not any(one.interval.overlaps(gap) for gap in since.missing)
    )
    why = first[0] if first else None
    because = since.last_error or (why.message if why else "what is held does not tell them")
    return ProviderError(
        f"{adjusted.key.text} takes all splits up to now, and they are not all known: {because}",
        reason=why.reason if why else None,
    )


async def _made(answer: Answer, adjusted: Adjusted, splits: Sequence[Undoing]) -> Answer:
    """Return an answer on the other basis; a long one is made where nobody waits for it."""
    if answer.count <= _MOST_AT_ONCE:
        return _on(answer, adjusted, splits)
    return await asyncio.to_thread(_on, answer, adjusted, splits)


def _on(answer: Answer, adjusted: Adjusted, splits: Sequence[Undoing]) -> Answer:
    basis, adjustment = adjusted.how.basis, adjusted.how.adjustment
    slices: list[Slice] = []
    for part in answer.slices:
        run = part.run.run.cut(answer.asked)
        if adjustment is Adjustment.ALL:
            made = less_dividends(run, basis)
        else:
            made = as_traded(run, splits, basis)
        slices.append(Slice(HotRun(made), 0, len(made)))
    until = answer.fresh_until
    if adjustment is not Adjustment.ALL:
        # It hangs on what is known of splits as well, which may change by itself.
        until = answer.fetched_at
    return structs.replace(
        answer, key=adjusted.key, slices=tuple(slices), fresh_until=until, derived=True
    )
