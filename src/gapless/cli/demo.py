"""`gapless demo`: a tour of what stitching means, on servers of its own, without network.

Every step asks a real hub over a real socket and says whether what was promised held.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gapless.cli import bars
from gapless.cli.bars import Shade, legend, ranged_bar
from gapless.cli.stage import DemoClock, OpenHub, Reply, Session, Stage, instant, session
from gapless.cli.wording import bounds_text, console_on, count_text, takes_blocks
from gapless.domain.intervals import Interval
from gapless.errors import GaplessError
from gapless.observability import configure_logging, printable
from gapless.simulator.happenings import Split
from gapless.simulator.instruments import equity
from gapless.simulator.market import Market
from gapless.simulator.server import YahooSimulator

FRIDAY, WEDNESDAY = "2025-06-06T22:00:00Z", "2025-06-11T22:00:00Z"
SYMBOL, RATIO, EX_DATE = "ACME", 4, date(2025, 6, 9)
CROWD = 20

_SAMPLE = "provider sample search"
_YAHOO = "provider yahoo_finance search"
_SHADES = (bars.CACHED, bars.FETCHED, bars.MISSING)
_WIDEST = 110
_INDENT = "   "
_LOG_LINES = 15


def demo() -> int:
    """Take a tour: see what is fetched, what is not, and that the answers are right.

    It runs hubs of its own on free ports, on a database that it throws away, with the bundled
    sample data and a simulated Yahoo Finance; nothing of yours is touched, and no network is
    used. It takes some seconds, and exits 1 if anything it shows did not hold.
    """
    import uvloop

    from gapless.app import running_hub

    log = io.StringIO()
    configure_logging("info", "text", log)
    stay_off_proxies()
    blocks = takes_blocks(sys.stdout)
    held = uvloop.run(perform(console_on(sys.stdout), blocks, running_hub))
    if not held:
        print("\nthe end of the hubs' log:", file=sys.stderr)
        for line in log.getvalue().splitlines()[-_LOG_LINES:]:
            print(f"  {line}", file=sys.stderr)
    return 0 if held else 1


def stay_off_proxies() -> None:
    """Keep requests to the simulated upstream from going to a proxy of the environment."""
    for name in ("no_proxy", "NO_PROXY"):
        there = os.environ.get(name)
        os.environ[name] = f"{there},127.0.0.1" if there else "127.0.0.1"


def split_market() -> Market:
    """Return a market with one share, which is split four for one on the Monday of the tour."""
    market = Market([equity(SYMBOL)])
    market.add(Split(SYMBOL, EX_DATE, RATIO))
    return market


async def perform(
    console: Console, blocks: bool, open_hub: OpenHub, market: Market | None = None
) -> bool:
    """Play the tour on a console; return whether every step held.

    `open_hub` is `running_hub`; `market` is what the simulated upstream serves.
    """
    show = Show(console, blocks)
    show.opening()
    clock = DemoClock(instant(FRIDAY))
    market = split_market() if market is None else market
    with tempfile.TemporaryDirectory(prefix="gapless-demo-") as folder:
        async with YahooSimulator(market, clock=clock.now_s) as upstream:
            stage = Stage(Path(folder), clock, open_hub, lambda: upstream.base_url)
            try:
                await sample_tour(show, stage)
                await split_tour(show, stage, upstream)
            except (GaplessError, OSError, ValueError) as error:
                show.broke(error)
    show.closing()
    return show.held


async def sample_tour(show: Show, stage: Stage) -> None:
    """Gaps, and nothing but gaps: cold, again, wider, a weekend, many at once, a restart."""
    async with stage.hub("tour.db") as hub, session(hub.tcp) as client:
        with show.step("Nothing is held yet: the whole range is fetched"):
            cold = await show.ask(client, f"{_SAMPLE} ticker=AAPL date=2010-01-04..2010-07-01")
            show.check(
                "all of it came from upstream, in 1 request",
                cold.fetched == (cold.asked,) and cold.requests == 1 and len(cold.records) > 100,
            )
        with show.step("The same again: nothing is asked upstream"):
            again = await show.ask(client, f"{_SAMPLE} ticker=AAPL date=2010-01-04..2010-07-01")
            show.check(
                "the same records, 0 upstream requests",
                again.requests == 0 and not again.fetched and again.etag == cold.etag,
            )
        with show.step("A wider range: only the two gaps are fetched, and stitched on"):
            wider = await show.ask(client, f"{_SAMPLE} ticker=AAPL date=2009-07-01..2010-12-01")
            gaps = (
                Interval(wider.asked.start, cold.asked.start),
                Interval(cold.asked.end, wider.asked.end),
            )
            show.check(
                f"2 upstream requests: {' and '.join(_span(gap) for gap in gaps)}",
                wider.fetched == gaps and wider.cached == (cold.asked,) and wider.requests == 2,
            )
            times = [record["timestamp"] for record in wider.records]
            show.check(
                "one answer in order, no record twice, what was held in the midst of it",
                times == sorted(set(times)) and _within(cold.records, wider.records),
            )
        with show.step("A weekend: asked once, then known to be empty"):
            line = f"{_SAMPLE} ticker=AAPL date=2011-01-08..2011-01-10"
            first = await show.ask(client, line)
            second = await show.ask(client, line, again=True)
            show.check(
                "no records is an answer too: 1 upstream request, then 0",
                (first.requests, second.requests) == (1, 0)
                and not first.records
                and not second.records,
            )
        with show.step(f"{CROWD} programs ask at once for what nobody has"):
            line = f"{_SAMPLE} ticker=MSFT date=2008-01-01..2012-01-01"
            replies = await crowd(hub.tcp, line)
            show.asked(line)
            show.reply(replies[0], f"each of {CROWD} got ")
            total = sum(reply.requests for reply in replies)
            show.count(CROWD, total)
            show.check(
                f"{count_text(total, 'upstream request')} in all, {CROWD} equal answers",
                total == 1 and len({reply.etag for reply in replies}) == 1,
            )
    with show.step("The hub is stopped and started again: everything is still there"):
        async with stage.hub("tour.db") as hub, session(hub.tcp) as client:
            after = await show.ask(client, f"{_SAMPLE} ticker=AAPL date=2009-07-01..2010-12-01")
            show.check(
                "the same records from the database file, 0 upstream requests",
                after.requests == 0 and after.etag == wider.etag and not after.fetched,
            )


async def split_tour(show: Show, stage: Stage, upstream: YahooSimulator) -> None:
    """The past changes under a cache: a split, and an upstream that goes away."""
    show.chapter(
        "Now Yahoo Finance, simulated: an upstream that rewrites its past. "
        "It is Friday, 6 June 2025."
    )
    async with stage.hub("tour.db") as hub, session(hub.tcp) as client:
        with show.step(f"Friday evening: a history of {SYMBOL}"):
            friday = await show.ask(client, f"{_YAHOO} ticker={SYMBOL} date=2025-01-02..2025-06-06")
            show.check(
                "all of it came from upstream, in 1 request",
                friday.fetched == (friday.asked,) and friday.requests == 1,
            )
        stage.clock.leap_to(instant(WEDNESDAY))
        show.chapter(
            f"On Monday {SYMBOL} is split {RATIO} for 1: upstream divides all its earlier prices. "
            "A cache that only\nappends would show a crash. It is Wednesday now."
        )
        line = f"{_YAHOO} ticker={SYMBOL} date=2025-01-02..2025-06-11"
        with show.step("Wednesday: three days more are asked for"):
            stitched = await show.ask(client, line)
            show.prices(friday, stitched)
            show.check(
                "a held bar was compared, the split noticed, the past fetched anew",
                stitched.state == "ready"
                and stitched.fetched == (stitched.asked,)
                and _ratios(friday, stitched) == {float(RATIO)},
            )
            show.check("no cliff: no day moves by more than 20 %", _steepest(stitched) < 0.2)
        with show.step("Is that right? A second hub, with an empty database, fetches it all"):
            async with stage.hub("fresh.db") as other, session(other.tcp) as stranger:
                fresh = await show.ask(stranger, line)
            show.check(
                f"equal, record for record: etag {fresh.etag} here and there",
                fresh.etag == stitched.etag and list(fresh.records) == list(stitched.records),
            )
        with show.step("Upstream goes away: what is held is answered, what is missing is said"):
            line = f"{_YAHOO} ticker={SYMBOL} date=2024-10-01..2025-06-11"
            await upstream.refuse()
            try:
                partial = await show.ask(client, line)
            finally:
                await upstream.accept()
            show.check(
                f"state {partial.state}: {len(partial.records)} records, and the hole is named",
                partial.state == "partial"
                and partial.missing == (Interval(partial.asked.start, stitched.asked.start),)
                and list(partial.records) == list(stitched.records),
            )
            healed = await show.ask(client, line, again=True)
            show.check(
                "upstream is back: only the hole is fetched",
                healed.state == "ready"
                and healed.fetched == partial.missing
                and _within(stitched.records, healed.records),
            )


async def crowd(address: str, line: str) -> list[Reply]:
    """Ask the same of a hub over many connections at once."""

    async def one() -> Reply:
        async with session(address) as one_of_them:
            return await one_of_them.ask(line)

    return await asyncio.gather(*(one() for _ in range(CROWD)))


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
        self.console.print(Text(text.replace("\n", " "), style="italic"), width=self._width)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Number a step; what goes wrong in it fails it, and the tour goes on."""
        self.steps += 1
        self.console.print()
        self.console.print(Text(f"{self.steps:>2} {title}", style="bold"), width=self._width)
        try:
            yield
        except (GaplessError, OSError, ValueError, KeyError) as error:
            told = error.message if isinstance(error, GaplessError) else repr(error)
            self.check(f"it went wrong: {told}", False)

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
        """Show a question as it is typed, broken where the terminal is too narrow for it."""
        words = ["$", "gapless", "query", *line.split()]
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

    def reply(self, reply: Reply, prefix: str = "") -> None:
        """Show an answer's bar, what was cached, fetched and missing, and what it took."""
        parts: list[tuple[Shade, Interval]] = []
        for shade, spans in zip(_SHADES, (reply.cached, reply.fetched, reply.missing), strict=True):
            parts.extend((shade, span) for span in spans)
        line, _ = ranged_bar(parts, reply.asked, self._width - len(_INDENT), self.blocks)
        self._line(line)
        said = [
            prefix + count_text(len(reply.records), "record"),
            count_text(reply.requests, "upstream request"),
            f"{reply.took_s * 1000:.1f} ms",
        ]
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


_NEXT: Mapping[str, str] = {
    "gapless serve &": "start it",
    "gapless query provider sample search ticker=IBM": "ask it",
    "gapless coverage": "see what it holds",
    "gapless doctor": "see how it is",
}


def _span(interval: Interval) -> str:
    return "..".join(bounds_text(interval))


def _within(part: Sequence[object], whole: Sequence[object]) -> bool:
    """Whether `part` is a run of `whole`."""
    if not part or part[0] not in whole:
        return False
    at = whole.index(part[0])
    return list(whole[at : at + len(part)]) == list(part)


def _ratios(before: Reply, after: Reply) -> set[float]:
    """Return by what earlier prices were divided, to two places, over all common records."""
    now = {record["timestamp"]: record["close"] for record in after.records}
    return {
        round(record["close"] / now[record["timestamp"]], 2)
        for record in before.records
        if record["timestamp"] in now
    }


def _steepest(reply: Reply) -> float:
    """Return the largest change from one day's close to the next, as a share."""
    closes = [record["close"] for record in reply.records]
    return max(
        (abs(later / earlier - 1) for earlier, later in pairwise(closes)),
        default=1.0,
    )
