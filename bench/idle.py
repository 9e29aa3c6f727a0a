"""Memory of idle connections, of servers fresh from their start.

Fresh, because memory that a server has once used and freed takes the connections that come after,
and they would seem to cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socket import socket

from hub_only import Start, filled
from processes import NotMeasured, Server, resident_bytes, settle, start_echo, start_redis
from questions import Question, echo_question, redis_question

#: Bytes of the answer that Redis and the echo give: about that of one record.
SIZE = 700

Fresh = Callable[[], AbstractContextManager[tuple[Server, Question]]]


@dataclass(frozen=True, slots=True)
class Idle:
    """Resident memory of a server for each of `connections` idle ones, in bytes."""

    server: str
    connections: int
    never_asked: float
    asked_once: float


@contextmanager
def _hub(start: Start, folder: Path) -> Iterator[tuple[Server, Question]]:
    db = folder / "idle.db"
    request, pattern = filled(start, db, 1)
    server = start(db, "gapless-idle")
    try:
        yield server, Question((request,), (pattern,), "line", SIZE)
    finally:
        server.stop()


@contextmanager
def _redis(core: int) -> Iterator[tuple[Server, Question]]:
    server = start_redis(core)
    try:
        yield server, redis_question(server, SIZE)
    finally:
        server.stop()


@contextmanager
def _echo(core: int) -> Iterator[tuple[Server, Question]]:
    server = start_echo(SIZE, core)
    try:
        yield server, echo_question(SIZE)
    finally:
        server.stop()


def fresh_servers(start: Start, core: int, folder: Path) -> dict[str, Fresh]:
    """By name, how to open a fresh server and what to ask it; opening raises NotMeasured."""
    return {
        "gapless": partial(_hub, start, folder),
        "Redis": partial(_redis, core),
        "uvloop echo": partial(_echo, core),
    }


def idle_memory(server: Server, kind: str, connections: int, question: Question) -> Idle:
    """Open connections, count by what the memory grew; let each ask once, and count again."""
    request, size = question.requests[0], question.answer_length(0)
    opened: list[socket] = []
    try:
        # What the first few cost once is no cost of a connection.
        for _ in range(20):
            opened.append(server.connect())
            _ask_once(opened[-1], request, size)
        settle(server.pid)
        base, files = resident_bytes(server.pid), _open_files(server)
        for _ in range(connections):
            opened.append(server.connect())
        settle(server.pid)
        accepted = _open_files(server) - files
        if accepted < connections:
            raise NotMeasured(f"{kind} accepted {accepted} of {connections} connections.")
        never_asked = resident_bytes(server.pid) - base
        for connection in opened[20:]:
            _ask_once(connection, request, size)
        settle(server.pid)
        asked_once = resident_bytes(server.pid) - base
    except OSError as error:
        raise NotMeasured(f"{kind}: {len(opened)} connections, then {error}.") from error
    finally:
        for connection in opened:
            connection.close()
    return Idle(kind, connections, never_asked / connections, asked_once / connections)


def _ask_once(connection: socket, request: bytes, size: int) -> None:
    connection.sendall(request)
    got = 0
    while True:
        piece = connection.recv(65_536)
        got += len(piece)
        if not piece:
            raise ConnectionResetError("closed instead of answering")
        if got == size:
            return


def _open_files(server: Server) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
