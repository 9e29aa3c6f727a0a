"""The memory tier: what it keeps, what it lets go, and what it must not keep."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gapless.domain.blocks import Block, Run, encode
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.hub.hot import HotRun, HotTier
from gapless.protocol.messages import escape_text
from gapless.store.base import SeriesState, Snapshot
from support.series import run, text

ONE, TWO, THREE = (SeriesKey("sample", name) for name in ("ONE", "TWO", "THREE"))


def snapshot(key: SeriesKey, runs: dict[int, Run], version: int = 1) -> Snapshot:
    """Return a series whose blocks have these numbers."""
    blocks = tuple(
        Block(at[0], at[-1] + 1, True, len(at), at[0], at[-1], number)
        for number, at in ((number, list(one.times)) for number, one in runs.items())
    )
    return Snapshot(SeriesState(key, number=1, version=version, blocks=blocks), runs)


def tier(*keys: SeriesKey, limit: int = 1_000_000) -> HotTier:
    """Return a tier that holds these series, a run each."""
    hot = HotTier(limit)
    for number, key in enumerate(keys):
        hot.end_read(hot.begin_read(key), snapshot(key, {number: run(range(100))}))
    return hot


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


def test_an_entry_is_inserted_and_found() -> None:
    """What was read is kept, and knows which of its runs are not in memory."""
    hot = tier()
    found = snapshot(ONE, {1: run([1, 2]), 2: run([11, 12])})
    entry = hot.end_read(hot.begin_read(ONE), Snapshot(found.state, {1: found.runs[1]}))
    assert entry is not None
    assert hot.get(ONE) is entry
    assert hot.get(TWO) is None
    assert entry.lacking(Interval(0, 99)) == [2]
    assert entry.lacking(Interval(0, 11)) == []
    hot.add_runs(entry, {2: found.runs[2]})
    assert entry.lacking(Interval(0, 99)) == []


def test_the_least_recently_used_goes_first() -> None:
    """At the limit the runs of what was asked for longest ago go; what was made of it holds."""
    hot = tier(ONE, TWO)
    hot.limit = hot.size
    kept, gone = hot.get(ONE), hot.get(TWO)
    assert kept is not None
    assert gone is not None
    hot.get(ONE)
    hot.end_read(hot.begin_read(THREE), snapshot(THREE, {9: run(range(100))}))
    assert list(hot.keys()) == [ONE, THREE]
    assert hot.size <= hot.limit
    assert (kept.current, gone.current) == (True, True)
    light = hot.get(TWO)
    assert light is not None
    assert not light.runs
    assert light.validity is gone.validity
    # Who was about to answer from it still can.
    assert gone.runs


def test_a_light_series_gets_its_runs_back() -> None:
    """It is loaded and counted like any other, once."""
    hot = tier(ONE, TWO)
    hot.limit = hot.size
    hot.end_read(hot.begin_read(THREE), snapshot(THREE, {9: run(range(100))}))
    light = hot.get(ONE)
    assert light is not None
    assert not light.runs
    before = hot.size
    hot.limit = 1_000_000
    hot.add_runs(light, {1: run(range(100))})
    assert list(hot.keys()) == [TWO, THREE, ONE]
    assert hot.get(ONE) is light
    assert hot.size == before + light.size


@pytest.mark.parametrize("end", ["change", "drop", "forget"])
def test_what_was_made_of_a_light_series_ends_with_it(end: str) -> None:
    """A change, or letting it go, counts for what was made before its runs went, too."""
    hot = tier(ONE, TWO)
    hot.limit = hot.size
    made = hot.get(ONE)
    hot.get(TWO)
    hot.end_read(hot.begin_read(THREE), snapshot(THREE, {9: run(range(100))}))
    assert made is not None
    assert made.current
    match end:
        case "change":
            hot.changed(snapshot(ONE, {7: run(range(10))}, 2))
        case "drop":
            hot.drop(ONE)
        case "forget":
            hot.forget(ONE.provider)
    assert not made.current


def test_light_series_are_bounded_too() -> None:
    """The one that was asked for longest ago is let go for good."""
    hot = HotTier(100_000)
    keys = [SeriesKey("sample", str(number)) for number in range(50)]
    made = []
    for key in keys:
        hot.end_read(hot.begin_read(key), snapshot(key, {1: run(range(300))}))
        made.append(hot.get(key))
    known = [one.current for one in made if one is not None]
    assert len(known) == 50
    assert known == sorted(known)
    light = sum(known) - len(list(hot.keys()))
    assert light == 100_000 // 16 // 2_500


def test_the_bound_holds_whatever_happens() -> None:
    """The tier stays within its bytes as long as one series alone does, and counts them right."""
    hot = HotTier(60_000)
    for number in range(200):
        key = SeriesKey("sample", str(number % 17))
        if number % 5 == 0:
            hot.changed(snapshot(key, {number: run(range(number % 50 + 1))}, number))
        else:
            hot.end_read(
                hot.begin_read(key), snapshot(key, {number: run(range(number % 50 + 1))}, number)
            )
        for other in list(hot.keys())[:3]:
            entry = hot.get(other)
            assert entry is not None
            for one in entry.runs.values():
                one.escaped(0, 1)
        if number % 11 == 0:
            hot.drop(key)
        assert hot.size <= hot.limit
        held = [hot.get(one) for one in list(hot.keys())]
        assert hot.size == sum(entry.size for entry in held if entry is not None)
        spent = sum(one.size for entry in held if entry for one in entry.runs.values())
        assert spent <= hot.size
    for number in range(17):
        hot.drop(SeriesKey("sample", str(number)))
    assert (len(hot), hot.size) == (0, 0)


def test_one_series_over_the_limit_is_kept_alone() -> None:
    """What is being answered from is never let go, however large; all else makes room."""
    hot = tier(ONE, limit=100)
    assert list(hot.keys()) == [ONE]
    hot.end_read(hot.begin_read(TWO), snapshot(TWO, {9: run(range(100))}))
    assert list(hot.keys()) == [TWO]


@pytest.mark.parametrize("how", ["changed", "dropped", "forgotten"])
def test_a_read_that_was_overtaken_is_not_kept(how: str) -> None:
    """What the store showed before a change must not come into memory after it."""
    hot = tier()
    ticket, other = hot.begin_read(ONE), hot.begin_read(ONE)
    elsewhere = hot.begin_read(TWO)
    newer = snapshot(ONE, {2: run([5])}, version=2)
    if how == "changed":
        hot.changed(newer)
    elif how == "dropped":
        hot.drop(ONE)
    else:
        hot.forget(ONE.provider)
    assert hot.end_read(ticket, snapshot(ONE, {1: run([4])})) is None
    assert hot.end_read(other, None) is None
    entry = hot.get(ONE)
    assert (entry is not None and entry.state == newer.state) == (how == "changed")
    assert (hot.end_read(elsewhere, snapshot(TWO, {})) is not None) == (how != "forgotten")
    again = hot.end_read(hot.begin_read(ONE), newer)
    assert again is not None
    assert again.current


def test_two_reads_of_one_version_are_one_entry() -> None:
    """Two reads of the same version add up, those who hold the first see the second's runs."""
    hot = tier()
    both = {1: run([1]), 2: run([11])}
    whole = snapshot(ONE, both)
    first, second = hot.begin_read(ONE), hot.begin_read(ONE)
    entry = hot.end_read(first, Snapshot(whole.state, {1: both[1]}))
    assert entry is not None
    assert hot.end_read(second, Snapshot(whole.state, {2: both[2]})) is entry
    assert set(entry.runs) == {1, 2}


def test_a_change_keeps_the_runs_that_are_still_its_blocks() -> None:
    """After a change the untouched blocks need not be read again, and the old entry is outdated."""
    hot = tier()
    runs = {1: run([1]), 2: run([11])}
    old = hot.changed(snapshot(ONE, runs))
    new_runs = {1: runs[1], 3: run([12])}
    new = snapshot(ONE, new_runs, version=2)
    entry = hot.changed(Snapshot(new.state, {3: new_runs[3]}))
    assert not old.current
    assert entry.current
    assert set(entry.runs) == {1, 3}
    assert entry.runs[1] is old.runs[1]
    assert entry.runs[3].escaped(0, 1) == escape_text(text(12))
