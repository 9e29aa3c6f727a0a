"""Answers that lack rows, where a plan takes more than one request: they count together."""

from __future__ import annotations

from pathlib import Path

from gapless.errors import ProviderError
from gapless.simulator.happenings import Absent, Cut
from support.scenes import reasons, scene, seconds, told


async def test_emptiness_is_counted_over_all_pieces_of_a_plan(tmp_path: Path) -> None:
    """Weeks of minutes without a row are in doubt, though no request is for over seven days."""
    async with scene(tmp_path, "2025-06-27T21:00") as world:
        world.market.add(Absent("AAA", heals_s=world.clock.now_s + 3600))
        refusal = await world.refused("2025-06-02", interval="1m")
        assert isinstance(refusal, ProviderError)
        assert refusal.reason == "unconfirmed_empty"
        assert len(world.upstream) == 4
        world.wait(7200)
        answer = await world.ask("2025-06-02", interval="1m")
        assert answer.state == "ready"
        assert answer.count == 20 * 390


async def test_what_lacks_most_of_each_piece_is_in_doubt_as_a_whole(tmp_path: Path) -> None:
    """One row of each week of minutes: four weeks are not known to be empty for that."""
    async with scene(tmp_path, "2025-06-27T21:00") as world:
        world.market.add(Cut("AAA", 1, heals_s=world.clock.now_s + 3600))
        answer = await world.ask("2025-06-02", "2025-06-27", "1m")
        assert answer.state == "partial"
        assert {reason for _, reason in reasons(answer)} == {"unconfirmed_empty"}
        world.wait(7200)
        answer = await world.ask("2025-06-02", "2025-06-27", "1m")
        assert (answer.state, answer.count) == ("ready", 19 * 390)


async def test_what_is_lost_of_each_piece_is_lost_as_a_whole(tmp_path: Path) -> None:
    """Of no week more than five days, of all more than ten: that is kept, and comes back."""
    async with scene(tmp_path, "2025-06-10T21:00") as world:
        asked = ("2025-05-21", "2025-06-10", "1m")
        held = told(await world.ask(*asked))
        begin, end = seconds("2025-06-11T12:00"), seconds("2025-06-12T12:00")
        world.market.add(Cut("AAA", 1, from_s=begin, heals_s=end))
        for time, state in (("14:00", "stale"), ("21:00", "ready")):
            world.at(f"2025-06-11T{time}")
            answer = await world.ask(*asked)
            assert (answer.state, told(answer)) == (state, held)
        assert {reason for _, reason in reasons(answer)} == {"unverified"}
        world.at("2025-06-12T15:00")
        answer = await world.ask(*asked)
        assert (answer.state, told(answer), answer.why) == ("ready", held, ())
