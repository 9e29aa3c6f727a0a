"""What an answer says of what is held: bars that are there, under another stamp, or lost."""

from __future__ import annotations

from typing import Any

from gapless.domain.blocks import Block, Run, encode
from gapless.domain.comparing import Basis
from gapless.domain.coverage import Ageing
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.domain.spans import Spans
from gapless.hub.brought import Brought
from gapless.hub.judging import Came, Said, said
from gapless.hub.series import HotRun, Series, Validity
from gapless.store.base import SeriesState
from support.series import cover

BAR, END = 100, 1_000
BASIS = Basis(prices=("close",), adjusted=None, volume=None)


def bars(closes: dict[int, float | None]) -> Run:
    """Return a run of bars with these prices, by their times."""
    rows: list[tuple[int, Any]] = [(at, {"t": at, "close": one}) for at, one in closes.items()]
    return Run.of((at, encode(row)) for at, row in rows)


def verdict(held: dict[int, float | None], came: dict[int, float | None]) -> Said:
    """Return what an answer says of bars that are held, all of them final and fresh."""
    run, at = bars(held), [*held]
    block = Block(0, END, True, len(at), at[0], at[-1], number=1)
    coverage = Spans([cover(0, END, fetched_at=END)])
    state = SeriesState(SeriesKey("p", "T"), 1, coverage=coverage, blocks=Spans([block]))
    entry = Series(state, Validity(), {1: HotRun(run)})
    brought = Came(Interval(0, END), Brought(bars(came), sent=END), sent=END)
    return said(entry, brought, BASIS, Ageing(since=0, until=2 * END), BAR)


def test_a_bar_that_comes_without_a_price_is_lost() -> None:
    """As one that does not come at all."""
    found = verdict({0: 1.0, 100: 2.0, 200: 3.0}, {0: 1.0, 100: None, 200: 3.0})
    assert found.lost == ([Interval(100, 200)],)
    assert not found.differs


def test_a_bar_under_another_stamp_is_not_lost() -> None:
    """A change is said of it: the old one goes, and the new one comes."""
    found = verdict({0: 1.0, 100: 2.0, 200: 3.0}, {0: 1.0, 130: 2.0, 200: 3.0})
    assert (found.lost, found.differs) == ((), False)
    assert found.changes


def test_of_two_rows_near_a_bar_the_one_with_a_price_is_it() -> None:
    """Whatever comes first of the two."""
    found = verdict({0: 1.0, 100: 2.0, 200: 3.0}, {0: 1.0, 120: None, 130: 2.0, 200: 3.0})
    assert (found.lost, found.differs) == ((), False)


def test_a_row_without_a_price_near_a_bar_is_not_it() -> None:
    """The bar is lost."""
    found = verdict({0: 1.0, 100: 2.0, 200: 3.0}, {0: 1.0, 120: None, 200: 3.0})
    assert found.lost == ([Interval(100, 200)],)
