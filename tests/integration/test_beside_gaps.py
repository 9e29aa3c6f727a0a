"""What a gap touches: held bars beside it are fetched along, and tell of a changed past.

Scenes for the stitching rules 11 and 13. Sessions of AAA are 13:30 to 20:00 UTC in summer, and
what was fetched before 13:45 is due from then on; 2 June 2025 is a Monday.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from gapless.config import CacheSettings, Settings
from gapless.domain.intervals import ALWAYS, Interval
from gapless.domain.series import SeriesKey
from gapless.hub.series import Series
from gapless.simulator.happenings import Dividend, MissingRow, Restatement, Split
from support.scenes import REJECTED, ms, parts, reasons, scene, seconds, told

# A session is under way, nothing is due before the next one; Monday's bar is final.
WEDNESDAY = "2025-06-11T15:00"
LATER = "2025-06-11T16:00"
# Upstream shows a change that is as old as this between the two.
BETWEEN = seconds("2025-06-11T15:30")
SPLIT = Split("AAA", date(2025, 6, 10), 4, seen_s=BETWEEN)
DIVIDEND = Dividend("AAA", date(2025, 6, 10), 1.5, seen_s=BETWEEN)
# So few bars a request that an island lies out of reach of the next one.
NARROW = Settings(cache=CacheSettings(check_bars=20))


def corrected(day: str, **by: float) -> Restatement:
    """Return a correction of a day that upstream shows between the two requests."""
    return Restatement("AAA", date.fromisoformat(day), BETWEEN, **by)


# Rule 11: how wide


async def test_a_gap_takes_ten_bars_along_on_each_side(tmp_path: Path) -> None:
    """They are what tells whether old and new fit, and cost no request of their own."""
    async with scene(tmp_path, WEDNESDAY) as world:
        await world.ask("2025-04-01", "2025-04-26")
        answer = await world.ask("2025-04-26", "2025-05-10")
        assert world.upstream == ["gap 2025-04-14T13:30..2025-05-10"]
        assert parts(answer) == {"fetched": ["2025-04-26..2025-05-10"]}
        assert told(answer) == world.truth("2025-04-26", "2025-05-10")
        await world.ask("2025-06-02", "2025-06-11")
        assert world.upstream == ["gap 2025-05-09T13:30..2025-06-11"], "the nearest, from afar"


async def test_a_gap_between_held_bars_has_both_sides(tmp_path: Path) -> None:
    """Either side may be of before a change of which the other is after."""
    async with scene(tmp_path, WEDNESDAY, settings=NARROW) as world:
        await world.ask("2025-05-01", "2025-05-10")
        await world.ask("2025-06-02", "2025-06-07")
        world.hub.searcher.rules.ageings.check_bars = CacheSettings().check_bars
        answer = await world.ask("2025-05-10", "2025-06-02")
        assert world.upstream == ["gap 2025-05-01T13:30..2025-06-07T13:30"]
        assert told(answer) == world.truth("2025-05-10", "2025-06-02")


@pytest.mark.parametrize(("interval", "since"), [("1d", "2025-06-10T20:00"), ("1wk", "2025-06-08")])
async def test_bars_that_may_still_change_are_taken_along(
    tmp_path: Path, interval: str, since: str
) -> None:
    """Where only such are held beside a gap: nothing else would tell that they are of before."""
    async with scene(tmp_path, WEDNESDAY) as world:
        before = await world.ask(since, "", interval)
        assert len(told(before)) == 1, "the running day or week"
        ahead = Dividend("AAA", date(2025, 6, 13), 1.5, seen_s=BETWEEN)
        world.market.add(ahead)
        world.at("2025-06-11T15:35")
        answer = await world.ask("2025-05-05", "", interval)
        assert len(world.upstream) == 1
        assert told(answer) == await world.whole("2025-05-05", "", interval)
        again = await world.ask("2025-05-05", "", interval)
        assert (told(again), world.upstream) == (told(answer), []), "it is a tail as before"


async def test_all_that_may_still_change_is_taken_along(tmp_path: Path) -> None:
    """Also where it was fetched bit by bit, so that it has several rows of coverage."""
    async with scene(tmp_path, "2025-06-11T15:25") as world:
        await world.ask("2025-06-10T20:30")
        world.at("2025-06-11T15:28")
        await world.anew("2025-06-11T13:00")
        assert len([row for row in await world.known() if not row.final]) == 2
        world.market.add(Split("AAA", date(2025, 6, 12), 4, seen_s=BETWEEN))
        world.at("2025-06-11T15:35")
        answer = await world.ask("2025-05-05")
        assert len(world.upstream) == 1
        assert told(answer) == await world.whole("2025-05-05")


async def test_what_is_known_to_be_empty_is_nothing_between(tmp_path: Path) -> None:
    """Bars before a long standstill lie next to what comes after it."""
    async with scene(tmp_path, WEDNESDAY) as world:
        days = [date(2025, 5, 17) + timedelta(days=one) for one in range(14)]
        world.market.add(*(MissingRow("AAA", day) for day in days))
        await world.ask("2025-04-01", "2025-05-31")
        answer = await world.ask("2025-05-31", "2025-06-10")
        assert world.upstream == ["gap 2025-05-05T13:30..2025-06-10"]
        assert told(answer) == world.truth("2025-05-31", "2025-06-10")


async def test_the_nearest_bar_is_taken_along_as_far_as_a_request_spans(tmp_path: Path) -> None:
    """Where none is within ten, what lies between is held from then on."""
    async with scene(tmp_path, WEDNESDAY) as world:
        await world.ask("2025-04-01", "2025-04-10")
        await world.ask("2025-05-05", "2025-05-17")
        assert world.upstream == ["gap 2025-04-09T13:30..2025-05-17"]
        between = await world.ask("2025-04-10", "2025-05-05")
        assert world.upstream == []
        assert told(between) == world.truth("2025-04-10", "2025-05-05")


async def test_a_bar_farther_than_a_request_spans_is_one_more_request(tmp_path: Path) -> None:
    """Of bars of a minute seven days come at once; the nearest held one is fetched by itself."""
    async with scene(tmp_path, WEDNESDAY) as world:
        await world.ask("2025-05-19", "2025-05-21", "1m")
        answer = await world.ask("2025-06-02", "2025-06-04", "1m")
        assert world.upstream == [
            "gap 2025-06-02..2025-06-04",
            "seam 2025-05-20T19:59..2025-05-20T20:00",
        ]
        assert (answer.state, answer.requests) == ("ready", 2)
        assert told(answer) == world.truth("2025-06-02", "2025-06-04", "1m")


async def test_a_first_fetch_touches_nothing(tmp_path: Path) -> None:
    """There is no held bar, so the gap is asked for as it is."""
    async with scene(tmp_path, WEDNESDAY) as world:
        await world.ask("2025-05-05", "2025-05-17")
        assert world.upstream == ["gap 2025-05-05..2025-05-17"]


async def test_the_bars_beside_a_gap_may_be_forgotten_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody forgets the nearest ones while they are looked up: others are taken along."""
    async with scene(tmp_path, WEDNESDAY) as world:
        await world.ask("2025-04-01", "2025-04-26")
        holdings = world.hub.holdings
        load, forgotten = holdings.load, list[SeriesKey]()

        async def overtaken(
            key: SeriesKey, *asked: Interval, about: Interval | None = None
        ) -> Series:
            if about is ALWAYS and not forgotten:
                forgotten.append(key)
                await holdings.delete(key, Interval(ms("2025-04-20"), ms("2025-04-26")))
            return await load(key, *asked, about=about)

        monkeypatch.setattr(holdings, "load", overtaken)
        answer = await world.ask("2025-04-26", "2025-05-10")
        assert forgotten
        assert told(answer) == world.truth("2025-04-26", "2025-05-10")


# Rule 11: what is compared


@pytest.mark.parametrize("change", [SPLIT, DIVIDEND], ids=["split", "dividend"])
async def test_a_change_within_a_session_shows_at_a_gap(
    tmp_path: Path, change: Split | Dividend
) -> None:
    """Nothing was due, but what is held beside the gap differs: all that is asked comes again."""
    async with scene(tmp_path, WEDNESDAY) as world:
        world.market.add(change)
        before = await world.ask("2025-04-01", "2025-05-10")
        world.at(LATER)
        answer = await world.ask("2025-04-01", "2025-05-17")
        assert world.upstream == [
            "gap 2025-04-28T13:30..2025-05-17",
            "check 2025-04-01..2025-05-10T13:30",
        ]
        assert (answer.state, answer.why) == ("ready", ())
        assert parts(answer) == {
            "cached": ["2025-04-01..2025-05-10"],
            "fetched": ["2025-05-10..2025-05-17"],
        }
        assert told(answer) == world.truth("2025-04-01", "2025-05-17")
        assert told(answer)[0] != told(before)[0]


async def test_what_is_not_asked_for_comes_again_when_it_is(tmp_path: Path) -> None:
    """A few days' question does not wait for years, but nobody gets them as they were."""
    async with scene(tmp_path, WEDNESDAY) as world:
        world.market.add(SPLIT)
        await world.ask("2024-01-01", "2025-05-10")
        world.at(LATER)
        await world.ask("2025-05-12", "2025-05-17")
        assert world.upstream == ["gap 2025-04-28T13:30..2025-05-17"]
        assert world.hub.held(world.hub.question(world.request("2024-01-01", "2024-02-01"))) is None
        answer = await world.ask("2024-01-01", "2024-02-01")
        assert [one.split()[0] for one in world.upstream] == ["check"]
        assert told(answer) == world.truth("2024-01-01", "2024-02-01")
        # What was fetched with the gap has been right since.
        await world.ask("2024-01-01", "2025-05-17")
        assert world.upstream == []


async def test_a_change_shows_at_a_bar_fetched_by_itself(tmp_path: Path) -> None:
    """What came is kept, though it came before the bar that told: it is due like all before it."""
    async with scene(tmp_path, WEDNESDAY) as world:
        world.market.add(Split("AAA", date(2025, 6, 10), 4, seen_s=BETWEEN))
        await world.ask("2025-05-19", "2025-05-21", "1m")
        world.at(LATER)
        answer = await world.ask("2025-06-02", "2025-06-04", "1m")
        assert world.upstream[:2] == [
            "gap 2025-06-02..2025-06-04",
            "seam 2025-05-20T19:59..2025-05-20T20:00",
        ]
        assert told(answer) == world.truth("2025-06-02", "2025-06-04", "1m")
        older = await world.ask("2025-05-19", "2025-05-21", "1m")
        assert [one.split()[0] for one in world.upstream] == ["check"]
        assert told(older) == world.truth("2025-05-19", "2025-05-21", "1m")


async def test_a_correction_of_a_bar_beside_a_gap_makes_all_due(tmp_path: Path) -> None:
    """A price that differs may be anything; having all again tells what it was."""
    async with scene(tmp_path, WEDNESDAY) as world:
        world.market.add(corrected("2025-05-09", close=1.01), corrected("2025-04-02", close=0.98))
        await world.ask("2025-04-01", "2025-05-10")
        world.at(LATER)
        answer = await world.ask("2025-04-01", "2025-05-17")
        assert len(world.upstream) == 2
        assert told(answer) == world.truth("2025-04-01", "2025-05-17")


@pytest.mark.parametrize("by", [{"volume": 1.2}, {"close": 1.00005}], ids=["volume", "a trifle"])
async def test_what_is_no_other_price_makes_nothing_due(
    tmp_path: Path, by: dict[str, float]
) -> None:
    """Volumes are corrected for days; what came of them is stored all the same."""
    async with scene(tmp_path, WEDNESDAY) as world:
        world.market.add(corrected("2025-05-09", **by))
        await world.ask("2025-04-01", "2025-05-10")
        world.at(LATER)
        answer = await world.ask("2025-04-01", "2025-05-17")
        assert world.upstream == ["gap 2025-04-28T13:30..2025-05-17"]
        assert told(answer) == world.truth("2025-04-01", "2025-05-17")


async def test_a_forming_bar_that_differs_makes_nothing_due(tmp_path: Path) -> None:
    """Only final bars tell of the past; one that is not final is replaced by what came."""
    async with scene(tmp_path, WEDNESDAY) as world:
        await world.ask("2025-05-01")
        world.at(LATER)
        answer = await world.ask("2025-05-01")
        assert [one.split()[0] for one in world.upstream] == ["gap"]
        assert told(answer) == world.truth("2025-05-01")


async def test_what_is_not_fresh_is_not_compared(tmp_path: Path) -> None:
    """A change overnight is no news: what is due is fetched again, and nothing more for it."""
    async with scene(tmp_path, "2025-06-09T15:00") as world:
        world.market.add(Split("AAA", date(2025, 6, 10), 4))
        await world.ask("2025-04-01", "2025-05-10")
        world.at(WEDNESDAY)
        answer = await world.ask("2025-04-01", "2025-05-17")
        assert world.upstream == ["gap 2025-04-01..2025-05-17"]
        assert told(answer) == world.truth("2025-04-01", "2025-05-17")


async def test_what_is_not_fresh_makes_nothing_due(tmp_path: Path) -> None:
    """That it has changed since it was fetched says nothing of what was fetched after that."""
    async with scene(tmp_path, "2025-06-09T15:00", settings=NARROW) as world:
        world.market.add(Split("AAA", date(2025, 6, 10), 4))
        old = await world.ask("2025-04-01", "2025-04-10")
        world.at(WEDNESDAY)
        await world.ask("2025-05-12", "2025-05-17")
        new = await world.ask("2025-04-01", "2025-04-10")
        assert told(new) == world.truth("2025-04-01", "2025-04-10") != told(old)
        await world.ask("2025-05-12", "2025-05-17")
        assert world.upstream == []


async def test_a_dividend_is_no_change_of_intraday_bars(tmp_path: Path) -> None:
    """They have no adjclose, so that it costs nothing."""
    async with scene(tmp_path, WEDNESDAY) as world:
        world.market.add(DIVIDEND)
        await world.ask("2025-05-26", "2025-06-03", "1h")
        world.at(LATER)
        answer = await world.ask("2025-05-26", "2025-06-07", "1h")
        assert len(world.upstream) == 1
        assert told(answer) == world.truth("2025-05-26", "2025-06-07", "1h")


async def test_what_has_become_due_and_cannot_be_had_is_stale(tmp_path: Path) -> None:
    """The new part is on another basis than the held one: both are told, and not as ready."""
    async with scene(tmp_path, WEDNESDAY) as world:
        world.market.add(SPLIT)
        held = await world.ask("2025-04-01", "2025-05-10")
        world.at(LATER)
        world.sim.faults.fail_always(
            REJECTED, when=lambda asked: asked.period1 == seconds("2025-04-01")
        )
        answer = await world.ask("2025-04-01", "2025-05-17")
        assert world.upstream == [
            "gap 2025-04-28T13:30..2025-05-17",
            "!check 2025-04-01..2025-05-10T13:30",
        ]
        assert answer.state == "stale"
        assert reasons(answer) == [("2025-04-01..2025-04-28T13:30", "upstream_rejected")]
        world.sim.faults.clear()
        world.wait(60)
        healed = await world.ask("2025-04-01", "2025-05-17")
        assert healed.state == "ready"
        assert told(healed) == world.truth("2025-04-01", "2025-05-17")
        assert told(healed)[0] != told(held)[0]


# Rule 13: one side of every change


async def test_pieces_of_a_long_range_fit(tmp_path: Path) -> None:
    """A range longer than one request may span comes in several, each begun at a known bar."""
    async with scene(tmp_path, WEDNESDAY) as world:
        answer = await world.ask("2025-05-25", "2025-06-11", "1m")
        assert world.upstream == [
            "gap 2025-05-25..2025-06-01",
            "gap 2025-05-30T19:59..2025-06-06T19:59",
            "gap 2025-06-06T19:49..2025-06-11",
        ]
        assert (answer.state, answer.requests) == ("ready", 3)
        assert parts(answer) == {"fetched": ["2025-05-25..2025-06-11"]}
        assert told(answer) == world.truth("2025-05-25", "2025-06-11", "1m")


async def test_a_piece_that_fails_leaves_those_before_it(tmp_path: Path) -> None:
    """Each is stored as it comes, and only the rest is asked for again."""
    async with scene(tmp_path, WEDNESDAY) as world:
        world.sim.faults.fail_always(
            REJECTED, when=lambda asked: asked.period1 != seconds("2025-06-01")
        )
        answer = await world.ask("2025-06-01", "2025-06-11", "1m")
        assert answer.state == "partial"
        (missing,) = answer.missing
        assert missing.end == ms("2025-06-11")
        assert [reason for _, reason in reasons(answer)] == ["upstream_rejected"]
        world.sim.faults.clear()
        again = await world.ask("2025-06-01", "2025-06-11", "1m")
        assert len(world.upstream) == 1
        assert told(again) == world.truth("2025-06-01", "2025-06-11", "1m")


async def test_a_split_between_two_pieces_has_the_first_again(tmp_path: Path) -> None:
    """The bar that both have differs, so that what came before it is due."""
    # At this pace the second piece is asked two seconds after the first.
    async with scene(tmp_path, WEDNESDAY, rate=0.5, burst=1) as world:
        world.market.add(Split("AAA", date(2025, 6, 12), 4, seen_s=seconds("2025-06-11T15:00:01")))
        before = world.truth("2025-06-01", "2025-06-11", "1m")
        answer = await world.ask("2025-06-01", "2025-06-11", "1m")
        assert (answer.state, answer.why) == ("ready", ())
        assert told(answer) == world.truth("2025-06-01", "2025-06-11", "1m")
        assert told(answer)[0] != before[0]


async def test_hosts_that_disagree_are_not_chased_for_ever(tmp_path: Path) -> None:
    """A day apart with a split between: the second time that all is due, the answer is given."""
    async with scene(tmp_path, WEDNESDAY, lags=(0.0, 86_400.0)) as world:
        world.market.add(Split("AAA", date(2025, 6, 11), 4))
        await world.ask("2025-04-01", "2025-05-10")
        world.sim.alternate_edges = True
        # The hosts take turns, and the next one is the one that is late.
        await world.ask("2025-06-03", "2025-06-05", ticker="NEW")
        answer = await world.ask("2025-04-01", "2025-05-17")
        assert [one.split()[0] for one in world.upstream] == ["gap", "check"]
        assert answer.state == "stale"
        assert "changed the past of AAA 2 times" in answer.last_error
        world.sim.alternate_edges = False
        world.wait(60)
        healed = await world.ask("2025-04-01", "2025-05-17")
        assert (healed.state, healed.why) == ("ready", ())
        assert told(healed) == world.truth("2025-04-01", "2025-05-17")
