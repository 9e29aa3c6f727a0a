"""HTTP, frames and plugins as tables, and how they stand to their targets.

Apart from report.py, which is about answers over TCP.
"""

from __future__ import annotations

from rich.console import Console

from frame_client import Way
from frames import Frames
from plugin_fetch import Fetching
from plugin_loads import Loads, Reloads
from report import Target, marks, table_of
from web import HELD_WAY, NGINX_WAY, Web

THROUGHPUT_OF_NGINX = 0.30
ARROW_OF_FILE = 3.0
JSON_OF_ARROW = 10.0
PLUGIN_OF_INSIDE = 1.5
LOAD_MS = 1000.0
LOADS_P99 = 2.0
WAYS = {
    "file": "IPC file on this machine",
    "arrow": "hub, Arrow",
    "nginx": "nginx, the same Arrow bytes",
    "parquet": "hub, Parquet",
    "csv": "hub, CSV",
    "ndjson": "hub, NDJSON",
    "json": "hub, JSON",
}


def print_web(to: Console, rows: list[Web]) -> None:
    """Print the ways to ask for 252 records over HTTP."""
    table = table_of(to, "252 records over HTTP, 64 connections")
    table.add_column("")
    for heading in (
        "bytes",
        "req/s",
        "CPU µs/req",
        "p50 µs",
        "p99 µs",
        "× nginx",
        "server",
        "load",
    ):
        table.add_column(heading, justify="right")
    table.add_column("")
    for row in rows:
        table.add_row(
            row.asked,
            f"{row.size:,}",
            f"{row.per_second:,.0f}",
            f"{row.cpu_us:,.1f}",
            f"{row.p50_us:,.0f}",
            f"{row.p99_us:,.0f}",
            "" if row.of_nginx is None else f"{row.of_nginx:.2f}",
            f"{row.per_second * row.cpu_us / 1e6:.0%}",
            f"{row.load_busy:.0%}",
            marks(row.load_busy, row.disturbed, row.problems),
        )
    to.print(table)


def print_frames(to: Console, frames: Frames) -> None:
    """Print the ways to a frame, and the memory that they take."""
    table = table_of(to, f"{frames.rows:,} rows of 7 columns to a polars frame, ms")
    table.add_column("")
    for heading in ("MB", "memory new", "× file", "memory kept", "× file", "of it transfer"):
        table.add_column(heading, justify="right")
    files = _way(frames.fresh, "file"), _way(frames.kept, "file")
    for fresh, kept in zip(frames.fresh, frames.kept, strict=True):
        table.add_row(
            WAYS[fresh.name],
            f"{fresh.size / 1e6:,.0f}",
            f"{fresh.ms:,.1f}",
            f"{fresh.ms / files[0].ms:.1f}" if files[0] else "",
            f"{kept.ms:,.1f}",
            f"{kept.ms / files[1].ms:.1f}" if files[1] else "",
            f"{kept.transfer_ms:,.1f}" if kept.transfer_ms else "",
        )
    to.print(table)
    to.print(
        f"The first Arrow answer: {frames.cold_ms:,.0f} ms with the plugin's fetch and the "
        f"storing, {frames.first_ms:,.0f} ms where all was held.",
        highlight=False,
    )
    if not frames.memory:
        return
    table = table_of(
        to, f"Growth of the hub's memory, {frames.memory[0].clients} downloads at once"
    )
    table.add_column("format")
    for heading in ("rows", "MB an answer", "peak MB", "afterwards MB"):
        table.add_column(heading, justify="right")
    for one in frames.memory:
        table.add_row(
            one.format,
            f"{one.rows:,}",
            f"{one.size / 1e6:,.0f}",
            f"{one.peak / 1e6:,.0f}",
            f"{one.after / 1e6:,.0f}",
        )
    to.print(table)


def print_fetches(to: Console, rows: list[Fetching]) -> None:
    """Print what a plugin's process costs a fetch, and others meanwhile."""
    table = table_of(to, f"A fetch of {rows[0].records:,} records, from the request to the answer")
    table.add_column("provider")
    for heading in ("ms", "slowest", "× in the hub", "CPU ms"):
        table.add_column(heading, justify="right")
    for heading in ("p99 µs of others, alone", "beside fetches", "slowest", "fetches"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.provider,
            f"{row.ms:,.0f}",
            f"{row.slowest_ms:,.0f}",
            f"{row.of_inside:.2f}",
            f"{row.cpu_ms:,.0f}",
            f"{row.alone_us:,.0f}",
            f"{row.beside_us:,.0f}",
            f"{row.beside_max_us:,.0f}",
            f"{row.fetches}",
        )
    to.print(table)


def print_loads(to: Console, loads: list[Loads], reloads: Reloads) -> None:
    """Print what loading plugins takes, and what it leaves over."""
    table = table_of(to, "POST /plugins/load, 16 connections asking for 252 held records meanwhile")
    table.add_column("plugin")
    for heading in (
        "ms, no traffic",
        "ms, traffic",
        "slowest",
        "loads",
        "p99 µs, no loads",
        "loads",
        "ratio",
    ):
        table.add_column(heading, justify="right")
    for row in loads:
        table.add_row(
            row.plugin,
            f"{row.quiet_ms:,.0f}",
            f"{row.busy_ms:,.0f}",
            f"{row.slowest_ms:,.0f}",
            f"{row.loads}",
            f"{row.alone_us:,.0f}",
            f"{row.beside_us:,.0f}",
            f"{row.ratio:.2f}",
        )
    to.print(table)
    table = table_of(
        to,
        f"{reloads.times} reloads, {reloads.ms:,.0f} ms each (slowest {reloads.slowest_ms:,.0f}); "
        f"{reloads.asked:,} requests to the plugin meanwhile, {len(reloads.lost)} of them lost",
    )
    for heading in ("", "processes", "open files", "resident MB"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, left in (("before", reloads.before), ("after", reloads.after)):
        table.add_row(name, f"{left.processes}", f"{left.files}", f"{left.memory / 1e6:,.1f}")
    to.print(table)


def targets_http(
    web: list[Web],
    frames: Frames | None,
    fetches: list[Fetching],
    loads: list[Loads],
    reloads: Reloads | None,
) -> list[Target]:
    """Hold what was measured against the targets; what was not measured stays undecided."""
    found = [_of_nginx(web), *_of_frames(frames)]
    name, wanted = "a plugin's fetch against one in the hub", f"at most {PLUGIN_OF_INSIDE}"
    if fetches:
        plugin, inside = fetches
        got = f"{plugin.of_inside:.2f} ({plugin.ms:,.0f} and {inside.ms:,.0f} ms)"
        got += f"; of CPU time {plugin.cpu_ms / inside.cpu_ms:.2f}"
        found.append(Target(name, wanted, got, plugin.of_inside <= PLUGIN_OF_INSIDE))
    else:
        found.append(Target(name, wanted, "", None))
    return [*found, *_of_loads(loads), _of_reloads(reloads)]


def _of_nginx(web: list[Web]) -> Target:
    name, wanted = "HTTP throughput against nginx, 252 records", f"at least {THROUGHPUT_OF_NGINX}"
    hub = next((row for row in web if row.asked == HELD_WAY), None)
    nginx = next((row for row in web if row.asked == NGINX_WAY), None)
    if hub is None or nginx is None or hub.of_nginx is None:
        return Target(name, wanted, "", None)
    got = f"{hub.of_nginx:.2f} ({hub.per_second:,.0f} of {nginx.per_second:,.0f} req/s)"
    return Target(name, wanted, got, hub.of_nginx >= THROUGHPUT_OF_NGINX)


def _of_frames(frames: Frames | None) -> list[Target]:
    first, second = f"at most {ARROW_OF_FILE:.0f} ×", f"at least {JSON_OF_ARROW:.0f} ×"
    found = []
    for how in ("kept", "new"):
        ways = [] if frames is None else frames.kept if how == "kept" else frames.fresh
        file, arrow, json = (_way(ways, name) for name in ("file", "arrow", "json"))
        of_file = f"a frame over Arrow against a local file, memory {how}"
        of_json = f"a frame over Arrow against JSON, memory {how}"
        if file is None or arrow is None or json is None:
            found += [Target(of_file, first, "", None), Target(of_json, second, "", None)]
            continue
        ratio, times = arrow.ms / file.ms, json.ms / arrow.ms
        got = f"{ratio:.1f} × ({arrow.ms:,.1f} and {file.ms:,.1f} ms)"
        found.append(Target(of_file, first, got, ratio <= ARROW_OF_FILE))
        got = f"{times:.0f} × faster ({json.ms:,.0f} ms)"
        found.append(Target(of_json, second, got, times >= JSON_OF_ARROW))
    return found


def _of_loads(loads: list[Loads]) -> list[Target]:
    load, others = "a plugin is loaded beside traffic", "p99 of the traffic, with loads"
    in_time, at_most = f"within {LOAD_MS / 1000:.0f} s", f"at most {LOADS_P99:.0f} ×, none lost"
    if not loads:
        return [Target(load, in_time, "", None), Target(others, at_most, "", None)]
    found = []
    for row in loads:
        got = f"{row.busy_ms:,.0f} ms (slowest {row.slowest_ms:,.0f})"
        found.append(Target(f"{load}, {row.plugin}", in_time, got, row.slowest_ms < LOAD_MS))
        got = f"{row.ratio:.2f} × ({row.beside_us:,.0f} µs), {row.problems} lost"
        reached = row.ratio <= LOADS_P99 and not row.problems
        found.append(Target(f"{others}, {row.plugin}", at_most, got, reached))
    return found


def _of_reloads(reloads: Reloads | None) -> Target:
    wanted = "none, and no request lost"
    if reloads is None:
        return Target("left over by reloads: processes, files", wanted, "", None)
    name = f"left over by {reloads.times} reloads: processes, files"
    before, after = reloads.before, reloads.after
    processes, files = after.processes - before.processes, after.files - before.files
    got = f"{processes}, {files}; {len(reloads.lost)} of {reloads.asked:,} requests lost"
    return Target(name, wanted, got, processes <= 0 and files <= 0 and not reloads.lost)


def _way(ways: list[Way], name: str) -> Way | None:
    return next((way for way in ways if way.name == name), None)
