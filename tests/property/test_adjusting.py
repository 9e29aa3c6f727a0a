"""Bars as they were traded, and less dividends, against an oracle that knows what was traded.

The oracle takes the prices of a market to which nothing ever happens, and works out from the
actions alone what was printed on each day, and what is left of it when splits and dividends are
taken off.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import prod
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gapless.domain.adjusting import Undoing, as_traded, less_dividends, rescaled
from gapless.domain.blocks import Run, encode_all
from gapless.domain.comparing import Basis
from gapless.hub.answers import Answer
from gapless.protocol.messages import (
    DateRange,
    Param,
    ProviderRequest,
    SearchEntities,
    Ticker,
)
from gapless.simulator.happenings import CapitalGain, Dividend, Split
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.quirks import Quirks
from support.extent import EXTENT, SOAK, share
from support.living import template_database
from support.world import World

HISTORIES = int(os.environ.get("ADJUSTED_HISTORIES", share(25, of=150, soak=5_000)))
FIRST = date(2024, 1, 2)
MARKET = Market([equity("AAA", first_trade=FIRST)], prices=RandomWalk(7))
DAYS = [
    day
    for day in (FIRST + timedelta(days=n) for n in range(200))
    if MARKET.session("AAA", day.toordinal()) is not None
]
PRICES = ("open", "high", "low", "close")
RATIOS = [(2, 1), (3, 1), (4, 1), (10, 1), (3, 2), (7, 4), (1, 5), (1, 20)]
# Upstream's prices are of single precision, and so are the ones they are made of.
NEAR = 2e-6
Action = Split | Dividend | CapitalGain
Row = dict[str, Any]


def at(day: date, hour: int, minute: int = 0) -> float:
    """Return UTC seconds of a time of a day."""
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Asked:
    """A question: on which day, in the evening, for which days, and how adjusted."""

    on: int
    first: int
    after: int
    adjust: str
    dates: bool


@st.composite
def actions(draw: st.DrawFn) -> list[Action]:
    """Draw actions of some days, some of which upstream learns of up to five days late."""
    found: list[Action] = []
    for index in sorted(draw(st.sets(st.integers(3, len(DAYS) - 10), max_size=5))):
        day, late = DAYS[index], draw(st.sampled_from([0, 0, 1, 2, 5]))
        # Before the session of a later day opens, which is when what is held becomes due.
        seen = at(DAYS[index + late], 12) if late else None
        kind = draw(st.sampled_from(["split", "split", "dividend", "gain"]))
        if kind == "split":
            found.append(Split("AAA", day, *draw(st.sampled_from(RATIOS)), seen_s=seen))
        else:
            made = Dividend if kind == "dividend" else CapitalGain
            amount = draw(st.sampled_from([0.01, 0.05, 0.3, 1.0]))
            found.append(made("AAA", day, amount, seen_s=seen))
    return found


@st.composite
def questions(draw: st.DrawFn) -> list[Asked]:
    """Draw some questions, in the order of time."""
    asked: list[Asked] = []
    for on in sorted(draw(st.lists(st.integers(8, len(DAYS) - 1), min_size=1, max_size=4))):
        first = draw(st.integers(0, on))
        after = draw(st.integers(first + 1, on + 1))
        adjust = draw(st.sampled_from(["none", "none", "all", "split"]))
        asked.append(Asked(on, first, after, adjust, draw(st.booleans())))
    return asked


class Oracle:
    """What was traded on each day, by prices to which nothing happens and the actions."""

    def __init__(self, happened: list[Action]) -> None:
        twin = MARKET.fresh()
        end = at(DAYS[-1], 23)
        bars = twin.bars("AAA", "1d", at(FIRST, 0), end + 86_400, end + 30 * 86_400)
        self.happened = happened
        self.printed: dict[date, Row] = {}
        for bar in bars:
            day = datetime.fromtimestamp(bar.t, UTC).date()
            ratio = self._ratio(one for one in self._splits() if one.ex_date <= day)
            prices = {name: getattr(bar, name) / ratio for name in PRICES}
            assert bar.volume is not None
            self.printed[day] = {"timestamp": bar.t, **prices, "volume": bar.volume * ratio}

    @property
    def shares(self) -> float:
        """By how many shares a volume that was made whole may be off, when splits are undone."""
        return 1 + prod(max(1.0, 1 / float(one.ratio)) for one in self._splits())

    def rows(self, days: list[date], adjust: str, now_s: float) -> list[Row]:
        """Return the bars of some days as they are told at an instant."""
        known = [one for one in self.happened if self._seen_s(one) <= now_s]
        return [self._row(day, adjust, known) for day in days]

    def _row(self, day: date, adjust: str, known: list[Action]) -> Row:
        printed = self.printed[day]
        splits = [one for one in known if isinstance(one, Split) and one.ex_date > day]
        ratio = 1.0 if adjust == "none" else self._ratio(splits)
        left = 1.0
        if adjust == "all":
            payments = [one for one in known if not isinstance(one, Split) and one.ex_date > day]
            left = prod(1 - one.amount / self._before(one.ex_date, known) for one in payments)
        row = {name: printed[name] / ratio * left for name in PRICES}
        return {"timestamp": printed["timestamp"], **row, "volume": printed["volume"] * ratio}

    def _before(self, ex: date, known: list[Action]) -> float:
        """Return the close before an ex-date, in the shares of that day."""
        last = max(day for day in self.printed if day < ex)
        same = self._ratio(
            one for one in known if isinstance(one, Split) and last < one.ex_date <= ex
        )
        return float(self.printed[last]["close"]) / same

    def _splits(self) -> list[Split]:
        return [one for one in self.happened if isinstance(one, Split)]

    def _ratio(self, splits: Any) -> float:
        return float(prod(one.ratio for one in splits))

    def _seen_s(self, one: Action) -> float:
        session = MARKET.session("AAA", one.ex_date.toordinal())
        assert session is not None
        return one.seen_s if one.seen_s is not None else session.open_s


def check(found: list[Row], expected: list[Row], shares: float) -> None:
    """Hold bars against those of the oracle, as far as single precision goes.

    `shares`: by so many volumes may differ.
    """
    assert [row["timestamp"] for row in found] == [row["timestamp"] for row in expected]
    for row, right in zip(found, expected, strict=True):
        for name in PRICES:
            assert row[name] == pytest.approx(right[name], rel=NEAR), (name, row, right)
        # Upstream tells whole shares of today, which may each be many of that day.
        assert row["volume"] == pytest.approx(right["volume"], rel=1e-6, abs=shares), (row, right)


async def play(folder: Path, template: Path, happened: list[Action], asked: list[Asked]) -> None:
    """Ask one hub after the other, each answer held against the oracle."""
    market = MARKET.fresh()
    for action in happened:
        market.add(action)
    oracle = Oracle(happened)
    world = World(market, at(DAYS[0], 22), folder, template, Quirks(live_row=False))
    await world.open()
    try:
        for one in asked:
            world.clock.now_s = max(world.clock.now_s + 1, at(DAYS[one.on], 22))
            days = DAYS[one.first : min(one.after, one.on + 1)]
            found = await told(world, days, one)
            check(found, oracle.rows(days, one.adjust, world.clock.now_s), oracle.shares)
            again = [await told(world, days, one, adjust) for adjust in ("none", "split", "none")]
            assert again[0] == again[2]
            check(again[0], oracle.rows(days, "none", world.clock.now_s), oracle.shares)
            check(again[1], oracle.rows(days, "split", world.clock.now_s), oracle.shares)
    finally:
        await world.close()


async def told(
    world: World, days: list[date], asked: Asked, adjust: str | None = None
) -> list[Row]:
    """Ask for some days, by their dates or by instants, and return the records."""
    after = days[-1] + timedelta(days=1)
    bounds = (str(days[0]), str(after))
    if not asked.dates:
        bounds = (f"{days[0]}T00:00:00-05:00", f"{days[-1]}T22:00:00Z")
    query = (Ticker("AAA"), DateRange(*bounds), Param("adjust", adjust or asked.adjust))
    answer = await world.hub.answer(
        world.hub.question(ProviderRequest("yahoo_finance", SearchEntities(query)))
    )
    assert isinstance(answer, Answer)
    assert answer.state == "ready", answer.why
    rows: list[Row] = json.loads(answer.text())
    return rows


@pytest.mark.timeout(0)
def test_bars_are_as_an_oracle_has_them() -> None:
    """With splits and payments, some told late; and none, split, none is the identity."""
    with template_database() as template:

        @settings(
            max_examples=HISTORIES,
            deadline=None,
            derandomize=EXTENT != SOAK,
            suppress_health_check=list(HealthCheck),
        )
        @given(actions(), questions())
        def histories(happened: list[Action], asked: list[Asked]) -> None:
            with (
                tempfile.TemporaryDirectory() as folder,
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                runner.run(play(Path(folder), template, happened, asked))

        histories()


prices = st.floats(0.01, 1e5).map(lambda price: round(price, 4))
volumes = st.none() | st.integers(0, 10**12)
bars = st.lists(
    st.tuples(*[st.none() | prices] * 5, volumes),
    min_size=1,
    max_size=30,
)
splits = st.lists(
    st.tuples(st.integers(0, 31), st.sampled_from([a / b for a, b in RATIOS])), max_size=4
)


def run_of(rows: list[tuple[Any, ...]]) -> Run:
    """Return bars a day apart."""
    names = (*PRICES, "adjclose", "volume")
    found = [
        {"timestamp": 86_400 * at, **dict(zip(names, row, strict=True))}
        for at, row in enumerate(rows)
    ]
    return Run.of_texts([row["timestamp"] * 1_000 for row in found], encode_all(found))


@given(bars, splits)
def test_what_is_undone_can_be_done_again(
    rows: list[tuple[Any, ...]], made: list[tuple[int, float]]
) -> None:
    """As traded and divided again are the prices there were; nulls stay null, and no key comes."""
    run, basis = run_of(rows), Basis()
    undone = as_traded(run, [Undoing(86_400_000 * day, ratio) for day, ratio in made], basis)
    for at, row in enumerate(map(run.row, range(len(run)))):
        other = undone.row(at)
        ratio = prod(ratio for day, ratio in made if at < day)
        assert list(other) == list(row)
        for name in PRICES:
            assert (other[name] is None) == (row[name] is None)
            if row[name] is not None:
                assert other[name] / ratio == pytest.approx(row[name], rel=1e-12)
        assert other["adjclose"] == row["adjclose"]
        if row["volume"] is not None:
            assert other["volume"] == pytest.approx(row["volume"] / ratio, abs=0.5)
    assert as_traded(run, [], basis) == run


@given(bars)
def test_less_dividends_keeps_the_form_of_a_bar(rows: list[tuple[Any, ...]]) -> None:
    """Its close is the adjusted one, what is between high and low stays there, unknown is null."""
    run = run_of(rows)
    made = less_dividends(run, Basis())
    for row, other in zip(
        map(run.row, range(len(run))), map(made.row, range(len(made))), strict=True
    ):
        unknown = row["close"] is None or row["adjclose"] is None
        assert other["close"] == (None if unknown else row["adjclose"])
        for name in PRICES:
            assert (other[name] is None) == (unknown or row[name] is None)
            if other[name] is not None:
                share_left = row["adjclose"] / row["close"]
                assert other[name] == pytest.approx(row[name] * share_left, rel=1e-12)
        assert (other["volume"], other["adjclose"]) == (row["volume"], row["adjclose"])


def test_a_further_split_is_the_other_way_round() -> None:
    """What is rescaled by a split is traded again where that is undone, adjusted close aside."""
    run = run_of([(10.0, 12.0, 9.0, 11.0, 10.5, 1_000)])
    after = rescaled(run, 4.0, Basis())
    undone = as_traded(after, [Undoing(1, 4.0)], Basis()).row(0)
    assert {**undone, "adjclose": 10.5} == run.row(0)
