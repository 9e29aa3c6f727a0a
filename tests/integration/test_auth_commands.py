"""`gapless users`, `tokens` and `audit`, beside a running hub and without one; setup as printed."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from pathlib import Path

import httpx

from gapless.cli.exits import Exit
from support.commands import Done, environment, gapless, hub
from support.people import OTHER_PASSWORD, PASSWORD
from support.wire import connect

QUESTION = "provider sample search ticker=AAPL date=2010-01-04..2010-02-01"
ANN = "ann@example.com"


def of(database: Path) -> tuple[str, str]:
    """Return the flag that names a database."""
    return "--db", str(database)


async def ask(tcp: str, token: str) -> Done:
    """Ask a hub by the command line, the token where others cannot see it."""
    return await gapless("query", QUESTION, "-o", "json", "--tcp", tcp, GAPLESS_TOKEN=token)


async def test_setup_by_the_address_that_is_printed(tmp_path: Path) -> None:
    """It stands on a line of its own, works once, and is printed no more; also as JSON logs."""
    database = tmp_path / "hub.db"
    async with hub(database, "--auth", GAPLESS_LOG__FORMAT="json") as running:
        assert any("authentication is on and there are no users" in one for one in running.said)
        assert running.setup is not None
        assert running.setup.startswith(f"{running.http}/setup?key=")
        async with httpx.AsyncClient() as client:
            page = await client.get(running.setup)
            assert page.status_code == 200
            assert 'name="key"' not in page.text
            bare = await client.get(f"{running.http}/setup")
            assert 'name="key"' in bare.text
            form = {"email": ANN, "password": "short", "password_again": "short"}
            weak = await client.post(running.setup, data=form)
            assert weak.status_code == 400
            assert "12 are the least" in weak.text
            form = {"email": ANN, "password": PASSWORD, "password_again": OTHER_PASSWORD}
            assert "not the same" in (await client.post(running.setup, data=form)).text
            key = running.setup.partition("key=")[2]
            form = {"email": ANN, "password": PASSWORD, "key": key}
            made = await client.post(f"{running.http}/setup", data=form)
            assert made.status_code == 200
            access = made.text.partition('id="access-token">')[2].partition("<")[0]
            assert (await ask(running.tcp, access)).code == 0
            denied = await ask(running.tcp, access + "x")
            assert denied.code == Exit.DENIED
            assert "the access token is not valid" in denied.err
    async with hub(database, "--auth") as running:
        assert running.setup is None
        assert (await ask(running.tcp, access)).code == 0
    # A hub without it serves everybody on this machine, as before.
    async with hub(database) as running:
        assert (await ask(running.tcp, "")).code == 0
        async with httpx.AsyncClient(base_url=running.http) as client:
            assert (await client.get("/setup")).status_code == 404
            assert (await client.get("/login")).status_code == 404
            assert (await client.get("/account")).status_code == 404
            refused = await client.post("/v1/users", json={"email": ANN, "password": PASSWORD})
            assert refused.status_code == 422
            assert "--auth" in refused.json()["message"]
            assert (await client.get("/v1/auth/me")).json()["role"] == "admin"
    assert not any("/setup?" in one for one in running.said)


async def test_users_and_tokens_without_a_hub(tmp_path: Path) -> None:
    """An operator gives a new hub its first user, and lets a locked-out one in again."""
    database = tmp_path / "hub.db"
    missing = await gapless("users", "list", *of(database))
    assert missing.code == Exit.FAILURE
    assert "there is no database" in missing.err
    added = await gapless(
        *("users", "add", "Ann@Example.com", "--role", "admin", "--password-stdin", *of(database)),
        stdin=f"{PASSWORD}\n",
    )
    assert (added.code, added.out) == (0, "added ann@example.com, role admin\n")
    token = await gapless("tokens", "create", "notebook", "--scope", "read", *of(database))
    assert token.out.startswith("gapless_api_")
    assert token.out.count("\n") == 1
    assert "read, good until" in token.err
    async with hub(database, "--auth") as running:
        # Nothing of it is held, and the token may only read.
        reading = await ask(running.tcp, token.out.strip())
        assert reading.code == Exit.DENIED
        assert "scope fetch" in reading.err
    done = await gapless("users", "passwd", ANN, "--password-stdin", *of(database), stdin="short\n")
    assert done.code == Exit.USAGE
    done = await gapless(
        "users", "passwd", ANN, "--password-stdin", *of(database), stdin=f"{OTHER_PASSWORD}\n"
    )
    assert done.code == 0
    async with hub(database, "--auth") as running:
        assert (await ask(running.tcp, token.out.strip())).code == Exit.DENIED
        async with httpx.AsyncClient(base_url=running.http) as client:
            body = {"email": ANN, "password": OTHER_PASSWORD}
            assert (await client.post("/v1/auth/login", json=body)).status_code == 200


async def test_users_and_tokens_beside_a_hub(tmp_path: Path) -> None:
    """Each change counts there from the next request on, on a connection that is open too."""
    database = tmp_path / "hub.db"
    async with hub(database, "--auth") as running:
        for email, role in ((ANN, "admin"), ("bob@example.com", "fetch")):
            added = await gapless(
                *("users", "add", email, "--role", role, "--password-stdin", *of(database)),
                stdin=f"{PASSWORD}\n",
            )
            assert added.code == 0, added.err
        async with httpx.AsyncClient() as client:
            # There is a user now: the printed address is over.
            assert running.setup is not None
            assert (await client.get(running.setup)).status_code == 410
        which = await gapless("tokens", "create", "x", *of(database))
        assert which.code == Exit.USAGE
        assert "2 users: --user" in which.err
        made = await gapless(
            *("tokens", "create", "x", "--user", "bob@example.com", "--days", "2", *of(database))
        )
        token = made.out.strip()
        async with await connect(running.port) as wire:
            assert (await wire.ask({"type": "Auth"}, token=token))["ok"]
            assert (await wire.ask({"type": "ProviderList"}))["ok"]
            done = await gapless("users", "role", "bob@example.com", "read", *of(database))
            assert done.out == "bob@example.com has the role read\n"
            line = {"type": "Line", "payload": {"line": QUESTION}}
            assert (await wire.ask(line))["error"]["code"] == "forbidden"
            listed = await gapless("tokens", "list", *of(database), "-o", "json")
            (one,) = json.loads(listed.out)
            assert (one["user"], one["name"], one["kind"]) == ("bob@example.com", "x", "api")
            revoked = await gapless("tokens", "revoke", str(one["number"]), *of(database))
            assert revoked.code == 0
            assert (await wire.ask({"type": "ProviderList"}))["error"]["code"] == "unauthorized"
        for arguments, code, says in (
            (("users", "add", ANN, "--password-stdin"), Exit.USAGE, "already"),
            (("users", "add", "nobody", "--password-stdin"), Exit.USAGE, "no email address"),
            (("users", "remove", "x@example.com"), Exit.FAILURE, "there is no user"),
            (("users", "remove", ANN), Exit.USAGE, "only administrator"),
            (("users", "role", ANN, "king"), Exit.USAGE, "king"),
            (("tokens", "revoke", "999"), Exit.FAILURE, "there is no token 999"),
            (("tokens", "create", "y", "--user", ANN, "--days", "0"), Exit.USAGE, "3,650 days"),
            (("tokens", "create", "y", "--user", "q@example.com"), Exit.FAILURE, "no user"),
            (("audit", "--limit", "0"), Exit.USAGE, "--limit"),
        ):
            done = await gapless(*arguments, *of(database), stdin=f"{PASSWORD}\n")
            assert done.code == code, (arguments, done)
            assert says in done.err, (arguments, done.err)
        assert (await gapless("users", "remove", "bob@example.com", *of(database))).code == 0
        told = await gapless("audit", *of(database))
        lines = told.out.splitlines()
        assert len(lines) == 7
        assert [line.split("  ")[2].strip() for line in lines[1:]] == [
            *("user added", "user added", "token created", "role changed", "token revoked"),
            "user removed",
        ]
        assert all("operator" in line for line in lines[1:])
        table = (await gapless("users", "list", *of(database))).out
        assert "ann@example.com" in table
        assert "bob" not in table


async def test_a_password_is_asked_for_at_the_terminal(tmp_path: Path) -> None:
    """Twice, and never shown; without a terminal one is told how to give it."""
    database = tmp_path / "hub.db"
    command = [sys.executable, "-m", "gapless", "users", "add", ANN, *of(database)]
    done = await gapless("users", "add", ANN, *of(database))
    assert done.code == Exit.USAGE
    assert "--password-stdin" in done.err

    def typed(first: str, second: str) -> tuple[int, str]:
        child, terminal = pty.fork()
        if child == 0:
            os.execvpe(command[0], command, environment())
        shown = b""
        for prompt, answer in ((b"Password: ", first), (b"again: ", second)):
            while not shown.endswith(prompt):
                shown += os.read(terminal, 1_000)
            os.write(terminal, answer.encode() + b"\n")
        try:
            while more := os.read(terminal, 1_000):
                shown += more
        except OSError:
            pass  # Linux says so when the other end is gone.
        _, status = os.waitpid(child, 0)
        os.close(terminal)
        return os.waitstatus_to_exitcode(status), shown.decode()

    code, shown = await asyncio.to_thread(typed, PASSWORD, OTHER_PASSWORD)
    assert code == Exit.USAGE
    assert "not the same" in shown
    code, shown = await asyncio.to_thread(typed, PASSWORD, PASSWORD)
    assert code == 0, shown
    assert "added ann@example.com, role fetch" in shown
    assert PASSWORD not in shown
