"""The words of commands that are about a range of a series."""

from __future__ import annotations

import pytest

from gapless.cli.exits import UsageError
from gapless.cli.series_words import SeriesWords, series_words
from gapless.protocol.times import parse_instant
from gapless.zones import zone_named

NOW = parse_instant("2025-03-10", now_ms=0)


@pytest.mark.parametrize(
    ("words", "bounds", "params"),
    [
        ([], None, {}),
        (["2024-01-01..2024-02-01"], ("2024-01-01", "2024-02-01"), {}),
        (["30d"], ("-30d", "now"), {}),
        (["-30d"], ("-30d", "now"), {}),
        (["..2024-02-01"], ("", "2024-02-01"), {}),
        ([".."], ("", ""), {}),
        (["interval=1h", "-12H"], ("-12H", "now"), {"interval": "1h"}),
        (["Interval=1h", "data=a=b", "x="], None, {"interval": "1h", "data": "a=b", "x": ""}),
        # Which is earlier, the exchange tells.
        (
            ["2024-01-01..2023-12-31T23:00:00Z"],
            ("2024-01-01", "2023-12-31T23:00:00Z"),
            {},
        ),
    ],
)
def test_a_range_and_parameters_in_any_order(
    words: list[str], bounds: tuple[str, str] | None, params: dict[str, str]
) -> None:
    """A range is what `date=` takes; a word with `=` is a parameter."""
    assert series_words(words, NOW) == SeriesWords(bounds, params)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["yesterday"], "`yesterday` is none of what may stand there; expected a range"),
        (["--yse"], "`--yse` is none of what may stand there"),
        (["=1h"], "`=1h` is none"),
        (["30d", "-7d"], "`-7d` is a second range"),
        (["interval=1h", "INTERVAL=1d"], "`interval` is there more than once"),
        (["date=2024-01-01..2024-02-01"], "`date=2024-01-01..2024-02-01` is no parameter"),
        (["tag=x"], "`tag=x` is no parameter"),
        (["2024-13-01..2024-02-01"], "start `2024-13-01` is no date"),
        (["2024-01-01T00:00:00Z..soon"], "end `soon` is no instant"),
        (["2024-01-01..soon"], "end `soon` is no instant"),
        (["2024-02-01..2024-01-01"], "the range is empty"),
    ],
)
def test_what_is_wrong_is_named(words: list[str], said: str) -> None:
    """Before anybody is asked, and with what was expected."""
    with pytest.raises(UsageError) as raised:
        series_words(words, NOW)
    assert said in raised.value.message


def test_dates_are_days_of_a_zone() -> None:
    """Instants are not; and what is empty there is refused where the zone is known."""
    day = series_words(["2024-04-01..2024-05-01"], NOW)
    found = day.within(NOW, zone_named("Europe/Berlin"))
    assert found is not None
    assert found.start_ms == parse_instant("2024-03-31T22:00:00Z", now_ms=0)
    mixed = series_words(["2024-01-01..2023-12-31T23:00:00Z"], NOW)
    with pytest.raises(UsageError, match="the range is empty"):
        mixed.within(NOW, zone_named("Europe/Berlin"))
    assert mixed.within(NOW, zone_named("Asia/Tokyo")) is not None
    assert series_words([], NOW).within(NOW, None) is None
