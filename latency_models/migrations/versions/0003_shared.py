"""Revision 3: stores that several hosts share and that take others' measurements in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NAMES = (
    *("fingerprint", "backend", "backend_version", "device_id", "device_name"),
    *("agent_version", "job_id", "subject_id"),
)


def upgrade() -> None:
    """Add what orders imported measurements, and an index by device."""
    op.add_column(
        "measurements",
        # Until now, none came from elsewhere.
        sa.Column("arrived_late", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_index("ix_measurements_device_id", "measurements", ["device_id", "id"])
    if op.get_bind().dialect.name != "sqlite":
        # SQLite never cut a name at the length that the column says; nor may another database.
        for name in _NAMES:
            op.alter_column("measurements", name, type_=sa.Text, existing_nullable=False)
