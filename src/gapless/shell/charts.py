"""Prices and other columns drawn in characters: candles with their wicks, or a line. Pure.

Nothing of it looks at the terminal: width, height and what can be printed are arguments.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from rich.text import Text

# How finely a row is told apart, in characters that have an upper and a lower half.
_HALVES = 2
# Numbers from here to there are written out.
_SMALLEST, _LARGEST = 1e-5, 1e15
_SEVERAL = "*"
_UP, _DOWN, _LINE, _AXIS, _NOTE = "green", "red", "cyan", "dim", "yellow"


class Bar(NamedTuple):
    """What happened in a stretch of time."""

    open: float
    high: float
    low: float
    close: float


class Marks(NamedTuple):
    """The characters that a chart is drawn with."""

    body: str
    upper: str
    lower: str
    wick: str
    upper_wick: str
    lower_wick: str
    dot: str
    edge: str
    corner: str
    floor: str


class Note(NamedTuple):
    """What is told below a chart: a letter at an instant, in seconds, and what it stands for."""

    at: float
    letter: str
    what: str


class Canvas(NamedTuple):
    """What a chart is drawn on, in characters, and what is told above and below it."""

    width: int
    height: int
    marks: Marks
    title: str | None = None
    notes: Sequence[Note] = ()


BLOCKS = Marks("┃", "╹", "╻", "│", "╵", "╷", "•", "┤", "└", "─")
PLAIN = Marks("#", "'", ",", "|", "'", ",", "*", "|", "+", "-")


def merged(bars: Sequence[Bar], width: int) -> list[Bar]:
    """Return at most `width` bars, each of as many of the given ones as fall to its column."""
    count = len(bars)
    if count <= width:
        return list(bars)
    found: list[Bar] = []
    for column in range(width):
        part = bars[column * count // width : (column + 1) * count // width]
        found.append(
            Bar(
                part[0].open,
                max(bar.high for bar in part),
                min(bar.low for bar in part),
                part[-1].close,
            )
        )
    return found


def candles(bars: Sequence[Bar], times: Sequence[float], canvas: Canvas) -> Text:
    """Return bars as candles, green where the close is not below the open; `times` in seconds."""
    low, high = min(bar.low for bar in bars), max(bar.high for bar in bars)
    scale = _Scale(low, high, canvas.height)
    labels = scale.labels()
    room = _room(labels, canvas)
    columns: list[tuple[list[str], str]] = []
    for bar in merged(bars, room):
        style = _UP if bar.close >= bar.open else _DOWN
        columns.append((_candle(bar, scale, canvas.marks), style))
    return _laid_out(columns, labels, times, canvas)


def line(values: Sequence[float], times: Sequence[float], canvas: Canvas) -> Text:
    """Return values as a line: in each column a stroke over the values that fall to it."""
    scale = _Scale(min(values), max(values), canvas.height)
    labels = scale.labels()
    room = _room(labels, canvas)
    flat = [Bar(value, value, value, value) for value in values]
    columns: list[tuple[list[str], str]] = []
    before: float | None = None
    for bar in merged(flat, room):
        # From where the column before ended, so that the line hangs together.
        low = bar.low if before is None else min(bar.low, before)
        high = bar.high if before is None else max(bar.high, before)
        cells = _stroke(low, high, scale, canvas.marks)
        columns.append((cells, _LINE))
        before = bar.close
    return _laid_out(columns, labels, times, canvas)


class _Scale:
    """Values to rows: row 0 is the lowest, and every row has an upper and a lower half."""

    def __init__(self, low: float, high: float, height: int) -> None:
        self.low = low
        self.high = high
        self.height = max(2, height)

    def half(self, value: float) -> int:
        """Return the half of a row in which a value lies, from the bottom."""
        halves = self.height * _HALVES
        if self.high <= self.low:
            return halves // 2
        # The largest numbers are further apart than any number is large.
        part = 1 if math.isfinite(self.high - self.low) else 0.5
        at = (value * part - self.low * part) / (self.high * part - self.low * part) * halves
        return min(halves - 1, max(0, math.floor(at)))

    def labels(self) -> list[str]:
        """Return what is written beside each row, from the bottom; most have nothing."""
        every = max(1, (self.height - 1) // 4)
        largest = max(abs(self.low), abs(self.high))
        usual = largest == 0 or _SMALLEST <= largest < _LARGEST
        look = f",.{_digits(self.high - self.low, largest)}f" if usual else ".4g"
        texts = [""] * self.height
        for row in range(0, self.height, every):
            share = row / (self.height - 1)
            value = 2 * (self.low / 2 + (self.high / 2 - self.low / 2) * share)
            texts[row] = f"{min(self.high, max(self.low, value)):{look}}"
        widest = max(map(len, texts))
        return [text.rjust(widest) for text in texts]


def _candle(bar: Bar, scale: _Scale, marks: Marks) -> list[str]:
    """Return the characters of a column, from the bottom."""
    low, high = scale.half(bar.low), scale.half(bar.high)
    first, last = sorted((scale.half(bar.open), scale.half(bar.close)))
    cells: list[str] = []
    for row in range(scale.height):
        lower, upper = row * _HALVES, row * _HALVES + 1
        body = (first <= lower <= last, first <= upper <= last)
        wick = (low <= lower <= high, low <= upper <= high)
        if all(body):
            cells.append(marks.body)
        elif body[1]:
            cells.append(marks.upper if not wick[0] else marks.body)
        elif body[0]:
            cells.append(marks.lower if not wick[1] else marks.body)
        elif all(wick):
            cells.append(marks.wick)
        elif wick[1]:
            cells.append(marks.upper_wick)
        elif wick[0]:
            cells.append(marks.lower_wick)
        else:
            cells.append(" ")
    return cells


def _stroke(low: float, high: float, scale: _Scale, marks: Marks) -> list[str]:
    first, last = scale.half(low) // _HALVES, scale.half(high) // _HALVES
    if first == last:
        return [marks.dot if row == first else " " for row in range(scale.height)]
    return [marks.wick if first <= row <= last else " " for row in range(scale.height)]


def _laid_out(
    columns: Sequence[tuple[list[str], str]],
    labels: Sequence[str],
    times: Sequence[float],
    canvas: Canvas,
) -> Text:
    marks = canvas.marks
    text = Text(no_wrap=True)
    for row in reversed(range(len(labels))):
        edge = marks.edge if labels[row].strip() else marks.wick
        text.append(f"{labels[row]} {edge}", style=_AXIS)
        for cells, style in columns:
            text.append(cells[row], style=style if cells[row] != " " else "")
        text.append("\n")
    margin = " " * len(labels[0])
    text.append(f"{margin} {marks.corner}{marks.floor * len(columns)}\n", style=_AXIS)
    noted = _noted(canvas.notes, times, len(columns))
    if noted:
        text.append(f"{margin}  {''.join(noted)}".rstrip() + "\n", style=_NOTE)
    first, last = _day(times[0]), _day(times[-1])
    gap = len(columns) - len(first) - len(last)
    dates = (
        f"{first}{' ' * gap}{last}"
        if gap > 0
        else first
        if len(first) <= _room(labels, canvas)
        else ""
    )
    text.append(f"{margin}  {dates}", style=_AXIS)
    if noted:
        told = {note.letter: note.what for note in canvas.notes if note.letter in noted}
        told |= {_SEVERAL: "several of them"} if _SEVERAL in noted else {}
        legend = "  ".join(f"{letter} {what}" for letter, what in sorted(told.items()))
        text.append(f"\n{margin}  {legend}", style=_NOTE)
    return text


def _room(labels: Sequence[str], canvas: Canvas) -> int:
    """Return how many columns there are beside the labels."""
    return max(1, canvas.width - max(map(len, labels)) - 2)


def _noted(notes: Sequence[Note], times: Sequence[float], columns: int) -> list[str]:
    """Return a letter or a space for each column of a chart; nothing where there is no letter.

    Several that fall to one column are a star.
    """
    cells = [" "] * columns
    for note in notes:
        index = bisect_right(times, note.at) - 1
        if 0 <= index < len(times):
            column = index * columns // len(times)
            cells[column] = note.letter if cells[column] in (" ", note.letter) else _SEVERAL
    return cells if any(cell != " " for cell in cells) else []


def _digits(span: float, largest: float) -> int:
    """Return how many decimals tell the labels of an axis apart."""
    if span <= 0:
        if largest >= 1 or largest == 0:
            return 2 if largest < 1_000 else 0
        span = largest
    return min(8, max(0, 2 - math.floor(math.log10(span))))


def _day(seconds: float) -> str:
    try:
        at = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return f"{at:%Y-%m-%d}" if seconds % 86_400 == 0 else f"{at:%Y-%m-%d %H:%M}"
