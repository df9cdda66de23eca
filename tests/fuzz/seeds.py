"""Good inputs, from which every mutation begins."""

from __future__ import annotations

import io
from functools import cache
from typing import Final

import msgspec

from functions import events
from functions.keys import MemoryKeys


@cache
def pictures() -> list[bytes]:
    """Return a small picture of each kind that is taken, and of some that are not."""
    from PIL import Image as Pillow

    small = Pillow.linear_gradient("L").resize((24, 16))
    other = small.rotate(180)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    more = {"save_all": True, "append_images": [other.convert("RGB")]}
    found = []
    for form, mode, options in (
        ("JPEG", "RGB", {"exif": exif}),
        ("JPEG", "L", {"progressive": True}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {"icc_profile": b"\0" * 132}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "I;16", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "RGB", more),
        ("WEBP", "RGB", {"exif": exif}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("WEBP", "RGB", more),
        ("GIF", "P", more),
        ("TIFF", "RGB", {}),
        ("BMP", "RGB", {}),
    ):
        buffer = io.BytesIO()
        small.convert(mode).save(buffer, form, **options)
        found.append(buffer.getvalue())
    return found


def event() -> tuple[list[bytes], list[bytes]]:
    """Return a signed event in binary mode and in structured mode."""
    plain = events.Event(
        id="e-1",
        source=events.swap_source("acme"),
        type=events.SWAP_STARTED,
        subject="größer",
        time="2026-11-21T12:00:00.000Z",
        tenant="acme",
        data={"job": "j-1", "attempt": 1, "deep": [{"a": [1.5, None, True]}]},
        extensions={"traceparent": "00-0-0-00"},
    )
    signed = events.sign(plain, MemoryKeys().signer("events/acme"))
    headers, body = events.encode(signed)
    head = "\n".join(f"{name}: {text}" for name, text in headers.items())
    _, whole = events.encode_structured(signed)
    base64_ = events.as_dict(signed) | {"data_base64": "e30="}
    del base64_["data"]
    return [head.encode("latin-1") + b"\n\n" + body], [
        whole,
        msgspec.json.encode(base64_),
    ]


def notices() -> list[bytes]:
    google = {
        "message": {
            "attributes": {
                "eventType": "OBJECT_FINALIZE",
                "bucketId": "acme",
                "objectId": "requests/j.json",
                "objectGeneration": "1",
            }
        },
        "subscription": "s",
    }
    thing = {"key": "requests/j%2B+.json", "sequencer": "0A"}
    s3 = {
        "Records": [
            {
                "eventName": "s3:ObjectCreated:Put",
                "s3": {"bucket": {"name": "acme"}, "object": thing},
            }
        ]
    }
    plain = [b"Content-Type: application/json\n\n", b"ce-id: 1\nce-source: /s\n"]
    plain[1] += b"ce-type: x\nce-specversion: 1.0\nContent-Type: application/json\n\n"
    camel = b"ce-id: 1\nce-source: aws.s3.bucket.acme\nce-subject: requests/j.json\n"
    camel += b"ce-type: dev.knative.eventing.aws-s3\nce-specversion: 1.0\n\nJPEG"
    gcs = b"ce-id: 1\nce-source: //s\nce-type: google.cloud.storage.object.v1.finalized"
    gcs += b'\nce-specversion: 1.0\n\n{"bucket":"acme","name":"requests/j.json"}'
    bodies = [msgspec.json.encode(each) for each in (google, s3)]
    return [head + body for head in plain for body in bodies] + [camel, gcs]


REQUEST: Final = {
    "operation": "swap",
    "source": ["uploads/a.jpg"],
    "target": "uploads/b.jpg",
    "faces": [{"face": {"position": [1.5, 2]}, "source": "uploads/c.jpg"}],
    "options": {"format": "jpeg", "quality": 92, "weight": 0.5, "mask": "hull"},
    "consent": {"basis": "consent", "record": "consents/42.json"},
}
KEEP: Final = {
    "operation": "anonymize",
    "target": "uploads/ü.png",
    "keep": [{"index": 0}, {"reference": "uploads/x.jpg"}],
    "options": {"cover": "mosaic", "visible_label": True},
}
WISH: Final = {
    "endpoints": [
        {
            "name": "a",
            "url": "https://hooks.example:8443/x?y",
            "secrets": ["whsec_" + "A" * 32],
            "events": ["completed"],
        }
    ]
}
