"""How the demo looks: numbered steps, questions as they are typed, answers as bars, ticks.

Apart from what is played, so that the tour reads as what it claims.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text

from gapless.cli.stage import Reply, Session
from gapless.domain.intervals import Interval
from gapless.errors import GaplessError
from gapless.shell import bars
from gapless.shell.bars import Shade, legend, ranged_bar
from gapless.shell.wording import count_text
from gapless.texts import printable

_SHADES = (bars.CACHED, bars.FETCHED, bars.MISSING)
_WIDEST = 110
_INDENT = "   "
_NEXT: Mapping[str, str] = {
    "gapless serve &": "start it",
    "gapless query provider sample search ticker=IBM": "ask it",
    "gapless coverage": "see what it holds",
    "gapless doctor": "see how it is",
}


@dataclass(slots=True)
class Show:
    """What is seen of the tour, and the count of what held."""

    console: Console
    blocks: bool
    steps: int = 0
    failed: list[int] = field(default_factory=list)
    questions: int = 0
    requests: int = 0
    began: float = field(default_factory=time.perf_counter)

    @property
    def held(self) -> bool:
        """Whether everything that was promised did hold, and the tour came to its end."""
        return self.steps > 0 and not self.failed

    @property
    def _width(self) -> int:
        return min(self.console.width, _WIDEST)

    def opening(self) -> None:
        """Say what is to come."""
        self.console.print(Text("gapless: a data provider hub that fetches only the gaps", "bold"))
        self.console.print(
            "Real hubs, real sockets, a real database; all on this machine, no network."
        )
        self.console.print(legend(_SHADES, self.blocks))

    def chapter(self, text: str) -> None:
        """Tell what happens between the steps."""
        self.console.print()
        self.console.print(Text(text, style="italic"), width=self._width)

    def step(self, title: str) -> None:
        """Number a step and say what it is about."""
        self.steps += 1
        self.console.print()
        self.console.print(Text(f"{self.steps:>2} {title}", style="bold"), width=self._width)

    async def ask(self, client: Session, line: str, again: bool = False) -> Reply:
        """Ask a hub and show the question, the answer's bar and what it took."""
        if again:
            self._line(Text("once more:", style="dim"))
        else:
            self.asked(line)
        reply = await client.ask(line)
        self.reply(reply)
        self.count(1, reply.requests)
        return reply

    def count(self, questions: int, requests: int) -> None:
        """Remember what was asked of hubs, and what they asked upstream."""
        self.questions += questions
        self.requests += requests

    def asked(self, line: str) -> None:
        """Show a question as it is typed."""
        self.command("gapless", "query", *line.split())

    def note(self, text: str) -> None:
        """Show what else there is to an answer."""
        self._line(Text(printable(text), style="dim"))

    def code(self, text: str) -> None:
        """Show lines of a program."""
        for row in text.rstrip().splitlines():
            self._line(Text(f"  {row}", style="dim"))

    def command(self, *words: str) -> None:
        """Show a command as it is typed, broken where the terminal is too narrow for it."""
        words = ("$", *words)
        rows = [""]
        for word in words:
            # Room for the backslash that continues a line.
            if rows[-1] and len(_INDENT) + len(rows[-1]) + len(word) + 3 > self._width:
                rows[-1] += " \\"
                rows.append("     " + word)
            else:
                rows[-1] += f" {word}" if rows[-1] else word
        for row in rows:
            self._line(Text(row, style="cyan"))

    def reply(self, reply: Reply) -> None:
        """Show an answer's bar, what was cached, fetched and missing, and what it took."""
        self._bar(reply)
        self._said(
            count_text(len(reply.records), "record"),
            count_text(reply.requests, "upstream request"),
            reply.took_s,
        )

    def replies(self, replies: Sequence[Reply]) -> None:
        """Show answers to one question, asked by many at once, as one; remember all of them."""
        requests = sum(reply.requests for reply in replies)
        # Of those, the one that went upstream shows where the records are from.
        first = max(replies, key=lambda reply: reply.requests)
        self._bar(first)
        self._said(
            f"{count_text(len(replies), 'answer')} of {count_text(len(first.records), 'record')}",
            f"{count_text(requests, 'upstream request')} in all",
            max(reply.took_s for reply in replies),
        )
        self.count(len(replies), requests)

    def _bar(self, reply: Reply) -> None:
        parts: list[tuple[Shade, Interval]] = []
        for shade, spans in zip(_SHADES, (reply.cached, reply.fetched, reply.missing), strict=True):
            parts.extend((shade, span) for span in spans)
        line, _ = ranged_bar(parts, reply.asked, self._width - len(_INDENT), self.blocks)
        self._line(line)

    def _said(self, records: str, requests: str, took_s: float) -> None:
        said = [records, requests, f"{took_s * 1000:.1f} ms"]
        self._line(Text((" · " if self.blocks else ", ").join(said), style="dim"))

    def prices(self, before: Reply, after: Reply) -> None:
        """Show what the last days of `before` cost then, and what the answer says now."""
        then = {record["timestamp"]: record["close"] for record in before.records}
        rows = [("", "Friday's answer", "today's answer")]
        for record in after.records[-6:]:
            day = time.strftime("%a %d %b", time.gmtime(record["timestamp"]))
            old = then.get(record["timestamp"])
            rows.append((day, "" if old is None else f"{old:.2f}", f"{record['close']:.2f}"))
        for day, old, new in rows:
            self._line(Text(f"{day:<12}{old:>16}{new:>18}", style="dim" if not day else ""))

    def check(self, text: str, holds: bool) -> None:
        """Tick what was promised, or cross it."""
        if not holds and self.steps not in self.failed:
            self.failed.append(self.steps)
        good, bad = ("✓", "✗") if self.blocks else ("ok:", "NOT SO:")
        mark = good if holds else bad
        self._line(Text(f"{mark} {printable(text)}", style="green" if holds else "bold red"))

    def broke(self, error: Exception) -> None:
        """Say that the tour cannot go on."""
        told = error.message if isinstance(error, GaplessError) else repr(error)
        self.check(f"the tour ends here: {told}", False)

    def closing(self) -> None:
        """Sum up, and say what to try next."""
        took = time.perf_counter() - self.began
        good = self.steps - len(self.failed)
        self.console.print()
        self.console.print(
            Text(
                f"{good} of {count_text(self.steps, 'step')} held, in {took:.1f} s: "
                f"{count_text(self.questions, 'question')}, "
                f"{count_text(self.requests, 'upstream request')}",
                style="bold green" if self.held else "bold red",
            )
        )
        if not self.held:
            steps = ", ".join(map(str, self.failed))
            self.console.print(f"What did not hold: step {steps}")
            return
        self.console.print("\nNow with a hub of your own:")
        for command, purpose in _NEXT.items():
            line = Text.assemble(_INDENT, (f"{command:<48}", "cyan"), " ", (purpose, "dim"))
            self.console.print(line)

    def _line(self, text: Text) -> None:
        self.console.print(Text.assemble(_INDENT, text), no_wrap=False, soft_wrap=True)
