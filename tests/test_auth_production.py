"""What only the development profile may have, and production refuses."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from functions.auth import TokenAuthenticator, jwks_document
from functions.keys import MemoryKeys
from functions.problems import Unavailable
from functions.settings import DEVELOPMENT_MARK, Settings, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

FIRST = MemoryKeys().signer("tokens")
PUBLISHED = json.dumps(jwks_document(FIRST)).encode()


class TestProduction:
    """What only the development profile may have."""

    def settings(self, jwks: Path | str, **more: Any) -> Settings:
        return Settings(jwks=jwks, issuer="https://id.example", **more)

    def test_it_does_not_start_with_a_key_set_that_development_made(
        self, tmp_path: Path
    ) -> None:
        """Wherever it was copied to: the mark is in the key."""
        path = tmp_path / "jwks.json"
        path.write_text(json.dumps(jwks_document(FIRST, development=True)))
        with pytest.raises(SettingsError, match="GUISE_JWKS"):
            TokenAuthenticator.from_settings(self.settings(path))
        TokenAuthenticator.from_settings(self.settings(path, profile="development"))

    def test_it_does_not_take_one_later_either(self, tmp_path: Path) -> None:
        """What is mounted after the start is looked at when it is read."""
        path = tmp_path / "jwks.json"
        door = TokenAuthenticator.from_settings(self.settings(path))
        path.write_text(json.dumps(jwks_document(FIRST, development=True)))
        bearer = jwt.encode({}, FIRST.private, "EdDSA", headers={"kid": FIRST.kid})
        with pytest.raises(Unavailable):
            door.caller(f"Bearer {bearer}")

    @pytest.mark.parametrize("content", [b"{", b"[]", PUBLISHED])
    def test_any_other_file_is_looked_at_when_it_is_needed(
        self, tmp_path: Path, content: bytes
    ) -> None:
        """A start costs no parsing of keys, and fails for no file that may change."""
        path = tmp_path / "jwks.json"
        path.write_bytes(content)
        TokenAuthenticator.from_settings(self.settings(path))

    def test_an_address_is_asked_for_nothing_at_the_start(self) -> None:
        """A function starts while its issuer is away."""
        TokenAuthenticator.from_settings(self.settings("https://id.invalid/jwks"))

    def test_it_does_not_start_with_developments_issuer_or_keys(
        self, tmp_path: Path
    ) -> None:
        """Both are told at once; development has them."""
        (tmp_path / DEVELOPMENT_MARK).touch()
        environ = {"GUISE_ISSUER": "guise-local", "GUISE_KEYS": os.fspath(tmp_path)}
        with pytest.raises(SettingsError, match=r"GUISE_ISSUER.*GUISE_KEYS"):
            Settings.from_env(environ)
        Settings.from_env({**environ, "GUISE_PROFILE": "development"})
        (tmp_path / DEVELOPMENT_MARK).unlink()
        Settings.from_env({"GUISE_KEYS": os.fspath(tmp_path)})

    @pytest.mark.parametrize(
        "text",
        [
            "http://id.example/jwks",
            "https://user:pass@id.example/jwks",
            "https://id.example/jwks#x",
            "https://",
            "https://id.example/a b",
            "file:///etc/passwd",
            "ftp://id.example/jwks",
        ],
    )
    def test_an_address_that_is_not_plain_https_is_a_fault(self, text: str) -> None:
        """It is found at the start."""
        with pytest.raises(SettingsError, match="GUISE_JWKS"):
            Settings.from_env({"GUISE_JWKS": text})

    def test_an_https_address_is_taken_as_it_stands(self) -> None:
        """A final slash is part of a path."""
        url = "https://id.example/keys/"
        assert Settings.from_env({"GUISE_JWKS": url}).jwks == url
