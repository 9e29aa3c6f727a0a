"""What every store does, whatever database lies under it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gapless.domain.blocks import etag
from gapless.domain.comparing import Ratio
from gapless.domain.coverage import Outcome, written
from gapless.domain.intervals import Interval, covers, subtract, union
from gapless.domain.series import SeriesKey
from gapless.errors import InvalidQuery
from gapless.instants import format_instant
from gapless.store.base import (
    EntityFilter,
    RememberedPlugin,
    Removal,
    SeriesState,
    Snapshot,
    Store,
    Superseded,
)
from gapless.store.sqlite import open_store
from support.series import KEY, change, entity, fill, filled, run, text

# The second and the fourth of January 2025.
SECOND, FOURTH = 1_735_776_000_000, 1_735_948_800_000

ALL = Interval(-(10**15), 10**15)
MSFT = SeriesKey.of("sample", "MSFT", {"interval": "1h"})
BLOCK_RECORDS = 6

Open = Callable[[Path], Store]


def sqlite(path: Path) -> Store:
    """Open a SQLite file with small blocks."""
    return open_store(path, BLOCK_RECORDS)


KINDS: dict[str, Open] = {"sqlite": sqlite}


@pytest.fixture(params=list(KINDS), scope="session")
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Return what opens an empty store in a folder: a copy of one that was made once."""
    factory = KINDS[request.param]
    template = tmp_path_factory.mktemp("template") / "hub.db"

    async def prepare() -> None:
        await factory(template).close()

    asyncio.run(prepare())

    def copy(folder: Path) -> Store:
        path = folder / "hub.db"
        shutil.copyfile(template, path)
        return factory(path)

    return copy


@asynccontextmanager
async def opened(make: Open, folder: Path) -> AsyncIterator[Store]:
    """Open an empty store, and close it after."""
    store = await asyncio.to_thread(make, folder)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(make: Open, tmp_path: Path) -> AsyncIterator[Store]:
    """Return an empty store."""
    async with opened(make, tmp_path) as one:
        yield one


def held(snapshot: Snapshot) -> dict[int, bytes]:
    """Return the records of a snapshot that holds all its runs."""
    return {
        time: record
        for block in snapshot.state.blocks
        for time, record in snapshot.runs[block.number or 0].records()
    }


def spans(state: SeriesState) -> list[tuple[int, int, str]]:
    """Return what is known, in short."""
    return [(row.start, row.end, row.outcome.value) for row in state.coverage]


async def test_nothing_is_stored(store: Store) -> None:
    """A series that nobody asked for is there, empty, at generation and version 0."""
    found = await store.read(KEY, ALL)
    assert found == Snapshot(SeriesState(KEY), {})
    assert await store.runs([1, 2]) == {}
    assert await store.all_series() == []
    assert await store.entities(EntityFilter(), 10) == []
    assert await store.delete(KEY) == Removal()
    assert await store.delete(KEY, ALL) == Removal()
    assert await store.aged(10**15) == []
    assert await store.prune(KEY, 10**15) == Removal()


async def test_what_is_applied_is_read(store: Store) -> None:
    """A change shows in its answer and in every later read, records, coverage and meta."""
    made = await store.apply(
        change(fill(0, 100, [10, 20]), meta={"zone": "UTC"}, compared_at=7, at=5_000)
    )
    assert held(made) == {10: text(10), 20: text(20)}
    state = made.state
    assert (state.generation, state.version, state.basis_checked_at) == (0, 1, 7)
    assert state.meta == {"zone": "UTC"}
    assert spans(state) == [(0, 100, "held")]
    found = await store.read(KEY, ALL)
    assert found.state == state
    assert found.runs == made.runs
    again = await store.apply(change(fill(200, 300, [])))
    assert again.state.number == state.number
    assert (again.state.version, again.state.basis_checked_at) == (2, 7)
    assert again.state.meta == {"zone": "UTC"}
    assert again.runs == {}
    assert spans(again.state) == [(0, 100, "held"), (200, 300, "empty")]


async def test_a_fetch_replaces_its_interval(store: Store) -> None:
    """A row that upstream withdrew goes, its neighbours stay (stitching rule 6)."""
    await store.apply(change(fill(0, 100, [10, 20, 30])))
    made = await store.apply(change(fill(15, 25, [], at=2_000_000)))
    assert spans(made.state) == [(0, 15, "held"), (15, 25, "empty"), (25, 100, "held")]
    found = await store.read(KEY, ALL)
    assert held(found) == {10: text(10), 30: text(30)}
    await store.apply(change(fill(5, 35, [12], 9.0)))
    assert held(await store.read(KEY, ALL)) == {12: text(12, 9.0)}


async def test_several_replacements_are_one_change(store: Store) -> None:
    """Intervals of one change are stored together, under one version."""
    made = await store.apply(change(fill(0, 10, [1]), fill(20, 30, [21]), fill(40, 50, [])))
    assert made.state.version == 1
    assert held(await store.read(KEY, ALL)) == {1: text(1), 21: text(21)}
    assert set(made.runs) == {block.number for block in made.state.blocks}


async def test_only_the_runs_asked_for_are_read(store: Store) -> None:
    """A read brings all blocks and the runs of those over the interval."""
    await store.apply(change(fill(0, 10, [1]), fill(20, 30, [21])))
    found = await store.read(KEY, Interval(20, 21))
    assert len(found.state.blocks) == 2
    assert [list(one.times) for one in found.runs.values()] == [[21]]
    assert (await store.read(KEY)).runs == {}


async def test_blocks_stay_within_their_limit(store: Store) -> None:
    """A long fetch becomes several blocks, each read alone."""
    made = await store.apply(change(fill(0, 100, range(0, 100, 5))))
    assert [block.count for block in made.state.blocks] == [5, 5, 5, 5]
    number = made.state.blocks[1].number or 0
    assert (await store.runs([number]))[number] == run(range(25, 50, 5))


async def test_a_block_that_is_gone_is_left_out(store: Store) -> None:
    """Numbers of blocks that were replaced name nothing any more, and are never used again."""
    made = await store.apply(change(fill(0, 100, [10])))
    [old] = made.runs
    made = await store.apply(change(fill(0, 100, [10], 2.0)))
    [new] = made.runs
    assert new > old
    assert set(await store.runs([old, new])) == {new}
    await store.delete(KEY)
    made = await store.apply(change(fill(0, 100, [10])))
    assert min(made.runs) > new


async def test_a_change_of_another_generation_is_superseded(store: Store) -> None:
    """What was planned under a generation that has passed is not stored (stitching rule 13)."""
    await store.apply(change(fill(0, 10, [1]), basis_change=Ratio(0.5, 0.5, 2.0)))
    before = await store.read(KEY, ALL)
    with pytest.raises(Superseded):
        await store.apply(change(fill(0, 10, [5]), generation=0))
    with pytest.raises(Superseded):
        await store.apply(change(fill(0, 10, [5]), generation=2))
    assert await store.read(KEY, ALL) == before


async def test_a_change_planned_on_nothing_is_superseded_by_records(store: Store) -> None:
    """Two first fetches side by side: the second was compared with nothing, and plans again."""
    await store.apply(change(fill(0, 10, []), unheld=True))
    await store.apply(change(fill(10, 20, [11]), unheld=True))
    with pytest.raises(Superseded):
        await store.apply(change(fill(20, 30, [21]), unheld=True))
    # All that is held lies in what is replaced: nothing is left to compare with.
    await store.apply(change(fill(5, 25, [12]), unheld=True))
    assert held(await store.read(KEY, ALL)) == {12: text(12)}


async def test_a_change_of_basis_keeps_older_records(store: Store) -> None:
    """Records of older generations stay until they are replaced (stitching rule 12)."""
    await store.apply(change(fill(0, 100, [10, 60], 4.0)))
    half = Ratio(0.5, 0.25, 2.0)
    made = await store.apply(change(fill(50, 100, [60], 2.0), basis_change=half))
    assert made.state.generation == 1
    assert made.state.bases == ((1, half),)
    assert [(row.start, row.end, row.generation) for row in made.state.coverage] == [
        (0, 50, 0),
        (50, 100, 1),
    ]
    assert [(block.interval, block.generation) for block in made.state.blocks] == [
        (Interval(0, 50), 0),
        (Interval(50, 100), 1),
    ]
    assert held(await store.read(KEY, ALL)) == {10: text(10, 4.0), 60: text(60, 2.0)}
    made = await store.apply(change(fill(0, 50, [10], 2.0), generation=1))
    assert {block.generation for block in made.state.blocks} == {1}


async def test_ratios_since_a_generation(store: Store) -> None:
    """Records of a generation stand on today's basis by the ratios of all later changes."""
    await store.apply(change(basis_change=Ratio(0.5, 0.5, 2.0)))
    made = await store.apply(change(generation=1, basis_change=Ratio(adjusted=0.5)))
    state = made.state
    assert state.ratio_since(0) == Ratio(0.5, 0.25, 2.0)
    assert state.ratio_since(1) == Ratio(1.0, 0.5, 1.0)
    assert state.ratio_since(2) == Ratio()
    assert (await store.read(KEY)).state == state


async def test_numbers_of_commits_are_never_used_twice(store: Store) -> None:
    """Each change of any series, a deletion included, has its own, and series go by them."""
    one = await store.apply(change(fill(0, 100, [10, 20])))
    two = await store.apply(change(fill(0, 100, [10]), key=MSFT))
    again = await store.apply(change(compared_at=3))
    assert (one.state.number, one.state.version) == (1, 1)
    assert (two.state.number, two.state.version) == (2, 2)
    assert (again.state.number, again.state.version) == (1, 3)
    assert await store.delete(KEY, Interval(15, 25)) == Removal(1, 4)
    assert (await store.read(KEY)).state.version == 4
    assert await store.delete(MSFT) == Removal(1, 5, series=True)
    assert await store.delete(MSFT) == Removal()
    made = await store.apply(change(fill(0, 100, [10]), key=MSFT))
    assert (made.state.number, made.state.version) == (6, 6)


async def test_coverage_tells_which_commit_wrote_it(store: Store) -> None:
    """What is cut keeps its commit, what is joined has the later one, what is marked a new one."""
    await store.apply(change(fill(0, 50, [10], at=5), fill(60, 70, [61], at=5)))
    await store.apply(change(fill(20, 30, [], at=6)))
    rows = (await store.read(KEY)).state.coverage
    assert [(row.start, row.end, row.commit) for row in rows] == [
        (0, 20, 1),
        (20, 30, 2),
        (30, 50, 1),
        (60, 70, 1),
    ]
    await store.apply(change(fill(50, 60, [51], at=5)))
    rows = (await store.read(KEY)).state.coverage
    assert [(row.start, row.end, row.commit) for row in rows][2:] == [(30, 70, 3)]
    await store.apply(change(unverified_until=20))
    state = (await store.read(KEY)).state
    assert [row.commit for row in state.coverage] == [4, 2, 3]
    assert written(state.coverage, Interval(10, 40)) == ((10, 20, 4), (20, 30, 2), (30, 40, 3))


async def test_an_older_copy_is_not_stored_over_a_newer_one(store: Store) -> None:
    """What was written, forgotten or fetched since a change was planned refuses all of it."""
    await store.apply(change(fill(0, 50, [10], 1.0)))
    planned = written((await store.read(KEY)).state.coverage, Interval(0, 100))
    assert planned == ((0, 50, 1),)
    old = replace(fill(0, 100, [10, 60], 2.0), planned=planned)
    beside = replace(fill(200, 300, [250]), planned=())
    meanwhile: list[Callable[[], Awaitable[object]]] = [
        lambda: store.apply(change(fill(20, 30, [25], 3.0))),
        lambda: store.apply(change(fill(90, 100, [95], 3.0))),
        lambda: store.delete(KEY, Interval(0, 5)),
        lambda: store.delete(KEY),
    ]
    for something in meanwhile:
        await store.delete(KEY)
        made = await store.apply(change(fill(0, 50, [10], 1.0)))
        known = written(made.state.coverage, Interval(0, 100))
        await something()
        before = await store.read(KEY, ALL)
        with pytest.raises(Superseded):
            await store.apply(change(replace(old, planned=known), beside))
        assert await store.read(KEY, ALL) == before
    await store.delete(KEY)
    made = await store.apply(change(fill(0, 50, [10], 1.0)))
    known = written(made.state.coverage, Interval(0, 100))
    # What happens elsewhere, or cuts a row outside, is no reason.
    await store.apply(change(fill(300, 400, [350])))
    made = await store.apply(change(replace(old, planned=known), beside))
    assert held(await store.read(KEY, ALL)) == {
        10: text(10, 2.0),
        60: text(60, 2.0),
        250: text(250),
        350: text(350),
    }


async def test_series_do_not_meddle(store: Store) -> None:
    """Two series of one ticker, apart in a parameter, are two."""
    await store.apply(change(fill(0, 100, [10])))
    await store.apply(change(fill(0, 100, [20]), key=MSFT))
    other = SeriesKey("sample", "MSFT")
    await store.apply(change(fill(0, 100, [30]), key=other))
    assert [state.key for state in await store.all_series()] == [KEY, other, MSFT]
    assert await store.all_series("yahoo") == []
    assert held(await store.read(MSFT, ALL)) == {20: text(20)}
    assert [state.key for state in await store.all_series("sample")] == [KEY, other, MSFT]


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


async def test_deleting_a_range(store: Store) -> None:
    """A range that is forgotten is neither held nor known; its neighbours keep their age."""
    await store.apply(change(fill(0, 100, [10, 20, 30], at=5_000), at=5_000))
    assert (await store.delete(KEY, Interval(15, 25))).records == 1
    found = await store.read(KEY, ALL)
    assert spans(found.state) == [(0, 15, "held"), (25, 100, "held")]
    assert held(found) == {10: text(10), 30: text(30)}
    shown = await store.entities(EntityFilter(), 10)
    assert {one.updated_at for one in shown} == {"1970-01-01T00:00:05.000Z"}
    assert await store.delete(KEY, Interval(15, 15)) == Removal()
    assert (await store.delete(KEY)).records == 2
    assert await store.read(KEY, ALL) == Snapshot(SeriesState(KEY), {})
    assert await store.entities(EntityFilter(), 10) == []


async def test_pruning_forgets_what_is_old(store: Store) -> None:
    """What was fetched before an instant goes, and a series of which nothing is left."""
    await store.apply(change(fill(0, 10, [1], at=100), fill(20, 30, [21], at=200)))
    await store.apply(change(fill(0, 10, [2, 3], at=100), key=MSFT))
    assert await store.aged(100) == []
    assert await store.prune(KEY, 100) == Removal()
    assert await store.aged(200) == [KEY, MSFT]
    assert await store.prune(KEY, 200) == Removal(1, 3)
    assert await store.prune(MSFT, 200) == Removal(2, 4, series=True)
    assert [state.key for state in await store.all_series()] == [KEY]
    assert held(await store.read(KEY, ALL)) == {21: text(21)}
    assert await store.prune(KEY, 201) == Removal(1, 5, series=True)
    assert await store.all_series() == []


async def test_figures(store: Store) -> None:
    """What is stored is counted, in bytes of records' text too."""
    assert (await store.figures()).bytes == 0
    await store.apply(change(fill(0, 10, [1, 2]), fill(20, 30, [21])))
    figures = await store.figures()
    assert (figures.series, figures.blocks, figures.records) == (1, 2, 3)
    assert figures.bytes == sum(len(run(times).text) + 2 for times in ([1, 2], [21]))


async def test_readers_go_on_beside_a_writer(store: Store) -> None:
    """Reads beside writes each see one moment: coverage and records of one version."""

    async def write() -> None:
        for at in range(30):
            await store.apply(change(fill(0, 100, [at], float(at))))

    async def read() -> None:
        while not writing.done():
            found = await store.read(KEY, ALL)
            version = found.state.version
            expected = {version - 1: text(version - 1, version - 1.0)} if version else {}
            assert held(found) == expected

    writing = asyncio.ensure_future(write())
    await asyncio.gather(writing, read(), read())


Operation = tuple[str, Interval, frozenset[int]]
SIZE = 40
operations = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["fill", "fill", "fill", "tail", "bump"]),
            filled(SIZE),
            st.frozensets(st.integers(0, SIZE - 1), max_size=12),
        ),
        st.tuples(st.just("delete"), filled(SIZE), st.just(frozenset())),
        st.tuples(st.just("prune"), st.just(Interval(0, 0)), st.just(frozenset())),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(operations)
async def test_a_store_is_a_dict(
    make: Open, tmp_path_factory: pytest.TempPathFactory, done: list[Operation]
) -> None:
    """Whatever is done to a store, it holds what a dict holds to which the same was done."""
    folder = await asyncio.to_thread(tmp_path_factory.mktemp, "model")
    async with opened(make, folder) as store:
        await play(store, done)
    await asyncio.to_thread(shutil.rmtree, folder)


async def play(store: Store, done: list[Operation]) -> None:
    """Do the operations to a store and to a dict, comparing after each."""
    model: dict[int, tuple[bytes, int]] = {}
    known: list[tuple[Interval, int]] = []
    generation = 0
    for at, (what, interval, times) in enumerate(done):
        if what == "prune":
            older = [span for span, age in known if age < at - 3]
            for key in await store.aged(at - 3):
                await store.prune(key, at - 3)
            # Joined coverage is as old as its oldest part, so more may go than must.
            state = (await store.read(KEY)).state
            left = [row.interval for row in state.coverage]
            generation = state.generation
            assert subtract(older, left) == union(older)
            gone = subtract([span for span, _ in known], left)
            model = {t: v for t, v in model.items() if not covers(gone, Interval(t, t + 1))}
            known = [(part, age) for span, age in known for part in subtract([span], gone)]
        else:
            known = [(part, age) for span, age in known for part in subtract([span], [interval])]
            inside = [t for t in model if interval.start <= t < interval.end]
            for time in inside:
                del model[time]
        if what == "delete":
            assert (await store.delete(KEY, interval)).records == len(inside)
        elif what != "prune":
            fresh = sorted(t for t in times if interval.start <= t < interval.end)
            due = 10**9 if what == "tail" else None
            made = await store.apply(
                change(
                    fill(*interval, fresh, float(at), at, due),
                    generation=generation,
                    basis_change=Ratio(0.5, 0.5, 2.0) if what == "bump" else None,
                    at=at,
                )
            )
            generation += what == "bump"
            assert made.state.generation == generation
            known.append((interval, at))
            model |= {time: (text(time, float(at)), generation) for time in fresh}
        found = await store.read(KEY, ALL)
        assert held(found) == {time: record for time, (record, _) in model.items()}
        for block in found.state.blocks:
            assert block.count <= BLOCK_RECORDS
            stored = found.runs[block.number or 0]
            assert {model[time][1] for time in stored.times} == {block.generation}
        assert union(row.interval for row in found.state.coverage) == union(
            span for span, _ in known
        )
        for row in found.state.coverage:
            some = any(row.start <= time < row.end for time in model)
            assert some <= (row.outcome is Outcome.HELD)


async def test_plugins_are_remembered(store: Store) -> None:
    """Plugins come back by name as they were saved; one of the same name is replaced."""
    first = RememberedPlugin("prices", '{"file":"/a.py"}', "2025-01-01T00:00:00Z")
    second = RememberedPlugin("news", '{"module":"é"}', "2025-01-02T00:00:00Z")
    assert await store.plugins() == []
    await store.save_plugin(first)
    await store.save_plugin(second)
    assert await store.plugins() == [second, first]
    later = RememberedPlugin("prices", '{"file":"/b.py"}', "2025-01-03T00:00:00Z")
    await store.save_plugin(later)
    assert await store.plugins() == [second, later]
    assert await store.forget_plugin("news")
    assert not await store.forget_plugin("news")
    assert await store.plugins() == [later]
