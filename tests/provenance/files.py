"""Pictures, chains and earlier manifests, all made here and by the real libraries."""

from __future__ import annotations

import json
import struct
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from c2pa import (
    Builder,
    C2paBuilderIntent,
    C2paSigningAlg,
    Context,
    Reader,
    Settings,
    Signer,
)

from functions.keys import MemoryKeys
from functions.sink import Receipt
from functions.swap import media
from functions.swap.provenance import Credentials, Work, chain, containers

if TYPE_CHECKING:
    from functions.swap.provenance.containers import Form

FORMS: tuple[Form, ...] = ("jpeg", "png", "webp")
GPS = b"39,21.102N"
CAPTURE = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


def picture(form: Form, seed: int = 0, size: int = 24) -> bytes:
    """Return a file as our own encoder writes it."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3))
    return media.encode(media.Image(pixels.astype(np.uint8), form), form)


def work(operation: str = "swap", note: str = "", job: str = "job-1") -> Work:
    receipt = Receipt(3, "ab" * 32, note or "guise.audit/acme\n4\nroot\n\n— signed\n")
    pack = {"id": "lite", "version": "1.0.0", "digest": "d1" * 32}
    return Work(job, operation, pack, receipt)


def credentials(producer: str = "Guise") -> tuple[Credentials, str]:
    """Return what signs, by a chain of its own, and the root to trust."""
    signer = MemoryKeys().signer(chain.KEY)
    pem, root = chain.self_made(signer.private.public_key())
    return Credentials(signer.sign, pem, producer=producer), root


def stranger() -> Context:
    """Return what signs for somebody else, who makes thumbnails as all do."""
    signer = MemoryKeys().signer("camera")
    pem, _ = chain.self_made(signer.private.public_key())
    alg = C2paSigningAlg.ED25519
    options = {"verify": {"remote_manifest_fetch": False}}
    return Context(
        Settings.from_dict(options), Signer.from_callback(signer.sign, alg, pem)
    )


def photograph(form: Form, seed: int = 1, *, of: bytes = b"") -> bytes:
    """Return a file with a camera's manifest: a thumbnail, and where it was taken."""
    place = {
        "@context": {"exif": "http://ns.adobe.com/exif/1.0/"},
        "exif:GPSLatitude": GPS.decode(),
    }
    taken = {"action": "c2pa.created", "digitalSourceType": CAPTURE}
    made: dict[str, Any] = {
        "claim_generator_info": [{"name": "Camera", "version": "1"}],
        "title": "IMG_0001",
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [taken]}},
            {"label": "c2pa.metadata", "kind": "Json", "data": place},
        ],
    }
    signed = BytesIO()
    with Builder(json.dumps(made), stranger()) as builder:
        builder.sign(f"image/{form}", BytesIO(of or picture(form, seed)), signed)
    return signed.getvalue()


def edited(form: Form, parent: bytes) -> bytes:
    """Return what somebody's editor made of `parent` and of a second photograph."""
    signed = BytesIO()
    made = {"claim_generator_info": [{"name": "Editor", "version": "1"}]}
    with Builder(json.dumps(made), stranger()) as builder:
        builder.set_intent(C2paBuilderIntent.EDIT)
        for role, data in (("parentOf", parent), ("componentOf", photograph(form, 7))):
            about = json.dumps({"title": "IMG", "relationship": role})
            builder.add_ingredient(about, f"image/{form}", BytesIO(data))
        builder.sign(f"image/{form}", BytesIO(picture(form, 2)), signed)
    return signed.getvalue()


def opened(data: bytes, form: Form, root: str) -> Any:
    """Return what the C2PA library's own reader says, our root being trusted."""
    options = {
        "trust": {"user_anchors": root},
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    }
    context = Context(Settings.from_dict(options))
    with Reader(f"image/{form}", BytesIO(data), context=context) as reader:
        return json.loads(reader.detailed_json())


def assertions(document: Any) -> set[str]:
    """Return the labels of the assertions in every manifest of a file."""
    return {
        label
        for manifest in document["manifests"].values()
        for label in manifest["assertion_store"]
    }


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def resealed(data: bytes) -> bytes:
    """Return the PNG with every checksum made right."""
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + checksum(kind, body)
        for kind, body, _ in containers.png_chunks(data)
    )
    return data[:8] + chunks


def checksum(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(kind + body))
