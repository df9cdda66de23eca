"""Commands on a home work where its stack does, or not at all."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from functions.cli.tenant.place import Place
from functions.envelopes import Envelopes
from functions.local.home import Home, Places
from functions.problems import Conflict
from functions.settings import SettingsError
from functions.storage.encrypted import EncryptedStore
from functions.storage.file import FileStore
from functions.tenant import Key, Tenant
from tests.tenants.home import guise, up

if TYPE_CHECKING:
    from pathlib import Path

ACME, DEMO = Tenant("acme"), Tenant("demo")
A = ACME.upload("uploads/a.jpg")


def test_keys_of_the_stack_that_ran_are_destroyed_and_no_others(
    tmp_path: Path,
) -> None:
    """Whatever the shell that shreds has in its environment."""
    home, secure = tmp_path / "home", tmp_path / "secure"
    with up(home, GUISE_ENVELOPES=str(secure)):
        guise(home, "create", "acme", "--data", "1")
        assert (secure / "acme/1.key").exists()
    folder = home / "tenants/acme"
    EncryptedStore(folder, ACME, Envelopes(secure)).put(A, b"a face")
    guise(home, "suspend", "acme")
    said = guise(
        home, "shred", "acme", "--yes", code=1, GUISE_ENVELOPES=str(tmp_path / "else")
    )
    assert "is not what the stack of" in said.stderr
    assert (secure / "acme/1.key").exists()
    guise(home, "shred", "acme", "--yes")
    assert not list(secure.glob("acme/*.key"))


def test_the_store_of_the_stack_that_ran_is_emptied_and_no_other(
    tmp_path: Path,
) -> None:
    """Without a word of where it is."""
    home, srv = tmp_path / "home", tmp_path / "srv"
    with up(home, "--store", f"file://{srv}/{{tenant}}"):
        guise(home, "create", "acme")
    FileStore(srv / "acme").put(A, b"a face")
    guise(home, "suspend", "acme")
    other = f"file://{tmp_path}/other/{{tenant}}"
    guise(home, "delete", "acme", "--yes", "--store", other, code=1)
    assert FileStore(srv / "acme").get(A).data == b"a face"
    # A stack that ran for long enough has put what is its own beside it.
    found = FileStore(srv / "acme").list(Key("")).objects
    said = guise(home, "delete", "acme", "--yes")
    assert f"is deleted: {len(found)} object" in said.stdout
    assert not (srv / "acme").exists()


def test_a_home_that_is_moved_takes_its_own_places_along(tmp_path: Path) -> None:
    """What is in it is not called by where it was."""
    Home(tmp_path / "home").root.mkdir()
    here = Home(tmp_path / "home")
    here.put_places(store=here.store_url, envelopes=str(here.envelopes))
    shutil.move(tmp_path / "home", tmp_path / "moved")
    place = Place(tmp_path / "moved")
    assert place.places == Places()
    assert place.store_url() == Home(tmp_path / "moved").store_url
    assert place.envelopes == str(tmp_path / "moved/keys/envelopes")


def test_another_audit_than_the_home_s_is_refused(tmp_path: Path) -> None:
    """The tenant's log is where its stack wrote it."""
    home = Home(tmp_path)
    home.put_places(store=home.store_url, envelopes=str(home.envelopes))
    with (
        pytest.raises(Conflict, match="is not what the stack"),
        Place(tmp_path, audit="http://127.0.0.1:9").auditor(),
    ):
        pass
    (tmp_path / "keys").mkdir()
    with Place(tmp_path).auditor() as auditor:
        auditor.wake()


def test_another_database_than_the_home_s_is_refused(tmp_path: Path) -> None:
    """What audit kept privately would be said to be forgotten."""
    home = tmp_path / "home"
    guise(home, "create", "acme", "--data", "1")
    guise(home, "suspend", "acme")
    Home(home).put_places(store=Home(home).store_url, envelopes="")
    other = ("--database", f"sqlite:///{tmp_path}/other.db")
    said = guise(home, "shred", "acme", "--yes", *other, code=1)
    assert "is not what the stack of" in said.stderr
    assert list(home.glob("keys/envelopes/acme/*.key"))


def test_half_of_another_installation_is_refused(tmp_path: Path) -> None:
    """Specs of one and keys of another fit nobody."""
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.put_places(store=home.store_url, envelopes="")
    with pytest.raises(Conflict, match="the other is not"):
        Place(home.root, tenants=tmp_path / "specs").store_url()
    elsewhere = Place(home.root, tenants=tmp_path / "specs", keys=tmp_path / "keys")
    assert elsewhere.places is None


def test_a_store_that_is_one_tenant_s_is_nobody_else_s(tmp_path: Path) -> None:
    """What is deleted of another is not deleted there."""
    home = Home(tmp_path)
    home.put_places(store=f"file://{tmp_path}/demo", envelopes="", tenant="demo")
    place = Place(tmp_path)
    place.stores(DEMO).of(DEMO).put(Key("uploads/b.jpg"), b"demo's")
    with pytest.raises(Conflict, match="serves demo alone"):
        place.stores(ACME)


def test_places_that_cannot_be_read_are_no_places(tmp_path: Path) -> None:
    """Nothing is done on a guess."""
    (tmp_path / "places.json").write_text("{")
    with pytest.raises(SettingsError, match=r"places\.json"):
        Place(tmp_path).store_url()
