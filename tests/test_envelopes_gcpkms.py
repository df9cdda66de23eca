"""A ring that Google Cloud KMS guards: the files alone open nothing."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from functions.envelopes import Envelopes, open_envelopes
from functions.envelopes.gcpkms import GcpKms, _session
from functions.problems import Failed, Gone, Unavailable
from functions.storage.encrypted import EncryptedStore
from functions.tenant import Key, Tenant
from tests.storage.kms_server import KEY, Service, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ACME, GLOBEX = Tenant("acme"), Tenant("globex")
A = Key("uploads/a.jpg")


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as service:
        service.key("acme")
        service.key("globex")
        yield service
        _session(service.endpoint).close()
        _session.cache_clear()


@pytest.fixture
def kms(service: Service) -> GcpKms:
    return GcpKms(KEY, endpoint=service.endpoint)


@pytest.fixture
def envelopes(service: Service, tmp_path: Path) -> Envelopes:
    url = f"gcpkms://{KEY}?ring={tmp_path}/rings&endpoint={service.endpoint}"
    return open_envelopes(url)


def test_an_object_under_a_ring_that_kms_guards_comes_back(
    envelopes: Envelopes, tmp_path: Path, service: Service
) -> None:
    """And KMS is asked twice for all of a tenant's objects, not for each."""
    store = EncryptedStore(tmp_path / "acme", ACME, envelopes)
    for number in range(20):
        store.put(Key(f"uploads/{number}"), b"%d" % number)
    fresh = EncryptedStore(
        tmp_path / "acme",
        ACME,
        Envelopes(tmp_path / "rings", GcpKms(KEY, endpoint=service.endpoint)),
    )
    service.asked.clear()
    assert [fresh.get(Key(f"uploads/{n}")).data for n in range(20)] == [
        b"%d" % n for n in range(20)
    ]
    assert service.asked == ["POST decrypt"] * 2


def test_the_files_of_a_ring_hold_no_key(envelopes: Envelopes, tmp_path: Path) -> None:
    """Whoever has the folder has what only KMS can open."""
    envelopes.make(ACME)
    for name, key in (("names", envelopes.names(ACME)), ("1", envelopes.key(ACME, 1))):
        data = base64.b64decode((tmp_path / f"rings/acme/{name}.key").read_bytes())
        assert key not in data


def test_a_key_is_bound_to_its_tenant_and_its_name(kms: GcpKms) -> None:
    """A file that was copied to another place opens nothing there."""
    wrapped = kms.wrap(ACME, "1", b"k" * 32)
    assert kms.unwrap(ACME, "1", wrapped) == b"k" * 32
    for tenant, name in ((ACME, "2"), (ACME, "names"), (GLOBEX, "1")):
        with pytest.raises(Failed, match="400"):
            kms.unwrap(tenant, name, wrapped)


def test_to_rotate_leaves_nothing_under_the_services_older_version(
    envelopes: Envelopes, service: Service
) -> None:
    """Once the ring's own older versions are retired, KMS's may be destroyed too."""
    envelopes.make(ACME)
    names = envelopes.names(ACME)
    envelopes.rotate(ACME)
    envelopes.retire(ACME, 1)
    key = service.keys[KEY.replace("{tenant}", "acme")]
    assert key.primary == "2"
    key.states["1"] = "DESTROYED"
    envelopes._cached.clear()
    assert envelopes.names(ACME) == names
    assert envelopes.key(ACME, 2)


def test_to_shred_destroys_every_version_of_the_services_key(
    envelopes: Envelopes, service: Service, tmp_path: Path
) -> None:
    """A copy of the ring's files, kept by anybody, opens nothing."""
    service.page = 2
    envelopes.make(ACME)
    envelopes.make(GLOBEX)
    for _ in range(3):
        envelopes.rotate(ACME)
    kept = (tmp_path / "rings/acme/4.key").read_bytes()
    assert envelopes.shred(ACME) == 5 + 4
    states = service.keys[KEY.replace("{tenant}", "acme")].states
    assert set(states.values()) == {"DESTROY_SCHEDULED"}
    with pytest.raises(Gone):
        envelopes.key(ACME, 4)
    kms = GcpKms(KEY, endpoint=service.endpoint)
    with pytest.raises(Failed, match="not enabled"):
        kms.unwrap(ACME, "4", base64.b64decode(kept))
    assert envelopes.key(GLOBEX, 1)
    assert envelopes.shred(ACME) == 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, Unavailable), (500, Unavailable), (503, Unavailable), (403, Failed)],
)
def test_what_may_pass_is_to_be_tried_again_and_what_may_not_is_not(
    kms: GcpKms, service: Service, status: int, kind: type[Failed]
) -> None:
    """Whose it is, is said in the log."""
    service.faults.append(status)
    with pytest.raises(Failed, match="as was asked for") as caught:
        kms.wrap(ACME, "1", b"k")
    assert type(caught.value) is kind


def test_a_key_that_is_not_there_is_not_made(kms: GcpKms) -> None:
    """Who may make one is the operator; docs/encryption.md says how."""
    with pytest.raises(Failed, match="404"):
        kms.wrap(Tenant("nobody"), "1", b"k")


def _change(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(answer: dict[str, Any]) -> None:
        answer[name] = value

    return change


@pytest.mark.parametrize(
    "fault",
    [
        _change("ciphertext", "!!"),
        _change("ciphertext", "AAAA"),
        _change("ciphertextCrc32c", "0"),
        _change("verifiedPlaintextCrc32c", value=False),
        _change("verifiedAdditionalAuthenticatedDataCrc32c", value=False),
        (200, b"<html>"),
    ],
)
def test_an_answer_that_was_damaged_is_none(
    kms: GcpKms, service: Service, fault: Any
) -> None:
    """A key that was wrapped wrongly would be lost for good."""
    service.faults.append(fault)
    with pytest.raises(Unavailable):
        kms.wrap(ACME, "1", b"k")


def test_an_error_that_is_no_json_is_an_error(kms: GcpKms, service: Service) -> None:
    """Something on the way answered."""
    service.faults.append((418, b"<html>"))
    with pytest.raises(Failed, match="418"):
        kms.destroy(ACME)


def test_no_answer_is_to_be_tried_again() -> None:
    """Nobody listens there."""
    kms = GcpKms(KEY, endpoint="http://127.0.0.1:9")
    with pytest.raises(Unavailable):
        kms.wrap(ACME, "1", b"k")


def test_who_we_are_cannot_be_told_for_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever gives out Google's tokens does not answer."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = {
        "type": "service_account",
        "client_email": "guise@p.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "token_uri": "http://127.0.0.1:9/token",
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    _session.cache_clear()
    with pytest.raises(Unavailable, match="KMS"):
        GcpKms(KEY).wrap(ACME, "1", b"k")
    _session("").close()
    _session.cache_clear()


def test_without_credentials_google_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who we are comes from where Google's own tools look."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(Failed, match=r"none\.json"):
        GcpKms(KEY).wrap(ACME, "1", b"k")
