"""What both kinds of client are made of: where the hub is, and which token it is shown."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import Literal

from gapless.client.addresses import endpoint, web_override
from gapless.client.conversations import Conversations
from gapless.client.failures import NotReadyWarning
from gapless.client.talk import Patience


class HubClient:
    """A hub that can be asked; see `Client` for the arguments."""

    def __init__(
        self,
        address: str | None,
        token: str | None,
        http: str | Literal[False] | None,
        patience: Patience,
    ) -> None:
        where = endpoint(address, token, os.environ)
        self._conversations = Conversations(where, web_override(http), patience)

    @property
    def address(self) -> str:
        """The hub's address, without the token."""
        return self._conversations.endpoint.url

    @property
    def http(self) -> str | None:
        """The base address of the hub's HTTP door; `None`: none is known (yet: see `ping`)."""
        return self._conversations.web.base

    def set_token(self, token: str) -> None:
        """Show this token from now on."""
        self._conversations.token = token

    def clear_token(self) -> None:
        """Show no token from now on."""
        self._conversations.token = None

    def _warn(self, shortfalls: Iterable[str]) -> None:
        """Warn the caller of the method that calls this: of what is less than was asked for.

        Once also that HTTP is not used, if it is not where it should be.
        """
        for text in shortfalls:
            warnings.warn(text, NotReadyWarning, stacklevel=3)
        notice = self._conversations.web.notice()
        if notice is not None:
            warnings.warn(notice, stacklevel=3)

    def __repr__(self) -> str:
        return f"<gapless.{type(self).__name__} {self.address}>"
