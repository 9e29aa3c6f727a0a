"""The routes beside the data: envelope, providers, series, plans, entities, health, the page."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gapless.errors import BadUpstreamReply, UpstreamUnavailable, UpstreamUnreachable
from gapless.protocol.times import parse_instant
from gapless.providers.base import DAY_MS
from gapless.providers.sample import SampleProvider
from support.clock import ManualClock
from support.providers import SteadyProvider
from support.web import web
from support.wire import IMPATIENT, but, connect, line_of, search

NOW = parse_instant("2020-02-01T12:00:00Z", now_ms=0)


async def test_pinned_routes(tmp_path: Path) -> None:
    """What existing clients ask for is answered as they expect."""
    async with web(tmp_path, SampleProvider(), SteadyProvider()) as opened:
        assert (await opened.get("/providers")).json() == {
            "ok": True,
            "providers": ["sample", "steady"],
        }
        assert (await opened.get("/providers/sample/ping")).json() == {
            "ok": True,
            "provider": "sample",
        }
        unknown = (await opened.get("/providers/nobody/ping", 404)).json()
        assert (unknown["ok"], unknown["code"]) == (False, "provider_not_found")


QUERIES: list[tuple[dict[str, Any], dict[str, Any], int]] = [
    ({"type": "ProviderList"}, {}, 200),
    ({"type": "Ping"}, {}, 200),
    (
        {
            "type": "Line",
            "payload": {"line": "provider sample search ticker=IBM date=2010-01-01..2010-02-01"},
        },
        {},
        200,
    ),
    ({"type": "Line", "payload": {"line": "provider sample what"}}, {}, 400),
    (search("sample", "AAPL", "2010-01-01", "2010-02-01"), {"data_as": "array"}, 200),
    (search("sample", "AAPL", "2010-01-01", "2010-02-01"), {"request_id": "mine"}, 200),
    (search("sample", "NOPE", "2010-01-01", "2010-02-01"), {}, 404),
    (search("nobody", "AAPL", "2010-01-01", "2010-02-01"), {}, 404),
    (search("sample", "AAPL", "2010-02-01", "2010-01-01"), {}, 400),
    ({"type": "Nonsense"}, {}, 400),
]


@pytest.mark.share(2)
@pytest.mark.parametrize(("query", "envelope", "status"), QUERIES)
async def test_the_envelope_is_answered_as_over_tcp(
    tmp_path: Path, query: dict[str, Any], envelope: dict[str, Any], status: int
) -> None:
    """The same bytes, but for the time; first fetched, then held, then from a memo."""
    line = line_of(query, **{"request_id": 7, **envelope})
    async with web(tmp_path, SampleProvider()) as opened, await connect(opened.tcp_port) as wire:
        # Both doors find everything held.
        await opened.client.post(
            "/v1/query", content=line, headers={"content-type": "application/json"}
        )
        for _ in range(3):
            response = await opened.client.post(
                "/v1/query", content=line, headers={"content-type": "application/json"}
            )
            await wire.send(line)
            timeless = re.compile(rb'"ts_ms":\d+')
            told = timeless.sub(b"", response.content)
            assert told == timeless.sub(b"", await wire.line())
            assert response.status_code == status
            assert response.headers["content-type"] == "application/json"


@pytest.mark.share(2)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"query": 5}'])
async def test_what_is_no_envelope(tmp_path: Path, body: bytes) -> None:
    """Is refused, whatever it is."""
    async with web(tmp_path, SampleProvider()) as opened:
        response = await opened.client.post(
            "/v1/query", content=body, headers={"content-type": "application/json"}
        )
        assert response.status_code == 400
        assert response.json()["ok"] is False


async def test_how_providers_fare(tmp_path: Path) -> None:
    """Health, pace, breaker, the last fetch and the last error are told, and pass."""
    clock = ManualClock(NOW)
    steady = SteadyProvider()
    settings = but(IMPATIENT, fetch={"breaker_failures": 2})
    async with web(tmp_path, steady, clock=clock, settings=settings) as opened:
        [fresh] = (await opened.get("/v1/providers")).json()["providers"]
        assert (fresh["health"], fresh["requests"], fresh["last_fetch"]) == ("ok", 0, None)
        assert fresh["params"][0]["name"] == "side"
        assert (fresh["built_in"], fresh["breaker"]["open"]) == (True, False)
        await opened.get("/v1/data/steady/A?start=2020-01-01&end=2020-01-02")
        steady.failures["B"] = UpstreamUnreachable("it is down")
        path = "/v1/data/steady/B?start=2020-01-01&end=2020-01-02"
        await opened.get(path, 502)
        [failing] = (await opened.get("/v1/providers")).json()["providers"]
        assert failing["health"] == "failing"
        assert failing["last_fetch"].startswith("2020-02-01T12:00")
        assert failing["last_error"]["message"] == "it is down"
        await opened.get(path, 502)
        [resting] = (await opened.get("/v1/providers")).json()["providers"]
        assert (resting["health"], resting["breaker"]["open"]) == ("resting", True)
        blocked = await opened.get(path, 502)
        assert int(blocked.headers["retry-after"]) > 1
        clock.advance(61)
        steady.failures.clear()
        await opened.get(path)
        [well] = (await opened.get("/v1/providers")).json()["providers"]
        assert (well["health"], well["last_error"]) == ("ok", None)


async def test_series_that_fail_by_themselves_are_told(tmp_path: Path) -> None:
    """How many there are, and of the latest few why, and until when they are left alone."""
    clock = ManualClock(NOW)
    steady = SteadyProvider()
    async with web(tmp_path, steady, clock=clock, settings=IMPATIENT) as opened:
        tickers = [f"T{n}" for n in range(7)]
        for ticker in tickers:
            steady.failures[ticker] = BadUpstreamReply("it is of 'XYZ'")
            await opened.get(f"/v1/data/steady/{ticker}?start=2020-01-01&end=2020-01-02", 502)
        await opened.get("/v1/data/steady/A?start=2020-01-01&end=2020-01-02")
        [told] = (await opened.get("/v1/providers")).json()["providers"]
        assert (told["health"], told["breaker"]["open"], told["failing_series"]) == ("ok", False, 7)
        assert told["clock_skew_s"] is None
        first, *others = told["failures"]
        assert first == {
            "id": "steady:T6",
            "error": {
                "code": "provider_request_failed",
                "message": "it is of 'XYZ'",
                "reason": "bad_upstream_reply",
            },
            "until": "2020-02-01T12:01:00Z",
        }
        assert len(others) == 4
        figures = (await opened.get("/metrics")).text
        assert 'gapless_failing_series{provider="steady"} 7.0' in figures
        clock.advance(60)
        steady.failures.clear()
        for ticker in tickers[1:]:
            await opened.get(f"/v1/data/steady/{ticker}?start=2020-01-01&end=2020-01-02")
        [told] = (await opened.get("/v1/providers")).json()["providers"]
        assert told["failing_series"] == 1
        assert [(one["id"], one["until"]) for one in told["failures"]] == [("steady:T0", None)]


async def test_series_page_by_page(tmp_path: Path) -> None:
    """Every series once, in one order, whatever their names are."""
    tickers = ["A", "B C", "C:D", "E%F", "Ü", "Z/Z", *(f"T{n}" for n in range(20))]
    async with web(tmp_path, SteadyProvider(), SampleProvider()) as opened:
        for ticker in tickers:
            await opened.client.get(
                f"/v1/data/steady/{ticker.replace('%', '%25')}"
                "?start=2020-01-01&end=2020-01-03&side=right"
            )
        await opened.get("/v1/data/sample/IBM?start=2010-01-01&end=2010-02-01")
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = (await opened.get(f"/v1/series?limit=7&cursor={cursor}")).json()
            found += page["series"]
            assert len(page["series"]) <= 7
            if page["next"] is None:
                break
            cursor = page["next"]
        assert sorted(one["ticker"] for one in found) == sorted([*tickers, "IBM"])
        ours = (await opened.get("/v1/series?provider=sample")).json()["series"]
        assert [(one["id"], one["records"], one["blocks"]) for one in ours] == [
            ("sample:IBM", 19, 1)
        ]
        one = next(one for one in found if one["ticker"] == "A")
        assert (one["params"], one["start"], one["end"]) == (
            {"side": "right"},
            "2020-01-01T00:00:00Z",
            "2020-01-03T00:00:00Z",
        )
        await opened.get("/v1/series?cursor=nonsense", 400)
        await opened.get("/v1/series?limit=0", 400)
        await opened.get("/v1/series?limt=5", 400)


async def test_coverage_tells_what_is_known_and_until_when(tmp_path: Path) -> None:
    """Intervals with their outcome, age and when they are due."""
    clock = ManualClock(NOW)
    async with web(tmp_path, SteadyProvider(tail_ms=DAY_MS), clock=clock) as opened:
        await opened.get("/v1/coverage/steady/A", 404)
        await opened.get("/v1/data/steady/A?start=2020-01-01")
        coverage = (await opened.get("/v1/coverage/steady/A?side=left")).json()
        assert coverage["records"] == 32
        first, last = coverage["coverage"]
        assert (first["start"], first["refresh_after"]) == ("2020-01-01T00:00:00Z", None)
        assert (last["end"], last["refresh_after"]) == (
            "2020-02-01T12:00:00Z",
            "2020-02-01T12:01:00Z",
        )
        assert {first["outcome"], last["outcome"]} == {"held"}
        await opened.get("/v1/coverage/steady/A?side=up", 400)
        await opened.get("/v1/coverage/steady/A?side=right", 404)


async def test_a_plan_fetches_nothing_and_is_what_then_happens(tmp_path: Path) -> None:
    """The gaps that a plan names are those that a request then fetches."""
    clock = ManualClock(NOW)
    steady = SteadyProvider(tail_ms=DAY_MS)
    async with web(tmp_path, steady, clock=clock) as opened:
        await opened.get("/v1/data/steady/A?start=2020-01-10&end=2020-01-20")
        await opened.get("/v1/data/steady/A?start=2020-01-25")
        clock.advance(120)
        wanted = {"provider": "steady", "ticker": "A", "start": "2020-01-05", "end": "now"}
        before = len(steady.calls)
        plan = await opened.send("POST", "/v1/plan", wanted)
        assert len(steady.calls) == before
        reasons = [(gap["start"][:10], gap["end"][:10], gap["why"]) for gap in plan["gaps"]]
        assert reasons == [
            ("2020-01-05", "2020-01-10", "not_held"),
            ("2020-01-20", "2020-01-25", "not_held"),
            ("2020-01-31", "2020-02-01", "due"),
            ("2020-02-01", "2020-02-01", "not_held"),
        ]
        assert plan["upstream_requests"] == 3
        assert plan["id"].startswith("steady:A:2020-01-05T00:00:00Z..2020-02-01T12:02:00Z")
        await opened.get("/v1/data/steady/A?start=2020-01-05")
        assert len(steady.calls) == before + 3
        again = await opened.send("POST", "/v1/plan", wanted)
        assert (again["gaps"], again["upstream_requests"]) == ([], 0)


async def test_a_refresh_fetches_what_is_held(tmp_path: Path) -> None:
    """Held or not, the range is fetched anew, and answers show it at once."""
    steady = SteadyProvider()
    async with web(tmp_path, steady, settings=IMPATIENT) as opened:
        path = "/v1/data/steady/A?start=2020-01-01&end=2020-02-01"
        before = await opened.get(path)
        steady.padding = "!"
        assert (await opened.get(path)).content == before.content
        done = await opened.send(
            "POST",
            "/v1/refresh",
            {"provider": "steady", "ticker": "A", "start": "2020-01-10", "end": "2020-02-10"},
        )
        # What was held counts as cached, though it was fetched again.
        assert done["stitch"]["fetched"] == [["2020-02-01T00:00:00Z", "2020-02-10T00:00:00Z"]]
        assert done["stitch"]["upstream_requests"] == 1
        notes = [row["note"] for row in (await opened.get(path)).json()]
        assert notes == ['"A"'] * 9 + ['"A"!'] * 22
        steady.failures["A"] = UpstreamUnavailable("down")
        failed = await opened.send(
            "POST",
            "/v1/refresh",
            {"provider": "steady", "ticker": "A", "start": "2020-01-10", "end": "2020-01-20"},
        )
        assert failed["stitch"]["state"] == "stale"
        assert [row["note"] for row in (await opened.get(path)).json()] == notes


async def test_a_refresh_does_not_make_do_with_what_is_under_way(tmp_path: Path) -> None:
    """What was asked for before the refresh may be older than it: it is fetched once more."""
    steady = SteadyProvider()
    async with web(tmp_path, steady) as opened:
        gate = steady.hold("A")
        path = "/v1/data/steady/A?start=2020-01-01&end=2020-02-01"
        asking = asyncio.create_task(opened.get(path))
        await gate.arrived.wait()
        body = {"provider": "steady", "ticker": "A", "start": "2020-01-01", "end": "2020-02-01"}
        refreshing = asyncio.create_task(opened.send("POST", "/v1/refresh", body))
        await opened.get("/healthz")
        gate.open.set()
        await asking
        done = await refreshing
        assert done["stitch"]["upstream_requests"] == 1
        assert len(steady.asked("A")) == 2


async def test_a_range_is_forgotten_or_all(tmp_path: Path) -> None:
    """What was forgotten is fetched when it is next asked for, and nothing else."""
    steady = SteadyProvider()
    async with web(tmp_path, steady) as opened:
        path = "/v1/data/steady/A?start=2020-01-01&end=2020-02-01"
        whole = await opened.get(path)
        gone = await opened.send("DELETE", "/v1/series/steady/A?start=2020-01-10&end=2020-01-20")
        assert gone == {"records": 10}
        assert (await opened.get(path)).content == whole.content
        assert len(steady.asked("A")) == 2
        assert await opened.send("DELETE", "/v1/series/steady/A") == {"records": 31}
        gone = await opened.send("DELETE", "/v1/series/steady/A", status=404)
        assert "nothing of steady:A is held" in gone["message"]
        await opened.get("/v1/coverage/steady/A", 404)
        await opened.send("DELETE", "/v1/series/steady/A?strat=2020-01-10", status=400)
        assert (await opened.get(path)).content == whole.content


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "provider"),
        ({"provider": "steady"}, "ticker"),
        ({"provider": "steady", "ticker": 5}, "ticker"),
        ({"provider": "steady", "ticker": "A", "form": "x"}, "form"),
        ({"provider": "steady", "ticker": "A", "params": {"side": "up"}}, "side=up"),
        ({"provider": "steady", "ticker": "A", "params": {"start": "x"}}, "start"),
        ({"provider": "steady", "ticker": "A", "start": "soon"}, "soon"),
    ],
)
async def test_bodies_are_checked(tmp_path: Path, body: dict[str, Any], said: str) -> None:
    """What is wrong with a body is named."""
    async with web(tmp_path, SteadyProvider()) as opened:
        for path in ("/v1/plan", "/v1/refresh"):
            answer = await opened.send("POST", path, body, status=400)
            assert said in answer["message"]


@pytest.mark.parametrize("watch", [0, 1, "true", "0", None])
async def test_what_only_seems_right_is_refused(tmp_path: Path, watch: object) -> None:
    """A number is no truth value, however plain it may be what was meant."""
    async with web(tmp_path) as opened:
        body = {"file": "none.py", "watch": watch}
        answer = await opened.send("POST", "/plugins/load", body, status=400)
        assert "watch" in answer["message"]
        body["watch"] = False
        answer = await opened.send("POST", "/plugins/load", body, status=400)
        assert "there is no file" in answer["message"]


async def test_entities_are_imported_listed_and_shown(tmp_path: Path) -> None:
    """One comes back as it went in; ranges are entities too; what is no entity is refused."""
    async with web(tmp_path, SampleProvider(), SteadyProvider()) as opened:
        body = {
            "source": "notes",
            "data": [{"text": 'say "ü"', "n": 1.5}],
            "tags": ["a=b", "x"],
            "updated_at": "2020-01-01T00:00:00+01:00",
            "fetched_at": "2020-01-01",
        }
        id = "my notes/2020?x=1%/ä"
        path = "/v1/entities/my%20notes/2020%3Fx=1%25/%C3%A4"
        made = await opened.send("PUT", path, body, status=201)
        assert made["id"] == id
        assert await opened.send("PUT", path, body) == made
        seen = (await opened.get(path)).json()
        assert seen == made
        assert json.loads(seen["data"]) == body["data"]
        assert json.loads(seen["tags"]) == body["tags"]
        assert seen["updated_at"] == "2019-12-31T23:00:00.000Z"
        text = {**body, "data": json.dumps(body["data"]), "tags": json.dumps(body["tags"])}
        assert (await opened.send("PUT", path, text))["etag"] == made["etag"]
        await opened.get("/v1/data/sample/IBM?start=2010-01-01&end=2010-02-01")
        page = (await opened.get("/v1/entities")).json()
        assert [one["source"] for one in page["entities"]] == ["notes", "sample"]
        only = (await opened.get("/v1/entities?provider=notes&tags=a=b,x&state=ready")).json()
        assert [one["id"] for one in only["entities"]] == [id]
        first = (await opened.get("/v1/entities?limit=1")).json()
        rest = (await opened.get(f"/v1/entities?offset={first['next_offset']}")).json()
        assert [*first["entities"], *rest["entities"]] == page["entities"]
        view = "sample:IBM:2010-01-05T00:00:00Z..2010-01-10T00:00:00Z"
        shown = (await opened.get(f"/v1/entities/{view}")).json()
        assert len(json.loads(shown["data"])) == 4
        await opened.get("/v1/entities/nothing", 404)
        for bad in (
            {"source": "x"},
            {**body, "data": "no json"},
            {**body, "data": "{}"},
            {**body, "tags": [1]},
            {**body, "state": "odd"},
            {**body, "id": "other"},
            {**body, "fetched_at": "whenever"},
            {**body, "more": 1},
            {**body, "source": ""},
        ):
            await opened.send("PUT", "/v1/entities/bad", bad, status=400)
        await opened.send("PUT", f"/v1/entities/{view}", body, status=400)
        for tags in (",".join("a" * 30), "a" * 50_000):
            await opened.get(f"/v1/entities?tags={tags}", 400)
        await opened.get("/v1/entities/bad", 404)


async def test_figures(tmp_path: Path) -> None:
    """What was asked, how it ended, what went upstream and how many records came is counted."""
    steady = SteadyProvider()
    async with (
        web(tmp_path, steady, settings=IMPATIENT) as opened,
        await connect(opened.tcp_port) as wire,
    ):
        assert (await opened.get("/healthz")).json()["ok"]
        ready = (await opened.get("/readyz")).json()
        assert (ready["ok"], ready["warnings"]) == (True, [])
        path = "/v1/data/steady/A?start=2020-01-01&end=2020-02-01"
        for _ in range(3):
            await opened.get(path)
        await opened.get("/v1/data/steady/A?start=2020-01-01&end=2020-02-11")
        for _ in range(3):
            await wire.ask(search("steady", "A", "2020-01-01", "2020-01-11"))
        await wire.ask(search("steady", "A", "2020-01-11", "2020-01-01"))
        steady.failures["B"] = UpstreamUnavailable("down")
        await opened.get("/v1/data/steady/B?start=2020-01-01&end=2020-01-02", 502)
        # What the client has already is no record answered, and what comes here did not come there.
        tag = (await opened.client.head(path)).headers["etag"]
        await opened.get(path, 304, if_none_match=tag)
        for _ in range(3):
            await opened.send("POST", "/v1/query", {"query": {"type": "ProviderList"}})
        text = (await opened.get("/metrics")).text
    figures = dict(re.findall(r"^(gapless_\S+) (\S+)$", text, re.MULTILINE))
    expected = {
        'gapless_requests_total{door="http",outcome="ok"}': 11,
        'gapless_requests_total{door="http",outcome="provider_request_failed"}': 1,
        'gapless_requests_total{door="tcp",outcome="ok"}': 3,
        'gapless_requests_total{door="tcp",outcome="invalid_query"}': 1,
        'gapless_upstream_requests_total{provider="steady",result="ok"}': 2,
        'gapless_series_changes_total{provider="steady"}': 2,
        'gapless_points_total{from="cached"}': 31 * 2 + 31 + 10 * 3,
        'gapless_points_total{from="fetched"}': 31 + 10,
        'gapless_request_seconds_count{door="tcp"}': 4,
        'gapless_connections{door="tcp"}': 1,
        'gapless_connections{door="http"}': 1,
    }
    assert {name: float(figures[name]) for name in expected} == expected
    assert float(figures["gapless_hot_bytes"]) > 0
    assert float(figures["gapless_descriptor_shortages_total"]) == 0
    written = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")
    for name in re.findall(r"^# TYPE (gapless_\S+?)(?:_total)? ", text, re.MULTILINE):
        if not name.endswith("_created"):
            assert f"`{name}`" in written, name
    failed = 'gapless_upstream_requests_total{provider="steady",result="upstream_unavailable"}'
    assert float(figures[failed]) >= 1


async def test_the_page_needs_no_network(tmp_path: Path) -> None:
    """All routes are described on one page, and nothing of it comes from anywhere else."""
    async with web(tmp_path, SampleProvider()) as opened:
        document = (await opened.get("/openapi.json")).json()
        assert (await opened.get("/", 302)).headers["location"] == "/docs"
        page = await opened.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page.text)
        assert "<script" not in page.text
        for path, methods in document["paths"].items():
            assert path in page.text
            for method in methods:
                for status, response in methods[method]["responses"].items():
                    kinds = set(response.get("content", ()))
                    # The envelope's errors come as over TCP.
                    told = path == "/v1/query" or kinds <= {"application/problem+json"}
                    assert status < "400" or told, (path, status)
        for link in re.findall(r"href=\"(/[^\"]*)\"", page.text):
            await opened.get(link)
        # And docs/http.md names each of them.
        written = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")
        for path, methods in document["paths"].items():
            for method in set(methods) - {"head"}:
                assert f"`{method.upper()} {path}`" in written, path
        anchors = set(re.findall(r"id=\"([^\"]*)\"", page.text))
        assert set(re.findall(r"href=\"#([^\"]*)\"", page.text)) <= anchors
