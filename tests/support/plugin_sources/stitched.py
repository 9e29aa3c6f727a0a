"""An entity plugin that answers whole ranges by itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any


class Provider:
    """Has both methods of the older contract."""

    def name(self) -> str:
        return "stitched"

    def fetch_entities(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        raise AssertionError("a range is asked of stitch")

    def stitch(self, filters: list[dict[str, Any]]) -> dict[str, Any]:
        said = {name: value for one in filters for name, value in one.items()}
        start, end = (datetime.fromisoformat(said["DateRange"][key]) for key in ("start", "end"))
        print(f"asked {said['Ticker']} {start:%Y-%m-%d} {end:%Y-%m-%d}")  # noqa: T201
        count = (end - start) // timedelta(days=1)
        return {"id": "x", "data": [{"timestamp": start + timedelta(days=i)} for i in range(count)]}
