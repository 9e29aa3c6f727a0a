"""Answers that Yahoo really gave, sent over a socket to the provider to make sense of.

The recordings are not part of the repository; without the folder every test here is skipped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gapless.config import YahooSettings
from gapless.domain.intervals import Interval
from gapless.errors import UnknownTicker
from gapless.providers.base import DAY_MS, Fetched
from gapless.providers.yahoo import YahooProvider
from support.recordings import Recording

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "data" / "yahoo"

pytestmark = pytest.mark.skipif(
    not RECORDINGS.is_dir(),
    reason="the recorded Yahoo answers are not here: they are kept outside of the repository",
)


async def replay(
    number: str,
    ticker: str,
    interval: str = "1d",
    asked: Interval | None = None,
    now: str = "2026-11-20T12:00",
) -> tuple[Recording, Fetched]:
    """Serve a recording to the provider for the range it was recorded for, or for `asked`."""
    recording = Recording(RECORDINGS, number)
    return recording, await recording.replay(ticker, interval, asked, seconds(now) * 1000)


def seconds(text: str) -> int:
    """Return Unix seconds of an ISO time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def same_rows(found: Fetched, expected: dict[int, tuple[Any, ...]]) -> bool:
    """Whether the records are exactly these rows."""
    return {
        record.row.timestamp: (
            record.row.open,
            record.row.high,
            record.row.low,
            record.row.close,
            record.row.volume,
        )
        for record in found.records
    } == expected


async def test_01_a_live_row_past_the_range_is_dropped_and_a_null_row_kept() -> None:
    """The 1m answer's last row lies 20 hours past period2; 15:15 is all null and stays null."""
    recording, found = await replay("01", "AAPL", "1m", now="2024-10-04T00:00")
    rows = recording.rows
    live = rows.pop(seconds("2024-10-03T20:00"))
    assert live[4] == 0
    assert len(found.records) == 390
    assert same_rows(found, rows)
    (null,) = (record for record in found.records if record.row.null)
    assert null.time == seconds("2024-10-02T15:15") * 1000
    assert null.row.volume is None
    assert [(span.start, span.end) for span in found.provisional] == [
        (null.time, null.time + 60_000)
    ]


async def test_01_a_live_row_inside_the_range_is_dropped_too() -> None:
    """The snapshot at the close is no bar, even where the asked range holds it."""
    asked = Interval(seconds("2024-10-02T00:00") * 1000, seconds("2024-10-04T00:00") * 1000)
    _, found = await replay("01", "AAPL", "1m", asked, now="2024-10-04T00:00")
    assert len(found.records) == 390


async def test_02_and_03_a_null_day_is_provisional_and_healed_later() -> None:
    """The null Monday may still change that week; a later answer fills it."""
    recording, found = await replay("02", "WSU.DE", now="2023-08-10T12:00")
    assert same_rows(found, recording.rows)
    monday = found.records[1]
    assert monday.row.adjclose is None
    assert (found.provisional[0].start, found.provisional[0].end) == (
        monday.time,
        monday.time + DAY_MS,
    )
    healed, later = await replay("03", "WSU.DE")
    assert same_rows(later, healed.rows)
    assert later.records[1].row.close == 34.0
    assert later.provisional == ()


async def test_08_the_bar_at_period2_is_dropped_and_large_volumes_are_whole() -> None:
    """Upstream includes period2 on 1d, we do not; four days are null, volumes pass 2^32."""
    recording, found = await replay("08", "BTC-USD")
    rows = recording.rows
    del rows[seconds("2021-01-04T00:00")]
    assert same_rows(found, rows)
    assert sum(record.row.null for record in found.records) == 4
    assert max(record.row.volume or 0 for record in found.records) > 1 << 32


async def test_09_currency_days_are_stamped_at_london_midnight() -> None:
    """23:00 UTC in summer and 00:00 in winter, as upstream stamps them."""
    recording, found = await replay("09", "EURUSD=X")
    rows = recording.rows
    del rows[seconds("2021-01-04T00:00")]
    assert same_rows(found, rows)
    hours = {datetime.fromtimestamp(record.row.timestamp, UTC).hour for record in found.records}
    assert hours == {0, 23}
    assert found.meta is not None
    assert (found.meta["tz"], found.meta["open_s"], found.meta["close_s"]) == (
        "Europe/London",
        0,
        86_400,
    )


async def test_10_and_11_two_dividends_change_the_basis_of_every_adjclose() -> None:
    """The same range five months apart: prices are the same, each bar is on another basis."""
    _, before = await replay("10", "MSFT")
    _, after = await replay("11", "MSFT")
    provider = YahooProvider(YahooSettings())
    basis = provider.info.basis
    assert basis is not None
    assert len(before.records) == len(after.records) == 252
    for old, new in zip(before.records, after.records, strict=True):
        held, fresh = msgspec.structs.asdict(old.row), msgspec.structs.asdict(new.row)
        assert basis.differ(held, fresh)
        assert not basis.differ({**held, "adjclose": None}, {**fresh, "adjclose": None})
        assert fresh["adjclose"] / held["adjclose"] == pytest.approx(0.996, abs=1e-4)


async def test_12_a_split_inside_the_range_leaves_no_cliff() -> None:
    """Prices before the split are divided already; no day moves by anything near four."""
    recording, found = await replay("12", "NVDA")
    assert same_rows(found, recording.rows)
    closes = [record.row.close for record in found.records]
    assert all(0.8 < b / a < 1.25 for a, b in pairwise(closes))


async def test_13_a_delisted_symbol_is_an_unknown_ticker() -> None:
    """Upstream's 404 names the ticker and its reason."""
    with pytest.raises(UnknownTicker, match="SI: No data found, symbol may be delisted"):
        await replay("13", "SI")


async def test_14_a_range_before_the_listing_is_known_empty() -> None:
    """Upstream's 400 about it is an answer without records, and final."""
    _, found = await replay("14", "BEKE")
    assert (found.records, found.provisional) == ((), ())


async def test_15_pre_and_post_market_rows_are_dropped() -> None:
    """Of 30 half hours 13 are of the regular session; period2 is not one of them."""
    recording, found = await replay("15", "TSLA", "30m")
    begin, end = seconds("2021-11-22T14:30"), seconds("2021-11-22T21:00")
    rows = {stamp: row for stamp, row in recording.rows.items() if begin <= stamp < end}
    assert len(rows) == 13
    assert same_rows(found, rows)


async def test_22_a_split_of_a_month_is_told_by_its_ex_date() -> None:
    """Its key is the month's stamp, its date inside that of the day."""
    asked = Interval(seconds("2020-06-01") * 1000, seconds("2020-12-01") * 1000)
    _, found = await replay("22", "AAPL", "1mo", asked)
    (split,) = [one for one in found.actions or () if one["split"]]
    assert (split["timestamp"], split["split"]) == (seconds("2020-08-31T13:30"), 4.0)
    assert found.facts is not None
    assert (found.facts["name"], found.facts["exchange"]) == ("Apple Inc.", "NMS")


async def test_16_an_answer_without_timestamps_is_known_empty() -> None:
    """`quote` and `adjclose` hold an empty object each; nothing is missing."""
    _, found = await replay("16", "APS.AX")
    assert (found.records, found.provisional) == ([], ())
    assert found.meta is not None
    assert found.meta["tz"] == "Australia/Sydney"


async def test_20_the_live_day_is_put_on_its_sessions_stamp() -> None:
    """The last row, stamped a second past the close, becomes the bar of 13:30 UTC."""
    now = "2025-10-29T21:00"
    asked = Interval(seconds("2025-04-30T00:00") * 1000, seconds(now) * 1000)
    recording, found = await replay("20", "AAPL", asked=asked, now=now)
    rows = recording.rows
    rows[seconds("2025-10-29T13:30")] = rows.pop(seconds("2025-10-29T20:00:01"))
    assert len(found.records) == 127
    assert same_rows(found, rows)
    (tail,) = found.provisional
    # It is 17:00 in New York: the 28th became final an hour ago, and the market opens tomorrow.
    assert tail.start == seconds("2025-10-29T04:00") * 1000
    assert tail.end == asked.end
    assert tail.refresh_after == seconds("2025-10-30T13:30") * 1000


async def test_22_a_live_row_beside_its_month_is_dropped() -> None:
    """October is there once, with the volume upstream summed up, and may still change."""
    now = "2024-10-12T12:00"
    asked = Interval(seconds("2019-11-01T00:00") * 1000, seconds(now) * 1000)
    recording, found = await replay("22", "AAPL", "1mo", asked, now=now)
    rows = recording.rows
    del rows[seconds("2024-10-11T20:00:01")]
    assert same_rows(found, rows)
    assert found.records[-1].row.volume == 332_258_600
    assert [span.start for span in found.provisional] == [found.records[-1].time]
