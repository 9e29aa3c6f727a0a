"""The simulated endpoint over real sockets: keep-alive, the log, every fault, a clean end."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from gapless.simulator import faults
from gapless.simulator.clock import SimClock
from gapless.simulator.happenings import Odd
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.quirks import Quirks
from gapless.simulator.server import YahooSimulator

NOW = int(datetime(2026, 11, 18, 17, 10, 30, tzinfo=UTC).timestamp())
CHART = "/v8/finance/chart/"
TARGET = f"{CHART}AAPL?range=5d&interval=1d"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0"


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One keep-alive connection that speaks just enough HTTP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, target: str = TARGET, agent: str = CHROME, method: str = "GET") -> None:
        """Send one request and wait for nothing."""
        self.writer.write(
            f"{method} {target} HTTP/1.1\r\nhost: x\r\nuser-agent: {agent}\r\n\r\n".encode()
        )

    async def get(self, target: str = TARGET, agent: str = CHROME) -> Reply:
        """Send one request and read the whole answer."""
        self.send(target, agent)
        return await self.read()

    async def read(self) -> Reply:
        """Read one answer; without a length, to the end of the connection."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        line, *rest = head.split("\r\n")
        headers = dict(each.split(": ", 1) for each in rest if each)
        length = headers.get("content-length")
        if length is None:
            body = await self.reader.read()
        else:
            body = await self.reader.readexactly(int(length))
        return Reply(int(line.split()[1]), headers, body)


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Client]:
    """Open a connection and close it again."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


def simulator(
    *, lags: tuple[float, ...] = (0.0,), alternate_edges: bool = False
) -> tuple[YahooSimulator, SimClock]:
    """Return a simulator of one share whose clock stands still."""
    clock = SimClock(NOW)
    market = Market([equity("AAPL"), equity("MSFT")], edge_lags_s=lags)
    return YahooSimulator(market, clock=clock, alternate_edges=alternate_edges), clock


async def test_requests_share_a_connection_and_are_logged() -> None:
    """Two answers over one connection; the log has range, time, status and agent."""
    sim, clock = simulator()
    async with sim, client(sim.base_url) as one:
        first = await one.get()
        clock.advance(60)
        second = await one.get(
            f"/v8/finance/chart/aapl?period1={NOW - 9}&period2={NOW}&interval=1m"
        )
        await one.get(f"{CHART}NOPE?range=5d")
        await one.get("/somewhere")
        assert first.status == second.status == 200
        assert first.headers["content-type"] == "application/json;charset=utf-8"
        assert json.loads(first.body)["chart"]["error"] is None
        assert sim.connections == 1
        logged = sim.requests[1]
        assert (logged.t, logged.edge, logged.symbol, logged.interval) == (
            NOW + 60,
            0,
            "AAPL",
            "1m",
        )
        assert (logged.period1, logged.period2, logged.user_agent) == (NOW - 9, NOW, CHROME)
        await sim.reach(lambda: sim.requests[3].done)
        assert [(r.status, r.served) for r in sim.requests] == [
            (200, True),
            (200, True),
            (404, False),
            (404, False),
        ]
        sim.clear_requests()
        assert sim.requests == []


async def test_only_get_is_answered() -> None:
    """Anything else is 405, and the connection goes on."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as one:
        one.send(method="DELETE")
        assert (await one.read()).status == 405
        assert (await one.get()).status == 200


async def test_many_clients_at_once() -> None:
    """Fifty connections are answered side by side."""
    sim, _ = simulator()

    async def once() -> int:
        async with client(sim.base_url) as one:
            return (await one.get()).status

    async with sim:
        assert await asyncio.gather(*(once() for _ in range(50))) == [200] * 50


async def test_quirks_change_while_running() -> None:
    """The next request sees the new quirks."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as one:
        live = json.loads((await one.get()).body)
        sim.quirks = Quirks.none()
        settled = json.loads((await one.get()).body)
    stamps = [body["chart"]["result"][0]["timestamp"][-1] for body in (live, settled)]
    assert stamps == [NOW, NOW - NOW % 86_400 + 14 * 3600 + 1800]


async def test_every_answer_says_when_it_was_made() -> None:
    """By the simulator's clock, whatever the answer is: errors, faults and refusals too."""
    sim, clock = simulator()
    targets = (TARGET, f"{CHART}NOPE?range=5d", f"{TARGET}&interval=45m", "/somewhere")
    async with sim, client(sim.base_url) as one:
        got = [await one.get(target) for target in targets]
        clock.advance(90)
        for fault in (faults.server_error(), faults.slow_drip(chunk=4096, pause_s=0)):
            sim.faults.fail_next(fault)
            got.append(await one.get())
        one.send(method="DELETE")
        got.append(await one.read())
        for damage in (faults.huge_body(1), faults.gzip_bomb(1)):
            sim.faults.fail_next(damage)
            async with client(sim.base_url) as other:
                got.append(await other.get())
    made = [parsedate_to_datetime(reply.headers["date"]).timestamp() - NOW for reply in got]
    assert made == [0, 0, 0, 0, 90, 90, 90, 90, 90]
    assert {reply.headers["age"] for reply in got} == {"0"}


async def test_the_date_may_be_ahead_old_or_absent() -> None:
    """A skew moves the header alone; a cache's age goes with an earlier date."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as one:
        right = await one.get()
        sim.quirks = replace(sim.quirks, date_skew_s=432_000.0)
        ahead = await one.get()
        sim.quirks = Quirks(age_s=600)
        old = await one.get()
        sim.quirks = Quirks(date_header=False)
        assert "date" not in (await one.get()).headers
    assert right.body == ahead.body == old.body
    assert parsedate_to_datetime(ahead.headers["date"]).timestamp() == NOW + 432_000
    assert parsedate_to_datetime(old.headers["date"]).timestamp() == NOW - 600
    assert old.headers["age"] == "600"


async def test_one_symbol_is_no_answer_to_its_question() -> None:
    """What an odd answer holds arrives as it is, and only for its symbol."""
    sim, _ = simulator()
    token = b"9223372036854775808"
    sim.market = sim.market.fresh()
    sim.market.add(Odd("AAPL", meta=(("symbol", b"null"),), values=(("volume", token),)))
    async with sim, client(sim.base_url) as one:
        odd = await one.get()
        other = json.loads((await one.get(TARGET.replace("AAPL", "MSFT"))).body)
    assert b'"volume":[' + token in odd.body
    assert json.loads(odd.body)["chart"]["result"][0]["meta"]["symbol"] is None
    assert other["chart"]["result"][0]["meta"]["symbol"] == "MSFT"


async def test_each_edge_has_a_port_and_its_own_world() -> None:
    """Host 1 lags four hours: the session has not opened there."""
    sim, _ = simulator(lags=(0.0, 4 * 3600.0))
    times = []
    async with sim:
        for url in sim.base_urls:
            async with client(url) as one:
                body = json.loads((await one.get()).body)
                times.append(body["chart"]["result"][0]["meta"]["regularMarketTime"])
        assert [request.edge for request in sim.requests] == [0, 1]
    assert times[0] == NOW
    assert times[1] < NOW - 4 * 3600


async def test_one_host_may_answer_from_each_edge_in_turn() -> None:
    """With `alternate_edges` a single address disagrees with itself."""
    sim, _ = simulator(lags=(0.0, 4 * 3600.0), alternate_edges=True)
    async with sim, client(sim.base_url) as one:
        bodies = [(await one.get()).body for _ in range(4)]
    assert bodies[0] == bodies[2] != bodies[1] == bodies[3]


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (faults.too_many_requests(), 429, b"Edge: Too Many Requests"),
        (faults.too_many_requests("Too Many Requests"), 429, b"Too Many Requests"),
        (faults.invalid_crumb(), 401, b"Invalid Crumb"),
        (faults.server_error(500), 500, b"upstream error"),
        (faults.html_page(), 200, b"Will be right back"),
        (faults.html_page(503), 503, b"Will be right back"),
        (faults.not_found(), 404, b"symbol may be delisted"),
        (faults.wrong_json(), 200, b'{"chart":{"result":[{"meta":'),
        (faults.wrong_json(b"[]"), 200, b"[]"),
    ],
)
async def test_replies_instead_of_the_truth(fault: faults.Fault, status: int, body: bytes) -> None:
    """The fault hits once, is logged, and leaves the connection open."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as one:
        sim.faults.fail_next(fault)
        got = await one.get()
        assert got.status == status
        assert body in got.body
        assert "retry-after" not in got.headers
        assert (await one.get()).status == 200
        await sim.reach(lambda: sim.requests[-1].served)
        assert [(r.fault, r.served) for r in sim.requests] == [(fault.name, False), (None, True)]


async def test_retry_after_is_sent_if_asked_for() -> None:
    """Upstream does not send it, others do."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as one:
        sim.faults.fail_next(faults.too_many_requests(retry_after="30"))
        assert (await one.get()).headers["retry-after"] == "30"


async def test_faults_by_number_by_choice_and_until_cleared() -> None:
    """`times` counts down, `when` picks, `fail_always` lasts."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as one:
        sim.faults.fail_next(faults.server_error(502), times=2)
        assert [(await one.get()).status for _ in range(3)] == [502, 502, 200]
        sim.faults.fail_always(faults.server_error(503), when=lambda asked: asked.interval == "1wk")
        weekly = TARGET.replace("1d", "1wk")
        assert [(await one.get(target)).status for target in (weekly, TARGET, weekly)] == [
            503,
            200,
            503,
        ]
        sim.faults.clear()
        assert (await one.get(weekly)).status == 200


async def test_one_symbol_fails_for_a_while() -> None:
    """Its page comes from the one instant until the other; the other symbol is answered."""
    sim, clock = simulator()
    other = TARGET.replace("AAPL", "MSFT")
    sim.faults.fail_while(faults.html_page(500), NOW + 60, NOW + 120, when=faults.of("AAPL"))
    got = []
    async with sim, client(sim.base_url) as one:
        for _ in range(3):
            got.append([(await one.get(target)).status for target in (TARGET, other)])
            clock.advance(60)
    assert got == [[200, 200], [500, 200], [200, 200]]


async def test_user_agent_gate() -> None:
    """What looks like a browser gets in; scripts and the nameless get 429."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as one:
        sim.faults.user_agent_gate = True
        agents = (CHROME, "python-requests/2.32", "curl/8.5.0", "", "Mozilla/5.0 python")
        assert [(await one.get(agent=agent)).status for agent in agents] == [200] + [429] * 4


async def test_ip_block_window() -> None:
    """One request too many within the window blocks all, until the block is over."""
    sim, clock = simulator()
    async with sim, client(sim.base_url) as one:
        sim.faults.ip_block = faults.IpBlock(requests=3, window_s=60, block_s=900)
        assert [(await one.get()).status for _ in range(4)] == [200, 200, 200, 429]
        clock.advance(899)
        assert (await one.get()).status == 429
        clock.advance(1)
        assert [(await one.get()).status for _ in range(3)] == [200, 200, 200]
        clock.advance(60)
        assert (await one.get()).status == 200


async def test_a_hanging_request_is_answered_on_release() -> None:
    """Nothing comes before, the truth afterwards; meanwhile others are served."""
    sim, clock = simulator()
    async with sim, client(sim.base_url) as one, client(sim.base_url) as other:
        sim.faults.fail_next(faults.hang())
        one.send()
        await sim.reach(lambda: any(r.fault == "hang" for r in sim.requests))
        assert (await other.get()).status == 200
        assert sim.requests[0].status is None
        clock.advance(60)
        sim.release()
        body = json.loads((await one.read()).body)
        assert body["chart"]["result"][0]["meta"]["regularMarketTime"] == NOW + 60
        await sim.reach(lambda: sim.requests[0].served)
        assert (sim.requests[0].t, sim.requests[0].shown_t) == (NOW, NOW + 60)


async def test_a_client_that_left_was_not_served() -> None:
    """An answer nobody waits for is not counted as served."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as other:
        sim.faults.fail_next(faults.hang())
        async with client(sim.base_url) as one:
            one.send()
            await sim.reach(lambda: any(r.fault == "hang" for r in sim.requests))
        # A round trip on another connection: by then the server has read the end of this one.
        assert (await other.get()).status == 200
        sim.release()
        await sim.reach(lambda: sim.requests[0].done)
        assert not sim.requests[0].served


async def test_slow_drip_arrives_whole() -> None:
    """Bytes in small pieces make the same answer."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as one:
        straight = (await one.get()).body
        sim.faults.fail_next(faults.slow_drip(chunk=100, pause_s=0))
        assert (await one.get()).body == straight
        await sim.reach(lambda: sim.requests[1].served)


async def test_truncated_body() -> None:
    """The connection ends before the promised length."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as one:
        sim.faults.fail_next(faults.truncated(0.25))
        with pytest.raises(asyncio.IncompleteReadError) as short:
            await one.get()
        assert short.value.expected is not None
        assert len(short.value.partial) == short.value.expected // 4
        assert not sim.requests[0].served


async def test_huge_body() -> None:
    """As many megabytes as asked for, and no JSON."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as one:
        sim.faults.fail_next(faults.huge_body(3))
        assert len((await one.get()).body) == 3 << 20


async def test_gzip_bomb() -> None:
    """A small body unpacks to a large one."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as one:
        sim.faults.fail_next(faults.gzip_bomb(16))
        got = await one.get()
        assert got.headers["content-encoding"] == "gzip"
        assert len(got.body) < 1 << 18
        assert len(zlib.decompress(got.body, wbits=31)) > 16 << 20


async def test_connection_reset() -> None:
    """The client's read fails instead of ending."""
    sim, _ = simulator()
    async with sim, client(sim.base_url) as one:
        sim.faults.fail_next(faults.connection_reset())
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await one.get()
        assert (sim.requests[0].fault, sim.requests[0].status) == ("reset", None)


async def test_refusing_connections_and_accepting_again() -> None:
    """Refused: open connections end, new ones fail; afterwards the address is the same."""
    sim, _ = simulator()
    async with sim:
        url = sim.base_url
        async with client(url) as one:
            assert (await one.get()).status == 200
            await sim.refuse()
            assert await one.reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            async with client(url):
                pass
        await sim.accept()
        assert sim.base_url == url
        async with client(url) as one:
            assert (await one.get()).status == 200


async def test_the_end_waits_for_nobody() -> None:
    """Leaving closes hanging requests and readers that have stopped reading; no task is left."""
    sim, _ = simulator()
    before = asyncio.all_tasks()
    async with sim, client(sim.base_url) as one, client(sim.base_url) as two:
        sim.faults.fail_next(faults.hang())
        one.send()
        await sim.reach(lambda: any(r.fault == "hang" for r in sim.requests))
        sim.faults.fail_next(faults.huge_body(64))
        two.send()
        await sim.reach(lambda: any(r.fault == "huge_body" for r in sim.requests))
        await sim.refuse()
        assert asyncio.all_tasks() == before
