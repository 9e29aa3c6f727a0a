"""Who guesses at passwords has to wait, and nobody else does for it, as far as they can be told.

By three counts of failures: at one account from one address, at one account from anywhere, and
from one address at any account. Whoever has signed in from an address before is held to the first
alone there, so that others, elsewhere, cannot keep them out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable
from typing import Final

import structlog

from gapless.auth.throttle import Patience, Throttle
from gapless.clock import Clock
from gapless.errors import QuotaExceeded
from gapless.lru import Lru

_log = structlog.get_logger("gapless.auth")

# The longest wait is one that an honest user sits out.
_MOST_S: Final = 60.0
_MOST_KNOWN: Final = 10_000
# Of an IPv6 address a customer has this much, and all that is behind it.
_CUSTOMER_BITS: Final = 64


class Guessing:
    """Failed sign-ins, and who may try again when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pairs = Throttle(Patience(free=5, first=1.0, most=_MOST_S))
        self._accounts = Throttle(Patience(free=20, first=1.0, most=_MOST_S))
        self._origins = Throttle(Patience(free=50, first=1.0, most=_MOST_S))
        self._known: Lru[Hashable, None] = Lru(_MOST_KNOWN)

    def check(self, email: str, origin: str) -> None:
        """Raise `QuotaExceeded` where this one has to wait."""
        now = self._clock.monotonic()
        wait = max(throttle.wait(key, now) for throttle, key in self._held_to(email, origin))
        if wait > 0:
            raise QuotaExceeded(
                f"there were too many failed sign-ins; try again in {max(wait, 1):.0f} s",
                retry_after_s=max(0.1, round(wait, 1)),
            )

    def failed(self, email: str, origin: str, known: bool) -> None:
        """Count a failure; `known`: there is such a user, who may be named in the log."""
        now = self._clock.monotonic()
        for throttle, key in self._held_to(email, origin):
            throttle.failed(key, now)
        # What was typed for an address may be a password.
        _log.warning("a sign-in failed", user=email if known else "unknown", origin=origin)

    def succeeded(self, email: str, origin: str) -> None:
        """Forget the failures of who has proven who they are, and know them from then on."""
        pair = (email, origin)
        self._pairs.succeeded(pair)
        self._known.put(pair, None)

    def queue(self, email: str, origin: str) -> Hashable:
        """Return whose queue a sign-in stands in: one's own where one is known."""
        return (email, origin) if (email, origin) in self._known else origin

    def _held_to(self, email: str, origin: str) -> list[tuple[Throttle, Hashable]]:
        pair = (email, origin)
        if pair in self._known:
            return [(self._pairs, pair)]
        return [(self._pairs, pair), (self._accounts, email), (self._origins, origin)]


def origin_of(address: str) -> str:
    """Return what an address is counted by: itself, or the network of an IPv6 customer."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, _CUSTOMER_BITS), strict=False))
    return str(parsed)
