"""Filling: fetch a gap, or what is not fresh, look what it says of the rest, replace it.

The rules of stitching 6, 7, 9 and 11. Everything here works on one series under one lease.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from gapless.clock import Clock
from gapless.computing import computed
from gapless.domain.believing import Sent, judge_unknown
from gapless.domain.blocks import EMPTY
from gapless.domain.coverage import Coverage, Outcome, changed, written
from gapless.domain.intervals import ALWAYS, Interval, hull, intersect, subtract, union
from gapless.domain.planning import Reach
from gapless.domain.spans import Spans
from gapless.errors import (
    BadUpstreamReply,
    ProviderError,
    UnknownTicker,
    UpstreamRejected,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from gapless.hub.ageing import Ageings
from gapless.hub.beside import Beside, Sight, beside, edges, holds_final, to_bar
from gapless.hub.brought import Brought
from gapless.hub.holdings import Holdings
from gapless.hub.judging import Came, Said, gone_quiet, known, said
from gapless.hub.leases import Filled, Lease, Leases, LeaseTaken
from gapless.hub.look import needed, rows_over
from gapless.hub.news import NamedActions, facts_of
from gapless.hub.pacing import Deadline
from gapless.hub.ranges import present, reach
from gapless.hub.series import Series
from gapless.hub.stepwise import Asked, Stepwise
from gapless.hub.upstream import Upstream
from gapless.providers.base import Traits
from gapless.store.base import Change, Gone, News, Replacement, SeriesState

_log = structlog.get_logger("gapless.filling")

# A request for years in steps of seconds is a slip of the hand, and would take days.
_MOST_CHUNKS = 10_000


@dataclass(slots=True)
class _Filling:
    """One filling: its lease, the series as it is held by now, and what was achieved so far.

    `core` is what must be had; the lease may hold more, which is taken along: then there is one
    `deadline` for both, and at last `core` goes `alone`. `asked` is what the request under way was
    asked for by. `actions` is the series of the ticker's actions, where its answers name some.
    """

    lease: Lease
    core: Interval
    entry: Series
    traits: Traits
    reach: Reach
    deadline: Deadline | None = None
    alone: bool = False
    filled: Filled = field(default_factory=Filled)
    asked: Asked | None = None
    actions: Series | None = None

    @property
    def purpose(self) -> str:
        """Whether it is for a gap, or a check of what is held: for logs, metrics and tests."""
        at, end = self.core
        for row in self.entry.state.coverage.over(self.core):
            if row.start > at:
                break
            at = row.end
        return "check" if at >= end else "gap"


@dataclass(frozen=True, slots=True)
class _Answered:
    """Answers, and the state of a series that they were asked for by.

    `parts`: what of them is to be stored together, as far as it is believed.
    """

    came: tuple[Came, ...]
    parts: tuple[Interval, ...]
    state: SeriesState

    def without(self, later: Sequence[Came]) -> _Answered:
        """Return what is left of it after answers that tell some of it anew."""
        return replace(self, parts=tuple(subtract(self.parts, [one.interval for one in later])))


class Filler:
    """Fills gaps of one provider's series, and fetches again what is not fresh."""

    def __init__(
        self,
        holdings: Holdings,
        leases: Leases,
        upstream: Upstream,
        clock: Clock,
        ageings: Ageings,
    ) -> None:
        self._holdings = holdings
        self._leases = leases
        self._upstream = upstream
        self._provider = upstream.provider
        self._clock = clock
        self._ageings = ageings
        self._stepwise = Stepwise(holdings, upstream.provider, clock)

    async def fill(self, lease: Lease, core: Interval) -> Filled:
        """Fetch all that a lease holds and store it; raise what upstream or the store raised.

        A lease that reaches the present ends where the request saw it. That may have waited
        since, and what is fetched now is known up to now: a tail stays one (stitching rule 3).
        Each request is stored as it comes, so that what came before a failure stays. Where one
        of them shows that upstream has changed the past, it ends: the request plans again.
        """
        key, now = lease.key, self._clock.now_ms()
        if lease.reaches_present and self._provider.info.data_end is None:
            end = max(lease.interval.end, present(now))
            await self._leases.widen(lease, Interval(lease.interval.start, end))
            core = Interval(core.start, end) if core.end >= lease.interval.start else core
        traits = self._provider.traits(key)
        about = needed(self._provider, lease.interval)
        entry = await self._holdings.directory(key, about)
        filling = _Filling(lease, core, entry, traits, reach(self._provider, key, now))
        if self._upstream.refusal(key) is None:
            try:
                return await self._fill(filling)
            except UnknownTicker as error:
                return await self._refused(filling, error)
        return await self._fill(filling)

    async def _fill(self, filling: _Filling) -> Filled:
        """Fetch all of a lease; where upstream fails at that, what must be had alone."""
        lease, core = filling.lease, filling.core
        wide = lease.interval
        if core == wide:
            await self._all(filling, wide)
            return filling.filled
        filling.deadline = self._upstream.deadline()
        try:
            await self._all(filling, wide)
        except (UpstreamUnavailable, BadUpstreamReply) as error:
            if lease.fetched or isinstance(error, UpstreamUnreachable):
                raise
            # Too much at once for upstream: what is needed goes alone, and less along from now on.
            self._ageings.narrower(lease.key, wide.length)
            _log.info("failed at a wide request", series=lease.key.text, error=error.message)
            filling.alone = True
            await self._all(filling, core)
        return filling.filled

    async def _all(self, filling: _Filling, wide: Interval) -> None:
        # What is stored of each piece is compared with the next one. But for how long there are no
        # rows, and how many are lost, is counted over all of them (stitching rule 6).
        unsure: list[_Answered] = []
        for piece in self._pieces(filling, wide):
            came = await self._piece(filling, piece)
            if not self._provider.info.revises:
                # Nothing is compared, so that what came can be stored bit by bit.
                for answer in came:
                    await self._store(filling, answer)
                continue
            say = await self._said(filling, came)
            left: list[Interval] = []
            if piece != wide:
                say = replace(say, part=True)
                if not say.differs:
                    left = [one.interval for one in came] if gone_quiet(came) else say.unsure
            unsure = [one.without(came) for one in unsure]
            answered = _Answered(tuple(came), tuple(left), filling.entry.state)
            if left:
                unsure.append(answered)
            asked = subtract([one.interval for one in came], left)
            if asked:
                say = say.of(asked) if left else say
                await self._store_believed(filling, say, [replace(answered, parts=tuple(asked))])
            if filling.filled.restated:
                return
        unsure = [one for one in unsure if one.parts]
        if unsure:
            say = Said()
            for one in unsure:
                say = say.also((await self._said(filling, one.came)).of(one.parts))
            await self._store_believed(filling, say, unsure)

    def _pieces(self, filling: _Filling, wide: Interval) -> Iterator[Interval]:
        """Cut an interval into what one request spans, beginning where something is held.

        Each piece but the first has the one before it to be compared with (stitching rule 13).
        """
        span = filling.traits.max_span
        if span is None or wide.length <= span:
            yield wide
            return
        count = -(-wide.length // span)
        if count > _MOST_CHUNKS:
            raise UpstreamRejected(
                f"{self._provider.info.name} gives {span / 1000:g} s of "
                f"{filling.lease.key.text} at once, so that this range would take {count:,} "
                f"requests; {_MOST_CHUNKS:,} are the most; ask for less"
            )
        rows = filling.entry.state.coverage.touching(wide)
        backwards = not any(row.end == wide.start for row in rows) and any(
            row.start == wide.end for row in rows
        )
        left, bar, revises = wide, filling.traits.bar, self._provider.info.revises
        while not left.empty:
            room = span - to_bar(filling.entry, left, bar, backwards) if revises else span
            # Where there is none beside it, the bar is asked for by itself.
            room = room if room > span // 2 else span
            if backwards:
                piece = Interval(max(left.start, left.end - room), left.end)
                left = Interval(left.start, piece.start)
            else:
                piece = Interval(left.start, min(left.end, left.start + room))
                left = Interval(piece.end, left.end)
            yield piece

    async def _piece(self, filling: _Filling, piece: Interval) -> list[Came]:
        """Fetch a piece once, with held bars beside it (stitching rule 11)."""
        about = needed(self._provider, piece)
        filling.entry = await self._holdings.directory(filling.lease.key, about)
        if filling.traits.actions is not None:
            actions = filling.lease.key.sibling(filling.traits.actions)
            filling.actions = await self._holdings.load(actions, ALWAYS)
        if not self._provider.info.revises:
            return [await self._ask(filling, piece, filling.purpose)]
        around = await self._beside(filling, piece, self._clock.now_ms())
        await self._leases.widen(filling.lease, around.wide)
        came = [await self._ask(filling, around.wide, filling.purpose)]
        if around.bar is not None:
            await self._leases.widen(filling.lease, around.bar)
            came.append(await self._ask(filling, around.bar, "seam"))
        return came

    async def _beside(self, filling: _Filling, piece: Interval, now: int) -> Beside:
        basis = self._provider.info.basis
        if basis is None:
            return Beside(piece)
        key = filling.lease.key
        looked: list[Interval] = []
        # What is loaded may be a later state, which ends elsewhere beside the piece.
        while (instants := edges(filling.entry, piece)) and instants != looked:
            looked = instants
            filling.entry = await self._holdings.load(key, *instants, about=ALWAYS)
        ageing = self._ageings.of(self._provider, filling.entry, now)
        span = self._ageings.span(key, filling.traits)
        assert ageing is not None
        taken = [
            interval
            for lease in self._leases.of(key)
            if lease is not filling.lease
            for interval in lease.intervals
        ]
        sight = Sight(filling.reach, filling.traits.bar, span, basis, ageing, now, taken)
        return beside(filling.entry, piece, sight)

    async def _ask(self, filling: _Filling, interval: Interval, purpose: str) -> Came:
        """Fetch once."""
        meta, lease = filling.entry.state.meta, filling.lease
        wide = filling.deadline is not None and not filling.alone
        filling.asked = Asked.by(filling.entry.state)
        # What is withdrawn again would be lacking where it was held before.
        in_parts = not (self._provider.info.revises or filling.asked.rows.over(interval))

        async def take(part: Interval, brought: Brought | None) -> None:
            if brought is None:
                filling.entry = await self._stepwise.withdraw(lease, part)
            else:
                await self._store(filling, self._came(filling, part, brought))

        interval, brought = await self._upstream.ask(
            lease.key,
            interval,
            meta,
            purpose,
            lease.tally,
            filling.deadline,
            wide=wide,
            take=take if in_parts else None,
        )
        return self._came(filling, interval, brought)

    def _came(self, filling: _Filling, interval: Interval, brought: Brought) -> Came:
        """Return what was brought, and note what was wrong with it."""
        if brought.bad_values is not None:
            filling.lease.bad_values.append(brought.bad_values)
        # What is known, and when it was asked for, is told by the earlier of the two clocks.
        sent, until = brought.sent, brought.known_until
        return Came(interval, brought, sent if until is None else min(sent, until))

    async def _store(self, filling: _Filling, came: Came) -> None:
        """Store an answer that is compared with nothing, bit by bit."""
        assert filling.asked is not None
        filling.entry = await self._stepwise.store(filling.lease, filling.asked, came)

    async def _store_believed(
        self, filling: _Filling, say: Said, answers: Sequence[_Answered]
    ) -> None:
        """Store in one transaction what is believed of answers (stitching rule 6).

        `say` is what they say of what is held.
        """
        key, state = filling.lease.key, answers[0].state
        came = [one for answer in answers for one in answer.came]
        asked = [part for answer in answers for part in answer.parts]
        sent = came[-1].sent
        verdict = say.verdict(filling.entry, came, asked, filling.traits.bar)
        # Where records are lost and others differ, nothing of it is believed yet.
        doubtful = bool(verdict.doubts) and say.differs
        gone = await self._own(filling.lease, verdict.lost_for_good)
        left_out = [*verdict.withheld, *gone]
        planned = [
            (part, one, answer.state.coverage)
            for answer in answers
            for one in answer.came
            for part in subtract(intersect([one.interval], answer.parts), left_out)
            if not doubtful
        ]
        parts = [(part, one) for part, one, _ in planned]
        kept = gone if not doubtful else ()
        news, rescaled = await self._told(filling, came, parts, kept)
        if news is not None and _believed_gone(state.coverage) and not gone_quiet(came):
            # It is back: that there is nothing of it was said for want of the ticker alone.
            news = replace(news, due=True)
        if not doubtful and (say.restated or (news is not None and news.due)):
            filling.filled = Filled(restated=True, by_name=not say.restated)
            _log.info("upstream serves another past", series=key.text)
        count = sum(len(one.brought.run) + len(rows.over(part)) for part, one, rows in planned)
        replaced = await computed(count, partial(_replacements, planned, say.changes, sent))
        change = Change(
            key=key,
            replacements=(*replaced, *rescaled),
            revises=self._provider.info.revises,
            # All that was stored before this was planned may stand on another basis.
            due_before=state.version + 1 if filling.filled.restated else 0,
            restates=(bool(say.changes or rescaled) or filling.filled.restated) and not doubtful,
            gone=Gone(tuple(gone), sent),
            answered=(*asked, *gone),
            doubts=verdict.doubts,
            meta=next((one.brought.meta for one in came if one.brought.meta is not None), None),
            at=self._clock.now_ms(),
            planned_due=state.due_before,
            news=news,
        )
        filling.entry = await self._holdings.apply(change, filling.lease)
        if verdict.doubts:
            _log.warning("an answer is in doubt", series=key.text, doubts=verdict.doubts)
        if doubtful:
            raise ProviderError(
                f"{self._provider.info.name} answered for {key.text} without records that are "
                "held, and with other prices beside them; that is not believed yet",
                reason=verdict.doubts[0].suspicion.reason,
            )
        filling.lease.answered += asked
        filling.lease.fetched += [part for part, _ in parts]

    async def _own(self, lease: Lease, parts: Sequence[Interval]) -> list[Interval]:
        """Return what of some parts a task may write, more than its lease has if nobody else does.

        Whoever has the rest sees to it.
        """
        found = intersect(parts, lease.intervals)
        for part in subtract(parts, lease.intervals):
            with suppress(LeaseTaken):
                await self._leases.widen(lease, part)
                found.append(part)
        return union(found)

    async def _told(
        self,
        filling: _Filling,
        came: Sequence[Came],
        parts: Sequence[tuple[Interval, Came]],
        kept: Sequence[Interval],
    ) -> tuple[News | None, list[Replacement]]:
        """Return what came is to be stored of the ticker, and what the splits in it rescale.

        Of what is not believed nothing is (stitching rules 12 and 21). `kept`: whose bars are lost
        and kept, as its actions are.
        """
        basis, lease = self._provider.info.basis, filling.lease
        if filling.actions is None or not (parts or kept):
            return (facts_of(came) if parts else None), []
        named = NamedActions(came, parts, kept, filling.actions, filling.traits)
        rescaled = []
        if basis is not None:
            reached = filling.reach
            unserved = Interval(reached.data_start, reached.served_from)
            beyond = subtract([unserved], [part for part, _ in parts])
            rows = filling.entry.state.coverage.over(unserved)
            for one in named.rescalings(rows, beyond):
                entry = await self._holdings.load(lease.key, one.interval, about=ALWAYS)
                # What was forgotten meanwhile is not there to be rescaled.
                if one.was not in entry.state.coverage:
                    continue
                with suppress(LeaseTaken):
                    # Whoever has it now sees to it; what came is stored all the same.
                    await self._leases.widen(lease, one.interval)
                    held = entry.held(one.interval)
                    planned = written(filling.entry.state.coverage, one.interval)
                    rescaled.append(one.replacement(held, basis, planned))
        return named.news(self._clock.now_ms(), splits=bool(rescaled)), rescaled

    async def _said(self, filling: _Filling, came: Sequence[Came]) -> Said:
        """Hold what came against what is held of it.

        Where no bar is served that could tell, what is fresh and no longer served is taken to be
        of another basis.
        """
        basis = self._provider.info.basis
        ageing = self._ageings.of(self._provider, filling.entry, self._clock.now_ms())
        if basis is None or ageing is None:
            return Said()
        found = Said()
        for one in came:
            entry = await self._holdings.load(filling.lease.key, one.interval, about=ALWAYS)
            count = len(one.brought.run) + rows_over(entry, one.interval)
            bar = filling.traits.bar
            said_of_it = await computed(count, partial(said, entry, one, basis, ageing, bar))
            found = found.also(said_of_it)
        beyond = Interval(filling.reach.data_start, filling.reach.served_from)
        if not found.compared and holds_final(filling.entry, beyond, ageing):
            return replace(found, restated=True)
        return found

    async def _refused(self, filling: _Filling, error: UnknownTicker) -> Filled:
        """Act on upstream's word that it does not know a ticker, of which something is held.

        Like a loss it is believed when it is said again hours later: then what is held is kept,
        and there is nothing else (stitching rule 6).
        """
        lease, now = filling.lease, self._clock.now_ms()
        entry = await self._holdings.directory(lease.key, ALWAYS)
        state = entry.state
        held = union(row.interval for row in state.coverage if row.outcome is Outcome.HELD)
        believed = _believed_gone(state.coverage)
        if not held and not believed:
            raise error
        doubt = None if believed else judge_unknown(hull(held), state.doubts, Sent.at(now))
        if doubt is not None:
            change = Change(lease.key, (), answered=(doubt.interval,), doubts=(doubt,), at=now)
            await self._holdings.apply(change, lease)
            raise error
        if not believed:
            _log.warning("upstream knows a held ticker no more", series=lease.key.text)
        due = self._ageings.next_due(self._provider, entry, now)
        change = _nothing_more(entry, lease.interval, now, due)
        if filling.actions is not None:
            actions = _nothing_more(filling.actions, lease.interval, now, due)
            change = replace(change, news=News(now, actions=actions))
        await self._holdings.apply(change, lease)
        lease.answered.append(lease.interval)
        lease.fetched += [one.interval for one in change.replacements]
        return Filled()


_Planned = tuple[Interval, Came, Spans[Coverage]]


def _replacements(
    planned: Sequence[_Planned], changes: Sequence[Interval], at: int
) -> list[Replacement]:
    """Return what is stored of answers, by the rows that were known when they were asked for."""
    return [
        Replacement(
            part,
            run := one.brought.run.cut(part),
            tuple(changed(known(part, run, one), rows, changes, at)),
            written(rows, part),
        )
        for part, one, rows in planned
    ]


def _believed_gone(rows: Sequence[Coverage]) -> bool:
    """Whether all that is held is believed to be served no more."""
    known = (row.outcome for row in rows if row.outcome is not Outcome.EMPTY)
    return next(known, None) is Outcome.OUT_OF_WINDOW and all(
        one is Outcome.OUT_OF_WINDOW for one in known
    )


def _nothing_more(entry: Series, interval: Interval, now: int, due: int | None) -> Change:
    """Return the change after which what is held is all that there is of a series."""
    rows = entry.state.coverage
    kept = union(row.interval for row in rows if row.outcome is not Outcome.EMPTY)
    nothing = [
        Replacement(gap, EMPTY, (Coverage(*gap, Outcome.EMPTY, now, due),), written(rows, gap))
        for gap in subtract([interval], kept)
    ]
    return Change(
        entry.state.key,
        tuple(nothing),
        revises=True,
        gone=Gone(tuple(kept), now),
        answered=(hull([interval, *kept]),),
        at=now,
    )
