"""Clients that take nothing of what they are sent: how long each has stood still, and what then.

What moves is what a client's kernel has acknowledged (`tcpi_bytes_acked`, Linux). The transport's
own buffer does not tell: whoever reads steadily at 50 KB/s frees room in the kernel's in steps, of
which the next may be seconds away, and bytes that are added meanwhile hide that it shrinks. Where
the platform tells nothing of acknowledgements (macOS) the buffer is all there is to look at: there
a slow reader may be taken for one that has stood still.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import structlog

_log = structlog.get_logger("gapless.servers")

# `tcpi_bytes_acked` in `struct tcp_info` of Linux 4.1 and later (include/uapi/linux/tcp.h).
_ACKNOWLEDGED: Final = struct.Struct("=120xQ")
# How often clients are looked at in the shorter of their two times.
_LOOKS: Final = 4


class Client(Protocol):
    """What is known of a client here."""

    @property
    def transport(self) -> asyncio.Transport:
        """The way to it."""


C = TypeVar("C", bound=Client)
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Standing:
    """What a client had acknowledged, in bytes, and since when it has been no more, in seconds."""

    acknowledged: int
    since: float


def seen(before: Standing | None, acknowledged: int, now: float) -> Standing:
    """Return how a client stands that has acknowledged so much now."""
    if before is None or acknowledged > before.acknowledged:
        return Standing(acknowledged, now)
    return Standing(acknowledged, before.since)


def longest(standing: Mapping[K, Standing], now: float, least_s: float) -> K | None:
    """Return the client that has stood still longest, and for `least_s`; `None`: there is none."""
    if not standing:
        return None
    found = min(standing, key=lambda client: standing[client].since)
    return None if now - standing[found].since < least_s else found


def acknowledged(transport: asyncio.Transport) -> int:
    """Return a number that grows when more of what was sent has been acknowledged."""
    sock = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_INFO", None)
    if option is not None:
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, option, _ACKNOWLEDGED.size)
        except OSError:
            # The connection is gone already.
            info = b""
        if len(info) == _ACKNOWLEDGED.size:
            count: int = _ACKNOWLEDGED.unpack(info)[0]
            return count
    return -transport.get_write_buffer_size()


class Acknowledgements(Generic[C]):
    """Watches the `clients` of one door for which something waits to be sent.

    One whose kernel has acknowledged nothing for `closed_s` is closed, and after `yields_s` as
    soon as a newcomer wants its slot. How long it has been is known from one look to the next, and
    never overrated.
    """

    def __init__(
        self, clients: Callable[[], Iterable[C]], closed_s: float, yields_s: float
    ) -> None:
        self._clients = clients
        self._closed_s = closed_s
        self._yields_s = yields_s
        self._standing: dict[C, Standing] = {}
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin to look, again and again."""
        self._timer = asyncio.get_running_loop().call_later(
            min(self._closed_s, self._yields_s) / _LOOKS, self._look_again
        )

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def give_way(self) -> C | None:
        """Close the client that has stood still longest, and for long enough, and return it."""
        now = asyncio.get_running_loop().time()
        self._look(now)
        found = longest(self._standing, now, self._yields_s)
        if found is not None:
            self._end(found, now, "closed a client that does not read, in favour of another one")
        return found

    def _look_again(self) -> None:
        now = asyncio.get_running_loop().time()
        self._look(now)
        while (found := longest(self._standing, now, self._closed_s)) is not None:
            self._end(found, now, "closed a client that does not read")
        self.open()

    def _look(self, now: float) -> None:
        """Note how those stand for whom something waits; others owe no acknowledgement."""
        before = self._standing
        self._standing = {
            client: seen(before.get(client), acknowledged(client.transport), now)
            for client in self._clients()
            if client.transport.get_write_buffer_size()
        }

    def _end(self, client: C, now: float, event: str) -> None:
        standing = self._standing.pop(client)
        _log.info(
            event,
            unsent_bytes=client.transport.get_write_buffer_size(),
            stood_still_s=round(now - standing.since, 1),
        )
        client.transport.abort()
