"""The first fetch of ten years of daily bars by this checkout's hub, and by another one's.

`python bench/against.py CHECKOUT [ROUNDS]`, where the other checkout (`git worktree add`) needs
nothing installed: its sources run with this one's packages. Both ask the same upstream for the
same ticker in each round, taking turns at who is first; the ratio is the median of those within
the rounds.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from checks import RECORDS, direct, request_for, timed
from processes import (
    ADDRESS,
    BENCH,
    HUB,
    Cores,
    Server,
    is_checkout,
    of_checkout,
    spawn,
    start_gapless,
)
from questions import Ask, WrongAnswer, asking, read_answer
from upstream import ticker_of

_SETTINGS = '[yahoo]\nbase_url = "{upstream}"\nrate = 1000.0\nburst = 1000\n'
_ROUNDS = 60


def first_fetches(other: Path, rounds: int) -> list[list[tuple[float, float]]]:
    """Return the (time, CPU) of each round in milliseconds, of this checkout and of the other."""
    cores = Cores.pick()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gapless-bench-")))
        command = [sys.executable, str(BENCH / "upstream.py"), str(rounds + 1)]
        upstream = spawn("upstream", command, cores.load, ADDRESS)
        stack.callback(upstream.stop)
        settings = folder / "settings.toml"
        settings.write_text(_SETTINGS.format(upstream=f"http://{upstream.host}:{upstream.port}"))
        hubs: list[tuple[Server, Ask]] = []
        for name, checkout in (("this", BENCH.parent), ("other", other)):
            hub = start_gapless(
                folder / f"{name}.db",
                cores.server,
                name=f"gapless-{name}",
                command=of_checkout(checkout, HUB),
                extra=("--config", str(settings)),
            )
            stack.callback(hub.stop)
            hubs.append((hub, stack.enter_context(asking(hub))))
        # The first one imports what the others need, and opens the connections.
        for hub, ask in hubs:
            _first(hub, ask, ticker_of(rounds))
        found: list[list[tuple[float, float]]] = [[], []]
        for number in range(rounds):
            # What upstream makes up of a ticker once is to be nobody's first fetch.
            direct(upstream, ticker_of(number))
            for at in (0, 1) if number % 2 else (1, 0):
                found[at].append(_first(*hubs[at], ticker_of(number)))
        return found


def _first(hub: Server, ask: Ask, ticker: str) -> tuple[float, float]:
    request = request_for(ticker, "first")
    lines: list[bytes] = []
    took = timed(hub, lambda: lines.append(ask(request)))
    records, stitch = read_answer(lines.pop(), "first")
    if len(records) != RECORDS or stitch.upstream_requests != 1:
        raise WrongAnswer(f"{hub.name}: {ticker}: {len(records)} records: {stitch}")
    return took


def main(arguments: list[str]) -> int:
    """Print what both take."""
    if not 1 <= len(arguments) <= 2 or not is_checkout(Path(arguments[0])):
        print(__doc__, file=sys.stderr)
        return 2
    rounds = int(arguments[1]) if len(arguments) > 1 else _ROUNDS
    this, other = first_fetches(Path(arguments[0]).resolve(), rounds)
    print(f"{RECORDS:,} daily bars fetched first, {rounds} tickers, medians:")
    for name, found in (("this checkout", this), ("the other one", other)):
        times, cpu = (median(one[part] for one in found) for part in (0, 1))
        print(f"  {name}: {times:.1f} ms, {cpu:.1f} ms CPU of the hub")
    for what, part in (("time", 0), ("CPU", 1)):
        ratio = median(mine[part] / its[part] for mine, its in zip(this, other, strict=True))
        print(f"  this to the other, {what}: {ratio:.2f} ×")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
