"""A hub that may have few files open: clients too many are told so, and nothing else suffers."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.commands import Hub, hub
from support.wire import PATIENCE_S, connect, connections, line_of, records, search

JANUARY = search("sample", "AAPL", "2012-01-01", "2012-02-01")
FEBRUARY = search("sample", "IBM", "2012-02-01", "2012-03-01")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits another process")


def let_have(running: Hub, files: int) -> None:
    """Change how many files a running hub may have open."""
    _, hard = resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (files, hard))


def first_free(running: Hub) -> int:
    """Return the number that the next file a hub opens would have."""
    taken = {int(one.name) for one in Path(f"/proc/{running.process.pid}/fd").iterdir()}
    return next(number for number in range(len(taken) + 1) if number not in taken)


@pytest.mark.slow
@needs_linux
async def test_more_clients_than_there_are_descriptors(tmp_path: Path) -> None:
    """Both doors tell those beyond the limit; what is held open by others is for work to go on."""
    async with hub(tmp_path / "hub.db", files=256) as running, AsyncExitStack() as stack:
        assert "fewer connections are taken" in running.said[0]
        fit = dict(re.findall(r"\b(tcp|http)=(\d+)", running.said[0]))
        wires = await stack.enter_async_context(connections(running.port, int(fit["tcp"])))
        hello = [await wire.ask({"type": "Ping"}) for wire in wires]
        assert hello[0]["result"]["limits"]["max_connections"] == len(wires)
        web = int(running.http.rpartition(":")[2])
        pages = await stack.enter_async_context(connections(web, int(fit["http"])))
        for page in pages:
            await page.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in await page.line()
        async with connections(running.port, 100) as refused:
            for wire in refused:
                answer = await wire.answer()
                assert answer["error"]["code"] == "overloaded"
                assert "limit on open files" in answer["error"]["message"]
                assert await wire.rest() == b""
        async with connections(web, 100) as turned_away:
            for page in turned_away:
                assert b"HTTP/1.1 503 " in await page.rest()
        # A fetch reads files that were not open before, and the database.
        assert len(records(await wires[0].ask(JANUARY))) == 20
        wires[1].writer.close()
        async with asyncio.timeout(PATIENCE_S):
            while not await let_in(running.port):
                await wires[0].ping()


async def let_in(port: int) -> bool:
    """Whether a newcomer is served."""
    async with await connect(port) as wire:
        try:
            await wire.send(line_of({"type": "Ping"}))
            return bool((await wire.answer())["ok"])
        except ConnectionError:
            # It was turned away before it had asked.
            return False


@pytest.mark.slow
@needs_linux
async def test_a_hub_that_is_out_of_descriptors(tmp_path: Path) -> None:
    """It tells newcomers, its log, its figures and whoever looks after it, and gets over it."""
    async with (
        hub(tmp_path / "hub.db") as running,
        httpx.AsyncClient(base_url=running.http, timeout=PATIENCE_S) as client,
        await connect(running.port) as wire,
    ):
        assert len(records(await wire.ask(JANUARY))) == 20

        async def told() -> list[dict[str, str]]:
            ready = await client.get("/readyz")
            assert ready.status_code == 200
            found: list[dict[str, str]] = ready.json()["warnings"]
            return found

        async def counted() -> str:
            figures = (await client.get("/metrics")).text
            (count,) = re.findall(
                r"^gapless_descriptor_shortages_total (\S+)$", figures, re.MULTILINE
            )
            return str(count)

        assert await told() == []
        assert await counted() == "0.0"
        let_have(running, first_free(running))
        assert "out of file descriptors" in await running.hear()
        (warning,) = await told()
        assert warning["code"] == "out_of_descriptors"
        assert "is out of file descriptors" in warning["message"]
        assert await counted() == "1.0"
        for _ in range(3):
            async with await connect(running.port) as refused:
                answer = await refused.answer()
                assert answer["error"]["code"] == "overloaded"
                assert "out of file descriptors" in answer["error"]["message"]
            async with await connect(int(running.http.rpartition(":")[2])) as refused:
                head, _, body = (await refused.rest()).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 503 ")
                problem: dict[str, Any] = json.loads(body)
                assert "out of file descriptors" in problem["message"]
        # Those who are in are served, from upstream too.
        assert len(records(await wire.ask(FEBRUARY))) == 20
        let_have(running, 1_000)
        assert "there are file descriptors again" in await running.hear()
        async with await connect(running.port) as newcomer:
            await newcomer.ping()
        (warning,) = await told()
        assert "was out of file descriptors" in warning["message"]
        assert await counted() == "1.0"
