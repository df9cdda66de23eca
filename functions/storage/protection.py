"""How a bucket keeps what lies in it, and why a tenant's data may not lie there.

A bucket encrypts by itself, under its default key; what is ours is to see that it has
one, before the first byte goes there.  And a bucket that keeps what is deleted
(versions, soft deletion) would make every erasure untrue: a key of the tenant's helps
only when all of the tenant is shredded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Protection:
    """What a bucket says of itself: its default KMS key, and how it keeps the deleted.

    `key` is empty where objects rest under the service's own; `keeps` is empty where
    what is deleted is gone.
    """

    key: str = ""
    keeps: str = ""


@runtime_checkable
class Bucket(Protocol):
    """A store that can say how its bucket keeps things."""

    def protection(self) -> Protection:
        """Return what the bucket says of itself."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a tenant's data are to rest.

    `level` is the spec's `isolation.data`, None where there are no specs; `key` is
    the customer's own, as the spec names it; `shared` says that others' prefixes
    are in the same bucket.
    """

    level: int | None = None
    key: str = ""
    production: bool = False
    shared: bool = False

    @property
    def asks(self) -> bool:
        """Whether a bucket is to be looked at."""
        return self.production or bool(self.level)

    def refusals(self, found: Protection) -> Iterator[str]:
        """Yield why data may not lie in a bucket, each reason once."""
        if not found.key:
            yield "it has no default KMS key (docs/encryption.md says how to give one)"
        wanted = self.key.removeprefix("gcpkms://")
        if found.key and wanted and found.key != wanted:
            yield "its default KMS key is not the one that the tenant's spec names"
        if self.level and self.shared:
            yield "others share it: isolation.data 1 is a bucket for each tenant"
        if self.production and found.keeps:
            yield f"it keeps what is deleted ({found.keeps}), so nothing is erased"
