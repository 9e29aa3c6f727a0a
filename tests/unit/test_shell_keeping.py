"""What the shell keeps: for its user alone, whole or not at all, and no tokens among the lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapless.errors import GaplessError
from gapless.shell.keeping import Keeping, Kept, is_secret

SECRET = "s3cret-word"


def mode(path: Path) -> int:
    """Return who may do what with a file."""
    return path.stat().st_mode & 0o777


def test_files_are_for_their_user_alone(tmp_path: Path) -> None:
    """Nobody else may read tokens, queries or history, nor list what there is."""
    keeping = Keeping(tmp_path / "new" / "shell")
    keeping.keep_token("gapless://a:1", Kept("t"))
    keeping.keep_query("daily", "providers")
    keeping.open_history().store_string("providers")
    assert mode(keeping.folder) == 0o700
    names = {path.name: mode(path) for path in keeping.folder.iterdir()}
    assert names == {"tokens.json": 0o600, "queries.json": 0o600, "history": 0o600}


def test_a_history_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    """An older file is made safe when it is opened."""
    keeping = Keeping(tmp_path)
    keeping.history.write_text("")
    keeping.history.chmod(0o644)
    keeping.open_history()
    assert mode(keeping.history) == 0o600


def test_tokens_are_kept_by_address(tmp_path: Path) -> None:
    """Each hub has its own, and forgetting one leaves the others."""
    keeping = Keeping(tmp_path)
    one, other = "gapless://a:1", "tls://a:1"
    assert keeping.token(one) is None
    keeping.keep_token(one, Kept("t1", "r1"))
    keeping.keep_token(other, Kept("t2"))
    keeping.keep_token(one, Kept("t3"))
    again = Keeping(tmp_path)
    assert (again.token(one), again.token(other)) == (Kept("t3"), Kept("t2"))
    keeping.keep_token(one, None)
    keeping.keep_token("gapless://b:2", None)
    assert (again.token(one), again.token(other)) == (None, Kept("t2"))


def test_queries_are_kept_by_name(tmp_path: Path) -> None:
    """The last one under a name counts; without a folder there are none."""
    keeping = Keeping(tmp_path / "none")
    assert keeping.queries() == {}
    keeping.keep_query("a b", 'provider s search ticker="é x"')
    keeping.keep_query("c", "providers")
    keeping.keep_query("c", "provider list")
    assert keeping.queries() == {"a b": 'provider s search ticker="é x"', "c": "provider list"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"a": 1}', b'{"a": {"token": 1}}', b'{"a": {}}', b"\xff\xfe",
     b'{"a": "\xff"}', b'{"a": {"token": "\xff"}}', b"[" * 100_000],
)  # fmt: skip
def test_damaged_files_are_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    """They neither end the shell nor keep it from writing new ones."""
    keeping = Keeping(tmp_path)
    for name in ("tokens.json", "queries.json"):
        (tmp_path / name).write_bytes(content)
    assert keeping.token("a") is None
    assert keeping.queries() == {}
    keeping.keep_token("b", Kept("t"))
    keeping.keep_query("q", "providers")
    assert keeping.token("b") == Kept("t")
    assert keeping.queries() == {"q": "providers"}


def test_a_damaged_history_still_opens(tmp_path: Path) -> None:
    """What can be read of it is there."""
    keeping = Keeping(tmp_path)
    keeping.history.write_bytes(b"\n# x\n+providers\n\xff\xfe\n")
    assert "providers" in [line.strip() for line in keeping.open_history().load_history_strings()]


@pytest.mark.parametrize(
    "text",
    [
        f":auth {SECRET}",
        f"   :auth   {SECRET}",
        f":AUTH {SECRET}",
        f"\t:Auth\t{SECRET}  ",
        f":au {SECRET}",
        f":aut {SECRET}",
        f":a {SECRET}",
        f":authh {SECRET}",
        f":auth '{SECRET}'",
        f":auth show {SECRET}",
        f":auth clear {SECRET}",
        f":auth {SECRET} show",
        f":auth {SECRET} | cat",
        f"providers\n:auth {SECRET}\nproviders",
        f"providers\r\n  :au {SECRET}",
        f":addr {SECRET}@hub.example:7000",
        f":ad tls://{SECRET}@hub.example",
        f":http https://me:{SECRET}@hub.example",
        f"provider sample search ticker=gapless_at_{SECRET}{'x' * 30}",
        f"provider sample search token={SECRET}",
    ],
)
def test_secrets_are_never_in_the_history(tmp_path: Path, text: str) -> None:
    """However a token is typed or pasted, it is not written down."""
    keeping = Keeping(tmp_path)
    history = keeping.open_history()
    history.append_string(text)
    history.append_string("providers")
    assert is_secret(text)
    written = keeping.history.read_text()
    assert SECRET not in written
    assert "+providers\n" in written


@pytest.mark.parametrize(
    "text",
    [
        ":auth",
        ":auth show",
        ":AUTH CLEAR",
        ":au show",
        ":addr localhost:7000",
        ":help auth",
        "provider sample search ticker=AAPL date=2010-01-01..2011-01-01",
        "providers\nprovider sample all",
        ": x",
        ":",
        "auth x",
        "provider sample search ticker=a@b",
    ],
)
def test_other_lines_are_kept(tmp_path: Path, text: str) -> None:
    """A history that forgets at random helps nobody."""
    keeping = Keeping(tmp_path)
    keeping.open_history().append_string(text)
    assert not is_secret(text)
    assert [*keeping.open_history().load_history_strings()] == [text]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The error names the file and the reason."""
    (tmp_path / "file").write_text("")
    keeping = Keeping(tmp_path / "file" / "shell")
    with pytest.raises(GaplessError) as raised:
        keeping.keep_token("a", Kept(SECRET))
    path = tmp_path / "file" / "shell" / "tokens.json"
    assert raised.value.message == f"{path} cannot be written: Not a directory"
    with pytest.raises(GaplessError, match=r"queries\.json cannot be written"):
        keeping.keep_query("a", "providers")
    assert keeping.token("a") is None
    with pytest.raises(OSError, match="Not a directory"):
        keeping.open_history()


def test_what_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    """A half of a file is neither put in its place nor left beside it."""
    keeping = Keeping(tmp_path)
    (tmp_path / "tokens.json").mkdir()
    with pytest.raises(GaplessError, match=r"tokens\.json cannot be written: Is a directory"):
        keeping.keep_token("a", Kept(SECRET))
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.json"]


def test_the_usual_folder_is_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State goes where the system keeps state."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Keeping.usual().history == tmp_path / "gapless" / "shell" / "history"
