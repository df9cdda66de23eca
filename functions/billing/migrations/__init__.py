"""Billing's tables, version by version; see `functions.database.migrate`."""
