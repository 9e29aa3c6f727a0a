"""What every conversation with a hub is made of, and what a client remembers of its hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gapless.client import requests
from gapless.client.addresses import Endpoint
from gapless.client.failures import ConnectionLost, UnexpectedAnswer
from gapless.client.identity import Door, Identity, NotThisHub
from gapless.client.steps import Ask, Conversation, Fetch, Pause, Reply
from gapless.client.web import WebReply
from gapless.client.web_use import WebUse
from gapless.errors import (
    GaplessError,
    InvalidEnvelope,
    InvalidJson,
    InvalidQuery,
    MissingToken,
    Overloaded,
    Unauthorized,
)


class HubInfo(msgspec.Struct, frozen=True):
    """What a hub says of itself; a hub that knows no `Ping` leaves all of it open.

    `http` is the base address of its HTTP door as the hub sees it. `auth`: whether it asks for
    tokens. `limits` are those that concern clients. `instance` tells it from all others, and is
    another one each time it is started; `None`: an older hub.
    """

    name: str = ""
    version: str = ""
    protocol: int = 1
    http: str | None = None
    auth: bool = False
    limits: dict[str, int | float] = {}
    instance: str | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited, and for what again.

    `timeout` is the longest silence in seconds while an answer is awaited, so that a large one
    that keeps coming is not cut off; `connect_timeout` that for a connection. `retries` is how
    often a request is sent again after its connection broke, or when the hub was overloaded and
    names a time of no more than `longest_pause` seconds.
    """

    timeout: float = 60.0
    connect_timeout: float = 10.0
    retries: int = 2
    longest_pause: float = 5.0


class Talk:
    """A hub to talk with; holds what clients remember: the token, and what the hub said.

    `web`: the base address of its HTTP door, where it is not the one that the hub names; empty:
    HTTP is not used.
    """

    def __init__(self, endpoint: Endpoint, web: str | None, patience: Patience) -> None:
        self.endpoint = endpoint
        self.patience = patience
        self.token = endpoint.token
        self.info: HubInfo | None = None
        self.web = WebUse(endpoint, web)
        # Whether who is there was asked since a connection was last opened: behind the address
        # there may be another hub by then.
        self._met = False

    def greeting(self) -> Conversation[HubInfo]:
        """Ask the hub who it is."""
        info = yield from self._introduced()
        self.web.try_again()
        return info

    def _introduced(self) -> Conversation[HubInfo]:
        """Ask the hub who it is; HTTP that was given up stays so, unless it is another hub."""
        try:
            reply = yield from self._asking(requests.PING)
        except (InvalidJson, InvalidEnvelope, MissingToken, Unauthorized):
            # One that only knows the protocol's first version.
            info = HubInfo()
        else:
            try:
                info = msgspec.json.decode(reply.answer.result, type=HubInfo)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise UnexpectedAnswer(
                    f"what answers at {self.endpoint.name} is no gapless hub: {error}"
                ) from error
        self.info = info
        self._met = True
        self.web.learn(info.http, Identity(info.instance, info.version))
        return info

    def _asking(
        self,
        query: Mapping[str, Any],
        envelope: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        token: str | None = None,
        *,
        repeatable: bool = True,
    ) -> Conversation[Reply]:
        """Ask until there is an answer, as often as may be; raise what it says is wrong."""
        patience = self.patience
        step = Ask(
            query,
            self.token if token is None else token,
            envelope or {},
            self._wait(timeout),
        )
        attempts = 0
        while True:
            try:
                reply: Reply = yield step
            except ConnectionLost:
                self.web.try_again()
                if not repeatable or attempts >= patience.retries:
                    raise
            else:
                self._met = self._met and not reply.opened
                if reply.answer.ok:
                    return reply
                yield self._pause(reply.answer.failure(), attempts)
            attempts += 1

    def _over_http(
        self, method: str, target: str, accept: str, body: Any, timeout: float
    ) -> Conversation[WebReply]:
        """Send a request to the hub over HTTP, and to no other; return its answer.

        Raises `NotThisHub` where it is not there: then nothing was sent, or what was answered is
        nobody's. Before that the hub is asked once more who it is, for it may have been started
        again. An address must be known.
        """
        if not self._met:
            yield from self._introduced()
        step = Fetch(self._door(), method, target, self.token, accept, body, timeout)
        reply: WebReply | None = None
        try:
            reply = yield step
            step.door.identity.check(reply)
            return reply
        except NotThisHub:
            if self._door() == step.door:
                # Unless others have found out meanwhile.
                yield from self._introduced()
            known = self._door()
            if known == step.door:
                raise
        if reply is None:
            reply = yield step._replace(door=known)
        # What was sent before may have been answered by the hub as it was started again, where a
        # proxy goes on with the connection.
        known.identity.check(reply)
        return reply

    def _door(self) -> Door:
        door = self.web.door()
        if door is None:
            raise NotThisHub("the hub has no HTTP any more")
        return door

    def _pause(self, failure: GaplessError, attempts: int) -> Pause:
        """Return how long to wait before asking again; raise the failure where that is no use."""
        if isinstance(failure, MissingToken):
            raise self._tokenless(failure)
        pause = failure.retry_after_s
        if (
            not isinstance(failure, Overloaded)
            or attempts >= self.patience.retries
            or pause is None
            or not 0 <= pause <= self.patience.longest_pause
        ):
            raise failure
        return Pause(pause)

    def _tokenless(self, failure: MissingToken) -> MissingToken:
        """Return the error in words for Python; the hub's are about the wire."""
        return MissingToken(
            f"the hub at {self.endpoint.name} asks for a token: give token=…, or set GAPLESS_TOKEN",
            reason=failure.reason,
        )

    def _wait(self, timeout: float | None) -> float:
        """Return the longest silence of a step in seconds; raise `InvalidQuery`."""
        wait = self.patience.timeout if timeout is None else timeout
        if not isinstance(wait, int | float) or not wait > 0:
            raise InvalidQuery(f"timeout={wait!r}: expected seconds, more than 0")
        return wait
