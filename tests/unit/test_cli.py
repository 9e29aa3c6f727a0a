"""The command line: help, exit codes, what goes to stdout and what to stderr."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gapless import __version__
from gapless.app import running_hub
from gapless.cli import main
from gapless.cli.exits import Exit, UsageError, exit_code
from gapless.cli.query import choose_format
from gapless.cli.serve import serve_until, serve_until_signal
from gapless.client.addresses import Endpoint, parse_endpoint
from gapless.client.connection import connect
from gapless.client.failures import Unreachable, error_of
from gapless.config import Settings
from gapless.errors import (
    ConfigError,
    Conflict,
    DatabaseInUse,
    Forbidden,
    GaplessError,
    InternalError,
    InvalidQuery,
    MissingToken,
    Overloaded,
    ProviderError,
    RateLimited,
    Unauthorized,
    UnknownTicker,
    UpstreamUnavailable,
)
from gapless.servers.tls import Certificate
from gapless.shell import output
from support.wire import PATIENCE_S

RECORDS: list[dict[str, Any]] = [
    {"timestamp": 1_756_992_600, "open": 1.5, "close": 2, "volume": None},
    {"timestamp": 1_757_079_000, "open": 1, "close": 2.25, "volume": 7},
]
ENTITY: dict[str, Any] = {
    "id": "sample:AAPL:2025-09-04T00:00:00Z..2025-09-06T00:00:00Z",
    "source": "sample",
    "tags": ["ticker=AAPL"],
    "data": RECORDS,
    "etag": "0123456789abcdef",
    "fetched_at": "2025-09-07T00:00:00Z",
    "refresh_after": "",
    "state": "ready",
    "last_error": "",
    "updated_at": "2025-09-07T00:00:00Z",
}
ANSWER: dict[str, Any] = {
    "ok": True,
    "kind": "ProviderRequest",
    "result": [ENTITY],
    "error": None,
    "stitch": {
        "cached": [["2025-09-04T00:00:00Z", "2025-09-05T00:00:00Z"]],
        "fetched": [["2025-09-05T00:00:00Z", "2025-09-06T00:00:00Z"]],
        "missing": [],
        "upstream_requests": 1,
        "state": "ready",
    },
}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the caller's settings and data directory out of the tests."""
    for name in [name for name in os.environ if name.startswith("GAPLESS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@contextmanager
def answering(*answers: dict[str, Any] | bytes) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Listen on a free port and give each request line the next answer; then close.

    Yields the address and the list that the requests are put into. A dict gets the request's id
    unless it has one; bytes are sent as they are.
    """
    requests: list[dict[str, Any]] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE_S)

    def run() -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        with sock, sock.makefile("rb") as lines:
            for answer in answers:
                line = lines.readline()
                if not line:
                    return
                requests.append(json.loads(line))
                if isinstance(answer, dict):
                    full = {"request_id": requests[-1]["request_id"], **answer}
                    answer = json.dumps(full).encode() + b"\n"
                sock.sendall(answer)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", requests
    finally:
        thread.join()
        listener.close()


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help goes to stdout, names the commands and ends well."""
    assert main(argv) == Exit.OK
    out, err = capsys.readouterr()
    for word in ("serve", "--server", "query", "config", "version"):
        assert word in out
    for code in Exit:
        assert re.search(rf"\b{code.value}\s+\w", out), code
    assert err == ""


@pytest.mark.parametrize("command", ["serve", "query", "config show"])
def test_help_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command explains itself, with every option described."""
    assert main([*command.split(), "--help"]) == Exit.OK
    out = capsys.readouterr().out
    assert f"Usage: gapless {command}" in out
    if command == "serve":
        for told in ("Default 127.0.0.1:7000", "Default 127.0.0.1:7070", "gapless users add"):
            assert told in " ".join(re.sub(r"[│|]", "", out).split())


@pytest.mark.parametrize("argv", [["version"], ["--version"], ["-V"]])
def test_version(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """All spellings print the same line."""
    assert main(argv) == Exit.OK
    assert capsys.readouterr().out == f"gapless {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["nope"], Exit.USAGE, "Unknown command"),
        (["query"], Exit.USAGE, "try: gapless query --help"),
        (["db", "check", "x"], Exit.USAGE, "takes no argument 'x'; see: gapless db check --help"),
        (["query", "providers", "-O", "a.xlsx"], Exit.USAGE, ".parquet; for another name give -o"),
        (["query", "providers", "-o", "xml"], Exit.USAGE, "parquet"),
        (["query", "providers", "--tcp", "nowhere"], Exit.USAGE, "HOST:PORT"),
        (["query", "providers", "--tcp", "https://h:1"], Exit.USAGE, "tls://HOST:PORT where"),
        (["serve", "--tcp", "tcp://127.0.0.1:0"], Exit.CONFIG, "leave out what ends in ://"),
        (["serve", "--http", "http://127.0.0.1:0/"], Exit.CONFIG, "leave out what ends in ://"),
        (["query", "providers", "--timeout", "0"], Exit.USAGE, "--timeout"),
        (["serve", "--nope"], Exit.USAGE, "--nope"),
        (["serve", "--db"], Exit.USAGE, "--db"),
        (["serve", "--http", "0.0.0.0:0"], Exit.CONFIG, "other machines"),
        (["serve", "--tcp", "0.0.0.0:7000"], Exit.CONFIG, "add --auth"),
        (["--server", "--http", "0.0.0.0:7070"], Exit.CONFIG, "add --auth"),
        (["serve", "--tls-cert", "x.pem"], Exit.CONFIG, "--tls-cert and --tls-key"),
        (["--client", "--tcp", "nowhere"], Exit.USAGE, "HOST:PORT"),
        (["shell", "--http", "nowhere:x"], Exit.USAGE, "http://HOST:PORT"),
        (["serve", "--tcp", "0.0.0.0:0"], Exit.CONFIG, "other machines"),
        (["serve", "--tcp", "[::]:0"], Exit.CONFIG, "other machines"),
        (["serve", "--tcp", "7000"], Exit.CONFIG, "flag --tcp"),
        (["serve", "--db", "/no/such/folder/x.db"], Exit.CONFIG, "/no/such/folder"),
        (["serve", "--config", "/no/such.toml"], Exit.CONFIG, "/no/such.toml"),
    ],
)
def test_refusals(
    argv: list[str], code: Exit, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be done is said in a sentence on stderr, with the exit code for its kind."""
    assert main(argv) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.startswith("gapless: ")
    assert "Traceback" not in err


def test_variables_are_settings_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is refused is refused wherever it was asked for, an unknown variable too."""
    monkeypatch.setenv("GAPLESS_TCP", "0.0.0.0:0")
    assert main(["serve"]) == Exit.CONFIG
    assert "tcp = 0.0.0.0:0" in capsys.readouterr().err
    monkeypatch.setenv("GAPLESS_AUHT", "yes")
    assert main(["serve"]) == Exit.CONFIG
    assert "did you mean GAPLESS_AUTH?" in capsys.readouterr().err


def test_config_show(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The settings are shown as TOML that loads to the same settings, with origins, masked."""
    assert main(["config", "show", "--tcp", "127.0.0.1:0", "--http", "off"]) == Exit.OK
    out = capsys.readouterr().out
    shown = tomllib.loads(out)
    assert shown["tcp"] == "127.0.0.1:0"
    assert shown["limits"]["max_connections"] == 10_000
    assert shown["tls_cert"] == shown["tls_key"] == shown["api"]["hosts"] == ""
    assert "# flag --tcp: " in out
    file = tmp_path / "kept.toml"
    file.write_text(out)
    assert main(["config", "show", "--config", str(file)]) == Exit.OK
    assert tomllib.loads(capsys.readouterr().out) == shown

    assert main(["config", "show", "-o", "json", "--db", "postgresql://me:s3cret@h/x"]) == Exit.OK
    out = capsys.readouterr().out
    assert "s3cret" not in out
    first = json.loads(out)[0]
    assert (first["key"], first["from"], first["variable"]) == ("db", "flag --db", "GAPLESS_DB")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (InvalidQuery("x"), 2),
        (Conflict("x"), 1),
        (Unreachable("x"), 69),
        (RateLimited("x"), 75),
        (Overloaded("x"), 75),
        (MissingToken("x"), 77),
        (Unauthorized("x"), 77),
        (Forbidden("x"), 77),
        (ProviderError("x", reason="forbidden"), 77),
        (ConfigError("x"), 78),
        (DatabaseInUse("x"), 1),
        (UpstreamUnavailable("x"), 1),
        (GaplessError("x"), 1),
    ],
)
def test_exit_codes(error: GaplessError, code: int) -> None:
    """Each kind of error has the exit code that the design gives it."""
    assert exit_code(error) == code


def test_query_prints_the_answer_as_json(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Piped, a query prints the hub's whole answer and nothing else."""
    with answering(ANSWER) as (tcp, requests):
        assert main(["query", "provider", "sample", "all", "--tcp", tcp]) == Exit.OK
    out, err = capfdbinary.readouterr()
    assert json.loads(out)["result"] == [ENTITY]
    assert err == b""
    assert requests[0]["query"] == {"type": "Line", "payload": {"line": "provider sample all"}}
    assert requests[0]["data_as"] == "array"
    assert "token" not in requests[0]


def test_query_sends_the_token_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """GAPLESS_TOKEN and GAPLESS_URL are what a query uses unless flags say otherwise."""
    with answering({"ok": True, "result": ["sample"]}) as (tcp, requests):
        monkeypatch.setenv("GAPLESS_TOKEN", "t0ken")
        monkeypatch.setenv("GAPLESS_URL", f"tcp://{tcp}")
        assert main(["query", "providers", "-o", "ndjson"]) == Exit.OK
    assert requests[0]["token"] == "t0ken"
    assert capfdbinary.readouterr().out == b'{"provider":"sample"}\n'


def test_query_warns_of_an_incomplete_answer(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A partial answer is printed, and a warning on stderr says what is missing."""
    entity = {**ENTITY, "state": "partial", "last_error": "upstream \x1b[2J failed"}
    span = {"from": "2025-09-05T00:00:00Z", "to": "2025-09-06T00:00:00Z", "reason": "x"}
    answer = {**ANSWER, "result": [entity], "stitch": {"missing": [span]}}
    with answering(answer) as (tcp, _):
        assert main(["query", "x", "--tcp", tcp, "-o", "csv"]) == Exit.OK
    out, err = capfdbinary.readouterr()
    assert out.startswith(b"timestamp,open,close,volume\n")
    assert b"is incomplete: upstream \\x1b[2J failed; missing: 2025-09-05..2025-09-06" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "invalid_query", "message": "no"}, Exit.USAGE),
        ({"code": "missing_token", "message": "no"}, Exit.DENIED),
        (
            {
                "code": "provider_request_failed",
                "message": "no",
                "reason": "rate_limited",
                "retry_after_s": 7.5,
            },
            Exit.RATE_LIMITED,
        ),
        ({"code": "provider_not_found", "message": "no"}, Exit.FAILURE),
        (
            {
                "code": "provider_request_failed",
                "message": "no",
                "reason": "upstream_unavailable",
            },
            Exit.FAILURE,
        ),
    ],
)
def test_query_that_fails(
    error: dict[str, Any], code: Exit, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hub's error is one sentence on stderr and the exit code of its kind."""
    with answering({"ok": False, "result": None, "error": error}) as (tcp, _):
        assert main(["query", "x", "--tcp", tcp]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gapless: no\n")
    assert ("try again in 8 s" in err) == ("retry_after_s" in error)
    assert err.endswith("gapless doctor\n") == (error.get("reason") == "upstream_unavailable")


def test_interrupted_query(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C while a hub is silent ends in a new line and exit 130."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    asker = threading.get_ident()
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def interrupt() -> None:
                sock, _ = listener.accept()
                with sock:
                    sock.recv(1)
                    signal.pthread_kill(asker, signal.SIGINT)
                    ended.wait(10)

            ended = threading.Event()
            thread = threading.Thread(target=interrupt)
            thread.start()
            port = listener.getsockname()[1]
            assert main(["query", "x", "--tcp", f"127.0.0.1:{port}"]) == Exit.INTERRUPTED
            ended.set()
            thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr() == ("", "\n")


def test_query_without_a_hub(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody there is exit 69 and a hint how to start a hub."""
    assert main(["query", "x", "--tcp", f"127.0.0.1:{free_port()}"]) == Exit.UNREACHABLE
    assert "gapless serve" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reply", "code", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Exit.FAILURE, "speaks HTTP; the hub"),
        (b"[1]\n", Exit.FAILURE, "no gapless hub"),
        (b"{}\n", Exit.FAILURE, "no gapless hub"),
        (b'{"ok": true, "request_id": 9}\n', Exit.FAILURE, "answered request 9"),
        (b'{"ok": tr', Exit.UNREACHABLE, "before the answer was complete"),
    ],
)
def test_query_of_something_else(
    reply: bytes, code: Exit, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no answer of a hub is told apart from a hub that fails."""
    with answering(reply) as (tcp, _):
        assert main(["query", "x", "--tcp", tcp]) == code
    assert said in capsys.readouterr().err


def test_connection_serves_several_requests() -> None:
    """Answers are matched to requests one after the other, also when they come in one piece."""
    first = b'{"ok":true,"request_id":1,"result":"a"}\n{"ok":true,"request_id":2,"result":"b"}\n'
    with answering(first, b"") as (tcp, _), connect(parse_endpoint(tcp), 10) as connection:
        assert connection.request({"type": "Ping"})["result"] == "a"
        assert connection.request({"type": "Ping"})["result"] == "b"


def test_silent_hub() -> None:
    """Silence longer than the timeout is an error of its own, and ends the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (
            connect(Endpoint("127.0.0.1", port), 0.01) as connection,
            pytest.raises(Unreachable, match="silent"),
        ):
            connection.request({"type": "Ping"})


def test_errors_of_the_wire() -> None:
    """An answer's error becomes the class of the tree, by reason where there is one."""
    failed = {"code": "provider_request_failed", "message": "m"}
    assert type(error_of({**failed, "reason": "unknown_ticker"})) is UnknownTicker
    assert type(error_of({**failed, "reason": "new_one"})) is ProviderError
    assert type(error_of({"code": "forbidden", "message": "m"})) is Forbidden
    assert type(error_of({"code": "internal", "message": "m"})) is InternalError
    assert error_of({"code": "new_one", "message": "m"}).message == "m (new_one)"
    assert type(error_of(None)) is GaplessError


def test_choice_of_format() -> None:
    """A table on a terminal, JSON elsewhere, else what is asked for; no bytes on a terminal."""
    assert choose_format(None, None, terminal=True) == "table"
    assert choose_format(None, None, terminal=False) == "json"
    assert choose_format(None, Path("x.parquet"), terminal=True) == "parquet"
    assert choose_format("csv", Path("x.parquet"), terminal=True) == "csv"
    assert choose_format("arrow", None, terminal=False) == "arrow"
    with pytest.raises(UsageError, match="-O FILE"):
        choose_format("arrow", None, terminal=True)
    assert choose_format("json", Path("x.xlsx"), terminal=True) == "json"
    for name in ("x.xlsx", "x"):
        with pytest.raises(UsageError, match=r"\.json, .*\.parquet"):
            choose_format(None, Path(name), terminal=False)


def test_rows_in_every_format() -> None:
    """The same records come out of each format, with their columns in order."""
    assert [json.loads(line) for line in output.render(ANSWER, "ndjson").splitlines()] == RECORDS
    assert output.render(ANSWER, "csv").decode() == (
        "timestamp,open,close,volume\n1756992600,1.5,2,\n1757079000,1,2.25,7\n"
    )
    assert pl.read_ipc_stream(output.render(ANSWER, "arrow")).to_dicts() == RECORDS
    assert pl.read_parquet(io.BytesIO(output.render(ANSWER, "parquet"))).to_dicts() == RECORDS


def test_rows_of_several_entities() -> None:
    """Records of several entities say whose they are; what has no records is a row itself."""
    plain: dict[str, Any] = {"id": "p:1", "source": "p", "data": "a text", "tags": ["x"]}
    rows = output.rows_of({"result": [{**ENTITY, "id": "a"}, plain]})
    assert rows == [{"entity": "a", **RECORDS[0]}, {"entity": "a", **RECORDS[1]}, plain]
    assert b'"[""x""]"' in output.render({"result": [plain]}, "csv")


@pytest.mark.parametrize("format", ["ndjson", "csv"])
def test_no_records(format: output.Format) -> None:
    """An empty answer prints nothing rather than a header that is made up."""
    assert output.render({"result": [{**ENTITY, "data": []}]}, format) == b""


def test_no_records_of_a_history() -> None:
    """An empty history is a table with a time and no rows, and says for when it is empty."""
    asked = [["2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z"]]
    empty = {"result": [{**ENTITY, "data": []}], "stitch": {"cached": asked, "fetched": []}}
    assert output.render(empty, "csv") == b"timestamp\n"
    for read in (
        pl.read_ipc_stream(output.render(empty, "arrow")),
        pl.read_parquet(io.BytesIO(output.render(empty, "parquet"))),
    ):
        assert (read.columns, read.height) == (["timestamp"], 0)
    [said] = output.warnings(empty)
    assert said.endswith("has no records in 2020-01-01..2020-02-01")


def test_table() -> None:
    """A long table shows both its ends, days readable, the count, and nothing that steers."""
    records = [{"timestamp": 86_400 * day, "note": "[red]\x1b[2J"} for day in range(1234)]
    stream = io.StringIO()
    output.print_table({"result": [{**ENTITY, "data": records}]}, stream)
    text = stream.getvalue()
    assert "1970-01-10  [red]\\x1b[2J" in text
    assert "1970-01-11" not in text
    assert text.splitlines()[11].strip() == "..."
    assert len(text.splitlines()) == 23
    assert text.endswith("\n1,234 rows, 1,214 not shown; all of them: -O FILE\n")
    assert "\x1b" not in text
    stream = io.StringIO()
    output.print_table({"result": [{**ENTITY, "data": records[:24]}]}, stream)
    assert len(stream.getvalue().splitlines()) == 26
    stream = io.StringIO()
    output.print_table({"result": [{**ENTITY, "data": records[:30]}]}, stream, whole=True)
    assert stream.getvalue().endswith("1970-01-30  [red]\\x1b[2J\n30 rows\n")


def test_table_of_prices() -> None:
    """A record is one line of 80 columns, its prices to four places, and no number is cut."""
    record: dict[str, Any] = {"timestamp": 1_756_992_600}
    names = ("open", "high", "low", "close", "adjclose")
    record |= dict.fromkeys(names, 238.12345678901) | {"volume": 123_456_789}
    stream = io.StringIO()
    output.print_table({"result": [{**ENTITY, "data": [record]}]}, stream)
    _, row, _ = stream.getvalue().splitlines()
    assert row == "2025-09-04 13:30" + "  238.1235" * 5 + "  123456789".rjust(len(row) - 66)
    assert len(row) <= 80
    wide = {f"column{number}": 10**17 + number for number in range(9)} | {"tiny": 0.0000123456}
    stream = io.StringIO()
    output.print_table({"result": [{**ENTITY, "data": [wide]}]}, stream)
    row = stream.getvalue().splitlines()[1]
    assert row.split() == [*(str(10**17 + number) for number in range(9)), "1.235e-05"]


def test_table_of_several_entities() -> None:
    """Several entities with records are a line each, and nothing is said twice."""
    answer = {**ANSWER, "result": [ENTITY, {**ENTITY, "id": "sample:IBM", "data": RECORDS[:1]}]}
    stream = io.StringIO()
    output.print_table(answer, stream)
    lines = stream.getvalue().splitlines()
    assert lines[0].split() == ["id", "records", "state"]
    assert lines[2].split() == ["sample:IBM", "1", "ready"]
    assert lines[3] == "2 entities, 3 records; all of them: -O FILE"
    assert [*output.summaries(answer)] == []


def test_summary() -> None:
    """An entity's line tells its state, its size and where its parts came from."""
    (line,) = output.summaries(ANSWER)
    assert line == (
        f"{ENTITY['id']}: ready; 2 records; cached 2025-09-04..2025-09-05; "
        "fetched 2025-09-05..2025-09-06; 1 upstream request"
    )
    changed = {**ANSWER, "stitch": {**ANSWER["stitch"], "changed_at": "2025-09-06T13:45:00Z"}}
    assert [*output.summaries(changed)] == [f"{line}; changed upstream 2025-09-06T13:45:00Z"]


def test_output_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file is written whole, in the format of its name, and nothing lies beside it."""
    file = tmp_path / "bars.parquet"
    file.write_text("old")
    with answering(ANSWER) as (tcp, _):
        assert main(["query", "x", "--tcp", tcp, "-O", str(file)]) == Exit.OK
    assert pl.read_parquet(file).to_dicts() == RECORDS
    assert capsys.readouterr() == ("", f"2 records to {file}\n")
    assert list(tmp_path.glob(".*")) == []
    with answering(ANSWER) as (tcp, _):
        missing = tmp_path / "none" / "x.csv"
        assert main(["query", "x", "--tcp", tcp, "-O", str(missing)]) == Exit.FAILURE
    assert "cannot be written: No such file" in capsys.readouterr().err


@dataclass(frozen=True)
class Open:
    """A hub that is open, as far as the command line sees it."""

    tcp: str
    http: str | None = None
    setup_key: str | None = None
    setup_url: str | None = None
    administered: bool = True
    certificate: Certificate | None = None


@asynccontextmanager
async def listening(settings: Settings) -> AsyncIterator[Open]:
    """Open a bare TCP server on the address of the settings."""
    host, port = settings.tcp.rsplit(":", 1)
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, int(port))
    async with server:
        yield Open("{}:{}".format(*server.sockets[0].getsockname()))


async def test_ready_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The start-up line says the address that was picked, and masks the database's password."""
    stop = asyncio.Event()
    stop.set()
    settings = Settings(tcp="127.0.0.1:0", db="postgresql://me:s3cret@h/x")
    await serve_until(stop, settings, listening)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"gapless {__version__} ready tcp=127.0.0.1:")
    assert ":0 " not in err
    assert err.endswith(" http=off db=postgresql://me:***@h/x\n")


async def test_signal_ends_the_hub(capsys: pytest.CaptureFixture[str]) -> None:
    """SIGTERM lets the hub close in order, and the handlers are gone afterwards."""
    closed = []

    @asynccontextmanager
    async def signalled(settings: Settings) -> AsyncIterator[Open]:
        os.kill(os.getpid(), signal.SIGTERM)
        async with listening(settings) as hub:
            yield hub
        closed.append(True)

    await serve_until_signal(Settings(tcp="127.0.0.1:0"), signalled)
    assert closed == [True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("setting", ["tcp", "http"])
async def test_port_in_use(tmp_path: Path, setting: str) -> None:
    """A port that another program has is named in one sentence, and so is its flag."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        free = "127.0.0.1:0"
        settings = Settings(
            db=str(tmp_path / "hub.db"),
            tcp=address if setting == "tcp" else free,
            http=address if setting == "http" else free,
        )
        said = f"cannot listen on {address}: another program does.* --{setting}$"
        with pytest.raises(GaplessError, match=said):
            await serve_until(asyncio.Event(), settings, running_hub)


def test_module_as_a_program() -> None:
    """`python -m gapless` is the command, with its exit code."""
    command = [sys.executable, "-m", "gapless"]
    done = subprocess.run(
        [*command, "version"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"gapless {__version__}\n")
    done = subprocess.run(
        [*command, "nope"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")


def test_reader_that_leaves() -> None:
    """Output into a closed pipe ends quietly."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "gapless", "version"],
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=PATIENCE_S,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")
