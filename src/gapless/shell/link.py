"""The shell's side of a hub: its address, its token, and what to do when it goes away."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from typing import Final, TypeVar

from gapless.client.addresses import Endpoint
from gapless.client.client import Client
from gapless.client.failures import ConnectionLost, HttpUnusable, TimedOut, Unreachable
from gapless.client.talk import HubInfo
from gapless.errors import GaplessError, MissingToken, Unauthorized
from gapless.shell.keeping import Keeping, Kept
from gapless.texts import printable

T = TypeVar("T")

# How long a hub that has gone is waited for.
_PATIENCE_S: Final = 10.0
_PAUSES_S: Final = (0.1, 0.2, 0.4, 0.8, 1.0)
# What tokens of a hub's own begin with, and from which length on their ends give nothing away.
_KIND: Final = re.compile("gapless_[a-z]+_")
_LONG: Final = 20


class Link:
    """A hub as a person is connected with it.

    `patient`: it is waited for when it has gone, and `say` tells so. `web` is where it speaks
    HTTP, if not where it says.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        keeping: Keeping,
        web: str | None,
        patient: bool,
        say: Callable[[str], None],
    ) -> None:
        """Make the client; nothing is connected yet."""
        self.endpoint = endpoint
        self.web = web
        self._keeping = keeping
        self._patient = patient
        self._say = say
        self.client = self._client()

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    def anew(self) -> None:
        """Connect anew, as to another hub if the address has changed."""
        self.client.close()
        self.client = self._client()

    def go(self, endpoint: Endpoint) -> None:
        """Ask another hub from now on, which says itself where it speaks HTTP."""
        self.endpoint = endpoint
        self.web = None
        self.anew()

    def greeting(self) -> str:
        """Reach the hub and return who it is, in a sentence."""
        info = self.client.ping()
        asks = " It asks for a token: :login, or :auth TOKEN." if self._needs(info) else ""
        return printable(f"gapless {info.version} at {self.endpoint.name}.{asks}")

    def ask(self, question: Callable[[], T]) -> T:
        """Ask; where the hub has gone, say so once, wait for it, and ask again if nothing was sent.

        A token that has ended is renewed, if a refresh token is kept.
        """
        try:
            return _worded(question)
        except (Unauthorized, MissingToken) as error:
            if _worded(self._refreshed):
                return _worded(question)
            if isinstance(error, MissingToken):
                raise MissingToken(
                    f"the hub at {self.endpoint.name} asks for a token: :login, or :auth TOKEN",
                    reason=error.reason,
                ) from error
            raise
        except (TimedOut, HttpUnusable):
            raise
        except Unreachable as error:
            if not self._patient:
                raise
            self._say(error.message)
            self._await_hub(error)
            if isinstance(error, ConnectionLost):
                # It may have been done, or half of it.
                raise GaplessError(
                    "connected again; the request had been sent when the connection broke, so ask "
                    "again if you want"
                ) from error
            self._say("connected again")
            return _worded(question)

    def check_web(self) -> None:
        """See whether the hub is where its HTTP should be; raise `HttpUnusable`, or as `ask`."""
        self.ask(lambda: self.client.fetch("GET", "/healthz"))

    def sign_in(self, email: str, password: str) -> str:
        """Get a token by a password, and keep it; return the role."""
        body = {"email": email, "password": password}
        told = _worded(lambda: self.client.fetch("POST", "/v1/auth/login", body))
        self.keep(Kept(told["access_token"], told["refresh_token"]))
        return printable(str(told.get("role")))

    def keep(self, kept: Kept | None) -> None:
        """Show another token from now on, and keep it; `None`: show none, and forget it."""
        where = self.endpoint
        if kept is None:
            self.client.clear_token()
        else:
            self.client.set_token(kept.token)
        # It counts for this run, also where it cannot be kept for the next one.
        self._keeping.keep_token(where.url, kept)
        # What is kept goes before what the shell was started with.
        self.endpoint = Endpoint(where.host, where.port, where.tls)

    @property
    def token(self) -> str | None:
        """The token that is shown."""
        kept = self._keeping.token(self.endpoint.url)
        return self.endpoint.token or (kept.token if kept is not None else None)

    def _client(self) -> Client:
        client = Client(self.endpoint.url, http=self.web, connect_timeout=5.0, retries=0)
        token = self.token
        if token is None:
            client.clear_token()
        else:
            client.set_token(token)
        return client

    def _needs(self, info: HubInfo) -> bool:
        return info.auth and self.token is None

    def _await_hub(self, error: Unreachable) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        self._say(f"reconnecting for up to {_PATIENCE_S:g} s; Ctrl-C to stop")
        pauses = itertools.chain(_PAUSES_S, itertools.repeat(_PAUSES_S[-1]))
        for pause in pauses:
            time.sleep(pause)
            try:
                self.client.ping()
            except Unreachable:
                if time.monotonic() > deadline:
                    raise error from None
            else:
                return

    def _refreshed(self) -> bool:
        """Get another token by the refresh token that is kept, if that was how this one came."""
        kept = self._keeping.token(self.endpoint.url)
        if kept is None or kept.refresh is None or self.endpoint.token is not None:
            return False
        try:
            told = self.client.fetch("POST", "/v1/auth/refresh", {"refresh_token": kept.refresh})
            self.keep(Kept(told["access_token"], told["refresh_token"]))
        except HttpUnusable:
            # Whoever signed in would wonder why it does not last.
            raise
        except (GaplessError, KeyError):
            return False
        return True


def remedied(fact: str) -> str:
    """Return what is wrong with a hub's HTTP together with what a person can do about it."""
    return f"{fact}; say where it speaks HTTP by :http http://HOST:PORT"


def _worded(question: Callable[[], T]) -> T:
    """Ask; say in words for the shell what a client says in words for Python."""
    try:
        return question()
    except HttpUnusable as error:
        if not error.fact:
            raise
        raise HttpUnusable(remedied(error.fact), fact=error.fact) from error


def hidden(token: str) -> str:
    """Return a token so that its holder knows it again, and nobody else can use it."""
    match = _KIND.match(token)
    return f"{match[0] if match else ''}***{token[-4:] if len(token) > _LONG else ''}"
