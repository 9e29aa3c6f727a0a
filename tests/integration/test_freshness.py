"""How fresh an answer is wanted, said over every door: held, check, now (stitching rule 10)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import gapless
from gapless.cli.exits import Exit
from gapless.config import Settings, YahooSettings
from gapless.domain.freshness import Freshness
from gapless.protocol.messages import FRESH_WORDS
from gapless.providers.yahoo import YahooProvider
from gapless.simulator.happenings import Absent
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.server import YahooSimulator
from support.asking import asking, cautioned
from support.clock import ManualClock
from support.commands import gapless as command
from support.providers import SteadyProvider
from support.scenes import PRICES, REJECTED, ms
from support.web import Web, stitch_of, web
from support.wire import PATIENCE_S, PATIENT, Wire, but, connect, records, request, search

MAY = ("2026-05-01", "2026-06-01")
LINE = f"provider yahoo_finance search ticker=ACME date={MAY[0]}..{MAY[1]}"
TARGET = f"/v1/data/yahoo_finance/ACME?start={MAY[0]}&end={MAY[1]}"
DAYS_S = 3 * 86_400.0


@dataclass(slots=True)
class Scene:
    """A hub with both doors open before a simulated Yahoo, on one clock."""

    opened: Web
    sim: YahooSimulator
    clock: ManualClock

    def age(self) -> None:
        """Let what is held become due: sessions close."""
        self.clock.advance(DAYS_S)

    def requests(self) -> int:
        """Return how many requests have reached upstream since this was last asked."""
        count = len(self.sim.requests)
        self.sim.clear_requests()
        return count


@asynccontextmanager
async def scene(folder: Path, settings: Settings = PATIENT) -> AsyncIterator[Scene]:
    """Open a hub on a Wednesday evening; nothing is held yet."""
    clock = ManualClock(ms("2026-06-10T20:30"))
    market = Market([equity("ACME"), equity("EMCA")], prices=PRICES)
    async with YahooSimulator(market, clock=lambda: clock.now_ms() / 1000) as sim:
        yahoo = YahooSettings(
            base_url=sim.base_url,
            fallback_url=None,
            rate=1000.0,
            burst=1000,
            timeout_s=PATIENCE_S,
        )
        provider = YahooProvider(yahoo, monotonic=clock.monotonic)
        steady = SteadyProvider("steady")
        async with web(folder, provider, steady, clock=clock, settings=settings) as opened:
            yield Scene(opened, sim, clock)


# What each door answers to the same question: the stitch, as TCP tells it

Ask = Callable[[Web, str | None], Awaitable[dict[str, Any]]]


async def by_envelope(opened: Web, fresh: str | None) -> dict[str, Any]:
    """Say it in the request."""
    said = {} if fresh is None else {"fresh": fresh}
    async with await connect(opened.tcp_port) as wire:
        answer = await wire.ask(search("yahoo_finance", "ACME", *MAY), **said)
    assert answer["ok"], answer
    stitch: dict[str, Any] = answer["stitch"]
    return stitch


async def by_line(opened: Web, fresh: str | None) -> dict[str, Any]:
    """Say it in the query language."""
    line = LINE if fresh is None else f"{LINE} fresh={fresh}"
    async with await connect(opened.tcp_port) as wire:
        answer = await wire.ask({"type": "Line", "payload": {"line": line}})
    assert answer["ok"], answer
    stitch: dict[str, Any] = answer["stitch"]
    return stitch


async def beside_a_line(opened: Web, fresh: str | None) -> dict[str, Any]:
    """Say it in the request around a line of the query language."""
    said = {} if fresh is None else {"fresh": fresh}
    async with await connect(opened.tcp_port) as wire:
        answer = await wire.ask({"type": "Line", "payload": {"line": LINE}}, **said)
    assert answer["ok"], answer
    stitch: dict[str, Any] = answer["stitch"]
    return stitch


async def by_get(opened: Web, fresh: str | None) -> dict[str, Any]:
    """Say it in the address of the records."""
    target = TARGET if fresh is None else f"{TARGET}&fresh={fresh}"
    found = await opened.get(target)
    stitch = stitch_of(found.headers)
    if "gapless-why" in found.headers:
        stitch["why"] = json.loads(found.headers["gapless-why"])
    return stitch


async def by_post(opened: Web, fresh: str | None) -> dict[str, Any]:
    """Say it in a request that is posted."""
    body: dict[str, Any] = {"query": search("yahoo_finance", "ACME", *MAY), "fresh": fresh}
    stitch: dict[str, Any] = (await opened.send("POST", "/v1/query", body))["stitch"]
    return stitch


def by_client(kind: str) -> Ask:
    """Say it to a client's `search`."""

    async def ask(opened: Web, fresh: str | None) -> dict[str, Any]:
        async with asking(kind, opened.tcp_port) as hub:
            with cautioned():
                found = await hub.search("yahoo_finance", "ACME", *MAY, fresh=fresh)
        return as_wire(found.stitch)

    return ask


def by_clients_line(kind: str) -> Ask:
    """Say it in a line that a client sends."""

    async def ask(opened: Web, fresh: str | None) -> dict[str, Any]:
        line = LINE if fresh is None else f"{LINE} fresh={fresh}"
        async with asking(kind, opened.tcp_port) as hub:
            with cautioned():
                (found,) = await hub.query(line)
                answer = await hub.send_line(f"{LINE} fresh=held")
        # Answers as they are on the wire say it, too.
        assert answer["stitch"]["upstream_requests"] == 0
        return as_wire(found.stitch)

    return ask


async def by_command(opened: Web, fresh: str | None) -> dict[str, Any]:
    """Say it to `gapless query`."""
    flags = () if fresh is None else ("--fresh", fresh)
    done = await command("query", LINE, "--tcp", f"127.0.0.1:{opened.tcp_port}", *flags)
    assert done.code == Exit.OK, done.err
    stitch: dict[str, Any] = json.loads(done.out)["stitch"]
    return stitch


async def by_shell(opened: Web, fresh: str | None) -> dict[str, Any]:
    """Say it in the shell."""
    line = LINE if fresh is None else f"{LINE} fresh={fresh}"
    address = ("--tcp", f"127.0.0.1:{opened.tcp_port}")
    done = await command("shell", *address, stdin=f"{line}\n")
    assert done.code == Exit.OK, done.err
    stitch: dict[str, Any] = json.loads(done.out)["stitch"]
    return stitch


def as_wire(stitch: gapless.Stitch | None) -> dict[str, Any]:
    """Return a client's stitch with the keys of the wire that are looked at here."""
    assert stitch is not None
    return {
        "cached": stitch.cached,
        "fetched": stitch.fetched,
        "missing": stitch.missing,
        "state": stitch.state,
        "upstream_requests": stitch.upstream_requests,
        "why": [{"reason": one.reason} for one in stitch.why],
    }


DOORS: dict[str, Ask] = {
    "envelope": by_envelope,
    "line": by_line,
    "beside a line": beside_a_line,
    "get": by_get,
    "post": by_post,
    "client": by_client("sync"),
    "async client": by_client("async"),
    "client's line": by_clients_line("sync"),
    "async client's line": by_clients_line("async"),
    "command": by_command,
    "shell": by_shell,
}


def reasons(stitch: dict[str, Any]) -> list[str]:
    """Return the reasons that a stitch gives."""
    return [one["reason"] for one in stitch.get("why", ())]


@pytest.mark.share(3)
@pytest.mark.parametrize("door", DOORS)
async def test_each_door_takes_each_word(tmp_path: Path, door: str) -> None:
    """Of what is due `held` asks nothing, `check` looks at it, `now` fetches all of it."""
    ask = DOORS[door]
    async with scene(tmp_path) as it:
        first = await ask(it.opened, "held")
        assert (first["state"], first["upstream_requests"]) == ("ready", 1), "gaps are fetched"
        assert first["fetched"]
        it.age()
        it.requests()
        for _ in range(2):
            held = await ask(it.opened, "held")
            assert (held["state"], held["upstream_requests"]) == ("stale", 0)
            assert reasons(held) == ["check_pending"]
            assert held["cached"]
            assert not held["fetched"]
            assert not held["missing"]
        assert it.requests() == 0
        looked = await ask(it.opened, None)
        assert (looked["state"], looked["upstream_requests"]) == ("ready", it.requests())
        assert looked["upstream_requests"] == 1
        for word in ("check", "held"):
            found = await ask(it.opened, word)
            assert (found["state"], found["upstream_requests"]) == ("ready", 0)
        for _ in range(2):
            anew = await ask(it.opened, "now")
            assert (anew["state"], anew["upstream_requests"]) == ("ready", it.requests())
            assert anew["upstream_requests"] == 1
            # What was held counts as held, whether or not it was fetched again (rule 14).
            assert (anew["cached"], anew["fetched"]) == (held["cached"], held["fetched"])


async def test_many_tickers_as_they_are_held(tmp_path: Path) -> None:
    """`search_many` carries the word to each, over HTTP and without it."""
    tickers = ["ACME", "EMCA"]
    async with scene(tmp_path) as it:
        for kind in ("sync", "async"):
            for http in (None, False):
                async with asking(kind, it.opened.tcp_port, http=http) as hub:
                    first = await hub.search_many("yahoo_finance", tickers, *MAY)
                    it.age()
                    it.requests()
                    with cautioned() as said:
                        held = await hub.search_many("yahoo_finance", tickers, *MAY, fresh="held")
                    assert held.equals(first)
                    assert [text.count("may be out of date") for text in said] == [1, 1]
                    assert it.requests() == 0
                    await hub.search_many("yahoo_finance", tickers, *MAY, fresh="now")
                    assert it.requests() == 2
                    with pytest.raises(gapless.InvalidQuery, match="expected held, check, now"):
                        await hub.search_many("yahoo_finance", tickers, *MAY, fresh="soon")


# Memos


async def bytes_of(wire: Wire, fresh: str) -> dict[str, Any]:
    """Ask over a connection, by the same bytes for the same word but for the id."""
    query = search("yahoo_finance", "ACME", *MAY)
    await wire.send(json.dumps({"request_id": 1, "query": query, "fresh": fresh}).encode() + b"\n")
    return await wire.answer()


async def test_ready_answers_over_tcp_are_not_mixed(tmp_path: Path) -> None:
    """What is kept ready for one word is not the answer to another, nor for longer than it is."""
    async with scene(tmp_path) as it, await connect(it.opened.tcp_port) as wire:
        for word in ("check", "held", "check", "held"):
            await bytes_of(wire, word)
        memos = it.opened.tcp.desk.memos
        assert memos.hits == 0
        await wire.send(request_line("check"))
        await wire.answer()
        await wire.send(request_line("check"))
        assert (await wire.answer())["stitch"]["state"] == "ready"
        assert memos.hits == 1
        it.requests()
        for word in ("now", "now"):
            await wire.send(request_line(word))
            assert (await wire.answer())["stitch"]["upstream_requests"] == 1
        assert (it.requests(), memos.hits) == (2, 1)
        for word in ("held", "held"):
            await wire.send(request_line(word))
            assert (await wire.answer())["stitch"]["state"] == "ready"
        assert memos.hits == 2
        it.age()
        for word in ("held", "held"):
            await wire.send(request_line(word))
            assert (await wire.answer())["stitch"]["state"] == "stale"
        assert (it.requests(), memos.hits) == (0, 2)
        await wire.send(request_line("check"))
        assert (await wire.answer())["stitch"]["upstream_requests"] == 1


def request_line(fresh: str) -> bytes:
    """Return a request as clients write it, so that its answer may be kept ready."""
    query = json.dumps(search("yahoo_finance", "ACME", *MAY))
    return f'{{"request_id":1,"query":{query},"fresh":"{fresh}"}}\n'.encode()


@pytest.mark.parametrize("format", ["json", "arrow", "csv"])
async def test_ready_answers_over_http_are_not_mixed(tmp_path: Path, format: str) -> None:
    """Bodies that are kept ready answer their own word alone, and `now` never."""

    async def told(it: Scene, fresh: str) -> tuple[str, int]:
        found = await it.opened.get(f"{TARGET}&format={format}&fresh={fresh}")
        # Not what the answer tells of itself: one that was kept would tell the same again.
        return stitch_of(found.headers)["state"], it.requests()

    async with scene(tmp_path) as it:
        await told(it, "check")
        for word in ("check", "held", "check", "held"):
            assert await told(it, word) == ("ready", 0)
        for _ in range(3):
            assert await told(it, "now") == ("ready", 1)
        it.age()
        for _ in range(2):
            assert await told(it, "held") == ("stale", 0)
        assert await told(it, "check") == ("ready", 1)
        assert await told(it, "held") == ("ready", 0)


async def test_now_asks_again_where_nothing_of_it_is_served(tmp_path: Path) -> None:
    """An answer that took no request is not kept ready for `now`, for the next may take one."""
    async with scene(tmp_path) as it:
        before = "/v1/data/steady/A?start=2019-01-01&end=2019-02-01&fresh=now"
        for _ in range(2):
            assert stitch_of((await it.opened.get(before)).headers)["state"] == "ready"
        hits = it.opened.tcp.desk.memos.hits
        assert hits == 0


# Pages and pieces


async def test_pages_are_fetched_anew_once(tmp_path: Path) -> None:
    """What the first page had fetched anew is not fetched again for those that follow it."""
    async with scene(tmp_path) as it:
        await it.opened.get(TARGET)
        it.requests()
        for word, expected in (("now", 1), ("held", 0)):
            if word == "held":
                it.age()
            target: str | None = f"{TARGET}&limit=5&fresh={word}"
            pages, states = 0, set()
            while target is not None:
                found = await it.opened.get(target)
                states.add(found.headers["gapless-state"])
                pages += 1
                link = found.headers.get("link")
                target = None if link is None else link[1 : link.index(">")]
            assert pages == 5
            assert it.requests() == expected
            assert states == {"ready" if word == "now" else "stale"}


@pytest.mark.share(1)
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("http", [None, False])
async def test_large_ranges_carry_the_word(tmp_path: Path, kind: str, http: bool | None) -> None:
    """Columns over HTTP and pieces over TCP are of what the answer without them has fetched."""
    years = ("1990-01-02", "2026-06-01")
    most = but(PATIENT, limits={"max_records": 2_000}) if http is False else PATIENT
    async with (
        scene(tmp_path, most) as it,
        asking(kind, it.opened.tcp_port, http=http) as hub,
    ):
        first = await hub.search("yahoo_finance", "ACME", *years)
        assert len(first) > 9_000
        it.age()
        it.requests()
        with cautioned():
            held = await hub.search("yahoo_finance", "ACME", *years, fresh="held")
        assert (held.state, held.etag) == ("stale", first.etag)
        assert held.records == first.records
        assert {one.reason for one in held.stitch.why} == {"check_pending"}
        assert it.requests() == 0
        anew = await hub.search("yahoo_finance", "ACME", *years, fresh="now")
        assert (anew.state, anew.etag) == ("ready", first.etag)
        assert it.requests() == anew.stitch.upstream_requests == 1


# Refusals


@pytest.mark.parametrize("word", ["soon", "", "HELD"])
async def test_other_words_are_refused(tmp_path: Path, word: str) -> None:
    """Each door names the words that it takes."""
    async with scene(tmp_path) as it, await connect(it.opened.tcp_port) as wire:
        asked = search("yahoo_finance", "ACME", *MAY)
        told = (await wire.ask(asked, fresh=word))["error"]
        assert told["code"] == "invalid_envelope"
        assert told["message"] == "fresh: expected held, check, now or null"
        line = {"type": "Line", "payload": {"line": f"{LINE} fresh={word}"}}
        told = (await wire.ask(line))["error"]
        assert told["code"] == "invalid_query"
        assert "expected one of fresh=held, fresh=check, fresh=now" in told["message"]
        found = (await it.opened.get(f"{TARGET}&fresh={word}", 400)).json()
        assert found["code"] == "invalid_query"
        assert "expected held, check, now" in found["message"]
        for kind in ("sync", "async"):
            async with asking(kind, it.opened.tcp_port) as hub:
                with pytest.raises(gapless.InvalidQuery, match="expected held, check, now"):
                    await hub.search("yahoo_finance", "ACME", *MAY, fresh=word)
        done = await command("query", LINE, "--fresh", word)
        assert done.code == Exit.USAGE
        assert it.requests() == 0


async def test_what_is_no_search_by_ticker_cannot_be_fresh(tmp_path: Path) -> None:
    """Lists, ids and searches of what is stored are refused, and two words are one too many."""
    async with scene(tmp_path) as it, await connect(it.opened.tcp_port) as wire:
        for query, code in (
            ({"type": "ProviderList"}, "invalid_envelope"),
            ({"type": "Ping"}, "invalid_envelope"),
            (request("yahoo_finance", "GetEntity", id="ACME"), "invalid_query"),
            (request("yahoo_finance", "GetAllEntities"), "invalid_query"),
            (
                request("yahoo_finance", "SearchEntities", query=[{"ByState": "ready"}]),
                "invalid_query",
            ),
            ({"type": "Line", "payload": {"line": "providers"}}, "invalid_query"),
            (
                {"type": "Line", "payload": {"line": "provider yahoo_finance get ACME"}},
                "invalid_query",
            ),
        ):
            told = (await wire.ask(query, fresh="now"))["error"]
            assert told["code"] == code, told
            assert "search by ticker" in told["message"]
            assert (await wire.ask(query, fresh=None))["ok"] or "GetEntity" not in str(query)
        it.requests()
        line = {"type": "Line", "payload": {"line": f"{LINE} fresh=held"}}
        told = (await wire.ask(line, fresh="now"))["error"]
        assert "the line says fresh=held, and the request fresh=now" in told["message"]
        assert (await wire.ask(line, fresh="held"))["ok"]
        for words in ("state=ready fresh=held", "ticker=A fresh=held fresh=held"):
            told = await wire.ask(
                {"type": "Line", "payload": {"line": f"provider yahoo_finance search {words}"}}
            )
            assert told["error"]["code"] == "invalid_query"
        done = await command(
            *("query", "providers", "--fresh", "now", "--tcp"), f"127.0.0.1:{it.opened.tcp_port}"
        )
        assert done.code == Exit.USAGE
        assert "search by ticker" in done.err


# What it means beside other words


async def test_strict_takes_a_stale_answer_for_held_alone(tmp_path: Path) -> None:
    """Who wants what is due looked at and all or nothing gets no answer that is stale."""
    asked = search("yahoo_finance", "ACME", *MAY)
    async with scene(tmp_path) as it, await connect(it.opened.tcp_port) as wire:
        assert (await wire.ask(asked, strict=True))["ok"]
        it.age()
        it.sim.faults.fail_always(REJECTED)
        held = await wire.ask(asked, strict=True, fresh="held")
        assert (held["ok"], held["stitch"]["state"]) == (True, "stale")
        for word in ("now", "check", None):
            told = (await wire.ask(asked, strict=True, fresh=word))["error"]
            assert (told["code"], told["reason"]) == (
                "provider_request_failed",
                "upstream_rejected",
            )
            assert "would be stale" in told["message"]
            lenient = await wire.ask(asked, fresh=word)
            assert lenient["stitch"]["state"] == "stale"
            assert records(lenient) == records(held)


async def test_strict_takes_no_doubt_for_an_answer(tmp_path: Path) -> None:
    """What upstream has lost is answered as held, in memory as it is, and to nobody who is strict.

    Unless it may be as it is held.
    """
    asked = search("yahoo_finance", "ACME", *MAY)
    async with scene(tmp_path) as it, await connect(it.opened.tcp_port) as wire:
        first = await wire.ask(asked)
        it.sim.market.add(Absent("ACME", from_s=it.clock.now_ms() / 1000))
        it.age()
        doubted = await wire.ask(asked)
        assert reasons(doubted["stitch"]) == ["unconfirmed_loss"]
        assert records(doubted) == records(first)
        it.requests()
        for word in ("check", None):
            told = (await wire.ask(asked, strict=True, fresh=word))["error"]
            assert told["reason"] == "unconfirmed_loss"
            key = "" if word is None else f"&fresh={word}"
            problem = (await it.opened.get(f"{TARGET}{key}&strict=true", 502)).json()
            assert problem["reason"] == "unconfirmed_loss"
        held = await wire.ask(asked, strict=True, fresh="held")
        assert held["stitch"]["state"] == "stale"
        assert records(held) == records(first)
        # It is not yet time to ask again.
        assert it.requests() == 0


async def test_a_gap_takes_along_what_is_due_for_held_too(tmp_path: Path) -> None:
    """A request that is made anyway is as wide as ever, so that nothing is left to be stale."""
    async with scene(tmp_path) as it, await connect(it.opened.tcp_port) as wire:
        await by_envelope(it.opened, "check")
        it.age()
        it.requests()
        wider = search("yahoo_finance", "ACME", "2026-04-01", MAY[1])
        found = await wire.ask(wider, fresh="held")
        assert (found["stitch"]["state"], found["stitch"]["upstream_requests"]) == ("ready", 1)
        assert found["stitch"]["fetched"] == [["2026-04-01T04:00:00Z", "2026-04-30T10:00:00Z"]]
        assert it.requests() == 1
        it.age()
        it.sim.faults.fail_always(REJECTED)
        wider = search("yahoo_finance", "ACME", "2026-03-01", MAY[1])
        found = await wire.ask(wider, fresh="held")
        assert found["stitch"]["state"] == "partial"
        assert reasons(found["stitch"]) == ["upstream_rejected", "check_pending"]


async def test_what_cannot_be_fetched_anew_is_told(tmp_path: Path) -> None:
    """Under `now` what is held is answered where upstream fails, `stale` and with the reason."""
    async with scene(tmp_path) as it:
        await by_envelope(it.opened, "check")
        it.sim.faults.fail_always(REJECTED)
        failed = await by_envelope(it.opened, "now")
        assert (failed["state"], reasons(failed)) == ("stale", ["upstream_rejected"])
        assert failed["cached"]


def test_the_words_are_those_of_the_protocol() -> None:
    """What the hub goes by and what is said on the wire are the same words."""
    assert tuple(Freshness) == FRESH_WORDS
