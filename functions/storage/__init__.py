"""Where a tenant's bytes rest: one `Store` a tenant, found by URL.

`GUISE_STORE` is either one tenant's store (`file:///data/acme`) or, in a pooled
function, a template (`file:///data/{tenant}`); see `Stores`.
"""

from __future__ import annotations

from functions.storage.base import Info, Object, Page, Store
from functions.storage.locate import Stores, open_store

__all__ = ["Info", "Object", "Page", "Store", "Stores", "open_store"]
