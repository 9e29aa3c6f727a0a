"""What goes wrong over TCP, code by code, and what an envelope may look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.providers import SteadyProvider
from support.wire import IMPATIENT, but, door, line_of, read, records, request, search

JANUARY = ("2021-01-01", "2021-02-01")
PING = {"type": "Ping"}


def asking(query: Any, **envelope: Any) -> bytes:
    """Return a request as bytes without the end of its line."""
    return line_of(query, **envelope)[:-1]


def searching(*filters: dict[str, Any], **fields: Any) -> bytes:
    """Return a search with these filters."""
    return asking(request("steady", "SearchEntities", query=list(filters), **fields))


def ranged(start: str, end: str) -> bytes:
    """Return a range search."""
    return asking(search("steady", "ABC", start, end))


BAD_QUERY = ("invalid_query", "ProviderRequest")
ERRORS: list[tuple[bytes, str, str]] = [
    (b"nonsense", "invalid_json", "InvalidJson"),
    (b"{", "invalid_json", "InvalidJson"),
    (b"[]", "invalid_json", "InvalidJson"),
    (b'"text"', "invalid_json", "InvalidJson"),
    (b"null", "invalid_json", "InvalidJson"),
    (b"7", "invalid_json", "InvalidJson"),
    (b'{"query":{"type":"Ping"}} {}', "invalid_json", "InvalidJson"),
    (b'{"query":{"type":"Ping"}}x', "invalid_json", "InvalidJson"),
    (b'{"query":NaN}', "invalid_json", "InvalidJson"),
    (b'{"a":"\xff","query":{"type":"Ping"}}', "invalid_json", "InvalidJson"),
    (b'\xef\xbb\xbf{"query":{"type":"Ping"}}', "invalid_json", "InvalidJson"),
    (b'{"query":' + b"[" * 50_000, "invalid_json", "InvalidJson"),
    (b"{}", "invalid_envelope", "InvalidJson"),
    (b'{"query":null}', "invalid_envelope", "InvalidJson"),
    (b'{"query":{}}', "invalid_envelope", "InvalidJson"),
    (b'{"query":{"type":"Nothing"}}', "invalid_envelope", "InvalidJson"),
    (b'{"query":{"type":"ProviderRequest"}}', "invalid_envelope", "InvalidJson"),
    (b'{"query":{"type":"Line","payload":{"line":7}}}', "invalid_envelope", "InvalidJson"),
    (
        b'{"query":{"type":"Ping"},"query":{"type":"Ping"}}',
        "invalid_envelope",
        "InvalidJson",
    ),
    (asking(PING, request_id=[1]), "invalid_envelope", "InvalidJson"),
    (asking(PING, request_id={}), "invalid_envelope", "InvalidJson"),
    (asking(PING, strict="yes"), "invalid_envelope", "InvalidJson"),
    (asking(PING, ordered=0), "invalid_envelope", "InvalidJson"),
    (asking(PING, data_as="table"), "invalid_envelope", "InvalidJson"),
    (asking(PING, token=7), "invalid_envelope", "InvalidJson"),
    (asking(request("steady", "Nothing")), "invalid_envelope", "InvalidJson"),
    (asking(request("steady", "GetEntity")), "invalid_envelope", "InvalidJson"),
    (
        asking(
            {
                "type": "ProviderRequest",
                "payload": {
                    "provider": "steady",
                    "request": {"GetEntity": {"id": "a"}, "GetReport": {"url": "u"}},
                },
            }
        ),
        "invalid_envelope",
        "InvalidJson",
    ),
    (searching({"Nothing": "x"}), "invalid_envelope", "InvalidJson"),
    (searching({"Ticker": "A", "ById": "B"}), "invalid_envelope", "InvalidJson"),
    (searching({}), "invalid_envelope", "InvalidJson"),
    (
        asking(search("nobody", "ABC", *JANUARY)),
        "provider_not_found",
        "ProviderRequest",
    ),
    (asking(request("nobody", "GetEntity", id="x")), "provider_not_found", "ProviderRequest"),
    (ranged("2021-02-01", "2021-01-01"), "invalid_query", "ProviderRequest"),
    (ranged("2021-01-01", "2021-01-01"), "invalid_query", "ProviderRequest"),
    (ranged("yesterday", "now"), "invalid_query", "ProviderRequest"),
    (ranged("2021-02-30", "now"), "invalid_query", "ProviderRequest"),
    (ranged("2021-01-01T25:00:00Z", "now"), "invalid_query", "ProviderRequest"),
    (ranged("2021-01-01 00:00:00", "now"), "invalid_query", "ProviderRequest"),
    (ranged("-1q", "now"), "invalid_query", "ProviderRequest"),
    (ranged("now", "-1d"), "invalid_query", "ProviderRequest"),
    (searching({"Ticker": "A"}, {"Ticker": "B"}), "invalid_query", "ProviderRequest"),
    (searching({"Ticker": " "}), "invalid_query", "ProviderRequest"),
    (
        searching({"DateRange": {"start": "-1d", "end": ""}}),
        "invalid_query",
        "ProviderRequest",
    ),
    (
        searching({"Ticker": "A"}, {"Param": {"name": "mood", "value": "x"}}),
        "invalid_query",
        "ProviderRequest",
    ),
    (
        searching({"Ticker": "A"}, {"Param": {"name": "side", "value": "up"}}),
        "invalid_query",
        "ProviderRequest",
    ),
    (searching({"Ticker": "A"}, limit=-1), "invalid_query", "ProviderRequest"),
    (asking(request("steady", "GetAllEntities", limit=-1)), "invalid_query", "ProviderRequest"),
    (asking(request("steady", "GetAllEntities", offset=-1)), "invalid_query", "ProviderRequest"),
    (
        asking(request("steady", "GetEntities", ids=["x"] * 1_001)),
        "invalid_query",
        "ProviderRequest",
    ),
    (searching({"Ticker": "A" * 101}), "invalid_query", "ProviderRequest"),
    (searching({"ByTags": ["t"] * 101}), "invalid_query", "ProviderRequest"),
    (searching({"ByState": "s" * 1_001}), "invalid_query", "ProviderRequest"),
    (searching(*[{"ByState": "ready"}] * 101), "invalid_query", "ProviderRequest"),
    (asking({"type": "Line", "payload": {"line": "a=b " * 5_000}}), *BAD_QUERY),
    (asking({"type": "Line", "payload": {"line": ""}}), "invalid_query", "ProviderRequest"),
    (
        asking({"type": "Line", "payload": {"line": "provider steady search"}}),
        "invalid_query",
        "ProviderRequest",
    ),
    (asking(request("steady", "GetEntities", ids=["x"])), "not_found", "ProviderRequest"),
    (
        asking(request("steady", "GetEntity", id="steady:A:2021-01-01..2021-02-01")),
        "not_found",
        "ProviderRequest",
    ),
    (asking(request("steady", "GetReport", url="http://x")), "unsupported", "ProviderRequest"),
    (ranged("2020-01-01", "2022-01-01"), "too_large", "ProviderRequest"),
]


async def test_every_error_has_its_code(tmp_path: Path) -> None:
    """Each thing that can be wrong with a request has its code and kind; the connection goes on."""
    settings = but(IMPATIENT, limits={"max_records": 100})
    async with door(tmp_path, SteadyProvider(), settings=settings) as at, at.client() as wire:
        for line, code, kind in ERRORS:
            await wire.send(line + b"\n")
            answer = await wire.answer()
            assert (answer["error"]["code"], answer["kind"]) == (code, kind), (line, answer)
            assert (answer["ok"], answer["result"]) == (False, None)
            assert set(answer["error"]) == {"code", "message"}
            if code == "invalid_json":
                assert answer["request_id"] is None
            await wire.ping()


async def test_an_error_names_the_field_by_its_path(tmp_path: Path) -> None:
    """An envelope that is wrong deep inside is told where."""
    async with door(tmp_path) as at, at.client() as wire:
        answer = await wire.ask(
            request("p", "SearchEntities", query=[{"Ticker": "A"}, {"DateRange": {"start": "x"}}])
        )
    assert (
        "query.payload.request.SearchEntities.query[1].DateRange.end"
        in (answer["error"]["message"])
    )


# The envelope


@pytest.mark.parametrize(
    "scalar",
    [
        b'"req-1"',
        b'""',
        '"ü €"'.encode(),
        rb'"\u00fc \" \\ \/ \n"',
        b"0",
        b"-0",
        b"-17",
        b"1.50",
        b"1e400",
        b"123456789012345678901234567890123456789012345678901234567890",
        b"true",
        b"false",
        b"null",
    ],
)
async def test_any_scalar_comes_back_as_it_was_sent(tmp_path: Path, scalar: bytes) -> None:
    """request_id is echoed byte for byte: held or fetched, right or wrong, first key or last."""
    query = json.dumps(search("steady", "ABC", *JANUARY)).encode()
    lines = [
        b'{"request_id":%b,"query":%b}' % (scalar, query),
        b'{"request_id":%b,"query":%b}' % (scalar, query),
        b'{"request_id":%b,"query":%b}' % (scalar, query),
        b'{ "query" : %b , "request_id" :\t%b }' % (query, scalar),
        b'{"request_id":%b,"query":{"type":"Ping"}}' % scalar,
        b'{"request_id":%b,"query":{"type":"Nothing"}}' % scalar,
    ]
    async with door(tmp_path, SteadyProvider()) as at, at.client() as wire:
        for line in lines:
            await wire.send(line + b"\n")
            assert b'"request_id":%b,"kind"' % scalar in await wire.line()


async def test_a_missing_id_is_null(tmp_path: Path) -> None:
    """Without request_id the answer says null."""
    async with door(tmp_path) as at, at.client() as wire:
        await wire.send(line_of(PING))
        assert (await wire.answer())["request_id"] is None


async def test_what_older_clients_send_is_ignored(tmp_path: Path) -> None:
    """The envelope's older fields and unknown ones change nothing."""
    async with door(tmp_path) as at, at.client() as wire:
        answer = await wire.ask(
            PING,
            v=1,
            ts_ms=1757030400000,
            return_address=None,
            auth={"any": "thing"},
            token="ACCESS",
            access_token="ACCESS",
            project_id=[7],
            anything=1.5,
        )
    assert answer["ok"]


async def test_line_ends_and_empty_lines(tmp_path: Path) -> None:
    r"""`\r\n` ends a line as `\n` does, and empty lines are no requests."""
    async with door(tmp_path) as at, at.client() as wire:
        one, two = line_of(PING, request_id=1), line_of(PING, request_id=2)
        await wire.send(b"\r\n\n\n\r\n" + one[:-1] + b"\r\n\r\n" + b"\n\n" + two)
        assert [(await wire.answer())["request_id"] for _ in range(2)] == [1, 2]
        wire.writer.write_eof()
        assert await wire.rest() == b""


async def test_any_cutting_of_the_bytes_gives_the_same_answers(tmp_path: Path) -> None:
    """A request that comes byte by byte is one request."""
    steady = SteadyProvider()
    async with door(tmp_path, steady) as at, at.client() as wire:
        line = line_of(search("steady", "ABC", *JANUARY), request_id="slowly")
        for i in range(len(line)):
            await wire.send(line[i : i + 1])
        assert records(await wire.answer()) == steady.rows("ABC", *JANUARY)


async def test_every_answer_is_one_line_of_json(tmp_path: Path) -> None:
    """Hostile names come back inside of JSON strings, on one line."""
    hostile = ['<script>"', "new\nline", "tab\t", "\u2028", "é", "\x7f", "a" * 5_000]
    async with door(tmp_path, SteadyProvider()) as at, at.client() as wire:
        for name in hostile:
            for query in (
                search(name, "ABC", *JANUARY),
                search("steady", name, *JANUARY),
                request("steady", "GetEntity", id=f"steady:{name}:2021-01-01..2021-02-01"),
                {"type": "Line", "payload": {"line": f"provider steady search {name}=1"}},
            ):
                await wire.send(line_of(query, request_id=name))
                assert read(await wire.line())["request_id"] == name
        wire.writer.write_eof()
        assert await wire.rest() == b""
