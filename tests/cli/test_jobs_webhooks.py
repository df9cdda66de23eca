"""`guise jobs show` of a job whose ending was told by webhook."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from functions.swap.sweeper import call_back
from functions.tenant import WEBHOOKS
from tests.cli.test_jobs import at, home, house_in, run
from tests.swap.house import SWAP
from tests.swap.receiver import receiving

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

__all__ = ["home"]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  # published


def test_every_try_is_shown(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its status; and the secret is nowhere."""
    house = house_in(home)
    with receiving() as server:
        wish = {"name": "mine", "url": server.url, "secrets": [SECRET]}
        house.store.put(WEBHOOKS, json.dumps({"endpoints": [wish]}).encode())
        job = house.post(SWAP).json["job"]  # type: ignore[index]
        waiting = json.loads(run(capsys, "show", job, *at(home), "--json"))
        assert waiting["webhooks"] == [{"state": "due"}]
        call_back(house.books, loopback=True)
    printed = run(capsys, "show", job, *at(home), "--json")
    [call] = json.loads(printed)["webhooks"]
    assert (call["endpoint"], call["state"]) == ("mine", "done")
    assert [each["status"] for each in call["tries"]] == [204]
    assert SECRET not in printed
