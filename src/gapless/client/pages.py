"""Records that came over HTTP, page by page, and what the headers tell of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from gapless.client import frames
from gapless.client.failures import UnexpectedAnswer
from gapless.client.web import WebReply

if TYPE_CHECKING:
    import polars as pl

# What is worse than what.
_STATES: Mapping[str, int] = {"ready": 0, "stale": 1, "partial": 2}


@dataclass(frozen=True, slots=True)
class Pages:
    """The records of a range: Arrow streams that follow one another.

    Each page tells of the whole range, and the worst of them holds for all: `headers` are its.
    """

    bodies: tuple[bytes, ...]
    headers: Mapping[str, str]
    etag: str
    upstream_requests: int
    records: int | None

    @classmethod
    def of(cls, replies: Sequence[WebReply]) -> Pages:
        """Put the answers of a route together, of which there is at least one.

        Raises `UnexpectedAnswer` for what no hub says.
        """
        worst = max(
            (reply.headers for reply in replies),
            key=lambda headers: badness(headers.get("gapless-state", "")),
        )
        asked = worst.get("gapless-upstream-requests", "0")
        if not asked.isdecimal():
            raise UnexpectedAnswer(f"it took {asked!r} upstream requests, says what is no hub")
        counts = [reply.headers.get("gapless-records", "") for reply in replies]
        known = all(count.isdecimal() for count in counts)
        etags = [reply.headers.get("gapless-etag", "") for reply in replies]
        return cls(
            tuple(reply.body for reply in replies),
            worst,
            etag_of(etags),
            int(asked),
            sum(map(int, counts)) if known else None,
        )

    @property
    def state(self) -> str:
        """`ready`, `partial` or `stale`."""
        return self.headers.get("gapless-state", "ready")

    def frame(self) -> pl.DataFrame:
        """Return the records with `timestamp` as it is, in Unix seconds.

        Raises `UnexpectedAnswer` for what are no Arrow streams, or fewer records than were told.
        """
        frame = frames.from_streams(self.bodies)
        if self.records is not None and frame.width and frame.height != self.records:
            raise UnexpectedAnswer(
                f"{frame.height:,} records came over HTTP where {self.records:,} were told"
            )
        return frame

    def stitch(self, before: bytes = b"{}") -> bytes:
        """Return how the records were put together, as the wire says it in JSON.

        `before` is the stitch of an answer that came a moment earlier without its records. Mostly
        the two say the same but that by now all is held. Where the series changed meanwhile, what
        counts is what came with the records.

        Raises `UnexpectedAnswer` where `before` is no stitch.
        """
        headers = self.headers
        told: Any = msgspec.json.decode(before)
        if not isinstance(told, dict):
            raise UnexpectedAnswer("the stitch of what came before its records is none")
        if told and not headers.get("gapless-fetched") and self.state == told.get("state"):
            return bytes(before)
        for name in ("cached", "fetched", "missing"):
            listed = headers.get(f"gapless-{name}", "")
            if " more" not in listed:
                told[name] = [text.split("..") for text in listed.split(", ") if ".." in text]
        told["state"] = self.state
        told["changed_at"] = headers.get("gapless-changed-at")
        earlier = told.get("upstream_requests", 0)
        told["upstream_requests"] = self.upstream_requests + (
            earlier if isinstance(earlier, int) else 0
        )
        try:
            told["why"] = msgspec.json.decode(headers.get("gapless-why", "[]"))
        except msgspec.DecodeError:
            told["why"] = []
        return msgspec.json.encode(told)


def badness(state: str) -> int:
    """Return how bad a state is: that of the worst part holds for the whole."""
    return _STATES.get(state, 0)


def etag_of(etags: Iterable[str]) -> str:
    """Return the etag of records by those of their parts: it is the sum (stitching rule 18)."""
    try:
        return f"{sum(int(part, 16) for part in etags) & ((1 << 64) - 1):016x}"
    except ValueError:
        return ""
