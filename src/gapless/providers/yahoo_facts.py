"""What a chart's meta tells of its instrument: its facts, and what the provider remembers of it.

Pure; what does not fit together, such as a session that ends before it begins, is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from gapless.providers.yahoo_chart import ChartMeta, Period
from gapless.providers.yahoo_sessions import DAY_S, Hours
from gapless.zones import zone_named

_LONGEST_WORD = 40
_LONGEST_NAME = 200


def remember(meta: ChartMeta, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is worth knowing at the next fetch: zone, hours of the local day, kind.

    A half-day must not shorten the hours for good, so that known hours only ever widen; they are
    left out where they are not known. Beside them stand those told last: an exchange that opens
    later than it once did is asked when it does (stitching rule 9).
    """
    zone = zone_named(meta.exchange_timezone_name)
    found: dict[str, Any] = {"symbol": meta.symbol}
    if meta.currency is not None:
        found["currency"] = meta.currency
    if meta.instrument_type is not None:
        found["kind"] = meta.instrument_type
    if zone is None:
        return {**earlier, **found}
    found["tz"] = zone.key
    regular = meta.current_trading_period and meta.current_trading_period.regular
    known = _local_hours(regular, Hours(zone)) if regular else None
    told = known or _last_told(earlier, zone)
    if told:
        found["last_open_s"], found["last_close_s"] = told
    opens, closes = earlier.get("open_s"), earlier.get("close_s")
    if earlier.get("tz") == zone.key and isinstance(opens, int) and isinstance(closes, int):
        known = (min(known[0], opens), max(known[1], closes)) if known else (opens, closes)
    if known:
        found["open_s"], found["close_s"] = known
    return found


def facts(meta: ChartMeta, now_ms: int) -> dict[str, Any]:
    """Return what is known of the ticker beside its bars (stitching rule 21).

    `zone` (of the tz database), `currency`, `kind`, `exchange`, `name`, `first_trade` (Unix
    seconds) and `session` with `open` and `close` as exchanges' clocks show them, `09:30`. Null is
    what this answer does not tell, or what cannot be, such as a first trade that is to come.
    """
    zone = zone_named(meta.exchange_timezone_name)
    current = meta.current_trading_period
    regular = current.regular if current else None
    hours = _local_hours(regular, Hours(zone)) if zone and regular else None
    first = meta.first_trade_date
    return {
        "zone": zone.key if zone else None,
        "currency": _word(meta.currency),
        "kind": _word(meta.instrument_type),
        "exchange": _word(meta.exchange_name),
        "name": _name(meta.long_name) or _name(meta.short_name),
        "first_trade": first if first is not None and first * 1000 <= now_ms else None,
        "session": {
            "open": _clock(hours[0]) if hours else None,
            "close": _clock(hours[1]) if hours else None,
        },
    }


def _word(text: str | None) -> str | None:
    """Return a code such as `USD`; `None` for what is none."""
    return text if text and len(text) <= _LONGEST_WORD and text.isprintable() else None


def _name(text: str | None) -> str | None:
    """Return a name with single spaces; `None` for what is none."""
    plain = " ".join((text or "").split())
    return plain if plain and len(plain) <= _LONGEST_NAME and plain.isprintable() else None


def _clock(second: int) -> str:
    """Return a second of the day in hours and minutes; the end of the day is 24:00."""
    return f"{second // 3600:02}:{second // 60 % 60:02}"


def whole(period: Period, hours: Hours) -> Period:
    """Return the period up to midnight where upstream ends the day at 23:59."""
    if hours.second(period.end * 1000) == DAY_S - 60:
        return Period(period.start, period.end + 60)
    return period


def _last_told(earlier: Mapping[str, Any], zone: ZoneInfo) -> tuple[int, int] | None:
    """Return the hours that an earlier answer told for the same zone."""
    opens, closes = earlier.get("last_open_s"), earlier.get("last_close_s")
    if earlier.get("tz") == zone.key and isinstance(opens, int) and isinstance(closes, int):
        return opens, closes
    return None


def _local_hours(regular: Period, hours: Hours) -> tuple[int, int] | None:
    """Return open and close as seconds of the local day, if they lie in one."""
    session = whole(regular, hours)
    opens, closes = hours.second(session.start * 1000), hours.second(session.end * 1000)
    same_day = hours.day(session.start * 1000) == hours.day(session.end * 1000 - 1)
    if closes == 0:
        closes = DAY_S
    return (opens, closes) if same_day and opens < closes else None
