"""The open formats of the log, so that tools we did not write can check it.

Sources, all at c2sp.org: `signed-note` (text and its signatures; verifier keys
as one line), `tlog-checkpoint` (what a note says of a log), `tlog-tiles` (the
paths and bytes in which a log is read) and `tlog-proof` (a proof as one file).
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functions.audit.merkle import HASH_BYTES, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from functions.keys import Signer

TILE_WIDTH: Final = 256
TILE_HEIGHT: Final = 8
LEVEL_MAX: Final = 63
ENTRY_BYTES_MAX: Final = 65_535
NOTE_CHARACTERS_MAX: Final = 131_072

_PROOF: Final = "c2sp.org/tlog-proof@v1"
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_ED25519: Final = b"\x01"
_KEY_ID_BYTES: Final = 4
_SIGNATURE: Final = re.compile(r"— (\S+) ([A-Za-z0-9+/]+=*)")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_CHECKPOINT_LINES: Final = 3
_TILE: Final = re.compile(
    r"(?:x[0-9]{3}/){0,6}[0-9]{3}(?:\.p/([1-9][0-9]{0,2}))?",
)


def origin(tenant: str, epoch: int = 1) -> str:
    """Return the name of a tenant's log, which is also its key's name.

    A restore from a backup begins a log of its own, the next epoch.
    """
    name = f"guise.audit/{tenant}"
    return name if epoch == 1 else f"{name}/{epoch}"


def key_id(name: str, public: bytes) -> bytes:
    """Return the 4-byte id of an Ed25519 key in notes signed as `name`."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A raw Ed25519 public key, and the name it signs notes as."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, line: str) -> NoteVerifier:
        """Return the verifier in its `line`, or raise `VerificationError`."""
        name, _, rest = line.strip().partition("+")
        ident, _, encoded = rest.partition("+")
        raw = _base64(encoded)
        if raw[:1] != _ED25519 or len(raw) != len(_ED25519) + HASH_BYTES:
            raise VerificationError("not an Ed25519 verifier key")
        found = cls(name, raw[1:])
        if not name or found.id.hex() != ident:
            raise VerificationError("the verifier key and its id do not match")
        return found

    @property
    def id(self) -> bytes:
        """The 4 bytes that a signature names this key with."""
        return key_id(self.name, self.public)

    @property
    def line(self) -> str:
        """The key as tools for signed notes take it: `<name>+<id>+<base64>`."""
        encoded = base64.b64encode(_ED25519 + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{encoded}"

    def verify(self, signature: bytes, text: bytes) -> bool:
        """Return whether `signature` is this key's over `text`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


def sign_note(text: str, name: str, signer: Signer) -> str:
    """Return `text`, which ends in a newline, with the signature of `name` below."""
    signature = key_id(name, signer.public_bytes()) + signer.sign(text.encode())
    return f"{text}\n— {name} {base64.b64encode(signature).decode()}\n"


def open_note(note: str, verifiers: Iterable[NoteVerifier]) -> str:
    """Return the text of a note that at least one of `verifiers` signed.

    Signatures by others are passed over; a wrong one by a known key refuses the
    note.  Raises `VerificationError`.
    """
    if len(note) > NOTE_CHARACTERS_MAX or _CONTROL.search(note):
        raise VerificationError("the note is too long, or holds control characters")
    head, blank, tail = note.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise VerificationError("not a signed note")
    text = head + "\n"
    known = {(each.name, each.id): each for each in verifiers}
    signed = [_signed_by(line, text, known) for line in tail[:-1].split("\n")]
    if not any(signed):
        raise VerificationError("the note is not signed by a known key")
    return text


def _signed_by(
    line: str,
    text: str,
    known: dict[tuple[str, bytes], NoteVerifier],
) -> bool:
    match = _SIGNATURE.fullmatch(line)
    if match is None:
        raise VerificationError("a signature line is malformed")
    raw = _base64(match[2])
    verifier = known.get((match[1], raw[:_KEY_ID_BYTES]))
    if verifier is None:
        return False
    if not verifier.verify(raw[_KEY_ID_BYTES:], text.encode()):
        raise VerificationError(f"the signature of {match[1]} is wrong")
    return True


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log at one size: its origin, how many entries, and their root."""

    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Return the checkpoint in a note's text, or raise `VerificationError`."""
        lines = text.split("\n")
        if len(lines) < _CHECKPOINT_LINES + 1 or not all(lines[:-1]) or lines[-1]:
            raise VerificationError("not a checkpoint")
        root = _base64(lines[2])
        if not _SIZE.fullmatch(lines[1]) or len(root) != HASH_BYTES:
            raise VerificationError("not a checkpoint")
        return cls(lines[0], int(lines[1]), root)

    def text(self) -> str:
        """Return the note text of this checkpoint."""
        root = base64.b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{root}\n"


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> str:
    """Return the signed note of a checkpoint; the key's name is the origin."""
    return sign_note(checkpoint.text(), checkpoint.origin, signer)


def open_checkpoint(note: str, verifiers: Iterable[NoteVerifier]) -> Checkpoint:
    """Return the checkpoint in a note signed by one of its own log's `verifiers`.

    Raises `VerificationError`.
    """
    checkpoint = Checkpoint.parse(note.rpartition("\n\n")[0] + "\n")
    # Another log's key vouches for nothing here, even where we know it too.
    open_note(note, [each for each in verifiers if each.name == checkpoint.origin])
    return checkpoint


def tile_path(number: int, width: int = TILE_WIDTH) -> str:
    """Return `<N>[.p/<W>]`: 1234067 is written `x001/x234/067`."""
    digits = f"{number:d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[each : each + 3] for each in range(0, len(digits), 3)]
    path = "/".join([*(f"x{each}" for each in groups[:-1]), groups[-1]])
    return path if width == TILE_WIDTH else f"{path}.p/{width:d}"


def parse_tile_path(path: str) -> tuple[int, int] | None:
    """Return the number and width in `<N>[.p/<W>]`; `None` if it is none.

    Each tile has one path: `x000/001` is refused.
    """
    match = _TILE.fullmatch(path)
    if match is None:
        return None
    number = int(re.sub(r"[x/]", "", path.partition(".")[0]))
    width = int(match[1] or TILE_WIDTH)
    return (number, width) if tile_path(number, width) == path else None


def tile_bytes(hashes: Sequence[bytes]) -> bytes:
    """Return the bytes of a tile: 1 to 256 hashes, one after the other."""
    return b"".join(hashes)


def bundle_bytes(entries: Iterable[bytes]) -> bytes:
    """Return an entry bundle: each entry after its length, uint16 big-endian."""
    return b"".join(len(each).to_bytes(2) + each for each in entries)


def parse_bundle(data: bytes) -> list[bytes]:
    """Return the entries in a bundle, or raise `VerificationError`."""
    entries, at = [], 0
    while at < len(data):
        start = at + 2
        at = start + int.from_bytes(data[at:start])
        if at > len(data):
            raise VerificationError("the entry bundle is cut short")
        entries.append(data[start:at])
    return entries


def proof_text(
    index: int, path: Sequence[bytes], checkpoint: str, leaf: bytes = b""
) -> str:
    """Return a `tlog-proof`: an inclusion proof and its checkpoint in one file.

    With the `leaf` as the format's extra data, it proves what it holds.
    """
    lines = [_PROOF]
    if leaf:
        lines.append("extra " + base64.b64encode(leaf).decode())
    lines.append(f"index {index}")
    lines += [base64.b64encode(each).decode() for each in path]
    return "\n".join(lines) + "\n\n" + checkpoint


@dataclass(frozen=True, slots=True)
class ProofFile:
    """What a `tlog-proof` says; nobody vouches for `extra` until its hash is proven."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes = b""

    @classmethod
    def parse(cls, text: str) -> ProofFile:
        """Return the proof in a file's text, or raise `VerificationError`."""
        head, blank, checkpoint = text.partition("\n\n")
        first, *lines = head.split("\n")
        if first != _PROOF or not blank or len(lines) > LEVEL_MAX + 3:
            raise VerificationError("not a tlog-proof")
        extra = b""
        if lines and lines[0].startswith("extra "):
            extra = _base64(lines.pop(0).removeprefix("extra "))
        name, _, index = (lines.pop(0) if lines else "").partition(" ")
        if name != "index" or not _SIZE.fullmatch(index):
            raise VerificationError("the tlog-proof has no index")
        path = tuple(_base64(each) for each in lines)
        if any(len(each) != HASH_BYTES for each in path):
            raise VerificationError("a hash in the tlog-proof is cut short")
        return cls(int(index), path, checkpoint, extra)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # not ASCII, too
        raise VerificationError("not base64") from error
