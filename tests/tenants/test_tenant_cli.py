"""`guise tenant …` as an operator would use it, over a real home."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from typer.testing import CliRunner
from werkzeug.serving import make_server

from functions.audit.app import create_app
from functions.audit.log import Log
from functions.audit.store import Selection, select_entries
from functions.audit.store import Store as LogStore
from functions.auth import TokenAuthenticator, jwks_document
from functions.cli.commands import app
from functions.cli.jobs.work import Place as Jobs
from functions.cli.tenant.ending import empty
from functions.cli.tenant.place import Place
from functions.cli.tenant.token import KNOWN
from functions.events import TENANT_CHANGED
from functions.keys import FileKeys, events_key
from functions.local.home import ISSUER, Home
from functions.problems import (
    Conflict,
    Gone,
    InvalidRequest,
    NoReceipt,
    NotFound,
    Problem,
    Unauthenticated,
    UnknownTenant,
)
from functions.roster import FolderRoster, InvalidSpec, Spec, write
from functions.settings import Settings
from functions.storage import Stores
from functions.storage.memory import MemoryStore
from functions.tenant import BUDGET, Key, Tenant
from tests.audit.house import TokensByName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask import Flask
    from typer.testing import Result

ACME = Tenant("acme")
DOWN = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@contextmanager
def serving(function: Flask) -> Iterator[str]:
    """Yield the address at which a function answers."""
    server = make_server("127.0.0.1", 0, function, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def guise(*arguments: object) -> Result:
    """Run a command in this process; what it raises is what `main` would print."""
    return CliRunner().invoke(app, ["tenant", *map(str, arguments)])


def done(*arguments: object) -> str:
    """Run a command that must succeed, and return what it prints."""
    result = guise(*arguments)
    assert result.exit_code == 0, result.output or result.exception
    return result.stdout


def told(*arguments: object) -> Any:
    """Return the JSON that a command prints."""
    return json.loads(done(*arguments, "--json"))


def refused(kind: type[Problem], *arguments: object) -> str:
    """Run a command that must be refused, and return why."""
    result = guise(*arguments)
    assert isinstance(result.exception, kind), result.output or result.exception
    return result.exception.detail


def changes(home: Path, tenant: str = "acme") -> list[dict[str, Any]]:
    """Return what a tenant's log says the operator did, in order."""
    with (
        closing(LogStore.open(Home(home).database_url("audit"))) as store,
        store.reading(tenant) as db,
    ):
        leaves = [each.leaf for each in select_entries(db, Selection(tenant), 1_000)]
    found = [json.loads(leaf) for leaf in leaves]
    return [each["data"] for each in found if each["type"] == TENANT_CHANGED]


def process(*arguments: object, code: int = 0) -> str:
    """Run `guise` as a process, and return all it printed."""
    command = [sys.executable, "-m", "functions.cli", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_a_tenant_s_life_on_the_command_line(home: Path, tmp_path: Path) -> None:
    """Made, looked at, stopped, deleted; and its log still verifies from outside."""
    at = ("--home", home)
    said = process("tenant", "create", "acme", "--name", "Acme Ltd.", *at)
    assert "acme is a tenant, at level 0" in said
    assert f"guise tenant token acme --home {home}" in said
    assert "Acme Ltd." in process("tenant", "list", *at)
    assert process("tenant", "token", "acme", *at).count(".") == 2
    process("tenant", "suspend", "acme", "--actor", "ada", *at)
    said = process("tenant", "token", "acme", *at, code=1)
    why = "acme is suspended: it gets no token"
    assert said == f"error: {why} (urn:guise:problem:conflict)\n"
    process("tenant", "resume", "acme", *at)
    said = process("tenant", "delete", "acme", "--yes", *at, code=1)
    assert "acme is active: suspend it first" in said
    process("tenant", "suspend", "acme", *at)
    process("tenant", "delete", "acme", "--yes", *at)
    assert "deleted" in process("tenant", "list", *at)
    keys = tmp_path / "keys"
    keys.write_text(process("audit", "keys", "--tenant", "acme", *at))
    bundle = tmp_path / "bundle.zip"
    process("audit", "export", "--tenant", "acme", "-o", bundle, *at)
    process("audit", "verify", bundle, "--key", keys)
    kinds = [each["change"] for each in changes(home)]
    assert kinds == ["created", "suspended", "resumed", "suspended", "deleted"]


def test_the_help_names_every_command() -> None:
    """Each says in one line what it does."""
    text = process("tenant", "--help")
    names = ("create", "list", "show", "apply", "edit", "token", "suspend", "resume")
    more = ("delete", "render", "rotate", "envelop", "shred", "put", "get", "ls")
    for name in (*names, *more):
        assert f"\n  {name} " in text
        assert process("tenant", name, "--help")


def test_the_help_of_a_token_names_every_scope() -> None:
    """As the command knows them: nobody has to guess one wrong to be told."""
    text = " ".join(process("tenant", "token", "--help").split())
    assert ", ".join(KNOWN) in text


# --- create ------------------------------------------------------------------


def test_a_new_tenant_has_all_it_needs(home: Path) -> None:
    """Spec, key, folders of its store, and the first entry of its log."""
    made = told("create", "acme", "--tier", "trial", "--home", home)
    assert made["tenant"] == "acme"
    assert (made["level"], made["entry"], made["undone"]) == (0, 0, [])
    spec = FolderRoster(home / "tenants").spec(ACME)
    assert (spec.tier, spec.quotas.concurrency) == ("trial", 1)
    assert FileKeys(home / "keys").signer(events_key("acme")).kid
    assert (home / "tenants" / "acme" / "requests").is_dir()
    [entry] = changes(home)
    assert (entry["change"], entry["actor"]) == ("created", "operator")
    for folder in (home, home / "keys", home / "tenants", home / "tenants" / "acme"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in (home / "tenants" / "acme.yaml", home / "audit.db"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_is_kept_word_for_word(home: Path, tmp_path: Path) -> None:
    """Comments are the operator's, and stay through every change of state."""
    text = "# our best customer\nid: acme\nstate: active # for now\ntier: premium\n"
    (tmp_path / "acme.yaml").write_text(text)
    done("create", "acme", "--from", tmp_path / "acme.yaml", "--home", home)
    path = home / "tenants" / "acme.yaml"
    assert path.read_text() == text
    done("suspend", "acme", "--home", home)
    assert path.read_text().startswith("# our best customer\n")
    assert FolderRoster(home / "tenants").spec(ACME).state == "suspended"


@pytest.mark.parametrize(
    "text", ["{id: acme, tier: trial}", "id: acme\n'state': active\n"]
)
def test_a_file_that_cannot_be_mended_in_place_is_written_anew(
    home: Path, tmp_path: Path, text: str
) -> None:
    """Whatever its form, what it says afterwards is the spec in its new state."""
    (tmp_path / "acme.yaml").write_text(text)
    done("create", "acme", "--from", tmp_path / "acme.yaml", "--home", home)
    before = FolderRoster(home / "tenants").spec(ACME)
    done("suspend", "acme", "--home", home)
    after = FolderRoster(home / "tenants").spec(ACME)
    assert after == msgspec.structs.replace(before, state="suspended")


def test_what_one_machine_does_not_keep_is_said(home: Path) -> None:
    """At compute 1 the tenant is for a cluster, and nobody is sent to `guise up`."""
    at = ("--home", home)
    own = ("--data", 1, "--model", 1, "--compute", 1, "--set", "models.pin=1.1.0")
    said = done("create", "acme", *own, *at)
    assert "at level 1" in said
    assert "left to do: guise tenant render acme" in said
    assert "`guise up` here does not serve it" in said
    assert "guise tenant token" not in said
    [left] = told("edit", "acme", "--set", "tier=premium", *at)["undone"]
    assert "guise tenant render acme" in left
    done("create", "bolt", *at)
    assert "does not serve" in done("edit", "bolt", "--set", "isolation.compute=1", *at)
    assert told("edit", "bolt", "--set", "isolation.compute=0", *at)["undone"] == []


def test_options_and_fields_go_over_a_file(home: Path, tmp_path: Path) -> None:
    """What is said on the command line counts."""
    (tmp_path / "acme.yaml").write_text("tier: premium\nquotas: {concurrency: 2}\n")
    source = ("--from", tmp_path / "acme.yaml")
    fields = ("--region", "eu-west", "--set", "quotas.burst=7")
    more = ("--set", "quotas.requests_per_second=1", "--set", "policy.gate=tenant")
    done("create", "acme", *source, *fields, *more, "--home", home)
    spec = FolderRoster(home / "tenants").spec(ACME)
    assert (spec.tier, spec.region, spec.policy.gate) == (
        "premium",
        "eu-west",
        "tenant",
    )
    assert (spec.quotas.concurrency, spec.quotas.bucket) == (2, (1.0, 7))


@pytest.mark.parametrize(
    ("arguments", "kind", "why"),
    [
        (["--data", 2], InvalidSpec, "the pooled worker"),
        (["--set", "colour=red"], InvalidSpec, "colour: no such field"),
        (["--set", "quotas"], InvalidRequest, "say FIELD=VALUE"),
        (["--set", "quotas..x=1"], InvalidRequest, "say FIELD=VALUE"),
        (["--set", "quotas.gpus.x=1"], InvalidSpec, "quotas.gpus"),
        (["--set", "name=[a"], InvalidSpec, "line 1"),
        (["--set", "state=suspended"], InvalidRequest, "a new tenant is active"),
        (
            ["--set", "quotas.budget={limit: '1', currency: EUR}"],
            InvalidRequest,
            "the rate cards are in USD",
        ),
    ],
)
def test_nothing_is_made_of_a_spec_that_cannot_be(
    home: Path, arguments: list[object], kind: type[Problem], why: str
) -> None:
    """No key, no folder, no entry; and the reason is said."""
    assert why in refused(kind, "create", "acme", *arguments, "--home", home)
    assert not (home / "tenants" / "acme.yaml").exists()
    assert not (home / "keys").exists()


def test_of_what_is_no_id_the_rule_is_said(home: Path, tmp_path: Path) -> None:
    """By `create` and `apply`, the two that make a tenant."""
    (tmp_path / "x").write_text("id: Acme_1")
    for made in (("create", "Acme_1"), ("apply", tmp_path / "x")):
        assert "a-z" in refused(InvalidRequest, *made, "--home", home)


def test_a_file_that_is_no_mapping_takes_no_fields(home: Path, tmp_path: Path) -> None:
    """There is nothing to set them in."""
    (tmp_path / "x").write_text("- acme")
    source = ("--from", tmp_path / "x", "--name", "x")
    assert "mapping" in refused(
        InvalidRequest, "create", "acme", *source, "--home", home
    )


def test_an_id_is_one_tenant_s_for_ever(home: Path) -> None:
    """Not even a deleted one is used again; nor is a key that was destroyed."""
    at = ("--home", home)
    done("create", "acme", *at)
    assert "`guise tenant show acme` says" in refused(Conflict, "create", "acme", *at)
    done("suspend", "acme", *at)
    done("delete", "acme", "--yes", *at)
    assert "for ever" in refused(Conflict, "create", "acme", *at)
    (home / "tenants" / "acme.yaml").unlink()
    refused(Gone, "create", "acme", *at)


def test_a_budget_in_the_spec_is_in_the_ledger_and_in_the_store(home: Path) -> None:
    """And lifted with it; how long the log is kept is in the log's database."""
    at = ("--home", home)
    budget = "quotas.budget={limit: '10.00', currency: USD, hard: true}"
    done("create", "acme", "--set", budget, "--set", "retention.log_days=400", *at)
    shown = CliRunner().invoke(
        app, ["bill", "budget", "--tenant", "acme", *map(str, at)]
    )
    assert "of 10.00 USD" in shown.stdout
    assert "hard" in shown.stdout
    assert (home / "tenants" / "acme" / BUDGET).is_file()
    kept = CliRunner().invoke(
        app, ["audit", "retention", "--tenant", "acme", *map(str, at)]
    )
    assert "for 400 days" in kept.stdout
    assert "0 USD in" in done("show", "acme", *at)
    assert "no log goes back" in refused(
        InvalidRequest, "edit", "acme", "--set", "retention.log_days=null", *at
    )
    done("edit", "acme", "--set", "quotas.budget=null", *at)
    shown = CliRunner().invoke(
        app, ["bill", "budget", "--tenant", "acme", *map(str, at)]
    )
    assert "acme has no budget" in shown.stdout


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[tuple[object, ...]]:
    """Yield the options that name an installation whose audit function is running."""
    keys = FileKeys(tmp_path / "keys")
    keys.create("audit")
    log = Log.at(f"sqlite:///{tmp_path}/elsewhere.db", keys)
    function = create_app(log=log, keys=keys, authenticator=TokensByName())
    with closing(log), serving(function) as url:
        named = ("--tenants", tmp_path / "specs", "--keys", tmp_path / "keys")
        store = f"file://{tmp_path}/stores/{{tenant}}"
        yield (*named, "--store", store, "--audit", url, "--home", tmp_path / "none")


def test_of_another_installation_it_is_said_what_is_left_to_do(
    elsewhere: tuple[object, ...], tmp_path: Path
) -> None:
    """Its ledger and its log's database are not here; its log is told all the same."""
    budget = "quotas.budget={limit: '10.00', currency: USD, hard: true}"
    fields = ("--set", budget, "--set", "retention.log_days=400")
    said = done("create", "acme", *fields, *elsewhere)
    assert "guise bill budget --tenant acme --limit 10.00 --hard" in said
    assert "guise audit retention --tenant acme --days 400" in said
    assert "guise tenant render acme" in said
    lifted = told("edit", "acme", "--set", "quotas.budget=null", *elsewhere)
    assert lifted["undone"] == ["guise bill budget --tenant acme --lift --database …"]
    changed = done("edit", "acme", "--set", budget, *elsewhere)
    assert "left to do: guise bill budget" in changed
    assert FolderRoster(tmp_path / "specs").spec(ACME).retention.log_days == 400
    assert told("suspend", "acme", *elsewhere)["entry"] == 3
    store = Stores(f"file://{tmp_path}/stores/{{tenant}}").of(ACME)
    store.put(ACME.upload("uploads/a.jpg"), b"a face")
    assert told("delete", "acme", "--yes", *elsewhere)["objects"] == 1
    assert not (tmp_path / "none").exists()


def test_what_audit_is_not_told_is_not_done(
    elsewhere: tuple[object, ...], tmp_path: Path
) -> None:
    """Neither where it does not answer nor where nobody says which it is."""
    *named, _, _, dash, none = elsewhere
    refused(NoReceipt, "create", "acme", *named, "--audit", DOWN, dash, none)
    why = refused(NotFound, "create", "acme", *named, dash, none)
    assert "say --audit" in why
    assert not (tmp_path / "specs" / "acme.yaml").exists()


# --- list and show -----------------------------------------------------------


def test_the_list_has_who_is_broken_and_who_is_gone(home: Path) -> None:
    """Whoever has a file is on it, and of a broken one it is said why."""
    assert "no tenants" in done("list", "--home", home)
    done("create", "acme", "--home", home)
    (home / "tenants" / "beta.yaml").write_text("id: beta\ntier: gold\n")
    (home / "tenants" / "gone.yaml").write_bytes(
        write(Spec(id="gone", state="deleted"))
    )
    (home / "tenants" / "dir.yaml").mkdir()
    lines = [
        json.loads(line) for line in done("list", "--home", home, "--json").splitlines()
    ]
    assert {line["tenant"]: line["state"] for line in lines} == {
        "acme": "active",
        "beta": "broken",
        "dir": "broken",
        "gone": "deleted",
    }
    assert "tier: invalid enum value 'gold'" in lines[1]["fault"]
    assert "tier: invalid enum value" in done("list", "--home", home)


def test_show_says_what_a_spec_comes_to(home: Path) -> None:
    """Level, reason, share of the device; and what is used of what is allowed."""
    done("create", "acme", "--tier", "premium", "--home", home)
    (home / "tenants" / "acme" / "uploads" / "a.jpg").write_bytes(b"x" * 5_368_710)
    found = told("show", "acme", "--home", home)
    assert (found["level"], found["weight"], found["priority"]) == (0, "4", 2)
    assert found["quotas"]["storage_gib"] == 1_000
    assert found["used"] == {"quotas.storage_gib": "0.005 in 1 object"}
    said = done("show", "acme", "--home", home)
    assert "level 0: data, model and compute are all at 0" in said
    assert "0.005 in 1 object" in said


def test_show_of_a_broken_spec_says_every_fault(home: Path) -> None:
    """And of nobody, that there is nobody; of one who is gone, nothing is counted."""
    done("create", "acme", "--home", home)
    (home / "tenants" / "acme.yaml").write_text("id: acme\ntier: gold\ncolour: red\n")
    why = refused(InvalidSpec, "show", "acme", "--home", home)
    assert "tier" in why
    assert "colour" in why
    assert "no spec of beta" in refused(NotFound, "show", "beta", "--home", home)
    refused(UnknownTenant, "show", "../acme", "--home", home)
    (home / "tenants" / "gone.yaml").write_bytes(
        write(Spec(id="gone", state="deleted"))
    )
    assert told("show", "gone", "--home", home)["used"] == {}
    (home / "tenants" / "dir.yaml").mkdir()
    refused(Problem, "show", "dir", "--home", home)


# --- apply and edit ----------------------------------------------------------


def test_apply_makes_a_tenant_and_then_changes_it(home: Path, tmp_path: Path) -> None:
    """The same file twice changes nothing, and is one entry."""
    source = tmp_path / "acme.yaml"
    source.write_text("id: acme\nquotas: {concurrency: 2}\n")
    at = ("--home", home)
    assert told("apply", source, *at)["entry"] == 0
    assert told("apply", source, *at)["changed"] is False
    source.write_text("id: acme\nquotas: {concurrency: 3}\n")
    assert "changed" in done("apply", source, *at)
    assert [each["fields"] for each in changes(home)] == [
        [],
        [{"field": "quotas.concurrency", "from": 2, "to": 3}],
    ]
    source.write_text("quotas: {}\n")
    assert "whose spec" in refused(InvalidRequest, "apply", source, *at)
    source.write_text("- acme\n")
    refused(InvalidRequest, "apply", source, *at)


def test_a_state_is_changed_by_its_own_command_alone(home: Path) -> None:
    """An edit that would stop or revive a tenant is refused, and one of the gone."""
    at = ("--home", home)
    done("create", "acme", *at)
    edit = ("edit", "acme", "--set")
    assert "guise tenant suspend" in refused(
        InvalidRequest, *edit, "state=suspended", *at
    )
    assert "is active, and not suspended" in refused(Conflict, "resume", "acme", *at)
    done("suspend", "acme", *at)
    assert "is suspended, and not active" in refused(Conflict, "suspend", "acme", *at)
    done("delete", "acme", "--yes", *at)
    assert "changes any more" in refused(Conflict, *edit, "tier=trial", *at)
    refused(Conflict, "resume", "acme", *at)


def test_an_editor_changes_a_spec_as_it_stands(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes is checked like any file; where it fails nothing is done.

    Nor is anybody kept waiting meanwhile who has to stop the tenant.
    """
    at = ("--home", home)
    done("create", "acme", *at)
    script = tmp_path / "editor"
    script.write_text("import sys, pathlib\np = pathlib.Path(sys.argv[-1])\n")
    with script.open("a") as file:
        file.write("p.write_text('# mine\\n' + p.read_text() + sys.argv[1])\n")
    python = shlex.quote(sys.executable)
    monkeypatch.setenv("VISUAL", f"{python} {script} 'colour: red'")
    assert "colour" in refused(InvalidSpec, "edit", "acme", *at)
    monkeypatch.setenv("VISUAL", f"{python} {script} ''")
    assert "as it was" in done("edit", "acme", *at)
    assert (home / "tenants" / "acme.yaml").read_text().startswith("# mine\n")
    other = f"{sys.executable} -m functions.cli tenant suspend acme --home {home}"
    monkeypatch.setenv("VISUAL", f"sh -c '{other}' --")
    assert "changed meanwhile" in refused(Conflict, "edit", "acme", *at)
    assert FolderRoster(home / "tenants").spec(ACME).state == "suspended"
    monkeypatch.setenv("VISUAL", "false")
    assert "nothing done" in refused(InvalidRequest, "edit", "acme", *at)


def test_data_that_is_to_be_encrypted_is_shut_until_it_is(home: Path) -> None:
    """The command that encrypts what is there is said; nothing is read meanwhile."""
    at = ("--home", home)
    done("create", "acme", *at)
    stored(home).of(ACME).put(ACME.upload("uploads/a.jpg"), b"a face")
    said = done("edit", "acme", "--set", "isolation.data=1", *at)
    assert "left to do: guise tenant envelop acme" in said
    with pytest.raises(Problem):
        Place(home).stores(ACME).of(ACME)
    assert told("edit", "acme", "--set", "tier=trial", *at)["undone"] == []


def test_data_that_is_encrypted_stays_so(home: Path) -> None:
    """Nothing would read it otherwise; while there is none, the tenant may go back."""
    at = ("--home", home)
    done("create", "acme", "--data", 1, *at)
    key = ACME.upload("uploads/a.jpg")
    Place(home).stores(ACME).of(ACME).put(key, b"a face")
    edit = ("edit", "acme", "--set", "isolation.data=0", *at)
    assert "while the store is empty" in refused(Conflict, *edit)
    Place(home).stores(ACME).of(ACME).delete(key)
    assert told(*edit)["changed"] is True


def test_two_commands_at_once_take_turns(home: Path) -> None:
    """Neither writes over what the other has just changed."""
    done("create", "acme", "--home", home)
    fields = ("quotas.concurrency=7", "quotas.storage_gib=9")
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "functions.cli", "tenant", "edit", "acme"),
                *("--set", field, "--home", str(home)),
            ],
        )
        for field in fields
    ]
    assert [each.wait() for each in running] == [0, 0]
    quotas = FolderRoster(home / "tenants").spec(ACME).quotas
    assert (quotas.concurrency, quotas.storage_gib) == (7, 9)


# --- tokens ------------------------------------------------------------------


def authenticator(home: Path) -> TokenAuthenticator:
    """Return what a door of that home would ask."""
    signer = FileKeys(home / "keys").signer("tokens")
    path = home / "jwks.json"
    path.write_bytes(msgspec.json.encode(jwks_document(signer, development=True)))
    settings = Settings(
        profile="development", jwks=path, issuer=ISSUER, audience="guise"
    )
    return TokenAuthenticator.from_settings(settings)


def test_a_token_is_the_tenant_s_and_for_what_was_said(
    home: Path, tmp_path: Path
) -> None:
    """It opens a door of this home; in a file it is the owner's alone."""
    at = ("--home", home)
    done("create", "acme", *at)
    out = tmp_path / "token"
    options = ("--scope", "swap:read", "--days", 1, "--subject", "ci", "-o", out)
    assert told("token", "acme", *options, *at) == {"file": str(out)}
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    caller = authenticator(home).caller(f"Bearer {out.read_text()}")
    assert (caller.tenant, caller.subject) == (ACME, "ci")
    assert caller.scopes == {"swap:read"}
    whole = told("token", "acme", *at)["token"]
    everything = authenticator(home).caller(f"Bearer {whole}").scopes
    assert everything == {"swap:read", "swap:write", "audit:read", "billing:read"}
    assert done("token", "acme", "-o", out, *at) == ""
    with pytest.raises(Unauthenticated):
        authenticator(home).caller(f"Bearer {whole[:-4]}AAAA")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--scope", "operator"], "no such scope: operator"),
        (["--subject", ""], "1 to 128 printable"),
        (["--subject", "a\nb"], "1 to 128 printable"),
        (["--subject", "x" * 129], "1 to 128 printable"),
    ],
)
def test_a_token_for_what_no_tenant_may_is_refused(
    home: Path, arguments: list[str], why: str
) -> None:
    """The operator's scope is nobody's to give away here."""
    done("create", "acme", "--home", home)
    assert why in refused(InvalidRequest, "token", "acme", *arguments, "--home", home)


def test_a_token_in_a_file_is_its_owner_s_alone(home: Path, tmp_path: Path) -> None:
    """Also where everybody could read what was there."""
    done("create", "acme", "--home", home)
    out = tmp_path / "token"
    out.touch(0o644)
    out.chmod(0o644)
    done("token", "acme", "--out", out, "--home", home)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_where_an_identity_provider_issues_tokens_we_do_not(tmp_path: Path) -> None:
    """Keys without the development profile's mark are no issuer of ours."""
    (tmp_path / "keys").mkdir()
    at = ("--keys", tmp_path / "keys", "--home", tmp_path)
    assert "identity provider" in refused(NotFound, "token", "acme", *at)


# --- the end -----------------------------------------------------------------


def stored(home: Path) -> Stores:
    return Stores(Home(home).store_url)


def test_deleting_takes_everything_but_log_and_bills(home: Path) -> None:
    """Objects, folders and the signing key go; what was signed still verifies."""
    at = ("--home", home)
    done("create", "acme", *at)
    done("create", "beta", *at)
    for tenant in ("acme", "beta"):
        store = stored(home).of(Tenant(tenant))
        for number in range(5):
            store.put(Tenant(tenant).upload(f"uploads/{number}.jpg"), b"a face")
    done("suspend", "acme", *at)
    assert "say --yes" in refused(InvalidRequest, "delete", "acme", *at)
    assert told("delete", "acme", "--yes", *at) == {
        "tenant": "acme",
        "state": "deleted",
        "objects": 5,
        "files": 0,
        "before": False,
        "keys_kept": [],
    }
    assert not (home / "tenants" / "acme").exists()
    keys = FileKeys(home / "keys")
    assert keys.verifiers(events_key("acme"))
    with pytest.raises(Problem):
        keys.signer(events_key("acme"))
    assert len(list((home / "tenants" / "beta" / "uploads").iterdir())) == 5
    assert changes(home)[-1]["change"] == "deleted"
    assert "it gets no token" in refused(Conflict, "token", "acme", *at)


def test_a_deletion_that_was_cut_off_goes_on(home: Path) -> None:
    """The state comes first; the same command does what is left, and says it once."""
    at = ("--home", home)
    done("create", "acme", *at)
    done("suspend", "acme", *at)
    path = home / "tenants" / "acme.yaml"
    text = path.read_text().replace("suspended", "deleted")
    path.write_text(text)
    stored(home).of(ACME).put(ACME.upload("uploads/a.jpg"), b"a face")
    assert "1 object," in done("delete", "acme", "--yes", *at)
    assert "was deleted before: 0 objects" in done("delete", "acme", "--yes", *at)
    assert told("delete", "acme", "--yes", *at)["before"]
    assert [each["change"] for each in changes(home)] == ["created", "suspended"]


def test_what_was_written_after_the_deletion_goes_too(home: Path) -> None:
    """A request that was under way had not heard of it; no job of it ever ends."""
    at = ("--home", home)
    done("create", "acme", *at)
    done("suspend", "acme", *at)
    done("delete", "acme", "--yes", *at)
    store = stored(home).of(ACME)
    for key in (ACME.received("j1", "target-0"), ACME.pinned("j1"), ACME.outbox("j1")):
        store.put(key, b"{}")
    assert "3 objects" in done("delete", "acme", "--yes", *at)
    assert not (home / "tenants" / "acme").exists()


def test_what_a_shredded_tenant_left_goes_as_a_folder(home: Path) -> None:
    """Nobody can read so much as the names in it; it stays shredded, on record."""
    at = ("--home", home)
    done("create", "acme", "--data", 1, *at)
    Place(home).stores(ACME).of(ACME).put(ACME.upload("uploads/a.jpg"), b"a face")
    done("suspend", "acme", *at)
    done("shred", "acme", "--yes", *at)
    assert any((home / "tenants" / "acme").rglob("*"))
    assert told("delete", "acme", "--yes", *at)["state"] == "shredded"
    assert not (home / "tenants" / "acme").exists()
    assert FolderRoster(home / "tenants").read(ACME).state == "shredded"
    kinds = [each["change"] for each in changes(home)]
    assert kinds == ["created", "suspended", "shredded"]


def test_nothing_is_deleted_while_a_job_is_under_way(home: Path) -> None:
    """Its ending is owed to the log and to the bill first."""
    at = ("--home", home)
    done("create", "acme", *at)
    done("suspend", "acme", *at)
    store = stored(home).of(ACME)
    store.put(ACME.outbox("j1"), b"")
    why = refused(Conflict, "delete", "acme", "--yes", *at)
    assert "1 jobs of acme are under way" in why
    assert FolderRoster(home / "tenants").spec(ACME).state == "suspended"


def test_nothing_is_taken_away_without_a_receipt(tmp_path: Path) -> None:
    """Audit is not there: the tenant stays what it is."""
    specs = tmp_path / "specs"
    specs.mkdir()
    FileKeys(tmp_path / "keys").create(events_key("acme"))
    (specs / "acme.yaml").write_bytes(write(Spec(id="acme")))
    at = ("--tenants", specs, "--keys", tmp_path / "keys", "--home", tmp_path)
    refused(NoReceipt, "suspend", "acme", *at, "--audit", DOWN)
    assert FolderRoster(specs).spec(ACME).state == "active"


class Restless(MemoryStore):
    """A store into which somebody else writes, and out of which they take."""

    def __init__(self, *, times: int) -> None:
        super().__init__()
        self.times = times

    def delete(self, key: Key) -> None:
        super().delete(key)
        if self.times:
            self.times -= 1
            self.put(Key(f"uploads/{self.times}.jpg"), b"one more")
        raise NotFound("somebody else was first")


def test_deleting_goes_on_until_nothing_is_there() -> None:
    """What comes in meanwhile goes too; where it never ends, that is said."""
    store = Restless(times=3)
    store.put(Key("uploads/a.jpg"), b"a face")
    empty(store)
    assert not store.list(Key("")).objects
    store = Restless(times=1_000)
    store.put(Key("uploads/a.jpg"), b"a face")
    with pytest.raises(Conflict, match="nothing is finished"):
        empty(store)


# --- the other commands ------------------------------------------------------


def test_a_budget_is_written_as_the_tenant_s_data_rest(home: Path) -> None:
    """Written plainly into an encrypted store it would shut the tenant out."""
    at = ("--home", home)
    budget = "quotas.budget={limit: '10.00', currency: USD}"
    done("create", "acme", "--data", 1, "--set", budget, *at)
    limit = ["--limit", "20.00", *map(str, at)]
    ran = CliRunner().invoke(app, ["bill", "budget", "--tenant", "acme", *limit])
    assert ran.exit_code == 0, ran.output
    assert b"20.00" in Place(home).stores(ACME).of(ACME).get(BUDGET).data
    assert not any(
        b"20.00" in path.read_bytes()
        for path in (home / "tenants" / "acme").rglob("*")
        if path.is_file()
    )


def test_jobs_of_an_encrypted_tenant_are_listed(home: Path) -> None:
    """By whoever sits at the machine that has the keys."""
    at = ("--home", home)
    done("create", "acme", "--data", 1, *at)
    Place(home).stores(ACME).of(ACME).put(ACME.pinned("j1"), b"{}")
    options = ["--tenant", "acme", "--json", *map(str, at)]
    ran = CliRunner().invoke(app, ["jobs", "list", *options])
    assert json.loads(ran.stdout)["job"] == "j1", ran.output


@pytest.mark.parametrize(
    ("days", "kept"), [("retention.uploads_days=1", False), ("tier=trial", True)]
)
def test_a_sweep_keeps_nothing_longer_than_the_spec_says(
    home: Path, *, days: str, kept: bool
) -> None:
    """Whatever the tenant's own policy would keep it for."""
    at = ("--home", home)
    done("create", "acme", "--set", days, *at)
    cap = Jobs(home, "acme").books().retention
    assert cap is not None
    assert (cap.uploads_days is None) == kept
    (home / "tenants" / "acme.yaml").unlink()
    assert Jobs(home, "acme").books().retention is None
