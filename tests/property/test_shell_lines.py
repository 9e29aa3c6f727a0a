"""Whatever is typed: nothing raises, suggestions fit into their line, and pieces are the line."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from gapless.protocol.times import parse_instant
from gapless.shell.commands import syntax
from gapless.shell.completion import Known, complete
from gapless.shell.highlighting import invalid, pieces

NOW = parse_instant("2025-09-05T12:00:00Z", now_ms=0)
KNOWN = Known(
    providers=("sample", "yahoo_finance", "my own", "|odd"),
    params={
        "sample": {},
        "yahoo_finance": {"interval": ("1d", "1h", "60m"), "adjust": ()},
        "my own": {"kind": ("a b", "c|d", 'e"f')},
    },
    tickers={"sample": ("AAPL", "BRK B", "O'NEIL", "a\\b c"), "yahoo_finance": ("^GSPC",)},
    plugins=("mine", "my own"),
    saved=("daily", "last year"),
)
WORDS = [
    "provider", "PROVIDERS", "sample", "yahoo_finance", '"my own"', "nosuch", "list", "search",
    "get", "get-many", "getmany", "all", "report", "record", "ticker=AAPL", "ticker=", "TICKER=b",
    "date=2010-01-01..2011-01-01", "date=", "date=2010-01-01..", "date=2099-01-01..", "updated=3",
    "interval=1h", "INTERVAL=", "interval=9", "kind=a", "tags=a,", "limit=5", "limit=", "nosuch=1",
    '"ticker=B', "ticker='O", "|", "|jq", ":", ":plan", ":watch", ":wat", "5", ":coverage", ":cov",
    ":set", "strict", ":auth", ":loadpy", "file=a", ":help", ":re", "'", '"', "\\", "²²²²", "İ",
]  # fmt: skip
typed = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=8).flatmap(
    lambda words: st.sampled_from([" ".join(words), " ".join(words) + " ", "  ".join(words)])
)
lines = (
    typed
    | st.text()
    | typed.flatmap(lambda line: st.integers(0, len(line)).map(lambda end: line[:end]))
)
knowns = st.sampled_from([KNOWN, Known(), Known(("sample",))])


@given(lines, knowns)
def test_pieces_make_up_the_line(line: str, known: Known) -> None:
    """Nothing of a line gets lost or doubled by its colours."""
    found = pieces(line, known, NOW)
    assert "".join(piece.text for piece in found) == line
    assert all(piece.text for piece in found)


@given(lines, knowns)
def test_what_is_wrong_lies_within_the_line(line: str, known: Known) -> None:
    """A mark has a place, and something to mark."""
    span = invalid(line, known, NOW)
    assert span is None or 0 <= span.start < span.end <= len(line)


@given(lines)
def test_the_bar_below_has_something_to_say(line: str) -> None:
    """Also of a line that is none."""
    assert syntax(line)


@given(lines, knowns)
@example("provider sample search date=2099-01-01..", KNOWN)
@example('provider sample search "ticker=B', KNOWN)
@example("provider sample report http://x ", KNOWN)
def test_suggestions_make_a_line_no_worse(line: str, known: Known) -> None:
    """A suggestion stands where a word may, and what was right before it stays so behind it."""
    before = invalid(line, known, NOW)
    for one in complete(line, known, NOW):
        assert 0 <= one.start <= len(line)
        made = line[: one.start] + one.text
        whole = made if made.endswith("=") else f"{made} "
        after = invalid(whole, known, NOW)
        assert after is None or (before is not None and after.start <= before.start)


@given(lines, knowns)
def test_a_suggestion_that_was_taken_is_what_is_suggested(line: str, known: Known) -> None:
    """Completing once more keeps the word: completion does not run in circles."""
    for one in complete(line, known, NOW):
        made = line[: one.start] + one.text
        if not one.text.endswith("="):
            again = [made[: other.start] + other.text for other in complete(made, known, NOW)]
            assert made in again
