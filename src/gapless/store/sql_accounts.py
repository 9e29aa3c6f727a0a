"""Users, tokens and the audit log in SQL; see `accounts.py`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from gapless.errors import Conflict, NotFound
from gapless.store import schema
from gapless.store.accounts import (
    Deed,
    NewToken,
    Roster,
    StoredDeed,
    StoredToken,
    StoredUser,
)

T = TypeVar("T")
_u, _t, _a = schema.users.c, schema.tokens.c, schema.audit.c


class Run(Protocol):
    """How a piece of work is given a connection, in a transaction of its own."""

    def __call__(self, work: Callable[[Connection], T]) -> Coroutine[Any, Any, T]:
        """Return what `work` makes of a connection."""
        ...


class SqlAccounts:
    """The accounts of a `SqlStore`, which lends its threads.

    What `write` is given is on the disk when it returns, what `note` is given soon.
    """

    def __init__(self, read: Run, write: Run, note: Run) -> None:
        self._read = read
        self._write = write
        self._note = note

    async def roster(self) -> Roster:
        """Return all users and tokens."""
        return await self._read(_roster)

    async def add_user(
        self,
        email: str,
        role: str,
        password: str,
        deed: Deed,
        tokens: Sequence[NewToken] = (),
        *,
        first: bool = False,
        signed_in_at: int | None = None,
    ) -> tuple[StoredUser, Sequence[StoredToken]]:
        """Store a user; see `AccountStore.add_user`."""

        def work(connection: Connection) -> tuple[StoredUser, Sequence[StoredToken]]:
            _close_setup(connection, deed.at, first)
            user = _insert_user(connection, email, role, password, deed.at, signed_in_at)
            _record(connection, deed)
            return user, _insert_tokens(connection, user.number, tokens)

        return await self._write(work)

    async def change_user(
        self, number: int, deed: Deed, *, role: str | None = None, password: str | None = None
    ) -> bool:
        """Change a user's role or password; return whether it is there."""
        values: dict[str, Any] = {}
        if role is not None:
            values["role"] = role
        if password is not None:
            values |= {"password": password, "password_ms": deed.at}

        def work(connection: Connection) -> bool:
            statement = update(schema.users).where(_u.number == number).values(values)
            if not connection.execute(statement).rowcount:
                return False
            if password is not None:
                connection.execute(delete(schema.tokens).where(_t.user == number))
            _record(connection, deed)
            return True

        return await self._write(work)

    async def remove_user(self, number: int, deed: Deed) -> bool:
        """Remove a user and all tokens of theirs."""

        def work(connection: Connection) -> bool:
            if not connection.execute(delete(schema.users).where(_u.number == number)).rowcount:
                return False
            _record(connection, deed)
            return True

        return await self._write(work)

    async def rehash(self, number: int, old: str, new: str) -> bool:
        """Store the same password's hash anew, if the `old` one is still there."""
        statement = (
            update(schema.users).where(_u.number == number, _u.password == old).values(password=new)
        )
        return await self._write(lambda connection: connection.execute(statement).rowcount > 0)

    async def add_tokens(
        self,
        user: int,
        tokens: Sequence[NewToken],
        deed: Deed | None = None,
        *,
        instead: Sequence[int] = (),
        signed_in_at: int | None = None,
    ) -> Sequence[StoredToken]:
        """Store tokens; see `AccountStore.add_tokens`."""

        def work(connection: Connection) -> Sequence[StoredToken]:
            known = connection.execute(select(_u.number).where(_u.number == user)).first()
            if known is None:
                raise NotFound("this user is not there any more")
            if instead:
                connection.execute(delete(schema.tokens).where(_t.number.in_(list(instead))))
            if signed_in_at is not None:
                connection.execute(
                    update(schema.users).where(_u.number == user).values(signed_in_ms=signed_in_at)
                )
            if deed is not None:
                _record(connection, deed)
            return _insert_tokens(connection, user, tokens)

        return await self._write(work)

    async def remove_tokens(self, numbers: Sequence[int], deed: Deed | None = None) -> int:
        """Remove tokens; return how many were there."""

        def work(connection: Connection) -> int:
            statement = delete(schema.tokens).where(_t.number.in_(list(numbers)))
            gone = connection.execute(statement).rowcount
            if gone and deed is not None:
                _record(connection, deed)
            return gone

        return await self._write(work)

    async def note_use(self, used: Mapping[int, int]) -> None:
        """Store when tokens were last used."""
        statement = (
            update(schema.tokens)
            .where(_t.number == bindparam("of"))
            .values(used_ms=bindparam("at"))
        )
        values = [{"of": number, "at": at} for number, at in used.items()]
        if values:
            # No harm is done where a power failure loses it.
            await self._note(lambda connection: connection.execute(statement, values).close())

    async def record(self, deed: Deed) -> None:
        """Add a line to the audit log."""
        await self._write(lambda connection: _record(connection, deed))

    async def deeds(self, limit: int, before: int | None = None) -> Sequence[StoredDeed]:
        """Return the latest lines of the audit log, or those before that number."""
        statement = select(schema.audit).order_by(_a.number.desc()).limit(limit)
        if before is not None:
            statement = statement.where(_a.number < before)

        def work(connection: Connection) -> Sequence[StoredDeed]:
            return [
                StoredDeed(
                    row.number,
                    Deed(
                        row.at_ms,
                        row.actor,
                        row.action,
                        row.target,
                        msgspec.json.decode(row.details, type=dict[str, str]),
                    ),
                )
                for row in connection.execute(statement)
            ]

        return await self._read(work)


def _roster(connection: Connection) -> Roster:
    users = connection.execute(select(schema.users).order_by(_u.number)).all()
    tokens = connection.execute(select(schema.tokens).order_by(_t.number)).all()
    done = connection.execute(select(schema.setup)).first()
    return Roster(
        [
            StoredUser(
                row.number,
                row.email,
                row.role,
                row.created_ms,
                row.password_ms,
                row.signed_in_ms,
                row.password,
            )
            for row in users
        ],
        [
            StoredToken(
                row.number,
                row.user,
                NewToken(
                    row.digest,
                    row.kind,
                    row.family,
                    row.name,
                    row.scopes,
                    row.created_ms,
                    row.expires_ms,
                ),
                row.used_ms,
            )
            for row in tokens
        ],
        done is not None,
    )


def _close_setup(connection: Connection, at: int, first: bool) -> None:
    """Note that there is a user; if it must be the first, whoever comes second is refused."""
    if not first and connection.execute(select(schema.setup)).first() is not None:
        return
    try:
        # The key decides between any number that try at once, on any database.
        connection.execute(insert(schema.setup).values(number=1, done_ms=at))
    except IntegrityError:
        raise Conflict("setup is over: there is a user already; sign in") from None


def _insert_user(
    connection: Connection, email: str, role: str, password: str, at: int, signed_in_at: int | None
) -> StoredUser:
    try:
        made = connection.execute(
            insert(schema.users).values(
                email=email,
                role=role,
                created_ms=at,
                password_ms=at,
                signed_in_ms=signed_in_at,
                password=password,
            )
        )
    except IntegrityError:
        raise Conflict(f"there is a user {email} already") from None
    assert made.inserted_primary_key is not None
    return StoredUser(made.inserted_primary_key[0], email, role, at, at, signed_in_at, password)


def _insert_tokens(
    connection: Connection, user: int, tokens: Sequence[NewToken]
) -> Sequence[StoredToken]:
    if not tokens:
        return ()
    numbers = connection.execute(
        insert(schema.tokens).returning(_t.number, sort_by_parameter_order=True),
        [
            {
                "digest": token.digest,
                "user": user,
                "kind": token.kind,
                "family": token.family,
                "name": token.name,
                "scopes": token.scopes,
                "created_ms": token.created_at,
                "expires_ms": token.expires_at,
            }
            for token in tokens
        ],
    ).scalars()
    return [
        StoredToken(number, user, token, None)
        for number, token in zip(numbers, tokens, strict=True)
    ]


def _record(connection: Connection, deed: Deed) -> None:
    connection.execute(
        insert(schema.audit).values(
            at_ms=deed.at,
            actor=deed.actor,
            action=deed.action,
            target=deed.target,
            details=msgspec.json.encode(deed.details).decode(),
        )
    )
