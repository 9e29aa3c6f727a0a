"""What an attack on users and tokens has found, each so that it stays mended."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from gapless.auth.authority import Authority
from gapless.auth.passwords import Passwords
from gapless.clock import SystemClock
from gapless.errors import (
    Conflict,
    Forbidden,
    GaplessError,
    InvalidQuery,
    Overloaded,
    QuotaExceeded,
    Unauthorized,
)
from gapless.servers.control import ControlServer
from gapless.servers.tls import Certificate
from gapless.store.sqlite import open_store
from support.certificates import certificate
from support.clock import ManualClock
from support.people import OTHER_PASSWORD, PASSWORD, Person, api_token, bearer, person
from support.providers import SteadyProvider
from support.web import Web, web
from support.wire import PATIENT, SOON_S, Wire, but, connections, door, line_of

ADMIN = "root@example.com"
PLUGIN = (
    "class Provider:\n    def name(self): return 'pw'\n    def fetch_entities(self, r): return []\n"
)


# A body that is held back


async def held_back(opened: Web, wire: Wire, one: Person, path: str, body: bytes) -> None:
    """Send the head of a request, and see it let in."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {one.pair.access}\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    await wire.send(head.encode())
    # What was sent before it has been read when these are answered, and waits for its body.
    for _ in range(3):
        assert (await opened.client.get("/healthz")).status_code == 200


@pytest.mark.share(2)
@pytest.mark.parametrize("end", ["reset", "demoted"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/tokens", {"name": "evil", "expires_in_days": 3650, "scopes": ["admin"]}),
        ("/v1/users", {"email": "evil@example.com", "password": PASSWORD, "role": "admin"}),
        ("/plugins/load", {"file": "pw.py"}),
    ],
)
async def test_a_body_that_comes_too_late(
    tmp_path: Path, path: str, body: dict[str, Any], end: str
) -> None:
    """Whoever was let in by the head of a request is looked at again when its body has come."""
    (tmp_path / "pw.py").write_text(PLUGIN)
    async with web(tmp_path, auth=True) as opened:
        users = opened.authority.users
        await users.add(ADMIN, PASSWORD, "admin", "test")
        one = await person(opened.authority, "admin", "ann@example.com")
        text = json.dumps(body).encode()
        async with await opened.wire() as wire:
            await held_back(opened, wire, one, path, text)
            if end == "reset":
                await users.set_password(one.email, OTHER_PASSWORD, ADMIN)
            else:
                await users.set_role(one.email, "read", ADMIN)
            await wire.send(text)
            answer = await wire.rest()
        expected = b"HTTP/1.1 401 " if end == "reset" else b"HTTP/1.1 403 "
        assert answer.startswith(expected), answer[:300]
        assert [account.email for account in users.all()] == ["ann@example.com", ADMIN]
        assert opened.plugins.status() == []
        assert all(grant.kind != "api" for grant in opened.authority.tokens.all())


# A store that fails just then


@pytest.mark.slow
async def test_what_was_ended_while_the_store_failed_stays_so(tmp_path: Path) -> None:
    """It is told, and tried again until it has gone; nothing comes back with a restart."""
    path = tmp_path / "auth.db"
    store = await asyncio.to_thread(open_store, path)
    authority = Authority(store.accounts, SystemClock(), enabled=True)
    await authority.load()
    one = await person(authority, "admin", ADMIN)
    token = await api_token(authority, one.email)
    api, access = (authority.directory.find(text) for text in (token, one.pair.access))
    assert api is not None
    assert access is not None
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    results = await asyncio.gather(
        authority.tokens.revoke(api.number, ADMIN),
        authority.sessions.sign_out(access),
        return_exceptions=True,
    )
    assert all(isinstance(one, Overloaded) for one in results), results
    other.execute("ROLLBACK")
    other.close()
    assert authority.directory.find(token) is None
    assert authority.directory.find(one.pair.access) is None
    assert len((await store.accounts.roster()).tokens) == 3
    await authority.close()
    assert (await store.accounts.roster()).tokens == []
    await store.close()


# A reset beside a sign-in


async def test_a_reset_is_not_undone_by_a_hash_that_is_renewed(tmp_path: Path) -> None:
    """A sign-in with the old password stores its hash anew, or the reset does: not both."""
    weak = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1)
    store = await asyncio.to_thread(open_store, tmp_path / "auth.db")
    authority = Authority(store.accounts, SystemClock(), enabled=True)
    users, sessions = authority.users, authority.sessions
    for number in range(5):
        email = f"u{number}@example.com"
        account = await users.add(email, PASSWORD, "admin", "test")
        old = account.user.password
        hashed = await asyncio.to_thread(weak.hash, PASSWORD)
        assert await store.accounts.rehash(account.user.number, old, hashed)
        authority.directory.remove(account)
    await authority.load()
    for number in range(5):
        email = f"u{number}@example.com"
        signing_in = asyncio.ensure_future(sessions.sign_in(email, PASSWORD, "10.0.0.1"))
        await asyncio.sleep(number * 0.02)
        await users.set_password(email, OTHER_PASSWORD, "test")
        await asyncio.gather(signing_in, return_exceptions=True)
        assert users.get(email).grants == {}
        with pytest.raises(Unauthorized):
            await sessions.sign_in(email, PASSWORD, f"10.0.1.{number}")
        assert (await sessions.sign_in(email, OTHER_PASSWORD, f"10.0.2.{number}")).access
    await users.add("late@example.com", PASSWORD, "read", "test")
    assert not authority.passwords.outdated(users.get("u0@example.com").user.password)
    await authority.close()
    await store.close()


# Who is kept out by others


async def test_guessers_keep_nobody_out(tmp_path: Path) -> None:
    """Who has signed in from somewhere comes in again, and changes the password meanwhile."""
    clock = ManualClock()
    store = await asyncio.to_thread(open_store, tmp_path / "auth.db")
    authority = Authority(store.accounts, clock, enabled=True)
    await authority.load()
    sessions = authority.sessions
    await authority.users.add("ann@example.com", PASSWORD, "admin", "test")
    pair = await sessions.sign_in("ann@example.com", PASSWORD, "192.0.2.1")

    async def guess(address: str) -> GaplessError:
        with pytest.raises(GaplessError) as told:
            await sessions.sign_in("ann@example.com", "not the password", address)
        return told.value

    for number in range(30):
        await guess(f"198.51.100.{number}")
    assert isinstance(await guess("198.51.100.99"), QuotaExceeded)
    # Elsewhere even the right one has to wait, but no longer than a minute.
    with pytest.raises(QuotaExceeded) as told:
        await sessions.sign_in("ann@example.com", PASSWORD, "203.0.113.1")
    assert told.value.retry_after_s is not None
    assert told.value.retry_after_s <= 60
    assert (await sessions.sign_in("ann@example.com", PASSWORD, "192.0.2.1")).access
    grant = authority.directory.find(pair.access)
    assert grant is not None
    with pytest.raises(Forbidden):
        await sessions.change_password(grant, "not the password", OTHER_PASSWORD)
    await sessions.change_password(grant, PASSWORD, OTHER_PASSWORD)
    clock.advance(60)
    assert (await sessions.sign_in("ann@example.com", OTHER_PASSWORD, "203.0.113.1")).access
    # One customer's addresses are one origin.
    codes = [await guess(f"2001:db8::{number:x}") for number in range(1, 20)]
    assert sum(isinstance(one, QuotaExceeded) for one in codes) >= 14
    await authority.close()
    await store.close()


async def test_sign_ins_that_wait_are_so_many_at_most() -> None:
    """Of one account and of all together; another account has its turn all the same."""
    passwords = Passwords(most_of_one=3, most_waiting=5)
    flood = [asyncio.ensure_future(passwords.verify(None, "", "flood")) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="3 sign-ins wait"):
        await passwords.verify(None, "", "flood")
    others = [asyncio.ensure_future(passwords.verify(None, "", key)) for key in "ab"]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="1 sign-ins wait"):
        await passwords.verify(None, "", "c")
    assert not any(await asyncio.gather(*flood, *others))
    passwords.close()


# Doors that are held open


@pytest.mark.slow
async def test_half_a_handshake_ends(tmp_path: Path) -> None:
    """On both ports a client that begins to speak TLS and stops is hung up on."""
    files = await asyncio.to_thread(certificate, tmp_path)
    tls = (await asyncio.to_thread(Certificate, *files)).context
    settings = but(PATIENT, access={"token_s": SOON_S})
    async with web(tmp_path, auth=True, settings=settings, tls=tls) as opened:
        for port in (opened.port, opened.tcp_port):
            async with connections(port, 20) as clients:
                for client in clients:
                    client.write(b"\x16\x03\x01")
                for client in clients:
                    try:
                        await client.rest()
                    except (ConnectionError, ssl.SSLError):
                        continue


@pytest.mark.slow
async def test_a_strangers_connection_is_not_kept(tmp_path: Path) -> None:
    """After its answer it has as long as for a token; who has shown one is kept for longer."""
    settings = but(PATIENT, access={"token_s": SOON_S})
    async with web(tmp_path, auth=True, settings=settings) as opened:
        one = await person(opened.authority, "read")
        shown = f"authorization: Bearer {one.pair.access}\r\n"
        async with await opened.wire() as stranger, await opened.wire() as known:
            await stranger.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await known.send(f"GET /providers HTTP/1.1\r\nhost: localhost\r\n{shown}\r\n".encode())
            assert (await known.line()).startswith(b"HTTP/1.1 200 ")
            assert (await stranger.rest()).startswith(b"HTTP/1.1 200 ")
            await known.send(
                f"GET /providers HTTP/1.1\r\nhost: localhost\r\n{shown}"
                "connection: close\r\n\r\n".encode()
            )
            assert b"HTTP/1.1 200 " in await known.rest()


async def test_one_clients_lines_do_not_stop_the_others(tmp_path: Path) -> None:
    """Lines that take long to read leave room for others, and are paid for like any."""
    async with web(tmp_path, SteadyProvider(), auth=True) as opened:
        one = await person(opened.authority, "read")
        text = "provider steady search ticker=ABC " + "tags=a," * 500
        line = line_of({"type": "Line", "payload": {"line": text}}, token=one.pair.access)
        async with connections(opened.tcp_port, 4) as clients:
            for client in clients:
                client.write(line * 1_000)
            for _ in range(10):
                assert (await opened.client.get("/healthz")).status_code == 200
            assert sum(opened.meter.latency["tcp"].counts) < 4_000, "all others came first"
    settings = but(PATIENT, access={"rate": 1, "burst": 3})
    async with door(tmp_path, SteadyProvider(), auth=True, settings=settings) as small:
        two = await person(small.authority, "read", "two@example.com")
        async with small.client() as client:
            await client.ask({"type": "Auth"}, token=two.pair.access)
            await client.send(
                b"nonsense\n" * 50 + line_of({"type": "Line", "payload": {"line": "x"}})
            )
            codes = [json.loads(await client.line())["error"]["code"] for _ in range(51)]
        assert codes[:2] == ["invalid_json"] * 2
        assert set(codes[3:]) == {"overloaded"}


# What others on the machine can read


async def test_the_database_is_its_users_alone(tmp_path: Path) -> None:
    """The file, and what lies beside it, hold hashes of passwords."""
    path = tmp_path / "auth.db"
    store = await asyncio.to_thread(open_store, path)
    authority = Authority(store.accounts, SystemClock(), enabled=True)
    await authority.users.add(ADMIN, PASSWORD, "admin", "test")
    modes = [stat.S_IMODE(file.stat().st_mode) for file in os.scandir(tmp_path)]
    assert modes == [0o600] * 4
    await authority.close()
    await store.close()


# What leaked from a program


async def test_a_programs_token_reaches_no_account(tmp_path: Path) -> None:
    """It lists and ends no sign-in, and makes nobody, whatever its scopes."""
    async with web(tmp_path, auth=True) as opened:
        one = await person(opened.authority, "admin", ADMIN)
        program = bearer(await api_token(opened.authority, one.email))
        grant = opened.authority.directory.find(one.pair.access)
        assert grant is not None
        body = {"email": "evil@example.com", "password": PASSWORD, "role": "admin"}
        client = opened.client
        for response in (
            await client.get("/v1/tokens", headers=program),
            await client.delete(f"/v1/tokens/{grant.number}", headers=program),
            await client.post("/v1/tokens", json={"name": "x"}, headers=program),
            await client.post("/v1/users", json=body, headers=program),
            await client.patch(f"/v1/users/{ADMIN}", json=body, headers=program),
            await client.delete(f"/v1/users/{ADMIN}", headers=program),
            await client.post("/v1/auth/logout", headers=program),
        ):
            assert response.status_code in (400, 403), response.url
            assert "signing in" in response.text or response.status_code == 400
        assert not grant.ended


async def test_a_cookie_of_another_ports_page(tmp_path: Path) -> None:
    """One that is no token of ours hides nothing; where two are valid, neither is believed."""
    async with web(tmp_path, auth=True) as opened:
        ann = await person(opened.authority, "admin", "ann@example.com")
        eve = await person(opened.authority, "read", "eve@example.com")
        name = f"gapless_{opened.port}"

        async def status(*tokens: str) -> int:
            cookie = "; ".join(f"{name}={token}" for token in tokens)
            response = await opened.client.get("/v1/auth/me", headers={"cookie": cookie})
            return response.status_code

        assert await status("evil", ann.pair.access) == 200
        assert await status(ann.pair.access, ann.pair.access) == 200
        assert await status(eve.pair.access, ann.pair.access) == 401
        assert await status("evil", "eviler") == 401


async def test_limits_hold_beside_one_another(tmp_path: Path) -> None:
    """Names of tokens, how many there are, how often one is signed in; look-alike addresses."""
    store = await asyncio.to_thread(open_store, tmp_path / "auth.db")
    authority = Authority(store.accounts, SystemClock(), enabled=True)
    await authority.load()
    account = await authority.users.add("adm1@example.com", PASSWORD, "admin", "test")
    made = await asyncio.gather(
        *(authority.tokens.create(account, "same", None, 1, "test") for _ in range(10)),
        *(authority.tokens.create(account, f"n{number}", None, 1, "test") for number in range(120)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, Conflict) for one in made) == 30
    assert len(account.grants) == 100
    with pytest.raises(Conflict):
        await authority.users.add("\uff41dm1@example.com", PASSWORD, "admin", "test")
    await authority.close()
    await store.close()


async def test_odd_orders_of_an_operator(tmp_path: Path) -> None:
    """Each is refused in a sentence, and none is a fault of the hub's."""
    async with web(tmp_path, auth=True) as opened:
        control = ControlServer(opened.hub, opened.authority)
        for account in (
            {"type": "audit", "limit": 2**63},
            {"type": "audit", "limit": -1},
            {"type": "audit", "limit": "x"},
            {"type": "nope"},
            {"type": "users.add", "email": 1, "password": PASSWORD, "role": "x"},
            {},
        ):
            line = json.dumps({"command": "accounts", "account": account}).encode()
            told = await control._answer(line, "test")
            assert told["error"]["code"] == InvalidQuery.code, told
            assert PASSWORD not in json.dumps(told)
        deep = b'{"command": "accounts", "account": ' + b'{"a":' * 9_000 + b"1" + b"}" * 9_001
        told = await control._answer(deep, "test")
        assert told["error"]["code"] == InvalidQuery.code


async def test_a_stolen_session_does_not_guess_the_password(tmp_path: Path) -> None:
    """Many tries to change it at once are let through no more than one after the other."""
    store = await asyncio.to_thread(open_store, tmp_path / "auth.db")
    authority = Authority(store.accounts, SystemClock(), enabled=True)
    await authority.load()
    one = await person(authority, "read")
    grant = authority.directory.find(one.pair.access)
    assert grant is not None
    change = authority.sessions.change_password
    results = await asyncio.gather(
        *(change(grant, f"guess number {number}", OTHER_PASSWORD) for number in range(60)),
        return_exceptions=True,
    )
    looked_at = [one for one in results if isinstance(one, Forbidden)]
    assert len(looked_at) <= 8
    assert all(isinstance(one, Forbidden | QuotaExceeded) for one in results)
    assert not grant.ended
    await authority.close()
    await store.close()
