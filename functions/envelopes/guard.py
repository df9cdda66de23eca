"""What stands between the files of a ring and the keys in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from functions.tenant import Tenant


class Guard(Protocol):
    """Wraps the keys of a ring, each bound to its tenant and its name.

    Every method may raise `Unavailable` (try again) or `Failed` (do not).
    """

    def wrap(self, tenant: Tenant, name: str, key: bytes) -> bytes:
        """Return what may lie in a file."""

    def unwrap(self, tenant: Tenant, name: str, wrapped: bytes) -> bytes:
        """Return the key that was wrapped for this tenant under this name."""

    def rotate(self, tenant: Tenant) -> None:
        """Wrap from now on under a new version of the guard's own key."""

    def destroy(self, tenant: Tenant) -> int:
        """Destroy every version of the guard's own key; return how many."""


class Unguarded:
    """Keys lie in their files as they are: who may read the folder has them."""

    def wrap(self, tenant: Tenant, name: str, key: bytes) -> bytes:  # noqa: ARG002  # bound to nothing
        """Return the key."""
        return key

    def unwrap(self, tenant: Tenant, name: str, wrapped: bytes) -> bytes:  # noqa: ARG002  # as above
        """Return the key."""
        return wrapped

    def rotate(self, tenant: Tenant) -> None:
        """Do nothing: there is no key of its own."""

    def destroy(self, tenant: Tenant) -> int:  # noqa: ARG002  # as above
        """Return that there was none."""
        return 0
