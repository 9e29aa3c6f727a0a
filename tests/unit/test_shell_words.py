"""Lines as words: quotes that are open, pipes outside them, and texts that stay whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.protocol.language import parse_line
from gapless.protocol.messages import GetEntity, ProviderRequest, SearchEntities, Ticker
from gapless.shell.words import Word, at_end, quoted, split_pipe, words_of


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("", []),
        ("  \t ", []),
        ("provider  sample", ["provider", "sample"]),
        ("  a\tb ", ["a", "b"]),
        ('ticker="A B" x', ["ticker=A B", "x"]),
        ("ticker='A B' x", ["ticker=A B", "x"]),
        ("tags=\"a b\",'c d' x", ["tags=a b,c d", "x"]),
        ('"A B', ["A B"]),
        ('ticker="A B ', ["ticker=A B "]),
        ("O'Neil x", ["O'Neil", "x"]),
        ('""', [""]),
        (r'"a\"b" x', ['a"b', "x"]),
        (r'"a\\" x', ["a\\", "x"]),
        (r'"a\,b"', ["a,b"]),
        (r'"C:\data" x', [r"C:\data", "x"]),
        (r"'a\'", ["a\\"]),
        (r"a\ b", ["a\\", "b"]),
        ("a\u00a0b", ["a", "b"]),
    ],
)
def test_words_are_cut_at_spaces_outside_quotes(line: str, texts: list[str]) -> None:
    """Quotes and escapes mean what they mean in a query, and a quote may still be open."""
    assert [word.text for word in words_of(line)] == texts


@pytest.mark.parametrize(
    ("line", "value_at", "closing"),
    [
        ("ticker=A", 7, ""),
        ("ticker=", 7, ""),
        ("ticker='A B'", 7, ""),
        ('ticker="A B', 7, '"'),
        ("ticker='A", 7, "'"),
        ("a=b=c", 2, ""),
        ("ticker", None, ""),
        ('"ticker=A"', None, ""),
        ('"ticker=A', None, '"'),
    ],
)
def test_a_word_knows_where_its_value_begins(line: str, value_at: int | None, closing: str) -> None:
    """A value has its place, except behind a quote; a quote that is open is told."""
    word = words_of(line)[0]
    assert (word.value_at, word.closing) == (value_at, closing)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", ("a", "b")),
        ("a=", ("a", "")),
        ("a", ("a", None)),
        ("=b", ("", "b")),
        ("a=b=c", ("a", "b=c")),
    ],
)
def test_a_word_is_split_at_its_first_equals(text: str, expected: tuple[str, str | None]) -> None:
    """Without one there is no value; with one there may be an empty one."""
    assert Word(text, 0, len(text)).split() == expected


@pytest.mark.parametrize(
    ("line", "text"), [("a b", "b"), ("a b ", None), ("", None), (' "a b ', "a b ")]
)
def test_the_word_at_the_end_is_the_one_being_typed(line: str, text: str | None) -> None:
    """A space ends a word, unless a quote is open."""
    last = at_end(line, words_of(line))
    assert (last.text if last is not None else None) == text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("providers", ("providers", None)),
        ("providers | jq .", ("providers", "jq .")),
        ("providers |jq", ("providers", "jq")),
        ("providers |", ("providers", "")),
        ("providers  |  jq | wc", ("providers", "jq | wc")),
        ("providers\t| jq", ("providers", "jq")),
        ("a|b", ("a|b", None)),
        ("ticker=|b", ("ticker=|b", None)),
        ('ticker="A | B" | jq', ('ticker="A | B"', "jq")),
        ("ticker='A | B'", ("ticker='A | B'", None)),
        (r'ticker="A\" | B"', (r'ticker="A\" | B"', None)),
        (r'ticker="A\\" | jq', (r'ticker="A\\"', "jq")),
        ("O'Neil | jq 'a'", ("O'Neil", "jq 'a'")),
        ('ticker="A | jq', ('ticker="A | jq', None)),
        ("| jq", ("| jq", None)),
    ],
)
def test_a_pipe_is_a_word_that_begins_with_a_bar(
    line: str, expected: tuple[str, str | None]
) -> None:
    """A bar within a word or in quotes belongs to what is asked."""
    assert split_pipe(line) == expected


@given(st.text())
def test_quoted_texts_are_one_word(text: str) -> None:
    """Whatever a text holds, its word is that text, and no pipe."""
    written = quoted(text)
    assert [word.text for word in words_of(written)] == [text]
    assert split_pipe(f"a {written}") == (f"a {written}", None)


@given(st.text(min_size=1))
def test_quoted_texts_are_values_of_the_query_language(text: str) -> None:
    """What completion writes is read by the hub as the text that was meant."""
    line = f"provider p get {quoted(text)}"
    assert parse_line(line) == ProviderRequest("p", GetEntity(text))
    line = f"provider p search ticker={quoted(text)}"
    assert parse_line(line) == ProviderRequest("p", SearchEntities((Ticker(text),)))


@given(st.text(alphabet=st.sampled_from("ab=,'\"\\| \t"), max_size=20))
def test_words_lie_in_the_line_one_after_another(line: str) -> None:
    """Between words there are only spaces, and a word begins and ends with none."""
    at = 0
    for word in words_of(line):
        assert line[at : word.start].strip() == ""
        assert word.start < word.end <= len(line)
        at = word.end
    assert line[at:].strip() == ""
