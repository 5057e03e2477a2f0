"""The store's schema, one Alembic revision a change."""
