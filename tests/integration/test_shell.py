"""The shell on a real terminal, before a real hub."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gapless.shell.commands import COMMANDS
from support.commands import gapless, hub
from support.people import PASSWORD
from support.strangers import relay
from support.terminals import COLUMNS, CTRL_C, CTRL_D, RETURN, TAB, modes, terminal

SEARCH = "provider sample search ticker=AAPL date=2010-01-01..2011-01-01"
PLUGIN = """
class Provider:
    def name(self):
        return "days"

    def fetch(self, ticker, start, end):
        import polars as pl

        days = pl.datetime_range(start, end, "1d", closed="left", eager=True)
        return pl.DataFrame({"timestamp": days, "day": days.dt.ordinal_day()})
"""
SLOW = """
import threading


class Provider:
    def name(self):
        return "slow"

    def fetch(self, ticker, start, end):
        threading.Event().wait(60)
"""


@pytest.mark.slow
async def test_every_command(tmp_path: Path) -> None:
    """Each does what its help says, on a terminal, and none is left out here."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "days.py").write_text(PLUGIN)
    done: set[str] = set()
    async with hub(tmp_path / "a.db") as first, hub(tmp_path / "b.db") as second:
        with terminal("shell", "--tcp", first.tcp, folder=folder) as shell:

            def run(line: str, *expected: str) -> str:
                done.add(line.split()[0].removeprefix(":"))
                return shell.run(line, *expected)

            shell.wait(f"at {first.tcp}. :help shows")
            assert run("providers").split()[-2:] == ["providers", "sample"]
            told = run(SEARCH, "252 rows", "fetched", "1 upstream request")
            assert "ok ProviderRequest sample AAPL from 2010-01-01 to 2011-01-01 ready" in told
            assert "2010-01-04 ┆ 30.4900 ┆ 30.6429 ┆ 30.3400" in told
            assert all(len(line) <= COLUMNS for line in told.splitlines())
            assert "cached" in run(SEARCH, "0 upstream requests")
            assert "Commands" in run(":help", ":format [table|json|ndjson|csv]", "Ctrl-D leaves")
            run(":help plot", "candles")
            run(":plot", "┃", "2010-01-04")
            run(":plot volume", "AAPL  volume", "│")
            run(":plot nothing", "error: there are no numbers in a column 'nothing'")
            run(":timing", "timing is on")
            run(SEARCH, " ms")
            run(":timing off", "timing is off")
            run(":x", "vertically")
            assert "close  30.572857" in run(SEARCH)
            run(":x off", "in a table")
            run(":set rows 3", "")
            run(SEARCH, "the first 3 shown")
            run(":set", "rows", "3", "strict", "off", "timeout")
            run(":set rows none", "usage: :set")
            run(":export bars.parquet", "252 records to bars.parquet")
            assert (folder / "bars.parquet").stat().st_size > 1_000
            run(":export bars.xlsx", "error:")
            run(":save year", "kept as year")
            run(":run year", "252 rows")
            run(":run decade", "no query is kept as decade; there are: year")
            run(":providers", "sample", "health")
            run(":coverage sample AAPL", "252 records", "held")
            run(f":plan {SEARCH}", "nothing would be fetched")
            run(":plan provider sample search ticker=IBM date=2010-01-01..2011-01-01", "not_held")
            run(":plugins", "none is loaded")
            run(":loadpy file=days.py class=Provider", "loaded days")
            run("provider days search ticker=x date=2025-01-01..2025-02-01", "31 rows")
            run(":plugins", "days")
            run(":reload days", "reloaded days")
            run(":unload days", "unloaded days")
            run("provider days all", "error:")
            run(":loadpy file=none.py", "error:")
            run(":format json", "")
            assert json.loads("".join(run("providers").splitlines()[1:]))["result"] == ["sample"]
            run(":format", "json")
            run(":format table", "")
            run(":reconnect", f"at {first.tcp}")
            run(":http", f"HTTP at {first.http}")
            run(f":addr {second.tcp}", f"at {second.tcp}")
            run(SEARCH, "1 upstream request")
            run(f":http {second.http}", f"HTTP at {second.http}")
            run(":auth some-token", "*** is shown to")
            run(":auth show", "***")
            run(":auth clear", "no token is shown")
            done.add("login")  # with authentication, below
            shell.ready()
            shell.keys(f":watch 0.1 {SEARCH}{RETURN}")
            done.add("watch")
            shell.until(lambda: shell.text.count("every 0.1 s") >= 2, "the second round")
            shell.keys(CTRL_C)
            shell.wait("cancelled")
            shell.clear()
            done |= {"clear", "quit"}
            shell.keys(f":quit{RETURN}")
            assert shell.end() == 0
    assert done >= set(COMMANDS)


@pytest.mark.slow
async def test_with_authentication(tmp_path: Path) -> None:
    """A person signs in once; the next run just works, and so does the loader."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "days.py").write_text(PLUGIN)
    database = tmp_path / "a.db"
    added = await gapless(
        *("users", "add", "ann@example.com", "--role", "admin", "--password-stdin"),
        *("--db", str(database)),
        stdin=PASSWORD,
    )
    assert added.code == 0, added.err
    async with hub(database, "--auth") as running:
        arguments = ("shell", "--tcp", running.tcp)
        with terminal(*arguments, folder=folder) as shell:
            shell.wait("It asks for a token: :login, or :auth TOKEN.")
            shell.run(SEARCH, "error:", "token")
            shell.run(":plugins", "error:")
            shell.keys(f":login ann@example.com{RETURN}")
            shell.wait("password:")
            shell.keys(f"wrong{RETURN}")
            shell.wait("error:")
            shell.ready()
            shell.keys(f":login{RETURN}")
            shell.wait("email:")
            shell.keys(f"ann@example.com{RETURN}")
            shell.until(lambda: shell.text.count("password:") == 2, "the second password")
            shell.keys(PASSWORD + RETURN)
            shell.wait("signed in as ann@example.com, role admin")
            shell.run(SEARCH, "252 rows")
            shell.run(":loadpy file=days.py", "loaded days")
            assert "gapless_at_***" in shell.run(":auth show")
            shell.keys(CTRL_D)
            assert shell.end() == 0
            assert PASSWORD not in shell.text
        kept = folder / "gapless" / "shell"
        assert modes(kept) == {"history": 0o600, "tokens.json": 0o600}
        token = json.loads((kept / "tokens.json").read_bytes())
        (secret,) = (one["token"] for one in token.values())
        with terminal(*arguments, folder=folder) as shell:
            shell.run(SEARCH, "252 rows")
            shell.run(":auth clear", "no token is shown")
            shell.run(SEARCH, "error:", "token")
            shell.run(f":auth {secret}", "is shown to")
            shell.run(SEARCH, "252 rows")
            shell.run(":reload days", "reloaded days")
            shell.keys(CTRL_D)
            assert shell.end() == 0
        history = (kept / "history").read_text()
        assert SEARCH in history
        assert secret not in history
        # Here it is meant to be, and nowhere else.
        (kept / "tokens.json").unlink()


@pytest.mark.slow
async def test_a_hub_that_comes_and_goes(tmp_path: Path) -> None:
    """A restart between two queries goes unnoticed; one that is down is waited for."""
    database = tmp_path / "a.db"
    async with hub(database) as running:
        address = running.tcp
        with terminal("shell", "--tcp", address, folder=tmp_path / "home") as shell:
            shell.run(SEARCH, "252 rows")
            running.process.terminate()
            await running.process.wait()
            async with hub(database, tcp=address):
                shell.run(SEARCH, "0 upstream requests")
            shell.ready()
            # One that is there at once, for starting may take longer than it is waited for.
            async with hub(database) as another:
                shell.keys(SEARCH + RETURN)
                shell.wait("reconnecting for up to 10 s")
                async with relay(running.port, another.port):
                    await asyncio.to_thread(shell.wait, "connected again")
                    three = lambda: shell.text.count("252 rows") == 3  # noqa: E731  # a condition
                    await asyncio.to_thread(shell.until, three, "the third answer")
            assert shell.text.count("reconnecting") == 1
            shell.ready()
            shell.keys(SEARCH + RETURN)
            shell.until(lambda: shell.text.count("reconnecting") == 2, "waiting again")
            shell.keys(CTRL_C)
            shell.wait("cancelled")
            shell.run(":help quit", "leave")


@pytest.mark.slow
async def test_keys(tmp_path: Path) -> None:
    """Ctrl-C clears a line and ends a request, Tab completes, pasted lines run one by one."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "slow.py").write_text(SLOW)
    async with hub(tmp_path / "a.db") as running:
        with terminal("shell", "--tcp", running.tcp, folder=folder) as shell:
            shell.run(SEARCH, "252 rows")
            shell.keys("nonsense")
            shell.wait("gapless> nonsense")
            shell.keys(CTRL_C)
            shell.ready()
            shell.keys("provider sample search ticker=A")
            shell.wait("  AAPL")
            shell.keys(TAB)
            shell.wait("gapless> provider sample search ticker=AAPL")
            shell.keys(" date=2013-01-01..2012-01-01 ")
            shell.until(lambda: "date=2013-01-01..2012-01-01" in shell.underlined(), "a mark")
            shell.keys(CTRL_C)
            shell.ready()
            shell.keys("provider nowhere se")
            shell.until(lambda: shell.underlined() == "nowhere", "another mark")
            shell.keys(CTRL_C)
            shell.run(":loadpy file=slow.py", "loaded slow")
            shell.keys(f"provider slow search ticker=x date=2025-01-01..2025-01-02{RETURN}")
            shell.until(lambda: "ticker=x" in shell.text, "the line")
            shell.keys(CTRL_C)
            shell.wait("cancelled")
            shell.ready()
            shell.keys(f"\x1b[200~providers\n:set\n\x1b[201~{RETURN}")
            shell.wait("> :set")
            shell.wait("timeout  60")
            shell.run("providers | tr a-z A-Z", '"SLOW"')
            shell.run("providers | exit 3", "error: exit 3 ended with code 3")
            shell.run("provider sample serch ticker=AAPL", "error: expected one of", "^^^^^")
            shell.keys(CTRL_D)
            assert shell.end() == 0
