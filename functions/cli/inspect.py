"""`guise inspect FILE`: what a picture says of itself, and whether it holds.

Offline: the signature and every hash by the C2PA library, the receipt by the keys
and, where this machine has it, the log itself.  What a file says may have been
written by anybody, so every text is made harmless before it is printed.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions.cli.terminal import harmless, out, print_json
from functions.events import SWAP_STARTED
from functions.problems import NotFound, TooLarge
from functions.swap.provenance import chain
from functions.swap.provenance.aigc import LABELS
from functions.swap.provenance.report import Fault, Report, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.audit.tiles import NoteVerifier
    from functions.local.home import Home
    from functions.swap.provenance.manifest import Asserted

BYTES_MAX: Final = 256 * 1024 * 1024
_DIGEST_CHARACTERS: Final = 12
_LOGS: Final = "guise.audit/"


@dataclass(slots=True)
class Audit:
    """What became of the receipt: what was checked, what was not, what is wrong."""

    checked: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def inspect_file(
    path: Path, home: Path, trust: Path | None, key: Path | None, *, json: bool
) -> None:
    """Print what `path` says of itself; exit with 1 unless all of it holds."""
    from functions.local.home import Home

    place = Home(home.resolve())
    report = read(_bytes(path), _anchors(place, trust))
    audit = Audit()
    if report.receipt is not None:
        _audit(report.receipt, place, key, audit)
    verified = report.verified and not audit.faults
    unknown = [*_unknown(report), *audit.unknown]
    if json:
        print_json(_document(path, report, audit, unknown, verified=verified))
    else:
        _show(path, report, audit, unknown, verified=verified)
    sys.exit(0 if verified else 1)


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise NotFound(f"{path} is not a file")
    if path.stat().st_size > BYTES_MAX:
        raise TooLarge(f"{path} has over {BYTES_MAX:,} bytes")
    return path.read_bytes()


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8", errors="replace")


def _anchors(home: Home, trust: Path | None) -> str:
    """Return the trusted roots: this home's own, and those in a file."""
    own = home.roots.read_text("ascii") if home.roots.is_file() else ""
    return own + (_text(trust) if trust else "")


def _audit(receipt: Asserted, home: Home, key: Path | None, audit: Audit) -> None:
    """Check the receipt as far as keys and log are at hand."""
    from functions.audit.merkle import VerificationError
    from functions.audit.tiles import open_checkpoint

    try:
        verifiers = _verifiers(receipt, home, key)
        if not verifiers:
            audit.unknown.append(
                "Whether the audit log has the receipt: no key of the log is at hand "
                "(--key FILE, or --home)."
            )
            return
        checkpoint = open_checkpoint(receipt.checkpoint, verifiers)
        if checkpoint.origin != receipt.log or receipt.index >= checkpoint.size:
            raise VerificationError("the checkpoint is not of this entry")  # noqa: TRY301 - one way out
        audit.checked.append(f"checkpoint signed, size {checkpoint.size}")
        if not _in_log(receipt, home, verifiers, audit):
            audit.unknown.append(
                f"That entry {receipt.index} is this job's: the log is not at hand, "
                "only its signed checkpoint."
            )
    except VerificationError as error:
        audit.faults.append(Fault("audit receipt", "guise.receipt.wrong", str(error)))


def _verifiers(receipt: Asserted, home: Home, key: Path | None) -> list[NoteVerifier]:
    """Return who may sign the receipt's log: keys in a file, and the home's own."""
    from functions.audit.bundle import log_verifiers
    from functions.audit.tiles import NoteVerifier
    from functions.keys import FileKeys

    known = log_verifiers(receipt.log.removeprefix(_LOGS), FileKeys(home.keys))
    if key is not None:
        known += [NoteVerifier.parse(each) for each in _text(key).split()]
    return known


def _in_log(
    receipt: Asserted, home: Home, verifiers: list[NoteVerifier], audit: Audit
) -> bool:
    """Check the entry in this machine's own log; return False if it has none."""
    from functions.audit.merkle import VerificationError, verify_inclusion
    from functions.audit.read import prove
    from functions.audit.store import Selection, Store, select_entries
    from functions.audit.tiles import open_checkpoint

    if not (home.root / "audit.db").is_file():
        return False
    tenant = receipt.log.removeprefix(_LOGS)
    store = Store.open(home.database_url("audit"))
    try:
        proof = prove(store, tenant, receipt.index)
        wanted = Selection(tenant, start=receipt.index, stop=receipt.index + 1)
        with store.reading(tenant) as db:
            found = select_entries(db, wanted, 1)
    except NotFound:
        return False  # another machine's log, or one begun anew
    finally:
        store.close()
    if not found:
        return False  # pruned: what is left does not say whose start it was
    newest = open_checkpoint(proof.checkpoint, verifiers)
    leaf = bytes.fromhex(receipt.leaf_hash)
    verify_inclusion(leaf, receipt.index, newest.size, proof.path, newest.root)
    [entry] = found
    told = msgspec.json.decode(entry.leaf)
    start = (told["type"], told["data"].get("job")) == (SWAP_STARTED, receipt.job)
    if entry.leaf_hash != leaf or not start:
        raise VerificationError("the entry is not the start of this job")
    audit.checked.append(
        f"entry {receipt.index} of {newest.size} is this job's start, recorded before "
        "the work"
    )
    return True


def _unknown(report: Report) -> Iterator[str]:
    """Yield what this file cannot tell, whatever it says."""
    if report.manifest is None:
        yield (
            "Whether it was edited: anybody can strip credentials, and most pictures "
            "never had any."
        )
        return
    if report.signer == chain.SELF_MADE:
        yield (
            "Who signed, beyond this installation: it made its certificates itself, "
            "and they prove nothing to others."
        )
    if report.signed_at is None:
        yield "When it was signed: there is no time stamp by a third party."
    for each in report.ingredients:
        if each.manifest and not each.trusted:
            yield (
                f"Who signed the earlier manifest: {harmless(each.signer)} leads to no "
                "root that is trusted here."
            )
        if each.elsewhere:
            yield "What an earlier manifest says: it lies elsewhere, nothing is fetched"
    yield (
        "What the original showed: it is not in the file. Credentials say who did what "
        "with a picture, not that the picture is true."
    )


def _document(
    path: Path, report: Report, audit: Audit, unknown: list[str], *, verified: bool
) -> dict[str, Any]:
    """Return all of it for a script."""
    document = asdict(report)
    document["receipt"] = report.receipt and msgspec.to_builtins(report.receipt)
    document["faults"] = [asdict(each) for each in (*report.faults, *audit.faults)]
    audited = {"checked": audit.checked, "verified": not audit.faults}
    return {
        "file": str(path),
        "verified": verified,
        **document,
        "audit": audited if audit.checked or audit.faults else None,
        "unknown": unknown,
    }


def _show(
    path: Path, report: Report, audit: Audit, unknown: list[str], *, verified: bool
) -> None:
    """Print all of it for a person."""
    from rich.table import Table
    from rich.text import Text

    console = out()
    verdict = "verified" if verified else "NOT verified"
    if report.manifest is None and not report.faults:
        verdict = "no Content Credentials"
    colour = "green" if verified else "red"
    console.print(Text(f"{harmless(str(path))}: {verdict}", style=f"bold {colour}"))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    rows = [*_rows(report), *(("audit", each) for each in audit.checked)]
    for name, text in rows:
        table.add_row(Text(name, style="dim"), Text(harmless(text)))
    for fault in (*report.faults, *audit.faults):
        text = harmless(f"{fault.binding}: {fault.text} ({fault.code})")
        table.add_row(Text("broken", style="red"), Text(text, style="red"))
    for text in unknown:
        table.add_row(Text("unknown", style="dim"), Text(text, style="dim"))
    console.print(table)


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    if report.manifest is not None:
        yield "manifest", report.manifest
        yield "made with", report.generator
        yield "signed by", f"{report.signer} ({report.signer_name})"
    if report.signed_at is not None:
        yield "signed at", report.signed_at
    for action in report.actions:
        kind = action.get("digitalSourceType", "").rpartition("/")[2]
        said = (action.get("action", ""), kind, action.get("description", ""))
        yield "action", " · ".join(filter(None, said))
    for each in report.ingredients:
        earlier = f"with credentials by {each.signer}" if each.manifest else ""
        yield "made from", " · ".join(filter(None, (each.title, each.format, earlier)))
    if report.label is not None:
        kind = LABELS.get(report.label["Label"], report.label["Label"])
        made = (report.label[name] for name in ("ContentProducer", "ProduceID"))
        yield "AI label", " · ".join(filter(None, (kind, *made)))
    if report.receipt is not None:
        yield from _receipt_rows(report.receipt)


def _receipt_rows(receipt: Asserted) -> Iterator[tuple[str, str]]:
    pack = receipt.pack
    models = f"{pack.get('id', '')} {pack.get('version', '')}".strip()
    digest = pack.get("digest", "")[:_DIGEST_CHARACTERS]
    yield "job", " · ".join(filter(None, (receipt.job, receipt.operation)))
    yield "models", " · ".join(filter(None, (models, digest)))
    where = f"{receipt.log}, entry {receipt.index}"
    yield "receipt", f"{where} · {receipt.leaf_hash[:_DIGEST_CHARACTERS]}"
