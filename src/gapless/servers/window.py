"""How much of a large body is made at once: about as much as its client soon takes."""

from __future__ import annotations

from typing import Final

LEAST_BYTES: Final = 64 << 10
FIRST_BYTES: Final = 256 << 10
MOST_BYTES: Final = 4 << 20
_PIECE_S: Final = 0.25
_MOST_GROWTH: Final = 2.0


class Window:
    """The bytes of records that are read at once for one client, a block at the least.

    A client that takes a piece in less than a quarter of a second is sent larger ones, up to
    `MOST_BYTES`. One that takes longer is sent smaller ones: what waits for it is memory that
    others do without.
    """

    __slots__ = ("ahead", "keeps_up", "piece", "size")

    def __init__(self, size: int = FIRST_BYTES, *, ahead: bool = False) -> None:
        self.size = size
        """What the client would soon take."""
        self.piece = size
        """What the next piece has: there may be room for less than that."""
        self.ahead = ahead
        """Whether there is room for what comes after it, so that it may be read meanwhile."""
        self.keeps_up = True
        """Whether the client took the latest piece as fast as pieces are to be taken."""

    def choose(self, room: int, least: int) -> int:
        """Choose the next piece where there is room for so many bytes; return what it holds.

        `least`: what the smallest piece has. Where there is room for no more than that it may
        have to wait for it.
        """
        self.ahead = self.keeps_up and room >= 2 * self.size
        self.piece = self.size if self.ahead else max(least, min(self.size, room))
        return 2 * self.piece if self.ahead else self.piece

    def taken(self, seconds: float) -> None:
        """Note how long the client took for a piece."""
        self.keeps_up = seconds <= _PIECE_S
        self.size = next_size(self.piece, seconds)


WIDE: Final = Window(MOST_BYTES, ahead=True)
"""Wide open, for what no client waits for a piece of."""


def next_size(size: int, seconds: float) -> int:
    """Return how many bytes the next piece has, where one of `size` was taken in `seconds`."""
    growth = min(_MOST_GROWTH, _PIECE_S / max(seconds, 1e-6))
    return max(LEAST_BYTES, min(int(size * growth), MOST_BYTES))
