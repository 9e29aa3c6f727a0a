"""Entities that a plugin returns: what they become, and what is refused, key by key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from gapless.domain.blocks import etag, text_hash
from gapless.providers.plugins.entities import MOST_ENTITIES, EntitySink
from gapless.providers.plugins.values import BadReply

NOW = 1_600_000_000_123


def kept(value: Any, most_bytes: int = 1 << 30) -> list[dict[str, str]]:
    """Return the entities that a value becomes."""
    sink = EntitySink(NOW, most_bytes)
    sink.take(value)
    return sink.entities


def test_what_is_not_said_has_a_default() -> None:
    """An id and data are enough; the etag is that of the records."""
    records = [{"a": 1, "b": "é"}, [1.5, None]]
    (entity,) = kept([{"id": "x", "data": records}])
    assert entity == {
        "id": "x",
        "tags": "[]",
        "data": '[{"a":1,"b":"\\u00e9"},[1.5,null]]',
        "etag": etag(sum(map(text_hash, (b'{"a":1,"b":"\\u00e9"}', b"[1.5,null]")))),
        "fetched_at": "2020-09-13T12:26:40.123Z",
        "refresh_after": "",
        "updated_at": "2020-09-13T12:26:40.123Z",
        "state": "ready",
        "last_error": "",
    }


def test_everything_may_be_said() -> None:
    """Instants come in every spelling, arrays as text or lists, other keys are passed over."""
    said = {
        "id": "x",
        "source": "of no matter",
        "tags": '["a=b", "é"]',
        "data": ' [ {"x": NaN} ,\n 1 ] ',
        "etag": "0123",
        "fetched_at": datetime(2024, 1, 1, tzinfo=UTC),
        "refresh_after": "2024-01-02T01:00:00+01:00",
        "updated_at": 1_704_067_200,
        "state": "partial",
        "last_error": "half of it was missing",
        "more": object(),
    }
    (entity,) = kept([said])
    assert entity == {
        "id": "x",
        "tags": '["a=b","é"]',
        "data": '[{"x":null},1]',
        "etag": "0123",
        "fetched_at": "2024-01-01T00:00:00Z",
        "refresh_after": "2024-01-02T00:00:00Z",
        "updated_at": "2024-01-01T00:00:00Z",
        "state": "partial",
        "last_error": "half of it was missing",
    }


@pytest.mark.parametrize("nothing", [None, [], (), iter([])])
def test_nothing_is_an_answer(nothing: Any) -> None:
    """There is no such entity."""
    assert kept(nothing) == []


def test_one_or_an_iterator() -> None:
    """A single dict is one entity; they may be yielded, too."""
    one = {"id": "x", "data": []}
    assert len(kept(one)) == 1
    assert [entity["id"] for entity in kept(iter([one, {**one, "id": "y"}]))] == ["x", "y"]


REFUSED: list[tuple[str, Any, str]] = [
    ("a text", json.dumps([]), "a str is no answer; return a list of entities"),
    ("a list of texts", ["x"], "entity 0 is a str, not a dict"),
    ("no id", [{"data": []}], "entity 0 has the id None, a NoneType; it must be text"),
    ("a number as id", [{"id": 5, "data": []}], "entity 0 has the id 5, a int"),
    ("an empty id", [{"id": "", "data": []}], "it must be text of 1 to 1,000 characters"),
    ("a long id", [{"id": "x" * 1_001, "data": []}], "it must be text of 1 to 1,000 characters"),
    ("a surrogate", [{"id": "\udc80", "data": []}], "entity 0: id is no text"),
    ("no data", [{"id": "x"}], "entity 0: data is a NoneType; it must be a JSON array"),
    ("an object", [{"id": "x", "data": "{}"}], "entity 0: data is a dict; it must be a JSON arr"),
    ("no JSON", [{"id": "x", "data": "[1,"}], "entity 0: data is no JSON"),
    ("bytes", [{"id": "x", "data": b"\xff"}], "entity 0: data is no JSON"),
    ("a set in it", [{"id": "x", "data": [{1}]}], "entity 0: data is a set"),
    ("a surrogate in it", [{"id": "x", "data": ["\ud800"]}], "data cannot be written as JSON"),
    ("tags", [{"id": "x", "data": [], "tags": {"a": 1}}], "entity 0: tags is a dict"),
    ("a tag", [{"id": "x", "data": [], "tags": [1]}], "entity 0: tags is a int: 1; it must be"),
    ("etag", [{"id": "x", "data": [], "etag": 5}], "entity 0: etag is a int: 5; it must be text"),
    ("an instant", [{"id": "x", "data": [], "fetched_at": "now"}], "fetched_at is 'now', a str"),
    ("a far one", [{"id": "x", "data": [], "updated_at": 1e15}], "updated_at is 1000000000000"),
    ("when due", [{"id": "x", "data": [], "refresh_after": "soon"}], "refresh_after is 'soon'"),
    ("a state", [{"id": "x", "data": [], "state": "good"}], "state is 'good'; it may be one of re"),
    ("an error", [{"id": "x", "data": [], "last_error": 1}], "entity 0: last_error is a int: 1"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "why"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_what_is_refused(value: Any, why: str) -> None:
    """The message names the entity, the key and the type."""
    with pytest.raises(BadReply) as caught:
        kept(value)
    assert why in str(caught.value)


def test_a_reply_has_bounds() -> None:
    """Neither more entities nor more bytes than one reply may have, however many are yielded."""

    def endless() -> Iterator[dict[str, Any]]:
        while True:
            yield {"id": "x", "data": ["x" * 1_000]}

    with pytest.raises(BadReply, match=f"more than {MOST_ENTITIES:,} entities"):
        kept(endless())
    with pytest.raises(BadReply, match=r"more than the 100,000 bytes"):
        kept(endless(), 100_000)
