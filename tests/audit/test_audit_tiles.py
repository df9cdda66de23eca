"""The open formats, against what their authors publish."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from functions.audit.merkle import EMPTY_ROOT, VerificationError, leaf_hash
from functions.audit.tiles import (
    Checkpoint,
    NoteVerifier,
    bundle_bytes,
    key_id,
    open_checkpoint,
    open_note,
    origin,
    parse_bundle,
    parse_tile_path,
    proof_text,
    sign_checkpoint,
    sign_note,
    tile_path,
)
from functions.keys import MemoryKeys, Signer

# The example of golang.org/x/mod/sumdb/note, the format's first implementation.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
SIGNATURE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZ"
    "SNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
NOTE = f"{TEXT}\n{SIGNATURE}"


def peter() -> Signer:
    """Return the private key of the example: `PRIVATE+KEY+PeterNeumann+…`."""
    secret = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"  # noqa: S105  # published
    raw = base64.b64decode(secret)[1:]
    return Signer("peter", Ed25519PrivateKey.from_private_bytes(raw))


def test_our_notes_are_those_of_the_first_implementation() -> None:
    """The same key and text give the same note, byte for byte."""
    assert sign_note(TEXT, "PeterNeumann", peter()) == NOTE


def test_our_verifier_keys_are_those_of_the_first_implementation() -> None:
    """A verifier key is read and written as the format's authors write it."""
    verifier = NoteVerifier.parse(PETER)
    assert verifier == NoteVerifier("PeterNeumann", peter().public_bytes())
    assert verifier.line == PETER
    assert key_id(verifier.name, verifier.public).hex() == "c74f20a3"
    assert open_note(NOTE, [verifier]) == TEXT


@pytest.mark.parametrize("length", range(len(PETER)))
def test_a_cut_verifier_key_is_refused(length: int) -> None:
    """No part of a verifier key is a verifier key."""
    with pytest.raises(VerificationError):
        NoteVerifier.parse(PETER[:length])


def test_a_verifier_key_with_another_name_is_refused() -> None:
    """The id binds the key to its name."""
    with pytest.raises(VerificationError, match="do not match"):
        NoteVerifier.parse(PETER.replace("Peter", "Paul"))


def test_a_verifier_key_of_another_algorithm_is_refused() -> None:
    """The byte before the key names the algorithm."""
    other = PETER.replace("+AR", "+AB")
    with pytest.raises(VerificationError, match="Ed25519"):
        NoteVerifier.parse(other)


def test_attack_a_note_with_another_text() -> None:
    """A changed text is refused although the signature line is whole."""
    with pytest.raises(VerificationError, match="is wrong"):
        open_note(NOTE.replace("answer", "question"), [NoteVerifier.parse(PETER)])


def test_attack_a_note_signed_by_a_stranger() -> None:
    """A signature by a key we do not know does not count."""
    with pytest.raises(VerificationError, match="not signed"):
        open_note(NOTE, [NoteVerifier("PeterNeumann", bytes(32))])


def test_signatures_of_strangers_beside_ours_are_passed_over() -> None:
    """Witnesses may cosign a checkpoint without anybody's tools failing."""
    stranger = sign_note(TEXT, "witness.example", MemoryKeys().signer("w"))
    both = NOTE + stranger.rpartition("\n\n")[2]
    assert open_note(both, [NoteVerifier.parse(PETER)]) == TEXT


@pytest.mark.parametrize(
    "note",
    [
        "",
        TEXT,
        NOTE[:-1],
        NOTE + "\n",
        NOTE.replace("— ", "- "),
        NOTE.replace("x08", "x0!"),
        NOTE.replace("nAM=", "nAM"),
        NOTE.replace("x08go/ZJ", "x08"),
        NOTE.replace("problem", "prob\tlem"),
        "x" * 131_072 + NOTE,
    ],
)
def test_a_malformed_note_is_refused(note: str) -> None:
    """Whatever is not exactly a note has no text we would look at."""
    with pytest.raises(VerificationError):
        open_note(note, [NoteVerifier.parse(PETER)])


def test_a_checkpoint_is_written_as_the_specification_shows() -> None:
    """Origin, size and root: three lines, and the last ends too."""
    checkpoint = Checkpoint("guise.audit/acme", 42, EMPTY_ROOT)
    assert checkpoint.text() == (
        "guise.audit/acme\n42\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    )
    assert Checkpoint.parse(checkpoint.text()) == checkpoint
    extended = checkpoint.text() + "an extension\n"
    assert Checkpoint.parse(extended) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o\n1\n",
        "o\n1\nAAAA\n",
        "o\n01\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "o\n-1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "o\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "o\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(text: str) -> None:
    """A size has one spelling and a root has 32 bytes."""
    with pytest.raises(VerificationError, match="not a checkpoint"):
        Checkpoint.parse(text)


def test_attack_a_checkpoint_of_another_log() -> None:
    """A key that signs one tenant's log vouches for no other's."""
    signer = MemoryKeys().signer("audit")
    theirs = Checkpoint(origin("other"), 1, EMPTY_ROOT)
    ours = NoteVerifier(origin("acme"), signer.public_bytes())
    note = sign_note(theirs.text(), origin("acme"), signer)
    with pytest.raises(VerificationError, match="not signed"):
        open_checkpoint(note, [ours])
    good = Checkpoint(origin("acme"), 1, EMPTY_ROOT)
    assert open_checkpoint(sign_checkpoint(good, signer), [ours]) == good


def test_tile_paths_are_those_of_the_specification() -> None:
    """Tile 1234067 is x001/x234/067, and a part of it says how wide it is."""
    assert tile_path(1_234_067) == "x001/x234/067"
    assert tile_path(0) == "000"
    assert tile_path(273, 112) == "273.p/112"
    assert parse_tile_path("x001/x234/067.p/8") == (1_234_067, 8)


@given(st.integers(0, 10**18), st.integers(1, 256))
def test_every_tile_has_one_path(number: int, width: int) -> None:
    """A path leads to the tile it was made for."""
    assert parse_tile_path(tile_path(number, width)) == (number, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "0",
        "0000",
        "x000/001",
        "001/002",
        "x001",
        "000.p/0",
        "000.p/256",
        "000.p/08",
        "000.p/",
        "000/",
        "../000",
        "\u0660\u0660\u0660",
        "000\n",
    ],
)
def test_a_second_spelling_of_a_tile_is_refused(path: str) -> None:
    """What is cached for ever has one name."""
    assert parse_tile_path(path) is None


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_holds_its_entries(entries: list[bytes]) -> None:
    """Entries come out of a bundle as they went in."""
    assert parse_bundle(bundle_bytes(entries)) == entries


def test_a_bundle_is_written_as_the_specification_says() -> None:
    """Two bytes of length, the larger first, then the entry; up to 65,535 bytes."""
    assert bundle_bytes([b"a", b""]) == b"\x00\x01a\x00\x00"
    assert parse_bundle(bundle_bytes([b"x" * 65_535])) == [b"x" * 65_535]


@pytest.mark.parametrize("data", [b"\x00", b"\x00\x02a", b"\x00\x01a\x00"])
def test_a_cut_bundle_is_refused(data: bytes) -> None:
    """A bundle that ends in the middle of an entry is not a shorter bundle."""
    with pytest.raises(VerificationError, match="cut short"):
        parse_bundle(data)


def test_a_proof_file_is_written_as_the_specification_says() -> None:
    """A tlog-proof is the index, the path, an empty line and the checkpoint."""
    step = leaf_hash(b"")
    assert proof_text(7, [step], NOTE) == (
        "c2sp.org/tlog-proof@v1\nindex 7\n"
        "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\n\n" + NOTE
    )
