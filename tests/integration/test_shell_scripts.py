"""The shell without a terminal: lines from a pipe, JSON to a pipe, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import gapless, hub

SEARCH = "provider sample search ticker=AAPL date=2010-01-01..2011-01-01"


async def test_lines_from_a_pipe(tmp_path: Path) -> None:
    """Answers are JSON, a line each, without colours, also by the older spelling."""
    async with hub(tmp_path / "a.db") as running:
        script = (
            f"# what there is\n\nproviders\n{SEARCH}\n:coverage sample AAPL\n:quit\nproviders\n"
        )
        for spelling in ("shell", "--client"):
            done = await gapless(
                spelling, "--tcp", running.tcp, stdin=script, XDG_STATE_HOME=str(tmp_path)
            )
            assert done.code == 0, done.err
            assert not done.err
            answers = [json.loads(line) for line in done.out.splitlines()]
            assert answers[0]["result"] == ["sample"]
            assert len(answers[1]["result"][0]["data"]) == 252
            assert answers[2]["records"] == 252
            assert len(answers) == 3
            assert "\x1b" not in done.out


@pytest.mark.slow
async def test_formats(tmp_path: Path) -> None:
    """A script may choose another format, and pipe answers on."""
    async with hub(tmp_path / "a.db") as running:
        script = f":format csv\n{SEARCH}\n:format table\n{SEARCH}\n:plot\nproviders | tr a-z A-Z\n"
        done = await gapless(
            "shell", "--tcp", running.tcp, stdin=script, XDG_STATE_HOME=str(tmp_path)
        )
        assert done.code == 0, done.err
        lines = done.out.splitlines()
        assert lines[0] == "timestamp,date,open,high,low,close,adjclose,volume"
        assert "252 rows" in done.out
        assert "┃" in done.out
        assert '"RESULT":["SAMPLE"]' in done.out
        assert "\x1b" not in done.out


@pytest.mark.slow
async def test_what_was_printed_can_be_exported_and_drawn(tmp_path: Path) -> None:
    """In every format: what was asked last is what comes next."""
    target = tmp_path / "year.csv"
    async with hub(tmp_path / "a.db") as running:
        script = f"{SEARCH}\n:export {target}\n:plot close\n:export {target}\nproviders\n:plot\n"
        done = await gapless(
            "shell", "--tcp", running.tcp, stdin=script, XDG_STATE_HOME=str(tmp_path)
        )
    assert done.code == 2
    assert "there is no answer with records yet" in done.err
    assert len(target.read_text().splitlines()) == 253
    lines = done.out.splitlines()
    assert lines[1] == f"252 records to {target}"
    assert lines[-2] == f"252 records to {target}, which was there before"
    assert "max" in done.out or "┤" in done.out


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("provider sample serch ticker=AAPL", 2, "^^^^^"),
        (":nope", 2, "there is no command :nope; see :help"),
        ("exit", 2, "commands begin with a colon: :quit"),
        (":watch 1 providers", 2, "is for a terminal"),
        (":login", 2, "GAPLESS_TOKEN"),
        ("provider sample search ticker=NOPE", 1, "sample has no ticker 'NOPE'"),
        ("providers | exit 3", 1, "exit 3 ended with code 3"),
        (":addr nowhere", 78, "HOST:PORT"),
        (":addr 127.0.0.1:1", 69, "no hub can be reached"),
    ],
)
async def test_the_first_failure_ends_it(tmp_path: Path, line: str, code: int, told: str) -> None:
    """The exit code is that of its error, and what follows is not done."""
    async with hub(tmp_path / "a.db") as running:
        done = await gapless(
            "shell",
            *("--tcp", running.tcp),
            stdin=f"{line}\nproviders\n",
            XDG_STATE_HOME=str(tmp_path),
        )
    assert done.code == code
    assert told in done.err
    assert not done.out


@pytest.mark.slow
async def test_without_a_hub_or_a_token(tmp_path: Path) -> None:
    """Nobody there is 69, a token that is missing 77; a token by the environment does it."""
    database = tmp_path / "a.db"
    done = await gapless(
        "shell", "--tcp", "127.0.0.1:1", stdin="providers\n", XDG_STATE_HOME=str(tmp_path)
    )
    assert done.code == 69
    added = await gapless(
        *("users", "add", "ann@example.com", "--role", "admin", "--password-stdin"),
        *("--db", str(database)),
        stdin="a long password of hers",
    )
    assert added.code == 0, added.err
    made = await gapless(
        *("tokens", "create", "script", "--user", "ann@example.com", "--db", str(database))
    )
    async with hub(database, "--auth") as running:
        arguments = ("shell", "--tcp", running.tcp)
        done = await gapless(*arguments, stdin="providers\n", XDG_STATE_HOME=str(tmp_path))
        assert done.code == 77
        assert "token" in done.err
        done = await gapless(
            *arguments,
            stdin="providers\n:providers\n",
            XDG_STATE_HOME=str(tmp_path),
            GAPLESS_TOKEN=made.out.strip(),
        )
        assert done.code == 0, done.err
        assert not (tmp_path / "gapless" / "shell" / "tokens.json").exists()
