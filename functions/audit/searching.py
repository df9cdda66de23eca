"""Answering a person who asks which jobs used exactly this image.

The look-up is by exact bytes.  An index of faces would find a photo that was scaled
or saved anew, and would itself be a store of biometric data of everybody in it.

A hit is proven where the salt in the job's sidecar and the image's digest make a
commitment that stands in an entry of the log.  Erased jobs are not found: that is
what erasing is.  Those that expired are: the tenant keeps them no longer, the log does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions import events
from functions.audit import private
from functions.audit.leaf import ERASURES, says_erased
from functions.audit.sidecar import TenantKeys
from functions.commitments import Role, commitment, committed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.audit.private import Line
    from functions.audit.sidecar import Kept
    from functions.audit.store import Store
    from functions.keys import KeyProvider

JOBS_MAX: Final = 200
EXACT: Final = (
    "Looked up by the exact bytes of the file: the same picture scaled, cut or saved"
    " anew is another file. To find a face in any picture takes an index of faces,"
    " which would itself be biometric data of everybody in it; there is none."
)


class Proof(msgspec.Struct, frozen=True):
    """The entry whose commitment opens to the image; hashes are hex."""

    epoch: int
    index: int
    leaf_hash: str
    commitment: str


class Hit(msgspec.Struct, frozen=True, omit_defaults=True):
    """That a job used the image, as what, when, for whom, and how it ended.

    `proof` is missing where the entry's time was over, or where it does not open.
    `expired` is when the tenant's store ceased to keep it.  `erased` says that an
    erasure has begun that is to be asked for again.
    """

    job: str
    role: Role
    started: str = ""
    actor: str = ""
    operation: str = ""
    basis: str = ""
    consent: str = ""
    outcome: str = ""
    ended: str = ""
    expired: str = ""
    erased: bool = False
    proof: Proof | None = None


class Found(msgspec.Struct, frozen=True):
    """A page of hits, in the order of their jobs' ids.

    `following` is what to go on after, "" at the end.
    """

    tenant: str
    sha256: str
    hits: list[Hit]
    following: str
    exact: str = EXACT


def search(
    store: Store,
    keys: KeyProvider,
    tenant: str,
    sha256: str,
    *,
    after: str = "",
    limit: int = JOBS_MAX,
) -> Found:
    """Return which of a tenant's jobs used the image whose SHA-256 (hex) is given.

    At most `limit` jobs, those after `after`.  Raises `Failed` without the secret.
    """
    tenant_keys = TenantKeys.of(keys, tenant)
    with store.searching(tenant) as db:
        mac = tenant_keys.mac(sha256)
        used = private.users(db, tenant, mac, after, limit)
        jobs = sorted({job for job, _ in used})
        kept = private.kept(db, tenant, jobs)
        lines = private.lines(db, tenant, jobs)
    by_job: dict[str, list[_Said]] = {job: [] for job in jobs}
    for line in lines:
        by_job[line.job].append(_Said(line))
    hits = [
        _hit(job, role, by_job[job], _salt(job, kept, tenant_keys), sha256)
        for job, role in used
    ]
    following = jobs[-1] if len(jobs) == limit else ""
    return Found(tenant, sha256, hits, following)


def every(
    store: Store, keys: KeyProvider, tenant: str, sha256: str, *, limit: int = JOBS_MAX
) -> Found:
    """Return all there are, page after page; `limit` jobs a page."""
    found = search(store, keys, tenant, sha256, limit=limit)
    hits = list(found.hits)
    while found.following:
        after = found.following
        found = search(store, keys, tenant, sha256, after=after, limit=limit)
        hits += found.hits
    return Found(tenant, sha256, hits, "")


class _Said:
    """What an entry says; nothing but its place once it is pruned."""

    def __init__(self, line: Line) -> None:
        document = line.document()
        self.line = line
        self.time: str = document.get("time", "")
        self.data: dict[str, Any] = document.get("data", {})

    def __getitem__(self, name: str) -> str:
        """Return a text in the data, "" where there is none."""
        return _text(self.data, name)

    def proof(self, role: Role, opened: str) -> Proof | None:
        """Return that this entry commits to the image, if it does."""
        if (role, opened) not in committed(self.data):
            return None
        line = self.line
        return Proof(line.epoch, line.index, line.leaf_hash.hex(), opened)


def _hit(job: str, role: Role, said: Sequence[_Said], salt: str, sha256: str) -> Hit:
    opened = commitment(salt, sha256) if salt else ""
    proofs = (each.proof(role, opened) for each in said)
    begun = _last(said, events.SWAP_STARTED)
    ended = _last(said, *_ENDINGS)
    admission = begun.data.get("admission") if begun else None
    gone = [each for each in said if each.line.type in ERASURES]
    erased = [each for each in gone if says_erased(each.line.type, each.data)]
    expired = [each for each in gone if each not in erased]
    consent = admission.get("consent") if isinstance(admission, dict) else None
    return Hit(
        job=job,
        role=role,
        started=begun.time if begun else "",
        actor=begun["actor"] if begun else "",
        operation=begun["operation"] if begun else "",
        basis=_text(consent, "basis"),
        consent=_text(consent, "state"),
        outcome=ended["outcome"] if ended else "",
        ended=ended.time if ended else "",
        expired=expired[0].time if expired else "",
        erased=bool(erased),
        proof=next((proof for proof in proofs if proof), None),
    )


_ENDINGS: Final = (events.SWAP_COMPLETED, events.SWAP_FAILED, events.SWAP_REFUSED)


def _last(said: Sequence[_Said], *kinds: str) -> _Said | None:
    return next((each for each in reversed(said) if each.line.type in kinds), None)


def _text(document: object, name: str) -> str:
    value = document.get(name, "") if isinstance(document, dict) else ""
    return value if isinstance(value, str) else ""


def _salt(job: str, kept: dict[str, Kept], keys: TenantKeys) -> str:
    """Return what opens a job's commitments; "" where it was erased just now."""
    found = kept.get(job)
    _, begun = found.started(job, keys) if found else (b"", None)
    return begun.salt if begun else ""
