"""`gapless coverage`: what it shows of a series, for people and for programs."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest

from gapless.cli import main
from gapless.cli.coverage import View, bounds, chosen, record, show, view
from gapless.cli.exits import Exit, UsageError
from gapless.domain.blocks import Block
from gapless.domain.coverage import Mark
from gapless.domain.intervals import Interval
from gapless.domain.series import SeriesKey
from gapless.domain.spans import Spans
from gapless.errors import NotFound
from gapless.instants import DAY_MS
from gapless.protocol.times import parse_instant
from gapless.shell import bars
from gapless.shell.wording import console_on
from gapless.store.base import SeriesState
from gapless.store.sqlite import open_store
from support.series import EMPTY, KEY, OUT, change, cover, fill

DAY0 = parse_instant("2025-01-01", now_ms=0)


def day(number: float) -> int:
    """Return the instant so many days into 2025."""
    return DAY0 + round(number * DAY_MS)


NOW = day(100)
STATE = SeriesState(
    KEY,
    number=1,
    due_before=5,
    coverage=Spans(
        [
            cover(day(0), day(10), OUT, fetched_at=NOW, commit=5),
            cover(day(10), day(30), fetched_at=NOW - 3 * 3_600_000, commit=4),
            cover(day(30), day(60), fetched_at=NOW, mark=Mark.UNVERIFIED, commit=5),
            cover(day(60), day(70), EMPTY, fetched_at=NOW, commit=6),
            cover(day(90), day(100), fetched_at=NOW, refresh_after=NOW + 900_000, commit=6),
        ]
    ),
    blocks=Spans(
        [
            Block(day(10), day(30), True, 14, day(11), day(29), 1),
            Block(day(30), day(60), True, 20, day(31), day(59), 2),
            Block(day(90), day(100), False, 7, day(91), day(99), 3),
        ]
    ),
)


def shown(*views: View, blocks: bool = False, now: int = NOW) -> str:
    """Return what is printed of these views, 80 columns wide."""
    stream = io.StringIO()
    show(views, Path("hub.db"), now, console_on(stream), blocks)
    return stream.getvalue()


def test_a_view_takes_coverage_apart() -> None:
    """What is due is held until it is fetched again; what upstream no longer serves is no gap."""
    found = view(STATE, NOW)
    assert found.whole == Interval(day(0), day(100))
    assert [shade for shade, _ in found.parts] == [
        bars.OUT_OF_WINDOW,
        bars.DUE,
        bars.HELD,
        bars.EMPTY,
        bars.PROVISIONAL,
    ]
    assert found.missing == (Interval(day(70), day(90)),)
    assert found.records == 41


def test_a_view_ends_where_it_is_told() -> None:
    """Bounds cut what is known, and show what is not."""
    found = view(STATE, NOW, day(-10), day(20))
    assert found.whole == Interval(day(-10), day(20))
    assert found.missing == (Interval(day(-10), day(0)),)
    assert found.records == 14


def test_what_lies_ahead_is_not_missing() -> None:
    """An end beyond the present is the present (stitching rule 1)."""
    assert view(STATE, NOW, day(90), day(300)).whole == Interval(day(90), day(100))


def test_what_follows_a_tail_that_is_not_due_is_covered() -> None:
    """Minutes later the present still counts as known, until the tail is due (rule 3)."""
    soon, late = NOW + 60_000, NOW + 1_800_000
    assert view(STATE, soon, day(95), soon).missing == ()
    assert view(STATE, late, day(95), late).missing == (Interval(NOW, late),)


def test_a_series_of_which_nothing_is_known_is_shown_empty() -> None:
    """A series without coverage has no bar, and no fault."""
    found = view(SeriesState(KEY, number=1), NOW)
    assert found.whole.empty
    assert "nothing is known" in shown(found)


def test_the_table_has_a_bar_and_what_it_cannot_show() -> None:
    """Name, count, bar and remarks fit into 80 columns."""
    text = shown(view(STATE, NOW))
    lines = text.splitlines()
    assert lines[0] == f"sample AAPL{'41 records':>69}"
    assert lines[1].startswith("2025-01-01 xxxxx")
    assert lines[1].endswith("~~~~~ 2025-04-11")
    assert len(lines[1]) == 80
    remarks = " ".join(" ".join(lines[2:5]).split())
    assert "1 gap: 2025-03-12..2025-04-01" in remarks
    assert "provisional until 2025-04-11 00:15" in remarks
    assert "partly unverified" in remarks
    assert "fetched 3 h ago" in remarks
    assert "o due" in text
    assert "x out of window" in text
    assert all(len(line) <= 80 for line in lines)
    assert lines[-1] == "1 series, 41 records in hub.db"


def test_a_tail_that_is_due_is_said() -> None:
    """Past its date the provisional part is due."""
    assert "provisional part is due" in shown(view(STATE, NOW + DAY_MS), now=NOW + DAY_MS)


def test_json_tells_instants_and_states() -> None:
    """Every part is told with its state, so that a program need not know the rules."""
    told = record(view(STATE, NOW))
    assert told["series"] == "sample:AAPL"
    assert told["from"] == "2025-01-01T00:00:00Z"
    assert [one["state"] for one in told["coverage"]] == [
        "out_of_window",
        "due",
        "held",
        "empty",
        "provisional",
    ]
    assert told["coverage"][2]["mark"] == "unverified"
    assert told["coverage"][4]["refresh_after"] == "2025-04-11T00:15:00Z"
    assert told["coverage"][1]["fetched_at"] == "2025-04-10T21:00:00Z"
    assert told["missing"] == [{"from": "2025-03-12T00:00:00Z", "to": "2025-04-01T00:00:00Z"}]


def test_series_are_chosen_by_ticker_in_any_case() -> None:
    """What is asked and not there is an error that names what is."""
    other = SeriesState(SeriesKey("sample", "IBM"), number=2)
    path = Path("hub.db")
    assert chosen([STATE, other], path, "sample", "ibm") == [other]
    assert chosen([STATE, other], path, None, None) == [STATE, other]
    assert chosen([], path, None, None) == []
    with pytest.raises(NotFound, match="of sample it holds AAPL, IBM"):
        chosen([STATE, other], path, "sample", "XYZ")
    with pytest.raises(NotFound, match="holds nothing of nope"):
        chosen([], path, "nope", None, [STATE, other])
    with pytest.raises(NotFound, match=r"did you mean: gapless coverage sample IBM\?"):
        chosen([], path, "ibm", None, [STATE, other])


@pytest.mark.parametrize(
    ("start", "end", "complaint"),
    [
        ("yesterday", None, "--start `yesterday` is no instant"),
        (None, "x", "--end `x` is no instant"),
        ("-1d", "-2d", "--start -1d is not before --end -2d"),
    ],
)
def test_bad_bounds_are_misuse(start: str | None, end: str | None, complaint: str) -> None:
    """A bound that is none is named by its flag."""
    with pytest.raises(UsageError, match=complaint):
        bounds(start, end, NOW)


def test_the_command_reads_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is stored is shown, uncoloured where piped, and as JSON on request."""
    path = tmp_path / "hub.db"
    key = SeriesKey.of("yahoo_finance", "MSFT", {"interval": "1h"})

    store = open_store(path)

    async def prepare() -> None:
        await store.apply(change(fill(day(0), day(10), [day(1), day(2)])))
        await store.apply(change(fill(day(0), day(10), [day(1)]), key=key))
        await store.apply(change(fill(day(20), day(30), [day(21)]), key=key, due_before=3))
        await store.close()

    asyncio.run(prepare())
    assert main(["coverage", "--db", str(path)]) == Exit.OK
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "yahoo_finance MSFT interval=1h" in out
    assert "2 series, 4 records" in out
    assert main(["coverage", "sample", "aapl", "--db", str(path), "-o", "json"]) == Exit.OK
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["ticker"], told["records"], told["missing"]) == ("AAPL", 2, [])
    assert main(["coverage", "--start", "-3d", "--end=now", "--db", str(path)]) == Exit.OK
    assert "1 gap" in capsys.readouterr().out


def test_an_empty_database_holds_nothing_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database without a series is no error; one that is not there is."""
    path = tmp_path / "hub.db"
    store = open_store(path)
    asyncio.run(store.close())
    assert main(["coverage", "--db", str(path)]) == Exit.OK
    assert "holds nothing yet" in capsys.readouterr().out
    assert main(["coverage", "--db", str(tmp_path / "other.db")]) == Exit.FAILURE
    assert "there is no database at" in capsys.readouterr().err
