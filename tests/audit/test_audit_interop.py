"""Others' figures and others' programs on our logs, and ours on theirs."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree, verify_consistency, verify_inclusion

from functions.audit import merkle
from functions.audit.merkle import VerificationError, leaf_hash
from functions.audit.proven import Tiles
from functions.audit.tiles import NoteVerifier, ProofFile, open_note
from tests.audit.bundles import Made, bundle, files, told

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# The proofs that github.com/transparency-dev/merkle publishes (testdata/, "happy
# path") for the tree of Certificate Transparency's tests: index, size, root, leaf
# hash, path; and size, size, root, root, path.
ROOT_1 = "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0="
ROOT_2 = "+sVCA+fMaWzw38tCySodnbr3CtnmIfS9jZhmLwDjwSU="
ROOT_3 = "rra8/idLcKFPsGel5VeCZNsPqbUa9eC6FZFY8yngbnc="
ROOT_4 = "037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc="
ROOT_5 = "Tju7H3tHjc/nH7YxYxUZo7yhLJrvyhYSv85ME6hiZNQ="
ROOT_6 = "duZ9rbzfHhDht03cYIq9L5jfsW+851J3tSMqEn8gh+8="
ROOT_7 = "3bib5AOAnjJXUNPSY814kpwpQreUKjS3fhIslZSnTIw="
ROOT_8 = "XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg="
LEAF_1 = "lqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c="
LEAF_2 = "ApjRIpBtz8EIkstTpzmS/FufST6kybrbJ7eRtBJ6f+c="
LEAF_4 = "vBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms="
LEAF_5 = "QnGia+DYqE8L1UyMMC58s6O10fpngKQLzOKHNHfatlg="
LEAF_6 = "sIaT7C5yFZcTBkHoIR5+7cy0wmQTlj7ubB4u0W/7Gl8="
NODE_23 = "Xwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4="
NODE_45 = "DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o="
NODE_67 = "yoVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA="
NODE_4567 = "a0eq8p7jwq+a+Im8H7klTavTEXfxYjLdaqsDXKOb9uQ="
INCLUSION = [
    (0, 1, ROOT_1, ROOT_1, []),
    (0, 8, ROOT_8, ROOT_1, [LEAF_1, NODE_23, NODE_4567]),
    (5, 8, ROOT_8, LEAF_5, [LEAF_4, NODE_67, ROOT_4]),
    (2, 3, ROOT_3, LEAF_2, [ROOT_2]),
    (1, 5, ROOT_5, LEAF_1, [ROOT_1, NODE_23, LEAF_4]),
]
CONSISTENCY = [
    (1, 1, ROOT_1, ROOT_1, []),
    (1, 8, ROOT_1, ROOT_8, [LEAF_1, NODE_23, NODE_4567]),
    (6, 8, ROOT_6, ROOT_8, [NODE_45, NODE_67, ROOT_4]),
    (2, 5, ROOT_2, ROOT_5, [NODE_23, LEAF_4]),
    (6, 7, ROOT_6, ROOT_7, [NODE_45, LEAF_6, ROOT_4]),
]
DATA = [
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


def raw(text: str) -> bytes:
    """Return the bytes in base64."""
    return base64.b64decode(text)


@pytest.mark.parametrize(("index", "size", "root", "leaf", "path"), INCLUSION)
def test_published_inclusion_proofs(
    index: int, size: int, root: str, leaf: str, path: Sequence[str]
) -> None:
    """What others publish, we take, and of the same tree we make the same."""
    steps = [raw(each) for each in path]
    merkle.verify_inclusion(raw(leaf), index, size, steps, raw(root))
    tiles = Tiles(Made(DATA[:size]).tile, size)
    assert merkle.inclusion_proof(index, size, tiles.node) == steps
    assert tiles.frontier(size).root() == raw(root)
    with pytest.raises(VerificationError):
        merkle.verify_inclusion(raw(leaf), index, size, steps, raw(root)[::-1])


@pytest.mark.parametrize(("old", "size", "old_root", "root", "path"), CONSISTENCY)
def test_published_consistency_proofs(
    old: int, size: int, old_root: str, root: str, path: Sequence[str]
) -> None:
    """So with proofs that a tree grew out of another."""
    steps = [raw(each) for each in path]
    merkle.verify_consistency(old, size, steps, raw(old_root), raw(root))
    tiles = Tiles(Made(DATA[:size]).tile, size)
    assert merkle.consistency_proof(old, size, tiles.node) == steps
    with pytest.raises(VerificationError):
        merkle.verify_consistency(old, size, steps, raw(old_root), raw(root)[::-1])


def test_published_refusals() -> None:
    """What others publish as wrong, although it is empty, is wrong here."""
    with pytest.raises(VerificationError, match="32 bytes"):
        merkle.verify_inclusion(b"", 0, 1, [], b"")
    with pytest.raises(VerificationError, match="two different logs"):
        merkle.verify_consistency(0, 0, [], merkle.EMPTY_ROOT, b"dog't care 2")


def test_the_example_of_signed_note() -> None:
    """The note and key that c2sp.org/signed-note shows."""
    key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    note = (
        "This is an example message.\n\n"
        "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERY"
        "NZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    )
    found = open_note(note, [NoteVerifier.parse(key)])
    assert found == "This is an example message.\n"


# --- by the book: nothing of ours reads what we wrote --------------------------


def entries_of(content: dict[str, bytes]) -> list[bytes]:
    """Return the entries in an unpacked bundle, as tlog-tiles describes them."""
    found = []
    for name in sorted(each for each in content if each.startswith("tile/entries/")):
        data, at = content[name], 0
        while at < len(data):
            length = data[at] * 256 + data[at + 1]
            found.append(data[at + 2 : at + 2 + length])
            at += 2 + length
    return found


def mth(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle Tree Hash, word for word as RFC 6962 section 2.1 defines it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    joined = mth(leaves[:split]) + mth(leaves[split:])
    return hashlib.sha256(b"\x01" + joined).digest()


def signed_text(note: bytes, line: str) -> list[str]:
    """Return a note's lines after checking its signature with cryptography alone."""
    text, _, signature = note.partition("\n\n— ".encode())
    name, encoded = signature.decode().split()
    key = base64.b64decode(line.split("+", 2)[2])
    assert name == line.split("+", maxsplit=1)[0]
    data = base64.b64decode(encoded)
    Ed25519PublicKey.from_public_bytes(key[1:]).verify(data[4:], text + b"\n")
    return text.decode().split("\n")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 600), data=st.data())
def test_a_bundle_is_right_by_the_book(
    size: int, data: st.DataObject, tmp_path: Path
) -> None:
    """Entries, tiles, root and signature are what the specifications define."""
    earlier = data.draw(st.integers(1, size))
    piece = Made(told(size)).piece(notes=(earlier,))
    content = files(bundle(tmp_path / "b", piece))
    line = content["keys.txt"].decode().strip()
    leaves = entries_of(content)
    for name, count in (
        ("checkpoint", size),
        (f"checkpoints/{earlier:020d}", earlier),
    ):
        said = signed_text(content[name], line)
        root = base64.b64encode(mth(leaves[:count])).decode()
        assert said == ["guise.audit/acme", str(count), root]
    for number in range(-(-size // 256)):
        row = leaves[number * 256 : number * 256 + 256]
        width = "" if len(row) == 256 else f".p/{len(row)}"
        hashes = b"".join(hashlib.sha256(b"\x00" + each).digest() for each in row)
        assert content[f"tile/0/{number:03d}{width}"] == hashes
    full = [mth(leaves[at : at + 256]) for at in range(0, size - 255, 256)]
    above = [each for name, each in content.items() if name.startswith("tile/1/")]
    assert above == ([b"".join(full)] if full else [])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(2, 300), data=st.data())
def test_pymerkle_takes_our_log(size: int, data: st.DataObject, tmp_path: Path) -> None:
    """Another implementation gets our roots, and proves to itself what we signed."""
    earlier = data.draw(st.integers(1, size - 1))
    index = data.draw(st.integers(0, size - 1))
    piece = Made(told(size)).piece(notes=(earlier,), single=(index,))
    content = files(bundle(tmp_path / "b", piece))
    roots = [
        base64.b64decode(content[name].decode().split("\n")[2])
        for name in (f"checkpoints/{earlier:020d}", "checkpoint")
    ]
    tree = InmemoryTree(algorithm="sha256")
    for leaf in entries_of(content):
        tree.append_entry(leaf)
    assert [tree.get_root(earlier), tree.get_root(size)] == roots
    verify_consistency(*roots, tree.prove_consistency(earlier, size))
    proof = tree.prove_inclusion(index + 1, size)
    ours = ProofFile.parse(content[f"proofs/{index}.tlog-proof"].decode())
    verify_inclusion(leaf_hash(ours.extra), roots[1], proof)
    theirs = sorted(proof.serialize()["path"])
    path = [each.hex() for each in ours.path]
    assert theirs == sorted([*path, leaf_hash(ours.extra).hex()])
