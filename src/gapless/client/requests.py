"""What Python callers ask for, as queries of the wire; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, TypeAlias

from gapless.errors import InvalidQuery
from gapless.protocol.language import LineQuery, parse_line, period_bounds
from gapless.protocol.messages import (
    Describe,
    Fresh,
    ProviderList,
    fresh_word,
    query_to_wire,
)
from gapless.protocol.paths import (
    COVERAGE_PATH,
    DATA_KEYS,
    SERIES_PATH,
    arrow_path,
    series_path,
)

Instant: TypeAlias = str | date | datetime
"""A bound of a range: a text of the wire (RFC 3339, `YYYY-MM-DD`, `now`, `-30d`), a date, or a
datetime with a time zone. Bare dates are days of the ticker's exchange."""
ParamValue: TypeAlias = str | int | float | bool

PROVIDERS: Mapping[str, Any] = {"type": "ProviderList"}
PING: Mapping[str, Any] = {"type": "Ping"}


def since(
    start: Instant | None, end: Instant | None, period: str | None
) -> tuple[Instant | None, Instant | None]:
    """Return the bounds of a range that may be said as a period, such as `1mo`, `ytd` or `max`.

    Raises `InvalidQuery` where both are said, or the period is none.
    """
    if period is None:
        return start, end
    if start is not None or end is not None:
        raise InvalidQuery("period= goes without start and end; give the one or the others")
    bounds = period_bounds(period) if isinstance(period, str) else None
    if bounds is None:
        raise InvalidQuery(
            f"period={str(period)[:60]!r}: expected a time back from now, such as '30d', '3mo', "
            "'1y', 'ytd' or 'max'"
        )
    return bounds


def range_search(
    provider: str,
    ticker: str,
    start: Instant | None,
    end: Instant | None,
    params: Mapping[str, ParamValue | None],
) -> dict[str, Any]:
    """Return the search for a range of a ticker; without bounds the last 30 days are meant."""
    _check_ticker(ticker)
    filters: list[dict[str, Any]] = [{"Ticker": ticker}]
    if start is not None or end is not None:
        bounds = {"start": bound(start, "start"), "end": bound(end, "end")}
        filters.append({"DateRange": bounds})
    for name, value in _given(params).items():
        filters.append({"Param": {"name": name, "value": value}})
    return to_provider(provider, {"SearchEntities": {"query": filters, "limit": None}})


def arrow_target(
    provider: str,
    ticker: str,
    start: Instant | None,
    end: Instant | None,
    params: Mapping[str, ParamValue | None],
    *,
    strict: bool,
    fresh: Fresh | None = None,
) -> str | None:
    """Return the same search as a path of the HTTP door; `None`: the path cannot say it."""
    given = _given(params)
    if not given.keys().isdisjoint(DATA_KEYS):
        return None
    own = {"start": start, "end": end}
    bounds = {name: bound(value, name) for name, value in own.items() if value is not None}
    if strict:
        bounds["strict"] = "true"
    if fresh is not None:
        bounds["fresh"] = fresh
    try:
        return arrow_path(provider, ticker, bounds, given)
    except UnicodeEncodeError:
        # Half a character; what is wrong with that is said where it is sent otherwise.
        return None


@dataclass(frozen=True, slots=True)
class SeriesRange:
    """A series, and a range of it; without bounds what the route takes that for."""

    provider: str
    ticker: str
    params: Mapping[str, ParamValue | None]
    start: Instant | None = None
    end: Instant | None = None

    def body(self) -> dict[str, Any]:
        """Return it as routes take it that plan and fetch."""
        self._check()
        named = {"provider": self.provider, "ticker": self.ticker, "params": _given(self.params)}
        return {**named, **self._bounds()}

    def coverage_path(self) -> str:
        """Return where HTTP tells what is known of the series."""
        return self._path(COVERAGE_PATH, {})

    def deletion_path(self) -> str:
        """Return what is deleted over HTTP to forget the range; without bounds all of it."""
        return self._path(SERIES_PATH, self._bounds())

    def _bounds(self) -> dict[str, str]:
        """Return the bounds that there are as the wire has them.

        All that there is, which is a range of two empty bounds elsewhere, ends now: to these
        routes that would be no range at all.
        """
        if self.start is None and self.end is None:
            return {}
        start, end = bound(self.start, "start"), bound(self.end, "end")
        return {"start": start, "end": end if start or end else "now"}

    def _path(self, prefix: str, bounds: Mapping[str, str]) -> str:
        self._check()
        try:
            values = {**bounds, **_given(self.params)}
            return series_path(prefix, self.provider, self.ticker, values)
        except UnicodeEncodeError as error:
            raise InvalidQuery("the request holds characters that are no valid UTF-8") from error

    def _check(self) -> None:
        _check_provider(self.provider)
        _check_ticker(self.ticker)


def fresh_of(value: object) -> Fresh | None:
    """Return how fresh an answer is wanted; raise `InvalidQuery` for what is none of the words."""
    return None if value is None else fresh_word(value)


@dataclass(frozen=True, slots=True)
class Stored:
    """What stored entities must have, all of it; `None` and no tags: anything."""

    id: str | None = None
    source: str | None = None
    state: str | None = None
    tags: Iterable[str] = ()
    url: str | None = None
    updated: tuple[Instant | None, Instant | None] | None = None


def stored_search(provider: str, wanted: Stored, limit: int | None) -> dict[str, Any]:
    """Return the search through what is stored of a provider."""
    named = {
        "ById": wanted.id,
        "BySource": wanted.source,
        "ByState": wanted.state,
        "ByUrl": wanted.url,
    }
    filters: list[dict[str, Any]] = [
        {kind: value} for kind, value in named.items() if value is not None
    ]
    if isinstance(wanted.tags, str):
        raise InvalidQuery(f"tags={wanted.tags!r}: expected a list of tags")
    if tags := list(wanted.tags):
        filters.append({"ByTags": tags})
    if wanted.updated is not None:
        since, until = wanted.updated
        bounds = {"start": bound(since, "updated"), "end": bound(until, "updated")}
        filters.append({"ByUpdatedAtRange": bounds})
    if not filters:
        raise InvalidQuery("say what to find: id, source, state, tags, url or updated")
    return to_provider(provider, {"SearchEntities": {"query": filters, "limit": limit}})


def to_provider(provider: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request to a provider as a query."""
    _check_provider(provider)
    return {"type": "ProviderRequest", "payload": {"provider": provider, "request": request}}


def describe(provider: str, ticker: str) -> dict[str, Any]:
    """Return the request for the facts of a ticker."""
    return query_of(Describe(provider, ticker))


def line_query(line: str) -> tuple[dict[str, Any], LineQuery]:
    """Return what a line of the query language asks, for the wire and parsed.

    It is read here, so that what is wrong with it is said at once, and so that hubs that do not
    know the language can be asked. Raises `InvalidQuery`.
    """
    parsed = parse_line(line)
    return query_of(parsed), parsed


def provider_line(line: str) -> str:
    """Return a line that begins with a provider's name, or with `provider`, as a whole one."""
    first = line.split(maxsplit=1)[:1]
    return line if first and first[0].lower() == "provider" else f"provider {line}"


def query_of(parsed: LineQuery) -> dict[str, Any]:
    """Return a query as the wire has it."""
    if not isinstance(parsed, ProviderList):
        _check_provider(parsed.provider)
    if isinstance(parsed, Describe):
        _check_ticker(parsed.ticker)
    # How fresh it is wanted is said beside it.
    return query_to_wire(parsed)


def bound(value: Instant | None, what: str) -> str:
    """Return a bound as the wire has it; `None` is an open end, the empty text.

    A datetime without a time zone is refused, unless it is a midnight: then it is that date.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if type(value).__name__ == "datetime64":
        # numpy's: it knows no time zone, and may be finer than a datetime, or coarser than a day.
        value = _of_numpy(str(value.astype("datetime64[us]")), what)  # type: ignore[attr-defined]
    if isinstance(value, datetime):
        if value != value:  # pandas' NaT is a datetime that is none
            raise InvalidQuery(f"{what}={value!r} is no time")
        if value.tzinfo is not None:
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        if value.time() != time():
            raise InvalidQuery(
                f"{what}={value!r} has no time zone; give it one, such as "
                "value.replace(tzinfo=datetime.UTC), or write it as a text"
            )
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    raise InvalidQuery(f"{what}={value!r}: expected a text, a date or a datetime")


def _of_numpy(text: str, what: str) -> datetime:
    try:
        return datetime.fromisoformat(text[:26])
    except ValueError:
        raise InvalidQuery(f"{what}={text!r} is no day or time") from None


def _check_provider(provider: object) -> None:
    if not isinstance(provider, str) or not provider:
        raise InvalidQuery(f"provider={provider!r}: expected a name such as 'yahoo_finance'")


def _check_ticker(ticker: object) -> None:
    if not isinstance(ticker, str) or not ticker:
        raise InvalidQuery(f"ticker={ticker!r}: expected a text such as 'AAPL'")


def _given(params: Mapping[str, ParamValue | None]) -> dict[str, str]:
    """Return the parameters that are given as the wire has them; `None` is the default."""
    return {name: _param(name, value) for name, value in params.items() if value is not None}


def _param(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    raise InvalidQuery(f"{name}={value!r}: expected a text, a number or a truth value")
