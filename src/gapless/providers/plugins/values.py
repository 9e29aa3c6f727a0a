"""What a plugin's record may hold, and what becomes of it: instants, numbers, text.

Apart from the records because whole entities hold the same values. Runs in the plugin's process
and imports nothing heavy: numpy, pandas and polars are there only if the plugin brought them.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from gapless.errors import InvalidQuery
from gapless.protocol.times import parse_instant

PLAIN = frozenset({str, int, float, bool, type(None)})
"""The types that are JSON as they are; floats that are no number become null."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DAY_MS = 86_400_000
_NAIVE = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?", re.ASCII)
_SPACED = re.compile(r"\d{4}-\d{2}-\d{2} \d", re.ASCII)
_DEEPEST = 50
FIRST_S, LAST_S = -62_135_596_800, 253_402_300_800
"""The years 1 to 9999 in Unix seconds."""
_FINER = ((10**3, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds"))


class BadReply(Exception):
    """What the plugin returned is no answer; the message says what of it."""


class OutOfOrder(BadReply):
    """What was handed on before was not all there is of its range."""


def encodable(text: str) -> str:
    """Return text of which every character can be sent: lone surrogates are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def type_name(value: object) -> str:
    """Return the name of a value's type as its user writes it."""
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__name__
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def shown(value: object) -> str:
    """Return a value as it is quoted in an error: never longer than a line."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type_name(value)}>"
    return text if len(text) <= 60 else f"{text[:60]}…"


def instant(value: Any) -> int | None:
    """Return an instant in milliseconds UTC; `None` where the value is none.

    A number is Unix seconds, a datetime without zone UTC, a date its midnight, text RFC 3339. What
    is finer than a millisecond is cut off; of a float it is rounded. A number beyond the years 1
    to 9999 is none either: it counts something else than seconds, see `no_instant`.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | Decimal):
        # What is no number compares as false.
        if not FIRST_S <= value <= LAST_S:
            return None
        return int(value) * 1000 if isinstance(value, int) else round(float(value) * 1000)
    if isinstance(value, datetime):
        return _of_datetime(value)
    if isinstance(value, date):
        return (value.toordinal() - _EPOCH_DAY) * _DAY_MS
    if isinstance(value, str):
        return _of_text(value)
    if hasattr(value, "dtype") and hasattr(value, "item"):
        if value.dtype.kind == "M":
            number = value.astype("datetime64[ms]").astype("int64").item()
            # numpy's word for no time at all.
            return None if number == -(2**63) else int(number)
        plain = value.item()
        return None if hasattr(plain, "dtype") else instant(plain)
    return None


def no_instant(value: Any) -> str:
    """Return what to say of a value that is no instant: milliseconds for seconds are named."""
    said = f"is no time: {shown(value)}, a {type_name(value)}; "
    wanted = "give Unix seconds, a datetime, a date or RFC 3339 text"
    try:
        number = abs(float(value))
    except (TypeError, ValueError, OverflowError):
        return said + wanted
    for per_second, unit in _FINER:
        if LAST_S < number <= LAST_S * per_second:
            return f"{said}as seconds it lies beyond the year 9999 and looks like {unit}; {wanted}"
    return said + wanted


def instant_of(ms: int) -> datetime:
    """Return milliseconds UTC as the aware datetime that plugins are asked with."""
    return _EPOCH + timedelta(milliseconds=ms)


def seconds(ms: int) -> int | float:
    """Return milliseconds as Unix seconds: whole where they are."""
    return ms / 1000 if ms % 1000 else ms // 1000


def clean(value: Any, where: str, depth: int = 0) -> Any:
    """Return a value as JSON has it; raise `BadReply` that tells `where` it cannot be.

    Decimals become floats, datetimes RFC 3339, what numpy and pandas call missing null.
    """
    if type(value) in PLAIN:
        return value
    if depth > _DEEPEST:
        raise BadReply(f"{where} is nested more than {_DEEPEST} deep")
    if isinstance(value, list | tuple):
        return [clean(item, where, depth + 1) for item in value]
    if isinstance(value, dict):
        return {text_key(key, where): clean(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float | Decimal):
        return float(value)
    if isinstance(value, str):
        # An enumeration of texts spells itself differently.
        return str.__str__(value)
    if isinstance(value, date):
        return _text_of(value)
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return _of_numpy(value, where, depth)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    raise BadReply(
        f"{where} is a {type_name(value)}: {shown(value)}; "
        "a value may be a number, text, true or false, null, a time, a list or a dict"
    )


def plain(value: Any, where: str) -> Any:
    """Return what a plugin says of itself as JSON has it: durations in seconds, sets as lists."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {text_key(key, where): plain(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, where) for item in value]
    return clean(value, where)


def text_key(key: Any, where: str) -> str:
    """Return the key of a record; raise `BadReply` where it is no text."""
    if type(key) is str:
        return key
    if isinstance(key, str):
        return str.__str__(key)
    raise BadReply(f"{where} has the key {shown(key)}, a {type_name(key)}; keys must be text")


def _of_datetime(value: datetime) -> int | None:
    if value != value:  # pandas says so of no time at all
        return None
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return (value - _EPOCH) // _MS


def _of_text(text: str) -> int | None:
    if not text[:1].isdigit():
        # Only what is asked may be `now` or a duration.
        return None
    if _NAIVE.fullmatch(text):
        text += "Z"
    if _SPACED.match(text):
        text = text.replace(" ", "T", 1)
    try:
        return parse_instant(text, now_ms=0)
    except InvalidQuery:
        return None


def _text_of(value: date) -> str | None:
    if not isinstance(value, datetime):
        return value.isoformat()
    if value != value:  # as above
        return None
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value.isoformat().replace("+00:00", "Z")


def _of_numpy(value: Any, where: str, depth: int) -> Any:
    if value.dtype.kind == "M":
        # Its own finest unit would come back as a number.
        value = value.astype("datetime64[us]")
    elif value.dtype.kind not in "biufUO":
        raise BadReply(f"{where} is of numpy's type {value.dtype}, which JSON does not have")
    plain = value.tolist()
    if hasattr(plain, "dtype"):
        raise BadReply(f"{where} is a {type_name(value)}, which JSON does not have")
    return clean(plain, where, depth + 1)
