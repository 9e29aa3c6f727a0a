"""The flags that become settings, and `gapless config show`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from gapless.config import Origins, Settings, load_settings, options, shown_values


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class SettingFlags:
    """The settings that have a flag; each wins over the environment and the settings file.

    Parameters
    ----------
    db
        Database: a file, or a URL. Without it, one in your data directory.
    tcp
        HOST:PORT for line-JSON over TCP; port 0 picks a free one. Default 127.0.0.1:7000.
    http
        HOST:PORT for HTTP, or `off`. Default 127.0.0.1:7070.
    auth
        Ask every request for a token. While there are no users, the hub prints the address at
        which the first one is made; without a browser: "gapless users add EMAIL --role admin".
    tls_cert
        Certificate chain (PEM): both ports speak TLS. Read again on SIGHUP.
    tls_key
        The certificate's private key (PEM).
    base
        Directory that plugins are loaded from. Default: the working directory.
    config
        Settings file (TOML). Default: what `GAPLESS_CONFIG` names.
    """

    db: str | None = None
    tcp: str | None = None
    http: str | None = None
    auth: Annotated[bool | None, Parameter(negative=())] = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    base: Path | None = None
    config: Path | None = None

    def load(self) -> tuple[Settings, Origins]:
        """Return the settings and their origins; raise `ConfigError`."""
        flags = {
            "db": self.db,
            "tcp": self.tcp,
            "http": self.http,
            "auth": self.auth,
            "tls_cert": self.tls_cert,
            "tls_key": self.tls_key,
            "base": self.base,
        }
        return load_settings(flags, os.environ, self.config)


NO_FLAGS = SettingFlags()


def register(app: App) -> None:
    """Add `config show` to the command line."""
    config = App(name="config", help="Look at the settings.")
    config.command(show)
    app.command(config)


def show(
    flags: SettingFlags = NO_FLAGS,
    *,
    output: Annotated[Literal["toml", "json"], Parameter(name=["--output", "-o"])] = "toml",
) -> None:
    """Print every setting, where its value came from, and what it is for.

    Given the flags of "gapless serve", it shows what that would use. Passwords are masked.

    Parameters
    ----------
    output
        `toml` can be kept as a settings file; `json` is for programs.
    """
    settings, origins = flags.load()
    if output == "json":
        listed = list(_records(settings, origins))
        print(msgspec.json.format(msgspec.json.encode(listed), indent=2).decode())
    else:
        print("\n".join(_toml_lines(settings, origins)), file=sys.stdout)


def _records(settings: Settings, origins: Origins) -> Iterator[dict[str, object]]:
    values = shown_values(settings)
    for option in options():
        yield {
            "key": option.key,
            "value": values[option.key],
            "from": str(origins[option.key]),
            "variable": option.variable,
            "unit": option.unit,
            "doc": option.doc,
        }


def _toml_lines(settings: Settings, origins: Origins) -> Iterator[str]:
    """Yield the settings as TOML, which cannot say that there is no value.

    A path that is not set is empty, as a text is; where none means something it is the word.
    """
    values = shown_values(settings)
    section = ""
    for option in options():
        head, _, name = option.key.rpartition(".")
        if head != section:
            section = head
            yield f"\n[{section}]"
        value = values[option.key]
        # JSON's strings, numbers and truth values are TOML's too.
        unset = "" if option.type == Path | None else "none"
        text = msgspec.json.encode(unset if value is None else value).decode()
        doc = f"{option.doc} ({option.unit})" if option.unit else option.doc
        yield f"{f'{name} = {text}':<42} # {origins[option.key]}: {doc}"
