"""What an invoice was made from, as a root: which events, and which jobs.  Pure.

The root is that of RFC 6962 over the members of a set in ascending order of their
bytes, so it depends on the set alone.  Whoever holds the events can compute it.
"""

from __future__ import annotations

import hashlib
from itertools import islice
from operator import le
from typing import TYPE_CHECKING, Final

import msgspec

from functions.structs import prepare

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEIGHT: Final = 12
_CHUNK: Final = 1 << _HEIGHT


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The root of a set of `count` members, in hex."""

    count: int = 0
    root: str = hashlib.sha256(b"").hexdigest()


NOTHING: Final = Root()


def root_of(members: Iterable[bytes]) -> Root:
    """Return the root of members that come in ascending order, each once.

    Holds one chunk and one hash for each power of two, whatever their number.
    Raises `ValueError` where a member is not above the one before it.
    """
    found, last, count = iter(members), b"", 0
    tree: list[tuple[int, bytes]] = []  # (height, root), the largest first
    while chunk := list(islice(found, _CHUNK)):
        if (count and chunk[0] <= last) or any(map(le, chunk[1:], chunk)):
            raise ValueError("members of a set come in order, each once")
        last, count = chunk[-1], count + len(chunk)
        height = (len(chunk) - 1).bit_length()
        tree.append((height, _root(_leaves(chunk))))
        while len(tree) > 1 and tree[-2][0] == tree[-1][0]:
            (height, left), (_, right) = tree[-2:]
            tree[-2:] = [(height + 1, _node(left, right))]
    while len(tree) > 1:
        (height, left), (_, right) = tree[-2:]
        tree[-2:] = [(height, _node(left, right))]
    return Root(count, tree[0][1].hex()) if tree else NOTHING


def _root(level: list[bytes]) -> bytes:
    """Return the root over leaf hashes: pairs, and an odd one goes up as it is."""
    hashed = hashlib.sha256
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        # Written out: a call for each of a month's millions is half of what it takes.
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [hashed(b"\x01" + one + other).digest() for one, other in pairs] + odd
    return level[0]


def _leaves(chunk: list[bytes]) -> list[bytes]:
    hashed = hashlib.sha256
    return [hashed(b"\x00" + member).digest() for member in chunk]


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


prepare()
