"""A shell's session: lines to requests, answers to the terminal. It reads nothing by itself.

Apart from the prompt, so that scripts and tests run the very same.
"""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from getpass import getpass
from typing import Any, Final

import msgspec
from rich.console import Console, RenderableType

from gapless.client.addresses import parse_endpoint, parse_web_base
from gapless.client.failures import HttpUnusedWarning, NotReadyWarning
from gapless.client.results import Found, Result, entities_in
from gapless.errors import GaplessError, InvalidQuery
from gapless.protocol.language import parse_line
from gapless.protocol.messages import (
    GetEntity,
    ProviderList,
    ProviderRequest,
)
from gapless.shell import administration, charts, output, rendering
from gapless.shell.commands import COMMANDS, FORMATS, Call, parse_call, usage_of
from gapless.shell.completion import Known
from gapless.shell.exporting import export
from gapless.shell.keeping import Keeping, Kept
from gapless.shell.link import Link, hidden, remedied
from gapless.shell.wording import takes_blocks
from gapless.shell.words import split_pipe
from gapless.texts import printable

# What people type who know other shells.
_COMMAND_WORDS: Final[Mapping[str, str]] = {
    **{name: name for name in COMMANDS if name != "providers"},
    "exit": "quit",
}
# Nobody waits longer for anything here.
_LONGEST_S: Final = 86_400.0


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

    link: Link
    keeping: Keeping
    console: Console
    interactive: bool = False
    looks: Looks = field(default_factory=Looks)
    known: Known = field(default_factory=Known)
    stale: bool = True
    last: Result | None = None
    last_line: str | None = None

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
        self.link.close()

    # Queries

    def _query(self, line: str) -> None:
        if line.lower() in _COMMAND_WORDS:
            raise InvalidQuery(f"commands begin with a colon: :{_COMMAND_WORDS[line.lower()]}")
        started = time.perf_counter()
        try:
            self._asked(line)
        finally:
            if self.looks.timing:
                self._say(f"{(time.perf_counter() - started) * 1_000:,.1f} ms")

    def _asked(self, line: str) -> None:
        self.last_line = line
        parsed = parse_line(line, now_ms=time.time_ns() // 1_000_000)
        if self.looks.format != "table":
            answer = self.link.ask(lambda: self._answer(line))
            self.last = _only(answer)
            self._print_answer(answer)
        elif isinstance(parsed, ProviderList):
            names = self.link.ask(self.link.client.providers)
            for name in names:
                self.console.print(printable(name))
        elif isinstance(parsed, ProviderRequest):
            results = self.link.ask(lambda: self._results(line))
            self._show(parsed, results)
        else:
            facts = self.link.ask(
                lambda: self.link.client.describe(
                    parsed.provider, parsed.ticker, timeout=self.looks.timeout
                )
            )
            self.console.print(rendering.facts_view(facts))

    def _results(self, line: str) -> list[Result]:
        with warnings.catch_warnings(record=True) as caught:
            # The head says so.
            warnings.simplefilter("ignore", NotReadyWarning)
            warnings.simplefilter("always", HttpUnusedWarning)
            results = self.link.client.query(
                line, strict=self.looks.strict, timeout=self.looks.timeout
            )
        for one in caught:
            if isinstance(one.message, HttpUnusedWarning):
                self._caution(remedied(one.message.fact))
        return results

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
        return self.link.client.send_line(
            line,
            timeout=self.looks.timeout,
            strict=self.looks.strict,
            **output.envelope(self._format),
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
                msgspec.json.encode(
                    self.link.ask(lambda: administration.ask(call, self.link.client))
                )
                + b"\n"
            )
        else:
            self.last_line = line
            content = output.render(self.link.ask(lambda: self._answer(line)), self._format)
        sys.stdout.flush()
        # The person's own shell, as they wrote it.
        done = subprocess.run(command, shell=True, input=content, check=False)
        if done.returncode:
            raise GaplessError(f"{printable(command)} ended with code {done.returncode}")

    # Commands

    def _call(self, call: Call) -> None:
        name = call.command.name
        if name in administration.NAMES:
            data = self.link.ask(lambda: administration.ask(call, self.link.client))
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
        self.link.anew()
        self.stale = True
        self.console.print(self.link.greeting())

    def _do_addr(self, call: Call) -> None:
        self.link.go(parse_endpoint(call.one(), ":addr"))
        self.stale = True
        self.console.print(self.link.greeting())

    def _do_http(self, call: Call) -> None:
        base = call.optional()
        if base is not None:
            self.link.web = parse_web_base(base, ":http")
            self.link.anew()
            self.stale = True
            self.link.check_web()
        elif self.link.client.http is None:
            self.link.client.ping()
        self.console.print(printable(f"HTTP at {self.link.client.http or 'no known address'}"))

    def _do_auth(self, call: Call) -> None:
        word = call.one()
        name = self.link.endpoint.name
        if word.lower() == "show":
            token = self.link.token
            self.console.print("no token" if token is None else hidden(token))
            return
        self.stale = True
        if word.lower() == "clear":
            self.link.keep(None)
            self.console.print(f"no token is shown to {name} any more")
        else:
            self.link.keep(Kept(word))
            self.console.print(f"{hidden(word)} is shown to {name} from now on")

    def _do_login(self, call: Call) -> None:
        email = call.optional()
        if not self.interactive:
            raise InvalidQuery(":login asks for a password; in a script give GAPLESS_TOKEN")
        # Nobody should type a password for nothing.
        self.link.check_web()
        email = email or input("email: ").strip()
        password = getpass("password: ")
        role = self.link.sign_in(email, password)
        self.stale = True
        self.console.print(f"signed in as {printable(email)}, role {role}")

    def _do_plot(self, call: Call) -> None:
        column = call.optional()
        last = self._last()
        frame = last.to_polars()
        height = max(8, min(24, self.console.height - 8))
        canvas = charts.Canvas(
            self.console.width,
            height,
            charts.BLOCKS if self._blocks else charts.PLAIN,
            last.ticker or last.id,
            rendering.notes_of(self._actions(last), frame),
        )
        self.console.print(rendering.chart_view(frame, column, canvas))

    def _actions(self, last: Result) -> Result | None:
        """Return the actions of the time of an answer, if they are held; nothing is fetched."""
        id = rendering.actions_id(last)
        if id is None:
            return None
        try:
            return self.link.ask(lambda: self.link.client.get(last.source, id))
        except GaplessError:
            # Not held, or not of a provider that tells any.
            return None

    def _do_export(self, call: Call) -> None:
        path = administration.path_of(call.one())
        replaced = ", which was there before" if path.exists() else ""
        count = export(self._last(), path)
        # A path that is broken over two lines is none.
        self.console.print(f"{count:,} records to {printable(str(path))}{replaced}", soft_wrap=True)

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
        query = call.text[call.words[0].end - call.words[0].start :].strip()
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
        return administration.known(self.link.client, tuple(sorted(self.keeping.queries())))

    # Printing

    def greet(self) -> None:
        """Say who the hub is, or that there is none yet."""
        try:
            self.console.print(self.link.greeting() + " :help shows what there is.")
        except GaplessError as error:
            self._say(error.message, style="yellow")

    @property
    def _blocks(self) -> bool:
        return takes_blocks(sys.stdout)

    def _say(self, text: str, style: str = "dim") -> None:
        self.console.print(text, style=style)

    def _caution(self, text: str) -> None:
        if self.interactive:
            self._say(printable(text), style="yellow")
        else:
            sys.stderr.write(f"gapless: warning: {printable(text)}\n")

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


def _only(answer: Mapping[str, Any]) -> Result | None:
    """Return the one result of an answer that was printed as it came, for what comes next."""
    result = answer.get("result")
    if not isinstance(result, list) or len(result) != 1 or not isinstance(result[0], dict):
        return None
    stitch = msgspec.json.encode(answer.get("stitch"))
    return Result(Found(entities_in(msgspec.json.encode(result))[0], stitch))


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds <= _LONGEST_S else None
