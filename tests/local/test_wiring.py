"""From a manifest to a process: the environment of each service here."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

import knative
from functions.envelopes import open_envelopes
from functions.local import manifests, wiring
from functions.local.home import Home
from functions.local.manifests import ManifestError, Service
from functions.local.ports import LOOPBACK, listen
from functions.local.stack import DOORS
from functions.roster import Isolation, Spec, write
from functions.settings import Limits, Settings, SettingsError, variables
from functions.storage import Stores
from functions.tenant import Tenant

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


def test_who_reads_stores_knows_whose_they_are(tmp_path: Path) -> None:
    """The specs, and the keys of those who are encrypted."""
    for service in SERVICES:
        settings = Settings.from_env(wiring.environ_of(service, place(tmp_path)))
        assert settings.tenants in {None, tmp_path / "tenants"}
        reads = bool(settings.store)
        assert (settings.envelopes == str(tmp_path / "keys" / "envelopes")) is reads
        assert settings.tenants or not reads


def test_the_operators_settings_reach_the_functions(tmp_path: Path) -> None:
    """Limits and rates, over what a manifest says; paths as seen from here."""
    given = {
        "GUISE_RATES": "rates.toml",
        "GUISE_JOB_SECONDS_MAX": "7",
        "GUISE_PRODUCER": "",
        "HOME": "/root",
    }
    told, settings = wiring.chosen(given)
    assert settings.limits.job_seconds_max == 7
    assert told == {
        "GUISE_RATES": str(Path.cwd() / "rates.toml"),
        "GUISE_JOB_SECONDS_MAX": "7",
    }
    there = replace(place(tmp_path), chosen=told)
    worker = replace(SERVICES[-1], environ={"GUISE_JOB_SECONDS_MAX": "9"})
    with listen(LOOPBACK, 0, "worker") as listener:
        made = wiring.spec(worker, there, listener=listener)
    assert made.environ["GUISE_JOB_SECONDS_MAX"] == "7"
    assert made.environ["GUISE_RATES"] == told["GUISE_RATES"]


def test_keys_of_a_service_may_be_said(tmp_path: Path) -> None:
    """Where an operator's own envelopes are named, they are those that are used."""
    url = "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/{tenant}?ring=/r"
    told, _ = wiring.chosen({"GUISE_ENVELOPES": url})
    there = replace(place(tmp_path), chosen=told)
    door = next(each for each in SERVICES if each.name == "door")
    with listen(LOOPBACK, 0, "door") as listener:
        made = wiring.spec(door, there, listener=listener)
    assert made.environ["GUISE_ENVELOPES"] == url


def test_what_the_stack_decides_may_not_be_said() -> None:
    """Each is refused by name, with what decides it; and what is no setting too."""
    given = {
        "GUISE_STORE": "s3://x",
        "GUISE_KEYS": "/keys",
        "GUISE_TYPO": "1",
        "GUISE_FACES_MAX": "many",
    }
    with pytest.raises(SettingsError) as caught:
        wiring.chosen(given)
    text = str(caught.value)
    assert "GUISE_STORE: the stack decides it: see --store" in text
    assert "GUISE_KEYS: the stack decides it" in text
    assert "GUISE_TYPO: no such setting" in text
    assert "GUISE_FACES_MAX: " in text


def test_all_that_a_stack_decides_is_a_setting() -> None:
    """And whatever it gives its functions, nobody else may: but for keys and limits."""
    assert set(wiring.OWN) <= variables()
    given = {
        name
        for service in SERVICES
        for name in wiring.environ_of(service, place(Path("/home")))
    }
    limits = {each.metadata["env"] for each in fields(Limits)}
    assert given - {"K_SINK"} - limits - set(wiring.OWN) <= {"GUISE_ENVELOPES"}


def test_the_stores_rest_as_the_specs_say(tmp_path: Path) -> None:
    """Encrypted for one and as they are for the other, from outside as from inside."""
    home = Home(tmp_path / "home")
    home.prepare([Tenant("demo")])
    vault = Spec(id="vault", isolation=Isolation(data=1))
    (home.tenants / "vault.yaml").write_bytes(write(vault))
    open_envelopes(str(home.envelopes)).make(Tenant("vault"))
    stores = wiring.stores(home, {})
    for name in ("demo", "vault"):
        stores.of(Tenant(name)).put(Tenant(name).request("job"), b"{}")
    assert (home.tenants / "demo" / "requests" / "job.json").exists()
    assert not (home.tenants / "vault" / "requests").exists()
