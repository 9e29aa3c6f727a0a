"""Nothing that could be used lies in the database, the log, an error or the process list.

What the tests leave behind is searched once more when all have run: see `support.searching`.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from gapless.texts import masked
from support.commands import gapless, hub
from support.people import OTHER_PASSWORD, PASSWORD, bearer
from support.searching import Search, secrets_in
from support.wire import PATIENCE_S, connect

ANN = "ann@example.com"


def test_the_search_finds_what_it_is_for(tmp_path: Path) -> None:
    """A password and a token of each kind, in texts and files; else it would tell nothing."""
    tokens = [f"gapless_{kind}_{'x' * 43}" for kind in ("at", "rt", "st", "api")]
    for secret in (PASSWORD, OTHER_PASSWORD, PASSWORD.replace(" ", "+"), *tokens):
        assert list(secrets_in(f"error: {secret!r}".encode())), secret
        search = Search()
        (tmp_path / "file.db").write_bytes(b"\x00\xff" + secret.encode() + b"\x00")
        search.look_through(tmp_path)
        assert len(search.found) == 1, secret
        assert secret not in search.found[0]
    (tmp_path / "file.db").unlink()
    assert not list(secrets_in(b"gapless_at_ is how one begins"))


def test_the_log_masks_what_it_is_given() -> None:
    """Whatever it is part of: a line that went wrong, a header, an address."""
    token = "gapless_at_" + "x" * 43
    for text in (
        f'{{"token": "{token}", "query": 1}}',
        f"Authorization: Bearer {token}",
        f"http://h/setup?key={token}&x=1",
        f"gapless_rt_{'a' * 22}.{'b' * 43}",
    ):
        assert not list(secrets_in(masked(text).encode())), text
    assert masked("http://h/setup?key=abc-DEF_123") == "http://h/setup?key=***"


@pytest.mark.slow
async def test_nothing_is_left_lying_about(tmp_path: Path) -> None:
    """Everything is done once, right and wrong; then all that can be read is read."""
    database = tmp_path / "hub.db"
    shown: set[str] = set()
    lists: list[bytes] = []

    def look_at_processes() -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                lists.append(path.read_bytes())
            except OSError:
                continue

    async with hub(database, "--auth", GAPLESS_LOG__LEVEL="debug") as running:
        assert running.setup is not None
        async with httpx.AsyncClient(base_url=running.http, timeout=PATIENCE_S) as client:
            form = {"email": ANN, "password": PASSWORD}
            await client.post(running.setup + "x", data=form)
            page = await client.post(running.setup, data=form)
            shown.update(re.findall(r"gapless_[a-z]+_[\w.-]+", page.text))
            body = {"email": ANN, "password": OTHER_PASSWORD}
            errors = [await client.post("/v1/auth/login", json=body)]
            pair = (await client.post("/v1/auth/login", json=form)).json()
            shown.update((pair["access_token"], pair["refresh_token"]))
            me = bearer(pair["access_token"])
            made = await client.post("/v1/tokens", json={"name": "program"}, headers=me)
            token = made.json()["token"]
            shown.add(token)
            for path, sent in (
                ("/v1/auth/login", {"email": PASSWORD, "password": PASSWORD, "x": token}),
                ("/v1/auth/login", {"email": ANN, "password": [PASSWORD]}),
                ("/v1/auth/refresh", {"refresh_token": token}),
                ("/v1/auth/refresh", {"refresh_token": pair["refresh_token"], "x": 1}),
                ("/v1/tokens", {"name": token * 9}),
                ("/v1/users", {"email": ANN, "password": PASSWORD}),
                ("/v1/users", {"email": "bob@example.com", "password": PASSWORD[:5]}),
                ("/v1/query", {"token": token, "query": {"type": PASSWORD}}),
            ):
                errors.append(await client.post(path, json=sent, headers=me))
            errors.append(await client.get("/providers", headers=bearer(token + "x")))
            errors.append(await client.get("/providers", headers={"authorization": token}))
            for response in errors:
                assert response.status_code >= 400, response.url
                # What the asker has sent themselves may stand in the answer to them alone.
                assert response.headers["cache-control"] == "no-store"
            async with await connect(running.port) as wire:
                for line in (
                    f'{{"token": "{token}", "query": {{"type": "Nope"}}}}',
                    f'{{"token": "{token}x", "query": {{"type": "ProviderList"}}}}',
                    f'{{"token": "{token}", "query": ',
                ):
                    await wire.send(line.encode() + b"\n")
                    answer = await wire.line()
                    assert not list(secrets_in(answer)), answer
            question = asyncio.ensure_future(
                gapless(
                    *("query", "provider sample search ticker=IBM date=2010-01-01..2010-02-01"),
                    *("--tcp", running.tcp),
                    GAPLESS_TOKEN=token,
                )
            )
            added = asyncio.ensure_future(
                gapless(
                    *("users", "add", "bob@example.com", "--password-stdin"),
                    *("--db", str(database)),
                    stdin=f"{PASSWORD}\n",
                )
            )
            while not (question.done() and added.done()):
                await asyncio.to_thread(look_at_processes)
                await asyncio.sleep(0.01)
            for done in (question.result(), added.result()):
                assert done.code == 0, done.err
                assert not list(secrets_in((done.out + done.err).encode()))
            for path in ("/v1/users", "/v1/tokens?all=true", "/v1/audit", "/metrics"):
                told = await client.get(path, headers=me)
                assert not list(secrets_in(told.content)), path
    assert len(shown) == 5
    assert any(b"gapless" in line for line in lists)
    assert not any(list(secrets_in(line)) for line in lists)
    (tmp_path / "said.log").write_text("\n".join(running.said))
    search = Search()
    search.look_through(tmp_path)
    assert search.files >= 2
    assert search.found == []
