"""Answering what a person may ask for: where an image was used, and its erasure."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from functions import events
from functions.audit.erasing import erase
from functions.audit.log import Log
from functions.audit.searching import EXACT, every
from functions.cli.terminal import busy, err, harmless, out, print_json, say
from functions.keys import events_key
from functions.problems import Forbidden, InvalidRequest, NotFound
from functions.tenant import Tenant, job_id

if TYPE_CHECKING:
    from pathlib import Path

    from functions.audit.searching import Found, Hit
    from functions.cli.audit.place import Place
    from functions.cli.jobs.work import Place as Jobs
    from functions.events import Event
    from functions.keys import KeyProvider
    from functions.swap.journal import Books

ACTOR: Final = "operator"
_HEX: Final = re.compile(r"[0-9a-f]{64}")


def search_log(
    place: Place, tenant: str, image: Path | None, sha256: str, *, json: bool
) -> None:
    """Print which jobs of a tenant used exactly this image."""
    who, digest = Tenant(tenant).id, _digest(image, sha256)
    with closing(place.store()) as store, busy("searching", quiet=json):
        found = every(store, place.key_provider(), who, digest)
    if json:
        print_json(found)
    else:
        _print(found)


def _digest(image: Path | None, sha256: str) -> str:
    if (image is None) == (not sha256):
        raise InvalidRequest("name the image by one of --image and --sha256")
    if image is not None:
        with image.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not _HEX.fullmatch(sha256.lower()):
        raise InvalidRequest("a SHA-256 has 64 hexadecimal digits")
    return sha256.lower()


def _print(found: Found) -> None:
    """Print each hit line by line: an id is copied, and is never cut."""
    from rich.table import Table
    from rich.text import Text

    if not found.hits:
        say(f"{found.tenant}: no job that is not erased used exactly this image")
    table = Table.grid(padding=(0, 2))
    for hit in found.hits:
        for name, text in _facts(hit):
            table.add_row(name, Text(harmless(text)))
        table.add_row()
    out().print(table)
    say(EXACT)


def _facts(hit: Hit) -> list[tuple[str, str]]:
    ended = f"{hit.operation} {hit.outcome} {hit.ended}" if hit.outcome else "not yet"
    facts = [
        ("job", hit.job),
        ("used as", hit.role),
        ("started", f"{hit.started} by {hit.actor}"),
        ("consent", f"{hit.basis} {hit.consent}"),
        ("ended", ended),
        ("proof", _proof(hit)),
    ]
    if hit.expired:
        facts.append(("expired", f"{hit.expired}: the tenant's store has it no longer"))
    if hit.erased:
        facts.append(("erasure", "not finished: ask for it again"))
    return [(name, text.strip()) for name, text in facts]


def _proof(hit: Hit) -> str:
    if hit.proof is None:
        return "none: the entry is gone, or does not open"
    epoch = f" of epoch {hit.proof.epoch}" if hit.proof.epoch > 1 else ""
    return f"entry {hit.proof.index}{epoch} commits to exactly this image"


def erase_job(
    place: Place,
    tenant: str,
    job: str,
    jobs: Jobs | None,
    file: Path | None,
    *,
    json: bool,
) -> None:
    """Erase a job and print or write the statement; exit with 1 if a part remains.

    The tenant's store first: as long as it holds the salt, nothing is erased.
    """
    who, ident = Tenant(tenant).id, job_id(job)
    keys = place.key_provider()
    url = place.url()
    own, missed = _erase_in_store(jobs, ident)
    with closing(Log.at(url, keys)) as log:
        if own is not None:
            _take_over(own, log, keys)
        text = erase(log, keys, who, ident, actor=ACTOR)
    _copy(who, ident, text)
    if file is not None:
        file.write_text(text)
    if json:
        print_json({"tenant": who, "job": ident, "statement": text, "missed": missed})
    elif file is None:
        sys.stdout.write(text)
    else:
        say(f"{ident} is erased; {file} says so")
    if missed:
        err().print(f"not reached: {missed}", markup=False, style="red")
        sys.exit(1)


def _copy(tenant: str, job: str, text: str) -> None:
    """Copy the statement into the second store, if one is named.

    The function copies what it hears of; this process it does not hear.
    """
    from functions.audit import copies
    from functions.storage.locate import open_store

    url = os.environ.get("GUISE_WITNESS", "")
    if url:
        copies.check_witness(url)
        copies.copy(open_store(url), copies.statement_key(tenant, job), text)


def _erase_in_store(jobs: Jobs | None, job: str) -> tuple[Event | None, str]:
    """Erase the job as the door's DELETE does; return its event, and what was missed.

    Raises `Conflict` while the job has not ended, and `Unavailable` where its ending
    is still to be told: then nothing at all is erased.
    """
    if jobs is None:
        return None, ""
    try:
        if jobs.url:
            jobs.client().erase(job)
            return None, ""
        books = jobs.books()
        from functions.swap.records import erase as erase_in_store

        erase_in_store(job, books)
        return _told(job, books), ""
    except NotFound as problem:
        return None, (
            f"{problem.detail}. Where else its store holds the job's salt, and until"
            " it is erased there, the log's commitments can be opened"
        )


def _told(job: str, books: Books) -> Event | None:
    from functions.swap import ledger

    ending = ledger.record(books.tenant, job, books.store)
    told = [events.from_dict(each) for each in ending.events] if ending else []
    return next((each for each in told if each.type == events.SWAP_ERASED), None)


def _take_over(event: Event, log: Log, keys: KeyProvider) -> None:
    """Record the tenant's own event now; its broker may bring it once more."""
    with suppress(Forbidden):  # its key is not at hand: audit's own event will do
        events.verify(event, keys.verifiers(events_key(event.tenant)))
        log.append(event)
