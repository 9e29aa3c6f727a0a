"""Entities and plugins in SQL: found by filter page by page, and saved from outside.

Apart from the series, whose blocks are entities only on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from gapless.store import rows, schema
from gapless.store.base import EntityFilter, RememberedPlugin, StoredEntity

_e, _p = schema.entities.c, schema.plugins.c
_ENTITY_COLUMNS = tuple(_e[name] for name in StoredEntity.__dataclass_fields__)


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
        select(*_ENTITY_COLUMNS, _e.number, _e.offsets)
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
    """Replace by id; an entity that is a block of a series is never overwritten from outside."""
    fresh = {one["id"]: dict(one) for one in values}
    connection.execute(delete(schema.entities).where(_e.id.in_(fresh), _e.series.is_(None)))
    for taken in connection.execute(select(_e.id).where(_e.id.in_(fresh))).scalars().all():
        del fresh[taken]
    if fresh:
        connection.execute(insert(schema.entities), list(fresh.values()))


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
