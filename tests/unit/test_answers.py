"""Answers of the wire: what they look like, and that every error has its code."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless import errors
from gapless.errors import (
    GaplessError,
    InternalError,
    InvalidQuery,
    ProviderError,
    RateLimited,
)
from gapless.protocol.messages import (
    PROVIDER_REASONS,
    WIRE_ERRORS,
    Entity,
    ErrorBody,
    Stitch,
    Why,
    encode_entities,
    encode_entity,
    encode_error,
    encode_result,
    encode_stitch,
    entity_frame,
    escape_text,
)

# Code, kind (None: the request's): the table of the wire contract, written out once more.
CODES = {
    "invalid_json": "InvalidJson",
    "invalid_envelope": "InvalidJson",
    "missing_token": "Unauthorized",
    "unauthorized": "Unauthorized",
    "forbidden": "Unauthorized",
    "provider_not_found": None,
    "provider_request_failed": None,
    "invalid_query": None,
    "not_found": None,
    "unsupported": None,
    "too_large": None,
    "line_too_long": "InvalidJson",
    "overloaded": None,
    "internal": None,
}

ENTITY = Entity(
    id="sample:A:1..2",
    source="sample",
    tags='["ticker=A","x=\\"q\\""]',
    data='[{"timestamp":1,"note":"a\\\\b"}]',
    etag="0123456789abcdef",
    fetched_at="2025-09-05T00:00:00Z",
    refresh_after="",
    updated_at="2025-09-05T00:00:00Z",
    state="ready",
    last_error="",
)
ENTITY_KEYS = [
    "id",
    "source",
    "tags",
    "data",
    "etag",
    "fetched_at",
    "refresh_after",
    "updated_at",
    "state",
    "last_error",
]
ANSWER_KEYS = ["ok", "request_id", "kind", "provider", "request_kind", "result", "error", "ts_ms"]


def test_an_entity_has_exactly_the_ten_keys() -> None:
    """All values are strings, in the order of the contract's table."""
    entity = json.loads(encode_entity(ENTITY, as_array=False))
    assert list(entity) == ENTITY_KEYS
    assert all(isinstance(value, str) for value in entity.values())
    assert entity["data"] == '[{"timestamp":1,"note":"a\\\\b"}]'


def test_data_as_array_embeds_data_and_tags() -> None:
    """On request the texts are arrays, equal to what the strings hold."""
    plain = json.loads(encode_entity(ENTITY, as_array=False))
    arrays = json.loads(encode_entity(ENTITY, as_array=True))
    assert list(arrays) == ENTITY_KEYS
    assert arrays["data"] == json.loads(plain["data"])
    assert arrays["tags"] == json.loads(plain["tags"])


def test_a_text_with_line_breaks_stays_on_one_line() -> None:
    """A plugin's pretty-printed JSON cannot end the line early."""
    entity = msgspec.structs.replace(ENTITY, data='[\n 1,\r\n "é"\n]')
    for as_array in (False, True):
        encoded = encode_entity(entity, as_array)
        assert b"\n" not in encoded
        assert b"\r" not in encoded
    assert json.loads(encode_entity(entity, as_array=True))["data"] == [1, "é"]


def test_a_slice_in_its_frame_equals_the_encoded_entity() -> None:
    """Pre-escaped data between head and tail is what the encoder writes."""
    head, tail = entity_frame(ENTITY, as_array=False)
    framed = head + b'"' + escape_text(ENTITY.data.encode()) + b'"' + tail
    assert framed == encode_entity(ENTITY, as_array=False)
    head, tail = entity_frame(ENTITY, as_array=True)
    assert head + ENTITY.data.encode() + tail == encode_entity(ENTITY, as_array=True)


@given(st.recursive(st.text() | st.integers(), lambda x: st.lists(x, max_size=3)))
def test_escaped_text_is_a_json_string(value: object) -> None:
    """Between quotes, the escaped form reads as the text it came from."""
    text = json.dumps(value)
    assert json.loads(b'"' + escape_text(text.encode()) + b'"') == text


def test_a_range_search_is_answered_in_the_documented_order() -> None:
    """All keys are there, in order, with the id verbatim and the stitch last."""
    pair = ("2025-09-05T00:00:00Z", "2025-09-20T00:00:00Z")
    why = Why(*pair, reason="rate_limited", message="busy")
    stitch = encode_stitch(Stitch((pair,), (), (pair,), 1, "partial", (why,)))
    line = encode_entities(
        b"1.50",
        "sample",
        "SearchEntities",
        [encode_entity(ENTITY, as_array=False)],
        1757030400123,
        stitch,
    )
    assert line.startswith(b'{"ok":true,"request_id":1.50,"kind":"ProviderRequest",')
    assert line.endswith(b"}\n")
    answer = json.loads(line)
    assert list(answer) == [*ANSWER_KEYS, "stitch"]
    assert answer["error"] is None
    assert [list(entity) for entity in answer["result"]] == [ENTITY_KEYS]
    assert answer["stitch"] == {
        "cached": [list(pair)],
        "fetched": [],
        "missing": [list(pair)],
        "why": [{"from": pair[0], "to": pair[1], "reason": "rate_limited", "message": "busy"}],
        "upstream_requests": 1,
        "state": "partial",
    }
    assert list(answer["stitch"]) == [
        "cached",
        "fetched",
        "missing",
        "why",
        "upstream_requests",
        "state",
    ]


def test_why_is_there_only_with_something_to_say() -> None:
    """A ready answer has no `why`."""
    assert encode_stitch(Stitch((), (), (), 0, "ready")) == (
        b'{"cached":[],"fetched":[],"missing":[],"upstream_requests":0,"state":"ready"}'
    )


def test_when_upstream_changed_something_is_there_only_where_it_is_known() -> None:
    """`changed_at` comes last."""
    told = encode_stitch(Stitch((), (), (), 0, "ready", changed_at="2026-06-11T13:30:00Z"))
    assert told.endswith(b'"state":"ready","changed_at":"2026-06-11T13:30:00Z"}')


def test_a_page_that_stops_short_says_where_to_go_on() -> None:
    """`next_offset` is there only if it is given, and an empty page is an empty array."""
    page = json.loads(encode_entities(b"1", "s", "GetAllEntities", [], 1, next_offset=7))
    assert list(page) == [*ANSWER_KEYS, "next_offset"]
    assert (page["result"], page["next_offset"]) == ([], 7)
    last = json.loads(encode_entities(b"1", "s", "GetAllEntities", [b"{}", b"{}"], 1))
    assert list(last) == ANSWER_KEYS
    assert last["result"] == [{}, {}]


def test_the_other_answers_have_the_same_keys() -> None:
    """What is no ProviderRequest answers in the same envelope, with a provider if it names one."""
    names = json.loads(encode_result(b'"a"', "ProviderList", ["a", "b"], ts_ms=1))
    assert (names["request_id"], names["kind"], names["result"]) == (
        "a",
        "ProviderList",
        ["a", "b"],
    )
    facts = json.loads(encode_result(b"2", "Describe", {"zone": None}, provider="p", ts_ms=1))
    assert (facts["kind"], facts["result"]) == ("Describe", {"zone": None})
    assert (names["provider"], facts["provider"]) == (None, "p")
    for answer in (names, facts):
        assert list(answer) == ANSWER_KEYS
        assert (answer["ok"], answer["error"], answer["request_kind"]) == (True, None, None)


def test_an_error_answer_has_the_same_keys() -> None:
    """`result` is null; reason and retry_after_s are there only where they say something."""
    busy = json.loads(
        encode_error(
            b"1",
            kind="ProviderRequest",
            provider="sample",
            request_kind="SearchEntities",
            error=RateLimited("wait\n\ud800", retry_after_s=2.5),
            ts_ms=1,
        )
    )
    assert list(busy) == ANSWER_KEYS
    assert (busy["ok"], busy["result"], busy["provider"]) == (False, None, "sample")
    assert busy["error"] == {
        "code": "provider_request_failed",
        "message": "wait\n?",
        "reason": "rate_limited",
        "retry_after_s": 2.5,
    }
    plain = json.loads(encode_error(b"1", kind="Ping", error=InvalidQuery("no"), ts_ms=1))
    assert plain["kind"] == "Ping"
    assert plain["error"] == {"code": "invalid_query", "message": "no"}
    denied = errors.Forbidden("no", retry_after_s=float("inf"))
    answer = json.loads(encode_error(b"1", kind="ProviderList", error=denied, ts_ms=1))
    assert answer["kind"] == "Unauthorized"
    assert "retry_after_s" not in answer["error"]


# --- the tables ----------------------------------------------------------------------------------


def error_tree(root: type[GaplessError]) -> Iterator[type[GaplessError]]:
    """Yield a class and all below it."""
    yield root
    for cls in root.__subclasses__():
        if cls.__module__ == "gapless.errors":
            yield from error_tree(cls)


def test_every_error_has_its_wire_code_and_kind() -> None:
    """The code table, the contract and the error tree say the same."""
    assert {code: cls.kind for code, cls in WIRE_ERRORS.items()} == CODES
    for cls in error_tree(GaplessError):
        assert CODES[cls.code] == cls.kind, cls
        assert issubclass(cls, WIRE_ERRORS[cls.code]), cls


def test_every_provider_error_has_its_reason() -> None:
    """Each kind of provider failure has a reason of its own, and each reason a class."""
    leaves = [
        cls
        for cls in error_tree(ProviderError)
        if cls is not ProviderError and cls.default_reason is not None
    ]
    assert sorted(PROVIDER_REASONS.values(), key=str) == sorted(leaves, key=str)
    assert all(cls.default_reason == reason for reason, cls in PROVIDER_REASONS.items())


@pytest.mark.parametrize("cls", [*WIRE_ERRORS.values(), *PROVIDER_REASONS.values()])
def test_an_error_survives_the_wire(cls: type[GaplessError]) -> None:
    """A client gets back the class, message, reason and wait that the hub raised."""
    error = cls("what happened", retry_after_s=3)
    body = msgspec.json.decode(msgspec.json.encode(ErrorBody.of(error)), type=ErrorBody)
    back = body.to_error()
    expected = PROVIDER_REASONS["upstream_unavailable"] if cls is ProviderError else cls
    assert type(back) is expected
    assert (back.message, back.reason, back.retry_after_s) == (error.message, error.reason, 3)


def test_an_internal_error_tells_only_its_message() -> None:
    """Errors without a code of their own go out as internal."""
    assert ErrorBody.of(InternalError("see the log")) == ErrorBody("internal", "see the log")


def test_an_unknown_code_is_still_an_error() -> None:
    """A newer hub's code does not break an older client."""
    assert type(ErrorBody("new_code", "m").to_error()) is GaplessError
