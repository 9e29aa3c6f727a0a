"""Series keys, and the ids and tags of their ranges: each in one canonical spelling."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

from gapless.domain.intervals import Interval
from gapless.instants import format_instant

# What would break an id apart, or a params string (stitching rule 20).
_RESERVED = re.compile(r"[:?%\s&=\x00-\x1f\x7f]")


def quote(text: str) -> str:
    """Return `text` with what has a meaning in ids percent-encoded; letters stay readable."""
    return _RESERVED.sub(
        lambda match: "".join(f"%{byte:02X}" for byte in match.group().encode()), text
    )


@dataclass(frozen=True, slots=True, order=True)
class SeriesKey:
    """Provider, canonical ticker, and the parameters that are not at their default.

    `params` is sorted by name. Two keys are equal exactly if they mean the same history, for
    providers canonicalise tickers and aliases before a key is made.
    """

    provider: str
    ticker: str
    params: tuple[tuple[str, str], ...] = ()
    text: str = field(init=False, compare=False, repr=False, default="")
    _hash: int = field(init=False, compare=False, repr=False, default=0)

    def __hash__(self) -> int:
        return self._hash

    def __post_init__(self) -> None:
        """Spell and hash it once: it begins every id of the series, and is looked up by often."""
        query = self.query
        spelled = f"{self.provider}:{quote(self.ticker)}" + (f"?{query}" if query else "")
        object.__setattr__(self, "text", spelled)
        object.__setattr__(self, "_hash", hash((self.provider, self.ticker, self.params)))

    @classmethod
    def of(cls, provider: str, ticker: str, params: Mapping[str, str]) -> SeriesKey:
        """Make a key from a mapping of the parameters that are not at their default."""
        return cls(provider, ticker, tuple(sorted(params.items())))

    def sibling(self, params: tuple[tuple[str, str], ...]) -> SeriesKey:
        """Return the key of another series of the same ticker."""
        return SeriesKey(self.provider, self.ticker, params)

    @property
    def query(self) -> str:
        """The parameters as `name=value&name=value`, percent-encoded; empty at the defaults."""
        return "&".join(f"{quote(name)}={quote(value)}" for name, value in self.params)

    def param(self, name: str, default: str) -> str:
        """Return the value of a parameter, or `default` where it is at its default."""
        for known, value in self.params:
            if known == name:
                return value
        return default


class ViewId(NamedTuple):
    """The parts of `SOURCE:TICKER[?params]:FROM..TO`, decoded, the bounds still text."""

    source: str
    ticker: str
    params: tuple[tuple[str, str], ...]
    start: str
    end: str


_VIEW = re.compile(r"(?P<source>[^:?]+):(?P<ticker>[^:?]+)(?:\?(?P<params>[^:?]*))?:(?P<range>.+)")


def parse_view_id(text: str) -> ViewId | None:
    """Take the id of a view apart; `None` where `text` is not spelled as one."""
    match = _VIEW.fullmatch(text)
    if match is None:
        return None
    start, dots, end = match["range"].partition("..")
    if not dots or not start or not end:
        return None
    pairs = []
    for pair in (match["params"] or "").split("&"):
        if pair:
            name, equals, value = pair.partition("=")
            if not equals:
                return None
            pairs.append((unquote(name), unquote(value)))
    return ViewId(match["source"], unquote(match["ticker"]), tuple(sorted(pairs)), start, end)


def span_text(interval: Interval) -> str:
    """Return `FROM..TO` as ids spell it."""
    return f"{format_instant(interval.start)}..{format_instant(interval.end)}"


def tags_text(key: SeriesKey, interval: Interval) -> str:
    """Return an entity's tags, a JSON array as text."""
    first, rest = tags_around(key)
    return f'{first}{format_instant(interval.start)}","to={format_instant(interval.end)}{rest}'


def tags_around(key: SeriesKey) -> tuple[str, str]:
    """Return what stands before the first instant in the tags of a series, and after the last."""
    ticker = msgspec.json.encode(f"ticker={key.ticker}").decode()
    params = "".join(
        "," + msgspec.json.encode(f"{name}={value}").decode() for name, value in key.params
    )
    return f'[{ticker},"from=', f'"{params}]'
