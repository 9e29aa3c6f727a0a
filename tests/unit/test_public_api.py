"""The public Python API, frozen: what there is, how it is called, what it takes to import it."""

from __future__ import annotations

import importlib.resources
import inspect
import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gapless
from gapless.protocol.messages import PROVIDER_REASONS, WIRE_ERRORS
from support.wire import PATIENCE_S

TABLE = Path(__file__).with_name("public_api.txt")
RENEW = "RENEW_PUBLIC_API"
# What the two clients do each in the way of their kind.
OF_ITS_KIND = {"close", "aclose", "__enter__", "__exit__", "__aenter__", "__aexit__"}


def called(value: Any) -> str:
    """Return how something is called, the same on every Python."""
    text = re.sub(r"ForwardRef\('([^']*)'[^)]*\)", r"\1", str(inspect.signature(value)))
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)


def members(kind: type) -> Iterator[str]:
    """Yield what a class has that is public and ours, and how it is called."""
    for name, value in sorted(vars(kind).items()):
        if name.startswith("_") and name not in OF_ITS_KIND:
            continue
        if isinstance(value, property):
            assert value.fget is not None
            yield f".{name} -> {inspect.signature(value.fget).return_annotation}"
        elif inspect.isfunction(value):
            kind_of = "async " if inspect.iscoroutinefunction(value) else ""
            yield f"{kind_of}.{name}{called(value)}"


def described() -> str:
    """Return the whole public API as text, a line for each name.

    Fields are in the signatures of their classes. Results are made by clients alone.
    """
    lines: list[str] = []
    for name in gapless.__all__:
        value = getattr(gapless, name)
        if isinstance(value, str):
            lines.append(name)
        elif not isinstance(value, type):
            lines.append(f"{name}{called(value)}")
        else:
            bases = ", ".join(base.__name__ for base in value.__bases__)
            made = "" if name == "Result" or issubclass(value, Warning) else called(value)
            lines.append(f"class {name}{made.removesuffix(' -> None')} is {bases}")
            lines += [f"    {member}" for member in members(value)]
    return "\n".join(lines) + "\n"


def test_the_public_api_is_as_it_was() -> None:
    """What changes here breaks somebody's program, or is new and belongs in the changelog."""
    text = described()
    if os.environ.get(RENEW):
        TABLE.write_text(text)
    assert text == TABLE.read_text(), (
        f"the public API has changed; if that is meant, note it in CHANGELOG.md and run: "
        f"{RENEW}=1 pytest {Path(__file__).name}"
    )


def test_every_name_is_there() -> None:
    """Each once, found by `dir`, and nothing that is not on the list."""
    assert len(set(gapless.__all__)) == len(gapless.__all__)
    assert dir(gapless) == sorted(gapless.__all__)
    for name in gapless.__all__:
        assert getattr(gapless, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = gapless.Nothing
    scope: dict[str, Any] = {}
    exec("from gapless import *", scope)
    assert set(gapless.__all__) <= set(scope)


LOADED = """
import json, sys
import gapless
before = sorted(name.partition(".")[0] for name in sys.modules)
gapless.GaplessError, gapless.NotFound
errors = sorted(name.partition(".")[0] for name in sys.modules)
gapless.connect, gapless.AsyncClient, gapless.Result
print(json.dumps([before, errors, sorted(name.partition(".")[0] for name in sys.modules)]))
"""


def test_importing_is_cheap() -> None:
    """What is heavy is loaded by what needs it: frames by frames, the hub's parts by the hub."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED], check=True, capture_output=True, timeout=PATIENCE_S
    )
    imported, errors, clients = (set(one) for one in json.loads(done.stdout))
    for names in (imported, errors):
        assert not names & {"polars", "asyncio", "sqlalchemy", "msgspec", "litestar", "uvloop"}
    never = {"polars", "pandas", "pyarrow", "sqlalchemy", "litestar", "uvicorn", "alembic", "rich"}
    assert not clients & never


def signatures(kind: type) -> dict[str, tuple[Any, ...]]:
    """Return the parameters of a client's public methods, and what they return in the end."""
    found: dict[str, tuple[Any, ...]] = {"__init__": tuple(_parameters(kind.__init__))}  # type: ignore[misc]
    for name, value in vars(kind).items():
        if name in OF_ITS_KIND or name.startswith("_"):
            continue
        if isinstance(value, property):
            found[name] = ("property", inspect.signature(value.fget or len).return_annotation)
        else:
            assert isinstance(value, types.FunctionType), name
            found[name] = (
                *_parameters(value),
                inspect.signature(value).return_annotation,
            )
    return found


def _parameters(function: Any) -> list[str]:
    return [str(one) for one in inspect.signature(function).parameters.values()]


def test_both_clients_have_the_same_methods() -> None:
    """Same names, same parameters with the same defaults, same results."""
    assert signatures(gapless.Client) == signatures(gapless.AsyncClient)
    asked = [
        name
        for name, value in vars(gapless.AsyncClient).items()
        if inspect.iscoroutinefunction(value) and name not in OF_ITS_KIND
    ]
    assert {"search", "search_many", "get", "fetch", "send_line"} <= set(asked)
    for name in asked:
        assert not inspect.iscoroutinefunction(getattr(gapless.Client, name))
    # The one that is reached at once takes what the class takes.
    assert _parameters(gapless.connect) == _parameters(gapless.Client.__init__)[1:]


def test_every_code_of_the_wire_is_an_exception() -> None:
    """And every reason of a provider: exported, and a `GaplessError`."""
    exported = {
        value
        for name in gapless.__all__
        if isinstance(value := getattr(gapless, name), type)
        and issubclass(value, gapless.GaplessError)
    }
    for code, kind in WIRE_ERRORS.items():
        # What the table has for faults of the hub is the root; callers get a kind of its own.
        raised = gapless.InternalError if kind is gapless.GaplessError else kind
        assert raised in exported, code
        assert raised.code == code
    for reason, provider_kind in PROVIDER_REASONS.items():
        assert provider_kind in exported, reason
        assert issubclass(provider_kind, gapless.ProviderError)
    for kind in exported:
        if kind is not gapless.PartlyFailed:
            error = kind("words")
            assert (str(error), error.message) == ("words", "words")
    assert issubclass(gapless.MissingDependency, ImportError)
    assert issubclass(gapless.NotReadyWarning, UserWarning)


def test_types_come_along() -> None:
    """The marker for type checkers is in the package."""
    assert importlib.resources.files("gapless").joinpath("py.typed").is_file()


WITHOUT = """
import importlib.machinery, sys

missing = set(sys.argv[1].split(","))

class Without:
    # As if they were not installed: nobody finds them.
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            return None
        return importlib.machinery.PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [
    Without if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path
]

import gapless
from gapless.client.results import EntityBox, Found, Result

data = b'[{"timestamp":1609459200,"close":1.5},{"timestamp":1609545600,"close":2.5}]'
result = Result(Found(EntityBox("x", data=data)))
assert result.to_polars()["close"].to_list() == [1.5, 2.5]
assert result.to_polars()["timestamp"].dtype.time_zone == "UTC"
for form in sys.argv[2:]:
    try:
        getattr(result, form)()
    except gapless.MissingDependency as error:
        assert isinstance(error, ImportError)
        print(form, error)
    else:
        print(form, "is there")
"""


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (
            "pandas,pyarrow",
            [
                # Whichever is missed first: the command brings both.
                "to_pandas this needs pyarrow, which is not installed: "
                "pip install 'gapless[pandas]'",
                "to_arrow this needs pyarrow, which is not installed: pip install 'gapless[arrow]'",
            ],
        ),
        (
            "pandas",
            [
                "to_pandas this needs pandas, which is not installed: "
                "pip install 'gapless[pandas]'",
                "to_arrow is there",
            ],
        ),
        (
            "pyarrow",
            [
                "to_pandas this needs pyarrow, which is not installed: "
                "pip install 'gapless[pandas]'",
                "to_arrow this needs pyarrow, which is not installed: pip install 'gapless[arrow]'",
            ],
        ),
        ("nothing", ["to_pandas is there", "to_arrow is there"]),
    ],
)
def test_what_is_not_installed_is_named_with_the_command(missing: str, told: list[str]) -> None:
    """Frames of polars are always there; what else is wanted says how it is got."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT, missing, "to_pandas", "to_arrow"],
        capture_output=True,
        timeout=PATIENCE_S,
        text=True,
    )
    assert (done.stdout.splitlines(), done.stderr) == (told, "")
