"""What a plugin says of itself in `describe()`, read strictly: a typing error is told at load.

Pure, and apart from the processes: it is a table of keys and what each may be.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gapless.domain.comparing import Basis
from gapless.errors import InvalidQuery
from gapless.instants import DAY_MS
from gapless.protocol.times import parse_instant
from gapless.providers.base import Param

DATA_START = -2_208_988_800_000
"""1900-01-01: before it nothing is asked of a plugin that does not say how far it goes back."""

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_PARAM_KEYS = ("name", "default", "choices", "aliases", "help")
_BASIS_KEYS = ("prices", "adjusted", "volume")
# What `fetch` is called with, filters of the query language, and keys of HTTP.
_TAKEN: tuple[str, ...] = (
    *("self", "ticker", "start", "end"),
    *("date", "id", "source", "state", "tags", "updated", "url", "limit"),
    *("cursor", "format", "columns", "strict"),
)
# A thousand years mean for ever; added to today they are still a date.
_LONGEST_S = 1000.0 * 365 * 86_400
_LONGEST_TEXT = 200


class BadDescription(Exception):
    """`describe()` says something that makes no sense; the message names the key."""


@dataclass(frozen=True, slots=True)
class Description:
    """A plugin's own word, with what holds where it says nothing.

    Durations and instants are milliseconds (UTC), `deadline_s` is seconds. What is younger than
    `final_after` may still change and is asked for again after `refresh_after`.
    """

    name: str | None = None
    title: str | None = None
    params: tuple[Param, ...] = ()
    time_column: str = "timestamp"
    columns: tuple[str, ...] = ()
    final_after: int = 0
    refresh_after: int = 60_000
    data_start: int = DATA_START
    data_end: int | None = None
    look_back: int | None = None
    max_span: int | None = None
    bar: int = DAY_MS
    rate: float = 100.0
    burst: int = 1_000
    revises: Basis | None = None
    deadline_s: float | None = None

    def defaults(self) -> dict[str, str]:
        """Return every parameter at its default."""
        return {param.name: param.default for param in self.params}


def parse_description(said: Mapping[str, Any]) -> Description:
    """Read what `describe()` returned, as JSON values; raise `BadDescription`."""
    values: dict[str, Any] = {}
    for key, value in said.items():
        read = _KEYS.get(key)
        if read is None:
            raise BadDescription(
                f"describe() has the unknown key {key!r}; its keys are: {', '.join(_KEYS)}"
            )
        if value is not None:
            field = "deadline_s" if key == "deadline" else key
            values[field] = read(value, f"describe(): {key}")
    columns = values.get("columns", ())
    if values.get("time_column", "timestamp") in columns:
        # The time comes first anyway.
        values["columns"] = tuple(c for c in columns if c != values.get("time_column", "timestamp"))
    if values.get("revises") is True:
        values["revises"] = _usual_basis(columns)
    elif values.get("revises") is False:
        del values["revises"]
    start, end = values.get("data_start", DATA_START), values.get("data_end")
    if end is not None and end <= start:
        raise BadDescription("describe(): data_end is not after data_start")
    return Description(**values)


def _usual_basis(columns: tuple[str, ...]) -> Basis:
    usual = Basis()
    if not columns:
        return usual
    lacking = [name for name in usual.prices if name not in columns]
    if lacking:
        raise BadDescription(
            "describe(): revises is true, but columns has no "
            f"{', '.join(lacking)}; name the columns that a split changes: "
            '{"prices": […], "adjusted": …, "volume": …}'
        )
    return Basis(
        adjusted=usual.adjusted if usual.adjusted in columns else None,
        volume=usual.volume if usual.volume in columns else None,
    )


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise BadDescription(f"{where} is {_shown(value)}; it must be text")
    if len(value) > _LONGEST_TEXT:
        raise BadDescription(f"{where} has {len(value)} characters; {_LONGEST_TEXT} are the most")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise BadDescription(f"{where} is {_shown(value)}; it must be a list of texts")
    return tuple(_text(item, where) for item in value)


def _number(value: Any, where: str) -> float:
    # Compared rather than converted, for a whole number may be too large for that.
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not -sys.float_info.max <= value <= sys.float_info.max
    ):
        raise BadDescription(f"{where} is {_shown(value)}; it must be a number")
    return float(value)


def _positive(value: Any, where: str) -> float:
    number = _number(value, where)
    if number <= 0:
        raise BadDescription(f"{where} is {_shown(value)}; it must be more than 0")
    return number


def _count(value: Any, where: str) -> int:
    number = _positive(value, where)
    if number != int(number):
        raise BadDescription(f"{where} is {_shown(value)}; it must be a whole number")
    return int(number)


def _seconds(value: Any, where: str) -> float:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        return min(float(match[1]) * _UNITS[match[2]], _LONGEST_S)
    if isinstance(value, str):
        raise BadDescription(f"{where} is {_shown(value)}; it must be seconds, or text such as 1d")
    number = _number(value, where)
    if number < 0:
        raise BadDescription(f"{where} is {_shown(value)}; it must not be less than 0")
    return min(number, _LONGEST_S)


def _span(value: Any, where: str) -> int:
    return round(_seconds(value, where) * 1000)


def _some_span(value: Any, where: str) -> int:
    span = _span(value, where)
    if span == 0:
        raise BadDescription(f"{where} is {_shown(value)}; it must be at least a millisecond")
    return span


def _some_seconds(value: Any, where: str) -> float:
    return _positive(_seconds(value, where), where)


def _instant(value: Any, where: str) -> int:
    if isinstance(value, str):
        try:
            if not value[:1].isdigit():
                raise InvalidQuery("relative")
            return parse_instant(value, now_ms=0)
        except InvalidQuery:
            raise BadDescription(
                f"{where} is {_shown(value)}; it must be an instant such as 2000-01-01"
            ) from None
    number = round(_number(value, where) * 1000)
    if not -62_135_596_800_000 <= number < 253_402_300_800_000:
        raise BadDescription(f"{where} is {_shown(value)}; it lies outside the years 1 to 9999")
    return number


def _revises(value: Any, where: str) -> bool | Basis:
    if isinstance(value, bool):
        return value
    if not isinstance(value, dict):
        raise BadDescription(
            f'{where} is {_shown(value)}; it must be true, false or {{"prices": […]}}'
        )
    _known(value, _BASIS_KEYS, where)
    prices = _texts(value.get("prices"), f"{where}: prices")
    if not prices:
        raise BadDescription(f"{where}: prices names no column")
    adjusted, volume = (
        None if value.get(key) is None else _text(value[key], f"{where}: {key}")
        for key in _BASIS_KEYS[1:]
    )
    return Basis(prices, adjusted, volume)


def _params(value: Any, where: str) -> tuple[Param, ...]:
    if isinstance(value, dict):
        items = [
            {**item, "name": name} if isinstance(item, dict) else {"name": name, "default": item}
            for name, item in value.items()
        ]
    elif isinstance(value, list):
        items = value
    else:
        raise BadDescription(f"{where} is {_shown(value)}; it must be a list or a dict by name")
    result = tuple(_param(item, where) for item in items)
    names = [param.name for param in result]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BadDescription(f"{where} has {min(twice)!r} twice")
    return result


def _param(item: Any, where: str) -> Param:
    if not isinstance(item, dict):
        raise BadDescription(f"{where} has {_shown(item)}, which is no dict")
    name = _text(item.get("name"), f"{where}: name")
    where = f"{where}: {name}"
    _known(item, _PARAM_KEYS, where)
    if not name.isidentifier() or name != name.lower() or name in _TAKEN:
        raise BadDescription(
            f"{where}: a parameter is handed to fetch by its name, so that this must be a Python "
            f"name in small letters, and none of {', '.join(_TAKEN)}"
        )
    if item.get("default") is None:
        raise BadDescription(f"{where} has no default")
    default = _choice(item["default"], f"{where}: default")
    listed = item.get("choices")
    if listed is None:
        listed = []
    if not isinstance(listed, list):
        raise BadDescription(f"{where}: choices is {_shown(listed)}; it must be a list")
    choices = tuple(_choice(one, f"{where}: choices") for one in listed)
    if choices and default not in choices:
        raise BadDescription(f"{where}: its default {default!r} is none of its choices")
    aliases = item.get("aliases") or {}
    if not isinstance(aliases, dict):
        raise BadDescription(f"{where}: aliases is {_shown(aliases)}; it must be a dict")
    aliases = {key: _choice(one, f"{where}: aliases") for key, one in aliases.items()}
    for one in aliases.values():
        if choices and one not in choices:
            raise BadDescription(f"{where}: aliases names {one!r}, which is none of its choices")
    about = item.get("help")
    return Param(
        name, default, choices, aliases, "" if not about else _text(about, f"{where}: help")
    )


def _choice(value: Any, where: str) -> str:
    """Return a parameter's value, which is text on the wire, as that."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if value == "":
        return ""
    return _text(value, where)


def _known(value: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in value:
        if key not in keys:
            raise BadDescription(
                f"{where} has the unknown key {key!r}; it may be {', '.join(keys)}"
            )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


_KEYS: Mapping[str, Callable[[Any, str], Any]] = {
    "name": _text,
    "title": _text,
    "params": _params,
    "time_column": _text,
    "columns": _texts,
    "final_after": _span,
    "refresh_after": _span,
    "data_start": _instant,
    "data_end": _instant,
    "look_back": _some_span,
    "max_span": _some_span,
    "bar": _some_span,
    "rate": _positive,
    "burst": _count,
    "revises": _revises,
    "deadline": _some_seconds,
}
