"""The tables. Times in columns named `_ms` are milliseconds UTC; text times are RFC 3339.

Big columns stand last, so that reading the small ones never walks through them; no table is
WITHOUT ROWID, for large values make those many times slower.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite only counts rows by itself in a column that is exactly INTEGER.
_number = BigInteger().with_variant(Integer(), "sqlite")

series = Table(
    "series",
    metadata,
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("provider", Text, nullable=False),
    Column("ticker", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("meta", Text, nullable=False),
    # When it was made: a series that was forgotten and fetched again is another one.
    Column("created_ms", BigInteger, nullable=False, server_default="0"),
    # What was written by an earlier commit may stand on another basis, and is due.
    Column("due_before", BigInteger, nullable=False, server_default="0"),
    # The last commit by which a final price was another one than before.
    Column("changed", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("provider", "ticker", "params"),
)

coverage = Table(
    "coverage",
    metadata,
    Column("series", _number, ForeignKey("series.number", ondelete="CASCADE"), primary_key=True),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("end_ms", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("fetched_at_ms", BigInteger, nullable=False),
    Column("refresh_after_ms", BigInteger),
    Column("mark", Text),
    # By which commit the row was written last.
    Column("commit_number", BigInteger, nullable=False, server_default="0"),
    # When upstream was last seen to have changed what was final.
    Column("changed_at_ms", BigInteger),
    # Of what upstream no longer serves: new shares for one old, by the splits it was rescaled by.
    Column("ratio", Float),
)

# What is known of a ticker beside its bars, whichever of its series told it (stitching rule 21).
tickers = Table(
    "tickers",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("ticker", Text, primary_key=True),
    # What was written to any of its series by an earlier commit is due.
    Column("due_before", BigInteger, nullable=False, server_default="0"),
    # When the answer was asked for that told the facts.
    Column("told_ms", BigInteger, nullable=False, server_default="0"),
    # The commit by which the facts changed last.
    Column("version", BigInteger, nullable=False, server_default="0"),
    Column("facts", Text, nullable=False, server_default="{}"),
)

# What upstream said that is not believed yet: that records are gone, or that there are none.
doubts = Table(
    "doubts",
    metadata,
    Column("series", _number, ForeignKey("series.number", ondelete="CASCADE"), primary_key=True),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("suspicion", Text, primary_key=True),
    Column("end_ms", BigInteger, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("next_try_ms", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
)

# One row: the number of the latest commit to any series. Numbers are never used twice, not even
# after a series was forgotten, and a series goes by the number of the commit that made it.
commits = Table(
    "commits",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
)

entities = Table(
    "entities",
    metadata,
    # Block numbers are never used twice: a run that is held in memory by its number cannot be
    # mistaken for a later one.
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("series", _number, ForeignKey("series.number", ondelete="CASCADE")),
    Column("start_ms", BigInteger),
    Column("end_ms", BigInteger),
    # Number of the schema that its columns were declared with; 0: none was.
    Column("schema", Integer),
    Column("final", Boolean),
    Column("records", Integer),
    Column("first_ms", BigInteger),
    Column("last_ms", BigInteger),
    Column("etag", Text, nullable=False),
    # Of a block: as they were when its text was written. How fresh it is tells its coverage.
    Column("fetched_at", Text, nullable=False),
    Column("refresh_after", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("offsets", LargeBinary),
    Column("data", Text, nullable=False),
    UniqueConstraint("id"),
    Index(None, "series", "start_ms"),
    Index(None, "source", "id"),
    sqlite_autoincrement=True,
)

# The schemas that the columns of blocks were declared with, each once; JSON.
schemas = Table(
    "schemas",
    metadata,
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("fields", Text, nullable=False),
    UniqueConstraint("fields"),
)

# The columns of a block as an Arrow record batch. Beside the text, not in its row: the text is
# read for each answer, and would take twice as long. Nothing writes it yet.
columns = Table(
    "columns",
    metadata,
    Column(
        "block",
        _number,
        ForeignKey("entities.number", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("batch", LargeBinary, nullable=False),
)

plugins = Table(
    "plugins",
    metadata,
    Column("name", Text, primary_key=True),
    Column("spec", Text, nullable=False),
    Column("loaded_at", Text, nullable=False),
)

users = Table(
    "users",
    metadata,
    # Numbers are never used twice: what a log says of a user is never about a later one.
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("email", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("password_ms", BigInteger, nullable=False),
    Column("signed_in_ms", BigInteger),
    Column("password", Text, nullable=False),
    UniqueConstraint("email"),
    sqlite_autoincrement=True,
)

tokens = Table(
    "tokens",
    metadata,
    Column("number", _number, primary_key=True, autoincrement=True),
    # SHA-256 of the token, in hex: of a token itself nothing is kept.
    Column("digest", Text, nullable=False),
    Column("user", _number, ForeignKey("users.number", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger),
    UniqueConstraint("digest"),
    Index(None, "user"),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("details", Text, nullable=False),
    sqlite_autoincrement=True,
)

# One row at the most: it is there as soon as there has ever been a user.
setup = Table(
    "setup",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("done_ms", BigInteger, nullable=False),
)

# Lists of tickers by name, and jobs that fill them; nothing writes either yet.
lists = Table(
    "lists",
    metadata,
    Column("name", Text, primary_key=True),
    Column("user", _number, ForeignKey("users.number", ondelete="CASCADE")),
    Column("changed_ms", BigInteger, nullable=False),
    Column("tickers", Text, nullable=False),
)

fills = Table(
    "fills",
    metadata,
    Column("number", _number, primary_key=True, autoincrement=True),
    Column("user", _number, ForeignKey("users.number", ondelete="CASCADE")),
    Column("state", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    # When it is to begin next.
    Column("next_ms", BigInteger),
    Column("spec", Text, nullable=False),
    Column("progress", Text, nullable=False),
    sqlite_autoincrement=True,
)
