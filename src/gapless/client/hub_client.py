"""What both kinds of client are made of: where the hub is, and which token it is shown."""

from __future__ import annotations

import os
from typing import Literal

from gapless.client.addresses import endpoint, web_override
from gapless.client.conversations import Conversations, Patience


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
        return self._conversations.web

    def set_token(self, token: str) -> None:
        """Show this token from now on."""
        self._conversations.token = token

    def clear_token(self) -> None:
        """Show no token from now on."""
        self._conversations.token = None

    def __repr__(self) -> str:
        return f"<gapless.{type(self).__name__} {self.address}>"
