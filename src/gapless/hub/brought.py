"""What one request brought, in the form in which it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gapless.domain.blocks import Run, ascending
from gapless.domain.intervals import Interval
from gapless.errors import BadPluginReply
from gapless.providers.base import BadValues, Fetched, Provisional


@dataclass(frozen=True, slots=True)
class Brought:
    """What one request brought: records as they are stored, and what may still change of them.

    `sent`: when it was asked for. What the other fields mean is said of `Fetched`.
    """

    run: Run
    sent: int
    provisional: tuple[Provisional, ...] = ()
    meta: Mapping[str, Any] | None = None
    bad_values: BadValues | None = None
    upstream_now: int | None = None
    known_until: int | None = None
    facts: Mapping[str, Any] | None = None
    actions: tuple[Mapping[str, Any], ...] | None = None

    def cut(self, interval: Interval) -> Brought:
        """Return what of it lies in an interval, with all that is told beside the records."""
        return replace(self, run=self.run.cut(interval))

    @classmethod
    def of(cls, fetched: Fetched, sent: int) -> Brought:
        """Return what a provider returned in the form in which it is stored."""
        return cls(
            fetched.run(),
            sent,
            fetched.provisional,
            fetched.meta,
            bad_values=fetched.bad_values,
            upstream_now=fetched.upstream_now,
            known_until=fetched.known_until,
            facts=fetched.facts,
            actions=fetched.actions,
        )


async def bring(own: list[Fetched], sent: int, interval: Interval, provider: str) -> Brought:
    """Return what a provider returned for an interval as it is stored.

    `own` has it alone, and is empty afterwards: much of it is made in a thread, which lets go of
    its records, too. Raises `BadPluginReply` where it breaks the provider contract.
    """
    if own[0].large:
        return await asyncio.to_thread(_checked, own, sent, interval, provider)
    return _checked(own, sent, interval, provider)


def _checked(own: list[Fetched], sent: int, interval: Interval, provider: str) -> Brought:
    brought = Brought.of(own.pop(), sent)
    _verify(brought, interval, provider)
    return brought


def _verify(brought: Brought, interval: Interval, provider: str) -> None:
    """Refuse what breaks the provider contract, so that nothing malformed is ever stored."""
    times = brought.run.times
    inside = not len(times) or (interval.start <= times[0] and times[-1] < interval.end)
    if not (inside and ascending(times)):
        raise BadPluginReply(
            f"{provider} returned records that do not ascend within the asked range"
        )
    at = interval.start
    for span in brought.provisional:
        if span.start < at or span.end > interval.end or span.start >= span.end:
            raise BadPluginReply(f"{provider} returned provisional spans outside the asked range")
        at = span.end
