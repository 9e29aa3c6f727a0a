"""The socket to the hub, and the process's end, from the plugin's side."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

from gapless.providers.plugins.messages import Call, Cancel, Packets, Reply, packet, read_request

_LONGEST_REQUEST = 64 << 20
_BUFFER_BYTES = 1 << 20


class Channel:
    """The socket to the hub, from the plugin's side."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._packets = Packets(_LONGEST_REQUEST)
        self._owner = os.getpid()
        sock.set_inheritable(False)
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        # What a plugin forks must not answer in its name, nor keep the hub from seeing its end.
        os.register_at_fork(after_in_child=sock.close)

    def receive(self, flags: int = 0) -> Call | Cancel | None:
        """Return the next request; `None` at the end.

        With `MSG_DONTWAIT` it raises `BlockingIOError` where there is none yet.
        """
        while True:
            self._stay_single()
            try:
                count = self.socket.recv_into(self._packets.buffer(), 0, flags)
            except ConnectionError:
                return None
            if not count:
                return None
            complete = self._packets.received(count)
            if complete is not None:
                return read_request(complete[0])

    def send(self, message: Reply, *body: Any) -> None:
        """Send a message and the bytes that belong to it, none of them copied.

        What was printed is out before it, also a line without an end: the process may be ended
        before it ends by itself.
        """
        self._stay_single()
        _flush()
        parts = [memoryview(part).cast("B") for part in body]
        try:
            self.socket.sendall(packet(message, sum(part.nbytes for part in parts)))
            for part in parts:
                if part.nbytes:
                    self.socket.sendall(part)
        except OSError as error:
            # The hub has gone or let go of this process, or the plugin has closed the socket.
            leave(SystemExit(0 if isinstance(error, ConnectionError) else 1))

    def _stay_single(self) -> None:
        if os.getpid() != self._owner:
            # A fork of the plugin's that came back here instead of ending.
            os._exit(0)


def leave(error: BaseException) -> NoReturn:
    """End the process at once, as the plugin wants it, with the output that is there yet."""
    code = error.code if isinstance(error, SystemExit) else 130
    if code is not None and not isinstance(code, int):
        with suppress(Exception):
            sys.stderr.write(f"{code}\n")
        code = 1
    _flush()
    os._exit((code or 0) & 0xFF)


def _flush() -> None:
    """Let out what was printed; a plugin may have closed or replaced its streams."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
