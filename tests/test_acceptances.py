"""What the operator answers for is signed, in the log, and kept with a receipt."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions import events
from functions.acceptances import Acceptances, Statement, accept
from functions.audit.bundle import log_verifiers, verify_entries
from functions.events import MODELS_ACCEPTED, OPERATOR, Event
from functions.keys import FileKeys, MemoryKeys, events_key
from functions.problems import InvalidRequest, NoReceipt
from functions.settings import SettingsError
from functions.sink import HttpAuditor
from tests.office import DIGEST, STATEMENT, Office, open_office

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_office(tmp_path) as made:
        yield made


# --- accepting ---------------------------------------------------------------


def test_an_acceptance_is_in_the_log_and_in_the_folder(office: Office) -> None:
    """The log's entry says what, why and who, and verifies; the file is found by it."""
    made, path = office.accept()
    (leaf,) = office.audit.entries(OPERATOR)
    entry = json.loads(leaf)
    assert (entry["type"], entry["tenant"]) == (MODELS_ACCEPTED, "operator")
    assert entry["source"] == "/tenants/operator/models"
    assert msgspec.convert(entry["data"], Statement) == STATEMENT
    assert entry["id"] == made.id
    verifiers = log_verifiers(OPERATOR, office.keys)
    verify_entries([leaf], made.receipt.checkpoint, verifiers)
    assert path.parent == office.folder
    assert office.load().every == (made,)


def test_an_acceptance_covers_its_kind_and_its_pack(office: Office) -> None:
    """And no other kind, and no other pack: not the next version of it either."""
    office.accept()
    found = office.load()
    assert found.covers("non-commercial-licence", DIGEST)
    assert not found.covers("no-content-gate", DIGEST)
    assert not found.covers("non-commercial-licence", "cd" * 32)
    assert found.find("no-content-gate", DIGEST) is None


def test_several_acceptances(office: Office) -> None:
    """Each has a file; one made twice is there twice, and harms nobody."""
    other = msgspec.structs.replace(STATEMENT, kind="no-content-gate", licences=())
    for statement in (STATEMENT, other, STATEMENT):
        office.accept(statement)
    assert len(office.load().every) == 3
    assert office.load().covers("no-content-gate", DIGEST)
    assert len(office.audit.entries(OPERATOR)) == 3


def test_without_a_receipt_nothing_is_kept(office: Office) -> None:
    """What audit did not record nobody has accepted."""
    nobody = HttpAuditor("http://127.0.0.1:1")
    with pytest.raises(NoReceipt):
        accept(STATEMENT, office.folder, keys=office.keys, auditor=nobody, timeout=1)
    stranger = MemoryKeys()
    with pytest.raises(NoReceipt, match="403"):
        accept(
            STATEMENT, office.folder, keys=stranger, auditor=office.auditor, timeout=9
        )
    assert not office.folder.exists()


@pytest.mark.parametrize(
    "change",
    [{"reason": ""}, {"actor": ""}, {"digest": "x"}, {"reason": "x" * 2_001}],
)
def test_an_acceptance_says_why_and_who(office: Office, change: dict[str, Any]) -> None:
    """Without a reason, an actor or a pack it is none, and nothing is recorded."""
    with pytest.raises(InvalidRequest, match=f"the acceptance: .*{next(iter(change))}"):
        office.accept(msgspec.structs.replace(STATEMENT, **change))
    assert office.audit.entries(OPERATOR) == []


# --- the audit function's door -----------------------------------------------


def models_event(office: Office, tenant: str, source: str) -> Event:
    data = msgspec.to_builtins(STATEMENT)
    return office.audit.event(
        tenant=tenant, type=MODELS_ACCEPTED, source=source, data=data
    )


@pytest.mark.parametrize(
    ("tenant", "source"),
    [
        ("acme", events.swap_source("acme")),
        ("acme", "/tenants/acme/models"),
        ("acme", events.operator_source()),
        (OPERATOR, events.swap_source(OPERATOR)),
    ],
)
def test_a_tenant_accepts_nothing(office: Office, tenant: str, source: str) -> None:
    """Only the operator does, at its own door, from its own source."""
    answer = office.audit.post(models_event(office, tenant, source), tenant)
    assert answer.status_code == 403
    assert office.audit.entries(tenant) == []


def test_nobody_swaps_as_the_operator(office: Office) -> None:
    """A tenant that took the operator's name would get no receipt, hence no swap."""
    answer = office.audit.post(office.audit.event(tenant=OPERATOR), OPERATOR)
    assert answer.status_code == 403
    assert office.audit.entries(OPERATOR) == []


def test_another_acceptance_under_the_same_id(office: Office) -> None:
    """It gets no receipt, and the contradiction is on record."""
    source = events.operator_source()
    first = models_event(office, OPERATOR, source)
    assert office.audit.post(first, OPERATOR).status_code == 200
    assert office.audit.post(first, OPERATOR).status_code == 200
    other = office.audit.event(tenant=OPERATOR, type=MODELS_ACCEPTED, source=source)
    assert office.audit.post(other, OPERATOR).status_code == 400
    assert len(office.audit.entries(OPERATOR)) == 2


# --- loading -----------------------------------------------------------------


def test_no_folder_is_no_acceptance() -> None:
    """Where no folder is named nothing is accepted."""
    assert Acceptances.load(None, MemoryKeys()) == Acceptances()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A folder that is named and missing is a fault, not an empty one."""
    with pytest.raises(SettingsError, match="GUISE_ACCEPTANCES: No such file"):
        Acceptances.load(tmp_path / "nowhere", MemoryKeys())


def test_other_files_are_passed_over(office: Office) -> None:
    """As a mounted folder has them: hidden, or of another kind."""
    office.accept()
    (office.folder / ".hidden.json").write_text("?")
    (office.folder / "README").write_text("?")
    assert len(office.load().every) == 1


def test_a_folder_without_end(tmp_path: Path) -> None:
    """A folder with more files than there are acceptances is not read through."""
    for number in range(1_001):
        (tmp_path / f"{number}.json").touch()
    with pytest.raises(SettingsError, match="more than 1000 files"):
        Acceptances.load(tmp_path, MemoryKeys())


def bend(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    kept = json.loads(path.read_bytes())
    change(kept)
    path.write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda k: k["event"]["data"].update(digest="cd" * 32), "does not verify"),
        (lambda k: k["event"]["data"].update(kind="no-content-gate"), "does not ver"),
        (lambda k: k["event"].update(id="another"), "does not verify"),
        (lambda k: k["event"].update(sig=""), "does not verify"),
        (lambda k: k["event"].update(sigkid="0" * 16), "kid"),
        (lambda k: k["event"].update(tenant="acme"), "not an acceptance of the oper"),
        (lambda k: k["event"].update(type=events.SWAP_STARTED), "not an acceptance"),
        (lambda k: k["event"].pop("id"), "has no id"),
        (lambda k: k.pop("receipt"), "missing required field `receipt`"),
        (lambda k: k.update(more=1), "unknown field `more`"),
        (lambda k: k["receipt"].update(leaf_hash="0" * 64), "receipt is for another"),
        (lambda k: k["receipt"].update(index=1), "checkpoint is not of this entry"),
        (lambda k: k["receipt"].update(checkpoint="a note"), "not of this entry"),
        (
            lambda k: k["receipt"].update(
                checkpoint=k["receipt"]["checkpoint"].replace("\n1\n", "\n2\n")
            ),
            "not signed by audit",
        ),
        (
            lambda k: k["receipt"].update(
                checkpoint=k["receipt"]["checkpoint"].replace("operator", "acme")
            ),
            "not of this entry",
        ),
        (
            lambda k: k["receipt"].update(
                checkpoint=k["receipt"]["checkpoint"].rpartition("— ")[0]
            ),
            "not signed by audit",
        ),
        (
            lambda k: k["receipt"].update(
                checkpoint=k["receipt"]["checkpoint"].replace("— guise", "— g?ise")
            ),
            "not signed by audit",
        ),
        (
            lambda k: k["receipt"].update(
                checkpoint=k["receipt"]["checkpoint"].replace("=\n", "?\n")
            ),
            "not signed by audit",
        ),
        (
            lambda k: k["receipt"].update(checkpoint=k["receipt"]["checkpoint"] + "*"),
            "not a signed note",
        ),
    ],
)
def test_a_bent_file_is_named(
    office: Office, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """What was signed and recorded cannot be made to say, or cover, something else."""
    _, path = office.accept()
    bend(path, change)
    with pytest.raises(SettingsError, match=rf"{path.name}: .*{message}"):
        office.load()


def test_a_forged_acceptance(office: Office) -> None:
    """Whoever can write the folder, and lacks the operator's key, accepts nothing."""
    _, path = office.accept()

    def sign_anew(kept: dict[str, Any]) -> None:
        forged = events.from_dict(kept["event"])
        forger = MemoryKeys().signer(events_key(OPERATOR))
        kept["event"] = events.as_dict(events.sign(forged, forger))

    bend(path, sign_anew)
    with pytest.raises(SettingsError, match="kid"):
        office.load()


def test_a_statement_of_another_kind(office: Office) -> None:
    """A kind that nobody knows is refused, well signed or not."""
    _, path = office.accept()

    def sign_anew(kept: dict[str, Any]) -> None:
        plain = kept["event"] | {"data": kept["event"]["data"] | {"kind": "anything"}}
        event = events.from_dict(plain)
        signer = office.keys.signer(events_key(OPERATOR))
        kept["event"] = events.as_dict(events.sign(event, signer))

    bend(path, sign_anew)
    with pytest.raises(SettingsError, match="Invalid enum value 'anything'"):
        office.load()


@pytest.mark.parametrize("raw", [b"", b"{", b"[" * 50_000, b" " * 300_000])
def test_a_file_that_is_none(office: Office, raw: bytes) -> None:
    """Cut short, too deep or too long: the file is named."""
    _, path = office.accept()
    path.write_bytes(raw)
    with pytest.raises(SettingsError, match=path.name):
        office.load()


def test_public_keys_are_enough(office: Office, tmp_path: Path) -> None:
    """Whoever starts has the operator's and audit's public keys, and no private one."""
    made, _ = office.accept()
    root = tmp_path / "keys"
    (root / "events").mkdir(parents=True)
    for name in (events_key(OPERATOR), "audit"):
        public = office.keys.signer(name).public_bytes()
        (root / f"{name}.pub").write_bytes(base64.b64encode(public) + b"\n")
    assert Acceptances.load(office.folder, FileKeys(root)).every == (made,)


def test_without_audits_key_the_checkpoint_is_not_checked(
    office: Office, tmp_path: Path
) -> None:
    """The operator's signature still is, and that the receipt is for this event."""
    _, path = office.accept()
    root = tmp_path / "keys"
    (root / "events").mkdir(parents=True)
    public = office.keys.signer(events_key(OPERATOR)).public_bytes()
    operator = root / f"{events_key(OPERATOR)}.pub"
    operator.write_bytes(base64.b64encode(public) + b"\n")
    assert len(Acceptances.load(office.folder, FileKeys(root)).every) == 1
    bend(path, lambda kept: kept["receipt"].update(leaf_hash="0" * 64))
    with pytest.raises(SettingsError, match="another event"):
        Acceptances.load(office.folder, FileKeys(root))
