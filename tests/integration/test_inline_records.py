"""Answers that leave their records to HTTP: `inline_records`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gapless.hub.hub import Options
from gapless.providers.sample import SampleProvider
from support.people import api_token, person
from support.web import Web, web
from support.wire import PATIENT, Wire, connect, search


async def asked(wire: Wire, **envelope: Any) -> dict[str, Any]:
    """Return the answer to a search for a year."""
    answer: dict[str, Any] = await wire.ask(
        search("sample", "AAPL", "2010-01-01", "2011-01-01"), **envelope
    )
    return answer


async def frame_at(opened: Web, answer: dict[str, Any]) -> pl.DataFrame:
    """Return what is found where an answer says."""
    response = await opened.get(answer["records_at"])
    return pl.read_ipc_stream(io.BytesIO(response.content))


@pytest.mark.parametrize("data_as", ["array", "string"])
async def test_records_are_where_it_says(tmp_path: Path, data_as: str) -> None:
    """Data is null, never empty; the stitch is told; HTTP has the very same records."""
    async with web(tmp_path, SampleProvider()) as opened, await connect(opened.tcp_port) as wire:
        first = await asked(wire, data_as=data_as, inline_records=251)
        entity = first["result"][0]
        assert first["ok"]
        assert entity["data"] is None
        assert entity["etag"] == ""
        assert entity["state"] == "ready"
        assert first["stitch"]["fetched"] == [["2010-01-01T00:00:00Z", "2011-01-01T00:00:00Z"]]
        frame = await frame_at(opened, first)
        whole = await asked(wire, data_as="array", inline_records=252)
        assert "records_at" not in whole
        assert frame.to_dicts() == whole["result"][0]["data"]
        response = await opened.get(first["records_at"])
        assert response.headers["gapless-etag"] == whole["result"][0]["etag"]


async def test_a_memo_is_kept_for_each_number(tmp_path: Path) -> None:
    """The same question with another number is another one, also when it is answered at once."""
    async with web(tmp_path, SampleProvider()) as opened, await connect(opened.tcp_port) as wire:
        for _ in range(3):
            assert (await asked(wire, inline_records=0))["result"][0]["data"] is None
            assert (await asked(wire, inline_records=10_000))["result"][0]["data"] is not None
            assert (await asked(wire))["result"][0]["data"] is not None
            assert (await asked(wire, inline_records=None))["result"][0]["data"] is not None


async def test_more_than_an_answer_may_have(tmp_path: Path) -> None:
    """What is too large for TCP is told where it is, instead of being refused."""
    options = Options(upstream=PATIENT, max_records=100)
    async with (
        web(tmp_path, SampleProvider(), options=options) as opened,
        await connect(opened.tcp_port) as wire,
    ):
        assert (await asked(wire))["error"]["code"] == "too_large"
        assert (await asked(wire, inline_records=1_000))["error"]["code"] == "too_large"
        answer = await asked(wire, inline_records=50)
        frames, path = [], answer["records_at"]
        while path:
            response = await opened.get(path)
            frames.append(pl.read_ipc_stream(io.BytesIO(response.content)))
            path = response.links.get("next", {}).get("url")
        assert [frame.height for frame in frames] == [100, 100, 52]


@pytest.mark.parametrize("wrong", [-1, 1.5, "5", True, 2**63, []])
async def test_what_is_no_number_is_refused(tmp_path: Path, wrong: object) -> None:
    """The error names the field."""
    async with web(tmp_path, SampleProvider()) as opened, await connect(opened.tcp_port) as wire:
        answer = await asked(wire, inline_records=wrong)
        assert answer["error"]["code"] == "invalid_envelope"
        assert answer["error"]["message"].startswith("inline_records: expected")


async def test_readers_are_told_what_they_may_have(tmp_path: Path) -> None:
    """Who may not have anything fetched gets what is held, there as here."""
    async with (
        web(tmp_path, SampleProvider(), auth=True) as opened,
        await connect(opened.tcp_port) as wire,
    ):
        tokens = []
        for role in ("admin", "read"):
            user = await person(opened.authority, role)
            tokens.append(await api_token(opened.authority, user.email))
        admin, reader = tokens
        assert (await asked(wire, token=admin))["ok"]
        wider = search("sample", "AAPL", "2009-01-01", "2011-01-01")
        answer = await wire.ask(wider, token=reader, inline_records=0)
        assert answer["result"][0]["state"] == "partial"
        response = await opened.get(answer["records_at"], authorization=f"Bearer {reader}")
        assert response.headers["gapless-state"] == "partial"
        assert response.headers["gapless-records"] == "252"
        await opened.get(answer["records_at"], 401)
