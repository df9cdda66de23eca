"""Backing the log up, and bringing it back as the next epoch."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functions.audit.backup import copy_to_witness, open_backup, write_backup
from functions.audit.bundle import log_verifiers
from functions.audit.copies import check_witness
from functions.audit.merkle import VerificationError
from functions.audit.notes import find_notes
from functions.audit.restore import restore, size_of
from functions.cli.terminal import busy, err, fail, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.audit.backup import KeysOf
    from functions.audit.restore import Report
    from functions.audit.tiles import NoteVerifier
    from functions.cli.audit.place import Place
    from functions.keys import KeyProvider
    from functions.storage.base import Store as Objects

PRIVATE = (
    "It holds what is private, too: whatever is erased from now on is still in it. "
    "A restore replays erasures from the second store: keep that at least as long."
)


def back_up(place: Place, out: Path, witness: str, *, json: bool) -> None:
    """Write a backup, bring the second store up to date, and say what is in it."""
    keys = place.key_provider()
    objects = _witness(witness)
    try:
        with closing(place.store()) as store, busy("writing the backup", quiet=json):
            held = write_backup(store, out, _keys_of(keys))
            copied = copy_to_witness(store, held, objects) if objects else None
    except VerificationError as error:
        fail("VerificationError", f"no backup: {error}")
    size = out.stat().st_size
    if json:
        logs = [asdict(each) for each in held]
        print_json({"file": str(out), "bytes": size, "logs": logs, "copied": copied})
        return
    for each in held:
        say(f"{each.tenant}, epoch {each.epoch}: {each.size} entries, verified")
    if copied is not None:
        say(f"the second store: {copied} copies were missing, and are there now")
    say(f"{out}: {size:,} bytes. {PRIVATE}")


def bring_back(
    place: Place, file: Path, witness: str, erasures: Path | None, *, json: bool
) -> None:
    """Restore a backup, and say what it lacks."""
    keys = place.key_provider()
    statements = find_notes(erasures.read_text("utf-8")) if erasures else ()
    try:
        with (
            tempfile.TemporaryDirectory() as scratch,
            busy("restoring", quiet=json),
            closing(open_backup(file, Path(scratch))) as backup,
            closing(place.store()) as target,
        ):
            report = restore(
                backup,
                target,
                keys,
                _keys_of(keys),
                witness=_witness(witness),
                statements=statements,
            )
    except VerificationError as error:
        fail("VerificationError", f"nothing was restored: {error}")
    if json:
        print_json(_document(report))
    else:
        _tell(report)


def _witness(url: str) -> Objects | None:
    from functions.storage.locate import open_store

    url = url or os.environ.get("GUISE_WITNESS", "")
    if not url:
        return None
    check_witness(url)
    return open_store(url)


def _keys_of(keys: KeyProvider) -> KeysOf:
    def of(tenant: str) -> Sequence[NoteVerifier]:
        return log_verifiers(tenant, keys)

    return of


def _document(report: Report) -> dict[str, Any]:
    return {
        "logs": [
            {
                "tenant": log.tenant,
                "epoch": log.epoch,
                "lost": log.lost,
                "earlier": [
                    {"epoch": each.epoch, "held": each.held, "known": size_of(each)}
                    for each in log.earlier
                ],
            }
            for log in report.logs
        ],
        "erased": [{"tenant": each.tenant, "job": each.job} for each in report.erased],
        "unsigned": report.unsigned,
    }


def _tell(report: Report) -> None:
    for log in report.logs:
        say(f"{log.tenant}: epoch {log.epoch} is open")
        for each in log.earlier:
            known, what = size_of(each), f"  epoch {each.epoch}: {each.held} entries"
            if each.held == known:
                say(f"{what}, which is all that is known of")
            else:
                say(f"{what}; LOST: entries {each.held} to {known - 1}")
    say(f"{len(report.erased)} erasures were replayed")
    for text in report.unsigned:
        told = f"passed over, for nobody signed it: {text!r}"
        err().print(told, markup=False, style="red")
