"""What is told of an answer, as headers: how it was put together, and its ticker's facts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gapless.domain.facts import every_fact
from gapless.domain.intervals import Interval
from gapless.domain.series import span_text
from gapless.hub.answers import Answer
from gapless.instants import format_instant

# Proxies refuse headers that are much longer than this.
_MOST_SPANS = 40
_MOST_REASONS = 10
_MOST_MESSAGE = 200
_MOST_BYTES = 4_000


def stitch_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    """Return the stitch of an answer; `cached`, `fetched` and `missing` partition its range.

    A list of spans that is too long for a header ends with how many more there are.
    """
    headers = [
        (b"gapless-range", span_text(answer.asked).encode()),
        (b"gapless-state", answer.state.value.encode()),
        (b"gapless-cached", _spans(answer.cached)),
        (b"gapless-fetched", _spans(answer.fetched)),
        (b"gapless-missing", _spans(answer.missing)),
        (b"gapless-upstream-requests", b"%d" % answer.requests),
        (b"gapless-fetched-at", format_instant(answer.fetched_at).encode()),
    ]
    if answer.changed_at is not None:
        headers.append((b"gapless-changed-at", format_instant(answer.changed_at).encode()))
    facts = msgspec.json.encode(every_fact(answer.facts))
    headers.append((b"gapless-facts", _ascii(facts)))
    if answer.why:
        reasons = [
            {
                "from": format_instant(one.interval.start),
                "to": format_instant(one.interval.end),
                "reason": one.reason,
                "message": one.message[:_MOST_MESSAGE],
            }
            for one in answer.why[:_MOST_REASONS]
        ]
        while len(why := _ascii(msgspec.json.encode(reasons))) > _MOST_BYTES:
            reasons.pop()
        headers.append((b"gapless-why", why))
    return headers


def _spans(spans: Sequence[Interval]) -> bytes:
    shown = [span_text(span) for span in spans[:_MOST_SPANS]]
    if len(spans) > _MOST_SPANS:
        shown.append(f"and {len(spans) - _MOST_SPANS} more")
    return ", ".join(shown).encode()


def _ascii(json: bytes) -> bytes:
    """Return JSON without what a header cannot carry."""
    text = json.decode()
    if text.isascii():
        return json
    return "".join(
        char if char < "\x7f" else f"\\u{ord(char):04x}" if ord(char) < 0x10000 else "?"
        for char in text
    ).encode()
