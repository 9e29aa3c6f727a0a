"""Actions by ex-date: what an answer tells otherwise, and by how much splits rescale."""

from __future__ import annotations

from typing import Any

import pytest

from gapless.domain.actions import differing, merged, ratio_since, run_of
from gapless.domain.adjusting import rescaled
from gapless.domain.blocks import Run, encode
from gapless.domain.comparing import Basis
from gapless.domain.facts import known_facts
from gapless.domain.intervals import Interval
from gapless.instants import DAY_MS

DAY_S = 86_400
ALL = [Interval(0, 1_000_000 * DAY_MS)]


def action(day: int, **amounts: float) -> dict[str, Any]:
    """Return the record of a day counted from 1970."""
    kinds: dict[str, float | None] = {"dividend": None, "split": None, "capital_gain": None}
    return {"timestamp": day * DAY_S, **kinds, **amounts}


def actions(*records: dict[str, Any]) -> Run:
    """Return records as they are stored."""
    return run_of(records)


def days(intervals: list[Interval]) -> list[int]:
    """Return the days of instants."""
    assert all(one.end == one.start + 1 for one in intervals)
    return [one.start // DAY_MS for one in intervals]


STORED = actions(action(10, dividend=0.5), action(20, split=2.0), action(30, dividend=1.0))


@pytest.mark.parametrize(
    ("named", "other"),
    [
        ([action(10, dividend=0.5), action(20, split=2.0), action(30, dividend=1.0)], []),
        ([action(10, dividend=0.500_001), action(20, split=2.0), action(30, dividend=1.0)], []),
        ([action(10, dividend=0.6), action(20, split=2.0), action(30, dividend=1.0)], [10]),
        ([action(10, split=0.5), action(20, split=2.0), action(30, dividend=1.0)], [10]),
        ([action(10, dividend=0.5), action(20, split=2.0)], [30]),
        ([action(10, dividend=0.5), action(11, dividend=0.1), action(20, split=2.0)], [11, 30]),
        ([], [10, 20, 30]),
    ],
)
def test_what_an_answer_tells_otherwise(named: list[dict[str, Any]], other: list[int]) -> None:
    """Another amount, another kind, one more, one less; not the last digits of an amount."""
    assert days(differing(STORED, actions(*named), ALL, ALL)) == other


def test_who_need_not_name_all_says_nothing_by_silence() -> None:
    """Only where an answer names all that there are, one that it does not name is gone."""
    whole = [Interval(25 * DAY_MS, 40 * DAY_MS)]
    assert days(differing(STORED, actions(), ALL, [])) == []
    assert days(differing(STORED, actions(), ALL, whole)) == [30]


def test_of_what_is_not_covered_nothing_follows() -> None:
    """What was never asked for cannot be told otherwise."""
    named = actions(action(5, dividend=1.0), action(15, dividend=1.0))
    covered = [Interval(8 * DAY_MS, 18 * DAY_MS)]
    assert days(differing(STORED, named, covered, [])) == [15]


def test_what_is_known_after_an_answer() -> None:
    """As it was, and what it names; of one day it may name one kind alone."""
    named = actions(action(10, split=3.0), action(20, split=2.5), action(40, split=3.0))
    assert merged(STORED, named) == actions(
        action(10, dividend=0.5, split=3.0),
        action(20, split=2.5),
        action(30, dividend=1.0),
        action(40, split=3.0),
    )
    assert merged(actions(), named) == named


def test_a_day_may_be_named_in_part() -> None:
    """Where not all need be named, a kind that is not named says nothing; elsewhere it does."""
    stored = actions(action(10, dividend=0.5, capital_gain=0.2))
    named = actions(action(10, capital_gain=0.2))
    assert days(differing(stored, named, ALL, [])) == []
    assert days(differing(stored, named, ALL, ALL)) == [10]


def test_a_split_whose_ex_date_was_corrected_is_one() -> None:
    """Two alike within two weeks; those that lie farther apart, or differ, are two."""
    for day, ratio, product in ((101, 2.0, 2.0), (114, 2.0, 2.0), (115, 2.0, 4.0), (101, 3.0, 6.0)):
        both = actions(action(100, split=2.0), action(day, split=ratio))
        assert ratio_since(both, 10 * DAY_MS) == product, (day, ratio)


def test_a_ratio_without_sense_is_not_known() -> None:
    """No share was ever split into millions."""
    both = actions(action(100, split=1e5), action(200, split=1e4))
    assert ratio_since(both, 0) is None
    assert ratio_since(both, 150 * DAY_MS) == 1e4


@pytest.mark.parametrize(
    ("fetched", "ratio"), [(2, 6.0), (5, 6.0), (40, 3.0), (120, 1.0), (10, None), (30, None)]
)
def test_splits_since_it_was_fetched(fetched: int, ratio: float | None) -> None:
    """Those after it; of one within two weeks of it nobody can tell whether it was shown."""
    splits = actions(action(20, split=2.0), action(25, dividend=9.0), action(100, split=3.0))
    assert ratio_since(splits, fetched * DAY_MS) == ratio


def test_bars_after_a_split() -> None:
    """Prices are divided, volumes are whole and multiplied; null and all else stay as they are."""
    row = {"timestamp": 1, "open": 8.0, "high": None, "close": 4.0, "volume": 3, "note": "x"}
    bars = Run.of([(1000, encode(row))])
    after = rescaled(bars, 4.0, Basis()).row(0)
    assert after == {**row, "open": 2.0, "close": 1.0, "volume": 12}
    assert rescaled(rescaled(bars, 4.0, Basis()), 0.25, Basis()) == bars
    assert rescaled(bars, 1e30, Basis()).row(0)["volume"] is None


def test_facts_that_are_not_told_stay() -> None:
    """Null is what an answer does not tell, also within a fact of several parts."""
    before = {"zone": "A", "kind": "EQUITY", "session": {"open": "9", "close": None}}
    told = {"zone": None, "kind": "ETF", "name": None, "session": {"open": None, "close": None}}
    assert known_facts(before, told) == {
        "zone": "A",
        "kind": "ETF",
        "name": None,
        "session": {"open": "9", "close": None},
    }
    assert known_facts({}, told) == told
