"""The bundled sample: what it holds, how ranges are cut from it, and what it refuses."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from gapless.domain.intervals import Interval
from gapless.errors import InvalidQuery, UnknownTicker, UpstreamUnavailable
from gapless.providers import sample
from gapless.providers.base import DAY_MS, DueMoments, Fetched, Pace, Provider, Traits
from gapless.providers.sample import PRICES, TICKERS, Bar, SampleProvider

NOW = 1_700_000_000_000


def ms(day: str) -> int:
    """Return midnight UTC of an ISO date."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1000


async def fetch(provider: SampleProvider, ticker: str, start: str, end: str) -> Fetched:
    """Fetch the days from `start` up to, but not including, `end`."""
    key = provider.key(ticker, {})
    return await provider.fetch(key, Interval(ms(start), ms(end)), NOW, {})


async def everything(provider: SampleProvider, ticker: str) -> list[Bar]:
    """Fetch all bars of a ticker."""
    end = provider.info.data_end
    assert end is not None
    whole = Interval(provider.info.data_start, end)
    fetched = await provider.fetch(provider.key(ticker, {}), whole, NOW, {})
    return [record.row for record in fetched.records]


def text(bars: Iterable[Bar]) -> list[str]:
    """Return the bars as the store keeps them."""
    return [msgspec.json.encode(bar).decode() for bar in bars]


def test_info() -> None:
    """It declares daily bars of a closed time span that are never revised."""
    provider: Provider = SampleProvider()
    info = provider.info
    assert info.name == "sample"
    assert [(param.name, param.default, param.choices) for param in info.params] == [
        ("interval", "1d", ("1d",))
    ]
    assert (info.time_column, *info.columns) == Bar.__struct_fields__
    assert (info.data_start, info.data_end) == (ms("2000-03-01"), ms("2013-03-02"))
    assert info.pace == Pace(rate=50, burst=200)
    assert info.revises is False
    assert info.basis is None
    assert provider.traits(provider.key("IBM", {})) == Traits(bar=DAY_MS)
    assert provider.due_moments({}, NOW) == DueMoments(NOW - DAY_MS, NOW + DAY_MS, DAY_MS)


@pytest.mark.parametrize(
    ("ticker", "count", "first", "last"),
    [
        ("AAPL", 3270, "2000-03-01", "2013-03-01"),
        ("FB", 196, "2012-05-18", "2013-03-01"),
        ("GOOG", 2148, "2004-08-19", "2013-03-01"),
        ("IBM", 3270, "2000-03-01", "2013-03-01"),
        ("MSFT", 3270, "2000-03-01", "2013-03-01"),
    ],
)
async def test_whole_history(ticker: str, count: int, first: str, last: str) -> None:
    """Each ticker has as many days as the source, at midnight UTC, in order, each sound."""
    bars = await everything(SampleProvider(), ticker)
    times = [bar.timestamp for bar in bars]
    assert len(bars) == count
    assert (times[0] * 1000, times[-1] * 1000) == (ms(first), ms(last))
    assert times == sorted(set(times))
    for bar in bars:
        assert bar.timestamp % 86_400 == 0
        assert datetime.fromtimestamp(bar.timestamp, UTC).weekday() < 5
        assert 0 < bar.low <= min(bar.open, bar.close)
        assert max(bar.open, bar.close) <= bar.high
        assert bar.adjclose > 0
        assert isinstance(bar.volume, int)
        assert bar.volume > 0


@pytest.mark.parametrize(
    ("ticker", "counts"),
    [
        (
            "AAPL",
            [212, 248, 252, 252, 252, 252, 251, 251, 253, 252, 252, 252, 250, 41],
        ),
        ("FB", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 155, 41]),
        ("GOOG", [0, 0, 0, 0, 94, 252, 251, 251, 253, 252, 252, 252, 250, 41]),
    ],
)
async def test_years(ticker: str, counts: list[int]) -> None:
    """Every year has its trading days; the source has 248 in 2001, when markets closed."""
    provider = SampleProvider()
    found = [
        len((await fetch(provider, ticker, f"{year}-01-01", f"{year + 1}-01-01")).records)
        for year in range(2000, 2014)
    ]
    assert found == counts


@pytest.mark.parametrize(
    ("ticker", "day", "after", "expected"),
    [
        (  # 118.56, 132.06, 118.5, 130.31 and 9,616,100 shares on the day; 2 · 2 · 7 = 28
            "AAPL",
            "2000-03-01",
            "2000-03-02",
            '{"timestamp":951868800,"open":4.234286,"high":4.716429,"low":4.232143,'
            '"close":4.653929,"adjclose":4.186663,"volume":269250800}',
        ),
        (  # 438.0, 438.1799, 429.98, 430.47 and 19,730,300 shares; 7
            "AAPL",
            "2013-03-01",
            "2013-03-02",
            '{"timestamp":1362096000,"open":62.571429,"high":62.597129,"low":61.425714,'
            '"close":61.495714,"adjclose":56.137353,"volume":138112100}',
        ),
        (  # no split, no dividend: as on the day
            "FB",
            "2012-05-18",
            "2012-05-19",
            '{"timestamp":1337299200,"open":42.05,"high":45.0,"low":38.0,'
            '"close":38.2318,"adjclose":38.2318,"volume":573576400}',
        ),
        (  # 797.8, 807.14, 796.15, 806.19 and 4,346,400 shares; 2
            "GOOG",
            "2013-03-01",
            "2013-03-02",
            '{"timestamp":1362096000,"open":398.9,"high":403.57,"low":398.075,'
            '"close":403.095,"adjclose":404.343169,"volume":8692800}',
        ),
        (  # no split
            "IBM",
            "2000-03-01",
            "2000-03-02",
            '{"timestamp":951868800,"open":102.0,"high":105.5,"low":100.06,'
            '"close":100.25,"adjclose":73.667719,"volume":10807800}',
        ),
        (  # 47.25, 48.5, 46.77, 48.3 and 45,223,200 shares; 2
            "MSFT",
            "2003-02-14",
            "2003-02-15",
            '{"timestamp":1045180800,"open":23.625,"high":24.25,"low":23.385,'
            '"close":24.15,"adjclose":16.076443,"volume":90446400}',
        ),
    ],
)
async def test_known_records(ticker: str, day: str, after: str, expected: str) -> None:
    """A record is the source's line divided by the later splits, in one exact spelling."""
    fetched = await fetch(SampleProvider(), ticker, day, after)
    assert text(record.row for record in fetched.records) == [expected]


@pytest.mark.parametrize(
    ("ticker", "day"),
    [("AAPL", "2000-06-21"), ("AAPL", "2005-02-28"), ("MSFT", "2003-02-18")],
)
async def test_no_cliff_at_splits(ticker: str, day: str) -> None:
    """Over a split adjclose / close stands still, and the price does not jump."""
    bars = await everything(SampleProvider(), ticker)
    at = next(i for i, bar in enumerate(bars) if bar.timestamp * 1000 == ms(day))
    before, after = bars[at - 1], bars[at]
    ratio = (after.adjclose / after.close) / (before.adjclose / before.close)
    assert ratio == pytest.approx(1, abs=1e-5)
    assert after.close / before.close == pytest.approx(1, abs=0.12)


async def test_adjclose_moves_by_dividends_only() -> None:
    """On no day does adjclose / close move by more than a dividend, whatever the ticker."""
    provider = SampleProvider()
    jumps = []
    for ticker in TICKERS:
        bars = await everything(provider, ticker)
        for before, after in pairwise(bars):
            ratio = (after.adjclose / after.close) / (before.adjclose / before.close)
            if abs(ratio - 1) > 0.02:
                jumps.append((ticker, after.timestamp * 1000))
    assert jumps == [("MSFT", ms("2004-11-15"))]


async def test_half_open_range() -> None:
    """The first instant of a range belongs to it, and its end does not."""
    provider = SampleProvider()
    key = provider.key("IBM", {})
    monday, tuesday = ms("2012-01-09"), ms("2012-01-10")

    async def times(start: int, end: int) -> list[int]:
        fetched = await provider.fetch(key, Interval(start, end), NOW, {})
        return [record.time for record in fetched.records]

    assert await times(monday, tuesday) == [monday]
    assert await times(monday, tuesday + 1) == [monday, tuesday]
    assert await times(monday + 1, tuesday) == []
    assert await times(monday, monday + 1) == [monday]
    assert await times(ms("2012-01-07"), monday) == []


async def test_adjacent_ranges_make_the_whole() -> None:
    """Fetched in two parts, cut anywhere, a history is what one fetch gives."""
    provider = SampleProvider()
    whole = await fetch(provider, "GOOG", "2008-01-01", "2009-01-01")
    for cut in ("2008-01-01", "2008-02-18", "2008-06-30", "2008-07-05", "2009-01-01"):
        left = await fetch(provider, "GOOG", "2008-01-01", cut)
        right = await fetch(provider, "GOOG", cut, "2009-01-01")
        assert [*left.records, *right.records] == whole.records


async def test_everything_is_final() -> None:
    """Nothing is provisional and nothing is to be remembered."""
    fetched = await fetch(SampleProvider(), "IBM", "2013-02-01", "2013-03-02")
    assert fetched.provisional == ()
    assert fetched.meta is None
    assert all(record.time == record.row.timestamp * 1000 for record in fetched.records)


async def test_empty_before_listing() -> None:
    """Before Facebook was listed there are no records, which is an answer and no error."""
    fetched = await fetch(SampleProvider(), "FB", "2000-03-01", "2012-05-18")
    assert list(fetched.records) == []
    assert fetched.provisional == ()


def test_canonical_key() -> None:
    """Case, space and a parameter at its default do not make another series."""
    provider = SampleProvider()
    plain = provider.key("AAPL", {})
    assert plain.text == "sample:AAPL"
    assert provider.key(" aapl ", {"interval": "1d"}) == plain


async def test_unknown_ticker() -> None:
    """An unknown ticker is refused by the fetch, with the five there are."""
    with pytest.raises(UnknownTicker) as refused:
        await fetch(SampleProvider(), "tsla", "2012-01-01", "2012-02-01")
    assert (
        refused.value.message == "sample has no ticker 'TSLA'; it has AAPL, FB, GOOG, IBM and MSFT"
    )
    assert refused.value.reason == "unknown_ticker"


@pytest.mark.parametrize("ticker", ["", "  ", "IB\x00M"])
def test_bad_ticker(ticker: str) -> None:
    """What cannot be a ticker is refused before anything is asked."""
    with pytest.raises(InvalidQuery, match="is no ticker; it has AAPL"):
        SampleProvider().key(ticker, {})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"interval": "1h"}, "sample: interval=1h is not supported; choose one of: 1d"),
        ({"adjust": "no"}, "sample has no parameter 'adjust'; its parameters are: interval"),
    ],
)
def test_bad_parameter(params: dict[str, str], message: str) -> None:
    """A parameter that it does not know is refused, with what it knows."""
    with pytest.raises(InvalidQuery) as refused:
        SampleProvider().key("IBM", params)
    assert refused.value.message == message


async def test_concurrent_first_fetches() -> None:
    """Many first fetches at once share one reading of the file."""
    provider = SampleProvider()
    fetches = [fetch(provider, ticker, "2013-03-01", "2013-03-02") for ticker in TICKERS * 4]
    answers = await asyncio.gather(*fetches)
    assert [len(answer.records) for answer in answers] == [1] * 20
    assert len({id(answer.records[0]) for answer in answers}) == len(TICKERS)


@pytest.mark.parametrize("content", [None, b"", b"PAR1 but not really PAR1"])
async def test_unreadable_file(tmp_path: Path, content: bytes | None) -> None:
    """A missing or damaged file is an upstream that does not answer, and can come back."""
    path = tmp_path / "prices.parquet"
    if content is not None:
        path.write_bytes(content)
    provider = SampleProvider(path=path)
    with pytest.raises(UpstreamUnavailable, match=r"prices\.parquet cannot be read"):
        await fetch(provider, "IBM", "2013-03-01", "2013-03-02")
    path.write_bytes(PRICES.read_bytes())
    assert len((await fetch(provider, "IBM", "2013-03-01", "2013-03-02")).records) == 1


def test_source_is_told() -> None:
    """The file is small and the very one that SOURCE.md describes."""
    content = PRICES.read_bytes()
    told = PRICES.with_name("SOURCE.md").read_text(encoding="utf-8")
    assert len(content) < 700_000
    assert hashlib.sha256(content).hexdigest() in told
    assert f"{len(content):,} bytes" in told


def test_import_is_light() -> None:
    """Importing the provider, and making one, does not import polars."""
    code = (
        f"import sys; import {sample.__name__} as s; s.SampleProvider(); "
        "sys.exit('polars' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
