"""Who is promised a door and a worker of its own, at those that are not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from functions.problems import NotServedHere
from functions.roster import FolderRoster, Isolation, Models, Spec, roster_of, write
from functions.settings import Settings
from functions.swap import worker
from functions.swap.dispatch import requested
from tests.models.paper import write_pack
from tests.swap.house import ACME, SWAP, House, finalized, picture

if TYPE_CHECKING:
    from pathlib import Path

    from werkzeug.test import TestResponse

    from functions.tenant import Tenant

OWN = Isolation(compute=1)


def put(folder: Path, name: str = "acme", **spec: Any) -> None:
    """Write a tenant's spec, as the operator does."""
    (folder / f"{name}.yaml").write_bytes(write(Spec(id=name, **spec)))


def opened(folder: Path, tenant: Tenant | None = None) -> House:
    """Return a door and a worker with the roster that such a deployment has."""
    settings = Settings(profile="development", tenants=folder, tenant=tenant)
    house = House(tenant=tenant, profile="development", roster=roster_of(settings))
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    return house


def slug(answer: TestResponse) -> str:
    return str(answer.get_json()["type"]).rpartition(":")[2]


def test_a_pooled_door_serves_nobody_who_has_one_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither its asking nor its looking: 503, and the log says what mends it."""
    put(tmp_path, isolation=OWN)
    put(tmp_path, "bolt")
    house = opened(tmp_path)
    for answer in (house.post(SWAP), house.get("/v1/swaps")):
        assert (answer.status_code, slug(answer)) == (503, "not-served-here")
        assert "of its own" in answer.get_json()["detail"]
    assert "`guise tenant render acme`" in caplog.text
    assert "Traceback" not in caplog.text
    assert house.get("/v1/swaps", "bolt").status_code == 200
    assert not house.sink.taken


def test_a_pooled_worker_runs_nothing_that_was_promised_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was accepted before stays, for the worker of the tenant's own to run."""
    put(tmp_path)
    house = opened(tmp_path)
    accepted = house.post(SWAP, Prefer="respond-async").get_json()["job"]
    put(tmp_path, isolation=OWN)
    with caplog.at_level(logging.WARNING):
        for answer in (
            house.send(requested(accepted, house.books)),
            house.upload("j1", SWAP),
        ):
            assert (answer.status_code, slug(answer)) == (503, "not-served-here")
    assert "isolation.compute of acme is 1" in caplog.text
    assert not house.engine.calls
    put(tmp_path)
    assert house.send(requested(accepted, house.books)).status_code < 300
    assert "swap" in house.engine.calls


def test_its_own_door_and_worker_serve_it(tmp_path: Path) -> None:
    """A function that is pinned to the tenant is what was promised."""
    put(tmp_path, isolation=OWN)
    house = opened(tmp_path, ACME)
    assert house.post(SWAP).status_code == 201


@pytest.mark.parametrize(
    ("models", "level", "status"),
    [
        (Models(pin="1.0.0"), 1, 204),
        (Models(pin="9.9.9"), 1, 503),
        (Models(pin="1.0.0", pack="other"), 2, 503),
    ],
)
def test_a_worker_with_other_models_than_the_spec_says_runs_nothing(
    tmp_path: Path, models: Models, level: Any, status: int
) -> None:
    """Neither another version nor another pack."""
    specs = tmp_path / "specs"
    specs.mkdir()
    put(specs, isolation=Isolation(model=level, compute=1), models=models)
    house = opened(specs, ACME)
    pack = tmp_path / "pack"
    write_pack(pack)
    settings = Settings(profile="development", tenant=ACME, models=pack)
    unused: Any = None
    app = worker.create_app(
        settings,
        stores=house.stores,
        keys=house.keys,
        roster=house.roster,
        auditor=house.auditor,
        sink=house.sink,
        load=lambda: unused,
    )
    house.worker = app.test_client()
    answer = house.send(finalized("requests/j1.json"))
    assert answer.status_code == status, answer.text


def test_a_roster_that_is_everybody_s_lists_whom_it_serves(tmp_path: Path) -> None:
    """And of the others says why not."""
    put(tmp_path, isolation=OWN)
    put(tmp_path, "bolt")
    roster = FolderRoster(tmp_path, pooled=True)
    assert [spec.id for spec in roster.all()] == ["bolt"]
    with pytest.raises(NotServedHere):
        roster.spec(ACME)
