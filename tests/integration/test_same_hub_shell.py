"""The shell between two hubs: neither a token nor a password goes to the other one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import gapless as api
from gapless.client.addresses import Endpoint
from gapless.shell import administration
from gapless.shell.completion import Known
from gapless.shell.keeping import Keeping, Kept
from gapless.shell.link import Link
from support.commands import gapless
from support.crossing import LINE, Crossed, crossed
from support.people import person
from support.terminals import Terminal, terminal

# Each is a shell in a terminal.
pytestmark = pytest.mark.slow

with_and_without_auth = pytest.mark.parametrize("auth", [False, True], ids=["open", "auth"])


def plain(text: str) -> str:
    """Return a text as it was before it was broken into lines."""
    return " ".join(text.split())


def talk(shell: Terminal, both: Crossed) -> None:
    """Try all that asks over HTTP, then go where it is."""
    port, url = both.port, both.wrong.url
    fact = f"the hub at 127.0.0.1:{port} is not asked over HTTP: at {url} another hub answers"
    remedy = "say where it speaks HTTP by :http http://HOST:PORT"
    shell.wait(f"at 127.0.0.1:{port}")
    told = plain(shell.run(LINE, "7,200 rows", "fetched", "1 upstream request"))
    assert f"{fact}; all comes over TCP, large answers in pieces; {remedy}" in told
    shell.run(LINE, "0 upstream requests")
    assert shell.text.count("all comes") == 1
    for line in (
        ":plugins",
        ":providers",
        ":coverage minutes A",
        f":plan {LINE}",
        ":loadpy file=x.py",
        ":reload minutes",
        ":unload minutes",
        # Before a password is asked for.
        ":login ann@example.com",
        f":http {both.wrong.url}",
    ):
        assert f"error: {fact}; {remedy}" in plain(shell.run(line, "error:")), line
    assert "password:" not in shell.text
    shell.run("providers", "minutes")
    shell.run(f":http {both.a.url}", f"HTTP at {both.a.url}")
    shell.run(":plugins", "none is loaded")
    shell.run(LINE, "7,200 rows")
    assert "reconnecting" not in shell.text
    assert "xxx" not in shell.text


@with_and_without_auth
async def test_the_shell_keeps_to_the_hub(tmp_path: Path, auth: bool) -> None:
    """Queries are answered over TCP, with one word on why; commands say where they did not go."""
    async with crossed(tmp_path, auth) as both:
        token = both.token or ""
        arguments = ("shell", "--tcp", f"127.0.0.1:{both.port}")

        def at_the_terminal() -> None:
            with terminal(*arguments, folder=tmp_path / "home", GAPLESS_TOKEN=token) as shell:
                talk(shell, both)

        await asyncio.to_thread(at_the_terminal)
        both.kept_apart()


@with_and_without_auth
async def test_scripts_keep_to_the_hub(tmp_path: Path, auth: bool) -> None:
    """What only HTTP has ends a script; that queries do without is a warning on stderr."""
    async with crossed(tmp_path, auth) as both:
        variables = {"XDG_STATE_HOME": str(tmp_path)}
        if both.token is not None:
            variables["GAPLESS_TOKEN"] = both.token
        arguments = ("shell", "--tcp", f"127.0.0.1:{both.port}")
        done = await gapless(*arguments, stdin=f":format table\n{LINE}\n{LINE}\n", **variables)
        assert done.code == 0, done.err
        assert done.out.count("7,200 rows") == 2
        assert done.err.count("gapless: warning: ") == 1
        assert f"at {both.wrong.url} another hub answers" in done.err
        done = await gapless(*arguments, stdin=":plugins\nproviders\n", **variables)
        assert done.code == 69
        assert f"at {both.wrong.url} another hub answers" in done.err
        assert not done.out
        wrong = ("--http", both.wrong.url)
        done = await gapless(*arguments, *wrong, stdin=":plugins\n", **variables)
        assert done.code == 69
        both.kept_apart()
        right = ("--http", both.a.url)
        done = await gapless(*arguments, *right, stdin=":plugins\n", **variables)
        assert (done.code, done.out) == (0, "[]\n")


@with_and_without_auth
async def test_completion_goes_by_what_tcp_says(tmp_path: Path, auth: bool) -> None:
    """It knows the names of the providers, and nothing from elsewhere."""
    async with crossed(tmp_path, auth) as both:

        def learn() -> Known:
            with api.connect(f"127.0.0.1:{both.port}", token=both.token) as client:
                return administration.known(client, ("saved",))

        assert await asyncio.to_thread(learn) == Known(("minutes",), saved=("saved",))
        both.kept_apart()


async def test_a_refresh_token_goes_nowhere_else(tmp_path: Path) -> None:
    """A sign-in that has ended is not renewed at another hub, and the person is told why."""
    async with crossed(tmp_path, auth=True) as both:
        someone = await person(both.a.authority, "fetch")
        keeping = Keeping(tmp_path / "kept")
        endpoint = Endpoint("127.0.0.1", both.port)
        said: list[str] = []

        def ask() -> None:
            keeping.keep_token(endpoint.url, Kept("gapless_at_ended", someone.pair.refresh))
            link = Link(endpoint, keeping, None, True, said.append)
            with pytest.raises(api.HttpUnusable, match=r"another hub answers; .* by :http"):
                link.ask(link.client.providers)
            link.web = both.a.url
            link.anew()
            assert link.ask(lambda: link.client.providers()) == ["minutes"]
            link.close()

        await asyncio.to_thread(ask)
        both.kept_apart()
        assert not said
    # Here they are meant to be, and nowhere else.
    (tmp_path / "kept" / "tokens.json").unlink()
