"""Answers of bars on another basis than they are held on: made when they are asked for.

What is held is looked up and fetched by the searcher as ever; here is what is known of the splits
since, and the bars that come of it. Nothing of it is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC
from functools import partial

from gapless.clock import Clock
from gapless.domain.actions import splits_of
from gapless.domain.adjusting import Adjustment, Undoing, as_traded, less_dividends
from gapless.domain.coverage import Coverage, within
from gapless.domain.freshness import Freshness
from gapless.domain.intervals import Interval, covers, intersect, subtract
from gapless.errors import Overloaded, ProviderError
from gapless.hub.answers import Answer, Slice
from gapless.hub.beside import held_run
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.holdings import Holdings
from gapless.hub.hot import HotRun
from gapless.hub.news import ALWAYS
from gapless.hub.ranges import Adjusted, RangeSearch, present
from gapless.hub.searching import Searcher
from gapless.providers.base import Provider
from gapless.providers.registry import Registry
from gapless.zones import local_date, midnight_ms, zone_named

# The second time all of it is fetched at once; more is a series that changes all the while.
_MOST_TRIES = 3
# More records take so long that nobody else should have to wait for it.
_MOST_AT_ONCE = 1_000
# While the event loop waits.
_MOST_HELD = 300
_PRESENT_MS = 1_000


class Adjuster:
    """Answers range searches that want bars on another basis."""

    def __init__(
        self, searcher: Searcher, holdings: Holdings, registry: Registry, clock: Clock
    ) -> None:
        self._searcher = searcher
        self._holdings = holdings
        self._registry = registry
        self._clock = clock

    async def search(
        self, search: RangeSearch, *, caller: Caller = ANYBODY, strict: bool = False
    ) -> Answer:
        """Answer a search; see `Searcher.search` for the rest.

        Prices as they were traded take all splits from the first bar up to now, and these come
        with daily bars, so that these are fetched up to now. Raises what that fails with.
        """
        assert search.adjusted is not None
        adjusted, plain = search.adjusted, replace(search, adjusted=None)
        ask = partial(self._searcher.search, caller=caller, strict=strict)
        if adjusted.how.adjustment is Adjustment.ALL:
            return await _made(await ask(plain), adjusted, ())
        provider = self._registry.get(search.key.provider)
        since: Answer | None = None
        requests = 0
        for attempt in range(_MOST_TRIES):
            if attempt or search.fresh is Freshness.NOW or not await self._told(provider, plain):
                since = await ask(self._up_to_now(plain, anew=attempt > 1), most_loaded=0)
                requests += since.requests
            answer = await ask(replace(plain, fresh=_not_again(plain.fresh, since)))
            splits = await self._splits(provider, answer, plain.fresh)
            if splits is not None:
                return await _made(_fetched(answer, since, requests), adjusted, splits)
            if since is not None and (since.missing or since.state != "ready"):
                raise _not_known(adjusted, since)
        raise Overloaded(f"{adjusted.key.text} changes faster than it can be put as it was traded")

    async def needed(self, search: RangeSearch) -> RangeSearch:
        """Return the search for all that an answer is made of, as far as it is not held."""
        assert search.adjusted is not None
        plain = replace(search, adjusted=None)
        provider = self._registry.get(search.key.provider)
        traded = search.adjusted.how.adjustment is Adjustment.NONE
        if traded and not await self._told(provider, plain):
            return self._up_to_now(plain, anew=False)
        return plain

    def held(self, answer: Answer, adjusted: Adjusted) -> Answer | None:
        """Return an answer of what is held on the other basis; `None` where it cannot be told."""
        if adjusted.how.adjustment is not Adjustment.ALL or answer.count > _MOST_HELD:
            return None
        return _on(answer, adjusted, ())

    async def as_held(self, answer: Answer, adjusted: Adjusted) -> Answer | None:
        """Return an answer as it is held on the other basis; `None` where it cannot be told."""
        splits: Sequence[Undoing] | None = ()
        if adjusted.how.adjustment is Adjustment.NONE:
            provider = self._registry.get(answer.key.provider)
            splits = await self._splits(provider, answer, Freshness.HELD)
        return None if splits is None else await _made(answer, adjusted, splits)

    def _up_to_now(self, search: RangeSearch, *, anew: bool) -> RangeSearch:
        now = present(self._clock.now_ms())
        asked = Interval(search.asked.start, max(now, search.asked.end))
        fresh = Freshness.NOW if anew and search.fresh is not Freshness.HELD else search.fresh
        return replace(search, asked=asked, absolute=False, dates=None, fresh=fresh, latitude=0)

    async def _told(self, provider: Provider, search: RangeSearch) -> bool:
        """Whether what is held is enough to say what the bars of a range were traded at."""
        entry = await self._holdings.load(search.key)
        placed = search.placed(entry.state.ticker)
        if placed is None:
            return False
        wanted = self._searcher.plan(provider, entry, placed, self._clock.now_ms())
        if not wanted.complete or not (wanted.fresh or search.fresh is Freshness.HELD):
            return False
        rows = within(entry.state.coverage, wanted.asked)
        return await self._known(provider, search, wanted.asked, rows) is not None

    async def _splits(
        self, provider: Provider, answer: Answer, fresh: Freshness
    ) -> Sequence[Undoing] | None:
        """Return the splits that the bars of an answer are divided by; `None`: not known."""
        if answer.missing:
            return None
        rows = within(answer.entry.state.coverage, answer.asked)
        search = RangeSearch(answer.key, answer.asked, absolute=True, fresh=fresh)
        found = await self._known(provider, search, answer.asked, rows)
        entry = await self._holdings.load(answer.key)
        # What was changed meanwhile may be of another side of a registration.
        same = entry.state.version == answer.entry.state.version
        return found if same and _one_side(entry.state.due_before, rows) else None

    async def _known(
        self, provider: Provider, search: RangeSearch, asked: Interval, rows: Sequence[Coverage]
    ) -> Sequence[Undoing] | None:
        """Return the splits after the beginning of a range; `None`: they are not all known.

        `rows` are what is known of its bars. An answer that came before one of them may not know
        of a split that upstream has registered since (stitching rule 13).
        """
        params = provider.traits(search.key).actions
        assert params is not None, "who has bars as they were traded tells splits"
        entry = await self._holdings.load(search.key.sibling(params), ALWAYS)
        state = entry.state
        latest = max((row.fetched_at for row in rows), default=0)
        known = [row for row in state.coverage if _one_side(state.due_before, [row])]
        until = latest
        if search.fresh is not Freshness.HELD:
            ageing = self._searcher.ageings.of(provider, entry, self._clock.now_ms())
            if ageing is not None:
                known = [row for row in known if ageing.fresh(row)]
                until = max(until, ageing.since)
        known = [row for row in known if row.start < asked.end or row.fetched_at >= latest]
        if asked.start < until and not covers(map(_reach, known), Interval(asked.start, until)):
            return None
        zone = zone_named(state.ticker.facts.get("zone")) or UTC
        undoings: list[Undoing] = []
        for time, ratio in splits_of(held_run(entry, ALWAYS)):
            day = local_date(time / 1000, zone)
            first = time if day is None else midnight_ms(day, zone)
            # One that is still to come was named ahead, and divides nothing yet.
            if asked.start < first <= latest:
                undoings.append(Undoing(first, ratio))
        return undoings


def _one_side(due_before: int, rows: Sequence[Coverage]) -> bool:
    """Whether nothing was seen to have changed upstream since all of it was written."""
    return all(row.commit >= due_before for row in rows)


def _reach(row: Coverage) -> Interval:
    """Return what a row tells of: what was asked for up to now tells of all until it was sent."""
    end = row.end
    if end >= row.fetched_at - _PRESENT_MS:
        end = max(end, row.fetched_at)
    return Interval(row.start, end)


def _not_again(fresh: Freshness, since: Answer | None) -> Freshness:
    """Return how fresh a part is wanted of what has been fetched just now."""
    return Freshness.CHECK if since is not None and fresh is Freshness.NOW else fresh


def _fetched(answer: Answer, since: Answer | None, requests: int) -> Answer:
    """Return an answer with what was fetched for it before (stitching rule 14)."""
    if since is None:
        return answer
    fetched = intersect([*answer.fetched, *since.fetched], [answer.asked])
    cached = subtract(subtract([answer.asked], fetched), answer.missing)
    return replace(
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
    return ProviderError(
        f"{adjusted.key.text} takes all splits up to now, and they could not be asked for: "
        f"{since.last_error or (why.message if why else 'a part of the time since is not known')}",
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
    return replace(answer, key=adjusted.key, slices=tuple(slices), fresh_until=until, derived=True)
