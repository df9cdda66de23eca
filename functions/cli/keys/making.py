"""What `guise keys make` does: a production's keys, and which half goes where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from functions.cli.terminal import print_json, say
from functions.events import OPERATOR
from functions.keys import BILLING, FileKeys, events_key, mounted
from functions.problems import Conflict, InvalidRequest
from functions.settings import DEVELOPMENT_MARK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_EVERY: Final = "events-key of each tenant's namespace"
WHERE: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "audit": {
        ".key": ("audit-keys",),
        ".secret": ("audit-keys",),
        ".pub": ("audit-keys", "pool-keys", _EVERY),
    },
    BILLING: {
        ".key": ("billing-keys",),
        ".pub": ("billing-keys", "pool-keys", _EVERY),
    },
    events_key(OPERATOR): {
        ".key": (),
        ".pub": ("audit-keys", "billing-keys", "pool-keys", _EVERY),
    },
}
"""By name, the files of a key and the Secrets that they go into; none: it stays."""
_ELSEWHERE: Final[Mapping[str, str]] = {
    "provenance": "it comes with a certificate: see docs/provenance.md",
    "tokens": "the issuer of tokens has its own, and you its public half",
}


def make(folder: Path, names: Sequence[str], *, json: bool) -> None:
    """Make each key that is not there, and print where every file of it goes.

    All of an installation's unless `names` are said.  Nothing is ever written over.
    Raises `InvalidRequest` for a name that is not the installation's, before any is
    made, and `Conflict` for a folder of this machine's own stack.
    """
    for name in names:
        _check(name)
    if (folder / DEVELOPMENT_MARK).exists():
        raise Conflict(f"{folder} is a stack's of one machine: production refuses it")
    provider = FileKeys(folder)
    for name in names or WHERE:
        there = (folder / f"{name}.key").exists()
        signer = provider.create(name)
        if json:
            print_json(
                {
                    "name": name,
                    "kid": signer.kid,
                    "made": not there,
                    "files": _files(folder, name),
                }
            )
            continue
        say(f"{name}: {'was there' if there else 'made'}, key {signer.kid}")
        for path, secrets in _files(folder, name).items():
            key = mounted(name) + path[path.rindex(".") :]
            half = "public" if path.endswith(".pub") else "private"
            told = ", ".join(secrets) or "no Secret: it stays with you"
            say(f"  {path} ({half}) → {told}" + (f", as {key}" if secrets else ""))


def _check(name: str) -> None:
    if name in WHERE:
        return
    kind, slash, tenant = name.partition("/")
    why = _ELSEWHERE.get(name, f"say any of {', '.join(WHERE)}")
    if kind == "events" and slash:
        why = f"`guise tenant prepare {tenant}` makes a tenant's"
    raise InvalidRequest(f"{name}: {why}")


def _files(folder: Path, name: str) -> dict[str, tuple[str, ...]]:
    """Return the Secrets that a key's files go into, by the file."""
    return {
        f"{folder / name}{suffix}": secrets for suffix, secrets in WHERE[name].items()
    }
