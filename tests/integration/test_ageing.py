"""Ageing by sessions: what may have changed upstream is fetched again, in one request a session.

Scenes for the stitching rules 9 and 10. Sessions of AAA are 13:30 to 20:00 UTC in summer, and
what was fetched before 13:45 is due from then on; 2 June 2025 is a Monday.
"""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path

import pytest

from gapless.config import CacheSettings, FetchSettings, Settings
from gapless.domain.intervals import Interval, union
from gapless.simulator import faults
from gapless.simulator.chart import Query
from gapless.simulator.happenings import Restatement
from support.scenes import REJECTED, ms, parts, reasons, scene, seconds, spans, told, why

# All daily bars before are final on this Sunday.
SUNDAY = "2025-06-08T12:00"
MONDAY = "2025-06-09T15:00"
WEDNESDAY = "2025-06-11T15:00"
MAY = ("2025-05-01", "2025-06-01")
CHECK_OF_MAY = "check 2025-05-01..2025-06-01"


# Rule 9: when


async def test_a_held_range_is_fetched_again_once_a_session(tmp_path: Path) -> None:
    """From a quarter of an hour after the opening on, and then not before the next one."""
    async with scene(tmp_path, "2025-06-09T21:00") as world:
        await world.ask(*MAY)
        world.at("2025-06-10T13:44:59")
        await world.ask(*MAY)
        assert world.upstream == []
        world.wait(1)
        answer = await world.ask(*MAY)
        assert world.upstream == [CHECK_OF_MAY]
        assert (answer.state, answer.requests, answer.why) == ("ready", 1, ())
        assert parts(answer) == {"cached": ["2025-05-01..2025-06-01"]}
        world.at("2025-06-11T13:44:59")
        await world.ask(*MAY)
        await world.ask("2025-05-10", "2025-05-20")
        assert world.upstream == []
        world.wait(1)
        await world.ask("2025-05-10", "2025-05-20")
        assert world.upstream == [CHECK_OF_MAY], "all of it, for that costs no more"


async def test_nothing_is_due_over_a_weekend(tmp_path: Path) -> None:
    """Friday's session was the latest one until Monday's has opened."""
    async with scene(tmp_path, "2025-06-06T13:45") as world:
        await world.ask(*MAY)
        world.at("2025-06-09T13:44:59")
        await world.ask(*MAY)
        assert world.upstream == []
        world.wait(1)
        await world.ask(*MAY)
        assert world.upstream == [CHECK_OF_MAY]


async def test_a_range_that_is_due_is_never_a_full_hit(tmp_path: Path) -> None:
    """The way past the plan, by the same words as before, ends at the due moment as well."""
    async with scene(tmp_path, "2025-06-09T21:00") as world:
        answer = await world.ask(*MAY)
        assert answer.fresh_until == seconds("2025-06-10T13:45") * 1000
        world.at("2025-06-10T13:44:59")
        assert world.hub.held(world.hub.question(world.request(*MAY))) is not None
        world.wait(1)
        assert world.hub.held(world.hub.question(world.request(*MAY))) is None


@pytest.mark.parametrize(
    ("every", "before", "then"),
    [("1h", "2025-06-09T15:59:59", ["check"]), ("never", "2025-06-20T15:00", [])],
)
@pytest.mark.parametrize("own", [False, True])
async def test_how_often_it_is_fetched_again_is_a_setting(
    tmp_path: Path, every: str, before: str, then: list[str], own: bool
) -> None:
    """After so many seconds, or never, instead of by sessions: of all providers or of one."""
    settings = Settings() if own else Settings(cache=CacheSettings(check=every))
    check = every if own else None
    async with scene(tmp_path, MONDAY, settings=settings, check=check) as world:
        await world.ask(*MAY)
        world.at(before)
        await world.ask(*MAY)
        assert world.upstream == []
        world.wait(2)
        await world.ask(*MAY)
        assert [one.split()[0] for one in world.upstream] == then


# Rule 9: how wide


async def test_what_else_is_not_fresh_is_taken_along(tmp_path: Path) -> None:
    """One request a session for all of a series' past; what lay between is held from then on."""
    async with scene(
        tmp_path, SUNDAY, settings=Settings(cache=CacheSettings(check_bars=5))
    ) as world:
        # With so few bars a request they are fetched apart.
        await world.ask("2025-04-01", "2025-04-04")
        await world.ask("2025-05-13", "2025-05-17")
        world.hub.searcher.rules.ageings.check_bars = CacheSettings().check_bars
        known = spans(union(row.interval for row in await world.known()))
        assert known == ["2025-04-01..2025-04-04T13:30", "2025-05-13..2025-05-17"]
        world.at(MONDAY)
        answer = await world.ask("2025-04-01", "2025-04-04")
        assert world.upstream == ["check 2025-04-01..2025-05-17"]
        assert parts(answer) == {"cached": ["2025-04-01..2025-04-04"]}
        between = await world.ask("2025-04-01", "2025-05-17")
        assert world.upstream == []
        assert parts(between) == {"cached": ["2025-04-01..2025-05-17"]}
        assert told(between) == world.truth("2025-04-01", "2025-05-17")


async def test_a_gap_and_what_is_not_fresh_are_one_request(tmp_path: Path) -> None:
    """Where a gap is fetched anyway, what is held beside it costs none of its own."""
    async with scene(tmp_path, SUNDAY) as world:
        await world.ask("2025-05-01", "2025-06-08")
        world.at(WEDNESDAY)
        answer = await world.ask("2025-06-08", "2025-06-11")
        assert world.upstream == ["gap 2025-05-01..2025-06-11"]
        assert parts(answer) == {"fetched": ["2025-06-08..2025-06-11"]}
        whole = await world.ask("2025-05-01", "2025-06-11")
        assert world.upstream == []
        assert parts(whole) == {"cached": ["2025-05-01..2025-06-11"]}
        assert told(whole) == world.truth("2025-05-01", "2025-06-11")


async def test_what_was_a_gap_is_told_from_what_was_fetched_again(tmp_path: Path) -> None:
    """`cached` is what was held, whether or not the one request brought it too."""
    async with scene(tmp_path, SUNDAY) as world:
        await world.ask("2025-05-01", "2025-06-08")
        world.at(WEDNESDAY)
        answer = await world.ask("2025-05-01", "2025-06-11")
        assert world.upstream == ["gap 2025-05-01..2025-06-11"]
        assert answer.state == "ready"
        assert parts(answer) == {
            "cached": ["2025-05-01..2025-06-08"],
            "fetched": ["2025-06-08..2025-06-11"],
        }
        assert told(answer) == world.truth("2025-05-01", "2025-06-11")


async def test_no_request_is_wider_than_upstream_allows(tmp_path: Path) -> None:
    """Seven days of bars of a minute: what is asked, and of the rest what is nearest to it."""
    async with scene(tmp_path, WEDNESDAY) as world:
        await world.ask("2025-06-04", "2025-06-07", "1m")
        await world.ask("2025-05-28", "2025-06-03", "1m")
        world.at("2025-06-12T15:00")
        await world.ask("2025-06-05", "2025-06-06", "1m")
        assert world.upstream == ["check 2025-05-31..2025-06-07"]
        # The rest is fetched when it is asked for.
        answer = await world.ask("2025-05-28", "2025-06-07", "1m")
        assert len(world.upstream) == 1
        assert told(answer) == world.truth("2025-05-28", "2025-06-07", "1m")


async def test_no_request_is_widened_beyond_so_many_bars(tmp_path: Path) -> None:
    """A setting bounds what is taken along, not what is asked."""
    async with scene(tmp_path, SUNDAY, settings=NARROW) as world:
        await world.ask("2025-04-01", "2025-06-01")
        world.at(MONDAY)
        await world.ask("2025-04-10", "2025-04-15")
        (asked,) = (one.interval for one in world.asked)
        assert asked.length == 20 * 86_400_000
        world.at(WEDNESDAY)
        await world.ask("2025-04-01", "2025-06-01")
        assert world.upstream == ["check 2025-04-01..2025-06-01"]


# Rule 9: too wide


def wide(query: Query) -> bool:
    """Whether a request reaches back as far as all that is held."""
    return query.period1 == seconds("2024-01-01")


def wider_than_a_week(query: Query) -> bool:
    """Whether a request is not for what is asked alone."""
    assert query.period1 is not None
    assert query.period2 is not None
    return query.period2 - query.period1 > 7 * 86_400


# A failure is tried again a few times, and does not open the breaker.
NARROW = Settings(cache=CacheSettings(check_bars=20))
UNWAITED = Settings(cache=CacheSettings(check_wait_s=0.0))
FEW_TRIES = Settings(fetch=FetchSettings(deadline_s=2.0, breaker_failures=10**6))


@pytest.mark.parametrize("fault", [faults.server_error(502), faults.hang()], ids=["502", "hang"])
async def test_a_gap_goes_alone_where_upstream_fails_at_more(
    tmp_path: Path, fault: faults.Fault
) -> None:
    """What is needed is fetched by itself, and what is held beside it the next time."""
    async with scene(tmp_path, SUNDAY, settings=FEW_TRIES) as world:
        await world.ask("2024-01-01", "2025-06-08")
        world.at(WEDNESDAY)
        await world.wait_for_upstream(0.5)
        world.sim.faults.fail_always(fault, when=wide)
        answer = await world.ask("2025-06-08", "2025-06-11")
        assert world.upstream[-1] == "gap 2025-06-08..2025-06-11"
        assert set(world.upstream[:-1]) == {"!gap 2024-01-01..2025-06-11"}
        assert (answer.state, answer.why) == ("ready", ())
        assert parts(answer) == {"fetched": ["2025-06-08..2025-06-11"]}
        assert told(answer) == world.truth("2025-06-08", "2025-06-11")


async def test_after_a_failure_less_is_taken_along_for_the_day(tmp_path: Path) -> None:
    """Half as much as was too wide, half of that if it fails as well; all when the day is over."""
    async with scene(tmp_path, SUNDAY, settings=FEW_TRIES) as world:
        await world.ask("2024-01-01", "2025-06-08")
        world.at(WEDNESDAY)
        lengths = []
        for first in ("2025-06-03", "2025-06-04", "2025-06-05"):
            world.sim.faults.fail_always(faults.server_error(502), when=wider_than_a_week)
            answer = await world.ask(first, f"{first}T20:00")
            assert (answer.state, world.asked[-1].error) == ("ready", None)
            (failed,) = {one.interval for one in world.asked if one.error is not None}
            lengths.append(failed.length)
        assert lengths == [lengths[0], lengths[0] // 2, lengths[0] // 4]
        world.sim.faults.clear()
        world.at("2025-06-12T16:00")
        await world.ask("2025-06-05", "2025-06-06")
        assert world.upstream == ["check 2024-01-01..2025-06-08"]


async def test_after_a_429_nothing_is_tried_alone(tmp_path: Path) -> None:
    """It says nothing about how much was asked; neither is the gap asked, nor less from then on."""
    async with scene(tmp_path, SUNDAY) as world:
        await world.ask("2024-01-01", "2025-06-08")
        world.at(WEDNESDAY)
        world.sim.faults.fail_next(faults.too_many_requests())
        answer = await world.ask("2025-06-01", "2025-06-11")
        assert world.upstream == ["!gap 2024-01-01..2025-06-11"]
        assert answer.state == "partial"
        assert reasons(answer) == [
            ("2025-06-01..2025-06-08", "rate_limited"),
            ("2025-06-08..2025-06-11", "rate_limited"),
        ]
        world.wait(60)
        await world.ask("2025-06-01", "2025-06-11")
        assert world.upstream == ["gap 2024-01-01..2025-06-11"]


async def test_who_waited_for_the_wider_part_plans_again(tmp_path: Path) -> None:
    """One task had all of it, and its failure is not that of who asked for another part."""
    async with scene(tmp_path, SUNDAY, settings=FEW_TRIES) as world:
        await world.ask("2024-01-01", "2025-06-08")
        world.at(WEDNESDAY)
        world.asked.clear()
        world.sim.clear_requests()
        # The first try waits, so that the second request finds it under way.
        world.sim.faults.fail_next(faults.held(faults.server_error(502)), when=wide)
        world.sim.faults.fail_always(faults.server_error(502), when=wide)
        gap = asyncio.ensure_future(
            world.hub.answer(world.hub.question(world.request("2025-06-08", "2025-06-11")))
        )
        await world.sim.reach(lambda: bool(world.sim.requests))
        held = asyncio.ensure_future(
            world.hub.answer(world.hub.question(world.request("2025-05-01", "2025-06-01")))
        )
        await asyncio.sleep(0)
        world.sim.release()
        assert (await gap).state == "ready"  # type: ignore[union-attr]
        assert (await held).state == "ready"  # type: ignore[union-attr]
        failed = {one.interval for one in world.asked if one.error is not None}
        assert spans(failed) == ["2024-01-01..2025-06-11"]
        alone, anew, *_ = (one.interval for one in world.asked if one.error is None)
        assert spans([alone]) == ["2025-06-08..2025-06-11"]
        assert anew.contains(Interval(ms("2025-05-01"), ms("2025-06-01")))


# Rule 10: while it waits


async def test_an_answer_waits_so_long_for_a_check_and_no_longer(tmp_path: Path) -> None:
    """What is held is answered as stale; the check goes on, and the next answer has it."""
    settings = Settings(cache=CacheSettings(check_wait_s=0.01))
    async with scene(tmp_path, SUNDAY, settings=settings) as world:
        world.market.add(Restatement("AAA", date(2025, 5, 15), seconds(MONDAY), close=1.01))
        held = await world.ask(*MAY)
        world.at(MONDAY)
        world.sim.faults.fail_next(faults.hang())
        answer = await world.ask(*MAY)
        assert answer.state == "stale"
        assert reasons(answer) == [("2025-05-01..2025-06-01", "check_pending")]
        assert parts(answer) == {"cached": ["2025-05-01..2025-06-01"]}
        assert told(answer) == told(held)
        await world.sim.reach(lambda: bool(world.sim.requests))
        leases = world.hub.leases.of(answer.key)
        world.sim.release()
        await world.hub.leases.wait(leases)
        again = await world.ask(*MAY)
        assert world.upstream == []
        assert (again.state, again.why) == ("ready", ())
        assert told(again) == world.truth(*MAY) != told(held)


async def test_a_gap_is_waited_for_to_its_end(tmp_path: Path) -> None:
    """The bound is for what is held: what is not has no other answer."""
    async with scene(tmp_path, SUNDAY, settings=UNWAITED) as world:
        await world.ask(*MAY)
        world.at(WEDNESDAY)
        answer = await world.ask("2025-05-01", "2025-06-11")
        assert (answer.state, answer.why) == ("ready", ())
        assert told(answer) == world.truth("2025-05-01", "2025-06-11")


async def test_a_strict_request_waits_for_the_check(tmp_path: Path) -> None:
    """It takes no stale answer while one that is fresh may still come."""
    async with scene(tmp_path, SUNDAY, settings=UNWAITED) as world:
        await world.ask(*MAY)
        world.at(MONDAY)
        answer = await world.ask(*MAY, strict=True)
        assert world.upstream == [CHECK_OF_MAY]
        assert (answer.state, answer.why) == ("ready", ())


async def test_a_check_that_fails_is_said_and_tried_again_after_a_while(tmp_path: Path) -> None:
    """What is held is answered as stale, with the reason, and upstream left alone meanwhile."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(Restatement("AAA", date(2025, 5, 15), seconds(MONDAY), close=1.01))
        held = await world.ask(*MAY)
        world.at(MONDAY)
        world.sim.faults.fail_always(REJECTED)
        for requests in (1, 0, 0):
            answer = await world.ask(*MAY)
            assert len(world.upstream) == requests
            assert answer.state == "stale"
            assert reasons(answer) == [("2025-05-01..2025-06-01", "upstream_rejected")]
            assert "due to be fetched again" in why(answer, "2025-05-01..2025-06-01")
            assert answer.last_error
            assert parts(answer) == {"cached": ["2025-05-01..2025-06-01"]}
            assert told(answer) == told(held)
            assert world.hub.held(world.hub.question(world.request(*MAY))) is None
        world.sim.faults.clear()
        world.wait(59)
        assert (await world.ask(*MAY)).state == "stale"
        assert world.upstream == []
        world.wait(1)
        answer = await world.ask(*MAY)
        assert world.upstream == [CHECK_OF_MAY]
        assert answer.state == "ready"
        assert told(answer) == world.truth(*MAY) != told(held)


async def test_a_check_is_not_tried_again_before_upstream_allows(tmp_path: Path) -> None:
    """A pause that upstream names is longer than ours, and kept."""
    async with scene(tmp_path, SUNDAY) as world:
        await world.ask(*MAY)
        world.at(MONDAY)
        world.sim.faults.fail_next(faults.too_many_requests(retry_after="300"))
        answer = await world.ask(*MAY)
        assert reasons(answer) == [("2025-05-01..2025-06-01", "rate_limited")]
        world.wait(299)
        assert (await world.ask(*MAY)).state == "stale"
        assert world.upstream == []
        world.wait(1)
        assert (await world.ask(*MAY)).state == "ready"
        assert world.upstream == [CHECK_OF_MAY]


async def test_a_gap_is_not_held_up_by_a_check_that_failed(tmp_path: Path) -> None:
    """It goes alone, and what is held beside it is answered as stale for the same reason."""
    async with scene(tmp_path, SUNDAY) as world:
        await world.ask("2025-05-01", "2025-06-08")
        world.at(WEDNESDAY)
        world.sim.faults.fail_next(REJECTED)
        await world.ask(*MAY)
        answer = await world.ask("2025-05-01", "2025-06-11")
        assert world.upstream == ["gap 2025-06-08..2025-06-11"]
        assert answer.state == "stale"
        assert reasons(answer) == [("2025-05-01..2025-06-08", "upstream_rejected")]
        assert parts(answer)["fetched"] == ["2025-06-08..2025-06-11"]


async def test_many_who_ask_at_the_opening_cost_one_check(tmp_path: Path) -> None:
    """Different parts of one series at once: the first request brings all of it."""
    async with scene(tmp_path, SUNDAY) as world:
        await world.ask("2025-05-01", "2025-06-08")
        world.at(MONDAY)
        world.asked.clear()
        ranges = [(f"2025-05-{day:02}", f"2025-05-{day + 3:02}") for day in range(1, 28)]
        answers = await asyncio.gather(
            *(world.hub.answer(world.hub.question(world.request(*one))) for one in ranges)
        )
        assert world.upstream == ["check 2025-05-01..2025-06-08"]
        assert {one.state for one in answers} == {"ready"}  # type: ignore[union-attr]
