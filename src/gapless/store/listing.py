"""Lists in SQL: entities by filter, series in figures, plugins; page by page.

Apart from the work on one series, which reads and changes its blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, tuple_

from gapless.domain.series import SeriesKey
from gapless.errors import InvalidQuery
from gapless.store import rows, schema
from gapless.store.base import EntityFilter, RememberedPlugin, SeriesSummary, StoredEntity

_s, _c = schema.series.c, schema.coverage.c
_e, _p = schema.entities.c, schema.plugins.c
_ENTITY_COLUMNS = tuple(_e[name] for name in StoredEntity.__dataclass_fields__)
_OVER_IT = and_(_c.series == _e.series, _c.start_ms < _e.end_ms, _c.end_ms > _e.start_ms)
_KNOWN_AT = (
    select(func.min(_c.fetched_at_ms)).where(_OVER_IT).scalar_subquery().label("known_at_ms")
)
_DUE_AT = select(func.min(_c.refresh_after_ms)).where(_OVER_IT).scalar_subquery().label("due_at_ms")


def find(
    connection: Connection,
    wanted: EntityFilter,
    limit: int,
    offset: int,
    max_bytes: int | None,
) -> list[StoredEntity]:
    """Return stored entities ordered by id; at least one, if there is one."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.ids is not None:
        conditions.append(_e.id.in_(wanted.ids))
    for source in (wanted.source, wanted.also_source):
        if source is not None:
            conditions.append(_e.source == source)
    if wanted.state is not None:
        conditions.append(_e.state == wanted.state)
    for tag in wanted.tags:
        # Tags are a JSON array of strings as msgspec writes it, so a whole tag is quoted.
        needle = msgspec.json.encode(tag).decode()
        conditions.append(_e.tags.contains(needle, autoescape=True))
    since, until = wanted.updated
    if since is not None:
        conditions.append(_e.updated_at >= rows.sortable(since))
    if until is not None:
        conditions.append(_e.updated_at < rows.sortable(until))
    statement = (
        select(*_ENTITY_COLUMNS, _e.number, _e.offsets, _KNOWN_AT, _DUE_AT)
        .where(and_(True, *conditions))
        .order_by(_e.id)
        .limit(limit)
        .offset(offset)
    )
    result: list[StoredEntity] = []
    size = 0
    for row in connection.execute(statement.execution_options(yield_per=16)):
        size += len(row.data)
        if max_bytes is not None and result and size > max_bytes:
            break
        if row.offsets is not None:
            # Only for its checksum: a block is shown as it was stored or not at all.
            rows.run_of(row.number, row.data.encode(), row.offsets)
        result.append(rows.entity_of(row))
    return result


def save(connection: Connection, values: Sequence[Mapping[str, Any]]) -> None:
    """Replace by id what is of the same source; raise `InvalidQuery` where an id is another's."""
    fresh = {one["id"]: dict(one) for one in values}
    for row in connection.execute(select(_e.id, _e.source, _e.series).where(_e.id.in_(fresh))):
        _check_owner(row, fresh[row.id]["source"])
    connection.execute(delete(schema.entities).where(_e.id.in_(fresh)))
    if fresh:
        connection.execute(insert(schema.entities), list(fresh.values()))


def _check_owner(row: Any, source: str) -> None:
    """Ids are one name each over all providers, and a series' blocks are no business of others."""
    if row.series is not None or row.source != source:
        owner = "the held records of" if row.series is not None else "provider"
        raise InvalidQuery(
            f"the id {row.id[:200]!r} belongs to {owner} {row.source!r}, so that {source!r} "
            "cannot have an entity of that id; nothing of this was stored"
        )


def summaries(
    connection: Connection, provider: str | None, after: SeriesKey | None, limit: int
) -> list[SeriesSummary]:
    """Return at most `limit` series that follow `after`, ordered by provider, ticker, params."""
    order = (_s.provider, _s.ticker, _s.params)
    statement = select(_s.number, *order).order_by(*order).limit(limit)
    if provider is not None:
        statement = statement.where(_s.provider == provider)
    if after is not None:
        passed = (after.provider, after.ticker, rows.params_text(after))
        statement = statement.where(tuple_(*order) > tuple_(*passed))
    found = connection.execute(statement).all()
    numbers = [row.number for row in found]
    known = {
        row.series: row
        for row in connection.execute(
            select(
                _c.series,
                func.min(_c.start_ms).label("start"),
                func.max(_c.end_ms).label("end"),
                func.min(_c.fetched_at_ms).label("fetched_at"),
                func.max(_c.fetched_at_ms).label("updated_at"),
            )
            .where(_c.series.in_(numbers))
            .group_by(_c.series)
        )
    }
    held = {
        row.series: (row.records, row.blocks)
        for row in connection.execute(
            select(_e.series, func.sum(_e.records).label("records"), func.count().label("blocks"))
            .where(_e.series.in_(numbers))
            .group_by(_e.series)
        )
    }
    result: list[SeriesSummary] = []
    for row in found:
        with rows.decoding(f"series {row.number}"):
            key = rows.key_of(row.provider, row.ticker, row.params)
        span = known.get(row.number)
        times = (
            (None, None, None, None)
            if span is None
            else (span.start, span.end, span.fetched_at, span.updated_at)
        )
        result.append(SeriesSummary(key, *held.get(row.number, (0, 0)), *times))
    return result


def aged(connection: Connection, before: int) -> list[SeriesKey]:
    """Return the series of which something was fetched before that instant, in order."""
    old = select(_c.series).where(_c.fetched_at_ms < before).distinct().scalar_subquery()
    statement = select(_s.number, _s.provider, _s.ticker, _s.params).where(_s.number.in_(old))
    result: list[SeriesKey] = []
    for row in connection.execute(statement):
        with rows.decoding(f"series {row.number}"):
            result.append(rows.key_of(row.provider, row.ticker, row.params))
    # Databases order text each in its own way.
    return sorted(result)


def plugins(connection: Connection) -> list[RememberedPlugin]:
    """Return the remembered plugins by name."""
    found = connection.execute(select(_p.name, _p.spec, _p.loaded_at)).all()
    return sorted((RememberedPlugin(*row) for row in found), key=lambda plugin: plugin.name)


def save_plugin(connection: Connection, plugin: RememberedPlugin) -> None:
    """Replace by name."""
    forget_plugin(connection, plugin.name)
    connection.execute(insert(schema.plugins).values(asdict(plugin)))


def forget_plugin(connection: Connection, name: str) -> bool:
    """Remove by name; return whether it was there."""
    return connection.execute(delete(schema.plugins).where(_p.name == name)).rowcount > 0
