"""A ranged plugin with a record a day; it prints what it is asked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any


class UnknownTicker(Exception):
    """There is no such ticker."""

    reason = "unknown_ticker"


class Provider:
    """Says everything of itself that the tests look at."""

    def name(self) -> str:
        return "steady"

    def describe(self) -> dict[str, Any]:
        return {
            "title": "A record a day",
            "params": {"side": {"default": "left", "choices": ["left", "right"]}},
            "columns": ["value", "side"],
            "data_start": "2020-01-01",
        }

    def fetch(self, ticker: str, start: datetime, end: datetime, side: str) -> list[dict[str, Any]]:
        print(f"asked {ticker} {start:%Y-%m-%d} {end:%Y-%m-%d} {side}")  # noqa: T201
        if ticker == "NONE":
            raise UnknownTicker("there is no NONE")
        if ticker == "EMPTY":
            return []
        day = start.replace(hour=0, minute=0, second=0, microsecond=0)
        result = []
        while day < end:
            if day >= start:
                result.append({"timestamp": day, "value": day.toordinal() / 4, "side": side})
            day += timedelta(days=1)
        if ticker == "WIDE":
            # More than was asked, and one day twice.
            result += [{"timestamp": end, "value": 1}, {"timestamp": start, "value": -1}]
        return result
