"""The desk behind every door: a request's bytes in, the bytes of its answer out.

TCP and HTTP both hand their requests here, so that the two can never say different things.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import msgspec
import structlog

from gapless import __version__
from gapless.auth.directory import Grant
from gapless.clock import Clock
from gapless.domain.blocks import etag
from gapless.errors import GaplessError, InternalError, InvalidQuery
from gapless.hub.answers import Answer
from gapless.hub.callers import Caller
from gapless.hub.entities import Listing
from gapless.hub.hub import Hub
from gapless.hub.question import Question
from gapless.hub.series import HotRun
from gapless.instants import format_instant
from gapless.protocol.language import parse_line
from gapless.protocol.messages import (
    PROTOCOL_VERSION,
    Auth,
    DateRange,
    Describe,
    Envelope,
    GetEntity,
    Line,
    Ping,
    ProviderList,
    ProviderRequest,
    Query,
    Rejected,
    SearchEntities,
    Ticker,
    ToProvider,
    decode_envelope,
    encode_envelope,
    encode_error,
    encode_rejected,
    encode_result,
    escape_text,
    one_fresh,
)
from gapless.servers.admission import Admission, Session, caller_of
from gapless.servers.memo import Memos
from gapless.servers.meter import OK, Meter
from gapless.servers.reading import PORTIONS, Reader
from gapless.servers.window import Window
from gapless.servers.wire import AnswerLine, Layout, LineWriter, encode_listing
from gapless.turns import PARTY, FairTurns, in_turns

_log = structlog.get_logger("gapless.desk")

# A query line is read letter by letter while everybody waits.
_LONGEST_QUERY = 4_096
# About what a record takes on the wire, for what must be known before any is read.
_RECORD_BYTES = 160
# So many runs are escaped while everybody waits; more of them in a thread.
_MOST_ESCAPED = 8
# So many entities of a listing, of so many bytes, are put into a line while everybody waits.
_MOST_LISTED = 100
_LISTED_BYTES = 256 << 10
# A range search that no provider answers.
_REHEARSAL = encode_envelope(
    Envelope(
        b'"rehearsal"',
        ProviderRequest(
            "", SearchEntities((Ticker(""), DateRange("2000-01-01", "2000-01-02")), None)
        ),
    )
).rstrip()


@dataclass(frozen=True, slots=True)
class Described:
    """The facts of a ticker."""

    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a request that could not be answered at once."""

    envelope: Envelope
    query: Query
    result: Answer | Listing | Described | GaplessError

    @property
    def long(self) -> Answer | None:
        """The answer whose records are not in memory and are to be read as they are sent."""
        result, most = self.result, self.envelope.inline_records
        if not isinstance(result, Answer) or result.loaded:
            return None
        return None if most is not None and result.count > most else result

    @property
    def piecewise(self) -> bool:
        """Whether its line is made in pieces away from the loop: see `Desk.pieces`."""
        if isinstance(self.result, Listing):
            return len(self.result.entities) > _MOST_LISTED or size_of(self) > _LISTED_BYTES
        return self.long is not None


@dataclass(frozen=True, slots=True)
class Work:
    """A request that is to be worked on, on whose behalf, and what it asks of a provider."""

    envelope: Envelope
    query: ToProvider
    caller: Caller
    question: Question | None


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a hub tells of itself to whoever asks.

    `instance` tells it from every other: 128 random bits as 32 hex digits, others at each start.
    `limits` are those that concern clients.
    """

    instance: str
    limits: Mapping[str, int | float]


def error_of(reply: list[bytes] | Settled | Rejected) -> GaplessError | None:
    """Return what was wrong with a request, if anything."""
    if isinstance(reply, Rejected):
        return reply.error
    if isinstance(reply, Settled) and isinstance(reply.result, GaplessError):
        return reply.result
    return None


def size_of(reply: list[bytes] | Settled | Rejected) -> int:
    """Return about how many bytes an answer has when it is encoded."""
    if isinstance(reply, list):
        return sum(map(len, reply))
    if isinstance(reply, Settled):
        if reply.long is not None:
            return reply.long.count * _RECORD_BYTES
        if isinstance(reply.result, Answer):
            return reply.result.size * 5 // 4
        if isinstance(reply.result, Listing):
            sizes = (
                one.size if isinstance(one, Answer) else len(one.data)
                for one in reply.result.entities
            )
            return sum(sizes) * 5 // 4
    return 0


class Desk:
    """Answers request envelopes, at once where all is held.

    `announced` is what `Ping` tells; `http` is the base URL of the same hub's HTTP door, set once
    that is open. A quarter as much memory as there is for blocks is for answers that are kept
    ready.
    """

    def __init__(
        self,
        hub: Hub,
        clock: Clock,
        admission: Admission,
        announced: Announcement,
        meter: Meter | None = None,
    ) -> None:
        self.hub = hub
        self.clock = clock
        self.admission = admission
        self.announced = announced
        self.meter = meter or Meter()
        self.memos = Memos(hub.settings.cache.hot_bytes // 4)
        self.http: str | None = None
        self._writer = LineWriter()
        # Each thread that computes keeps the loop waiting for the interpreter.
        self._escaping = FairTurns(1)

    async def rehearse(self) -> None:
        """Go once through all that a first answer takes, so that no client has to wait for it."""
        answer = await self.hub.warm()
        if answer is not None:
            layout = Layout(SearchEntities.__name__, as_array=False)
            self._writer.whole(answer, layout).parts(b"null", 0)
        self.at_once(_REHEARSAL, self.admission.session())

    def at_once(
        self, line: bytes, session: Session, door: str | None = "tcp"
    ) -> list[bytes] | Settled | Rejected | Work:
        """Answer a line without waiting, or return what has to be worked on.

        `session` is that of the connection. `door` is the one it came by, to be counted at;
        `None`: it is counted elsewhere.
        """
        now = self.clock.now_ms()
        memorised = self.memos.reply(line, now, session.grant, counted=door is not None)
        if memorised is not None:
            return memorised
        started = perf_counter()
        envelope = decode_envelope(line)
        if isinstance(envelope, Rejected):
            error = self.admission.overdrawn(session)
            if error is not None:
                # What is wrong takes time as well.
                envelope = replace(envelope, error=error)
            self._count(door, envelope.error, started)
            return envelope
        query = envelope.query
        result: GaplessError | None = None
        try:
            token = envelope.token
            if isinstance(query, Line):
                # Reading it takes a while: not for strangers, nor for who has asked too much.
                self.admission.admit(_operation(query), session, token)
                query = self._parsed(query, now)
                grant = self.admission.admit(_operation(query), session, token, charged=False)
            else:
                grant = self.admission.admit(_operation(query), session, token)
            if isinstance(query, Describe):
                door = None
                assert grant is not None
                return Work(envelope, query, caller_of(grant, session), None)
            if not isinstance(query, ProviderRequest):
                told = self._told(query, session, grant)
                return [encode_result(envelope.request_id, query.kind, told, ts_ms=now)]
            question = self.hub.question(query, envelope.strict, _most_loaded(envelope, query))
            answer = self.hub.held(question)
            if answer is None or (
                len(answer.slices) > _MOST_ESCAPED and len(answer.unready) > _MOST_ESCAPED
            ):
                # What it comes to is counted when it is there.
                door = None
                assert grant is not None
                return Work(envelope, query, caller_of(grant, session), question)
            self._check_size(answer, envelope.inline_records)
            ready = self._line(envelope, query, answer)
            own = grant if token is not None and self.admission.required else None
            self.memos.put(line, answer, ready, now, own)
            self.meter.answer(answer)
            return ready.parts(envelope.request_id, now)
        except GaplessError as error:
            result = error
        except Exception:
            result = _fault()
        finally:
            self._count(door, result, started)
        return Settled(envelope, query, result)

    async def settled(self, line: bytes, session: Session) -> list[bytes] | Settled | Rejected:
        """Answer a request that came by another door, which counts it; see `encoded`."""
        reply = self.at_once(line, session, door=None)
        if isinstance(reply, Work):
            return await self.work(reply, door=None)
        return reply

    def encoded(self, reply: list[bytes] | Settled | Rejected) -> bytes:
        """Return the line that answers a request."""
        if isinstance(reply, Rejected):
            return encode_rejected(reply, ts_ms=self.clock.now_ms())
        return b"".join(reply if isinstance(reply, list) else self.encode(reply))

    async def pieces(self, settled: Settled, window: Window) -> AsyncGenerator[list[bytes], None]:
        """Yield the line of what is `piecewise` piece by piece, each in parts.

        What is read at once has as many bytes as `window` says. Raises `Overloaded` where the
        records that are left are not any more what they were when the first ones were sent.
        """
        answer = settled.long
        if answer is None:
            yield await asyncio.to_thread(self.encode, settled)
            return
        assert isinstance(settled.query, ProviderRequest)
        layout = self._layout(settled.envelope, settled.query, answer, view=False)
        reader = Reader(self.hub.holdings, answer, PORTIONS.piece_records)
        page = await reader.page(answer.count)
        around = self._writer.around(answer, layout, etag(page.total))
        before = around.before(settled.envelope.request_id)
        async with aclosing(reader.pieces(page, window)) as pieces:
            async for piece in pieces:
                texts = [run.text for run in piece.runs]
                if not layout.as_array:
                    texts = await in_turns(None, partial(_escaped, texts), self._escaping)
                yield [*before, b",".join(texts)]
                before = [b","]
        if before != [b","]:
            yield before
        yield around.after(self.clock.now_ms())

    def encode(self, settled: Settled) -> list[bytes]:
        """Put what became of a request into the bytes of its line; where that fails, a fault."""
        try:
            return self._encode(settled)
        except Exception:
            return self._encode(replace(settled, result=_fault()))

    def _encode(self, settled: Settled) -> list[bytes]:
        now = self.clock.now_ms()
        envelope, query, result = settled.envelope, settled.query, settled.result
        request_id = envelope.request_id
        provider = query.provider if isinstance(query, ToProvider) else None
        request_kind = query.request_kind if isinstance(query, ProviderRequest) else None
        if isinstance(result, GaplessError):
            return [
                encode_error(
                    request_id,
                    kind=query.kind,
                    provider=provider,
                    request_kind=request_kind,
                    error=result,
                    ts_ms=now,
                )
            ]
        if isinstance(result, Described):
            return [
                encode_result(request_id, query.kind, result.facts, provider=provider, ts_ms=now)
            ]
        assert isinstance(query, ProviderRequest)
        if isinstance(result, Answer):
            return self._line(envelope, query, result).parts(request_id, now)
        view = _only_view(query, result)
        if view is not None:
            return self._line(envelope, query, view, view=True).parts(request_id, now)
        return [
            encode_listing(
                request_id,
                query.provider,
                query.request_kind,
                result,
                envelope.data_as_array,
                now,
            )
        ]

    async def work(self, work: Work, door: str | None = "tcp") -> Settled:
        """Answer a request that needs the store or upstream; never raises."""
        started = perf_counter()
        PARTY.set(work.caller.name)
        envelope, query = work.envelope, work.query
        result: Answer | Listing | Described | GaplessError
        try:
            if isinstance(query, Describe):
                facts = await self.hub.describe(query.provider, query.ticker, work.caller)
                result = Described(facts)
            else:
                assert work.question is not None
                result = await self.hub.answer(work.question, work.caller)
                if isinstance(result, Answer):
                    self._check_size(result, envelope.inline_records)
                    await self._prepared(result)
        except GaplessError as error:
            result = error
        except Exception:
            result = _fault()
        if isinstance(result, Answer):
            self.meter.answer(result)
        self._count(door, result if isinstance(result, GaplessError) else None, started)
        return Settled(envelope, query, result)

    def _check_size(self, answer: Answer, inline: int | None) -> None:
        """Raise `TooLarge` for more records than one answer may have, if they are sent with it."""
        if inline is None or answer.count <= inline:
            self.hub.searcher.rules.check_size(answer.count)

    async def _prepared(self, answer: Answer) -> None:
        """See that an answer can be sent without anything long on the loop."""
        unready = answer.unready
        if len(unready) > _MOST_ESCAPED:
            await in_turns(None, partial(_prepare, unready), self._escaping)

    def _layout(
        self, envelope: Envelope, query: ProviderRequest, answer: Answer, *, view: bool
    ) -> Layout:
        """Say what is told of an answer; a `view` has no stitch, and HTTP would fetch it anew."""
        return Layout(
            query.request_kind,
            envelope.data_as_array,
            stitched=not view,
            instance=None if envelope.inline_records is None else self.announced.instance,
            at_http=self.http is not None and not view,
            facts=envelope.facts,
            dates=self.hub.dates(answer) if envelope.facts else None,
        )

    def _line(
        self, envelope: Envelope, query: ProviderRequest, answer: Answer, *, view: bool = False
    ) -> AnswerLine:
        layout, most = self._layout(envelope, query, answer, view=view), envelope.inline_records
        if not answer.loaded or (most is not None and answer.count > most):
            return self._writer.elsewhere(answer, layout)
        return self._writer.whole(answer, layout)

    def _count(self, door: str | None, error: GaplessError | None, started: float) -> None:
        if door is not None:
            outcome = OK if error is None else error.code
            self.meter.request(door, outcome, perf_counter() - started)

    def _parsed(self, query: Line, now: int) -> Query:
        if len(query.line) > _LONGEST_QUERY:
            raise InvalidQuery(
                f"a query line has {_LONGEST_QUERY:,} characters at the most, not "
                f"{len(query.line):,}; send the request as JSON"
            )
        parsed = parse_line(query.line, now_ms=now)
        if isinstance(parsed, ProviderRequest):
            fresh = one_fresh(parsed.fresh, query.fresh)
            return msgspec.structs.replace(parsed, fresh=fresh)
        if query.fresh is not None:
            raise InvalidQuery(f"fresh={query.fresh} goes with a search by ticker alone")
        return parsed

    def _told(self, query: Query, session: Session, grant: Grant | None) -> object:
        """Return the result of a query that no provider is asked."""
        match query:
            case ProviderList():
                return sorted(self.hub.registry.names())
            case Ping():
                return {
                    "name": "gapless",
                    "version": __version__,
                    "protocol": PROTOCOL_VERSION,
                    "http": self.http,
                    "auth": self.admission.required,
                    "limits": dict(self.announced.limits),
                    "instance": self.announced.instance,
                }
            case Auth():
                assert grant is not None
                # From here on the connection goes by it.
                session.grant = grant
                return {
                    "user": grant.email,
                    "role": grant.account.user.role,
                    "expires_at": format_instant(grant.expires_ms) if grant.number else None,
                }
        raise InternalError(f"no way to answer {type(query).__name__}")


def _operation(query: Query) -> str:
    """Return the name that a query goes by among what may be permitted."""
    return query.request_kind if isinstance(query, ProviderRequest) else type(query).__name__


def _escaped(texts: Sequence[bytes]) -> list[bytes]:
    # Not by `map`, of which all would be done before another thread has the interpreter.
    return [escape_text(text) for text in texts]


def _prepare(runs: Sequence[HotRun]) -> None:
    for run in runs:
        run.prepare()


def _most_loaded(envelope: Envelope, query: ProviderRequest) -> int | None:
    """Return of how many records an answer is taken into memory as a whole, at the most."""
    inline = envelope.inline_records
    if type(query.request) is not SearchEntities:
        return inline
    most = PORTIONS.most_loaded
    return most if inline is None else min(inline, most)


def _only_view(query: ProviderRequest, listing: Listing) -> Answer | None:
    """Return the view that was asked for by its id, if it was one."""
    if not isinstance(query.request, GetEntity) or len(listing.entities) != 1:
        return None
    found = listing.entities[0]
    return found if isinstance(found, Answer) else None


def _fault() -> InternalError:
    """Log the exception that is being handled; return what the client is told of it."""
    # The log itself may be what fails; the client is answered all the same.
    with suppress(Exception):
        _log.exception("a request failed in a way it should not")
    return InternalError("the hub failed in a way it should not; its log has the details")
