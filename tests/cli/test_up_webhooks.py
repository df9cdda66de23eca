"""What `guise up` calls by webhook: this machine too, where the stores are folders."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from functions.cli.up import sweep_all
from functions.local.home import Running
from functions.local.turns import Turns
from functions.problems import UnknownTenant
from functions.roster import EveryTenant, Spec
from functions.settings import Limits
from functions.storage import Stores, open_store
from functions.storage.memory import MemoryStore
from functions.swap import ledger, webhooks
from functions.tenant import WEBHOOKS, Tenant
from tests.swap.house import ACME, SWAP, House, picture
from tests.swap.receiver import receiving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from functions.storage import Store

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  # published
NOWHERE = Running(0, {"audit": "http://127.0.0.1:9", "broker": "http://127.0.0.1:9"})


class AtOnce(Turns):
    """Everybody's turn is now."""

    def ask(self, tenant: Tenant, work: Callable[[], object]) -> None:
        assert tenant == ACME
        work()


NOW: Any = {"limits": Limits(), "turns": AtOnce()}


@pytest.mark.parametrize("bucket", [False, True], ids=["folders", "a bucket"])
def test_this_machine_is_called_over_folders_alone(
    tmp_path: Path, *, bucket: bool
) -> None:
    """Who can write into a bucket is not always who sits here."""
    folder = tmp_path / "acme"
    store = MemoryStore() if bucket else open_store(folder.as_uri())
    house = House(opener=lambda _: store)
    for name in ("a.png", "b.png"):
        house.put(name, picture())
    stores = (
        Stores("memory://{tenant}", opener=lambda _: store)
        if bucket
        else Stores(f"{tmp_path.as_uri()}/{{tenant}}")
    )
    with receiving() as server:
        wish = {"name": "mine", "url": server.url, "secrets": [SECRET]}
        store.put(WEBHOOKS, json.dumps({"endpoints": [wish]}).encode())
        job = str(house.post(SWAP).json["job"])  # type: ignore[index]
        sweep_all(tmp_path, EveryTenant(ACME), stores, {}, NOWHERE, **NOW)
        assert len(server.seen) == (not bucket)
    [call] = webhooks.shown(ACME, job, store)
    assert call["state"] == ("due" if bucket else "done")


TARPITS = [Tenant(f"a{number}") for number in range(3)]


class Everybody:
    """A roster of the tarpits, and behind them acme."""

    def all(self) -> Sequence[Spec]:
        return [Spec(id=each.id) for each in (*TARPITS, ACME)]

    def spec(self, tenant: Tenant) -> Spec:
        for spec in self.all():
            if spec.id == tenant.id:
                return spec
        raise UnknownTenant


def wish(store: Store, *urls: str) -> None:
    """Want to be told at several addresses."""
    endpoints = [
        {"name": f"n{number}", "url": url, "secrets": [SECRET]}
        for number, url in enumerate(urls)
    ]
    store.put(WEBHOOKS, json.dumps({"endpoints": endpoints}).encode())


def test_webhooks_that_never_answer_keep_no_other_tenant_waiting(
    tmp_path: Path,
) -> None:
    """Neither its webhooks nor its sweep, of which storage is counted here."""
    stores = Stores(f"{tmp_path.as_uri()}/{{tenant}}")
    store = stores.of(ACME)
    house = House(opener=lambda _: store)
    for name in ("a.png", "b.png"):
        house.put(name, picture())
    with receiving() as server, receiving(silent=True) as tarpit:
        wish(store, server.url)
        job = str(house.post(SWAP).json["job"])  # type: ignore[index]
        record = ledger.record(ACME, job, store)
        assert record is not None
        for each in TARPITS:
            wish(stores.of(each), *[tarpit.url] * 5)
            webhooks.enqueue(record, tenant=each, store=stores.of(each))
        began = time.monotonic()
        more: Any = {"limits": Limits(), "turns": Turns()}
        sweep_all(tmp_path, Everybody(), stores, {}, NOWHERE, **more)
        while not server.seen:
            assert time.monotonic() - began < webhooks.CALL_SECONDS
            time.sleep(0.01)
        assert time.monotonic() - began < webhooks.CALL_SECONDS
