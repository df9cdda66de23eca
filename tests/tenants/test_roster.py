"""The roster: who the tenants are, from real files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from functions.events import OPERATOR
from functions.problems import Unavailable, UnknownTenant
from functions.roster import EveryTenant, FolderRoster, Spec, roster_of, write
from functions.settings import Settings, SettingsError
from functions.tenant import Tenant

if TYPE_CHECKING:
    from pathlib import Path

    from functions.roster.spec import State

ACME, BETA = Tenant("acme"), Tenant("beta")


def put(folder: Path, spec: Spec) -> Path:
    """Write a spec as `guise tenant` does: all of it, or none."""
    path = folder / f"{spec.id}.yaml"
    fresh = folder / f".{spec.id}"
    fresh.write_bytes(write(spec))
    return fresh.replace(path)


def test_who_has_a_file_is_a_tenant(tmp_path: Path) -> None:
    """And nobody else: not a folder, not another suffix, not a name that is none."""
    put(tmp_path, Spec(id="acme"))
    put(tmp_path, Spec(id="beta", state="suspended"))
    (tmp_path / "acme").mkdir()
    (tmp_path / "gone.yml").write_text("id: gone")
    (tmp_path / "NOT.yaml").write_text("id: NOT")
    roster = FolderRoster(tmp_path)
    assert [spec.id for spec in roster.all()] == ["acme", "beta"]
    assert roster.spec(BETA).state == "suspended"
    with pytest.raises(UnknownTenant):
        roster.spec(Tenant("gone"))


@pytest.mark.parametrize("state", ["deleted", "shredded"])
def test_who_is_gone_is_unknown(tmp_path: Path, state: State) -> None:
    """The file stays, so that the id is nobody else's; to doors there is no tenant."""
    put(tmp_path, Spec(id="acme", state=state))
    roster = FolderRoster(tmp_path)
    with pytest.raises(UnknownTenant):
        roster.spec(ACME)
    assert roster.all() == ()
    assert roster.read(ACME).state == state
    assert roster.names() == [ACME]


def test_a_changed_file_is_read_again_and_another_is_not(tmp_path: Path) -> None:
    """A spec takes effect without a restart, and costs a look while it is the same."""
    put(tmp_path, Spec(id="acme", name="one"))
    roster = FolderRoster(tmp_path)
    first = roster.spec(ACME)
    assert roster.spec(ACME) is first
    put(tmp_path, Spec(id="acme", name="two"))
    assert roster.spec(ACME).name == "two"
    (tmp_path / "acme.yaml").unlink()
    with pytest.raises(UnknownTenant):
        roster.spec(ACME)


def test_a_broken_file_shuts_out_that_tenant_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing runs on a guess; it is said once, and over as soon as it is mended."""
    path = put(tmp_path, Spec(id="acme"))
    put(tmp_path, Spec(id="beta"))
    path.write_text("id: acme\ntier: gold\n")
    roster = FolderRoster(tmp_path)
    for _ in range(3):
        with pytest.raises(Unavailable) as refused:
            roster.spec(ACME)
        assert not refused.value.detail
    assert [spec.id for spec in roster.all()] == ["beta"]
    (line,) = [record.message for record in caplog.records]
    assert "acme is shut out" in line
    assert "tier: invalid enum value 'gold'" in line
    put(tmp_path, Spec(id="acme"))
    assert roster.spec(ACME) == Spec(id="acme")


def test_what_cannot_be_read_is_not_taken_for_nobody(tmp_path: Path) -> None:
    """A disk's fault is another day's answer; nobody is told that they are unknown."""
    (tmp_path / "acme.yaml").mkdir()
    os.mkfifo(tmp_path / "beta.yaml")
    for tenant in (ACME, BETA):
        with pytest.raises(Unavailable):
            FolderRoster(tmp_path).spec(tenant)
    with pytest.raises(Unavailable):
        FolderRoster(tmp_path / "nowhere").all()


def test_a_spec_behind_a_link_is_read_again_when_the_link_moves(tmp_path: Path) -> None:
    """That is how the kubelet brings a ConfigMap up to date."""
    for number, name in enumerate(("one", "two")):
        (tmp_path / str(number)).mkdir()
        put(tmp_path / str(number), Spec(id="acme", name=name))
    served = tmp_path / "served"
    served.mkdir()
    (served / "..data").symlink_to(tmp_path / "0")
    (served / "acme.yaml").symlink_to("..data/acme.yaml")
    roster = FolderRoster(served)
    assert roster.spec(ACME).name == "one"
    (served / "..fresh").symlink_to(tmp_path / "1")
    (served / "..fresh").replace(served / "..data")
    assert roster.spec(ACME).name == "two"


def test_no_tenant_of_another_region_is_served(tmp_path: Path) -> None:
    """Who is to stay in one region is unknown in every other."""
    put(tmp_path, Spec(id="acme", region="eu-west"))
    put(tmp_path, Spec(id="beta"))
    assert FolderRoster(tmp_path, region="eu-west").spec(ACME).region == "eu-west"
    with pytest.raises(UnknownTenant):
        FolderRoster(tmp_path, region="us-east").spec(ACME)
    assert [spec.id for spec in FolderRoster(tmp_path, region="us-east").all()] == [
        "beta"
    ]


def test_memory_for_specs_is_bounded(tmp_path: Path) -> None:
    """However many tenants there are, one process keeps so many specs and no more."""
    roster = FolderRoster(tmp_path, kept_max=3)
    for number in range(5):
        (tmp_path / f"t{number}.yaml").write_text("broken")
        with pytest.raises(Unavailable):
            roster.spec(Tenant(f"t{number}"))
    assert len(roster._kept) == 2


# --- which roster ------------------------------------------------------------


def test_a_folder_is_named_by_the_settings(tmp_path: Path) -> None:
    """With its region, where the installation names one."""
    put(tmp_path, Spec(id="acme", region="eu-west"))
    environ = {"GUISE_TENANTS": str(tmp_path), "GUISE_REGION": "us-east"}
    roster = roster_of(Settings.from_env(environ))
    with pytest.raises(UnknownTenant):
        roster.spec(ACME)


def test_a_pooled_function_of_production_needs_to_know_the_tenants() -> None:
    """Else whoever has a token would be one, and without a quota."""
    with pytest.raises(SettingsError, match="GUISE_TENANTS: not set"):
        roster_of(Settings())


def test_development_serves_everybody_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On the defaults, with the tenant's own word for the gate."""
    roster = roster_of(Settings(profile="development"))
    assert "GUISE_TENANTS is not set" in caplog.text
    assert roster.spec(ACME).policy.gate == "tenant"
    assert roster.all() == ()
    with pytest.raises(UnknownTenant):
        roster.spec(Tenant(OPERATOR))


def test_a_pinned_function_knows_whose_it_is() -> None:
    """Without a folder it serves the one it is pinned to, and no other."""
    roster = roster_of(Settings(tenant=ACME))
    assert isinstance(roster, EveryTenant)
    assert [spec.id for spec in roster.all()] == ["acme"]
    with pytest.raises(UnknownTenant):
        roster.spec(BETA)


@pytest.mark.parametrize("region", ["EU", "-", "a/b", "x" * 33])
def test_a_region_is_a_plain_name(region: str) -> None:
    """As cloud providers write theirs."""
    with pytest.raises(SettingsError, match="GUISE_REGION"):
        Settings.from_env({"GUISE_REGION": region})
