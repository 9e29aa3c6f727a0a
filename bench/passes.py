"""How many functions of gapless a request passes, in how many files of it: counted, not timed.

`python bench/passes.py`. A hub runs in this process, asked over real sockets; `sys.setprofile`
counts the calls of functions whose code is in gapless, in the loop's thread and in all that it
starts. Another checkout: `PYTHONPATH=/path/to/other/src python bench/passes.py`.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import gapless
import polars as pl
import uvloop
from gapless.app import running_hub
from gapless.config import Settings
from gapless.observability import configure_logging

import report
from questions import DAY_S, Range, WrongAnswer, read_answer, rfc3339

SOURCES = f"{Path(gapless.__file__).parent}/"
TICKER, RECORDS = "AAPL", 252
#: A year of the sample: its first day and the one after it are holidays, as is the weekend after.
FIRST_S, LAST_S, WEEKEND_S = 1_262_304_000, 1_293_840_000, 2 * DAY_S
#: Of a kind, the last of which counts.
STEPS = 5
#: No functions to a reader of the source.
COMPREHENSIONS = frozenset(("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"))
_RESUMES = CO_COROUTINE | CO_GENERATOR | CO_ASYNC_GENERATOR

Step: TypeAlias = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Passed:
    """What a request passes: calls of functions, different ones, and the files they are in.

    A coroutine is counted once, however often it goes on.
    """

    request: str
    calls: int
    functions: int
    files: int


class Passes:
    """Counts calls of gapless' functions while it is told to, in every thread."""

    def __init__(self) -> None:
        self.calls: Counter[CodeType] = Counter()
        self._counting = False
        # Those that have begun: each is called again whenever it goes on.
        self._begun: dict[int, FrameType] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Be told of the calls of this thread, and of those of all that begin meanwhile."""
        threading.setprofile(self._seen)
        sys.setprofile(self._seen)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count from nothing while the body runs."""
        self.calls.clear()
        self._begun.clear()
        self._counting = True
        try:
            yield
        finally:
            self._counting = False

    def passed(self, request: str) -> Passed:
        """What was counted last."""
        files = {code.co_filename for code in self.calls}
        return Passed(request, self.calls.total(), len(self.calls), len(files))

    def _seen(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not self._counting:
            return
        code = frame.f_code
        if not code.co_filename.startswith(SOURCES) or code.co_name in COMPREHENSIONS:
            return
        if code.co_flags & _RESUMES:
            if id(frame) in self._begun:
                return
            # Kept, so that no later one is taken for it.
            self._begun[id(frame)] = frame
        self.calls[code] += 1


async def count_passes() -> list[Passed]:
    """Run a hub on an empty database, and count what each kind of request passes."""
    passes = Passes()
    with tempfile.TemporaryDirectory(prefix="gapless-passes-") as folder, passes.installed():
        settings = Settings(
            db=str(Path(folder) / "passes.db"), tcp="127.0.0.1:0", http="127.0.0.1:0"
        )
        async with running_hub(settings) as hub:
            reader, writer = await asyncio.open_connection(hub.host, hub.port, limit=1 << 24)

            async def ask(asked: Range, requests: int) -> None:
                writer.write(asked.request("pass"))
                records, stitch = read_answer(await reader.readline(), "pass")
                if len(records) != asked.records or stitch.upstream_requests != requests:
                    raise WrongAnswer(f"{asked}: {len(records)} records, {stitch}")

            async def held(number: int) -> None:
                await ask(Range(TICKER, FIRST_S + number, LAST_S, RECORDS), 0)

            async def gap(number: int) -> None:
                end = LAST_S + WEEKEND_S + number * DAY_S
                start = end if number else LAST_S
                await ask(Range(TICKER, start, end + DAY_S, 1), 1)

            async def arrow(number: int) -> None:
                await asyncio.to_thread(_download, web, number)

            address = urlsplit(hub.http or "")
            web = http.client.HTTPConnection(address.hostname or "", address.port)
            try:
                await ask(Range(TICKER, FIRST_S, LAST_S, RECORDS), 1)
                return [
                    await _counted(passes, f"{RECORDS} held records in new words, TCP", held),
                    await _counted(passes, "a gap of one bar, TCP, to its answer", gap),
                    await _counted(passes, f"{RECORDS} held records in new words, Arrow", arrow),
                ]
            finally:
                web.close()
                writer.close()


async def _counted(passes: Passes, request: str, step: Step) -> Passed:
    """Take a step some times, for the first ones import and open; the last one counts."""
    for number in range(STEPS):
        with passes.counting():
            await step(number)
    return passes.passed(request)


def _download(web: http.client.HTTPConnection, number: int) -> None:
    """Get the year as an Arrow stream, on a kept connection."""
    start, end = rfc3339(FIRST_S + number), rfc3339(LAST_S)
    path = f"/v1/data/sample/{TICKER}?start={start}&end={end}&format=arrow"
    web.request("GET", path)
    response = web.getresponse()
    body = response.read()
    if response.status != 200:
        raise WrongAnswer(f"GET {path}: {response.status} {body[:300]!r}")
    rows = pl.read_ipc_stream(io.BytesIO(body)).height
    if rows != RECORDS:
        raise WrongAnswer(f"GET {path}: {rows} rows")


def main() -> None:
    """Print the table."""
    configure_logging("error", "text")
    to = report.console()
    table = report.table_of(to, f"Functions of {SOURCES} that a request passes")
    for heading in ("", "calls", "functions", "files"):
        table.add_column(heading, justify="right" if heading else "left")
    for one in uvloop.run(count_passes()):
        table.add_row(one.request, *(f"{n:,}" for n in (one.calls, one.functions, one.files)))
    to.print(table)


if __name__ == "__main__":
    main()
