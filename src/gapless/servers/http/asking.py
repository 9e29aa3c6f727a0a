"""What a request for data asks: its path and query, read into a search and a form of answer.

Apart from answering, and pure, because the fast route and the documented one read it alike.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

import msgspec

from gapless.errors import InvalidQuery
from gapless.instants import format_instant
from gapless.protocol.messages import (
    DateRange,
    Filter,
    Param,
    ProviderRequest,
    SearchEntities,
    Ticker,
    fresh_word,
)
from gapless.protocol.paths import DATA_KEYS, DATA_PATH
from gapless.servers.http.formats import Format, negotiate

_TRUTH: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
_SUFFIXES: Final = frozenset(format.suffix.removeprefix(".") for format in Format)
_MOST_COLUMNS: Final = 1_000
_MOST_KEYS: Final = 100
_LONGEST_ACCEPT: Final = 1_000
_COUNT: Final = re.compile("[0-9]{1,18}")


class Cursor(msgspec.Struct, array_like=True, frozen=True):
    """Where a page begins: its range in milliseconds UTC, and of what it is a page.

    `changed` and `created` tell when its past changed last, by the commit, and when the series was
    made; `whose` its name, if not for certain.
    """

    start: int
    end: int
    changed: int
    created: int
    whose: int

    def text(self) -> str:
        """Return it as clients hand it back, unread."""
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class DataRequest:
    """A request for the records of a series.

    `columns` empty: all. `limit` is the most records of one answer. `gzip`: the client takes it.
    """

    query: ProviderRequest
    format: Format
    columns: tuple[str, ...]
    strict: bool
    limit: int
    cursor: Cursor | None
    gzip: bool

    @property
    def plain(self) -> bool:
        """Whether its answer is the records' own text, in one piece and as it lies in memory."""
        return self.format is Format.JSON and not self.columns and not self.gzip


def read(
    raw_path: bytes,
    query_string: bytes,
    accept: str | None,
    accept_encoding: str | None,
    most_records: int,
) -> DataRequest:
    """Read a request for data; raise `InvalidQuery` for what makes no sense.

    A key that is none of ours is a parameter of the provider.
    """
    if len(accept or "") > _LONGEST_ACCEPT:
        raise InvalidQuery(f"Accept has {_LONGEST_ACCEPT:,} characters at the most")
    provider, ticker, suffix = _path(raw_path)
    values = query_of(query_string)
    asked = values.pop("format", None)
    if asked is None:
        asked = suffix
    elif suffix is not None:
        ticker = f"{ticker}.{suffix}"
    limit = _limit(values.pop("limit", None), most_records)
    strict = _strict(values.pop("strict", "false"))
    said = values.pop("fresh", None)
    fresh = None if said is None else fresh_word(said)
    columns = _columns(values.pop("columns", None))
    cursor_text = values.pop("cursor", None)
    start, end = values.pop("start", None), values.pop("end", None)
    whose = _whose(provider, ticker, values)
    cursor = None if cursor_text is None else _cursor(cursor_text, whose)
    if cursor is not None:
        start, end = format_instant(cursor.start), format_instant(cursor.end)
    filters: list[Filter] = [Ticker(ticker)]
    if start is not None or end is not None:
        filters.append(DateRange(start or "", end or ""))
    filters.extend(Param(name, value) for name, value in values.items())
    format = negotiate(accept, asked)
    return DataRequest(
        ProviderRequest(provider, SearchEntities(tuple(filters), None), fresh),
        format,
        columns,
        strict,
        limit,
        cursor,
        format.is_text and takes_gzip(accept_encoding),
    )


def next_page(
    raw_path: bytes, query_string: bytes, start: int, end: int, changed: int, created: int
) -> tuple[str, str]:
    """Return the cursor of the page that begins at `start`, and its path and query."""
    provider, ticker, suffix = _path(raw_path)
    values = query_of(query_string)
    if suffix is not None and "format" in values:
        ticker = f"{ticker}.{suffix}"
    params = {name: value for name, value in values.items() if name not in DATA_KEYS}
    cursor = Cursor(start, end, changed, created, _whose(provider, ticker, params)).text()
    if values.get("fresh") == "now":
        # It has been fetched anew for the page before.
        del values["fresh"]
    path = quote(unquote(raw_path.decode("ascii")), safe="/:@!$&'()*+,;=~")
    return cursor, f"{path}?{urlencode({**values, 'cursor': cursor})}"


def path_of(raw_path: bytes, prefix: str) -> tuple[str, str]:
    """Return the provider and the ticker in a path behind `prefix`, a ticker's slashes included."""
    text = raw_path.decode("ascii", "replace")
    if not text.startswith(prefix):
        raise InvalidQuery(f"write the path plainly, as {prefix}PROVIDER/TICKER")
    provider, slash, rest = text.removeprefix(prefix).partition("/")
    ticker = _decoded(rest, "ticker")
    if not slash or not ticker:
        raise InvalidQuery(f"expected {prefix}PROVIDER/TICKER; the ticker is missing")
    return _decoded(provider, "provider"), ticker


def takes_gzip(accept_encoding: str | None) -> bool:
    """Whether a client that sends this header wants gzip (RFC 9110, 12.5.3)."""
    if not accept_encoding:
        return False
    everything = False
    for item in accept_encoding.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        wanted = not any(_is_zero(parameter) for parameter in parameters)
        if name in ("gzip", "x-gzip"):
            return wanted
        if name == "*":
            everything = wanted
    return everything


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0") in ("", "0", "0.", ".")


def _path(raw_path: bytes) -> tuple[str, str, str | None]:
    """Return provider, ticker without a known suffix, and the suffix without its dot."""
    provider, ticker = path_of(raw_path, DATA_PATH)
    stem, dot, suffix = ticker.rpartition(".")
    if dot and stem and suffix.lower() in _SUFFIXES:
        return provider, stem, suffix
    return provider, ticker, None


def _decoded(text: str, what: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidQuery(f"the {what} in the path is no UTF-8") from None


def query_of(query_string: bytes) -> dict[str, str]:
    """Return the keys of a query; raise `InvalidQuery` for one that is given twice."""
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_KEYS,
        )
    except UnicodeDecodeError:
        raise InvalidQuery("the query is no percent-encoded UTF-8") from None
    except ValueError:
        raise InvalidQuery(f"the query has more than {_MOST_KEYS} keys") from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise InvalidQuery(f"{name[:60]!r} is given twice in the query")
        values[name] = value
    return values


def _limit(text: str | None, most: int) -> int:
    if text is None:
        return most
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= most:
        raise InvalidQuery(f"limit={text[:60]}: expected a whole number from 1 to {most:,}")
    return int(text)


def _strict(text: str) -> bool:
    try:
        return _TRUTH[text.lower()]
    except KeyError:
        raise InvalidQuery(f"strict={text[:60]}: expected true or false") from None


def _columns(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    columns = tuple(text.split(","))
    if "" in columns or len(set(columns)) < len(columns) or len(columns) > _MOST_COLUMNS:
        raise InvalidQuery(
            f"columns={text[:60]}: expected names with commas between them, each once"
        )
    return columns


def _whose(provider: str, ticker: str, params: Mapping[str, str]) -> int:
    """Return a number that tells requests for different series apart, if not for certain."""
    return zlib.crc32(repr((provider, ticker, sorted(params.items()))).encode("utf-8", "replace"))


def _cursor(text: str, whose: int) -> Cursor:
    try:
        padded = text + "=" * (-len(text) % 4)
        cursor = msgspec.msgpack.decode(
            base64.b64decode(padded, altchars=b"-_", validate=True), type=Cursor
        )
        format_instant(cursor.start)
        format_instant(cursor.end)
    except (binascii.Error, msgspec.DecodeError, ValueError, OverflowError):
        raise InvalidQuery(
            f"cursor={text[:60]}: it is none of this hub's; take it from the link of a page"
        ) from None
    if cursor.whose != whose or cursor.start >= cursor.end:
        raise InvalidQuery(
            "this cursor is of another series; follow the link of the page before as it is"
        )
    return cursor
