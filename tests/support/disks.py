"""A disk of its own for a test, small enough to be filled: a tmpfs, where mounting is allowed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PIECE = 4_096


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """Mount a disk of so many MiB for the length of the block; skip the test where that fails."""
    place = folder / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}M,mode=700", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"a disk can only be mounted by root: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], timeout=60, check=True)


def fill(disk: Path) -> Path:
    """Take all the room that is left on a disk, as a stranger's file would; return that."""
    stranger = disk / "stranger"
    descriptor = os.open(stranger, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(descriptor, b"x" * _PIECE)
    except OSError:
        assert free(disk) < _PIECE
    finally:
        os.close(descriptor)
    return stranger


def free(disk: Path) -> int:
    """Return how many bytes are left on a disk."""
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize
