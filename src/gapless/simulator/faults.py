"""The switches for how the endpoint fails: what to do to which requests, and for how long.

Decides only; server.py does the damage to the socket. Time is the simulator's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf

from gapless.simulator.chart import Query

HTML_PAGE = (
    b"<!DOCTYPE html><html><head><title>Yahoo</title></head><body>"
    b"<h1>Will be right back...</h1><p>Thank you for your patience.</p></body></html>"
)
INVALID_CRUMB = (
    b'{"finance":{"result":null,"error":{"code":"Unauthorized","description":"Invalid Crumb. '
    b'For Developers - https://bit.ly/yahoo-finance-api-feedback"}}}'
)
_PLAIN = ("python", "curl/", "httpx", "aiohttp", "wget", "go-http", "java/", "okhttp")


class Damage(StrEnum):
    """What is done to an answer on the wire."""

    REPLY = "reply"
    """Another answer is sent instead."""
    HANG = "hang"
    """Nothing is sent until the simulator is told to release; then the true answer."""
    DRIP = "drip"
    """The true answer comes a few bytes at a time."""
    TRUNCATE = "truncate"
    """The connection ends in the middle of the body."""
    HUGE = "huge"
    """A body of many megabytes."""
    BOMB = "bomb"
    """A small gzipped body that unpacks to many megabytes."""
    RESET = "reset"
    """The connection is reset instead of an answer."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail; made by the functions below. `name` is what the request log shows.

    `held`: nothing of it happens before the simulator is told to release.
    """

    name: str
    damage: Damage = Damage.REPLY
    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"
    retry_after: str | None = None
    chunk: int = 64
    pause_s: float = 0.0
    share: float = 0.5
    megabytes: int = 0
    held: bool = False


def too_many_requests(
    text: str = "Edge: Too Many Requests", *, retry_after: str | None = None
) -> Fault:
    """Return a 429 with a plain text body (also seen: `Too Many Requests`)."""
    return Fault("429", status=429, body=text.encode(), retry_after=retry_after)


def invalid_crumb() -> Fault:
    """Return the 401 seen on other endpoints."""
    return Fault("401", status=401, body=INVALID_CRUMB, content_type="application/json")


def server_error(status: int = 502, text: str = "upstream error") -> Fault:
    """Return a 5xx with a plain text body."""
    return Fault(str(status), status=status, body=text.encode())


def html_page(status: int = 200) -> Fault:
    """Return the page `Will be right back`, with 200, 500 or 503."""
    return Fault("html", status=status, body=HTML_PAGE, content_type="text/html; charset=utf-8")


def not_found() -> Fault:
    """Return the 404 of a ticker that is not known, as JSON."""
    body = (
        b'{"chart":{"result":null,"error":{"code":"Not Found",'
        b'"description":"No data found, symbol may be delisted"}}}'
    )
    return Fault("404", status=404, body=body, content_type="application/json;charset=utf-8")


def wrong_json(body: bytes = b'{"chart":{"result":[{"meta":') -> Fault:
    """Return a 200 whose body is no JSON (or, with `body`, JSON of another shape)."""
    return Fault("wrong_json", body=body, content_type="application/json;charset=utf-8")


def hang() -> Fault:
    """Return a fault that sends nothing before `YahooSimulator.release()`."""
    return Fault("hang", Damage.HANG)


def held(fault: Fault) -> Fault:
    """Return the fault as it happens when the simulator is told to release."""
    return replace(fault, held=True)


def slow_drip(chunk: int = 64, pause_s: float = 0.01) -> Fault:
    """Return a fault that sends `chunk` bytes, pauses for real, sends the next."""
    return Fault("slow_drip", Damage.DRIP, chunk=chunk, pause_s=pause_s)


def truncated(share: float = 0.5) -> Fault:
    """Return a fault that ends the connection after that share of the body."""
    return Fault("truncated", Damage.TRUNCATE, share=share)


def huge_body(megabytes: int = 64) -> Fault:
    """Return a fault whose body is that long, sent as fast as the client reads."""
    return Fault("huge_body", Damage.HUGE, megabytes=megabytes)


def gzip_bomb(megabytes: int = 512) -> Fault:
    """Return a fault whose gzipped body unpacks to that much."""
    return Fault("gzip_bomb", Damage.BOMB, megabytes=megabytes)


def connection_reset() -> Fault:
    """Return a fault that resets the connection."""
    return Fault("reset", Damage.RESET)


When = Callable[[Query], bool]


def of(*symbols: str) -> When:
    """Return what picks the requests for these symbols."""
    return lambda query: query.symbol in symbols


@dataclass(slots=True)
class _Rule:
    fault: Fault
    when: When | None
    left: int | None
    from_s: float = -inf
    until_s: float = inf

    def picks(self, query: Query, now_s: float) -> bool:
        return (
            self.left != 0
            and self.from_s <= now_s < self.until_s
            and (self.when is None or self.when(query))
        )


@dataclass(frozen=True, slots=True)
class IpBlock:
    """More than `requests` requests within `window_s` seconds are blocked for `block_s`."""

    requests: int = 40
    window_s: float = 2400.0
    block_s: float = 900.0


@dataclass(slots=True)
class Faults:
    """What fails at present. `user_agent_gate`: only what looks like a browser gets in."""

    user_agent_gate: bool = False
    ip_block: IpBlock | None = None
    _rules: list[_Rule] = field(default_factory=list)
    _seen: deque[float] = field(default_factory=deque)
    _blocked_until: float = float("-inf")

    def fail_next(self, fault: Fault, times: int = 1, *, when: When | None = None) -> None:
        """Make the next `times` requests (of those that `when` picks) fail, in turn."""
        self._rules.append(_Rule(fault, when, times))

    def fail_always(self, fault: Fault, *, when: When | None = None) -> None:
        """Make every request (that `when` picks) fail until `clear`."""
        self._rules.append(_Rule(fault, when, None))

    def fail_while(
        self, fault: Fault, from_s: float, until_s: float, *, when: When | None = None
    ) -> None:
        """Make every request (that `when` picks) fail in `[from_s, until_s)`, in UTC seconds."""
        self._rules.append(_Rule(fault, when, None, from_s, until_s))

    def clear(self) -> None:
        """Let everything succeed again, blocks and gate included."""
        self._rules.clear()
        self._seen.clear()
        self._blocked_until = float("-inf")
        self.user_agent_gate = False
        self.ip_block = None

    def take(self, query: Query, user_agent: str, now_s: float) -> Fault | None:
        """Return what is to happen to this request, and count it."""
        if self._blocked(now_s):
            return too_many_requests()
        if self.user_agent_gate and not looks_like_browser(user_agent):
            return too_many_requests("Too Many Requests")
        for rule in self._rules:
            if rule.picks(query, now_s):
                if rule.left is not None:
                    rule.left -= 1
                return rule.fault
        return None

    def _blocked(self, now_s: float) -> bool:
        rule = self.ip_block
        if rule is None:
            return False
        if now_s < self._blocked_until:
            return True
        while self._seen and self._seen[0] <= now_s - rule.window_s:
            self._seen.popleft()
        self._seen.append(now_s)
        if len(self._seen) <= rule.requests:
            return False
        self._seen.clear()
        self._blocked_until = now_s + rule.block_s
        return True


def looks_like_browser(user_agent: str) -> bool:
    """Return whether upstream's gate takes this user agent for a browser's."""
    lowered = user_agent.lower()
    return lowered.startswith("mozilla/5.0") and not any(word in lowered for word in _PLAIN)
