"""The dividends, splits and capital gains that come with a chart, as records by ex-date.

Pure; an action that makes no sense is left out, and never fails the answer that it came with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from gapless.providers.yahoo_chart import sane_time
from gapless.providers.yahoo_sessions import DAY_S, Hours

# Upstream names what is to come a little ahead, if at all.
_AHEAD_S = 7 * DAY_S
# No split has ever been as large; prices multiplied by what is would be lost.
_MOST_RATIO = 1e5
_KINDS: Mapping[str, str] = {
    "dividends": "dividend",
    "splits": "split",
    "capitalGains": "capital_gain",
}


def actions(events: object, zone: ZoneInfo | None, now_ms: int) -> tuple[Mapping[str, Any], ...]:
    """Return one record for each ex-date, in order: `timestamp`, and what happened or null.

    `timestamp` is the ex-date's session open in Unix seconds, as upstream tells it inside of the
    event (its key is that of the bar, and for months another day). A `split` is new shares for
    one old: 4.0 for 4:1, 0.05 for 1:20; `dividend` and `capital_gain` are amounts for one share.
    """
    hours = Hours(zone or ZoneInfo("UTC"))
    found: dict[object, dict[str, Any]] = {}
    for kind, date, amount in _told(events):
        if not sane_time(date) or date > now_ms // 1000 + _AHEAD_S:
            continue
        fresh = {"timestamp": date, "dividend": None, "split": None, "capital_gain": None}
        record = found.setdefault(hours.day(date * 1000), fresh)
        record["timestamp"] = min(record["timestamp"], date)
        if record[kind] is None:
            record[kind] = amount
    return tuple(sorted(found.values(), key=lambda record: record["timestamp"]))


def _told(events: object) -> Iterator[tuple[str, Any, float]]:
    """Yield kind, date and amount of the events whose amount makes sense."""
    if not isinstance(events, dict):
        return
    for name, kind in _KINDS.items():
        told = events.get(name)
        if not isinstance(told, dict):
            continue
        for event in told.values():
            if not isinstance(event, dict):
                continue
            amount = _ratio(event) if kind == "split" else _positive(event.get("amount"))
            if amount is not None:
                yield kind, event.get("date"), amount


def _ratio(event: Mapping[str, Any]) -> float | None:
    """Return new shares for one old; `None` where that is no split."""
    new, old = _positive(event.get("numerator")), _positive(event.get("denominator"))
    if new is None or old is None or new == old:
        return None
    ratio = new / old
    return ratio if 1 / _MOST_RATIO <= ratio <= _MOST_RATIO else None


def _positive(value: object) -> float | None:
    """Return a finite number above 0 as a float; of anything else `None`."""
    if type(value) is not float and type(value) is not int:
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number > 0 else None
