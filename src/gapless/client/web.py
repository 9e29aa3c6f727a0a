"""One HTTP connection to a hub as bytes: requests out, answers in; it opens no socket."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import httptools
import msgspec

from gapless.client.failures import UnexpectedAnswer, error_of
from gapless.client.identity import GREETING, Door, NotThisHub
from gapless.errors import GaplessError, InternalError, InvalidQuery

T = TypeVar("T")
_NEXT = re.compile(r'<([^<>]*)>\s*;\s*rel="?next"?')
# No answer of a hub's is that large.
MOST_BYTES = 1 << 32
_UNSAFE = re.compile(r"[\x00-\x20\x7f]|[^\x00-\x7f]")


@dataclass(frozen=True, slots=True)
class WebReply:
    """What a route answered: `headers` by their names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def next(self) -> str | None:
        """The path of the next page, where there is one."""
        match = _NEXT.search(self.headers.get("link", ""))
        return match[1] if match else None

    def json(self) -> Any:
        """Return the body, decoded; raise what it says is wrong."""
        self._check()
        if not self.body:
            return None
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnexpectedAnswer("what answers over HTTP is no gapless hub") from error

    def value(self, kind: type[T]) -> T:
        """Return the body as a value of a type; raise what it says is wrong.

        Raises `UnexpectedAnswer` for a body that is none.
        """
        self._check()
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnexpectedAnswer(
                f"what answers over HTTP says what no gapless hub does: {error}"
            ) from error

    def _check(self) -> None:
        """Raise what the answer says is wrong."""
        if self.status >= 400:
            raise self.failure()
        if self.status >= 300:
            # None of a hub's routes for programs does that: it is a page, or something before it.
            raise UnexpectedAnswer(
                f"it is elsewhere (HTTP {self.status}): {self.headers.get('location', 'nowhere')}"
            )

    def failure(self) -> GaplessError:
        """Return the error that a problem document stands for."""
        try:
            problem = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            problem = None
        if not isinstance(problem, dict) or not isinstance(problem.get("code"), str):
            return UnexpectedAnswer(
                f"what answers over HTTP is no gapless hub (HTTP {self.status})"
            )
        return error_of(problem)


class WebAddress(NamedTuple):
    """Where a hub speaks HTTP, taken apart.

    `authority` is what requests name as `Host`, `path` what comes before each of their own, for a
    hub behind a proxy.
    """

    base: str
    host: str
    port: int
    tls: bool
    authority: str
    path: str

    @classmethod
    def of(cls, base: str) -> WebAddress:
        """Take a base address apart, which is one already."""
        parts = urlsplit(base)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        return cls(base, parts.hostname or "", port, tls, parts.netloc, parts.path)


class WebExchange:
    """Writes requests and reads their answers, one after the other; to the hub of a door alone."""

    def __init__(self, door: Door) -> None:
        self._address = WebAddress.of(door.base)
        self._identity = door.identity
        self._met = False
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._reply: WebReply | None = None
        self._keep = True
        self._size = 0
        # An answer to HEAD is over with its headers, which the parser cannot know.
        self._bodiless = False

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent on the connection."""
        return self._keep

    def greeting(self) -> bytes:
        """Return the bytes of the request that comes before all others, and shows no token."""
        return self._written("GET", GREETING, None, "application/json")

    def greeted(self, reply: WebReply) -> None:
        """Take the answer to the greeting; raise `NotThisHub` where it is no leave to go on."""
        self._identity.greeted(reply)
        if not self._keep:
            # Who would answer on the next connection, nobody knows.
            raise NotThisHub("each answer ends its connection, so that nothing can follow it")
        self._met = True

    def request(
        self, method: str, target: str, token: str | None, accept: str, body: Any = None
    ) -> bytes:
        """Return the bytes of a request; `body` is sent as JSON."""
        if not self._met:
            raise InternalError("a request was to be sent before the hub was greeted")
        return self._written(method, target, token, accept, body)

    def _written(
        self, method: str, target: str, token: str | None, accept: str, body: Any = None
    ) -> bytes:
        if not method.isascii() or not method.isalpha():
            raise InvalidQuery(f"{method!r} is no method of HTTP")
        if not target.startswith("/") or _UNSAFE.search(target):
            raise InvalidQuery(
                f"{target!r} is no path: it begins with /, and what is no plain character is "
                "percent-encoded"
            )
        headers = [
            f"{method} {self._address.path}{target} HTTP/1.1",
            f"host: {self._address.authority}",
            f"accept: {accept}",
        ]
        if token is not None:
            if _UNSAFE.search(token):
                raise InvalidQuery("the token holds characters that no token has")
            headers.append(f"authorization: Bearer {token}")
        content = b""
        if body is not None:
            try:
                content = msgspec.json.encode(body)
            except (TypeError, UnicodeEncodeError) as error:
                raise InvalidQuery(f"the body holds what JSON cannot say: {error}") from error
            headers.append("content-type: application/json")
        if body is not None or method not in ("GET", "HEAD"):
            headers.append(f"content-length: {len(content)}")
        self._bodiless = method == "HEAD"
        return "\r\n".join([*headers, "", ""]).encode("ascii") + content

    def feed(self, chunk: bytes) -> WebReply | None:
        """Return the answer once it is complete; raise `UnexpectedAnswer` for what is no HTTP."""
        self._size += len(chunk)
        if self._size > MOST_BYTES:
            raise UnexpectedAnswer(f"{self._address.base} answers without an end")
        try:
            self._parser.feed_data(chunk)
        except httptools.HttpParserError as error:
            raise UnexpectedAnswer(
                f"what answers at {self._address.base} does not speak HTTP: {error}"
            ) from error
        reply, self._reply = self._reply, None
        if reply is not None:
            self._size = 0
            self._keep = self._keep and (not self._met or self._identity.made(reply))
        return reply

    # What the parser calls

    def on_message_begin(self) -> None:
        """Begin an answer."""
        self._headers = {}
        self._body = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """End an answer that has no body."""
        status = self._parser.get_status_code()
        if self._bodiless and status >= 200:
            self._reply = WebReply(status, self._headers, b"")
            self._keep = False

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Keep the answer; one of the kind 1xx is followed by the real one."""
        status = self._parser.get_status_code()
        if status >= 200 and not self._bodiless:
            self._reply = WebReply(status, self._headers, b"".join(self._body))
            self._keep = self._parser.should_keep_alive()
