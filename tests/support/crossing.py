"""Two hubs, one of which names an address for HTTP at which the other one answers.

As behind a tunnel that has but the TCP port, or with two containers whose ports are mapped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from support.forwarders import Forwarder, forwarder
from support.people import api_token, person
from support.providers import SteadyProvider
from support.web import Web, web
from support.wire import PATIENT, but

# 7,200 records: more than are sent along over TCP where HTTP is used.
RANGE = ("2021-01-01", "2021-01-06")
SHORT = ("2021-01-01", "2021-01-01T01:00:00Z")
LINE = f"provider minutes search ticker=A date={RANGE[0]}..{RANGE[1]}"


def ours() -> SteadyProvider:
    """Return what the hub has that is asked: a record a minute."""
    return SteadyProvider("minutes", step=60_000)


def theirs() -> SteadyProvider:
    """Return what the other one has: under the same names, and told apart in every record."""
    return SteadyProvider("minutes", step=60_000, padding=3)


@dataclass(frozen=True, slots=True)
class Crossed:
    """Hub A, asked at `port`, which names an address for HTTP that leads to hub B, by `wrong`."""

    a: Web
    b: Web
    port: int
    wrong: Forwarder
    token: str | None

    def kept_apart(self) -> None:
        """See that B was greeted, and that nothing else came to it."""
        assert self.wrong.connections
        requests = bytes(self.wrong.sent).split(b"\r\n\r\n")
        assert {one.split(b" HTTP/")[0] for one in requests if one} == {b"GET /healthz"}
        assert b"gapless_" not in self.wrong.sent
        assert b"authorization" not in self.wrong.sent.lower()
        assert {door for door, _ in self.b.meter.requests} <= {"http"}


@asynccontextmanager
async def crossed(
    folder: Path, auth: bool = False, max_records: int = 1_000_000
) -> AsyncIterator[Crossed]:
    """Run the two hubs."""
    settings = but(PATIENT, limits={"max_records": max_records})
    for name in ("a", "b"):
        (folder / name).mkdir(exist_ok=True)
    async with (
        web(folder / "a", ours(), auth=auth, settings=settings) as a,
        web(folder / "b", theirs(), auth=auth, settings=settings) as b,
        forwarder(b.port) as wrong,
        forwarder(a.tcp_port, {a.url.encode(): wrong.url.encode()}) as way,
    ):
        token = None
        if auth:
            someone = await person(a.authority, "admin")
            token = await api_token(a.authority, someone.email)
        yield Crossed(a, b, way.port, wrong, token)
