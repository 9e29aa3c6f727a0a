"""One basis: what the hub asks and answers when splits, dividends and corrections come between.

Scenes for the stitching rules 9 to 11. Sessions of AAA are 13:30 to 20:00 UTC in summer; 2 June
2025 is a Monday.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from gapless.simulator import faults
from gapless.simulator.happenings import Dividend, MissingRow, Restatement, Split
from support.scenes import REJECTED, parts, reasons, scene, seconds, told

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


def restated(*days: str, **by: float) -> list[Restatement]:
    """Return corrections of these days, seen from Monday the 9th on."""
    seen = seconds("2025-06-09T12:00")
    return [Restatement("AAA", date.fromisoformat(day), seen, **by) for day in days]


@pytest.mark.parametrize("by", [{"close": 1.01}, {"volume": 1.2}, {"high": 1.05, "volume": 0.5}])
async def test_a_restated_seam_is_followed_backwards(tmp_path: Path, by: dict[str, float]) -> None:
    """Held bars are fetched again in doubling stretches until one agrees; the basis stands."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(*restated("2025-06-04", "2025-06-05", "2025-06-06", **by))
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
        world.market.add(*restated("2025-04-01", "2025-04-02", "2025-04-03", close=0.98))
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
        world.market.add(*restated("2025-06-05", "2025-06-06", close=1.01))
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


async def test_a_restatement_is_followed_into_the_next_stretch(tmp_path: Path) -> None:
    """The bar that is to vouch for the basis was restated as well: what is known of it is kept."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(
            *restated("2025-04-01", "2025-04-02", "2025-06-05", "2025-06-06", volume=1.2)
        )
        await world.ask("2025-04-01", "2025-04-10")
        await world.ask("2025-06-05", "2025-06-08")
        world.at(WEDNESDAY)
        answer = await world.ask("2025-06-05", "2025-06-11")
        assert world.upstream == [
            "gap 2025-06-06T13:30..2025-06-11",
            "restatement 2025-06-05..2025-06-06T13:30",
            "probe 2025-04-01T13:30..2025-04-02T13:30",
            "restatement 2025-04-02T13:30..2025-04-04T13:30",
        ]
        assert told(answer) == world.truth("2025-06-05", "2025-06-11")
        older = await world.ask("2025-04-01", "2025-04-10")
        assert world.upstream == []
        assert told(older) == world.truth("2025-04-01", "2025-04-10")


async def test_no_more_than_some_stretches_are_followed(tmp_path: Path) -> None:
    """One gap does not have everything fetched anew; what was seen on the way is kept."""
    async with scene(tmp_path, SUNDAY) as world:
        # Single bars, a week apart each.
        mondays = [date(2025, 1, 6) + timedelta(weeks=week) for week in range(20)]
        days = [day for day in mondays if world.market.session("AAA", day.toordinal()) is not None]
        for day in days:
            await world.ask(f"{day}", f"{day + timedelta(days=1)}")
        await world.ask("2025-06-05", "2025-06-08")
        world.market.add(*restated(*map(str, days), "2025-06-05", "2025-06-06", volume=1.2))
        world.at(WEDNESDAY)
        await world.ask("2025-06-05", "2025-06-11")
        probes = [one for one in world.upstream if one.startswith("probe")]
        assert [one.split()[1][:10] for one in probes] == list(map(str, days[:8]))
        assert len(world.upstream) < 8 + 8 + 3
        for day in days[:8]:
            asked = (f"{day}", f"{day + timedelta(days=1)}")
            assert told(await world.ask(*asked)) == world.truth(*asked)
            assert world.upstream == []


async def test_a_split_behind_a_restatement_is_still_a_split(tmp_path: Path) -> None:
    """The restated seam hides the split; the bars behind it show it."""
    async with scene(tmp_path, SUNDAY) as world:
        world.market.add(SPLIT, *restated("2025-06-06", close=1.01))
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
