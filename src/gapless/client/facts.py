"""What a hub knows of a ticker beside its records, as Python has it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time

import msgspec

from gapless.client.failures import UnexpectedAnswer


@dataclass(frozen=True, slots=True)
class TradingHours:
    """When trading opens and closes, as clocks there show it; `None`: not known.

    A session that closes at midnight closes at `time(0)`.
    """

    open: time | None
    close: time | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a ticker; `None`: not known.

    `zone` is a name of the tz database, such as `America/New_York`, in which its bars have their
    dates. Prices are in `currency`; `GBp` are pence. `first_trade` is in UTC.
    """

    zone: str | None
    currency: str | None
    kind: str | None
    exchange: str | None
    name: str | None
    first_trade: datetime | None
    session: TradingHours


class _WireSession(msgspec.Struct):
    open: str | None = None
    close: str | None = None


class _WireFacts(msgspec.Struct):
    zone: str | None = None
    currency: str | None = None
    kind: str | None = None
    exchange: str | None = None
    name: str | None = None
    first_trade: float | None = None
    session: _WireSession | None = None


_FACTS = msgspec.json.Decoder(_WireFacts | None)


def facts_of(text: bytes) -> Facts | None:
    """Return facts by their JSON, `None` for null; raise `UnexpectedAnswer` for what are none."""
    try:
        wire = _FACTS.decode(text)
        if wire is None:
            return None
        session = wire.session or _WireSession()
        first = wire.first_trade
        return Facts(
            zone=wire.zone,
            currency=wire.currency,
            kind=wire.kind,
            exchange=wire.exchange,
            name=wire.name,
            first_trade=None if first is None else datetime.fromtimestamp(first, UTC),
            session=TradingHours(_clock(session.open), _clock(session.close)),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise UnexpectedAnswer(f"the hub's facts are none: {error}") from error


def _clock(text: str | None) -> time | None:
    if text is None:
        return None
    return time() if text == "24:00" else time.fromisoformat(text)
