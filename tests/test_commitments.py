"""Salted commitments, and the two extensions that open them for audit."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.commitments import (
    SEALED_CHARACTERS_MAX,
    SIDECAR_CHARACTERS_MAX,
    Image,
    Sidecar,
    commitment,
    committed,
    derived,
    open_result,
    seal_result,
    sidecar_of,
)
from functions.events import EVENT_BYTES_MAX
from functions.problems import InvalidRequest

SALT = "5a" * 32
PHOTO = hashlib.sha256(b"a photo").hexdigest()
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


def packed(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


def test_a_commitment_is_an_hmac_of_the_digest_under_the_salt() -> None:
    """As docs/audit.md says, so that anybody with both can check it."""
    key, digest = bytes.fromhex(SALT), bytes.fromhex(PHOTO)
    expected = hmac.new(key, digest, hashlib.sha256).hexdigest()
    assert commitment(SALT, PHOTO) == expected


@given(st.lists(st.tuples(st.sampled_from(["source", "target"]), digests), max_size=9))
def test_a_sidecar_comes_back_as_it_was(images: list[Any]) -> None:
    """Salt and images, each named once, in their order."""
    sidecar = sidecar_of(SALT, images)
    assert Sidecar.parse(sidecar.text()) == sidecar
    expected = [Image(*each) for each in dict.fromkeys(images)]
    assert list(sidecar.images) == expected


def test_eight_sources_and_sixty_four_references_fit() -> None:
    """With their commitments they are an event that audit takes."""
    names = [f"{n:064x}" for n in range(73)]
    roles: list[Any] = [("target", names[0])]
    roles += [("source", name) for name in names[1:9]]
    roles += [("reference", name) for name in names[9:]]
    text = sidecar_of(SALT, roles).text()
    assert len(text) <= SIDECAR_CHARACTERS_MAX
    assert len(text) + 73 * 70 < EVENT_BYTES_MAX / 2
    assert len(Sidecar.parse(text).images) == 73


@pytest.mark.parametrize(
    "text",
    [
        "",
        "é",
        "not base64!",
        "====",
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        base64.urlsafe_b64encode(b"[" * 10_000).decode(),
        packed([]),
        packed({"salt": SALT}),
        packed({"salt": SALT.upper(), "images": []}),
        packed({"salt": SALT + "\n", "images": []}),
        packed({"salt": SALT, "images": [{"role": "friend", "sha256": PHOTO}]}),
        packed({"salt": SALT, "images": [{"role": "source", "sha256": PHOTO[1:]}]}),
        packed({"salt": SALT, "images": [], "more": 1}),
        "A" * (SIDECAR_CHARACTERS_MAX + 4),
    ],
)
def test_what_is_no_sidecar_is_refused(text: str) -> None:
    """By name, and the text of the fault repeats none of it: it may hold a salt."""
    with pytest.raises(InvalidRequest, match="sidecar") as fault:
        Sidecar.parse(text)
    assert SALT not in str(fault.value)
    assert fault.value.__cause__ is None or SALT not in str(fault.value.__cause__)


def test_a_sealed_result_opens_with_the_salt_of_its_job_alone() -> None:
    """A subscriber has the text; no other salt and no other job opens it."""
    text = seal_result(SALT, "j-1", PHOTO)
    assert len(text) <= SEALED_CHARACTERS_MAX
    assert open_result(SALT, "j-1", text) == PHOTO
    for salt, job in (("00" * 32, "j-1"), (SALT, "j-2")):
        with pytest.raises(InvalidRequest, match="does not open"):
            open_result(salt, job, text)


def test_the_same_result_is_never_sealed_alike() -> None:
    """Two endings do not tell whether their results are the same."""
    assert len({seal_result(SALT, "j-1", PHOTO) for _ in range(9)}) == 9


@pytest.mark.parametrize("text", ["", "AAAA", "!", "A" * 84, "A" * 80])
def test_what_is_not_sealed_is_refused(text: str) -> None:
    """Cut short, too long, or not base64url."""
    with pytest.raises(InvalidRequest, match="sealed"):
        open_result(SALT, "j-1", text)


def test_something_else_that_opens_is_no_digest() -> None:
    """What is sealed under the right key has 32 bytes, or it is refused."""
    text = seal_result(SALT, "j-1", "ab" * 31)
    with pytest.raises(InvalidRequest, match="not a digest"):
        open_result(SALT, "j-1", text)


def test_every_commitment_is_found_with_its_role() -> None:
    """Lists and single ones; what a later version adds is passed over."""
    said = {"sources": ["a", "b"], "target": "c", "references": ["d"], "frames": 7}
    assert committed({"commitments": said}) == {
        ("source", "a"),
        ("source", "b"),
        ("target", "c"),
        ("reference", "d"),
    }
    assert committed({"commitments": {"result": "e"}}) == {("result", "e")}
    assert committed({}) == set()


@pytest.mark.parametrize("said", [7, [], {"target": 7}, {"sources": ["a", None]}])
def test_commitments_that_are_no_text_are_refused(said: Any) -> None:
    """Nobody of ours writes such."""
    with pytest.raises(InvalidRequest, match="commitments"):
        committed({"commitments": said})


def test_a_key_is_derived_as_rfc_5869_says() -> None:
    """Extract and expand by hand: HKDF-SHA-256 without a salt, one block."""
    secret, info = b"\x0b" * 32, b"guise wrap v1 acme"
    extracted = hmac.digest(bytes(32), secret, "sha256")
    assert derived(secret, info) == hmac.digest(extracted, info + b"\x01", "sha256")
