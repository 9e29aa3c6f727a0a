"""What is asked about a hub: its providers, what it holds and why, fetching anew, forgetting.

Apart from asking for records, and mostly over HTTP, which alone has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gapless.client import requests
from gapless.client.facts import Facts, facts_of
from gapless.client.failures import ConnectionLost, UnexpectedAnswer
from gapless.client.holdings import Coverage, DeletionTold, Plan, Refreshed, RefreshTold
from gapless.client.identity import NotThisHub
from gapless.client.provider_details import ProviderDetails, ProvidersTold
from gapless.client.requests import SeriesRange
from gapless.client.steps import Conversation
from gapless.client.talk import Talk
from gapless.client.web import WebReply
from gapless.errors import MissingToken

JSON = "application/json"
# What a limit is told by: the client's own, and the hub's.
_OVERLOADED: Final = (429, 503)


class Administration(Talk):
    """What operators ask, and programs that care for what is held."""

    def providers(self) -> Conversation[list[str]]:
        """Ask for the names of the providers; over TCP."""
        reply = yield from self._asking(requests.PROVIDERS)
        try:
            return msgspec.json.decode(reply.answer.result, type=list[str])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnexpectedAnswer(f"the hub's list of providers is none: {error}") from error

    def provider_details(self) -> Conversation[list[ProviderDetails]]:
        """Ask what each provider declares, and how it fares."""
        reply = yield from self._answered(_Route("GET", "/v1/providers", repeatable=True))
        return list(reply.value(ProvidersTold).providers)

    def describe(
        self, provider: str, ticker: str, *, timeout: float | None = None
    ) -> Conversation[Facts]:
        """Ask for what is known of a ticker beside its records."""
        reply = yield from self._asking(requests.describe(provider, ticker), {}, timeout)
        facts = facts_of(bytes(reply.answer.result))
        if facts is None:
            raise UnexpectedAnswer(f"the hub describes {ticker} as nothing")
        return facts

    def plan(self, asked: SeriesRange, *, timeout: float | None = None) -> Conversation[Plan]:
        """Ask what a request for a range would fetch."""
        # It changes nothing, though it is no GET.
        route = _Route("POST", "/v1/plan", asked.body(), repeatable=True)
        return (yield from self._answered(route, timeout)).value(Plan)

    def coverage(
        self, asked: SeriesRange, *, timeout: float | None = None
    ) -> Conversation[Coverage]:
        """Ask what is known of a series."""
        route = _Route("GET", asked.coverage_path(), repeatable=True)
        return (yield from self._answered(route, timeout)).value(Coverage)

    def refresh(
        self, asked: SeriesRange, *, timeout: float | None = None
    ) -> Conversation[Refreshed]:
        """Have a range fetched anew; once, for each time costs upstream."""
        route = _Route("POST", "/v1/refresh", asked.body())
        reply = yield from self._answered(route, timeout)
        return reply.value(RefreshTold).refreshed()

    def forget(self, asked: SeriesRange, *, timeout: float | None = None) -> Conversation[int]:
        """Have a range forgotten, or all of a series; return how many records went.

        It is asked once: a second answer would tell how many were left after the first.
        """
        route = _Route("DELETE", asked.deletion_path())
        return (yield from self._answered(route, timeout)).value(DeletionTold).records

    def fetch(
        self, method: str, target: str, body: Any = None, *, timeout: float | None = None
    ) -> Conversation[WebReply]:
        """Send a request to the HTTP door; one that changes something is sent once."""
        method = method.upper()
        route = _Route(method, target, body, repeatable=method in ("GET", "HEAD"))
        return self._answered(route, timeout)

    def _answered(self, route: _Route, timeout: float | None = None) -> Conversation[WebReply]:
        """Send a request to the HTTP door, as often as may be; return the answer, also a refusal.

        Raises `HttpUnusable` where the hub is not there.
        """
        if self.info is None:
            yield from self.greeting()
        if self.web.base is None:
            raise self.web.nowhere()
        wait = self._wait(timeout)
        attempts = 0
        while True:
            try:
                reply = yield from self._over_http(
                    route.method, route.target, JSON, route.body, wait
                )
            except NotThisHub as error:
                raise self.web.unusable(error.message) from error
            except ConnectionLost:
                if not route.repeatable or attempts >= self.patience.retries:
                    raise
            else:
                if reply.status == 401 and isinstance(failure := reply.failure(), MissingToken):
                    raise self._tokenless(failure)
                if reply.status not in _OVERLOADED or not route.repeatable:
                    return reply
                yield self._pause(reply.failure(), attempts)
            attempts += 1


@dataclass(frozen=True, slots=True)
class _Route:
    """What is asked over HTTP; `repeatable`: it may be asked again as if it had not been asked."""

    method: str
    target: str
    body: Any = None
    repeatable: bool = False
