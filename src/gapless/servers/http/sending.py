"""Answers onto the wire: problems, replies whole or in part or in pieces, and not again.

What RFC 9110 says of conditional and of range requests is here, for every data route alike.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, nullcontext
from http import HTTPStatus
from time import perf_counter
from typing import cast

import structlog
from litestar.types import Message, Receive, Send

from gapless.errors import GaplessError
from gapless.servers.http import problems
from gapless.servers.http.budget import Share
from gapless.servers.http.replies import Reply, Tags

_log = structlog.get_logger("gapless.http")

_SLICE_BYTES = 256 << 10
_RANGE = re.compile(rb"bytes=([0-9]{0,18})-([0-9]{0,18})")


async def send_problem(error: GaplessError, send: Send, status: int | None = None) -> None:
    """Answer with an error."""
    problem = problems.problem_of(error, status)
    body = problems.encoded(problem)
    headers = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        *((name.encode(), value.encode()) for name, value in problems.headers_of(problem).items()),
    ]
    await send(_start(problem.status, headers))
    await send(_body(body))


async def send_redirect(to: str, send: Send) -> None:
    """Lead a browser to another page."""
    headers = [
        (b"location", to.encode()),
        (b"content-length", b"0"),
        (b"cache-control", b"no-store"),
    ]
    await send(_start(HTTPStatus.SEE_OTHER, headers))
    await send(_body(b""))


async def send_reply(
    reply: Reply,
    method: str,
    headers: Mapping[bytes, bytes],
    receive: Receive,
    send: Send,
    started: float,
    share: Share | None,
) -> bool:
    """Answer with data: all of it, the part that is asked for, or that the client has it.

    `share` is that of its party in what may wait for clients; `None`: it is held already. Returns
    whether all of it was sent.
    """
    body = reply.body
    if reply.tags and _has(headers.get(b"if-none-match"), reply.tags):
        kept = [(name, value) for name, value in reply.headers if not name.startswith(b"content-")]
        await _send_whole(send, 304, [*kept, _timing(started)], b"", share)
    elif isinstance(body, bytes):
        status, head, part = _part(reply, body, method, headers)
        await _send_whole(send, status, [*head, _timing(started)], part, share)
        return status == reply.status and method != "HEAD"
    elif method == "HEAD":
        await _send_whole(send, reply.status, [*reply.headers, _timing(started)], b"", share)
    else:
        await _send_pieces(reply, body, receive, send, started)
        return True
    if not isinstance(body, bytes):
        await body.aclose()
    return False


async def _send_whole(
    send: Send,
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes | memoryview,
    share: Share | None,
) -> None:
    if len(body) <= _SLICE_BYTES:
        await send(_start(status, headers))
        await send(_body(body))
        return
    # A client that does not read holds up no more than one slice in the socket, and those of all
    # together hold no more than the budget.
    async with nullcontext() if share is None else share.hold(len(body)):
        await send(_start(status, headers))
        await _send_slices(body, send)
        await send(_body(b""))


async def _send_pieces(
    reply: Reply,
    body: AsyncGenerator[bytes, None],
    receive: Receive,
    send: Send,
    started: float,
) -> None:
    async with aclosing(body):
        # What fails before anything is sent can still be told.
        first = await anext(body, b"")
        await send(_start(reply.status, [*reply.headers, _timing(started)]))
        gone = _Departure(receive)
        try:
            await _send_slices(first, send)
            # What was sent is not kept while the next is waited for.
            del first
            async for piece in body:
                if gone.noticed:
                    return
                await _send_slices(piece, send)
                del piece
        except GaplessError as error:
            # Without its end the body is known to be cut short: the server hangs up.
            _log.warning("an answer was broken off", error=error.message)
            return
        finally:
            gone.close()
        await send(_body(b""))


async def _send_slices(body: bytes | memoryview, send: Send) -> None:
    """Send a body or a piece of it; return when the client has taken all but what a socket holds.

    The server copies what it is handed, so that it is handed no more than a slice at once.
    """
    view = memoryview(body)
    for at in range(0, len(body), _SLICE_BYTES):
        await send(_body(view[at : at + _SLICE_BYTES], more=True))
    # The server waits before it writes more, not after it has.
    await send(_body(b"", more=True))


def _part(
    reply: Reply, body: bytes, method: str, headers: Mapping[bytes, bytes]
) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes | memoryview]:
    """Return status, headers and body of an answer, or of the range of it that is asked for.

    One range (RFC 9110, 14.2); a client that asks for several gets the whole.
    """
    asked = headers.get(b"range")
    only_if = headers.get(b"if-range")
    changed = only_if is not None and only_if not in reply.tags[:1]
    served = (b"accept-ranges", b"bytes") in reply.headers
    if asked is None or method != "GET" or changed or not served:
        return reply.status, reply.headers, body
    match = _RANGE.fullmatch(asked.strip())
    if match is None or match[1] == match[2] == b"":
        return reply.status, reply.headers, body
    size = len(body)
    if match[1]:
        first, last = int(match[1]), min(int(match[2] or size), size - 1)
    else:
        first, last = max(0, size - int(match[2])), size - 1
    kept = [(name, value) for name, value in reply.headers if name != b"content-length"]
    if match[1] and match[2] and int(match[2]) < first:
        # RFC 9110, 14.1.1: no range at all.
        return reply.status, reply.headers, body
    if first > last:
        kept += [(b"content-range", b"bytes */%d" % size), (b"content-length", b"0")]
        return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, kept, b""
    part = memoryview(body)[first : last + 1]
    kept += [
        (b"content-range", b"bytes %d-%d/%d" % (first, last, size)),
        (b"content-length", b"%d" % len(part)),
    ]
    return HTTPStatus.PARTIAL_CONTENT, kept, part


class _Departure:
    """Whether the client has gone: an answer is put together for somebody, or not at all."""

    def __init__(self, receive: Receive) -> None:
        self._task = asyncio.ensure_future(_gone(receive))

    @property
    def noticed(self) -> bool:
        return self._task.done()

    def close(self) -> None:
        self._task.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _start(status: int, headers: Sequence[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def _body(body: bytes | memoryview, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": cast("bytes", body), "more_body": more}


def _timing(started: float) -> tuple[bytes, bytes]:
    return b"server-timing", b"total;dur=%.3f" % ((perf_counter() - started) * 1_000)


def _has(if_none_match: bytes | None, tags: Tags) -> bool:
    """Whether a client has what is tagged so (RFC 9110, 13.1.2: compared weakly)."""
    if if_none_match is None:
        return False
    known = {tag.removeprefix(b"W/") for tag in tags}
    items = [item.strip().removeprefix(b"W/") for item in if_none_match.split(b",")]
    return b"*" in items or not known.isdisjoint(items)
