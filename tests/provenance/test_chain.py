"""Certificates: what may sign where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from functions.keys import MemoryKeys, Signer
from functions.local.home import Home
from functions.settings import Settings, SettingsError
from functions.swap.provenance import Credentials, chain
from functions.tenant import Tenant

if TYPE_CHECKING:
    from pathlib import Path


def key() -> Signer:
    return MemoryKeys().signer(chain.KEY)


def certificate(
    signer: Signer,
    issuer: str = "An authority",
    *,
    days: int = 1,
    subject: str = "Acme",
) -> str:
    """Return a certificate for the key, good for `days` from an hour ago."""

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, text)])

    since = datetime.now(UTC) - timedelta(hours=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(signer.private.public_key())
        .serial_number(1)
        .not_valid_before(min(since, since + timedelta(days=days - 1)))
        .not_valid_after(since + timedelta(days=days))
        .sign(Ed25519PrivateKey.generate(), None)
    )
    return made.public_bytes(Encoding.PEM).decode()


def test_production_refuses_a_chain_of_our_own_making() -> None:
    """It proves nothing to anybody else; the variable is named."""
    signer = key()
    pem, _ = chain.self_made(signer.private.public_key())
    chain.check(pem, signer, production=False)
    with pytest.raises(SettingsError, match=r"GUISE_PROVENANCE.*self-made"):
        chain.check(pem, signer, production=True)


def test_production_refuses_a_certificate_that_signed_itself() -> None:
    """Whoever made it."""
    signer = key()
    pem = certificate(signer, issuer="Acme")
    with pytest.raises(SettingsError, match="self-made"):
        chain.check(pem, signer, production=True)


def test_production_takes_an_authoritys_chain() -> None:
    """With or without what is above the leaf."""
    signer = key()
    chain.check(certificate(signer), signer, production=True)


@pytest.mark.parametrize(
    ("pem", "why"), [("", "no certificate"), ("nonsense", "no certificate")]
)
def test_what_is_no_chain_is_refused(pem: str, why: str) -> None:
    """At the start."""
    with pytest.raises(SettingsError, match=why):
        chain.check(pem, key(), production=False)


def test_a_chain_of_another_key_is_refused() -> None:
    """Its signatures would verify for nobody."""
    with pytest.raises(SettingsError, match="not of the key"):
        chain.check(certificate(key()), key(), production=False)


def test_a_chain_that_ran_out_is_refused() -> None:
    """So that the first to notice is not whoever got the pictures."""
    signer = key()
    pem = certificate(signer, days=0)
    with pytest.raises(SettingsError, match="not valid now"):
        chain.check(pem, signer, production=False)


def home(root: Path) -> Home:
    made = Home(root)
    made.prepare([Tenant("acme")])
    return made


def test_a_home_makes_its_chain_once(tmp_path: Path) -> None:
    """What was signed before the next start still leads to the root."""
    first = home(tmp_path).chain.read_text()
    again = home(tmp_path)
    assert again.chain.read_text() == first
    assert first.endswith(again.roots.read_text())


def test_a_home_keeps_the_roots_of_chains_it_replaced(tmp_path: Path) -> None:
    """A new key is a new chain, and old pictures still verify."""
    old = home(tmp_path).roots.read_text()
    (tmp_path / "keys" / "provenance.key").unlink()
    new = home(tmp_path)
    assert new.roots.read_text().startswith(old)
    assert new.roots.read_text().count("BEGIN") == 2
    new.chain.unlink()
    assert home(tmp_path).roots.read_text().count("BEGIN") == 3


def test_settings_that_name_no_chain_are_refused(tmp_path: Path) -> None:
    """Unset, absent, or no text: each by the variable."""
    with pytest.raises(SettingsError, match="GUISE_PROVENANCE: not set"):
        Credentials.load(Settings(), MemoryKeys())
    (tmp_path / "binary").write_bytes(b"\xff")
    for name in ("none.pem", "binary"):
        with pytest.raises(SettingsError, match="GUISE_PROVENANCE"):
            Credentials.load(Settings(provenance=tmp_path / name), MemoryKeys())


def test_the_profile_decides_whether_a_self_made_chain_signs(tmp_path: Path) -> None:
    """Development takes it; production stops."""
    from functions.keys import FileKeys

    made = home(tmp_path)
    keys = FileKeys(made.keys)
    Credentials.load(Settings(profile="development", provenance=made.chain), keys)
    with pytest.raises(SettingsError, match="self-made"):
        Credentials.load(Settings(profile="production", provenance=made.chain), keys)
