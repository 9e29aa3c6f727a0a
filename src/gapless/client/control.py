"""The operator's side of the Unix socket beside a database: one command, one answer.

What it speaks is little and private to one version: a JSON line each way, then the end.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gapless.client.connection import CHUNK_BYTES
from gapless.client.failures import UnexpectedAnswer, Unreachable, error_of
from gapless.errors import Conflict, GaplessError


class NotListening(Unreachable):
    """Nobody answers at the socket: no hub runs on the database, or it is stuck."""


class Series(NamedTuple):
    """A series by its name as it is stored: the ticker and parameters as the provider has them."""

    provider: str
    ticker: str
    params: Mapping[str, str]


class Control:
    """The running hub on a database, asked through its socket; each call connects anew."""

    def __init__(self, path: Path, timeout: float = 10.0) -> None:
        """Name the socket and the longest silence in seconds; nothing is opened yet."""
        self.path = path
        self._timeout = timeout

    def stats(self) -> dict[str, int]:
        """Return what the hub holds, in the store and in memory, counted."""
        return _counts(self._request({"command": "stats"}, self._timeout))

    def prune(self, before_ms: int) -> tuple[int, int]:
        """Forget what was fetched before that instant; return (series touched, records gone).

        Waits as long as it takes: a large database may take minutes.
        """
        result = _counts(self._request({"command": "prune", "before_ms": before_ms}, None))
        try:
            return result["series"], result["records"]
        except KeyError as error:
            raise UnexpectedAnswer(f"the hub did not say what it forgot: {result}") from error

    def forget(self, series: Series, range_ms: tuple[int, int] | None) -> int:
        """Forget a range of a series, milliseconds UTC, or all; return how many records went."""
        command = {"command": "forget", "series": series._asdict(), "range_ms": range_ms}
        result = _counts(self._request(command, None))
        try:
            return result["records"]
        except KeyError as error:
            raise UnexpectedAnswer(f"the hub did not say what it forgot: {result}") from error

    def accounts(self, **told: Any) -> dict[str, Any]:
        """Do something about users and tokens; `told` is an order by its `type`."""
        result = self._request({"command": "accounts", "account": told}, None)
        if not isinstance(result, dict):
            raise UnexpectedAnswer(f"the hub did not say what it did: {result!r}")
        return result

    def _request(self, command: dict[str, Any], silence: float | None) -> Any:
        """Send a command and return its result.

        Raises `NotListening` where no hub takes or answers it, the hub's own error where it
        says no, and `UnexpectedAnswer` for what is no answer.
        """
        try:
            owner = self.path.stat().st_uid
            if owner not in (os.getuid(), 0):
                # It may be told a password.
                raise NotListening(f"{self.path} belongs to another user of this machine")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(self._timeout)
                sock.connect(str(self.path))
                sock.settimeout(silence)
                sock.sendall(msgspec.json.encode(command) + b"\n")
                line = _read_line(sock)
        except TimeoutError as error:
            raise NotListening(f"no answer at {self.path} within {self._timeout:g} s") from error
        except OSError as error:
            why = error.strerror or str(error)
            raise NotListening(f"no hub answers at {self.path} ({why})") from error
        try:
            answer = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnexpectedAnswer(f"what answers at {self.path} is no gapless hub") from error
        if answer.get("ok") is not True:
            raise _error_of(answer.get("error"))
        return answer.get("result")


def _error_of(told: object) -> GaplessError:
    """Return the error that a hub tells; see `error_of`, to which a conflict is none."""
    error = error_of(told)
    if isinstance(told, dict) and told.get("conflict") is True:
        return Conflict(error.message)
    return error


def _read_line(sock: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        chunk = sock.recv(CHUNK_BYTES)
        if not chunk:
            raise ConnectionResetError("it was closed before the answer was complete")
        received += chunk
    return bytes(received)


def _counts(result: object) -> dict[str, int]:
    try:
        return msgspec.convert(result, type=dict[str, int])
    except msgspec.ValidationError as error:
        raise UnexpectedAnswer(f"the hub's figures are none: {error}") from error
