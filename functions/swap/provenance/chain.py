"""Certificates for Content Credentials: make a chain here, or judge one given.

A chain is PEM text, the leaf first.  The leaf has the profile that C2PA 2.2,
section 14.5.1 asks for: digitalSignature, emailProtection, and no authority.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from functions.settings import SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from cryptography.x509 import Certificate, CertificateBuilder, KeyUsage, Name

    from functions.keys import Signer

KEY: Final = "provenance"
"""The name of the key that signs Content Credentials."""

SELF_MADE: Final = "Guise self-made, proves this installation only"
"""The organisation in a chain of our own making, for every reader to see."""

_DAYS: Final = 3650
_SKEW: Final = timedelta(minutes=5)  # clocks differ


def self_made(public: Ed25519PublicKey) -> tuple[str, str]:
    """Return a new chain for `public`, leaf and root, and the root alone, as PEM.

    Nobody keeps the root's private key: it signs one certificate and is forgotten,
    so this root will never vouch for another key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    authority = Ed25519PrivateKey.generate()
    root = _root(authority)
    leaf = _leaf(public, root, authority)
    return _pem(leaf) + _pem(root), _pem(root)


def check(pem: str, signer: Signer, *, production: bool) -> None:
    """Return if the chain may sign here, or raise `SettingsError` with the reason."""
    certificates = _parse(pem)
    if not certificates:
        raise SettingsError("GUISE_PROVENANCE: no certificate in PEM form")
    leaf, *above = certificates
    now = datetime.now(UTC)
    if leaf.public_key() != signer.private.public_key():
        raise SettingsError(
            f"GUISE_PROVENANCE: the first certificate is not of the key {KEY!r}",
        )
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise SettingsError("GUISE_PROVENANCE: the first certificate is not valid now")
    lone = not above and leaf.issuer == leaf.subject
    if production and (lone or any(map(_is_ours, certificates))):
        raise SettingsError(
            "GUISE_PROVENANCE: a self-made chain proves nothing to anybody else; "
            "production needs one from a certificate authority",
        )


def _parse(pem: str) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(pem.encode())
    except ValueError:
        return []


def _is_ours(certificate: Certificate) -> bool:
    from cryptography.x509.oid import NameOID

    names = certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return any(name.value == SELF_MADE for name in names)


def _root(authority: Ed25519PrivateKey) -> Certificate:
    from cryptography import x509

    name = _name("Guise self-made root")
    return (
        _blank(name, name, authority.public_key(), authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(authority, None)
    )


def _leaf(
    public: Ed25519PublicKey,
    root: Certificate,
    authority: Ed25519PrivateKey,
) -> Certificate:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    email = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
    name = _name("Guise Content Credentials")
    return (
        _blank(name, root.subject, public, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(email, critical=False)
        .sign(authority, None)
    )


def _blank(
    subject: Name,
    issuer: Name,
    public: Ed25519PublicKey,
    above: Ed25519PublicKey,
) -> CertificateBuilder:
    """Return what root and leaf have in common."""
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False
        )
    )


def _name(common: str) -> Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parts = ((NameOID.ORGANIZATION_NAME, SELF_MADE), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])


def _usage(*, authority: bool) -> KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: Certificate) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode()
