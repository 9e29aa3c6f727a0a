r"""Any HTTP API that answers with JSON, told by a TOML file, as a provider of histories.

The file is JSON_HTTP_CONFIG of the hub's environment, or else `json_http.toml` beside this one.
Load it into a running hub, and ask:

    curl -X POST http://127.0.0.1:7070/plugins/load -H 'Content-Type: application/json' \
      -d "{\"file\": \"$PWD/examples/providers/json_http.py\"}"
    gapless query 'provider frankfurter search ticker=USD date=2024-01-01..2025-01-01 quote=GBP'

A second source is a file of two lines beside this one, loaded in the same way:

    import json_http
    class Provider(json_http.Provider): config = "coins.toml"

What the TOML file holds, each key but `url` optional:

    name, title     what it is called
    url             with {ticker}, {start}, {end} and the names of parameters; in its path and
                    query only, and encoded by themselves
    bounds          how {start} and {end} are written: date, iso, s, ms (Unix seconds or
                    milliseconds), or a pattern such as "%Y%m%d"
    end_included    whether the API's ranges include their end (true)
    not_found       what status 404 means: unknown_ticker, or empty where the API says so of a
                    range without records
    records         path to the records in the answer, such as "data.prices"; "" is all of it
    time            path to the time in a record, such as "date" or "0"; "" where `records` is an
                    object whose keys are the times
    times           how times are written, as in `bounds`; iso, which dates are too, if left out
    numbers         whether texts that are numbers become numbers (false)
    [fields]        a record's columns, each with its path in what the API gives; all if left out
    [params.NAME]   default, choices, aliases, help
    [headers]       of the request; $NAME is taken from the hub's environment
    timeout_s, max_bytes                          of one answer (15 s, 64 MiB)
    rate, burst, max_span, look_back, final_after, refresh_after, data_start, data_end, revises
                    are handed to the hub as they are; docs/providers.md tells what they do

Paths go through objects by key and through arrays by number: "items.0.close". {ticker} and the
parameters may stand in them.
"""

from __future__ import annotations

import json
import os
import string
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from curl_cffi import CurlOpt
from curl_cffi.requests import AsyncSession
from curl_cffi.requests.exceptions import RequestException
from curl_cffi.requests.models import Response

FOR_THE_HUB = {
    *("rate", "burst", "max_span", "look_back", "final_after", "refresh_after"),
    *("data_start", "data_end", "revises"),
}
UNITS = {
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "iso": timedelta(milliseconds=1),
}
TOO_LARGE = 63  # CURLE_FILESIZE_EXCEEDED


class Failed(Exception):
    """The API cannot serve it; `reason` and `retry_after_s` make it one of the hub's own errors."""

    def __init__(self, reason: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What the TOML file says, but for what is the hub's alone."""

    url: str
    name: str = "json_http"
    title: str = "JSON over HTTP"
    bounds: str = "date"
    end_included: bool = True
    not_found: str = "unknown_ticker"
    records: str = ""
    time: str = ""
    times: str = "iso"
    numbers: bool = False
    timeout_s: float = 15.0
    max_bytes: int = 64 << 20
    fields: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Provider:
    """The ranged contract over one source."""

    config: str | None = None

    def __init__(self) -> None:
        name = self.config or os.environ.get("JSON_HTTP_CONFIG") or "json_http.toml"
        path = Path(__file__).parent / name
        told = tomllib.loads(path.read_text("utf-8"))
        self.for_the_hub = {key: told.pop(key) for key in FOR_THE_HUB & told.keys()}
        self.source = source_of(told, path)
        self.headers = headers_of(self.source, path)

    def describe(self) -> dict[str, Any]:
        """Say what this provider is; the hub asks once, when it loads it."""
        params = [{"name": name, **about} for name, about in self.source.params.items()]
        return {
            "name": self.source.name,
            "title": self.source.title,
            "params": params,
            "deadline": self.source.timeout_s + 5,
            **self.for_the_hub,
        }

    async def fetch(
        self, ticker: str, start: datetime, end: datetime, **params: str
    ) -> list[dict[str, Any]]:
        """Ask the API once; return the records of `[start, end)`."""
        source = self.source
        if ticker in (".", ".."):  # they would lead to another place of the API
            raise Failed("unknown_ticker", f"{ticker!r} is no ticker")
        names = {"ticker": ticker, **params}
        last = end - timedelta(milliseconds=1)
        if not source.end_included:
            # One unit further, so that what is cut off in writing it is not cut off the range.
            last += UNITS.get(source.bounds, timedelta(days=1))
        url = source.url.format(
            **{name: quote(value, safe="") for name, value in names.items()},
            start=quote(written(start, source.bounds), safe=""),
            end=quote(written(last, source.bounds), safe=""),
        )
        answer = await self._ask(url)
        if answer is None:
            return []
        try:
            return sorted(
                (
                    {"timestamp": moment, **row}
                    for moment, row in rows(answer, source, names)
                    if start <= moment < end
                ),
                key=lambda row: row["timestamp"],
            )
        except (LookupError, TypeError, ValueError) as error:
            raise Failed(
                "upstream_rejected",
                f"{source.name} answered with something else than its TOML file tells: "
                f"{error}; it begins: {json.dumps(answer)[:200]}",
            ) from error

    async def _ask(self, url: str) -> Any:
        """Return what the API answers, `None` if that is known to be nothing."""
        source = self.source
        options = {CurlOpt.MAXFILESIZE_LARGE: source.max_bytes}
        # A session a request: the few that gaps need are not worth one that has to be kept well.
        session: AsyncSession[Response] = AsyncSession(
            headers={"User-Agent": "gapless", **self.headers},
            timeout=source.timeout_s,
            curl_options=options,
        )
        try:
            async with session:
                response = await session.get(url, allow_redirects=False)
        except RequestException as error:
            if error.code == TOO_LARGE:
                raise Failed(
                    "upstream_rejected",
                    f"{source.name} answered with more than {source.max_bytes:,} bytes "
                    "(max_bytes); set max_span, so that less is asked for at once",
                ) from error
            # curl's text names host and cause; the URL, which may hold a key, is left out.
            raise Failed("upstream_unavailable", f"{source.name}: {error}") from error
        if response.status_code == 404 and source.not_found == "empty":
            return None
        refuse(response, source.name)
        try:
            return json.loads(response.content)
        except ValueError as error:
            raise Failed(
                "upstream_unavailable", f"{source.name} answered with what is no JSON: {error}"
            ) from error


def source_of(told: Mapping[str, Any], path: Path) -> Source:
    """Return what a TOML file tells; raise `ValueError` that names what is wrong with it."""
    known = {one.name for one in fields(Source)}
    unknown = sorted(told.keys() - known)
    if unknown:
        listed = ", ".join(sorted(known | FOR_THE_HUB))
        raise ValueError(f"{path}: {', '.join(unknown)} means nothing; there are: {listed}")
    if "url" not in told:
        raise ValueError(f"{path}: url is missing")
    source = Source(**told)
    scheme, host, *_ = urlsplit(source.url)
    if scheme not in ("http", "https") or not host or "{" in host:
        raise ValueError(f"{path}: url should begin with http:// or https:// and a plain host")
    allowed = {"ticker", *source.params}
    for text in (source.url, source.records, source.time, *source.fields.values()):
        here = allowed | {"start", "end"} if text is source.url else allowed
        for _, name, *_ in string.Formatter().parse(text):
            if name is not None and name not in here:
                raise ValueError(f"{path}: {{{name}}} in {text!r}; there are: {sorted(here)}")
    return source


def headers_of(source: Source, path: Path) -> dict[str, str]:
    """Return the headers with what they take from the environment, such as a key."""
    try:
        return {
            name: string.Template(value).substitute(os.environ)
            for name, value in source.headers.items()
        }
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: [headers] need {error} in the hub's environment") from None


def refuse(response: Response, name: str) -> None:
    """Raise `Failed` unless the answer is a success."""
    status = response.status_code
    if 200 <= status < 300:
        return
    after = retry_after(response.headers.get("retry-after"))
    said = f"{name} answered with status {status}"
    if status == 404:
        raise Failed("unknown_ticker", f"{said}: it has no such ticker")
    if status == 429:
        raise Failed("rate_limited", f"{said}: it is asked too often", after)
    if status >= 500:
        raise Failed("upstream_unavailable", said, after)
    if 300 <= status < 400:
        where = str(response.headers.get("location")).partition("?")[0][:100]
        raise Failed("upstream_rejected", f"{said}: it sends on to {where}; change url to that")
    raise Failed("upstream_rejected", f"{said}: {response.text[:200]}")


def retry_after(text: str | None) -> float | None:
    """Return the seconds that a Retry-After header means, given as such or as a date."""
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def rows(
    answer: Any, source: Source, names: Mapping[str, str]
) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """Yield time and columns of each record of an answer."""
    records = at(answer, source.records, names)
    pairs: Iterator[tuple[Any, Any]]
    if source.time and isinstance(records, list):
        pairs = ((at(one, source.time, names), one) for one in records)
    elif isinstance(records, dict) and not source.time:
        pairs = iter(records.items())
    else:
        wanted = "array" if source.time else "object"
        raise TypeError(f"{source.records or 'all of it'} should be an {wanted}")
    # The column that holds the time is told as the time already.
    time_key = source.time.partition(".")[0]
    for moment, one in pairs:
        if source.fields:
            row = {name: at(one, path, names) for name, path in source.fields.items()}
        elif isinstance(one, dict):
            row = {name: value for name, value in one.items() if name != time_key}
        else:
            row = {"value": one}
        if source.numbers:
            row = {name: number(value) for name, value in row.items()}
        yield read(moment, source.times), row


def at(value: Any, path: str, names: Mapping[str, str]) -> Any:
    """Return what lies at a path; raise `LookupError` that names the path."""
    for step in path.split(".") if path else ():
        key = step.format_map(names)
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (LookupError, TypeError, ValueError):
            raise LookupError(f"there is no {key!r} of {path!r}") from None
    return value


def number(value: Any) -> Any:
    """Return a text that is a number as one."""
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return value


def written(moment: datetime, how: str) -> str:
    """Write an instant as the API wants it."""
    match how:
        case "date":
            return moment.strftime("%Y-%m-%d")
        case "iso":
            return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case "s":
            return str(int(moment.timestamp()))
        case "ms":
            return str(round(moment.timestamp() * 1000))
        case _:
            return moment.strftime(how)


def read(value: Any, how: str) -> datetime:
    """Read a time as the API writes it; without an offset it is UTC."""
    match how:
        case "date" | "iso":
            moment = datetime.fromisoformat(value)
        case "s":
            moment = datetime.fromtimestamp(float(value), UTC)
        case "ms":
            moment = datetime.fromtimestamp(float(value) / 1000, UTC)
        case _:
            moment = datetime.strptime(value, how)  # noqa: DTZ007  # made aware below
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
