"""One connection to a hub as bytes: requests to lines, lines to answers; it opens no socket.

Apart from both kinds of client, which send what this makes and hand it what comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from gapless.client.failures import UnexpectedAnswer, error_of
from gapless.errors import GaplessError, InvalidQuery

# No answer of a hub's is that long.
MOST_BYTES = 1 << 31

_NULL = Raw(b"null")


class Answer(msgspec.Struct, frozen=True):
    """A line from the hub, read as far as everybody needs it.

    `result`, `error` and `stitch` are JSON texts still. `records`: how many there are, where they
    were too many to be sent with it; `records_at`: at which path of the HTTP door they are.
    `version` begins with the hub's instance, and is another one where records do not fit. `facts`
    are the ticker's, `dates` the time zone in which the records have dates.
    """

    ok: bool
    request_id: str | int | float | bool | None = None
    kind: str | None = None
    provider: str | None = None
    request_kind: str | None = None
    result: Raw = _NULL
    error: Raw = _NULL
    ts_ms: int | None = None
    stitch: Raw = _NULL
    next_offset: int | None = None
    records_at: str | None = None
    records: int | None = None
    version: str | None = None
    facts: Raw = _NULL
    dates: str | None = None

    def failure(self) -> GaplessError:
        """Return the error that an answer which is not `ok` stands for."""
        try:
            return error_of(msgspec.json.decode(self.error))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return UnexpectedAnswer(f"the hub's error is none: {error}")


_ANSWER = msgspec.json.Decoder(Answer)
_encode = msgspec.json.Encoder().encode


class LineExchange:
    """Numbers requests, and tells the lines of what comes back apart.

    `name` is the hub's address, for errors. Not for several threads at once.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._last_id = 0
        self._received = bytearray()
        self._searched = 0

    def request(
        self, query: Mapping[str, Any], token: str | None, envelope: Mapping[str, Any]
    ) -> tuple[int, bytes]:
        """Return a request's id and its line; raise `InvalidQuery` for text that is no Unicode.

        `envelope` has further keys, such as `data_as`. The id comes first: that is how the hub
        recognises a request that it has answered before.
        """
        self._last_id += 1
        request_id = self._last_id
        message: dict[str, Any] = {"request_id": request_id}
        if token is not None:
            message["token"] = token
        message["query"] = query
        message.update(envelope)
        try:
            return request_id, _encode(message) + b"\n"
        except UnicodeEncodeError as error:
            raise InvalidQuery("the request holds characters that are no valid UTF-8") from error
        except TypeError as error:
            raise InvalidQuery(f"the request holds what JSON cannot say: {error}") from error

    @property
    def amid(self) -> bool:
        """Whether a line has begun to come and has not ended."""
        return bool(self._received)

    def asked(self, request_id: object) -> bool:
        """Whether there has been a request of that id."""
        return isinstance(request_id, int) and 0 < request_id <= self._last_id

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that are complete with these bytes; raise for one without an end."""
        if chunk and not self._received and chunk.find(b"\n") == len(chunk) - 1:
            # Most answers come whole, and alone.
            return [chunk]
        self._received += chunk
        if len(self._received) > MOST_BYTES:
            raise UnexpectedAnswer(f"{self._name} sends a line without an end")
        lines: list[bytes] = []
        while (end := self._received.find(b"\n", self._searched)) >= 0:
            lines.append(bytes(memoryview(self._received)[:end]))
            del self._received[: end + 1]
            self._searched = 0
        self._searched = len(self._received)
        return lines

    def answer(self, line: bytes) -> Answer:
        """Read a line; raise `UnexpectedAnswer` for what no hub says."""
        try:
            return _ANSWER.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if line.startswith(b"HTTP/"):
                raise UnexpectedAnswer(
                    f"{self._name} speaks HTTP; the hub's ready line says where it speaks TCP"
                ) from error
            raise UnexpectedAnswer(f"what answers at {self._name} is no gapless hub") from error

    def expect(self, answer: Answer, request_id: int) -> Answer:
        """Return the answer if it is to that request; raise `UnexpectedAnswer` if it is not."""
        if answer.request_id == request_id or (not answer.ok and answer.request_id is None):
            return answer
        raise self.misdirected(answer)

    def misdirected(self, answer: Answer) -> UnexpectedAnswer:
        """Return the error for an answer to what nobody has asked."""
        return UnexpectedAnswer(
            f"{self._name} answered request {answer.request_id!r}, which nobody waits for"
        )
