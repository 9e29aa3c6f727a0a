"""`gapless users`, `tokens` and `audit`, beside a running hub and without one; setup as printed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pty
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from gapless.cli.exits import Exit
from support.commands import Done, environment, gapless, hub
from support.people import OTHER_PASSWORD, PASSWORD
from support.wire import PATIENCE_S, connect

QUESTION = "provider sample search ticker=AAPL date=2010-01-04..2010-02-01"
ANN = "ann@example.com"


def of(database: Path) -> tuple[str, str]:
    """Return the flag that names a database."""
    return "--db", str(database)


async def ask(tcp: str, token: str) -> Done:
    """Ask a hub by the command line, the token where others cannot see it."""
    return await gapless("query", QUESTION, "-o", "json", "--tcp", tcp, GAPLESS_TOKEN=token)


@pytest.mark.slow
async def test_setup_by_the_address_that_is_printed(tmp_path: Path) -> None:
    """It stands on a line of its own, works once, and is printed no more; also as JSON logs."""
    database = tmp_path / "hub.db"
    async with hub(database, "--auth", GAPLESS_LOG__FORMAT="json") as running:
        assert any("authentication is on and there are no users" in one for one in running.said)
        assert running.setup is not None
        assert running.setup.startswith(f"{running.http}/setup?key=")
        logged = [json.loads(one) for one in running.said if one.startswith("{")]
        assert [one["setup_url"] for one in logged if "setup_url" in one] == [running.setup]
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
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
        async with httpx.AsyncClient(base_url=running.http, timeout=PATIENCE_S) as client:
            assert (await client.get("/setup")).status_code == 404
            assert (await client.get("/login")).status_code == 404
            assert (await client.get("/account")).status_code == 404
            refused = await client.post("/v1/users", json={"email": ANN, "password": PASSWORD})
            assert refused.status_code == 422
            assert "--auth" in refused.json()["message"]
            assert (await client.get("/v1/auth/me")).json()["role"] == "admin"
    assert not any("/setup?" in one for one in running.said)


@pytest.mark.slow
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
        # A part of it is.
        fetching = await gapless("tokens", "create", "fetching", *of(database))
        assert (await ask(running.tcp, fetching.out.strip())).code == 0
        more = QUESTION.replace("2010-02-01", "2010-03-01")
        strictly = ("query", more, "--tcp", running.tcp, "--strict")
        refused = await gapless(*strictly, GAPLESS_TOKEN=token.out.strip())
        assert (refused.code, refused.out) == (Exit.DENIED, "")
        assert "would be partial" in refused.err
        assert "scope fetch" in refused.err
    done = await gapless("users", "passwd", ANN, "--password-stdin", *of(database), stdin="short\n")
    assert done.code == Exit.USAGE
    done = await gapless(
        "users", "passwd", ANN, "--password-stdin", *of(database), stdin=f"{OTHER_PASSWORD}\n"
    )
    assert done.code == 0
    async with hub(database, "--auth") as running:
        assert (await ask(running.tcp, token.out.strip())).code == Exit.DENIED
        async with httpx.AsyncClient(base_url=running.http, timeout=PATIENCE_S) as client:
            body = {"email": ANN, "password": OTHER_PASSWORD}
            assert (await client.post("/v1/auth/login", json=body)).status_code == 200


@pytest.mark.slow
async def test_a_first_user_on_a_machine_that_has_had_no_hub(tmp_path: Path) -> None:
    """The data directory is made as a hub would make it, which is said; another folder is not."""
    data = tmp_path / "data"
    here = {"XDG_DATA_HOME": str(data), "stdin": f"{PASSWORD}\n"}
    adding = ("users", "add", ANN, "--role", "admin", "--password-stdin")
    added = await gapless(*adding, **here)
    assert (added.code, added.out) == (0, "added ann@example.com, role admin\n")
    database = data / "gapless" / "gapless.db"
    assert added.err == f"made a new database {database}\n"
    assert database.parent.stat().st_mode & 0o777 == 0o700
    again = await gapless("users", "list", **here)
    assert (again.code, again.err) == (0, "")
    for db in (str(tmp_path / "none" / "hub.db"), f"sqlite://{tmp_path}/none/hub.db"):
        missing = await gapless(*adding, "--db", db, **here)
        assert missing.code == Exit.CONFIG
        assert f"there is no folder {tmp_path / 'none'}" in missing.err
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
async def test_the_first_user_is_an_administrator(tmp_path: Path) -> None:
    """Beside a hub and without one: with any other, setup would be over and nobody administer."""
    database = tmp_path / "hub.db"
    adding = ("users", "add", ANN, "--password-stdin", *of(database))
    async with hub(database, "--auth") as running:
        refused = await gapless(*adding, stdin=f"{PASSWORD}\n")
        assert refused.code == Exit.FAILURE
        nobody = await gapless("tokens", "create", "x", *of(database))
        assert nobody.code == Exit.FAILURE
        assert "add a user first: gapless users add EMAIL --role admin --db" in nobody.err
        assert "first user has to be an administrator" in refused.err
        assert "--role admin" in refused.err
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            assert running.setup is not None
            assert (await client.get(running.setup)).status_code == 200
    for role in ("read", "fetch"):
        refused = await gapless(*adding, "--role", role, stdin=f"{PASSWORD}\n")
        assert refused.code == Exit.FAILURE
        assert "first user has to be an administrator" in refused.err
    assert (await gapless(*adding, "--role", "admin", stdin=f"{PASSWORD}\n")).code == 0
    async with hub(database, "--auth") as running:
        assert running.setup is None
    assert not any("no user is an administrator" in one for one in running.said)
    # What an older version allowed.
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE users SET role = 'fetch'")
    async with hub(database, "--auth") as running:
        pass
    assert any("gapless users role EMAIL admin" in one for one in running.said)
    assert (await gapless("users", "role", ANN, "admin", *of(database))).code == 0


@pytest.mark.slow
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
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
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
            done = await gapless("users", "role", "bob@example.com", "read", *of(database))
            assert (done.code, done.out) == (0, "bob@example.com has the role read already\n")
            line = {"type": "Line", "payload": {"line": QUESTION}}
            assert (await wire.ask(line))["error"]["code"] == "forbidden"
            listed = await gapless("tokens", "list", *of(database), "-o", "json")
            (one,) = json.loads(listed.out)
            assert (one["user"], one["name"], one["kind"]) == ("bob@example.com", "x", "api")
            revoked = await gapless("tokens", "revoke", str(one["number"]), *of(database))
            assert revoked.code == 0
            assert (await wire.ask({"type": "ProviderList"}))["error"]["code"] == "unauthorized"
        for arguments, code, says in (
            (("users", "add", ANN, "--password-stdin"), Exit.FAILURE, "already"),
            (("users", "add", "nobody", "--password-stdin"), Exit.USAGE, "no email address"),
            (("users", "remove", "x@example.com"), Exit.FAILURE, "there is no user"),
            (("users", "remove", ANN), Exit.FAILURE, "only administrator"),
            (("users", "role", ANN, "king"), Exit.USAGE, "king"),
            (("tokens", "revoke", "999"), Exit.FAILURE, "no token 999; see: gapless tokens list"),
            (("tokens", "revoke", "x"), Exit.USAGE, "'x' is no number of a token; see: gapless"),
            *(
                (("tokens", "create", "y", "--user", ANN, "--days", days), Exit.USAGE, said)
                for days in ("0", "nan", "99999999")
                for said in ("more than 0 and up to 3,650 days",)
            ),
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
        assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines[1:])
        table = (await gapless("users", "list", *of(database))).out
        assert "ann@example.com" in table
        assert "bob" not in table


@pytest.mark.slow
async def test_the_audit_log_tells_code_by_the_beginning_of_its_sum(tmp_path: Path) -> None:
    """A line of a table has no room for all of it; JSON has it whole."""
    database = tmp_path / "hub.db"
    file = tmp_path / "nothing.py"
    file.write_text(
        "class Provider:\n    def name(self): return 'nothing'\n"
        "    def fetch_entities(self, request): return []\n"
    )
    async with (
        hub(database, "--base", str(tmp_path)) as running,
        httpx.AsyncClient(timeout=PATIENCE_S) as client,
    ):
        loaded = await client.post(f"{running.http}/plugins/load", json={"file": file.name})
        assert loaded.status_code == 200, loaded.text
    whole = hashlib.sha256(file.read_bytes()).hexdigest()
    (told,) = json.loads((await gapless("audit", "-o", "json", *of(database))).out)
    assert told["details"]["sha256"] == whole
    table = (await gapless("audit", *of(database))).out
    assert f"sha256={whole[:12]}\n" in table.replace(" \n", "\n")
    assert whole[:13] not in table


@pytest.mark.slow
async def test_a_password_is_asked_for_at_the_terminal(tmp_path: Path) -> None:
    """Twice, and never shown, where it can be used; else one is told before."""
    database = tmp_path / "hub.db"
    command = [sys.executable, "-m", "gapless", "users", "add", ANN, "--role", "admin"]
    command += of(database)
    done = await gapless(*command[3:])
    assert done.code == Exit.USAGE
    assert "--password-stdin" in done.err

    def typed(command: list[str], *answers: str) -> tuple[int, str]:
        child, terminal = pty.fork()
        if child == 0:
            os.execvpe(command[0], command, environment())
        shown = b""
        prompts = (b"Password (12 characters or more): ", b"again: ")
        for prompt, answer in zip(prompts, answers, strict=False):
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

    code, shown = await asyncio.to_thread(typed, command, "short")
    assert code == Exit.USAGE
    assert "12 are the least" in shown
    assert not database.exists()
    code, shown = await asyncio.to_thread(typed, command, PASSWORD, OTHER_PASSWORD)
    assert code == Exit.USAGE
    assert "not the same" in shown
    code, shown = await asyncio.to_thread(typed, command, PASSWORD, PASSWORD)
    assert code == 0, shown
    assert "added ann@example.com, role admin" in shown
    assert PASSWORD not in shown
    code, shown = await asyncio.to_thread(typed, command)
    assert (code, "already" in shown, "Password" in shown) == (Exit.FAILURE, True, False)
    other = [*command[:3], "users", "passwd", "bob@example.com", *of(database)]
    code, shown = await asyncio.to_thread(typed, other)
    assert (code, "no user" in shown, "Password" in shown) == (Exit.FAILURE, True, False)
    empty = await gapless("users", "passwd", ANN, "--password-stdin", *of(database))
    assert empty.code == Exit.USAGE
    assert "no password on stdin" in empty.err
