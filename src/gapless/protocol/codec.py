"""Bytes to lines, and when to stop reading, without a socket.

Apart from the servers so that any way of cutting the bytes can be tried on it. One rule is
security: nothing that follows an overlong line may ever be read as a request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from gapless.errors import LineTooLong

MAX_LINE_BYTES = 1 << 20

_HTTP_STARTS = tuple(
    method + b" "
    for method in (
        b"GET",
        b"HEAD",
        b"POST",
        b"PUT",
        b"DELETE",
        b"CONNECT",
        b"OPTIONS",
        b"TRACE",
        b"PATCH",
        b"PRI",  # the first word of HTTP/2
    )
)
_CR = 13


class LineSplitter:
    r"""Cut a stream of bytes into lines; any chunking gives the same lines.

    A line is what stands before `\n` or `\r\n`; empty lines are skipped. Its length, without the
    ending, may be `limit` bytes at most. `limit` may be changed between lines (a connection
    that has not signed in gets a smaller one).

    `feed` only stores; `next_line` hands out one line at a time, so that a server can pause after
    any line and resume later.
    """

    __slots__ = ("_chunk", "_partial", "_pos", "_waiting", "limit", "overrun")

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self.limit = limit
        self.overrun = False
        """Whether a line was too long: the splitter is closed for good."""
        self._chunk = b""  # what is being cut, from _pos on
        self._pos = 0
        self._waiting: deque[bytes] = deque()  # fed while _chunk was not used up
        self._partial = bytearray()  # the start of a line whose end has not come, known \n-free

    @property
    def buffered(self) -> int:
        """Bytes held: unread ones and the start of an unfinished line."""
        unread = len(self._chunk) - self._pos + sum(map(len, self._waiting))
        return unread + len(self._partial)

    @property
    def empty(self) -> bool:
        """Whether nothing is held: the next byte fed begins a line."""
        return self._pos >= len(self._chunk) and not self._waiting and not self._partial

    def feed(self, data: bytes) -> None:
        """Add received bytes; after an overrun they are dropped."""
        if self.overrun or not data:
            return
        if self._pos >= len(self._chunk) and not self._waiting:
            self._chunk = data
            self._pos = 0
        else:
            self._waiting.append(data)

    def next_line(self) -> bytes | None:
        """Return the next complete line, or None until more is fed.

        Raises LineTooLong once, as soon as it is certain; from then on there are no lines.
        """
        if self.overrun:
            return None
        while True:
            chunk, start = self._chunk, self._pos
            end = chunk.find(b"\n", start)
            if end < 0:
                if start < len(chunk):
                    self._keep_partial(chunk[start:] if start else chunk)
                if not self._waiting:
                    self._chunk = b""
                    self._pos = 0
                    return None
                self._chunk = self._waiting.popleft()
                self._pos = 0
                continue
            self._pos = end + 1
            if self._partial:
                if len(self._partial) + end - start > self.limit + 1:
                    self._refuse()
                self._partial += chunk[start:end]
                line = bytes(self._partial)
                self._partial = bytearray()
                if line[-1] == _CR:
                    line = line[:-1]
            else:
                if end > start and chunk[end - 1] == _CR:
                    end -= 1
                line = chunk[start:end]
            if len(line) > self.limit:
                self._refuse()
            if line:
                return line

    def __iter__(self) -> Iterator[bytes]:
        """Yield the complete lines that are there; may be begun again after the next `feed`."""
        while (line := self.next_line()) is not None:
            yield line

    def _keep_partial(self, rest: bytes) -> None:
        length = len(self._partial) + len(rest)
        # One byte more than the limit may yet turn out to be the \r of a line that just fits.
        if length > self.limit + 1 or (length == self.limit + 1 and rest[-1] != _CR):
            self._refuse()
        self._partial += rest

    def _refuse(self) -> None:
        self.overrun = True
        self._chunk = b""
        self._pos = 0
        self._waiting.clear()
        self._partial = bytearray()
        raise LineTooLong(
            f"the line is longer than {self.limit:,} bytes; the connection is closed, "
            "and nothing after this line was read. Send smaller requests"
        )


def looks_like_http(first_bytes: bytes) -> bool | None:
    """Tell whether a connection begins as HTTP does; None while too few bytes are there to tell.

    A browser that is made to talk to the port must be cut off before its body is read.
    """
    if first_bytes.startswith(_HTTP_STARTS):
        return True
    if any(start.startswith(first_bytes) for start in _HTTP_STARTS):
        return None
    return False
