"""Whom an invoice is made out to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.billing.app import create_app
from functions.billing.customers import names_in
from functions.problems import Unavailable
from functions.roster import Spec, write
from functions.settings import Settings
from tests.billing.house import BOTH, TokensByName, clock

if TYPE_CHECKING:
    from pathlib import Path

    from functions.billing.ledger import Ledger
    from tests.billing.house import House

DATABASES = BOTH


def spec(folder: Path, name: str) -> Path:
    """Write acme's spec into a folder of specs."""
    folder.mkdir(exist_ok=True)
    (folder / "acme.yaml").write_bytes(write(Spec(id="acme", name=name)))
    return folder


def test_a_draft_names_the_tenant_as_its_spec_does(
    house: House, ledger: Ledger, tmp_path: Path
) -> None:
    """Where the function knows the specs; who has none is called by the id."""
    app = create_app(
        Settings(tenants=spec(tmp_path / "tenants", "Acme & Sons")),
        ledger=ledger,
        keys=house.keys,
        authenticator=TokensByName(),
        now=clock,
    )

    def customer(tenant: str) -> str:
        bearer = {"Authorization": f"Bearer {tenant}"}
        path = f"/v1/tenants/{tenant}/invoices/2026-11"
        found = app.test_client().get(path, headers=bearer).get_json()
        return str(found["customer"]["name"])

    assert customer("acme") == "Acme & Sons"
    assert customer("other") == "other"
    spec(tmp_path / "tenants", "Acme GmbH of Vienna")
    assert customer("acme") == "Acme GmbH of Vienna"


def test_who_has_no_name_is_called_by_the_id(tmp_path: Path) -> None:
    """As where there are no specs at all."""
    assert names_in(None)("acme") == names_in(spec(tmp_path, ""))("acme") == "acme"


def test_a_spec_that_cannot_be_read_gives_no_name(tmp_path: Path) -> None:
    """An invoice keeps its customer for ever, and can wait for the spec."""
    called = names_in(spec(tmp_path, "Acme"))
    (tmp_path / "acme.yaml").write_text("id: [")
    with pytest.raises(Unavailable):
        called("acme")
