"""The records of a series over HTTP: formats, headers, pages, and what is answered when."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gapless.errors import OutOfWindow, UpstreamUnavailable
from gapless.protocol.times import parse_instant
from gapless.providers.base import DAY_MS
from gapless.providers.sample import SampleProvider
from gapless.store.base import Change
from support.clock import ManualClock
from support.providers import SteadyProvider
from support.web import READERS, Web, stitch_of, undated, web
from support.wire import IMPATIENT, connect

YEAR = "start=2010-01-01&end=2011-01-01"
AAPL = f"/v1/data/sample/AAPL?{YEAR}"


TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}


async def over_tcp(opened: Web, *filters: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of the TCP door to a search."""
    async with await connect(opened.tcp_port) as wire:
        return await wire.ask(
            {
                "type": "ProviderRequest",
                "payload": {
                    "provider": "sample",
                    "request": {"SearchEntities": {"query": list(filters), "limit": None}},
                },
            },
            data_as="array",
        )


@pytest.mark.parametrize("name", READERS)
async def test_every_format_has_the_records_of_tcp(tmp_path: Path, name: str) -> None:
    """By suffix, by key and by `Accept` the same body, with the very records that TCP answers."""
    async with web(tmp_path, SampleProvider()) as opened:
        by_suffix = await opened.get(f"/v1/data/sample/AAPL.{name}?{YEAR}")
        by_key = await opened.get(f"{AAPL}&format={name}")
        by_accept = await opened.get(AAPL, accept=TYPES[name])
        answer = await over_tcp(
            opened,
            {"Ticker": "AAPL"},
            {"DateRange": {"start": "2010-01-01", "end": "2011-01-01"}},
        )
    [entity] = answer["result"]
    assert len(entity["data"]) == 252
    for response in (by_suffix, by_key, by_accept):
        assert response.headers["content-type"] == TYPES[name]
        assert undated(name, READERS[name](response.content)) == entity["data"]
        assert response.headers["gapless-records"] == "252"
    assert stitch_of(by_suffix.headers)["fetched"] == [
        ["2010-01-01T00:00:00Z", "2011-01-01T00:00:00Z"]
    ]
    assert stitch_of(by_accept.headers) == answer["stitch"]
    if name == "json":
        assert by_key.headers["etag"] == f'"{entity["etag"]}-json"'


async def test_a_key_wins_over_an_ending_and_both_over_accept(tmp_path: Path) -> None:
    """`format` says it; then the ending belongs to the ticker."""
    async with web(tmp_path, SteadyProvider()) as opened:
        one = await opened.get("/v1/data/steady/A.csv?end=2020-01-03", accept="application/json")
        assert one.headers["content-type"].startswith("text/csv")
        await opened.get("/v1/data/steady/A.csv?end=2020-01-03&format=json")
        found = await opened.get("/v1/series")
    tickers = [one["ticker"] for one in found.json()["series"]]
    assert tickers == ["A", "A.CSV"]


async def test_what_is_final_has_a_tag(tmp_path: Path) -> None:
    """A client that has it is told so, in each form by a tag of its own."""
    async with web(tmp_path, SampleProvider()) as opened:
        tags = set()
        for path, encoding in (
            (AAPL, "identity"),
            (AAPL, "gzip"),
            (f"{AAPL}&format=csv", "identity"),
            (f"{AAPL}&format=arrow", "identity"),
            (f"{AAPL}&columns=close", "identity"),
            (f"{AAPL}&columns=open", "identity"),
        ):
            first = await opened.get(path, accept_encoding=encoding)
            assert first.headers["cache-control"] == "no-cache"
            tag = first.headers["etag"]
            tags.add(tag)
            for given in (tag, f'"other", {tag}', "*", tag.removeprefix("W/")):
                again = await opened.get(path, 304, accept_encoding=encoding, if_none_match=given)
                assert (again.content, again.headers["etag"]) == (b"", tag)
                assert "content-length" not in again.headers
            await opened.get(path, accept_encoding=encoding, if_none_match='"other"')
        assert len(tags) == 6


async def test_what_may_change_is_not_kept(tmp_path: Path) -> None:
    """A provisional tail, or an answer that is not complete, is nothing to keep or to tag."""
    clock = ManualClock(parse_instant("2020-02-01T12:00:00Z", now_ms=0))
    steady = SteadyProvider(tail_ms=3 * DAY_MS)
    async with web(tmp_path, steady, clock=clock) as opened:
        recent = await opened.get("/v1/data/steady/A?start=2020-01-01")
        assert recent.headers["cache-control"] == "no-store"
        assert "etag" not in recent.headers
        past = await opened.get("/v1/data/steady/A?start=2020-01-01&end=2020-01-20")
        assert "etag" in past.headers
        steady.failures["B"] = OutOfWindow("gone")
        await opened.get("/v1/data/steady/B?start=2020-01-01", 404)


async def test_text_is_pressed_where_it_is_asked_for(tmp_path: Path) -> None:
    """Gzip for JSON, NDJSON and CSV, only for those who say that they take it."""
    async with web(tmp_path, SampleProvider()) as opened:
        for name in READERS:
            path = f"{AAPL}&format={name}"
            plain = await opened.get(path, accept_encoding="gzip;q=0, br")
            assert "content-encoding" not in plain.headers
            request = opened.client.build_request("GET", path, headers={"accept-encoding": "gzip"})
            response = await opened.client.send(request, stream=True)
            body = b"".join([piece async for piece in response.aiter_raw()])
            await response.aclose()
            pressed = response.headers.get("content-encoding") == "gzip"
            assert pressed == (name in ("json", "ndjson", "csv"))
            if pressed:
                assert len(body) < len(plain.content) / 2
                body = gzip.decompress(body)
            assert READERS[name](body) == READERS[name](plain.content)
            assert "accept-encoding" in plain.headers["vary"]


async def test_pages_make_up_the_whole(tmp_path: Path) -> None:
    """Links lead from page to page, each with its records, and the last names none."""
    async with web(tmp_path, SampleProvider()) as opened:
        whole = (await opened.get(AAPL)).json()
        for path in (f"{AAPL}&limit=100", f"/v1/data/sample/AAPL.csv?{YEAR}&limit=100"):
            records: list[dict[str, Any]] = []
            counts = []
            link: str | None = path
            while link is not None:
                response = await opened.get(link)
                name = "csv" if ".csv" in path else "json"
                page = READERS[name](response.content)
                counts.append(len(page))
                records += undated(name, page)
                assert response.headers["gapless-records"] == str(len(page))
                next_page = response.links.get("next")
                link = None if next_page is None else next_page["url"]
                assert (link is None) == ("gapless-next" not in response.headers)
            assert counts == [100, 100, 52]
            assert records == whole


async def test_a_cursor_belongs_to_its_series_and_basis(tmp_path: Path) -> None:
    """Pages of two series, or of two bases, are never put together."""
    async with web(tmp_path, SampleProvider()) as opened:
        first = await opened.get(f"{AAPL}&limit=10")
        cursor = first.headers["gapless-next"]
        other = await opened.get(f"/v1/data/sample/IBM?{YEAR}&cursor={cursor}", 400)
        assert "another series" in other.json()["message"]
        for bad in ("x", "%00", "AAAA", cursor[:-3]):
            said = await opened.get(f"{AAPL}&cursor={bad}", 400)
            assert "none of this hub's" in said.json()["message"]
        key = next(iter(opened.hub.memory.keys()))
        await opened.hub.holdings.apply(Change(key, (), restates=True, at=1))
        moved = await opened.get(f"{AAPL}&cursor={cursor}", 400)
        assert "changed the past" in moved.json()["message"]


async def test_columns_are_chosen(tmp_path: Path) -> None:
    """Only these, in this order, in every format; others are refused by name."""
    async with web(tmp_path, SampleProvider()) as opened:
        whole = (await opened.get(AAPL)).json()
        wanted = [{"volume": row["volume"], "close": row["close"]} for row in whole]
        for name, reader in READERS.items():
            response = await opened.get(f"{AAPL}&format={name}&columns=volume,close")
            rows = reader(response.content)
            assert rows == wanted
            assert list(rows[0]) == ["volume", "close"]
        refused = await opened.get(f"{AAPL}&columns=close,price", 400)
        assert "price" in refused.json()["message"]
        assert "adjclose" in refused.json()["message"]
        await opened.get(f"{AAPL}&columns=close,close", 400)


async def test_what_is_missing_is_said_in_headers(tmp_path: Path) -> None:
    """A gap that fails leaves a partial answer that names it, or an error where that is asked."""
    steady = SteadyProvider()
    async with web(tmp_path, steady, settings=IMPATIENT) as opened:
        path = "/v1/data/steady/A?start=2020-01-01&end=2020-02-01"
        await opened.get("/v1/data/steady/A?start=2020-01-10&end=2020-01-20")
        steady.failures["2020-01-20T00:00:00Z"] = UpstreamUnavailable("down")
        partial = await opened.get(path)
        stitch = stitch_of(partial.headers)
        assert stitch["state"] == "partial"
        assert stitch["missing"] == [["2020-01-20T00:00:00Z", "2020-02-01T00:00:00Z"]]
        assert stitch["fetched"] == [["2020-01-01T00:00:00Z", "2020-01-10T00:00:00Z"]]
        assert stitch["cached"] == [["2020-01-10T00:00:00Z", "2020-01-20T00:00:00Z"]]
        [why] = json.loads(partial.headers["gapless-why"])
        assert why["reason"] == "upstream_unavailable"
        assert partial.json() == steady.rows("A", "2020-01-01", "2020-01-20")
        assert partial.headers["cache-control"] == "no-store"
        strict = await opened.get(f"{path}&strict=true", 502)
        assert strict.json()["reason"] == "upstream_unavailable"
        assert strict.headers["content-type"] == "application/problem+json"


@pytest.mark.share(5)
@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v1/data/nobody/A", 404, "there is no provider"),
        ("/v1/data/sample/NOPE?start=2010-01-01", 404, "no ticker"),
        ("/v1/data/sample/AAPL?start=2011-01-01&end=2010-01-01", 400, "empty"),
        ("/v1/data/sample/AAPL?start=someday", 400, "no instant"),
        ("/v1/data/sample/AAPL?interval=1h", 400, "interval=1h"),
        ("/v1/data/sample/AAPL?colour=red", 400, "no parameter 'colour'"),
        ("/v1/data/sample/AAPL?from=2010-01-01", 400, "over HTTP start= and end="),
        ("/v1/data/sample/AAPL?strict=", 400, "expected true or false"),
        ("/v1/data/sample/AAPL?intervall=1d", 400, "did you mean 'interval'?"),
        ("/v1/data/sample/AAPL?format=xml", 400, "parquet"),
        ("/v1/data/sample/AAPL?limit=0", 400, "limit"),
        ("/v1/data/sample/AAPL?limit=9999999999", 400, "limit"),
        ("/v1/data/sample/AAPL?limit=x", 400, "limit"),
        ("/v1/data/sample/AAPL?strict=perhaps", 400, "strict"),
        ("/v1/data/sample/AAPL?start=2010-01-01&start=2010-01-02", 400, "twice"),
        ("/v1/data/sample/AAPL?columns=", 400, "columns"),
        ("/v1/data/sample/%FF", 400, "UTF-8"),
        ("/v1/data/sample/AAPL?x=%FF", 400, "UTF-8"),
        ("/v1/data/sample/", 400, "the ticker is missing"),
        ("/v1/data", 404, "nothing at"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    tmp_path: Path, path: str, status: int, said: str
) -> None:
    """With a sentence that names it, as a problem document."""
    async with web(tmp_path, SampleProvider()) as opened:
        response = await opened.get(path, status)
        body = response.json()
        assert said in body["message"]
        assert body["ok"] is False
        assert (body["status"], body["detail"]) == (status, body["message"])
        assert response.headers["content-type"] == "application/problem+json"


async def test_no_format_that_is_taken(tmp_path: Path) -> None:
    """A client that takes none of ours is told which there are."""
    async with web(tmp_path, SampleProvider()) as opened:
        response = await opened.get(AAPL, 406, accept="image/png")
        assert "text/csv" in response.json()["message"]


async def test_head_tells_what_get_would(tmp_path: Path) -> None:
    """The headers without the body, whether it is held or not."""
    async with web(tmp_path, SampleProvider()) as opened:
        for _ in range(2):
            head = await opened.client.head(AAPL)
            assert head.status_code == 200
            assert head.content == b""
            get = await opened.get(AAPL)
            assert head.headers["content-length"] == str(len(get.content))
            assert head.headers["etag"] == get.headers["etag"]


@pytest.mark.share(4)
@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0-9", 0, 10),
        ("10-10", 10, 11),
        ("100-", 100, None),
        ("-7", -7, None),
        ("5-999999", 5, None),
    ],
)
@pytest.mark.parametrize("name", ["json", "csv", "parquet"])
async def test_a_range_of_the_bytes(
    tmp_path: Path, name: str, asked: str, first: int, last: int | None
) -> None:
    """Readers that look into a file by ranges find it whole, by a tag that holds for its bytes."""
    async with web(tmp_path, SampleProvider()) as opened:
        path = f"{AAPL}&format={name}"
        whole = await opened.get(path)
        size = len(whole.content)
        assert whole.headers["accept-ranges"] == "bytes"
        tag = whole.headers["etag"]
        assert not tag.startswith("W/")
        part = await opened.get(path, 206, range=f"bytes={asked}", if_range=tag)
        assert part.content == whole.content[first:last]
        begin, end, of = re.findall(r"\d+", part.headers["content-range"])
        assert (int(end) - int(begin) + 1, int(of)) == (len(part.content), size)
        other = await opened.get(path, range=f"bytes={asked}", if_range='"other"')
        assert other.content == whole.content
        beyond = await opened.get(path, 416, range=f"bytes={size}-")
        assert beyond.headers["content-range"] == f"bytes */{size}"
        for nonsense in ("bytes=-", "bytes=5-4-3", "rows=0-1", "bytes=0-1,5-6"):
            assert (await opened.get(path, range=nonsense)).content == whole.content


async def test_a_ready_answer_goes_with_its_series(tmp_path: Path) -> None:
    """What is kept ready is dropped when the series changes, is forgotten, or falls due."""
    clock = ManualClock(parse_instant("2020-02-01T12:00:00Z", now_ms=0))
    steady = SteadyProvider(tail_ms=3 * DAY_MS, due_in_ms=60_000)
    async with web(tmp_path, steady, clock=clock) as opened:
        path = "/v1/data/steady/A?start=2020-01-01&end=2020-02-01T12:00:00Z"
        for _ in range(3):
            await opened.get(path)
        assert len(steady.asked("A")) == 1
        clock.advance(61)
        again = await opened.get(path)
        assert stitch_of(again.headers)["upstream_requests"] == 1
        await opened.send("DELETE", "/v1/series/steady/A")
        anew = await opened.get(path)
        assert stitch_of(anew.headers)["cached"] == []


async def test_ranges_in_other_words_are_the_same(tmp_path: Path) -> None:
    """A request in words not seen before is answered from memory, without going upstream."""
    steady = SteadyProvider()
    async with web(tmp_path, steady) as opened:
        await opened.get("/v1/data/steady/A?start=2020-01-01&end=2020-03-01")
        for day in range(1, 28):
            response = await opened.get(
                f"/v1/data/steady/A?start=2020-01-{day:02d}&end=2020-02-{day:02d}"
            )
            assert response.json() == steady.rows("A", f"2020-01-{day:02d}", f"2020-02-{day:02d}")
        assert len(steady.asked("A")) == 1


async def test_what_was_forgotten_and_fetched_again_is_another_series(tmp_path: Path) -> None:
    """A page of the one does not go on with the other, though both are on their first basis."""
    steady = SteadyProvider()
    async with web(tmp_path, steady) as opened:
        path = "/v1/data/steady/A?start=2020-01-01&end=2020-02-01"
        first = await opened.get(f"{path}&limit=5")
        await opened.send("DELETE", "/v1/series/steady/A")
        steady.padding = "!"
        await opened.get(path)
        said = await opened.get(first.links["next"]["url"], 400)
        assert "forgotten" in said.json()["message"]


@pytest.mark.parametrize("name", ["json", "ndjson", "csv"])
async def test_days_come_where_they_are_named(tmp_path: Path, name: str) -> None:
    """JSON has the column `date` where `columns=` names it, with the time beside it or not."""
    async with web(tmp_path, SampleProvider()) as opened:
        path = f"/v1/data/sample/AAPL?start=2010-01-04&end=2010-01-06&format={name}"
        for columns in ("timestamp,date,close", "close,date"):
            rows = READERS[name]((await opened.get(f"{path}&columns={columns}")).content)
            assert [list(row) for row in rows] == [columns.split(",")] * 2
            assert [str(row["date"]) for row in rows] == ["2010-01-04", "2010-01-05"]
        # Records are as the wire has them otherwise.
        whole = READERS[name]((await opened.get(path)).content)
        assert ("date" in whole[0]) is (name == "csv")
        problem = await opened.get(f"{path}&columns=day", 400)
        assert "there is no column 'day'" in problem.json()["detail"]
