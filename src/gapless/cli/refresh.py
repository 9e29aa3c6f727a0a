"""`gapless refresh`: have a running hub fetch a range anew; its answer comes without records."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter
from msgspec import Struct

from gapless.cli.hub_address import DEFAULT_HUB, HubFlags
from gapless.cli.series_words import Words, series_words
from gapless.client.failures import UnexpectedAnswer
from gapless.client.requests import range_search
from gapless.clock import SystemClock
from gapless.shell import output as outputs
from gapless.shell.wording import count_text
from gapless.texts import printable


class _Range(Struct):
    id: str
    data: list[Any] | None


class _Stitch(Struct):
    state: str
    upstream_requests: int


class _Answer(Struct):
    """A hub's answer; `records` is how many it has left out."""

    result: tuple[_Range]
    stitch: _Stitch
    records: int | None = None

    @property
    def count(self) -> int:
        """How many records the range has; an older hub sends them all the same."""
        return len(self.result[0].data or ()) if self.records is None else self.records

    def __str__(self) -> str:
        state = self.stitch.state
        done = "refreshed" if state == "ready" else "asked again for"
        requests = count_text(self.stitch.upstream_requests, "upstream request")
        records = count_text(self.count, "record")
        return f"{done} {self.result[0].id}: {state}, {records}, {requests}"


def register(app: App) -> None:
    """Add `refresh` to the command line."""
    usage = "Usage: gapless refresh PROVIDER TICKER [RANGE] [NAME=VALUE...] [OPTIONS]"
    app.command(refresh, usage=usage)


def refresh(
    provider: str,
    ticker: str,
    /,
    *words: Words,
    flags: HubFlags = DEFAULT_HUB,
    strict: Annotated[bool, Parameter(negative=())] = False,
    output: Annotated[Literal["text", "json"], Parameter(name=["--output", "-o"])] = "text",
) -> None:
    """Have a running hub fetch a range anew, whether it holds it or not.

    For when upstream is known to have changed what is held. If a part could not be fetched, that
    is told with a warning on stderr, and the exit code is 0: see --strict.

    Parameters
    ----------
    provider
        The provider, such as "sample".
    ticker
        The ticker.
    words
        A range, such as 2024-01-01..2024-02-01 (days of the ticker's exchange) or 30d; without
        one the last 30 days are fetched. Parameters of the provider, such as interval=1h.
    strict
        All or nothing: it is an error if a part could not be fetched.
    output
        `text` for people, `json` for programs: the id of the range, and how it went.
    """
    asked = series_words(words, SystemClock().now_ms())
    start, end = asked.bounds or (None, None)
    answer = flags.ask(
        range_search(provider, ticker, start, end, asked.params),
        data_as="array",
        inline_records=0,
        strict=strict,
        fresh="now",
    )
    try:
        told = msgspec.convert(answer, _Answer)
    except msgspec.ValidationError as error:
        raise UnexpectedAnswer(f"the hub did not say what it fetched: {error}") from error
    for text in outputs.warnings(answer):
        print(f"gapless: warning: {text}", file=sys.stderr)
    if output == "json":
        about = {"id": told.result[0].id, "records": told.count, "stitch": answer["stitch"]}
        print(msgspec.json.encode(about).decode())
    else:
        print(printable(str(told)))
