"""What every store does, whatever database lies under it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from gapless.domain.believing import Doubt, Suspicion
from gapless.domain.blocks import Run
from gapless.domain.coverage import Outcome, written
from gapless.domain.intervals import Interval, covers, subtract, union
from gapless.domain.series import SeriesKey
from gapless.store.base import (
    EntityFilter,
    Gone,
    RememberedPlugin,
    Removal,
    SeriesState,
    Snapshot,
    Store,
    Superseded,
)
from support.series import KEY, change, fill, filled, run, text
from support.stores import ALL, BLOCK_RECORDS, Open, held, opened, spans

MSFT = SeriesKey.of("sample", "MSFT", {"interval": "1h"})


async def test_nothing_is_stored(store: Store) -> None:
    """A series that nobody asked for is there, empty, at version 0."""
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
    made = await store.apply(change(fill(0, 100, [10, 20]), meta={"zone": "UTC"}, at=5_000))
    assert held(made) == {10: text(10), 20: text(20)}
    state = made.state
    assert (state.version, state.due_before, state.changed, state.created) == (1, 0, 0, 5_000)
    assert state.meta == {"zone": "UTC"}
    assert spans(state) == [(0, 100, "held")]
    found = await store.read(KEY, ALL)
    assert found.state == state
    assert found.runs == made.runs
    again = await store.apply(change(fill(200, 300, [])))
    assert again.state.number == state.number
    assert (again.state.version, again.state.created) == (2, 5_000)
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


async def test_the_very_same_is_not_written_again(store: Store) -> None:
    """Only coverage moves; blocks keep their numbers, and what is known is by the new commit."""
    times = [*range(0, 40, 10), *range(200, 290, 10)]
    before = await store.apply(change(fill(0, 300, times, at=100)))
    assert len(before.state.blocks) == 3
    for interval in (Interval(0, 300), Interval(15, 225), Interval(60, 100)):
        inside = [time for time in times if interval.start <= time < interval.end]
        made = await store.apply(change(fill(*interval, inside, at=200), revises=True))
        assert made.state.blocks == before.state.blocks
        assert made.runs == {}
        [row] = [one for one in made.state.coverage if one.interval == interval]
        assert (row.fetched_at, row.commit) == (200, made.state.version)
    found = await store.read(KEY, ALL)
    assert found.state == made.state
    assert held(found) == {time: text(time) for time in times}


async def test_only_what_is_another_one_is_written(store: Store) -> None:
    """Of many blocks those that hold a changed record get new numbers, the others stay."""
    times = range(0, 300, 10)
    before = await store.apply(change(fill(0, 300, times)))
    numbers = [block.number for block in before.state.blocks]
    assert len(numbers) == 5
    fresh = replace(
        fill(0, 300, times), run=Run.of((t, text(t, 9.0 if t == 70 else 1.5)) for t in times)
    )
    made = await store.apply(change(fresh))
    now = [block.number for block in made.state.blocks]
    assert [number for number in numbers if number not in now] == numbers[1:2]
    assert set(made.runs) == set(now) - set(numbers)
    assert held(await store.read(KEY, ALL)) == {
        time: text(time, 9.0 if time == 70 else 1.5) for time in times
    }


async def test_what_was_stored_before_a_commit_is_due(store: Store) -> None:
    """The number of the commit only ever grows, as does that of the last change of the past."""
    await store.apply(change(fill(0, 100, [10])))
    made = await store.apply(change(fill(100, 200, [110]), due_before=2, restates=True))
    assert (made.state.due_before, made.state.changed) == (2, 2)
    made = await store.apply(change(fill(200, 300, [210]), due_before=1))
    assert (made.state.due_before, made.state.changed) == (2, 2)
    made = await store.apply(change(fill(200, 300, [210], 2.0), due_before=4, restates=True))
    assert (made.state.due_before, made.state.changed) == (4, 4)
    assert (await store.read(KEY)).state == made.state
    assert (await store.all_series()) == [made.state]
    await store.delete(KEY)
    assert (await store.apply(change(fill(0, 10, [])))).state.due_before == 0


async def test_coverage_of_what_revises_is_told_apart_by_its_age(store: Store) -> None:
    """What ages is joined within one commit alone; what does not is as old as its oldest part."""
    for key, revises in ((KEY, True), (MSFT, False)):
        await store.apply(change(fill(0, 100, [10], at=5), key=key, revises=revises))
        await store.apply(change(fill(100, 200, [110], at=6), key=key, revises=revises))
    aging = (await store.read(KEY)).state.coverage
    assert [(row.start, row.end, row.fetched_at, row.commit) for row in aging] == [
        (0, 100, 5, 1),
        (100, 200, 6, 2),
    ]
    steady = (await store.read(MSFT)).state.coverage
    assert [(row.start, row.end, row.fetched_at, row.commit) for row in steady] == [(0, 200, 5, 4)]


async def test_when_a_record_was_changed_is_kept(store: Store) -> None:
    """It is told with the coverage that it lies in, and keeps rows apart (stitching rule 14)."""
    one = fill(0, 100, [10])
    (row,) = one.coverage
    rows = (structs.replace(row, end=50, changed_at=77), structs.replace(row, start=50))
    made = await store.apply(change(replace(one, coverage=rows)))
    assert [(row.start, row.end, row.changed_at) for row in made.state.coverage] == [
        (0, 50, 77),
        (50, 100, None),
    ]
    assert (await store.read(KEY)).state == made.state


async def test_what_is_believed_lost_is_kept(store: Store) -> None:
    """Its records stay as they are held, and it is asked for again when it ages (rule 6)."""
    await store.apply(change(fill(0, 100, [10, 60]), fill(200, 300, [])))
    gone = Gone((Interval(50, 80), Interval(150, 250)), at=9_000)
    made = await store.apply(change(revises=True, gone=gone))
    assert spans(made.state) == [
        (0, 50, "held"),
        (50, 80, "out_of_window"),
        (80, 100, "held"),
        (200, 300, "empty"),
    ]
    row = made.state.coverage[1]
    assert (row.fetched_at, row.refresh_after, row.commit) == (9_000, None, 2)
    found = await store.read(KEY, ALL)
    assert found.state == made.state
    assert held(found) == {10: text(10), 60: text(60)}


def doubt(start: int, end: int, suspicion: Suspicion = Suspicion.EMPTY, tries: int = 1) -> Doubt:
    """Return a doubt of a series."""
    return Doubt(start, end, suspicion, since=1_000, next_try=2_000, tries=tries)


async def test_doubts_are_kept_until_they_are_answered(store: Store) -> None:
    """They stand beside coverage, and end where an answer speaks (stitching rule 6)."""
    first = doubt(0, 100)
    made = await store.apply(change(doubts=(first,)))
    assert made.state.doubts == (first,)
    assert spans(made.state) == []
    await store.apply(change(doubts=(first,), key=MSFT))
    second = doubt(0, 100, Suspicion.LOSS, tries=3)
    made = await store.apply(change(doubts=(second, doubt(200, 300))))
    assert made.state.doubts == (first, second, doubt(200, 300))
    assert (await store.read(KEY)).state == made.state
    made = await store.apply(
        change(fill(40, 60, [50]), answered=(Interval(40, 60), Interval(150, 300)))
    )
    assert made.state.doubts == (
        doubt(0, 40),
        doubt(0, 40, Suspicion.LOSS, tries=3),
        doubt(60, 100),
        doubt(60, 100, Suspicion.LOSS, tries=3),
    )
    assert (await store.read(KEY)).state == made.state
    assert [state.doubts for state in await store.all_series()] == [made.state.doubts, (first,)]


async def test_what_is_forgotten_is_in_doubt_no_more(store: Store) -> None:
    """A doubt goes with the range, and all of them with the series."""
    await store.apply(change(fill(0, 100, [10]), doubts=(doubt(50, 90), doubt(200, 300))))
    await store.delete(KEY, Interval(60, 250))
    assert (await store.read(KEY)).state.doubts == (doubt(50, 60), doubt(250, 300))
    await store.delete(KEY)
    assert (await store.read(KEY)).state == SeriesState(KEY)
    assert (await store.apply(change(fill(0, 100, [10])))).state.doubts == ()


async def test_numbers_of_commits_are_never_used_twice(store: Store) -> None:
    """Each change of any series, a deletion included, has its own, and series go by them."""
    one = await store.apply(change(fill(0, 100, [10, 20])))
    two = await store.apply(change(fill(0, 100, [10]), key=MSFT))
    again = await store.apply(change(restates=True))
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
    """What is cut keeps its commit, what is joined has the later one, what is gone a new one."""
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
    await store.apply(change(gone=Gone((Interval(0, 20),), at=6)))
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
            st.sampled_from(["fill", "fill", "again", "tail"]),
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
    model: dict[int, bytes] = {}
    known: list[tuple[Interval, int]] = []
    for at, (what, interval, times) in enumerate(done):
        if what == "prune":
            older = [span for span, age in known if age < at - 3]
            for key in await store.aged(at - 3):
                await store.prune(key, at - 3)
            # Joined coverage is as old as its oldest part, so more may go than must.
            left = [row.interval for row in (await store.read(KEY)).state.coverage]
            assert subtract(older, left) == union(older)
            gone = subtract([span for span, _ in known], left)
            model = {t: v for t, v in model.items() if not covers(gone, Interval(t, t + 1))}
            known = [(part, age) for span, age in known for part in subtract([span], gone)]
        else:
            known = [(part, age) for span, age in known for part in subtract([span], [interval])]
            inside = {t: model.pop(t) for t in list(model) if interval.start <= t < interval.end}
        if what == "delete":
            assert (await store.delete(KEY, interval)).records == len(inside)
        elif what != "prune":
            fresh = {t: text(t, float(at)) for t in times if interval.start <= t < interval.end}
            if what == "again":
                # What is held comes once more, as upstream mostly has it.
                fresh = inside
            due = 10**9 if what == "tail" else None
            one = fill(*interval, sorted(fresh), at=at, refresh_after=due)
            records = Run.of((time, fresh[time]) for time in sorted(fresh))
            await store.apply(change(replace(one, run=records), at=at))
            known.append((interval, at))
            model |= fresh
        found = await store.read(KEY, ALL)
        assert held(found) == model
        assert all(block.count <= BLOCK_RECORDS for block in found.state.blocks)
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
