"""A process that is killed at each write boundary of some changes, each in a fork of its own.

Run as a script: `killer.py FOLDER PAGES`. SQLite copies its journal into the file every PAGES
pages. The n-th fork works on `FOLDER/n.db` and ends itself by
SIGKILL before the n-th statement, or before it could tell of what it has done; `FOLDER/n.told`
has a byte for each change that was acknowledged. The last fork ends well; its number is printed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from gapless.domain.believing import Doubt, Suspicion
from gapless.domain.blocks import Run, encode
from gapless.domain.coverage import Coverage, Outcome
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.store.base import Change, Gone, Replacement
from gapless.store.sql import SqlStore
from gapless.store.sqlite import open_store

KEY = SeriesKey("steady", "ABC", (("side", "right"),))
BLOCK_RECORDS = 40


def replacement(start: int, end: int, value: float, provisional: int | None = None) -> Replacement:
    """Return a replacement with a record at each tenth instant, its tail provisional or not."""
    times = range(-(-start // 10) * 10, end, 10)
    run = Run.of((time, encode({"timestamp": time, "close": value + time})) for time in times)
    rows = [Coverage(start, end, Outcome.HELD, 7, None)]
    if provisional is not None:
        rows = [
            Coverage(start, provisional, Outcome.HELD, 7, None),
            Coverage(provisional, end, Outcome.HELD, 7, 99),
        ]
    return Replacement(Interval(start, end), run, tuple(rows))


def nothing(start: int, end: int) -> Replacement:
    """Return a replacement that knows an interval to be empty."""
    empty = Coverage(start, end, Outcome.EMPTY, 7, None)
    return Replacement(Interval(start, end), Run.of(()), (empty,))


CHANGES = [
    # cold
    Change(KEY, (replacement(0, 1_000, 1.0),), revises=True, at=1),
    # a neighbour with a provisional tail, another beyond a gap
    Change(KEY, (replacement(1_000, 1_500, 1.0, 1_450), replacement(2_000, 2_100, 1.0)), at=2),
    # the middle anew, and a range that turned out to be empty
    Change(KEY, (replacement(333, 777, 2.0), nothing(1_700, 1_800)), revises=True, at=3),
    # another past, what is not believed yet, and what upstream does not have any more
    Change(
        KEY,
        (replacement(500, 1_200, 3.0),),
        revises=True,
        due_before=4,
        restates=True,
        gone=Gone((Interval(0, 200),), 4),
        doubts=(Doubt(1_300, 1_400, Suspicion.LOSS, 4, 9),),
        meta={"hours": [1, 2]},
        at=4,
    ),
    # the doubt is over
    Change(KEY, (replacement(1_200, 1_450, 3.0),), answered=(Interval(1_200, 1_450),), at=5),
]


async def change_all(store: SqlStore, told: int, boundary: Callable[[], None]) -> None:
    """Make all changes, each acknowledged once it is made."""
    for change in CHANGES:
        await store.apply(change)
        boundary()
        os.write(told, b".")


def dies_at(folder: Path, n: int, pages: int) -> None:
    """Make the changes and die at boundary `n`; return where there are fewer."""
    count = 0

    def boundary(_: str = "") -> None:
        nonlocal count
        count += 1
        if count == n:
            os.kill(os.getpid(), signal.SIGKILL)

    store = open_store(folder / f"{n}.db", BLOCK_RECORDS)
    raw = store._writer.raw_connection()
    raw.driver_connection.execute(f"PRAGMA wal_autocheckpoint={pages}")  # type: ignore[union-attr]
    raw.driver_connection.set_trace_callback(boundary)  # type: ignore[union-attr]
    raw.close()
    told = os.open(folder / f"{n}.told", os.O_WRONLY | os.O_CREAT)
    asyncio.run(change_all(store, told, boundary))
    os.close(told)


def main(folder: Path, pages: int) -> None:
    """Fork once for each boundary, while no thread is there."""
    template = folder / "template.db"
    asyncio.run(open_store(template).close())
    n = 0
    while True:
        n += 1
        shutil.copyfile(template, folder / f"{n}.db")
        child = os.fork()
        if child == 0:
            dies_at(folder, n, pages)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(1)
    sys.stdout.write(str(n))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
