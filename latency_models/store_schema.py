"""The store's tables as this version reads and writes them.

The outcome is kept whole as JSON; the plain columns repeat what a person asks for with sqlite3.
How older files become these tables is in `migrations/`.
"""

from __future__ import annotations

import sqlalchemy as sa

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# Names of any length. SQLite's columns keep the length that they once had: it is not held.
_Name = sa.Text().with_variant(sa.String(128), "sqlite")
_ShortName = sa.Text().with_variant(sa.String(64), "sqlite")

metadata = sa.MetaData()

measurements = sa.Table(
    "measurements",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("created_unix_s", sa.Float, nullable=False),
    sa.Column("key_digest", sa.String(64), nullable=False, index=True),
    sa.Column("key", sa.JSON, nullable=False),
    sa.Column("structure_hash", sa.String(64), nullable=False),
    sa.Column("task_kind", sa.String(32), nullable=False),
    sa.Column("batch", sa.Integer, nullable=False),
    sa.Column("fingerprint", _Name, nullable=False),
    sa.Column("backend", _ShortName, nullable=False),
    sa.Column("backend_version", _Name, nullable=False),
    sa.Column("measurement_protocol_version", sa.Integer, nullable=False),
    sa.Column("origin", sa.String(32), nullable=False),
    sa.Column("device_id", _Name, nullable=False),
    sa.Column("device_name", _Name, nullable=False),
    sa.Column("agent_version", _ShortName, nullable=False),
    sa.Column("job_id", _Name, nullable=False),
    sa.Column("subject_id", _Name, nullable=False),
    sa.Column("purpose", sa.String(32), nullable=False),
    sa.Column("verdict", sa.String(32)),
    sa.Column("median_s", sa.Float),
    sa.Column("interval_low_s", sa.Float),
    sa.Column("interval_high_s", sa.Float),
    sa.Column("relative_half_width", sa.Float),
    sa.Column("min_duration_s", sa.Float),
    sa.Column("sampled_in_turn", sa.Boolean, nullable=False),
    sa.Column("reference_sha256", sa.String(64)),
    sa.Column("ratio", sa.Float),
    sa.Column("ratio_low", sa.Float),
    sa.Column("ratio_high", sa.Float),
    sa.Column("ratio_relative_half_width", sa.Float),
    sa.Column("ratio_verdict", sa.String(32)),
    sa.Column("failure_kind", sa.String(32)),
    sa.Column("failure_message", sa.Text),
    sa.Column("outcome", sa.JSON, nullable=False),
    # Imported after newer ones of its device: its number says nothing about when it was taken.
    sa.Column("arrived_late", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("job_id", "subject_id", name="uq_measurements_job_id_subject_id"),
    sa.Index("ix_measurements_device_id", "device_id", "id"),
)

quarantines = sa.Table(
    "quarantines",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("measurement_id", _Id, sa.ForeignKey("measurements.id"), nullable=False, index=True),
    sa.Column("created_unix_s", sa.Float, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("times_only", sa.Boolean, nullable=False),
)
