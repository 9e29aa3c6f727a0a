"""ENTITY dicts that a plugin returns: checked key by key, and brought into the form that is stored.

Apart from the records of a range, which go into blocks; these are kept as they are. Runs in the
plugin's process.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gapless.domain.blocks import encode, etag, text_hash
from gapless.instants import format_instant
from gapless.providers.plugins.values import BadReply, clean, instant, shown, type_name

MOST_ENTITIES = 1_000
_LONGEST_ID = 1_000
_STATES = ("ready", "partial", "stale")
_decode = msgspec.json.Decoder().decode


class EntitySink:
    """Takes entities for a request that was asked at `now`, milliseconds UTC."""

    def __init__(self, now: int, most_bytes: int) -> None:
        self.entities: list[dict[str, str]] = []
        self._now = now
        self._most = most_bytes
        self._bytes = 0

    def take(self, value: Any) -> None:
        """Take a list of ENTITY dicts, one dict or an iterator of them; `None` is nothing.

        Raises `BadReply` that names the entity and the key.
        """
        if value is None:
            return
        if isinstance(value, dict):
            self.item(value)
        elif isinstance(value, list | tuple) or hasattr(value, "__next__"):
            for entity in value:
                self.item(entity)
        else:
            raise BadReply(f"a {type_name(value)} is no answer; return a list of entities (dicts)")

    def item(self, value: Any) -> None:
        """Take one entity."""
        where = f"entity {len(self.entities)}"
        if not isinstance(value, dict):
            raise BadReply(f"{where} is a {type_name(value)}, not a dict")
        if len(self.entities) == MOST_ENTITIES:
            raise BadReply(f"it returned more than {MOST_ENTITIES:,} entities at once")
        entity = self._entity(value, where)
        self._bytes += sum(map(len, entity.values()))
        if self._bytes > self._most:
            raise BadReply(
                f"its reply has more than the {self._most:,} bytes that one may have "
                "(plugins.max_reply_bytes)"
            )
        self.entities.append(entity)

    def _entity(self, value: dict[str, Any], where: str) -> dict[str, str]:
        id = value.get("id")
        if not isinstance(id, str) or not 0 < len(id) <= _LONGEST_ID:
            raise BadReply(
                f"{where} has the id {shown(id)}, a {type_name(id)}; it must be text of 1 to "
                f"{_LONGEST_ID:,} characters"
            )
        items = array_of(value.get("data"), f"{where}: data")
        texts = [_json(item, f"{where}: data") for item in items]
        state = value.get("state") or "ready"
        if state not in _STATES:
            raise BadReply(
                f"{where}: state is {shown(state)}; it may be one of {', '.join(_STATES)}"
            )
        return {
            "id": _text(id, f"{where}: id"),
            "tags": _tags(value.get("tags"), where),
            "data": "[" + b",".join(texts).decode("ascii") + "]",
            "etag": _text(value.get("etag") or etag(sum(map(text_hash, texts))), f"{where}: etag"),
            "fetched_at": self._instant(value.get("fetched_at"), f"{where}: fetched_at"),
            "refresh_after": self._due(value.get("refresh_after"), f"{where}: refresh_after"),
            "updated_at": self._instant(value.get("updated_at"), f"{where}: updated_at"),
            "state": state,
            "last_error": _text(value.get("last_error") or "", f"{where}: last_error"),
        }

    def _instant(self, value: Any, where: str) -> str:
        if value is None or value == "":
            return format_instant(self._now)
        ms = instant(value)
        try:
            if ms is None:
                raise OverflowError
            return format_instant(ms)
        except OverflowError:
            raise BadReply(
                f"{where} is {shown(value)}, a {type_name(value)}; it must be an instant such as "
                "2025-09-05T00:00:00Z"
            ) from None

    def _due(self, value: Any, where: str) -> str:
        return "" if value is None or value == "" else self._instant(value, where)


def array_of(value: Any, where: str) -> list[Any]:
    """Return `data`, a JSON array as text or a list, as a list; raise `BadReply` otherwise."""
    if isinstance(value, str | bytes | bytearray):
        try:
            value = _decode(value)
        except (msgspec.MsgspecError, UnicodeError) as error:
            # The standard library writes NaN, and reads it.
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise BadReply(f"{where} is no JSON: {error}") from None
    if isinstance(value, tuple):
        return list(value)
    if not isinstance(value, list):
        raise BadReply(
            f"{where} is a {type_name(value)}; it must be a JSON array, as text or as a list"
        )
    return value


def _json(item: Any, where: str) -> bytes:
    try:
        return encode(clean(item, where))
    except (TypeError, ValueError, UnicodeError) as error:
        raise BadReply(f"{where} cannot be written as JSON: {error}") from error


def _tags(value: Any, where: str) -> str:
    if value is None or value == "":
        return "[]"
    tags = array_of(value, f"{where}: tags")
    for tag in tags:
        _text(tag, f"{where}: tags")
    return msgspec.json.encode([str.__str__(tag) for tag in tags]).decode()


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise BadReply(f"{where} is a {type_name(value)}: {shown(value)}; it must be text")
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadReply(f"{where} is no text: {error}") from None
    return text
