"""What is known of a ticker beside its bars, and the tables of what is to come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; unmark what was rescaled by the ratio of a single bar.

    By how much that was is not known, so that nothing can tell on which basis it stands. The tables
    of columns, schemas, fills and lists are empty: with them a database is opened by what will
    write to them without another step.
    """
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "tickers",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("ticker", sa.Text(), nullable=False),
        sa.Column("due_before", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("told_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("version", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("facts", sa.Text(), nullable=False, server_default="{}"),
        sa.PrimaryKeyConstraint("provider", "ticker", name="pk_tickers"),
    )
    op.add_column("coverage", sa.Column("ratio", sa.Float()))
    op.execute("UPDATE coverage SET mark = 'unverified' WHERE mark = 'rescaled'")
    op.create_table(
        "schemas",
        sa.Column("number", number, autoincrement=True, nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_schemas"),
        sa.UniqueConstraint("fields", name="uq_schemas_fields"),
    )
    op.create_table(
        "columns",
        sa.Column("block", number, autoincrement=False, nullable=False),
        sa.Column("batch", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["block"], ["entities.number"], name="fk_columns_block_entities", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("block", name="pk_columns"),
    )
    op.create_table(
        "fills",
        sa.Column("number", number, autoincrement=True, nullable=False),
        sa.Column("user", number),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("next_ms", sa.BigInteger()),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user"], ["users.number"], name="fk_fills_user_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name="pk_fills"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "lists",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("user", number),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("tickers", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user"], ["users.number"], name="fk_lists_user_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("name", name="pk_lists"),
    )
