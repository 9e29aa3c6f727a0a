"""What a provider declares and does; the hub knows nothing else about any of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple, Protocol

from gapless.config.checks import Check
from gapless.domain.adjusting import Adjustment
from gapless.domain.blocks import Run, encode_all
from gapless.domain.comparing import Basis
from gapless.domain.coverage import CLOCKS_APART_MS
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import InvalidQuery
from gapless.protocol.messages import Entity, Request

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a provider's series, such as `interval`.

    `choices` are the canonical values (none: any text), `aliases` other spellings of them (`60m`
    for `1h`).
    """

    name: str
    default: str
    choices: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    help: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast upstream may be asked: a bucket of `burst` requests that refills at `rate` a second.

    One budget a provider (stitching rule 8).
    """

    rate: float
    burst: int


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """What a provider says of itself.

    `columns` are the record's keys after the time column. `time_column` holds Unix seconds.
    `data_start` and `data_end` bound all its data, milliseconds UTC, half open: outside of it
    nothing exists and nothing is asked; `data_end` `None` means the present. `revises` tells
    whether it rewrites its past (stitching rule 4); if so, `basis` names the columns to compare.

    `entities`: it is an `EntityProvider`; `partwise`: a `PartwiseProvider`. `whole`: where a part
    of a range is missing, all of it is asked for in one request. `deadline_s`: how long one request
    may take, where that is longer than the hub allows by itself. `zoned`: its tickers have time
    zones, which the facts in its answers tell; days that are asked for are days there. `farthest`:
    its data begin no longer than so many milliseconds before now, whatever `data_start` says.
    `check`: when what it may revise is fetched again, where that is not when the hub says
    (`cache.check`); seconds, or a word.
    """

    name: str
    title: str
    params: tuple[Param, ...]
    columns: tuple[str, ...]
    pace: Pace
    data_start: int
    data_end: int | None = None
    time_column: str = "timestamp"
    revises: bool = False
    basis: Basis | None = None
    entities: bool = False
    whole: bool = False
    partwise: bool = False
    deadline_s: float | None = None
    zoned: bool = False
    farthest: int | None = None
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class Derived:
    """How a series is made of another one of its ticker, by parameters of that; it is not stored.

    `basis` names the columns that `adjustment` changes.
    """

    source: tuple[tuple[str, str], ...]
    adjustment: Adjustment
    basis: Basis


@dataclass(frozen=True, slots=True)
class Traits:
    """What holds for one series: nominal milliseconds a bar, and the limits of asking for it.

    `look_back`: how far before now upstream serves (`None`: all of it), less the `margin` that
    keeps a request inside the limit. `max_span`: the longest range of one request.
    `check_bars`: so many bars are fetched again at once, where that is fewer than the hub would.
    `columns`: of its records, where they are others than the provider's.

    `actions`: the parameters of the ticker's series that keeps the actions which its answers name
    (`None`: they name none); `all_actions`: they name all that there are in the asked interval.
    `carrier`: those of the one that is asked for instead, for this one comes with its answers
    (stitching rule 21). `derived`: it is made of another one.
    """

    bar: int
    look_back: int | None = None
    margin: int = 0
    max_span: int | None = None
    check_bars: int | None = None
    actions: tuple[tuple[str, str], ...] | None = None
    all_actions: bool = False
    carrier: tuple[tuple[str, str], ...] | None = None
    columns: tuple[str, ...] | None = None
    derived: Derived | None = None


class Record(NamedTuple):
    """One record: its time in milliseconds UTC, and its JSON object as a mapping or a struct."""

    time: int
    row: Any


class Provisional(NamedTuple):
    """A part of a fetched interval that upstream may still change (stitching rule 3)."""

    start: int
    end: int
    refresh_after: int


class BadValues(NamedTuple):
    """Records with a value that was no number and is null (stitching rule 6).

    `total` is how many there are, `times` the first few, milliseconds UTC, ascending.
    """

    total: int
    times: tuple[int, ...]


# So many records are encoded in a millisecond, about.
_MANY = 1_000


class Clocks(NamedTuple):
    """The hub's clock and upstream's as one (stitching rule 1), milliseconds UTC.

    What is final, and up to when an answer can tell anything, goes by the `earlier` of them.
    `due_from` is what moments to fetch again are reckoned from: the own clock, where the two
    belong to one world.
    """

    earlier: int
    due_from: int

    @classmethod
    def of(cls, own: int, upstream: int | None) -> Clocks:
        """Return both of them; `upstream` `None`: it does not tell its own."""
        earlier = own if upstream is None else min(own, upstream)
        return cls(earlier, own if own - earlier <= CLOCKS_APART_MS else earlier)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one upstream request returned for the asked interval.

    `records` are sorted by time, one a time, none outside the asked interval; a provider that has
    their text already gives it as `ready` instead. What no entry of `provisional` covers is final.
    `meta` is what the provider wants to remember of the series (such as its exchange's hours); it
    is handed back with the next call. `requests` is how many requests it took upstream.
    `bad_values`: in which of the records a value was no number; `None`: in none. `upstream_now` is
    what upstream's clock shows, `known_until` up to when the answer can tell anything: the earlier
    of the two clocks (stitching rule 1). Both in milliseconds UTC, `None`: not told.

    `facts` is what the answer tells of the ticker beside its bars, null where it does not.
    `actions` are the dividends, splits and capital gains that it names, one record an ex-date,
    sorted, in the form of records; some may lie outside of the asked interval. `None`: a provider
    that tells of none (stitching rule 21).
    """

    records: Sequence[Record] = ()
    provisional: tuple[Provisional, ...] = ()
    meta: Mapping[str, Any] | None = None
    requests: int = 1
    ready: Run | None = None
    bad_values: BadValues | None = None
    upstream_now: int | None = None
    known_until: int | None = None
    facts: Mapping[str, Any] | None = None
    actions: tuple[Mapping[str, Any], ...] | None = None

    @property
    def large(self) -> bool:
        """Whether it takes so long to be made what is stored that nobody should wait for it."""
        ready = 0 if self.ready is None else len(self.ready)
        return len(self.records) > _MANY or ready > 10 * _MANY

    def run(self) -> Run:
        """Return the records as they are stored."""
        if self.ready is not None:
            return self.ready
        texts = encode_all([record.row for record in self.records])
        return Run.of_texts([record.time for record in self.records], texts)


class DueMoments(NamedTuple):
    """When a series that revises is to be fetched again, milliseconds UTC (stitching rule 9).

    `last` is the latest such moment that is not after now, `next` the first one after it. What
    was fetched at or after `last` is fresh. `every`, milliseconds: there are no sessions, and what
    was fetched is due so long after it; the other two move along with now.
    """

    last: int
    next: int
    every: int | None = None

    @classmethod
    def daily(cls, now_ms: int) -> DueMoments:
        """Return those of a series without known sessions: every 24 hours."""
        return cls(now_ms - DAY_MS, now_ms + DAY_MS, DAY_MS)


class Provider(Protocol):
    """A source of histories. Its methods but `fetch` and `aclose` are quick and do no I/O."""

    @property
    def info(self) -> ProviderInfo:
        """What it declares."""
        ...

    def key(self, ticker: str, params: Mapping[str, str]) -> SeriesKey:
        """Return the canonical key; raise `InvalidQuery` for a bad ticker or parameter."""
        ...

    def traits(self, key: SeriesKey) -> Traits:
        """Return what holds for this series."""
        ...

    async def fetch(
        self, key: SeriesKey, interval: Interval, now_ms: int, meta: Mapping[str, Any]
    ) -> Fetched:
        """Ask upstream once for `interval`; raise a `ProviderError` if that cannot be served.

        `interval` is within the limits of `traits` and never ends after `now_ms`. Pace, retries
        and the breaker are the hub's. No records is an answer: known empty.
        """
        ...

    def due_moments(self, meta: Mapping[str, Any], now_ms: int) -> DueMoments:
        """Return when what revises was due last, and when it is next (stitching rule 9)."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


Take = Callable[[Interval, Fetched | None], Awaitable[None]]
"""Takes all that there is of a part; `None`: what was given of it was not all, and is withdrawn."""


class PartwiseProvider(Provider, Protocol):
    """A provider that hands on what came before all of it has come; its `info.partwise` says so."""

    async def fetch_in_parts(
        self, key: SeriesKey, interval: Interval, now_ms: int, take: Take
    ) -> Fetched:
        """Ask upstream as `fetch` does, and give `take` what came of a part of the interval.

        Parts follow one another; what lies before the first one may be given last. What is
        returned is the rest, after the last one.
        """
        ...


class EntityProvider(Provider, Protocol):
    """A provider that answers more than ranges itself; its `info.entities` says so."""

    async def entities(self, request: Request, now_ms: int) -> Sequence[Entity]:
        """Answer a search without a ticker, an unknown id or a report with whole entities.

        They carry the provider's name as `source` and `data` that is a JSON array as text. None
        is an answer too. Raises a `ProviderError`.
        """
        ...


_RANGE_WORDS = frozenset(
    {"start", "end", "from", "to", "since", "until", "date", "dates", "range", "period"}
)


def canonical_params(info: ProviderInfo, params: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that are not at their default, aliases resolved.

    Raises `InvalidQuery` that lists what the provider knows.
    """
    known = {param.name: param for param in info.params}
    result: dict[str, str] = {}
    for name, value in params.items():
        param = known.get(name.lower())
        if param is None:
            listed = ", ".join(sorted(known)) or "none"
            raise InvalidQuery(
                f"{info.name} has no parameter {name!r}; its parameters are: {listed}"
                f"{_meant(name.lower(), known)}"
            )
        canonical = param.aliases.get(value, value)
        if param.choices and canonical not in param.choices:
            raise InvalidQuery(
                f"{info.name}: {param.name}={value} is not supported; "
                f"choose one of: {', '.join(param.choices)}"
            )
        if canonical != param.default:
            result[param.name] = canonical
    return result


def _meant(name: str, known: Iterable[str]) -> str:
    """Return what else somebody may have meant who gave an unknown parameter, or nothing."""
    if name in _RANGE_WORDS:
        return "; a range is date=FROM..TO or date=1y, over HTTP start= and end=, such as start=-1y"
    near = get_close_matches(name, [*known, "ticker", "date", "id"], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
