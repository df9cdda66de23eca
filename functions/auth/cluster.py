"""The cluster's own tokens: from which namespace a call comes (OpenID Connect).

Inside a cluster whoever calls the worker, audit or billing has a service account, and
where `GUISE_OIDC_ISSUER` is set they want its token besides the signature of what it
brings.  Knative attaches one to what it delivers (`authentication-oidc`), a pod sends
the one that is projected into it (`serviceAccountToken`).  It is a JWT:

    iss                       the cluster
    aud                       the function that is called
    sub                       system:serviceaccount:<namespace>:<name>
    kubernetes.io.namespace   <namespace>, and it must be the tenant's

A tenant's namespace is `guise-<tenant>`, as `knative/tenant/` names it.  The
namespaces of `GUISE_OIDC_NAMESPACES` are the installation's own, and speak for every
tenant: there a pooled worker is.

The cluster's keys come from a file (a copy in a ConfigMap), or from its address, which
answers service accounts alone (`system:service-account-issuer-discovery`).
`GUISE_OIDC_READER` is then a folder with `token` and `ca.crt`, as Kubernetes projects
them; both are read anew at each fetch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from functions.auth.jws import Issuer
from functions.auth.keysets import FileKeySet, RemoteKeySet, fetch_key_set
from functions.problems import Forbidden, Unauthenticated, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from functions.auth.keysets import KeySet
    from functions.settings import Settings

ALGORITHMS: Final = ("RS256", "ES256")
"""What Kubernetes signs service accounts' tokens by, as its key's type decides."""
NAMESPACE: Final = "guise-"
"""What the name of a tenant's namespace begins with; then comes the tenant's."""
CLAIM: Final = "kubernetes.io"
_ACCOUNT: Final = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Speaker:
    """Whoever calls: the namespace it is in, and whether it is the installation's."""

    namespace: str
    everybody: bool = False

    def require(self, tenant: str) -> None:
        """Raise `Forbidden` unless it may speak for a tenant."""
        if not self.everybody and self.namespace != NAMESPACE + tenant:
            raise Forbidden(
                "the token's namespace is not the tenant's",
                internal=f"{self.namespace!r} spoke for {tenant!r}",
            )


class Cluster(Protocol):
    """Tells who calls, inside a cluster."""

    def speaker(self, authorization: str) -> Speaker:
        """Return who sent `authorization`, or raise `Unauthenticated`.

        Raises `Unavailable` where the cluster's keys cannot be had now.
        """


class NoCluster:
    """Nobody asks for the cluster's tokens: what is signed is all that counts."""

    def speaker(self, authorization: str) -> Speaker:  # noqa: ARG002  # as the protocol
        """Return somebody who may speak for every tenant."""
        return Speaker("", everybody=True)


class ServiceAccounts:
    """Verifies the tokens of the cluster's service accounts."""

    def __init__(
        self,
        keys: KeySet,
        *,
        issuer: str,
        audience: str,
        namespaces: frozenset[str] = frozenset(),
    ) -> None:
        self._issuer = Issuer(
            keys, name=issuer, audience=audience, algorithms=ALGORITHMS
        )
        self._namespaces = namespaces

    def speaker(self, authorization: str) -> Speaker:
        """Return who sent `authorization`, or raise `Unauthenticated`."""
        namespace = _namespace(self._issuer.claims(authorization))
        return Speaker(namespace, everybody=namespace in self._namespaces)


def cluster_of(settings: Settings) -> Cluster:
    """Return who tells where calls come from; nobody, where no issuer is set.

    Raises `SettingsError` where it is set and what goes with it is not.
    """
    if not (settings.oidc_issuer or settings.oidc_jwks or settings.oidc_audience):
        return NoCluster()
    settings.require("oidc_issuer", "oidc_jwks", "oidc_audience")
    return ServiceAccounts(
        _keys(settings.need("oidc_jwks"), settings.oidc_reader),
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        namespaces=frozenset(settings.oidc_namespaces),
    )


def _keys(place: Path | str, reader: Path | None) -> KeySet:
    if isinstance(place, Path):
        return FileKeySet(place)
    return RemoteKeySet(place, fetch=as_reader(reader) if reader else None)


def as_reader(folder: Path) -> Callable[[str], bytes]:
    """Return how a key set is fetched with the token and the authority in a folder.

    What it returns raises `Unavailable`, also where the two cannot be read.
    """

    def fetch(url: str) -> bytes:
        import ssl

        from functions.sink import bearer

        try:
            context = ssl.create_default_context(cafile=folder / "ca.crt")
        except OSError as error:  # `SSLError` is one
            raise Unavailable(internal=f"{folder}/ca.crt: {error!r}") from error
        return fetch_key_set(url, context=context, headers=bearer(folder / "token"))

    return fetch


def _namespace(claims: Mapping[str, Any]) -> str:
    """Return the namespace that a token's claims agree on, or raise."""
    said = claims.get(CLAIM)
    namespace = said.get("namespace") if isinstance(said, dict) else None
    subject = claims.get("sub")
    if not (
        isinstance(namespace, str)
        and isinstance(subject, str)
        and namespace
        and subject.startswith(f"{_ACCOUNT}{namespace}:")
    ):
        raise Unauthenticated("the token is no service account's")
    return namespace
