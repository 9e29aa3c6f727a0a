"""What is believed of an answer that contradicts what is known, in tables."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gapless.domain.believing import (
    APART_MS,
    MOST_LOST,
    Doubt,
    Lacking,
    Sent,
    Suspicion,
    Verdict,
    judge,
    judge_unknown,
    remaining,
    unasked,
    weekdays,
    without_rows,
)
from gapless.domain.intervals import Interval, union
from gapless.instants import DAY_MS

HOUR, MINUTE = 3_600_000, 60_000
# 1 January 2024 was a Monday.
MONDAY = 19_723 * DAY_MS
SENT = MONDAY + 400 * DAY_MS
NOW, LATER = Sent.at(SENT), Sent.at(SENT + 6 * HOUR)
LOSS, EMPTY, UNKNOWN = Suspicion
ALL = [Interval(0, 1 << 50)]


def sessions(days: int, length: int = DAY_MS, step: int = DAY_MS) -> list[Interval]:
    """Return bars of so many sessions from a Monday on, half past one to eight in the evening."""
    dates = [date for date in range(days * 7 // 5 + 3) if date % 7 < 5][:days]
    opens = [MONDAY + date * DAY_MS + 27 * HOUR // 2 for date in dates]
    return [
        Interval(at, at + length)
        for opening in opens
        for at in range(opening, opening + (13 * HOUR // 2 if step < DAY_MS else 1), step)
    ]


def stretch(days: int) -> Interval:
    """Return so many days from a Monday on."""
    return Interval(MONDAY, MONDAY + days * DAY_MS)


def judged(
    lost: list[list[Interval]], empty: list[Interval], doubts: Sequence[Doubt], bar: int = DAY_MS
) -> Verdict:
    """Return what is made now of an answer after earlier ones that left doubts."""
    return judge(Lacking(lost, empty, bar, ALL), doubts, NOW)


def doubt(suspicion: Suspicion, interval: Interval, ago: int, tries: int = 1) -> Doubt:
    """Return a doubt that began so long before the answer."""
    return Doubt(*interval, suspicion, SENT - ago, SENT - 1, tries)


def test_a_row_or_two_may_be_withdrawn_at_once() -> None:
    """More than two lost ones are in doubt, all that lies between them included."""
    assert judged([sessions(MOST_LOST)], [], []) == Verdict()
    lost = sessions(MOST_LOST + 1)
    whole = Interval(lost[0].start, lost[-1].end)
    found = judged([lost], [], [])
    assert found.doubts == (Doubt(*whole, LOSS, SENT, SENT + 15 * MINUTE),)
    assert found.withheld == [whole]
    assert found.lost_for_good == ()


@pytest.mark.parametrize(("days", "doubted"), [(11, False), (12, True), (300, True)])
def test_emptiness_is_believed_at_once_for_two_weeks(days: int, doubted: bool) -> None:
    """No rows over more than ten weekdays are in doubt, whatever is known to be empty between."""
    empty = [stretch(days), Interval(MONDAY + 900 * DAY_MS, MONDAY + 901 * DAY_MS)]
    found = judged([], empty, [])
    assert found.withheld == (empty if doubted else [])
    assert {one.suspicion for one in found.doubts} <= {EMPTY}


def test_what_is_said_again_too_soon_stays_in_doubt() -> None:
    """It is asked for less and less often, and counts from when it was said first."""
    lost = sessions(5)
    known = [doubt(LOSS, Interval(lost[0].start, lost[-1].end), APART_MS - 1)]
    [again] = judged([lost], [], known).doubts
    assert (again.since, again.tries, again.interval) == (
        SENT - APART_MS + 1,
        2,
        Interval(lost[0].start, lost[-1].end),
    )
    empty = [stretch(30)]
    known = [doubt(EMPTY, stretch(30), APART_MS - 1)]
    [again] = judged([], empty, known).doubts
    assert (again.since, again.tries) == (SENT - APART_MS + 1, 2)


def test_pauses_double_up_to_six_hours() -> None:
    """From a quarter of an hour on."""
    one = Doubt.new(stretch(1), LOSS, NOW)
    pauses = [one.next_try - SENT]
    for _ in range(6):
        one = one.again(one.interval, NOW)
        pauses.append(one.next_try - SENT)
    assert pauses == [n * MINUTE for n in (15, 30, 60, 120, 240, 360, 360)]
    assert (one.since, one.tries) == (SENT, 7)


WEEKS = [Interval(MONDAY + n * 7 * DAY_MS, MONDAY + (n + 1) * 7 * DAY_MS) for n in range(3)]
# A week that begins on Sunday, UTC, of which a few hours were asked for.
SUNDAY = Interval(WEEKS[1].end - 13 * HOUR, WEEKS[1].end - 5 * HOUR)
BELIEVED: list[tuple[str, list[Interval], bool]] = [
    ("ten days", sessions(10), False),
    ("eleven days", sessions(11), True),
    ("hourly bars of ten days", sessions(10, HOUR, HOUR), False),
    ("hourly bars of eleven days", sessions(11, HOUR, HOUR), True),
    ("minutes of one day", sessions(1, MINUTE, MINUTE), False),
    (
        "two weeks of every day",
        [stretch(1)] + [Interval(stretch(n).end, stretch(n + 1).end) for n in range(1, 14)],
        False,
    ),
    (
        "eleven days in Auckland",
        [Interval(one.start - 33 * HOUR // 2, one.end - 33 * HOUR // 2) for one in sessions(11)],
        True,
    ),
    ("two weeks", WEEKS[:2], False),
    ("three weeks", WEEKS, True),
    ("three weeks, of one its Sunday", [*WEEKS[:2], SUNDAY], True),
]


@pytest.mark.parametrize(("name", "lost", "for_good"), BELIEVED, ids=[case[0] for case in BELIEVED])
def test_what_is_confirmed_is_believed(name: str, lost: list[Interval], for_good: bool) -> None:
    """Six hours later: what is more than ten days of records is kept as out of reach."""
    whole = Interval(min(one.start for one in lost), max(one.end for one in lost))
    known = [doubt(LOSS, whole, APART_MS)]
    bar = max(DAY_MS, lost[0].length)
    assert judged([lost], [], known, bar) == Verdict((), (whole,) if for_good else ()), name


def test_emptiness_is_confirmed_likewise() -> None:
    """And is known from then on."""
    assert judged([], [stretch(30)], [doubt(EMPTY, stretch(30), APART_MS)]) == Verdict()


def test_a_doubt_confirms_what_it_is_about_and_nothing_beside_it() -> None:
    """What is lost beside three days that were in doubt is in doubt from now on."""
    lost = sessions(200)
    doubted = Interval(lost[4].start, lost[7].end)
    found = judged([lost], [], [doubt(LOSS, doubted, APART_MS)])
    before, after = Interval(lost[0].start, doubted.start), Interval(doubted.end, lost[-1].end)
    assert found == Verdict((Doubt.new(before, LOSS, NOW), Doubt.new(after, LOSS, NOW)))
    doubted = stretch(30)
    found = judged([], [stretch(60)], [doubt(EMPTY, doubted, APART_MS)])
    assert found.withheld == [Interval(doubted.end, stretch(60).end)]


def test_what_is_in_doubt_is_not_believed_bit_by_bit() -> None:
    """Two of many lost ones, or a week of a year, asked for by themselves: as much in doubt."""
    lost = sessions(30)
    known = [doubt(LOSS, Interval(lost[0].start, lost[-1].end), HOUR)]
    [again] = judged([lost[4:6]], [], known).doubts
    assert (again.interval, again.tries) == (Interval(lost[4].start, lost[5].end), 2)
    [again] = judged([], [stretch(7)], [doubt(EMPTY, stretch(300), HOUR)]).doubts
    assert (again.interval, again.tries) == (stretch(7), 2)
    weekend = Interval(MONDAY + 5 * DAY_MS, MONDAY + 7 * DAY_MS)
    night = Interval(MONDAY - 4 * HOUR, MONDAY + 13 * HOUR)
    assert judged([], [weekend, night], [doubt(EMPTY, stretch(300), HOUR)]) == Verdict()


def test_what_came_between_lost_ones_is_not_in_doubt() -> None:
    """Each run of them is by itself, unless there are very many."""
    bars = sessions(30)
    found = judged([bars[:4], bars[9:12]], [], [])
    assert found.withheld == [
        Interval(bars[0].start, bars[3].end),
        Interval(bars[9].start, bars[11].end),
    ]
    bars = sessions(300)
    for count in (17, 128, 129, 150):
        runs = [[one] for one in bars[::2][:count]]
        found = judged(runs, [], [])
        assert len(found.doubts) == min(count, 128)
        between = bars[1::2][: count - 1]
        doubted = [one for one in between if any(d.contains(one) for d in found.withheld)]
        assert len(doubted) == max(0, count - 128)
    known = [doubt(LOSS, Interval(bars[0].start, bars[-1].end), APART_MS)]
    assert len(judged([[one] for one in bars[::2]], [], known).lost_for_good) == 128


def test_what_was_lost_together_is_counted_and_kept_together() -> None:
    """Asked for bit by bit: five days of fifteen are as many, and the others are kept with them."""
    days = sessions(15)
    week, rest = days[:5], Interval(days[5].start, days[-1].end)
    asked = [Interval(week[0].start, week[-1].end)]
    for since, kept in ((APART_MS, True), (APART_MS + 1, False)):
        doubts = [doubt(LOSS, asked[0], APART_MS), doubt(LOSS, rest, since)]
        found = judge(Lacking([week], [], DAY_MS, asked), doubts, NOW)
        assert found == Verdict((), tuple(union([*asked, rest])) if kept else ())


def test_only_the_same_said_of_the_same_confirms() -> None:
    """Neither another suspicion, nor one of another stretch."""
    lost = sessions(5)
    elsewhere = Interval(lost[-1].end, lost[-1].end + 1)
    for known in (doubt(EMPTY, lost[0], APART_MS), doubt(LOSS, elsewhere, APART_MS)):
        [found] = judged([lost], [], [known]).doubts
        assert (found.since, found.tries) == (SENT, 1)


def test_a_ticker_that_is_not_known_any_more() -> None:
    """It is in doubt, asked for again, and believed to be gone six hours later."""
    held = stretch(100)
    first = judge_unknown(held, [], NOW)
    assert first == Doubt.new(held, UNKNOWN, NOW)
    second = judge_unknown(held, [first], Sent.at(SENT + APART_MS - 1))
    assert second is not None
    assert (second.since, second.tries) == (SENT, 2)
    assert judge_unknown(held, [second], LATER) is None


def test_a_ticker_that_was_known_meanwhile() -> None:
    """It has answered for a part since, so that it is in doubt anew, and not gone."""
    held = stretch(100)
    left = remaining([Doubt.new(held, UNKNOWN, NOW)], [stretch(10)], [])
    assert judge_unknown(held, left, LATER) == Doubt.new(held, UNKNOWN, LATER)


def test_an_unknown_ticker_and_lost_records_do_not_confirm_one_another() -> None:
    """Upstream that lacks records knows the ticker."""
    held = stretch(100)
    for other in (LOSS, EMPTY):
        assert judge_unknown(held, [doubt(other, held, APART_MS)], NOW) is not None
    [found] = judged([sessions(5)], [], [doubt(UNKNOWN, held, APART_MS)]).doubts
    assert found.since == SENT


def test_doubts_end_where_they_are_answered() -> None:
    """What is left of them keeps its age, and the new ones stand among them."""
    old, new = doubt(LOSS, stretch(10), 5, tries=3), Doubt.new(stretch(1), EMPTY, NOW)
    answered = Interval(MONDAY + 2 * DAY_MS, MONDAY + 4 * DAY_MS)
    assert remaining([old], [answered], [new]) == [
        new,
        doubt(LOSS, stretch(2), 5, tries=3),
        doubt(LOSS, Interval(answered.end, stretch(10).end), 5, tries=3),
    ]
    assert remaining([old], [stretch(10)], []) == []


def test_when_a_doubt_is_asked_for_again() -> None:
    """From its next try on."""
    one = Doubt(*stretch(1), LOSS, since=0, next_try=SENT)
    assert unasked([one], SENT - 1) == [stretch(1)]
    assert unasked([one], SENT) == []


def test_weekdays() -> None:
    """Days that begin from Monday to Friday, whatever hour the interval begins and ends."""
    for start in range(14):
        for length in range(15):
            days = [MONDAY // DAY_MS + start + n for n in range(length)]
            expected = sum((day - MONDAY // DAY_MS) % 7 < 5 for day in days)
            whole = Interval(MONDAY + start * DAY_MS, MONDAY + (start + length) * DAY_MS)
            assert weekdays([whole]) == expected
            assert weekdays([Interval(whole.start - 1, whole.end)]) == expected
            assert weekdays([Interval(whole.start, whole.end - 1)]) == expected
    assert weekdays([Interval(-7 * DAY_MS, 0), stretch(7)]) == 10
    assert weekdays([]) == 0


def test_where_rows_are_lacking() -> None:
    """Between two rows only for longer than ten days, at the edges for however long."""
    day = DAY_MS
    whole = Interval(0, 60 * day)
    assert without_rows(whole, [], day) == [whole]
    assert without_rows(whole, [2 * day, 3 * day, 14 * day, 25 * day, 57 * day], day) == [
        Interval(0, 2 * day),
        Interval(26 * day, 57 * day),
        Interval(58 * day, 60 * day),
    ]
    assert without_rows(whole, [at * day for at in range(60)], day) == []
    assert without_rows(Interval(0, day), [], day) == [Interval(0, day)]


def test_confirmation_takes_six_hours() -> None:
    """One answer and the same a minute later may be one fault."""
    one = doubt(LOSS, stretch(1), 0)
    times = [SENT, SENT + APART_MS - 1, SENT + APART_MS]
    assert [one.confirmed(Sent.at(at)) for at in times] == [False, False, True]
