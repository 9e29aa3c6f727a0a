"""Series, coverage and entities."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the first three tables."""
    op.create_table(
        "series",
        sa.Column("number", _number, autoincrement=True, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("ticker", sa.Text(), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("basis_checked_at_ms", sa.BigInteger()),
        sa.Column("bases", sa.Text(), nullable=False),
        sa.Column("meta", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_series"),
        sa.UniqueConstraint(
            "provider", "ticker", "params", name="uq_series_provider_ticker_params"
        ),
    )
    op.create_table(
        "coverage",
        sa.Column("series", _number, nullable=False),
        sa.Column("start_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("fetched_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("refresh_after_ms", sa.BigInteger()),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("mark", sa.Text()),
        sa.PrimaryKeyConstraint("series", "start_ms", name="pk_coverage"),
        sa.ForeignKeyConstraint(
            ["series"], ["series.number"], name="fk_coverage_series_series", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "entities",
        sa.Column("number", _number, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("series", _number),
        sa.Column("start_ms", sa.BigInteger()),
        sa.Column("end_ms", sa.BigInteger()),
        sa.Column("generation", sa.Integer()),
        sa.Column("final", sa.Boolean()),
        sa.Column("records", sa.Integer()),
        sa.Column("first_ms", sa.BigInteger()),
        sa.Column("last_ms", sa.BigInteger()),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("fetched_at", sa.Text(), nullable=False),
        sa.Column("refresh_after", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("offsets", sa.LargeBinary()),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_entities"),
        sa.UniqueConstraint("id", name="uq_entities_id"),
        sa.ForeignKeyConstraint(
            ["series"], ["series.number"], name="fk_entities_series_series", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_entities_series_start_ms", "entities", ["series", "start_ms"])
    op.create_index("ix_entities_source_id", "entities", ["source", "id"])
