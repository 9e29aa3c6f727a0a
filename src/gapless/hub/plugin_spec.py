"""How a plugin is asked for, and how it is: the words of requests and answers about plugins.

Apart from the manager, because doors and commands speak them too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from gapless.errors import InvalidQuery
from gapless.hub.ranges import shortened
from gapless.providers.plugins.contracts import checked_alias

_LONGEST_PATH = 4_096


class PluginSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a plugin is loaded; the body of a request to load one.

    Exactly one of `module` and `file` is given. `project_base_dir` is where modules are looked for
    instead of the hub's own base. `watch`: it is loaded again when one of its files changes.
    """

    module: str | None = None
    file: str | None = None
    class_: str = msgspec.field(name="class", default="Provider")
    name: str | None = None
    project_base_dir: str | None = None
    watch: bool = False


class RememberedSpec(PluginSpec, frozen=True):
    """A plugin's spec as the store has it, with the defaults of its parameters.

    Series are held under the parameters that are not at their default, so that one that changes
    would make other histories of them.
    """

    defaults: dict[str, str] = {}

    def spec(self) -> PluginSpec:
        """Return what it is loaded by."""
        fields = msgspec.structs.asdict(self)
        del fields["defaults"]
        return PluginSpec(**fields)


class PluginStatus(msgspec.Struct, frozen=True):
    """How a plugin is, for people and programs.

    `state` is `running`, `restarting`, `disabled`, `closed`, or `failed` where it could not be
    loaded. `last_error` is the last crash, or why it could not be loaded (again), with the
    plugin's own `traceback` then. `contract` has some of ranged, entities, stitch.
    """

    name: str
    state: str
    contract: tuple[str, ...] = ()
    module: str | None = None
    file: str | None = None
    class_: str = msgspec.field(name="class", default="Provider")
    base: str = ""
    watch: bool = False
    remembered: bool = False
    pid: int | None = None
    calls: int = 0
    crashes: int = 0
    restarts: int = 0
    sha256: str | None = None
    loaded_at: str | None = None
    last_error: str | None = None
    traceback: str | None = None


def resolved(spec: PluginSpec, base: Path) -> PluginSpec:
    """Return a request with its paths made absolute, links followed; reads the disk.

    Raises `InvalidQuery` that names what is wrong with it.
    """
    if (spec.module is None) == (spec.file is None):
        raise InvalidQuery('a plugin is loaded from a "module" or from a "file": give one of them')
    if spec.module is not None and not _dotted(spec.module):
        raise InvalidQuery(f"{shortened(spec.module)} cannot be the name of a module")
    if not spec.class_.isidentifier():
        raise InvalidQuery(f"{shortened(spec.class_)} cannot be the name of a class")
    if spec.name is not None:
        checked_alias(spec.name)
    folder = base
    if spec.project_base_dir is not None:
        folder = Path(_path(spec.project_base_dir, "project_base_dir"))
    folder = _real(base / folder)
    if not _is(folder.is_dir):
        raise InvalidQuery(f"project_base_dir {shortened(str(folder))} is no folder")
    file = None
    if spec.file is not None:
        path = _real(folder / _path(spec.file, "file"))
        if path.suffix != ".py":
            raise InvalidQuery(f"file {shortened(str(path))} does not end in .py")
        if not _is(path.is_file):
            raise InvalidQuery(
                f"there is no file {str(path)!r}; a path that is not absolute begins at "
                f"{str(folder)!r}"
            )
        file = str(path)
    return msgspec.structs.replace(spec, file=file, project_base_dir=str(folder))


def _dotted(text: str) -> bool:
    return len(text) <= 500 and all(part.isidentifier() for part in text.split("."))


def _path(text: str, what: str) -> str:
    if "://" in text:
        raise InvalidQuery(f"{what} is a URL; code is loaded from this machine's files only")
    if not text or "\0" in text or len(text) > _LONGEST_PATH:
        raise InvalidQuery(f"{what} {shortened(text)} is no path")
    return text


def _is(what: Callable[[], bool]) -> bool:
    """Whether a path is that; one that the system cannot even look at is not."""
    try:
        return what()
    except OSError:
        return False


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise InvalidQuery(f"the path {shortened(str(path))} cannot be followed: {error}") from None
