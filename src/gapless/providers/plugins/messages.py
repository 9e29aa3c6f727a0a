"""What the hub and a plugin's process say to each other, and how it is cut into packets.

Apart because both sides import it; the plugin's side must stay light. A packet is a head of fixed
size, a message in msgpack, and raw bytes that belong to it.
"""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

# The lengths of the message and of what follows it.
_LENGTHS = struct.Struct("<IQ")
_LONGEST_MESSAGE = 64 << 20


class Launch(Struct, frozen=True):
    """How a plugin's process begins: its only argument, as JSON.

    `socket` is the number of the file that it is asked through. `path` is the hub's own import
    path, `folders` come before it. Either `module` or `file` is set.
    """

    socket: int
    parent: int
    path: list[str]
    folders: list[str]
    prefix: str
    class_name: str
    module: str | None
    file: str | None
    memory_bytes: int
    max_reply_bytes: int


class Fetch(Struct, frozen=True, tag=True):
    """Call `fetch(ticker, start, end, **params)`; the bounds are milliseconds UTC.

    `in_parts`: what an iterator yields may be sent before its end.
    """

    id: int
    ticker: str
    start: int
    end: int
    params: dict[str, str]
    time_column: str
    in_parts: bool = False


class Search(Struct, frozen=True, tag=True):
    """Call `fetch_entities(request)` for the records of a range."""

    id: int
    request: dict[str, Any]
    start: int
    end: int
    time_column: str


class Stitch(Struct, frozen=True, tag=True):
    """Call `stitch(filters)` for the records of a range."""

    id: int
    filters: list[dict[str, Any]]
    start: int
    end: int
    time_column: str


class Ask(Struct, frozen=True, tag=True):
    """Call `fetch_entities(request)` for entities that are kept as they are."""

    id: int
    request: dict[str, Any]
    now: int


class Cancel(Struct, frozen=True, tag=True):
    """Nobody waits for this call any more; where that is possible it ends now."""

    id: int


Call: TypeAlias = Fetch | Search | Stitch | Ask
Request: TypeAlias = Call | Cancel


class Ready(Struct, frozen=True, tag=True):
    """The plugin is loaded: what its class says and has.

    `contract` names the methods of the contract that it has; `concurrency` how many calls it
    takes at once. `files` are those of its modules that lie in its folders, each with modification
    time (nanoseconds), size and inode as it was read; `sha256` is of `file`.
    """

    name: str | None
    description: dict[str, Any]
    contract: list[str]
    concurrency: int
    file: str | None
    files: dict[str, tuple[int, ...]]
    sha256: str | None


class NotLoaded(Struct, frozen=True, tag=True):
    """The plugin could not be loaded; `traceback` is its own part of it."""

    message: str
    traceback: str = ""


class Records(Struct, frozen=True, tag=True):
    """The records of a range: the packet's bytes are a run's text and, after it, its index.

    `dropped` lay outside of the range (such as at `stray`), `doubled` had the time of a later one.
    """

    id: int
    text_bytes: int
    dropped: int = 0
    doubled: int = 0
    stray: int | None = None


class Part(Struct, frozen=True, tag=True):
    """All records from `start` to before `until`, milliseconds UTC, in the form of `Records`.

    It begins where the part before ended, the first one with its first record; more come.
    """

    id: int
    start: int
    until: int
    text_bytes: int


class Entities(Struct, frozen=True, tag=True):
    """Entities: the packet's bytes are a list of them in msgpack."""

    id: int


class Failure(Struct, frozen=True, tag=True):
    """The call failed; `reason` is one of the wire's.

    `out_of_order`: what came in parts was not all there is of their range.
    """

    id: int
    reason: str
    message: str
    retry_after_s: float | None = None
    traceback: str = ""
    out_of_order: bool = False


Answer: TypeAlias = Records | Entities | Failure
Reply: TypeAlias = Ready | NotLoaded | Part | Answer


class BadPacket(Exception):
    """What came is no packet, or one that is larger than it may be."""


class Packets:
    """Cuts a stream into packets, whatever pieces it comes in.

    The bytes are received straight into `buffer()`, so that large ones are never copied.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._head = bytearray(_LENGTHS.size)
        self._message: bytearray | None = None
        self._body: bytearray | None = None
        self._body_bytes = 0
        self._into = memoryview(self._head)

    def buffer(self) -> memoryview:
        """Return where the next bytes belong; it is never empty."""
        return self._into

    def received(self, count: int) -> tuple[bytearray, bytearray] | None:
        """Say that so many bytes were put there; return a message and its bytes if complete.

        Raises `BadPacket`; nothing more can be read then.
        """
        self._into = self._into[count:]
        while not self._into.nbytes:
            if self._message is None:
                length, self._body_bytes = _LENGTHS.unpack(self._head)
                if not 0 < length <= _LONGEST_MESSAGE or self._body_bytes > self._most:
                    raise BadPacket(
                        f"a message of {length:,} and {self._body_bytes:,} bytes, "
                        f"where {self._most:,} are the most"
                    )
                self._message = bytearray(length)
                self._into = memoryview(self._message)
            elif self._body is None:
                self._body = bytearray(self._body_bytes)
                self._into = memoryview(self._body)
            else:
                complete = self._message, self._body
                self._message = self._body = None
                self._into = memoryview(self._head)
                return complete
        return None


_encode = msgspec.msgpack.Encoder().encode
_request = msgspec.msgpack.Decoder(Request)
_reply = msgspec.msgpack.Decoder(Reply)


def packet(message: Request | Reply, body_bytes: int = 0) -> bytes:
    """Return the beginning of a packet, after which its bytes are sent as they are."""
    data = _encode(message)
    if len(data) > _LONGEST_MESSAGE:
        raise BadPacket(
            f"a message of {len(data):,} bytes, where {_LONGEST_MESSAGE:,} are the most"
        )
    return _LENGTHS.pack(len(data), body_bytes) + data


def read_request(data: bytearray) -> Request:
    """Read what the hub asks; raise `BadPacket` where it is nothing of the kind."""
    try:
        request: Request = _request.decode(data)
    except msgspec.MsgspecError as error:
        raise BadPacket(str(error)) from error
    return request


def read_reply(data: bytearray) -> Reply:
    """Read what a plugin's process says; raise `BadPacket` where it is nothing of the kind."""
    try:
        reply: Reply = _reply.decode(data)
    except msgspec.MsgspecError as error:
        raise BadPacket(str(error)) from error
    return reply
