"""Requests of the wire: what is accepted, what is refused and how."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.errors import (
    InvalidEnvelope,
    InvalidJson,
    InvalidQuery,
)
from gapless.protocol import _answers, _envelope, _queries, messages
from gapless.protocol.messages import (
    FRESH_WORDS,
    Auth,
    ById,
    BySource,
    ByState,
    ByTags,
    ByUpdatedAtRange,
    ByUrl,
    DateRange,
    Envelope,
    GetAllEntities,
    GetEntities,
    GetEntity,
    GetReport,
    Line,
    Param,
    Ping,
    ProviderList,
    ProviderRequest,
    Query,
    Rejected,
    SearchEntities,
    Ticker,
    decode_envelope,
    encode_envelope,
    encode_rejected,
    request_to_wire,
)

PING = b'{"query":{"type":"Ping"}}'


def request_line(request: object, **envelope: object) -> bytes:
    """Return an envelope around a request, as a line."""
    payload = {"provider": "sample", "request": request}
    query = {"type": "ProviderRequest", "payload": payload}
    return json.dumps({"request_id": "r", "query": query, **envelope}).encode()


def accepted(line: bytes) -> Envelope:
    """Return the envelope of a line that is accepted."""
    envelope = decode_envelope(line)
    assert isinstance(envelope, Envelope), envelope
    return envelope


def rejected(line: bytes) -> Rejected:
    """Return the refusal of a line that is refused."""
    result = decode_envelope(line)
    assert isinstance(result, Rejected), result
    return result


# --- the envelope --------------------------------------------------------------------------------


def test_the_documented_envelope_is_read() -> None:
    """The example of the wire contract works as it stands."""
    line = (
        b'{"request_id": "req-1", "v": 1, "ts_ms": 1757030400000, "return_address": null, '
        b'"auth": null, "token": "ACCESS", "access_token": "OTHER", "project_id": {"a": [1]}, '
        b'"query": {"type": "ProviderList"}}'
    )
    assert accepted(line) == Envelope(b'"req-1"', ProviderList(), "ACCESS")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"", Envelope(b"null", Ping())),
        (b'"access_token":"b",', Envelope(b"null", Ping(), "b")),
        (b'"token":null,"access_token":"b",', Envelope(b"null", Ping(), "b")),
        (b'"token":"",', Envelope(b"null", Ping())),
        (b'"data_as":"array",', Envelope(b"null", Ping(), data_as_array=True)),
        (b'"data_as":"string",', Envelope(b"null", Ping())),
        (b'"strict":true,"ordered":false,', Envelope(b"null", Ping(), strict=True, ordered=False)),
        (b'"strict":null,"ordered":null,"data_as":null,', Envelope(b"null", Ping())),
        ('"ignored":"é\U0001f600",'.encode(), Envelope(b"null", Ping())),
        (b'"\\u0074oken":"t",', Envelope(b"null", Ping(), "t")),
    ],
)
def test_envelope_options(fields: bytes, expected: Envelope) -> None:
    """Each option, its null and its absence are understood."""
    assert accepted(b"{" + fields + PING[1:]) == expected


@pytest.mark.parametrize(
    "request_id",
    [b'"a"', b"1", b"-1.50e+3", b"null", b"true", b"1" * 400, b'"\\u00e9\\n"', '"é"'.encode()],
)
def test_request_ids_are_kept_verbatim(request_id: bytes) -> None:
    """A scalar id is echoed byte for byte, in errors too."""
    assert accepted(b'{"request_id": %b ,' % request_id + PING[1:]).request_id == request_id
    assert rejected(b'{"request_id":%b}' % request_id).request_id == request_id
    bad_query = b'{"query":{"type":"X"},"request_id":%b}' % request_id
    assert rejected(bad_query).request_id == request_id
    bad_token = b'{"token":1,"query":0,"request_id":%b}' % request_id
    assert rejected(bad_token).request_id == request_id


@pytest.mark.parametrize("request_id", [b"[]", b'{"a":1}'])
def test_a_request_id_that_is_no_scalar_is_refused(request_id: bytes) -> None:
    """Arrays and objects are no ids, and are not echoed."""
    for line in (b'{"request_id":%b,' % request_id + PING[1:], b'{"request_id":%b}' % request_id):
        result = rejected(line)
        assert result.request_id == b"null"
        assert isinstance(result.error, InvalidEnvelope)


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":1,"a":1,' + PING[1:],
        b'{"a" : 1, "a"\t: {"a": 1},' + PING[1:],
        b'{"query":{"type":"Ping"},' + PING[1:],
        b'{"query":{"type":"Auth"},' + PING[1:],
        b'{"v":":","x":"y",":b":1,":b":2,' + PING[1:],
        b'{"x":"","a":1,"\\u0061":2,' + PING[1:],
        b'{"a\\"":1,"a\\"":2,' + PING[1:],
        b'{"":1,"":2,' + PING[1:],
        b'{"n":' + b"9" * 5000 + b',"n":1,' + PING[1:],
        b'{"request_id":1,"strict":true,"strict":true,' + PING[1:],
        b'{"v":1,"v":2,' + PING[1:],
        b'{"v":{"a":1},"v":2,' + PING[1:],
        b'{"request_id":"a","request_id":"b:c",' + PING[1:],
        b'{"request_id":"a:b","request_id":"c",' + PING[1:],
    ],
)
def test_a_duplicate_top_level_key_is_refused(line: bytes) -> None:
    """However it is spelled, a key that is there twice makes the envelope ambiguous."""
    result = rejected(line)
    assert isinstance(result.error, InvalidEnvelope)
    assert "more than once" in result.error.message


@pytest.mark.parametrize(
    "fields",
    [
        b'"auth":{"v":1,"query":{"v":2}},"v":1,',
        b'"a":["b","b"],"b":"a",',
        b'"a":"\\"b\\":","b":"\\"b\\":",',
        b'"a":"x\\",\\"a\\":1",',
        b'"type":1,"payload":{"type":"Ping"},',
        b'"request_id":"a:b:c","return_address":"h:1","auth":{"v":1},"v":1,',
        b'"a":"x:y",":":1,"b":":",',
        b'"n":' + b"9" * 5000 + b',"e":1e999,"b":"\\\\",',
    ],
)
def test_equal_keys_at_other_levels_are_no_duplicates(fields: bytes) -> None:
    """Only the top level counts, and texts that look like keys do not."""
    assert accepted(b"{" + fields + PING[1:]).query == Ping()


key_texts = st.sampled_from(["a", "b", "v", "auth", ":", ",", "a:", '"', "\\", "query", "é", ""])
values = st.recursive(
    st.sampled_from(["1", '"a"', '":"', '"\\""', '"a\\":"', "null", '"{"']),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda x: f"[{', '.join(x)}]"),
        st.lists(st.tuples(key_texts.map(json.dumps), inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{k} :{v}" for k, v in pairs) + "}"
        ),
    ),
    max_leaves=8,
)


@given(st.lists(st.tuples(key_texts, values), max_size=6), st.integers(0, 6), st.booleans())
def test_duplicates_are_found_exactly(
    fields: list[tuple[str, str]], place: int, plain: bool
) -> None:
    """The quick check and the exact one agree with reading the keys plainly."""
    fields = [*fields[:place], ("query", '{"type":"Ping"}'), *fields[place:]]
    line = ",".join(f"{json.dumps(k, ensure_ascii=not plain)}:{v}" for k, v in fields)
    keys = [key for key, _ in fields]
    last_query = [value for key, value in fields if key == "query"][-1]
    result = decode_envelope(f"{{{line}}}".encode())
    if len(set(keys)) < len(keys):
        assert isinstance(result, Rejected)
    elif last_query == '{"type":"Ping"}':
        assert isinstance(result, Envelope)


# --- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_json", "expected"),
    [
        ({"GetEntity": {"id": "a"}}, GetEntity("a")),
        ({"GetEntities": {"ids": ["a", "b"]}}, GetEntities(("a", "b"))),
        ({"GetAllEntities": {}}, GetAllEntities()),
        ({"GetAllEntities": {"limit": None, "offset": 0}}, GetAllEntities(None, 0)),
        ({"GetReport": {"url": "u", "unknown": 1}}, GetReport("u")),
        ({"SearchEntities": {"query": []}}, SearchEntities(())),
        (
            {
                "SearchEntities": {
                    "query": [
                        {"ById": "i"},
                        {"BySource": "s"},
                        {"ByState": "ready"},
                        {"ByTags": ["a", "b"]},
                        {"Ticker": "T"},
                        {"DateRange": {"start": "", "end": "now"}},
                        {"ByUpdatedAtRange": {"start": "-1d", "end": ""}},
                        {"ByUrl": "u"},
                        {"Param": {"name": "interval", "value": "1h"}},
                    ],
                    "limit": 3,
                }
            },
            SearchEntities(
                (
                    ById("i"),
                    BySource("s"),
                    ByState("ready"),
                    ByTags(("a", "b")),
                    Ticker("T"),
                    DateRange("", "now"),
                    ByUpdatedAtRange("-1d", ""),
                    ByUrl("u"),
                    Param("interval", "1h"),
                ),
                3,
            ),
        ),
    ],
)
def test_requests_are_read(request_json: dict[str, Any], expected: messages.Request) -> None:
    """Each request and each filter of the contract becomes its struct."""
    assert accepted(request_line(request_json)).query == ProviderRequest("sample", expected)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"type": "ProviderList", "payload": None}, ProviderList()),
        ({"type": "ProviderList", "payload": {}}, ProviderList()),
        ({"type": "Ping"}, Ping()),
        ({"payload": 3, "type": "Auth"}, Auth()),
        ({"payload": {"line": "providers"}, "type": "Line"}, Line("providers")),
    ],
)
def test_queries_are_read(query: dict[str, Any], expected: Query) -> None:
    """Each query type is read, whatever the order of its keys."""
    assert accepted(json.dumps({"query": query}).encode()).query == expected


R = "query.payload.request"
S = f"{R}.SearchEntities"


def search(*filters: object) -> bytes:
    """Return a search with these filters, as a line."""
    return request_line({"SearchEntities": {"query": list(filters)}})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{}", "query: is missing"),
        (b'{"query":null}', "query: expected an object, got null"),
        (b'{"query":{}}', "query.type: is missing"),
        (b'{"query":{"type":"X"}}', "query.type: expected one of ProviderList, ProviderRequest"),
        (b'{"query":{"type":3}}', "query.type: expected one of"),
        (b'{"query":{"type":"Line"}}', "query.payload: is missing"),
        (
            b'{"query":{"type":"ProviderRequest","payload":{}}}',
            "query.payload.provider: is missing",
        ),
        (
            b'{"token":1,"query":{"type":"Ping"}}',
            "token: expected a string or null, got an integer",
        ),
        (b'{"data_as":"x","query":{"type":"Ping"}}', 'data_as: expected "array", "string" or null'),
        (b'{"data_as":1,"query":{"type":"Ping"}}', 'data_as: expected "array", "string" or null'),
        (b'{"strict":1,"query":{"type":"Ping"}}', "strict: expected true or false or null"),
        (b'{"fresh":"x","query":{"type":"Ping"}}', "fresh: expected held, check, now or null"),
        (b'{"fresh":1,"query":{"type":"Ping"}}', "fresh: expected held, check, now or null"),
        (b'{"fresh":"now","query":{"type":"Ping"}}', "fresh: it goes with a search by ticker"),
        (b'{"fresh":"now","query":{"type":"Auth"}}', "fresh: it goes with a search by ticker"),
        (request_line({}), f"{R}: expected exactly one of GetEntity, GetEntities"),
        (
            request_line({"GetEntity": {"id": "a"}, "GetReport": {"url": "b"}}),
            "got GetEntity and GetReport",
        ),
        (request_line({"Drop": {}}), f"{R}: unknown `Drop`; expected exactly one of GetEntity"),
        (request_line("GetAllEntities"), f"{R}: expected an object, got a string"),
        (request_line({"GetEntity": None}), f"{R}.GetEntity: expected an object, got null"),
        (request_line({"GetEntities": {"ids": ["a", 1]}}), f"{R}.GetEntities.ids[1]: expected"),
        (request_line({"GetAllEntities": {"limit": "1"}}), f"{R}.GetAllEntities.limit: expected"),
        (request_line({"GetAllEntities": {"limit": 1.0}}), f"{R}.GetAllEntities.limit: expected"),
        (request_line({"GetAllEntities": {"limit": True}}), f"{R}.GetAllEntities.limit: expected"),
        (search({}), f"{S}.query[0]: expected exactly one of ById"),
        (search({"Ticker": "A"}, {"Foo": 1}), f"{S}.query[1]: unknown `Foo`; expected"),
        (search({"Ticker": "A", "ById": "b"}), f"{S}.query[0]: expected exactly one of"),
        (search({"Ticker": None}), f"{S}.query[0].Ticker: expected a string, got null"),
        (search({"Param": {"name": "n"}}), f"{S}.query[0].Param.value: is missing"),
        (
            search({"DateRange": {"start": 5, "end": ""}}),
            f"{S}.query[0].DateRange.start: expected a string, got an integer",
        ),
    ],
)
def test_the_message_names_the_field_by_its_path(line: bytes, expected: str) -> None:
    """What is wrong in an envelope is said with the path of the field and what was expected."""
    result = rejected(line)
    assert isinstance(result.error, InvalidEnvelope)
    assert expected in result.error.message
    assert result.kind == "InvalidJson"


@pytest.mark.parametrize(
    "request_json",
    [
        {"GetAllEntities": {"limit": -1}},
        {"GetAllEntities": {"offset": -1}},
        {"GetAllEntities": {"offset": 2**63}},
        {"GetAllEntities": {"limit": 10**200}},
        {"SearchEntities": {"query": [], "limit": -5}},
    ],
)
def test_counts_out_of_range_are_an_invalid_query(request_json: dict[str, Any]) -> None:
    """A negative or enormous limit is the request's error: its kind and provider are known."""
    result = rejected(request_line(request_json))
    assert isinstance(result.error, InvalidQuery)
    assert (result.kind, result.provider) == ("ProviderRequest", "sample")
    assert result.request_kind == next(iter(request_json))
    answer = json.loads(encode_rejected(result, ts_ms=1))
    assert (answer["kind"], answer["request_kind"]) == (result.kind, result.request_kind)


# --- hostile bytes -------------------------------------------------------------------------------

HOSTILE = [
    b"",
    b" ",
    b"[]",
    b"1",
    b'"query"',
    b"\x00",
    b"\xef\xbb\xbf" + PING,
    b"\xff" + PING,
    b"{" + b'"a":"\xff",' + PING[1:],
    b'{"request_id":"\xed\xa0\x80",' + PING[1:],
    b'{"\xc3":1,' + PING[1:],
    b'{"request_id":"\\ud800",' + PING[1:],
    b'{"a":"\\udc00",' + PING[1:],
    b'{"a":NaN,' + PING[1:],
    b'{"a":-Infinity,' + PING[1:],
    b'{"a":01,' + PING[1:],
    b'{"request_id":"a\tb",' + PING[1:],
    b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"," + PING[1:],
    b'{"a":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"," + PING[1:],
    b'{"query":' + b"[" * 100_000,
    b'{"query":' + b'{"type":' * 5_000 + b"1" + b"}" * 5_001,
    PING + b"x",
    PING[:-1],
    request_line({"GetAllEntities": {"limit": 7}}).replace(b"7", b"7" * 5_000),
    b'{"query":{"type":"' + b"x" * 100_000 + b'"}}',
    request_line({"y" * 100_000: 1}),
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_lines_get_one_short_error(line: bytes) -> None:
    """Nesting, numbers, encodings and cut lines are one of the two errors (promise 10)."""
    result = rejected(line)
    assert isinstance(result.error, InvalidJson | InvalidEnvelope)
    assert len(result.error.message) < 500
    answer = encode_rejected(result, ts_ms=1)
    assert answer.count(b"\n") == 1
    assert json.loads(answer)["kind"] == "InvalidJson"


SEARCH = search({"Ticker": "é\\"}, {"DateRange": {"start": "-1d", "end": ""}})


@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(str.encode),
        st.tuples(st.integers(0, len(SEARCH)), st.binary(max_size=4)).map(
            lambda cut: SEARCH[: cut[0]] + cut[1] + SEARCH[cut[0] + len(cut[1]) :]
        ),
    )
)
def test_no_bytes_raise(line: bytes) -> None:
    """Whatever the bytes, the answer is one line of JSON under an id that is JSON."""
    result = decode_envelope(line)
    msgspec.json.decode(result.request_id)
    if isinstance(result, Rejected):
        msgspec.json.decode(encode_rejected(result, ts_ms=1))


texts = st.text(max_size=10)
counts = st.none() | st.integers(0, 2**63 - 1)
filters = st.one_of(
    *(st.builds(cls, texts) for cls in (ById, BySource, ByState, Ticker, ByUrl)),
    *(st.builds(cls, texts, texts) for cls in (DateRange, ByUpdatedAtRange, Param)),
    st.builds(ByTags, st.lists(texts, max_size=3).map(tuple)),
)
requests = st.one_of(
    st.builds(GetEntity, texts),
    st.builds(GetEntities, st.lists(texts, max_size=3).map(tuple)),
    st.builds(GetAllEntities, counts, counts),
    st.builds(SearchEntities, st.lists(filters, max_size=4).map(tuple), counts),
    st.builds(GetReport, texts),
)
fresh = st.none() | st.sampled_from(FRESH_WORDS)
queries = st.one_of(
    st.just(ProviderList()),
    st.just(Ping()),
    st.just(Auth()),
    st.builds(Line, texts, fresh),
    st.builds(ProviderRequest, texts, requests, fresh),
)
envelopes = st.builds(
    Envelope,
    st.sampled_from([b"null", b"1", b'"a"']),
    queries,
    st.none() | st.text(min_size=1, max_size=10),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


def test_what_a_line_holds_besides_is_not_read_as_what_is_said_beside_it() -> None:
    """How fresh a line wants it is said in the line or in the request, not in between."""
    line = b'{"query":{"type":"Line","payload":{"line":"x","fresh":"now"}},"fresh":null}'
    assert accepted(line).query == Line("x")
    line = b'{"query":{"type":"Line","payload":{"line":"x"}},"fresh":"now"}'
    assert accepted(line).query == Line("x", "now")


@given(envelopes)
def test_an_encoded_envelope_decodes_as_itself(envelope: Envelope) -> None:
    """What the client sends is what the server reads."""
    line = encode_envelope(envelope)
    assert line.endswith(b"\n")
    assert decode_envelope(line[:-1]) == envelope


def test_plugins_get_the_request_as_on_the_wire() -> None:
    """The JSON form of a request is the contract's, externally tagged."""
    request = SearchEntities((Ticker("A"), ByTags(("t",)), DateRange("x", "y")), 2)
    assert request_to_wire(request) == {
        "SearchEntities": {
            "query": [
                {"Ticker": "A"},
                {"ByTags": ["t"]},
                {"DateRange": {"start": "x", "end": "y"}},
            ],
            "limit": 2,
        }
    }


def test_all_lists_what_is_public() -> None:
    """Every public class and function of the room is listed, and every name comes from a list."""
    for module in (_answers, _envelope, _queries):
        public = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        }
        assert public <= set(module.__all__)
        assert set(module.__all__) <= set(messages.__all__)
    offered = {name for name in vars(messages) if not name.startswith("_")} - {"annotations"}
    assert sorted(messages.__all__) == sorted(offered)
