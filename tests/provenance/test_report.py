"""Reading back: what holds, what is broken, and what was written to deceive."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from functions.problems import InvalidRequest, Unsupported
from functions.swap.provenance import containers, store
from functions.swap.provenance.report import read
from tests.provenance.files import (
    FORMS,
    checksum,
    credentials,
    flipped,
    photograph,
    picture,
    resealed,
    work,
)

if TYPE_CHECKING:
    from functions.swap.provenance.containers import Form

forms = pytest.mark.parametrize("form", FORMS)


def bindings(data: bytes, root: str) -> set[str]:
    return {fault.binding for fault in read(data, root).faults}


def signed(form: Form) -> tuple[bytes, str]:
    signs, root = credentials()
    return signs.sign(picture(form), form, picture(form, 5), work()).data, root


@forms
def test_attack_one_changed_byte_in_the_picture(form: Form) -> None:
    """It is the picture that is named."""
    data, root = signed(form)
    at = {"jpeg": len(data) - 60, "png": len(data) - 40, "webp": 200}[form]
    assert bindings(flipped(data, at), root) == {"picture"}


@forms
def test_attack_one_changed_byte_in_the_label(form: Form) -> None:
    """The label is named beside the picture's hash, which covers it."""
    data, root = signed(form)
    at = data.index(b"tEXtAIGC" if form == "png" else b"<TC260:AIGC>")
    where = data.index(b"job-1", at)
    assert bindings(flipped(data, where), root) == {"picture", "AI label"}


@forms
def test_attack_one_changed_byte_in_an_assertion(form: Form) -> None:
    """It is named by its label."""
    data, root = signed(form)
    at = data.index(b"compositeWith")
    assert "assertion c2pa.actions.v2" in bindings(flipped(data, at), root)
    at = data.index(b"lite")
    assert "assertion dev.guise.receipt" in bindings(flipped(data, at), root)


@forms
def test_attack_one_changed_byte_in_the_signature(form: Form) -> None:
    """It is the claim's signature that is named."""
    data, root = signed(form)
    at = data.index(b"\xf6\x58\x40") + 10
    assert "claim signature" in bindings(flipped(data, at), root)


@forms
def test_attack_words_hidden_in_the_padding(form: Form) -> None:
    """Nobody signs the padding, so nothing may stand in it."""
    data, root = signed(form)
    at = data.index(b"cpadY") + 4000
    hidden = data[:at] + b"hidden" + data[at + 6 :]
    if form == "png":
        hidden = resealed(hidden)
    assert bindings(hidden, root) == {"manifest"}


@forms
def test_attack_any_byte_at_all(form: Form) -> None:
    """Whichever byte of the file is changed, it does not verify any more.

    But two in a JPEG, the number of a box instance, which mean nothing.
    """
    data, root = signed(form)
    number = data.find(b"JP\x02\x11")
    for at in range(0, len(data), 37):
        changed = flipped(data, at)
        if containers.form_of(changed) and at not in {number + 2, number + 3}:
            assert not read(changed, root).verified, at


def test_without_the_root_the_signer_is_named() -> None:
    """Everything else holds, but nobody vouches for who signed."""
    data, _ = signed("jpeg")
    assert bindings(data, "") == {"signer"}


def test_attack_another_installations_root() -> None:
    """Of the same name, and of no use."""
    data, _ = signed("jpeg")
    _, other = credentials()
    assert bindings(data, other) == {"signer"}


@forms
def test_a_file_without_credentials_is_not_verified(form: Form) -> None:
    """Nor is anything in it broken."""
    report = read(picture(form))
    assert report.manifest is None
    assert report.faults == []
    assert not report.verified


def test_attack_a_manifest_moved_to_another_picture() -> None:
    """Its signature is good, and the picture is not the one it is about."""
    data, root = signed("png")
    [stolen] = [
        body for kind, body, _ in containers.png_chunks(data) if kind == b"caBX"
    ]
    other = picture("png", 3)
    chunk = struct.pack(">I", len(stolen)) + b"caBX" + stolen
    moved = other[:33] + chunk + checksum(b"caBX", stolen) + other[33:]
    assert "picture" in bindings(moved, root)


def test_a_strangers_file_has_no_receipt() -> None:
    """It is read all the same, and only its signer is unknown."""
    report = read(photograph("jpeg"))
    assert report.generator == "Camera 1"
    assert report.receipt is None
    assert {fault.binding for fault in report.faults} == {"signer"}


def test_what_is_no_picture_is_refused() -> None:
    """And so are roots that are none."""
    with pytest.raises(Unsupported):
        read(b"GIF89a")


@pytest.mark.parametrize("form", FORMS)
def test_a_file_cut_short_is_never_verified(form: Form) -> None:
    """Wherever it ends, reading it ends too."""
    data, root = signed(form)
    for end in range(12, len(data), 211):
        assert not read(data[:end], root).verified


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def held(letters: bytes, label: bytes, *inner: bytes) -> bytes:
    frame = letters + b"\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71\x03" + label + b"\0"
    return box(b"jumb", box(b"jumd", frame) + b"".join(inner))


def png(content: bytes) -> bytes:
    return resealed(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I4s", len(content), b"caBX")
        + content
        + bytes(4)
    )


PADDED = b"\xa1\x63pad\x58\x20" + bytes(32) + b"\xf6\x58\x40" + bytes(64)


def test_a_regular_store_passes() -> None:
    """As does one with kinds of boxes that only others write."""
    signature = held(b"c2cs", b"c2pa.signature", box(b"cbor", PADDED))
    manifest = held(b"c2ma", b"urn", signature, held(b"c2vc", b"x"))
    store.check(png(held(b"c2pa", b"c2pa", manifest)), "png")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not exactly one"),
        (held(b"c2pa", b"c2pa") * 2, "not exactly one"),
        (b"1234", "cut short"),
        (struct.pack(">I4s", 99, b"jumb"), "wrong length"),
        (struct.pack(">I4s", 4, b"jumb"), "wrong length"),
        (box(b"free", b"x" * 16), "another kind"),
        (box(b"jumb", b""), "frame"),
        (box(b"jumb", box(b"jumd", bytes(30))), "frame"),
        (held(b"c2xx", b"c2pa"), "unknown type"),
        (held(b"c2pa", b"c2pb"), "label"),
        (held(b"c2cs", b"c2pa.signature", box(b"cbor", b"x" * 80)), "does not end"),
        (
            held(
                b"c2cs",
                b"c2pa.signature",
                box(b"cbor", PADDED.replace(b"cpad", b"cpax")),
            ),
            "not named",
        ),
        (
            held(
                b"c2cs",
                b"c2pa.signature",
                box(b"cbor", b"\xa1\x63pad\x41x\xf6\x58\x40" + bytes(64)),
            ),
            "something in the padding",
        ),
    ],
)
def test_attack_a_store_with_room_for_words(content: bytes, why: str) -> None:
    """Each box has one form; the message says which was not kept."""
    with pytest.raises(store.Irregular, match=why):
        store.check(png(content), "png")


def test_a_picture_without_a_store_has_none_that_is_regular() -> None:
    """Whoever asks has found a manifest by another way."""
    for form in FORMS:
        with pytest.raises(store.Irregular, match="not exactly one"):
            store.check(picture(form), form)


def test_attack_a_png_chunk_with_a_wrongchecksum() -> None:
    """The library passes over it."""
    data = png(held(b"c2pa", b"c2pa"))
    with pytest.raises(store.Irregular, match="checksum"):
        store.check(flipped(data, len(data) - 1), "png")


def test_attack_jpeg_segments_out_of_order() -> None:
    """Two segments that say they are the first."""
    content = held(b"c2pa", b"c2pa")
    body = b"JP\x02\x11\0\0\0\x01" + content
    segment = struct.pack(">BBH", 0xFF, 0xEB, len(body) + 2) + body
    with pytest.raises(store.Irregular, match="order"):
        store.check(b"\xff\xd8" + segment * 2 + b"\xff\xd9\0\0", "jpeg")


def test_a_store_in_several_segments_is_read_as_one() -> None:
    """As a camera's is, whose thumbnail alone has more than one holds."""
    large = photograph("jpeg")
    assert {each.binding for each in read(large).faults} == {"signer"}


def test_roots_that_cannot_be_read_are_an_error() -> None:
    """Not a file that is trusted, nor one that is not."""
    data, _ = signed("jpeg")
    with pytest.raises(InvalidRequest, match="roots"):
        read(data, "-----BEGIN CERTIFICATE-----\nnonsense")
