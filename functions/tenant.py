"""Who a request is for.  A `Tenant` is the only maker of storage keys.

Keys are relative to the tenant's own store (a bucket, or a prefix of one), so
there is no key with which one tenant could name another's object.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, NewType

from functions.problems import InvalidRequest, UnknownTenant

Key = NewType("Key", str)
"""A storage key, made by a `Tenant` and by nobody else."""

KEY_BYTES_MAX: Final = 512

REQUESTS: Final = Key("requests/")
UPLOADS: Final = Key("uploads/")
RESULTS: Final = Key("results/")
JOBS: Final = Key("jobs/")
OUTBOX: Final = Key("outbox/")
UNDELIVERED: Final = Key("undelivered/")
CONSENTS: Final = Key("consents/")
GATE: Final = Key("policy/gate.json")
RETENTION: Final = Key("policy/retention.json")
BUDGET: Final = Key("policy/budget.json")
"""Billing's signed word on the tenant's budget; nobody else writes it."""
STORED: Final = Key("policy/stored.json")
"""The sweeper's signed word on how much the tenant's store holds."""
SWEPT: Final = Key("policy/swept")
"""Written by each look for what is too old: its time is the store's own now."""
WEBHOOKS: Final = Key("policy/webhooks.json")
WEBHOOKS_DUE: Final = Key("webhooks/due/")
RETIRING: Final = Key("policy/retiring/")
"""An object a look for what is too old, while it goes on; see `retiring`."""

_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_JOB = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_EXTENSION = re.compile(r"[a-z0-9]{1,5}")
# Control, format (bidi, too), surrogate, private, unassigned; line and paragraph ends.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")


def job_id(text: str) -> str:
    """Return `text` if it can name a job, or raise `InvalidRequest`."""
    if not _JOB.fullmatch(text):
        raise InvalidRequest(
            "a job id has 1 to 64 of a-z, 0-9 and '-', no '-' at either end",
        )
    return text


def _caller_key(text: str, prefix: str) -> Key:
    """Return a key that a caller named, if it lies plainly under `prefix`."""
    if len(text.encode(errors="surrogatepass")) > KEY_BYTES_MAX:
        raise InvalidRequest(f"a key has at most {KEY_BYTES_MAX} bytes")
    if not text.startswith(prefix) or text == prefix:
        raise InvalidRequest(f"a key here begins with {prefix!r} and a name")
    # One file must have one name: no escapes, no second Unicode form, no
    # character that a file system, a shell or a log would read as something else.
    if _PERCENT.search(text) or "\\" in text:
        raise InvalidRequest("a key holds no percent-escapes and no backslash")
    if any(unicodedata.category(c) in _INVISIBLE for c in text):
        raise InvalidRequest("a key holds no control characters")
    if unicodedata.normalize("NFC", text) != text:
        raise InvalidRequest("a key is in Unicode normalisation form C")
    if any(part.startswith(".") or not part for part in text.split("/")):
        raise InvalidRequest("no part of a key is empty or begins with '.'")
    return Key(text)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant, valid by construction: 1 to 32 of a-z, 0-9 and '-'."""

    id: str

    def __post_init__(self) -> None:
        """Refuse anything that could not be one path segment and one DNS label."""
        if not _ID.fullmatch(self.id):
            raise UnknownTenant(internal=f"bad tenant id {self.id!r}")

    def request(self, job: str) -> Key:
        """Return where uploading a request starts `job`."""
        return Key(f"{REQUESTS}{job_id(job)}.json")

    def upload(self, text: str) -> Key:
        """Return the input a caller named, e.g. `uploads/a.jpg`."""
        return _caller_key(text, UPLOADS)

    def consent(self, text: str) -> Key:
        """Return the consent record a caller named, e.g. `consents/42.json`."""
        return _caller_key(text, CONSENTS)

    def received(self, job: str, name: str) -> Key:
        """Return where the door keeps the input `name` that came with `job`."""
        return self.upload(f"{UPLOADS}{job_id(job)}/{name}")

    def received_folder(self, job: str) -> Key:
        """Return the prefix of everything that came with `job`."""
        return Key(f"{UPLOADS}{job_id(job)}/")

    def pinned(self, job: str) -> Key:
        """Return where the parsed request rests, its inputs pinned."""
        return Key(f"{JOBS}{job_id(job)}/request.json")

    def claim(self, job: str) -> Key:
        """Return where it stands who works on `job`."""
        return Key(f"{JOBS}{job_id(job)}/claim.json")

    def record(self, job: str) -> Key:
        """Return where the commit of `job` is, or will be."""
        return Key(f"{RESULTS}{job_id(job)}/job.json")

    def output(self, job: str, attempt: int, extension: str) -> Key:
        """Return where attempt number `attempt` puts its output."""
        if not _EXTENSION.fullmatch(extension):
            raise InvalidRequest(internal=f"bad extension {extension!r}")
        return Key(f"{RESULTS}{job_id(job)}/{attempt:d}.{extension}")

    def outbox(self, job: str) -> Key:
        """Return the mark that `job` is not fully ended and told."""
        return Key(f"{OUTBOX}{job_id(job)}")

    def undelivered(self, job: str) -> Key:
        """Return the note of what cannot be delivered of `job`."""
        return Key(f"{UNDELIVERED}{job_id(job)}.json")

    def webhook(self, job: str) -> Key:
        """Return where it stands who was called about the end of `job`."""
        return Key(f"webhooks/jobs/{job_id(job)}.json")

    def webhook_due(self, job: str, when: float) -> Key:
        """Return the mark that somebody is to be called about `job` at `when` (epoch).

        Its name sorts by the time.
        """
        return Key(f"{WEBHOOKS_DUE}{int(when):012d}-{job_id(job)}")

    def webhook_off(self, name: str) -> Key:
        """Return the note that the endpoint `name` wants no more calls."""
        return Key(f"webhooks/off/{job_id(name)}.json")


def job_of_request(name: str) -> str:
    """Return the job an object named `requests/<job>.json` starts."""
    stem = name.removeprefix(REQUESTS).removesuffix(".json")
    if name != f"{REQUESTS}{stem}.json":
        raise InvalidRequest("a request is uploaded as requests/<job>.json")
    return job_id(stem)
