"""The query language: one line of text to a typed query and back.

Apart because the shell, `gapless query` and the server's `Line` must read the same line alike. An
error shows the line with a mark under the word it is about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeAlias

from msgspec.structs import astuple

from gapless.errors import InvalidQuery
from gapless.protocol.messages import (
    FILTERS,
    FRESH_WORDS,
    MAX_COUNT,
    QUERIES,
    REQUESTS,
    Filter,
    Fresh,
    GetAllEntities,
    GetEntities,
    GetEntity,
    GetReport,
    Param,
    ProviderList,
    ProviderRequest,
    Request,
    SearchEntities,
    Ticker,
    ToProvider,
)
from gapless.protocol.times import ALL, THIS_YEAR, check_range, parse_instant, parse_range

LineQuery: TypeAlias = ProviderList | ToProvider

# A report comes last: hardly any provider has one.
_SPOKEN: Final = {
    one.verb: one
    for one in sorted((*REQUESTS, *QUERIES), key=lambda one: one is GetReport)
    if one.verb is not None
}
_KEYED: Final = {one.key: one for one in FILTERS if one.key is not None}
_KINDS: Final[Mapping[str, Any]] = MappingProxyType(
    {verb.text: one for verb, one in _SPOKEN.items()}
)
_FILTERS: Final[Mapping[str, Any]] = MappingProxyType(
    {key.text: one for key, one in _KEYED.items()}
)

# What each verb takes, as help and completion show it.
VERB_SYNTAX: Final[Mapping[str, str]] = MappingProxyType(
    {verb.text: verb.about for verb in _SPOKEN}
)
VERBS: Final = tuple(VERB_SYNTAX)
VERB_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {alias: verb.text for verb in _SPOKEN for alias in verb.aliases}
)
# What may be said of a search, and what it is about.
KEYS_ABOUT: Final[Mapping[str, str]] = MappingProxyType(
    {key.text: key.about for key in _KEYED}
    | {
        "limit": "the most entities",
        "fresh": "of a range: held, check (what is due) or now (anew)",
    }
)
SEARCH_KEYS: Final = tuple(KEYS_ABOUT)
KEY_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {alias: key.text for key in _KEYED for alias in key.aliases}
)
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_LAST: Final = re.compile(r"-?([0-9]+(?:[smhdwySHDWY]|[mM][oO]))")
_COUNT: Final = re.compile(r"[0-9]{1,19}")
_QUOTES: Final = ("'", '"')
_ESCAPABLE: Final = ('"', "\\", ",")
_CONTEXT_CHARS: Final = 60  # shown on either side of a mark, so that an error fits a screen


@dataclass(frozen=True, slots=True)
class _Token:
    """A word: its text without quotes, which of its characters were escaped, and its place."""

    text: str
    escaped: Sequence[bool]
    start: int
    end: int

    def after(self, at: int) -> _Token:
        """Return the text from there on; errors about it still point at the whole word."""
        return _Token(self.text[at:], self.escaped[at:], self.start, self.end)

    def items(self) -> tuple[str, ...]:
        """Split at the commas that are not escaped."""
        cuts = [i for i, c in enumerate(self.text) if c == "," and not self.escaped[i]]
        starts, ends = [0, *(i + 1 for i in cuts)], [*cuts, len(self.text)]
        return tuple(self.text[i:j] for i, j in zip(starts, ends, strict=True))


class LineError(InvalidQuery):
    """A line of the query language makes no sense; `start` and `end` say where, in characters.

    Where it only ends too early both lie behind its last word.
    """

    def __init__(self, message: str, start: int, end: int) -> None:
        super().__init__(message)
        self.start = start
        self.end = end

    def __reduce__(self) -> tuple[object, ...]:
        """Return what it is made of, for copies."""
        return type(self), (self.message, self.start, self.end)


def period_bounds(text: str) -> tuple[str, str] | None:
    """Return the bounds of a time back from now, such as `30d`, `3mo`, `1y`, `ytd` or `max`.

    `None`: it has no such form.
    """
    if (last := _LAST.fullmatch(text)) is not None:
        return f"-{last[1]}", "now"
    return (text.lower(), "now") if text.lower() in (ALL, THIS_YEAR) else None


def parse_line(line: str, *, now_ms: int | None = None) -> LineQuery:
    """Read one line of the query language.

    Bounds of ranges are checked as far as is possible without a clock and stay texts; with
    `now_ms` (milliseconds UTC) it is also checked that start < end. Raises LineError, which is an
    InvalidQuery that says what was expected and shows where.
    """
    return _Parser(line, now_ms).query()


def range_bounds(text: str) -> tuple[str, str] | None:
    """Return the bounds that a text has as a range: `A..B`, or a time back from now.

    What they say is not read; either may be empty. `None`: it has the form of neither.
    """
    start, separator, end = text.partition("..")
    if separator:
        return start, end
    return period_bounds(text)


class _Parser:
    def __init__(self, line: str, now_ms: int | None) -> None:
        self._line = line
        self._now_ms = now_ms
        self._tokens = self._tokenize()
        self._next = 0
        self._fresh: Fresh | None = None

    def query(self) -> LineQuery:
        first = self._take("`providers` or `provider NAME VERB …`")
        word = first.text.lower()
        if word == "providers":
            self._end("`providers` takes nothing more")
            return ProviderList()
        if word != "provider":
            self._fail(first, f"expected `providers` or `provider`, found `{_cut(first.text)}`")
        name = self._take("a provider's name, or `list`")
        if name.text.lower() == "list" and self._next == len(self._tokens):
            return ProviderList()
        verbs = ", ".join(VERBS)
        verb = self._take(f"one of {verbs}")
        verb_name = verb.text.lower()
        kind = _KINDS.get(VERB_ALIASES.get(verb_name, verb_name))
        if kind is None:
            self._fail(verb, f"expected one of {verbs}, found `{_cut(verb.text)}`")
        readers: Mapping[type, Callable[[], Request]] = {
            GetEntity: self._get,
            GetEntities: self._get_many,
            GetAllEntities: self._all,
            SearchEntities: self._search,
            GetReport: self._report,
        }
        read = readers.get(kind)
        if read is None:
            return self._one_text(name.text, kind)
        # What is read of it has the word that says how fresh it is wanted.
        asked = read()
        return ProviderRequest(name.text, asked, self._fresh)

    def _one_text(self, provider: str, kind: Any) -> ToProvider:
        """Read what takes a single text, by itself or as that of its field."""
        what = kind.__struct_fields__[-1]
        token = self._take(f"a {what}")
        self._end(f"`{kind.verb.text}` takes one {what}")
        key, separator, text = token.text.partition("=")
        text = text if separator and key.lower() == what else token.text
        if kind in REQUESTS:
            return ProviderRequest(provider, kind(text))
        asked: ToProvider = kind(provider, text)
        return asked

    def _get(self) -> GetEntity:
        token = self._take("an entity's id")
        self._end("`get` takes one id; for more, use get-many ID1,ID2")
        return GetEntity(token.text)

    def _get_many(self) -> GetEntities:
        token = self._take("ids, as ID1,ID2")
        self._end("`get-many` takes one list of ids, with commas and no spaces between them")
        return GetEntities(self._list(token, "id"))

    def _all(self) -> GetAllEntities:
        counts: dict[str, int] = {}
        while self._next < len(self._tokens):
            token = self._take("limit=N or offset=N")
            key, value = self._key_value(token, "limit=N or offset=N")
            if key not in ("limit", "offset"):
                self._fail(token, f"expected limit=N or offset=N, found `{_cut(token.text)}`")
            self._count(token, key, value, counts)
        return GetAllEntities(counts.get("limit"), counts.get("offset"))

    def _search(self) -> SearchEntities:
        filters: list[Filter] = []
        counts: dict[str, int] = {}
        while self._next < len(self._tokens):
            token = self._take("a filter, as KEY=VALUE")
            key, value = self._key_value(token, "a filter, as KEY=VALUE")
            if key == "limit":
                self._count(token, key, value, counts)
            elif key == "fresh":
                self._say_fresh(token, value)
            else:
                filters.append(self._filter(key, value))
        if self._fresh is not None and not any(isinstance(one, Ticker) for one in filters):
            self._fail(None, "`fresh` goes with a range; expected ticker=… as well")
        if not filters:
            self._fail(
                None, "`search` needs at least one filter, such as ticker=AAPL, source= or tags="
            )
        return SearchEntities(tuple(filters), counts.get("limit"))

    def _say_fresh(self, token: _Token, value: _Token) -> None:
        if self._fresh is not None:
            self._fail(token, "`fresh` is there more than once")
        for word in FRESH_WORDS:
            if value.text == word:
                self._fresh = word
                return
        words = ", ".join(f"fresh={word}" for word in FRESH_WORDS)
        self._fail(token, f"expected one of {words}, found `{_cut(token.text)}`")

    def _report(self) -> GetReport:
        token = self._take("url=URL, or the bare URL")
        self._end("`report` takes one URL; put one with spaces in quotes")
        key, separator, url = token.text.partition("=")
        if not separator or key.lower() not in ("url", "record"):
            url = token.text
        if not url:
            self._fail(token, "expected a URL, as url=URL")
        return GetReport(url)

    def _filter(self, key: str, value: _Token) -> Filter:
        kind = _FILTERS.get(key)
        if kind is None:
            return Param(key, value.text)
        match kind.__struct_fields__:
            case ("start", "end"):
                found: Filter = kind(*self._range(key, value))
            case ("values",):
                found = kind(self._list(value, key.removesuffix("s")))
            case _:
                found = kind(value.text)
        return found

    def _range(self, key: str, value: _Token) -> tuple[str, str]:
        bounds = range_bounds(value.text)
        if bounds is None:
            self._fail(
                value,
                f"expected {key}=A..B with dates or instants, such as "
                f"{key}=2025-01-01..2025-02-01, or a time back from now, such as {key}=30d, "
                f"{key}=3mo, {key}=1y, {key}=ytd or {key}=max",
            )
        start, end = bounds
        try:
            if self._now_ms is not None:
                check = check_range if key == "date" else parse_range
                check(start, end, now_ms=self._now_ms)
            else:
                for text, what in ((start, "start"), (end, "end")):
                    if text and (text.lower(), what) != (ALL, "start"):
                        parse_instant(text, now_ms=0, what=what)
        except InvalidQuery as error:
            self._fail(value, error.message)
        return start, end

    def _list(self, token: _Token, what: str) -> tuple[str, ...]:
        items = token.items()
        if "" in items:
            self._fail(token, f"expected a list with commas, such as A,B; one {what} is empty")
        return items

    def _count(self, token: _Token, key: str, value: _Token, counts: dict[str, int]) -> None:
        if key in counts:
            self._fail(token, f"`{key}` is there more than once")
        if _COUNT.fullmatch(value.text) is None or int(value.text) > MAX_COUNT:
            self._fail(
                token,
                f"expected {key}=N with an integer from 0 to {MAX_COUNT}, "
                f"found `{_cut(value.text)}`",
            )
        counts[key] = int(value.text)

    def _key_value(self, token: _Token, expected: str) -> tuple[str, _Token]:
        key, separator, _ = token.text.partition("=")
        if not separator or _KEY.fullmatch(key) is None:
            self._fail(token, f"expected {expected}, found `{_cut(token.text)}`")
        lowered = key.lower()
        return KEY_ALIASES.get(lowered, lowered), token.after(len(key) + 1)

    def _take(self, expected: str) -> _Token:
        if self._next >= len(self._tokens):
            self._fail(None, f"the line ends too early; expected {expected}")
        self._next += 1
        return self._tokens[self._next - 1]

    def _end(self, message: str) -> None:
        if self._next < len(self._tokens):
            self._fail(self._tokens[self._next], message)

    def _tokenize(self) -> list[_Token]:
        tokens: list[_Token] = []
        line, at = self._line, 0
        while at < len(line):
            if line[at].isspace():
                at += 1
                continue
            token = self._word(at)
            tokens.append(token)
            at = token.end
        return tokens

    def _word(self, start: int) -> _Token:
        r"""Read up to the next space outside quotes.

        A quote opens only where a value can begin, so that O'Neil stays a word. Within double
        quotes a backslash escapes a quote, a backslash or a comma, and is itself before anything
        else, so that C:\data needs no care.
        """
        line, at = self._line, start
        text: list[str] = []
        escaped: list[bool] = []
        quote, opened = "", start
        while at < len(line):
            char = line[at]
            if quote and char == quote:
                quote = ""
            elif quote == '"' and char == "\\" and line[at + 1 : at + 2] in _ESCAPABLE:
                at += 1
                text.append(line[at])
                escaped.append(True)
            elif not quote and char.isspace():
                break
            elif not quote and char in _QUOTES and (at == start or line[at - 1] in "=,"):
                quote, opened = char, at
            else:
                text.append(char)
                escaped.append(False)
            at += 1
        if quote:
            self._fail(_Token("", (), opened, opened + 1), f"the quote {quote} is not closed")
        return _Token("".join(text), escaped, start, at)

    def _fail(self, token: _Token | None, message: str) -> NoReturn:
        line = self._line
        start = token.start if token is not None else len(line.rstrip())
        end = token.end if token is not None else start + 1
        left = max(0, start - _CONTEXT_CHARS)
        right = min(len(line), start + _CONTEXT_CHARS)
        shown = "".join(c if c.isprintable() else " " for c in line[left:right])
        before, after = "…" * (left > 0), "…" * (right < len(line))
        mark = " " * (len(before) + start - left) + "^" * max(1, min(end, right) - start)
        raise LineError(f"{message}\n  {before}{shown}{after}\n  {mark}", start, end)


def format_line(query: LineQuery) -> str:
    """Write a query as a line that `parse_line` reads as the same query.

    Raises InvalidQuery for what the language cannot say: a search without filters, a range whose
    bounds are no instants, an empty item in a list, a parameter named like a filter or not in
    lower case, a report without a URL.
    """
    if isinstance(query, ProviderList):
        return "providers"
    line = f"provider {_word(query.provider)} "
    if isinstance(query, ProviderRequest):
        line += _verb_words(query.request)
        line += "" if query.fresh is None else f" fresh={query.fresh}"
    else:
        line += _verb_words(query)
    try:
        same = parse_line(line) == query
    except InvalidQuery as error:
        raise InvalidQuery(f"the query language cannot say this: {error.message}") from None
    if not same:
        raise InvalidQuery(f"the query language cannot say this; {_cut(line)} means another query")
    return line


def _verb_words(asked: Request | ToProvider) -> str:
    assert asked.verb is not None
    verb = asked.verb.text
    match asked:
        case GetAllEntities(limit, offset):
            return " ".join([verb, *_counts(limit=limit, offset=offset)])
        case SearchEntities(query, limit):
            return " ".join([verb, *map(_filter_words, query), *_counts(limit=limit)])
        case GetReport(url):
            return f"{verb} url={_word(url)}"
    return f"{verb} {_said(astuple(asked)[-1])}"


def _filter_words(item: Filter) -> str:
    if isinstance(item, Param):
        return f"{item.name}={_word(item.value)}"
    assert item.key is not None
    values = astuple(item)
    return f"{item.key.text}={_said(values[0]) if len(values) == 1 else '..'.join(values)}"


def _said(value: str | tuple[str, ...]) -> str:
    return _words(value) if isinstance(value, tuple) else _word(value)


def _counts(**counts: int | None) -> list[str]:
    return [f"{key}={value}" for key, value in counts.items() if value is not None]


def _words(texts: Sequence[str]) -> str:
    return ",".join(_word(text, special=_ESCAPABLE) for text in texts)


def _word(text: str, *, special: Sequence[str] = _ESCAPABLE[:2]) -> str:
    """Write a value, in quotes where it would be read otherwise without them."""
    if text and not any(c.isspace() or c in _QUOTES or (c == "," in special) for c in text):
        return text
    return '"' + "".join(f"\\{c}" if c in special else c for c in text) + '"'


def _cut(text: str) -> str:
    return text if len(text) <= _CONTEXT_CHARS else text[:_CONTEXT_CHARS] + "…"
