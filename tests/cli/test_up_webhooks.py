"""What `guise up` calls by webhook: this machine too, where the stores are folders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from functions.cli.up import sweep_all
from functions.local.home import Running
from functions.roster import EveryTenant
from functions.settings import Limits
from functions.storage import Stores, open_store
from functions.storage.memory import MemoryStore
from functions.swap import webhooks
from functions.tenant import WEBHOOKS
from tests.swap.house import ACME, SWAP, House, picture
from tests.swap.receiver import receiving

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  # published
NOWHERE = Running(0, {"audit": "http://127.0.0.1:9", "broker": "http://127.0.0.1:9"})


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
        sweep_all(tmp_path, EveryTenant(ACME), stores, {}, NOWHERE, limits=Limits())
        assert len(server.seen) == (not bucket)
    [call] = webhooks.shown(ACME, job, store)
    assert call["state"] == ("due" if bucket else "done")
