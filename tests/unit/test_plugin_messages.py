"""How the hub and a plugin's process speak: frames in any pieces, lines out of a flood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.providers.plugins.messages import (
    Ask,
    BadPacket,
    Cancel,
    Entities,
    Failure,
    Fetch,
    NotLoaded,
    Packets,
    Ready,
    Records,
    Reply,
    Request,
    Search,
    Stitch,
    packet,
    read_reply,
    read_request,
)
from gapless.providers.plugins.output import Lines
from gapless.providers.plugins.supervisor import restart_pause

REQUESTS: list[Request] = [
    Fetch(1, "AAPL", -5, 2**60, {"interval": "1d"}, "timestamp"),
    Search(2, {"SearchEntities": {"query": [], "limit": None}}, 0, 1, "date"),
    Stitch(3, [{"Ticker": "é"}], 0, 1, "date"),
    Ask(4, {"GetEntity": {"id": "x"}}, 5),
    Cancel(5),
]
REPLIES: list[Reply] = [
    Ready("a", {"bar": 60, "x": [None, 1.5]}, ["ranged"], 16, "/a.py", {"/a.py": (1, 2, 3)}, "0f"),
    Ready(None, {}, [], 1, None, {}, None),
    NotLoaded("no", "Traceback"),
    Records(1, 5, 1, 2, -3),
    Entities(2),
    Failure(3, "plugin_error", "it raised", 1.5, "Traceback"),
]


def feed(frames: Packets, data: bytes, size: int) -> list[tuple[bytes, bytes]]:
    """Put bytes into the frames in pieces of at most `size`, as a socket does."""
    found: list[tuple[bytes, bytes]] = []
    view = memoryview(data)
    while view.nbytes:
        room = frames.buffer()
        count = min(size, room.nbytes, view.nbytes)
        room[:count] = view[:count]
        view = view[count:]
        complete = frames.received(count)
        if complete is not None:
            found.append((bytes(complete[0]), bytes(complete[1])))
    return found


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: type(one).__name__)
def test_requests_are_read_as_they_were_sent(request_: Request) -> None:
    """Every request survives its frame."""
    ((data, body),) = feed(Packets(100), packet(request_), 1)
    assert read_request(bytearray(data)) == request_
    assert body == b""


@pytest.mark.parametrize("reply", REPLIES, ids=lambda one: type(one).__name__)
def test_replies_are_read_as_they_were_sent(reply: Reply) -> None:
    """Every reply survives its frame, with the bytes behind it."""
    ((data, body),) = feed(Packets(100), packet(reply, 3) + b"abc", 1)
    assert read_reply(bytearray(data)) == reply
    assert body == b"abc"


@given(st.lists(st.tuples(st.sampled_from(REPLIES), st.binary(max_size=50))), st.integers(1, 200))
def test_any_pieces_make_the_same_frames(sent: list[tuple[Reply, bytes]], size: int) -> None:
    """However a stream is cut, what was sent is what is read."""
    stream = b"".join(packet(reply, len(body)) + body for reply, body in sent)
    found = feed(Packets(50), stream, size)
    assert [(read_reply(bytearray(data)), body) for data, body in found] == sent


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 12,
        b"\xff" * 12,
        packet(Entities(1), 51),
    ],
    ids=["no message", "a huge message", "too large a body"],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    """Before anything is received for it."""
    with pytest.raises(BadPacket):
        feed(Packets(50), data, 1_000)


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_read(data: bytes) -> None:
    """Any bytes are a message or a `BadPacket`, and nothing else."""
    for read in (read_reply, read_request):
        try:
            read(bytearray(data))
        except BadPacket:
            continue


def test_lines_are_cut_out_of_pieces() -> None:
    """A line may come in many pieces, and many lines in one; the last may have no end."""
    lines = Lines(per_second=100, longest=5)
    assert lines.feed(b"one\ntw", 0.0) == ["one"]
    assert lines.feed(b"o\r\n\n\xff", 0.1) == ["two", ""]
    assert lines.end() == ["�"]
    assert lines.feed(b"abcdefgh", 0.2) == []
    assert lines.feed(b"ijk\nabcde\n", 0.3) == ["abcde…", "abcde"]
    assert lines.take_dropped() == 0


def test_a_flood_is_counted() -> None:
    """No more lines a second than allowed; the rest is told by number, each once."""
    lines = Lines(per_second=2, longest=5)
    assert lines.feed(b"1\n2\n3\n4\nhal", 0.0) == ["1", "2"]
    assert lines.take_dropped() == 2
    assert lines.feed(b"f\n5\n", 0.9) == []
    assert lines.feed(b"6\n", 1.0) == ["6"]
    assert lines.take_dropped() == 2
    assert lines.take_dropped() == 0


@given(
    st.lists(st.integers(0, 30), min_size=1),
    st.lists(st.integers(1, 40), min_size=1),
    st.lists(st.booleans(), min_size=1),
)
def test_every_line_is_told_or_counted(
    lengths: list[int], sizes: list[int], later: list[bool]
) -> None:
    """Whatever the pieces and the pace, lines told and lines dropped are all that were printed."""
    data = b"".join(b"x" * length + b"\n" for length in lengths)
    lines = Lines(per_second=3, longest=8)
    told = dropped = at = turn = 0
    now = 0.0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        now += 1.0 if later[turn % len(later)] else 0.0
        found = lines.feed(data[at : at + size], now)
        assert all(len(line) <= 9 for line in found)
        told += len(found)
        at += size
        turn += 1
    dropped = lines.take_dropped()
    assert told + dropped == len(lengths)
    assert lines.end() == []


def test_restarts_come_slower_and_slower() -> None:
    """At once after the first crash, then after doubling pauses, up to five seconds."""
    pauses = [restart_pause(crashes) for crashes in range(1, 9)]
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert restart_pause(10_000) == 5.0
