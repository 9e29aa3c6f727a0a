"""What is compared of a held record and its fresh copy, and when their prices differ, in tables."""

from __future__ import annotations

from typing import Any

import pytest

from gapless.domain.blocks import EMPTY, Run, encode
from gapless.domain.comparing import Basis, Row, pairs
from gapless.domain.intervals import Interval

BASIS = Basis()


def bar(price: float = 100.0, adjclose: float | None = 95.0, volume: Any = 10_000) -> Row:
    """Return a bar around a price."""
    row: dict[str, Any] = {
        "open": price,
        "high": price * 1.1,
        "low": price * 0.9,
        "close": price * 1.05,
        "volume": volume,
    }
    if adjclose is not None:
        row["adjclose"] = adjclose
    return row


def edited(row: Row, **columns: Any) -> Row:
    """Return a bar with some columns changed."""
    return {**row, **columns}


HELD = bar()
CASES: list[tuple[str, Row, Row, bool]] = [
    ("the same", HELD, bar(), False),
    ("within tolerance", HELD, bar(100.009, 95.009), False),
    ("just beyond it", HELD, edited(HELD, close=105.0 * 1.000101), True),
    ("just within it", HELD, edited(HELD, close=105.0 * 1.000099), False),
    ("rounded otherwise", HELD, edited(HELD, high=110.0000001), False),
    ("split 2:1", HELD, bar(50.0, 47.5, 20_000), True),
    ("reverse split 1:10", HELD, bar(1_000.0, 950.0, 1_000), True),
    ("dividend", HELD, bar(adjclose=94.05), True),
    ("a dividend of less than the tolerance", HELD, bar(adjclose=94.995), False),
    ("one price corrected", HELD, edited(HELD, low=90.5), True),
    ("volume corrected alone", HELD, bar(volume=12_000), False),
    ("volume appears", bar(volume=0), bar(volume=5), False),
    ("volume vanishes", HELD, bar(volume=None), False),
    ("adjclose is gone", HELD, bar(adjclose=None), False),
    ("adjclose was not there", bar(adjclose=None), HELD, False),
    ("negative prices", bar(-37.0, -37.0), bar(-37.0, -37.0), False),
    ("another sign", bar(-37.0, -37.0), bar(37.0, 37.0), True),
    ("large prices", bar(4e300), bar(4e300 * 1.1), True),
]


@pytest.mark.parametrize(
    ("name", "held", "fresh", "differ"), CASES, ids=[case[0] for case in CASES]
)
def test_when_prices_differ(name: str, held: Row, fresh: Row, differ: bool) -> None:
    """A price beyond the tolerance, either way round; volume says nothing (stitching rule 11)."""
    assert BASIS.differ(held, fresh) is differ, name
    assert BASIS.differ(fresh, held) is differ, name


def test_what_a_basis_does_not_name() -> None:
    """Columns that it does not name are not compared, and its tolerance is its own."""
    assert not Basis(adjusted=None).differ(bar(), bar(adjclose=1.0))
    only_close = Basis(prices=("close",), adjusted=None, volume=None)
    assert only_close.differ({"close": 2.0, "open": 1.0}, {"close": 1.0, "open": 1.0})
    assert not only_close.differ({"close": 2.0, "open": 1.0}, {"close": 2.0, "open": 9.0})
    assert not Basis(tolerance=0.5).differ(bar(100.0), bar(149.0))


NOT_WHOLE: list[tuple[str, Row]] = [
    ("a null price", edited(HELD, open=None)),
    ("a zero price", edited(HELD, open=0)),
    ("not a number", edited(HELD, open=float("nan"))),
    ("infinite", edited(HELD, open=float("inf"))),
    ("a truth", edited(HELD, open=True)),
    ("text", edited(HELD, open="1")),
    ("nothing", {}),
]


@pytest.mark.parametrize(("name", "row"), NOT_WHOLE, ids=[case[0] for case in NOT_WHOLE])
def test_what_says_too_little(name: str, row: Row) -> None:
    """A bar is compared only if each of its prices is a number other than zero."""
    assert not BASIS.whole(row), name
    assert BASIS.whole(bar(volume=None, adjclose=None))


def said(**closes: float) -> Run:
    """Return a run with a record at each time, which is named `t` and a number."""
    times = sorted((int(name[1:]), close) for name, close in closes.items())
    return Run.of((time, encode({"timestamp": time, "close": close})) for time, close in times)


PAIRS: list[tuple[str, Run, Run, list[tuple[int, int]], list[tuple[int, float | None]]]] = [
    ("all the same", said(t1=1.0, t5=5.0), said(t1=1.0, t5=5.0), [(0, 9)], []),
    ("one differs", said(t1=1.0, t5=5.0), said(t1=1.0, t5=5.5), [(0, 9)], [(5, 5.5)]),
    ("one is gone", said(t1=1.0, t5=5.0), said(t5=5.0), [(0, 9)], [(1, None)]),
    ("one more came", said(t5=5.0), said(t1=1.0, t5=5.0), [(0, 9)], []),
    ("all are gone", said(t1=1.0, t5=5.0), EMPTY, [(0, 9)], [(1, None), (5, None)]),
    ("nothing is held", EMPTY, said(t1=1.0), [(0, 9)], []),
    ("only within", said(t1=1.0, t5=5.0), said(t1=1.5, t5=5.5), [(5, 9)], [(5, 5.5)]),
    ("up to the end", said(t1=1.0, t5=5.0), said(t1=1.5, t5=5.5), [(1, 5)], [(1, 1.5)]),
    (
        "in several",
        said(t1=1.0, t5=5.0, t8=8.0),
        said(t1=1.5, t5=5.5, t8=8.5),
        [(0, 2), (8, 9)],
        [(1, 1.5), (8, 8.5)],
    ),
    ("the same at another time", said(t1=1.0), said(t2=1.0), [(0, 9)], [(1, None)]),
    ("within nothing", said(t1=1.0), said(t1=1.5), [], []),
]


@pytest.mark.parametrize(
    ("name", "held", "fresh", "within", "found"), PAIRS, ids=[case[0] for case in PAIRS]
)
def test_which_records_are_compared(
    name: str,
    held: Run,
    fresh: Run,
    within: list[tuple[int, int]],
    found: list[tuple[int, float | None]],
) -> None:
    """Each held record within whose text is another one, with its copy if it has one."""
    told = [
        (held.times[at], None if copy is None else copy["close"])
        for at, mine, copy in pairs(held, fresh, [Interval(*span) for span in within])
    ]
    assert told == found, name
    assert all(
        held.row(at) == mine
        for at, mine, _ in pairs(held, fresh, [Interval(*span) for span in within])
    )
