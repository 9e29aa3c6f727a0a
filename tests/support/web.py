"""A hub behind its HTTP door, and a client as programs have one."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from ssl import SSLContext
from typing import Any

import httpx
import polars as pl
from structlog.testing import capture_logs

from gapless.auth.authority import Authority
from gapless.clock import Clock, SystemClock
from gapless.config import Settings
from gapless.hub.hub import Hub
from gapless.hub.plugins import Plugins
from gapless.providers.base import Provider
from gapless.providers.registry import Registry
from gapless.servers.admission import Admission
from gapless.servers.desk import Desk
from gapless.servers.http.door import HttpDoor
from gapless.servers.meter import Meter
from gapless.servers.reading import PORTIONS, Portions
from gapless.servers.tcp import TcpServer
from gapless.store.sqlite import open_store
from support.people import PASSWORD
from support.wire import (
    PATIENCE_S,
    PATIENT,
    Wire,
    announcement,
    connect,
    nothing_unnoticed,
)

# So that an answer of a few thousand records is large.
SMALL = Portions(most_loaded=1_000, piece_records=2_000)


@dataclass(frozen=True, slots=True)
class Web:
    """A hub with both doors open; `client` asks the HTTP one, `logs` has what was logged."""

    hub: Hub
    plugins: Plugins
    authority: Authority
    http_door: HttpDoor
    port: int
    tcp_port: int
    client: httpx.AsyncClient
    logs: list[Any]
    meter: Meter
    tcp: TcpServer

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}"

    async def wire(self) -> Wire:
        """Return a connection of plain bytes to the HTTP door."""
        return await connect(self.port)

    async def get(self, path: str, status: int = 200, **headers: str) -> httpx.Response:
        """Ask for a path with headers (underscores for dashes), and expect a status."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.client.get(path, headers=named)
        assert response.status_code == status, (path, response.status_code, response.text[:500])
        return response

    async def send(
        self, method: str, path: str, body: object = None, status: int = 200
    ) -> dict[str, Any]:
        """Send JSON, or nothing, and return the JSON of the answer, which has this status."""
        response = await self.client.request(method, path, json=body)
        assert response.status_code == status, (path, response.status_code, response.text[:500])
        result: dict[str, Any] = response.json()
        return result

    def logged(self, level: str) -> list[str]:
        """Return what was logged at this level, and forget it."""
        found = [one["event"] for one in self.logs if one["log_level"] == level]
        self.logs[:] = [one for one in self.logs if one["log_level"] != level]
        return found


@asynccontextmanager
async def web(
    folder: Path,
    *providers: Provider,
    settings: Settings = PATIENT,
    portions: Portions = PORTIONS,
    clock: Clock | None = None,
    auth: bool = False,
    tls: SSLContext | None = None,
    tcp_port: int = 0,
    http_port: int = 0,
) -> AsyncIterator[Web]:
    """Run a hub with these providers on a database in `folder`, both doors open.

    It may log no error but those that the test asks for.
    """
    clock = clock or SystemClock()
    meter = Meter()
    async with AsyncExitStack() as stack:
        store = await asyncio.to_thread(open_store, folder / "web.db")
        stack.push_async_callback(store.close)
        logs = stack.enter_context(capture_logs())
        stack.enter_context(nothing_unnoticed())
        registry = Registry(providers)
        authority = Authority(store.accounts, clock, auth, settings.access)
        stack.push_async_callback(authority.close)
        await authority.load()
        plugins = Plugins(
            store,
            registry,
            clock,
            settings.plugins,
            base=folder,
            record=authority.audit.about,
        )
        stack.push_async_callback(plugins.close)
        hub = Hub(store, registry, clock, settings, observe=meter.asked, seed=0)
        hub.holdings.listeners.append(meter.changed)
        stack.push_async_callback(hub.close, 1.0)
        desk = Desk(hub, clock, Admission(authority, clock), announcement(hub), meter=meter)
        tcp = TcpServer(desk, settings.limits, settings.access, tls)
        door = HttpDoor(desk, plugins, lambda: len(tcp.connections), settings, tls, portions)
        stack.push_async_callback(door.close, 1.0)
        host, port = await door.open("127.0.0.1", http_port)
        scheme = "http" if tls is None else "https"
        desk.http = f"{scheme}://{host}:{port}"
        _, tcp_port = await tcp.open("127.0.0.1", tcp_port)
        stack.push_async_callback(tcp.close, 1.0)
        client = await stack.enter_async_context(
            # Nothing is verified over plain HTTP, and reading what to trust takes a while.
            httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=PATIENCE_S, verify=False)
        )
        client.headers.pop("accept-encoding")
        opened = Web(hub, plugins, authority, door, port, tcp_port, client, logs, meter, tcp)
        yield opened
        assert not opened.logged("error")


@asynccontextmanager
async def signed_in(opened: Web, email: str) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a browser, as far as HTTP shows one, with its cookie."""
    home = f"http://localhost:{opened.port}"
    headers = {"accept": "text/html", "origin": home}
    async with httpx.AsyncClient(
        base_url=home, headers=headers, timeout=PATIENCE_S, verify=False
    ) as browser:
        answer = await browser.post("/login", data={"email": email, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        yield browser


async def say(opened: Web, head: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Send a request as it is written, and return status, headers and body of the answer."""
    async with await opened.wire() as wire:
        await wire.send(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        return parsed(await wire.rest())


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body


def stitch_of(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the stitch in the headers of an answer as TCP tells it."""

    def spans(name: str) -> list[list[str]]:
        text = headers[f"gapless-{name}"]
        return [span.split("..") for span in text.split(", ")] if text else []

    return {
        "cached": spans("cached"),
        "fetched": spans("fetched"),
        "missing": spans("missing"),
        "upstream_requests": int(headers["gapless-upstream-requests"]),
        "state": headers["gapless-state"],
    }


def csv(text: bytes) -> list[dict[str, Any]]:
    """Return the records of a CSV."""
    return pl.read_csv(text, infer_schema_length=None).to_dicts()


READERS: dict[str, Callable[[bytes], list[dict[str, Any]]]] = {
    "json": lambda body: json.loads(body),
    "ndjson": lambda body: [json.loads(line) for line in body.splitlines()],
    "csv": csv,
    "arrow": lambda body: pl.read_ipc_stream(io.BytesIO(body)).to_dicts(),
    "parquet": lambda body: pl.read_parquet(io.BytesIO(body)).to_dicts(),
}
"""What reads the records of each format."""


def undated(format: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return records without the dates that tables have, which are those of their times in UTC."""
    if format in ("json", "ndjson"):
        return rows
    plain = [{key: value for key, value in row.items() if key != "date"} for row in rows]
    days = [str(datetime.fromtimestamp(row["timestamp"], UTC).date()) for row in rows]
    # Some readers make an instant of a date.
    assert [str(row["date"])[:10] for row in rows] == days
    return plain
