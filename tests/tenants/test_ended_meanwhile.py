"""A request that began while its tenant was one, and ends when it is none."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.test import EnvironBuilder

from functions.keys import MemoryKeys
from functions.problems import Failed
from functions.roster import FolderRoster, Spec, write
from functions.storage.memory import MemoryStore
from functions.tenant import Key
from tests.swap.house import House, multipart, picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from werkzeug.test import TestResponse

    from functions.keys import Signer
    from functions.roster.spec import State


def put(folder: Path, state: State) -> None:
    (folder / "acme.yaml").write_bytes(write(Spec(id="acme", state=state)))


class Mortal(MemoryKeys):
    """Keys of which none signs any more once a tenant is deleted."""

    ended = False

    def signer(self, name: str) -> Signer:
        if self.ended:
            raise Failed(internal=f"{name} is destroyed")
        return super().signer(name)


class Slow(io.BytesIO):
    """A body during which something happens."""

    def __init__(self, data: bytes, meanwhile: Callable[[], None]) -> None:
        super().__init__(data)
        self.meanwhile = meanwhile

    def readinto(self, place: Any) -> int:
        self.meanwhile()
        return super().readinto(place)


class Watched(MemoryStore):
    """A store in which something happens once a job is written down."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def put_if_absent(self, key: Key, data: bytes) -> int:
        generation = super().put_if_absent(key, data)
        if key.endswith("/request.json"):
            self.meanwhile()
        return generation


def send(house: House, meanwhile: Callable[[], None]) -> TestResponse:
    """Send pictures, slowly enough that something happens before they are here."""
    form = multipart('{"operation":"detect"}', target=picture(2))
    whole = EnvironBuilder(method="POST", data=form).get_environ()
    data = whole["wsgi.input"].read()
    return house.door.post(
        "/v1/swaps",
        headers={"Authorization": "Bearer acme"},
        environ_overrides={
            "wsgi.input": Slow(data, meanwhile),
            "CONTENT_LENGTH": str(len(data)),
            "CONTENT_TYPE": whole["CONTENT_TYPE"],
        },
    )


@pytest.mark.parametrize("state", ["deleted", "shredded"])
@pytest.mark.parametrize("when", ["body", "writing"])
def test_no_picture_is_kept_of_who_was_deleted_meanwhile(
    tmp_path: Path, when: str, state: State
) -> None:
    """403 and nothing written, or nothing left; nothing is signed with a lost key."""
    put(tmp_path, "active")
    keys = Mortal()
    house = House(keys=keys, roster=FolderRoster(tmp_path), opener=lambda _: Watched())

    def end() -> None:
        put(tmp_path, state)
        keys.ended = True

    assert isinstance(house.store, Watched)
    if when == "writing":
        house.store.meanwhile = end
    answer = send(house, end if when == "body" else lambda: None)
    assert answer.status_code == 403
    assert answer.get_json()["type"] == "urn:guise:problem:unknown-tenant"
    assert not house.store.list(Key("")).objects
    assert (house.calls, house.sink.taken) == (0, [])


def test_who_is_suspended_while_the_body_comes_begins_nothing(tmp_path: Path) -> None:
    """What counts is the spec when the request is whole; that is on record."""
    put(tmp_path, "active")
    house = House(roster=FolderRoster(tmp_path), opener=lambda _: Watched())
    answer = send(house, lambda: put(tmp_path, "suspended"))
    assert answer.get_json()["type"] == "urn:guise:problem:tenant-suspended"
    assert not house.store.list(Key("")).objects
    assert [each.type for each in house.sink.taken] == ["dev.guise.swap.refused.v1"]


def test_a_spec_that_breaks_meanwhile_takes_nothing_back(tmp_path: Path) -> None:
    """Nobody can tell: the job is accepted, and waits for who can."""
    put(tmp_path, "active")
    house = House(roster=FolderRoster(tmp_path), opener=lambda _: Watched())
    assert isinstance(house.store, Watched)
    house.store.meanwhile = lambda: broken(tmp_path)
    house.worker_down = True
    answer = send(house, lambda: None)
    assert answer.status_code == 202
    put(tmp_path, "active")
    assert house.get(answer.headers["Location"]).status_code == 200


def broken(folder: Path) -> None:
    (folder / "acme.yaml").write_text("id: [")
