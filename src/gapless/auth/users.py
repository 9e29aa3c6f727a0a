"""Users: added, given a role or a password, removed; each change counts from the next request."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gapless.auth.audit import Audit
from gapless.auth.directory import Account, Directory
from gapless.auth.passwords import Passwords, check_password
from gapless.auth.permissions import ROLES
from gapless.errors import Conflict, InvalidQuery, NotFound
from gapless.store.accounts import AccountStore

_EMAIL: Final = re.compile(r"[^@\s/\\]+@[^@\s/\\]+")
_LONGEST_EMAIL: Final = 254
_ADMIN: Final = "admin"


class Users:
    """The users of a hub."""

    def __init__(
        self, store: AccountStore, directory: Directory, passwords: Passwords, audit: Audit
    ) -> None:
        self._store = store
        self._directory = directory
        self._passwords = passwords
        self._audit = audit
        # One change after the other: what one is decided on is still so when it is made.
        self._changing = asyncio.Lock()

    def all(self) -> Sequence[Account]:
        """Return all users by their addresses."""
        return self._directory.accounts()

    @property
    def administered(self) -> bool:
        """Whether there is an administrator."""
        return any(map(_administers, self._directory.accounts()))

    def get(self, email: str) -> Account:
        """Return a user; raise `NotFound`."""
        account = self._directory.account(checked_email(email))
        if account is None:
            raise NotFound(f"there is no user {checked_email(email)}")
        return account

    async def add(self, email: str, password: str, role: str, actor: str) -> Account:
        """Add a user; raise `InvalidQuery` for what makes no sense, `Conflict` if there is one."""
        email, role = checked_email(email), checked_role(role)
        check_password(password, email)
        if self._directory.account(email) is not None:
            raise Conflict(f"there is a user {email} already")
        hashed = await self._passwords.hashed(password, actor)
        async with self._changing:
            with self._audit.deed(actor, "user added", email, role=role) as deed:
                user, _ = await self._store.add_user(email, role, hashed, deed)
            return self._directory.add(user)

    def check_new(self, email: str, role: str) -> None:
        """Raise why an operator cannot add such a user: `InvalidQuery`, or `Conflict`."""
        email, role = checked_email(email), checked_role(role)
        if self._directory.account(email) is not None:
            raise Conflict(f"there is a user {email} already")
        if not self._directory.accounts():
            check_first(role)

    async def set_role(self, email: str, role: str, actor: str) -> Account:
        """Change a role; tokens stay, and are good for no more than the new one reaches.

        One that the user has already is no change, and the audit log has none.
        """
        role = checked_role(role)
        async with self._changing:
            account = self.get(email)
            if role == account.user.role:
                return account
            if role != _ADMIN:
                self._refuse_last(account, "keeps the role")
            user = account.user
            with self._audit.deed(
                actor, "role changed", user.email, role=role, before=user.role
            ) as deed:
                if not await self._store.change_user(user.number, deed, role=role):
                    raise NotFound(f"there is no user {user.email}")
            self._directory.changed(account, replace(account.user, role=role))
            return account

    async def set_password(self, email: str, password: str, actor: str) -> Account:
        """Change a password, which ends all tokens of the user: who took one is out."""
        account = self.get(email)
        check_password(password, account.email)
        hashed = await self._passwords.hashed(password, actor)
        async with self._changing:
            account = self.get(email)
            with self._audit.deed(actor, "password changed", account.email) as deed:
                if not await self._store.change_user(account.user.number, deed, password=hashed):
                    raise NotFound(f"there is no user {account.email}")
            self._directory.end_all(account)
            user = replace(account.user, password=hashed, password_at=deed.at)
            self._directory.changed(account, user)
            return account

    async def remove(self, email: str, actor: str) -> None:
        """Remove a user, and end their tokens."""
        async with self._changing:
            account = self.get(email)
            self._refuse_last(account, "stays")
            with self._audit.deed(actor, "user removed", account.email) as deed:
                await self._store.remove_user(account.user.number, deed)
            self._directory.remove(account)

    async def renew_hash(self, account: Account, password: str) -> None:
        """Store the hash of a password that was just shown by today's parameters, if it is not."""
        old = account.user.password
        if not self._passwords.outdated(old):
            return
        hashed = await self._passwords.hashed(password, account.email)
        async with self._changing:
            # A reset meanwhile is not undone, neither here nor in the store.
            if account.user.password == old and await self._store.rehash(
                account.user.number, old, hashed
            ):
                self._directory.changed(account, replace(account.user, password=hashed))

    def _refuse_last(self, account: Account, what: str) -> None:
        """Refuse to leave the hub without an administrator: nobody could let another one in."""
        others = [
            one for one in self._directory.accounts() if one is not account and _administers(one)
        ]
        if _administers(account) and not others:
            raise Conflict(
                f"{account.email} is the only administrator and {what}; make another one first"
            )


def checked_email(email: str) -> str:
    """Return an address as users go by it; raise `InvalidQuery`."""
    text = plain(email)
    if len(text) > _LONGEST_EMAIL or not _EMAIL.fullmatch(text) or not text.isprintable():
        raise InvalidQuery(f"{text[:60]!r} is no email address, such as ann@example.com")
    return text


def check_first(role: str) -> None:
    """Raise `Conflict` for a first user of a role that leaves nobody to let others in.

    Setup by the printed address is over with any user.
    """
    if role != _ADMIN:
        raise Conflict(
            f"the first user has to be an administrator, who lets the others in: --role {_ADMIN}"
        )


def plain(email: str) -> str:
    """Return an address as all who mean the same spell it: look-alikes are no others."""
    return unicodedata.normalize("NFKC", email[:1_000]).strip().casefold()


def checked_role(role: str) -> str:
    """Return a role; raise `InvalidQuery`."""
    if role not in ROLES:
        raise InvalidQuery(f"there is no role {role[:60]!r}; the roles are: {', '.join(ROLES)}")
    return role


def _administers(account: Account) -> bool:
    return account.user.role == _ADMIN
