"""The keys under which a tenant's objects rest: made, kept, rotated, destroyed.

Each tenant has a ring: a folder with `names.key` (under which the names of its
objects are encrypted; it never changes) and `<version>.key` (each wraps the keys of
single objects; the newest wraps new ones).  What lies in the files is what a `Guard`
makes of the keys: nothing of its own where the folder itself is guarded, the
ciphertext of a key management service where one is named.
"""

from __future__ import annotations

from functions.envelopes.guard import Guard, Unguarded
from functions.envelopes.locate import open_envelopes
from functions.envelopes.ring import Envelopes, Kek, KeyMissing

__all__ = ["Envelopes", "Guard", "Kek", "KeyMissing", "Unguarded", "open_envelopes"]
