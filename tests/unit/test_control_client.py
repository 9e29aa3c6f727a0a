"""The operator's side of the socket beside a database: what is asked, what may come back."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gapless.client.control import Control, NotListening, Series
from gapless.client.failures import UnexpectedAnswer
from gapless.errors import Conflict, GaplessError, InvalidQuery
from support.wire import PATIENCE_S


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """Listen at a Unix socket, take one line and send these bytes; then close."""
    taken: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(PATIENCE_S)

    def run() -> None:
        sock, _ = listener.accept()
        with sock, sock.makefile("rb") as lines:
            taken.append(lines.readline())
            sock.sendall(answer)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield taken
    finally:
        thread.join()
        listener.close()


def test_commands_are_one_line_of_json(tmp_path: Path) -> None:
    """What is asked is what the hub's door takes, and its counts come back."""
    path = tmp_path / "hub.sock"
    with answering(path, b'{"ok":true,"result":{"series":2,"records":30}}\n') as taken:
        assert Control(path).prune(1_000) == (2, 30)
    assert json.loads(taken[0]) == {"command": "prune", "before_ms": 1_000}
    path.unlink()
    with answering(path, b'{"ok":true,"result":{"series":2}}\n') as taken:
        assert Control(path).stats() == {"series": 2}
    assert json.loads(taken[0]) == {"command": "stats"}
    path.unlink()
    with answering(path, b'{"ok":true,"result":{"records":7}}\n') as taken:
        assert Control(path).forget(Series("a", "B", {"c": "d"}), (1, 2)) == 7
    assert json.loads(taken[0]) == {
        "command": "forget",
        "series": {"provider": "a", "ticker": "B", "params": {"c": "d"}},
        "range_ms": [1, 2],
    }
    path.unlink()
    with (
        answering(path, b'{"ok":true,"result":{"series":1}}\n') as taken,
        pytest.raises(UnexpectedAnswer, match="did not say what it forgot"),
    ):
        Control(path).forget(Series("a", "B", {}), None)
    assert json.loads(taken[0])["range_ms"] is None


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (b"", NotListening, "no hub answers"),
        (b'{"ok":true', NotListening, "closed before the answer was complete"),
        (b"hello\n", UnexpectedAnswer, "is no gapless hub"),
        (b"[]\n", UnexpectedAnswer, "is no gapless hub"),
        (b'{"ok":true,"result":[]}\n', UnexpectedAnswer, "figures are none"),
        (b'{"ok":true,"result":{"series":"x"}}\n', UnexpectedAnswer, "figures are none"),
        (b'{"ok":true,"result":{}}\n', UnexpectedAnswer, "did not say what it forgot"),
        (
            b'{"ok":false,"error":{"code":"invalid_query","message":"no such command"}}\n',
            InvalidQuery,
            "no such command",
        ),
        (
            b'{"ok":false,"error":{"code":"invalid_query","message":"taken","conflict":true}}\n',
            Conflict,
            "taken",
        ),
        (b'{"ok":false,"error":{"code":"internal","message":"full"}}\n', GaplessError, "full"),
        (b'{"ok":false}\n', GaplessError, "the hub gave no reason"),
    ],
)
def test_what_is_no_success_is_an_error(
    tmp_path: Path, answer: bytes, error: type[GaplessError], words: str
) -> None:
    """The hub's own errors come through; what is no answer is said to be none."""
    path = tmp_path / "hub.sock"
    with answering(path, answer), pytest.raises(error, match=words):
        Control(path).prune(1)


def test_a_socket_that_nobody_listens_at(tmp_path: Path) -> None:
    """No socket, and one whose hub is dead, are the same: no hub answers."""
    with pytest.raises(NotListening, match="no hub answers at"):
        Control(tmp_path / "none.sock").stats()
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(dead))
    with pytest.raises(NotListening, match="no hub answers at"):
        Control(dead).stats()


def test_a_hub_that_is_stuck_is_not_waited_for(tmp_path: Path) -> None:
    """Silence ends after the patience that was given."""
    path = tmp_path / "hub.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(NotListening, match=r"within 0\.05 s"):
            Control(path, timeout=0.05).stats()
