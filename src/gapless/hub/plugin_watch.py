"""Seeing that a plugin's files have changed since they were loaded.

Apart from the manager, which knows what to do about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

# An editor that saves a file touches it more than once.
_SETTLING_MS = 100
_LOOK_AGAIN_MS = 1_000

Stamps = Mapping[str, tuple[int, ...]]
"""Files by their path, each with what tells one version of it from another; empty: it is gone."""


async def changes(loaded: Stamps) -> AsyncIterator[None]:
    """Yield each time one of the files is not any more what it was the last time.

    The system tells of most changes at once. What it does not tell of (before this began, on some
    network drives) is found within a second. Raises `OSError` where their folders cannot be
    watched.
    """
    # It brings machinery that a hub without such plugins need not have.
    from watchfiles import awatch

    known = dict(loaded)
    folders = sorted({str(Path(file).parent) for file in known})
    if not folders:
        return
    try:
        async for told in awatch(
            *folders,
            watch_filter=lambda _, path: path in loaded,
            debounce=_SETTLING_MS,
            step=_SETTLING_MS // 2,
            rust_timeout=_LOOK_AGAIN_MS,
            yield_on_timeout=True,
            recursive=False,
        ):
            now = await asyncio.to_thread(_stamps, known)
            if told or now != known:
                known = now
                yield None
    except RuntimeError as error:
        raise OSError(str(error)) from error


def stamp(path: str) -> tuple[int, ...]:
    """Return what tells this version of a file from another; it reads the disk."""
    try:
        stat = Path(path).stat()
    except OSError:
        return ()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _stamps(files: Stamps) -> dict[str, tuple[int, ...]]:
    return {path: stamp(path) for path in files}
