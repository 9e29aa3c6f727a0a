"""The header fields of a request, one value each: which may come in several lines, and which not.

Pure. Programs in front of a hub pick the first of two lines, or the last, or join them; whoever
is let in by one and acts by the other has been tricked. So nothing is picked here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gapless.errors import InvalidQuery

# Those that the hub decides by and that have one value (RFC 9110, 5.3). The parser holds
# Content-Length and Transfer-Encoding to theirs.
SINGLE: Final = frozenset(
    {
        b"authorization",
        b"content-type",
        b"host",
        b"if-range",
        b"origin",
        b"range",
        b"sec-fetch-site",
    }
)


def combined(lines: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the value of each field by its name in lower case; lines of a list are joined.

    Raises `InvalidQuery` for a field of `SINGLE` that comes more than once.
    """
    found: dict[bytes, bytes] = {}
    for name, value in lines:
        before = found.get(name)
        if before is None:
            found[name] = value
        elif name in SINGLE:
            raise InvalidQuery(
                f"the request has more than one {name.decode('ascii').title()}; send one"
            )
        else:
            # HTTP/2 lets a browser's cookies come in several, which are one list (RFC 9113, 8.2.3).
            found[name] = before + (b"; " if name == b"cookie" else b", ") + value
    return found
