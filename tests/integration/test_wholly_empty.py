"""An answer without any rows, where a plan takes more than one request."""

from __future__ import annotations

from pathlib import Path

from gapless.errors import ProviderError
from gapless.simulator.happenings import Absent
from support.scenes import scene


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
