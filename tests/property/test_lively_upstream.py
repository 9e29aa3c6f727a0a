"""The hub against an upstream that does all that the simulator can; requests are counted exactly.

For soaks: it asks for more than the two models and the hub agree in yet.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path

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

from gapless.domain.coverage import Outcome
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import GaplessError, ProviderError
from gapless.hub import series
from gapless.hub.answers import Answer
from gapless.protocol.fresh import Fresh
from gapless.protocol.messages import ProviderRequest
from gapless.simulator.happenings import Delisted, Happening, Odd
from gapless.simulator.quirks import Quirks
from support import lively
from support.frugal import Before, Row
from support.history import Series
from support.lively import DAY, HOUR, MARKET, Lively
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

TICKERS = {"daily": MARKET.symbols, "intraday": lively.TRADED}
# For so long a series that failed by itself, or a breaker, may be left alone after the last time.
LEFT_ALONE_S = HOUR + 60
# After a failure at a wide request, or one that is not believed, others are narrower for the day.
NARROW_S = DAY + 60
WHOLE = Interval(-(1 << 60), 1 << 60)
DOUBTS = ("unconfirmed_empty", "unconfirmed_loss")
PRICES = ("open", "high", "low", "close")


# Most of a sequence is about one series, so that what happens to it is seen by it.
ELSEWHERE = st.integers(0, 15).map(lambda one: {0: "ticker", 1: "interval", 2: "interval"}.get(one))
WORDS: Mapping[int, Fresh] = {0: "now", 1: "held", 2: "held"}
FRESH = st.integers(0, 9).map(WORDS.get)


class LivelyUpstream(RuleBasedStateMachine):
    """Time passes, things happen, faults come and go, and every answer is held to the truth."""

    template: Path
    kind: str

    @initialize(
        which=st.integers(0, 11),
        quirks=st.builds(
            Quirks,
            live_duplicate=st.booleans(),
            live_past_period2=st.booleans(),
            live_before_period1=st.booleans(),
            # Where it is left out, a week is told without its latest day.
            live_in_period=st.just("included"),
            no_bars=st.sampled_from(["adjclose_absent", "adjclose_empty"]),
        ),
        ahead=st.sampled_from([0, 0, 0, 1, -2, 130, -130, 290, -290]),
    )
    def begin(self, which: int, quirks: Quirks, ahead: int) -> None:
        tickers, intervals = TICKERS[self.kind], KINDS[self.kind]
        self.ticker, self.other = (tickers[(which + i) % len(tickers)] for i in range(2))
        self.interval, self.second = intervals[which % 2], intervals[1 - which % 2]
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.folder = tempfile.TemporaryDirectory()
        market = MARKET.fresh()
        self.world = World(market, START_S, Path(self.folder.name), self.template, quirks)
        self.promise = Promise(market, self.world.sim.requests, wanted=self.world.wanted)
        self._drift(ahead)
        self.faulty = False
        self.failed_s: dict[SeriesKey, float] = {}
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
        self.world.clock.now_s += HOUR * hours

    @rule(days=st.sampled_from([2, 3, 7, 8, 20, 45]))
    def days_pass(self, days: int) -> None:
        self.world.clock.now_s += DAY * days

    @rule(ahead=st.integers(-295, 295))
    def clocks_drift(self, ahead: int) -> None:
        """Have the two clocks differ by another time; neither goes back."""
        self.world.clock.now_s += 600
        self._drift(ahead)

    # What happens upstream

    @rule(
        kind=st.sampled_from(lively.ACTIONS),
        late=lively.LATE,
        behind=lively.BEHIND,
        where=ELSEWHERE,
    )
    def action(self, kind: str, late: int, behind: int, where: str | None) -> None:
        self._happen(self._lively(where).action(kind, late), behind)

    @rule(
        back=st.integers(1, 12),
        days=st.integers(1, 6),
        factors=st.sampled_from(lively.FACTORS),
        behind=lively.BEHIND,
    )
    def restate(self, back: int, days: int, factors: dict[str, float], behind: int) -> None:
        for one in self._lively().restatements(back, days, factors):
            self._happen(one, behind)

    @rule(
        back=st.integers(1, 9),
        heals=st.integers(1, 400),
        kind=st.sampled_from(["null", "partly", "missing"]),
        behind=lively.BEHIND,
    )
    def hole(self, back: int, heals: int, kind: str, behind: int) -> None:
        self._happen(self._lively().hole(back, heals * 1800.0, kind), behind)

    @rule(
        back=st.integers(0, 30),
        hours=st.sampled_from([3, 30, None]),
        columns=st.sampled_from(lively.WRONG),
        where=ELSEWHERE,
    )
    def correct(
        self,
        back: int,
        hours: int | None,
        columns: dict[str, float | bool | None],
        where: str | None,
    ) -> None:
        """Have one bar be another, for a while or for good."""
        heals = None if hours is None else HOUR * hours
        self._happen(self._lively(where).correction(back, heals, columns))

    @rule(
        hours=st.integers(1, 30),
        back=st.integers(0, 20),
        days=st.integers(0, 40),
        alone=st.booleans(),
        behind=lively.BEHIND,
    )
    def absent(self, hours: int, back: int, days: int, alone: bool, behind: int) -> None:
        """Have upstream lack a stretch, or everything, for a while."""
        self._happen(self._lively().absent(hours, back, days, alone), behind)

    @rule(hours=st.integers(1, 30), rows=st.integers(1, 40), first=st.booleans())
    def cut_short(self, hours: int, rows: int, first: bool) -> None:
        self._happen(self._lively().cut(hours, rows, first))

    @rule(hours=st.integers(1, 60))
    def delisted(self, hours: int) -> None:
        """Have upstream not know the ticker for a while."""
        self._happen(self._lively().delisted(hours))

    @rule(hours=st.integers(1, 30), kind=st.sampled_from(lively.ODDITIES))
    def odd(self, hours: int, kind: str) -> None:
        self._happen(self._lively().odd(hours, kind))

    # Faults

    @rule(fault=st.sampled_from(sorted(FAULTS)), times=st.integers(1, 12))
    def fail(self, fault: str, times: int) -> None:
        self.world.sim.faults.fail_next(FAULTS[fault], times)
        self.faulty = True

    @rule()
    def heal(self) -> None:
        self.world.sim.faults.clear()
        self.world.clock.now_s += LEFT_ALONE_S
        self.faulty = False

    @rule(disagreeing=st.booleans())
    def hosts_disagree(self, disagreeing: bool) -> None:
        """Have the hosts answer in turn, one of them behind; or no longer."""
        self.world.sim.alternate_edges = disagreeing

    @rule()
    def restart(self) -> None:
        self.runner.run(self.world.restart())

    @rule(where=ELSEWHERE)
    def forget(self, where: str | None) -> None:
        """Have a series deleted."""
        ticker, interval = self._series(where)
        key = self.world.hub.registry.get("yahoo_finance").key(ticker, {"interval": interval})
        self.runner.run(self.world.hub.holdings.delete(key))
        self.promise.forgotten(Series(ticker, interval), self.world.upstream_s())

    # Requests

    @rule(back=st.integers(0, 60), length=st.integers(1, 60), where=ELSEWHERE, fresh=FRESH)
    def ask(self, back: int, length: int, where: str | None, fresh: Fresh | None) -> None:
        """Ask for a range that ended half-days ago."""
        self._ask([self._request(self._now() - back * DAY_MS // 2, length, where, fresh)])

    @rule(length=st.integers(1, 60), where=ELSEWHERE, fresh=FRESH)
    def ask_to_now(self, length: int, where: str | None, fresh: Fresh | None) -> None:
        self._ask([self._request(self._now(), length, where, fresh)])

    @rule(
        spans=st.lists(
            st.tuples(st.integers(0, 20), st.integers(1, 20), ELSEWHERE, FRESH),
            min_size=2,
            max_size=4,
        ),
    )
    def ask_together(self, spans: list[tuple[int, int, str | None, Fresh | None]]) -> None:
        now = self._now()
        self._ask(
            [
                self._request(now - self._span(back), length, where, fresh)
                for back, length, where, fresh in spans
            ]
        )

    @precondition(lambda self: self.asked_before)
    @rule(which=st.integers(0, 3), days=st.sampled_from([0, 1, 2, 5]))
    def ask_again(self, which: int, days: int) -> None:
        """Ask for a range that was asked before, days later: a full hit, or nearly."""
        self.world.clock.now_s += days * DAY
        self._ask([self.asked_before[-1 - which % len(self.asked_before)]])

    @precondition(lambda self: not self.faulty)
    @rule(length=st.integers(1, 30))
    def ask_twice(self, length: int) -> None:
        wanted = self._request(self._now(), length)
        first, again = self._ask([wanted])[0], self._ask([wanted])[0]
        if isinstance(first, Answer) and first.state == "ready":
            assert isinstance(again, Answer)
            instrument = self.world.market.instrument(again.key.ticker)
            assert instrument is not None
            now = self.world.clock.now_ms()
            if now - Facts.of(instrument).due_ms(now) < -1000 * self.world.ahead_s:
                # Upstream's clock, by which it is as old as that, has yet to reach the due moment.
                return
            assert again.requests == 0, "asked again at once, it asks nothing upstream"

    def _series(self, where: str | None = None) -> tuple[str, str]:
        ticker = self.other if where == "ticker" else self.ticker
        return ticker, self.second if where == "interval" else self.interval

    def _span(self, days: int) -> int:
        """Return milliseconds: fewer days of bars that are many a day."""
        return days * DAY_MS // (8 if "15m" in (self.interval, self.second) else 1)

    def _now(self) -> int:
        return self.world.clock.now_ms() // 1000 * 1000

    def _request(
        self, end: int, length: int, where: str | None = None, fresh: Fresh | None = None
    ) -> ProviderRequest:
        return request(*self._series(where), end - self._span(length), end, fresh)

    # Checking

    def _ask(self, wanted: list[ProviderRequest]) -> list[Answer | GaplessError]:
        world = self.world
        now = world.clock.now_ms()
        world.asked.clear()
        before = self.runner.run(world.hub.holdings.load(key_of(self.world, wanted[0]), WHOLE))

        async def one_of_them(asked: ProviderRequest) -> Answer | GaplessError:
            meta = (await world.hub.holdings.directory(key_of(world, asked))).state.meta
            try:
                answer = await world.hub.answer(world.hub.question(asked))
            except ProviderError as error:
                if self._explained(error, key_of(world, asked).ticker, beside=len(wanted) > 1):
                    return error
                raise
            # Held to the promise here and now: another request may move the series on next.
            assert isinstance(answer, Answer)
            self._check(answer, asked, now, known="tz" in meta, beside=len(wanted) > 1)
            return answer

        async def all_of_them() -> list[Answer | GaplessError]:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.gather(*map(one_of_them, wanted))

        answers = self.runner.run(all_of_them())
        self.asked_before += wanted
        for answer in answers:
            if isinstance(answer, Answer) and any(one.reason in DOUBTS for one in answer.why):
                self.failed_s[answer.key] = world.clock.now_s
        for one, answer in zip(wanted, answers, strict=True):
            held = world.hub.held(world.hub.question(one))
            if held is not None and isinstance(answer, Answer) and len(wanted) == 1:
                assert held.text() == answer.text(), "held, it is answered the same"
        for call in world.asked:
            if call.error is not None:
                self.failed_s[call.key] = world.clock.now_s
        if len(wanted) == 1 and isinstance(answers[0], Answer):
            self._frugal(answers[0], wanted[0], before, now)
        return answers

    def _explained(self, error: ProviderError, ticker: str, beside: bool) -> bool:
        """Whether nothing being answered at all is as it should be."""
        if self.faulty or error.reason in ("out_of_window", *DOUBTS):
            return True
        # An open breaker lets one through to try, and refuses those beside it.
        if beside and "left alone" in error.message:
            return True
        kind = Delisted if error.reason == "unknown_ticker" else Odd
        now_s = self.world.upstream_s()
        return any(
            isinstance(one, kind)
            and one.heals_s is not None
            and one.from_s <= now_s <= one.heals_s + LEFT_ALONE_S + 1200
            for one in self.world.market.happenings(ticker)
        )

    def _check(
        self, answer: Answer, asked: ProviderRequest, now: int, known: bool, beside: bool
    ) -> None:
        """Hold an answer to what is promised."""
        check_parts(answer)
        instrument = self.world.market.instrument(answer.key.ticker)
        assert instrument is not None
        facts = Facts.of(instrument) if known else None
        t1 = self.world.clock.now_ms()
        self.promise.check(told(answer, now, t1, facts, beside=beside, anew=asked.fresh == "now"))

    def _frugal(
        self, answer: Answer, asked: ProviderRequest, before: series.Series, now: int
    ) -> None:
        """What was asked upstream is what the rules call for."""
        calls = [one for one in self.world.asked if one.key == answer.key]
        # Upstream that fails is left alone for a while.
        if any(one.error is not None for one in calls) or (self.faulty and not calls):
            return
        model = self._before(answer, asked, before, now)
        seams = sum(one.purpose == "seam" for one in calls)
        sent = [(*one.interval,) for one in calls if one.purpose != "seam"]
        gaps, again, _ = model.called_for()
        narrowed = self.world.clock.now_s - self.failed_s.get(answer.key, 0.0) < NARROW_S
        restated = answer.series.state.due_before != before.state.due_before
        if (gaps or again) and (narrowed or restated):
            # Twice at the most all that is asked has become due again (stitching rule 13).
            assert len(calls) <= 3 * (len(list(gaps)) + len(list(again)) + 1), f"{calls}"
            return
        model.check(sent, seams)

    def _before(
        self, answer: Answer, asked: ProviderRequest, before: series.Series, now: int
    ) -> Before:
        ticker, interval = answer.key.ticker, answer.key.param("interval", "1d")
        instrument = self.world.market.instrument(ticker)
        assert instrument is not None
        state = before.state
        # A hub cannot know of a holiday, so that it counts as a session.
        facts = Facts.of(instrument)
        facts = Facts(facts.zone, facts.opens_local_s, facts.weekdays)
        look_back = LOOK_BACK_MS.get(interval)
        return Before(
            interval=interval,
            now=now,
            asked=answer.asked,
            rows=[
                Row(row.start, row.end, row.fetched_at, row.refresh_after, row.commit)
                for row in state.coverage
            ],
            due=facts.due_ms(now) if "tz" in state.meta else now - DAY_MS,
            due_before=state.due_before,
            times=_times(before),
            waiting=[one.interval for one in state.doubts if one.next_try > now],
            doubted=[
                one.interval
                for one in state.doubts
                if one.next_try <= now and one.suspicion != "unconfirmed_empty"
            ],
            served_from=0 if look_back is None else now - now % 1000 - look_back + 3_600_000,
            fresh=asked.fresh or "check",
        )

    # Upstream

    def _drift(self, ahead: int) -> None:
        # Never by whole seconds: just when a bar begins upstream does not have it yet.
        self.world.ahead_s = ahead + 0.4 if ahead else 0.0
        self.promise.drift_s = max(self.promise.drift_s, abs(ahead) + 1)

    def _lively(self, where: str | None = None) -> Lively:
        """Let a second pass, so that nothing happens at the very instant of a fetch."""
        self.world.clock.now_s = float(int(self.world.clock.now_s) + 2)
        return Lively(self.world.market, *self._series(where), self.world.upstream_s())

    def _happen(self, what: Happening | None, behind: int = 0) -> None:
        if what is not None:
            self.world.market.add(what, delays_s={1: float(HOUR * behind)})


def _times(entry: series.Series) -> list[int]:
    """Return the stamps of the held records that can be compared: final ones with prices."""
    runs = [entry.runs[one.number].run for one in entry.state.blocks if one.number is not None]
    return [
        run.times[at]
        for row in entry.state.coverage
        if row.final and row.outcome is Outcome.HELD
        for run in runs
        for at in range(*run.bounds(row.interval))
        if all(map(run.row(at).get, PRICES))
    ]


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_hub_is_right_and_frugal_whatever_upstream_does(kind: str) -> None:
    """Every answer keeps the promise, and costs what the rules call for."""
    with template_database() as template:
        machine = type(kind, (LivelyUpstream,), {"template": template, "kind": kind})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=SEQUENCES // len(KINDS),
                stateful_step_count=25,
                deadline=None,
                phases=PHASES,
                suppress_health_check=list(HealthCheck),
            ),
        )
