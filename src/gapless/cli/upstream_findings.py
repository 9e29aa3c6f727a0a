"""What `gapless doctor --upstream` finds: whether Yahoo still is what gapless takes it for.

Here the questions are asked, one after the other and within the provider's pace; what answers
mean is decided in yahoo_assumptions.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from gapless.cli.findings import Finding
from gapless.cli.recordings import Recordings
from gapless.clock import Clock
from gapless.errors import ProviderError, RateLimited
from gapless.hub.pacing import Bucket
from gapless.providers.yahoo import YahooProvider, target_of
from gapless.providers.yahoo_assumptions import (
    CLOCKS_AGREE_S,
    MOST_REQUESTS,
    Verdict,
    clock_ahead_s,
    clock_verdict,
    follow_up,
    questions,
    verdicts,
)
from gapless.providers.yahoo_evidence import Question, Seen
from gapless.providers.yahoo_replies import judge

_ABOUT = "upstream"


class Canary:
    """Asks Yahoo what may have changed; `recordings` keep what it answers, where there are any."""

    def __init__(
        self, provider: YahooProvider, clock: Clock, recordings: Recordings | None = None
    ) -> None:
        self._provider = provider
        self._clock = clock
        self._recordings = recordings
        # Without the burst: nobody waits for this.
        self._pace = Bucket(provider.settings.rate, 1, clock.monotonic())
        self._seen: dict[str, Seen] = {}
        self._asked = 0

    async def findings(self) -> AsyncIterator[Finding]:
        """Ask, and yield what is found as it is found.

        Ends where Yahoo cannot be reached. Raises `RateLimited` where it asks to be left alone,
        and `GaplessError` where an answer cannot be recorded.
        """
        waiting = list(questions(self._clock.now_ms() // 1000))
        while waiting and self._asked < MOST_REQUESTS:
            question = waiting.pop(0)
            try:
                seen = await self._ask(question)
            except RateLimited:
                raise
            except ProviderError as error:
                yield Finding(
                    "problem",
                    _ABOUT,
                    f"asked for {question.about} it does not answer: {error.message}",
                    "try again later; nothing more is asked now",
                )
                return
            self._seen[question.name] = seen
            for finding in map(self._finding, verdicts(self._seen, question.name)):
                yield finding
            also = follow_up(seen)
            if also is not None:
                waiting.insert(0, also)
        for finding in self._ending(self._seen.values()):
            yield finding

    async def _ask(self, question: Question) -> Seen:
        pause = self._pace.take(self._clock.monotonic())
        if pause > 0:
            await self._clock.sleep(pause)
        asked = (question.period1, question.period2)
        target = target_of(question.ticker, question.interval, asked)
        self._asked += 1
        reply = await self._provider.reply(target)
        now = self._clock.now_ms()
        complaint, refused = None, None
        try:
            judge(reply, question.ticker, question.interval, asked, now)
        except RateLimited as error:
            refused = error
        except ProviderError as error:
            complaint = error.message
        seen = Seen(question, reply.status, reply.headers, reply.body, now / 1000, complaint)
        if self._recordings is not None:
            self._recordings.keep(target, seen)
        if refused is not None:
            raise RateLimited(
                f"{refused.message}; asked for {question.about} ({self._asked} of "
                f"{MOST_REQUESTS} requests), and nothing after that; try again in an hour or so",
                retry_after_s=refused.retry_after_s,
            )
        return seen

    def _finding(self, verdict: Verdict) -> Finding:
        match verdict.outcome:
            case "holds":
                return Finding("ok", _ABOUT, verdict.says)
            case "unseen":
                return Finding("note", _ABOUT, f"not seen: {verdict.says}; {verdict.seen}")
        report = (
            "run it again with --record DIR, and report what is in DIR"
            if self._recordings is None
            else f"report what is in {self._recordings.folder}"
        )
        return Finding(
            "problem",
            _ABOUT,
            f"no longer so: {verdict.says}; {verdict.seen}",
            f"gapless may read such answers wrongly: {report}",
        )

    def _ending(self, seen: Iterable[Seen]) -> Iterable[Finding]:
        """Return what all answers together show, and what it took."""
        answers = list(seen)
        yield self._finding(clock_verdict(answers))
        ahead = clock_ahead_s(answers)
        if ahead is not None and abs(ahead) > CLOCKS_AGREE_S:
            yield Finding(
                "note",
                _ABOUT,
                f"its clock is {abs(ahead):,} s {'ahead of' if ahead > 0 else 'behind'} this one",
                "set this machine's clock by a time server",
            )
        kept = "" if self._recordings is None else f"; its answers are in {self._recordings.folder}"
        yield Finding("ok", _ABOUT, f"asked {self._asked} times{kept}")
