"""The certificate of both doors, which can be replaced while they are open."""

from __future__ import annotations

import ssl
from pathlib import Path

from gapless.errors import ConfigError


class Certificate:
    """A certificate and its key, from PEM files; `context` is for any number of servers."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Read the files; raise `ConfigError` that names what is wrong with them."""
        self._cert = cert
        self._key = key
        self.context = self._read()

    def reload(self) -> None:
        """Read the files again; connections made from now on get what is in them.

        Raises `ConfigError`, and then stays with what it had.
        """
        # In a context of its own first: one that fails half-way has the certificate without
        # the key.
        self._read()
        try:
            self.context.load_cert_chain(self._cert, self._key, password=_no_pass_phrase)
        except (OSError, ValueError) as error:
            # They were changed between the two looks.
            raise ConfigError(f"{self._cert} and {self._key}: {_why(error)}") from error

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for path in (self._cert, self._key):
            try:
                if not path.is_file():
                    # A pipe, say, would be waited for.
                    raise ConfigError(f"{path} cannot be read: it is no file, or is not there")
                path.open("rb").close()
            except OSError as error:
                raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        try:
            # A key that is locked by a pass phrase would ask for it on the terminal.
            context.load_cert_chain(self._cert, self._key, password=_no_pass_phrase)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self._cert} and {self._key} cannot be used for TLS: {_why(error)}"
            ) from error
        return context


def _why(error: Exception) -> str:
    if not isinstance(error, ssl.SSLError):
        return str(error)
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the certificate"
    return f"one of the two is no PEM file, or is damaged ({error.reason or error})"


def _no_pass_phrase() -> str:
    raise ValueError("the key has a pass phrase; give one without")
