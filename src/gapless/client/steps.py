"""The steps that conversations with a hub are made of; clients take them, in their own ways.

A conversation is a generator: it yields steps (ask this over TCP, fetch that over HTTP, wait) and
is sent what came of them, or thrown what went wrong.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

from gapless.client.identity import Door
from gapless.client.lines import Answer

T = TypeVar("T")


class Ask(NamedTuple):
    """Send a query over TCP; what comes back is a `Reply`."""

    query: Mapping[str, Any]
    token: str | None
    envelope: Mapping[str, Any]
    timeout: float


class Fetch(NamedTuple):
    """Send a request over HTTP; what comes back is a `WebReply`. `body` goes as JSON.

    Nothing of it is sent before the hub at the `door` has answered as the one that is meant.
    """

    door: Door
    method: str
    target: str
    token: str | None
    accept: str
    body: Any
    timeout: float


class Pause(NamedTuple):
    """Wait so many seconds; what comes back is `None`."""

    seconds: float


class Reply(NamedTuple):
    """An answer, and the line that it was read from.

    `opened`: the connection was opened for it, so that it is not known who is there.
    """

    answer: Answer
    line: bytes
    opened: bool = False


Step: TypeAlias = Ask | Fetch | Pause
Conversation: TypeAlias = Generator[Step, Any, T]
