"""Both contracts of Python classes, end to end: what a client asks over TCP, what a class gets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gapless.store.base import EntityFilter
from support.plugins import JANUARY, fails, plugged, until
from support.providers import SteadyProvider
from support.series import entity
from support.stores import store_of
from support.wire import PATIENCE_S, PATIENT, SOON_S, but, records, request, search

DAY_S = 86_400
FIRST_S = 1_704_067_200


def spans(answer: dict[str, Any], what: str) -> list[str]:
    """Return ranges of an answer's stitch, days only."""
    return [f"{start[:10]}..{end[:10]}" for start, end in answer["stitch"][what]]


async def test_a_ranged_plugin_is_asked_for_the_gaps_alone(tmp_path: Path) -> None:
    """What is held is stitched with what `fetch` returns, each parameter at its value."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        status = await hub.load("steady")
        assert (status.name, status.contract, status.state) == ("steady", ("ranged",), "running")
        assert (await wire.ask({"type": "ProviderList"}))["result"] == ["steady"]
        answer = await wire.ask(search("steady", " abc ", "2024-01-10", "2024-01-20"))
        assert [row["timestamp"] for row in records(answer)] == [
            FIRST_S + day * DAY_S for day in range(9, 19)
        ]
        assert records(answer)[0] == {
            "timestamp": FIRST_S + 9 * DAY_S,
            "value": 738_895 / 4,
            "side": "left",
        }
        assert answer["result"][0]["id"] == (
            "steady:abc:2024-01-10T00:00:00Z..2024-01-20T00:00:00Z"
        )
        whole = await wire.ask(search("steady", "abc", *JANUARY))
        assert len(records(whole)) == 31
        assert spans(whole, "cached") == ["2024-01-10..2024-01-20"]
        assert spans(whole, "fetched") == ["2024-01-01..2024-01-10", "2024-01-20..2024-02-01"]
        other = await wire.ask(search("steady", "abc", "2024-01-01", "2024-01-02", side="right"))
        assert records(other)[0]["side"] == "right"
        assert sorted(await hub.asked(4)) == [
            "abc 2024-01-01 2024-01-02 right",
            "abc 2024-01-01 2024-01-10 left",
            "abc 2024-01-10 2024-01-20 left",
            "abc 2024-01-20 2024-02-01 left",
        ]
        refused = await wire.ask(search("steady", "abc", *JANUARY, side="up"))
        assert refused["error"]["code"] == "invalid_query"


async def test_the_past_of_a_plugin_is_final_unless_it_says_otherwise(tmp_path: Path) -> None:
    """Nothing is asked twice, not even of today; with `final_after` the newest is, when due."""
    source = (
        "import time\n"
        "class Provider:\n"
        "    def describe(self): return {said}\n"
        "    def fetch(self, ticker, start, end):\n"
        "        return [{{'timestamp': start}}]\n"
    )
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.write("final", source.format(said="{}"))
        said = "{'final_after': '1d', 'refresh_after': 3600}"
        await hub.write("moving", source.format(said=said))
        for name, due in (("final", False), ("moving", True)):
            answer = await wire.ask(search(name, "x", "-2d", "-1h"))
            assert (answer["result"][0]["refresh_after"] != "") == due
        past = await wire.ask(search("moving", "x", "2024-01-01", "2024-01-02"))
        assert past["result"][0]["refresh_after"] == ""


async def test_empty_and_unknown(tmp_path: Path) -> None:
    """No records are an answer that is kept; an exception may carry a reason of the wire."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.load("steady")
        for _ in range(2):
            assert records(await wire.ask(search("steady", "EMPTY", *JANUARY))) == []
            error = await fails(wire, "steady", "NONE")
            assert (error["reason"], error["message"]) == ("unknown_ticker", "there is no NONE")
        assert len(await hub.asked(2)) == 2


async def test_what_was_not_asked_is_dropped_and_said(tmp_path: Path) -> None:
    """A record outside of the range is not stored, and of two of one time the last is."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.load("steady")
        found = records(await wire.ask(search("steady", "WIDE", *JANUARY)))
        assert [row["timestamp"] for row in found] == [FIRST_S + day * DAY_S for day in range(31)]
        assert found[0] == {"timestamp": FIRST_S, "value": -1}
        (said,) = [one for one in hub.door.logs if "not kept" in one["event"]]
        assert (said["plugin"], said["outside_of_range"], said["of_one_time"]) == ("steady", 1, 1)
        assert said["such_as"] == "2024-02-01T00:00:00Z"


async def test_an_entity_plugin_serves_ranges(tmp_path: Path) -> None:
    """Each gap is one search with ticker and range; the records of all entities are merged."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        status = await hub.load("notes")
        assert status.contract == ("entities",)
        answer = await wire.ask(search("notes", "x", "2024-01-01", "2024-01-02"))
        assert [row["n"] for row in records(answer)] == [
            FIRST_S + hour * 3_600 for hour in range(24)
        ]
        wider = await wire.ask(search("notes", "x", "2024-01-01", "2024-01-03"))
        assert len(records(wider)) == 48
        assert spans(wider, "fetched") == ["2024-01-02..2024-01-03"]
        asked = [json.loads(line) for line in await hub.asked(2)]
        assert asked[1] == {
            "SearchEntities": {
                "query": [
                    {"Ticker": "x"},
                    {"DateRange": {"start": "2024-01-02T00:00:00Z", "end": "2024-01-03T00:00:00Z"}},
                ],
                "limit": None,
            }
        }


async def test_what_has_no_ticker_goes_to_an_entity_plugin_unchanged(tmp_path: Path) -> None:
    """What it returns is stored and answered: searches, unknown ids, reports."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.load("notes")
        filters = [{"ByTags": ["a"]}, {"DateRange": {"start": "2024-01-01", "end": "now"}}]
        query = request("notes", "SearchEntities", query=filters, limit=2)
        found = (await wire.ask(query))["result"]
        assert [one["id"] for one in found] == ["note 0", "note 1"]
        assert {one["source"] for one in found} == {"notes"}
        assert found[0]["tags"] == '["kind=note"]'
        assert found[0]["updated_at"] == "2024-01-01T00:00:00.000Z"

        (report,) = (await wire.ask(request("notes", "GetReport", url="file:x")))["result"]
        assert json.loads(report["data"]) == [{"url": "file:x"}]
        for _ in range(2):
            (one,) = (await wire.ask(request("notes", "GetEntity", id="any thing")))["result"]
            assert json.loads(one["data"]) == [{"id": "any thing"}]
        missing = await wire.ask(request("notes", "GetEntity", id="nothing"))
        assert missing["error"]["code"] == "not_found"

        stored = await wire.ask(request("notes", "GetAllEntities", limit=None, offset=None))
        assert [one["id"] for one in stored["result"]] == [
            "any thing",
            "note 0",
            "note 1",
            "note 2",
            "report file:x",
        ]
        asked = [json.loads(line) for line in await hub.asked(4)]
        assert asked == [
            {"SearchEntities": {"query": filters, "limit": 2}},
            {"GetReport": {"url": "file:x"}},
            {"GetEntity": {"id": "any thing"}},
            {"GetEntity": {"id": "nothing"}},
        ]
        nothing = request("notes", "SearchEntities", query=[], limit=0)
        assert (await wire.ask(nothing))["result"] == []


async def test_a_failure_of_an_entity_call_has_its_reason(tmp_path: Path) -> None:
    """It is counted, paced and retried as a range is."""
    source = (
        "class Failed(Exception): pass\n"
        "class Provider:\n"
        "    calls = 0\n"
        "    def fetch_entities(self, request):\n"
        "        self.calls += 1\n"
        "        error = Failed(f'call {self.calls}')\n"
        "        url = request['GetReport']['url']\n"
        "        error.reason = url\n"
        "        if url == 'upstream_unavailable' and self.calls == 2: return []\n"
        "        raise error\n"
    )
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.write("failing", source)
        for reason, calls in (("upstream_unavailable", 2), ("upstream_rejected", 3), ("odd", 4)):
            answer = await wire.ask(request("failing", "GetReport", url=reason))
            assert hub.status("failing").calls == calls
            if calls == 2:
                assert answer["result"] == []
                continue
            expected = "plugin_error" if reason == "odd" else reason
            assert answer["error"]["reason"] == expected
            assert f"call {calls}" in answer["error"]["message"]
        upstream = hub.door.hub.upstream(hub.provider("failing"))
        assert upstream.requests == 4


async def test_an_id_that_is_taken_is_refused(tmp_path: Path) -> None:
    """Ids are unique over all providers; nothing of such an answer is stored."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.load("notes")
        store = store_of(hub.door.hub)
        await store.save_entities([entity("belongs to another", "files")])
        query = request("notes", "SearchEntities", query=[{"ByUrl": "taken"}], limit=None)
        error = (await wire.ask(query))["error"]
        assert error["code"] == "invalid_query"
        assert "belongs to provider 'files'" in error["message"]
        assert await store.entities(EntityFilter(source="notes"), 10) == []


async def test_a_large_answer_of_entities_is_told_to_be_paged(tmp_path: Path) -> None:
    """They are stored all the same, and one by itself is answered."""
    source = (
        "class Provider:\n"
        "    def fetch_entities(self, request):\n"
        "        return [{'id': str(n), 'data': ['x' * 900]} for n in range(5)]\n"
    )
    settings = but(PATIENT, limits={"max_listing_bytes": 1_000})
    async with plugged(tmp_path, settings=settings) as hub, hub.client() as wire:
        await hub.write("large", source)
        query = request("large", "SearchEntities", query=[], limit=None)
        assert (await wire.ask(query))["error"]["code"] == "too_large"
        page = await wire.ask(request("large", "GetAllEntities", limit=None, offset=3))
        assert ([one["id"] for one in page["result"]], page["next_offset"]) == (["3"], 4)
        query = request("large", "SearchEntities", query=[], limit=1)
        assert len((await wire.ask(query))["result"]) == 1


async def test_a_ranged_plugin_has_neither_ids_nor_reports(tmp_path: Path) -> None:
    """An id is read as a ticker, as with any ranged provider."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.load("steady")
        answer = await wire.ask(request("steady", "GetEntity", id="abc"))
        assert len(records(answer)) in (30, 31)
        report = await wire.ask(request("steady", "GetReport", url="x"))
        assert report["error"]["code"] == "unsupported"
        query = request("steady", "SearchEntities", query=[], limit=None)
        assert (await wire.ask(query))["ok"]
        assert len(await hub.asked(1)) == 1


async def test_stitch_is_asked_for_whole_ranges(tmp_path: Path) -> None:
    """A gap anywhere has it called once for all that was asked, one range of a series a time."""
    async with plugged(tmp_path) as hub, hub.client() as wire:
        status = await hub.load("stitched")
        assert status.contract == ("entities", "stitch")
        first = await wire.ask(search("stitched", "x", "2024-01-10", "2024-01-20"))
        assert len(records(first)) == 10
        again = await wire.ask(search("stitched", "x", "2024-01-12", "2024-01-14"))
        assert (len(records(again)), spans(again, "fetched")) == (2, [])
        whole = await wire.ask(search("stitched", "x", *JANUARY))
        assert len(records(whole)) == 31
        # What was held counts as cached, though it came again.
        assert spans(whole, "fetched") == ["2024-01-01..2024-01-10", "2024-01-20..2024-02-01"]
        assert whole["stitch"]["upstream_requests"] == 1
        assert await hub.asked(2) == ["x 2024-01-10 2024-01-20", "x 2024-01-01 2024-02-01"]
        async with hub.client() as other:
            answers = await asyncio.gather(
                wire.ask(search("stitched", "y", *JANUARY)),
                other.ask(search("stitched", "y", *JANUARY)),
            )
        assert [len(records(answer)) for answer in answers] == [31, 31]
        assert (await hub.asked(3))[2:] == ["y 2024-01-01 2024-02-01"]


async def test_asynchronous_calls_run_beside_one_another(tmp_path: Path) -> None:
    """Three that wait for each other all come to their end; one that is overdue is cancelled."""
    settings = but(PATIENT, plugins={"kill_after_s": PATIENCE_S})
    async with plugged(tmp_path, settings=settings) as hub:
        await hub.load("looping")
        pid = hub.status("looping").pid

        async def asked(ticker: str) -> dict[str, Any]:
            async with hub.client() as wire:
                return await wire.ask(search("looping", ticker, *JANUARY))

        hub.give("looping", SOON_S)
        overdue = asyncio.ensure_future(asked("LONG"))
        await until(lambda: hub.status("looping").calls == 1)
        hub.give("looping")
        answers = await asyncio.gather(*(asked(f"MEET{number}") for number in range(3)))
        late = await overdue
        assert [records(answer)[0]["ticker"] for answer in answers] == ["MEET0", "MEET1", "MEET2"]
        assert late["error"]["reason"] == "plugin_timeout"
        # Whoever is cancelled costs no process.
        assert records(await asked("after"))[0]["ticker"] == "after"
        assert hub.status("looping").pid == pid


async def test_a_plain_plugin_may_run_loops_of_its_own(tmp_path: Path) -> None:
    """`asyncio.run` works in a method that is not asynchronous, as does what it awaits for us."""
    source = (
        "import asyncio\n"
        "async def rows(start): return [{'timestamp': start}]\n"
        "class Provider:\n"
        "    def fetch(self, ticker, start, end):\n"
        "        return asyncio.run(rows(start)) if ticker == 'run' else rows(start)\n"
    )
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.write("plain", source)
        for ticker in ("run", "awaited", "run again"):
            assert len(records(await wire.ask(search("plain", ticker, *JANUARY)))) == 1


async def test_a_source_may_be_asked_in_parts(tmp_path: Path) -> None:
    """`max_span` and `look_back` hold for a plugin as for any provider."""
    source = (
        "class Provider:\n"
        "    def describe(self): return {'max_span': '10d', 'data_end': '2024-01-25'}\n"
        "    def fetch(self, ticker, start, end): return [{'timestamp': start}]\n"
    )
    async with plugged(tmp_path) as hub, hub.client() as wire:
        await hub.write("parts", source)
        answer = await wire.ask(search("parts", "x", *JANUARY))
        assert answer["stitch"]["upstream_requests"] == 3
        assert [row["timestamp"] for row in records(answer)] == [
            FIRST_S + day * DAY_S for day in (0, 10, 20)
        ]


BAD_REPLIES: list[tuple[str, str, str]] = [
    ("a number", "42", "a int is no answer"),
    ("no list", "{'data': []}", "a dict is no answer"),
    ("texts", "['x']", "entity 0 is a str, not a dict"),
    ("no data", "[{'id': 'x'}]", "entity 0: data is a NoneType; it must be a JSON array"),
    ("no array", "[{'data': '{}'}]", "entity 0: data is a dict; it must be a JSON array"),
    ("no JSON", "[{'data': '[1'}]", "entity 0: data is no JSON"),
    ("no objects", "[{'data': '[1]'}]", "record 0 is a int, not a dict"),
    ("no time", "[{'data': [{'x': 1}]}]", "record 0 has no time column 'timestamp'"),
]


@pytest.mark.parametrize(
    ("returned", "why"), [case[1:] for case in BAD_REPLIES], ids=[case[0] for case in BAD_REPLIES]
)
async def test_bad_replies_of_an_entity_plugin(tmp_path: Path, returned: str, why: str) -> None:
    """What is wrong is told, and nothing is stored."""
    source = f"class Provider:\n    def fetch_entities(self, request): return {returned}\n"
    async with plugged(tmp_path, SteadyProvider()) as hub, hub.client() as wire:
        await hub.write("bad", source)
        error = await fails(wire, "bad", "x")
        assert error["reason"] == "bad_plugin_reply"
        assert why in error["message"]
        assert (await hub.door.hub.statistics())["series"] == 0
