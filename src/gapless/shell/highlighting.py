"""How a line looks while it is typed: what each part is, and what in it cannot be. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from gapless.protocol.language import (
    KEY_ALIASES,
    SEARCH_KEYS,
    VERB_ALIASES,
    LineError,
    parse_line,
)
from gapless.shell.commands import COMMANDS, find
from gapless.shell.completion import Known, complete
from gapless.shell.words import Word, at_end, split_pipe, words_of

Kind: TypeAlias = Literal["keyword", "name", "key", "value", "command", "pipe", "plain", "invalid"]


class Piece(NamedTuple):
    """A part of a line and what it is; pieces follow one another and make up the line."""

    kind: Kind
    text: str


class Span(NamedTuple):
    """A place in a line."""

    start: int
    end: int


def pieces(line: str, known: Known, now_ms: int) -> list[Piece]:
    """Return a line in pieces."""
    query, command = split_pipe(line)
    marks: list[tuple[int, int, Kind]] = []
    words = words_of(query)
    if words and words[0].text.startswith(":"):
        marks += _command_marks(words)
    else:
        marks += _query_marks(words)
    wrong = invalid(line, known, now_ms)
    found: list[Piece] = []
    at = 0
    for start, end, kind in marks:
        if start > at:
            found.append(Piece("plain", line[at:start]))
        bad = wrong is not None and start < wrong.end and wrong.start < end
        found.append(Piece("invalid" if bad else kind, line[start:end]))
        at = end
    if command is not None:
        bar = line.index("|", at)
        found.append(Piece("plain", line[at:bar]))
        found.append(Piece("pipe", line[bar:]))
        at = len(line)
    if at < len(line):
        found.append(Piece("plain", line[at:]))
    return [piece for piece in found if piece.text]


def invalid(line: str, known: Known, now_ms: int) -> Span | None:
    """Return where a line cannot be right, however it goes on; `None` where it may be.

    The word at its end is not held against it as long as it may become one that is known.
    """
    query, command = split_pipe(line)
    if command is not None:
        line = f"{query} "
    words = words_of(line)
    if not words:
        return None
    last = at_end(line, words)
    first = words[0]
    if first.text.startswith(":"):
        name = first.text[1:].lower()
        begun = first is last and any(one.startswith(name) for one in COMMANDS)
        return None if begun or find(name) else Span(first.start, first.end)
    for wrong in (_unknown(words, known), _misread(line + words[-1].closing, now_ms)):
        if wrong is None:
            continue
        begun = last is not None and wrong.start >= last.start
        if not begun or not (complete(line, known, now_ms) or _unfinished(words, known)):
            return Span(wrong.start, min(wrong.end, len(line)))
    return None


def _misread(line: str, now_ms: int) -> Span | None:
    """Return what the query language takes offence at, unless the line only ends too early."""
    try:
        parse_line(line, now_ms=now_ms)
    except LineError as error:
        if error.start < len(line.rstrip()):
            return Span(error.start, error.end)
    return None


def _unknown(words: list[Word], known: Known) -> Span | None:
    """Return a provider or a parameter that the hub does not have."""
    if len(words) < 2 or words[0].text.lower() != "provider" or not known.providers:
        return None
    name = words[1].text
    if name not in known.providers and (name.lower() != "list" or len(words) > 2):
        return Span(words[1].start, words[1].end)
    params = known.params.get(name)
    if params is None or len(words) < 3 or words[2].text.lower() != "search":
        return None
    taken = {*SEARCH_KEYS, *KEY_ALIASES, *params}
    for word in words[3:]:
        key, value = word.split()
        choices = params.get(key.lower(), ())
        if value is None or (key.lower() in taken and (not choices or value in choices)):
            continue
        return Span(word.start, word.end)
    return None


def _unfinished(words: list[Word], known: Known) -> bool:
    """Whether the word at the end of a line may be one once more of it is typed."""
    last = words[-1]
    if last.closing:
        return True
    verb = words[2].text.lower() if len(words) > 2 else ""
    key, value = last.split()
    key = key.lower()
    if len(words) == 3:
        return any(one.startswith(verb) for one in VERB_ALIASES)
    if VERB_ALIASES.get(verb, verb) == "get-many":
        return last.text.endswith(",")
    if value is None:
        params = known.params.get(words[1].text) if len(words) > 1 else None
        keys = (*SEARCH_KEYS, *KEY_ALIASES, *(params or ()))
        return verb == "search" and (params is None or any(one.startswith(key) for one in keys))
    match KEY_ALIASES.get(key, key):
        case "tags":
            return value == "" or value.endswith(",")
        case "date" | "updated" | "limit":
            return all(char.isdigit() or char in "-:.tz+ nowdhms" for char in value.lower())
    return False


def _command_marks(words: list[Word]) -> list[tuple[int, int, Kind]]:
    first = words[0]
    marks: list[tuple[int, int, Kind]] = [(first.start, first.end, "command")]
    rest = words[1:]
    if find(first.text[1:]) is COMMANDS["watch"] and rest:
        marks.append((rest[0].start, rest[0].end, "value"))
        rest = rest[1:]
    if rest and rest[0].text.lower() in ("provider", "providers"):
        return marks + _query_marks(rest)
    return marks + [mark for word in rest for mark in _word_marks(word)]


def _query_marks(words: list[Word]) -> list[tuple[int, int, Kind]]:
    marks: list[tuple[int, int, Kind]] = []
    for place, word in enumerate(words):
        if place in (0, 2):
            marks.append((word.start, word.end, "keyword"))
        elif place == 1:
            marks.append((word.start, word.end, "name"))
        else:
            marks += _word_marks(word)
    return marks


def _word_marks(word: Word) -> list[tuple[int, int, Kind]]:
    middle = word.value_at
    if middle is None:
        return [(word.start, word.end, "value")]
    found: list[tuple[int, int, Kind]] = [(word.start, middle, "key")]
    if word.end > middle:
        found.append((middle, word.end, "value"))
    return found
