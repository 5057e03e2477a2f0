"""The store's tables as this version reads and writes them.

The outcome is kept whole as JSON; the plain columns repeat what a person asks for with sqlite3.
How older files become these tables is in `migrations/`.
"""

from __future__ import annotations

import sqlalchemy as sa

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

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
    sa.UniqueConstraint("job_id", "subject_id", name="uq_measurements_job_id_subject_id"),
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
