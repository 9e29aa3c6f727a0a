"""`gapless users`, `gapless tokens`, `gapless audit`: who may what, for the operator.

A running hub is asked over its socket, and what is changed counts there from the next request on;
without one the database is opened here, so that an operator who is locked out can get in again.
"""

from __future__ import annotations

import getpass
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from gapless.cli.database import (
    DEFAULT_DATABASE,
    DatabaseFlags,
    of_database,
    running,
    write,
)
from gapless.cli.exits import UsageError
from gapless.clock import SystemClock
from gapless.errors import GaplessError
from gapless.observability import configure_logging
from gapless.shell.wording import console_on, count_text
from gapless.store.database import OpenStore
from gapless.texts import printable

Output = Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"])]
FromStdin = Annotated[bool, Parameter(negative=())]
Role = Literal["read", "fetch", "admin"]
_MAKES: Final = "users.add"
_PIPED_WIDTH: Final = 1_000
_SHA256: Final = re.compile("[0-9a-f]{64}")
_SHA_DIGITS: Final = 12
_NUMBER: Final = re.compile("[0-9]{1,18}")


def register(app: App) -> None:
    """Add `users`, `tokens` and `audit` to the command line."""
    users = App(name="users", help="Who may use the hub, and what for.")
    users.command(add)
    users.command(list_users, name="list")
    users.command(remove)
    users.command(passwd)
    users.command(role)
    tokens = App(name="tokens", help="Tokens that programs show instead of a password.")
    tokens.command(create)
    tokens.command(list_tokens, name="list")
    tokens.command(revoke)
    app.command(users)
    app.command(tokens)
    app.command(audit)


def add(
    email: str,
    /,
    *,
    role: Role = "fetch",
    password_stdin: FromStdin = False,
    flags: DatabaseFlags = DEFAULT_DATABASE,
) -> None:
    """Add a user, and be asked for the password.

    Parameters
    ----------
    email
        The address that the user signs in with.
    role
        `read`: what is held; `fetch`: what is not, too; `admin`: everything, code included.
    password_stdin
        Read the password from stdin, one line, instead of asking for it at the terminal.
    """
    # Before anybody is asked for a password twice, for nothing.
    path = flags.path()
    if path.exists() or running(path) is not None:
        _do(flags, "users.check", email=email, role=role)
    else:
        from gapless.auth.users import check_first, checked_email

        checked_email(email)
        check_first(role)
        flags.prepare_folder()
    password = _new_password(password_stdin, email)
    user = _do(flags, _MAKES, email=email, password=password, role=role)
    print(printable(f"added {user['email']}, role {user['role']}"))


def list_users(*, output: Output = "table", flags: DatabaseFlags = DEFAULT_DATABASE) -> None:
    """List the users.

    Parameters
    ----------
    output
        `table` for people, `json` for programs.
    """
    found = _do(flags, "users.list")["users"]
    if output == "json":
        _print_json(found)
    elif not found:
        print(f"no users yet; add one with: {_how_to_add(flags)}", file=sys.stderr)
    else:
        rows = [
            (
                one["email"],
                one["role"],
                _minute(one["created_at"]),
                _minute(one["signed_in_at"]),
                str(one["tokens"]),
            )
            for one in found
        ]
        _print_table(("email", "role", "added", "signed in", "tokens"), rows)


def remove(email: str, /, *, flags: DatabaseFlags = DEFAULT_DATABASE) -> None:
    """Remove a user; all tokens of theirs end at once.

    Parameters
    ----------
    email
        The user's address.
    """
    gone = _do(flags, "users.remove", email=email)
    print(printable(f"removed {gone['email']}"))


def passwd(
    email: str,
    /,
    *,
    password_stdin: FromStdin = False,
    flags: DatabaseFlags = DEFAULT_DATABASE,
) -> None:
    """Give a user another password; all tokens of theirs end at once.

    Parameters
    ----------
    email
        The user's address.
    password_stdin
        Read the password from stdin, one line, instead of asking for it at the terminal.
    """
    _do(flags, "users.find", email=email)
    password = _new_password(password_stdin, email)
    user = _do(flags, "users.passwd", email=email, password=password)
    print(printable(f"{user['email']} has a new password; all tokens of theirs have ended"))


def role(email: str, role: Role, /, *, flags: DatabaseFlags = DEFAULT_DATABASE) -> None:
    """Give a user another role, which counts from their next request on.

    Parameters
    ----------
    email
        The user's address.
    role
        `read`: what is held; `fetch`: what is not, too; `admin`: everything, code included.
    """
    user = _do(flags, "users.role", email=email, role=role)
    already = " already" if user["before"] == user["role"] else ""
    print(printable(f"{user['email']} has the role {user['role']}{already}"))


def create(
    name: str,
    /,
    *,
    user: str | None = None,
    scope: Annotated[tuple[Role, ...] | None, Parameter(negative=())] = None,
    days: float = 90,
    flags: DatabaseFlags = DEFAULT_DATABASE,
) -> None:
    """Make a token for a program, and print it: it is shown this once.

    It alone goes to stdout, so that it can be kept: "GAPLESS_TOKEN=$(gapless tokens create nb)".

    Parameters
    ----------
    name
        What it is for.
    user
        Whose it is, by email address. Default: the only user.
    scope
        What it may: `read`, `fetch`, `admin`; may be given several times. Default: all that the
        user may but `admin`.
    days
        How long it is good.
    """
    from gapless.auth.api_tokens import MOST_DAYS

    # Here too: JSON, by which a hub is told, has no word for what is no number.
    if not 0 < days <= MOST_DAYS:
        raise UsageError(f"--days needs more than 0 and up to {MOST_DAYS:,} days, not {days:g}")
    if user is None:
        user = _only_user(flags)
    made = _do(flags, "tokens.create", email=user, name=name, scopes=scope, days=days)
    about = (
        f"token {made['number']} of {made['user']}: {', '.join(made['scopes'])}, "
        f"good until {_minute(made['expires_at'])} UTC"
    )
    print(printable(about), file=sys.stderr)
    print(made["token"])


def list_tokens(
    *,
    user: str | None = None,
    output: Output = "table",
    flags: DatabaseFlags = DEFAULT_DATABASE,
) -> None:
    """List tokens that count: those of programs (api), and those of sign-ins.

    Parameters
    ----------
    user
        Only those of this user.
    output
        `table` for people, `json` for programs.
    """
    found = _do(flags, "tokens.list", email=user)["tokens"]
    if output == "json":
        _print_json(found)
    elif not found:
        print("no tokens; make one with: gapless tokens create NAME", file=sys.stderr)
    else:
        rows = [
            (
                str(one["number"]),
                one["user"],
                one["kind"],
                one["name"],
                " ".join(one["scopes"]),
                _minute(one["expires_at"]),
                _minute(one["used_at"]),
            )
            for one in found
        ]
        _print_table(("token", "user", "kind", "name", "may", "good until", "last used"), rows)


def revoke(number: str, /, *, flags: DatabaseFlags = DEFAULT_DATABASE) -> None:
    """End a token; one of a sign-in ends with all that belongs to it.

    Parameters
    ----------
    number
        Its number, from "gapless tokens list".
    """
    if not _NUMBER.fullmatch(number):
        raise UsageError(f"{printable(number)!r} is no number of a token; see: gapless tokens list")
    gone = _do(flags, "tokens.revoke", number=int(number))
    print(printable(f"revoked token {gone['number']} of {gone['user']} ({gone['name']})"))


def audit(
    *,
    limit: int = 30,
    output: Output = "table",
    flags: DatabaseFlags = DEFAULT_DATABASE,
) -> None:
    """Tell who loaded which code, let whom in or out, made or revoked what; the latest last.

    Parameters
    ----------
    limit
        How many lines at the most.
    output
        `table` for people, `json` for programs.
    """
    if not 1 <= limit <= 100_000:
        raise UsageError("--limit needs a number from 1 to 100,000")
    found = _do(flags, "audit", limit=limit)["deeds"][::-1]
    if output == "json":
        _print_json(found)
    elif not found:
        print("nothing has been done yet", file=sys.stderr)
    else:
        rows = [
            (
                _second(one["at"]),
                one["actor"],
                one["action"],
                one["target"],
                " ".join(f"{name}={_short(value)}" for name, value in one["details"].items()),
            )
            for one in found
        ]
        _print_table(("at (UTC)", "who", "did", "to", "more"), rows)


def _do(flags: DatabaseFlags, type: str, **told: Any) -> dict[str, Any]:
    """Have the running hub do it, or do it on the database."""
    path = flags.path()
    hub = running(path)
    if hub is not None:
        return hub.accounts(type=type, **told)
    from gapless.auth.authority import Authority
    from gapless.auth.operator import operator_name, order_of, perform

    order = order_of({"type": type, **told})
    # What is done is printed below; stdout is for that alone.
    configure_logging("warning", "text")

    async def work(store: OpenStore) -> dict[str, Any]:
        authority = Authority(store.accounts, SystemClock(), enabled=True)
        await authority.load()
        try:
            return await perform(authority, order, operator_name(os.getuid()))
        finally:
            await authority.close()

    block_records = flags.load().cache.block_records
    # A hub may be given its first user before it is started for the first time.
    return write(
        path, f"gapless {type.replace('.', ' ')}", block_records, work, make=type == _MAKES
    )


def _only_user(flags: DatabaseFlags) -> str:
    found = _do(flags, "users.list")["users"]
    if not found:
        raise GaplessError(f"there are no users yet; add a user first: {_how_to_add(flags)}")
    if len(found) != 1:
        raise UsageError(f"whose token is it? There are {count_text(len(found), 'user')}: --user")
    email: str = found[0]["email"]
    return email


def _how_to_add(flags: DatabaseFlags) -> str:
    return f"gapless users add EMAIL --role admin{of_database(flags.load().db)}"


def _new_password(stdin: bool, email: str) -> str:
    """Return a password that was typed twice, or piped in; never an argument, which all can see.

    Raises `InvalidQuery` for what is no password of the user with that address.
    """
    from gapless.auth.passwords import SHORTEST, check_password
    from gapless.auth.users import plain

    if stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise UsageError("there is no password on stdin: its first line is empty")
        check_password(password, plain(email))
        return password
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the password at: use --password-stdin")
    password = getpass.getpass(f"Password ({SHORTEST} characters or more): ")
    check_password(password, plain(email))
    if getpass.getpass("Password again: ") != password:
        raise UsageError("the two passwords are not the same")
    return password


def _minute(instant: str | None) -> str:
    return "never" if instant is None else f"{instant[:10]} {instant[11:16]}"


def _second(instant: str) -> str:
    return f"{instant[:10]} {instant[11:19]}"


def _short(value: str) -> str:
    """Return the beginning of a SHA-256, which tells one file from another; JSON has it whole."""
    return value[:_SHA_DIGITS] if _SHA256.fullmatch(value) else value


def _print_json(found: Sequence[Mapping[str, Any]]) -> None:
    print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = console_on(sys.stdout)
    if not sys.stdout.isatty():
        # What reads a pipe has no width: a line stays a line.
        console.width = _PIPED_WIDTH
    console.print(table)
