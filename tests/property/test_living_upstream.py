"""The hub against an upstream that lives: right, and not one request more than the rules need."""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import portion
import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gapless.domain.intervals import ALWAYS
from gapless.errors import GaplessError, ProviderError
from gapless.hub.answers import Answer
from gapless.instants import format_instant
from gapless.protocol.messages import (
    DateRange,
    Param,
    ProviderRequest,
    SearchEntities,
    Ticker,
)
from gapless.simulator.happenings import (
    Absent,
    Delisted,
    Dividend,
    Happening,
    MissingRow,
    NullRow,
    Restatement,
    Split,
)
from gapless.simulator.instruments import coin, currency_pair, equity
from gapless.simulator.market import Market
from gapless.simulator.prices import RandomWalk
from gapless.simulator.quirks import Quirks
from gapless.store.base import SeriesState
from support.bases import Bases, Window
from support.extent import EXTENT, SOAK
from support.living import (
    FAULTS,
    KINDS,
    PHASES,
    SEQUENCES,
    START_S,
    check_parts,
    key_of,
    template_database,
)
from support.promise import LOOK_BACK_MS, Promise
from support.telling import told
from support.told import DAY_MS, Facts
from support.wire import PATIENCE_S
from support.world import World, request

TICKERS = ("AAA", "EURUSD=X", "BTC-USD")
MARKET = Market(
    [
        equity("AAA", first_trade=date(2024, 1, 2), holidays=frozenset({date(2025, 4, 18)})),
        currency_pair("EURUSD=X", first_trade=date(2024, 1, 2)),
        coin("BTC-USD", first_trade=date(2024, 1, 2)),
    ],
    prices=RandomWalk(7),
    # One host is behind the other: by less than bars take to be final.
    edge_lags_s=(0.0, 600.0),
)
# Until then a breaker may stay open after the last failure.
BREAKER_S = 900


# Hours after the ex-date's open at which an action is registered; -1: as soon as it is known.
LATE = st.sampled_from([-1, 0, 0, 3, 47, 120])
ELSEWHERE = st.integers(0, 7).map(lambda one: one == 7)


class LivingUpstream(RuleBasedStateMachine):
    """Time passes, things happen, faults come and go, and every answer is held to the truth."""

    template: Path
    intervals: tuple[str, ...]

    @initialize(
        ticker=st.sampled_from(TICKERS),
        which=st.integers(0, 1),
        duplicate=st.booleans(),
        past=st.booleans(),
        before=st.booleans(),
        absent=st.booleans(),
    )
    def begin(
        self, ticker: str, which: int, duplicate: bool, past: bool, before: bool, absent: bool
    ) -> None:
        # Most of a sequence is about one series, so that what happens to it is seen by it.
        self.ticker, self.interval = ticker, self.intervals[which]
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.folder = tempfile.TemporaryDirectory()
        self.happenings: list[Happening] = []
        market = MARKET.fresh()
        quirks = Quirks(
            live_duplicate=duplicate,
            live_past_period2=past,
            live_before_period1=before,
            live_in_period="included",
            no_bars="adjclose_absent" if absent else "adjclose_empty",
        )
        self.world = World(market, START_S, Path(self.folder.name), self.template, quirks)
        self.promise = Promise(market, self.world.sim.requests, wanted=self.world.wanted)
        self.bases = Bases(market)
        self.faulty = False
        self.asked_before: list[ProviderRequest] = []
        self.runner.run(self.world.open())

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.runner.run(self.world.close())
            self.runner.close()
            self.folder.cleanup()

    # Time

    @rule(minutes=st.integers(0, 45))
    def minutes_pass(self, minutes: int) -> None:
        self.world.clock.now_s += 60 * minutes + 7

    @rule(hours=st.integers(1, 30))
    def hours_pass(self, hours: int) -> None:
        self.world.clock.now_s += 3600 * hours

    @rule(days=st.sampled_from([2, 3, 7, 8, 20, 45]))
    def days_pass(self, days: int) -> None:
        self.world.clock.now_s += 86_400 * days

    # What happens upstream

    @rule(
        ratio=st.sampled_from([(2, 1), (3, 2), (1, 10), (20, 1)]),
        late=LATE,
        other=ELSEWHERE,
    )
    def split(self, ratio: tuple[int, int], late: int, other: bool) -> None:
        ticker = self._ticker(other)
        self._tick()
        day, seen = self._next_session(ticker, late)
        if not self._taken(ticker, day):
            self._happen(Split(ticker, day, *ratio, seen_s=seen))

    @rule(amount=st.sampled_from([0.2, 1.5]), late=LATE, other=ELSEWHERE)
    def dividend(self, amount: float, late: int, other: bool) -> None:
        ticker = self._ticker(other)
        self._tick()
        day, seen = self._next_session(ticker, late)
        if not self._taken(ticker, day):
            self._happen(Dividend(ticker, day, amount, seen_s=seen))

    @rule(
        back=st.integers(1, 12),
        days=st.integers(1, 6),
        what=st.sampled_from([{"close": 1.01}, {"volume": 1.2}, {"high": 1.02, "volume": 0.9}]),
    )
    def restate(self, back: int, days: int, what: dict[str, float]) -> None:
        self._tick()
        for day in {self._past_session(self.ticker, back + i) for i in range(days)}:
            self._happen(Restatement(self.ticker, day, self.world.clock.now_s, **what))

    @rule(
        back=st.integers(1, 9),
        heals=st.integers(1, 400),
        kind=st.sampled_from(["null", "partly", "missing"]),
    )
    def hole(self, back: int, heals: int, kind: str) -> None:
        self._tick()
        now = self.world.clock.now_s
        day = self._past_session(self.ticker, back)
        until = now + heals * 1800
        self._happen(
            MissingRow(self.ticker, day, from_s=now, heals_s=until)
            if kind == "missing"
            else NullRow(self.ticker, day, from_s=now, heals_s=until, partly=kind == "partly")
        )

    @rule(hours=st.integers(1, 30), back=st.integers(0, 20), days=st.integers(0, 40))
    def absent(self, hours: int, back: int, days: int) -> None:
        """Have upstream lack a stretch, or everything, for a while."""
        self._tick()
        now = self.world.clock.now_s
        end = now - 86_400 * back
        start, end = (end - 86_400 * days, end) if days else (-math.inf, math.inf)
        self._happen(Absent(self.ticker, start, end, from_s=now, heals_s=now + 3600 * hours))

    @rule(hours=st.integers(1, 60))
    def delisted(self, hours: int) -> None:
        """Have upstream not know the ticker for a while."""
        self._tick()
        now = self.world.clock.now_s
        self._happen(Delisted(self.ticker, from_s=now, heals_s=now + 3600 * hours))

    # Faults

    @rule(fault=st.sampled_from(sorted(FAULTS)), times=st.integers(1, 12))
    def fail(self, fault: str, times: int) -> None:
        self.world.sim.faults.fail_next(FAULTS[fault], times)
        self.faulty = True

    @rule()
    def heal(self) -> None:
        self.world.sim.faults.clear()
        self.world.clock.now_s += BREAKER_S
        self.faulty = False

    @rule(disagreeing=st.booleans())
    def hosts_disagree(self, disagreeing: bool) -> None:
        """Have the hosts answer in turn, one of them behind; or no longer."""
        self.world.sim.alternate_edges = disagreeing

    @rule()
    def restart(self) -> None:
        self.runner.run(self.world.restart())

    # Requests

    @rule(back=st.integers(0, 60), length=st.integers(1, 60), other=ELSEWHERE)
    def ask(self, back: int, length: int, other: bool) -> None:
        """Ask for a range that ended half-days ago."""
        now = self.world.clock.now_ms() // 1000 * 1000
        end = now - back * DAY_MS // 2
        self._ask([self._request(end - self._span(length), end, other)])

    @rule(length=st.integers(1, 60))
    def ask_to_now(self, length: int) -> None:
        now = self.world.clock.now_ms() // 1000 * 1000
        self._ask([self._request(now - self._span(length), now)])

    @rule(
        spans=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=2, max_size=4),
    )
    def ask_together(self, spans: list[tuple[int, int]]) -> None:
        now = self.world.clock.now_ms() // 1000 * 1000
        self._ask(
            [
                self._request(now - self._span(back + length), now - self._span(back))
                for back, length in spans
            ]
        )

    @precondition(lambda self: self.asked_before)
    @rule(which=st.integers(0, 3), days=st.sampled_from([0, 1, 2, 5]))
    def ask_again(self, which: int, days: int) -> None:
        """Ask for a range that was asked before, days later: a full hit, or nearly."""
        self.world.clock.now_s += days * 86_400
        self._ask([self.asked_before[-1 - which % len(self.asked_before)]])

    @precondition(lambda self: not self.faulty)
    @rule(length=st.integers(1, 30))
    def ask_twice(self, length: int) -> None:
        now = self.world.clock.now_ms() // 1000 * 1000
        wanted = self._request(now - self._span(length), now)
        first, again = self._ask([wanted])[0], self._ask([wanted])[0]
        if isinstance(first, Answer) and first.state == "ready":
            assert isinstance(again, Answer)
            assert again.requests == 0, "asked again at once, it asks nothing upstream"

    @rule(back=st.integers(0, 60), length=st.integers(1, 60), other=ELSEWHERE)
    def ask_for_days(self, back: int, length: int, other: bool) -> None:
        """Ask for days of the exchange, which may be of another date than UTC's."""
        last = self._today(self.ticker) - back // 2
        length = max(1, length // (8 if self.interval == "15m" else 1))
        days = [date.fromordinal(day) for day in (last - length, last + 1)]
        wanted = self._request(0, DAY_MS, other)
        assert isinstance(wanted.request, SearchEntities)
        ticker, _, *rest = wanted.request.query
        bounds = DateRange(*map(date.isoformat, days))
        search = SearchEntities((ticker, bounds, *rest))
        self._ask([ProviderRequest(wanted.provider, search)])

    @precondition(lambda self: self.interval == "1d")
    @rule(
        back=st.integers(0, 40),
        length=st.integers(1, 60),
        what=st.sampled_from(["all", "none", "none", "actions"]),
        days=st.booleans(),
    )
    def ask_otherwise(self, back: int, length: int, what: str, days: bool) -> None:
        """Ask for bars on another basis, or for actions; by days, or by instants."""
        world = self.world
        now = world.clock.now_ms()
        end = now // 1000 * 1000 - back * DAY_MS // 2
        start = end - length * DAY_MS
        bounds = DateRange(format_instant(start), format_instant(end))
        if days:
            last = self._today(self.ticker) - back // 2
            first = last - length
            bounds = DateRange(*(date.fromordinal(day).isoformat() for day in (first, last + 1)))
        param = Param("data", what) if what == "actions" else Param("adjust", what)
        search = SearchEntities((Ticker(self.ticker), bounds, param))
        wanted = ProviderRequest("yahoo_finance", search)

        async def ask() -> Answer | None:
            known = bool((await world.hub.holdings.directory(key_of(world, wanted))).state.meta)
            try:
                answer = await world.hub.answer(world.hub.question(wanted))
            except ProviderError as error:
                # What upstream is believed to have lost is not told as it was traded.
                lost = what == "none" and error.reason == "unverified"
                if self._explained(error, beside=False) or (lost and self._lost()):
                    return None
                raise
            assert isinstance(answer, Answer)
            check_parts(answer)
            if answer.state == "ready" and not answer.why:
                self._check_otherwise(answer, what, now, known)
            return answer

        self.runner.run(ask())

    def _lost(self) -> bool:
        """Whether upstream has lacked anything yet."""
        return any(isinstance(one, Absent | Delisted | MissingRow) for one in self.happenings)

    def _check_otherwise(self, answer: Answer, what: str, now: int, known: bool) -> None:
        instrument = self.world.market.instrument(self.ticker)
        assert instrument is not None
        due = Facts.of(instrument).due_ms(now) if known else now - DAY_MS
        window = Window(due / 1000 - 1, self.world.clock.now_s + 1)
        rows = json.loads(answer.text())
        if what == "actions":
            self.bases.check_actions(self.ticker, rows, answer.asked, window)
            return
        final = [
            row
            for row in rows
            for covered in answer.series.state.coverage
            if covered.start <= row["timestamp"] * 1000 < covered.end and covered.final
        ]
        self.bases.check_bars(self.ticker, what, final, window)

    def _ticker(self, other: bool) -> str:
        return TICKERS[TICKERS.index(self.ticker) - 1] if other else self.ticker

    def _span(self, days: int) -> int:
        """Return milliseconds: fewer days of bars that are many a day."""
        return days * DAY_MS // (8 if self.interval == "15m" else 1)

    def _request(self, start: int, end: int, other: bool = False) -> Any:
        return request(self._ticker(other), self.interval, start, end)

    # Checking

    def _ask(self, wanted: list[Any]) -> list[Answer | GaplessError]:
        world = self.world
        now = world.clock.now_ms()
        world.asked.clear()
        key = key_of(self.world, wanted[0])
        before = self.runner.run(world.hub.holdings.directory(key, ALWAYS)).state

        async def one_of_them(asked: ProviderRequest) -> Answer | GaplessError:
            known = bool((await world.hub.holdings.directory(key_of(world, asked))).state.meta)
            try:
                answer = await world.hub.answer(world.hub.question(asked))
            except ProviderError as error:
                if self._explained(error, beside=len(wanted) > 1):
                    return error
                raise
            # Held to the promise here and now: another request may move the series on next.
            assert isinstance(answer, Answer)
            self._check(answer, now, known, beside=len(wanted) > 1)
            return answer

        async def all_of_them() -> list[Answer | GaplessError]:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.gather(*map(one_of_them, wanted))

        answers = self.runner.run(all_of_them())
        self.asked_before += wanted
        for one, answer in zip(wanted, answers, strict=True):
            held = world.hub.held(world.hub.question(one))
            if held is not None and isinstance(answer, Answer) and len(wanted) == 1:
                assert held.text() == answer.text(), "held, it is answered the same"
        if len(wanted) == 1 and isinstance(answers[0], Answer):
            self._frugal(answers[0], before, now)
        return answers

    def _explained(self, error: ProviderError, beside: bool) -> bool:
        """Whether nothing being answered at all is as it should be."""
        if self.faulty or error.reason in (
            "out_of_window",
            "unconfirmed_empty",
            "unconfirmed_loss",
        ):
            return True
        # An open breaker lets one through to try, and refuses those beside it.
        if beside and "left alone" in error.message:
            return True
        return error.reason == "unknown_ticker" and any(
            isinstance(one, Delisted) for one in self.happenings
        )

    def _check(self, answer: Answer, now: int, known: bool, beside: bool) -> None:
        """Hold an answer to what is promised."""
        check_parts(answer)
        instrument = self.world.market.instrument(answer.key.ticker)
        assert instrument is not None
        facts = Facts.of(instrument) if known else None
        t1 = self.world.clock.now_ms()
        self.promise.check(told(answer, now, t1, facts, beside=beside))

    def _frugal(self, answer: Answer, before: SeriesState, now: int) -> None:
        """What was asked is what the rules call for."""
        asked = [one for one in self.world.asked if one.key == answer.key]
        if answer.state != "ready" or any(one.error is not None for one in asked):
            return
        if answer.series.state.due_before != before.due_before:
            return
        lacking, aged = self._lacking(answer, before, now)
        if not lacking and not aged:
            assert not asked, f"{asked} for nothing"
            return
        assert asked, f"nothing was asked for {lacking} {aged}"
        seams = sum(one.purpose == "seam" for one in asked)
        most = len(list(lacking)) + len(list(aged))
        assert len(asked) - seams <= most, f"{asked} for {lacking} and {aged}"
        assert seams <= len(list(lacking)) + 1
        if aged and answer.key.param("interval", "1d") in ("1d", "1wk"):
            assert len(asked) == 1, f"{asked} for {lacking} and {aged}"

    def _lacking(
        self, answer: Answer, before: SeriesState, now: int
    ) -> tuple[portion.Interval, portion.Interval]:
        """Return what of an asked range is a gap and what is not fresh, by the rules' own words."""
        instrument = self.world.market.instrument(answer.key.ticker)
        assert instrument is not None
        due = Facts.of(instrument).due_ms(now) if before.meta else now - DAY_MS
        look_back = LOOK_BACK_MS.get(answer.key.param("interval", "1d"))
        start = -(1 << 60) if look_back is None else now - now % 1000 - look_back + 3_600_000
        asked = portion.closedopen(*answer.asked) & portion.closedopen(start, portion.inf)
        known = fresh = portion.empty()
        last = max((row.end for row in before.coverage), default=0)
        for row in before.coverage:
            if row.refresh_after is not None and row.refresh_after <= now:
                continue
            present = row.end >= row.fetched_at - 1000
            tail = row.refresh_after is not None and row.end == last and present
            here = portion.closedopen(row.start, max(row.end, now) if tail else row.end)
            known |= here
            if row.fetched_at >= due and row.commit >= before.due_before:
                fresh |= here
        return asked - known, (asked & known) - fresh

    # Days

    def _tick(self) -> None:
        """Let a second pass, so that nothing happens at the very instant of a fetch."""
        self.world.clock.now_s = float(int(self.world.clock.now_s) + 2)

    def _happen(self, what: Happening) -> None:
        self.happenings.append(what)
        self.world.market.add(what)

    def _today(self, ticker: str) -> int:
        return self.world.market.calendar(ticker).day_of(self.world.clock.now_s)

    def _next_session(self, ticker: str, late: int) -> tuple[date, float]:
        """Return the next session's day and when its action is registered."""
        day = self._today(ticker) + 1
        while (session := self.world.market.session(ticker, day)) is None:
            day += 1
        seen = self.world.clock.now_s if late < 0 else float(session.open_s + 3600 * late)
        return date.fromordinal(day), seen

    def _past_session(self, ticker: str, back: int) -> date:
        day = self._today(ticker) - back
        while self.world.market.session(ticker, day) is None:
            day -= 1
        return date.fromordinal(day)

    def _taken(self, ticker: str, day: date) -> bool:
        return any(
            isinstance(one, Split | Dividend)
            and one.symbol == ticker
            and abs((one.ex_date - day).days) < 1
            for one in self.happenings
        )


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_hub_is_right_and_frugal_while_upstream_lives(kind: str) -> None:
    """Every answer equals upstream now, but for what the rules grant."""
    with template_database() as template:
        machine = type(kind, (LivingUpstream,), {"template": template, "intervals": KINDS[kind]})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=SEQUENCES // len(KINDS),
                stateful_step_count=15,
                # The same histories each time, so that a failure is of what was changed; soaking
                # draws others.
                derandomize=EXTENT != SOAK,
                deadline=None,
                phases=PHASES,
                suppress_health_check=list(HealthCheck),
            ),
        )
