"""The certificate of both doors, which can be replaced while they are open."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from gapless.errors import ConfigError

# What OpenSSL does not take at its security level, in its words and in ours.
_WEAK: Final[Mapping[str, str]] = MappingProxyType(
    {
        "EE_KEY_TOO_SMALL": "its key is too small",
        "CA_KEY_TOO_SMALL": "the key of one of its issuers is too small",
        "CA_MD_TOO_WEAK": "it is signed with too weak a hash",
    }
)


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
            raise self._wrong(error) from error

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
            # By itself first, for of the two together it is not told which one is wrong.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(self._cert)
        except OSError as error:
            raise _unusable(
                self._cert, "it has no certificate in PEM form, or is damaged"
            ) from error
        try:
            # A key that is locked by a pass phrase would ask for it on the terminal.
            context.load_cert_chain(self._cert, self._key, password=_no_pass_phrase)
        except (OSError, ValueError) as error:
            raise self._wrong(error) from error
        return context

    def _wrong(self, error: Exception) -> ConfigError:
        """Return what is wrong with the two, the certificate being one."""
        if isinstance(error, _Locked):
            return _unusable(self._key, "the key has a pass phrase; give one without")
        reason = getattr(error, "reason", None) or ""
        if reason == "KEY_VALUES_MISMATCH":
            return ConfigError(
                f"{self._cert} and {self._key} cannot be used for TLS: the key is not that of the "
                "certificate"
            )
        if reason in _WEAK:
            return _unusable(self._cert, _WEAK[reason])
        return _unusable(self._key, "it has no private key in PEM form, or is damaged")


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} cannot be used for TLS: {why}")


class _Locked(ValueError):
    """The key has a pass phrase."""


def _no_pass_phrase() -> str:
    raise _Locked
