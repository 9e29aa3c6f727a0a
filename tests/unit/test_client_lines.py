"""Lines to and from a hub as bytes: numbered, encoded, told apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

import gapless
from gapless.client.lines import LineExchange

QUERY = {"type": "Ping"}


def test_requests_are_numbered_lines() -> None:
    """The id comes first; the token and further keys only where there are any."""
    exchange = LineExchange("hub")
    assert exchange.request(QUERY, None, {}) == (1, b'{"request_id":1,"query":{"type":"Ping"}}\n')
    number, line = exchange.request(QUERY, "tok", {"data_as": "array", "strict": True})
    assert number == 2
    assert list(json.loads(line)) == ["request_id", "token", "query", "data_as", "strict"]
    assert [exchange.asked(one) for one in (0, 1, 2, 3, None, "1", 1.5)] == [
        *(False, True, True, False, False, False, False)
    ]


@pytest.mark.parametrize("query", [{"a": "\ud800"}, {"a": object()}, {"a": {1, object()}}])
def test_what_json_cannot_say_is_refused(query: Any) -> None:
    """Before anything is sent, and the next request is none the worse."""
    exchange = LineExchange("hub")
    with pytest.raises(gapless.InvalidQuery, match="the request holds"):
        exchange.request(query, None, {})
    assert exchange.request(QUERY, None, {})[1].endswith(b'"query":{"type":"Ping"}}\n')


def test_a_line_may_come_in_parts() -> None:
    """What has begun is waited for; what has ended is handed over, in order."""
    exchange = LineExchange("hub")
    assert exchange.feed(b"") == []
    assert exchange.amid is False
    assert exchange.feed(b"a") == []
    assert exchange.amid is True
    assert exchange.feed(b"b\nc") == [b"ab"]
    assert exchange.feed(b"\n\nd\n") == [b"c", b"", b"d"]
    assert exchange.amid is False
    assert [line.strip() for line in exchange.feed(b"whole\n")] == [b"whole"]


def test_an_answer_is_read_as_far_as_needed() -> None:
    """Unknown keys are passed over; what is not there is as if it were null."""
    answer = LineExchange("hub").answer(
        b'{"new": 1, "ok": true, "request_id": 7, "result": [ 1 ], "next_offset": 3}'
    )
    assert (answer.ok, answer.request_id, answer.next_offset) == (True, 7, 3)
    assert bytes(answer.result) == b"[ 1 ]"
    assert bytes(answer.stitch) == b"null"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r", "hub speaks HTTP"),
        (b"220 mail.example.com ESMTP", "what answers at hub is no gapless hub"),
        (b'{"request_id": 1}', "is no gapless hub"),
        (b'{"ok": true, "request_id": [1]}', "is no gapless hub"),
        (b'{"ok": true, "next_offset": "x"}', "is no gapless hub"),
        (b'{"ok": true, "kind": "\xff"}', "is no gapless hub"),
        (b"[" * 100_000, "is no gapless hub"),
    ],
)
def test_what_no_hub_says_is_told_as_such(line: bytes, words: str) -> None:
    """With the address, and a hint where it is the other port."""
    with pytest.raises(gapless.UnexpectedAnswer, match=words):
        LineExchange("hub").answer(line)


def test_an_answer_must_be_to_what_was_asked() -> None:
    """An error without an id concerns the connection, and so whatever was asked."""
    exchange = LineExchange("hub")
    exchange.request(QUERY, None, {})
    for good in (b'{"ok":true,"request_id":1}', b'{"ok":false,"request_id":null}'):
        exchange.expect(exchange.answer(good), 1)
    for bad in (b'{"ok":true}', b'{"ok":false,"request_id":2}', b'{"ok":true,"request_id":"1"}'):
        with pytest.raises(gapless.UnexpectedAnswer, match="which nobody waits for"):
            exchange.expect(exchange.answer(bad), 1)


def test_an_error_keeps_what_it_says() -> None:
    """Its kind by code and reason, its message, and how long to wait."""
    line = (
        b'{"ok":false,"error":{"code":"provider_request_failed","reason":"rate_limited",'
        b'"message":"slow down","retry_after_s":2.5}}'
    )
    failure = LineExchange("hub").answer(line).failure()
    assert type(failure) is gapless.RateLimited
    assert (str(failure), failure.retry_after_s) == ("slow down", 2.5)
