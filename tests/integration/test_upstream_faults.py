"""The hub while upstream fails: the right word for it, nothing stored, and well again afterwards.

Every fault that the simulated upstream can show, over real sockets; stitching rules 2, 7, 8, 15
and 16.
"""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gapless.config import FetchSettings, Settings
from gapless.errors import ProviderError, UnknownTicker
from gapless.hub.answers import Answer
from gapless.simulator import faults
from gapless.simulator.faults import Fault
from gapless.simulator.happenings import MissingRow, NullRow
from gapless.simulator.instruments import equity
from gapless.simulator.quirks import Quirks
from support.scenes import REJECTED, Scene, parts, reasons, scene, seconds, told
from support.wire import PATIENCE_S

NOW = "2025-06-20T12:00"
HELD = ("2025-05-01", "2025-05-24")
ASKED = ("2025-05-01", "2025-06-01")
BEYOND = ("2025-05-24", "2025-06-01")
# So many requests the provider has on their way; more that had their turn wait for these.
AT_ONCE = 10
# Until then a breaker may stay open after one outage.
BREAKER_S = 900


@dataclass(frozen=True)
class Case:
    """A fault, what the hub says of it, and what makes it quick: settings, a short time-out."""

    fault: Fault
    says: str
    reason: str = "upstream_unavailable"
    settings: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = PATIENCE_S


CASES = {
    "429 edge": Case(
        faults.too_many_requests("Edge: Too Many Requests"), "too many requests", "rate_limited"
    ),
    "429 plain": Case(
        faults.too_many_requests("Too Many Requests"), "too many requests", "rate_limited"
    ),
    "401": Case(faults.invalid_crumb(), "Invalid Crumb", "upstream_rejected"),
    "500": Case(faults.server_error(500), "HTTP 500"),
    "502": Case(faults.server_error(502), "HTTP 502"),
    "503 html": Case(faults.html_page(503), "Will be right back"),
    "html": Case(faults.html_page(200), "no chart"),
    "hang": Case(faults.hang(), "did not answer in full", timeout_s=0.2),
    "drip": Case(faults.slow_drip(chunk=200, pause_s=5), "did not answer", timeout_s=0.2),
    "truncated": Case(faults.truncated(0.5), "ended too early"),
    "cut at the head": Case(faults.truncated(0.0), "ended too early"),
    "wrong JSON": Case(faults.wrong_json(), "no chart"),
    "another shape": Case(
        faults.wrong_json(b'{"chart":{"result":[{}],"error":null}}'),
        "no chart",
        "bad_upstream_reply",
    ),
    "a list": Case(faults.wrong_json(b"[]"), "no chart", "bad_upstream_reply"),
    "nothing": Case(faults.wrong_json(b""), "no chart"),
    "huge": Case(faults.huge_body(4), "more than 1 MiB", settings={"max_body_bytes": 1 << 20}),
    "bomb": Case(faults.gzip_bomb(16), "more than 1 MiB", settings={"max_body_bytes": 1 << 20}),
    "reset": Case(faults.connection_reset(), "reset"),
}


@pytest.mark.share(6)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_fault_with_nothing_held_is_its_error(tmp_path: Path, case: Case) -> None:
    """The right error, no coverage at all; and as if nothing had been once upstream is well."""
    async with scene(tmp_path, NOW, **case.settings) as world:
        world.sim.faults.fail_always(case.fault)
        await world.wait_for_upstream(case.timeout_s)
        error = await world.refused(*ASKED)
        assert error.reason == case.reason
        assert case.says in error.message
        assert 1 <= len(world.sim.requests) <= 6
        assert await world.known() == ()
        assert (await world.hub.statistics())["records"] == 0
        world.sim.faults.clear()
        await world.wait_for_upstream()
        world.wait(BREAKER_S)
        answer = await world.ask(*ASKED)
        assert (answer.state, answer.requests) == ("ready", 1)
        assert told(answer) == world.truth(*ASKED)


@pytest.mark.share(6)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_fault_beside_held_records_is_a_partial_answer(tmp_path: Path, case: Case) -> None:
    """Neither hides the other: the held records are there, and what failed is named."""
    async with scene(tmp_path, NOW, **case.settings) as world:
        await world.ask(*HELD)
        before = await world.known()
        world.sim.faults.fail_always(case.fault)
        await world.wait_for_upstream(case.timeout_s)
        answer = await world.ask(*ASKED)
        assert answer.state == "partial"
        assert parts(answer) == {
            "cached": ["2025-05-01..2025-05-24"],
            "missing": ["2025-05-24..2025-06-01"],
        }
        assert reasons(answer) == [("2025-05-24..2025-06-01", case.reason)]
        assert case.says in answer.last_error
        assert told(answer) == world.truth(*HELD)
        assert await world.known() == before, "a failure leaves no coverage"
        world.sim.faults.clear()
        await world.wait_for_upstream()
        world.wait(BREAKER_S)
        answer = await world.ask(*ASKED)
        assert answer.state == "ready"
        assert told(answer) == world.truth(*ASKED)


async def test_a_fault_that_passes_is_not_seen(tmp_path: Path) -> None:
    """What fails twice is asked a third time, within the same request."""
    async with scene(tmp_path, NOW) as world:
        world.sim.faults.fail_next(faults.server_error(502))
        world.sim.faults.fail_next(faults.truncated())
        answer = await world.ask(*ASKED)
        assert world.upstream == [
            "!gap 2025-05-01..2025-06-01",
            "!gap 2025-05-01..2025-06-01",
            "gap 2025-05-01..2025-06-01",
        ]
        assert (answer.state, answer.requests, answer.last_error) == ("ready", 3, "")


async def test_a_slow_upstream_takes_no_longer_than_one_deadline(tmp_path: Path) -> None:
    """What hangs after a failure and a pause has what these have left of the deadline."""
    settings = Settings(fetch=FetchSettings(deadline_s=1.0))
    async with scene(tmp_path, NOW, settings=settings) as world:
        world.sim.faults.fail_next(faults.server_error(503))
        world.sim.faults.fail_always(faults.slow_drip(chunk=1, pause_s=5))
        started = world.clock.monotonic()
        error = await world.refused(*ASKED)
        left = 1.0 - (world.clock.monotonic() - started)
        assert 0.5 <= left <= 0.75, "the pause is all that has passed on this clock"
        assert f"did not answer within {left:.3g} s, what was left of 1 s" in error.message
        assert len(world.sim.requests) == 2
        assert await world.known() == ()


async def test_a_gap_that_fails_takes_no_other_with_it(tmp_path: Path) -> None:
    """Of two gaps one is fetched and the other named; asked again, only that one is fetched."""
    async with scene(tmp_path, NOW) as world:
        await world.ask("2025-05-10", "2025-05-20")
        world.sim.faults.fail_always(
            REJECTED, when=lambda asked: asked.period1 == seconds("2025-05-01")
        )
        answer = await world.ask(*ASKED)
        assert answer.state == "partial"
        assert parts(answer) == {
            "cached": ["2025-05-10..2025-05-20"],
            "fetched": ["2025-05-20..2025-06-01"],
            "missing": ["2025-05-01..2025-05-10"],
        }
        assert reasons(answer) == [("2025-05-01..2025-05-10", "upstream_rejected")]
        assert told(answer) == world.truth("2025-05-10", "2025-06-01")
        world.sim.faults.clear()
        answer = await world.ask(*ASKED)
        assert world.upstream == ["gap 2025-05-01..2025-05-24T13:30"]
        assert told(answer) == world.truth(*ASKED)


async def test_strict_makes_a_partial_answer_an_error(tmp_path: Path) -> None:
    """Who asks strictly gets all or the reason why not."""
    async with scene(tmp_path, NOW) as world:
        await world.ask(*HELD)
        world.sim.faults.fail_always(faults.html_page())
        error = await world.refused(*ASKED, strict=True)
        assert error.reason == "upstream_unavailable"
        assert "partial" in error.message
        assert (await world.ask(*HELD, strict=True)).state == "ready"


async def test_a_tail_that_cannot_be_refreshed_is_stale(tmp_path: Path) -> None:
    """What is past its hour is answered as such; what never was fetched is missing."""
    async with scene(tmp_path, "2025-06-11T15:00") as world:
        held = await world.ask("2025-06-02")
        world.at("2025-06-11T16:00")
        world.sim.faults.fail_always(REJECTED)
        answer = await world.ask("2025-06-02", "2025-06-11T15:00")
        assert world.upstream == ["!check 2025-06-02T13:30..2025-06-11T15:00"]
        assert answer.state == "stale"
        assert reasons(answer) == [("2025-06-10T04:00..2025-06-11T15:00", "upstream_rejected")]
        assert parts(answer) == {"cached": ["2025-06-02..2025-06-11T15:00"]}
        assert told(answer) == told(held)
        answer = await world.ask("2025-06-02")
        assert answer.state == "partial"
        assert parts(answer) == {
            "cached": ["2025-06-02..2025-06-11T15:00"],
            "missing": ["2025-06-11T15:00..2025-06-11T16:00"],
        }
        assert told(answer) == told(held)
        world.sim.faults.clear()
        answer = await world.ask("2025-06-02")
        assert (answer.state, told(answer)) == ("ready", world.truth("2025-06-02"))


# Hosts that cannot be reached


def dead_url() -> str:
    """Return an address at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


async def test_a_refused_connection_is_an_error_and_passes(tmp_path: Path) -> None:
    """While no host listens: an error that says so, or what is held."""
    async with scene(tmp_path, NOW, lags=(0.0, 0.0)) as world:
        await world.ask(*HELD)
        await world.sim.refuse()
        answer = await world.hub.answer(world.hub.question(world.request(*ASKED)))
        assert isinstance(answer, Answer)
        assert answer.state == "partial"
        assert told(answer) == world.truth(*HELD)
        assert "cannot be connected to" in answer.last_error
        await world.sim.accept()
        world.wait(BREAKER_S)
        assert (await world.ask(*ASKED)).state == "ready"


async def test_the_fallback_host_is_asked_where_the_first_refuses(tmp_path: Path) -> None:
    """A host that is down is no failure as long as the other one answers."""
    async with scene(tmp_path, NOW, lags=(0.0, 0.0), base_url=dead_url()) as world:
        answer = await world.hub.answer(world.hub.question(world.request(*ASKED)))
        assert isinstance(answer, Answer)
        assert [one.edge for one in world.sim.requests] == [1]
        assert (answer.state, answer.requests) == ("ready", 2)
        assert told(answer) == world.truth(*ASKED)


# The breaker, and what upstream says about its patience


async def outage(world: Scene) -> None:
    """Let two tickers that have answered before fail, until upstream is left alone."""
    world.market.enlist(equity("BBB"))
    await world.ask(*HELD)
    await world.ask(*HELD, ticker="BBB")
    world.sim.faults.fail_always(faults.server_error(503))
    await asyncio.gather(*(world.refused(*BEYOND, ticker=ticker) for ticker in ("AAA", "BBB")))
    world.sim.clear_requests()


async def test_an_outage_costs_a_bounded_number_of_requests(tmp_path: Path) -> None:
    """However many ask, one after the other: a few attempts, then one trial a pause."""
    async with scene(tmp_path, NOW) as world:
        await outage(world)
        log = world.sim.requests
        for _ in range(50):
            error = await world.refused(*BEYOND)
            assert log == []
        assert "is left alone" in error.message
        assert "HTTP 503" in error.message
        assert error.retry_after_s is not None
        assert error.retry_after_s <= 60
        # The pauses double while the trials fail.
        for pause in (60, 120, 240, 480, 900, 900):
            world.wait(pause - 1)
            await world.refused(*BEYOND)
            assert log == []
            world.wait(1)
            await world.refused(*BEYOND)
            assert len(log) == 1
            await world.refused(*BEYOND)
            assert log == []
        world.sim.faults.clear()
        world.wait(900)
        assert (await world.ask(*ASKED)).state == "ready"
        assert len(log) == 1
        # Closed again: a single failure is tried again, not held against upstream.
        world.sim.faults.fail_next(faults.server_error(503))
        assert (await world.ask("2025-04-01", "2025-05-01")).state == "ready"


async def test_the_first_request_after_an_outage_gets_all_its_gaps(tmp_path: Path) -> None:
    """One gap is the trial; the other waits for it rather than being refused."""
    async with scene(tmp_path, NOW) as world:
        await outage(world)
        world.sim.faults.clear()
        world.wait(60)
        answer = await world.ask("2025-04-20", "2025-06-01")
        assert world.upstream == [
            "gap 2025-04-20..2025-05-15T13:30",
            "gap 2025-05-15T13:30..2025-06-01",
        ]
        assert (answer.state, told(answer)) == ("ready", world.truth("2025-04-20", "2025-06-01"))


@pytest.mark.slow
async def test_many_at_once_do_not_storm_a_failing_upstream(tmp_path: Path) -> None:
    """Two hundred series at once: as many requests as the pace allows, later one to try."""
    async with scene(tmp_path, NOW, rate=0.01, burst=20) as world:
        tickers = [f"T{n}" for n in range(200)]
        for ticker in tickers:
            world.market.enlist(equity(ticker))
            await world.ask("2025-05-01", "2025-05-02", ticker=ticker)
            world.wait(100)
        world.wait(2000)
        # Held until as many are there as are to be: one that failed fast would end the others.
        world.sim.faults.fail_always(faults.held(faults.server_error(503)))

        async def storm(most: int) -> int:
            world.sim.clear_requests()
            answers = asyncio.gather(
                *(
                    world.hub.answer(world.hub.question(world.request(*BEYOND, ticker=ticker)))
                    for ticker in tickers
                ),
                return_exceptions=True,
            )
            for enough in (min(most, AT_ONCE), most):
                await world.sim.reach(lambda enough=enough: len(world.sim.requests) >= enough)  # type: ignore[misc]
                world.sim.release()
            errors = await answers
            assert all(isinstance(error, ProviderError) for error in errors)
            return len(world.sim.requests)

        assert await storm(20) == 20
        world.wait(2000)
        assert await storm(1) == 1


@pytest.mark.parametrize(
    ("header", "pause"), [("120", 120), ("Fri, 20 Jun 2025 12:05:00 GMT", 300), (None, 60)]
)
async def test_too_many_requests_are_followed_by_none(
    tmp_path: Path, header: str | None, pause: int
) -> None:
    """Nobody asks before upstream allows it; without a word, not for a minute."""
    async with scene(tmp_path, NOW) as world:
        await world.ask(*HELD)
        world.sim.faults.fail_next(faults.too_many_requests(retry_after=header))
        error = await world.refused("2025-03-01", "2025-03-10")
        assert error.reason == "rate_limited"
        assert error.retry_after_s == (pause if header else None)
        assert len(world.sim.requests) == 1, "it is not tried again at once"
        world.wait(pause - 1)
        answer = await world.ask(*ASKED)
        assert world.sim.requests == []
        assert answer.state == "partial"
        assert {reason for _, reason in reasons(answer)} == {"rate_limited"}
        assert (await world.ask(*HELD)).state == "ready", "what is held needs no upstream"
        world.wait(1)
        assert (await world.ask(*ASKED)).state == "ready"


async def test_a_blocked_address_is_served_from_what_is_held(tmp_path: Path) -> None:
    """A block by volume: now and then one request finds out whether it is over."""
    async with scene(tmp_path, NOW) as world:
        await world.ask(*HELD)
        world.sim.faults.ip_block = faults.IpBlock(requests=0, window_s=2400, block_s=900)
        blocked = 0
        for _ in range(100):
            answer = await world.ask(*ASKED)
            assert (answer.state, told(answer)) == ("partial", world.truth(*HELD))
            blocked += len(world.sim.requests)
            world.wait(5)
        # At once, and when pauses of one, two and four minutes were over.
        assert blocked == 4
        world.sim.faults.ip_block = faults.IpBlock(requests=40)
        world.wait(400)
        assert (await world.ask(*ASKED)).state == "ready"


async def test_waiters_share_a_failure(tmp_path: Path) -> None:
    """Ten that ask for the same gap: one task's attempts, one reason for all of them."""
    async with scene(tmp_path, NOW) as world:
        await world.ask(*HELD)
        world.sim.clear_requests()
        world.sim.faults.fail_always(faults.html_page())
        answers = await asyncio.gather(
            *(world.hub.answer(world.hub.question(world.request(*ASKED))) for _ in range(10))
        )
        sent = len(world.sim.requests)
        assert 5 <= sent <= 6
        partial = [answer for answer in answers if isinstance(answer, Answer)]
        assert [answer.state for answer in partial] == ["partial"] * 10
        assert len({answer.why for answer in partial}) == 1
        assert sorted(answer.requests for answer in partial) == [0] * 9 + [sent]


# What one ticker gets wrong, or gets, by itself


def of(ticker: str, **changes: Any) -> Fault:
    """Return an answer of two days that is right but for some changes."""
    days = [round(seconds(f"2025-05-{day}T13:30")) for day in (27, 28)]
    quote = {name: [10.0, 11.0] for name in ("open", "high", "low", "close")}
    answer = {
        "meta": {"symbol": ticker, "dataGranularity": "1d", **changes.get("meta", {})},
        "timestamp": changes.get("timestamp", days),
        "indicators": {
            "quote": [{**quote, "volume": [1, 2], **changes.get("quote", {})}],
            "adjclose": [{"adjclose": [10.0, 11.0]}],
        },
    }
    body = json.dumps({"chart": {"result": [answer], "error": None}}).encode()
    return faults.wrong_json(body)


ITS_OWN = {
    "a page": (faults.html_page(500), "upstream_unavailable"),
    "another symbol": (of("XYZ"), "bad_upstream_reply"),
    "no symbol": (of("ODD", meta={"symbol": None}), "bad_upstream_reply"),
    "no open": (of("ODD", quote={"open": None}), "bad_upstream_reply"),
    "times not asked for": (
        of("ODD", timestamp=[86_400, 172_800], meta={"regularMarketTime": 1_750_000_000}),
        "bad_upstream_reply",
    ),
    "more rows than times": (of("ODD", timestamp=[1_748_352_600] * 3), "bad_upstream_reply"),
}


@pytest.mark.parametrize(("fault", "reason"), ITS_OWN.values(), ids=ITS_OWN)
async def test_a_ticker_that_fails_alone_fails_alone(
    tmp_path: Path, fault: Fault, reason: str
) -> None:
    """It says why, nothing of it is stored, and every other ticker is answered beside it."""
    async with scene(tmp_path, NOW) as world:
        world.market.enlist(equity("ODD"))
        await world.ask(*HELD, ticker="ODD")
        world.sim.faults.fail_always(fault, when=lambda asked: asked.symbol == "ODD")
        for _ in range(12):
            answer = await world.ask(*ASKED, ticker="ODD")
            assert answer.state == "partial"
            assert reasons(answer)[-1] == ("2025-05-24..2025-06-01", reason)
            assert told(answer) == world.truth(*HELD, ticker="ODD")
            answer = await world.ask(*HELD)
            assert (answer.state, told(answer)) == ("ready", world.truth(*HELD))
            world.wait(600)
        world.sim.faults.clear()
        world.wait(3600)
        answer = await world.ask(*ASKED, ticker="ODD")
        assert (answer.state, told(answer)) == ("ready", world.truth(*ASKED, ticker="ODD"))


async def test_a_bad_value_is_null_and_the_rest_is_kept(tmp_path: Path) -> None:
    """A volume of more than 64 bits and a price of text are null beside what is right."""
    async with scene(tmp_path, NOW) as world:
        world.market.enlist(equity("ODD"))
        changes = {"open": ["?", 11.0], "volume": [1, 1 << 63]}
        world.sim.faults.fail_always(of("ODD", quote=changes))
        answer = await world.ask("2025-05-27", "2025-05-29", ticker="ODD")
        assert answer.state == "ready"
        assert [(one["open"], one["close"], one["volume"]) for one in told(answer)] == [
            (None, 10.0, 1),
            (11.0, 11.0, None),
        ]


# What is an answer, although it brings no records


async def test_an_unknown_ticker_is_remembered_for_a_quarter_of_an_hour(tmp_path: Path) -> None:
    """Not asked again meanwhile, for whatever range; then once."""
    async with scene(tmp_path, NOW) as world:
        error = await world.refused(*ASKED, ticker="LATER")
        assert isinstance(error, UnknownTicker)
        assert len(world.sim.requests) == 1
        world.wait(899)
        for asked in (ASKED, HELD):
            again = await world.refused(*asked, ticker="LATER")
            assert isinstance(again, UnknownTicker)
            assert world.sim.requests == []
        world.wait(1)
        assert isinstance(await world.refused(*ASKED, ticker="LATER"), UnknownTicker)
        assert len(world.sim.requests) == 1
        # It is of this ticker alone, and no failure of upstream as a whole.
        assert (await world.ask(*ASKED)).state == "ready"
        world.market.enlist(equity("LATER"))
        world.wait(900)
        answer = await world.ask(*ASKED, ticker="LATER")
        assert told(answer) == world.truth(*ASKED, ticker="LATER")


@pytest.mark.parametrize("interval", ["1d", "15m"])
@pytest.mark.parametrize("no_bars", ["adjclose_absent", "adjclose_empty"])
async def test_no_bars_are_known_and_not_asked_for_again(
    tmp_path: Path, interval: str, no_bars: Any
) -> None:
    """A weekend is ready and empty, from memory and from the database."""
    async with scene(tmp_path, NOW, quirks=Quirks(no_bars=no_bars)) as world:
        for requests in (1, 0):
            answer = await world.ask("2025-06-07", "2025-06-09", interval)
            assert (answer.state, answer.text(), answer.requests) == ("ready", b"[]", requests)
        assert [one.outcome for one in await world.known(interval)] == ["empty"]
        await world.restart()
        assert (await world.ask("2025-06-07", "2025-06-09", interval)).requests == 0


async def test_before_the_first_trade_nothing_is_known_to_be(tmp_path: Path) -> None:
    """Upstream's 400 for such a range is an answer, not a failure."""
    async with scene(tmp_path, NOW) as world:
        answer = await world.ask(*HELD, ticker="NEW")
        assert [one.status for one in world.sim.requests] == [400]
        assert (answer.state, told(answer)) == ("ready", [])
        assert (await world.ask(*HELD, ticker="NEW")).requests == 0
        answer = await world.ask("2025-05-12", "2025-06-07", ticker="NEW")
        assert world.upstream == ["gap 2025-05-24..2025-06-07"]
        assert told(answer) == world.truth("2025-05-12", "2025-06-07", ticker="NEW")


# Rows that come, change and go


@pytest.mark.parametrize("partly", [False, True])
async def test_null_rows_are_provisional_and_heal(tmp_path: Path, partly: bool) -> None:
    """A row without values is answered as such, looked at each hour, and replaced."""
    async with scene(tmp_path, "2025-06-11T10:00") as world:
        heals = seconds("2025-06-11T11:30")
        world.market.add(NullRow("AAA", date(2025, 6, 9), heals_s=heals, partly=partly))
        asked = ("2025-06-02", "2025-06-11")
        answer = await world.ask(*asked)
        assert told(answer) == world.truth(*asked)
        assert told(answer)[5]["close"] is None
        world.at("2025-06-11T10:59:59")
        assert (await world.ask(*asked)).requests == 0
        world.wait(1)
        await world.ask(*asked)
        # Beside it are final bars, and Tuesday, which may still change, too.
        assert world.upstream == ["check 2025-06-02T13:30..2025-06-11"]
        world.at("2025-06-11T12:00")
        answer = await world.ask(*asked)
        assert told(answer) == world.truth(*asked)
        assert told(answer)[5]["close"] is not None
        world.at("2025-06-11T13:00")
        assert (await world.ask(*asked)).requests == 0, "healed, it is final"


async def test_a_row_that_upstream_withdrew_goes_with_the_next_fetch(tmp_path: Path) -> None:
    """A fetch replaces its interval, so that no row outlives it."""
    async with scene(tmp_path, "2025-06-11T10:00") as world:
        gone = MissingRow("AAA", date(2025, 6, 10), from_s=seconds("2025-06-11T12:00"))
        world.market.add(gone)
        asked = ("2025-06-02", "2025-06-11")
        before = await world.ask(*asked)
        world.at("2025-06-11T13:31")
        answer = await world.ask(*asked)
        assert told(answer) == world.truth(*asked) == told(before)[:-1]


LIVE_ROWS = {
    "at its own stamp": Quirks(),
    "twice": Quirks(live_duplicate=True),
    "outside of what is asked": Quirks(live_past_period2=True, live_before_period1=True),
    "all": Quirks.all(),
}


@pytest.mark.parametrize("quirks", LIVE_ROWS.values(), ids=LIVE_ROWS)
@pytest.mark.parametrize("interval", ["1d", "15m"])
async def test_a_live_row_never_stands_beside_the_final_one(
    tmp_path: Path, interval: str, quirks: Quirks
) -> None:
    """Asked through a day and after it: one row a bar, on the bar's own stamp."""
    async with scene(tmp_path, "2025-06-10T21:00", quirks=quirks) as world:
        for hour in ("11T13:31", "11T16:07:31", "11T19:59", "11T20:15", "12T08:00", "13T21:00"):
            world.at(f"2025-06-{hour}")
            answer = await world.ask("2025-06-09", interval=interval)
            true = world.truth("2025-06-09", interval=interval)
            if quirks.first_bar_volume_zero and interval != "1d":
                true = [
                    {**one, "volume": 0} if one["timestamp"] % 86_400 == 48_600 else one
                    for one in true
                ]
            assert told(answer) == true
