"""The folder of one machine: private, prepared, held by one."""

from __future__ import annotations

import json
import os
import stat
import time
from typing import TYPE_CHECKING

import jwt
import pytest

from functions.auth import TokenAuthenticator
from functions.database import open_database
from functions.keys import FileKeys
from functions.local.home import TOKEN_SECONDS, Home, HomeTaken, Running
from functions.local.queue import Queue
from functions.storage.locate import Stores
from functions.tenant import Tenant
from models.shelf import building

if TYPE_CHECKING:
    from pathlib import Path

ACME, OTHER = Tenant("acme"), Tenant("other")


def prepared(root: Path) -> Home:
    home = Home(root / "home")
    home.prepare([ACME, OTHER])
    return home


@pytest.mark.parametrize("name", ["a?b=c", "a%41", "a%", "a#b", "ä b"])
def test_attack_a_home_whose_name_means_something_in_a_url(
    tmp_path: Path, name: str
) -> None:
    """The database and the stores lie in this folder and in no other."""
    home = prepared(tmp_path / name)
    engine = open_database(home.database_url("audit"))
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    engine.dispose()
    assert (home.root / "audit.db").is_file()
    Stores(home.store_url).of(ACME).put(ACME.request("job-1"), b"{}")
    assert (home.tenants / "acme" / "requests" / "job-1.json").is_file()


def door(home: Home) -> TokenAuthenticator:
    return TokenAuthenticator(home.jwks, issuer="guise-local", audience="guise")


def test_everything_is_made_and_private(tmp_path: Path) -> None:
    """Keys, token and stores are for their owner's eyes only."""
    home = prepared(tmp_path)
    for name in ("audit.key", "tokens.key", "events/acme.key", "events/other.key"):
        assert stat.S_IMODE((home.keys / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(home.token.stat().st_mode) == 0o600
    for folder in (home.root, home.keys, home.tenants / "acme", home.run):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (home.tenants / "other" / "requests").is_dir()
    assert (home.tenants / "other" / "uploads").is_dir()


def modes(home: Home) -> dict[str, str]:
    """Return who may do what with each database and spec in the home."""
    return {
        path.name: oct(stat.S_IMODE(path.lstat().st_mode))
        for path in (*home.root.glob("*.db*"), *home.tenants.glob("*.yaml"))
    }


def test_a_home_in_which_a_pack_lay_first_is_its_owner_s_alone(tmp_path: Path) -> None:
    """As is every database that functions and broker make in it, and every spec."""
    home = Home(tmp_path / "home")
    with building(home.root / "models", "lite", "1.0.0"):
        pass
    home.root.chmod(0o755)
    (home.root / "audit.db").touch(0o644)
    os.close(home.lock())
    home.prepare([ACME])
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    engine = open_database(home.database_url("billing"))
    queue = Queue(home.queue)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
        found = modes(home)
    engine.dispose()
    queue.close()
    names = {"audit.db", "billing.db", "billing.db-wal", "broker.db", "broker.db-wal"}
    assert names | {"acme.yaml"} <= found.keys()
    assert set(found.values()) == {"0o600"}


def test_the_token_opens_the_door(tmp_path: Path) -> None:
    """A function that is given our JWKS takes it: tenant, scopes, thirty days."""
    home = prepared(tmp_path)
    authenticator = TokenAuthenticator(
        home.jwks, issuer="guise-local", audience="guise"
    )
    caller = authenticator.caller(f"Bearer {home.token.read_text()}")
    assert caller.tenant == ACME
    assert caller.scopes == {"swap:write", "swap:read", "audit:read", "billing:read"}
    claims = jwt.decode(home.token.read_text(), options={"verify_signature": False})
    assert claims["exp"] - time.time() == pytest.approx(TOKEN_SECONDS, abs=60)


def test_a_token_for_another_tenant(tmp_path: Path) -> None:
    """It opens that tenant's door and no other's."""
    home = prepared(tmp_path)
    authenticator = TokenAuthenticator(
        home.jwks, issuer="guise-local", audience="guise"
    )
    caller = authenticator.caller(f"Bearer {home.issue(OTHER, subject='eve')}")
    assert (caller.tenant, caller.subject) == (OTHER, "eve")


def test_keys_outlive_a_start(tmp_path: Path) -> None:
    """What was signed before still verifies: keys are made once, tokens each time."""
    home = prepared(tmp_path)
    before = FileKeys(home.keys).signer("events/acme").kid
    home.token.unlink()
    home.prepare([ACME])
    assert FileKeys(home.keys).signer("events/acme").kid == before
    assert home.token.exists()
    assert not list(home.root.glob(".token*"))


def test_a_home_without_tenants(tmp_path: Path) -> None:
    """There is nothing to serve."""
    with pytest.raises(ValueError, match="at least one"):
        Home(tmp_path).prepare([])


def test_the_store_url_is_every_tenants(tmp_path: Path) -> None:
    """Whatever the folder is called, a function finds the tenant's store in it."""
    home = Home(tmp_path / "a b%20ä")
    home.prepare([ACME])
    stores = Stores(home.store_url)
    stores.of(ACME).put(ACME.request("job"), b"{}")
    assert (home.tenants / "acme" / "requests" / "job.json").exists()
    assert stores.locate("acme", "a/b") == (ACME, "a/b")


def test_one_stack_a_home(tmp_path: Path) -> None:
    """The second is told which process runs, and where."""
    home = prepared(tmp_path)
    first = home.lock()
    with pytest.raises(HomeTaken, match="starting or ending"):
        home.lock()
    home.announce(Running(4711, {"door": "http://127.0.0.1:8080"}))
    with pytest.raises(HomeTaken, match=r"4711.*http://127\.0\.0\.1:8080"):
        home.lock()
    os.close(first)
    os.close(home.lock())


def test_who_runs_is_known_by_the_lock(tmp_path: Path) -> None:
    """A file that a killed stack left behind is no stack."""
    home = prepared(tmp_path)
    running = Running(4711, {"door": "http://127.0.0.1:8080"})
    assert Home(tmp_path / "never").running() is None
    assert home.running() is None
    home.announce(running)
    assert home.running() is None
    held = home.lock()
    assert home.running() == running
    (home.run / "stack.json").write_text("{")
    assert home.running() is None
    os.close(held)


def test_looking_in_does_not_keep_a_stack_from_starting(tmp_path: Path) -> None:
    """Whoever asks for the status holds the lock for a moment; the start waits."""
    home = prepared(tmp_path)
    held = home.lock()
    os.close(held)
    for _ in range(20):
        assert home.running() is None
        os.close(home.lock())


def test_the_newest_pack_is_found(tmp_path: Path) -> None:
    """By version, not by letters; only one that is finished."""
    home = Home(tmp_path)
    assert home.pack() is None
    for version in ("1.9.0", "1.10.0", "1.2.0-rc1"):
        folder = tmp_path / "models" / "lite" / version
        folder.mkdir(parents=True)
        (folder / "pack.json").write_text("{}")
    (tmp_path / "models" / "lite" / "2.0.0").mkdir()
    assert home.pack() == tmp_path / "models" / "lite" / "1.10.0"


def test_the_jwks_holds_no_private_key(tmp_path: Path) -> None:
    """It is published as it is."""
    [key] = json.loads(prepared(tmp_path).jwks.read_text())["keys"]
    assert set(key) == {"kty", "crv", "use", "alg", "kid", "x", "guise_profile"}


def test_who_has_no_spec_is_given_one(tmp_path: Path) -> None:
    """Of the defaults, whose gate is what the store says: who sits here is both."""
    home = prepared(tmp_path)
    spec = home.roster().spec(ACME)
    assert (spec.tier, spec.isolation.data, spec.policy.gate) == (
        "standard",
        0,
        "tenant",
    )


def test_a_spec_that_is_there_stays(tmp_path: Path) -> None:
    """A start changes no word of it, and makes nothing for who is no more."""
    home = Home(tmp_path / "home")
    home.tenants.mkdir(parents=True)
    text = b"state: deleted\nid: acme\n"
    (home.tenants / "acme.yaml").write_bytes(text)
    home.prepare([ACME])
    assert (home.tenants / "acme.yaml").read_bytes() == text
    assert not (home.tenants / "acme").exists()


def test_a_broken_spec_ends_no_start(tmp_path: Path) -> None:
    """It shuts out its tenant, and nobody else."""
    home = Home(tmp_path / "home")
    home.tenants.mkdir(parents=True)
    (home.tenants / "acme.yaml").write_text("id: [")
    home.prepare([ACME, OTHER])
    assert home.token.exists()
    assert (home.tenants / "other" / "requests").is_dir()
