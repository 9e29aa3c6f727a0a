"""Tokens: opaque, 256 bits of chance behind a prefix that tells what they are.

The prefixes let people and scanners recognise a token that lies where it should not. Of a token
only its SHA-256 is kept: with so much chance in it there is nothing to guess that would take a
slow hash.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final

_BYTES: Final = 32
_FAMILY_BYTES: Final = 16
# Longer than any of ours; what is longer is not even hashed.
_LONGEST: Final = 200


class Kind(StrEnum):
    """What a token is for."""

    ACCESS = "access"
    """To ask with, for hours."""
    REFRESH = "refresh"
    """To have a new pair for, once."""
    SESSION = "session"
    """A browser's cookie."""
    API = "api"
    """For programs, with a name and an expiry of its own."""


PREFIXES: Final = {
    Kind.ACCESS: "gapless_at_",
    Kind.REFRESH: "gapless_rt_",
    Kind.SESSION: "gapless_st_",
    Kind.API: "gapless_api_",
}
_REFRESH: Final = re.compile(
    rf"{PREFIXES[Kind.REFRESH]}([A-Za-z0-9_-]{{22}})\.([A-Za-z0-9_-]{{43}})"
)


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token: its text, which is shown once, and what is kept of it."""

    text: str = field(repr=False)
    kind: Kind
    family: str = field(repr=False)
    digest: str = field(repr=False)


def mint(kind: Kind, family: str | None = None) -> Minted:
    """Make a token; without a family it begins one.

    A refresh token names its family, so that one which has been used before gives it away.
    """
    family = family or secrets.token_urlsafe(_FAMILY_BYTES)
    secret = secrets.token_urlsafe(_BYTES)
    middle = f"{family}." if kind is Kind.REFRESH else ""
    text = f"{PREFIXES[kind]}{middle}{secret}"
    return Minted(text, kind, family, digest(text))


def digest(text: str) -> str:
    """Return what is kept of a token: its SHA-256, in hex."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def plausible(text: str) -> bool:
    """Whether it could be a token at all."""
    return len(text) <= _LONGEST


def family_of(refresh_token: str) -> str | None:
    """Return the family that a refresh token names; `None`: it is none."""
    match = _REFRESH.fullmatch(refresh_token)
    return None if match is None else match[1]
