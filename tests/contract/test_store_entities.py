"""What every store does with entities: blocks as they are shown, and what is saved beside them."""

from __future__ import annotations

import msgspec
import pytest

from gapless.domain.blocks import etag
from gapless.domain.series import SeriesKey
from gapless.errors import InvalidQuery
from gapless.instants import format_instant
from gapless.store.base import EntityFilter, Store, StoredEntity
from support.series import KEY, change, entity, fill, run, text
from support.stores import ALL, held

# The second and the fourth of January 2025.
SECOND, FOURTH = 1_735_776_000_000, 1_735_948_800_000

MSFT = SeriesKey.of("sample", "MSFT", {"interval": "1h"})


async def test_a_block_is_an_entity(store: Store) -> None:
    """Each block shows as an entity under the id of its view, with its etag and tags."""
    await store.apply(change(fill(0, 86_400_000, [1_000]), key=MSFT, at=5_000))
    [found] = await store.entities(EntityFilter(), 10)
    assert found.id == "sample:MSFT?interval=1h:1970-01-01T00:00:00Z..1970-01-02T00:00:00Z"
    assert found.source == "sample"
    assert msgspec.json.decode(found.tags) == [
        "ticker=MSFT",
        "from=1970-01-01T00:00:00Z",
        "to=1970-01-02T00:00:00Z",
        "interval=1h",
    ]
    assert found.data.encode() == b"[" + text(1_000) + b"]"
    assert found.etag == etag(run([1_000]).sum(0, 1))
    assert (found.fetched_at, found.refresh_after) == ("1970-01-01T00:16:40Z", "")
    assert (found.state, found.last_error, found.updated_at) == (
        "ready",
        "",
        "1970-01-01T00:00:05.000Z",
    )


async def test_how_fresh_a_block_is_tells_its_coverage(store: Store) -> None:
    """What is found to be the same is as fresh as it was last asked for, though not written."""

    async def shown() -> list[tuple[str, str, str]]:
        found = await store.entities(EntityFilter(), 10)
        return [(one.fetched_at, one.refresh_after, one.updated_at) for one in found]

    await store.apply(change(fill(0, 100, [10, 20, 60], at=5_000), revises=True, at=6_000))
    written = "1970-01-01T00:00:06.000Z"
    assert await shown() == [("1970-01-01T00:00:05Z", "", written)]
    await store.apply(change(fill(0, 100, [10, 20, 60], at=7_000), revises=True, at=8_000))
    assert await shown() == [("1970-01-01T00:00:07Z", "", written)]
    # Of a part of it, the oldest part counts.
    await store.apply(change(fill(50, 100, [60], at=9_000), revises=True, at=9_500))
    assert await shown() == [("1970-01-01T00:00:07Z", "", written)]
    await store.apply(change(fill(0, 50, [10, 20], at=10_000), revises=True, at=11_000))
    assert await shown() == [("1970-01-01T00:00:09Z", "", written)]


async def test_when_a_block_is_due_tells_its_coverage(store: Store) -> None:
    """A tail that is found to be the same is due later, though not written."""

    async def shown() -> tuple[str, str]:
        [one] = await store.entities(EntityFilter(), 10)
        return one.refresh_after, one.updated_at

    await store.apply(change(fill(0, 100, [10], at=100, refresh_after=60_000), at=1_000))
    assert await shown() == ("1970-01-01T00:01:00Z", "1970-01-01T00:00:01.000Z")
    await store.apply(change(fill(0, 100, [10], at=200, refresh_after=120_000), at=2_000))
    assert await shown() == ("1970-01-01T00:02:00Z", "1970-01-01T00:00:01.000Z")
    await store.apply(change(fill(0, 100, [10], at=300), at=3_000))
    assert await shown() == ("", "1970-01-01T00:00:03.000Z")


def fresh(one: StoredEntity) -> tuple[str, str]:
    """Return how fresh an entity says it is."""
    return one.fetched_at, one.refresh_after


async def test_a_saved_entity_is_as_fresh_as_it_says(store: Store) -> None:
    """No coverage speaks of what is no block, even of the same source and hour."""
    await store.apply(change(fill(0, 100, [10], at=5_000)))
    saved = entity("mine", KEY.provider, fetched_at="2020-01-01T00:00:00Z", refresh_after="never")
    await store.save_entities([saved])
    [found] = await store.entities(EntityFilter(ids=("mine",)), 10)
    assert fresh(found) == ("2020-01-01T00:00:00Z", "never")


ENTITIES = [
    entity("a", "x", '["kind=note","b"]', updated_at="2025-01-01T00:00:00.000Z"),
    entity("b", "x", '["kind=Note"]', state="stale", updated_at="2025-01-02T00:00:00.000Z"),
    entity("c", "y", '["kind=note","50%_off"]', updated_at="2025-01-03T00:00:00.000Z"),
    entity("d", "y", r'["a \"quoted\" tag","b"]', updated_at="2025-01-04T00:00:00.000Z"),
]

WANTED: list[tuple[EntityFilter, str]] = [
    (EntityFilter(), "abcd"),
    (EntityFilter(ids=("a", "c", "nobody")), "ac"),
    (EntityFilter(ids=()), ""),
    (EntityFilter(source="x"), "ab"),
    (EntityFilter(source="x", also_source="y"), ""),
    (EntityFilter(source="y", also_source="y"), "cd"),
    (EntityFilter(state="stale"), "b"),
    (EntityFilter(tags=("kind=note",)), "ac"),
    (EntityFilter(tags=("kind=note", "b")), "a"),
    (EntityFilter(tags=("kind=no",)), ""),
    (EntityFilter(tags=("50%_off",)), "c"),
    (EntityFilter(tags=("%",)), ""),
    (EntityFilter(tags=('a "quoted" tag',)), "d"),
    (EntityFilter(updated=(SECOND, FOURTH)), "bc"),
    (EntityFilter(updated=(None, SECOND)), "a"),
]


async def test_entities_are_filtered(store: Store) -> None:
    """Each part of a filter narrows, and all of them together; tags match whole, by case."""
    await store.save_entities(ENTITIES)
    for wanted, expected in WANTED:
        found = await store.entities(wanted, 10)
        assert "".join(one.id for one in found) == expected, wanted
    assert await store.entities(EntityFilter(), 10) == ENTITIES


async def test_entities_come_in_pages(store: Store) -> None:
    """Pages follow one another by id, and end near a number of bytes, but never empty."""
    await store.save_entities(entity(name, data="x" * 100) for name in "edcba")

    async def ids(limit: int, offset: int = 0, max_bytes: int | None = None) -> str:
        found = await store.entities(EntityFilter(), limit, offset, max_bytes)
        return "".join(one.id for one in found)

    assert await ids(2) == "ab"
    assert await ids(2, 4) == "e"
    assert await ids(2, 5) == ""
    assert await ids(0) == ""
    assert await ids(5, 0, 250) == "ab"
    assert await ids(5, 1, 300) == "bcd"
    assert await ids(5, 0, 1) == "a"


async def test_saving_replaces_by_id(store: Store) -> None:
    """An entity of the same id is replaced, the last of several wins."""
    await store.save_entities([])
    await store.save_entities([entity("a", data="[1]")])
    await store.save_entities([entity("a", data="[2]"), entity("a", data="[3]"), entity("b")])
    found = await store.entities(EntityFilter(), 10)
    assert [(one.id, one.data) for one in found] == [("a", "[3]"), ("b", "[]")]


async def test_blocks_and_saved_entities_do_not_collide(store: Store) -> None:
    """A block is never overwritten from outside, and a saved entity never keeps one out."""
    name = f"{KEY.text}:{format_instant(0)}..{format_instant(1_000)}"
    await store.save_entities([entity(name)])
    await store.apply(change(fill(0, 1_000, [10])))
    for source in ("notes", "sample"):
        with pytest.raises(InvalidQuery, match="belongs to the held records of 'sample'"):
            await store.save_entities([entity("other", source), entity(name, source)])
    found = await store.entities(EntityFilter(), 10)
    assert [(one.id, one.source) for one in found] == [(name, "sample")]
    assert held(await store.read(KEY, ALL)) == {10: text(10)}


async def test_an_id_belongs_to_one_source(store: Store) -> None:
    """An entity of another source is not overwritten, and nothing of such a batch is stored."""
    await store.save_entities([entity("a", "notes", data="[1]")])
    with pytest.raises(InvalidQuery, match="the id 'a' belongs to provider 'notes'"):
        await store.save_entities([entity("b", "files"), entity("a", "files", data="[2]")])
    found = await store.entities(EntityFilter(), 10)
    assert [(one.id, one.source, one.data) for one in found] == [("a", "notes", "[1]")]
    await store.save_entities([entity("a", "notes", data="[3]"), entity("b", "files")])
    found = await store.entities(EntityFilter(), 10)
    assert [(one.id, one.data) for one in found] == [("a", "[3]"), ("b", "[]")]
