"""Alembic migrations of dataset databases, run by `cb_core.data.database`."""
