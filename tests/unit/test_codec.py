"""Lines out of bytes, whatever the chunks."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.errors import LineTooLong
from gapless.protocol.codec import LineSplitter, looks_like_http

LIMIT = 8
stream = st.lists(
    st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b"x" * 7, b"y" * 9]), max_size=30
).map(b"".join)


def split(chunks: Iterable[bytes], limit: int = LIMIT) -> tuple[list[bytes], bool]:
    """Return all lines, and whether the splitter refused one."""
    splitter = LineSplitter(limit)
    lines: list[bytes] = []
    refused = False
    for chunk in chunks:
        splitter.feed(chunk)
        try:
            lines.extend(splitter)
        except LineTooLong:
            assert not refused, "said once"
            refused = True
    assert splitter.overrun is refused
    return lines, refused


def expected_lines(data: bytes) -> tuple[list[bytes], bool]:
    """Say the same by the plainest means."""
    *complete, rest = data.split(b"\n")
    lines: list[bytes] = []
    for line in complete:
        line = line.removesuffix(b"\r")
        if len(line) > LIMIT:
            return lines, True
        if line:
            lines.append(line)
    return lines, len(rest.removesuffix(b"\r") if len(rest) == LIMIT + 1 else rest) > LIMIT


@given(stream, st.lists(st.integers(0, 200), max_size=10))
def test_any_chunking_gives_the_same_lines(data: bytes, cuts: list[int]) -> None:
    """Where the bytes are cut makes no difference, down to single bytes."""
    edges = [0, *sorted(cuts), len(data)]
    chunks = [data[a:b] for a, b in pairwise(edges)]
    expected = expected_lines(data)
    assert split([data]) == expected
    assert split(chunks) == expected
    assert split([data[i : i + 1] for i in range(len(data))]) == expected


@given(stream, st.integers(1, 7))
def test_reading_may_pause_after_any_line(data: bytes, size: int) -> None:
    """Feeding on while lines are still unread loses and reorders nothing."""
    splitter = LineSplitter(LIMIT)
    lines: list[bytes] = []
    refused = False

    def take() -> bool:
        nonlocal refused
        try:
            line = splitter.next_line()
        except LineTooLong:
            refused = True
            return False
        if line is not None:
            lines.append(line)
        return line is not None

    for i in range(0, len(data), size):
        splitter.feed(data[i : i + size])
        take()
    while take():
        pass
    assert (lines, refused) == expected_lines(data)


def test_nothing_after_an_overlong_line_is_read() -> None:
    """The tail of an overlong line never becomes a line, nor does anything after it."""
    splitter = LineSplitter(LIMIT)
    splitter.feed(b"ok\n" + b"x" * 20 + b"\nsmuggled\n")
    assert splitter.next_line() == b"ok"
    with pytest.raises(LineTooLong, match="8 bytes"):
        splitter.next_line()
    splitter.feed(b"\nmore\n")
    assert splitter.next_line() is None
    assert list(splitter) == []
    assert splitter.overrun
    assert splitter.buffered == 0


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_the_limit_is_the_longest_line_that_passes(ending: bytes) -> None:
    """The ending does not count towards the limit."""
    assert split([b"x" * LIMIT + ending]) == ([b"x" * LIMIT], False)
    assert split([b"x" * (LIMIT + 1) + ending]) == ([], True)


def test_an_unfinished_line_is_refused_before_its_end() -> None:
    """A line that can only be too long is refused without waiting for its end."""
    splitter = LineSplitter(LIMIT)
    splitter.feed(b"x" * (LIMIT + 1))
    with pytest.raises(LineTooLong):
        splitter.next_line()


def test_buffered_counts_what_is_held() -> None:
    """Unread bytes and unfinished lines are counted, used ones are not."""
    splitter = LineSplitter()
    splitter.feed(b"one\ntwo\nthr")
    splitter.feed(b"ee")
    assert splitter.buffered == 13
    assert list(splitter) == [b"one", b"two"]
    assert splitter.buffered == 5


def test_the_limit_may_be_raised_between_lines() -> None:
    """A connection that has signed in gets longer lines."""
    splitter = LineSplitter(4)
    splitter.feed(b"auth\nlonger line\n")
    assert splitter.next_line() == b"auth"
    splitter.limit = 100
    assert splitter.next_line() == b"longer line"


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"", None),
        (b"P", None),
        (b"POST", None),
        (b"POST ", True),
        (b"GET / HTTP/1.1\r\n", True),
        (b"PRI * HTTP/2.0", True),
        (b"OPTIONS *", True),
        (b'{"query"', False),
        (b"GETTY", False),
        (b"get /", False),
        (b"\n", False),
    ],
)
def test_http_is_recognised_by_its_first_bytes(first: bytes, expected: bool | None) -> None:
    """A method and a space is HTTP; a method's beginning may yet become one."""
    assert looks_like_http(first) is expected
