"""The memory tier: what it keeps, what it lets go, and what it must not keep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gapless.domain.blocks import Block, Run, encode
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.domain.spans import Spans
from gapless.hub.memory import Memory
from gapless.hub.series import HotRun
from gapless.protocol.messages import escape_text
from gapless.store.base import SeriesState, Snapshot
from support.series import cover, run, text

ONE, TWO, THREE = (SeriesKey("sample", name) for name in ("ONE", "TWO", "THREE"))
ALL = Interval(-100, 1_000)


def block(number: int, one: Run) -> Block:
    """Return the block of a run."""
    at = list(one.times)
    return Block(at[0], at[-1] + 1, True, len(at), at[0], at[-1], number)


def snapshot(
    key: SeriesKey, runs: dict[int, Run], version: int = 1, before: int | None = None
) -> Snapshot:
    """Return a series whose blocks have these numbers."""
    blocks = Spans(sorted((block(*one) for one in runs.items()), key=lambda one: one.start))
    state = SeriesState(key, number=1, version=version, blocks=blocks)
    return Snapshot(state, runs, version - 1 if before is None else before)


def memory(*keys: SeriesKey, limit: int = 1_000_000) -> Memory:
    """Return a tier that holds these series, a run each."""
    made = Memory(limit)
    for number, key in enumerate(keys):
        read(made, snapshot(key, {number: run(range(100))}))
    return made


def read(tier: Memory, found: Snapshot) -> Any:
    """Have a series read."""
    return tier.end_read(tier.begin_read(found.state.key), found)


NASTY: list[dict[str, Any]] = [
    {"a": 'q"\\"'},
    {"b": "\\"},
    {},
    {"é😀": "\n\t\x7f"},
    {"c": [1.5, None, {"d": "\\\\"}]},
]


def test_escaped_slices() -> None:
    """A slice is the same before and after its escaped form is made, and what JSON would say."""
    whole = Run.of((time, encode(row)) for time, row in enumerate(NASTY))
    for i in range(len(NASTY) + 1):
        for j in range(len(NASTY) + 1):
            fresh, used = HotRun(whole), HotRun(whole)
            used.escaped(0, 1)
            used.escaped(0, 1)
            expected = escape_text(whole.joined(i, j)) if i < j else b""
            assert fresh.escaped(i, j) == used.escaped(i, j) == expected
            quoted = b'"[' + expected + b']"'
            assert msgspec.json.decode(msgspec.json.decode(quoted)) == NASTY[i:j]
            joined = whole.joined(i, j).decode() if i < j else ""
            assert quoted == msgspec.json.encode(f"[{joined}]")


def test_what_was_read_is_found() -> None:
    """What was read is kept, with as many of its runs as were."""
    tier = memory()
    found = snapshot(ONE, {1: run([1, 2]), 2: run([11, 12])})
    series = read(tier, Snapshot(found.state, {1: found.runs[1]}))
    assert set(series.runs) == {1}
    kept = tier.get(ONE)
    assert kept is not None
    assert tier.get(TWO) is None
    assert tier.with_runs(kept, Interval(0, 99)) is None
    part = tier.with_runs(kept, Interval(0, 11))
    assert part is not None
    assert set(part.runs) == {1}
    tier.add_runs({2: found.runs[2]})
    whole = tier.with_runs(kept, Interval(0, 99))
    assert whole is not None
    assert list(whole.held(Interval(2, 12)).times) == [2, 11]
    assert whole.validity is kept.validity


def test_the_run_used_longest_ago_goes_first() -> None:
    """Whatever series it is of; what was made of that series holds, and who has the run has it."""
    tier = memory(ONE, TWO, limit=100_000)
    one, two = tier.get(ONE), tier.get(TWO)
    assert one is not None
    assert two is not None
    held = tier.with_runs(two, ALL)
    assert held is not None
    for number in range(10, 30):
        assert tier.with_runs(one, ALL) is not None
        tier.add_runs({number: run(range(100))})
    assert tier.size <= tier.limit
    assert tier.with_runs(two, ALL) is None
    assert (one.current, two.current) == (True, True)
    assert held.held(ALL) == run(range(100))


@pytest.mark.parametrize("end", ["change", "drop", "forget"])
def test_what_was_made_of_a_series_ends_with_it(end: str) -> None:
    """A change, or letting it go, counts for all that was made of it."""
    tier = memory(ONE, TWO)
    kept = tier.get(ONE)
    assert kept is not None
    made = tier.with_runs(kept, ALL)
    assert made is not None
    assert made.current
    match end:
        case "change":
            tier.changed(snapshot(ONE, {7: run(range(10))}, 2))
        case "drop":
            tier.drop(ONE)
        case "forget":
            tier.forget(ONE.provider)
    assert not made.current


def test_what_is_known_of_series_is_bounded_too() -> None:
    """Coverage and directories have their weight; what was used longest ago is let go for good."""
    tier = Memory(200_000)
    made = []
    for number in range(50):
        key = SeriesKey("sample", str(number))
        rows = Spans(cover(at, at + 1) for at in range(0, 40, 2))
        found = snapshot(key, {number: run(range(3))})
        read(tier, replace(found, state=replace(found.state, coverage=rows)))
        made.append(tier.get(key))
    known = [one.current for one in made if one is not None]
    assert len(known) == 50
    assert known == sorted(known)
    assert 0 < sum(known) == len(tier) < 10


def test_the_bound_holds_whatever_happens() -> None:
    """The tier stays within its bytes as long as one run alone does, and counts them right."""
    tier = Memory(60_000)
    for number in range(200):
        key = SeriesKey("sample", str(number % 17))
        found = snapshot(key, {number: run(range(number % 50 + 1))}, number)
        if number % 5 == 0:
            tier.changed(found)
        else:
            read(tier, found)
        for other in list(tier.keys())[:3]:
            kept = tier.get(other)
            assert kept is not None
            loaded = tier.with_runs(kept, ALL)
            for one in loaded.runs.values() if loaded is not None else ():
                one.escaped(0, 1)
        if number % 11 == 0:
            tier.drop(key)
        assert tier.size <= tier.limit
    for number in range(17):
        tier.drop(SeriesKey("sample", str(number)))
    assert len(tier) == 0


def test_a_run_is_no_larger_than_it_counts() -> None:
    """Its escaped form included, whatever is in it."""
    for one in (run(range(1_000)), Run.of((at, encode(row)) for at, row in enumerate(NASTY))):
        hot = HotRun(one)
        for _ in range(3):
            escaped = hot.escaped(0, len(one))
        assert len(one.text) + len(escaped) + 32 * len(one) <= hot.size


@pytest.mark.parametrize("how", ["changed", "dropped", "forgotten"])
def test_a_read_that_was_overtaken_is_not_kept(how: str) -> None:
    """What the store showed before a change is told, and must not come into memory after it."""
    tier = memory()
    reading, other = tier.begin_read(ONE), tier.begin_read(ONE)
    elsewhere = tier.begin_read(TWO)
    newer = snapshot(ONE, {2: run([5])}, version=2)
    if how == "changed":
        tier.changed(newer)
    elif how == "dropped":
        tier.drop(ONE)
    else:
        tier.forget(ONE.provider)
    older = snapshot(ONE, {1: run([4])})
    told = tier.end_read(reading, older)
    assert not told.current
    assert told.state == older.state
    assert told.runs[1].run == older.runs[1]
    tier.give_up(other)
    kept = tier.get(ONE)
    assert (kept is not None and kept.state == newer.state) == (how == "changed")
    assert tier.end_read(elsewhere, snapshot(TWO, {})).current == (how != "forgotten")
    assert read(tier, newer).current


def part(version: int, runs: dict[int, Run], known: Interval, before: int) -> Snapshot:
    """Return a part of a series, known within an interval."""
    rows = Spans([cover(one.times[0], one.times[-1] + 1) for one in runs.values()], (known,))
    laid = Spans([block(*one) for one in runs.items()], (known,))
    state = SeriesState(ONE, number=1, version=version, coverage=rows, blocks=laid)
    return Snapshot(state, runs, before)


def test_two_parts_of_one_version_add_up() -> None:
    """What was read of a series before stays known as long as it has not changed."""
    tier = memory()
    first = read(tier, part(1, {1: run([1])}, Interval(0, 10), 1))
    second = read(tier, part(1, {2: run([11])}, Interval(10, 20), 1))
    assert first.validity is second.validity
    assert first.current
    kept = tier.get(ONE)
    assert kept is not None
    assert kept.state.knows(Interval(0, 20))
    assert not kept.state.knows(Interval(0, 21))
    whole = tier.with_runs(kept, Interval(0, 20))
    assert whole is not None
    assert set(whole.runs) == {1, 2}


def test_a_change_touches_nothing_else() -> None:
    """What a change has not touched stays known, with its runs; what it replaced is let go."""
    tier = memory()
    read(tier, part(1, {1: run([1])}, Interval(0, 10), 1))
    old = read(tier, part(1, {2: run([11])}, Interval(10, 20), 1))
    tier.changed(part(2, {3: run([12])}, Interval(10, 20), 1))
    assert not old.current
    kept = tier.get(ONE)
    assert kept is not None
    assert kept.state.version == 2
    whole = tier.with_runs(kept, Interval(0, 20))
    assert whole is not None
    assert list(whole.held(Interval(0, 20)).times) == [1, 12]
    assert tier.run(2) is None
    assert whole.runs[3].escaped(0, 1) == escape_text(text(12))


def test_a_change_on_top_of_what_was_not_seen_leaves_only_itself() -> None:
    """Where memory does not know the version before it, all but what was touched is forgotten."""
    tier = memory()
    read(tier, part(1, {1: run([1])}, Interval(0, 10), 1))
    tier.changed(part(3, {3: run([12])}, Interval(10, 20), 2))
    kept = tier.get(ONE)
    assert kept is not None
    assert kept.state.knows(Interval(10, 20))
    assert not kept.state.knows(Interval(0, 10))
