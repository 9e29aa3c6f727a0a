"""A range of time as a bar of characters: one cell a stretch, the worst of it never hidden.

Apart from what is shown by it: the coverage of a series, the answer to a question. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rich.text import Text

from gapless.shell.wording import bounds_text


@dataclass(frozen=True, slots=True)
class Shade:
    """How a stretch looks: a block character, one for terminals that have only ASCII, a style.

    `rank` decides which shade a cell takes that several lie in; what is `lacking` is not there
    to be answered from.
    """

    name: str
    block: str
    plain: str
    style: str
    rank: int
    lacking: bool = False

    def mark(self, blocks: bool) -> str:
        """Return its character."""
        return self.block if blocks else self.plain


HELD = Shade("held", "█", "#", "green", 2)
PROVISIONAL = Shade("provisional", "▓", "~", "yellow", 3)
EMPTY = Shade("empty", "▁", "_", "blue", 1)
DUE = Shade("due", "▒", "o", "magenta", 5)
OUT_OF_WINDOW = Shade("out of window", "×", "x", "bright_black", 4, lacking=True)
MISSING = Shade("missing", "·", ".", "red", 6, lacking=True)
PARTLY = Shade("partly", "▄", "%", "yellow", 7)

CACHED = Shade("cached", "█", "#", "green", 1)
FETCHED = Shade("fetched", "▒", "+", "cyan", 2)

Span: TypeAlias = tuple[int, int]
"""`[start, end)` in milliseconds UTC."""
Parts: TypeAlias = Iterable[tuple[Shade, Span]]


def cells(parts: Parts, whole: Span, width: int, rest: Shade = MISSING) -> list[Shade]:
    """Return the shade of each of `width` cells that `whole` is cut into.

    What no part covers is `rest`. A cell in which some is there and some is lacking is `PARTLY`:
    neither a short gap in years of data nor a few days in years of nothing gets lost.
    """
    begin, end = whole
    length = end - begin
    if length <= 0:
        return []
    edges = [begin + length * i // width for i in range(width + 1)]
    here: list[dict[Shade, int]] = [{} for _ in range(width)]
    for shade, interval in parts:
        first_ms, last_ms = max(interval[0], begin), min(interval[1], end)
        if first_ms >= last_ms:
            continue
        first = max(0, (first_ms - begin) * width // length - 1)
        for i in range(first, width):
            if edges[i] >= last_ms:
                break
            shared = min(last_ms, edges[i + 1]) - max(first_ms, edges[i])
            if shared > 0:
                here[i][shade] = here[i].get(shade, 0) + shared
    result: list[Shade] = []
    for i, found in enumerate(here):
        if sum(found.values()) < edges[i + 1] - edges[i]:
            found[rest] = 1
        lacking = {shade for shade in found if shade.lacking}
        if lacking and len(lacking) < len(found):
            result.append(PARTLY)
        else:
            result.append(max(found, key=lambda shade: shade.rank, default=rest))
    return result


def bar(shades: Sequence[Shade], blocks: bool) -> Text:
    """Return cells as text for the terminal; `blocks`: it has more than ASCII."""
    text = Text(no_wrap=True)
    for shade in shades:
        text.append(shade.mark(blocks), style=shade.style)
    return text


def ranged_bar(
    parts: Parts, whole: Span, width: int, blocks: bool, rest: Shade = MISSING
) -> tuple[Text, set[Shade]]:
    """Return `FROM bar TO` in `width` characters at most, and the shades that it shows."""
    start, end = bounds_text(whole)
    room = max(10, width - len(start) - len(end) - 2)
    shades = cells(parts, whole, room, rest)
    return Text.assemble(start, " ", bar(shades, blocks), " ", end), set(shades)


def legend(shades: Iterable[Shade], blocks: bool, width: int = 80) -> Text:
    """Return what the characters mean, in the order of the shades given."""
    text, used = Text(), 0
    for shade in shades:
        entry = len(shade.name) + 2
        if used and used + 2 + entry > width:
            text.append("\n")
            used = 0
        elif used:
            text.append("  ")
            used += 2
        text.append(shade.mark(blocks), style=shade.style)
        text.append(f" {shade.name}", style="dim")
        used += entry
    return text
