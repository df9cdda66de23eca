"""Tenants' tokens: from a verified JWT to a `Caller`, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functions import events
from functions.auth.caller import Caller
from functions.auth.jws import Issuer
from functions.auth.keysets import FileKeySet, RemoteKeySet, is_development
from functions.problems import NotFound, Unauthenticated, UnknownTenant
from functions.roster import FolderRoster
from functions.settings import SettingsError
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.auth.keysets import KeySet
    from functions.settings import Settings

SUBJECT_CHARS_MAX: Final = 255
"""OpenID Connect Core 1.0, section 2."""
_NOBODY: Final = "the token names no tenant that is known here"


class TokenAuthenticator:
    """Verifies JWTs by an issuer's keys: pinned algorithms, issuer and audience.

    The tenant comes from the verified claim `tenant` and from nowhere else, and
    must be the pinned one where there is one, and one of the roster's where there is
    a roster: a token of who is deleted is nobody's.  A path stands for the key set in
    it.
    """

    def __init__(
        self,
        keys: KeySet | Path,
        *,
        issuer: str,
        audience: str,
        pinned: Tenant | None = None,
        roster: FolderRoster | None = None,
    ) -> None:
        found = FileKeySet(keys) if isinstance(keys, Path) else keys
        self._issuer = Issuer(found, name=issuer, audience=audience)
        self._pinned = pinned
        self._roster = roster

    @classmethod
    def from_settings(cls, settings: Settings) -> TokenAuthenticator:
        """Return the authenticator a deployment names."""
        settings.require("jwks", "issuer", "audience")
        return cls(
            _key_set(settings),
            issuer=settings.issuer,
            audience=settings.audience,
            pinned=settings.tenant,
            roster=(
                FolderRoster(settings.tenants, keys=settings.keys)
                if settings.tenants
                else None
            ),
        )

    def caller(self, authorization: str) -> Caller:
        """Return who sent `authorization`, or raise `Unauthenticated`.

        Raises `NotFound` for another tenant's token where one is pinned: all that
        is behind this door is somebody else's.  Raises `Unavailable` while it cannot
        be told whether there is such a tenant.
        """
        claims = self._issuer.claims(authorization)
        tenant = _tenant(claims)
        if self._pinned is not None and tenant != self._pinned:
            raise NotFound(internal=f"{tenant.id} at {self._pinned.id}'s door")
        self._refuse_gone(tenant)
        # A list of scopes is refused, not guessed at: its text could hold ours.
        scopes = frozenset(_text(claims, "scope").split())
        return Caller(tenant, _subject(claims), scopes)

    def _refuse_gone(self, tenant: Tenant) -> None:
        if self._roster is None or tenant.id == events.OPERATOR:
            return
        try:
            ended = self._roster.has_ended(self._roster.read(tenant))
        except UnknownTenant as error:
            raise Unauthenticated(_NOBODY) from error
        if ended:
            raise Unauthenticated(_NOBODY)


def _key_set(settings: Settings) -> KeySet:
    production = settings.profile == "production"
    place: Path | str = settings.need("jwks")
    if not isinstance(place, Path):
        return RemoteKeySet(place, production=production)
    if production and is_development(place):
        raise SettingsError("GUISE_JWKS: the development profile's own key set")
    return FileKeySet(place, production=production)


def _tenant(claims: Mapping[str, Any]) -> Tenant:
    try:
        return Tenant(_text(claims, "tenant"))
    except UnknownTenant as error:
        raise Unauthenticated(_NOBODY) from error


def _subject(claims: Mapping[str, Any]) -> str:
    subject = _text(claims, "sub")
    # It goes into records and logs, where one line is one line.
    if not subject.isprintable() or not 0 < len(subject) <= SUBJECT_CHARS_MAX:
        raise Unauthenticated("the token names nobody")
    return subject


def _text(claims: Mapping[str, Any], name: str) -> str:
    claim = claims.get(name, "")
    if not isinstance(claim, str):
        raise Unauthenticated(f"the token's {name} is not text")
    return claim
