"""An entity plugin: notes by id, records of a range, a report."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any


class Provider:
    """Answers every request that the hub hands on."""

    def name(self) -> str:
        return "notes"

    def fetch_entities(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        ((kind, body),) = request.items()
        print(f"asked {json.dumps(request, sort_keys=True)}")  # noqa: T201
        if kind == "GetReport":
            return [{"id": f"report {body['url']}", "data": [{"url": body["url"]}]}]
        if kind == "GetEntity":
            if body["id"] == "nothing":
                return []
            return [{"id": body["id"], "data": json.dumps([{"id": body["id"]}])}]
        filters = {name: value for one in body["query"] for name, value in one.items()}
        if "Ticker" not in filters:
            return self._found(filters)
        start = datetime.fromisoformat(filters["DateRange"]["start"])
        end = datetime.fromisoformat(filters["DateRange"]["end"])
        hours = range(int(start.timestamp()), int(end.timestamp()), 3_600)
        first, second = ([{"timestamp": h, "n": h} for h in hours[i::2]] for i in (0, 1))
        # Two entities whose records take turns, one as text, one as a list.
        return [{"id": "a", "data": json.dumps(first)}, {"id": "b", "data": second}]

    def _found(self, filters: dict[str, Any]) -> list[dict[str, Any]]:
        if filters.get("ByUrl") == "taken":
            return [{"id": "mine", "data": []}, {"id": "belongs to another", "data": []}]
        return [
            {
                "id": f"note {number}",
                "source": "somebody else",
                "tags": ["kind=note"],
                "data": [{"filters": sorted(filters)}],
                "updated_at": "2024-01-01T00:00:00Z",
            }
            for number in range(3)
        ]
