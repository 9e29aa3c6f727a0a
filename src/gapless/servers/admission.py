"""Whether a request goes ahead: the one place where doors meet users, tokens and permissions.

TCP and HTTP both ask here, so that what one refuses the other does not let through.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from gapless.auth.authority import Authority
from gapless.auth.directory import Grant
from gapless.auth.permissions import Scope, refusal
from gapless.auth.tokens import Kind
from gapless.clock import Clock
from gapless.errors import QuotaExceeded, RequestError
from gapless.hub.callers import ANYBODY, Caller
from gapless.servers.strangers import Door, kind_of, turned_away


class Session:
    """What a connection, or a request by itself, has shown of who it is.

    `grant` is what requests without a token of their own go by; `presented`: it was shown a token,
    which may be none. `admitted`: there has been a valid one. `counted`: its requests are counted
    against their user's budget by somebody else. `door`: where it came in. `connection` is the name
    that it goes by where there are no users.
    """

    __slots__ = ("admitted", "connection", "counted", "door", "grant", "presented")

    def __init__(
        self,
        grant: Grant | None,
        connection: str = ANYBODY.name,
        *,
        presented: bool = False,
        counted: bool = False,
        door: Door = "tcp",
    ) -> None:
        self.grant = grant
        self.connection = connection
        self.presented = presented
        self.door = door
        self.admitted = grant is not None
        self.counted = counted

    @property
    def party(self) -> str:
        """Whose turns its requests take: its user's; its own where there are no users."""
        return self.connection if self.grant is None else caller_of(self.grant, self).name


class Admission:
    """Lets requests in, or says why not."""

    def __init__(self, authority: Authority, clock: Clock) -> None:
        self.authority = authority
        self._open = authority.open_grant
        self._latest = authority.directory.latest.peek
        self._clock = clock
        self._connections = count(1)

    @property
    def required(self) -> bool:
        """Whether requests need a token."""
        return self.authority.enabled

    def session(self) -> Session:
        """Return the session of a connection over TCP that has shown nothing yet."""
        return Session(self.authority.open_grant, f"tcp connection {next(self._connections)}")

    def shown(
        self, tokens: Sequence[str], connection: str = ANYBODY.name, *, counted: bool = False
    ) -> Session:
        """Return the session of a request of HTTP with these tokens, of which one may be valid.

        Where several are, it is none of them: one is not the user's, and it cannot be told which.
        """
        if self.authority.open_grant is not None:
            return Session(self.authority.open_grant, connection, counted=counted, door="http")
        valid = [found for one in tokens if (found := self.authority.directory.find(one))]
        grant = valid[0] if len(valid) == 1 else None
        return Session(grant, connection, presented=bool(tokens), counted=counted, door="http")

    def stranger(
        self, door: Door, shown: Kind | None, *, presented: bool, malformed: bool = False
    ) -> RequestError:
        """Return what a request without a valid token is refused with; see `turned_away`."""
        users = not self.authority.sessions.awaits_setup
        return turned_away(door, users=users, shown=shown, presented=presented, malformed=malformed)

    def admit(
        self, operation: str, session: Session, token: str | None = None, charged: bool = True
    ) -> Grant | None:
        """Return the grant that an operation goes ahead by; a request's own `token` goes first.

        `None`: it is open to anyone, and nobody in particular asks. Unless it is `charged`, it
        is only a part of a request.

        Raises what `refusal` returns, and `QuotaExceeded` for one request too many.
        """
        if self._open is not None:
            return self._open
        # The common case by far: a token that was shown before, and may do it.
        grant = session.grant if token is None else self._latest(token)
        now = self._clock.now_ms()
        if (
            grant is not None
            and operation in grant.allowed
            and now < grant.expires_ms
            and (session.counted or not charged or grant.takes())
        ):
            session.admitted = True
            grant.used_ms = now
            return grant
        return self._looked_at(operation, session, token, charged)

    def _looked_at(
        self, operation: str, session: Session, token: str | None, charged: bool
    ) -> Grant | None:
        """Decide by all there is to know, and say why where it is refused; see `admit`."""
        kind: Kind | None = None
        if token is not None:
            grant, presented, kind = self.authority.directory.find(token), True, kind_of(token)
            if grant is not None:
                session.admitted = True
        else:
            grant, presented = session.grant, session.presented
            if grant is not None and not grant.current(self._clock.now_ms()):
                kind, grant, presented = grant.kind, None, True
        if grant is None or operation not in grant.allowed:
            standing = None if grant is None else grant.standing
            refused = refusal(operation, standing, presented=presented)
            if refused is not None and grant is None:
                raise self.stranger(session.door, kind, presented=presented)
            if refused is not None:
                raise refused
        if grant is not None and charged and not session.counted:
            charge(grant)
        return grant

    def overdrawn(self, session: Session) -> QuotaExceeded | None:
        """Take a request that is none from the budget; return why not, where there is nothing."""
        if session.grant is None or session.counted:
            return None
        try:
            charge(session.grant)
        except QuotaExceeded as error:
            return error
        return None


def charge(grant: Grant) -> None:
    """Take a request from its user's budget; raise `QuotaExceeded` where there is none."""
    rate = grant.account.rate
    if rate is not None and not rate.take():
        raise QuotaExceeded(
            "you ask more often than one user may (access.rate); try again",
            retry_after_s=max(0.001, round(rate.wait(), 3)),
        )


def caller_of(grant: Grant, session: Session) -> Caller:
    """Return on whose behalf the hub works for a grant: a user, or else a connection."""
    if not grant.number:
        return Caller(session.connection, share=False)
    return Caller(grant.email, may_fetch=Scope.FETCH in grant.standing.scopes)
