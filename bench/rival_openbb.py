"""OpenBB reading many tickers, from its local server and in its own process, when told to.

Runs in an environment of its own, by `python -P`, and knows nothing of the other files here. On
stdin a line of JSON: `home` (a folder for what it writes), `base` (the address of its server),
`tickers`, `days`, `bars`, `start`, `end`; then a line for each reading, which names the way.
Prints as bulk_client.py does. The provider is openbb_bars.py.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = ("open", "high", "low", "close", "volume")
AT_ONCE = 4


def interface(home: str) -> Any:
    """What `from openbb import obb` gives.

    By a copy of the package: it writes the list of its extensions into itself.
    """
    spec = find_spec("openbb")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, Path(home) / "copy" / "openbb")
    sys.path.insert(0, str(Path(home) / "copy"))
    return import_module("openbb").obb


def main() -> None:
    """Read as often as there are lines."""
    task = json.loads(sys.stdin.readline())
    os.environ["HOME"] = task["home"]
    # What is imported may print: stdout is for readings.
    out, sys.stdout = sys.stdout, sys.stderr
    obb = interface(task["home"])
    tickers = task["tickers"]
    bars = np.fromfile(task["bars"], count=len(tickers) * len(COLUMNS) * len(task["days"]))
    closes = bars.reshape(len(tickers), len(COLUMNS), -1)[:, COLUMNS.index("close"), :]
    session = import_module("requests").Session()
    address = f"{task['base']}/api/v1/equity/price/historical"
    asked = {"provider": "bench", "start_date": task["start"], "end_date": task["end"]}

    def server(ticker: str) -> Any:
        response = session.get(address, params={"symbol": ticker, **asked})
        response.raise_for_status()
        return pd.DataFrame(response.json()["results"])

    def python(ticker: str) -> Any:
        return obb.equity.price.historical(ticker, **asked).to_df()

    print("{}", file=out, flush=True)
    for line in sys.stdin:
        way = line.strip()
        began = time.perf_counter()
        if way == "server":
            # Some at a time, so that it need not wait for this process to read an answer.
            with ThreadPoolExecutor(AT_ONCE) as pool:
                found = list(pool.map(server, tickers))
        else:
            found = [python(ticker) for ticker in tickers]
        frame = pd.concat(dict(zip(tickers, found, strict=True)), names=["ticker"])
        seconds = time.perf_counter() - began
        got = frame["close"].to_numpy()
        right = np.array_equal(got.reshape(len(tickers), -1), closes)
        wrong = "" if right else "closing prices differ from what was put in"
        reading = {"seconds": seconds, "rows": len(frame), "requests": 0, "wrong": wrong}
        print(json.dumps(reading), file=out, flush=True)


if __name__ == "__main__":
    main()
