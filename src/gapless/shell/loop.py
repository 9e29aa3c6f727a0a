"""The prompt: lines from a person or a script to a session, until they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History, InMemoryHistory
from prompt_toolkit.lexers import Lexer
from prompt_toolkit.styles import Style

from gapless.errors import GaplessError
from gapless.shell.commands import syntax
from gapless.shell.completion import complete
from gapless.shell.highlighting import pieces
from gapless.shell.session import Quit, Session
from gapless.texts import masked, printable

# No query is longer; what is takes too long to be looked at with every key.
_LONGEST_LINE = 4_096

_STYLE = Style.from_dict(
    {
        "keyword": "ansicyan bold",
        "name": "ansigreen",
        "key": "ansiblue",
        "value": "",
        "command": "ansimagenta bold",
        "pipe": "ansibrightblack",
        "invalid": "underline ansired",
        "bottom-toolbar": "noreverse ansibrightblack",
        "prompt": "bold",
    }
)


def talk(session: Session) -> None:
    """Ask a person for lines until they leave; errors are told, and the next line is asked for."""
    prompt: PromptSession[str] = PromptSession(
        history=_history(session),
        auto_suggest=AutoSuggestFromHistory(),
        completer=_Completer(session),
        lexer=_Lexer(session),
        style=_STYLE,
        complete_while_typing=True,
        bottom_toolbar=lambda: _toolbar(prompt, session),
        reserve_space_for_menu=6,
    )
    session.greet()
    learner = _Learner(session)
    while True:
        learner.learn()
        try:
            text = prompt.prompt([("class:prompt", "gapless> ")])
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        lines = [line for line in text.split("\n") if line.strip()]
        for line in lines:
            if len(lines) > 1:
                # Of a paste, what is being done.
                session.console.print(f"> {printable(masked(line))}", style="bold")
            if not _run(session, line):
                return


def script(session: Session, lines: Iterable[str]) -> None:
    """Run lines until one cannot be done, whose error is raised."""
    for line in lines:
        try:
            session.run(line)
        except Quit:
            return


def _run(session: Session, line: str) -> bool:
    """Run a line for a person; return whether to go on."""
    try:
        session.run(line)
    except Quit:
        return False
    except (KeyboardInterrupt, EOFError):
        session.console.print("cancelled", style="yellow")
    except GaplessError as error:
        told = "\n".join(map(printable, masked(error.message).split("\n")))
        session.console.print(f"error: {told}", style="red")
        if error.retry_after_s is not None:
            session.console.print(f"try again in {error.retry_after_s:g} s", style="dim")
    except Exception as error:
        # One answer that nobody has thought of ends no session.
        told = printable(f"{type(error).__name__}: {error}")
        session.console.print(
            f"error: the shell failed in a way it should not: {told}", style="red"
        )
    return True


def _history(session: Session) -> History:
    try:
        return session.keeping.open_history()
    except OSError as error:
        session.console.print(
            f"lines are not kept: {session.keeping.history}: {error.strerror}", style="yellow"
        )
        return InMemoryHistory()


def _toolbar(prompt: PromptSession[str], session: Session) -> StyleAndTextTuples:
    typed = prompt.default_buffer.document.text_before_cursor
    return [("class:bottom-toolbar", f"{session.link.endpoint.name}  {syntax(typed)}")]


class _Completer(Completer):
    """Hands the prompt what may come next."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """Yield what the word under the cursor may become."""
        before = document.text_before_cursor
        if len(before) > _LONGEST_LINE:
            return
        for one in complete(before, self._session.known, _now_ms()):
            yield Completion(one.text, one.start - len(before), display_meta=one.about or None)


class _Lexer(Lexer):
    """Hands the prompt a line in its colours."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        """Return what gives a line in its pieces."""
        known = self._session.known

        def line(number: int) -> StyleAndTextTuples:
            text = document.lines[number]
            if len(text) > _LONGEST_LINE:
                return [("", text)]
            found = pieces(text, known, _now_ms())
            return [(f"class:{piece.kind}", piece.text) for piece in found]

        return line


class _Learner:
    """Keeps what is known of the hub up to date, beside the prompt."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._thread: threading.Thread | None = None

    def learn(self) -> None:
        """Begin to learn anew, where something has changed and nothing is being learnt."""
        session = self._session
        if not session.stale or (self._thread is not None and self._thread.is_alive()):
            return
        session.stale = False

        def run() -> None:
            session.known = session.learn()

        self._thread = threading.Thread(target=run, name="gapless-shell-learner", daemon=True)
        self._thread.start()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def lines_of(stream: TextIO) -> Iterable[str]:
    """Yield the lines of a script, as they come."""
    for line in stream:
        yield line.rstrip("\n")
