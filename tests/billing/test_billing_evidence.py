"""The root of an event set: that of RFC 6962, and of the set alone."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.billing.evidence import NOTHING, Root, root_of


def mth(members: list[bytes]) -> bytes:
    """Return the Merkle Tree Hash, word for word from RFC 6962, section 2.1."""
    if not members:
        return sha256(b"").digest()
    if len(members) == 1:
        return sha256(b"\x00" + members[0]).digest()
    k = 1
    while 2 * k < len(members):
        k *= 2
    return sha256(b"\x01" + mth(members[:k]) + mth(members[k:])).digest()


@given(st.sets(st.binary(max_size=40), max_size=40))
def test_the_root_is_the_one_of_rfc_6962(members: set[bytes]) -> None:
    """Anybody can compute it from the events."""
    found = root_of(sorted(members))
    assert found == Root(len(members), mth(sorted(members)).hex())


@pytest.mark.parametrize("count", [1, 2, 3, 4095, 4096, 4097, 6143, 8192, 12289, 20000])
def test_the_root_of_many_is_computed_in_chunks(count: int) -> None:
    """A chunk's edge is no edge of the tree."""
    members = sorted(sha256(str(n).encode()).digest() for n in range(count))
    assert root_of(iter(members)) == Root(count, mth(members).hex())


def test_no_members_have_the_root_of_nothing() -> None:
    """As RFC 6962 says: the hash of no bytes."""
    assert root_of([]) == NOTHING == Root(0, sha256(b"").hexdigest())


@pytest.mark.parametrize("members", [[b"b", b"a"], [b"a", b"a"], [b"", b""]])
def test_a_set_that_is_none_is_refused(members: list[bytes]) -> None:
    """Twice the same, or out of order, is a mistake of the caller's."""
    with pytest.raises(ValueError, match="in order, each once"):
        root_of(members)


def test_another_set_has_another_root() -> None:
    """One event more, less or changed."""
    members = [bytes([n]) * 32 for n in range(9)]
    changed = [members[:-1], [*members, b"\xff" * 32], [b"\x00" * 31, *members[1:]]]
    assert len({root_of(each).root for each in [members, *changed]}) == 4
