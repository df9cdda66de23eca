"""The tree: RFC 6962's numbers, another implementation's, and its own two halves."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from functions.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    VerificationError,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# The tree of Certificate Transparency's own tests, whose roots are published.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def hashes(size: int) -> list[bytes]:
    return [leaf_hash(each.to_bytes(4)) for each in range(size)]


def nodes_of(leaves: list[bytes]) -> Callable[[int, int], bytes]:
    """Return the roots of perfect subtrees by the definition, not by a frontier."""

    def node(height: int, index: int) -> bytes:
        if height == 0:
            return leaves[index]
        return node_hash(node(height - 1, 2 * index), node(height - 1, 2 * index + 1))

    return node


def test_the_roots_of_certificate_transparency() -> None:
    """Our roots are those that RFC 6962's authors publish for their test tree."""
    hashed = [leaf_hash(leaf) for leaf in LEAVES]
    assert [tree_root(hashed[:size]).hex() for size in range(9)] == ROOTS


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    """RFC 6962: MTH of no leaves is the hash of the empty string."""
    assert Frontier().root() == EMPTY_ROOT == hashlib.sha256(b"").digest()


def test_a_leaf_cannot_pose_as_a_node() -> None:
    """The prefixes keep a leaf that holds two hashes apart from the node over them."""
    left, right = hashes(2)
    assert leaf_hash(left + right) != node_hash(left, right)


@given(st.integers(0, 600))
def test_a_frontier_survives_being_stored(size: int) -> None:
    """Size and bytes are the whole of a frontier."""
    frontier = Frontier()
    for leaf in hashes(size):
        frontier, _ = frontier.append(leaf)
    assert Frontier.parse(frontier.size, bytes(frontier)) == frontier


def test_a_frontier_of_another_size_is_refused() -> None:
    """A frontier that lost a hash is noticed before anything is built on it."""
    with pytest.raises(VerificationError, match="no frontier of 3"):
        Frontier.parse(3, b"x" * 32)


def test_appending_names_each_node_it_completes_once() -> None:
    """Every perfect subtree is completed by exactly one leaf, with the right hash."""
    leaves, frontier, seen = hashes(70), Frontier(), {}
    for leaf in leaves:
        frontier, completed = frontier.append(leaf)
        for each in completed:
            assert (each.height, each.index) not in seen
            seen[each.height, each.index] = each.hash
    node = nodes_of(leaves)
    assert all(node(*name) == value for name, value in seen.items())
    assert set(seen) == {(h, i) for h in range(7) for i in range(70 >> h)}


@pytest.mark.parametrize("size", range(1, 71))
def test_every_leaf_of_every_small_tree_is_proved(size: int) -> None:
    """The RFC's way to make a proof and the other RFC's way to check one agree."""
    leaves = hashes(size)
    root, node = tree_root(leaves), nodes_of(leaves)
    for index in range(size):
        path = inclusion_proof(index, size, node)
        verify_inclusion(leaves[index], index, size, path, root)
        assert not path or len(path) <= (size - 1).bit_length()


@pytest.mark.parametrize("size", range(71))
def test_every_growth_of_every_small_tree_is_proved(size: int) -> None:
    """Each earlier size is shown to be a prefix of this one."""
    leaves = hashes(size)
    root, node = tree_root(leaves), nodes_of(leaves)
    for old in range(size + 1):
        path = consistency_proof(old, size, node)
        verify_consistency(old, size, path, tree_root(leaves[:old]), root)


@given(st.integers(1, 3000), st.data())
def test_larger_trees_are_proved(size: int, data: st.DataObject) -> None:
    """Sizes beyond a tile, at random."""
    leaves = hashes(size)
    root, node = tree_root(leaves), nodes_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_proof(index, size, node)
    verify_inclusion(leaves[index], index, size, path, root)
    proof = consistency_proof(index + 1, size, node)
    verify_consistency(index + 1, size, proof, tree_root(leaves[: index + 1]), root)


@given(st.integers(1, 200), st.data())
def test_another_implementation_agrees(size: int, data: st.DataObject) -> None:
    """Roots and audit paths are what pymerkle computes for the same leaves."""
    oracle = InmemoryTree(algorithm="sha256")
    for each in range(size):
        oracle.append_entry(each.to_bytes(4))
    leaves = hashes(size)
    node = nodes_of(leaves)
    assert tree_root(leaves) == oracle.get_root(size)
    index = data.draw(st.integers(0, size - 1))
    theirs = oracle.prove_inclusion(index + 1, size).serialize()["path"]
    ours = [each.hex() for each in inclusion_proof(index, size, node)]
    assert sorted(theirs) == sorted([*ours, leaves[index].hex()])


def test_the_examples_of_the_specification() -> None:
    """The proofs that RFC 6962 section 2.1.3 shows for its tree of seven leaves."""
    a, b, c, d, e, f, j = leaves = hashes(7)
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k = node_hash(g, h)
    m = node_hash(i, j)
    node = nodes_of(leaves)
    assert inclusion_proof(0, 7, node) == [b, h, m]
    assert inclusion_proof(3, 7, node) == [c, g, m]
    assert inclusion_proof(4, 7, node) == [f, j, k]
    assert inclusion_proof(6, 7, node) == [i, k]
    assert consistency_proof(3, 7, node) == [c, d, g, m]
    assert consistency_proof(4, 7, node) == [m]
    assert consistency_proof(6, 7, node) == [i, j, k]


@given(st.integers(2, 200), st.data())
def test_attack_a_flipped_bit_in_a_proof(size: int, data: st.DataObject) -> None:
    """No bit of leaf, path, root or index can change unnoticed."""
    leaves = hashes(size)
    root, node = tree_root(leaves), nodes_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_proof(index, size, node)
    parts = [leaves[index], root, *path]
    which = data.draw(st.integers(0, len(parts) - 1))
    parts[which] = flipped(parts[which], data.draw(st.integers(0, 255)))
    with pytest.raises(VerificationError):
        verify_inclusion(parts[0], index, size, parts[2:], parts[1])


@given(st.integers(2, 120), st.data())
def test_attack_a_leaf_shown_at_another_place(size: int, data: st.DataObject) -> None:
    """A proof of one index proves no other."""
    leaves = hashes(size)
    root, node = tree_root(leaves), nodes_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(-1, size).filter(lambda each: each != index))
    path = inclusion_proof(index, size, node)
    with pytest.raises(VerificationError):
        verify_inclusion(leaves[index], other, size, path, root)


@given(st.integers(2, 120), st.data())
def test_attack_a_rewritten_past(size: int, data: st.DataObject) -> None:
    """A tree that differs in any earlier leaf is not a growth of the old one."""
    leaves = hashes(size)
    old = data.draw(st.integers(1, size - 1))
    forged = list(leaves)
    forged[data.draw(st.integers(0, old - 1))] = leaf_hash(b"another story")
    path = consistency_proof(old, size, nodes_of(forged))
    with pytest.raises(VerificationError):
        verify_consistency(old, size, path, tree_root(leaves[:old]), tree_root(forged))


@given(st.integers(1, 60), st.data())
def test_attack_a_proof_too_long_or_too_short(size: int, data: st.DataObject) -> None:
    """A proof has exactly the steps it needs."""
    leaves = hashes(size)
    root, node = tree_root(leaves), nodes_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_proof(index, size, node)
    growth = consistency_proof(index + 1, size, node)
    before = tree_root(leaves[: index + 1])
    for each in ([*path, root], path[:-1] if path else [root]):
        with pytest.raises(VerificationError):
            verify_inclusion(leaves[index], index, size, each, root)
    for each in ([*growth, root], growth[:-1] if growth else [root]):
        with pytest.raises(VerificationError):
            verify_consistency(index + 1, size, each, before, root)


def test_attack_a_log_that_shrank() -> None:
    """An older, longer checkpoint does not follow from a newer, shorter one."""
    with pytest.raises(VerificationError, match="does not shrink"):
        verify_consistency(3, 2, [], EMPTY_ROOT, EMPTY_ROOT)


def test_attack_another_log_of_the_same_size() -> None:
    """Two roots of one size are a fork, and an empty past has one root only."""
    root = tree_root(hashes(2))
    for old, before in ((2, EMPTY_ROOT), (0, root)):
        with pytest.raises(VerificationError, match="two different logs"):
            verify_consistency(old, 2, [], before, root)


def test_attack_an_empty_proof_of_growth() -> None:
    """Growth from a size that is no power of two needs steps."""
    with pytest.raises(VerificationError, match="empty"):
        verify_consistency(3, 5, [], EMPTY_ROOT, EMPTY_ROOT)


def test_what_does_not_exist_is_not_proved() -> None:
    """There is no proof of a leaf beyond the tree, or of a size beyond it."""
    with pytest.raises(ValueError, match="no leaf 2"):
        inclusion_proof(2, 2, nodes_of(hashes(2)))
    with pytest.raises(ValueError, match="no earlier size"):
        consistency_proof(3, 2, nodes_of(hashes(2)))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
