"""`gapless cache`: what the cache holds, and forgetting what is old.

A running hub is asked over its socket; without one the database is opened here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from gapless.cli.database import DEFAULT_DATABASE, DatabaseFlags, read, running, write
from gapless.cli.exits import UsageError
from gapless.clock import SystemClock
from gapless.errors import DiskFull, InvalidQuery
from gapless.protocol.times import parse_instant
from gapless.shell.wording import console_on, count_text, instant_text, size_text
from gapless.store.base import Figures, SeriesState
from gapless.texts import printable

_TITLES: Mapping[str, str] = {
    "series": "series",
    "records": "records",
    "blocks": "blocks they lie in",
    "bytes": "text of the records",
    "hot_series": "series in memory",
    "hot_bytes": "memory they take",
    "hot_hits": "answered from memory",
    "hot_misses": "read from the database",
    "upstream_requests": "upstream requests",
}


def register(app: App) -> None:
    """Add `cache stats` and `cache prune` to the command line."""
    cache = App(name="cache", help="Look at what is held, or forget what is old.")
    cache.command(stats)
    cache.command(prune)
    app.command(cache)


def stats(
    *,
    flags: DatabaseFlags = DEFAULT_DATABASE,
    output: Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"])] = "table",
) -> None:
    """Count what is held, and what it saved.

    While a hub runs on the database it is asked, and tells too what it has in memory and how
    often it went upstream since it was started.

    Parameters
    ----------
    output
        `table` for people, `json` for programs.
    """
    path = flags.path()
    hub = running(path)
    figures = _figures(read(path, lambda store: store.figures())) if hub is None else hub.stats()
    if output == "json":
        print(msgspec.json.encode({"database": str(path), **figures}).decode())
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in figures.items():
        told = size_text(value) if name.endswith("bytes") else f"{value:,}"
        table.add_row(Text(_TITLES.get(name, name), style="dim"), told)
    console = console_on(sys.stdout)
    console.print(table)
    who = "no hub is running on" if hub is None else "told by the hub on"
    console.print(Text(f"{who} {path}", style="dim"), soft_wrap=True)


def prune(
    *,
    before: Annotated[str, Parameter(allow_leading_hyphen=True)],
    flags: DatabaseFlags = DEFAULT_DATABASE,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative=())] = False,
) -> int:
    """Forget what was fetched before an instant.

    It goes by when data was fetched, not by which days it is about, and is for good: what
    is asked for again is fetched again. What was fetched within a week of each other and
    lies side by side is one piece, as old as its oldest part. A hub that is running on the
    database does it and goes on serving; without one the database is opened for it.

    Parameters
    ----------
    before
        A date, an RFC 3339 instant, or such as -90d: what was fetched more than 90 days ago.
    yes
        Do not ask whether to go on; needed where nobody can answer.
    """
    now = SystemClock().now_ms()
    try:
        instant = parse_instant(before, now_ms=now, what="--before")
    except InvalidQuery as error:
        raise UsageError(error.message) from None
    path = flags.path()
    hub = running(path)
    if not yes:
        states = _all_series(path, flags)
        hit = touched(states, instant)
        if not hit:
            print(f"nothing to forget: nothing in {path} was fetched before {before}")
            return 0
        about = f"what was fetched before {instant_text(instant)} UTC"
        if not _agreed(hit, len(states), about):
            print("nothing was forgotten")
            return 1
    if hub is None:
        from gapless.hub.holdings import alone

        block_records = flags.load().cache.block_records
        series, records = write(
            path, "cache prune", block_records, lambda store: alone(store).prune(instant)
        )
    else:
        series, records = hub.prune(instant)
    print(f"forgot {count_text(records, 'record')} of {count_text(series, 'series')}")
    return 0


def _all_series(path: Path, flags: DatabaseFlags) -> Sequence[SeriesState]:
    try:
        return read(path, lambda store: store.all_series())
    except DiskFull:
        # Without a hub even reading takes some room, which there is for those who write.
        block_records = flags.load().cache.block_records
        return write(path, "cache prune", block_records, lambda store: store.all_series())


def touched(found: Sequence[SeriesState], before: int) -> Sequence[SeriesState]:
    """Return the series of which something was fetched before that instant."""
    return [state for state in found if any(row.fetched_at < before for row in state.coverage)]


def _agreed(hit: Sequence[SeriesState], count: int, about: str) -> bool:
    """Say what would go, and ask."""
    few = f"{len(hit)} of {count_text(count, 'series')}"
    if not sys.stdin.isatty():
        raise UsageError(f"this would forget {about} in {few}; say --yes if that is meant")
    names = ", ".join(state.key.text for state in hit[:5]) + (", …" if len(hit) > 5 else "")
    print(printable(f"This forgets {about} in {few}: {names}"), file=sys.stderr)
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _figures(figures: Figures) -> dict[str, int]:
    return {
        "series": figures.series,
        "blocks": figures.blocks,
        "records": figures.records,
        "bytes": figures.bytes,
    }
