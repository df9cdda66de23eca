"""Which key signs a log, and checking a whole log that is in memory.

A bundle, as a file, is written by `export` and checked by `checking`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from functions.audit.merkle import VerificationError, leaf_hash, tree_root
from functions.audit.tiles import NoteVerifier, open_checkpoint, origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from functions.audit.tiles import Checkpoint
    from functions.keys import KeyProvider

SIGNING_KEY: Final = "audit"
"""The name of the key that signs every tenant's checkpoints."""


def log_verifiers(tenant: str, keys: KeyProvider) -> list[NoteVerifier]:
    """Return who may have signed a tenant's checkpoints: every key there has been.

    The `line` of each is what tools for signed notes take.
    """
    name = origin(tenant)
    return [
        NoteVerifier(name, verifier.public.public_bytes_raw())
        for verifier in keys.verifiers(SIGNING_KEY).values()
    ]


def verify_entries(
    entries: Sequence[bytes],
    note: str,
    verifiers: Iterable[NoteVerifier],
) -> Checkpoint:
    """Return the signed checkpoint that covers exactly `entries`, in this order.

    `entries` are the leaves of a whole log, from index 0, as its entry bundles
    hold them.  Raises `VerificationError`.
    """
    checkpoint = open_checkpoint(note, verifiers)
    if len(entries) != checkpoint.size:
        raise VerificationError(
            f"{len(entries)} entries, where the checkpoint has {checkpoint.size}",
        )
    if tree_root(leaf_hash(entry) for entry in entries) != checkpoint.root:
        raise VerificationError("the entries are not those of the checkpoint")
    return checkpoint
