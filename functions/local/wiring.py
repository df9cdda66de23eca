"""From a Service's manifest to the process that stands for it here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.local.home import ISSUER
from functions.local.manifests import ManifestError
from functions.local.process import Spec
from functions.settings import Settings, SettingsError
from functions.storage import Stores

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from functions.local.home import Home
    from functions.local.manifests import Service
    from functions.tenant import Tenant

TENANTS: Final = "GUISE_TENANTS"
ENVELOPES: Final = "GUISE_ENVELOPES"
DROPPED: Final = frozenset({"GUISE_TENANT"})
"""One door and one worker serve every tenant of this machine, unless pinned."""
OWN: Final[Mapping[str, str]] = {
    "GUISE_PROFILE": "",
    "GUISE_TENANT": "--tenant",
    "GUISE_TENANTS": "the specs in the home",
    "GUISE_STORE": "--store",
    "GUISE_MODELS": "--models",
    "GUISE_MODEL_KEYS": "the folder trust/ in the home",
    "GUISE_ACCEPTANCES": "`guise models accept`",
    "GUISE_WORKER_URL": "--port",
    "GUISE_AUDIT_URL": "--port",
    "GUISE_TOKEN_FILE": "",
    "GUISE_AUDIT_TOKEN_FILE": "",
    "GUISE_WORKER_TOKEN_FILE": "",
    "GUISE_OIDC_ISSUER": "",
    "GUISE_OIDC_JWKS": "",
    "GUISE_OIDC_AUDIENCE": "",
    "GUISE_OIDC_READER": "",
    "GUISE_OIDC_NAMESPACES": "",
    "GUISE_DATABASE": "",
    "GUISE_KEYS": "",
    "GUISE_PROVENANCE": "",
    "GUISE_JWKS": "",
    "GUISE_ISSUER": "",
    "GUISE_AUDIENCE": "",
}
"""What the stack decides for its functions, and what decides it, if anything does."""
_OURS: Final = ("GUISE_", "K_", "ACTIVATOR_")
_IN_CLUSTER: Final = ".svc.cluster.local/"
# The first two would move gunicorn's socket, the third make each start compile.
_NOT_INHERITED: Final = frozenset(
    {"PORT", "GUNICORN_CMD_ARGS", "PYTHONDONTWRITEBYTECODE"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a manifest cannot know: this machine.

    `urls` holds the address of each service and of the broker by name, `models`
    the prepared pack.  `stores` are the tenants', if not folders in the home, and
    `chosen` is what the functions are told besides.
    """

    home: Home
    urls: Mapping[str, str]
    models: Path | None
    stores: Stores | None = None
    chosen: Mapping[str, str] = field(default_factory=dict)


def chosen(environ: Mapping[str, str]) -> tuple[dict[str, str], Settings]:
    """Return what an environment tells the functions of a stack, as text and typed.

    Any setting that is not the stack's own; paths are made absolute, as functions
    run in a folder of their own.  Raises `SettingsError` with every fault.
    """
    given = {
        name: value
        for name, value in environ.items()
        if name.startswith("GUISE_") and value
    }
    faults = [_not_here(name) for name in sorted(given.keys() & OWN.keys())]
    ours = {name: value for name, value in given.items() if name not in OWN}
    try:
        settings = Settings.from_env(ours)
    except SettingsError as error:
        faults.append(str(error))
    if faults:
        raise SettingsError("; ".join(faults))
    for each in fields(Settings):
        value = getattr(settings, each.name)
        name = each.metadata.get("env")
        if name in ours and isinstance(value, Path):
            ours[name] = str(value.resolve())
    return ours, settings


def _not_here(name: str) -> str:
    by = OWN[name]
    return f"{name}: the stack decides it" + (f": see {by}" if by else "")


def stores(
    home: Home,
    told: Mapping[str, str],
    *,
    url: str = "",
    pinned: Tenant | None = None,
) -> Stores:
    """Return the tenants' stores, by default those in the home, as functions see them.

    Each rests as its tenant's spec says.
    """
    settings = Settings(
        profile="development",
        tenant=pinned,
        tenants=home.tenants,
        store=url or home.store_url,
        envelopes=told.get(ENVELOPES) or str(home.envelopes),
    )
    return Stores.from_settings(settings)


def spec(
    service: Service,
    place: Place,
    *,
    listener: socket.socket,
) -> Spec:
    """Return how to run `service` here."""
    environ = inherited(os.environ) | environ_of(service, place) | dict(place.chosen)
    return Spec(
        name=service.name,
        listener=listener,
        args=service.args,
        environ=environ,
        folder=place.home.run,
        log=place.home.run / f"{service.name}.log",
        timeout_seconds=service.timeout_seconds,
        public=service.public,
    )


def environ_of(service: Service, place: Place) -> dict[str, str]:
    """Return the manifest's environment with this machine's values in it.

    Raises `ManifestError` where the cluster would take a value from a Secret or
    a ConfigMap and this machine has none.
    """
    local = _local(service.name, place)
    environ = {}
    for name, value in service.environ.items():
        if name in DROPPED:
            if place.stores is not None and place.stores.pinned is not None:
                environ[name] = place.stores.pinned.id
            continue
        here = local.get(name, value)
        if here is None:
            raise ManifestError(f"{service.name}: {name} has no value on one machine")
        if here:
            environ[name] = here
    if _IN_CLUSTER in environ.get("K_SINK", ""):  # another sink stays what it is
        environ["K_SINK"] = place.urls["broker"]
    if "GUISE_JWKS" in environ:  # whose tokens still open anything
        environ[TENANTS] = local[TENANTS]
    if "GUISE_STORE" in environ:  # then also whose, and how what is there can be read
        environ |= {name: local[name] for name in (TENANTS, ENVELOPES)}
        if place.stores is not None and place.stores.pinned:
            environ["GUISE_TENANT"] = place.stores.pinned.id  # there is no other's
    return environ


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a function may see of the environment we were started in."""
    return {
        name: value
        for name, value in environ.items()
        if name not in _NOT_INHERITED and not name.startswith(_OURS)
    }


def _local(name: str, place: Place) -> dict[str, str]:
    store_url = place.stores.url if place.stores else place.home.store_url
    return {
        "GUISE_PROFILE": "development",
        TENANTS: str(place.home.tenants),
        ENVELOPES: str(place.home.envelopes),
        "GUISE_STORE": store_url,
        "GUISE_MODELS": str(place.models or ""),
        # Without a folder of keys nobody is asked to vouch for a pack here.
        "GUISE_MODEL_KEYS": str(place.home.trust) if place.home.trust.is_dir() else "",
        "GUISE_ACCEPTANCES": str(place.home.acceptances),
        "GUISE_KEYS": str(place.home.keys),
        "GUISE_PROVENANCE": str(place.home.chain),
        "GUISE_JWKS": str(place.home.jwks),
        "GUISE_ISSUER": ISSUER,
        "GUISE_DATABASE": place.home.database_url(name),
        "GUISE_WITNESS": "",  # a second store on the same disk would not be one
        "GUISE_WORKER_URL": place.urls["worker"],
        "GUISE_AUDIT_URL": place.urls["audit"],
    }
