"""The desk behind every door: a request's bytes in, the bytes of its answer out.

TCP and HTTP both hand their requests here, so that the two can never say different things.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import msgspec
import structlog

from gapless import __version__
from gapless.auth.directory import Grant
from gapless.clock import Clock
from gapless.errors import GaplessError, InternalError, InvalidQuery
from gapless.hub.answers import Answer
from gapless.hub.callers import Caller
from gapless.hub.entities import Listing
from gapless.hub.hub import Hub
from gapless.instants import format_instant
from gapless.protocol.language import parse_line
from gapless.protocol.messages import (
    KIND_AUTH,
    KIND_DESCRIBE,
    KIND_PING,
    KIND_PROVIDER_LIST,
    KIND_PROVIDER_REQUEST,
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
    decode_envelope,
    encode_auth,
    encode_description,
    encode_envelope,
    encode_error,
    encode_ping,
    encode_provider_list,
    encode_rejected,
    one_fresh,
)
from gapless.servers.admission import Admission, Session, caller_of
from gapless.servers.memo import Memos
from gapless.servers.meter import OK, Meter
from gapless.servers.wire import Frame, Layout, encode_listing, frame, frame_elsewhere

_log = structlog.get_logger("gapless.desk")

# A query line is read letter by letter while everybody waits.
_LONGEST_QUERY = 4_096
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
class Outcome:
    """What became of a request that could not be answered at once."""

    envelope: Envelope
    query: Query
    result: Answer | Listing | Described | GaplessError


@dataclass(frozen=True, slots=True)
class Work:
    """A request that is to be worked on, and on whose behalf."""

    envelope: Envelope
    query: ProviderRequest | Describe
    caller: Caller


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a hub tells of itself to whoever asks.

    `instance` tells it from every other: 128 random bits as 32 hex digits, others at each start.
    `limits` are those that concern clients.
    """

    instance: str
    limits: Mapping[str, int | float]


def error_of(reply: list[bytes] | Outcome | Rejected) -> GaplessError | None:
    """Return what was wrong with a request, if anything."""
    if isinstance(reply, Rejected):
        return reply.error
    if isinstance(reply, Outcome) and isinstance(reply.result, GaplessError):
        return reply.result
    return None


def size_of(reply: list[bytes] | Outcome | Rejected) -> int:
    """Return about how many bytes an answer has when it is encoded."""
    if isinstance(reply, list):
        return sum(map(len, reply))
    if isinstance(reply, Outcome):
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

    async def rehearse(self) -> None:
        """Go once through all that a first answer takes, so that no client has to wait for it."""
        answer = await self.hub.warm()
        if answer is not None:
            layout = Layout(SearchEntities.__name__, as_array=False)
            frame(answer, layout).parts(b"null", 0)
        self.at_once(_REHEARSAL, self.admission.session())

    def at_once(
        self, line: bytes, session: Session, door: str | None = "tcp"
    ) -> list[bytes] | Outcome | Rejected | Work:
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
                return Work(envelope, query, caller_of(grant))
            if not isinstance(query, ProviderRequest):
                return [self._simple(envelope, query, session, grant, now)]
            answer = self.hub.held(query, envelope.strict, envelope.inline_records)
            if answer is None:
                # What it comes to is counted when it is there.
                door = None
                assert grant is not None
                return Work(envelope, query, caller_of(grant))
            framed = self._frame(envelope, query, answer)
            own = grant if token is not None and self.admission.required else None
            self.memos.put(line, answer, framed, now, own)
            self.meter.answer(answer)
            return framed.parts(envelope.request_id, now)
        except GaplessError as error:
            result = error
        except Exception:
            result = _fault()
        finally:
            self._count(door, result, started)
        return Outcome(envelope, query, result)

    async def outcome(self, line: bytes, session: Session) -> list[bytes] | Outcome | Rejected:
        """Answer a request that came by another door, which counts it; see `encoded`."""
        reply = self.at_once(line, session, door=None)
        if isinstance(reply, Work):
            return await self.work(reply, door=None)
        return reply

    def encoded(self, reply: list[bytes] | Outcome | Rejected) -> bytes:
        """Return the line that answers a request."""
        if isinstance(reply, Rejected):
            return encode_rejected(reply, ts_ms=self.clock.now_ms())
        return b"".join(reply if isinstance(reply, list) else self.encode(reply))

    def encode(self, outcome: Outcome) -> list[bytes]:
        """Put an outcome into the bytes of its line; one that cannot be is a fault of the hub."""
        try:
            return self._encode(outcome)
        except Exception:
            return self._encode(replace(outcome, result=_fault()))

    def _encode(self, outcome: Outcome) -> list[bytes]:
        now = self.clock.now_ms()
        envelope, query, result = outcome.envelope, outcome.query, outcome.result
        request_id = envelope.request_id
        provider = query.provider if isinstance(query, ProviderRequest | Describe) else None
        request_kind = query.request_kind if isinstance(query, ProviderRequest) else None
        if isinstance(result, GaplessError):
            return [
                encode_error(
                    request_id,
                    kind=_kind(query),
                    provider=provider,
                    request_kind=request_kind,
                    error=result,
                    ts_ms=now,
                )
            ]
        if isinstance(result, Described):
            assert provider is not None
            return [encode_description(request_id, provider, result.facts, ts_ms=now)]
        assert isinstance(query, ProviderRequest)
        if isinstance(result, Answer):
            return self._frame(envelope, query, result).parts(request_id, now)
        view = _only_view(query, result)
        if view is not None:
            return self._frame(envelope, query, view, view=True).parts(request_id, now)
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

    async def work(self, work: Work, door: str | None = "tcp") -> Outcome:
        """Answer a request that needs the store or upstream; never raises."""
        started = perf_counter()
        envelope, query = work.envelope, work.query
        result: Answer | Listing | Described | GaplessError
        try:
            if isinstance(query, Describe):
                facts = await self.hub.describe(query.provider, query.ticker, work.caller)
                result = Described(facts)
            else:
                result = await self.hub.answer(
                    query, envelope.strict, work.caller, envelope.inline_records
                )
        except GaplessError as error:
            result = error
        except Exception:
            result = _fault()
        if isinstance(result, Answer):
            self.meter.answer(result)
        self._count(door, result if isinstance(result, GaplessError) else None, started)
        return Outcome(envelope, query, result)

    def _frame(
        self, envelope: Envelope, query: ProviderRequest, answer: Answer, *, view: bool = False
    ) -> Frame:
        """Lay an answer out; a `view` has no stitch, and HTTP would have it fetched anew."""
        most = envelope.inline_records
        layout = Layout(
            query.request_kind,
            envelope.data_as_array,
            stitched=not view,
            instance=None if most is None else self.announced.instance,
            at_http=self.http is not None and not view,
            facts=envelope.facts,
            dates=self.hub.dates(answer) if envelope.facts else None,
        )
        if not answer.loaded or (most is not None and answer.count > most):
            return frame_elsewhere(answer, layout)
        return frame(answer, layout)

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

    def _simple(
        self, envelope: Envelope, query: Query, session: Session, grant: Grant | None, now: int
    ) -> bytes:
        match query:
            case ProviderList():
                return encode_provider_list(
                    envelope.request_id, self.hub.registry.names(), ts_ms=now
                )
            case Ping():
                return encode_ping(
                    envelope.request_id,
                    version=__version__,
                    http=self.http,
                    auth=self.admission.required,
                    limits=self.announced.limits,
                    instance=self.announced.instance,
                    ts_ms=now,
                )
            case Auth():
                assert grant is not None
                # From here on the connection goes by it.
                session.grant = grant
                return encode_auth(
                    envelope.request_id,
                    user=grant.email,
                    role=grant.account.user.role,
                    expires_at=format_instant(grant.expires_ms) if grant.number else None,
                    ts_ms=now,
                )
        raise InternalError(f"no way to answer {type(query).__name__}")


def _operation(query: Query) -> str:
    """Return the name that a query goes by among what may be permitted."""
    return query.request_kind if isinstance(query, ProviderRequest) else type(query).__name__


def _only_view(query: ProviderRequest, listing: Listing) -> Answer | None:
    """Return the view that was asked for by its id, if it was one."""
    if not isinstance(query.request, GetEntity) or len(listing.entities) != 1:
        return None
    found = listing.entities[0]
    return found if isinstance(found, Answer) else None


def _kind(query: Query) -> str:
    match query:
        case Auth():
            return KIND_AUTH
        case ProviderList():
            return KIND_PROVIDER_LIST
        case Describe():
            return KIND_DESCRIBE
        case Ping():
            return KIND_PING
    return KIND_PROVIDER_REQUEST


def _fault() -> InternalError:
    """Log the exception that is being handled; return what the client is told of it."""
    # The log itself may be what fails; the client is answered all the same.
    with suppress(Exception):
        _log.exception("a request failed in a way it should not")
    return InternalError("the hub failed in a way it should not; its log has the details")
