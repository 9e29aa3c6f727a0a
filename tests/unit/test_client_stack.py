"""Many frames put together as they come: the same as all of them put together in the end."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from gapless.client import frames
from gapless.client.stack import Stack

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "whole": st.integers(-9, 9),
    "float": st.floats(-9, 9),
    "text": st.sampled_from(["a", ""]),
    "null": st.none(),
}


@st.composite
def frame(draw: st.DrawFn) -> pl.DataFrame | None:
    """Return a frame of some columns whose values are of one kind each; or that there is none."""
    if draw(st.integers(0, 4)) == 0:
        return None
    height = draw(st.integers(0, 3))
    columns = {"timestamp": pl.Series(range(height), dtype=pl.Int64)}
    for name in draw(st.permutations(["a", "b", "ticker"]))[: draw(st.integers(0, 3))]:
        values = draw(
            st.lists(VALUES[draw(st.sampled_from([*VALUES]))], min_size=height, max_size=height)
        )
        columns[name] = pl.Series(values) if height else pl.Series([], dtype=pl.Null)
    return pl.DataFrame(columns)


def at_once(tickers: list[str], found: list[pl.DataFrame | None]) -> pl.DataFrame:
    """Return all of them that have records put together in one go."""
    there = [
        (ticker, one)
        for ticker, one in zip(tickers, found, strict=True)
        if one is not None and one.height
    ]
    whole = frames.dated(frames.together([one for _, one in there]))
    if "ticker" in whole.columns:
        whole = whole.rename({"ticker": "ticker_"})
    names = [ticker for ticker, one in there for _ in range(one.height)]
    return whole.insert_column(0, pl.Series("ticker", names, dtype=pl.String))


@given(st.lists(frame(), min_size=1, max_size=12), st.data(), st.integers(1, 8))
def test_however_they_come_they_are_one_frame(
    found: list[pl.DataFrame | None], data: st.DataObject, rows: int
) -> None:
    """In the order of the tickers, of whatever columns, put together sooner or later."""
    tickers = [f"T{number}" for number in range(len(found))]
    stack = Stack(tickers, rows)
    for place in data.draw(st.permutations(range(len(found)))):
        stack.put(tickers[place], found[place])
    told = stack.frame()
    if not any(one is not None and one.height for one in found):
        assert told.schema == {"ticker": pl.String, "timestamp": pl.Datetime("us", "UTC")}
        assert told.height == 0
    else:
        assert told.equals(at_once(tickers, found), null_equal=True)
        assert told.schema == at_once(tickers, found).schema


def test_what_is_there_is_in_few_pieces() -> None:
    """A thousand small frames are not a thousand pieces, which every later step would pay for."""
    tickers = [f"T{number}" for number in range(1_000)]
    stack = Stack(tickers)
    for ticker in reversed(tickers):
        stack.put(ticker, pl.DataFrame({"timestamp": range(250), "close": [1.5] * 250}))
    told = stack.frame()
    assert told.height == 250_000
    assert told.n_chunks() <= 8
    assert told["ticker"].to_list()[::250] == tickers
