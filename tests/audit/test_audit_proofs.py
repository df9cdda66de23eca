"""Proofs of one entry as one file, and how much of the tiles is proven."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions import events
from functions.audit.checking import verify_proof
from functions.audit.facts import read_leaf
from functions.audit.leaf import leaf_of
from functions.audit.merkle import VerificationError, leaf_hash, tree_root
from functions.audit.proven import Tiles, edge, levels, needed
from functions.audit.tiles import proof_text
from functions.events import Event
from tests.audit.bundles import (
    VERIFIERS,
    Made,
    event,
    started,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Callable


LOG = Made(told(40))


def proof(index: int, leaf: bytes = b"") -> str:
    """Return the proof file of an entry, with the entry in it or not."""
    from functions.audit.merkle import inclusion_proof

    path = inclusion_proof(index, 40, Tiles(LOG.tile, 40).node)
    return proof_text(index, path, LOG.checkpoint(), leaf)


def test_one_file_and_one_key() -> None:
    """A proof file with its entry needs nothing but the log's key."""
    checkpoint, index, said = verify_proof(proof(7, LOG.leaves[7]), VERIFIERS)
    assert (checkpoint.size, index, said["id"]) == (40, 7, "event-7")


def test_a_proof_without_its_entry() -> None:
    """A proof file as the log serves it takes the entry from beside it."""
    assert verify_proof(proof(7), VERIFIERS, LOG.leaves[7])[1] == 7
    with pytest.raises(VerificationError, match="holds no entry"):
        verify_proof(proof(7), VERIFIERS)


def test_attack_a_proof_of_another_entry() -> None:
    """A proof of one entry proves no other, whichever it is shown with."""
    for leaf in (LOG.leaves[8], started(7, "job-3")):
        with pytest.raises(VerificationError, match="not under this root"):
            verify_proof(proof(7, leaf), VERIFIERS)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("@v1", "@v2"),
        lambda text: text.replace("\n\n", "\n", 1),
        lambda text: text.replace("index 7", "index 07"),
        lambda text: text.replace("index 7", "at 7"),
        lambda text: text.replace("=\n", "\n", 1),
        lambda text: text.replace("index 7\n", "index 7\nAAAA\n"),
        lambda text: text.replace("index 7\n", "index 7\n" + "A" * 43 + "=\n" * 70),
        lambda _text: "c2sp.org/tlog-proof@v1\n\n",
    ],
)
def test_a_malformed_proof_file(change: Callable[[str], str]) -> None:
    """A file that is not as the format says proves nothing."""
    with pytest.raises(VerificationError):
        verify_proof(change(proof(7, LOG.leaves[7])), VERIFIERS)


# --- how much is proven ------------------------------------------------------


@given(st.integers(1, 70_000))
def test_the_edge_is_as_tlog_tiles_has_it(size: int) -> None:
    """The partial tile at level l has floor(s / 256^l) mod 256 hashes."""
    found = {level: width for level, _, width in edge(size)}
    expected = {level: (size // 256**level) % 256 for level in range(levels(size))}
    assert found == {level: width for level, width in expected.items() if width}


def test_the_example_of_tlog_tiles() -> None:
    """A log of 70,000 entries has the tiles that the specification counts."""
    tiles = list(needed(70_000, 0, 70_000))
    assert len([each for each in tiles if each[0] == 0]) == 274
    assert {(0, 273, 112), (1, 0, 256), (1, 1, 17), (2, 0, 1)} < set(tiles)
    assert len(tiles) == len(set(tiles)) == 277


@given(st.integers(1, 1200), st.data())
def test_a_frontier_is_read_from_tiles(size: int, data: st.DataObject) -> None:
    """Tiles lead to the root of every earlier size, too."""
    row = [leaf_hash(each.to_bytes(4)) for each in range(size)]
    log = Made([each.to_bytes(4) for each in range(size)])
    earlier = data.draw(st.integers(1, size))
    assert Tiles(log.tile, size).frontier(earlier).root() == tree_root(row[:earlier])


def test_events_have_the_members_of_a_leaf() -> None:
    """What is checked of an entry is what the log writes into one."""
    leaf = read_leaf(leaf_of(event(0, events.SWAP_STARTED, {})).data)
    names = {"source", "id", "type", "subject", "time", "tenant", "sig", "sigkid"}
    assert set(leaf) == names | {"data"}
    assert Event(**leaf).tenant == "acme"
