"""`gapless doctor`: whether this machine, these settings and this database are fit for a hub."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gapless import __version__
from gapless.cli.database import DEFAULT_DATABASE, DatabaseFlags, read
from gapless.cli.exits import Exit, UsageError
from gapless.cli.findings import Finding, Level
from gapless.cli.hub_findings import certificate, hub
from gapless.clock import SystemClock
from gapless.config import Settings, database_path
from gapless.domain.intervals import Interval
from gapless.errors import GaplessError, RateLimited
from gapless.instants import format_instant
from gapless.shell.wording import console_on, size_text
from gapless.store.database import EngineInfo, database_at
from gapless.texts import masked, printable

if TYPE_CHECKING:
    from gapless.providers.yahoo import YahooProvider
    from gapless.store.base import SeriesState

_LIBRARIES = ("msgspec", "sqlalchemy", "alembic", "uvloop", "xxhash", "polars", "curl_cffi")
_STYLES: Mapping[Level, str] = {"ok": "green", "note": "yellow", "problem": "bold red"}
_LOW_ON_DISK = 1 << 30
_QUICKLY_CHECKED = 256 << 20
_REMOTE = frozenset({"9p", "afs", "cifs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"})
_PATIENCE_S = 5.0
_DAY_MS = 86_400_000


def register(app: App) -> None:
    """Add `doctor` to the command line."""
    app.command(doctor)


def doctor(
    *,
    flags: DatabaseFlags = DEFAULT_DATABASE,
    online: Annotated[bool, Parameter(negative=())] = False,
    upstream: Annotated[bool, Parameter(negative=())] = False,
    record: Path | None = None,
    output: Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"])] = "text",
) -> int:
    """Look for what could keep a hub from working, and say what to do; exit 1 on problems.

    Looks at the versions of what gapless stands on, the settings, the database and its disk,
    the files for TLS, the hub that runs on it or that `GAPLESS_URL` names, whether that asks for
    tokens and takes `GAPLESS_TOKEN`, whether there are users, the limit on open files, and whether
    the upstream host's name can be resolved. Nothing is changed, and nothing is asked upstream
    unless you say so; where Yahoo then answers that it is asked too much, the exit code is 75.

    Parameters
    ----------
    online
        Ask Yahoo for a week of one ticker too, past the cache, to see whether it answers.
    upstream
        Ask Yahoo by at most 10 requests, past the cache and within its pace, whether what gapless
        takes for granted of its answers is still so.
    record
        With --upstream: write each answer to a file in this folder, without what tells who asked.
    output
        `text` for people, `json` for programs.
    """
    if record is not None and not upstream:
        raise UsageError("--record goes with --upstream: it is those answers that are recorded")
    findings: list[Finding] = []
    console = console_on(sys.stdout)
    limited = False

    def report(finding: Finding) -> None:
        findings.append(finding)
        if output == "text":
            _print(finding, console)

    try:
        for finding in examine(flags, Asking(online, upstream, record)):
            report(finding)
    except RateLimited as error:
        limited = True
        report(Finding("problem", "upstream", error.message))
    problems = sum(finding.level == "problem" for finding in findings)
    if output == "json":
        print(msgspec.json.encode({"ok": not problems, "findings": findings}).decode())
    elif problems:
        console.print(f"\n{problems} problem{'' if problems == 1 else 's'}", style="bold red")
    else:
        console.print("\nall is well", style="bold green")
    if limited:
        return Exit.RATE_LIMITED
    return Exit.FAILURE if problems else Exit.OK


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked upstream: whether it answers, whether it is as it was; `record`: kept where."""

    online: bool = False
    upstream: bool = False
    record: Path | None = None


def examine(flags: DatabaseFlags, asking: Asking) -> Iterator[Finding]:
    """Yield the findings as they come; raise `RateLimited` where upstream is asked too much."""
    yield Finding(
        "ok", "gapless", f"{__version__} on Python {sys.version.split()[0]}, {sys.platform}"
    )
    yield libraries(_LIBRARIES)
    try:
        settings = flags.load()
        path = database_path(settings.db)
    except GaplessError as error:
        yield Finding("problem", "settings", error.message, "see: gapless config show")
        return
    yield settings_read(flags)
    yield engine(database_at(path).engine())
    yield from database(path)
    yield from due(path, settings)
    yield from certificate(settings)
    yield from hub(path, settings, os.environ)
    http = 0 if settings.http == "off" else settings.api.max_connections
    yield open_files(settings.limits.max_connections, http)
    if not settings.yahoo.enabled:
        yield Finding("note", "upstream", "the Yahoo provider is turned off (yahoo.enabled)")
        return
    yield name_resolves(settings.yahoo.base_url)
    if asking.online:
        yield asyncio.run(answers(settings))
    if asking.upstream:
        yield from assumptions(settings, asking.record)


def libraries(names: Iterable[str]) -> Finding:
    """Return the versions of what gapless stands on; a problem if one is not installed."""
    found, absent = [], []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            absent.append(name)
    if absent:
        return Finding(
            "problem", "libraries", f"not installed: {', '.join(absent)}", "install gapless again"
        )
    return Finding("ok", "libraries", ", ".join(found))


def engine(found: EngineInfo) -> Finding:
    """Return which engine a database needs, and what to know of this version of it."""
    level: Level = "ok" if found.caveat is None else "note"
    about = found.version if found.caveat is None else f"{found.version} {found.caveat}"
    return Finding(level, found.name, about, found.advice or "")


def settings_read(flags: DatabaseFlags) -> Finding:
    """Return where settings come from beside the defaults."""
    file = flags.config or os.environ.get("GAPLESS_CONFIG")
    variables = sorted(name for name in os.environ if name.startswith("GAPLESS_"))
    sources = [f"file {file}"] if file else ["no settings file"]
    if variables:
        sources.append(f"environment {', '.join(variables)}")
    return Finding("ok", "settings", "; ".join(sources))


def database(path: Path) -> Iterator[Finding]:
    """Yield what there is to say of the database file and the disk it is on."""
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not path.exists():
        if os.access(folder, os.W_OK | os.X_OK):
            yield Finding("ok", "database", f"{path} is not there yet; a hub makes it")
        else:
            yield Finding(
                "problem",
                "database",
                f"{path} is not there and cannot be made: {folder} cannot be written to",
                "change the folder's permissions, or choose another place with --db",
            )
    else:
        yield _file(path)
    free = shutil.disk_usage(folder).free
    if free < _LOW_ON_DISK:
        yield Finding(
            "problem" if free < _LOW_ON_DISK // 16 else "note",
            "disk",
            f"{size_text(free)} are free at {folder}",
            "make room, or forget old data with: gapless cache prune --before -365d",
        )
    else:
        yield Finding("ok", "disk", f"{size_text(free)} are free at {folder}")
    kind = filesystem(folder)
    if kind in _REMOTE:
        yield Finding(
            "problem",
            "disk",
            f"{folder} is on a {kind} file system, where SQLite's locks and WAL do not hold",
            "put the database on a disk of this machine with --db",
        )


def due(path: Path, settings: Settings) -> Iterator[Finding]:
    """Yield what of the database is to be fetched again when it is asked for, provider by provider.

    Of plugins, which only a running hub has, nothing is known here; nor is a large file read.
    """
    if not path.exists() or path.stat().st_size > _QUICKLY_CHECKED:
        return
    from gapless.app import providers
    from gapless.hub.ageing import Ageings
    from gapless.hub.series import Series, Validity

    clock = SystemClock()
    ageings, now = Ageings(settings.cache, clock), clock.now_ms()
    for provider in providers(settings):
        name = provider.info.name
        if not provider.info.revises:
            continue
        try:
            series = [Series(state, Validity()) for state in _held(path, name)]
        except GaplessError:
            return  # It is told above.
        count, later = 0, []
        for entry in series:
            ageing = ageings.of(provider, entry, now)
            assert ageing is not None
            count += any(not ageing.fresh(row) for row in entry.state.coverage)
            next_due = ageings.next_due(provider, entry, now)
            later += [next_due] if next_due is not None else []
        if series:
            soonest = f"; next at {format_instant(min(later))}" if later else ""
            yield Finding(
                "ok",
                "due",
                f"{count:,} of {len(series):,} series of {name} have something that is fetched "
                f"again when it is asked for{soonest}",
            )


def _held(path: Path, provider: str) -> Sequence[SeriesState]:
    return read(path, lambda store: store.all_series(provider))


def filesystem(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """Return the kind of file system a folder is on; `None` where the system does not tell."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    place = folder.resolve()
    best: tuple[int, str] | None = None
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        if place.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = len(point.parts), fields[2]
    return None if best is None else best[1]


def _file(path: Path) -> Finding:
    size = path.stat().st_size
    about = f"{path}, {size_text(size)}"
    if not os.access(path, os.R_OK | os.W_OK):
        return Finding(
            "problem",
            "database",
            f"{about}: it may not be read and written",
            "change its permissions, or name another file with --db",
        )
    database = database_at(path)
    try:
        if database.step() != database.latest:
            return Finding(
                "note", "database", f"{about}, of an older gapless", "a hub upgrades it on start"
            )
        if size > _QUICKLY_CHECKED:
            return Finding("ok", "database", f"{about}; to check all of it: gapless db check")
        findings = database.check()
    except GaplessError as error:
        return Finding("problem", "database", error.message)
    if findings:
        more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
        return Finding(
            "problem",
            "database",
            f"{about} is damaged: {findings[0]}{more}",
            "see: gapless db check; restore a copy, or move it away and start anew",
        )
    return Finding("ok", "database", f"{about}, its pages are sound")


def open_files(tcp: int, http: int) -> Finding:
    """Return whether a process may have as many open files as the hub takes connections."""
    from gapless.servers.descriptors import fitting, wanted

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted(tcp + http)
    fit = fitting(None if hard == resource.RLIM_INFINITY else hard, tcp, http)
    if fit != (tcp, http):
        return Finding(
            "note",
            "open files",
            f"{hard:,} at most: a hub takes {fit[0]:,} connections over TCP and {fit[1]:,} over "
            f"HTTP, not {tcp:,} and {http:,}",
            f"raise the hard limit (ulimit -Hn {needed}), or lower limits.max_connections and "
            "api.max_connections",
        )
    raised = f"; a hub raises it from {soft:,}" if soft < needed else ""
    most = "no limit" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    return Finding("ok", "open files", f"{most}{raised}")


def name_resolves(url: str) -> Finding:
    """Return whether the name of the upstream host can be resolved; no request is made."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = next(
        (
            name
            for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
            if parts.scheme == "https" and os.environ.get(name)
        ),
        None,
    )
    if proxy is not None:
        shown = masked(os.environ[proxy])
        return Finding("ok", "upstream", f"{host} is asked through the proxy {shown} ({proxy})")
    addresses: list[str] = []

    def resolve() -> None:
        with suppress(OSError, UnicodeError):
            found = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
            addresses.extend(str(one[4][0]) for one in found)

    # A name server that is silent keeps the resolver waiting for longer than a person would.
    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    if addresses:
        return Finding("ok", "upstream", f"{host} is {addresses[0]}")
    slow = f" within {_PATIENCE_S:g} s" if thread.is_alive() else ""
    return Finding(
        "problem",
        "upstream",
        f"the name {host} cannot be resolved{slow}: what is held is answered, nothing is fetched",
        "check the network and its name server; behind a proxy set HTTPS_PROXY",
    )


def _yahoo(settings: Settings) -> YahooProvider:
    """Return the provider as a hub with these settings would ask it."""
    from gapless.app import providers
    from gapless.providers.yahoo import YahooProvider

    return next(one for one in providers(settings) if isinstance(one, YahooProvider))


def assumptions(settings: Settings, record: Path | None) -> Iterator[Finding]:
    """Yield whether Yahoo still is what gapless takes it for; keep its answers in `record`."""
    from gapless.cli.recordings import Recordings
    from gapless.cli.upstream_findings import Canary

    recordings = None if record is None else Recordings(record)
    with asyncio.Runner() as runner:
        yahoo = _yahoo(settings)
        found = Canary(yahoo, SystemClock(), recordings).findings()

        async def following() -> Finding | None:
            return await anext(found, None)

        try:
            while (finding := runner.run(following())) is not None:
                yield finding
        finally:
            runner.run(yahoo.aclose())


async def answers(settings: Settings) -> Finding:
    """Ask Yahoo once for a week of a ticker that has long existed."""
    now = SystemClock().now_ms()
    asked = Interval(now - 7 * _DAY_MS, now)
    yahoo = _yahoo(settings)
    try:
        fetched = await yahoo.fetch(yahoo.key("SPY", {}), asked, now, {})
    except GaplessError as error:
        return Finding(
            "problem",
            "upstream",
            f"asked for a week of SPY it fails: {error.message}",
            "try again later; what is held is answered meanwhile",
        )
    finally:
        await yahoo.aclose()
    took = (SystemClock().now_ms() - now) / 1000
    records = len(fetched.records)
    return Finding("ok", "upstream", f"it answers: {records} bars of SPY in {took:.1f} s")


def _print(finding: Finding, console: Console) -> None:
    """Print a finding: a line for programs such as grep, folded and in colour for people."""
    if not console.is_terminal:
        advice = f"; {finding.advice}" if finding.advice else ""
        print(printable(f"{finding.level:<9}{finding.about:<12}{finding.said}{advice}"), flush=True)
        return
    row = Table(box=None, show_header=False, pad_edge=False)
    row.add_column(width=7)
    row.add_column(width=10)
    row.add_column(overflow="fold")
    said = Text(printable(finding.said))
    if finding.advice:
        said.append("\n" + printable(finding.advice), style="italic")
    row.add_row(Text(finding.level, style=_STYLES[finding.level]), finding.about, said)
    console.print(row)
