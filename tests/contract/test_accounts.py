"""What every store does with users, tokens and the audit log."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gapless.errors import Conflict, NotFound
from gapless.store.accounts import AccountStore, Deed, NewToken
from gapless.store.sqlite import open_read_only, open_store
from support.series import KEY

DEED = Deed(5_000, "ann", "did", "it", {"name": "value"})


def token(digest: str, kind: str = "access", family: str = "f") -> NewToken:
    """Return a token to be stored."""
    return NewToken(digest, kind, family, "a name", "fetch read", 1_000, 2_000)


@pytest.fixture
async def accounts(tmp_path: Path) -> AsyncIterator[AccountStore]:
    """Return an empty store's accounts."""
    store = await asyncio.to_thread(open_store, tmp_path / "hub.db")
    yield store.accounts
    await store.close()


async def actions(accounts: AccountStore) -> int:
    """Return how many deeds are stored."""
    return len(await accounts.deeds(1_000))


async def test_nothing_is_stored(accounts: AccountStore) -> None:
    """A new store has nobody, and says that setup is to come."""
    roster = await accounts.roster()
    assert (roster.users, roster.tokens, roster.set_up) == ([], [], False)
    assert await accounts.deeds(10) == []


async def test_what_is_stored_is_read(accounts: AccountStore) -> None:
    """A user, their tokens and the deed come back as they were."""
    tokens = [token("one"), token("two", "refresh")]
    user, stored = await accounts.add_user("a@b.c", "admin", "hash", DEED, tokens, first=True)
    roster = await accounts.roster()
    assert roster.set_up
    assert roster.users == [user]
    assert (user.email, user.role, user.password) == ("a@b.c", "admin", "hash")
    assert (user.created_at, user.password_at, user.signed_in_at) == (5_000, 5_000, None)
    assert roster.tokens == list(stored)
    assert [(one.token, one.user, one.used_at) for one in stored] == [
        (tokens[0], user.number, None),
        (tokens[1], user.number, None),
    ]
    (deed,) = await accounts.deeds(10)
    assert deed.deed == DEED
    other, _ = await accounts.add_user("d@e.f", "read", "hash", DEED, signed_in_at=7_000)
    assert other.signed_in_at == 7_000
    assert (await accounts.roster()).users == [user, other]


async def test_of_any_number_of_first_users_one_is_stored(accounts: AccountStore) -> None:
    """Setup is decided in the store itself; the others leave nothing behind."""
    results = await asyncio.gather(
        *(
            accounts.add_user(f"u{n}@b.c", "admin", "hash", DEED, [token(f"t{n}")], first=True)
            for n in range(50)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(one, Conflict) for one in results) == 49
    roster = await accounts.roster()
    assert len(roster.users) == len(roster.tokens) == 1
    assert await actions(accounts) == 1


async def test_setup_is_over_for_good(accounts: AccountStore) -> None:
    """Whoever was first, and whether anybody is left."""
    user, _ = await accounts.add_user("a@b.c", "read", "hash", DEED)
    assert await accounts.remove_user(user.number, DEED)
    roster = await accounts.roster()
    assert (roster.users, roster.set_up) == ([], True)
    with pytest.raises(Conflict, match="setup is over"):
        await accounts.add_user("b@b.c", "admin", "hash", DEED, first=True)


async def test_an_address_is_one_users(accounts: AccountStore) -> None:
    """A second one is refused, and no deed tells of it."""
    await accounts.add_user("a@b.c", "read", "hash", DEED)
    with pytest.raises(Conflict, match=r"there is a user a@b\.c already"):
        await accounts.add_user("a@b.c", "admin", "other", DEED)
    assert [user.role for user in (await accounts.roster()).users] == ["read"]
    assert await actions(accounts) == 1


async def test_a_new_password_ends_all_tokens(accounts: AccountStore) -> None:
    """Of that user; another role ends none."""
    ann, _ = await accounts.add_user("a@b.c", "read", "hash", DEED, [token("one")])
    bob, _ = await accounts.add_user("b@b.c", "read", "hash", DEED, [token("two")])
    later = Deed(9_000, "ann", "did", "it")
    assert await accounts.change_user(ann.number, later, role="admin")
    assert len((await accounts.roster()).tokens) == 2
    assert await accounts.change_user(ann.number, later, password="new")
    roster = await accounts.roster()
    assert [one.user for one in roster.tokens] == [bob.number]
    changed = roster.users[0]
    assert (changed.role, changed.password, changed.password_at) == ("admin", "new", 9_000)
    assert not await accounts.rehash(ann.number, "hash", "newest")
    assert await accounts.rehash(ann.number, "new", "newer")
    assert (await accounts.roster()).users[0].password == "newer"
    assert not await accounts.change_user(99, later, role="read")
    assert not await accounts.remove_user(99, later)
    assert await actions(accounts) == 4


async def test_tokens_take_the_place_of_others(accounts: AccountStore) -> None:
    """In one step; for a user who is not there any more there are none."""
    user, (old,) = await accounts.add_user("a@b.c", "read", "hash", DEED, [token("old")])
    (new,) = await accounts.add_tokens(
        user.number, [token("new")], DEED, instead=[old.number], signed_in_at=7_000
    )
    roster = await accounts.roster()
    assert roster.tokens == [new]
    assert new.number > old.number
    assert roster.users[0].signed_in_at == 7_000
    with pytest.raises(NotFound):
        await accounts.add_tokens(99, [token("x")], DEED)
    await accounts.note_use({new.number: 1_500, 99: 1})
    await accounts.note_use({})
    assert (await accounts.roster()).tokens[0].used_at == 1_500
    assert await accounts.remove_tokens([new.number, 99], DEED) == 1
    assert await accounts.remove_tokens([new.number], DEED) == 0
    assert await accounts.remove_tokens([], DEED) == 0
    assert await actions(accounts) == 3


async def test_numbers_are_never_used_twice(accounts: AccountStore) -> None:
    """What the audit log says of one is never about a later one."""
    first, _ = await accounts.add_user("a@b.c", "read", "hash", DEED, [token("one")])
    await accounts.remove_user(first.number, DEED)
    second, (new,) = await accounts.add_user("a@b.c", "read", "hash", DEED, [token("one")])
    assert second.number > first.number
    assert new.number > 1


async def test_deeds_come_in_pages_the_latest_first(accounts: AccountStore) -> None:
    """And outlive whom they tell of."""
    for number in range(25):
        await accounts.record(Deed(number, f"actor {number}", "did", "it"))
    seen: list[str] = []
    before: int | None = None
    while page := await accounts.deeds(10, before):
        seen += [one.deed.actor for one in page]
        before = page[-1].number
    assert seen == [f"actor {number}" for number in reversed(range(25))]


async def test_what_is_acknowledged_is_on_the_disk(tmp_path: Path) -> None:
    """Users and tokens are written with synchronous=FULL, data with NORMAL; both ways in turn."""
    store = await asyncio.to_thread(open_store, tmp_path / "hub.db")
    levels: list[int] = []

    def level() -> None:
        with store._writer.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert isinstance(raw, sqlite3.Connection)
            levels.append(raw.execute("PRAGMA synchronous").fetchone()[0])

    normal, full = 1, 2
    await store.accounts.record(DEED)
    await asyncio.to_thread(level)
    await store.prune(KEY, 0)
    await asyncio.to_thread(level)
    await store.accounts.add_user("a@b.c", "read", "hash", DEED)
    await store.accounts.note_use({1: 1})
    await asyncio.to_thread(level)
    assert levels == [full, normal, normal]
    await store.close()


async def test_whoever_reads_beside_a_hub_sees_it(tmp_path: Path) -> None:
    """The commands that only read open the database beside it."""
    store = await asyncio.to_thread(open_store, tmp_path / "hub.db")
    await store.accounts.add_user("a@b.c", "read", "hash", DEED)
    beside = await asyncio.to_thread(open_read_only, tmp_path / "hub.db")
    assert len((await beside.accounts.roster()).users) == 1
    await beside.close()
    await store.close()
