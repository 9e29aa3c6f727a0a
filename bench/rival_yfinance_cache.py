"""yfinance-cache reading many tickers from its warm cache, whenever it is told to.

Runs in an environment of its own, by `python -P`, and knows nothing of the other files here. On
stdin a line of JSON: `home` (an empty folder), `tickers`, `days` (Unix seconds), `bars` (a file
with float64 by ticker, column and day), `start`, `end`; then a line for each reading, which names
the way. Prints as bulk_client.py does.

The cache is filled by the functions with which yfinance-cache itself stores what it has fetched,
with just the rows that are asked for. From then on every request to a network is refused, and
counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, NoReturn
from unittest.mock import patch
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

COLUMNS = ("Open", "High", "Low", "Close", "Volume")
ZONE = "America/New_York"


def fill(store: Any, task: dict[str, Any], days: Any, bars: Any) -> None:
    """Store the bars as if they had been fetched now, from a stock without splits or dividends."""
    now = pd.Timestamp.now("UTC").tz_convert(ZoneInfo(ZONE))
    told = {
        "exchange": "NMS",
        "exchangeTimezoneName": ZONE,
        "firstTradeDateEpochUtc": task["days"][0] + 86_400 // 2,
    }
    first = datetime.fromtimestamp(task["days"][0], UTC).date()
    for ticker, values in zip(task["tickers"], bars, strict=True):
        history = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)), index=days)
        history["Volume"] = history["Volume"].astype("int64")
        for name, value in (
            ("Dividends", 0.0),
            ("Stock Splits", 0.0),
            ("Repaired?", False),
            ("Final?", True),
            ("C-Check?", True),
            ("FetchDate", now),
            ("CSF", 1.0),
            ("CDF", 1.0),
            ("LastDivAdjustDt", now),
            ("LastSplitAdjustDt", now),
        ):
            history[name] = value
        asked = pd.Timestamp.now()
        checks = {"FetchDate": asked, "LastCheck": asked}
        store.StoreCacheDatum(ticker, "info", dict(told), metadata=checks)
        store.StoreCacheDatum(ticker, "history_metadata", {"listingDate": first})
        store.StoreCacheDatum(ticker, "history-1d", history)


def deny() -> list[str]:
    """Refuse every request from now on, in Python and in libcurl; return what was refused."""
    refused: list[str] = []

    def refuse(*asked: Any, **_: Any) -> NoReturn:
        refused.append(repr(asked[1:])[:200])
        raise ConnectionError("no network in this benchmark")

    for what in (
        "socket.socket.connect",
        "curl_cffi.Curl.perform",
        "yfinance.data.YfData._make_request",
    ):
        patch(what, refuse).start()
    return refused


def main() -> None:
    """Fill the cache, then read as often as there are lines."""
    task = json.loads(sys.stdin.readline())
    os.environ.update(HOME=task["home"], XDG_CACHE_HOME=task["home"])
    # What is imported may print: stdout is for readings.
    out, sys.stdout = sys.stdout, sys.stderr
    yfc = import_module("yfinance_cache")
    days = pd.DatetimeIndex(pd.to_datetime(task["days"], unit="s")).tz_localize(ZoneInfo(ZONE))
    tickers, start, end = task["tickers"], task["start"], task["end"]
    bars = np.fromfile(task["bars"]).reshape(len(tickers), len(COLUMNS), len(days))
    fill(import_module("yfinance_cache.yfc_cache_manager"), task, days, bars)
    refused = deny()
    closes = bars[:, COLUMNS.index("Close"), :]

    def history() -> Any:
        found = {
            ticker: yfc.Ticker(ticker).history(interval="1d", start=start, end=end)
            for ticker in tickers
        }
        return pd.concat(found, names=["ticker"])

    def download() -> Any:
        return yfc.download(tickers, interval="1d", start=start, end=end, progress=False)

    print("{}", file=out, flush=True)
    for line in sys.stdin:
        way = line.strip()
        began = time.perf_counter()
        frame = history() if way == "history" else download()
        seconds = time.perf_counter() - began
        if way == "history":
            rows, got = len(frame), frame["Close"].to_numpy().reshape(len(tickers), -1)
        else:
            got = frame["Close"][tickers].to_numpy().T
            rows = got.size
        wrong = "" if np.array_equal(got, closes) else "closing prices differ from what was stored"
        reading = {"seconds": seconds, "rows": rows, "requests": len(refused), "wrong": wrong}
        print(json.dumps(reading), file=out, flush=True)


if __name__ == "__main__":
    main()
