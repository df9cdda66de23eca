"""Writing a report: the log is read and verified, and then there is a file."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from functions import events
from functions.audit.bundle import log_verifiers
from functions.audit.merkle import VerificationError
from functions.audit.notes import in_epoch, parse_origin
from functions.audit.periods import Period, moment, moment_ms, month_so_far
from functions.audit.report import CANCELLED, COMPLETED, FAILED, REFUSED
from functions.audit.reporting import About, page, survey
from functions.audit.source import KeptLog
from functions.audit.tally import Tally
from functions.cli.terminal import err, fail, print_json, say
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.audit.report import Report
    from functions.audit.reporting import Proof
    from functions.audit.source import LogSource
    from functions.audit.tiles import NoteVerifier
    from functions.cli.audit_place import Place
    from functions.keys import KeyProvider


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose report, of what period and log, with how many jobs listed.

    "" is left open; without an `epoch` it is the current log.
    """

    tenant: str
    since: str
    until: str
    jobs: int
    epoch: int | None = None

    def period(self, now: datetime) -> Period:
        """Return the period; raises `InvalidRequest`."""
        current = month_so_far(now)
        return Period(
            moment_ms(self.since) if self.since else current.start_ms,
            moment_ms(self.until) if self.until else current.stop_ms,
        )


def write_report(place: Place, wanted: Wanted, out: Path, *, json: bool) -> None:
    """Write the page to `out` once the log is verified, and say so."""
    tenant = Tenant(wanted.tenant).id
    now = datetime.now(UTC)
    period = wanted.period(now)
    tally = Tally(period, jobs_max=wanted.jobs)
    keys = place.key_provider()
    with closing(place.store()) as store, _progress(quiet=json) as progress:
        log = KeptLog(store, tenant, wanted.epoch)
        try:
            verifiers = _verifiers(log, tenant, keys)
            proof = survey(log, verifiers, tally, progress)
        except VerificationError as error:
            fail("VerificationError", f"no report: {error}")
    found = tally.report()
    about = _about(tenant, period, now)
    _write(out, page(found, proof, about))
    _tell(out, found, proof, json=json)


def _verifiers(log: LogSource, tenant: str, keys: KeyProvider) -> list[NoteVerifier]:
    """Return who may have signed for the log, which may be one after a restore."""
    name = log.checkpoint().partition("\n")[0]
    return in_epoch(log_verifiers(tenant, keys), *parse_origin(name))


def _about(tenant: str, period: Period, now: datetime) -> About:
    since, until = _rfc3339(period.start_ms), _rfc3339(period.stop_ms)
    return About(
        tenant,
        source="the database that the audit function writes to",
        export=f"guise audit export --tenant {tenant} --from {since} --to {until}"
        " -o BUNDLE",
        entries=f"/v1/tenants/{tenant}/log/entries?from={since}&to={until}",
        made_ms=int(now.timestamp() * 1000),
    )


def _rfc3339(at_ms: int) -> str:
    return events.rfc3339(moment(at_ms)).replace(".000Z", "Z")


def _write(out: Path, text: str) -> None:
    """Write the whole file or none of it."""
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(out)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _tell(out: Path, found: Report, proof: Proof, *, json: bool) -> None:
    count = found.outcomes.named
    facts = {
        "report": str(out),
        "verified": True,
        "size": proof.checkpoint.size,
        "root": proof.checkpoint.root.hex(),
        "from": _rfc3339(found.period.start_ms),
        "to": _rfc3339(found.period.stop_ms),
        "entries": found.entries,
        **{name: count[name] for name in (COMPLETED, REFUSED, FAILED, CANCELLED)},
        "erasures": found.erasures_total,
        "conflicts": found.conflicts_total,
    }
    if json:
        print_json(facts)
        return
    say(f"{proof.checkpoint.size:,} entries verified, {found.entries:,} in the period")
    say(f"written to {out}")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Yield what is told how many entries more were read; a terminal shows it."""
    console = err()
    if quiet or not console.is_terminal:
        yield lambda _read: None
        return
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("verifying entries", total=None)
        yield lambda more: bar.advance(task, more)
