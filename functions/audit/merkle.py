"""The Merkle tree of RFC 6962: roots, proofs, and what they prove.  Pure.

`MTH` of the RFC is called a root here.  A perfect subtree is named by its height
and its index at that height: `(0, i)` is leaf `i`, `(8, 2)` covers the leaves 512
to 767.  Making a proof follows RFC 6962 section 2.1; checking one follows the
other algorithm, of RFC 9162 section 2.1.3.2 and 2.1.4.2, so that the two check
one another.  Every hash is the 32 bytes of a SHA-256.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Nodes = Callable[[int, int], bytes]
    """From (height, index) to the root of that perfect subtree."""

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


class VerificationError(Exception):
    """What was shown is not what was claimed; the message says where."""


@dataclass(frozen=True, slots=True)
class Node:
    """The root of one perfect subtree."""

    height: int
    index: int
    hash: bytes


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf, which no inner node can have (RFC 6962)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def fold(row: bytes) -> bytes:
    """Return the root over `row`: 2^k hashes, one after the other."""
    digest = hashlib.sha256
    while len(row) > HASH_BYTES:
        pairs = range(0, len(row), 2 * HASH_BYTES)
        row = b"".join(
            [digest(b"\x01" + row[at : at + 2 * HASH_BYTES]).digest() for at in pairs]
        )
    return row


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that appending needs to know of a tree: its size and its right edge.

    `hashes` are the roots of the perfect subtrees that make up the tree, the
    oldest and largest first: one for each 1 in the binary form of `size`.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, size: int, data: bytes) -> Frontier:
        """Return the frontier that `bytes(frontier)` was made from."""
        if len(data) != size.bit_count() * HASH_BYTES:
            raise VerificationError(f"{len(data)} bytes are no frontier of {size}")
        starts = range(0, len(data), HASH_BYTES)
        return cls(size, tuple(data[each : each + HASH_BYTES] for each in starts))

    def __bytes__(self) -> bytes:
        """Return the hashes, one after the other."""
        return b"".join(self.hashes)

    def append(self, leaf: bytes) -> tuple[Frontier, list[Node]]:
        """Return the frontier with one leaf hash more, and the nodes it completed."""
        hashes, completed = list(self.hashes), [Node(0, self.size, leaf)]
        while self.size >> completed[-1].height & 1:
            below = completed[-1]
            joined = node_hash(hashes.pop(), below.hash)
            completed.append(Node(below.height + 1, below.index // 2, joined))
        hashes.append(completed[-1].hash)
        return Frontier(self.size + 1, tuple(hashes)), completed

    def root(self) -> bytes:
        """Return the root of the whole tree."""
        if not self.hashes:
            return EMPTY_ROOT
        *rest, root = self.hashes
        for left in reversed(rest):
            root = node_hash(left, root)
        return root


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes; needs no more memory than the frontier."""
    frontier = Frontier()
    for leaf in leaves:
        frontier, _ = frontier.append(leaf)
    return frontier.root()


def _split(size: int) -> int:
    """Return the largest power of two below `size`, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(start: int, stop: int, node: Nodes) -> bytes:
    size = stop - start
    if size & (size - 1) == 0:
        height = size.bit_length() - 1
        return node(height, start >> height)
    middle = start + _split(size)
    left = _range_root(start, middle, node)
    return node_hash(left, _range_root(middle, stop, node))


def inclusion_proof(index: int, size: int, node: Nodes) -> list[bytes]:
    """Return PATH(index, D[size]): from the leaf's sibling to the root's child.

    Raises `ValueError` where the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    path, start, stop = [], 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            path.append(_range_root(middle, stop, node))
            stop = middle
        else:
            path.append(_range_root(start, middle, node))
            start = middle
    return path[::-1]


def consistency_proof(old: int, size: int, node: Nodes) -> list[bytes]:
    """Return PROOF(old, D[size]): that the tree of `size` grew out of `old`.

    Empty where there is nothing to show: `old` is 0 or `size`.  Raises
    `ValueError` where `old` is no earlier size.
    """
    if not 0 <= old <= size:
        raise ValueError(f"{old} is no earlier size of {size}")
    path, start, stop = [], 0, size
    while old not in (start, stop):
        middle = start + _split(stop - start)
        if old <= middle:
            path.append(_range_root(middle, stop, node))
            stop = middle
        else:
            path.append(_range_root(start, middle, node))
            start = middle
    if start:
        path.append(_range_root(start, stop, node))
    return path[::-1]


def verify_inclusion(
    leaf: bytes,
    index: int,
    size: int,
    path: Sequence[bytes],
    root: bytes,
) -> None:
    """Return if `path` leads from the leaf hash at `index` to `root`.

    Raises `VerificationError` otherwise.
    """
    if not 0 <= index < size:
        raise VerificationError(f"no leaf {index} in a tree of {size}")
    if not len(leaf) == len(root) == HASH_BYTES:
        raise VerificationError(f"a hash has {HASH_BYTES} bytes")
    here, last, result = index, size - 1, leaf
    for step in path:
        if last == 0:
            raise VerificationError("the inclusion proof is too long")
        if here & 1 or here == last:
            result = node_hash(step, result)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            result = node_hash(result, step)
        here, last = here >> 1, last >> 1
    if last or result != root:
        raise VerificationError(f"leaf {index} is not under this root")


def verify_consistency(
    old: int,
    size: int,
    path: Sequence[bytes],
    old_root: bytes,
    root: bytes,
) -> None:
    """Return if the tree of `size` and `root` grew out of that of `old`.

    Raises `VerificationError` otherwise.
    """
    if not 0 <= old <= size:
        raise VerificationError(f"a log does not shrink from {old} to {size}")
    if old in (0, size):
        _verify_no_growth(old, size, path, old_root, root)
        return
    steps = list(path) if old & (old - 1) else [old_root, *path]
    if not steps:
        raise VerificationError("the consistency proof is empty")
    here, last = old - 1, size - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            raise VerificationError("the consistency proof is too long")
        if here & 1 or here == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            after = node_hash(after, step)
        here, last = here >> 1, last >> 1
    if last or before != old_root or after != root:
        raise VerificationError(f"the log of {size} did not grow out of that of {old}")


def _verify_no_growth(
    old: int,
    size: int,
    path: Sequence[bytes],
    old_root: bytes,
    root: bytes,
) -> None:
    """Check the two cases that need no proof: from nothing, and to the same size."""
    expected = root if old else EMPTY_ROOT
    if path or old_root != expected or (not size and root != EMPTY_ROOT):
        raise VerificationError(f"two different logs of {old} entries")
