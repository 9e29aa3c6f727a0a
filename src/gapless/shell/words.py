"""A line as words, forgivingly: while it is typed, quotes are open and nothing is whole. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_QUOTES = ("'", '"')
_ESCAPABLE = ('"', "\\", ",")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a line: its text without quotes, and its place in the line.

    `value_at` is where what is behind the first `=` begins, unless a quote opens before it.
    `closing` is the quote that is still open.
    """

    text: str
    start: int
    end: int
    value_at: int | None = None
    closing: str = ""

    def split(self) -> tuple[str, str | None]:
        """Return what is before the first `=`, and what is behind it, if there is one."""
        key, equals, value = self.text.partition("=")
        return key, value if equals else None


def words_of(line: str) -> list[Word]:
    """Return the words of a line; a quote that is not closed reaches to its end."""
    found: list[Word] = []
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        start, text, quote = at, "", ""
        while at < len(line):
            char = line[at]
            if quote and char == quote:
                quote = ""
            elif quote == '"' and char == "\\" and line[at + 1 : at + 2] in _ESCAPABLE:
                at += 1
                text += line[at]
            elif not quote and char.isspace():
                break
            elif not quote and char in _QUOTES and (at == start or line[at - 1] in "=,"):
                quote = char
            else:
                text += char
            at += 1
        head, equals, _ = text.partition("=")
        plain = equals and line.startswith(head + equals, start)
        value_at = start + len(head) + 1 if plain else None
        found.append(Word(text, start, at, value_at, quote))
    return found


def at_end(line: str, words: Sequence[Word]) -> Word | None:
    """Return the word of a line that is still being typed, if one is."""
    return words[-1] if words and words[-1].end == len(line) else None


def split_pipe(line: str) -> tuple[str, str | None]:
    """Return what is before the first `|` between words, and the command behind it, if any."""
    for word in words_of(line):
        at = word.start
        if at and line[at] == "|":
            return line[:at].rstrip(), line[at + 1 :].strip()
    return line, None


def quoted(text: str) -> str:
    """Return a text as a word of a line."""
    risky = text.startswith("|") or any(char.isspace() or char in _QUOTES for char in text)
    if text and not risky:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
