"""What can change upstream ages: no generations, but a commit before which everything is due."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make due what is of an older generation, for it is of another basis than the rest.

    Where upstream serves it no longer it stays marked. Blocks keep their bytes: their column, which
    numbered the generation, is free for the schema of their columns.
    """
    for name in ("due_before", "changed"):
        op.add_column(
            "series", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        )
    op.add_column("coverage", sa.Column("changed_at_ms", sa.BigInteger()))
    older = (
        "generation < (SELECT generation FROM series WHERE series.number = coverage.series) "
        "AND outcome = 'held'"
    )
    op.execute(f"UPDATE coverage SET commit_number = 0, mark = 'unverified' WHERE {older}")
    op.execute(
        "UPDATE series SET due_before = 1 WHERE number IN "
        "(SELECT series FROM coverage WHERE commit_number = 0)"
    )
    op.drop_column("coverage", "generation")
    for gone in ("generation", "basis_checked_at_ms", "bases"):
        op.drop_column("series", gone)
    op.create_table(
        "doubts",
        sa.Column("series", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("suspicion", sa.Text(), nullable=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("next_try_ms", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series"], ["series.number"], name="fk_doubts_series_series", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("series", "start_ms", "suspicion", name="pk_doubts"),
    )
    op.execute("UPDATE entities SET generation = 0 WHERE generation > 0")
    op.execute("ALTER TABLE entities RENAME COLUMN generation TO schema")
