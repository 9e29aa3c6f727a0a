"""What a plugin prints, cut into lines for the log, with bounds that no flood passes.

Apart from the process so that it is pure: bytes and the hour go in, lines come out.
"""

from __future__ import annotations

LONGEST_LINE = 2_000
LINES_A_SECOND = 100


class Lines:
    """The lines of one stream. What is too much of it is counted, not kept."""

    def __init__(self, per_second: int = LINES_A_SECOND, longest: int = LONGEST_LINE) -> None:
        self._per_second = per_second
        self._longest = longest
        self._rest = bytearray()
        self._cut = False
        self._second = -1
        self._said = 0
        self.dropped = 0

    def feed(self, data: bytes, now: float) -> list[str]:
        """Take what was printed; return the lines to log. `now` is in seconds."""
        if int(now) != self._second:
            self._second = int(now)
            self._said = 0
        lines: list[str] = []
        at = 0
        while at < len(data):
            if self._said >= self._per_second:
                # No line is looked at any more, only counted: this is what a flood costs.
                self._skip(data, at)
                break
            end = data.find(b"\n", at)
            if end < 0:
                self._keep(data[at : at + self._longest + 1])
                break
            self._keep(data[at : min(end, at + self._longest + 1)])
            lines.append(self._line())
            self._said += 1
            at = end + 1
        return lines

    def end(self) -> list[str]:
        """Return the last line, if it was not ended."""
        return [self._line()] if self._rest and not self._cut else []

    def take_dropped(self) -> int:
        """Return how many lines were dropped since this was asked last."""
        count, self.dropped = self.dropped, 0
        return count

    def _skip(self, data: bytes, at: int) -> None:
        whole = data.count(b"\n", at)
        self.dropped += whole
        if whole:
            self._rest.clear()
        ends = data.endswith(b"\n")
        # The rest of a line whose beginning is gone goes, too.
        self._cut = not ends
        if ends:
            self._rest.clear()

    def _keep(self, piece: bytes) -> None:
        if not self._cut:
            room = self._longest + 1 - len(self._rest)
            self._rest += piece[:room]

    def _line(self) -> str:
        text = self._rest[: self._longest].decode("utf-8", "replace").rstrip("\r")
        if len(self._rest) > self._longest:
            text += "…"
        if self._cut:
            text = "…"
        self._rest.clear()
        self._cut = False
        return text
