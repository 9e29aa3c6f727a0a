"""A limit stands in one place: its section of the settings, which its component is given."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gapless.config import options

SOURCE = Path(__file__).parents[2] / "src" / "gapless"
# Clients and the simulated upstream are other programs: they have no settings of a hub.
STRANGERS = {"client", "shell", "simulator"}
MODULES = sorted(
    path
    for path in SOURCE.rglob("*.py")
    if not {"config", *STRANGERS} & set(path.relative_to(SOURCE).parts)
)


class Default(NamedTuple):
    """A field or a parameter that has a default, and where."""

    owner: str
    name: str
    value: object


def bare(name: str) -> str:
    """Return a name without its unit."""
    return name.removesuffix("_s").removesuffix("_ms").removesuffix("_bytes")


SETTINGS: dict[str, list[object]] = {}
for option in options():
    SETTINGS.setdefault(bare(option.key.rpartition(".")[2]), []).append(option.default)


def defaults(tree: ast.Module) -> Iterator[Default]:
    """Yield the fields of classes and the parameters of functions whose defaults are literal."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    yield from literal(node.name, item.target.id, item.value)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [*node.args.posonlyargs, *node.args.args]
            last = given[len(given) - len(node.args.defaults) :]
            for argument, value in zip(last, node.args.defaults, strict=True):
                yield from literal(node.name, argument.arg, value)
            for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                yield from literal(node.name, argument.arg, default)


def literal(owner: str, name: str, value: ast.expr | None) -> Iterator[Default]:
    """Yield a default that is a literal, or arithmetic with numbers alone; `None` is no default."""
    parts = () if value is None else tuple(ast.walk(value))
    plain = (ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)
    if value is not None and all(isinstance(part, plain) for part in parts):
        found = eval(compile(ast.Expression(value), owner, "eval"), {})
        if found is not None:
            yield Default(owner, name, found)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_default_of_a_setting_stands_a_second_time(path: Path) -> None:
    """No field and no parameter outside of the settings has the name and the default of one."""
    again = [
        one
        for one in defaults(ast.parse(path.read_text("utf-8")))
        if one.value in SETTINGS.get(bare(one.name), ())
    ]
    assert not again


def test_what_is_looked_for_is_found() -> None:
    """Fields and parameters, however their numbers are written, with another unit or none."""
    source = """
class TcpLimits:
    max_line_bytes: int = 1 << 20
    deadline: float = 20.0
    slow_reader_s: float = 11.0
    name: str

async def opened(path, block_records=2_000, *, shutdown_s: float = 5 * 2.0, hot_bytes=None):
    ...
"""
    found = [one for one in defaults(ast.parse(source)) if one.value in SETTINGS[bare(one.name)]]
    assert [one.name for one in found] == [
        "max_line_bytes",
        "deadline",
        "block_records",
        "shutdown_s",
    ]
