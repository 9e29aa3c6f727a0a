"""An entity that is imported, checked and put into the form it is stored in."""

from __future__ import annotations

from typing import Any

import msgspec
import xxhash

from gapless.domain.blocks import encode, etag
from gapless.errors import InvalidQuery
from gapless.instants import format_instant
from gapless.protocol.times import parse_instant
from gapless.servers.http.shapes import EntityImport
from gapless.store.base import StoredEntity, sortable

_LONGEST_ID = 1_000


def imported(id: str, body: EntityImport, now_ms: int) -> StoredEntity:
    """Return what is stored for an import; raise `InvalidQuery` for what cannot be."""
    if not 0 < len(id) <= _LONGEST_ID:
        raise InvalidQuery(f"an id has 1 to {_LONGEST_ID:,} characters")
    if body.id is not None and body.id != id:
        raise InvalidQuery("id: it is not the id in the path; leave it out, or let them agree")
    items = _array(body.data, "data")
    tags = _array(body.tags, "tags")
    if not all(isinstance(tag, str) for tag in tags):
        raise InvalidQuery("tags: expected an array of strings")
    total = sum(xxhash.xxh3_64_intdigest(encode(item)) for item in items)
    fetched = _instant(body.fetched_at, now_ms, "fetched_at")
    updated = _instant(body.updated_at, now_ms, "updated_at")
    refresh = body.refresh_after
    if refresh:
        refresh = format_instant(_instant(refresh, now_ms, "refresh_after"))
    return StoredEntity(
        id=id,
        source=body.source,
        tags=msgspec.json.encode(tags).decode(),
        data=msgspec.json.encode(items).decode(),
        etag=body.etag or etag(total),
        fetched_at=format_instant(fetched),
        refresh_after=refresh,
        state=body.state,
        last_error=body.last_error,
        updated_at=sortable(updated),
    )


def _array(value: list[Any] | str, key: str) -> list[Any]:
    if isinstance(value, list):
        return value
    try:
        return msgspec.json.decode(value, type=list[Any])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidQuery(f"{key}: expected an array, or the JSON text of one: {error}") from None


def _instant(text: str, now_ms: int, key: str) -> int:
    return parse_instant(text, now_ms=now_ms, what=key) if text else now_ms
