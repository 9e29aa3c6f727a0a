"""Bringing a database to the shape this program writes, or refusing one that is newer."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text

from gapless.errors import DatabaseDamaged, DatabaseNewer

_SCRIPTS = "gapless.store:migrations"
# The step that `versions/` ends with; a test holds it against the files. Known here so that a
# hub whose database is up to date never imports Alembic, which takes a second.
HEAD = "0001"


def revision(connection: Connection) -> str | None:
    """Return the step the database is at; `None`: it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    if len(found) != 1:
        raise DatabaseDamaged("the database does not say which version wrote it")
    version: str = found[0]
    return version


def upgrade(connection: Connection, name: str) -> tuple[str | None, str]:
    """Run the missing steps in the connection's transaction; return (step before, step after).

    Raises `DatabaseNewer` where `name` was written by a newer gapless, `DatabaseDamaged` where
    it holds tables that are not ours; both leave it untouched.
    """
    before = revision(connection)
    if before == HEAD:
        return before, HEAD
    if before is None and inspect(connection).get_table_names():
        raise DatabaseDamaged(
            f"{name} holds tables, but not those of gapless; it is left as it is. "
            "Name another file with --db"
        )
    import alembic.command
    import alembic.config
    from alembic.script import ScriptDirectory

    config = alembic.config.Config()
    config.set_main_option("script_location", _SCRIPTS)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    steps = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if before is not None and before not in steps:
        raise DatabaseNewer(
            f"{name} was written by a newer gapless (step {before}; this one knows up to {HEAD}); "
            "it is left as it is. Upgrade gapless, or name another file with --db"
        )
    alembic.command.upgrade(config, "head")
    return before, HEAD
