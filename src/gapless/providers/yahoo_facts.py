"""What a chart's meta tells of its instrument: what the provider remembers of a series.

Pure; what does not fit together, such as a session that ends before it begins, is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from gapless.providers.yahoo_chart import ChartMeta, Period
from gapless.providers.yahoo_sessions import DAY_S, Hours, zone_named


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
