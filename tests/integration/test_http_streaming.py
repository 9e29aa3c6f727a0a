"""Answers too large for one piece: sent as they are made, whole or visibly broken off."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from gapless.domain.intervals import Interval
from gapless.protocol.times import parse_instant
from gapless.providers.base import DAY_MS
from gapless.store.base import Change
from support.clock import ManualClock
from support.providers import SteadyProvider
from support.stores import store_of
from support.web import READERS, SMALL, web
from support.wire import PATIENCE_S, PATIENT, but

MINUTE_MS = 60_000


# What counts as large is small here, so that these tests are quick.


def minutes(days: int) -> str:
    """Return the path of so many days, from 2020 on, of a provider with a record a minute."""
    return f"/v1/data/minutes/A?start=2020-01-01&end=2020-01-{1 + days:02d}"


@pytest.mark.share(1)
@pytest.mark.parametrize("name", READERS)
async def test_a_large_answer_comes_in_pieces(tmp_path: Path, name: str) -> None:
    """Read block by block and sent as it is made, with the same records as one in one piece."""
    steady = SteadyProvider("minutes", step=MINUTE_MS)
    path = minutes(5)
    async with web(tmp_path, steady, portions=SMALL) as opened:
        for _ in range(2):
            response = await opened.get(f"{path}&format={name}")
            assert READERS[name](response.content) == steady.rows("A", "2020-01-01", "2020-01-06")
            assert response.headers["gapless-records"] == str(5 * 1440)
        assert len(steady.asked("A")) == 1
        tag = response.headers["etag"]
        await opened.get(f"{path}&format={name}", 304, if_none_match=tag)
        part = await opened.get(f"{path}&format={name}&columns=value&limit=2000")
        values = [row["value"] for row in steady.rows("A", "2020-01-01", "2020-01-06")[:2000]]
        assert [row["value"] for row in READERS[name](part.content)] == values
        head = await opened.client.head(f"{path}&format={name}")
        assert int(head.headers["content-length"]) > 1_000
        ending = await opened.get(f"{path}&format={name}", 206, range="bytes=-10")
        assert response.content.endswith(ending.content)
        pressed = await opened.get(f"{path}&format={name}", accept_encoding="gzip")
        assert READERS[name](pressed.content) == steady.rows("A", "2020-01-01", "2020-01-06")


async def test_a_large_answer_goes_on_where_blocks_were_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series that is laid out anew while it is read is read on; one on another basis is not."""
    steady = SteadyProvider("minutes", step=MINUTE_MS)
    path = minutes(5)
    async with web(tmp_path, steady, portions=SMALL) as opened:
        await opened.get(path)
        store = store_of(opened.hub)
        runs = store.runs
        reads: list[int] = []
        doing: list[str] = ["relay"]
        key = next(iter(opened.hub.memory.keys()))

        async def disturbed(numbers: Any) -> Any:
            reads.append(len(numbers))
            if len(reads) == 4 and doing[0] == "relay":
                # Fetched anew alone it would be the same, and leave the blocks as they are.
                day = (parse_instant(f"2020-01-0{n}", now_ms=0) for n in (4, 5))
                await opened.hub.holdings.delete(key, Interval(*day))
                await opened.client.get("/v1/data/minutes/A?start=2020-01-04&end=2020-01-05")
            if len(reads) == 4 and doing[0] == "bump":
                await opened.hub.holdings.apply(Change(key, (), restates=True, at=1))
                await store.delete(key, Interval(0, 1 << 60))
            return await runs(numbers)

        monkeypatch.setattr(store, "runs", disturbed)
        response = await opened.get(f"{path}&format=ndjson")
        assert READERS["ndjson"](response.content) == steady.rows("A", "2020-01-01", "2020-01-06")
        assert len(reads) > 4
        reads.clear()
        doing[0] = "bump"
        with pytest.raises(httpx.RemoteProtocolError):
            await opened.get(f"{path}&format=ndjson")
        assert "an answer was broken off" in opened.logged("warning")
        # The server says so, too.
        opened.logged("error")


async def test_a_client_that_leaves_ends_its_answer(tmp_path: Path) -> None:
    """Nobody is read for any more, and the place is free for others."""
    steady = SteadyProvider("minutes", step=MINUTE_MS)
    path = minutes(20)
    async with web(
        tmp_path, steady, settings=but(PATIENT, api={"max_streams": 1}), portions=SMALL
    ) as opened:
        await opened.get(path)
        for _ in range(5):
            async with opened.client.stream("GET", path) as response:
                assert response.status_code == 200
                await anext(response.aiter_raw())
        async with asyncio.timeout(PATIENCE_S):
            whole = await opened.get(path)
        assert len(whole.json()) == 20 * 1440


@pytest.mark.parametrize("name", ["ndjson", "csv", "parquet"])
async def test_an_answer_that_has_begun_never_goes_on_with_other_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Refreshed or forgotten while it is read, it ends without its end, or is told as an error."""
    steady = SteadyProvider("minutes", step=MINUTE_MS)
    path = f"{minutes(5)}&format={name}"
    async with web(tmp_path, steady, portions=SMALL) as opened:
        for forget in (False, True):
            steady.padding = ""
            await opened.client.delete("/v1/series/minutes/A")
            await opened.get(minutes(5))
            store = store_of(opened.hub)
            runs = store.runs
            reads = 0

            async def disturbed(numbers: Any, runs: Any = runs, forget: bool = forget) -> Any:
                nonlocal reads
                reads += 1
                if reads == 3:
                    steady.padding = "other"
                    if forget:
                        await opened.client.delete("/v1/series/minutes/A")
                    body = {"provider": "minutes", "ticker": "A"}
                    body |= {"start": "2020-01-01", "end": "2020-01-06"}
                    await opened.client.post("/v1/refresh", json=body)
                return await runs(numbers)

            monkeypatch.setattr(store, "runs", disturbed)
            try:
                response = await opened.client.get(path)
            except httpx.RemoteProtocolError:
                pass
            else:
                assert response.status_code == 503
            assert reads >= 3
            monkeypatch.setattr(store, "runs", runs)
            whole = await opened.get(path)
            assert READERS[name](whole.content)[-1]["note"] == '"A"other'
        opened.logged("warning")
        opened.logged("error")


async def test_tags_of_large_answers_tell_their_records(tmp_path: Path) -> None:
    """Equal records, equal tag, in any database; others, another."""
    tags = []
    for number, padding in enumerate((0, 0, 1)):
        steady = SteadyProvider("minutes", step=MINUTE_MS, padding=padding)
        folder = tmp_path / str(number)
        folder.mkdir()
        async with web(folder, steady, portions=SMALL) as opened:
            await opened.get(minutes(3))
            tags.append((await opened.get(f"{minutes(3)}&format=csv")).headers["etag"])
    assert tags[0] == tags[1] != tags[2]


async def test_what_is_too_much_for_one_answer_comes_in_pages(tmp_path: Path) -> None:
    """Held in memory or not, and however large the limit is that a client writes."""
    steady = SteadyProvider()
    async with web(tmp_path, steady, settings=but(PATIENT, limits={"max_records": 20})) as opened:
        path = "/v1/data/steady/A?start=2020-01-01&end=2020-02-15"
        for _ in range(2):
            first = await opened.get(path)
            assert len(first.json()) == 20
            second = await opened.get(first.links["next"]["url"])
            last = await opened.get(second.links["next"]["url"])
            assert "next" not in last.links
            whole = [*first.json(), *second.json(), *last.json()]
            assert whole == steady.rows("A", "2020-01-01", "2020-02-15")
        for limit in ("21", "0" * 19 + "19999999999", "0" * 19 + "1" + "9" * 5_000):
            await opened.get(f"{path}&limit={limit}", 400)


async def test_a_file_that_is_read_by_ranges_stays_the_same_meanwhile(tmp_path: Path) -> None:
    """Its length and its parts are of one file, though what is asked for grows by the second."""
    clock = ManualClock(parse_instant("2020-02-01T12:00:00Z", now_ms=0))
    steady = SteadyProvider("minutes", step=1_000, tail_ms=DAY_MS)
    async with web(tmp_path, steady, clock=clock) as opened:
        path = "/v1/data/minutes/A.parquet?start=-10m"
        head = await opened.client.head(path)
        size = int(head.headers["content-length"])
        assert head.headers["accept-ranges"] == "bytes"
        clock.advance(20)
        first = await opened.get(path, 206, range="bytes=0-99")
        rest = await opened.get(path, 206, range="bytes=100-")
        assert rest.headers["content-range"] == f"bytes 100-{size - 1}/{size}"
        found = pl.read_parquet(io.BytesIO(first.content + rest.content))
        now = await opened.get(path)
        assert now.headers["accept-ranges"] == "none"
        later = pl.read_parquet(io.BytesIO(now.content))
        assert found.height == 600
        assert later["timestamp"][0] == found["timestamp"][0] + 20


async def test_tables_have_so_many_columns_at_most(tmp_path: Path) -> None:
    """Records that have each a column of their own are refused as a table, not as JSON."""

    class Wide(SteadyProvider):
        def _row(self, ticker: str, time: int) -> dict[str, Any]:
            return {"timestamp": time // 1000, f"column{time}": 1}

    async with web(tmp_path, Wide(step=MINUTE_MS), portions=SMALL) as opened:
        for days in ("2020-01-03", "2020-01-02T12:00:00Z"):
            path = f"/v1/data/steady/A?start=2020-01-01&end={days}"
            assert len((await opened.get(path)).json()) > 2_000
            refused = await opened.get(f"{path}&format=csv", 422)
            assert "columns" in refused.json()["message"]
