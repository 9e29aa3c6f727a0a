"""Threads that give way: each has less right to a core than the one that it was started from."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from gapless.threads import NICENESS, Threads


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux has a thread its own niceness")
@pytest.mark.parametrize("niceness", [NICENESS, 7])
def test_a_thread_is_nicer_than_the_others(niceness: int) -> None:
    """The other threads keep what they had, be the process a nice one or not."""

    def own() -> tuple[str, int]:
        name = threading.current_thread().name
        return name, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with Threads("test", 1, niceness) as threads:
        name, found = threads.submit(own).result()
    assert name.startswith("gapless-test")
    assert found == min(before + niceness, 19)
    assert own()[1] == before
