"""However the bytes of answers are cut, and whatever they are, clients read the same."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gapless.client.addresses import Endpoint, parse_endpoint
from gapless.client.failures import UnexpectedAnswer
from gapless.client.identity import Door, Identity
from gapless.client.lines import LineExchange
from gapless.client.web import WebExchange, WebReply
from gapless.errors import ConfigError

LINES = st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=8)
CUTS = st.lists(st.integers(0, 2_000), max_size=12)
HUB = Door("http://hub", Identity(None, "1.0"))
BODIES = st.lists(st.tuples(st.binary(max_size=60), st.booleans()), min_size=1, max_size=4)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return the bytes in pieces."""
    ends = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(ends)]


@given(LINES, st.binary(max_size=20), CUTS)
def test_any_cut_gives_the_same_lines(lines: list[bytes], rest: bytes, cuts: list[int]) -> None:
    """Line by line what was sent; what has not ended is not handed over."""
    rest = rest.replace(b"\n", b"")
    exchange = LineExchange("hub")
    data = b"".join(line + b"\n" for line in lines) + rest
    # A line that comes whole keeps its end, which JSON does not mind.
    found = [line.removesuffix(b"\n") for one in chunks(data, cuts) for line in exchange.feed(one)]
    assert found == lines
    assert exchange.amid is bool(rest)


def written(body: bytes, chunked: bool) -> bytes:
    """Return an answer of HTTP."""
    if not chunked:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    parts = b"".join(b"%x\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % parts


@given(BODIES, CUTS)
def test_any_cut_gives_the_same_replies(bodies: list[tuple[bytes, bool]], cuts: list[int]) -> None:
    """One reply for each answer, with all of its body."""
    exchange = WebExchange(HUB)
    found: list[WebReply] = []
    for body, chunked in bodies:
        exchange.greeting()
        for one in chunks(written(body, chunked), cuts):
            reply = exchange.feed(one)
            if reply is not None:
                found.append(reply)
    assert [reply.body for reply in found] == [body for body, _ in bodies]
    assert exchange.reusable


@given(st.binary(max_size=200), CUTS)
def test_any_bytes_are_read_or_refused(data: bytes, cuts: list[int]) -> None:
    """What is no answer is an error of ours, and of no other kind."""
    lines, web = LineExchange("hub"), WebExchange(HUB)
    try:
        for one in chunks(data, cuts):
            for line in lines.feed(one):
                lines.answer(line)
    except UnexpectedAnswer:
        pass
    try:
        for one in chunks(data, cuts):
            web.feed(one)
    except UnexpectedAnswer:
        pass


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """What is one can be written again, and is the same; what is none is an error of ours."""
    try:
        found = parse_endpoint(text)
    except ConfigError:
        return
    again = parse_endpoint(found.url)
    assert again == Endpoint(found.host, found.port, found.tls)
