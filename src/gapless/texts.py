"""Texts from elsewhere made fit to be shown: without secrets, without what moves a terminal."""

from __future__ import annotations

import re

MASK = "***"

_URL_PASSWORD = re.compile(r"(?<=://)([^/?#\s:@]*):[^/?#\s]*@")
# The token is all there is before the host in an address for clients.
_URL_TOKEN = re.compile(r"\b((?:gapless\+)?tls|gapless|tcp)://(?!TOKEN@)[^/?#\s@]+@")
_QUERY_PASSWORD = re.compile(r"(?i)\b(password|token|secret|key|api_?key)=(?!VALUE\b)[^&\s]+")
# Tokens of ours, whatever they are part of; enough is left to tell what it was.
_TOKEN = re.compile(r"\b(gapless_(?:at|rt|st|api)_)[A-Za-z0-9_.-]{20,}")


def masked(text: str) -> str:
    """Return `text` with passwords of URLs and tokens of ours in it replaced by `***`."""
    text = _URL_TOKEN.sub(rf"\1://{MASK}@", text)
    text = _TOKEN.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1:{MASK}@", text))
    return _QUERY_PASSWORD.sub(rf"\1={MASK}", text)


def printable(text: str) -> str:
    """Return `text` with control characters spelled out.

    What upstream or a client sent may carry terminal escapes; printed as they are they could
    rewrite the screen, or forge a line of the log.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
