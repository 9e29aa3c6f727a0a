"""Time zones by name, and where days begin in them.

Apart from instants, which are UTC: who asks for a bare date means the exchange's.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

EARLIEST: Final = timezone(timedelta(hours=14))
"""Where a day begins first."""
LATEST: Final = timezone(timedelta(hours=-12))
"""Where a day begins last."""


def zone_named(name: object) -> ZoneInfo | None:
    """Return the time zone, or `None` where the name is none."""
    if not isinstance(name, str) or not name:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def midnight_ms(day: date, zone: tzinfo) -> int:
    """Return when a day begins in a zone, milliseconds UTC.

    Where clocks are put forward at midnight, it begins then; where they are put back to it, at
    the first of the two.
    """
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1000


def local_date(at: object, zone: tzinfo) -> date | None:
    """Return the day that clocks in a zone show at a time in Unix seconds.

    `None` where that is no time, or beyond the years 1 to 9999.
    """
    if isinstance(at, bool) or not isinstance(at, int | float):
        return None
    try:
        return datetime.fromtimestamp(at, zone).date()
    except (OverflowError, ValueError, OSError):
        return None
