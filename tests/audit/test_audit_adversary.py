"""Somebody who has the photo, the database and every key, after an erasure.

Whether the erased job used the photo is not to be told; before the erasure the same
attempts tell it, so that they are known to be worth something.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from functions.audit.sidecar import Kept, TenantKeys
from functions.commitments import SEALED, open_result
from functions.keys import events_key
from functions.problems import Failed, InvalidRequest
from tests.audit.house import BOTH
from tests.audit.jobs import CROWD, PHOTO, RESULT, Job, dump, erase, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.events import Event
    from tests.audit.house import House

DATABASES = BOTH
TENANTS = ("acme", "globex", "operator")
_HEX: re.Pattern[bytes] = re.compile(rb"[0-9a-f]{64}")

Dump = dict[str, list[dict[str, Any]]]


@dataclass
class Adversary:
    """Has the tables, the secrets, and every event that left; looks for a photo."""

    house: House
    photo: bytes
    told: list[Event]

    def __post_init__(self) -> None:
        self.tables: Dump = dump(self.house)
        self.keys = [TenantKeys.of(self.house.keys, each) for each in TENANTS]
        self.digest = sha256(self.photo)

    def suspects(self) -> dict[str, set[str]]:
        """Return the jobs that each attempt links to the photo."""
        return {
            "index": set(self._by_index()),
            "sidecars": set(self._by_sidecars()),
            "commitments": set(self._by_commitments()),
            "plain": set(self._by_plain_digests()),
        }

    def _by_index(self) -> Iterator[str]:
        macs = {keys.mac(self.digest) for keys in self.keys}
        for row in self.tables["image"]:
            if row["mac"] in macs:
                yield row["job"]

    def _by_sidecars(self) -> Iterator[str]:
        for job, salt, digests in self._opened():
            if self.digest in digests:
                yield job
            for event in self.told:
                if event.data["job"] == job and self._is_result(event, salt):
                    yield job

    def _opened(self) -> Iterator[tuple[str, str, set[str]]]:
        """Unwrap every key under every tenant's, and open every sidecar with each."""
        for row in self.tables["record_key"]:
            sealed = {
                each["kind"]: each["sealed"]
                for each in self.tables["sidecar"]
                if each["job"] == row["job"]
            }
            for keys in self.keys:
                try:
                    kept = Kept(row["wrapped"], sealed)
                    _, said = kept.started(row["job"], keys)
                except Failed:
                    continue
                if said is not None:
                    yield row["job"], said.salt, {each.sha256 for each in said.images}

    def _is_result(self, event: Event, salt: str) -> bool:
        try:
            found = open_result(salt, event.data["job"], event.extensions[SEALED])
        except (InvalidRequest, KeyError):
            return False
        return found == self.digest

    def _by_commitments(self) -> Iterator[str]:
        """Try as a salt everything that could be one."""
        salts = self._salts()
        said = {
            hmac.digest(salt, what, "sha256").hex()
            for salt in salts
            for what in (bytes.fromhex(self.digest), self.digest.encode(), self.photo)
        }
        for leaf in self._leaves():
            named = re.findall(rb"[0-9a-f]{64}", leaf)
            if said & {each.decode() for each in named}:
                yield msgspec.json.decode(leaf)["data"]["job"]
        for event in self.told:
            if any(self._is_result(event, salt.hex()) for salt in salts):
                yield event.data["job"]

    def _salts(self) -> set[bytes]:
        keys = self.house.keys
        found = {keys.secret("audit"), bytes(32)}
        for each in self.keys:
            found |= {each.index, each.wrap}
            signer = keys.signer(events_key(each.tenant))
            found |= {signer.public_bytes(), signer.private.private_bytes_raw()}
        found.add(keys.signer("audit").private.private_bytes_raw())
        found |= {bytes.fromhex(salt) for _, salt, _ in self._opened()}
        for value in self._values():
            found.add(value[:64])
            found.add(hashlib.sha256(value).digest())
            found |= {bytes.fromhex(each.decode()) for each in _HEX.findall(value)}
            if len(value) < 400:
                found |= {value[at : at + 32] for at in range(len(value) - 31)}
        return {each for each in found if each}

    def _by_plain_digests(self) -> Iterator[str]:
        """Look for any digest of the photo, in any form, in any row."""
        digests = [
            hashlib.new(name, self.photo).digest()
            for name in ("sha256", "sha512", "sha1", "md5", "blake2b")
        ]
        digests += [hashlib.sha256(digest).digest() for digest in digests]
        forms = [self.photo]
        for digest in digests:
            forms += [digest, digest.hex().encode(), base64.b64encode(digest)]
            forms.append(base64.urlsafe_b64encode(digest).rstrip(b"="))
        for rows in self.tables.values():
            for row in rows:
                if any(form in value for value in _bytes(row) for form in forms):
                    yield row.get("job", "?")

    def _leaves(self) -> list[bytes]:
        return [row["leaf"] for row in self.tables["entry"] if row["job"]]

    def _values(self) -> Iterator[bytes]:
        for rows in self.tables.values():
            for row in rows:
                yield from _bytes(row)

    def profile(self, job: str) -> Counter[Any]:
        """Return what the rows about a job look like: how many, how long."""
        shapes: Counter[Any] = Counter()
        for table, rows in self.tables.items():
            for row in rows:
                if row.get("job") == job:
                    shape = [(name, _length(value)) for name, value in row.items()]
                    shapes[table, tuple(shape)] += 1
        return shapes


def _bytes(row: dict[str, Any]) -> list[bytes]:
    return [
        value if isinstance(value, bytes) else str(value).encode()
        for value in row.values()
    ]


def _length(value: object) -> int:
    return len(value) if isinstance(value, bytes | str) else 0


def ran(house: House, name: str, **used: Any) -> list[Event]:
    """Run a job, and return the events that its subscribers got."""
    job = Job(house, name, salt=hashlib.sha256(name.encode() * 9).hexdigest(), **used)
    event = job.completed(used.get("result", RESULT)) if "result" in used else None
    assert job.send(job.started()).status_code == 200
    event = event or job.completed()
    assert job.send(event).status_code == 204
    return [event]


def test_whoever_has_photo_database_and_keys_cannot_tell(house: House) -> None:
    """Job a used the photo, job b another one of the same size: both look alike."""
    told = ran(house, "job-a", source=PHOTO, target=CROWD)
    told += ran(house, "job-b", source=PHOTO[::-1], target=CROWD)
    told += ran(house, "job-c", source=b"somebody else", references=(CROWD,))
    before = Adversary(house, PHOTO, told)
    assert before.suspects() == {
        "index": {"job-a"},
        "sidecars": {"job-a"},
        "commitments": {"job-a"},
        "plain": set(),
    }
    for job in ("job-a", "job-b"):
        assert erase(house, job).status_code == 200
    after = Adversary(house, PHOTO, told)
    assert after.suspects() == {
        "index": set(),
        "sidecars": set(),
        "commitments": set(),
        "plain": set(),
    }
    assert after.profile("job-a") == after.profile("job-b")
    assert sum(after.profile("job-a").values()) == 4  # three entries, one statement


def test_whoever_has_the_result_cannot_tell_either(house: House) -> None:
    """Nor by what every subscriber was sent."""
    told = ran(house, "job-a")
    before = Adversary(house, RESULT, told).suspects()
    assert before["index"] == before["sidecars"] == before["commitments"] == {"job-a"}
    erase(house, "job-a")
    assert not any(Adversary(house, RESULT, told).suspects().values())


def test_whoever_has_a_part_of_it_finds_it_before_and_not_after(house: House) -> None:
    """A reference is an image of somebody, too."""
    told = ran(house, "job-a", references=(b"a face among many",))
    before = Adversary(house, b"a face among many", told).suspects()
    assert before["index"] == before["sidecars"] == before["commitments"] == {"job-a"}
    erase(house, "job-a")
    after = Adversary(house, b"a face among many", told)
    assert not any(after.suspects().values())
