"""What the shell keeps between runs, for its user alone: history, tokens by hub, queries."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from platformdirs import user_state_path
from prompt_toolkit.history import FileHistory

from gapless.errors import GaplessError
from gapless.texts import masked

T = TypeVar("T")

_MODE: Final = 0o600
_HARMLESS: Final = ("show", "clear")


class Kept(msgspec.Struct, frozen=True):
    """What stays of one hub: its tokens. `refresh` brings another one when `token` has ended."""

    token: str
    refresh: str | None = None


class Keeping:
    """The files in a folder, made when something is first kept; what is unreadable is not there."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is opened yet."""
        self.folder = folder

    @classmethod
    def usual(cls) -> Keeping:
        """Return that of this user."""
        return cls(user_state_path("gapless") / "shell")

    @property
    def history(self) -> Path:
        """The file with the lines that were typed."""
        return self.folder / "history"

    def token(self, address: str) -> Kept | None:
        """Return what is kept of the hub at an address."""
        return self._tokens().get(address)

    def keep_token(self, address: str, kept: Kept | None) -> None:
        """Keep tokens of the hub at an address; `None`: forget them."""
        tokens = {key: one for key, one in self._tokens().items() if key != address}
        if kept is not None:
            tokens[address] = kept
        self._write("tokens.json", msgspec.json.encode(tokens))

    def queries(self) -> Mapping[str, str]:
        """Return the queries that were kept, by their names."""
        return self._read("queries.json", dict[str, str]) or {}

    def keep_query(self, name: str, line: str) -> None:
        """Keep a query under a name."""
        self._write("queries.json", msgspec.json.encode({**self.queries(), name: line}))

    def open_history(self) -> FileHistory:
        """Return the history as the prompt uses it, its file made for this user alone."""
        self._make()
        self.history.touch(_MODE)
        self.history.chmod(_MODE)
        return _History(str(self.history))

    def _tokens(self) -> dict[str, Kept]:
        return self._read("tokens.json", dict[str, Kept]) or {}

    def _read(self, name: str, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode((self.folder / name).read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _write(self, name: str, content: bytes) -> None:
        """Replace a file, so that no half of one is left; never readable for others."""
        path = self.folder / name
        part = path.with_name(f".{name}.{os.getpid()}.part")
        try:
            self._make()
            # One that was left over may be open to others.
            part.unlink(missing_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(content)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise GaplessError(f"{path} cannot be written: {error.strerror}") from error

    def _make(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)


class _History(FileHistory):
    """Lines that were typed, without those that have a token in them."""

    def store_string(self, string: str) -> None:
        """Write what was typed to the file, unless it is secret."""
        if not is_secret(string):
            super().store_string(string)


def is_secret(text: str) -> bool:
    """Whether a line, or one of several that were pasted, must not be kept or shown."""
    return any(map(_has_token, text.splitlines()))


def _has_token(line: str) -> bool:
    if masked(line) != line:
        return True
    words = line.lower().split()
    if len(words) < 2 or not words[0].startswith(":"):
        return False
    name = words[0][1:]
    if name and "addr".startswith(name) and "@" in line:
        return True
    if name and "login".startswith(name) and len(words) > 2:
        # A password, which it does not take.
        return True
    # A slip in the command's name makes the token no less of a secret.
    meant = bool(name) and ("auth".startswith(name) or name.startswith("auth"))
    return meant and not (len(words) == 2 and words[1] in _HARMLESS)
