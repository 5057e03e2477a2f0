"""Revision 1: measurements and quarantines. Never edited again; a change is a new revision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "measurements",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("created_unix_s", sa.Float, nullable=False),
        sa.Column("key_digest", sa.String(64), nullable=False),
        sa.Column("key", sa.JSON, nullable=False),
        sa.Column("structure_hash", sa.String(64), nullable=False),
        sa.Column("task_kind", sa.String(32), nullable=False),
        sa.Column("batch", sa.Integer, nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("backend", sa.String(64), nullable=False),
        sa.Column("backend_version", sa.String(128), nullable=False),
        sa.Column("measurement_protocol_version", sa.Integer, nullable=False),
        sa.Column("origin", sa.String(32), nullable=False),
        sa.Column("device_id", sa.String(128), nullable=False),
        sa.Column("device_name", sa.String(128), nullable=False),
        sa.Column("agent_version", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(128), nullable=False),
        sa.Column("subject_id", sa.String(128), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("verdict", sa.String(32)),
        sa.Column("median_s", sa.Float),
        sa.Column("interval_low_s", sa.Float),
        sa.Column("interval_high_s", sa.Float),
        sa.Column("relative_half_width", sa.Float),
        sa.Column("min_duration_s", sa.Float),
        sa.Column("failure_kind", sa.String(32)),
        sa.Column("failure_message", sa.Text),
        sa.Column("outcome", sa.JSON, nullable=False),
        sa.UniqueConstraint("job_id", "subject_id", name="uq_measurements_job_id_subject_id"),
    )
    op.create_index("ix_measurements_key_digest", "measurements", ["key_digest"])
    op.create_table(
        "quarantines",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("measurement_id", _Id, sa.ForeignKey("measurements.id"), nullable=False),
        sa.Column("created_unix_s", sa.Float, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("ix_quarantines_measurement_id", "quarantines", ["measurement_id"])


def downgrade() -> None:
    """Refuse: the store is append-only, and going back would drop measurements."""
    raise NotImplementedError("a store is never downgraded: open it with a newer boardfront")
