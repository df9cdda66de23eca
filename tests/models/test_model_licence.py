"""A model that is not commercial serves commercially by a verified licence only.

insightface judges the licences here as it does when weights are imported; the tests
sign them with keys of their own, which it is told to trust.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from insightface.model_zoo import model_license

from models import licence
from models.errors import PackRefused
from models.licence import Grant
from models.verify import verify
from tests.models.paper import manifest_of, unlocked, write_pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.manifest import Pack

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ISSUER = Ed25519PrivateKey.generate()
FIELDS = {
    "license_version": 1,
    "license_id": "L-1",
    "issuer": "InsightFace",
    "model_id": "buffalo_l",
    "grant": "commercial",
    "customer": "Acme",
    "valid_from": "2026-01-01T00:00:00Z",
    "valid_until": "2027-01-01T00:00:00Z",
}
COMMERCIAL = Grant(
    status="verified_commercial",
    package="buffalo_l",
    models=("net",),
    valid_from="2026-01-01T00:00:00Z",
    valid_until="2027-01-01T00:00:00Z",
)


def package(root: Path, changes: dict[str, Any] | None = None) -> Path:
    """Write a package with a licence, signed; None as a value leaves a field out."""
    folder = root / "buffalo_l"
    folder.mkdir()
    fields = FIELDS | (changes or {})
    fields = {name: value for name, value in fields.items() if value is not None}
    signed = ISSUER.sign(model_license.canonical_license_bytes(fields))
    text = base64.urlsafe_b64encode(signed).decode().rstrip("=")
    path = folder / "MODEL.LICENSE"
    path.write_text(json.dumps(fields | {"signature": text}))
    return folder


def inspected(folder: Path, **more: Any) -> Grant:
    return licence.inspect(
        folder, ["net"], moment=NOW, public_keys=[ISSUER.public_key()], **more
    )


def restricted(commercial: bool = False) -> Pack:  # noqa: FBT001, FBT002 - one word
    """Return a pack whose one model is not commercial."""
    pack = manifest_of({"net.onnx": b"n", "golden.npz": b"g"})
    model = msgspec.structs.replace(
        pack.models[0], commercial=commercial, licence="InsightFace, research only"
    )
    return msgspec.structs.replace(pack, models=(model,), commercial=commercial)


# --- inspecting --------------------------------------------------------------


def test_a_commercial_licence(tmp_path: Path) -> None:
    """What it says is kept: for which package, to whom, from when until when."""
    grant = inspected(package(tmp_path))
    assert grant.status == "verified_commercial"
    assert (grant.package, grant.models) == ("buffalo_l", ("net",))
    assert (grant.licence_id, grant.customer) == ("L-1", "Acme")
    assert (grant.valid_from, grant.valid_until) == (
        "2026-01-01T00:00:00Z",
        "2027-01-01T00:00:00Z",
    )
    assert len(grant.sha256) == 64
    assert grant.commercial_at(NOW)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"grant": "non-commercial"}, "verified_non_commercial"),
        ({"valid_until": "2026-11-20T00:00:00Z"}, "expired"),
        ({"valid_from": "2026-11-22T00:00:00Z"}, "not_active"),
        ({"model_id": "antelopev2"}, "invalid"),
        ({"issuer": "Somebody"}, "invalid"),
        ({"customer": None}, "invalid"),
    ],
)
def test_a_licence_that_grants_nothing(
    tmp_path: Path, changes: dict[str, Any], status: str
) -> None:
    """Another grant, time, package or issuer lets nothing be used commercially."""
    grant = inspected(package(tmp_path, changes))
    assert grant.status == status
    assert not grant.commercial_at(NOW)


def test_a_licence_signed_by_anybody(tmp_path: Path) -> None:
    """The keys that insightface ships did not sign this one."""
    grant = licence.inspect(package(tmp_path), ["net"], moment=NOW)
    assert grant.status == "invalid"


def test_no_licence(tmp_path: Path) -> None:
    """A package without the file is under the public terms: not commercial."""
    (tmp_path / "buffalo_l").mkdir()
    grant = inspected(tmp_path / "buffalo_l")
    assert (grant.status, grant.sha256) == ("default_non_commercial", "")
    assert not grant.commercial_at(NOW)


def test_a_package_without_sense(tmp_path: Path) -> None:
    """A manifest that cannot be read never falls back to a licence."""
    folder = package(tmp_path)
    (folder / "manifest.json").write_text("{")
    assert inspected(folder).status == "invalid_manifest"


# --- what runs out -----------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "valid"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), True),
        (datetime(2026, 1, 1, tzinfo=UTC) - timedelta(microseconds=1), False),
        (datetime(2027, 1, 1, tzinfo=UTC), False),
        (datetime(2027, 1, 1, tzinfo=UTC) - timedelta(microseconds=1), True),
    ],
)
def test_the_edges_of_its_time(moment: datetime, *, valid: bool) -> None:
    """A licence is looked at anew whenever a worker starts: it may have run out."""
    assert COMMERCIAL.commercial_at(moment) is valid
    left = licence.unlicensed(restricted(), [COMMERCIAL], moment)
    assert [model.name for model in left] == ([] if valid else ["net"])


def test_without_an_end() -> None:
    """A licence without an end does not run out."""
    grant = msgspec.structs.replace(COMMERCIAL, valid_until="")
    assert grant.commercial_at(datetime(2999, 1, 1, tzinfo=UTC))


def test_a_licence_covers_its_own_models() -> None:
    """The licence of one package says nothing of a model out of another."""
    other = msgspec.structs.replace(COMMERCIAL, models=("det_10g",))
    (left,) = licence.unlicensed(restricted(), [other], NOW)
    assert left.name == "net"
    assert licence.unlicensed(restricted(), [other, COMMERCIAL], NOW) == ()


def test_a_licence_covers_its_issuers_models() -> None:
    """A model of somebody else's, put beside the licence, is not licensed by it."""
    (model,) = restricted().models
    other = msgspec.structs.replace(model, licence="ResearchRAIL-MS")
    pack = msgspec.structs.replace(restricted(), models=(other,))
    (left,) = licence.unlicensed(pack, [COMMERCIAL], NOW)
    assert left == other


def test_a_licence_covers_no_private_build() -> None:
    """What was not published by the issuer is not what the issuer licensed."""
    (model,) = restricted().models
    upstream = msgspec.structs.replace(model.upstream, private=True)
    build = msgspec.structs.replace(model, upstream=upstream)
    pack = msgspec.structs.replace(restricted(), models=(build,))
    assert licence.unlicensed(pack, [COMMERCIAL], NOW) == (build,)


def test_commercial_models_need_none() -> None:
    """What is published for commercial use needs no licence file."""
    assert licence.unlicensed(restricted(commercial=True), [], NOW) == ()


def test_why_not() -> None:
    """The model, its licence, and what its MODEL.LICENSE said are told."""
    (model,) = restricted().models
    assert (
        licence.why_not(model, [])
        == "net: InsightFace, research only (no MODEL.LICENSE)"
    )
    expired = msgspec.structs.replace(COMMERCIAL, status="expired")
    assert licence.why_not(model, [expired]) == (
        "net: InsightFace, research only (MODEL.LICENSE of buffalo_l: expired)"
    )
    assert "until 2027-01-01T00:00:00Z" in licence.why_not(model, [COMMERCIAL])


# --- the record in the pack --------------------------------------------------


def test_the_record_is_a_file_of_the_pack(tmp_path: Path) -> None:
    """What was recorded is read back, once the manifest vouches for it."""
    raw = licence.encode([COMMERCIAL])
    pack = write_pack(tmp_path / "pack", {licence.NAME: raw})
    assert verify(tmp_path / "pack") == pack
    assert licence.read(tmp_path / "pack", pack) == (COMMERCIAL,)


def test_a_pack_without_a_record(tmp_path: Path) -> None:
    """A file that the manifest does not list is not looked at."""
    pack = write_pack(tmp_path / "pack")
    unlocked(tmp_path / "pack" / licence.NAME).write_bytes(licence.encode([COMMERCIAL]))
    assert licence.read(tmp_path / "pack", pack) == ()


def test_a_record_that_was_changed(tmp_path: Path) -> None:
    """A record that is not the listed one grants nothing, and is named."""
    pack = write_pack(tmp_path / "pack", {licence.NAME: licence.encode([COMMERCIAL])})
    longer = msgspec.structs.replace(COMMERCIAL, valid_until="2099-01-01T00:00:00Z")
    path = unlocked(tmp_path / "pack" / licence.NAME)
    path.write_bytes(licence.encode([longer]))
    with pytest.raises(PackRefused, match=r"^licences\.json: not the one that the"):
        licence.read(tmp_path / "pack", pack)
    path.unlink()
    with pytest.raises(PackRefused, match=r"^licences\.json: No such file"):
        licence.read(tmp_path / "pack", pack)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda g: g.update(status="blessed"), "Invalid enum value 'blessed'"),
        (lambda g: g.update(motto="x"), "unknown field `motto`"),
        (lambda g: g.update(models=[]), "length >= 1"),
        (lambda g: g.update(valid_until="2027-13-01T00:00:00Z"), "month"),
        (lambda g: g.update(valid_until="2027-01-01"), "matching regex"),
    ],
)
def test_the_record_is_strict(
    spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    """What a record may not say is refused by name."""
    document = json.loads(licence.encode([COMMERCIAL]))
    spoil(document["grants"][0])
    with pytest.raises(PackRefused, match=rf"^licences\.json: .*{message}"):
        licence.decode(json.dumps(document).encode())


def test_a_record_too_long() -> None:
    """A record is as long as it needs to be, and no longer."""
    with pytest.raises(PackRefused, match=r"^licences\.json: more than"):
        licence.decode(b" " * (licence.BYTES_MAX + 1))
