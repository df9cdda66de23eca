"""Watching a log: what was kept is read, held against it, and kept anew."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions.audit import copies
from functions.audit.bundle import log_verifiers
from functions.audit.merkle import VerificationError
from functions.audit.monitor import EVIDENCE, Fault, verify_evidence, watch
from functions.audit.notes import find_notes, only_notes, open_kept, parse_origin
from functions.audit.source import KeptLog, RemoteLog
from functions.audit.tiles import NoteVerifier
from functions.cli.terminal import err, fail, print_json, say
from functions.problems import InvalidRequest, NotFound, TooLarge, Unavailable
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.audit.monitor import Logs, Verdict
    from functions.audit.notes import Kept
    from functions.audit.source import LogSource
    from functions.cli.audit.place import Place

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Watch:
    """Whose log is watched, where it is, and where what was kept is."""

    tenant: str
    kept: Path
    place: Place
    key: Path | None = None
    url: str = ""
    token_file: Path | None = None
    witness: str = ""
    json: bool = False

    @property
    def state(self) -> Path | None:
        """Where the newest checkpoint is kept; None beside what is not ours."""
        if self.kept.is_dir():
            return self.kept / f"{self.tenant}.checkpoint"
        if self.kept.exists() and not only_notes(_text(self.kept)):
            return None
        return self.kept


def keep_watching(wanted: Watch, every_seconds: float) -> None:
    """Look once, or for ever; exit with 1 when the log broke its word."""
    Tenant(wanted.tenant)  # or raise `UnknownTenant`
    while True:
        # Anew each time: a rotation adds a line to the file.
        verifiers = key_file(wanted.place, wanted.tenant, wanted.key)
        try:
            fine = look(wanted, verifiers)
        except Unavailable as problem:
            if not every_seconds:
                raise
            err().print(f"cannot look: {problem.detail or problem.title}", markup=False)
            fine = True
        if not (fine and every_seconds):
            sys.exit(0 if fine else 1)
        time.sleep(every_seconds)


def key_file(place: Place, tenant: str, path: Path | None) -> list[NoteVerifier]:
    """Return the log's verifier keys, of a file or of this machine's folder."""
    if path is None:
        return log_verifiers(tenant, place.key_provider())
    try:
        return [NoteVerifier.parse(line) for line in _text(path).split()]
    except VerificationError as error:
        raise InvalidRequest(f"{path}: {error}") from error


def look(wanted: Watch, verifiers: list[NoteVerifier]) -> bool:
    """Hold the log to what was kept; tell, write evidence, and keep the newest."""
    kept, faults = _kept(wanted, verifiers)
    with ExitStack() as ending:
        verdict = watch(_logs(wanted, ending), wanted.tenant, kept, verifiers)
    verdict.faults[:0] = faults
    files = [_write_evidence(wanted, each) for each in verdict.faults]
    _tell(wanted, verdict, files)
    if not verdict.faults and verdict.now is not None and wanted.state is not None:
        _replace(wanted.state, verdict.now.note.encode())
    return not verdict.faults


def _logs(wanted: Watch, ending: ExitStack) -> Logs:
    if not wanted.url:
        store = ending.enter_context(closing(wanted.place.store()))
        return lambda epoch: KeptLog(store, wanted.tenant, epoch)
    token = wanted.token_file.read_text().strip() if wanted.token_file else ""

    def remote(epoch: int | None) -> LogSource:
        root = f"{wanted.url.rstrip('/')}/v1/tenants/{wanted.tenant}"
        where = f"{root}/log" if epoch is None else f"{root}/logs/{epoch}"
        return ending.enter_context(closing(RemoteLog(where, token)))

    return remote


def _kept(
    wanted: Watch,
    verifiers: list[NoteVerifier],
) -> tuple[list[Kept], list[Fault]]:
    """Return every checkpoint that was kept of this log, and those that are none."""
    kept: dict[str, Kept] = {}
    faults: list[Fault] = []

    def take(note: str, where: str) -> None:
        if note in kept or _owner(note) != wanted.tenant:
            return
        try:
            kept[note] = open_kept(note, verifiers, where)
        except VerificationError as error:
            text = f"what was kept in {where} is no checkpoint: {error}"
            faults.append(Fault("signature", text, (note,)))

    for path in _files(wanted):
        for note in _notes(path):
            take(note, str(path))
    if wanted.witness:
        for note, where in _witnessed(wanted, list(kept.values())):
            take(note, where)
    return list(kept.values()), faults


def _files(wanted: Watch) -> list[Path]:
    if wanted.kept.is_dir():
        return sorted(path for path in wanted.kept.rglob("*") if path.is_file())
    return [wanted.kept] if wanted.kept.exists() else []


def _notes(path: Path) -> list[str]:
    """Return the notes in a file, but for evidence, which shows what was not kept."""
    text = _text(path)
    return [] if EVIDENCE in text else find_notes(text)


def _witnessed(wanted: Watch, kept: list[Kept]) -> Iterator[tuple[str, str]]:
    """Yield the copies in the second store; where there is a state, those since."""
    from functions.storage.locate import open_store

    copies.check_witness(wanted.witness)
    objects = open_store(wanted.witness)
    seen = {each.epoch: each.size for each in kept if each.where == str(wanted.state)}
    for epoch in copies.epochs(objects, wanted.tenant):
        after = seen.get(epoch, 0) - 1  # once more what was seen last
        for size in copies.sizes(objects, wanted.tenant, epoch, after):
            note = copies.read_copy(objects, wanted.tenant, epoch, size)
            yield note, f"{wanted.witness} {epoch}/{size}"


def _owner(note: str) -> str:
    try:
        return parse_origin(note.partition("\n")[0])[0]
    except VerificationError:
        return ""


def _write_evidence(wanted: Watch, fault: Fault) -> str:
    """Write what shows the fault to others; return where."""
    data = msgspec.json.format(msgspec.json.encode(fault.evidence(wanted.tenant)))
    digest = hashlib.sha256(data).hexdigest()[:_SHOWN]
    folder = wanted.kept if wanted.kept.is_dir() else wanted.kept.parent
    path = folder / f"{wanted.tenant}-{fault.kind}-{digest}.json"
    if not path.exists():
        _replace(path, data)
    return str(path)


def _tell(wanted: Watch, verdict: Verdict, files: list[str]) -> None:
    now = verdict.now
    if wanted.json:
        print_json(_document(verdict, files))
        return
    for loss in verdict.losses:
        say(
            f"{wanted.tenant}: a restore lacks entries {loss.start} to {loss.stop - 1}"
            f" of epoch {loss.epoch}"
        )
    for fault, path in zip(verdict.faults, files, strict=True):
        text = f"{fault.kind.upper()}: {fault.text}; evidence: {path}"
        err().print(text, markup=False, style="red")
    if not verdict.faults:
        said = "the log is empty" if now is None else f"{now} is true to all of it"
        say(f"{wanted.tenant}: {verdict.checked} kept checkpoints; {said}")


def _document(verdict: Verdict, files: list[str]) -> dict[str, Any]:
    now = verdict.now
    return {
        "tenant": verdict.tenant,
        "fine": not verdict.faults,
        "checked": verdict.checked,
        "checkpoint": now and now.note,
        "losses": [asdict(each) for each in verdict.losses],
        "faults": [
            {"kind": fault.kind, "text": fault.text, "evidence": path}
            for fault, path in zip(verdict.faults, files, strict=True)
        ],
    }


def check_evidence(file: Path, place: Place, key: Path | None, *, json: bool) -> None:
    """Print what a file proves; exit with 1 where that is nothing."""
    try:
        document = msgspec.json.decode(_text(file))
        tenant = Tenant(document["tenant"]).id
        proven = verify_evidence(document, key_file(place, tenant, key))
    except VerificationError as error:
        fail("VerificationError", f"{file} proves nothing: {error}")
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{file} is no evidence") from error
    if json:
        print_json({"tenant": tenant, "proven": proven})
    else:
        say(f"proven: {proven}")


def _text(path: Path) -> str:
    if not path.is_file():
        raise NotFound(f"{path} is not a file")
    if path.stat().st_size > FILE_BYTES_MAX:
        raise TooLarge(f"{path} has over {FILE_BYTES_MAX:,} bytes")
    return path.read_bytes().decode("utf-8", errors="replace")


def _replace(path: Path, data: bytes) -> None:
    """Put `data` at `path` durably: all of it or, after a crash, what was there."""
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
