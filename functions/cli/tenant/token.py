"""What `guise tenant token` does: a token of the development profile's issuer."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from functions.auth import (
    AUDIT_ERASE,
    AUDIT_READ,
    BILLING_READ,
    SWAP_READ,
    SWAP_WRITE,
    issue_token,
)
from functions.cli.tenant.making import current
from functions.cli.terminal import print_json
from functions.local.home import AUDIENCE, ISSUER
from functions.problems import Conflict, InvalidRequest, NotFound
from functions.settings import DEVELOPMENT_MARK
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from functions.cli.tenant.place import Place

SCOPES: Final = (SWAP_WRITE, SWAP_READ, AUDIT_READ, BILLING_READ)
"""What a tenant's token is for where nothing is said."""
KNOWN: Final = (*SCOPES, AUDIT_ERASE)
_SUBJECT_CHARACTERS_MAX: Final = 128
_DAY_SECONDS: Final = 86_400


def token(
    place: Place,
    name: str,
    *,
    scopes: Sequence[str],
    days: int,
    subject: str,
    out: Path | None,
) -> None:
    """Print a token of an active tenant, or write it to a file of the owner's alone.

    Raises `Conflict` for a tenant that is not active, `NotFound` where the keys are
    not the development profile's: tokens are then for an identity provider to issue.
    """
    tenant = Tenant(name)
    if not (place.key_folder / DEVELOPMENT_MARK).exists():
        raise NotFound(
            f"{place.key_folder} has no issuer of the development profile's: "
            "here your identity provider issues tokens"
        )
    spec = current(place, tenant)
    if spec.state != "active":
        raise Conflict(f"{tenant.id} is {spec.state}: it gets no token")
    if unknown := sorted(set(scopes) - set(KNOWN)):
        raise InvalidRequest(
            f"no such scope: {', '.join(unknown)}; there are {', '.join(KNOWN)}"
        )
    if not (0 < len(subject) <= _SUBJECT_CHARACTERS_MAX and subject.isprintable()):
        raise InvalidRequest("a subject has 1 to 128 printable characters")
    _hand_over(place, _issued(place, tenant, scopes or SCOPES, days, subject), out)


def _issued(
    place: Place, tenant: Tenant, scopes: Sequence[str], days: int, subject: str
) -> str:
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "tenant": tenant.id,
        "scope": " ".join(dict.fromkeys(scopes)),
        "iat": now,
        "exp": now + days * _DAY_SECONDS,
    }
    return issue_token(place.key_provider().create("tokens"), claims)


def _hand_over(place: Place, issued: str, out: Path | None) -> None:
    if out is None:
        print_json({"token": issued}) if place.json else print(issued)  # noqa: T201  # alone on its line, for $(…)
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with os.fdopen(os.open(out, flags, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)  # a file that was there may be everybody's
        file.write(issued)
    if place.json:
        print_json({"file": str(out)})
