"""Checking the log offline: no network, no database, no trust in whoever keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.audit.merkle import VerificationError, leaf_hash, tree_root
from functions.audit.tiles import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.audit.tiles import Checkpoint, NoteVerifier


def verify_entries(
    entries: Sequence[bytes],
    note: str,
    verifier: NoteVerifier,
) -> Checkpoint:
    """Return the signed checkpoint that covers exactly `entries`, in this order.

    `entries` are the leaves of a whole log, from index 0, as its entry bundles
    hold them.  Raises `VerificationError`.
    """
    checkpoint = open_checkpoint(note, verifier)
    if len(entries) != checkpoint.size:
        raise VerificationError(
            f"{len(entries)} entries, where the checkpoint has {checkpoint.size}",
        )
    if tree_root(leaf_hash(entry) for entry in entries) != checkpoint.root:
        raise VerificationError("the entries are not those of the checkpoint")
    return checkpoint
