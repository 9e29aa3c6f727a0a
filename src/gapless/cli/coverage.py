"""`gapless coverage`: what a database knows of each series, as a bar."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from cyclopts import App, Parameter
from msgspec.structs import replace
from rich.console import Console
from rich.text import Text

from gapless.cli.database import DEFAULT_DATABASE, DatabaseFlags, read
from gapless.cli.exits import UsageError
from gapless.clock import SystemClock
from gapless.domain.coverage import Coverage, Outcome
from gapless.domain.intervals import Interval, subtract
from gapless.domain.planning import tail
from gapless.errors import InvalidQuery, NotFound
from gapless.instants import format_instant
from gapless.protocol.times import parse_instant
from gapless.shell import bars
from gapless.shell.bars import Shade, legend, ranged_bar
from gapless.shell.wording import (
    age_text,
    bounds_text,
    console_on,
    count_text,
    instant_text,
    takes_blocks,
)
from gapless.store.base import SeriesState
from gapless.texts import printable
from gapless.zones import zone_named

_WIDEST = 120
_LEGEND = (
    bars.HELD,
    bars.PROVISIONAL,
    bars.EMPTY,
    bars.OUT_OF_WINDOW,
    bars.DUE,
    bars.MISSING,
    bars.PARTLY,
)


@dataclass(frozen=True, slots=True)
class View:
    """A series over a stretch of time: what is known of it there, what is lacking.

    `known` are the rows of coverage, each with the part of it that lies in `whole`. `missing` is
    neither covered nor known to be beyond upstream's reach. `records` are those in the stretch's
    blocks: a block at an edge counts whole.
    """

    state: SeriesState
    whole: Interval
    known: tuple[tuple[Coverage, Interval], ...]
    missing: tuple[Interval, ...]
    records: int

    @property
    def parts(self) -> list[tuple[Shade, Interval]]:
        """What is known, as it is painted."""
        return [(_shade(row, self.state), part) for row, part in self.known]


def register(app: App) -> None:
    """Add `coverage` to the command line."""
    app.command(coverage)


def coverage(
    provider: str | None = None,
    ticker: str | None = None,
    /,
    *,
    flags: DatabaseFlags = DEFAULT_DATABASE,
    start: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    end: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    output: Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"])] = "table",
) -> None:
    """Show what is held of each series, and where the gaps are.

    One bar a series, from the first to the last instant that anything is known of: held,
    provisional (upstream may still change it), empty (known to have no records), out of
    window (upstream no longer serves it), missing (the next request that needs it fetches
    it). What is due, because upstream was seen to have changed the past since it was
    fetched, is fetched again when it is next asked for. The database is only read, so a hub
    may be running on it.

    Parameters
    ----------
    provider
        Only series of this provider, such as "sample".
    ticker
        Only series of this ticker, in capitals or not.
    start
        Where all bars begin: a date (of each series' exchange), an RFC 3339 instant, or such
        as -90d.
    end
        Where all bars end; "now" is the present.
    output
        `table` for people, `json` for programs: instants in UTC, ranges half open.
    """
    now = SystemClock().now_ms()
    bounds(start, end, now)
    path = flags.path()
    held = read(path, lambda store: store.all_series(provider))
    elsewhere = [] if held else read(path, lambda store: store.all_series(None))
    found = chosen(held, path, provider, ticker, elsewhere)
    views = [
        view(state, now, *bounds(start, end, now, zone_named(state.ticker.zone))) for state in found
    ]
    if output == "json":
        told = [record(one) for one in views]
        print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
        return
    console = console_on(sys.stdout)
    show(views, path, now, console, takes_blocks(sys.stdout))


def bounds(
    start: str | None, end: str | None, now: int, zone: ZoneInfo | None = None
) -> tuple[int | None, int | None]:
    """Read `--start` and `--end`, of which bare dates are days of a zone (`None`: UTC).

    Raises `UsageError` where they are none.
    """
    read = partial(parse_instant, now_ms=now, zone=zone)
    try:
        first = None if start is None else read(start, what="--start")
        last = None if end is None else read(end, what="--end")
    except InvalidQuery as error:
        raise UsageError(error.message) from None
    if first is not None and last is not None and first >= last:
        raise UsageError(f"--start {start} is not before --end {end}")
    return first, last


def chosen(
    found: Sequence[SeriesState],
    path: Path,
    provider: str | None,
    ticker: str | None,
    elsewhere: Sequence[SeriesState] = (),
) -> list[SeriesState]:
    """Return the series of that ticker; raise `NotFound` where something is asked and none is.

    `elsewhere` is what other providers hold: the provider may be a ticker of theirs.
    """
    result = [
        state for state in found if ticker is None or state.key.ticker.lower() == ticker.lower()
    ]
    if result or provider is None:
        return result
    asked = " ".join(name for name in (provider, ticker) if name is not None)
    others = ", ".join(sorted({state.key.ticker for state in found})[:20])
    meant = sorted(
        {
            f"gapless coverage {state.key.provider} {state.key.ticker}"
            for state in elsewhere
            if state.key.ticker.lower() == provider.lower()
        }
    )
    if others:
        hint = f"of {provider} it holds {others}"
    elif meant:
        hint = f"did you mean: {printable(' or '.join(meant))}?"
    else:
        hint = "gapless coverage lists all series"
    raise NotFound(f"{path} holds nothing of {printable(asked)}; {hint}")


def view(state: SeriesState, now: int, first: int | None = None, last: int | None = None) -> View:
    """Return what is known of a series between the bounds; `None`: where its own knowledge ends.

    What lies ahead of `now` is neither known nor missing (stitching rule 1), and what follows a
    provisional tail that is not due counts as covered (stitching rule 3).
    """
    rows = list(state.coverage)
    after = tail(state.coverage, now)
    if after is not None and last is not None:
        latest = max(rows, key=lambda row: row.end)
        rows.append(replace(latest, start=after.start, end=after.end))
    start = min((row.start for row in rows), default=0) if first is None else first
    end = max((row.end for row in rows), default=start) if last is None else min(last, now)
    whole = Interval(start, max(start, end))
    known = [(row, row.interval.intersection(whole)) for row in rows]
    known = [(row, part) for row, part in known if not part.empty]
    missing = tuple(subtract([whole], [part for _, part in known]))
    return View(state, whole, tuple(known), missing, state.count(whole))


def record(shown: View) -> dict[str, Any]:
    """Return a series as `-o json` tells it."""
    state = shown.state
    return {
        "series": state.key.text,
        "provider": state.key.provider,
        "ticker": state.key.ticker,
        "params": dict(state.key.params),
        "from": format_instant(shown.whole.start),
        "to": format_instant(shown.whole.end),
        "records": shown.records,
        "coverage": [_told(row, part, state) for row, part in shown.known],
        "missing": [
            {"from": format_instant(gap.start), "to": format_instant(gap.end)}
            for gap in shown.missing
        ],
    }


def show(views: Sequence[View], path: Path, now: int, console: Console, blocks: bool) -> None:
    """Print a bar for each series, with what there is to say of it, and what the bars mean."""
    if not views:
        text = f"{path} holds nothing yet: what is asked of a hub on it will be kept there"
        console.print(text, soft_wrap=True)
        return
    width = min(console.width, _WIDEST)
    seen: set[Shade] = set()
    for shown in views:
        console.print(_title(shown, width))
        if shown.whole.empty:
            console.print(Text("nothing is known of it in this range", style="dim"))
        else:
            line, shades = ranged_bar(shown.parts, shown.whole, width, blocks)
            seen |= shades
            console.print(line, no_wrap=True, overflow="crop")
        console.print(Text(_remarks(shown, now, " · " if blocks else ", "), style="dim"))
        console.print()
    console.print(legend((shade for shade in _LEGEND if shade in seen), blocks, width))
    records = sum(shown.records for shown in views)
    summary = f"{count_text(len(views), 'series')}, {count_text(records, 'record')} in {path}"
    console.print(Text(summary, style="dim"), soft_wrap=True)


def _title(shown: View, width: int) -> Text:
    key = shown.state.key
    name = Text.assemble(
        (printable(key.provider), "dim"), " ", (printable(key.ticker), "bold"), no_wrap=True
    )
    for parameter, value in key.params:
        name.append(printable(f" {parameter}={value}"))
    count = count_text(shown.records, "record")
    name.append(" " * max(2, width - name.cell_len - len(count)))
    return name.append(count)


def _remarks(shown: View, now: int, between: str) -> str:
    """Return what the bar cannot show, as one line."""
    state = shown.state
    said: list[str] = []
    if shown.missing:
        gaps = count_text(len(shown.missing), "gap")
        longest = max(shown.missing, key=lambda gap: gap.length)
        where = "..".join(bounds_text(longest))
        said.append(f"{gaps}: {where}" if len(shown.missing) == 1 else f"{gaps}, longest {where}")
    elif not shown.whole.empty:
        said.append("no gaps")
    due = [
        row.refresh_after
        for row in state.coverage
        if row.refresh_after is not None and row.interval.overlaps(shown.whole)
    ]
    if due:
        soonest = min(due)
        said.append(
            "provisional part is due"
            if soonest <= now
            else f"provisional until {instant_text(soonest)}"
        )
    marks = {row.mark for row in state.coverage if row.mark is not None}
    said.extend(f"partly {mark.value}" for mark in sorted(marks))
    if state.coverage:
        oldest = min(row.fetched_at for row in state.coverage)
        said.append(f"fetched {age_text(now - oldest)} ago")
    return between.join(said)


def _shade(row: Coverage, state: SeriesState) -> Shade:
    if row.outcome is Outcome.OUT_OF_WINDOW:
        return bars.OUT_OF_WINDOW
    if row.commit < state.due_before:
        return bars.DUE
    if not row.final:
        return bars.PROVISIONAL
    return bars.EMPTY if row.outcome is Outcome.EMPTY else bars.HELD


_STATES: Mapping[Shade, str] = {
    bars.HELD: "held",
    bars.EMPTY: "empty",
    bars.PROVISIONAL: "provisional",
    bars.OUT_OF_WINDOW: "out_of_window",
    bars.DUE: "due",
}


def _told(row: Coverage, part: Interval, state: SeriesState) -> dict[str, Any]:
    refresh = row.refresh_after
    return {
        "from": format_instant(part.start),
        "to": format_instant(part.end),
        "state": _STATES[_shade(row, state)],
        "outcome": row.outcome.value,
        "fetched_at": format_instant(row.fetched_at),
        "refresh_after": None if refresh is None else format_instant(refresh),
        "mark": None if row.mark is None else row.mark.value,
    }
