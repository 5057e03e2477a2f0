"""Revision 2: ratios to a reference, and what a quarantine is about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what was there before was measured without a reference."""
    for column in (
        # Before, only finalists were interleaved; their times are never looked up.
        sa.Column("sampled_in_turn", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("reference_sha256", sa.String(64)),
        sa.Column("ratio", sa.Float),
        sa.Column("ratio_low", sa.Float),
        sa.Column("ratio_high", sa.Float),
        sa.Column("ratio_relative_half_width", sa.Float),
        sa.Column("ratio_verdict", sa.String(32)),
    ):
        # One by one and in place: a table that others refer to cannot be rebuilt.
        op.add_column("measurements", column)
    op.add_column(
        "quarantines",
        sa.Column("times_only", sa.Boolean, nullable=False, server_default=sa.false()),
    )
