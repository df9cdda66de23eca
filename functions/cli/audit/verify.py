"""Checking a bundle, or one proof file, and saying what holds."""

from __future__ import annotations

import base64
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from functions.audit.checking import Report, verify_bundle, verify_proof
from functions.audit.merkle import VerificationError
from functions.audit.tiles import NoteVerifier
from functions.cli.terminal import counting, harmless, out, print_json
from functions.problems import InvalidRequest, NotFound, TooLarge

if TYPE_CHECKING:
    from pathlib import Path

    from functions.audit.logcheck import Checked, Fault
    from functions.keys import Verifiers

_TEXT_BYTES_MAX: Final = 1_048_576
_TEXT_CHARACTERS_MAX: Final = 1_000
_ZIP: Final = b"PK"
_PROOF: Final = b"c2sp.org/tlog-proof@"
_HASH_CHARACTERS: Final = 16


def verify_file(
    path: Path, key: Path, tenant_keys: Path | None, leaf: Path | None, *, json: bool
) -> None:
    """Print what holds of the file at `path`; exit with 1 unless all of it does."""
    verifiers = read_verifiers(key)
    events = None if tenant_keys is None else _tenant_keys(tenant_keys)
    if not path.is_file():
        raise NotFound(f"{path} is not a file")
    with path.open("rb") as file:
        begins = file.read(len(_PROOF))
    if not begins.startswith(_ZIP):
        if begins != _PROOF:
            _tell_wrong(path, "neither a bundle (a zip) nor a tlog-proof", json=json)
        given = b"" if leaf is None else _read(leaf)
        _tell_proof(path, verifiers, given, json=json)
        return
    with counting("entries", quiet=json) as progress:
        report = verify_bundle(path, verifiers, tenant_keys=events, progress=progress)
    if json:
        print_json({"bundle": str(path), "verified": report.verified, **asdict(report)})
    else:
        _show(path, report)
    sys.exit(0 if report.verified else 1)


def read_verifiers(path: Path) -> list[NoteVerifier]:
    """Return the keys in a file, or raise `InvalidRequest`."""
    try:
        text = _read(path).decode("ascii")
        found = [NoteVerifier.parse(each) for each in text.split()]
    except (VerificationError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} holds no verifier keys: {error}") from error
    if not found:
        raise InvalidRequest(f"{path} holds no verifier keys")
    return found


def _tenant_keys(path: Path) -> Verifiers:
    """Return the keys in a `.pub` file: base64, one a line."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from functions.keys import Verifier, key_id

    try:
        raws = [base64.b64decode(each, validate=True) for each in _read(path).split()]
        found = [
            Verifier(key_id(r), Ed25519PublicKey.from_public_bytes(r)) for r in raws
        ]
    except ValueError as error:
        raise InvalidRequest(f"{path} holds no public keys: {error}") from error
    return {each.kid: each for each in found}


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_TEXT_BYTES_MAX + 1)
    if len(data) > _TEXT_BYTES_MAX:
        raise TooLarge(f"{path} has over {_TEXT_BYTES_MAX:,} bytes")
    return data


def _tell_proof(
    path: Path, verifiers: list[NoteVerifier], leaf: bytes, *, json: bool
) -> None:
    try:
        text = _read(path).decode()
        checkpoint, index, event = verify_proof(text, verifiers, leaf)
    except (VerificationError, UnicodeDecodeError) as error:
        _tell_wrong(path, str(error), json=json)
    said: dict[str, Any] = {
        "proof": str(path),
        "verified": True,
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "index": index,
        "entry": event,
    }
    if json:
        print_json(said)
        return
    rows = [
        ("entry", f"{index} of {checkpoint.size:,} in {checkpoint.origin}"),
        ("type", event["type"]),
        ("time", event["time"]),
        ("job", str(event["data"].get("job", ""))),
    ]
    _table(path, "verified", "green", rows)


def _tell_wrong(path: Path, text: str, *, json: bool) -> None:
    if json:
        print_json({"proof": str(path), "verified": False, "fault": {"text": text}})
    else:
        _table(path, "NOT verified", "red", [("broken", text)])
    sys.exit(1)


def _show(path: Path, report: Report) -> None:
    rows = [("tenant", report.tenant), ("job", report.job)]
    for log in report.logs:
        rows += _rows(log)
    rows += [("note", text) for text in report.warnings]
    if report.fault is not None:
        rows += _fault_rows(report.fault)
    verdict = ("verified", "green") if report.verified else ("NOT verified", "red")
    _table(path, *verdict, rows)


def _rows(log: Checked) -> list[tuple[str, str]]:
    held = f"{log.entries:,} entries of {log.size:,}"
    if log.hashes:
        held += f", {log.hashes:,} more as hashes alone (pruned)"
    rows = [
        ("log", f"{log.origin}, root {log.root[:_HASH_CHARACTERS]}"),
        ("checked", f"{held}, {log.checkpoints:,} earlier checkpoints"),
    ]
    if log.first:
        rows.append(("times", f"{log.first} to {log.last}"))
    return rows


def _fault_rows(fault: Fault) -> list[tuple[str, str]]:
    rows = [("broken", fault.text)]
    if fault.first is not None:
        first, last = fault.first, fault.last
        span = f"entry {first}" if first == last else f"entries {first} to {last}"
        rows.append(("where", f"{span} of epoch {fault.epoch}"))
    rows += [("job", fault.job), ("type", fault.type)]
    return rows


def _table(path: Path, verdict: str, colour: str, rows: list[tuple[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = out()
    console.print(Text(f"{harmless(str(path))}: {verdict}", style=f"bold {colour}"))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, text in rows:
        if text:
            style = "red" if name == "broken" else ""
            table.add_row(
                Text(name, style=style or "dim"),
                Text(harmless(text, _TEXT_CHARACTERS_MAX), style),
            )
    console.print(table)
