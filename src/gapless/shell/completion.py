"""What may come next on a line: a function of the line and of what is known of the hub. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gapless.errors import InvalidQuery
from gapless.protocol.language import KEY_ALIASES, KEYS_ABOUT, VERB_ALIASES, VERB_SYNTAX
from gapless.protocol.times import parse_range
from gapless.shell.commands import COMMANDS, find, usage_of
from gapless.shell.words import Word, at_end, quoted, split_pipe, words_of

_MOST = 200
_FRESH_ABOUT: Mapping[str, str] = {
    "held": "nothing is fetched for its age alone",
    "check": "what is due is fetched",
    "now": "all of it is fetched anew",
}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the hub: by provider the parameters with their choices, and tickers held.

    `saved` are the names of the queries that were kept, `plugins` of what is loaded.
    """

    providers: tuple[str, ...] = ()
    params: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    tickers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    saved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A text that may stand at `start` in the line instead of what is there up to the cursor."""

    text: str
    start: int
    about: str = ""


def complete(before: str, known: Known, now_ms: int) -> list[Suggestion]:
    """Return what the word under the cursor may become; `before` is the line up to the cursor."""
    return list(_limited(_suggestions(before, known, now_ms)))


def _limited(found: Iterator[Suggestion]) -> Iterator[Suggestion]:
    # A name that is no plain text would do who knows what on the line.
    plain = (one for one in found if one.text.isprintable())
    for count, suggestion in enumerate(plain):
        if count == _MOST:
            return
        yield suggestion


def _suggestions(before: str, known: Known, now_ms: int) -> Iterator[Suggestion]:
    if split_pipe(before)[1] is not None:
        return
    words = words_of(before)
    current, done = at_end(before, words), words[:-1]
    if current is None:
        current, done = Word("", len(before), len(before)), words
    if not done and current.text.startswith(":"):
        for command in COMMANDS.values():
            if command.name.startswith(current.text[1:].lower()):
                yield Suggestion(f":{command.name}", current.start, command.about)
        return
    if done and done[0].text.startswith(":"):
        yield from _of_command(done, current, known, now_ms)
        return
    yield from _of_query(done, current, known, now_ms)


def _of_command(done: list[Word], current: Word, known: Known, now_ms: int) -> Iterator[Suggestion]:
    command = find(done[0].text[1:])
    if command is None:
        return
    place = len(done) - 1
    if command.name in ("plan", "watch"):
        first = 1 if command.name == "plan" else 2
        if len(done) >= first:
            yield from _of_query(done[first:], current, known, now_ms)
        return
    match command.name:
        case "help":
            yield from _beginning(COMMANDS, current) if not place else ()
        case "reload" | "unload":
            yield from _beginning(known.plugins, current) if not place else ()
        case "run" | "save":
            yield from _beginning(known.saved, current) if not place else ()
        case "set":
            names = ("rows", "strict", "timeout")
            values = ("on", "off") if place == 1 and done[1].text == "strict" else ()
            yield from _beginning(names if not place else values, current)
        case "coverage":
            if place == 0:
                yield from _beginning(known.providers, current)
            elif place == 1:
                yield from _beginning(known.tickers.get(done[1].text, ()), current)
            else:
                yield from _params(done[1].text, done[3:], current, known)
        case _:
            if not place:
                yield from _beginning(command.choices, current)
            yield from _keys(
                {f"{key}=": usage_of(command) for key in command.keys}, done[1:], current
            )


def _of_query(done: list[Word], current: Word, known: Known, now_ms: int) -> Iterator[Suggestion]:
    texts = [word.text for word in done]
    if len(texts) > 1 and texts[1].lower() == "list" and texts[1] not in known.providers:
        return
    match len(done):
        case 0:
            yield from _beginning({"provider": "ask one", "providers": "list them"}, current)
        case 1 if texts[0].lower() == "provider":
            yield from _beginning((*known.providers, "list"), current)
        case 2 if texts[0].lower() == "provider":
            yield from _beginning(VERB_SYNTAX, current)
        case _ if texts[0].lower() == "provider":
            yield from _arguments(texts[1], texts[2].lower(), done[3:], current, known, now_ms)


def _arguments(
    provider: str, verb: str, done: list[Word], current: Word, known: Known, now_ms: int
) -> Iterator[Suggestion]:
    verb = VERB_ALIASES.get(verb, verb)
    if verb == "all":
        yield from _keys({"limit=": "how many", "offset=": "from which on"}, done, current)
    elif verb == "report" and not done:
        yield from _keys({"url=": "where it is"}, done, current)
    elif verb == "search":
        key, value = current.split()
        if value is None:
            keys = {f"{name}=": about for name, about in KEYS_ABOUT.items()}
            ranged = any(word.split()[0].lower() == "ticker" for word in done)
            params = {
                f"{name}=": ", ".join(choices) or "a parameter"
                for name, choices in known.params.get(provider, {}).items()
            }
            # Of a range its own keys come first, and there the others make little sense.
            own = {name: keys.pop(name) for name in ("ticker=", "date=")}
            # It goes with a range as well, and is seldom wanted.
            rest = {"fresh=": keys.pop("fresh=")} if ranged else keys
            yield from _keys(
                {**own, **params, **rest} if ranged else {**own, **rest}, done, current
            )
            return
        key = key.lower()
        match KEY_ALIASES.get(key, key):
            case "ticker":
                values: Mapping[str, str] = dict.fromkeys(known.tickers.get(provider, ()), "held")
            case "date" | "updated":
                values = _dates(value, now_ms)
            case "fresh":
                values = _FRESH_ABOUT
            case "state":
                values = dict.fromkeys(("ready", "partial", "stale"), "")
            case "source":
                values = dict.fromkeys(known.providers, "")
            case "limit":
                values = {}
            case name:
                values = dict.fromkeys(known.params.get(provider, {}).get(name, ()), "")
        yield from _values(values, current)


def _params(provider: str, done: list[Word], current: Word, known: Known) -> Iterator[Suggestion]:
    choices = known.params.get(provider, {})
    key, value = current.split()
    if value is None:
        yield from _keys({f"{name}=": "" for name in choices}, done, current)
        return
    yield from _values(dict.fromkeys(choices.get(key.lower(), ()), ""), current)


def _values(values: Mapping[str, str], current: Word) -> Iterator[Suggestion]:
    """Yield what fits behind the `=` of a word; in a quoted one, the word anew."""
    key, value = current.split()
    for text, about in values.items():
        if not text.lower().startswith((value or "").lower()):
            continue
        if current.value_at is not None:
            yield Suggestion(quoted(text), current.value_at, about)
        else:
            yield Suggestion(f"{key}={quoted(text)}", current.start, about)


def _dates(value: str, now_ms: int) -> dict[str, str]:
    """Return ranges that people ask for, and the end of one that is begun."""
    today = datetime.fromtimestamp(now_ms / 1_000, UTC).date()
    start, dots, _ = value.partition("..")
    if dots:
        ends = {"": "up to now", str(today): "today, without it"}
        if len(start) >= 4 and start[:4].isdecimal() and int(start[:4]) < 9_999:
            ends[f"{int(start[:4]) + 1:04}-01-01"] = "to the end of its year"
        return {
            f"{start}..{end}": about for end, about in ends.items() if _is_range(start, end, now_ms)
        }
    return {
        "5d": "the last 5 days",
        "30d": "the last 30 days",
        "3mo": "three months back",
        "1y": "a year back",
        "ytd": "this year",
        f"{today.year - 1}-01-01..{today.year}-01-01": "last year",
        "10y": "ten years back",
        "max": "all there is",
    }


def _is_range(start: str, end: str, now_ms: int) -> bool:
    try:
        parse_range(start, end, now_ms=now_ms)
    except InvalidQuery:
        return False
    return True


def _beginning(texts: Iterable[str] | Mapping[str, object], current: Word) -> Iterator[Suggestion]:
    for text in texts:
        if text.lower().startswith(current.text.lower()):
            about = ""
            if isinstance(texts, Mapping):
                value = texts[text]
                about = value if isinstance(value, str) else getattr(value, "about", "")
            yield Suggestion(quoted(text), current.start, about)


def _keys(keys: Mapping[str, str], done: Iterable[Word], current: Word) -> Iterator[Suggestion]:
    there = {f"{word.split()[0].lower()}=" for word in done}
    for text, about in keys.items():
        if text not in there and text.startswith(current.text.lower()):
            yield Suggestion(text, current.start, about)
