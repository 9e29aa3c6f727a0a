"""Threads that give way: each has less right to a core than the one that it was started from."""

from __future__ import annotations

import os
import sys
import threading
from contextvars import copy_context

import pytest

from gapless.threads import NICENESS, Threads
from gapless.turns import PARTY


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


def test_parties_have_their_turns_with_the_threads() -> None:
    """One thread has a hundred pieces of one party's work to do when another one wants two."""
    begun, go, done = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        begun.set()
        go.wait()

    def of(party: str, number: int) -> list[object]:
        def ask() -> list[object]:
            PARTY.set(party)
            return [threads.submit(done.append, party) for _ in range(number)]

        return copy_context().run(ask)

    with Threads("test", 1) as threads:
        threads.submit(first)
        begun.wait()
        of("many", 100)
        of("few", 2)
        go.set()
    assert len(done) == 102
    assert done[:5] == ["many", "few", "many", "few", "many"]


def test_what_fails_or_is_not_wanted_any_more_leaves_the_rest_alone() -> None:
    """An error is the caller's, and what was cancelled is not done."""
    begun, go, done = threading.Event(), threading.Event(), list[int]()

    def first() -> None:
        begun.set()
        go.wait()

    with Threads("test", 1) as threads:
        threads.submit(first)
        begun.wait()
        failing = threads.submit(int, "x")
        unwanted = threads.submit(done.append, 1)
        wanted = threads.submit(done.append, 2)
        assert unwanted.cancel()
        go.set()
        assert wanted.result() is None
    assert isinstance(failing.exception(), ValueError)
    assert done == [2]
    with pytest.raises(RuntimeError):
        threads.submit(print)
