"""What a living upstream and those who hold a hub to it have in common.

Apart from the machines that play it: one of a few happenings, one of all that there are.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import portion
from hypothesis import Phase

from gapless.domain.series import SeriesKey
from gapless.hub.answers import Answer
from gapless.hub.ranges import range_search
from gapless.protocol.messages import ProviderRequest, SearchEntities
from gapless.simulator import faults
from gapless.store.sqlite import open_store
from support.extent import share
from support.world import World

# All kinds of intervals together.
SEQUENCES = int(os.environ.get("LIVING_SEQUENCES", share(60, of=300, soak=5_000)))
# Making a failure small takes minutes, which a run that only wants to know has not.
PHASES = (Phase.generate, Phase.shrink) if "LIVING_SHRINK" in os.environ else (Phase.generate,)
START_S = datetime(2025, 3, 5, 15, 0, tzinfo=UTC).timestamp()
KINDS = {"daily": ("1d", "1wk"), "intraday": ("1h", "15m")}
FAULTS = {
    "429": faults.too_many_requests("Edge: Too Many Requests"),
    "502": faults.server_error(502),
    "html": faults.html_page(200),
    "json": faults.wrong_json(),
    "truncated": faults.truncated(0.5),
    "reset": faults.connection_reset(),
}


@contextmanager
def template_database() -> Iterator[Path]:
    """Yield an empty database that is brought up to date, to be copied."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        asyncio.run(open_store(path).close())
        yield path


def key_of(world: World, wanted: ProviderRequest) -> SeriesKey:
    """Return the series that a search is about, as the hub reads it."""
    assert isinstance(wanted.request, SearchEntities)
    provider = world.hub.registry.get("yahoo_finance")
    search = range_search(provider, wanted.request.query, world.clock.now_ms())
    assert search is not None
    return search.key


def check_parts(answer: Answer) -> None:
    """Hold an answer to its parts: they partition what was asked, and its records ascend."""
    times = [one["timestamp"] for one in json.loads(answer.text())]
    assert times == sorted(set(times)), "records ascend, one a time"
    parts = [portion.closedopen(*one) for one in (*answer.cached, *answer.fetched, *answer.missing)]
    asked = answer.asked
    whole = portion.closedopen(*asked) if asked[0] < asked[1] else portion.empty()
    assert portion.Interval(*parts) == whole, f"{answer.cached} {answer.fetched}"
    length = sum(one.upper - one.lower for one in parts)
    assert length == asked[1] - asked[0], "the parts overlap"
    assert (answer.state == "partial") == bool(answer.missing)
