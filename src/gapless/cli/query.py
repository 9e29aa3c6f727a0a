"""`gapless query`: one line of the query language to a running hub, its answer to stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from gapless.cli.exits import UsageError
from gapless.cli.hub_address import DEFAULT_HUB, HubFlags
from gapless.errors import GaplessError
from gapless.protocol.fresh import Fresh
from gapless.shell import output as outputs
from gapless.texts import printable


def register(app: App) -> None:
    """Add `query` to the command line."""
    app.command(query)


def query(
    line: str,
    /,
    *more: str,
    flags: HubFlags = DEFAULT_HUB,
    output: Annotated[outputs.Format | None, Parameter(name=["--output", "-o"])] = None,
    output_file: Annotated[Path | None, Parameter(name=["--output-file", "-O"])] = None,
    strict: Annotated[bool, Parameter(negative=())] = False,
    fresh: Fresh | None = None,
) -> None:
    """Ask a running hub and print its answer.

    The line is in the query language, such as "providers" or
    "provider sample search ticker=AAPL date=2010-01-01..2011-01-01". An answer that is partial
    or stale is printed all the same, with a warning on stderr, and the exit code is 0: see
    --strict.

    Parameters
    ----------
    line
        The query, best in quotes.
    more
        Further words of it, where it is not in quotes.
    output
        Default: what the ending of the output file says; without a file `table` on a
        terminal, `json` elsewhere.
    output_file
        Write there instead of to stdout; the file is replaced when the answer is complete.
    strict
        All or nothing: an answer that would be partial is an error, and nothing is written.
    fresh
        How fresh a range is wanted: `held` fetches nothing for its age alone, `check` what is due,
        `now` everything anew. Default: what `fresh=` in the line says, else `check`.
    """
    format = choose_format(output, output_file, terminal=sys.stdout.isatty())
    answer = flags.ask(
        {"type": "Line", "payload": {"line": " ".join([line, *more])}},
        strict=strict,
        **outputs.envelope(format),
        **({} if fresh is None else {"fresh": fresh}),
    )
    if format == "table":
        for text in outputs.summaries(answer):
            print(text, file=sys.stderr)
    write(answer, format, output_file)
    if output_file is not None:
        count = outputs.size_of(answer)
        print(f"{count} to {printable(str(output_file))}", file=sys.stderr)
    for text in outputs.warnings(answer):
        print(f"gapless: warning: {text}", file=sys.stderr)


def choose_format(
    output: outputs.Format | None, output_file: Path | None, *, terminal: bool
) -> outputs.Format:
    """Return the format to print in.

    Raises `UsageError` where a file's ending names none, and for bytes that would fill a terminal.
    """
    if output is None and output_file is not None:
        output = outputs.format_of_suffix(output_file.suffix)
        if output is None:
            raise UsageError(
                f"{printable(str(output_file))}: which format is that? The endings are "
                f"{', '.join(outputs.SUFFIXES)}; for another name give -o FORMAT too"
            )
    if output is None:
        return "table" if terminal else "json"
    if output in outputs.BINARY and terminal and output_file is None:
        raise UsageError(
            f"{output} is not for a terminal: write it to a file with -O FILE, or pipe it on"
        )
    return output


def write(answer: Mapping[str, Any], format: outputs.Format, output_file: Path | None) -> None:
    """Write the answer to the file, or to stdout; JSON is laid out where a person reads it."""
    if output_file is not None:
        _replace(output_file, answer, format)
    elif format == "table":
        outputs.print_table(answer, sys.stdout)
    elif sys.stdout.isatty() and format == "json":
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(outputs.render(answer, format))
        sys.stdout.buffer.flush()


def _replace(path: Path, answer: Mapping[str, Any], format: outputs.Format) -> None:
    """Write a file beside `path` and put it in its place, so that no half a file is left.

    What is no ordinary file, such as a pipe, is written to as it is.
    """
    path = path.resolve()
    ordinary = path.is_file() or not path.exists()
    target = path.with_name(f".{path.name}.{os.getpid()}.part") if ordinary else path
    try:
        try:
            if format == "table":
                with target.open("w", encoding="utf-8") as stream:
                    outputs.print_table(answer, stream, whole=True)
            else:
                target.write_bytes(outputs.render(answer, format))
            if ordinary:
                target.replace(path)
        finally:
            if ordinary:
                target.unlink(missing_ok=True)
    except OSError as error:
        raise GaplessError(f"{path} cannot be written: {error.strerror}") from error
