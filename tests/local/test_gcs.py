"""Storage events as Google writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from functions import events
from functions.local.gcs import Upload, crc32c, etag, finalized, storage_object
from functions.tenant import job_of_request

SAMPLES = Path(__file__).parents[3] / "shared" / "events"
UPLOAD = Upload("acme", "requests/ä b.json", 1_587_627_537_231_057_000, 9, b"123456789")


def test_the_event_has_googles_attributes() -> None:
    """Type, source, subject and the extension `bucket`, and no tenant of ours."""
    event = finalized(UPLOAD)
    assert event.type == "google.cloud.storage.object.v1.finalized"
    assert event.source == "//storage.googleapis.com/projects/_/buckets/acme"
    assert event.subject == "objects/requests/ä b.json"
    assert event.time == "2020-04-23T07:38:57.231Z"
    assert event.extensions == {"bucket": "acme"}
    assert event.tenant == ""


def test_the_event_survives_the_wire() -> None:
    """Our own strict door takes it, in binary mode, as it was."""
    event = finalized(UPLOAD)
    assert events.decode(*events.encode(event)) == event


def test_an_id_depends_on_the_file_and_its_generation_alone() -> None:
    """The same generation is the same event, another one is another."""
    again = Upload("acme", UPLOAD.name, UPLOAD.generation, 9, None)
    other = Upload("acme", UPLOAD.name, UPLOAD.generation + 1, 9, None)
    assert finalized(UPLOAD).id == finalized(again).id != finalized(other).id


def test_the_data_has_the_fields_of_googles_sample() -> None:
    """None is missing, and each is of the sample's type."""
    if not SAMPLES.is_dir():
        pytest.skip(f"Google's samples are not beside the checkout: no {SAMPLES}")
    sample = json.loads((SAMPLES / "StorageObjectData-simple.json").read_text())
    ours = storage_object(UPLOAD)
    assert set(ours) == set(sample)
    assert {n: type(v) for n, v in ours.items()} == {
        n: type(v) for n, v in sample.items()
    }


def test_the_data_fits_googles_schema() -> None:
    """Every field we send is one the schema names."""
    if not SAMPLES.is_dir():
        pytest.skip(f"Google's schema is not beside the checkout: no {SAMPLES}")
    schema = json.loads((SAMPLES / "StorageObjectData.schema.json").read_text())
    known = schema["definitions"]["StorageObjectData"]["properties"]
    assert set(storage_object(UPLOAD)) - {"etag", "selfLink"} <= set(known)


def test_links_name_the_object() -> None:
    """The media link escapes it, as in the sample."""
    data = storage_object(UPLOAD)
    assert (
        "requests%2F%C3%A4%20b.json?generation=1587627537231057000"
        in (data["mediaLink"])
    )
    assert data["id"] == "acme/requests/ä b.json/1587627537231057000"
    assert (data["generation"], data["size"]) == ("1587627537231057000", "9")


def test_an_etag_is_the_samples() -> None:
    """The two numbers, encoded as Google encodes them."""
    assert etag(1_587_627_537_231_057, 1) == "CNHZkbuF/ugCEAE="
    assert etag(1_588_778_055_917_163, 1) == "COu8mb3Dn+kCEAE="


def test_crc32c_is_castagnolis() -> None:
    """The check value of the polynomial, and two of RFC 3720, B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_what_is_too_large_has_no_digests() -> None:
    """It is announced all the same."""
    data = storage_object(Upload("acme", "requests/big", 1, 2**40, None))
    assert "md5Hash" not in data
    assert data["size"] == str(2**40)
    assert data["contentType"] == "application/octet-stream"


def test_a_request_is_json_and_names_its_job() -> None:
    """The door's own parser finds the job in what we send."""
    data = storage_object(Upload("acme", "requests/job-1.json", 1, 2, b"{}"))
    assert data["contentType"] == "application/json"
    assert job_of_request(data["name"]) == "job-1"
