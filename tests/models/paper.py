"""Packs of a few bytes, and the keys of who signs them.

Their manifests are real ones; their networks are not networks.  What signs, verifies
and decides never looks inside.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from models import manifest

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

FILES = {
    "LICENSE": b"do what you like\n",
    "golden.npz": b"golden",
    "net.onnx": b"a network",
}


def manifest_of(files: dict[str, bytes], **changes: Any) -> manifest.Pack:
    """Return a manifest over `files`; `changes` are fields of it."""
    model = manifest.Model(
        name="net",
        file="net.onnx",
        contract="arcface",
        licence="Apache-2.0",
        commercial=True,
        input=manifest.Input(
            name="image",
            shape=(0, 3, 112, 112),
            mean=(127_500, 127_500, 127_500),
            std=(127_500, 127_500, 127_500),
        ),
        outputs=(manifest.Tensor(name="embedding", shape=(0, 512)),),
        upstream=manifest.Upstream(source="nowhere", sha256="0" * 64, bytes=9),
    )
    made = manifest.Pack(
        id="paper",
        version="1.0.0",
        licence="Apache-2.0",
        commercial=True,
        golden="golden.npz",
        models=(model,),
        files=tuple(
            manifest.File(name, hashlib.sha256(raw).hexdigest(), len(raw))
            for name, raw in sorted(files.items())
        ),
    )
    return msgspec.structs.replace(made, **changes)


def write_pack(
    folder: Path, extra: dict[str, bytes] | None = None, **changes: Any
) -> manifest.Pack:
    """Write a whole pack into the new folder `folder`, read-only as a real one."""
    files = FILES | (extra or {})
    pack = manifest_of(files, **changes)
    folder.mkdir(parents=True)
    for name, raw in (files | {manifest.NAME: manifest.encode(pack)}).items():
        (folder / name).write_bytes(raw)
        (folder / name).chmod(0o444)
    folder.chmod(0o555)
    return pack


def key_pair(folder: Path, name: str, private: PrivateKeyTypes | None = None) -> Path:
    """Write `<name>.key` and `<name>.pem`; return the path of the private one."""
    private = private or ec.generate_private_key(ec.SECP256R1())
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.key"
    path.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    public = private.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    (folder / f"{name}.pem").write_bytes(public)
    return path


def unlocked(path: Path) -> Path:
    """Return `path`, and let it and its folder be written to."""
    path.parent.chmod(0o755)
    if path.exists():
        path.chmod(0o644)
    return path
