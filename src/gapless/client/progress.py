"""A progress bar for long work, on stderr: where a person looks at it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, total: int, shown: bool | None) -> Iterator[Callable[[], None]]:
    """Show how far work is; yields what is to be called for each part that is done.

    `shown` `None`: where stderr is a terminal, or in a notebook.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if shown is None:
        shown = sys.stderr.isatty() or console.is_jupyter
    if not shown or not total:
        yield lambda: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
