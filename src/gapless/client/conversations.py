"""What a client says to a hub, and what it makes of the answers, without doing any of it.

Here is what is asked of providers; what is asked about them, and about what is held, is in
`administration`.

`Client` takes the steps of a conversation with sockets that block, `AsyncClient` with those of a
loop; what is decided is decided here, once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from gapless.client import requests
from gapless.client.administration import Administration
from gapless.client.failures import ConnectionLost, UnexpectedAnswer
from gapless.client.identity import NotThisHub
from gapless.client.lines import Answer
from gapless.client.pages import Pages
from gapless.client.pieces import (
    PIECE_RECORDS,
    Part,
    Whole,
    asked_again,
    cut_again,
)
from gapless.client.requests import Instant, ParamValue, Stored
from gapless.client.results import Found, Result, entities_in
from gapless.client.steps import Conversation, T
from gapless.client.web import WebReply
from gapless.client.web_use import REFUSALS, refusal
from gapless.errors import InvalidQuery, TooLarge
from gapless.protocol.language import LineQuery
from gapless.protocol.messages import (
    Fresh,
    GetEntity,
    GetReport,
    ProviderList,
    ProviderRequest,
    one_fresh,
)

ARROW = "application/vnd.apache.arrow.stream"
# Beyond so many records columns over HTTP are quicker than JSON, second request included.
INLINE_RECORDS = 5_000
# Where a frame is wanted, they are sooner.
_COLUMNS_RECORDS = 200
# Keys of a request that are not for callers.
_OURS = frozenset({"request_id", "query", "ordered", "token", "access_token"})
# How often a series may change while its pages or pieces are read.
_MOST_READINGS = 3
_MOST_PAGES = 10_000


class Conversations(Administration):
    """All that can be asked of a hub."""

    # What is asked over TCP

    def search(
        self,
        provider: str,
        ticker: str,
        start: Instant | None = None,
        end: Instant | None = None,
        params: Mapping[str, ParamValue | None] | None = None,
        *,
        strict: bool = False,
        fresh: Fresh | None = None,
        timeout: float | None = None,
        inline_records: int = INLINE_RECORDS,
    ) -> Conversation[Result]:
        """Ask for a range of a ticker; very many records are fetched as columns over HTTP."""
        query = requests.range_search(provider, ticker, start, end, params or {})
        question = _Question(query, strict, timeout, fresh=requests.fresh_of(fresh))
        return self._single(question, inline_records)

    def columns(
        self,
        provider: str,
        ticker: str,
        start: Instant | None,
        end: Instant | None,
        params: Mapping[str, ParamValue | None],
        *,
        strict: bool = False,
        fresh: Fresh | None = None,
        timeout: float | None = None,
    ) -> Conversation[Found | Pages]:
        """Ask for a range that is wanted as columns: over HTTP alone, where that goes."""
        fresh = requests.fresh_of(fresh)
        query = requests.range_search(provider, ticker, start, end, params)
        if self.info is None:
            yield from self.greeting()
        target = requests.arrow_target(
            provider, ticker, start, end, params, strict=strict, fresh=fresh
        )
        refused: str | None = None
        unfit = False
        if target is not None and self.web.usable:
            try:
                pages = yield from self._web_pages(target, timeout)
                if pages is not None:
                    return pages
            except TooLarge:
                # For a table, at least.
                unfit = True
            except REFUSALS as error:
                refused, unfit = refusal(error), True
        question = _Question(query, strict, timeout, fresh=fresh)
        found = yield from self._found(question, _COLUMNS_RECORDS, web=not unfit)
        if refused:
            # What TCP answers, HTTP refuses to this client, whatever the reason.
            self.web.give_up(refused)
        return _one(found)

    def ranged(
        self,
        query: Mapping[str, Any],
        *,
        strict: bool = False,
        timeout: float | None = None,
        inline_records: int = INLINE_RECORDS,
    ) -> Conversation[Result]:
        """Ask a query that is answered with one entity."""
        return self._single(_Question(query, strict, timeout), inline_records)

    def several(
        self, query: Mapping[str, Any], *, timeout: float | None = None, repeatable: bool = True
    ) -> Conversation[list[Result]]:
        """Ask a query that is answered with any number of entities."""
        return self._results(_Question(query, False, timeout, repeatable), INLINE_RECORDS)

    def get(self, provider: str, id: str, *, timeout: float | None = None) -> Conversation[Result]:
        """Ask for one entity by its id."""
        query = requests.to_provider(provider, {"GetEntity": {"id": id}})
        return self.ranged(query, timeout=timeout, inline_records=PIECE_RECORDS)

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
        if isinstance(parsed, ProviderList):
            raise InvalidQuery("`providers` asks for names, not for records: use hub.providers()")
        if not isinstance(parsed, ProviderRequest):
            raise InvalidQuery("`describe` asks for facts, not for records: use hub.describe()")
        # HTTP has no views, only what would be searched for.
        inline_records = PIECE_RECORDS if _asks_by_id(parsed) else INLINE_RECORDS
        question = _Question(query, strict, timeout, _repeatable(parsed), parsed.fresh)
        return self._results(question, inline_records)

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
        envelope = dict(envelope or {})
        if isinstance(parsed, ProviderRequest):
            beside = requests.fresh_of(envelope.pop("fresh", None))
            fresh = one_fresh(parsed.fresh, beside)
            envelope |= {} if fresh is None else {"fresh": fresh}
        reply = yield from self._asking(
            query, envelope, timeout, token, repeatable=_repeatable(parsed)
        )
        answer: dict[str, Any] = msgspec.json.decode(reply.line)
        return answer

    # The parts of conversations

    def _single(self, question: _Question, inline_records: int) -> Conversation[Result]:
        found = yield from self._found(question, inline_records)
        return Result(_one(found))

    def _results(self, question: _Question, inline_records: int) -> Conversation[list[Result]]:
        found = yield from self._found(question, inline_records)
        return list(map(Result, found))

    def _found(
        self,
        question: _Question,
        inline_records: int,
        *,
        web: bool = True,
        before: Answer | None = None,
    ) -> Conversation[list[Found]]:
        """Ask; what comes without its records is read over HTTP, or else in pieces.

        `before` is what was answered before, where its records were not to be had.
        """
        if self.info is None:
            yield from self.greeting()
        web = web and self.web.usable
        for _ in range(_MOST_READINGS):
            envelope = self._envelope(question, inline_records if web else PIECE_RECORDS, web)
            reply = yield from self._asking(
                question.query, envelope, question.timeout, repeatable=question.repeatable
            )
            before = answer = asked_again(before, reply.answer)
            entities = entities_in(answer.result)
            if answer.records is None and answer.records_at is None:
                facts = bytes(answer.facts)
                return [
                    Found(entity, answer.stitch, facts=facts, dates=answer.dates)
                    for entity in entities
                ]
            head = Part(answer, _one(entities))
            if web and answer.records_at is not None and not self._is_from(answer):
                # Several hubs take turns at the address.
                yield from self._introduced()
                web = self._is_from(answer)
            if web and answer.records_at is not None:
                pages = yield from self._left_out(answer.records_at, question)
                if pages is not None:
                    stitch = pages.stitch(answer.stitch)
                    return [Found(head.entity, stitch, pages, bytes(answer.facts), answer.dates)]
                # It was given up.
                return (yield from self._found(question, inline_records, web=False, before=before))
            if answer.version is None:
                raise UnexpectedAnswer(f"{self.endpoint.name} left out records that were asked for")
            found = yield from self._in_pieces(Whole.of(head), question)
            if found is not None:
                return [found]
        raise _restless("pieces")

    def _is_from(self, answer: Answer) -> bool:
        """Whether an answer is from the hub whose HTTP is known; older ones do not tell."""
        instance = None if self.info is None else self.info.instance
        return instance is None or (answer.version or "").startswith(instance)

    def _envelope(self, question: _Question, inline_records: int, web: bool) -> dict[str, Any]:
        envelope: dict[str, Any] = {"data_as": "array", "facts": True}
        if question.strict:
            envelope["strict"] = True
        if question.fresh is not None:
            envelope["fresh"] = question.fresh
        # Older hubs leave out nothing that HTTP has not.
        if web or (self.info is not None and self.info.instance is not None):
            envelope["inline_records"] = min(inline_records, self._most_records)
        return envelope

    @property
    def _most_records(self) -> int:
        """The most records that are asked for at once over TCP."""
        limits = {} if self.info is None else self.info.limits
        return max(1, min(PIECE_RECORDS, int(limits.get("max_records", PIECE_RECORDS))))

    def _in_pieces(self, whole: Whole, question: _Question) -> Conversation[Found | None]:
        """Read the records that were left out; `None`: the series was changed meanwhile."""
        envelope = self._envelope(question.followed, PIECE_RECORDS, web=False)
        most = self._most_records
        left = deque(whole.cut(most))
        parts: list[Part] = []
        asked = 0
        while left:
            bounds = left.popleft()
            reply = yield from self._asking(whole.query(bounds), envelope, question.timeout)
            part = Part(reply.answer, _one(entities_in(reply.answer.result)))
            if not whole.fits(part, bounds):
                return None
            if part.answer.records is None:
                parts.append(part)
            else:
                left.extendleft(reversed(cut_again(bounds, part.answer.records, most)))
            asked += 1
            if asked + len(left) > _MOST_PAGES:
                raise UnexpectedAnswer(f"the pieces of {whole.head.entity.id} have no end")
        return whole.together(parts)

    def _left_out(self, records_at: str, question: _Question) -> Conversation[Pages | None]:
        """Read the records that an answer has left out over HTTP; `None`: that is given up."""
        target = f"{records_at}&strict=true" if question.strict else records_at
        if question.followed.fresh is not None:
            target += f"&fresh={question.followed.fresh}"
        try:
            return (yield from self._web_pages(target, question.timeout))
        except REFUSALS as error:
            # TCP does not refuse it.
            self.web.give_up(refusal(error))
            return None

    def _web_pages(self, target: str, timeout: float | None) -> Conversation[Pages | None]:
        """Read the records at a path of the HTTP door; `None`: it is given up, everything by TCP.

        Raises what the door says is wrong with the request.
        """
        try:
            for _ in range(_MOST_READINGS):
                pages = yield from self._reading(target, timeout)
                if pages is not None:
                    return pages
        except NotThisHub as error:
            self.web.give_up(error.message)
            return None
        except ConnectionLost:
            self.web.give_up("answers break off")
            return None
        except UnexpectedAnswer as error:
            self.web.give_up(f"no records come: {error.message}")
            return None
        raise _restless("pages")

    def _reading(self, target: str, timeout: float | None) -> Conversation[Pages | None]:
        """Read all pages; `None`: the series was changed between two, which would not fit."""
        wait = self._wait(timeout)
        replies: list[WebReply] = []
        seen = {target}
        attempts = 0
        following: str | None = target
        while following is not None:
            try:
                reply = yield from self._over_http("GET", following, ARROW, None, wait)
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
                raise UnexpectedAnswer("what answers does not send columns")
            replies.append(reply)
            following = reply.next
            if following in seen or len(seen) > _MOST_PAGES:
                raise UnexpectedAnswer("the pages have no end")
            if following is not None and not following.startswith("/"):
                raise UnexpectedAnswer(f"the pages go on at {following!r}")
            if following is not None:
                seen.add(following)
        return Pages.of(replies)


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of a provider; `timeout` `None`: as long as the client waits for anything."""

    query: Mapping[str, Any]
    strict: bool = False
    timeout: float | None = None
    repeatable: bool = True
    fresh: Fresh | None = None

    @property
    def followed(self) -> _Question:
        """What is asked for records that were left out: these have been fetched anew already."""
        return replace(self, fresh=None) if self.fresh == "now" else self


def _restless(parts: str) -> InvalidQuery:
    return InvalidQuery(
        f"the series was changed each of {_MOST_READINGS} times while its {parts} were read; "
        "try again"
    )


def _asks_by_id(parsed: ProviderRequest) -> bool:
    return isinstance(parsed.request, GetEntity)


def _repeatable(parsed: LineQuery) -> bool:
    return not (isinstance(parsed, ProviderRequest) and isinstance(parsed.request, GetReport))


def _one(found: Sequence[T]) -> T:
    if len(found) != 1:
        raise UnexpectedAnswer(f"the hub answered with {len(found)} entities where 1 was asked")
    return found[0]
