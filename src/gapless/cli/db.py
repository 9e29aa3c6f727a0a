"""`gapless db`: bring a database up to date, and check that it says what was written to it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gapless.cli.database import DEFAULT_DATABASE, DatabaseFlags, write
from gapless.errors import DatabaseDamaged
from gapless.shell.wording import console_on, count_text
from gapless.store.database import Progress as Advance
from gapless.store.database import database_at
from gapless.texts import printable


def register(app: App) -> None:
    """Add `db upgrade` and `db check` to the command line."""
    db = App(name="db", help="Look after the database file.")
    db.command(upgrade)
    db.command(check)
    app.command(db)


def upgrade(*, flags: DatabaseFlags = DEFAULT_DATABASE) -> None:
    """Bring a database to the shape that this version writes.

    A hub does so by itself when it starts; this is for doing it beforehand. It is all or
    nothing, and needs a database that no hub is running on. Keep a copy of the file if you
    may want to go back: an older gapless does not open it any more.
    """
    path = flags.path()
    database = database_at(path)
    before = database.step()
    if before == database.latest:
        print(f"{path} is up to date (step {before})")
        return
    # Opening it to write is what brings it up to date.
    write(path, "db upgrade", flags.load().cache.block_records, lambda store: store.figures())
    came = "it was empty" if before is None else f"from step {before}"
    print(f"{path} is up to date now (step {database.latest}, {came})")


def check(
    *,
    flags: DatabaseFlags = DEFAULT_DATABASE,
    output: Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"])] = "text",
) -> int:
    """Check that a database is sound; exit 1 and say what is wrong if it is not.

    SQLite checks its pages; then every block of records is read: that its index fits its text,
    its hashes and its etag are those of its records, and no two blocks or ranges overlap.
    Nothing is changed, and a hub may be running on the database.

    Parameters
    ----------
    output
        `text` for people, `json` for programs.
    """
    path = flags.path()
    findings = examine(path)
    if output == "json":
        told = {"database": str(path), "sound": not findings, "findings": findings}
        print(msgspec.json.encode(told).decode())
        return bool(findings)
    for finding in findings:
        print(printable(finding))
    if findings:
        print(
            f"gapless: {count_text(len(findings), 'finding')} in {path}. It is left as it is: "
            "restore a copy, or move it away and start anew; what it held is fetched again",
            file=sys.stderr,
        )
        return 1
    print(f"{path} is sound")
    return 0


def examine(path: Path) -> list[str]:
    """Return what is wrong with a database, a sentence each, showing how far it is.

    Raises `StoreError` where there is none, or none of this version.
    """
    database = database_at(path)
    with _progress() as begin:
        begin("pages")
        step = database.step()
        findings = list(database.check())
        if step is None:
            return findings
        advance = begin("records")
        try:
            return findings + database.inspect(advance)
        except DatabaseDamaged as error:
            return [*findings, error.message]


@contextmanager
def _progress() -> Iterator[Callable[[str], Advance]]:
    """Show a bar on stderr while there is something to wait for, on a terminal only."""
    console = console_on(sys.stderr)
    columns = (
        TextColumn("checking {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:

        def begin(what: str) -> Advance:
            for task in progress.task_ids:
                progress.remove_task(task)
            task = progress.add_task(what, total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield begin
