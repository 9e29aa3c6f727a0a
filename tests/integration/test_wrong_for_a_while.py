"""An upstream that is wrong for a while: what is believed of it, and how often it is asked.

Scenes for stitching rule 6. Sessions of AAA are 14:30 to 21:00 UTC in winter.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from gapless.simulator import faults
from gapless.simulator.happenings import (
    Absent,
    Delisted,
    Dividend,
    Happening,
    MissingRow,
    NullRow,
    Odd,
    Restatement,
)
from gapless.simulator.instruments import Instrument, equity
from support.scenes import reasons, scene, seconds, told

BEGIN, END = seconds("2025-01-06"), seconds("2025-02-03")
WRONG, RIGHT = seconds("2025-03-10T22:00"), seconds("2025-03-17")


@pytest.mark.parametrize(
    ("wrong", "at_first"),
    [
        (Absent("AAA", BEGIN, END, WRONG, RIGHT), {"unconfirmed_loss"}),
        (Absent("AAA", from_s=WRONG, heals_s=RIGHT), {"unconfirmed_loss"}),
        (Delisted("AAA", WRONG, RIGHT), {"unconfirmed_loss", "unknown_ticker"}),
    ],
    ids=["a month is gone", "all is gone", "the ticker is unknown"],
)
async def test_what_is_believed_lost_stays_held_session_after_session(
    tmp_path: Path, wrong: Happening, at_first: set[str]
) -> None:
    """It is doubted for six hours, then kept, marked and asked for once a session, until it heals.

    In doubt it is asked for again after a quarter of an hour, and never `ready`.
    """
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        held = told(await world.ask("2024-12-02", "2025-03-08"))
        world.market.add(wrong)
        for time, asked in [("16:00", 1), ("16:14", 0), ("16:20", 1), ("21:50", 1), ("21:55", 0)]:
            world.at(f"2025-03-11T{time}")
            answer = await world.ask("2024-12-02", "2025-03-08")
            assert (answer.state, told(answer)) == ("stale", held)
            assert {reason for _, reason in reasons(answer)} <= at_first
            assert "unconfirmed_loss" in {reason for _, reason in reasons(answer)}
            assert len(world.upstream) == asked, time
        world.at("2025-03-12T00:30")
        for day in (12, 13, 14, 15):
            for asked in (1, 0):
                answer = await world.ask("2024-12-02", "2025-03-08")
                assert (answer.state, told(answer)) == ("ready", held)
                assert {reason for _, reason in reasons(answer)} == {"unverified"}
                assert len(world.upstream) == asked
            world.at(f"2025-03-{day}T14:50")
        world.at("2025-03-17T16:00")
        answer = await world.ask("2024-12-02", "2025-03-08")
        assert (answer.state, answer.why, told(answer)) == ("ready", (), held)


async def test_what_is_confirmed_is_what_was_in_doubt(tmp_path: Path) -> None:
    """A week that was lacking twice says nothing of the month that lacks beside it now."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        held = told(await world.ask("2024-12-02", "2025-03-08"))
        world.market.add(Absent("AAA", BEGIN, seconds("2025-01-11"), WRONG, RIGHT))
        world.at("2025-03-11T15:00")
        assert (await world.ask("2024-12-02", "2025-03-08")).state == "stale"
        world.market.add(Absent("AAA", BEGIN, END, seconds("2025-03-11T20:00"), RIGHT))
        world.at("2025-03-11T21:30")
        answer = await world.ask("2024-12-02", "2025-03-08")
        assert (answer.state, {reason for _, reason in reasons(answer)}) == (
            "stale",
            {"unconfirmed_loss"},
        )
        assert [one for one in told(answer) if one["timestamp"] >= seconds("2025-01-11")] == [
            one for one in held if one["timestamp"] >= seconds("2025-01-11")
        ]


async def test_a_long_bar_that_is_lost_reaches_over_what_is_held(tmp_path: Path) -> None:
    """What is asked for beside it is answered, and asked for once."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        await world.ask("2024-12-16", "2025-02-06", "1wk")
        world.market.add(Absent("AAA", from_s=WRONG, heals_s=RIGHT))
        for time in ("2025-03-11T15:00", "2025-03-11T22:00"):
            world.at(time)
            answer = await world.ask("2024-12-16", "2025-03-07", "1wk")
            assert len(world.upstream) == 1
        assert (answer.state, len(told(answer))) == ("ready", 8)
        assert {reason for _, reason in reasons(answer)} == {"unverified"}


async def test_what_is_in_doubt_is_not_believed_bit_by_bit(tmp_path: Path) -> None:
    """A day of a month that upstream lacks is as much in doubt, asked for by itself."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        await world.ask("2025-02-10", "2025-03-08")
        world.market.add(Absent("AAA", BEGIN, END, WRONG, RIGHT))
        world.at("2025-03-10T22:10")
        assert (await world.ask("2025-01-06", "2025-02-15")).state == "partial"
        world.at("2025-03-10T22:40")
        answer = await world.anew("2025-01-31", "2025-02-15")
        assert answer.state == "partial"
        assert {reason for _, reason in reasons(answer)} == {"unconfirmed_empty"}


async def test_what_is_not_believed_leaves_what_lies_beside_it_unchecked(tmp_path: Path) -> None:
    """Where records are lost and others differ nothing is stored, so that nothing is fresh."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        held = told(await world.ask("2024-12-02", "2025-03-08"))
        world.market.add(Absent("AAA", BEGIN, END, WRONG, RIGHT))
        world.market.add(Restatement("AAA", date(2025, 3, 5), WRONG, close=1.01))
        world.at("2025-03-11T15:00")
        answer = await world.ask("2025-02-10", "2025-03-08")
        assert (answer.state, told(answer)) == ("stale", held[-len(told(answer)) :])
        assert {reason for _, reason in reasons(answer)} == {"unconfirmed_loss"}


@pytest.mark.parametrize("gone_again", [False, True])
async def test_a_ticker_that_is_back_is_asked_for_all(tmp_path: Path, gone_again: bool) -> None:
    """What was said to be empty for want of it is asked for again, and one 404 more is doubted."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        await world.ask("2025-02-03", "2025-02-08")
        world.market.add(Delisted("AAA", WRONG, seconds("2025-03-11T23:00")))
        for time in ("16:00", "22:30"):
            world.at(f"2025-03-11T{time}")
            await world.ask("2025-02-03", "2025-03-08")
        answer = await world.ask("2025-02-10", "2025-03-08")
        assert (answer.state, told(answer)) == ("ready", [])
        world.at("2025-03-11T23:10")
        await world.ask("2025-03-08", "2025-03-11")
        if gone_again:
            world.market.add(Delisted("AAA", seconds("2025-03-11T23:20"), RIGHT))
        world.at("2025-03-11T23:30")
        answer = await world.ask("2025-02-03", "2025-03-11")
        if gone_again:
            assert (answer.state, len(world.upstream)) == ("stale", 1)
        else:
            assert (answer.state, answer.why) == ("ready", ())
            assert told(answer) == world.truth("2025-02-03", "2025-03-11")


async def test_what_was_fetched_is_as_old_as_its_request(tmp_path: Path) -> None:
    """As the try that brought it, and no older; and by upstream's clock if that is behind."""
    async with scene(tmp_path, "2025-03-10T18:00") as world:
        world.sim.faults.fail_next(faults.server_error(502), 2)
        first = world.clock.now_ms()
        await world.ask("2025-03-03")
        sent = world.sim.requests[-1].t * 1000
        assert sent > first
        # What upstream's clock shows has whole seconds.
        assert {row.fetched_at for row in await world.known()} == {int(sent) // 1000 * 1000}
        world.at("2025-03-11T18:00")
        world.ahead_s = -240.0
        await world.ask("2025-03-03")
        assert {row.fetched_at for row in await world.known()} == {world.clock.now_ms() - 240_000}
        assert max(row.end for row in await world.known()) == world.clock.now_ms()


@pytest.mark.parametrize("ahead", [-240, 240])
async def test_a_bar_is_final_by_the_earlier_of_two_clocks(tmp_path: Path, ahead: int) -> None:
    """Half an hour after its end, by both of them: what is later in one world only may change."""
    async with scene(tmp_path, "2025-03-10T15:15") as world:
        world.ahead_s = float(ahead)
        final: list[bool] = []
        for late_s in (120, 180, 300):
            world.clock.now_s = seconds("2025-03-10T15:15") + late_s
            await world.ask("2025-03-10T14:30", "2025-03-10T14:45", interval="15m")
            final.append((await world.known("15m"))[0].final)
        assert final == ([False, False, True] if ahead < 0 else [True] * 3)


async def test_a_live_row_that_comes_twice_is_one(tmp_path: Path) -> None:
    """Each row comes twice, that of today as well, which is told on its session's stamp."""
    async with scene(tmp_path, "2025-03-10T18:00") as world:
        world.market.add(Odd("AAA", repeats=2))
        answer = await world.ask("2025-03-03")
        assert (answer.state, answer.why) == ("ready", ())
        assert told(answer) == world.truth("2025-03-03")


@pytest.mark.parametrize("ahead", [-3_600.0, -86_400.0, -432_000.0])
async def test_an_upstream_whose_clock_is_far_behind_is_asked_once(
    tmp_path: Path, ahead: float
) -> None:
    """What came is due by its clock already: it is told so, and not asked for over and over."""
    async with scene(tmp_path, "2025-03-10T18:00") as world:
        world.ahead_s = ahead
        answer = await world.ask("2025-02-03")
        assert answer.requests == 1
        assert answer.state == "stale"
        assert answer.count > 15
        assert (await world.ask("2025-02-03")).requests == 1


@pytest.mark.parametrize(
    ("start", "end", "interval", "count"),
    [
        ("2024-06-10", "2025-03-01", "1mo", 8),
        ("2025-02-05", "2025-02-26", "1mo", 0),
        ("2024-02-20", "2025-01-01", "3mo", 3),
        ("2024-05-01", "2024-06-20", "3mo", 0),
        ("2025-01-08", "2025-03-01", "1wk", 7),
    ],
)
async def test_a_range_that_begins_within_a_bar_lacks_nothing(
    tmp_path: Path, start: str, end: str, interval: str, count: int
) -> None:
    """The bar that began before it has the time until the next one: upstream is not doubted."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        answer = await world.ask(start, end, interval)
        assert (answer.state, answer.why, answer.count) == ("ready", (), count)


@pytest.mark.parametrize(
    "listed",
    [
        equity("AAA", first_trade=date(2023, 1, 3), hours=(32_400, 57_600)),
        equity("AAA", first_trade=date(2023, 1, 3), tz="Europe/Paris", hours=(32_400, 63_000)),
    ],
    ids=["another opening", "another zone"],
)
@pytest.mark.parametrize("interval", ["1d", "1wk"])
async def test_bars_under_other_stamps_are_no_lost_ones(
    tmp_path: Path, listed: Instrument, interval: str
) -> None:
    """They replace those that are held, of the actions too; nothing of the old ones stays."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        world.market.add(Dividend("AAA", date(2025, 1, 15), 1.0))
        asked = ("2024-12-01", "2025-03-08", interval)
        await world.ask(*asked)
        world.market.enlist(listed)
        world.market.add(Dividend("AAA", date(2025, 1, 15), 1.0))
        for day in (11, 12):
            world.at(f"2025-03-{day}T22:00")
            answer = await world.ask(*asked)
            assert (answer.state, answer.why) == ("ready", ())
            assert told(answer) == world.truth(*asked)
        if interval == "1d":
            assert len(told(await world.actions("2024-12-15", "2025-03-08"))) == 1


@pytest.mark.parametrize("count", [16, 17, 30])
async def test_what_lies_between_lost_bars_is_not_in_doubt(tmp_path: Path, count: int) -> None:
    """Bars missing here and there confirm nothing of those that came between them."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        asked = ("2025-02-10", "2025-03-08", "1h")
        held = told(await world.ask(*asked))
        week = [
            one["timestamp"]
            for one in held
            if seconds("2025-02-17T23:00") <= one["timestamp"] < seconds("2025-03-01")
        ]
        scattered = week[::2][:count]
        for stamp in scattered:
            world.market.add(MissingRow("AAA", stamp_s=stamp, from_s=WRONG))
        world.at("2025-03-11T15:00")
        assert told(await world.ask(*asked)) == held
        again = seconds("2025-03-11T20:00")
        world.market.add(Absent("AAA", week[0], week[-1] + 1, again, intervals=frozenset({"1h"})))
        world.at("2025-03-11T21:30")
        answer = await world.ask(*asked)
        left = [one for one in held if one["timestamp"] not in scattered]
        assert (answer.state, told(answer)) == ("stale", left)


async def test_one_wrong_date_shortens_no_doubt(tmp_path: Path) -> None:
    """Six hours are between two answers by either clock, and not by the one that was wrong."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        asked = ("2025-01-02", "2025-03-01")
        held = told(await world.ask(*asked))
        world.market.add(Absent("AAA", BEGIN, seconds("2025-01-11"), heals_s=RIGHT))
        world.ahead_s = -7 * 3600
        assert (await world.anew(*asked)).state == "stale"
        world.ahead_s = 0
        world.wait(1000)
        answer = await world.anew(*asked)
        assert (answer.state, told(answer)) == ("stale", held)


async def test_actions_of_what_is_lost_are_kept_and_not_asked_for_each_time(
    tmp_path: Path,
) -> None:
    """They are as fresh as the bars that are kept, marked as these are, and come back."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        world.market.add(Dividend("AAA", date(2025, 1, 15), 1.0))
        await world.ask("2024-12-02", "2025-03-08")
        held = told(await world.actions("2024-12-15", "2025-03-08"))
        world.market.add(Absent("AAA", BEGIN, END, WRONG, RIGHT))
        for time in ("2025-03-11T15:00", "2025-03-11T21:30"):
            world.at(time)
            await world.ask("2024-12-02", "2025-03-08")
        for _ in range(3):
            answer = await world.actions("2024-12-15", "2025-03-08")
            assert (world.upstream, answer.state, told(answer)) == ([], "ready", held)
            assert {reason for _, reason in reasons(answer)} == {"unverified"}
        world.at("2025-03-17T16:00")
        await world.ask("2024-12-02", "2025-03-08")
        answer = await world.actions("2024-12-15", "2025-03-08")
        assert (world.upstream, answer.why, told(answer)) == ([], (), held)


async def test_bars_under_other_stamps_without_prices_are_lost(tmp_path: Path) -> None:
    """An exchange opens at another hour, and its rows come null for a while: nothing goes."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        asked = ("2024-12-02", "2025-03-08")
        held = told(await world.ask(*asked))
        opens = equity("AAA", first_trade=date(2023, 1, 3), hours=(36_000, 57_600))
        world.market.enlist(opens)
        for one in held:
            day = datetime.fromtimestamp(one["timestamp"], UTC).date()
            world.market.add(NullRow("AAA", day=day, heals_s=seconds("2025-03-13")))
        world.at("2025-03-11T22:00")
        answer = await world.ask(*asked)
        assert (answer.state, told(answer)) == ("stale", held)
        world.at("2025-03-13T22:00")
        answer = await world.ask(*asked)
        assert (answer.state, told(answer)) == ("ready", world.truth(*asked))


@pytest.mark.parametrize("anew", [True, False])
async def test_what_is_in_doubt_is_asked_for_again_though_it_is_fresh(
    tmp_path: Path, anew: bool
) -> None:
    """Fetched in this session, lacking after that, and there again: not only the next day."""
    async with scene(tmp_path, "2025-03-10T22:00") as world:
        asked = ("2025-02-10", "2025-03-08")
        await world.ask(*asked)
        world.at("2025-03-11T14:00")
        held = told(await world.ask(*asked))
        begin, end = seconds("2025-02-10"), seconds("2025-02-15")
        heals = seconds("2025-03-11T14:20")
        world.market.add(Absent("AAA", begin, end, seconds("2025-03-11T14:05"), heals))
        world.at("2025-03-11T14:10")
        if anew:
            await world.anew(*asked)
        else:
            await world.ask("2025-02-01", "2025-02-10")
        for time, state in (("14:15", "stale"), ("14:30", "ready")):
            world.at(f"2025-03-11T{time}")
            answer = await world.ask(*asked)
            assert (answer.state, told(answer)) == (state, held)
