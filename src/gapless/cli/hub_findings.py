"""What `gapless doctor` finds of hubs: the one on the database, and the one that is asked.

The two may be one, and need not: `GAPLESS_URL` may name a hub on another machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gapless import __version__
from gapless.cli.database import read
from gapless.cli.findings import Finding
from gapless.cli.hub_address import VARIABLE, hub_endpoint
from gapless.client.addresses import Endpoint
from gapless.client.connection import connect, telling_of_tls
from gapless.client.control import Control
from gapless.config import Settings, parse_address
from gapless.errors import GaplessError, Unauthorized
from gapless.store.database import database_at

_TOKEN: Final = "GAPLESS_TOKEN"
_PATIENCE_S: Final = 5.0
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Pong:
    """What a hub tells of itself to whoever asks."""

    version: str
    auth: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a hub is looked for; `named`: by `GAPLESS_URL`, and not only by the settings."""

    endpoint: Endpoint
    loopback: bool
    named: bool = False

    def __str__(self) -> str:
        """Return it as it is given to commands."""
        return f"{'tls://' if self.endpoint.tls else ''}{self.endpoint.name}"


def certificate(settings: Settings) -> Iterator[Finding]:
    """Yield whether a hub could speak TLS with the files of the settings, where they name any."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    from gapless.servers.tls import Certificate

    try:
        Certificate(settings.tls_cert, settings.tls_key)
    except GaplessError as error:
        yield Finding(
            "problem", "TLS", error.message, "a hub does not start with these: tls_cert, tls_key"
        )
    else:
        yield Finding("ok", "TLS", f"{settings.tls_cert} and {settings.tls_key} can be used")


def hub(path: Path, settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield whether a hub has the database, whether one answers, and what that one asks for."""
    from gapless.servers.control import socket_path

    holder = database_at(path).owner()
    control = None
    if holder is not None:
        control = Control(socket_path(path), _PATIENCE_S)
        try:
            control.stats()
        except GaplessError as error:
            yield Finding(
                "problem",
                "hub",
                f"{holder} has the database open, but {error.message}",
                "it is starting, stopping or stuck: try again, or end it",
            )
            return
    try:
        place = place_of(settings, environ)
    except GaplessError as error:
        yield Finding("problem", "hub", error.message, f"correct {VARIABLE}, or unset it")
        return
    try:
        pong = ping(place)
    except GaplessError as error:
        yield _nobody(place, holder, error)
        yield from _users(path, control, needed=settings.auth)
        return
    yield _found(place, holder)
    if pong.version != __version__:
        yield Finding(
            "note",
            "hub",
            f"it is gapless {pong.version}, and this is {__version__}",
            "start it again to run what is installed",
        )
    token = environ.get(_TOKEN) or None
    yield from _token(place, pong, token)
    # What it takes is dear to import, and no other command needs it.
    from gapless.cli.provider_findings import provider_findings

    yield from provider_findings(place.endpoint.url, token, _PATIENCE_S)
    # What answers far away has users of its own.
    near = holder is not None and place.loopback
    yield from _users(path, control, needed=settings.auth or (near and pong.auth))


def place_of(settings: Settings, environ: Mapping[str, str]) -> Place:
    """Return where the hub is that programs here ask; raise `ConfigError`."""
    if environ.get(VARIABLE):
        found = hub_endpoint(None, None, environ)
        return Place(found, parse_address(found.name).is_loopback, named=True)
    address = parse_address(settings.tcp)
    # A hub that listens everywhere is asked here.
    host = _EVERYWHERE.get(address.host, address.host)
    endpoint = Endpoint(host, address.port, settings.tls_cert is not None)
    return Place(endpoint, parse_address(endpoint.name).is_loopback)


def ping(place: Place) -> Pong:
    """Return what the hub there tells of itself; raise a `GaplessError`."""
    result = _asked(place, {"type": "Ping"})
    return Pong(str(result.get("version", "unknown")), result.get("auth") is True)


def _asked(place: Place, query: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    where = place.endpoint
    with telling_of_tls(where), connect(where, _PATIENCE_S) as connection:
        result = connection.request(query, token=token).get("result")
    return result if isinstance(result, dict) else {}


def _nobody(place: Place, holder: str | None, error: GaplessError) -> Finding:
    """Return what is said where no hub could be asked."""
    if place.named:
        return Finding(
            "problem",
            "hub",
            f"{VARIABLE} names {place}, but {error.message}",
            f"start a hub there, or give {VARIABLE} the address that it printed when it started",
        )
    if holder is None:
        return Finding(
            "note", "hub", "none is running on this database", "start one with: gapless serve"
        )
    return Finding(
        "note",
        "hub",
        f"{holder} runs on the database, but not at {place}: {error.message}",
        f"give your programs the address that it printed when it started ({VARIABLE})",
    )


def _found(place: Place, holder: str | None) -> Finding:
    if place.named:
        here = "none is" if holder is None else f"{holder} is"
        return Finding("ok", "hub", f"one answers at {place} ({VARIABLE}); {here} on this database")
    if holder is not None:
        return Finding("ok", "hub", f"{holder} answers at {place}")
    return Finding(
        "note",
        "hub",
        f"none is running on this database, but one on another answers at {place}",
        "to run both, give one another port with --tcp",
    )


def _token(place: Place, pong: Pong, token: str | None) -> Iterator[Finding]:
    """Yield whether the hub asks for a token, and whether the one that is set counts there."""
    if not pong.auth:
        ignored = f", and {_TOKEN} is not looked at" if token else ""
        yield Finding("ok", "token", f"authentication is off: none is needed at {place}{ignored}")
        return
    if token is None:
        yield Finding(
            "note",
            "token",
            f"authentication is on at {place}, and {_TOKEN} is not set",
            f"make one with: gapless tokens create NAME; and set {_TOKEN} to it",
        )
        return
    try:
        told = _asked(place, {"type": "Auth"}, token)
    except Unauthorized:
        yield Finding(
            "problem",
            "token",
            f"authentication is on at {place}, and {_TOKEN} is not valid there, or not any more",
            "make another one with: gapless tokens create NAME",
        )
    except GaplessError as error:
        yield Finding(
            "note",
            "token",
            f"whether {_TOKEN} is valid cannot be told: {error.message}",
            "try again",
        )
    else:
        yield Finding(
            "ok",
            "token",
            f"authentication is on at {place}; {_TOKEN} is valid until {told.get('expires_at')}, "
            f"of {told.get('user')}, role {told.get('role')}",
        )


def _users(path: Path, control: Control | None, *, needed: bool) -> Iterator[Finding]:
    """Yield how many users there are, where requests need one of them."""
    if not needed:
        return
    count = 0
    try:
        if control is not None:
            count = len(control.accounts(type="users.list")["users"])
        elif path.exists():
            count = len(read(path, lambda store: store.accounts.roster()).users)
    except GaplessError as error:
        yield Finding("note", "users", f"how many there are cannot be told: {error.message}")
        return
    if count:
        yield Finding("ok", "users", f"authentication is on; users: {count:,}")
        return
    yield Finding(
        "note",
        "users",
        "authentication is on and there are no users, so that nobody can ask anything",
        f"add one with: gapless users add EMAIL --role admin --db {path}",
    )
