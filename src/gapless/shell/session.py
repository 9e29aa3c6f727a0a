"""A shell's session: lines to requests, answers to the terminal. It reads nothing by itself.

Apart from the prompt, so that scripts and tests run the very same.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from getpass import getpass
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console, RenderableType

from gapless.client.addresses import Endpoint, parse_endpoint, parse_web_base
from gapless.client.client import Client
from gapless.client.conversations import HubInfo
from gapless.client.failures import ConnectionLost, NotReadyWarning, TimedOut, Unreachable
from gapless.client.results import Result
from gapless.errors import GaplessError, InvalidQuery, MissingToken, Unauthorized
from gapless.protocol.language import parse_line
from gapless.protocol.messages import (
    GetEntity,
    ProviderList,
    ProviderRequest,
)
from gapless.shell import administration, output, rendering
from gapless.shell.commands import COMMANDS, FORMATS, Call, parse_call, usage_of
from gapless.shell.completion import Known
from gapless.shell.exporting import export
from gapless.shell.keeping import Keeping, Kept
from gapless.shell.wording import takes_blocks
from gapless.shell.words import split_pipe
from gapless.texts import printable

# How long a hub that has gone is waited for.
_PATIENCE_S: Final = 10.0
# What tokens of a hub's own begin with, and from which length on their ends give nothing away.
_KIND: Final = re.compile("gapless_[a-z]+_")
_LONG: Final = 20
_PAUSES_S: Final = (0.1, 0.2, 0.4, 0.8, 1.0)
_MOST_TICKERS: Final = 20_000


class Quit(Exception):
    """The person wants to leave."""


@dataclass(slots=True)
class Looks:
    """How answers are printed, and what is asked with every query."""

    format: str = "table"
    rows: int = 10
    vertical: bool = False
    timing: bool = False
    strict: bool = False
    timeout: float = 60.0


@dataclass(slots=True)
class Session:
    """One person's talk with a hub.

    `interactive`: there is somebody to be asked, and to wait with. `known` is what completion
    goes by; whoever shows a prompt renews it when `stale` is set.
    """

    endpoint: Endpoint
    keeping: Keeping
    console: Console
    interactive: bool = False
    web: str | None = None
    looks: Looks = field(default_factory=Looks)
    known: Known = field(default_factory=Known)
    stale: bool = True
    last: Result | None = None
    last_line: str | None = None
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        """Make the client; nothing is connected yet."""
        self.client = self._client()

    # Lines

    def run(self, line: str) -> None:
        """Do what a line says; raise `GaplessError` where it cannot be done, `Quit` to leave."""
        line = line.strip()
        if not line or line.startswith("#"):
            return
        line, command = split_pipe(line)
        if command is not None:
            self._piped(line, command)
        elif line.startswith(":"):
            self._call(parse_call(line))
        else:
            self._query(line)

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    # Queries

    def _query(self, line: str) -> None:
        started = time.perf_counter()
        self.last_line = line
        parsed = parse_line(line, now_ms=time.time_ns() // 1_000_000)
        if self.looks.format != "table":
            answer = self._kept_up(lambda: self._answer(line))
            self._print_answer(answer)
        elif isinstance(parsed, ProviderList):
            names = self._kept_up(self.client.providers)
            for name in names:
                self.console.print(printable(name))
        else:
            results = self._kept_up(lambda: self._results(line))
            self._show(parsed, results)
        if self.looks.timing:
            self._say(f"{(time.perf_counter() - started) * 1_000:,.1f} ms")

    def _results(self, line: str) -> list[Result]:
        with warnings.catch_warnings():
            # The head says so.
            warnings.simplefilter("ignore", NotReadyWarning)
            return self.client.query(line, strict=self.looks.strict, timeout=self.looks.timeout)

    def _show(self, parsed: ProviderRequest, results: list[Result]) -> None:
        if any(one.stitch is not None and one.stitch.fetched for one in results):
            self.stale = True
        single = isinstance(parsed.request, GetEntity) or (
            len(results) == 1 and results[0].stitch is not None
        )
        if len(results) == 1 and single:
            self.last = results[0]
            width = self.console.width
            for part in rendering.result_view(
                self.last,
                self.looks.rows,
                width,
                vertical=self.looks.vertical,
                blocks=self._blocks,
            ):
                self.console.print(part)
        elif results:
            self.last = results[0] if len(results) == 1 else None
            self.console.print(rendering.results_view(results))
        else:
            self._say("nothing that is stored matches")

    def _answer(self, line: str) -> dict[str, Any]:
        return self.client.send_line(
            line, timeout=self.looks.timeout, data_as="array", strict=self.looks.strict
        )

    def _print_answer(self, answer: Mapping[str, Any]) -> None:
        self._write(output.render(answer, self._format))
        for text in output.warnings(answer):
            sys.stderr.write(f"gapless: warning: {text}\n")

    @property
    def _format(self) -> output.Format:
        chosen = self.looks.format
        return chosen if chosen in ("ndjson", "csv") else "json"  # type: ignore[return-value]

    def _piped(self, line: str, command: str) -> None:
        """Hand an answer to a command of the system, as JSON unless another format is set."""
        if not command:
            raise InvalidQuery("a command is missing behind the |, such as: | jq .")
        if line.startswith(":"):
            call = parse_call(line)
            if call.command.name not in administration.NAMES:
                raise InvalidQuery(f":{call.command.name} has no answer to pipe on")
            content = (
                msgspec.json.encode(self._kept_up(lambda: administration.ask(call, self.client)))
                + b"\n"
            )
        else:
            self.last_line = line
            content = output.render(self._kept_up(lambda: self._answer(line)), self._format)
        sys.stdout.flush()
        # The person's own shell, as they wrote it.
        done = subprocess.run(command, shell=True, input=content, check=False)
        if done.returncode:
            raise GaplessError(f"{printable(command)} ended with code {done.returncode}")

    # Connections

    def _kept_up(self, ask: Callable[[], Any]) -> Any:
        """Ask; where the hub has gone, say so once, wait for it, and ask again if nothing was sent.

        A token that has ended is renewed, if a refresh token is kept.
        """
        try:
            return ask()
        except (Unauthorized, MissingToken):
            if not self._refreshed():
                raise
            return ask()
        except TimedOut:
            raise
        except Unreachable as error:
            if not self.interactive:
                raise
            self._say(f"{error.message}", style="yellow")
            self._await_hub(error)
            if isinstance(error, ConnectionLost):
                # It may have been done, or half of it.
                raise GaplessError(
                    "connected again; the request had been sent when the connection broke, so ask "
                    "again if you want"
                ) from error
            self._say("connected again")
            return ask()

    def _await_hub(self, error: Unreachable) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        self._say(f"reconnecting for up to {_PATIENCE_S:g} s; Ctrl-C to stop")
        for attempt in range(1_000):
            time.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
            try:
                self.client.ping()
            except Unreachable:
                if time.monotonic() > deadline:
                    raise error from None
            else:
                return

    def _client(self) -> Client:
        """Return a client of the hub, with the token that is kept for it unless one was given."""
        where = self.endpoint
        kept = self.keeping.token(where.url)
        token = where.token or (kept.token if kept is not None else None)
        client = Client(
            where.url, http=self.web, timeout=self.looks.timeout, connect_timeout=5.0, retries=0
        )
        if token is None:
            client.clear_token()
        else:
            client.set_token(token)
        return client

    def _anew(self) -> None:
        self.client.close()
        self.client = self._client()
        self.stale = True

    def _refreshed(self) -> bool:
        """Get another token by the refresh token that is kept, if that was how this one came."""
        kept = self.keeping.token(self.endpoint.url)
        if kept is None or kept.refresh is None or self.endpoint.token is not None:
            return False
        try:
            told = self.client.fetch("POST", "/v1/auth/refresh", {"refresh_token": kept.refresh})
            self._keep(Kept(told["access_token"], told["refresh_token"]))
        except (GaplessError, KeyError):
            return False
        return True

    def _keep(self, kept: Kept | None) -> None:
        self.keeping.keep_token(self.endpoint.url, kept)
        # What is kept goes before what the shell was started with.
        where = self.endpoint
        self.endpoint = Endpoint(where.host, where.port, where.tls)
        if kept is None:
            self.client.clear_token()
        else:
            self.client.set_token(kept.token)
        self.stale = True

    # Commands

    def _call(self, call: Call) -> None:
        name = call.command.name
        if name in administration.NAMES:
            data = self._kept_up(lambda: administration.ask(call, self.client))
            self._show_data(call, data)
            return
        doing: Callable[[Call], None] = getattr(self, f"_do_{name}")
        doing(call)

    def _show_data(self, call: Call, data: Any) -> None:
        if call.command.name in ("loadpy", "reload", "unload"):
            self.stale = True
        if self.looks.format != "table":
            self._write(msgspec.json.encode(data) + b"\n")
        else:
            self._print_all(administration.view(call, data, self.console.width, self._blocks))

    def _do_help(self, call: Call) -> None:
        name = (call.optional() or "").removeprefix(":").lower()
        if name:
            if name not in COMMANDS:
                raise InvalidQuery(f"there is no command :{printable(name)}; see :help")
            command = COMMANDS[name]
            self.console.print(f"{usage_of(command)}\n  {command.about}")
            return
        self._print_all(rendering.help_view())

    def _do_quit(self, call: Call) -> None:
        call.none()
        raise Quit

    def _do_clear(self, call: Call) -> None:
        call.none()
        self.console.clear()

    def _do_reconnect(self, call: Call) -> None:
        call.none()
        self._anew()
        self.console.print(self._greeting())

    def _do_addr(self, call: Call) -> None:
        self.endpoint = parse_endpoint(call.one(), ":addr")
        # Another hub names its own.
        self.web = None
        self._anew()
        self.console.print(self._greeting())

    def _do_http(self, call: Call) -> None:
        base = call.optional()
        if base is not None:
            self.web = parse_web_base(base, ":http")
            self._anew()
        elif self.client.http is None:
            self.client.ping()
        self.console.print(f"HTTP at {self.client.http or 'no known address'}")

    def _do_auth(self, call: Call) -> None:
        word = call.one()
        if word.lower() == "show":
            kept = self.keeping.token(self.endpoint.url)
            token = self.endpoint.token or (kept.token if kept is not None else None)
            self.console.print("no token" if token is None else _hidden(token))
        elif word.lower() == "clear":
            self._keep(None)
            self.console.print(f"no token is shown to {self.endpoint.name} any more")
        else:
            self._keep(Kept(word))
            self.console.print(f"{_hidden(word)} is shown to {self.endpoint.name} from now on")

    def _do_login(self, call: Call) -> None:
        email = call.optional()
        if not self.interactive:
            raise InvalidQuery(":login asks for a password; in a script give GAPLESS_TOKEN")
        email = email or input("email: ").strip()
        password = getpass("password: ")
        told = self.client.fetch("POST", "/v1/auth/login", {"email": email, "password": password})
        self._keep(Kept(told["access_token"], told["refresh_token"]))
        self.console.print(f"signed in as {printable(email)}, role {told.get('role')}")

    def _do_plot(self, call: Call) -> None:
        column = call.optional()
        frame = self._last().to_polars()
        height = max(8, min(24, self.console.height - 8))
        self.console.print(
            rendering.chart_view(frame, column, self.console.width, height, blocks=self._blocks)
        )

    def _do_export(self, call: Call) -> None:
        path = Path(call.one()).expanduser()
        count = export(self._last(), path)
        self.console.print(f"{count:,} records to {printable(str(path))}")

    def _do_x(self, call: Call) -> None:
        self.looks.vertical = call.switched(self.looks.vertical)
        self.console.print(
            f"records are shown {'vertically' if self.looks.vertical else 'in a table'}"
        )

    def _do_timing(self, call: Call) -> None:
        self.looks.timing = call.switched(self.looks.timing)
        self.console.print(f"timing is {'on' if self.looks.timing else 'off'}")

    def _do_watch(self, call: Call) -> None:
        if not self.interactive:
            raise InvalidQuery(":watch is for a terminal; in a script, ask in a loop of its own")
        if len(call.words) < 2:
            raise call.misuse()
        seconds = _seconds(call.words[0].text)
        if seconds is None:
            raise call.misuse("the seconds are no number above 0")
        query = call.text[call.text.index(call.words[0].text) + len(call.words[0].text) :].strip()
        if query.startswith(":"):
            raise call.misuse("only queries can be watched")
        while True:
            self._say(f"every {seconds:g} s: {printable(query)}   {time.strftime('%H:%M:%S')}")
            self.run(query)
            time.sleep(seconds)

    def _do_save(self, call: Call) -> None:
        name = call.optional()
        if name is None:
            kept = self.keeping.queries()
            if not kept:
                self._say("none is kept; ask one, then :save NAME")
            else:
                self.console.print(
                    rendering.listing([{"name": key, "query": kept[key]} for key in sorted(kept)])
                )
            return
        if self.last_line is None:
            raise InvalidQuery("there is no query to keep yet: ask one, then :save NAME")
        self.keeping.keep_query(name, self.last_line)
        self.stale = True
        self.console.print(f"kept as {printable(name)}: {printable(self.last_line)}")

    def _do_run(self, call: Call) -> None:
        name = call.one()
        kept = self.keeping.queries()
        if name not in kept:
            known = ", ".join(sorted(kept)) or "none"
            raise InvalidQuery(f"no query is kept as {printable(name)}; there are: {known}")
        self._say(printable(kept[name]))
        self._query(kept[name])

    def _do_set(self, call: Call) -> None:
        looks = self.looks
        match call.texts:
            case ():
                rows = [
                    {"name": "rows", "value": str(looks.rows)},
                    {"name": "strict", "value": "on" if looks.strict else "off"},
                    {"name": "timeout", "value": f"{looks.timeout:g}"},
                ]
                self.console.print(rendering.listing(rows))
            case ("rows", text) if text.isdigit() and 0 < int(text) <= 1_000_000:
                looks.rows = int(text)
            case ("strict", "on" | "off" as text):
                looks.strict = text == "on"
            case ("timeout", text) if (seconds := _seconds(text)) is not None:
                looks.timeout = seconds
            case _:
                raise call.misuse("rows N, strict on|off, timeout SECONDS")

    def _do_format(self, call: Call) -> None:
        chosen = call.optional()
        if chosen is None:
            self.console.print(self.looks.format)
        elif chosen.lower() in FORMATS:
            self.looks.format = chosen.lower()
        else:
            raise call.misuse()

    # What completion goes by

    def learn(self) -> Known:
        """Return what is known of the hub by now; may be called in another thread."""
        return administration.known(self.client, tuple(sorted(self.keeping.queries())))

    # Printing

    def _greeting(self) -> str:
        """Reach the hub and return who it is, in a line."""
        info = self.client.ping()
        asks = " It asks for a token: :login, or :auth TOKEN." if self._needs(info) else ""
        return f"gapless {info.version} at {self.endpoint.name}.{asks}"

    def _needs(self, info: HubInfo) -> bool:
        kept = self.keeping.token(self.endpoint.url)
        return info.auth and kept is None and not self.endpoint.token

    def greet(self) -> None:
        """Say who the hub is, or that there is none yet."""
        try:
            self.console.print(self._greeting() + " :help shows what there is.")
        except GaplessError as error:
            self._say(error.message, style="yellow")

    @property
    def _blocks(self) -> bool:
        return takes_blocks(sys.stdout)

    def _say(self, text: str, style: str = "dim") -> None:
        self.console.print(text, style=style)

    def _write(self, content: bytes) -> None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()

    def _print_all(self, parts: Any) -> None:
        part: RenderableType
        for part in parts:
            self.console.print(part)

    def _last(self) -> Result:
        if self.last is None:
            raise InvalidQuery("there is no answer with records yet: ask for one first")
        return self.last


def _hidden(token: str) -> str:
    """Return a token so that its holder knows it again, and nobody else can use it."""
    match = _KIND.match(token)
    return f"{match[0] if match else ''}***{token[-4:] if len(token) > _LONG else ''}"


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
