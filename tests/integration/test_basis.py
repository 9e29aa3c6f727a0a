"""One basis: what the hub asks and answers when splits, dividends and corrections come between.

Scenes for the stitching rules 9 to 13. Sessions of AAA are 13:30 to 20:00 UTC in summer; 2 June
2025 is a Monday.
"""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gapless.simulator import faults
from gapless.simulator.happenings import Dividend, MissingRow, Restatement, Split
from support.scenes import REJECTED, parts, reasons, scene, seconds, told, why

SPLIT = Split("AAA", date(2025, 6, 10), 4)
DIVIDEND = Dividend("AAA", date(2025, 6, 10), 1.5)
# All daily bars before are final on this Sunday.
SUNDAY = "2025-06-08T12:00"
WEDNESDAY = "2025-06-11T15:00"


# Rule 9: comparing


async def test_without_a_change_a_seam_costs_nothing(tmp_path: Path) -> None:
    """A gap beside held bars is one request, widened by the nearest of them."""
    async with scene(tmp_path, SUNDAY) as world:
        await world.ask("2025-05-01", "2025-06-08")
        assert world.upstream == ["gap 2025-05-01..2025-06-08"]
        world.at(WEDNESDAY)
        answer = await world.ask("2025-05-01", "2025-06-11")
        assert world.upstream == ["gap 2025-06-06T13:30..2025-06-11"]
        assert parts(answer) == {
            "cached": ["2025-05-01..2025-06-08"],
            "fetched": ["2025-06-08..2025-06-11"],
        }
        assert told(answer) == world.truth("2025-05-01", "2025-06-11")


@pytest.mark.parametrize("change", [SPLIT, DIVIDEND], ids=["split", "dividend"])
async def test_a_change_between_two_fetches_shows_at_the_seam(
    tmp_path: Path, change: Split | Dividend
) -> None:
    """The held bars are fetched anew on the new basis; what showed the change is kept."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(change)
        before = await world.ask("2025-05-01", "2025-06-08")
        world.at(WEDNESDAY)
        answer = await world.ask("2025-05-01", "2025-06-11")
        assert world.upstream == [
            "gap 2025-06-06T13:30..2025-06-11",
            # Its seam is Monday, for Tuesday is not final yet.
            "gap 2025-05-01..2025-06-10T13:30",
        ]
        assert answer.state == "ready"
        assert parts(answer) == {"fetched": ["2025-05-01..2025-06-11"]}
        assert told(answer) == world.truth("2025-05-01", "2025-06-11")
        assert told(answer)[0] != told(before)[0]
        assert answer.entry.state.generation == 1


async def test_a_dividend_is_no_change_of_intraday_bars(tmp_path: Path) -> None:
    """Intraday bars have no adjclose, so that a dividend costs nothing."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(DIVIDEND)
        await world.ask("2025-06-02", "2025-06-07", "1h")
        world.at(WEDNESDAY)
        answer = await world.ask("2025-06-02", "2025-06-11", "1h")
        assert len(world.upstream) == 1
        assert answer.entry.state.generation == 0
        assert told(answer) == world.truth("2025-06-02", "2025-06-11", "1h")


async def test_a_far_gap_is_fetched_and_then_the_oldest_bar_probed(tmp_path: Path) -> None:
    """Where no held bar is within ten, one bar is fetched by itself: after the gap."""
    async with scene(tmp_path, SUNDAY) as world:
        await world.ask("2025-04-01", "2025-04-10")
        answer = await world.ask("2025-05-05", "2025-05-17")
        assert world.upstream == [
            "gap 2025-05-05..2025-05-17",
            "probe 2025-04-01T13:30..2025-04-02T13:30",
        ]
        assert told(answer) == world.truth("2025-05-05", "2025-05-17")
        # Nine days from the last held bar to the gap: near enough again.
        await world.ask("2025-04-18", "2025-04-19")
        assert world.upstream == ["gap 2025-04-09T13:30..2025-04-19"]


async def test_a_gap_fetched_before_the_probe_that_shows_a_change_is_not_kept(
    tmp_path: Path,
) -> None:
    """The change may have come between the two requests, so the gap is fetched once more."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(SPLIT)
        await world.ask("2025-04-01", "2025-04-10")
        world.at(WEDNESDAY)
        answer = await world.ask("2025-05-05", "2025-05-17")
        assert world.upstream == [
            "gap 2025-05-05..2025-05-17",
            "probe 2025-04-01T13:30..2025-04-02T13:30",
            "gap 2025-05-05..2025-05-17",
        ]
        assert told(answer) == world.truth("2025-05-05", "2025-05-17")
        assert answer.entry.state.generation == 1
        # The rest is fetched anew when it is asked for, and compared with what is held now.
        answer = await world.ask("2025-04-01", "2025-04-10")
        assert world.upstream == [
            "gap 2025-04-01..2025-04-10",
            "probe 2025-05-05T13:30..2025-05-06T13:30",
        ]
        assert told(answer) == world.truth("2025-04-01", "2025-04-10")


async def test_provisional_bars_alone_are_fetched_along(tmp_path: Path) -> None:
    """Where nothing held can be compared, one request brings all of it on one basis."""
    async with scene(tmp_path, WEDNESDAY) as world:
        first = await world.ask("2025-06-11")
        assert world.upstream == ["gap 2025-06-11..2025-06-11T15:00"]
        assert first.refresh_after is not None
        world.wait(60)
        answer = await world.ask("2025-06-02")
        assert world.upstream == ["gap 2025-06-02..2025-06-11T15:01"]
        assert parts(answer) == {"fetched": ["2025-06-02..2025-06-11T15:01"]}
        assert told(answer) == world.truth("2025-06-02")


# Rule 10: a full hit has no seam


async def test_a_full_hit_is_probed_once_a_day_and_a_session(tmp_path: Path) -> None:
    """Not before a day is over, and then once: the oldest held bar."""
    async with scene(tmp_path, "2025-06-09T15:00") as world:
        await world.ask("2025-05-01", "2025-06-01")
        world.at("2025-06-10T15:00")
        await world.ask("2025-05-01", "2025-06-01")
        assert world.upstream == [], "a session closed, but it is not more than a day"
        world.wait(1)
        answer = await world.ask("2025-05-01", "2025-06-01")
        assert world.upstream == ["probe 2025-05-01T13:30..2025-05-02T13:30"]
        assert (answer.state, answer.requests) == ("ready", 1)
        assert parts(answer) == {"cached": ["2025-05-01..2025-06-01"]}
        assert told(answer) == world.truth("2025-05-01", "2025-06-01")
        await world.ask("2025-05-01", "2025-06-01")
        await world.ask("2025-05-10", "2025-05-20")
        assert world.upstream == []


async def test_a_full_hit_is_not_probed_where_no_session_closed(tmp_path: Path) -> None:
    """Over a weekend nothing can have changed, however long it is."""
    async with scene(tmp_path, "2025-06-06T20:30") as world:
        await world.ask("2025-05-01", "2025-06-01")
        world.at("2025-06-09T19:59:59")
        await world.ask("2025-05-01", "2025-06-01")
        assert world.upstream == []
        world.wait(1)
        await world.ask("2025-05-01", "2025-06-01")
        assert world.upstream == ["probe 2025-05-01T13:30..2025-05-02T13:30"]


@pytest.mark.parametrize("change", [SPLIT, DIVIDEND], ids=["split", "dividend"])
async def test_a_probe_that_shows_a_change_has_all_fetched_anew(
    tmp_path: Path, change: Split | Dividend
) -> None:
    """A range that lies in the past is answered on today's basis."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(change)
        await world.ask("2025-05-01", "2025-06-01")
        world.at("2025-06-10T13:29:59")
        await world.ask("2025-05-01", "2025-06-01")
        world.at("2025-06-11T21:00")
        answer = await world.ask("2025-05-01", "2025-06-01")
        assert world.upstream == [
            "probe 2025-05-01T13:30..2025-05-02T13:30",
            "gap 2025-05-01..2025-06-01",
        ]
        assert answer.state == "ready"
        assert parts(answer) == {"fetched": ["2025-05-01..2025-06-01"]}
        assert told(answer) == world.truth("2025-05-01", "2025-06-01")


async def test_a_probe_that_fails_is_said_and_tried_again_after_a_while(tmp_path: Path) -> None:
    """What is held is answered as stale, with the reason, and upstream left alone meanwhile."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(SPLIT)
        held = await world.ask("2025-05-01", "2025-06-01")
        world.at(WEDNESDAY)
        world.sim.faults.fail_always(REJECTED)
        for requests in (1, 0, 0):
            answer = await world.ask("2025-05-01", "2025-06-01")
            assert len(world.upstream) == requests
            assert answer.state == "stale"
            assert reasons(answer) == [("2025-05-01..2025-06-01", "upstream_rejected")]
            assert "could not be checked" in answer.why[0].message
            assert answer.last_error
            assert parts(answer) == {"cached": ["2025-05-01..2025-06-01"]}
            assert told(answer) == told(held)
            assert world.hub.held(world.request("2025-05-01", "2025-06-01")) is None
        world.sim.faults.clear()
        world.wait(59)
        assert (await world.ask("2025-05-01", "2025-06-01")).state == "stale"
        assert world.upstream == []
        world.wait(1)
        answer = await world.ask("2025-05-01", "2025-06-01")
        assert world.upstream == [
            "probe 2025-05-01T13:30..2025-05-02T13:30",
            "gap 2025-05-01..2025-06-01",
        ]
        assert answer.state == "ready"
        assert told(answer) == world.truth("2025-05-01", "2025-06-01")


async def test_a_probe_is_not_tried_again_before_upstream_allows(tmp_path: Path) -> None:
    """A pause that upstream names is longer than ours, and kept."""
    async with scene(tmp_path, SUNDAY) as world:
        await world.ask("2025-05-01", "2025-06-01")
        world.at(WEDNESDAY)
        world.sim.faults.fail_next(faults.too_many_requests(retry_after="300"))
        answer = await world.ask("2025-05-01", "2025-06-01")
        assert reasons(answer) == [("2025-05-01..2025-06-01", "rate_limited")]
        world.wait(299)
        assert (await world.ask("2025-05-01", "2025-06-01")).state == "stale"
        assert world.upstream == []
        world.wait(1)
        assert (await world.ask("2025-05-01", "2025-06-01")).state == "ready"
        assert len(world.upstream) == 1


# Rule 11: a local restatement


def restated(*days: int, month: int = 6, **by: float) -> list[Restatement]:
    """Return corrections of these days, seen from Monday the 9th on."""
    seen = seconds("2025-06-09T12:00")
    return [Restatement("AAA", date(2025, month, day), seen, **by) for day in days]


@pytest.mark.parametrize("by", [{"close": 1.01}, {"volume": 1.2}, {"high": 1.05, "volume": 0.5}])
async def test_a_restated_seam_is_followed_backwards(tmp_path: Path, by: dict[str, float]) -> None:
    """Held bars are fetched again in doubling stretches until one agrees; the basis stands."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(*restated(4, 5, 6, **by))
        await world.ask("2025-04-01", "2025-06-08")
        world.at(WEDNESDAY)
        answer = await world.ask("2025-04-01", "2025-06-11")
        assert world.upstream == [
            "gap 2025-06-06T13:30..2025-06-11",
            "restatement 2025-06-04T13:30..2025-06-06T13:30",
            "restatement 2025-05-31T13:30..2025-06-04T13:30",
        ]
        assert answer.state == "ready"
        assert answer.entry.state.generation == 0
        assert told(answer) == world.truth("2025-04-01", "2025-06-11")
        assert parts(answer)["cached"][0] == "2025-04-01..2025-05-31T13:30"


async def test_a_restated_oldest_bar_is_followed_forwards(tmp_path: Path) -> None:
    """From the bar that was probed, away from what is asked: towards today."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(*restated(1, 2, 3, month=4, close=0.98))
        await world.ask("2025-04-01", "2025-05-01")
        world.at(WEDNESDAY)
        answer = await world.ask("2025-04-01", "2025-05-01")
        assert world.upstream == [
            "probe 2025-04-01T13:30..2025-04-02T13:30",
            "restatement 2025-04-02T13:30..2025-04-04T13:30",
            "restatement 2025-04-04T13:30..2025-04-08T13:30",
        ]
        assert answer.entry.state.generation == 0
        assert told(answer) == world.truth("2025-04-01", "2025-05-01")
        assert answer.state == "ready"


async def test_a_withdrawn_seam_is_a_restatement(tmp_path: Path) -> None:
    """A bar that upstream has no more goes, and its neighbour is asked whether it stands."""
    async with scene(tmp_path, SUNDAY) as world:
        gone = MissingRow("AAA", date(2025, 6, 6), from_s=seconds("2025-06-09T12:00"))
        world.market.add(gone)
        held = await world.ask("2025-05-01", "2025-06-08")
        world.at(WEDNESDAY)
        answer = await world.ask("2025-05-01", "2025-06-11")
        assert world.upstream == [
            "gap 2025-06-06T13:30..2025-06-11",
            "restatement 2025-06-04T13:30..2025-06-06T13:30",
        ]
        assert told(answer) == world.truth("2025-05-01", "2025-06-11")
        assert told(held)[-1] not in told(answer)


async def test_if_all_held_bars_are_restated_another_vouches_for_the_basis(tmp_path: Path) -> None:
    """A stretch that agrees nowhere proves nothing, so a bar elsewhere is probed."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(*restated(5, 6, close=1.01))
        await world.ask("2025-04-01", "2025-04-10")
        await world.ask("2025-06-05", "2025-06-08")
        world.at(WEDNESDAY)
        answer = await world.ask("2025-06-05", "2025-06-11")
        assert world.upstream == [
            "gap 2025-06-06T13:30..2025-06-11",
            "restatement 2025-06-05..2025-06-06T13:30",
            "probe 2025-04-01T13:30..2025-04-02T13:30",
        ]
        assert answer.entry.state.generation == 0
        assert told(answer) == world.truth("2025-06-05", "2025-06-11")


async def test_a_split_behind_a_restatement_is_still_a_split(tmp_path: Path) -> None:
    """The restated seam hides the split; the bars behind it show it."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(SPLIT, *restated(6, close=1.01))
        await world.ask("2025-05-01", "2025-06-08")
        world.at(WEDNESDAY)
        answer = await world.ask("2025-05-01", "2025-06-11")
        assert world.upstream == [
            "gap 2025-06-06T13:30..2025-06-11",
            "restatement 2025-06-04T13:30..2025-06-06T13:30",
            "gap 2025-05-01..2025-06-11",
        ]
        assert answer.entry.state.generation == 1
        assert told(answer) == world.truth("2025-05-01", "2025-06-11")


# Rule 12: after a bump


async def test_a_bump_whose_fetch_fails_is_answered_from_the_old_basis(tmp_path: Path) -> None:
    """Stale, all of one generation, exactly the old data; once upstream heals, the new."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(SPLIT)
        held = await world.ask("2025-05-01", "2025-06-08")
        world.at(WEDNESDAY)
        world.sim.faults.fail_always(
            faults.server_error(502), when=lambda asked: asked.period1 == seconds("2025-05-01")
        )
        answer = await world.ask("2025-05-01", "2025-06-08")
        assert world.upstream[0] == "probe 2025-05-01T13:30..2025-05-02T13:30"
        assert set(world.upstream[1:]) == {"!gap 2025-05-01..2025-06-08"}
        assert answer.state == "stale"
        assert answer.entry.state.generation == 1
        assert reasons(answer) == [("2025-05-01..2025-06-08", "upstream_unavailable")]
        assert "HTTP 502" in answer.last_error
        assert parts(answer) == {"cached": ["2025-05-01..2025-06-08"]}
        assert told(answer) == told(held)

        again = await world.ask("2025-05-01", "2025-06-08")
        assert world.sim.requests == [], "the breaker is open"
        assert (again.state, told(again)) == ("stale", told(held))

        world.sim.faults.clear()
        world.wait(60)
        healed = await world.ask("2025-05-01", "2025-06-08")
        assert world.upstream == ["gap 2025-05-01..2025-06-08"]
        assert healed.state == "ready"
        assert told(healed) == await world.whole("2025-05-01", "2025-06-08")


async def test_a_half_done_change_of_basis_answers_one_basis_alone(tmp_path: Path) -> None:
    """The seam's own gap is on the new basis, the rest could not be had: they are not mixed."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(SPLIT)
        held = await world.ask("2025-05-01", "2025-06-08")
        world.at(WEDNESDAY)
        world.sim.faults.fail_always(
            REJECTED, when=lambda asked: asked.period1 == seconds("2025-05-01")
        )
        answer = await world.ask("2025-05-01", "2025-06-11")
        assert world.upstream == [
            "gap 2025-06-06T13:30..2025-06-11",
            "!gap 2025-05-01..2025-06-10T13:30",
        ]
        assert answer.state == "partial"
        assert parts(answer) == {
            "cached": ["2025-05-01..2025-06-08"],
            "missing": ["2025-06-08..2025-06-11"],
        }
        assert "HTTP 400" not in why(answer, "2025-06-08..2025-06-11")
        assert "not mixed" in why(answer, "2025-06-08..2025-06-11")
        assert told(answer) == told(held)
        world.sim.faults.clear()
        healed = await world.ask("2025-05-01", "2025-06-11")
        assert world.upstream == ["gap 2025-05-01..2025-06-10T13:30"]
        assert healed.state == "ready"
        assert told(healed) == await world.whole("2025-05-01", "2025-06-11")
        # The new part by itself was never in doubt.
        assert (await world.ask("2025-06-08", "2025-06-11")).state == "ready"


async def test_the_rest_of_an_old_generation_is_fetched_when_it_is_asked_for(
    tmp_path: Path,
) -> None:
    """A few days' question does not have years fetched anew."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(SPLIT)
        await world.ask("2024-01-01", "2025-06-08")
        world.at(WEDNESDAY)
        await world.ask("2025-06-05", "2025-06-11")
        assert world.upstream == [
            "gap 2025-06-06T13:30..2025-06-11",
            "gap 2025-06-05..2025-06-10T13:30",
        ]
        answer = await world.ask("2024-01-01", "2025-06-11")
        assert world.upstream == ["gap 2024-01-01..2025-06-06T13:30"]
        assert told(answer) == world.truth("2024-01-01", "2025-06-11")


def nearly(held: list[dict[str, Any]], true: list[dict[str, Any]]) -> bool:
    """Whether records are alike to a millionth."""
    return [set(one) for one in held] == [set(one) for one in true] and all(
        value == other
        or (value is not None and other is not None and math.isclose(value, other, rel_tol=1e-6))
        for one, two in zip(held, true, strict=True)
        for value, other in zip(one.values(), two.values(), strict=True)
    )


# Each: what leaves the window, what stays in it, when they are fetched, the split, the hour after.
LEFT_BEHIND = {
    "15m": (
        ("2025-06-02", "2025-06-07"),
        ("2025-06-16", "2025-06-21"),
        "2025-06-25T12:00",
        date(2025, 8, 5),
        "2025-08-08T12:00",
    ),
    "1h": (
        ("2024-01-08", "2024-01-13"),
        ("2024-02-19", "2024-02-24"),
        "2024-03-01T12:00",
        date(2026, 2, 10),
        "2026-02-12T12:00",
    ),
}


@pytest.mark.parametrize("interval", LEFT_BEHIND)
async def test_bars_that_upstream_no_longer_serves_are_rescaled(
    tmp_path: Path, interval: str
) -> None:
    """A bar still served shows the ratio; by it the others are put on today's basis, and marked."""
    gone, served, then, ex_date, now = LEFT_BEHIND[interval]
    async with scene(tmp_path, then) as world:
        world.market.add(Split("AAA", ex_date, 3))
        await world.ask(*gone, interval)
        await world.ask(*served, interval)
        world.at(now)
        answer = await world.ask(*gone, interval)
        assert [one.split()[0] for one in world.upstream] == ["probe"]
        assert answer.state == "ready"
        assert answer.entry.state.generation == 1
        assert reasons(answer) == [(f"{gone[0]}..{gone[1]}", "rescaled")]
        assert parts(answer) == {"cached": [f"{gone[0]}..{gone[1]}"]}
        assert nearly(told(answer), world.truth(*gone, interval))
        # Once is enough, and the mark stays.
        again = await world.ask(*gone, interval)
        assert world.upstream == []
        assert (told(again), reasons(again)) == (told(answer), reasons(answer))
        # What upstream still serves is fetched, not worked out.
        fresh = await world.ask(*served, interval)
        assert [one.split()[0] for one in world.upstream] == ["gap"]
        assert (told(fresh), fresh.why) == (world.truth(*served, interval), ())


async def test_bars_that_nothing_can_vouch_for_are_kept_and_marked(tmp_path: Path) -> None:
    """No bar that is held is served any more, so that their basis cannot be known."""
    async with scene(tmp_path, "2025-06-08T12:00") as world:
        world.market.add(Split("AAA", date(2025, 8, 5), 3))
        held = await world.ask("2025-06-02", "2025-06-07", "15m")
        world.at("2025-08-15T12:00")
        answer = await world.ask("2025-08-11", "2025-08-13", "15m")
        assert world.upstream == ["gap 2025-08-11..2025-08-13"]
        assert (answer.state, answer.why) == ("ready", ())
        old = await world.ask("2025-06-02", "2025-06-07", "15m")
        assert world.upstream == []
        assert reasons(old) == [("2025-06-02..2025-06-07", "unverified")]
        assert told(old) == told(held)


async def test_what_nothing_vouches_for_stays_marked_after_a_later_split(tmp_path: Path) -> None:
    """The later split's ratio is not all that is between those bars and today."""
    async with scene(tmp_path, "2025-06-08T12:00") as world:
        world.market.add(Split("AAA", date(2025, 8, 5), 3), Split("AAA", date(2025, 8, 19), 2))
        held = await world.ask("2025-06-02", "2025-06-07", "15m")
        world.at("2025-08-15T12:00")
        await world.ask("2025-08-11", "2025-08-13", "15m")
        world.at("2025-08-22T12:00")
        answer = await world.ask("2025-06-02", "2025-06-07", "15m")
        assert answer.entry.state.generation == 1
        assert reasons(answer) == [("2025-06-02..2025-06-07", "unverified")]
        assert [one["close"] * 0.5 for one in told(held)] == [one["close"] for one in told(answer)]


# What upstream no longer serves and is not held


async def test_a_range_partly_out_of_window_is_partial(tmp_path: Path) -> None:
    """What upstream still serves is fetched; what it does not is missing, with that reason."""
    async with scene(tmp_path, "2025-08-15T12:00") as world:
        answer = await world.ask("2025-06-02", "2025-06-21", "15m")
        # Sixty days back, and an hour inside of it.
        assert world.upstream == ["gap 2025-06-16T13:00..2025-06-21"]
        assert answer.state == "partial"
        assert parts(answer) == {
            "fetched": ["2025-06-16T13:00..2025-06-21"],
            "missing": ["2025-06-02..2025-06-16T13:00"],
        }
        assert reasons(answer) == [("2025-06-02..2025-06-16T13:00", "out_of_window")]
        assert told(answer) == world.truth("2025-06-16T13:00", "2025-06-21", "15m")
        again = await world.ask("2025-06-02", "2025-06-21", "15m")
        assert world.upstream == []
        assert again.state == "partial"


async def test_a_range_wholly_out_of_window_is_an_error(tmp_path: Path) -> None:
    """Nothing is asked, for it is known that upstream would refuse."""
    async with scene(tmp_path, "2025-08-15T12:00") as world:
        error = await world.refused("2025-06-02", "2025-06-07", interval="15m")
        assert error.reason == "out_of_window"
        assert world.sim.requests == []
        assert await world.known("15m") == ()


# Rule 13: generations never mix


async def test_chunks_overlap_by_one_bar(tmp_path: Path) -> None:
    """A range longer than one request may span comes in several, each begun at a known bar."""
    async with scene(tmp_path, WEDNESDAY) as world:
        answer = await world.ask("2025-05-25", "2025-06-11", "1m")
        assert world.upstream == [
            "gap 2025-05-25..2025-06-01",
            "gap 2025-05-30T19:59..2025-06-06T19:59",
            "gap 2025-06-06T19:58..2025-06-11",
        ]
        assert (answer.state, answer.requests) == ("ready", 3)
        assert parts(answer) == {"fetched": ["2025-05-25..2025-06-11"]}
        assert told(answer) == world.truth("2025-05-25", "2025-06-11", "1m")


async def test_a_split_between_two_chunks_begins_all_anew(tmp_path: Path) -> None:
    """The bar that both chunks have differs, so that neither is kept."""
    # At this pace the second chunk is asked two seconds after the first.
    async with scene(tmp_path, WEDNESDAY, rate=0.5, burst=1) as world:
        world.market.add(Split("AAA", date(2025, 6, 12), 4, seen_s=seconds("2025-06-11T15:00:01")))
        before = world.truth("2025-06-01", "2025-06-11", "1m")
        answer = await world.ask("2025-06-01", "2025-06-11", "1m")
        assert (
            world.upstream
            == [
                "gap 2025-06-01..2025-06-08",
                "gap 2025-06-06T19:59..2025-06-11",
            ]
            * 2
        )
        assert answer.state == "ready"
        assert answer.entry.state.generation == 0
        assert told(answer) == world.truth("2025-06-01", "2025-06-11", "1m")
        assert told(answer)[0] != before[0]


async def test_chunks_that_never_agree_store_nothing(tmp_path: Path) -> None:
    """Hosts on two bases in turn: an error after the third time, and no coverage."""
    async with scene(tmp_path, WEDNESDAY, lags=(0.0, 86_400.0)) as world:
        world.market.add(Split("AAA", date(2025, 6, 11), 4))
        world.sim.alternate_edges = True
        error = await world.refused("2025-06-01", "2025-06-10", interval="1m")
        assert error.reason == "upstream_unavailable"
        assert len(world.sim.requests) == 6
        assert await world.known("1m") == ()
        world.sim.alternate_edges = False
        answer = await world.ask("2025-06-01", "2025-06-10", "1m")
        assert told(answer) == world.truth("2025-06-01", "2025-06-10", "1m")


async def test_hosts_that_disagree_are_not_chased_for_ever(tmp_path: Path) -> None:
    """A day apart with a split between: after a few changes one basis is answered, never two."""
    async with scene(tmp_path, SUNDAY, lags=(0.0, 86_400.0)) as world:
        world.market.add(Split("AAA", date(2025, 6, 11), 4))
        held = await world.ask("2025-05-01", "2025-06-08")
        world.at(WEDNESDAY)
        world.sim.alternate_edges = True
        answer = await world.ask("2025-05-01", "2025-06-11")
        assert world.upstream == [
            "gap 2025-06-06T13:30..2025-06-11",
            "gap 2025-05-01..2025-06-10T13:30",
            "gap 2025-06-06T13:30..2025-06-11",
        ]
        # The first host's part is held on another basis by now, and so it is not answered.
        assert answer.state == "partial"
        assert parts(answer) == {
            "fetched": ["2025-05-01..2025-06-08"],
            "missing": ["2025-06-08..2025-06-11"],
        }
        assert "not mixed" in why(answer, "2025-06-08..2025-06-11")
        assert "changing bases" in why(answer, "2025-05-01..2025-06-11")
        assert told(answer) == told(held)
        world.sim.alternate_edges = False
        healed = await world.ask("2025-05-01", "2025-06-11")
        assert healed.state == "ready"
        assert told(healed) == await world.whole("2025-05-01", "2025-06-11")


async def test_a_full_hit_is_of_one_host_even_where_two_disagree(tmp_path: Path) -> None:
    """The probe of one host shows a split, the other then serves all without it: one basis."""
    async with scene(tmp_path, SUNDAY, lags=(0.0, 86_400.0)) as world:
        world.market.add(Split("AAA", date(2025, 6, 11), 4))
        held = await world.ask("2025-05-01", "2025-06-08")
        world.at(WEDNESDAY)
        world.sim.alternate_edges = True
        answer = await world.ask("2025-05-01", "2025-06-08")
        assert len(world.upstream) == 2
        assert answer.state == "ready"
        assert told(answer) == told(held)
