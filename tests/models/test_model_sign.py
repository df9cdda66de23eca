"""Two keys sign a pack, and whatever was not signed stops it by name.

`model_signing` itself is the oracle: it makes the signatures, and its own verifier is
asked about every spoiled pack that ours is.
"""

from __future__ import annotations

import base64
import json
import logging
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from model_signing import verifying

from models import signature
from models.errors import KeyRefused, PackRefused, SignFailed
from models.sign import sign
from models.signature import NAMES, ROLES, Trust
from models.verify import signatures, verify
from tests.models.paper import FILES, key_pair, unlocked, write_pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from models.signature import Role


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Return a folder with the key pairs of a publisher, an approver, a stranger."""
    folder = tmp_path / "keys"
    for name in (*ROLES, "stranger"):
        key_pair(folder, name)
    return folder


@pytest.fixture
def signed(tmp_path: Path, keys: Path) -> Path:
    """Return a pack that both have signed."""
    folder = tmp_path / "packs" / "1.0.0"
    write_pack(folder)
    for role in ROLES:
        sign(folder, key=keys / f"{role}.key", role=role)
    return folder


def theirs(folder: Path, keys: Path) -> bool:
    """Return whether model_signing's own verifier accepts both signatures."""
    for role in ROLES:
        config = verifying.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_verifier(public_key=keys / f"{role}.pem")
        try:
            config.verify(folder, folder / NAMES[role])
        except Exception:  # noqa: BLE001 - it raises whatever it happens upon
            return False
    return True


def refused(folder: Path, keys: Path, message: str, *, full: bool = True) -> None:
    """Hold ours to a message, and theirs to a no."""
    with pytest.raises(PackRefused, match=message):
        verify(folder, full=full, trust=Trust.load(keys))
    assert not theirs(folder, keys)


# --- what passes -------------------------------------------------------------


def test_signed_by_both(signed: Path, keys: Path) -> None:
    """A pack that both signed is accepted, by ours and by theirs."""
    assert verify(signed, trust=Trust.load(keys)).id == "paper"
    assert theirs(signed, keys)


def test_who_signed(signed: Path, keys: Path) -> None:
    """Who vouches is told by the fingerprint of the key's PEM form."""
    trust = Trust.load(keys)
    told = signature.check(verify(signed), signatures(signed), trust)
    assert told == {role: next(iter(trust.keys[role])) for role in ROLES}


def test_digest_stays(signed: Path, tmp_path: Path) -> None:
    """Signing changes neither the pack's digest nor who may write to its folder."""
    assert verify(signed).pack_digest == write_pack(tmp_path / "bare").pack_digest
    assert signed.stat().st_mode & 0o777 == 0o555
    assert (signed / NAMES["publisher"]).stat().st_mode & 0o777 == 0o444
    assert [path.name for path in signed.parent.iterdir()] == ["1.0.0"]


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_other_curves(tmp_path: Path, keys: Path, curve: ec.EllipticCurve) -> None:
    """P-384 and P-521 sign with the digest that Sigstore pairs them with."""
    key_pair(keys, "approver", ec.generate_private_key(curve))
    write_pack(tmp_path / "pack")
    for role in ROLES:
        sign(tmp_path / "pack", key=keys / f"{role}.key", role=role)
    assert verify(tmp_path / "pack", trust=Trust.load(keys)).id == "paper"
    assert theirs(tmp_path / "pack", keys)


def test_changing_keys(signed: Path, keys: Path, tmp_path: Path) -> None:
    """While a key is changed, a role's file holds the old one and the new one."""
    new = tmp_path / "new"
    for role in ROLES:
        key_pair(new, role)
        both = (keys / f"{role}.pem").read_bytes() + (new / f"{role}.pem").read_bytes()
        (keys / f"{role}.pem").write_bytes(both)
    assert verify(signed, trust=Trust.load(keys)).id == "paper"
    sign(signed, key=new / "approver.key", role="approver")
    assert verify(signed, trust=Trust.load(keys)).id == "paper"
    with pytest.raises(PackRefused, match=r"^publisher\.sig\.json: signed by a key"):
        verify(signed, trust=Trust.load(new))


def test_without_trust_no_cryptography(signed: Path) -> None:
    """Whoever asks for no signatures does not pay for the library that checks them."""
    code = (
        "import sys; from pathlib import Path; from models.verify import verify;"
        "verify(Path(sys.argv[1])); print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, str(signed)]
    loaded = subprocess.check_output(command, text=True).split()
    assert "models.signature" in loaded
    assert {"cryptography", "model_signing"}.isdisjoint(loaded)


def test_verifying_needs_no_signing_library(signed: Path, keys: Path) -> None:
    """What serves checks signatures with `cryptography` alone."""
    code = (
        "import sys; from pathlib import Path; from models.verify import verify;"
        "from models.signature import Trust;"
        "verify(Path(sys.argv[1]), trust=Trust.load(Path(sys.argv[2])));"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, str(signed), str(keys)]
    loaded = subprocess.check_output(command, text=True).split()
    assert "cryptography" in loaded
    assert {"model_signing", "sigstore", "pydantic", "google"}.isdisjoint(loaded)


# --- unsigned packs ----------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_missing_signature(signed: Path, keys: Path, role: Role) -> None:
    """Where signatures are required, each that is missing is named."""
    unlocked(signed / NAMES[role]).unlink()
    refused(signed, keys, rf"^{role}\.sig\.json: missing")


def test_unsigned_in_development(
    tmp_path: Path, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where they are not required, a pack without them passes with a warning each."""
    write_pack(tmp_path / "pack")
    with caplog.at_level(logging.WARNING):
        verify(tmp_path / "pack", trust=Trust.load(keys, required=False))
    assert [each.message for each in caplog.records] == [
        "paper 1.0.0: the publisher did not sign",
        "paper 1.0.0: the approver did not sign",
    ]


def test_wrong_in_development(signed: Path, keys: Path) -> None:
    """A signature that is there and wrong refuses the pack in any profile."""
    key_pair(keys, "approver")
    with pytest.raises(PackRefused, match=r"^approver\.sig\.json: signed by a key"):
        verify(signed, trust=Trust.load(keys, required=False))


# --- attacks on the files ----------------------------------------------------


def rewrite(folder: Path, extra: dict[str, bytes] | None = None, **new: Any) -> None:
    """Make a pack with other content in `folder`, and keep the signatures."""
    kept = {name: (folder / name).read_bytes() for name in NAMES.values()}
    folder.chmod(0o755)
    shutil.rmtree(folder)
    write_pack(folder, extra, **new)
    for name, raw in kept.items():
        unlocked(folder / name).write_bytes(raw)


@pytest.mark.parametrize("name", FILES)
def test_flipped_byte(signed: Path, keys: Path, name: str) -> None:
    """One bit changed in a file stops the pack, and the file is named."""
    path = unlocked(signed / name)
    raw = bytearray(path.read_bytes())
    raw[0] ^= 1
    path.write_bytes(raw)
    refused(signed, keys, rf"^{name}: its SHA-256 is")


@pytest.mark.parametrize("name", FILES)
def test_flipped_byte_and_a_manifest_to_match(
    signed: Path, keys: Path, name: str
) -> None:
    """A manifest made anew over a changed file is not the one that was signed."""
    rewrite(signed, {name: b"another"})
    refused(signed, keys, r"^pack\.json: not the one that publisher\.sig\.json signs")
    refused(signed, keys, r"^pack\.json: not the one", full=False)


def test_flipped_byte_in_the_manifest(signed: Path, keys: Path) -> None:
    """A manifest that still reads well, under another licence, was not signed."""
    path = unlocked(signed / "pack.json")
    path.write_bytes(path.read_bytes().replace(b"Apache-2.0", b"Apache-1.0"))
    assert verify(signed).licence == "Apache-1.0"  # nothing else would tell
    refused(signed, keys, r"^pack\.json: not the one that publisher\.sig\.json signs")


@pytest.mark.parametrize("name", ["pack.json", *FILES])
def test_missing_file(signed: Path, keys: Path, name: str) -> None:
    """A file that is gone is named."""
    unlocked(signed / name).unlink()
    refused(signed, keys, rf"^{name}: missing$")


@pytest.mark.parametrize(
    "name", ["extra.onnx", ".hidden", ".gitignore", "publisher.sig", "approver.sig.jso"]
)
def test_extra_file(signed: Path, keys: Path, name: str) -> None:
    """A stranger is named, also where model_signing would overlook it by its name."""
    unlocked(signed / name).touch()
    with pytest.raises(PackRefused, match=rf"^{name}: not in the manifest$"):
        verify(signed, trust=Trust.load(keys))


def test_extra_file_and_a_manifest_to_match(signed: Path, keys: Path) -> None:
    """A file smuggled into the manifest is not what was signed."""
    rewrite(signed, {"extra.onnx": b"smuggled"})
    refused(signed, keys, r"^pack\.json: not the one")


# --- attacks on the signatures -----------------------------------------------


def test_wrong_key(signed: Path, keys: Path) -> None:
    """A signature by a key that nobody trusts names its file."""
    sign(signed, key=keys / "stranger.key", role="approver")
    refused(
        signed, keys, r"^approver\.sig\.json: signed by a key that is not trusted, not"
    )


def test_swapped_signatures(signed: Path, keys: Path) -> None:
    """The publisher's signature in the approver's place is not an approval."""
    one, other = (signed / NAMES[role] for role in ROLES)
    unlocked(other).write_bytes(one.read_bytes())
    refused(signed, keys, r"^approver\.sig\.json: signed by the publisher, not by the")


def test_one_key_in_both_roles(signed: Path, keys: Path) -> None:
    """One person is not two: one key cannot be trusted in both roles, nor sign."""
    with pytest.raises(KeyRefused, match=r"^publisher\.key: it has signed as the pub"):
        sign(signed, key=keys / "publisher.key", role="approver")
    both = (keys / "approver.pem").read_bytes() + (keys / "publisher.pem").read_bytes()
    (keys / "approver.pem").write_bytes(both)
    with pytest.raises(KeyRefused, match=r"^approver\.pem: it holds a key of"):
        Trust.load(keys)


def test_signature_over_another_pack(signed: Path, keys: Path, tmp_path: Path) -> None:
    """A good signature, carried over from another pack, is none of this one."""
    other = tmp_path / "other"
    write_pack(other, version="2.0.0")
    sign(other, key=keys / "approver.key", role="approver")
    raw = (other / NAMES["approver"]).read_bytes()
    unlocked(signed / NAMES["approver"]).write_bytes(raw)
    refused(signed, keys, r"^pack\.json: not the one that approver\.sig\.json signs")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_truncated(signed: Path, keys: Path, role: Role, keep: int) -> None:
    """A signature file cut short is named."""
    path = unlocked(signed / NAMES[role])
    path.write_bytes(path.read_bytes()[:keep])
    refused(signed, keys, rf"^{role}\.sig\.json: ")


def test_too_long(signed: Path, keys: Path) -> None:
    """A signature file is read no further than the longest there can be."""
    path = unlocked(signed / NAMES["publisher"])
    path.write_bytes(path.read_bytes() + b" " * signature.BYTES_MAX)
    with pytest.raises(PackRefused, match=r"^publisher\.sig\.json: more than \d+ byt"):
        verify(signed, trust=Trust.load(keys))


def test_link_for_a_signature(signed: Path, keys: Path, tmp_path: Path) -> None:
    """A signature that lies elsewhere is refused like any file that does."""
    path = unlocked(signed / NAMES["publisher"])
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PackRefused, match=r"^publisher\.sig\.json: a symbolic link$"):
        verify(signed, trust=Trust.load(keys))


def bend(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle, and not what is signed in it."""
    bundle = json.loads(path.read_bytes())
    change(bundle)
    unlocked(path).write_text(json.dumps(bundle))


def envelope(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["dsseEnvelope"]
    return found


def altered(text: str) -> str:
    """Return base64 text that decodes to something else."""
    raw = bytearray(base64.b64decode(text))
    raw[-10] ^= 1
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.update(mediaType="text/plain"), "Invalid enum value"),
        (lambda b: envelope(b).update(payloadType="text/x"), "Invalid enum value"),
        (lambda b: envelope(b).update(signatures=[]), "length >= 1"),
        (
            lambda b: envelope(b).update(payload=altered(envelope(b)["payload"])),
            "the signature is wrong",
        ),
        (
            lambda b: envelope(b)["signatures"][0].update(
                sig=altered(envelope(b)["signatures"][0]["sig"])
            ),
            "the signature is wrong",
        ),
        (
            lambda b: envelope(b)["signatures"][0].update(sig="*"),
            "not base64",
        ),
        (
            lambda b: b["verificationMaterial"]["publicKey"].update(hint="0" * 64),
            "signed by a key that is not trusted",
        ),
        (lambda b: b.pop("verificationMaterial"), "missing required field"),
    ],
)
def test_bent_bundle(
    signed: Path,
    keys: Path,
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    """Nothing around the signed statement can be exchanged, here or there."""
    bend(signed / NAMES["approver"], change)
    refused(signed, keys, rf"^approver\.sig\.json: .*{message}")


def test_second_signature_in_the_envelope(signed: Path, keys: Path) -> None:
    """An envelope has one signature: whose else would count is not a question."""
    bend(
        signed / NAMES["approver"],
        lambda b: envelope(b)["signatures"].append(envelope(b)["signatures"][0]),
    )
    with pytest.raises(PackRefused, match=r"^approver\.sig\.json: .*length <= 1"):
        verify(signed, trust=Trust.load(keys))


def restate(
    folder: Path, keys: Path, role: Role, change: Callable[[dict[str, Any]], object]
) -> None:
    """Sign, with the role's own key, a statement that says something else."""

    def sign_anew(bundle: dict[str, Any]) -> None:
        statement = json.loads(base64.b64decode(envelope(bundle)["payload"]))
        change(statement)
        payload = json.dumps(statement).encode()
        private = load_pem_private_key((keys / f"{role}.key").read_bytes(), None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        made = private.sign(signature.pae(payload), ec.ECDSA(hashes.SHA256()))
        envelope(bundle)["payload"] = base64.b64encode(payload).decode()
        envelope(bundle)["signatures"][0]["sig"] = base64.b64encode(made).decode()

    bend(folder / NAMES[role], sign_anew)


def resources(statement: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = statement["predicate"]["resources"]
    return found


def test_statement_made_anew(signed: Path, keys: Path) -> None:
    """A statement that says the same, signed by the tests' own hand, is accepted."""
    restate(signed, keys, "approver", lambda statement: statement.update(note="x"))
    assert verify(signed, trust=Trust.load(keys)).id == "paper"
    assert theirs(signed, keys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: resources(s).pop(0),
            r"LICENSE: not among what approver\.sig\.json signs",
        ),
        (
            lambda s: resources(s).append(resources(s)[0] | {"name": "more.onnx"}),
            r"more\.onnx: signed in approver\.sig\.json, and not in the pack",
        ),
        (
            lambda s: resources(s)[1].update(digest="0" * 64),
            r"golden\.npz: not the one that approver\.sig\.json signs",
        ),
        (
            lambda s: s["subject"][0]["digest"].update(sha256="0" * 64),
            r"approver\.sig\.json: its digest is not that of the files",
        ),
        (
            lambda s: resources(s).append(resources(s)[0]),
            r"LICENSE: named twice in approver\.sig\.json",
        ),
        (lambda s: s.update(_type="x"), r"approver\.sig\.json: Invalid enum value"),
        (lambda s: s.update(predicateType="x"), r"approver\.sig\.json: Invalid enum"),
        (
            lambda s: s["predicate"]["serialization"].update(method="shards"),
            r"approver\.sig\.json: Invalid enum value 'shards'",
        ),
        (lambda s: s["subject"].append(s["subject"][0]), "length <= 1"),
    ],
)
def test_statement_about_something_else(
    signed: Path,
    keys: Path,
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    """Even a trusted key vouches only for exactly the files that are there."""
    restate(signed, keys, "approver", change)
    refused(signed, keys, message)


# --- keys --------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_no_key_of_a_role(keys: Path, role: Role) -> None:
    """A role without a key is told at start, by its file."""
    (keys / f"{role}.pem").unlink()
    with pytest.raises(KeyRefused, match=rf"^{role}\.pem: No such file"):
        Trust.load(keys)


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"", "no public key in it"),
        (
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "not a publi",
        ),
    ],
)
def test_no_key_in_the_file(keys: Path, pem: bytes, message: str) -> None:
    """What is no key is told by its file."""
    (keys / "approver.pem").write_bytes(pem)
    with pytest.raises(KeyRefused, match=rf"^approver\.pem: {message}"):
        Trust.load(keys)


@pytest.mark.parametrize(
    "private",
    [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())],
)
def test_other_kinds_of_keys(
    signed: Path, keys: Path, private: PrivateKeyTypes
) -> None:
    """Other curves can neither sign nor be trusted: Sigstore has no digest for them."""
    key = key_pair(keys, "approver", private)
    with pytest.raises(KeyRefused, match=r"^approver\.key: not a key on P-256"):
        sign(signed, key=key, role="approver")
    with pytest.raises(KeyRefused, match=r"^approver\.pem: not a key on P-256"):
        Trust.load(keys)


def test_encrypted_key(signed: Path, keys: Path) -> None:
    """An encrypted key signs with its password, and not without."""
    key = keys / "approver.key"
    private = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    )
    sign(signed, key=key, role="approver", password=b"secret")
    assert verify(signed, trust=Trust.load(keys)).id == "paper"
    with pytest.raises(KeyRefused, match=r"^approver\.key: no private key to be read"):
        sign(signed, key=key, role="approver")
    with pytest.raises(KeyRefused, match=r"^nowhere\.key: No such file"):
        sign(signed, key=keys / "nowhere.key", role="approver")


def test_signing_a_spoiled_pack(tmp_path: Path, keys: Path) -> None:
    """Nobody signs a folder that is not the pack its manifest tells."""
    write_pack(tmp_path / "pack")
    unlocked(tmp_path / "pack" / "net.onnx").write_bytes(b"b network")
    with pytest.raises(PackRefused, match=r"^net\.onnx: its SHA-256"):
        sign(tmp_path / "pack", key=keys / "publisher.key", role="publisher")


def test_signing_without_the_library(tmp_path: Path, keys: Path) -> None:
    """Where the extra is not installed, the message says what to install."""
    write_pack(tmp_path / "pack")
    code = (
        "import sys; sys.modules['model_signing'] = None; from pathlib import Path;"
        "from models.sign import SignFailed, sign\n"
        "try: sign(Path(sys.argv[1]), key=Path(sys.argv[2]), role='publisher')\n"
        "except SignFailed as error: print(error)"
    )
    command = [sys.executable, "-c", code]
    command += [str(tmp_path / "pack"), str(keys / "publisher.key")]
    said = subprocess.check_output(command, text=True)
    assert said == "signing needs its extra: pip install 'guise[signing]'\n"
    assert issubclass(SignFailed, Exception)


def test_signing_alone_is_quiet(
    tmp_path: Path, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first to sign is not told that the second has not."""
    write_pack(tmp_path / "pack")
    sign(tmp_path / "pack", key=keys / "publisher.key", role="publisher")
    assert caplog.records == []
