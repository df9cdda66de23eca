"""One cluster, as `guise tenant render --cluster FILE` takes it.

See `cluster.example.yml`.  It is the operator's own file: what is rendered for a tenant
is this and the tenant's spec, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from pathlib import Path

Option = Literal[
    "kafka",
    "oidc",
    "priority",
    "image-volume",
    "initial-scale-zero",
    "minio",
    "telemetry",
]
Pinned = Annotated[str, Meta(pattern=r"^[^@\s]+@sha256:[0-9a-f]{64}\Z")]
"""An image by its digest: a tag is another image tomorrow."""
Label = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")]
Plain = Annotated[str, Meta(pattern=r'^[^\x00-\x20\x7f"\\]*\Z')]
Port = Annotated[int, Meta(ge=1, le=65_535)]


class ClusterError(Exception):
    """A cluster's file that cannot be used; the message says where and why."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the file: unknown keys are refused by name."""


class Images(_Part, frozen=True, rename=lambda name: f"guise-{name}"):
    """What runs beside the worker, by digest."""

    door: Pinned
    audit: Pinned
    billing: Pinned

    def by_name(self) -> dict[str, str]:
        """Return them by the names that the manifests give them."""
        found: dict[str, str] = msgspec.to_builtins(self)
        return found


_HELD: Final = {
    "cpu": "guise-worker-cpu",
    "gpu": "guise-worker-gpu",
    "volume": "volume",
}


class Held(_Part, frozen=True, rename=lambda name: _HELD[name]):
    """The images that hold one version of a pack, by digest.

    `cpu` and `gpu` are workers; `volume` is the pack alone.
    """

    cpu: Pinned | None = None
    gpu: Pinned | None = None
    volume: Pinned | None = None


class Gateway(_Part, frozen=True):
    """Whom pods of the cluster are reached through: a namespace, its pods' ports."""

    namespace: Label = "kourier-system"
    http: Port = 8081
    https: Port = 8444


class Cluster(_Part, frozen=True):
    """A cluster.

    `store` is a template of `GUISE_STORE`; `jwks` an https address, or "" for a
    ConfigMap.  `packs` has the images of each version of each pack, of which `pack`
    is everybody's.  `trust` is the folder of
    who must have signed a pack, beside the file; "" where you make the ConfigMap
    guise-model-keys.
    """

    store: Plain
    issuer: Plain
    images: Images
    pack: str
    packs: dict[str, dict[str, Held]]
    trust: str = ""
    jwks: Annotated[str, Meta(pattern=r'^(https://[^\x00-\x20"\\]+)?\Z')] = ""
    region: Annotated[str, Meta(pattern=r"^([a-z0-9]([a-z0-9-]{0,30})?)?\Z")] = ""
    oidc_issuer: Plain = ""
    options: tuple[Option, ...] = ()
    gateway: Gateway = Gateway()

    def __post_init__(self) -> None:
        """Refuse what would not run, or would not be this tenant's."""
        if "{tenant}" not in self.store:
            raise ValueError("store: there is no {tenant} in it")
        if "oidc" in self.options and not self.oidc_issuer:
            raise ValueError(
                "oidc_issuer: the option oidc needs the cluster's name, as `kubectl "
                "get --raw /.well-known/openid-configuration` has it: issuer"
            )

    def held(self, pack: str, version: str) -> Held:
        """Return the images of a pack's version, or raise `ClusterError`."""
        try:
            return self.packs[pack][version]
        except KeyError as error:
            raise ClusterError(
                f"packs: the cluster's file names no images of {pack} {version}"
            ) from error


def read(path: Path) -> Cluster:
    """Return the cluster that a file describes, or raise `ClusterError`."""
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Cluster)
    except FileNotFoundError as error:
        raise ClusterError(
            f"{path} is not there: say --cluster FILE, a file such as "
            "knative/cluster.example.yml"
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise ClusterError(f"{path}: {error}") from error
