"""The operator's door: a Unix socket beside the database, for commands that change it.

A database is open in one hub at a time, so `gapless cache prune` and its like ask the hub that
has it. Whoever may open the socket (mode 0600) may as well open the database.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog

from gapless.auth.authority import Authority
from gapless.auth.operator import operator_name, order_of, perform
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.errors import Conflict, GaplessError, InvalidQuery
from gapless.hub.administration import Administration
from gapless.hub.hub import Hub

_log = structlog.get_logger("gapless.control")

# The kernel takes no longer path for a Unix socket.
_LONGEST_PATH = 100
# What Linux tells of the process at the other end: its number, its user, its group.
_CREDENTIALS = struct.Struct("3i")
# The year 9999, about: no instant lies beyond, and no database counts so far.
_MOST_MS = 253_402_300_800_000
_Instant = Annotated[int, msgspec.Meta(ge=-_MOST_MS, le=_MOST_MS)]


class SeriesName(msgspec.Struct, forbid_unknown_fields=True):
    """A series by its name as it is stored."""

    provider: str
    ticker: str
    params: dict[str, str]


class Command(msgspec.Struct, forbid_unknown_fields=True):
    """One line to the hub: what to do, and with what. Instants are milliseconds UTC.

    `account` is what to do about users and tokens, `before_ms` up to when something was fetched.
    Without `range_ms` all of a series is meant.
    """

    command: str
    account: dict[str, Any] | None = None
    before_ms: _Instant | None = None
    series: SeriesName | None = None
    range_ms: tuple[_Instant, _Instant] | None = None


def socket_path(database: Path) -> Path:
    """Return where a hub on this database listens."""
    beside = database.with_name(database.name + ".sock")
    if len(os.fsencode(beside)) <= _LONGEST_PATH:
        return beside
    # Named by device and inode of the folder, so that every spelling of the path finds it.
    folder = database.parent.stat()
    name = f"gapless-{os.getuid()}-{folder.st_dev:x}-{folder.st_ino:x}-{database.name[:40]}.sock"
    return Path(tempfile.gettempdir()) / name


def _who(writer: asyncio.StreamWriter) -> str:
    """Return how the audit log calls whoever is at the other end: by their user on this machine."""
    sock = writer.get_extra_info("socket")
    uid = -1
    if hasattr(socket, "SO_PEERCRED"):
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        uid = _CREDENTIALS.unpack(credentials)[1]
    return operator_name(uid)


class ControlServer:
    """Answers the operator's commands, one JSON line each."""

    def __init__(self, hub: Hub, authority: Authority) -> None:
        self._hub = hub
        self._administration = Administration(hub)
        self._authority = authority
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    async def open(self, database: Path) -> None:
        """Listen beside the database; the caller has its lock, so a socket there is a dead one."""
        path = socket_path(database)
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, path=str(path))
        finally:
            os.umask(before)
        self._path = path

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # One line, one answer: nothing that follows an overlong line is ever read.
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            line = await reader.readuntil(b"\n")
            answer = await self._answer(line, _who(writer))
            writer.write(msgspec.json.encode(answer) + b"\n")
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _answer(self, line: bytes, who: str) -> dict[str, Any]:
        try:
            return {"ok": True, "result": await self._do(line, who)}
        except GaplessError as error:
            told: dict[str, Any] = {"code": error.code, "message": error.message}
            if isinstance(error, Conflict):
                # It shares its code with what makes no sense; the command's exit code differs.
                told["conflict"] = True
            return {"ok": False, "error": told}
        except Exception:
            _log.exception("a command failed in a way it should not")
            message = "the hub failed in a way it should not; its log has more"
            return {"ok": False, "error": {"code": "internal", "message": message}}

    async def _do(self, line: bytes, who: str) -> dict[str, Any]:
        try:
            command = msgspec.json.decode(line, type=Command)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidQuery(f"that is no command of this hub: {error}") from error
        match command:
            case Command("accounts", dict() as told):
                return await perform(self._authority, order_of(told), who)
            case Command("stats"):
                return await self._hub.statistics()
            case Command("prune", None, int() as before):
                series, records = await self._hub.prune(before)
                _log.info("pruned", before_ms=before, series=series, records=records)
                return {"series": series, "records": records}
            case Command("forget", None, None, SeriesName() as named, range_ms):
                key = SeriesKey.of(named.provider, named.ticker, named.params)
                interval = None if range_ms is None else Interval(*range_ms)
                return {"records": await self._administration.delete(key, interval)}
        raise InvalidQuery(f"this hub has no command {command.command!r} in that form")
