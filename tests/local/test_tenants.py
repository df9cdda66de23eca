"""Whom one machine serves: as the specs say, and from when they say it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

import knative
from functions.local.home import Home
from functions.local.manifests import ManifestError
from functions.local.stack import DOORS
from functions.local.tenants import Blueprint, Tenants
from functions.roster import Isolation, Spec, write
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from functions.local import manifests
    from functions.local.manifests import Ping, Trigger


@dataclass
class Wires:
    """A broker, watchers and timers that note what they are told."""

    brokers: set[str] = field(default_factory=set)
    triggers: dict[str, Trigger] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    watched: list[str] = field(default_factory=list)
    pings: list[str] = field(default_factory=list)
    served: int = 0

    def serve(
        self,
        brokers: Iterable[manifests.Broker],
        triggers: Iterable[Trigger],
        held: Iterable[str] = (),
    ) -> None:
        self.served += 1
        self.brokers = {each.namespace for each in brokers}
        self.triggers = {each.key: each for each in triggers}
        self.held = set(held)

    def watch(self, specs: Sequence[Spec]) -> None:
        self.watched = [each.id for each in specs]

    def tick(self, pings: Sequence[Ping]) -> None:
        self.pings = [each.namespace for each in pings]


class Town:
    """A home, whose tenants come and go, and what was made of it."""

    def __init__(self, root: Path, *, region: str = "") -> None:
        self.home = Home(root / "home")
        self.home.prepare([Tenant("demo")])
        self.wires = Wires()
        self.tenants = Tenants(
            self.home.roster(region),
            Blueprint(knative.folder(), DOORS, lambda tenant: f"{tenant.id}/"),
            welcome=self.home.welcome,
            broker=self.wires,
            watch=self.wires.watch,
            tick=self.wires.tick,
        )
        self.tenants.look()

    def spec(self, name: str, text: bytes | None = None, **fields: object) -> None:
        spec = Spec(id=name, **fields)  # type: ignore[arg-type]
        path = self.home.tenants / f"{name}.yaml"
        path.write_bytes(text or write(spec))
        self.tenants.look()


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def test_a_spec_that_appears_is_served(town: Town) -> None:
    """Its own broker, Triggers, watch and tick, its keys, and its store's folders."""
    town.spec("acme")
    wires = town.wires
    assert wires.watched == ["acme", "demo"]
    assert wires.brokers == {"guise-acme", "guise-demo"}
    assert wires.pings == ["guise-acme", "guise-demo"]
    trigger = wires.triggers["guise-acme/endings-to-audit"]
    assert trigger.subscriber.uri == "/v1/tenants/acme/events"
    assert (town.home.keys / "events" / "acme.key").exists()
    assert (town.home.tenants / "acme" / "requests").is_dir()


def test_a_trigger_knows_where_its_tenants_objects_lie(town: Town) -> None:
    """Only what is uploaded under the tenant's own prefix passes."""
    town.spec("acme")
    passes = town.wires.triggers["guise-acme/upload-to-worker"].passes
    event = {"type": "google.cloud.storage.object.v1.finalized"}
    assert passes(event | {"subject": "objects/acme/requests/a.json"})
    assert not passes(event | {"subject": "objects/demo/requests/a.json"})


def test_what_has_not_changed_is_left_alone(town: Town) -> None:
    """A look that finds nothing new tells nobody anything."""
    town.spec("acme")
    served = town.wires.served
    for _ in range(3):
        town.tenants.look()
    assert town.wires.served == served


def test_a_suspended_tenant_is_served(town: Town) -> None:
    """To refuse is for the functions, who put it on record."""
    town.spec("acme", state="suspended")
    assert "acme" in town.wires.watched
    assert town.wires.held == set()


@pytest.mark.parametrize("state", ["deleted", "shredded"])
def test_a_tenant_that_is_no_more(town: Town, state: str) -> None:
    """Nothing of it begins, and what is owed to its log and its bill is delivered."""
    town.spec("acme")
    town.spec("acme", state=state)
    wires = town.wires
    assert wires.watched == ["demo"]
    assert wires.pings == ["guise-demo"]
    assert "guise-acme/usage-to-billing" in wires.triggers
    assert wires.held == set()


def test_no_key_is_made_for_who_is_no_more(town: Town) -> None:
    """Least of all for one whose keys were destroyed."""
    town.spec("acme", state="shredded")
    assert not (town.home.keys / "events" / "acme.key").exists()
    assert not (town.home.tenants / "acme").exists()


def test_a_spec_that_is_taken_away(town: Town) -> None:
    """Nothing is left of it here."""
    town.spec("acme")
    (town.home.tenants / "acme.yaml").unlink()
    town.tenants.look()
    assert town.wires.watched == ["demo"]
    assert town.wires.brokers == {"guise-demo"}


def test_a_broken_spec_shuts_out_its_tenant_alone(town: Town) -> None:
    """What is owed to it waits; the others are served; and it is when it is mended."""
    town.spec("acme")
    town.spec("acme", b"id: [")
    wires = town.wires
    assert wires.watched == ["demo"]
    assert wires.held == {"guise-acme"}
    assert "guise-acme" in wires.brokers
    town.spec("acme")
    assert wires.watched == ["acme", "demo"]
    assert wires.held == set()


def test_an_encrypted_store_has_no_folders_of_ours(town: Town) -> None:
    """The names in it are the store's own to make."""
    town.spec("vault", isolation=Isolation(data=1))
    assert "vault" in town.wires.watched
    assert not (town.home.tenants / "vault").exists()


def test_a_tenant_of_another_region(tmp_path: Path) -> None:
    """It is not served here."""
    town = Town(tmp_path, region="eu")
    town.spec("acme", region="eu")
    town.spec("beta", region="us")
    assert town.wires.watched == ["acme", "demo"]


def test_who_cannot_be_welcomed_is_held_until_it_can(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk's fault is one tenant's, is told once, and is no end."""
    path = town.home.tenants / "acme"
    path.write_text("no folder")
    town.spec("acme")
    town.tenants.look()
    assert town.wires.watched == ["demo"]
    assert town.wires.held == {"guise-acme"}
    assert caplog.text.count("acme cannot be served") == 1
    path.unlink()
    town.tenants.look()
    assert town.wires.watched == ["acme", "demo"]


def test_a_folder_that_cannot_be_read(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    """Whom we served we go on serving."""
    away = town.home.root / "away"
    town.home.tenants.rename(away)
    for _ in range(3):
        town.tenants.look()
    assert town.wires.watched == ["demo"]
    assert len(caplog.records) == 1
    away.rename(town.home.tenants)
    town.spec("acme")
    assert town.wires.watched == ["acme", "demo"]


@pytest.mark.parametrize("name", ["123", "null", "true", "1e3", "0x1f", "no"])
def test_attack_an_id_that_yaml_takes_for_something_else(town: Town, name: str) -> None:
    """It is text wherever a manifest names it."""
    town.spec(name)
    trigger = town.wires.triggers[f"guise-{name}/usage-to-billing"]
    assert trigger.subscriber.uri == f"/v1/tenants/{name}/events"


def test_a_service_without_a_place(tmp_path: Path) -> None:
    """It is refused by its name before anything is opened."""
    shutil.copytree(knative.folder(), tmp_path / "knative")
    with pytest.raises(ManifestError, match="worker"):
        Blueprint(tmp_path / "knative", set(DOORS) - {"worker"}, lambda _: "")
