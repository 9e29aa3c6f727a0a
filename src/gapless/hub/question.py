"""A request to a provider, read once and handed along until it is answered."""

from __future__ import annotations

from dataclasses import dataclass

from gapless.domain.freshness import Freshness
from gapless.errors import ProviderError
from gapless.hub.answers import Answer, State
from gapless.hub.look import Look
from gapless.hub.ranges import RangeSearch
from gapless.protocol.messages import Request
from gapless.providers.base import Provider


@dataclass(slots=True)
class Question:
    """What is asked of which provider, and when, milliseconds UTC; how it is to be answered.

    `search`: the range search that it is; `None`: it is none. `strict`: a partial or stale answer
    is an error. `most_loaded`: a range of more records is answered without them. `look`: what was
    seen of the range, if it was looked at.
    """

    provider: Provider
    request: Request
    search: RangeSearch | None
    now: int
    strict: bool = False
    most_loaded: int | None = None
    look: Look | None = None

    def complete(self, answer: Answer) -> Answer:
        """Return the answer; raise why it is not as complete, or as fresh, as was wanted."""
        if not self.strict or answer.state is State.READY:
            return answer
        if answer.missing:
            # Not all reasons are of what is missing: what is held may be marked, too.
            first = min(
                answer.why,
                key=lambda one: not any(one.interval.overlaps(span) for span in answer.missing),
            )
            raise ProviderError(
                f"the answer would be partial: {first.message}", reason=first.reason
            )
        held = self.search is not None and self.search.fresh is Freshness.HELD
        if answer.state is State.STALE and not held:
            stale = answer.why[0]
            raise ProviderError(f"the answer would be stale: {stale.message}", reason=stale.reason)
        return answer
