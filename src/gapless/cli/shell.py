"""`gapless shell`: a hub asked line by line, by a person or by a script."""

from __future__ import annotations

import os
import sys

from cyclopts import App

from gapless.cli.exits import UsageError
from gapless.cli.hub_address import hub_endpoint
from gapless.client.addresses import parse_web_base
from gapless.errors import ConfigError


def register(app: App) -> None:
    """Add `shell` and its older spelling `--client` to the command line."""
    app.command(shell, name=["shell", "--client"])


def shell(tcp: str | None = None, http: str | None = None, token: str | None = None) -> None:
    """Ask a running hub line by line: queries, and commands that begin with a colon.

    On a terminal with completion, history and colours; ":help" shows what there is. Otherwise
    lines are read from stdin and answers printed as JSON (see ":format"), one line each; the
    first line that cannot be done ends it, with the exit code of its error:
    "echo 'providers' | gapless shell".

    Parameters
    ----------
    tcp
        HOST:PORT of the hub, tls://HOST:PORT where it speaks TLS. Default: what `GAPLESS_URL`
        names, else 127.0.0.1:7000.
    http
        Where the hub speaks HTTP, if not where it says: http://HOST:PORT.
    token
        Access token. Better put it into `GAPLESS_TOKEN`, or use ":auth" and ":login" once: what
        they are given is kept, for this user alone.
    """
    endpoint = hub_endpoint(tcp, token, os.environ)
    try:
        web = None if http is None else parse_web_base(http, "--http")
    except ConfigError as error:
        raise UsageError(error.message) from None

    from gapless.shell.keeping import Keeping
    from gapless.shell.link import Link
    from gapless.shell.loop import lines_of, script, talk
    from gapless.shell.rendering import console
    from gapless.shell.session import Session

    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    screen, keeping = console(), Keeping.usual()
    link = Link(
        endpoint, keeping, web, interactive, lambda text: screen.print(text, style="yellow")
    )
    session = Session(link, keeping, screen, interactive)
    try:
        if interactive:
            talk(session)
        else:
            session.looks.format = "json"
            script(session, lines_of(sys.stdin))
    finally:
        session.close()
