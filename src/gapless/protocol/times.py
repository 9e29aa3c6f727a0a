"""Texts of the wire to integer milliseconds UTC, strictly and without a clock.

Apart because the query language, the hub, the shell and the client all read the same bounds.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple

from gapless.errors import InvalidQuery
from gapless.instants import DAY_MS, SECOND_MS, format_instant
from gapless.zones import EARLIEST, LATEST, midnight_ms

_UNIT_MS = {
    "s": SECOND_MS,
    "m": 60 * SECOND_MS,
    "h": 3_600 * SECOND_MS,
    "d": DAY_MS,
    "w": 7 * DAY_MS,
}
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_MIN_MS = (date.min.toordinal() - _EPOCH_DAY) * DAY_MS
_MAX_MS = (date.max.toordinal() + 1 - _EPOCH_DAY) * DAY_MS - 1

# [0-9], not \d: other scripts' digits are no RFC 3339.
_INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2})))?"
)
# A capital M is months to some, and minutes to others.
_RELATIVE = re.compile(r"-([0-9]{1,12})([smhdwSHDW])")
_CALENDAR = re.compile(r"-([0-9]{1,5})(mo|y)", re.IGNORECASE)
_MONTHS = {"mo": 1, "y": 12}
_EXPECTED = (
    "an RFC 3339 instant such as 2025-09-05T00:00:00Z, a date YYYY-MM-DD, `now`, "
    "a time back such as -30d, -12h, -3mo or -1y, or `ytd`"
)
_ZONELESS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?")
_SHOWN_CHARS = 60
_DATE_CHARS = len("2025-09-05")
_PLAIN_CHARS = len("2025-09-05T00:00:00Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

ALL: Final = "max"
"""The start of a range that begins where the data do; in lower case."""
THIS_YEAR: Final = "ytd"
"""The bound at which the present year begins; in lower case."""


class RangeBounds(NamedTuple):
    """A half-open range as asked for, in milliseconds UTC.

    `start_ms` `None`: the beginning of what the provider has. `absolute`: the same text means the
    same range at any later time; false as soon as one bound is relative or empty.
    """

    start_ms: int | None
    end_ms: int
    absolute: bool


def is_local(text: str) -> bool:
    """Whether a bound has the form of one that is the beginning of a day, in some time zone.

    That is a bare date, a number of calendar months or years back, or the beginning of this year.
    """
    if text[:1].isdigit():
        return len(text) == _DATE_CHARS
    return _CALENDAR.fullmatch(text) is not None or text.lower() == THIS_YEAR


def parse_instant(text: str, *, now_ms: int, what: str = "date", zone: tzinfo | None = None) -> int:
    """Read one bound as milliseconds UTC.

    RFC 3339 with any offset (anything finer than a millisecond is cut off), `YYYY-MM-DD`
    (midnight in `zone`, `None`: UTC), `now`, or a negative duration in s, m(inutes), h, d or w:
    these are floored to the second of `now_ms` (stitching rule 1). A negative number of mo(nths)
    or y(ears) is the day so many calendar months back, `ytd` the first day of the year: midnight
    in `zone`, too. `what` names the bound in the error.

    Raises InvalidQuery if the text is anything else, or lies outside the years 1 to 9999.
    """
    if len(text) == _PLAIN_CHARS and (plain := _plain_ms(text)) is not None:
        return plain
    match = _INSTANT.fullmatch(text)
    if match is not None:
        ms = _absolute_ms(match, text, what, zone)
    else:
        relative = _relative_ms(text, now_ms)
        if relative is None:
            relative = _calendar_ms(text, now_ms, zone)
        if relative is None and _ZONELESS.fullmatch(text):
            raise InvalidQuery(
                f"{what} {_shown(text)} has no time zone; end it with Z for UTC, or with an offset "
                "such as +02:00"
            )
        if relative is None:
            back = f"-{text}"
            meant = _RELATIVE.fullmatch(back) or _CALENDAR.fullmatch(back)
            hint = f"; a time back is written `{back}`" if meant else ""
            raise InvalidQuery(f"{what} {_shown(text)} is no instant; expected {_EXPECTED}{hint}")
        ms = relative
    if not _MIN_MS <= ms <= _MAX_MS:
        raise InvalidQuery(f"{what} {_shown(text)} lies outside the years 0001 to 9999")
    return ms


def parse_range(start: str, end: str, *, now_ms: int, zone: tzinfo | None = None) -> RangeBounds:
    """Read both bounds of a half-open range; bare dates are midnights in `zone`.

    An empty start, or `max`, is the beginning of what the provider has (`None`), an empty end is
    now, floored to the second. Raises InvalidQuery for a bad bound or for start >= end.
    """
    start_ms = None
    if start and start.lower() != ALL:
        start_ms = parse_instant(start, now_ms=now_ms, what="start", zone=zone)
    end_ms = parse_instant(end or "now", now_ms=now_ms, what="end", zone=zone)
    if start_ms is not None and start_ms >= end_ms:
        raise InvalidQuery(
            f"the range is empty: its start {_bound(start, start_ms)} is not before "
            f"its end {_bound(end, end_ms)}; ranges are half open, [start, end)"
        )
    # Both are known to be good: `now` and durations are all that does not begin with a year.
    absolute = start[:1].isdigit() and end[:1].isdigit()
    return RangeBounds(start_ms, end_ms, absolute)


def check_range(start: str, end: str, *, now_ms: int) -> None:
    """Raise InvalidQuery for what is no range, whatever the time zone is that its days are of.

    Which of a date and an instant is the earlier one is a matter of the zone, and so is which year
    it is.
    """
    wrong: InvalidQuery | None = None
    for zone in (None, EARLIEST, LATEST):
        try:
            parse_range(start, end, now_ms=now_ms, zone=zone)
        except InvalidQuery as error:
            wrong = wrong or error
        else:
            return
    assert wrong is not None
    raise wrong


def _absolute_ms(match: re.Match[str], text: str, what: str, zone: tzinfo | None) -> int:
    """Do the calendar in integers: `datetime` would overflow at the ends of its range."""
    year, month, day, hour, minute, second, fraction, sign, off_hour, off_minute = match.groups()
    try:
        local = date(int(year), int(month), int(day))
    except ValueError as error:
        raise InvalidQuery(f"{what} {_shown(text)} is no date: {error}") from None
    days = local.toordinal() - _EPOCH_DAY
    if hour is None:
        return days * DAY_MS if zone is None else _midnight(local, zone)
    h, m, s = int(hour), int(minute), int(second)
    oh, om = int(off_hour or 0), int(off_minute or 0)
    # RFC 3339 allows second 60, a leap second; it is read as the second after it.
    if h > 23 or m > 59 or s > 60 or oh > 23 or om > 59:
        raise InvalidQuery(f"{what} {_shown(text)} has a time of day or offset that does not exist")
    offset_s = (oh * 3_600 + om * 60) * (-1 if sign == "-" else 1)
    ms = int(f"{fraction[:3]:0<3}") if fraction else 0
    return days * DAY_MS + (h * 3_600 + m * 60 + s - offset_s) * SECOND_MS + ms


@lru_cache(maxsize=8_192)
def _plain_ms(text: str) -> int | None:
    """Read an instant as most are written, such as 2025-09-05T00:00:00Z; `None`: it is another."""
    if text[4] + text[7] + text[10] + text[13] + text[16] + text[19] != "--T::Z":
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (read - _EPOCH) // _MILLISECOND


def _relative_ms(text: str, now_ms: int) -> int | None:
    floored = now_ms - now_ms % SECOND_MS
    if text.lower() == "now":
        return floored
    match = _RELATIVE.fullmatch(text)
    if match is None:
        return None
    return floored - int(match[1]) * _UNIT_MS[match[2].lower()]


def _calendar_ms(text: str, now_ms: int, zone: tzinfo | None) -> int | None:
    """Return when the day began that is some calendar months back, or the first of the year."""
    match = _CALENDAR.fullmatch(text)
    if match is None and text.lower() != THIS_YEAR:
        return None
    today = datetime.fromtimestamp(now_ms / 1000, zone or UTC).date()
    if match is None:
        return _midnight(today.replace(month=1, day=1), zone or UTC)
    months = today.year * 12 + today.month - 1 - int(match[1]) * _MONTHS[match[2].lower()]
    year, month = months // 12, months % 12 + 1
    if year < date.min.year:
        return _MIN_MS - 1
    # The 31st of a month back from a shorter one is the last of that.
    last = monthrange(year, month)[1]
    return _midnight(date(year, month, min(today.day, last)), zone or UTC)


def _midnight(day: date, zone: tzinfo) -> int:
    # The first day begins before the first year, UTC, in the east.
    return max(midnight_ms(day, zone), _MIN_MS)


def _bound(text: str, ms: int) -> str:
    if is_local(text):
        # When it begins is a matter of the time zone.
        return _shown(text)
    instant = format_instant(ms)
    return instant if text == instant else f"{_shown(text or 'now')} ({instant})"


def _shown(text: str) -> str:
    """Quote what was sent, cut to a length that leaves the message readable."""
    return f"`{text}`" if len(text) <= _SHOWN_CHARS else f"`{text[:_SHOWN_CHARS]}…`"
