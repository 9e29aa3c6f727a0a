"""`gapless cache`: what the cache holds, forgetting what is old, and forgetting a series.

A running hub is asked over its socket; without one the database is opened here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from gapless.cli.coverage import chosen
from gapless.cli.database import (
    DEFAULT_DATABASE,
    DatabaseFlags,
    all_series,
    read,
    running,
    write,
)
from gapless.cli.exits import UsageError
from gapless.cli.series_words import Words, series_words
from gapless.cli.stored_series import StoredRange, stored_params, with_params
from gapless.client.control import Series
from gapless.clock import SystemClock
from gapless.errors import InvalidQuery
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
    """Add `cache stats`, `cache prune` and `cache forget` to the command line."""
    cache = App(name="cache", help="Look at what is held, or forget some of it.")
    cache.command(stats)
    cache.command(prune)
    usage = "Usage: gapless cache forget PROVIDER TICKER [RANGE] [NAME=VALUE...] [OPTIONS]"
    cache.command(forget, usage=usage)
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
        states = all_series(path, "cache prune", flags.load().cache.block_records)
        hit = touched(states, instant)
        if not hit:
            print(f"nothing to forget: nothing in {path} was fetched before {before}")
            return 0
        few = f"{len(hit)} of {count_text(len(states), 'series')}"
        names = ", ".join(state.key.text for state in hit[:5]) + (", …" if len(hit) > 5 else "")
        about = f"what was fetched before {instant_text(instant)} UTC in {few}"
        if not _agreed(about, f": {names}"):
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


def forget(
    provider: str,
    ticker: str,
    /,
    *words: Words,
    flags: DatabaseFlags = DEFAULT_DATABASE,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative=())] = False,
    output: Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"])] = "text",
) -> int:
    """Forget a range of a series, or all of it, whenever it was fetched.

    It is for good: what is asked for again is fetched again, and what is being fetched at
    that moment is not stored. A hub that is running on the database does it and goes on
    serving; without one the database is opened for it.

    Parameters
    ----------
    provider
        The provider, such as "sample", loaded or not.
    ticker
        The ticker, in capitals or not.
    words
        A range, such as 2024-01-01..2024-02-01 (days of the ticker's exchange) or 30d; without
        one all of the series goes. Parameters of the provider, such as interval=1h: they say
        which of the ticker's series is meant.
    yes
        Do not ask whether to go on; needed where nobody can answer.
    output
        `text` for people, `json` for programs: what went by its id, and how many records.
    """
    now = SystemClock().now_ms()
    asked = series_words(words, now)
    settings = flags.load()
    path, block_records = flags.path(), settings.cache.block_records
    hub = running(path)
    held = all_series(path, "cache forget", block_records, provider)
    named = chosen(held, path, provider, ticker)
    params = stored_params(provider, ticker, asked.params, settings)
    meant = StoredRange.of(with_params(named, ticker, params), asked, now)
    records = 0
    if meant.known:
        if not yes and not _agreed(meant.what):
            print("nothing was forgotten")
            return 1
        key, interval = meant.key, meant.interval
        if hub is None:
            from gapless.hub.holdings import alone

            removal = write(
                path,
                "cache forget",
                block_records,
                lambda store: alone(store).delete(key, interval),
            )
            records = removal.records
        else:
            records = hub.forget(Series(key.provider, key.ticker, dict(key.params)), interval)
    if output == "json":
        print(msgspec.json.encode({"id": meant.id, "records": records}).decode())
    elif meant.known:
        print(printable(f"forgot {count_text(records, 'record')} of {meant.id}"))
    else:
        print(printable(f"nothing to forget: nothing is known of {meant.id}"))
    return 0


def touched(found: Sequence[SeriesState], before: int) -> Sequence[SeriesState]:
    """Return the series of which something was fetched before that instant."""
    return [state for state in found if any(row.fetched_at < before for row in state.coverage)]


def _agreed(what: str, where: str = "") -> bool:
    """Say what would go, and ask; raise `UsageError` where nobody can answer."""
    if not sys.stdin.isatty():
        raise UsageError(f"this would forget {what}; say --yes if that is meant")
    print(printable(f"This forgets {what}{where}"), file=sys.stderr)
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _figures(figures: Figures) -> dict[str, int]:
    return {
        "series": figures.series,
        "blocks": figures.blocks,
        "records": figures.records,
        "bytes": figures.bytes,
    }
