"""Who did what: each deed in the store and in the log.

For what loads code, or lets somebody in or out; not for questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from gapless.clock import Clock
from gapless.store.accounts import AccountStore, Deed, StoredDeed

_log = structlog.get_logger("gapless.audit")


class Audit:
    """The audit log."""

    def __init__(self, store: AccountStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    @contextmanager
    def deed(self, actor: str, action: str, target: str, **details: str | None) -> Iterator[Deed]:
        """Yield a deed of now, to be stored with what it tells of; logged if that went well."""
        deed = self._now(actor, action, target, details)
        yield deed
        _log.info(action, actor=actor, target=target, **deed.details)

    @contextmanager
    def alarm(self, actor: str, action: str, target: str, **details: str | None) -> Iterator[Deed]:
        """Yield a deed that somebody should look into: as `deed`, but logged as a warning."""
        deed = self._now(actor, action, target, details)
        yield deed
        _log.warning(action, actor=actor, target=target, **deed.details)

    async def record(self, actor: str, action: str, target: str, **details: str | None) -> None:
        """Store a deed by itself."""
        with self.deed(actor, action, target, **details) as deed:
            await self._store.record(deed)

    async def about(self, actor: str, action: str, target: str, details: Mapping[str, str]) -> None:
        """Store a deed that another part tells of."""
        await self.record(actor, action, target, **details)

    async def deeds(self, limit: int, before: int | None = None) -> Sequence[StoredDeed]:
        """Return the latest deeds, or those before that number."""
        return await self._store.deeds(limit, before)

    def _now(self, actor: str, action: str, target: str, details: Mapping[str, str | None]) -> Deed:
        known = {name: value for name, value in details.items() if value is not None}
        return Deed(self._clock.now_ms(), actor, action, target, known)
