"""What a client says to a hub, and what it makes of the answers, without doing any of it.

`Client` takes the steps of a conversation with sockets that block, `AsyncClient` with those of a
loop; what is decided is decided here, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gapless.client import requests
from gapless.client.addresses import Endpoint, web_base
from gapless.client.failures import ConnectionLost, TimedOut, UnexpectedAnswer, Unreachable
from gapless.client.pages import Pages
from gapless.client.requests import Instant, ParamValue, Stored
from gapless.client.results import Found, Result, entities_in
from gapless.client.steps import Ask, Conversation, Fetch, Pause, Reply
from gapless.client.web import WebReply
from gapless.errors import (
    Forbidden,
    GaplessError,
    InvalidEnvelope,
    InvalidJson,
    InvalidQuery,
    MissingToken,
    NotFound,
    Overloaded,
    TooLarge,
    Unauthorized,
)
from gapless.protocol.language import LineQuery
from gapless.protocol.messages import GetReport, ProviderRequest

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"
# Beyond so many records columns over HTTP are quicker than JSON, second request included.
INLINE_RECORDS = 5_000
# Where a frame is wanted, they are sooner.
_COLUMNS_RECORDS = 200
# Keys of a request that are not for callers.
_OURS = frozenset({"request_id", "query", "ordered", "token", "access_token"})
# How often a series may change while its pages are read.
_MOST_READINGS = 3
_MOST_PAGES = 10_000


class HubInfo(msgspec.Struct, frozen=True):
    """What a hub says of itself; a hub that knows no `Ping` leaves all of it open.

    `http` is the base address of its HTTP door as the hub sees it. `auth`: whether it asks for
    tokens. `limits` are those that concern clients.
    """

    name: str = ""
    version: str = ""
    protocol: int = 1
    http: str | None = None
    auth: bool = False
    limits: dict[str, int | float] = {}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited, and for what again.

    `timeout` is the longest silence in seconds while an answer is awaited, so that a large one
    that keeps coming is not cut off; `connect_timeout` that for a connection. `retries` is how
    often a request is sent again after its connection broke, or when the hub was overloaded and
    names a time of no more than `longest_pause` seconds.
    """

    timeout: float = 60.0
    connect_timeout: float = 10.0
    retries: int = 2
    longest_pause: float = 5.0


class Conversations:
    """All that can be asked of a hub. Holds what clients remember: the token and what it said.

    `web`: the base address of its HTTP door, where it is not the one that the hub names; empty:
    HTTP is not used.
    """

    def __init__(self, endpoint: Endpoint, web: str | None, patience: Patience) -> None:
        self.endpoint = endpoint
        self.patience = patience
        self.token = endpoint.token
        self.info: HubInfo | None = None
        self._web = web
        self._told_web: str | None = None
        # Set where TCP gets through to the hub and HTTP does not.
        self._web_lost = False

    @property
    def web(self) -> str | None:
        """The base address of the hub's HTTP door as it is reached from here, if it is known."""
        return self._told_web if self._web is None else self._web or None

    # What is asked over TCP

    def greeting(self) -> Conversation[HubInfo]:
        """Ask the hub who it is."""
        try:
            reply = yield from self._asking(requests.PING)
        except (InvalidJson, InvalidEnvelope, MissingToken, Unauthorized):
            # One that only knows the protocol's first version.
            self.info = HubInfo()
            self._told_web = None
            return self.info
        try:
            info = msgspec.json.decode(reply.answer.result, type=HubInfo)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnexpectedAnswer(
                f"what answers at {self.endpoint.name} is no gapless hub: {error}"
            ) from error
        self.info = info
        # It may be another one, or the same with its door open by now.
        self._web_lost = False
        self._told_web = web_base(info.http, self.endpoint)
        return info

    def providers(self) -> Conversation[list[str]]:
        """Ask for the names of the providers."""
        reply = yield from self._asking(requests.PROVIDERS)
        try:
            return msgspec.json.decode(reply.answer.result, type=list[str])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnexpectedAnswer(f"the hub's list of providers is none: {error}") from error

    def search(
        self,
        provider: str,
        ticker: str,
        start: Instant | None = None,
        end: Instant | None = None,
        params: Mapping[str, ParamValue | None] | None = None,
        *,
        strict: bool = False,
        timeout: float | None = None,
        inline_records: int = INLINE_RECORDS,
    ) -> Conversation[Result]:
        """Ask for a range of a ticker; very many records are fetched as columns over HTTP."""
        query = requests.range_search(provider, ticker, start, end, params or {})
        return self.ranged(query, strict=strict, timeout=timeout, inline_records=inline_records)

    def columns(
        self,
        provider: str,
        ticker: str,
        start: Instant | None,
        end: Instant | None,
        params: Mapping[str, ParamValue | None],
        *,
        strict: bool = False,
        timeout: float | None = None,
    ) -> Conversation[Found | Pages]:
        """Ask for a range that is wanted as columns: over HTTP alone, where that goes."""
        if self.info is None:
            yield from self.greeting()
        query = requests.range_search(provider, ticker, start, end, params)
        target = requests.arrow_target(provider, ticker, start, end, params, strict=strict)
        base = self.web if self.uses_web else None
        forbidden = False
        if base is not None and target is not None:
            try:
                pages = yield from self._web_pages(base, target, timeout)
            except TooLarge:
                # For a table, at least.
                pages = None
            except NotFound:
                # A door without that route.
                self._web_lost, pages = True, None
            except Forbidden:
                pages, forbidden = None, True
            if pages is not None:
                return pages
        found = yield from self._found(query, strict, timeout, _COLUMNS_RECORDS)
        # What only HTTP forbids it forbids to this client, by whatever name that knows it.
        self._web_lost = self._web_lost or forbidden
        return _one(found)

    @property
    def uses_web(self) -> bool:
        """Whether HTTP is known and was not given up."""
        return self.web is not None and not self._web_lost

    def without_web(self) -> None:
        """Ask by TCP alone from now on: what speaks HTTP there proved to be no hub's."""
        self._web_lost = True

    def ranged(
        self,
        query: Mapping[str, Any],
        *,
        strict: bool = False,
        timeout: float | None = None,
        inline_records: int = INLINE_RECORDS,
    ) -> Conversation[Result]:
        """Ask a query that is answered with one entity."""
        found = yield from self._found(query, strict, timeout, inline_records)
        return Result(_one(found))

    def several(
        self, query: Mapping[str, Any], *, timeout: float | None = None, repeatable: bool = True
    ) -> Conversation[list[Result]]:
        """Ask a query that is answered with any number of entities."""
        return self._results(query, False, timeout, repeatable)

    def get(self, provider: str, id: str, *, timeout: float | None = None) -> Conversation[Result]:
        """Ask for one entity by its id."""
        return self.ranged(
            requests.to_provider(provider, {"GetEntity": {"id": id}}), timeout=timeout
        )

    def get_many(
        self, provider: str, ids: Iterable[str], *, timeout: float | None = None
    ) -> Conversation[list[Result]]:
        """Ask for those of these entities that are stored."""
        if isinstance(ids, str):
            raise InvalidQuery(f"ids={ids!r}: expected a list of ids")
        query = requests.to_provider(provider, {"GetEntities": {"ids": list(ids)}})
        return self.several(query, timeout=timeout)

    def entities(
        self, provider: str, limit: int | None, offset: int, *, timeout: float | None = None
    ) -> Conversation[list[Result]]:
        """Ask for what is stored, page by page until there are `limit`, or all."""
        found: list[Result] = []
        at: int | None = offset
        while at is not None and (limit is None or len(found) < limit):
            left = 1_000 if limit is None else min(1_000, limit - len(found))
            query = requests.to_provider(
                provider, {"GetAllEntities": {"limit": left, "offset": at}}
            )
            reply = yield from self._asking(query, {"data_as": "array"}, timeout)
            page = entities_in(reply.answer.result)
            found += [Result(Found(entity)) for entity in page]
            told = reply.answer.next_offset
            if told is None and page and len(page) == left:
                told = at + len(page)
            # One that leads back would never end.
            at = told if told is not None and told > at else None
        return found

    def find(
        self, provider: str, wanted: Stored, limit: int | None, *, timeout: float | None = None
    ) -> Conversation[list[Result]]:
        """Ask for what is stored and for which all of that holds."""
        return self.several(requests.stored_search(provider, wanted, limit), timeout=timeout)

    def report(
        self, provider: str, url: str, *, timeout: float | None = None
    ) -> Conversation[list[Result]]:
        """Ask for a report; it is asked once, for nobody knows what the provider does for it."""
        query = requests.to_provider(provider, {"GetReport": {"url": url}})
        return self.several(query, timeout=timeout, repeatable=False)

    def query(
        self, line: str, *, strict: bool = False, timeout: float | None = None
    ) -> Conversation[list[Result]]:
        """Ask what a line of the query language says of a provider."""
        query, parsed = requests.line_query(line)
        if not isinstance(parsed, ProviderRequest):
            raise InvalidQuery("`providers` asks for names, not for records: use hub.providers()")
        repeatable = _repeatable(parsed)
        return self._results(query, strict, timeout, repeatable)

    def line(
        self,
        line: str,
        *,
        token: str | None = None,
        timeout: float | None = None,
        envelope: Mapping[str, Any] | None = None,
    ) -> Conversation[dict[str, Any]]:
        """Ask what a line of the query language says; the whole answer comes back as it is."""
        query, parsed = requests.line_query(line)
        if taken := _OURS.intersection(envelope or {}):
            raise InvalidQuery(f"{', '.join(sorted(taken))}: the client sets that itself")
        reply = yield from self._asking(
            query, envelope or {}, timeout, token, repeatable=_repeatable(parsed)
        )
        answer: dict[str, Any] = msgspec.json.decode(reply.line)
        return answer

    # What is asked over HTTP

    def fetch(
        self, method: str, target: str, body: Any = None, *, timeout: float | None = None
    ) -> Conversation[WebReply]:
        """Send a request to the HTTP door; one that changes something is sent once."""
        if self._web is None and self.info is None:
            yield from self.greeting()
        base = self.web
        if base is None:
            raise Unreachable(
                f"the hub at {self.endpoint.name} has no HTTP address that is reached from here"
            )
        method = method.upper()
        step = Fetch(base, method, target, self.token, JSON, body, self._wait(timeout))
        attempts = 0
        while True:
            try:
                reply: WebReply = yield step
                if reply.status == 401 and isinstance(failure := reply.failure(), MissingToken):
                    raise self._tokenless(failure)
                return reply
            except ConnectionLost:
                if method not in ("GET", "HEAD") or attempts >= self.patience.retries:
                    raise
            attempts += 1

    # The parts of conversations

    def _results(
        self,
        query: Mapping[str, Any],
        strict: bool,
        timeout: float | None,
        repeatable: bool = True,
    ) -> Conversation[list[Result]]:
        found = yield from self._found(query, strict, timeout, INLINE_RECORDS, repeatable)
        return list(map(Result, found))

    def _found(
        self,
        query: Mapping[str, Any],
        strict: bool,
        timeout: float | None,
        inline_records: int,
        repeatable: bool = True,
    ) -> Conversation[list[Found]]:
        if self.info is None:
            yield from self.greeting()
        base = self.web if self.uses_web else None
        envelope: dict[str, Any] = {"data_as": "array"}
        if strict:
            envelope["strict"] = True
        if base is not None:
            envelope["inline_records"] = inline_records
        reply = yield from self._asking(query, envelope, timeout, repeatable=repeatable)
        answer = reply.answer
        entities = entities_in(answer.result)
        if answer.records_at is None:
            return [Found(entity, answer.stitch) for entity in entities]
        if base is None or len(entities) != 1:
            raise UnexpectedAnswer(f"{self.endpoint.name} left out records that were asked for")
        target = f"{answer.records_at}&strict=true" if strict else answer.records_at
        try:
            pages = yield from self._web_pages(base, target, timeout)
        except Forbidden:
            # TCP does not forbid it: it is the door that does not go by this name.
            self._web_lost = True
            pages = None
        if pages is None:
            return (yield from self._found(query, strict, timeout, inline_records, repeatable))
        return [Found(entities[0], pages.stitch(answer.stitch), pages)]

    def _asking(
        self,
        query: Mapping[str, Any],
        envelope: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        token: str | None = None,
        *,
        repeatable: bool = True,
    ) -> Conversation[Reply]:
        """Ask until there is an answer, as often as may be; raise what it says is wrong."""
        patience = self.patience
        step = Ask(
            query,
            self.token if token is None else token,
            envelope or {},
            self._wait(timeout),
        )
        attempts = 0
        while True:
            try:
                reply: Reply = yield step
            except ConnectionLost:
                self._web_lost = False
                if not repeatable or attempts >= patience.retries:
                    raise
            else:
                if reply.answer.ok:
                    return reply
                yield self._pause(reply.answer.failure(), attempts)
            attempts += 1

    def _pause(self, failure: GaplessError, attempts: int) -> Pause:
        """Return how long to wait before asking again; raise the failure where that is no use."""
        if isinstance(failure, MissingToken):
            raise self._tokenless(failure)
        pause = failure.retry_after_s
        if (
            not isinstance(failure, Overloaded)
            or attempts >= self.patience.retries
            or pause is None
            or not 0 <= pause <= self.patience.longest_pause
        ):
            raise failure
        return Pause(pause)

    def _tokenless(self, failure: MissingToken) -> MissingToken:
        """Return the error in words for Python; the hub's are about the wire."""
        return MissingToken(
            f"the hub at {self.endpoint.name} asks for a token: give token=…, or set GAPLESS_TOKEN",
            reason=failure.reason,
        )

    def _wait(self, timeout: float | None) -> float:
        """Return the longest silence of a step in seconds; raise `InvalidQuery`."""
        wait = self.patience.timeout if timeout is None else timeout
        if not isinstance(wait, int | float) or not wait > 0:
            raise InvalidQuery(f"timeout={wait!r}: expected seconds, more than 0")
        return wait

    def _web_pages(
        self, base: str, target: str, timeout: float | None
    ) -> Conversation[Pages | None]:
        """Read the records at a path of the HTTP door; `None`: it is not to be had, or no hub's."""
        try:
            for _ in range(_MOST_READINGS):
                pages = yield from self._reading(base, target, timeout)
                if pages is not None:
                    return pages
        except TimedOut:
            raise
        except (Unreachable, UnexpectedAnswer):
            # As through a tunnel that has only the one port: everything by TCP, then.
            self._web_lost = True
            return None
        raise InvalidQuery(
            f"the series was changed each of {_MOST_READINGS} times while its pages were read; "
            "try again"
        )

    def _reading(self, base: str, target: str, timeout: float | None) -> Conversation[Pages | None]:
        """Read all pages; `None`: the series was changed between two, which would not fit."""
        wait = self._wait(timeout)
        replies: list[WebReply] = []
        seen = {target}
        attempts = 0
        following: str | None = target
        while following is not None:
            try:
                reply: WebReply = yield Fetch(base, "GET", following, self.token, ARROW, None, wait)
            except ConnectionLost:
                if attempts >= self.patience.retries:
                    raise
                attempts += 1
                continue
            if reply.status != 200:
                failure = reply.failure()
                if replies and isinstance(failure, InvalidQuery):
                    return None
                yield self._pause(failure, attempts)
                attempts += 1
                continue
            if not reply.headers.get("content-type", "").startswith(ARROW):
                raise UnexpectedAnswer(f"what answers at {base} does not send columns")
            replies.append(reply)
            following = reply.next
            if following in seen or len(seen) > _MOST_PAGES:
                raise UnexpectedAnswer(f"the pages at {base} have no end")
            if following is not None and not following.startswith("/"):
                raise UnexpectedAnswer(f"the pages at {base} go on at {following!r}")
            if following is not None:
                seen.add(following)
        return Pages.of(replies)


def _repeatable(parsed: LineQuery) -> bool:
    return not (isinstance(parsed, ProviderRequest) and isinstance(parsed.request, GetReport))


def _one(found: Sequence[Found]) -> Found:
    if len(found) != 1:
        raise UnexpectedAnswer(f"the hub answered with {len(found)} entities where 1 was asked")
    return found[0]
