"""Whether a pack may serve: who vouches for it, and under which licence."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions.keys import MemoryKeys
from functions.settings import Settings, SettingsError
from functions.swap.vetting import admit_pack, trust, without_gate
from models import licence
from models.errors import KeyRefused, PackRefused
from models.licence import Grant
from models.verify import verify
from tests.models.paper import FILES, key_pair, manifest_of, write_pack
from tests.office import STATEMENT, Office, open_office

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.settings import Profile
    from models.manifest import Pack

GRANT = Grant(
    status="verified_commercial",
    package="buffalo_l",
    models=("net",),
    licence_id="L-1",
    valid_from="2020-01-01T00:00:00Z",
)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_office(tmp_path) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pack"


def research_pack(folder: Path, *grants: Grant) -> Pack:
    """Write a pack whose one model may not be used commercially."""
    model = msgspec.structs.replace(
        manifest_of(FILES).models[0],
        commercial=False,
        licence="InsightFace, research only",
    )
    extra = {licence.NAME: licence.encode(grants)} if grants else {}
    return write_pack(
        folder, extra, id="insightface", commercial=False, models=(model,)
    )


def settings(folder: Path, profile: Profile = "production", **more: Any) -> Settings:
    return Settings(profile=profile, models=folder, **more)


# --- the licence -------------------------------------------------------------


def test_production_without_a_licence_does_not_start(folder: Path) -> None:
    """The model is named, its licence, and what there is to do."""
    pack = research_pack(folder)
    with pytest.raises(PackRefused) as caught:
        admit_pack(pack, settings(folder), MemoryKeys())
    said = str(caught.value)
    assert said.startswith("insightface 1.0.0 may not be used commercially: net: ")
    assert "InsightFace, research only (no MODEL.LICENSE)" in said
    assert "guise models accept" in said
    assert "GUISE_ACCEPTANCES" in said


def test_an_acceptance_on_record_lets_it_start(office: Office, folder: Path) -> None:
    """With the acceptance kept and in the audit log it starts, and records name it."""
    pack = research_pack(folder)
    statement = msgspec.structs.replace(STATEMENT, digest=pack.pack_digest)
    made, _ = office.accept(statement)
    chosen = settings(folder, acceptances=office.folder)
    told = admit_pack(pack, chosen, office.keys)
    assert told == {"licence": "accepted", "acceptance": made.id}
    (leaf,) = office.audit.entries("operator")
    assert msgspec.json.decode(leaf)["id"] == told["acceptance"]


def test_an_acceptance_of_something_else(office: Office, folder: Path) -> None:
    """Neither one for another pack nor one of another kind lets it start."""
    pack = research_pack(folder)
    office.accept()
    kind = msgspec.structs.replace(
        STATEMENT, kind="no-content-gate", digest=pack.pack_digest
    )
    office.accept(kind)
    chosen = settings(folder, acceptances=office.folder)
    with pytest.raises(PackRefused, match="may not be used commercially"):
        admit_pack(pack, chosen, office.keys)


def test_an_acceptance_that_nobody_signed(office: Office, folder: Path) -> None:
    """A file that was put there by hand stops the start: it covers nothing."""
    pack = research_pack(folder)
    _, path = office.accept()
    digest = STATEMENT.digest.encode()
    path.write_bytes(path.read_bytes().replace(digest, pack.pack_digest.encode()))
    with pytest.raises(SettingsError, match=path.name):
        admit_pack(pack, settings(folder, acceptances=office.folder), office.keys)


def test_a_licence_lets_it_start(folder: Path) -> None:
    """With a verified commercial licence it starts, and records name the licence."""
    pack = research_pack(folder, GRANT)
    told = admit_pack(pack, settings(folder), MemoryKeys())
    assert told == {"licence": "licensed", "licence_ids": "L-1"}


@pytest.mark.parametrize(
    "change",
    [
        {"status": "default_non_commercial"},
        {"status": "verified_non_commercial"},
        {"status": "invalid"},
        {"valid_until": "2020-01-02T00:00:00Z"},
        {"models": ("another",)},
    ],
)
def test_a_licence_that_does_not_hold(folder: Path, change: dict[str, Any]) -> None:
    """One that is not commercial, is over, or is for another model lets nothing in."""
    pack = research_pack(folder, msgspec.structs.replace(GRANT, **change))
    with pytest.raises(PackRefused, match="may not be used commercially: net"):
        admit_pack(pack, settings(folder), MemoryKeys())


def test_swaps_without_a_gate(office: Office, folder: Path) -> None:
    """They are accepted for a pack by its digest, and by nothing else."""
    pack = write_pack(folder)
    office.accept(msgspec.structs.replace(STATEMENT, digest=pack.pack_digest))
    chosen = settings(folder, acceptances=office.folder)
    assert without_gate(pack, chosen, office.keys) == ""
    made, _ = office.accept(
        msgspec.structs.replace(
            STATEMENT, kind="no-content-gate", digest=pack.pack_digest
        )
    )
    assert without_gate(pack, chosen, office.keys) == made.id
    assert without_gate(pack, settings(folder), office.keys) == ""


def test_development_warns(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What production refuses development serves, and says so, there and on record."""
    pack = research_pack(folder)
    with caplog.at_level(logging.WARNING):
        told = admit_pack(pack, settings(folder, "development"), MemoryKeys())
    assert told == {"licence": "non-commercial"}
    assert "insightface may not be used commercially" in caplog.text


def test_a_commercial_pack(folder: Path) -> None:
    """What anybody may use needs neither licence nor acceptance."""
    pack = write_pack(folder)
    told = admit_pack(pack, settings(folder), MemoryKeys())
    assert told == {"licence": "commercial"}


# --- the signatures ----------------------------------------------------------


def test_production_serves_signed_packs_only(folder: Path, tmp_path: Path) -> None:
    """Without keys production does not start, and without signatures neither."""
    write_pack(folder)
    with pytest.raises(SettingsError, match="GUISE_MODEL_KEYS: not set"):
        trust(settings(folder))
    for role in ("publisher", "approver"):
        key_pair(tmp_path / "keys", role)
    chosen = trust(settings(folder, model_keys=tmp_path / "keys"))
    with pytest.raises(PackRefused, match=r"publisher\.sig\.json: missing"):
        verify(folder, trust=chosen)


def test_development_serves_unsigned_packs(folder: Path, tmp_path: Path) -> None:
    """With keys or without; but keys that are named must be keys."""
    write_pack(folder)
    chosen = settings(folder, "development")
    assert trust(chosen) is None
    chosen = settings(folder, "development", model_keys=tmp_path / "keys")
    with pytest.raises(KeyRefused, match=r"publisher\.pem: No such file"):
        trust(chosen)
    for role in ("publisher", "approver"):
        key_pair(tmp_path / "keys", role)
    assert verify(folder, trust=trust(chosen)).id == "paper"
