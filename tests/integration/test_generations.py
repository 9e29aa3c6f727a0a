"""Generations: what is answered after a change of basis, and what never stands in one answer.

Scenes for the stitching rules 12 and 13; how a change is found is in test_basis.py.
"""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gapless.simulator import faults
from gapless.simulator.happenings import Split
from support.scenes import REJECTED, parts, reasons, scene, seconds, told, why

SPLIT = Split("AAA", date(2025, 6, 10), 4)
# All daily bars before are final on this Sunday.
SUNDAY = "2025-06-08T12:00"
WEDNESDAY = "2025-06-11T15:00"


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


@pytest.mark.parametrize("fails", [False, True])
async def test_what_is_half_out_of_window_is_fetched_and_rescaled(
    tmp_path: Path, fails: bool
) -> None:
    """One stretch across the edge of the window: two ways to today's basis, or none."""
    async with scene(tmp_path, "2025-06-25T12:00") as world:
        world.market.add(Split("AAA", date(2025, 8, 5), 3))
        asked = ("2025-06-02", "2025-06-21", "15m")
        held = await world.ask(*asked)
        world.at("2025-08-08T12:00")
        if fails:
            world.sim.faults.fail_always(
                REJECTED, when=lambda one: one.period2 == seconds("2025-06-21")
            )
            answer = await world.ask(*asked)
            assert answer.state == "stale"
            assert told(answer) == told(held)
            assert parts(answer) == {"cached": ["2025-06-02..2025-06-21"]}
            world.sim.faults.clear()
        answer = await world.ask(*asked)
        assert world.upstream == [
            *([] if fails else ["probe 2025-06-09T13:30..2025-06-09T13:45"]),
            "gap 2025-06-09T13:00..2025-06-21",
        ]
        assert answer.state == "ready"
        assert reasons(answer) == [("2025-06-02..2025-06-09T13:00", "rescaled")]
        assert parts(answer) == {
            "cached": ["2025-06-02..2025-06-09T13:00"],
            "fetched": ["2025-06-09T13:00..2025-06-21"],
        }
        assert nearly(told(answer), world.truth(*asked))


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


async def test_a_full_hit_that_nothing_can_vouch_for_is_marked(tmp_path: Path) -> None:
    """Nothing is fetched, and nothing can be probed: the answer does not pass for verified."""
    async with scene(tmp_path, "2025-06-08T12:00") as world:
        world.market.add(Split("AAA", date(2025, 8, 5), 3))
        held = await world.ask("2025-06-02", "2025-06-07", "15m")
        world.at("2025-08-15T12:00")
        for _ in range(2):
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


async def test_a_chunk_that_fails_leaves_nothing_of_the_others(tmp_path: Path) -> None:
    """Chunks are stored together or not at all."""
    async with scene(tmp_path, WEDNESDAY) as world:
        world.sim.faults.fail_always(
            REJECTED, when=lambda asked: asked.period1 != seconds("2025-06-01")
        )
        error = await world.refused("2025-06-01", "2025-06-11", interval="1m")
        assert error.reason == "upstream_rejected"
        assert world.upstream == [
            "gap 2025-06-01..2025-06-08",
            "!gap 2025-06-06T19:59..2025-06-11",
        ]
        assert await world.known("1m") == ()


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
