"""The shell's own commands: what each is called, takes and does, in one table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gapless.errors import InvalidQuery
from gapless.protocol.language import VERB_ALIASES, VERB_SYNTAX
from gapless.shell.words import Word, at_end, words_of

FORMATS = ("table", "json", "ndjson", "csv")


@dataclass(frozen=True, slots=True)
class Command:
    """A command: `usage` is what follows its name, `about` what it does.

    `keys` are those it takes as KEY=VALUE; `choices` what its first word may be. `raw`: what
    follows the name is one text, not words.
    """

    name: str
    usage: str
    about: str
    keys: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    raw: bool = False


_COMMANDS = (
    Command("help", "[COMMAND]", "what there is, or what one command does"),
    Command("quit", "", "leave; so does Ctrl-D"),
    Command("clear", "", "clear the screen"),
    Command("reconnect", "", "connect to the hub anew"),
    Command("addr", "HOST:PORT", "ask the hub there from now on; with TLS: tls://HOST:PORT"),
    Command("http", "BASE", "reach the hub's HTTP at this address; without one: say where it is"),
    Command(
        "auth",
        "TOKEN|clear|show",
        "show this token from now on, and keep it",
        (),
        ("clear", "show"),
    ),
    Command("login", "[EMAIL]", "sign in with a password, and keep the token"),
    Command("providers", "", "how each provider fares"),
    Command("plugins", "", "the plugins that are loaded"),
    Command(
        "loadpy",
        "module=… class=… base=… [name=…] | file=… class=… [name=…]",
        "load a provider from Python code",
        ("module", "file", "class", "base", "name"),
    ),
    Command("reload", "NAME", "load a plugin's code anew"),
    Command("unload", "NAME", "let a plugin go"),
    Command("coverage", "PROVIDER TICKER [PARAM=VALUE …]", "what the hub holds of a series"),
    Command("plan", "QUERY", "what a query would fetch; nothing is fetched", raw=True),
    Command("plot", "[COLUMN]", "draw the last answer: candles, or one column as a line"),
    Command(
        "export",
        "FILE",
        "write all of the last answer to a .csv, .json, .ndjson, .arrow or .parquet",
    ),
    Command("x", "[on|off]", "show records vertically, a line for each value", (), ("on", "off")),
    Command("timing", "[on|off]", "tell how long answers took", (), ("on", "off")),
    Command("watch", "SECONDS QUERY", "ask again and again until Ctrl-C", raw=True),
    Command("save", "[NAME]", "keep the last query under a name; without one: list what is kept"),
    Command("run", "NAME", "ask a query that was kept"),
    Command("set", "[NAME VALUE]", "rows, strict or timeout; without a name: list them"),
    Command("format", "[table|json|ndjson|csv]", "how answers are printed", (), FORMATS),
)
COMMANDS: Mapping[str, Command] = MappingProxyType({one.name: one for one in _COMMANDS})


@dataclass(frozen=True, slots=True)
class Call:
    """A command as it was typed."""

    command: Command
    words: tuple[Word, ...]
    text: str

    @property
    def texts(self) -> tuple[str, ...]:
        """The words behind the name."""
        return tuple(word.text for word in self.words)

    def one(self) -> str:
        """Return the single word behind the name; raise `InvalidQuery` for none or more."""
        if len(self.words) != 1:
            raise self.misuse()
        return self.words[0].text

    def optional(self) -> str | None:
        """Return the single word behind the name, if there is one."""
        return self.one() if self.words else None

    def none(self) -> None:
        """Raise `InvalidQuery` where anything follows the name."""
        if self.words:
            raise self.misuse()

    def pairs(self, words: Sequence[Word] | None = None) -> dict[str, str]:
        """Return the words as KEY=VALUE; raise `InvalidQuery` for others, and unknown keys."""
        found: dict[str, str] = {}
        for word in self.words if words is None else words:
            key, value = word.split()
            key = key.lower()
            if (
                value is None
                or key in found
                or (self.command.keys and key not in self.command.keys)
            ):
                raise self.misuse(f"`{word.text}` is not one of them")
            found[key] = value
        return found

    def switched(self, now: bool) -> bool:
        """Return what a switch is by this call: turned, or as it says."""
        word = (self.optional() or "").lower()
        if word not in ("", "on", "off"):
            raise self.misuse()
        return not now if not word else word == "on"

    def misuse(self, why: str = "") -> InvalidQuery:
        """Return the error that says how the command is used."""
        because = f"; {why}" if why else ""
        return InvalidQuery(f"usage: {usage_of(self.command)}{because}")


def usage_of(command: Command) -> str:
    """Return how a command is written."""
    return f":{command.name} {command.usage}".rstrip()


def find(name: str) -> Command | None:
    """Return the command of a name, or the only one that begins so: what is clear is enough."""
    name = name.lower()
    if name in COMMANDS:
        return COMMANDS[name]
    begun = [one for one in COMMANDS if name and one.startswith(name)]
    return COMMANDS[begun[0]] if len(begun) == 1 else None


def parse_call(line: str) -> Call:
    """Read a line that begins with a colon; raise `InvalidQuery` for a command that is none."""
    words = words_of(line)
    if words[-1].closing:
        raise InvalidQuery(f"the quote {words[-1].closing} is not closed")
    name = words[0].text.removeprefix(":").lower()
    command = find(name)
    if command is None:
        near = [one for one in COMMANDS if name and (one.startswith(name) or name.startswith(one))]
        hint = f"did you mean :{near[0]}?" if near else "see :help"
        raise InvalidQuery(f"there is no command :{name}; {hint}")
    return Call(command, tuple(words[1:]), line[words[0].end :].strip())


def syntax(before: str) -> str:
    """Return, for the line as far as it is typed, what may follow: for the bar at the bottom."""
    words = words_of(before)
    done = words[:-1] if at_end(before, words) else words
    if words and words[0].text.startswith(":"):
        command = find(words[0].text[1:])
        if command is not None:
            return f"{usage_of(command)}  {command.about}"
        return "commands: :help lists them"
    texts = [word.text.lower() for word in done]
    if not texts:
        return "providers | provider NAME VERB … | :help"
    if texts[0] != "provider":
        return "providers | provider NAME VERB …"
    if len(texts) == 1:
        return "provider NAME VERB …"
    if len(texts) == 2:
        return f"provider {done[1].text} {'|'.join(VERB_SYNTAX)}"
    verb = VERB_ALIASES.get(texts[2], texts[2])
    return f"provider {done[1].text} {verb} {VERB_SYNTAX.get(verb, '')}".rstrip()
