"""What the operator took on itself: signed, in the audit log, kept with its receipt.

Some things production refuses unless somebody answers for them: serving models whose
licence is not commercial, serving without a content gate.  An acceptance is an event
signed with the operator's key, `events/operator`, recorded in the operator's own
audit log, and kept in a file with the receipt.  Whoever starts needs the files and
public keys alone: no network, and no trust in who could write the folder.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from functions import events
from functions.events import MODELS_ACCEPTED, OPERATOR, Event
from functions.keys import events_key
from functions.problems import InvalidRequest, Problem
from functions.settings import SettingsError
from functions.sink import Receipt
from functions.structs import prepare

if TYPE_CHECKING:
    from pathlib import Path

    from functions.keys import KeyProvider
    from functions.sink import Auditor

Kind = Literal["non-commercial-licence", "no-content-gate"]
"""What can be accepted:

`non-commercial-licence`: the pack's models may not be used commercially, nothing
licenses them otherwise, and the operator answers for what they are used for.
`no-content-gate`: the pack has no model that judges what pictures show, and the
operator answers for what is swapped.
"""

FILE_BYTES_MAX: Final = 262_144
FILES_MAX: Final = 1_000
_ORIGIN: Final = f"guise.audit/{OPERATOR}"
_AUDIT: Final = "audit"
_KEY_ID_BYTES: Final = 4
_SIGNED: Final = ("source", "id", "type", "subject", "time", "tenant", "data")

Text = Annotated[str, Meta(min_length=1, max_length=256)]


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is accepted, for which pack, why and by whom: the data of the event.

    `digest` is the pack's, `licences` those of the models it is about.  `actor` is a
    login or a role; like the rest it is in the log for good.
    """

    kind: Kind
    pack: Text
    version: Text
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    reason: Annotated[str, Meta(min_length=1, max_length=2_000)]
    actor: Text
    licences: Annotated[tuple[Text, ...], Meta(max_length=64)] = ()


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    event: dict[str, Any]
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A statement, its event's id and time, and where it stands in the log."""

    id: str
    time: str
    statement: Statement
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Acceptances:
    """Every acceptance there is."""

    every: tuple[Acceptance, ...] = ()

    @classmethod
    def load(cls, folder: Path | None, keys: KeyProvider) -> Acceptances:
        """Return what lies in `folder`, each proved; nothing without a folder.

        Proved: the operator signed it, its receipt is for exactly this event, and
        the receipt's checkpoint is of the operator's log and signed by audit, where
        audit's public key is among `keys`.  Not proved here: that the event is in
        that log.  Who holds the operator's key could put another checkpoint beside
        it; an auditor of the log would miss the entry.

        Raises:
            SettingsError: one is not what it should be; the message names the file.
        """
        if folder is None:
            return cls()
        try:
            paths = sorted(path for path in folder.iterdir() if _is_ours(path.name))
        except OSError as error:
            raise SettingsError(f"GUISE_ACCEPTANCES: {error.strerror}") from error
        if len(paths) > FILES_MAX:
            raise SettingsError(f"GUISE_ACCEPTANCES: more than {FILES_MAX} files")
        return cls(tuple(_read(path, keys) for path in paths))

    def find(self, kind: Kind, pack_digest: str) -> Acceptance | None:
        """Return the first acceptance of `kind` for that pack, None without one."""
        wanted = (kind, pack_digest)
        for each in self.every:
            if (each.statement.kind, each.statement.digest) == wanted:
                return each
        return None

    def covers(self, kind: Kind, pack_digest: str) -> bool:
        """Return whether the operator has accepted `kind` for that pack."""
        return self.find(kind, pack_digest) is not None


def accept(
    statement: Statement,
    folder: Path,
    *,
    keys: KeyProvider,
    auditor: Auditor,
    timeout: float,
) -> tuple[Acceptance, Path]:
    """Record `statement` in the audit log, keep it in `folder`, and return both.

    Done twice it is recorded twice, which does no harm.

    Raises:
        InvalidRequest: a text of it is empty or too long.
        NoReceipt: the audit function did not record it; nothing is kept.
        OSError: the folder cannot be written; the log has it.
    """
    try:
        plain = msgspec.to_builtins(statement)
        data = msgspec.to_builtins(msgspec.convert(plain, Statement))
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the acceptance: {error}") from error
    time = events.now()
    event = Event(
        id=events.derived_id(MODELS_ACCEPTED, *map(str, data.values()), time),
        source=events.operator_source(),
        type=MODELS_ACCEPTED,
        subject=statement.digest,
        time=time,
        tenant=OPERATOR,
        data=data,
    )
    event = events.sign(event, keys.signer(events_key(OPERATOR)))
    receipt = auditor.receipt(event, timeout=timeout)
    kept = _Kept(events.as_dict(event), receipt)
    path = folder / f"{statement.kind}-{statement.digest[:12]}-{event.id[:12]}.json"
    _write(path, msgspec.json.format(msgspec.json.encode(kept), indent=1))
    return Acceptance(event.id, time, statement, receipt), path


def _is_ours(name: str) -> bool:
    return name.endswith(".json") and not name.startswith(".")


# --- one file ----------------------------------------------------------------


def _read(path: Path, keys: KeyProvider) -> Acceptance:
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            raise InvalidRequest(f"more than {FILE_BYTES_MAX} bytes")
        return _proved(msgspec.json.decode(raw, type=_Kept), keys)
    except (OSError, ValueError, RecursionError, Problem) as error:
        raise SettingsError(f"GUISE_ACCEPTANCES: {path.name}: {error}") from error


def _proved(kept: _Kept, keys: KeyProvider) -> Acceptance:
    """Return the acceptance, or raise a `Problem` or a `ValueError` that says why."""
    event = events.from_dict(kept.event)
    expected = (MODELS_ACCEPTED, OPERATOR, events.operator_source())
    if (event.type, event.tenant, event.source) != expected:
        raise InvalidRequest("not an acceptance of the operator's")
    events.verify(event, keys.verifiers(events_key(OPERATOR)))
    statement = msgspec.convert(event.data, Statement)
    if kept.receipt.leaf_hash != _leaf_hash(event):
        raise InvalidRequest("the receipt is for another event")
    _check_checkpoint(kept.receipt, keys)
    return Acceptance(event.id, event.time, statement, kept.receipt)


def _leaf_hash(event: Event) -> str:
    """Return the event's RFC 6962 leaf hash: what docs/audit.md says an entry is."""
    names = (*_SIGNED, "sig", "sigkid")
    leaf = events.canonical({name: getattr(event, name) for name in names})
    return hashlib.sha256(b"\0" + leaf).hexdigest()


def _check_checkpoint(receipt: Receipt, keys: KeyProvider) -> None:
    """Refuse a checkpoint of another log, too small for the entry, or not audit's.

    The note is as c2sp.org/signed-note has it: a text, an empty line, signatures.
    """
    text, _, tail = receipt.checkpoint.rpartition("\n\n")
    origin, size, *_ = [*text.split("\n"), ""]
    if origin != _ORIGIN or not size.isdecimal() or int(size) <= receipt.index:
        raise InvalidRequest("the receipt's checkpoint is not of this entry")
    *lines, last = tail.split("\n")
    if last or not all(line.startswith("— ") for line in lines):
        raise InvalidRequest("the receipt's checkpoint is not a signed note")
    verifiers = keys.verifiers(_AUDIT)
    signatures = [_signature(line) for line in lines]
    signed = any(
        verifier.verify(signature, f"{text}\n".encode())
        for verifier in verifiers.values()
        for signature in signatures
    )
    if verifiers and not signed:
        raise InvalidRequest("the receipt's checkpoint is not signed by audit")


def _signature(line: str) -> bytes:
    """Return the signature in a note's line, empty where it is not of our log."""
    name, _, encoded = line.removeprefix("— ").partition(" ")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return b""
    return raw[_KEY_ID_BYTES:] if name == _ORIGIN else b""


def _write(path: Path, data: bytes) -> None:
    """Put `data` at `path` durably: all of it or, after a crash, none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{secrets.token_hex(8)}")
    with fresh.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


prepare()
