"""The audit log's tables, version by version; see `functions.database.migrate`."""
