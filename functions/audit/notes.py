"""Checkpoints that somebody kept: found in any text, told apart by tenant and epoch.

A receipt holds one, a `tlog-proof` holds one, a job's record holds one, and a file
may hold many, one after the other.  Each is a C2SP signed note whose first line is
the origin of the log it speaks of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from functions.audit.merkle import VerificationError
from functions.audit.tiles import Checkpoint, NoteVerifier, open_checkpoint, origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NOTE: Final = re.compile(r"(?:[^\n]+\n){3,16}\n(?:— \S+ [A-Za-z0-9+/]+=*\n)+")
_ORIGIN: Final = re.compile(
    r"guise\.audit/([a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?)(?:/([1-9][0-9]{0,4}))?",
)
_SHOWN: Final = 12
EPOCH_MAX: Final = 32_767
"""As many as the tables can count."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One checkpoint whose signature was checked, and where it was found."""

    tenant: str
    epoch: int
    checkpoint: Checkpoint
    note: str
    where: str = ""

    @property
    def size(self) -> int:
        """How many entries the log had."""
        return self.checkpoint.size

    def __str__(self) -> str:
        """Return what a person needs to find it again."""
        root = self.checkpoint.root.hex()[:_SHOWN]
        found = f" ({self.where})" if self.where else ""
        return f"{self.checkpoint.origin} at {self.size}, root {root}{found}"


def parse_origin(name: str) -> tuple[str, int]:
    """Return the tenant and the epoch that `name` is the origin of.

    Raises `VerificationError`.
    """
    match = _ORIGIN.fullmatch(name)
    found = (match[1], int(match[2] or 1)) if match else ("", 0)
    if not match or origin(*found) != name or found[1] > EPOCH_MAX:
        raise VerificationError(f"{name[:80]!r} is no log of ours")
    return found


def open_kept(note: str, verifiers: Iterable[NoteVerifier], where: str = "") -> Kept:
    """Return the checkpoint in a note that a key of its log signed.

    `verifiers` may name any epoch of the log: the key is the same.  Raises
    `VerificationError`.
    """
    name = note.partition("\n")[0]
    tenant, epoch = parse_origin(name)
    known = in_epoch(verifiers, tenant, epoch)
    return Kept(tenant, epoch, open_checkpoint(note, known), note, where)


def in_epoch(
    verifiers: Iterable[NoteVerifier],
    tenant: str,
    epoch: int,
) -> list[NoteVerifier]:
    """Return the keys among `verifiers` of a tenant's log, named for its `epoch`."""
    found = []
    for each in verifiers:
        match = _ORIGIN.fullmatch(each.name)
        if match and match[1] == tenant:
            found.append(NoteVerifier(origin(tenant, epoch), each.public))
    return found


def find_notes(text: str) -> list[str]:
    """Return every signed note in `text`: plain, or in a string of JSON."""
    found = _NOTE.findall(text)
    for line in (text, *text.splitlines()):
        if line.startswith(("{", "[", '"')):
            try:
                document = msgspec.json.decode(line)
            except (msgspec.DecodeError, RecursionError):
                continue
            found += (note for each in _strings(document) for note in find_notes(each))
    return list(dict.fromkeys(found))


def only_notes(text: str) -> bool:
    """Return whether `text` is signed notes and nothing else."""
    return not _NOTE.sub("", text).strip()


def _strings(value: object) -> Iterator[str]:
    """Yield the strings in a JSON document that can hold a note."""
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            waiting += here.values()
        elif isinstance(here, list):
            waiting += here
        elif isinstance(here, str) and "\n\n— " in here:
            yield here
