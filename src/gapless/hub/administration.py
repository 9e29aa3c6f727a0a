"""What operators ask of a hub: how its providers fare, what is held and why, fetching, forgetting.

Apart from answering, which it uses and never changes the rules of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import structlog
from msgspec import structs

from gapless.computing import computed
from gapless.domain.coverage import Ageing, Outcome
from gapless.domain.freshness import Freshness
from gapless.domain.intervals import ALWAYS, Interval, intersect, subtract
from gapless.domain.planning import Plan, renewed
from gapless.domain.series import SeriesKey, parse_view_id, span_text
from gapless.errors import GaplessError, NotFound, TooLarge
from gapless.hub.answers import Answer
from gapless.hub.callers import ANYBODY, Caller
from gapless.hub.entities import Listing, check_id
from gapless.hub.failures import SeriesFailure
from gapless.hub.hub import Hub
from gapless.hub.look import needed, rows_over
from gapless.hub.ranges import RangeSearch, shortened
from gapless.hub.series import Series
from gapless.providers.base import Provider, ProviderInfo
from gapless.store.base import EntityFilter, SeriesState, SeriesSummary, StoredEntity

_log = structlog.get_logger("gapless.administration")

_FAILURES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class FailingSeries:
    """A series that fails by itself: its last error, and until when it is left alone.

    `until` is in milliseconds UTC; `None`: the next request for it goes upstream.
    """

    key: SeriesKey
    error: GaplessError
    until: int | None


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """How a provider fares. Instants are milliseconds UTC, `None`: never yet.

    `alone`: its last error was of one series, and says nothing of it as a whole. `blocked_s`: for
    how long its breaker keeps everybody from asking it; `turns`: how many requests its pace lets
    go at once now. `failing`: how many series fail by themselves (stitching rule 8); `failures`
    are the latest few of them. `clock_skew_s`: by how many seconds upstream's clock is ahead of
    the hub's own (stitching rule 1).
    """

    info: ProviderInfo
    built_in: bool
    requests: int
    answered_at: int | None
    failed_at: int | None
    error: GaplessError | None
    alone: bool
    blocked_s: float
    turns: int
    failing: int
    failures: tuple[FailingSeries, ...]
    clock_skew_s: float | None


Why = Literal["not_held", "due", "not_fresh"]


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of a range that would be fetched, and why.

    `not_held`: nothing is known of it. `due`: it was provisional. `not_fresh`: it is held, and may
    have changed upstream since (stitching rule 9).
    """

    interval: Interval
    why: Why


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a range search would do now; `requests`: how many requests go upstream at least.

    `id` is that of the answer there would be. `next_due`: when what is fresh now is to be fetched
    again; `None`: it does not age.
    """

    id: str
    plan: Plan
    gaps: tuple[Gap, ...]
    requests: int
    next_due: int | None


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known of a series; a `state` whose `number` is `None`: nothing.

    `ageing` `None`: it does not age. `next_due`: when what is fresh now is to be fetched again.
    """

    state: SeriesState
    ageing: Ageing | None
    next_due: int | None


class Administration:
    """An operator's view of a hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def providers(self) -> list[ProviderStatus]:
        """Return how each provider fares, by name."""
        return [self._status(provider) for provider in self._hub.registry.all()]

    async def series(
        self, provider: str | None, after: SeriesKey | None, limit: int
    ) -> Sequence[SeriesSummary]:
        """Return a page of what is stored, in figures."""
        return await self._hub.holdings.summaries(provider, after, limit)

    async def known(self, key: SeriesKey) -> Knowledge:
        """Return what is known of a series, and what of it is fresh."""
        entry = await self._hub.holdings.directory(key, ALWAYS)
        if key.provider not in self._hub.registry.names():
            # Data outlives its provider, and nothing of it will be fetched again.
            return Knowledge(entry.state, None, None)
        provider, now = self._hub.registry.get(key.provider), self._hub.clock.now_ms()
        ageings = self._hub.searcher.rules.ageings
        next_due = ageings.next_due(provider, entry, now)
        return Knowledge(entry.state, ageings.of(provider, entry, now), next_due)

    async def explain(self, search: RangeSearch) -> Explanation:
        """Plan a search without going upstream."""
        provider = self._hub.registry.get(search.key.provider)
        now = self._hub.clock.now_ms()
        # Of a ticker of which nobody knows the time zone yet a little more would be asked for.
        look = await self._hub.searcher.look(provider, search, now)
        key = search.key if search.adjusted is None else search.adjusted.key
        id = f"{key.text}:{span_text(look.plan.asked)}"
        if search.adjusted is not None:
            look = await self._hub.adjuster.needed(look)
        plan = look.plan
        if look.search.fresh is Freshness.NOW and search.adjusted is not None:
            plan = renewed(plan, look.reach)
        series = await self._hub.holdings.directory(search.key, needed(provider, plan.asked))
        count = look.rows + rows_over(series, plan.asked)
        requests = await computed(count, partial(look.cost, series, plan))
        gaps = await computed(count, partial(_reasons, look.series, plan, now))
        next_due = look.rules.ageings.next_due(provider, series, now)
        return Explanation(id, plan, gaps, requests, next_due)

    async def refresh(self, search: RangeSearch, caller: Caller = ANYBODY) -> Answer:
        """Fetch all that upstream serves of a range anew; return the answer without its records."""
        anew = structs.replace(search, fresh=Freshness.NOW)
        provider = self._hub.registry.get(search.key.provider)
        look = await self._hub.searcher.look(provider, anew, self._hub.clock.now_ms())
        if search.adjusted is not None:
            return await self._hub.adjuster.search(look, caller=caller)
        return await self._hub.searcher.search(look, caller=caller, most_loaded=0)

    async def describe(
        self, provider: str, ticker: str, caller: Caller = ANYBODY
    ) -> Mapping[str, Any]:
        """Return what is known of a ticker beside its bars; see `Hub.describe`."""
        return await self._hub.describe(provider, ticker, caller)

    def fetching(self, key: SeriesKey) -> bool:
        """Whether anything of a series is being fetched."""
        return bool(self._hub.leases.of(key))

    async def range_of(self, search: RangeSearch) -> Interval:
        """Return the range that a search means, by what is known of its ticker's time zone."""
        entry = await self._hub.holdings.directory(search.key)
        return (search.placed(entry.state.ticker) or search.placed_in_utc()).asked

    async def delete(self, key: SeriesKey, interval: Interval | None = None) -> int:
        """Forget a range of a series (`None`: all of it); return how many records went.

        What is being fetched of it is not stored, either.
        """
        removal = await self._hub.holdings.delete(key, interval)
        span = "all" if interval is None else span_text(interval)
        _log.info("deleted", series=key.text, range=span, records=removal.records)
        return removal.records

    async def entities(self, wanted: EntityFilter, limit: int, offset: int) -> Listing:
        """Return a page of what is stored as entities, of all providers."""
        return await self._hub.entities.listed(wanted, limit, offset)

    async def entity(self, id: str) -> StoredEntity | Answer:
        """Return the stored entity or the view of this id; raise `NotFound`."""
        found = await self._hub.holdings.entities(EntityFilter(ids=(id,)), 1)
        if found:
            return found[0]
        parts = parse_view_id(id)
        if parts is not None and parts.source in self._hub.registry.names():
            view = await self._hub.entities.view(self._hub.registry.get(parts.source), id)
            if view is not None and view.size > self._hub.settings.limits.max_listing_bytes:
                raise TooLarge(
                    f"{shortened(id)} has {view.size:,} bytes, more than an entity is shown with "
                    "here (limits.max_listing_bytes); get its records from /v1/data"
                )
            if view is not None:
                return view
        raise NotFound(f"no entity {shortened(id)} is stored, and no range of that id is held")

    async def save_entity(self, entity: StoredEntity) -> bool:
        """Store an entity as it is; return whether it is new."""
        check_id(entity.id, self._hub.registry.names())
        holdings = self._hub.holdings
        known = await holdings.entities(EntityFilter(ids=(entity.id,)), 1)
        await holdings.save_entities([entity])
        return not known

    def _status(self, provider: Provider) -> ProviderStatus:
        upstream = self._hub.upstream(provider)
        now = self._hub.clock.monotonic()
        return ProviderStatus(
            info=provider.info,
            built_in=provider.info.name in self._hub.registry.built_in,
            requests=upstream.requests,
            answered_at=upstream.answered_at,
            failed_at=upstream.failed_at,
            error=upstream.last_error,
            alone=upstream.alone,
            blocked_s=upstream.breaker.blocked_for(now),
            turns=upstream.bucket.turns(now),
            failing=len(upstream.failures),
            failures=tuple(
                self._failing(one, now) for one in upstream.failures.first(_FAILURES_SHOWN)
            ),
            clock_skew_s=upstream.skew.seconds,
        )

    def _failing(self, failure: SeriesFailure, now: float) -> FailingSeries:
        left = failure.until - now
        until = self._hub.clock.now_ms() + round(left * 1000) if left > 0 else None
        return FailingSeries(failure.key, failure.error, until)


def _reasons(entry: Series, plan: Plan, now: int) -> tuple[Gap, ...]:
    """Return the gaps of a plan, cut where the reason changes, in order."""
    state = entry.state
    rows = [
        row for row in state.coverage.over(plan.asked) if row.outcome is not Outcome.OUT_OF_WINDOW
    ]
    due = [row.interval for row in rows if row.due(now)]
    reasons: dict[Why, list[Interval]] = {
        "due": intersect(plan.gaps, due),
        "not_held": subtract(plan.gaps, due),
        "not_fresh": list(plan.aged),
    }
    found = [Gap(part, why) for why, parts in reasons.items() for part in parts]
    return tuple(sorted(found, key=lambda gap: gap.interval))
