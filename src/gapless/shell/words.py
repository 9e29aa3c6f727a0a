"""A line as words, forgivingly: while it is typed, quotes are open and nothing is whole. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_QUOTES = ("'", '"')


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a line: its text without quotes, and its place in the line."""

    text: str
    start: int
    end: int

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
            elif quote == '"' and char == "\\" and line[at + 1 : at + 2] in ('"', "\\"):
                at += 1
                text += line[at]
            elif not quote and char.isspace():
                break
            elif not quote and char in _QUOTES and (at == start or line[at - 1] in "=,"):
                quote = char
            else:
                text += char
            at += 1
        found.append(Word(text, start, at))
    return found


def split_pipe(line: str) -> tuple[str, str | None]:
    """Return what is before the first `|` between words, and the command behind it, if any."""
    quote = ""
    for at, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in _QUOTES and (at == 0 or line[at - 1] in " \t=,"):
            quote = char
        elif char == "|" and line[at - 1 : at].isspace():
            return line[:at].rstrip(), line[at + 1 :].strip()
    return line, None


def quoted(text: str) -> str:
    """Return a text as a word of a line."""
    if text and not any(char.isspace() or char in _QUOTES for char in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
