"""Entities by id, by filter and page by page: what is stored, and views of what is held.

Nothing here goes upstream; what a provider answers with by itself is kept here.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import assert_never
from zoneinfo import ZoneInfo

from msgspec import structs

from gapless.clock import Clock
from gapless.config.settings import LimitSettings
from gapless.domain.freshness import Freshness
from gapless.domain.intervals import Interval, union
from gapless.domain.series import SeriesKey, parse_view_id
from gapless.errors import InvalidQuery, NotFound, TooLarge
from gapless.hub.adjusting import Adjuster
from gapless.hub.answers import Answer, Reason, State
from gapless.hub.holdings import Holdings
from gapless.hub.look import Look
from gapless.hub.ranges import (
    RangeSearch,
    present,
    series_key,
    shortened,
    source_of,
)
from gapless.hub.searching import Searcher
from gapless.instants import format_instant
from gapless.protocol.messages import (
    ById,
    BySource,
    ByState,
    ByTags,
    ByUpdatedAtRange,
    ByUrl,
    DateRange,
    Entity,
    Filter,
    Param,
    Ticker,
)
from gapless.protocol.times import RangeBounds, is_local, parse_instant, parse_range
from gapless.providers.base import Provider
from gapless.store.base import EntityFilter, StoredEntity, sortable
from gapless.zones import zone_named


@dataclass(frozen=True, slots=True)
class Listing:
    """Stored entities and views; `next_offset`: where to go on after a page that was cut short."""

    entities: Sequence[StoredEntity | Answer]
    next_offset: int | None = None


class Entities:
    """Finds entities in the store, and makes views of what is held."""

    def __init__(
        self,
        holdings: Holdings,
        clock: Clock,
        limits: LimitSettings,
        searcher: Searcher,
        adjuster: Adjuster,
    ) -> None:
        self._holdings = holdings
        self._clock = clock
        self._limits = limits
        self._searcher = searcher
        self._adjuster = adjuster

    async def stored(
        self, provider: Provider, id: str, most_loaded: int | None = None
    ) -> Listing | None:
        """Return the stored entity, or the view, of this id.

        `None`: it is neither and not spelled as a view's. For `most_loaded` see `view`. Raises
        `NotFound` for a view that is not wholly held.
        """
        name = provider.info.name
        view: Answer | None = None
        if most_loaded is not None:
            # A range that happens to be stored as one block is a view like any other.
            view = await self.view(provider, id, most_loaded)
            if view is not None:
                return Listing([view])
        found = await self._holdings.entities(EntityFilter(ids=(id,), source=name), 1)
        if found:
            return Listing(found)
        parts = parse_view_id(id)
        if parts is None:
            return None
        if parts.source != name:
            if provider.info.entities:
                # It may well have ids that look like those of views.
                return None
            raise NotFound(
                f"{shortened(id)} is an id of provider {parts.source[:60]!r}, not of {name}"
            )
        if most_loaded is None:
            view = await self.view(provider, id)
        if view is None and provider.info.entities:
            return None
        if view is None:
            raise NotFound(
                f"{shortened(id)} is not wholly held; "
                f"search {name} for its ticker and range instead"
            )
        return Listing([view])

    async def many(self, provider: Provider, ids: Sequence[str]) -> Listing:
        """Return those of these entities that are stored, in the order asked."""
        if len(ids) > self._limits.max_entities:
            raise InvalidQuery(
                f"{len(ids):,} ids are more than the {self._limits.max_entities:,} of one request"
            )
        wanted = EntityFilter(ids=tuple(ids), source=provider.info.name)
        most = self._limits.max_listing_bytes
        # What the store cuts off for its size is found as a view, and counted.
        rows = await self._holdings.entities(wanted, len(ids) or 1, max_bytes=most)
        stored = {one.id: one for one in rows}
        found: list[StoredEntity | Answer] = []
        size = 0
        for id in ids:
            entity = stored.get(id) or await self.view(provider, id)
            if entity is None:
                continue
            found.append(entity)
            size += entity.size if isinstance(entity, Answer) else len(entity.data)
            if size > most:
                raise TooLarge(
                    f"these {len(ids):,} entities have more than the {most:,} "
                    "bytes that one listing may have (limits.max_listing_bytes); ask for fewer"
                )
        if not found:
            raise NotFound(f"none of the {len(ids)} entities is stored")
        return Listing(found)

    async def view(
        self, provider: Provider, id: str, most_loaded: int | None = None
    ) -> Answer | None:
        """Answer a view by its id from what is wholly held (stitching rule 20).

        One of more records than `most_loaded` comes without its slices; `None` has it whole, or
        raises `TooLarge`.
        """
        parts = parse_view_id(id)
        if parts is None or parts.source != provider.info.name:
            return None
        now = self._clock.now_ms()
        try:
            key = series_key(provider, parts.ticker, dict(parts.params))
            key, adjusted = source_of(key, provider.traits(key))
            zone = await self._zone(provider, key, parts.start, parts.end)
            bounds = parse_range(parts.start, parts.end, now_ms=now, zone=zone)
        except (InvalidQuery, NotFound):
            return None
        if bounds.start_ms is None or bounds.end_ms > present(now):
            return None
        asked = Interval(bounds.start_ms, bounds.end_ms)
        if adjusted is not None:
            most_loaded = None
        search = RangeSearch(key, asked, absolute=True, fresh=Freshness.HELD)
        answer = await self._viewed(provider, search, id, most_loaded)
        if answer is None or adjusted is None:
            return answer
        return await self._adjuster.as_held(provider, answer, adjusted)

    async def _viewed(
        self, provider: Provider, search: RangeSearch, id: str, most_loaded: int | None
    ) -> Answer | None:
        """Return what is held of a range, if all of it is; `None`: it is not."""
        now = self._clock.now_ms()
        while True:
            look = await self._searcher.look(provider, search, now)
            # What is held is held, if only as due.
            wanted = look.as_held()
            if not wanted.complete:
                return None
            total = await self._holdings.count(look.series, search.asked)
            if total is None:
                continue
            if most_loaded is not None and total > most_loaded:
                return _aged(look.answer(wanted, total=total), look)
            if total > self._limits.max_records:
                raise TooLarge(
                    f"{shortened(id)} has {total:,} records, more than the "
                    f"{self._limits.max_records:,} one answer may have (limits.max_records); ask "
                    "for a part of its range"
                )
            series = await self._holdings.load(search.key, search.asked)
            if series.at() == look.series.at():
                look = look.renewed(series)
                return _aged(look.answer(wanted), look)

    async def _zone(
        self, provider: Provider, key: SeriesKey, start: str, end: str
    ) -> ZoneInfo | None:
        """Return the time zone of the bounds of an id, where they depend on any.

        Raises `NotFound` where nobody has told it yet: then nothing of the ticker is held.
        """
        if not (provider.info.zoned and (is_local(start) or is_local(end))):
            return None
        series = await self._holdings.directory(key)
        zone = zone_named(series.state.ticker.zone)
        if zone is None:
            raise NotFound(f"the time zone of {key.ticker} is not known")
        return zone

    async def kept(
        self, found: Sequence[Entity], limit: int | None, providers: Container[str]
    ) -> Listing:
        """Store entities that a provider answered with, and answer at most `limit` of them.

        Raises `InvalidQuery` where an id belongs to something else; then none is stored.
        """
        for entity in found:
            check_id(entity.id, providers)
        entities = [_storable(entity) for entity in found]
        await self._holdings.save_entities(entities)
        page = entities if limit is None else entities[:limit]
        size = sum(len(entity.data) for entity in page)
        if size > self._limits.max_listing_bytes and len(page) > 1:
            raise TooLarge(
                f"these {len(page):,} entities have {size:,} bytes, more than the "
                f"{self._limits.max_listing_bytes:,} that one listing may have "
                "(limits.max_listing_bytes); they are stored: list them page by page, or ask for "
                "fewer"
            )
        return Listing(page)

    async def filtered(
        self, provider: Provider, filters: Sequence[Filter], limit: int | None
    ) -> Listing:
        """Filter what is stored; nothing goes upstream."""
        ids: tuple[str, ...] | None = None
        tags: list[str] = []
        state: str | None = None
        source: str | None = None
        updated: tuple[int | None, int | None] = (None, None)
        for item in filters:
            match item:
                case ById(value):
                    ids = (value,) if ids is None or value in ids else ()
                case BySource(value):
                    source = value
                case ByState(value):
                    state = value
                case ByTags(values):
                    tags.extend(values)
                case ByUrl(value):
                    tags.append(f"url={value}")
                case ByUpdatedAtRange(start, end):
                    bounds = _updated(start, end, self._clock.now_ms())
                    updated = (bounds.start_ms, bounds.end_ms)
                case Ticker() | DateRange() | Param():
                    # For providers that read them themselves: what is stored is no range.
                    pass
                case _:
                    assert_never(item)
        wanted = EntityFilter(ids, provider.info.name, source, state, tuple(tags), updated)
        # A search has no offset to go on with, so none is offered.
        return replace(await self.listed(wanted, limit, 0), next_offset=None)

    async def listed(self, wanted: EntityFilter, limit: int | None, offset: int) -> Listing:
        """Return a page of what is stored; `limit` `None` leaves its length to the hub."""
        most = self._limits.default_entities if limit is None else limit
        most = min(most, self._limits.max_entities)
        if most == 0:
            return Listing(())
        found = await self._holdings.entities(
            wanted, most + 1, offset, self._limits.max_listing_bytes
        )
        page = found[:most]
        cut_short = len(found) > most or await self._more(wanted, offset + len(page), page)
        return Listing(page, offset + len(page) if cut_short else None)

    async def _more(self, wanted: EntityFilter, offset: int, page: Sequence[StoredEntity]) -> bool:
        """Whether entities follow a page that may have been cut at its size."""
        return bool(page) and bool(await self._holdings.entities(wanted, 1, offset, 1))


def _aged(answer: Answer, look: Look) -> Answer:
    """Say of a view what a search would have fetched anew: it is told as it is held."""
    why = [
        Reason(one, "stale", "due to be fetched again; search for it anew")
        for one in union(look.plan.gaps, look.plan.aged)
    ]
    if not why:
        return answer
    return structs.replace(answer, state=State.STALE, why=(*answer.why, *why))


def check_id(id: str, providers: Container[str]) -> None:
    """Raise `InvalidQuery` for an id under which nothing else than a range can be had."""
    parts = parse_view_id(id)
    if parts is None or parts.source not in providers:
        return
    try:
        parse_range(parts.start, parts.end, now_ms=0)
    except InvalidQuery:
        return
    raise InvalidQuery(
        f"{shortened(id)} is the id of a range of {parts.source}, which the hub answers from "
        "what it holds; store this under another id"
    )


def _storable(entity: Entity) -> StoredEntity:
    """Return an entity as it is stored: texts, and an update time that sorts as one."""
    data = entity.data if isinstance(entity.data, str) else entity.data.decode()
    updated = parse_instant(entity.updated_at, now_ms=0, what="updated_at")
    return StoredEntity(
        id=entity.id,
        source=entity.source,
        tags=entity.tags,
        data=data,
        etag=entity.etag,
        fetched_at=entity.fetched_at,
        refresh_after=entity.refresh_after,
        state=entity.state,
        last_error=entity.last_error,
        updated_at=sortable(updated),
    )


def may_match(search: RangeSearch) -> bool:
    """Whether a stitched entity can match at all what was given beside its ticker."""
    return all(
        item.value == search.key.provider
        if isinstance(item, BySource)
        else item.concerns != "stored"
        for item in search.others
    )


def matches(answer: Answer, item: Filter, now: int) -> bool:
    """Whether a stitched entity matches a filter that was given beside its ticker."""
    match item:
        case BySource(value):
            return value == answer.key.provider
        case ByState(value):
            return value == answer.state.value
        case ByTags(values):
            tags = {f"ticker={answer.key.ticker}"}
            tags |= {f"{name}={value}" for name, value in answer.key.params}
            tags.add(f"from={format_instant(answer.asked.start)}")
            tags.add(f"to={format_instant(answer.asked.end)}")
            return set(values) <= tags
        case ByUpdatedAtRange(start, end):
            bounds = _updated(start, end, now)
            since = bounds.start_ms
            return (since is None or since <= answer.updated_at) and (
                answer.updated_at < bounds.end_ms
            )
        case ById() | ByUrl() | Ticker() | DateRange() | Param():
            return False
        case _:
            assert_never(item)


def _updated(start: str, end: str, now: int) -> RangeBounds:
    """Read the bounds of an update time; up to now includes the second that is running."""
    return parse_range(start, end, now_ms=now - now % 1_000 + 1_000)
