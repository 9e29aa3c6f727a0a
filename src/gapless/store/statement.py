"""Statements that are asked all the time: compiled once, then the driver's own business.

SQLAlchemy takes some fifty microseconds for a statement, whatever that does; most of what the hub
asks of its database takes a tenth of it. The text is still SQLAlchemy's, one for every database;
what is spared is what it does around the driver's call.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

_Fill = Callable[[Mapping[str, Any]], Any]


class Statement:
    """A statement with parameters by name; none of them may stand for a list.

    `columns` are those that an insert or update sets. Values go to the driver as they are, and
    come from it so: columns must be of types that need no processing by SQLAlchemy.
    """

    def __init__(self, clause: Executable, columns: Iterable[str] | None = None) -> None:
        self._clause = clause
        self._columns = None if columns is None else list(columns)
        # By the dialect, of which a process has one or two.
        self._ready: dict[str, tuple[str, _Fill]] = {}
        self._row: Callable[[Iterable[Any]], Any] | None = None

    def all(self, connection: Connection, **params: Any) -> Sequence[Any]:
        """Execute it; return the rows, whose columns are their attributes.

        Raises the `DBAPIError` that SQLAlchemy would.
        """
        found, columns = self._executed(connection, params)
        if self._row is None and found:
            kind: Any = namedtuple("Row", columns)  # type: ignore[misc]  # as it selects
            self._row = kind._make
        return list(map(self._row, found)) if self._row is not None else ()

    def one(self, connection: Connection, **params: Any) -> Any:
        """Execute it; return the first column of the first row, `None` where there is no row."""
        found, _ = self._executed(connection, params)
        return found[0][0] if found else None

    def run(self, connection: Connection, **params: Any) -> None:
        """Execute it."""
        self._executed(connection, params)

    def _executed(
        self, connection: Connection, params: Mapping[str, Any]
    ) -> tuple[Sequence[Any], list[str]]:
        """Return the rows, which may fail to be read as the statement may, and their columns."""
        dialect = connection.dialect
        ready = self._ready.get(dialect.name)
        if ready is None:
            ready = self._ready[dialect.name] = self._compiled(connection)
        sql, fill = ready
        cursor = connection.connection.cursor()
        values = fill(params)
        try:
            cursor.execute(sql, values)
            if cursor.description is None:
                return (), []
            return cursor.fetchall(), [column[0] for column in cursor.description]
        except dialect.loaded_dbapi.Error as error:
            raise DBAPIError.instance(
                sql, values, error, dialect.loaded_dbapi.Error, dialect=dialect
            ) from error
        finally:
            cursor.close()

    def _compiled(self, connection: Connection) -> tuple[str, _Fill]:
        compiled = self._clause.compile(  # type: ignore[attr-defined]  # what can be executed can be
            dialect=connection.dialect, column_keys=self._columns
        )
        assert isinstance(compiled, SQLCompiler)
        fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        order = compiled.positiontup

        def fill(params: Mapping[str, Any]) -> Any:
            values = {**fixed, **params}
            return values if order is None else [values[name] for name in order]

        return str(compiled), fill
