"""Provenance through the worker itself: signed before it is stored, and on record."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from functions.events import SWAP_COMPLETED
from functions.problems import Failed
from functions.swap.provenance import Credentials, chain
from functions.swap.provenance.report import read
from functions.tenant import RESULTS
from tests.provenance.files import FORMS, photograph, resealed, work
from tests.swap.house import SWAP, House, picture

if TYPE_CHECKING:
    from functions.swap.provenance.containers import Form


@dataclass
class Broken(House):
    """A house whose key service fails whenever it is asked."""

    def credentials(self) -> Credentials:
        def sign(_: bytes) -> bytes:
            raise OSError("gone")

        public = self.keys.signer(chain.KEY).private.public_key()
        pem, self.root = chain.self_made(public)
        return Credentials(sign, pem)


def filled(house: House) -> House:
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    return house


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("operation", ["swap", "anonymize"])
def test_every_output_verifies_and_names_its_receipt(
    form: Form, operation: str
) -> None:
    """In every format, of both operations; the record and the event name it."""
    house = filled(House())
    request = {**SWAP, "operation": operation, "options": {"format": form}}
    if operation == "anonymize":
        del request["source"], request["consent"]
    record = house.post(request).json
    assert record is not None
    data = house.get(f"/v1/swaps/{record['job']}/result").data
    report = read(data, house.root)
    assert report.verified
    assert report.receipt is not None
    assert report.receipt.job == record["job"]
    assert report.receipt.index == record["receipt"]["index"]
    said = {"c2pa": True, "manifest": report.manifest, "aigc": operation == "swap"}
    assert record["provenance"] == said
    [ending] = [each for each in house.sink.taken if each.type == SWAP_COMPLETED]
    assert ending.data["provenance"] == said


def test_finding_faces_makes_no_picture_and_signs_none() -> None:
    """Its output is JSON, and its record says nothing of credentials."""
    house = filled(House())
    record = house.post({"operation": "detect", "target": "uploads/b.png"}).json
    assert record is not None
    assert record["outcome"] == "completed"
    assert record.get("provenance") is None


def test_no_signature_no_output() -> None:
    """What cannot be signed is never stored; after three attempts the job failed."""
    house = filled(Broken())
    answer = house.post(SWAP)
    assert answer.json is not None
    assert "output" not in answer.json
    assert not house.store.list(RESULTS).objects


def test_a_targets_credentials_outlive_the_job() -> None:
    """Decoding drops them from the pixels' file; the ingredient brings them back."""
    house = filled(House())
    target = photograph("png", of=picture(2))
    house.put("b.png", target)
    record = house.post({"operation": "anonymize", "target": "uploads/b.png"}).json
    assert record is not None
    data = house.get(f"/v1/swaps/{record['job']}/result").data
    assert read(data, house.root).ingredients[0].manifest == read(target).manifest


def test_a_garbled_target_is_refused_and_on_record() -> None:
    """The caller is told what to do, and nothing is tried three times."""
    house = filled(House())
    target = photograph("png", of=picture(2))
    at = target.index(b"jumb")
    house.put("b.png", resealed(target[:at] + b"jxmb" + target[at + 4 :]))
    record = house.post({"operation": "anonymize", "target": "uploads/b.png"}).json
    assert record is not None
    assert "remove them" in str(record)


def test_importing_the_worker_does_not_import_the_library() -> None:
    """It is read on the loading thread, and never by a door."""
    for door in ("worker", "door"):
        code = f"import functions.swap.{door}, sys; print('c2pa' in sys.modules)"
        told = subprocess.check_output([sys.executable, "-c", code], text=True)
        assert told.strip() == "False"


def test_a_failure_to_sign_is_ours() -> None:
    """It is no refusal: the caller can do nothing about it."""
    signs = Broken().credentials()
    with pytest.raises(Failed):
        signs.sign(picture(), "png", picture(), work())
