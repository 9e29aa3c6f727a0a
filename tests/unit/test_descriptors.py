"""File descriptors: how many connections fit, and what is said when there are none left."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gapless.errors import Overloaded
from gapless.servers.descriptors import KEPT, Descriptors, fitting
from support.clock import ManualClock

OPEN = Path("/proc/self/fd")
needs_proc = pytest.mark.skipif(not OPEN.exists(), reason="finds open files in /proc")


@contextmanager
def none_left() -> Iterator[None]:
    """Let this process open nothing more for the length of the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("limit", "wanted", "fit"),
    [
        (None, (10_000, 2_000), (10_000, 2_000)),
        (12_000 + KEPT, (10_000, 2_000), (10_000, 2_000)),
        (12_000 + KEPT - 1, (10_000, 2_000), (9_999, 1_999)),
        (1_024, (10_000, 2_000), (640, 128)),
        (1_024, (10_000, 0), (768, 0)),
        (1_024, (100, 20), (100, 20)),
        (256, (10_000, 2_000), (160, 32)),
        (100, (10_000, 2_000), (30, 6)),
        (20, (10_000, 2_000), (1, 1)),
    ],
)
def test_connections_that_fit(
    limit: int | None, wanted: tuple[int, int], fit: tuple[int, int]
) -> None:
    """Each door has its part of what the limit leaves, and never more than it is set to."""
    assert fitting(limit, *wanted) == fit


@needs_proc
def test_a_shortage_is_told_once_a_minute_until_it_is_over() -> None:
    """It is counted once, refuses newcomers while it lasts, and is told for a minute after."""
    clock = ManualClock()
    descriptors = Descriptors(clock)
    logs: list[Any]
    with capture_logs() as logs:
        before = len(list(OPEN.iterdir()))
        descriptors.look()
        assert descriptors.refusal() is None
        assert descriptors.trouble is None
        assert logs == []
        with none_left():
            for _ in range(150):
                descriptors.look()
                clock.advance(1.0)
            refusal, trouble = descriptors.refusal(), descriptors.trouble
            # What was held for this can be had now, to tell newcomers.
            os.close(os.open(os.devnull, os.O_RDONLY))
        assert isinstance(refusal, Overloaded)
        assert refusal.retry_after_s == 1
        assert "is out of file descriptors" in str(trouble)
        assert descriptors.shortages == 1
        assert [one["log_level"] for one in logs] == ["warning"] * 3
        descriptors.look()
        assert [one["log_level"] for one in logs] == ["warning"] * 3 + ["info"]
        assert logs[-1]["short_s"] == 150
        assert descriptors.refusal() is None
        assert "was out of file descriptors" in str(descriptors.trouble)
        clock.advance(61.0)
        assert descriptors.trouble is None
        with none_left():
            descriptors.look()
        assert descriptors.shortages == 2
        assert len(list(OPEN.iterdir())) == before


@needs_proc
async def test_who_watches_lets_go_in_the_end() -> None:
    """Nothing stays open when the watch is over."""
    clock = ManualClock()

    class Once(Exception):
        pass

    async def stop(seconds: float) -> None:
        raise Once

    clock.sleep = stop  # type: ignore[method-assign]
    before = len(os.listdir(OPEN))  # noqa: PTH208
    with pytest.raises(Once):
        await Descriptors(clock).watch()
    assert len(os.listdir(OPEN)) == before  # noqa: PTH208
