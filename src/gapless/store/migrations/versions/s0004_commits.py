"""Numbers of commits that are never used twice, and which commit wrote each row of coverage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go on counting where the series have got to: their own numbers come from the same count."""
    op.add_column(
        "coverage",
        sa.Column("commit_number", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.execute(
        "UPDATE coverage SET commit_number = "
        "(SELECT version FROM series WHERE series.number = coverage.series)"
    )
    op.create_table(
        "commits",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_commits"),
    )
    latest = op.get_bind().execute(sa.text("SELECT max(version), max(number) FROM series")).one()
    op.execute(f"INSERT INTO commits (number) VALUES ({max(number or 0 for number in latest)})")
