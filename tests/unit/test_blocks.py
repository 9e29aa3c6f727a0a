"""Runs and blocks: bytes that are sliced unread, and how they are laid out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from gapless.domain.blocks import (
    AT_ONCE,
    EMPTY,
    Block,
    Run,
    ascending,
    encode,
    encode_all,
    etag,
    relayout,
)
from gapless.domain.coverage import Coverage
from gapless.domain.intervals import Interval
from gapless.domain.spans import Spans
from support.series import EMPTY as NOTHING
from support.series import HELD, OUT, cover, run, text


def test_an_empty_run() -> None:
    """No records are a run too, stored and loaded like any other."""
    assert len(EMPTY) == 0
    assert EMPTY.text == b""
    assert EMPTY.bounds(Interval(0, 9)) == (0, 0)
    assert EMPTY.joined(0, 0) == b""
    assert Run.load(EMPTY.text, EMPTY.index()) == EMPTY
    assert Run.concat([]) == EMPTY
    assert etag(EMPTY.sum(0, 0)) == "0" * 16


def test_a_run_is_sliced_by_time() -> None:
    """A cut holds the records from its start up to, but not including, its end."""
    whole = run([10, 20, 30])
    assert whole.bounds(Interval(10, 30)) == (0, 2)
    assert list(whole.cut(Interval(11, 31)).times) == [20, 30]
    assert whole.cut(Interval(0, 99)) is whole
    assert whole.cut(Interval(40, 50)) == EMPTY
    assert whole.record(1) == text(20)
    assert whole.row(1)["timestamp"] == 20
    assert whole.joined(1, 3) == text(20) + b"," + text(30)


@pytest.mark.parametrize("number", [AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE])
def test_a_run_of_many_is_made_as_one_of_few(number: int) -> None:
    """Some are made after the others; what is between two of these parts is as anywhere."""
    pairs = [(at, text(at, at / 7)) for at in range(5, 5 + number)]
    one, many = Run.of(pairs), Run.of_texts(*zip(*pairs, strict=True))
    assert many == one
    assert (list(many.offsets), list(many.hashes)) == (list(one.offsets), list(one.hashes))
    assert encode_all([one.row(i) for i in range(number)]) == [said for _, said in pairs]


@pytest.mark.parametrize("at", [1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE, 2 * AT_ONCE + 4])
def test_instants_out_of_order_are_found_anywhere(at: int) -> None:
    """Neither of two that are the same is later than the other."""
    times = list(range(2 * AT_ONCE + 5))
    assert ascending(times)
    times[at] = times[at - 1]
    assert not ascending(times)


def test_texts_are_ascii_without_spaces() -> None:
    """Records are ASCII JSON with the shortest floats, in whatever script they were."""
    row = {"t": 1, "x": 0.1, "y": 1e22, "name": 'Zürich "😀"\n', "none": None}
    said = encode(row)
    assert said.isascii()
    assert said.startswith(b'{"t":1,"x":0.1,"y":1e22,"name":"Z\\u00fcrich')
    assert b"\\ud83d\\ude00" in said
    assert msgspec.json.decode(said) == row


def test_many_texts_are_those_of_each() -> None:
    """Whatever a record says, line breaks of every kind among it, it is one text of many."""
    values = [
        "a\nb\r\nc",
        "\u2028\u0085\x0b\x1c",
        "Zürich 😀",
        "",
        None,
        1e22,
        -0.0,
        [1],
        {"\n": 2},
    ]
    rows = [{}, *({"t": at, "value": value} for at, value in enumerate(values))]
    assert encode_all(rows) == [encode(row) for row in rows]
    assert encode_all([]) == []


DAMAGE: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("cut short", lambda index: index[:-1]),
    ("nothing", lambda index: b""),
    ("its head alone", lambda index: index[:4]),
    ("another magic", lambda index: b"xxxx" + index[4:]),
    ("another count", lambda index: index[:4] + b"\x02" + index[5:]),
    ("another time", lambda index: index[:20] + bytes([index[20] ^ 1]) + index[21:]),
    ("too long", lambda index: index + b"\x00" * 8),
]


@pytest.mark.parametrize("name", [name for name, _ in DAMAGE])
def test_a_damaged_index_is_refused(name: str) -> None:
    """An index that does not fit is never used to slice."""
    whole = run([10, 20, 30])
    damaged = dict(DAMAGE)[name](whole.index())
    with pytest.raises(ValueError, match="block"):
        Run.load(whole.text, damaged)


def test_a_damaged_text_is_refused() -> None:
    """A digit that is not what was stored is no price to answer with."""
    whole = run([10, 20, 30])
    with pytest.raises(ValueError, match="not what was stored"):
        Run.load(whole.text.replace(b"1.5", b"1.6", 1), whole.index())


def block(start: int, end: int, times: Sequence[int], number: int, final: bool = True) -> Block:
    """Return a stored block of the records that `run` makes."""
    total = run(times).sum(0, len(times))
    return Block(start, end, final, len(times), times[0], times[-1], number, total)


def lay(
    blocks: dict[Block, Run], coverage: list[Coverage], interval: Interval, fresh: Run, limit: int
) -> tuple[list[int | None], list[tuple[int, int, list[int]]], list[int | None]]:
    """Return which blocks go, which pieces come, and which blocks were read."""
    read: list[int | None] = []

    def load(some: Sequence[Block]) -> list[Run]:
        read.extend(one.number for one in some)
        return [blocks[one] for one in some]

    made = relayout(Spans(blocks), Spans(coverage), interval, fresh, load, limit)
    return (
        [one.number for one in made.removed],
        [(*piece.interval, list(piece.run.times)) for piece in made.added],
        read,
    )


def test_a_small_neighbour_is_merged() -> None:
    """A small final neighbour with nothing unknown between grows into the new block."""
    old = {block(0, 10, [1, 2], 1): run([1, 2])}
    covered = [cover(0, 20)]
    assert lay(old, covered, Interval(10, 20), run([11]), 100) == (
        [1],
        [(0, 20, [1, 2, 11])],
        [1],
    )


NOT_MERGED: list[tuple[str, list[Coverage]]] = [
    ("uncovered time between", [cover(0, 10), cover(12, 20)]),
    ("provisional", [cover(0, 10), cover(10, 20, refresh_after=99)]),
    (
        "a provisional emptiness between",
        [cover(0, 10), cover(10, 12, NOTHING, refresh_after=99), cover(12, 20)],
    ),
]


@pytest.mark.parametrize(("name", "coverage"), NOT_MERGED)
def test_what_is_never_merged(name: str, coverage: list[Coverage]) -> None:
    """Never across uncovered time or finality; such a neighbour is not even read."""
    old = {block(0, 10, [1, 2], 1): run([1, 2])}
    gone, come, read = lay(old, coverage, Interval(10, 20), run([13]), 100)
    assert (gone, read) == ([], []), name
    assert [times for _, _, times in come] == [[13]], name


def test_a_known_emptiness_is_merged_across() -> None:
    """A weekend between two blocks is known, so it does not keep them apart."""
    old = {block(0, 10, [1], 1): run([1])}
    covered = [cover(0, 10), cover(10, 15, NOTHING), cover(15, 20)]
    assert lay(old, covered, Interval(15, 20), run([16]), 100)[1] == [(0, 20, [1, 16])]


def test_what_is_believed_lost_is_merged_across() -> None:
    """What upstream no longer has is kept as it is held, and so are the blocks it lies in."""
    old = {block(0, 10, [1], 1): run([1])}
    covered = [cover(0, 5), cover(5, 15, OUT), cover(15, 20)]
    assert lay(old, covered, Interval(15, 20), run([16]), 100)[1] == [(0, 20, [1, 16])]


def test_large_neighbours_are_left_alone() -> None:
    """What is not small stays as it is, so that a day more does not rewrite years."""
    times = list(range(8))
    old = {block(0, 10, times, 1): run(times)}
    covered = [cover(0, 20)]
    assert lay(old, covered, Interval(10, 20), run(range(10, 15)), 16)[0] == []
    assert lay(old, covered, Interval(10, 20), run(range(10, 19)), 16)[0] == []
    assert lay(old, covered, Interval(10, 20), run(range(10, 14)), 16)[0] == [1]


def test_replacing_the_middle_keeps_both_rests() -> None:
    """What a block held beside the replaced interval stays, without what lay in it."""
    old = {block(0, 30, [5, 15, 25], 1): run([5, 15, 25])}
    covered = [cover(0, 10), cover(20, 30)]
    assert lay(old, covered, Interval(10, 20), EMPTY, 100) == (
        [1],
        [(0, 10, [5]), (20, 30, [25])],
        [1],
    )


AGAIN: list[tuple[str, Interval, Sequence[int], list[int | None]]] = [
    ("all of it", Interval(0, 30), [5, 15, 25], []),
    ("with more around", Interval(-5, 40), [5, 15, 25, 35], [2]),
    ("a part of it", Interval(10, 20), [15], [1]),
    ("its end and what follows", Interval(20, 40), [25, 35], [1, 2]),
    ("a part that is empty", Interval(16, 24), [], [1]),
]


@pytest.mark.parametrize(
    ("name", "interval", "times", "read"), AGAIN, ids=[case[0] for case in AGAIN]
)
def test_the_very_same_is_not_written_again(
    name: str, interval: Interval, times: list[int], read: list[int | None]
) -> None:
    """A block whose records are the same stays, and is read only where it reaches beyond."""
    old = {
        block(0, 30, [5, 15, 25], 1): run([5, 15, 25]),
        block(30, 60, [35, 45, 55], 2): run([35, 45, 55]),
    }
    covered = [cover(-5, interval.start), cover(*interval), cover(interval.end, 60)]
    covered = [row for row in covered if not row.interval.empty]
    assert lay(old, covered, interval, run(times), 3) == ([], [], read), name


CHANGED: list[tuple[str, Run, list[Coverage]]] = [
    ("another text", Run.of([(5, text(5)), (15, text(15, 9.0))]), [cover(0, 30)]),
    ("one record less", run([5]), [cover(0, 30)]),
    ("one record more", run([5, 15, 20]), [cover(0, 30)]),
    ("the same number at other times", run([5, 16]), [cover(0, 30)]),
    ("provisional by now", run([5, 15]), [cover(0, 30, refresh_after=99)]),
    ("provisional in part", run([5, 15]), [cover(0, 20), cover(20, 30, refresh_after=99)]),
    ("not known in part", run([5, 15]), [cover(0, 20)]),
]


@pytest.mark.parametrize(("name", "fresh", "covered"), CHANGED, ids=[case[0] for case in CHANGED])
def test_what_has_changed_is_written(name: str, fresh: Run, covered: list[Coverage]) -> None:
    """A record, when it is final, and what is known around it: each makes it another block."""
    old = {block(0, 30, [5, 15], 1): run([5, 15])}
    gone, come, _ = lay(old, covered, Interval(0, 30), fresh, 100)
    assert gone == [1], name
    assert [time for _, _, times in come for time in times] == list(fresh.times), name


def test_a_tail_that_became_final_is_written() -> None:
    """The same records are another block once they are final, and join those before them."""
    old = {
        block(0, 10, [5], 1): run([5]),
        block(10, 20, [15], 2, final=False): run([15]),
    }
    assert lay(old, [cover(0, 20)], Interval(10, 20), run([15]), 100)[:2] == (
        [2, 1],
        [(0, 20, [5, 15])],
    )


def test_a_provisional_block_is_cut_where_a_part_is_due_later() -> None:
    """What may still change is laid by when it is due, though its records are the same."""
    old = {block(0, 20, [5, 15], 1, final=False): run([5, 15])}
    covered = [cover(0, 10, refresh_after=90), cover(10, 20, refresh_after=99)]
    assert lay(old, covered, Interval(10, 20), run([15]), 100)[:2] == (
        [1],
        [(0, 10, [5]), (10, 20, [15])],
    )


def test_a_large_fetch_is_split_evenly() -> None:
    """More records than a block may hold become blocks of about the same size."""
    _, come, _ = lay({}, [cover(0, 100)], Interval(0, 100), run(range(0, 100, 10)), 4)
    assert [(start, end, len(times)) for start, end, times in come] == [
        (0, 30, 3),
        (30, 60, 3),
        (60, 100, 4),
    ]


def test_the_provisional_tail_is_a_block_of_its_own() -> None:
    """What may still change is laid beside what is final."""
    covered = [cover(0, 10), cover(10, 12, HELD, refresh_after=99)]
    _, come, _ = lay({}, covered, Interval(0, 12), run([1, 2, 11]), 100)
    assert come == [(0, 10, [1, 2]), (10, 12, [11])]


def test_records_beyond_coverage_are_dropped() -> None:
    """A record that no coverage speaks for is not stored (stitching rule 6)."""
    covered = [cover(0, 10)]
    assert lay({}, covered, Interval(0, 20), run([5, 15]), 100)[1] == [(0, 10, [5])]
