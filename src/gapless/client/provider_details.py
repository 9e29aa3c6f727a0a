"""What a provider declares, and how it fares, as a hub tells it; older hubs tell less."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from gapless.protocol.messages import ErrorBody


class Parameter(Struct, frozen=True):
    """A parameter of a provider's series; no `choices`: any text.

    `aliases` are other spellings of choices.
    """

    name: str
    default: str = ""
    choices: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}
    help: str = ""


class Pacing(Struct, frozen=True):
    """How often upstream may be asked: so many a second, so many at once, so many now."""

    rate: float
    burst: int
    turns: int


class Breaker(Struct, frozen=True):
    """Whether everybody is kept from asking upstream, and for how many seconds."""

    open: bool
    blocked_s: float


class FailingSeries(Struct, frozen=True):
    """A series that fails by itself; it is left alone until `until`. `None`: it may be asked."""

    id: str
    error: ErrorBody
    until: datetime | None = None


class ProviderDetails(Struct, frozen=True):
    """A provider and how it fares; instants are aware datetimes in UTC, `None`: never yet.

    `health`: `ok`, `failing` (its last request failed, and not for its ticker or range alone),
    `resting` (its breaker is open) or `disabled` (a plugin that crashed too often). Its data lie
    in `[data_start, data_end)`; no end: up to now. `failing_series` is how many series fail by
    themselves while others are answered, `failures` are the latest few of them. `clock_skew_s` is
    by how many seconds upstream's clock is ahead of the hub's own; `None`: it does not tell.
    """

    name: str
    title: str
    health: str
    built_in: bool
    params: tuple[Parameter, ...]
    columns: tuple[str, ...]
    revises: bool
    data_start: datetime
    data_end: datetime | None
    pace: Pacing
    breaker: Breaker
    requests: int
    last_fetch: datetime | None = None
    last_failure: datetime | None = None
    last_error: ErrorBody | None = None
    failing_series: int = 0
    failures: tuple[FailingSeries, ...] = ()
    clock_skew_s: float | None = None

    def __repr__(self) -> str:
        noun = "request" if self.requests == 1 else "requests"
        text = f"<gapless.ProviderDetails {self.name} {self.health}: {self.requests:,} {noun}"
        if self.last_error is not None:
            text += f"; last error: {self.last_error.message}"
        return f"{text}>"


class ProvidersTold(Struct, frozen=True):
    """The providers, as they come."""

    providers: tuple[ProviderDetails, ...]
