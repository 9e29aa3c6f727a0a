"""A program on a terminal of its own: keys in, what is on the screen out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pexpect  # has no types
import pyte  # has no types

from support.commands import environment
from support.wire import PATIENCE_S

PROMPT = "gapless> "
ROWS, COLUMNS = 60, 100
CTRL_C, CTRL_D, TAB, RETURN = "\x03", "\x04", "\t", "\r"


class Cell(NamedTuple):
    """A character on a screen, with its colours as names, or as six hex digits."""

    text: str
    colour: str
    ground: str
    bold: bool
    underlined: bool


class _Screen(pyte.HistoryScreen):
    """A screen that says where its cursor is, when it is asked."""

    answer: Callable[[str], object]

    def write_process_input(self, data: str) -> None:
        """Send what the terminal itself says."""
        self.answer(data)


class Terminal:
    """A shell that runs; its screen is that of a real terminal of so many `rows`."""

    def __init__(self, arguments: list[str], folder: Path, rows: int, **variables: str) -> None:
        self._screen = _Screen(COLUMNS, rows, history=10_000, ratio=0.5)
        self._stream = pyte.ByteStream(self._screen)
        variables = {
            "TERM": "xterm-256color",
            "XDG_STATE_HOME": str(folder),
            "COLUMNS": str(COLUMNS),
            "LINES": str(rows),
            "LANG": "C.UTF-8",
            **variables,
        }
        self.process = pexpect.spawn(
            sys.executable,
            ["-m", "gapless", *arguments],
            env=environment(**variables),
            cwd=str(folder),
            dimensions=(rows, COLUMNS),
            timeout=PATIENCE_S,
        )
        self._screen.answer = self.process.send

    @property
    def lines(self) -> list[str]:
        """What is on the screen, and what has left it at the top, without blanks at the ends."""
        gone = [
            "".join(row[x].data for x in range(COLUMNS)).rstrip()
            for row in self._screen.history.top
        ]
        return [*gone, *(line.rstrip() for line in self._screen.display)]

    @property
    def screen(self) -> str:
        """What is on the screen now."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def text(self) -> str:
        """The lines in one text."""
        return "\n".join(self.lines)

    def cells(self) -> list[list[Cell]]:
        """Return the screen, character by character."""
        return [
            [
                Cell(cell.data, cell.fg, cell.bg, cell.bold, cell.underscore)
                for cell in (self._screen.buffer[y][x] for x in range(COLUMNS))
            ]
            for y in range(self._screen.lines)
        ]

    def underlined(self) -> str:
        """Return the characters on the screen that are underlined."""
        return "".join(
            row[x].data
            for _, row in sorted(self._screen.buffer.items())
            for x in range(COLUMNS)
            if row[x].underscore and row[x].data.strip()
        )

    def until(self, happened: Callable[[], bool], what: str) -> None:
        """Read what the program writes until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            left = deadline - time.monotonic()
            assert left > 0, f"{what} did not come:\n{self.text}"
            try:
                self._stream.feed(self.process.read_nonblocking(1 << 16, timeout=min(left, 0.5)))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert happened(), f"it ended before {what}:\n{self.text}"
                return

    def keys(self, text: str) -> None:
        """Press keys."""
        self.process.send(text)

    def wait(self, text: str) -> None:
        """Wait until a text is on the screen, or was."""
        self.until(lambda: text in self.text, repr(text))

    def ready(self) -> None:
        """Wait for an empty prompt in the last line that has anything, but for the bar below."""
        self.until(self._at_prompt, "the prompt")

    def run(self, line: str, *expected: str) -> str:
        """Enter a line; wait until its answer has all of that, and return what it printed."""
        self.ready()
        before = len(self._answers())
        self.keys(line + RETURN)

        def answered() -> bool:
            told = "\n".join(self._answers()[before:])
            return (
                self._at_prompt()
                and len(self._answers()) > before
                and all(text in told for text in expected)
            )

        self.until(answered, f"the answer to {line!r} with {expected}")
        return "\n".join(self._answers()[before:])

    def show(self, line: str, *expected: str) -> None:
        """Enter a line; wait until all of that is on the screen, and a prompt below."""
        self.ready()
        self.keys(line + RETURN)
        self.until(
            lambda: all(text in self.screen for text in (line, *expected)) and self._at_prompt(),
            f"the answer to {line!r} with {expected}",
        )

    def clear(self) -> None:
        """Have an empty screen."""
        self.ready()
        self.keys(f":clear{RETURN}")
        self.until(
            lambda: self.screen.startswith(PROMPT.rstrip()) and ":clear" not in self.screen,
            "an empty screen",
        )

    def end(self) -> int:
        """Wait for the program's end and return its exit code."""
        self.until(lambda: not self.process.isalive(), "the end")
        self.process.close()
        code: int = self.process.exitstatus
        return code

    def _answers(self) -> list[str]:
        """Return the lines down to the last prompt, itself not included."""
        lines = self.lines
        last = max((i for i, line in enumerate(lines) if line.startswith(PROMPT[:-1])), default=0)
        return lines[:last]

    def _at_prompt(self) -> bool:
        prompts = [line for line in self.lines if line.startswith(PROMPT[:-1])]
        return bool(prompts) and prompts[-1] == PROMPT.rstrip()


@contextmanager
def terminal(
    *arguments: str, folder: Path, rows: int = ROWS, **variables: str
) -> Iterator[Terminal]:
    """Run a command on a terminal for the length of the block."""
    folder.mkdir(exist_ok=True)
    opened = Terminal(list(arguments), folder, rows, **variables)
    try:
        yield opened
    finally:
        if opened.process.isalive():
            opened.process.kill(9)
        opened.process.close(force=True)


def modes(folder: Path) -> dict[str, int]:
    """Return the permissions of what is in a folder, by name."""
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()}


__all__ = [
    "COLUMNS",
    "CTRL_C",
    "CTRL_D",
    "PROMPT",
    "RETURN",
    "ROWS",
    "TAB",
    "Cell",
    "Terminal",
    "modes",
    "terminal",
]
