"""From a Service's manifest to the process that stands for it here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functions.local.home import ISSUER
from functions.local.manifests import ManifestError
from functions.local.process import Spec

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from pathlib import Path

    from functions.local.home import Home
    from functions.local.manifests import Service
    from functions.storage import Stores

DROPPED: Final = frozenset({"GUISE_TENANT"})
"""One door and one worker serve every tenant of this machine, unless pinned."""
_OURS: Final = ("GUISE_", "K_", "ACTIVATOR_")
# The first two would move gunicorn's socket, the third make each start compile.
_NOT_INHERITED: Final = frozenset(
    {"PORT", "GUNICORN_CMD_ARGS", "PYTHONDONTWRITEBYTECODE"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a manifest cannot know: this machine.

    `urls` holds the address of each service and of the broker by name, `models`
    the prepared pack.  `stores` are the tenants', if not folders in the home.
    """

    home: Home
    urls: Mapping[str, str]
    models: Path | None
    stores: Stores | None = None


def spec(
    service: Service,
    place: Place,
    *,
    listener: socket.socket,
    sinks: frozenset[str],
) -> Spec:
    """Return how to run `service` here; `sinks` names those bound to the broker."""
    environ = inherited(os.environ) | environ_of(service, place)
    if service.name in sinks:
        environ["K_SINK"] = place.urls["broker"]
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
    if place.stores is not None and place.stores.pinned and "GUISE_STORE" in environ:
        environ["GUISE_TENANT"] = place.stores.pinned.id  # there is no other's store
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
        "GUISE_TENANTS": "",
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
