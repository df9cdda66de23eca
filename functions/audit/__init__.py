"""The audit function: an append-only Merkle log a tenant, and its receipts."""
