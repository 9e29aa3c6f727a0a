"""Answers that leave their records to HTTP: `inline_records`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gapless.domain.series import SeriesKey
from gapless.providers.sample import SampleProvider
from gapless.store.base import Change
from support.people import api_token, person
from support.providers import SteadyProvider
from support.web import Web, undated, web
from support.wire import PATIENT, Wire, but, connect, door, records, request, search


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
        assert undated("arrow", frame.to_dicts()) == whole["result"][0]["data"]
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
    settings = but(PATIENT, limits={"max_records": 100})
    async with (
        web(tmp_path, SampleProvider(), settings=settings) as opened,
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


async def test_a_hub_without_http_leaves_out_as_well(tmp_path: Path) -> None:
    """It says how many records there are, and of which version; the pieces are of the same."""
    settings = but(PATIENT, limits={"max_records": 100})
    async with (
        door(tmp_path, SampleProvider(), settings=settings) as opened,
        opened.client() as wire,
    ):
        left_out = await asked(wire, inline_records=100)
        assert left_out["result"][0]["data"] is None
        assert (left_out["records"], "records_at" in left_out) == (252, False)
        pieces = []
        for bounds in (("2010-01-01", "2010-05-01"), ("2010-05-01", "2010-09-15T12:00:00Z")):
            piece = await wire.ask(search("sample", "AAPL", *bounds), inline_records=100)
            assert piece["version"] == left_out["version"]
            assert "records" not in piece
            pieces += records(piece)
        rest = search("sample", "AAPL", "2010-09-15T12:00:00Z", "2011-01-01")
        pieces += records(await wire.ask(rest, inline_records=100))
        assert len(pieces) == 252
        assert (await asked(wire))["error"]["code"] == "too_large"
        for inline in (0, 251):
            more = await asked(wire, inline_records=inline)
            assert more["records"] == 252
        assert (await asked(wire, inline_records=252))["error"]["code"] == "too_large"


async def test_records_are_counted_to_the_last(tmp_path: Path) -> None:
    """Also where blocks reach beyond the range, in memory or not, and nothing is cut too often."""
    steady = SteadyProvider("minutes", step=60_000)
    whole = search("minutes", "A", "2021-01-01", "2021-01-06")
    edges = search("minutes", "A", "2021-01-01T00:30:30Z", "2021-01-05T23:00:00Z")
    async with door(tmp_path, steady) as opened, opened.client() as wire:
        await wire.ask(whole, inline_records=0)
    # Another start has nothing in memory.
    async with door(tmp_path, steady) as opened, opened.client() as wire:
        for _ in range(2):
            answer = await wire.ask(edges, inline_records=7_000)
            assert answer["records"] == 7_200 - 31 - 60
        assert len(records(await wire.ask(edges, inline_records=7_109))) == 7_109
        assert (await wire.ask(edges, inline_records=7_108))["records"] == 7_109


async def test_the_version_is_another_one_where_records_do_not_fit(tmp_path: Path) -> None:
    """On another basis, or after it was forgotten; not when more of it, or the same, is fetched."""
    async with (
        web(tmp_path, SteadyProvider()) as opened,
        await connect(opened.tcp_port) as wire,
    ):
        body = {"provider": "steady", "ticker": "A", "start": "2021-01-01", "end": "2021-02-01"}

        async def version(end: str) -> str:
            query = search("steady", "A", "2021-01-01", end)
            told: str = (await wire.ask(query, inline_records=10_000))["version"]
            return told

        seen = [await version("2021-02-01")]
        pong = await wire.ask({"type": "Ping"})
        assert seen[0].startswith(pong["result"]["instance"])
        assert await version("2021-02-01") == seen[0] == await version("2021-01-02")
        assert await version("2021-03-01") == seen[0]
        await opened.send("POST", "/v1/refresh", body)
        assert await version("2021-02-01") == seen[0]
        key = SeriesKey("steady", "A")
        await opened.hub.holdings.apply(Change(key, (), restates=True, at=1))
        seen.append(await version("2021-02-01"))
        await opened.send("DELETE", "/v1/series/steady/A")
        seen.append(await version("2021-02-01"))
        assert len(set(seen)) == 3
        other = search("steady", "B", "2021-01-01", "2021-02-01")
        assert "version" not in await wire.ask(other)


async def test_views_are_left_out_too(tmp_path: Path) -> None:
    """HTTP is not told of, which would search anew; a view may have more than an answer."""
    settings = but(PATIENT, limits={"max_records": 100})
    async with (
        web(tmp_path, SampleProvider(), settings=settings) as opened,
        await connect(opened.tcp_port) as wire,
    ):
        block = (await asked(wire, inline_records=0))["result"][0]["id"]
        # Whether a range is a block of the store, too, makes no difference.
        whole = await wire.ask(request("sample", "GetEntity", id=block), inline_records=100)
        assert whole["records"] == 252
        id = block.replace("2010-01-01", "2010-01-02")
        view = request("sample", "GetEntity", id=id)
        assert (await wire.ask(view))["error"]["code"] == "too_large"
        left_out = await wire.ask(view, inline_records=100)
        assert (left_out["records"], left_out["result"][0]["data"]) == (252, None)
        assert not {"records_at", "stitch"} & set(left_out)
        part = id.replace("2011-01-01", "2010-03-01")
        piece = await wire.ask(request("sample", "GetEntity", id=part), inline_records=100)
        assert piece["version"] == left_out["version"]
        assert records(piece)
        assert set(await wire.ask(request("sample", "GetEntity", id=part))) == set(left_out) - {
            "records",
            "version",
        }


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
