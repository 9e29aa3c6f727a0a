"""Bringing a database to the shape this program writes, or refusing one that is newer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from gapless.errors import DatabaseDamaged, DatabaseNewer

if TYPE_CHECKING:
    from alembic.config import Config

_SCRIPTS = "gapless.store:migrations"
# The step that `versions/` ends with; a test holds it against the files. Known here so that a
# hub whose database is up to date never imports Alembic, which takes a second.
HEAD = "0006"


def examine(connection: Connection, name: str) -> str | None:
    """Return the step the database is at, only reading; `None`: it is empty.

    Raises `DatabaseNewer` where `name` was written by a newer gapless, `DatabaseDamaged` where
    it holds tables that are not ours.
    """
    before = _revision(connection, name)
    if before is None and inspect(connection).get_table_names():
        raise DatabaseDamaged(
            f"{name} holds tables, but not those of gapless; it is left as it is. "
            "Name another file with --db"
        )
    if before is not None and before != HEAD and before not in _steps():
        raise DatabaseNewer(
            f"{name} was written by a newer gapless (step {before}; this one knows up to {HEAD}); "
            "it is left as it is. Upgrade gapless, or name another file with --db"
        )
    return before


def upgrade(connection: Connection, name: str) -> tuple[str | None, str]:
    """Run the missing steps in the connection's transaction; return (step before, step after).

    Raises what `examine` raises, before anything is written.
    """
    before = examine(connection, name)
    if before == HEAD:
        return before, HEAD
    import alembic.command

    config = _config()
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
    return before, HEAD


def _revision(connection: Connection, name: str) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    if len(found) != 1:
        raise DatabaseDamaged(
            f"{name} does not say which version of gapless wrote it; it is left as it is. "
            "Restore a copy, or name another file with --db"
        )
    version: str = found[0]
    return version


def _config() -> Config:
    import alembic.config

    config = alembic.config.Config()
    config.set_main_option("script_location", _SCRIPTS)
    config.set_main_option("path_separator", "os")
    return config


def _steps() -> set[str]:
    from alembic.script import ScriptDirectory

    found = ScriptDirectory.from_config(_config()).walk_revisions()
    return {script.revision for script in found}
