"""Figures of the hub under test and of an earlier one, measured in the same rounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from rich.console import Console

from loading import Load, Sample
from processes import HUB, INSIDE, Server, of_checkout, start_gapless
from questions import Files, WrongAnswer
from report import DISTURBED, Target, table_of

NOW, BEFORE = "now", "before"
_DECIMALS = {"": 0, "%": 0, "µs": 1}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the hubs that are compared: its name, and what starts it.

    `inside` starts one that has the provider of bars.py in its own process.
    """

    name: str
    core: int
    hub: tuple[str, ...]
    inside: tuple[str, ...] = INSIDE
    flags: tuple[str, ...] = ()

    @classmethod
    def before(cls, core: int, checkout: Path) -> Side:
        """The hub of another checkout."""
        hub, inside = (of_checkout(checkout, command) for command in (HUB, INSIDE))
        return cls(BEFORE, core, hub, inside)

    def start(self, folder: Path, part: str, settings: str = "") -> Server:
        """Start its hub, HTTP too, on the database that this part has in a folder."""
        file = folder / f"{part}.toml"
        file.write_text(settings)
        name = f"gapless-{part}-{self.name}"
        flags = (*self.flags, "--config", str(file))
        db = self.db(folder, part)
        return start_gapless(db, self.core, name=name, command=self.hub, extra=flags, web=True)

    def start_inside(self, folder: Path, part: str) -> Server:
        """Start the hub that has the bars in its own process."""
        name, db = f"inside-{part}-{self.name}", self.db(folder, part)
        return start_gapless(db, self.core, name=name, command=self.inside, web=True)

    def db(self, folder: Path, part: str) -> Path:
        """Where its database of a part is."""
        return folder / f"{part}-{self.name}.db"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared, by what load, in which folder, in how many rounds.

    `seconds` is how long the load is put on one of them in a round.
    """

    sides: tuple[Side, ...]
    load: Load
    folder: Path
    rounds: int
    seconds: float

    def turns(self) -> Iterator[tuple[int, Side]]:
        """Every side in each round, with the round's number: another one first each time."""
        for number in range(self.rounds):
            for side in self.sides if number % 2 == 0 else self.sides[::-1]:
                yield number, side

    def sample(self, server: Server, files: Files, connections: int = 1, depth: int = 1) -> Sample:
        """Put the load on a server for as long as is measured at once."""
        return self.load.measure(server, files, connections, depth, self.seconds)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A figure that there is a target for: `most` is what it may be at the most.

    `quiet`: it decides nothing where something else had the cores, as times do not.
    """

    name: str
    unit: str
    most: float
    quiet: bool = False

    @property
    def text(self) -> str:
        """The target as it is written."""
        return f"at most {self.most:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the hub now, and of the one before: medians over the rounds.

    `before` is `None` where there is no hub to compare with; `most` where there is no target.
    `decides`: whether it may be held against its target.
    """

    name: str
    unit: str
    now: float
    before: float | None
    most: float | None = None
    decides: bool = True


class Readings:
    """What was read in the rounds, by figure and side; `of` is what they have in common."""

    def __init__(self, of: str) -> None:
        self._read: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._waiting = f"{of}: waiting for a core"

    def add(self, side: Side, name: str, value: float) -> None:
        """Note a figure of a round."""
        self._read[side.name, name].append(value)

    def sound(self, side: Side, server: Server, sample: Sample) -> Sample:
        """Return a sample, and note how disturbed it was; raise WrongAnswer for a wrong answer."""
        if sample.problems:
            raise WrongAnswer(f"{server.name}: {sample.problems} wrong: {sample.first_problem}")
        self.add(side, self._waiting, 100 * sample.disturbed)
        return sample

    def waiting(self) -> Figure:
        """For how much of the time something else had the core of the server, or of the load."""
        return self.figure(self._waiting, "%")

    def figure(self, name: str, unit: str) -> Figure:
        """The medians of a figure."""
        before = self._read.get((BEFORE, name))
        now = median(self._read[NOW, name])
        return Figure(name, unit, now, None if before is None else median(before))

    def total(self, name: str, unit: str) -> Figure:
        """The sums of a figure."""
        before = self._read.get((BEFORE, name))
        return Figure(
            name, unit, sum(self._read[NOW, name]), None if before is None else sum(before)
        )

    def wanted(self, wanted: Wanted) -> Figure:
        """The medians of a figure, with its target."""
        found = self.figure(wanted.name, wanted.unit)
        decides = not wanted.quiet or self.waiting().now <= 100 * DISTURBED
        return replace(found, most=wanted.most, decides=decides)


def print_figures(to: Console, title: str, figures: list[Figure]) -> None:
    """Print figures as one table: before, now, and what is wanted."""
    compared = any(figure.before is not None for figure in figures)
    table = table_of(to, title)
    table.add_column("")
    for heading in (BEFORE, NOW) if compared else (NOW,):
        table.add_column(heading, justify="right")
    table.add_column("")
    table.add_column("wanted")
    for one in figures:
        values = (one.before, one.now) if compared else (one.now,)
        shown = ("" if value is None else _shown(value, one.unit) for value in values)
        wanted = "" if one.most is None else f"at most {one.most:g}"
        table.add_row(one.name, *shown, one.unit, wanted)
    to.print(table)


def targets_figures(wanted: Iterable[Wanted], figures: list[Figure]) -> list[Target]:
    """Hold figures against their targets; what was not measured stays undecided."""
    by_name = {figure.name: figure for figure in figures}
    found = []
    for one in wanted:
        figure = by_name.get(one.name)
        if figure is None:
            found.append(Target(one.name, one.text, "", None))
            continue
        got = f"{_shown(figure.now, one.unit)} {one.unit}"
        if figure.before is not None:
            got += f" ({BEFORE}: {_shown(figure.before, one.unit)})"
        if not figure.decides:
            found.append(Target(one.name, one.text, f"{got}, but disturbed", None))
            continue
        found.append(Target(one.name, one.text, got, figure.now <= one.most))
    return found


def _shown(value: float, unit: str) -> str:
    return f"{value:,.{_DECIMALS.get(unit, 2)}f}"
