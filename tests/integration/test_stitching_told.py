"""How an answer was put together is told alike over TCP and over HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from gapless.hub.answers import Answer
from gapless.protocol.messages import (
    DateRange,
    ProviderRequest,
    SearchEntities,
    Ticker,
)
from gapless.protocol.times import parse_instant
from gapless.servers.http.stitching import stitch_headers
from gapless.servers.wire import Layout, frame
from support.providers import SteadyProvider
from support.web import web

ASKED = ProviderRequest(
    "steady", SearchEntities((Ticker("A"), DateRange("2021-01-01", "2021-02-01")))
)


async def test_when_upstream_changed_something_is_told_over_both_doors(tmp_path: Path) -> None:
    """In the stitch and in a header where it is known, and nowhere where it is not."""
    changed = "2026-06-11T13:30:00Z"
    async with web(tmp_path, SteadyProvider()) as opened:
        answer = await opened.hub.answer(ASKED)
    assert isinstance(answer, Answer)
    for one, told in (
        (answer, None),
        (replace(answer, changed_at=parse_instant(changed, now_ms=0)), changed),
    ):
        line = b"".join(frame(one, Layout("SearchEntities", as_array=True)).parts(b"1", 0))
        assert json.loads(line)["stitch"].get("changed_at") == told
        headers = dict(stitch_headers(one))
        expected = None if told is None else told.encode()
        assert headers.get(b"gapless-changed-at") == expected
