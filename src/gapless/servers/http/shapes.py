"""What the administrative routes take and return, as structs: their JSON, checked and documented.

Instants are RFC 3339, ranges half open; the stitched answers themselves are the protocol's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gapless.domain.believing import Doubt
from gapless.domain.coverage import Coverage
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey, span_text
from gapless.hub.administration import Explanation, FailingSeries, Knowledge, ProviderStatus
from gapless.hub.answers import Answer
from gapless.hub.plugins import PluginStatus
from gapless.instants import format_instant
from gapless.protocol.messages import Entity, ErrorBody, Stitch, Why
from gapless.providers.base import Param
from gapless.store.base import SeriesSummary

Span = tuple[str, str]
ShortText = Annotated[str, Meta(min_length=1, max_length=100)]
Bound = Annotated[
    str,
    Meta(
        max_length=100,
        description="RFC 3339, YYYY-MM-DD (a day of the exchange), now, a time back such as -30d, "
        "-3mo or -1y, ytd, or, as a start, max",
        examples=["2010-01-01", "-30d", "-1y"],
    ),
]


class ProviderNames(Struct, frozen=True):
    """The names of the providers, sorted."""

    ok: bool
    providers: list[str]


class ProviderPing(Struct, frozen=True):
    """A provider that is there."""

    ok: bool
    provider: str


class ParamShape(Struct, frozen=True):
    """A parameter of a provider's series; no `choices`: any text."""

    name: str
    default: str
    choices: list[str]
    aliases: dict[str, str]
    help: str

    @classmethod
    def of(cls, param: Param) -> ParamShape:
        """Return how a parameter is shown."""
        return cls(param.name, param.default, list(param.choices), dict(param.aliases), param.help)


class Pacing(Struct, frozen=True):
    """How often upstream may be asked: so many a second, so many at once, so many now."""

    rate: float
    burst: int
    turns: int


class BreakerShape(Struct, frozen=True):
    """Whether everybody is kept from asking upstream, and for how long."""

    open: bool
    blocked_s: float


class FailingShape(Struct, frozen=True):
    """A series that fails by itself; it is not asked for until `until`. Null: it may be now."""

    id: str
    error: ErrorBody
    until: str | None

    @classmethod
    def of(cls, failing: FailingSeries) -> FailingShape:
        """Return how a series that fails is shown."""
        return cls(failing.key.text, ErrorBody.of(failing.error), _instant(failing.until))


class ProviderShape(Struct, frozen=True):
    """A provider and how it fares.

    `health`: `ok`, `failing` (its last request failed, and not for its ticker or range alone),
    `resting` (its breaker is open) or `disabled` (a plugin that crashed too often).
    `failing_series`: how many series fail by themselves while others are answered; `failures` are
    the latest few of them. `clock_skew_s`: by how many seconds upstream's clock was ahead of the
    hub's own when it last told.
    """

    name: str
    title: str
    health: Literal["ok", "failing", "resting", "disabled"]
    built_in: bool
    params: list[ParamShape]
    columns: list[str]
    revises: bool
    data_start: str
    data_end: str | None
    pace: Pacing
    breaker: BreakerShape
    requests: int
    last_fetch: str | None
    last_failure: str | None
    last_error: ErrorBody | None
    failing_series: int
    failures: list[FailingShape]
    clock_skew_s: float | None

    @classmethod
    def of(cls, status: ProviderStatus, disabled: bool) -> ProviderShape:
        """Return how a provider is shown."""
        info = status.info
        blocked = status.blocked_s > 0
        return cls(
            name=info.name,
            title=info.title,
            health=(
                "disabled"
                if disabled
                else "resting"
                if blocked
                else "failing"
                if status.error is not None and not status.alone
                else "ok"
            ),
            built_in=status.built_in,
            params=[ParamShape.of(param) for param in info.params],
            columns=list(info.columns),
            revises=info.revises,
            data_start=format_instant(info.data_start),
            data_end=_instant(info.data_end),
            pace=Pacing(info.pace.rate, info.pace.burst, status.turns),
            breaker=BreakerShape(blocked, round(status.blocked_s, 1)),
            requests=status.requests,
            last_fetch=_instant(status.answered_at),
            last_failure=_instant(status.failed_at),
            last_error=None if status.error is None else ErrorBody.of(status.error),
            failing_series=status.failing,
            failures=[FailingShape.of(one) for one in status.failures],
            clock_skew_s=status.clock_skew_s,
        )


class Providers(Struct, frozen=True):
    """The providers by name."""

    providers: list[ProviderShape]


class SeriesShape(Struct, frozen=True):
    """A stored series in figures; `fetched_at` is the age of its oldest part."""

    id: str
    provider: str
    ticker: str
    params: dict[str, str]
    records: int
    blocks: int
    start: str | None
    end: str | None
    fetched_at: str | None
    updated_at: str | None

    @classmethod
    def of(cls, summary: SeriesSummary) -> SeriesShape:
        """Return how a series is shown."""
        key = summary.key
        return cls(
            id=key.text,
            provider=key.provider,
            ticker=key.ticker,
            params=dict(key.params),
            records=summary.records,
            blocks=summary.blocks,
            start=_instant(summary.start),
            end=_instant(summary.end),
            fetched_at=_instant(summary.fetched_at),
            updated_at=_instant(summary.updated_at),
        )


class SeriesPage(Struct, frozen=True):
    """A page of what is stored; `next` is the cursor of the page after it."""

    series: list[SeriesShape]
    next: str | None


class CoverageRow(Struct, frozen=True):
    """What is known of an interval, and until when.

    No `refresh_after`: it is final. Not `fresh`: it is fetched again when it is next asked for.
    """

    start: str
    end: str
    outcome: Literal["held", "empty", "out_of_window"]
    fetched_at: str
    refresh_after: str | None
    fresh: bool
    mark: Literal["rescaled", "unverified"] | None

    @classmethod
    def of(cls, row: Coverage, fresh: bool) -> CoverageRow:
        """Return how a row of coverage is shown."""
        return cls(
            format_instant(row.start),
            format_instant(row.end),
            row.outcome.value,
            format_instant(row.fetched_at),
            _instant(row.refresh_after),
            fresh,
            None if row.mark is None else row.mark.value,
        )


class DoubtShape(Struct, frozen=True):
    """What upstream said that is not believed yet: `since` when, and when it is asked again."""

    start: str
    end: str
    why: Literal["unconfirmed_loss", "unconfirmed_empty"]
    since: str
    next_try: str

    @classmethod
    def of(cls, doubt: Doubt) -> DoubtShape:
        """Return how a doubt is shown."""
        return cls(
            format_instant(doubt.start),
            format_instant(doubt.end),
            doubt.suspicion.reason,
            format_instant(doubt.since),
            format_instant(doubt.next_try),
        )


class CoverageShape(Struct, frozen=True):
    """What is known of a series; `next_due`: when what is fresh now is to be fetched again."""

    id: str
    version: int
    records: int
    next_due: str | None
    coverage: list[CoverageRow]
    doubts: list[DoubtShape]

    @classmethod
    def of(cls, known: Knowledge) -> CoverageShape:
        """Return how the coverage of a series is shown."""
        state, ageing = known.state, known.ageing
        return cls(
            id=state.key.text,
            version=state.version,
            records=sum(block.count for block in state.blocks),
            next_due=_instant(known.next_due),
            coverage=[
                CoverageRow.of(row, ageing is None or ageing.fresh(row)) for row in state.coverage
            ],
            doubts=[DoubtShape.of(doubt) for doubt in state.doubts],
        )


class SessionShape(Struct, frozen=True):
    """When trading opens and closes, as clocks there show it."""

    open: str | None
    close: str | None


class FactsShape(Struct, frozen=True):
    """What is known of a ticker beside its records, each null where it is not known.

    `zone` is a name of the tz database, `first_trade` in Unix seconds.
    """

    zone: str | None
    currency: str | None
    kind: str | None
    exchange: str | None
    name: str | None
    first_trade: int | None
    session: SessionShape

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> FactsShape:
        """Return how facts are shown."""
        return msgspec.convert(facts, cls)


class RangeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A series and a range of it; without bounds the last 30 days."""

    provider: ShortText
    ticker: ShortText
    start: Bound | None = None
    end: Bound | None = None
    params: Annotated[dict[str, str], Meta(description="such as interval")] = {}


class GapShape(Struct, frozen=True):
    """A range that would be fetched, and why."""

    start: str
    end: str
    why: Literal["not_held", "due", "not_fresh"]


class PlanShape(Struct, frozen=True):
    """What a request for a range would do now; nothing was done.

    `cached`, the gaps that are `not_held` or `due`, `unserved` and `doubted` partition the range:
    what is held, what would be fetched, what is not held and not served any more, and what is in
    doubt and not asked for yet. What is held and `not_fresh` would be fetched again.
    `upstream_requests` is how many requests that makes at least, `next_due` when what is fresh then
    is to be fetched again.
    """

    id: str
    cached: list[Span]
    gaps: list[GapShape]
    unserved: list[Span]
    doubted: list[Span]
    upstream_requests: int
    next_due: str | None

    @classmethod
    def of(cls, explained: Explanation) -> PlanShape:
        """Return how a plan is shown."""
        plan = explained.plan
        return cls(
            id=explained.id,
            cached=_spans(plan.cached),
            gaps=[
                GapShape(
                    format_instant(gap.interval.start), format_instant(gap.interval.end), gap.why
                )
                for gap in explained.gaps
            ],
            unserved=_spans(plan.unserved),
            doubted=_spans(plan.doubted),
            upstream_requests=explained.requests,
            next_due=_instant(explained.next_due),
        )


class Refreshed(Struct, frozen=True):
    """What was fetched anew."""

    id: str
    stitch: Stitch

    @classmethod
    def of(cls, answer: Answer) -> Refreshed:
        """Return how an answer without its records is shown."""
        return cls(f"{answer.key.text}:{span_text(answer.asked)}", _stitch_of(answer))


def _stitch_of(answer: Answer) -> Stitch:
    """Return how an answer was put together."""
    return Stitch(
        cached=tuple((format_instant(a), format_instant(b)) for a, b in answer.cached),
        fetched=tuple((format_instant(a), format_instant(b)) for a, b in answer.fetched),
        missing=tuple((format_instant(a), format_instant(b)) for a, b in answer.missing),
        upstream_requests=answer.requests,
        state=answer.state.value,
        why=tuple(
            Why(
                format_instant(one.interval.start),
                format_instant(one.interval.end),
                one.reason,
                one.message,
            )
            for one in answer.why
        ),
        changed_at=None if answer.changed_at is None else format_instant(answer.changed_at),
    )


class Deleted(Struct, frozen=True):
    """How many records went."""

    records: int


class EntityPage(Struct, frozen=True):
    """A page of stored entities; `next_offset`: where to go on."""

    entities: list[Entity]
    next_offset: int | None


class EntityImport(Struct, frozen=True, forbid_unknown_fields=True):
    """An entity to be stored as it is. `data` and `tags` are arrays, or their JSON text."""

    source: ShortText
    data: list[Any] | str
    tags: list[str] | str = []
    id: str | None = None
    etag: Annotated[str, Meta(max_length=200)] = ""
    fetched_at: Annotated[str, Meta(max_length=100)] = ""
    refresh_after: Annotated[str, Meta(max_length=100)] = ""
    updated_at: Annotated[str, Meta(max_length=100)] = ""
    state: Literal["ready", "partial", "stale"] = "ready"
    last_error: Annotated[str, Meta(max_length=10_000)] = ""


class PluginLoaded(Struct, frozen=True):
    """A plugin by the name under which it is asked."""

    ok: bool
    name: str


class PluginPage(Struct, frozen=True):
    """The plugins by name."""

    plugins: list[PluginStatus]


class HealthWarning(Struct, frozen=True):
    """Something that an operator should see to, though requests are answered."""

    code: str
    message: str


class Health(Struct, frozen=True):
    """The hub answers; `warnings` are of now or of the last minute."""

    ok: bool
    version: str
    warnings: list[HealthWarning] = []


def cursor_of(key: SeriesKey) -> str:
    """Return the cursor of the page that follows a series."""
    packed = msgspec.msgpack.encode((key.provider, key.ticker, key.params))
    return packed.hex()


def key_of_cursor(text: str) -> SeriesKey | None:
    """Return the series that a cursor follows; `None` for what is no cursor."""
    try:
        parts = msgspec.msgpack.decode(
            bytes.fromhex(text), type=tuple[str, str, tuple[tuple[str, str], ...]]
        )
    except (ValueError, msgspec.DecodeError):
        return None
    return SeriesKey(*parts)


def _instant(ms: int | None) -> str | None:
    return None if ms is None else format_instant(ms)


def _spans(spans: Sequence[Interval]) -> list[Span]:
    return [(format_instant(a), format_instant(b)) for a, b in spans]
