"""Finding a plugin's class: its modules as they are on disk now, and words for what is wrong.

Runs in the plugin's process, which is a fresh one for every load.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from pathlib import Path
from types import FrameType, ModuleType, TracebackType
from typing import Any

_OURS = str(Path(__file__).parent)
_MOST_LINES, _LONGEST_LINE = 200, 2_000


class CannotLoad(Exception):
    """There is no such module or class; the message says where it was looked for."""


class FreshLoader(SourceFileLoader):
    """Reads source files only, for what is compiled may be of an earlier version.

    A file that was edited twice within a second and kept its size looks the same as before.
    """

    stamp: tuple[int, ...] = ()
    sha256 = ""

    def get_data(self, path: Any) -> bytes:
        """Read a file, and note of the module's own which version of it that is."""
        if path != self.path:
            return super().get_data(path)
        stat = Path(path).stat()
        data = super().get_data(path)
        self.stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        self.sha256 = hashlib.sha256(data).hexdigest()
        return data

    def path_stats(self, path: Any) -> Any:
        """Know nothing of the file, so that nothing compiled is taken for its own."""
        raise OSError(f"{path} is always read anew")


class Folders:
    """The folders that plugins are loaded from, put before all others on the import path."""

    def __init__(self, folders: Sequence[str], inherited: Sequence[str]) -> None:
        self.folders = list(folders)
        # A folder may hold a whole environment, whose modules are better taken compiled.
        self._others = [path for path in inherited if path and path not in folders]

    def install(self) -> None:
        """Let imports look here first."""
        sys.dont_write_bytecode = True
        sys.path[:0] = self.folders
        sys.path_hooks.insert(0, self._hook)
        for path in list(sys.path_importer_cache):
            if self.contain(path):
                del sys.path_importer_cache[path]

    def contain(self, path: str) -> bool:
        """Whether a file or folder is a plugin's rather than the environment's."""
        mine = max((len(folder) for folder in self.folders if _within(path, folder)), default=-1)
        other = max((len(folder) for folder in self._others if _within(path, folder)), default=-1)
        return mine > other

    def files(self) -> dict[str, tuple[int, ...]]:
        """Return the files of the modules that were read from here, each as it was then."""
        loaders = [getattr(module, "__loader__", None) for module in list(sys.modules.values())]
        mine = [loader for loader in loaders if isinstance(loader, FreshLoader)]
        return {str(loader.path): loader.stamp for loader in mine}

    def _hook(self, path: str) -> FileFinder:
        if not self.contain(path):
            raise ImportError(path=path)
        return FileFinder(
            path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (FreshLoader, SOURCE_SUFFIXES)
        )


def load_module(name: str, folders: Folders) -> ModuleType:
    """Import a module by its dotted name; raise `CannotLoad` where there is none."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise
        searched = ", ".join(folders.folders) or "no folder of its own"
        raise CannotLoad(
            f"there is no module {error.name!r} in {searched}, nor in the hub's environment; "
            'put it there, say where it is with "project_base_dir", or give its path as "file"'
        ) from None


def load_file(path: str) -> ModuleType:
    """Import a file as a module of its stem's name."""
    stem = Path(path).stem
    name = stem if stem.isidentifier() and stem not in sys.modules else f"plugin_{stem}"
    loader = FreshLoader(name, path)
    spec = ModuleSpec(name, loader, origin=path)
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def find_class(module: ModuleType, name: str) -> type:
    """Return the class; raise `CannotLoad` that lists those there are."""
    found = getattr(module, name, None)
    if isinstance(found, type):
        return found
    classes = sorted(
        key
        for key, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    )
    what = "no class" if found is None else f"a {type(found).__name__}, but no class,"
    raise CannotLoad(
        f"module {module.__name__!r} has {what} {name!r}; "
        f"its classes are: {', '.join(classes) or 'none'}"
    )


def sha256_of(module: ModuleType) -> str | None:
    """Return the SHA-256 of a module's file, as it was read; `None` where it has none."""
    loader = getattr(module, "__loader__", None)
    if isinstance(loader, FreshLoader):
        return loader.sha256
    try:
        return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
    except (OSError, AttributeError):
        return None


def told(error: BaseException, folders: Folders) -> str:
    """Say in a line what was raised, and where in the plugin."""
    text = text_of(error)
    said = type(error).__name__ + (f": {text}" if text else "")
    place = ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}"
    else:
        for frame, line in _frames(error.__traceback__):
            if folders.contain(frame.f_code.co_filename):
                place = f"{frame.f_code.co_filename}:{line}"
    return f"{said} ({_short(place, folders)})" if place else said


def traceback_of(error: BaseException) -> str:
    """Return the traceback as Python prints it, without the frames that are ours."""
    shown = traceback.TracebackException.from_exception(error)
    parts: list[traceback.TracebackException | None] = [shown]
    seen: set[int] = set()
    while parts:
        part = parts.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        part.stack = traceback.StackSummary.from_list(
            [frame for frame in part.stack if not _internal(frame.filename)]
        )
        parts += [part.__cause__, part.__context__]
    lines = [
        line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"
        for line in "".join(shown.format()).splitlines()
    ]
    if len(lines) > _MOST_LINES:
        lines = [*lines[:20], "  …", *lines[20 - _MOST_LINES :]]
    return "\n".join(lines)


def _frames(at: TracebackType | None) -> list[tuple[FrameType, int]]:
    found = []
    while at is not None:
        found.append((at.tb_frame, at.tb_lineno))
        at = at.tb_next
    return found


def text_of(error: BaseException) -> str:
    """Return what an exception says, in one line that is not too long."""
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:
        return ""
    text = " ".join(text.split())
    return text if len(text) <= 500 else f"{text[:500]}…"


def _short(place: str, folders: Folders) -> str:
    fitting = [folder for folder in folders.folders if _within(place, folder)]
    return place[len(min(fitting, key=len)) :].lstrip("/") if fitting else place


def _internal(filename: str) -> bool:
    return (
        _within(filename, _OURS)
        or filename.startswith("<frozen importlib")
        or (filename == "<string>")
    )


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
