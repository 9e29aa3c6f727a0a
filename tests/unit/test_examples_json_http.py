"""The JSON-over-HTTP example against a real server that answers in several shapes, and badly."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from support.examples import FOLDER, Api, example, serving

json_http = example("json_http")

START = datetime(2024, 1, 2, tzinfo=UTC)
END = datetime(2024, 1, 5, tzinfo=UTC)
LIST = {
    "ok": True,
    "data": {
        "bars": [
            {"date": "2024-01-04", "c": {"usd": "11.5"}, "v": 7},
            {"date": "2024-01-01", "c": {"usd": "9"}, "v": 1},
            {"date": "2024-01-02", "c": {"usd": "10.25"}, "v": 3},
            {"date": "2024-01-05", "c": {"usd": "12"}, "v": 9},
        ]
    },
}
BY_DATE = {"base": "USD", "rates": {"2024-01-02": {"EUR": 0.91}, "2024-01-03": {"EUR": 0.92}}}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Run a server on loopback, past any proxy of the environment."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as served:
        yield served


@pytest.fixture
def provider(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return what makes a provider of a TOML text, in which API is the server's address."""

    def make(text: str) -> Any:
        path = tmp_path / "source.toml"
        path.write_text(text.replace("API", api.url), "utf-8")
        monkeypatch.setenv("JSON_HTTP_CONFIG", str(path))
        return json_http.Provider()

    return make


BARS = """
url = "API/bars/{ticker}?from={start}&to={end}"
records = "data.bars"
time = "date"
numbers = true
[fields]
close = "c.usd"
volume = "v"
"""
PLAIN = 'url = "API/{ticker}"\nrecords = "rates"\n'


def times(rows: list[dict[str, Any]]) -> list[str]:
    """Return the records' times as dates."""
    return [row["timestamp"].date().isoformat() for row in rows]


async def test_a_list_of_objects(api: Api, provider: Callable[[str], Any]) -> None:
    """Fields are taken by their paths, texts become numbers, rows come in order and cut to size."""
    api.answers(LIST)
    assert await provider(BARS).fetch("A B", START, END) == [
        {"timestamp": datetime(2024, 1, 2, tzinfo=UTC), "close": 10.25, "volume": 3},
        {"timestamp": datetime(2024, 1, 4, tzinfo=UTC), "close": 11.5, "volume": 7},
    ]
    assert api.paths == ["/bars/A%20B?from=2024-01-02&to=2024-01-04"]


async def test_an_object_by_date_as_the_bundled_file_tells(
    api: Api, provider: Callable[[str], Any]
) -> None:
    """json_http.toml fits the shape of its API; parameters choose the column and are sent."""
    bundled = (FOLDER / "json_http.toml").read_text("utf-8")
    source = provider(bundled.replace("https://api.frankfurter.dev", "API"))
    api.answers(BY_DATE)
    rows = await source.fetch("USD", START, END, quote="EUR")
    assert [row["rate"] for row in rows] == [0.91, 0.92]
    assert times(rows) == ["2024-01-02", "2024-01-03"]
    assert api.paths == ["/v1/2024-01-02..2024-01-04?base=USD&symbols=EUR"]
    described = source.describe()
    assert described["name"] == "frankfurter"
    assert described["params"][0]["default"] == "EUR"
    assert described["final_after"] == "2d"


async def test_an_object_by_date_of_plain_values(api: Api, provider: Callable[[str], Any]) -> None:
    """A value that is no object becomes the column `value`; without fields all columns are kept."""
    source = provider(PLAIN)
    api.answers({"rates": {"2024-01-02": 1.5, "2024-01-03": None}})
    assert [row["value"] for row in await source.fetch("X", START, END)] == [1.5, None]
    api.answers(BY_DATE)
    assert [row["EUR"] for row in await source.fetch("X", START, END)] == [0.91, 0.92]


async def test_lists_of_lists_with_milliseconds(api: Api, provider: Callable[[str], Any]) -> None:
    """Arrays are gone through by number, and bounds are written as the API wants them."""
    source = provider(
        'url = "API/k?symbol={ticker}&from={start}&to={end}&i={interval}"\n'
        'time = "0"\ntimes = "ms"\nbounds = "ms"\nend_included = false\n'
        '[fields]\nopen = "1"\n[params.interval]\ndefault = "1d"\n[headers]\nX-Who = "me"\n'
    )
    first = int(START.timestamp() * 1000)
    api.answers([[first, 5, 6], [first + 86_400_000, 6, 7]])
    rows = await source.fetch("BTC", START, END, interval="1h")
    assert [row["open"] for row in rows] == [5, 6]
    last = int(END.timestamp() * 1000)
    assert api.paths == [f"/k?symbol=BTC&from={first}&to={last}&i=1h"]
    assert api.asked_with[0]["x-who"] == "me"


@pytest.mark.parametrize(
    ("bounds", "included", "end", "written"),
    [
        ("date", "true", "2024-01-05T00:00:00", "2024-01-04"),
        ("date", "true", "2024-01-05T12:00:00", "2024-01-05"),
        ("date", "false", "2024-01-05T00:00:00", "2024-01-05"),
        ("date", "false", "2024-01-05T12:00:00", "2024-01-06"),
        ("s", "true", "2024-01-05T00:00:00", "1704412799"),
        ("s", "false", "2024-01-05T00:00:00", "1704412800"),
        ("ms", "true", "2024-01-05T00:00:00", "1704412799999"),
        ("iso", "false", "2024-01-05T00:00:00", "2024-01-05T00%3A00%3A00.000Z"),
        ("%Y%m%d", "true", "2024-01-05T00:00:00", "20240104"),
    ],
)
async def test_how_bounds_are_written(
    api: Api, provider: Callable[[str], Any], bounds: str, included: str, end: str, written: str
) -> None:
    """Ranges are half open here; what the API is asked for is never shorter than that."""
    source = provider(
        f'url = "API/{{ticker}}/{{end}}"\nbounds = "{bounds}"\nend_included = {included}\n'
    )
    await source.fetch("X", START, datetime.fromisoformat(end).replace(tzinfo=UTC))
    assert api.paths == [f"/X/{written}"]


async def failure(source: Any, ticker: str = "X") -> Any:
    """Return how a fetch fails."""
    with pytest.raises(json_http.Failed) as caught:
        await source.fetch(ticker, START, END)
    return caught.value


@pytest.mark.parametrize(
    ("status", "headers", "reason", "after"),
    [
        (404, {}, "unknown_ticker", None),
        (429, {"Retry-After": "17"}, "rate_limited", 17.0),
        (429, {}, "rate_limited", None),
        (429, {"Retry-After": "soon"}, "rate_limited", None),
        (500, {}, "upstream_unavailable", None),
        (503, {"Retry-After": "3"}, "upstream_unavailable", 3.0),
        (403, {}, "upstream_rejected", None),
        (302, {"Location": "/elsewhere?key=secret"}, "upstream_rejected", None),
    ],
)
async def test_statuses_have_their_reasons(
    api: Api,
    provider: Callable[[str], Any],
    status: int,
    headers: dict[str, str],
    reason: str,
    after: float | None,
) -> None:
    """Each refusal is told apart, Retry-After is handed on, and redirects are not followed."""
    api.status, api.headers = status, headers
    error = await failure(provider(PLAIN))
    assert (error.reason, error.retry_after_s) == (reason, after)
    assert str(status) in str(error)
    assert "secret" not in str(error)
    assert api.paths == ["/X"]


async def test_retry_after_may_be_a_date(api: Api, provider: Callable[[str], Any]) -> None:
    """A date is told as the seconds until then, one that has passed as none."""
    api.status = 429
    for ahead, least, most in ((100, 90, 100), (-100, 0, 0)):
        then = datetime.now(UTC) + timedelta(seconds=ahead)
        api.headers = {"Retry-After": format_datetime(then, usegmt=True)}
        assert least <= (await failure(provider(PLAIN))).retry_after_s <= most


async def test_not_found_may_mean_empty(api: Api, provider: Callable[[str], Any]) -> None:
    """Where a source says so, 404 is a range without records."""
    api.status = 404
    assert await provider('not_found = "empty"\n' + PLAIN).fetch("X", START, END) == []


@pytest.mark.parametrize(
    ("body", "reason", "says"),
    [
        (b"<html>", "upstream_unavailable", "no JSON"),
        (b'{"error": "no such plan"}', "upstream_rejected", "no such plan"),
        (b'{"rates": {"yesterday": 1}}', "upstream_rejected", "yesterday"),
        (b'{"rates": 5}', "upstream_rejected", "5"),
        (b"[]", "upstream_rejected", "rates"),
    ],
)
async def test_answers_of_another_shape_are_refused(
    api: Api, provider: Callable[[str], Any], body: bytes, reason: str, says: str
) -> None:
    """What does not fit the TOML file is an error that shows it, never an empty history."""
    api.body = body
    error = await failure(provider(PLAIN))
    assert error.reason == reason
    assert says in str(error)


async def test_a_slow_api_is_given_up(api: Api, provider: Callable[[str], Any]) -> None:
    """One time-out counts for all of an answer, and nothing of the address is told but the host."""
    api.answering.clear()
    source = provider('timeout_s = 0.2\nurl = "API/{ticker}?key=secret"\n')
    error = await failure(source)
    assert error.reason == "upstream_unavailable"
    assert "secret" not in str(error)


async def test_nobody_there(api: Api, provider: Callable[[str], Any]) -> None:
    """A connection that is refused is an upstream that is unavailable."""
    source = provider(f'url = "{api.url.rpartition(":")[0]}:1/{{ticker}}"\n')
    assert (await failure(source)).reason == "upstream_unavailable"


@pytest.mark.parametrize("packed", [False, True])
async def test_an_answer_has_a_largest_size(
    api: Api, provider: Callable[[str], Any], packed: bool
) -> None:
    """What is over max_bytes is refused, unpacked size included, and the way out is told."""
    api.answers({"rates": {"x": "y" * 300_000}})
    if packed:
        api.body, api.headers = gzip.compress(api.body), {"Content-Encoding": "gzip"}
    error = await failure(provider("max_bytes = 100_000\n" + PLAIN))
    assert error.reason == "upstream_rejected"
    assert "max_span" in str(error)


@pytest.mark.parametrize("ticker", [".", ".."])
async def test_no_ticker_leads_elsewhere(
    api: Api, provider: Callable[[str], Any], ticker: str
) -> None:
    """Dots that would change the path are refused, slashes are encoded."""
    source = provider(PLAIN)
    assert (await failure(source, ticker)).reason == "unknown_ticker"
    assert api.paths == []
    api.answers({"rates": {}})
    await source.fetch("../x?y", START, END)
    assert api.paths == ["/..%2Fx%3Fy"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "url is missing"),
        ('url = "API"\nurls = 1\n', "urls means nothing"),
        ('url = "file:///etc/passwd"\n', "http://"),
        ('url = "http://{ticker}.example.org/"\n', "plain host"),
        ('url = "API/{tickr}"\n', "{tickr}"),
        ('url = "API/{ticker}"\nrecords = "{start}"\n', "{start}"),
        ('url = "API"\n[headers]\nX = "$NO_SUCH_KEY"\n', "NO_SUCH_KEY"),
    ],
)
def test_a_wrong_file_is_refused_at_once(
    provider: Callable[[str], Any], text: str, says: str
) -> None:
    """The message names the file and what is wrong in it."""
    with pytest.raises(ValueError, match=r"source\.toml") as caught:
        provider(text)
    assert says in str(caught.value)


async def test_keys_come_from_the_environment(
    api: Api, provider: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header may hold what only the environment knows."""
    monkeypatch.setenv("SOME_KEY", "k-1")
    source = provider(PLAIN + '[headers]\nAuthorization = "Bearer $SOME_KEY"\n')
    api.answers({"rates": {}})
    assert await source.fetch("X", START, END) == []
    assert api.asked_with[0]["authorization"] == "Bearer k-1"
