"""A hub's answers as the oracle of the promise takes them."""

from __future__ import annotations

import json

from gapless.hub.answers import Answer
from support.history import Series, values
from support.told import Covered, Facts, Span, Told, Why


def told(
    answer: Answer,
    t0: int,
    t1: int,
    facts: Facts | None,
    *,
    beside: bool = False,
    anew: bool = False,
) -> Told:
    """Return an answer that was asked for at `t0` and had at `t1`, in milliseconds.

    `beside`: others were under way. `anew`: all of it was to be fetched again.
    """
    records = json.loads(answer.text())
    return Told(
        Series(answer.key.ticker, answer.key.param("interval", "1d")),
        Span(*answer.asked),
        str(answer.state),
        {1000 * one["timestamp"]: values(one) for one in records},
        t0,
        t1,
        [
            Covered(one.start, one.end, one.fetched_at, one.refresh_after)
            for one in answer.series.state.coverage
        ],
        facts,
        [Span(*one) for one in answer.missing],
        [Why(one.reason, *one.interval) for one in answer.why],
        beside=beside,
        anew=anew,
    )
