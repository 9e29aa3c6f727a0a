"""The shell's commands: how they are read, what they refuse, what the bar below says."""

from __future__ import annotations

import pytest

from gapless.errors import InvalidQuery
from gapless.shell import administration
from gapless.shell.commands import COMMANDS, Command, find, parse_call, syntax, usage_of
from gapless.shell.session import Session


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_done_by_somebody(name: str) -> None:
    """A command is asked over HTTP, or the session does it; never both."""
    done = hasattr(Session, f"_do_{name}")
    assert done != (name in administration.NAMES)


def test_nothing_is_done_that_is_no_command() -> None:
    """What the session can do is in the table, and so found by help and completion."""
    done = {name.removeprefix("_do_") for name in vars(Session) if name.startswith("_do_")}
    assert done | administration.NAMES == {*COMMANDS}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda one: one.name)
def test_keys_and_choices_are_in_the_usage(command: Command) -> None:
    """Help tells of all that completion offers."""
    for key in command.keys:
        assert f"{key}=" in command.usage
    for choice in command.choices:
        assert choice in command.usage
    assert command.about
    assert find(command.name) is command


@pytest.mark.parametrize(
    ("line", "name", "texts", "text"),
    [
        (":help", "help", (), ""),
        (":HELP Plot", "help", ("Plot",), "Plot"),
        (":he", "help", (), ""),
        (":q", "quit", (), ""),
        (":plo  close ", "plot", ("close",), "close"),
        (":x on", "x", ("on",), "on"),
        (":export 'a b.csv'", "export", ("a b.csv",), "'a b.csv'"),
        (":e a.csv", "export", ("a.csv",), "a.csv"),
        (":plan  provider a all", "plan", ("provider", "a", "all"), "provider a all"),
        (":set rows 5", "set", ("rows", "5"), "rows 5"),
        (":providers", "providers", (), ""),
    ],
)
def test_commands_are_read(line: str, name: str, texts: tuple[str, ...], text: str) -> None:
    """Names in any case, and only as much of them as is clear."""
    call = parse_call(line)
    assert (call.command.name, call.texts, call.text) == (name, texts, text)


@pytest.mark.parametrize("name", ["", "h", "p", "re", "helpx", "nosuch"])
def test_what_is_not_clear_is_no_command(name: str) -> None:
    """Of several that begin so none is taken."""
    assert find(name) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (":", "there is no command :; see :help"),
        (": help", "there is no command :; see :help"),
        (":nosuch", "there is no command :nosuch; see :help"),
        (":pl", "there is no command :pl; did you mean :plugins?"),
        (":re x", "there is no command :re; did you mean :reconnect?"),
        (":helpme", "there is no command :helpme; did you mean :help?"),
    ],
)
def test_a_command_that_is_none_gets_a_hint(line: str, message: str) -> None:
    """The error names one that may be meant, if there is one."""
    with pytest.raises(InvalidQuery) as raised:
        parse_call(line)
    assert raised.value.message == message


def test_one_word_is_one() -> None:
    """`one` wants exactly one, `optional` at most one, `none` none."""
    assert parse_call(":run a").one() == "a"
    assert parse_call(":run 'a b'").optional() == "a b"
    assert parse_call(":run").optional() is None
    parse_call(":quit").none()


@pytest.mark.parametrize("line", [":run", ":run a b"])
def test_more_or_less_than_one_word_is_misuse(line: str) -> None:
    """The error says how the command is used."""
    with pytest.raises(InvalidQuery, match=r"^usage: :run NAME$"):
        parse_call(line).one()


def test_too_many_words_are_misuse() -> None:
    """What would be ignored is refused."""
    with pytest.raises(InvalidQuery, match=r"^usage: :save \[NAME\]$"):
        parse_call(":save a b").optional()
    with pytest.raises(InvalidQuery, match=r"^usage: :quit$"):
        parse_call(":quit now").none()


def test_pairs_are_read() -> None:
    """Keys in any case, values as they are, quotes off."""
    call = parse_call(":loadpy FILE='a b.py' class=A name=")
    assert call.pairs() == {"file": "a b.py", "class": "A", "name": ""}
    call = parse_call(":coverage sample AAPL interval=1h any=x=y")
    assert call.pairs(call.words[2:]) == {"interval": "1h", "any": "x=y"}


@pytest.mark.parametrize("word", ["a.py", "nosuch=1", "FILE=b", "=a"])
def test_pairs_that_are_none_are_misuse(word: str) -> None:
    """A bare word, a key that is unknown and one that is there twice are named."""
    with pytest.raises(InvalidQuery) as raised:
        parse_call(f":loadpy file=a {word}").pairs()
    usage = usage_of(COMMANDS["loadpy"])
    assert raised.value.message == f"usage: {usage}; `{word}` is not one of them"


@pytest.mark.parametrize(
    ("line", "now", "expected"),
    [
        (":timing", True, False),
        (":timing", False, True),
        (":timing on", True, True),
        (":timing ON", False, True),
        (":timing off", True, False),
        (":timing Off", False, False),
    ],
)
def test_switches_turn_or_are_set(line: str, now: bool, expected: bool) -> None:
    """Without a word a switch turns."""
    assert parse_call(line).switched(now) is expected


@pytest.mark.parametrize("line", [":timing maybe", ":timing on off"])
def test_a_switch_knows_on_and_off_alone(line: str) -> None:
    """Anything else is misuse."""
    with pytest.raises(InvalidQuery, match=r"^usage: :timing \[on\|off\]$"):
        parse_call(line).switched(now=True)


START = "providers | provider NAME VERB … | :help"
VERB_LIST = "get|get-many|all|search|describe|report"
RANGE = "ticker=… [date=A..B] [fresh=…] [PARAM=VALUE …] | KEY=VALUE … [limit=N]"


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", START),
        ("   ", START),
        ("prov", START),
        ("provider", START),
        ("provider ", "provider NAME VERB …"),
        ("provider sam", "provider NAME VERB …"),
        ("PROVIDER sample ", f"provider sample {VERB_LIST}"),
        ("provider sample sea", f"provider sample {VERB_LIST}"),
        ("provider sample search ", f"provider sample search {RANGE}"),
        ("provider sample SEARCH ticker=", f"provider sample search {RANGE}"),
        ('provider sample search ticker="A ', f"provider sample search {RANGE}"),
        ("provider sample get ", "provider sample get ID"),
        ("provider sample getmany ", "provider sample get-many ID1,ID2,…"),
        ("provider sample record ", "provider sample report url=URL"),
        ("provider sample get-all ", "provider sample all [limit=N] [offset=N]"),
        ("provider sample nosuch ", "provider sample nosuch"),
        ("providers ", "providers | provider NAME VERB …"),
        ("nosuch ", "providers | provider NAME VERB …"),
        (":", "commands: :help lists them"),
        (":p", "commands: :help lists them"),
        (":nosuch x", "commands: :help lists them"),
        (":reload", ":reload NAME  load a plugin's code anew"),
        (":relo mine", ":reload NAME  load a plugin's code anew"),
        (":QUIT", ":quit  leave; so does Ctrl-D"),
    ],
)
def test_the_bar_below_says_what_may_follow(before: str, expected: str) -> None:
    """At each stage of a line there is what it can go on with."""
    assert syntax(before) == expected
