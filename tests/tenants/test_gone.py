"""Whose token opens what: nobody's who is deleted, everything's of who is there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from functions.auth import SWAP_READ, TokenAuthenticator, issue_token, jwks_document
from functions.events import OPERATOR
from functions.keys import MemoryKeys
from functions.problems import Unauthenticated, Unavailable
from functions.roster import Spec, write
from functions.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from functions.roster.spec import State

KEYS = MemoryKeys()


def asking(tmp_path: Path) -> TokenAuthenticator:
    """Return what a door asks in an installation whose specs lie in `tmp_path`."""
    path = tmp_path / "jwks.json"
    path.write_bytes(msgspec.json.encode(jwks_document(KEYS.signer("tokens"))))
    return TokenAuthenticator.from_settings(
        Settings(jwks=path, issuer="https://id.test", tenants=tmp_path)
    )


def bearer(tenant: str) -> str:
    """Return the header of a token that is good but for whose it is."""
    claims = {
        "iss": "https://id.test",
        "aud": "guise",
        "sub": "ada",
        "tenant": tenant,
        "scope": SWAP_READ,
        "exp": int(time.time()) + 60,
    }
    return f"Bearer {issue_token(KEYS.signer('tokens'), claims)}"


@pytest.mark.parametrize("state", ["active", "suspended"])
def test_a_token_of_who_is_there_is_theirs(tmp_path: Path, state: State) -> None:
    """Suspended ones read, erase and pay as before."""
    (tmp_path / "acme.yaml").write_bytes(write(Spec(id="acme", state=state)))
    assert asking(tmp_path).caller(bearer("acme")).tenant.id == "acme"


@pytest.mark.parametrize("state", ["deleted", "shredded", None])
def test_attack_token_of_a_deleted_tenant(tmp_path: Path, state: State | None) -> None:
    """It is nobody's at every door, in the words for one that never was anybody's."""
    if state:
        (tmp_path / "acme.yaml").write_bytes(write(Spec(id="acme", state=state)))
    asked = asking(tmp_path)
    with pytest.raises(Unauthenticated) as gone:
        asked.caller(bearer("acme"))
    with pytest.raises(Unauthenticated) as never:
        asked.caller(bearer("NOT A TENANT"))
    assert gone.value.document() == never.value.document()
    assert gone.value.detail == "the token names no tenant that is known here"


def test_a_token_opens_nothing_while_its_spec_is_broken(tmp_path: Path) -> None:
    """Whether there is such a tenant cannot be told; another time it can."""
    (tmp_path / "acme.yaml").write_text("id: acme\ntier: gold\n")
    with pytest.raises(Unavailable):
        asking(tmp_path).caller(bearer("acme"))


def test_the_operator_s_own_token_is_no_tenant_s(tmp_path: Path) -> None:
    """It has no spec, and reads the books that stay of who is gone."""
    assert asking(tmp_path).caller(bearer(OPERATOR)).tenant.id == OPERATOR
