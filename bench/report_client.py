"""The Python client as tables, and how it stands to its targets."""

from __future__ import annotations

from rich.console import Console

from client import TICKERS, Bulks
from client_asks import Got
from daily import ROWS
from report import Target, table_of

SEARCH_US = 150.0
TIMES_FASTER = 20.0
ASKS = {
    "raw": "a raw socket",
    "search": "Client.search",
    "records": "Client.search, records",
    "polars": "Client.search, to_polars()",
    "async": "AsyncClient.search",
    "raw 16": "a raw socket, 16 in flight",
    "async 16": "AsyncClient.search, 16 in flight",
}


def print_asks(to: Console, asks: Got) -> None:
    """Print what the client adds to an answer."""
    table = table_of(to, f"252 held records by the Python client, {asks.size:,} bytes an answer")
    table.add_column("")
    for heading in ("µs an answer", "above the raw socket"):
        table.add_column(heading, justify="right")
    for way in asks.ways:
        added = "" if way.name == way.beside else f"{way.added_us:+,.0f}"
        table.add_row(ASKS[way.name], f"{way.us:,.0f}", added)
    to.print(table)


def print_bulks(to: Console, bulks: Bulks) -> None:
    """Print the ways to read many tickers."""
    table = table_of(to, f"{TICKERS} tickers of {ROWS:,} days to one frame")
    table.add_column("")
    for heading in ("s", "tickers read", "× gapless", "× gapless, roomy"):
        table.add_column(heading, justify="right")
    for way in bulks.ways:
        table.add_row(
            way.name,
            f"{way.seconds:,.2f}",
            f"{way.measured}",
            f"{way.of_gapless:,.1f}",
            f"{way.of_roomy:,.1f}",
        )
    to.print(table)


def targets_client(asks: Got | None, bulks: Bulks | None) -> list[Target]:
    """Hold what was measured against the targets; what was not measured stays undecided."""
    found = []
    name, wanted = "Client.search above a raw socket, 252 records", f"at most {SEARCH_US:.0f} µs"
    way = next((one for one in asks.ways if one.name == "search"), None) if asks else None
    if way is None:
        found.append(Target(name, wanted, "", None))
    else:
        got = f"{way.added_us:+.0f} µs ({way.us:,.0f} µs)"
        found.append(Target(name, wanted, got, way.added_us <= SEARCH_US))
    wanted = f"at least {TIMES_FASTER:.0f} × faster"
    for rival in ("yfinance-cache", "OpenBB"):
        ways = [one for one in bulks.ways if one.name.startswith(rival)] if bulks else []
        for hub in ("as it is", "roomy"):
            name = f"{TICKERS} tickers against {rival}, hub {hub}"
            if not ways:
                found.append(Target(name, wanted, "", None))
                continue
            # Its fastest way counts.
            best = min(ways, key=lambda one: one.seconds)
            times = best.of_gapless if hub == "as it is" else best.of_roomy
            got = f"{times:.1f} × ({best.name}, {best.seconds:,.2f} s)"
            found.append(Target(name, wanted, got, times >= TIMES_FASTER))
    return found
