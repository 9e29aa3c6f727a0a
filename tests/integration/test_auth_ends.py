"""Signing out, revoking, another role or password, removing: refused at the very next request.

On both doors, on connections that were authenticated before, and where answers are kept ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gapless.auth.authority import Authority
from gapless.config import AccessSettings
from gapless.errors import Conflict, GaplessError, NotFound, Unauthorized
from gapless.store.sqlite import open_store
from support.clock import ManualClock
from support.people import (
    OTHER_PASSWORD,
    PASSWORD,
    Person,
    api_token,
    bearer,
    person,
)
from support.providers import SteadyProvider
from support.web import Web, web
from support.wire import Wire, connect, search

JANUARY = ("2024-01-01", "2024-02-01")
RECORDS = f"/v1/data/steady/ABC?start={JANUARY[0]}&end={JANUARY[1]}"
QUERY = search("steady", "ABC", *JANUARY)
ADMIN = "root@example.com"

End = Callable[[Web, Person], Awaitable[object]]


async def signs_out(opened: Web, one: Person) -> None:
    """Sign out over HTTP."""
    answer = await opened.client.post("/v1/auth/logout", headers=one.bearer)
    assert answer.status_code == 200


async def is_removed(opened: Web, one: Person) -> None:
    """Be removed by an administrator."""
    await opened.authority.users.remove(one.email, ADMIN)


async def password_is_reset(opened: Web, one: Person) -> None:
    """Be given another password by an administrator."""
    await opened.authority.users.set_password(one.email, OTHER_PASSWORD, ADMIN)


async def changes_password(opened: Web, one: Person) -> None:
    """Change one's own password."""
    body = {"password": PASSWORD, "new_password": OTHER_PASSWORD}
    answer = await opened.client.post("/v1/auth/password", json=body, headers=one.bearer)
    assert answer.status_code == 200


async def token_is_revoked(opened: Web, one: Person) -> None:
    """Have the very token revoked."""
    grant = opened.authority.directory.find(one.pair.access)
    assert grant is not None
    await opened.authority.tokens.revoke(grant.number, ADMIN)


async def refreshes_twice(opened: Web, one: Person) -> None:
    """Show a refresh token that was used before."""
    body = {"refresh_token": one.pair.refresh}
    assert (await opened.client.post("/v1/auth/refresh", json=body)).status_code == 200
    assert (await opened.client.post("/v1/auth/refresh", json=body)).status_code == 401


ENDS: tuple[End, ...] = (
    signs_out,
    is_removed,
    password_is_reset,
    changes_password,
    token_is_revoked,
    refreshes_twice,
)


async def authenticated(opened: Web, token: str) -> Wire:
    """Return a connection that is authenticated by a token."""
    wire = await connect(opened.tcp_port)
    told = await wire.ask({"type": "Auth"}, token=token)
    assert told["ok"], told
    return wire


@pytest.mark.share(2)
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_stolen_session_outlives_nothing(tmp_path: Path, end: End) -> None:
    """Every token of the sign-in is replayed on both doors after each way to end it."""
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(web(tmp_path, SteadyProvider(), auth=True))
        await opened.authority.users.add(ADMIN, PASSWORD, "admin", "test")
        one = await person(opened.authority, "fetch")
        wire = await stack.enter_async_context(await authenticated(opened, one.pair.access))
        other = await stack.enter_async_context(await connect(opened.tcp_port))
        for _ in range(3):
            # The second is answered from memory, the third from what is kept ready.
            assert (await wire.ask(QUERY))["ok"]
            assert (await other.ask(QUERY, token=one.pair.access))["ok"]
            assert (await opened.client.get(RECORDS, headers=one.bearer)).status_code == 200

        await end(opened, one)

        for answer in (
            await wire.ask(QUERY),
            await other.ask(QUERY, token=one.pair.access),
            await other.ask({"type": "Auth"}, token=one.pair.access),
            await wire.ask({"type": "ProviderList"}),
        ):
            assert answer["error"]["code"] == "unauthorized", answer
            assert answer["kind"] == "Unauthorized"
        for path in (RECORDS, "/providers", "/v1/auth/me"):
            response = await opened.client.get(path, headers=one.bearer)
            assert response.status_code == 401, path
        response = await opened.client.post(
            "/v1/auth/refresh", json={"refresh_token": one.pair.refresh}
        )
        assert response.status_code == 401
        await after_a_restart(tmp_path, one)


async def after_a_restart(folder: Path, one: Person) -> None:
    """See that none of the tokens comes back from the store."""
    store = await asyncio.to_thread(open_store, folder / "web.db")
    authority = Authority(store.accounts, ManualClock(), enabled=True)
    try:
        await authority.load()
        assert authority.directory.find(one.pair.access) is None
        with pytest.raises(Unauthorized):
            await authority.sessions.refresh(one.pair.refresh, "127.0.0.1")
    finally:
        await authority.close()
        await store.close()


@pytest.mark.parametrize("end", [is_removed, password_is_reset, changes_password])
async def test_tokens_of_programs_end_too(tmp_path: Path, end: End) -> None:
    """Whoever took the account may have made some: a reset ends them as well."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        await opened.authority.users.add(ADMIN, PASSWORD, "admin", "test")
        one = await person(opened.authority, "fetch")
        token = await api_token(opened.authority, one.email)
        assert (await opened.client.get("/providers", headers=bearer(token))).status_code == 200
        await end(opened, one)
        assert (await opened.client.get("/providers", headers=bearer(token))).status_code == 401


async def test_another_role_counts_at_once(tmp_path: Path) -> None:
    """On an authenticated connection, by token, and with what is kept ready; both ways."""
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(web(tmp_path, SteadyProvider(), auth=True))
        users = opened.authority.users
        await users.add(ADMIN, PASSWORD, "admin", "test")
        one = await person(opened.authority, "admin", "ann@example.com")
        program = await api_token(opened.authority, one.email, ["admin"])
        wire = await stack.enter_async_context(await authenticated(opened, one.pair.access))
        report: dict[str, Any] = {
            "type": "ProviderRequest",
            "payload": {"provider": "steady", "request": {"GetReport": {"url": "http://x/"}}},
        }
        assert (await wire.ask(report))["error"]["code"] == "unsupported"
        assert (await opened.client.get("/v1/users", headers=one.bearer)).status_code == 200
        await users.set_role(one.email, "read", ADMIN)
        assert (await wire.ask(report))["error"]["code"] == "forbidden"
        assert (await opened.client.get("/v1/users", headers=one.bearer)).status_code == 403
        assert (await opened.client.get("/v1/users", headers=bearer(program))).status_code == 403
        # A token that was made for more than its user may now is good for nothing of it.
        assert (await wire.ask(QUERY, token=program))["error"]["code"] == "forbidden"
        await users.set_role(one.email, "fetch", ADMIN)
        assert (await wire.ask(QUERY))["ok"]
        assert (await wire.ask(report))["error"]["code"] == "unsupported"


async def test_what_runs_out_is_over_and_stays_so(tmp_path: Path) -> None:
    """A token ends by the clock, and no setting of the clock revives it; days, hours, an hour."""
    clock = ManualClock()
    store = await asyncio.to_thread(open_store, tmp_path / "auth.db")
    limits = AccessSettings(access_token_s=100, refresh_token_s=1_000)
    authority = Authority(store.accounts, clock, True, limits)
    try:
        await authority.load()
        for hours in (24, 1, -1, -24):
            one = await person(authority, "fetch", f"h{hours}@example.com")
            start = clock.now_ms()
            assert authority.directory.find(one.pair.access) is not None
            clock.set_wall(start + hours * 3_600_000)
            if hours > 0:
                # By the wall it is over, and that is believed.
                assert authority.directory.find(one.pair.access) is None
            clock.set_wall(start)
            assert (authority.directory.find(one.pair.access) is None) is (hours > 0)
            clock.set_wall(start - 24 * 3_600_000)
            clock.advance(101)
            # The wall says that there is a day left; the clock that nobody sets does not.
            assert authority.directory.find(one.pair.access) is None
            clock.set_wall(start)
            assert authority.directory.find(one.pair.access) is None
        one = await person(authority, "fetch", "refresher@example.com")
        clock.advance(1_001)
        with pytest.raises(Unauthorized):
            await authority.sessions.refresh(one.pair.refresh, "127.0.0.1")
        authority.directory.expire()
        clock.set_wall(clock.now_ms() - 24 * 3_600_000)
        with pytest.raises(Unauthorized):
            await authority.sessions.refresh(one.pair.refresh, "127.0.0.1")
    finally:
        await authority.close()
        await store.close()


async def test_a_refresh_token_used_twice_is_an_alarm(tmp_path: Path) -> None:
    """The log warns of it, and the audit log has it, with the address that used it again."""
    async with web(tmp_path, auth=True) as opened:
        one = await person(opened.authority, "fetch")
        body = {"refresh_token": one.pair.refresh}
        await opened.send("POST", "/v1/auth/refresh", body)
        wrong = await opened.send("POST", "/v1/auth/refresh", {"token": "x"}, status=400)
        assert wrong["message"].endswith("unknown field `token`; there are: refresh_token")
        assert opened.logged("warning") == []
        await opened.send("POST", "/v1/auth/refresh", body, status=401)
        warned = [entry for entry in opened.logs if entry["log_level"] == "warning"]
        assert [(entry["event"], entry["target"], entry["address"]) for entry in warned] == [
            ("refresh token used twice", one.email, "127.0.0.1")
        ]
        (told,) = await opened.authority.audit.deeds(1)
        assert told.deed.details == {"address": "127.0.0.1"}


async def test_refreshing_goes_on_and_each_token_counts_once(tmp_path: Path) -> None:
    """A family lives by its latest token; of its access tokens the last few count."""
    store = await asyncio.to_thread(open_store, tmp_path / "auth.db")
    authority = Authority(store.accounts, ManualClock(), enabled=True)
    try:
        await authority.load()
        pair = (await person(authority, "fetch")).pair
        seen = [pair]
        for _ in range(10):
            pair = await authority.sessions.refresh(pair.refresh, "127.0.0.1")
            seen.append(pair)
        counting = [authority.directory.find(one.access) is not None for one in seen]
        assert counting == [False] * 8 + [True] * 3
        # Kept are its access tokens and the one refresh token, however often it went on.
        assert len((await store.accounts.roster()).tokens) == 4
        with pytest.raises(Unauthorized):
            await authority.sessions.refresh(seen[4].refresh, "127.0.0.1")
        assert not any(authority.directory.find(one.access) for one in seen)
        assert (await store.accounts.roster()).tokens == []
    finally:
        await authority.close()
        await store.close()


@pytest.mark.parametrize("how", ["reset", "removal", "sign-out"])
async def test_what_is_being_made_while_it_ends_does_not_count(tmp_path: Path, how: str) -> None:
    """Signing in, refreshing and making tokens beside the end of all: nothing is left over."""
    store = await asyncio.to_thread(open_store, tmp_path / "auth.db")
    authority = Authority(store.accounts, ManualClock(), enabled=True)
    sessions, users, tokens = authority.sessions, authority.users, authority.tokens
    try:
        await authority.load()
        await users.add(ADMIN, PASSWORD, "admin", "test")
        for turn in range(8):
            one = await person(authority, "fetch", f"u{turn}@example.com")
            account = users.get(one.email)
            grant = authority.directory.find(one.pair.access)
            assert grant is not None
            end: Awaitable[object]
            if how == "reset":
                end = users.set_password(one.email, OTHER_PASSWORD, ADMIN)
            elif how == "removal":
                end = users.remove(one.email, ADMIN)
            else:
                end = sessions.sign_out(grant)
            made = [
                sessions.refresh(one.pair.refresh, "127.0.0.1"),
                tokens.create(account, "made", ["read"], 1, "test"),
            ]
            await asyncio.gather(end, *made, return_exceptions=True)
            left = {stored.token.kind for stored in (await store.accounts.roster()).tokens}
            assert left <= ({"api"} if how == "sign-out" else set()), (turn, left)
            in_memory = {grant.kind.value for grant in tokens.all()}
            assert in_memory == left
            if how == "sign-out":
                await users.remove(one.email, ADMIN)
    finally:
        await authority.close()
        await store.close()


async def test_the_last_administrator_stays(tmp_path: Path) -> None:
    """Nobody can leave the hub without one: not by removing, not by another role."""
    store = await asyncio.to_thread(open_store, tmp_path / "auth.db")
    authority = Authority(store.accounts, ManualClock(), enabled=True)
    users = authority.users
    try:
        await authority.load()
        await users.add("a@example.com", PASSWORD, "admin", "test")
        await users.add("b@example.com", PASSWORD, "admin", "test")

        async def tried(work: Awaitable[object]) -> GaplessError | None:
            try:
                await work
            except GaplessError as error:
                return error
            return None

        errors = await asyncio.gather(
            tried(users.remove("a@example.com", "b@example.com")),
            tried(users.set_role("b@example.com", "read", "a@example.com")),
        )
        assert [type(error) for error in errors] in ([type(None), Conflict], [Conflict, type(None)])
        with pytest.raises(NotFound):
            await users.remove("c@example.com", "test")
    finally:
        await authority.close()
        await store.close()
