r"""How long the sun shines: the smallest useful provider of the entity contract.

A ticker is a place, as latitude and longitude in degrees: `52.52,13.40` is Berlin. A record is a
day: when the sun rises and sets there, and how many hours lie between. Nothing is fetched; it is
computed by the low-accuracy equations of the NOAA Solar Calculator ("General Solar Position
Calculations", NOAA Global Monitoring Division), good to a minute or two between the polar circles.

Load it into a running hub, and ask:

    curl -X POST http://127.0.0.1:7070/plugins/load -H 'Content-Type: application/json' \
      -d "{\"file\": \"$PWD/examples/providers/minimal.py\"}"
    gapless query 'provider daylight search ticker=52.52,13.40 date=2024-01-01..2025-01-01'
    gapless query 'provider daylight report url=geo:52.52,13.40'
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from math import acos, cos, degrees, pi, radians, sin, tan
from typing import Any

DAY = timedelta(days=1)
# Where the sun's upper edge meets the horizon: half its width, and the air's refraction.
ZENITH = 90.833


class UnknownPlace(Exception):
    """The ticker is no place; `reason` is what makes it one of the hub's own errors."""

    reason = "unknown_ticker"


class Provider:
    """Answers the hub's requests, each a dict with one key, with a list of entities."""

    def name(self) -> str:
        """Return the name that it is loaded under if no other is given."""
        return "daylight"

    def fetch_entities(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Answer a request: the days of a range, or something about one place."""
        ((kind, body),) = request.items()
        if kind == "SearchEntities":
            return self._search(body["query"])
        if kind == "GetEntity":  # an id that the hub does not hold: a place, for this day
            place = body["id"].removeprefix("daylight:")
            return [entity(f"daylight:{place}", [day_of(place, datetime.now(UTC))])]
        if kind == "GetReport":  # geo: URIs are those of RFC 5870
            place = body["url"].removeprefix("geo:")
            return [entity(f"daylight-report:{place}", report(place))]
        return []

    def _search(self, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        asked = {key: value for one in filters for key, value in one.items()}
        if "Ticker" not in asked or "DateRange" not in asked:
            return []
        place = asked["Ticker"]
        start = datetime.fromisoformat(asked["DateRange"]["start"])
        end = datetime.fromisoformat(asked["DateRange"]["end"])
        day = start.replace(hour=0, minute=0, second=0, microsecond=0)
        if day < start:
            day += DAY
        days = []
        while day < end:
            days.append(day_of(place, day))
            day += DAY
        return [entity(f"daylight:{place}", days)]


def entity(id: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an entity; the hub fills in what is not said: source, etag, times, state."""
    return {"id": id, "data": json.dumps(rows)}


def report(place: str) -> list[dict[str, Any]]:
    """Return the shortest and the longest day of this year at a place."""
    first = datetime(datetime.now(UTC).year, 1, 1, tzinfo=UTC)
    days = [day_of(place, first + n * DAY) for n in range(365)]
    return [
        {"what": "shortest day", **min(days, key=lambda day: day["hours"])},
        {"what": "longest day", **max(days, key=lambda day: day["hours"])},
    ]


def day_of(place: str, moment: datetime) -> dict[str, Any]:
    """Return the record of a day (UTC); sunrise and sunset are null in polar day and night."""
    latitude, longitude = where(place)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    # The year as an angle, at noon.
    year = 2 * pi / 365 * (midnight.timetuple().tm_yday - 1)
    # In minutes: how far the sun is ahead of a clock.
    ahead = 229.18 * (
        0.000075
        + 0.001868 * cos(year)
        - 0.032077 * sin(year)
        - 0.014615 * cos(2 * year)
        - 0.040849 * sin(2 * year)
    )
    declination = (
        0.006918
        - 0.399912 * cos(year)
        + 0.070257 * sin(year)
        - 0.006758 * cos(2 * year)
        + 0.000907 * sin(2 * year)
        - 0.002697 * cos(3 * year)
        + 0.00148 * sin(3 * year)
    )
    side = cos(radians(ZENITH)) / (cos(latitude) * cos(declination)) - tan(latitude) * tan(
        declination
    )
    row: dict[str, Any] = {"timestamp": int(midnight.timestamp())}
    if not -1 < side < 1:
        return {**row, "hours": 0.0 if side >= 1 else 24.0, "sunrise": None, "sunset": None}
    # Four minutes a degree that the earth turns.
    half = 4 * degrees(acos(side))
    noon = midnight + timedelta(minutes=720 - 4 * longitude - ahead)
    return {
        **row,
        "hours": round(half / 30, 3),
        "sunrise": clock(noon - timedelta(minutes=half)),
        "sunset": clock(noon + timedelta(minutes=half)),
    }


def where(place: str) -> tuple[float, float]:
    """Return latitude in radians and longitude in degrees; raise `UnknownPlace`."""
    try:
        latitude, longitude = (float(part) for part in place.split(","))
    except ValueError:
        latitude = longitude = 999
    if not (-90 < latitude < 90 and -180 <= longitude <= 180):
        raise UnknownPlace(f"{place!r} is no place; write latitude,longitude such as 52.52,13.40")
    return radians(latitude), longitude


def clock(moment: datetime) -> str:
    """Return an instant to the second, as RFC 3339."""
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")
