"""From a manifest to a process: the environment of each service here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import knative
from functions.local import manifests, wiring
from functions.local.home import Home
from functions.local.manifests import ManifestError, Service
from functions.local.stack import DOORS
from functions.settings import Settings
from functions.storage import Stores
from functions.tenant import Tenant

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {"tenant": "acme", "prefix": ""}
SERVICES = (
    *manifests.read(knative.folder() / manifests.SYSTEM).services,
    *manifests.read(knative.folder() / manifests.TENANT, VALUES).services,
)
URLS = {name: f"http://127.0.0.1:{8080 + n}" for n, name in enumerate(DOORS)}


def place(root: Path) -> wiring.Place:
    return wiring.Place(home=Home(root), urls=URLS, models=root / "pack")


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_every_function_reads_what_it_is_given(
    tmp_path: Path, service: Service
) -> None:
    """Its settings have no fault, no cluster address, and the development profile."""
    environ = wiring.environ_of(service, place(tmp_path))
    settings = Settings.from_env(environ)
    assert settings.profile == "development"
    assert settings.tenant is None
    assert settings.keys == tmp_path / "keys"
    assert not [value for value in environ.values() if ".svc" in value]


def test_the_worker_is_wired(tmp_path: Path) -> None:
    """Store, models and audit are this machine's."""
    [worker] = [each for each in SERVICES if each.name == "worker"]
    settings = Settings.from_env(wiring.environ_of(worker, place(tmp_path)))
    assert settings.store == f"file://{tmp_path}/tenants/{{tenant}}"
    assert settings.models == tmp_path / "pack"
    assert settings.audit_url == URLS["audit"]


def test_who_vouches_for_a_pack(tmp_path: Path) -> None:
    """The home's own keys where there are any, and nobody where there are none."""
    [worker] = [each for each in SERVICES if each.name == "worker"]
    home = place(tmp_path)
    assert "GUISE_MODEL_KEYS" not in wiring.environ_of(worker, home)
    (tmp_path / "trust").mkdir()
    settings = Settings.from_env(wiring.environ_of(worker, home))
    assert settings.model_keys == tmp_path / "trust"


def test_what_the_operator_answers_for(tmp_path: Path) -> None:
    """`guise models accept` writes where the worker reads, from the first start on."""
    [worker] = [each for each in SERVICES if each.name == "worker"]
    home = place(tmp_path)
    settings = Settings.from_env(wiring.environ_of(worker, home))
    home.home.prepare([Tenant("demo")])
    assert settings.acceptances == tmp_path / "acceptances"
    assert settings.acceptances.is_dir()


def test_each_database_is_its_functions_own(tmp_path: Path) -> None:
    """Audit and billing share nothing."""
    found = {
        each.name: Settings.from_env(wiring.environ_of(each, place(tmp_path))).database
        for each in SERVICES
    }
    assert found["audit"] == f"sqlite:///{tmp_path}/audit.db"
    assert found["billing"] == f"sqlite:///{tmp_path}/billing.db"


def test_without_a_pack_the_setting_is_left_out(tmp_path: Path) -> None:
    """The worker then says which setting it misses."""
    [worker] = [each for each in SERVICES if each.name == "worker"]
    bare = replace(place(tmp_path), models=None)
    assert "GUISE_MODELS" not in wiring.environ_of(worker, bare)


def test_a_secret_that_this_machine_does_not_have(tmp_path: Path) -> None:
    """A manifest that asks for one is refused, by the variable's name."""
    service = replace(SERVICES[0], environ={"GUISE_DEVICE": None})
    with pytest.raises(ManifestError, match="GUISE_DEVICE"):
        wiring.environ_of(service, place(tmp_path))


def test_what_a_function_inherits() -> None:
    """The shell's environment without what configures us, or moves gunicorn."""
    shell = {
        "PATH": "/bin",
        "GUISE_STORE": "memory:",
        "K_SINK": "http://elsewhere",
        "PORT": "1",
        "GUNICORN_CMD_ARGS": "--workers 9",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ACTIVATOR_PID": "1",
    }
    assert wiring.inherited(shell) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("url", "tenant"),
    [("s3://data?endpoint=http://minio:9000", "acme"), ("s3://{tenant}", None)],
)
def test_where_the_tenants_data_lies_may_be_said(
    tmp_path: Path, url: str, tenant: str | None
) -> None:
    """A URL that is one tenant's pins whoever reads it to that tenant."""
    stores = Stores(url, pinned=Tenant(tenant) if tenant else None)
    there = replace(place(tmp_path), stores=stores)
    readers = set()
    for service in SERVICES:
        environ = wiring.environ_of(service, there)
        if "GUISE_STORE" in environ:
            readers.add(service.name)
            assert environ["GUISE_STORE"] == url
            assert environ.get("GUISE_TENANT") == tenant
        else:
            assert "GUISE_TENANT" not in environ
    assert readers == {"billing", "door", "worker"}
