"""Everything that can be applied, checked: the system, and tenants in every overlay.

`python -m tools.manifests`, which is `make manifests`: renders, validates strictly
(`tools.schemas`) and holds to the rules of `knative.lint`.
"""

from __future__ import annotations

import sys
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

import knative
from functions import events
from functions.cli.tenant.render import tenancy_of
from functions.roster import Isolation, Models, Quotas, Retention, Spec
from functions.settings import variables
from knative.cluster import Cluster, Option, read
from knative.kustomize import build, pin
from knative.lint import faults
from knative.render import everybody_config_map, flags, pool_config_map, render
from tools import schemas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knative.kustomize import Manifest

EXAMPLE = knative.folder() / "cluster.example.yml"
SYSTEMS = ("trial", "production", "production-oidc")
OPTIONS: tuple[Option, ...] = (
    "kafka",
    "oidc",
    "priority",
    "image-volume",
    "initial-scale-zero",
    "minio",
    "telemetry",
)
SYSTEM_OPTIONS = ("minio", "telemetry-system")
"""What the system may have besides; the others are `SYSTEMS`."""
SERVERS = frozenset({"GUNICORN_CMD_ARGS"})
"""Variables that are the server's own, and no setting."""
NOWHERE = Path("nowhere")
WORKER = "registry.example.com/guise-worker-cpu@sha256:" + "2" * 64


def spec(**fields: Any) -> Spec:  # noqa: ANN401  # of a spec
    """Return the spec of the tenant `acme`."""
    return Spec(id="acme", **fields)


SPECS: dict[str, Spec] = {
    "own": spec(isolation=Isolation(compute=1)),
    "trial": spec(tier="trial", isolation=Isolation(compute=1), quotas=Quotas(cpus=9)),
    "gpu": spec(
        tier="premium",
        isolation=Isolation(compute=1),
        quotas=Quotas(gpus=2, gpu_memory_gib=20),
    ),
    "apart": spec(
        isolation=Isolation(compute=2, model=1, data=1),
        models=Models(pin="1.1.0"),
        quotas=Quotas(gpus=1),
        retention=Retention(log_days=400),
    ),
    "pooled": spec(tier="trial", retention=Retention(log_days=200)),
}


def cluster(*options: Option, **fields: Any) -> Cluster:  # noqa: ANN401  # its own
    """Return the cluster of the example with other options."""
    found = read(EXAMPLE)
    oidc = "https://cluster.example.com" if "oidc" in options else ""
    changed = {"options": options, "oidc_issuer": oidc, **fields}
    return msgspec.structs.replace(found, **changed)


def tenant(name: str, where: Cluster) -> list[Manifest]:
    """Return the objects of one of `SPECS` on a cluster."""
    return render(tenancy_of(SPECS[name], where, EXAMPLE, NOWHERE), where)


@cache
def system(name: str, *options: str) -> list[Manifest]:
    """Return what `kubectl apply -k` applies, once its images are pinned.

    `options` are what a folder of one's own names of `knative/options`, besides.
    """
    added = [knative.folder() / "options" / each for each in options]
    found = build(knative.folder() / name, components=added)
    return pin(found, {**cluster().images.by_name(), "guise-worker-cpu": WORKER})


@cache
def everything() -> dict[str, list[Manifest]]:
    """Return every set of objects that is applied at once, by what it is.

    Made once: whoever changes an object changes a copy.
    """
    found = {name: system(name) for name in SYSTEMS}
    for name in SYSTEMS:
        found[f"{name}, with what it may have"] = system(name, *SYSTEM_OPTIONS)
    alone: Sequence[tuple[Option, ...]] = [(), *((each,) for each in OPTIONS), OPTIONS]
    for name in SPECS:
        for options in alone:
            where = cluster(*options)
            found[f"{name}+{'+'.join(options)}"] = tenant(name, where)
    shared = cluster(store="s3://shared/eu/{tenant}?region=eu-central-1", jwks="")
    found["pooled, in a shared bucket"] = tenant("pooled", shared)
    found["own, in a shared bucket"] = tenant("own", shared)
    found["pooled+oidc, in a shared bucket"] = tenant(
        "pooled",
        cluster("oidc", store=shared.store),
    )
    specs = {"acme": "id: acme\n"}
    found["who there is"] = [everybody_config_map(specs), pool_config_map(specs)]
    return found


TYPES = frozenset(
    {
        *events.S3_OBJECTS,
        *events.NOTICES,
        events.OBJECT_FINALIZED,
        events.SWAP_REQUESTED,
        events.SWAP_COMPLETED,
        events.SWAP_FAILED,
        events.SWAP_REFUSED,
        events.SWAP_ERASED,
        events.USAGE_RECORDED,
        events.PING,
        "dev.knative.eventing.aws-s3",
    }
)


def flags_of(name: str) -> list[str]:
    """Return the flags that a set needs, by what `everything` calls it."""
    name, _, _ = name.partition(",")
    if name == "production-oidc":
        return ["authentication-oidc"]
    who, plus, options = name.partition("+")
    if not plus:
        return []
    where = cluster(*cast("Sequence[Option]", [o for o in options.split("+") if o]))
    return flags(tenancy_of(SPECS[who], where, EXAMPLE, NOWHERE), where)


def lint(objects: Sequence[Manifest], needed: Sequence[str] = ()) -> list[str]:
    """Return what our linter says of objects on a cluster with these flags alone."""
    return faults(objects, variables=variables() | SERVERS, types=TYPES, flags=needed)


def check(name: str, objects: Sequence[Manifest]) -> list[str]:
    """Return every fault of one set, by the schemas and by our own rules."""
    strict = [
        f"{each['kind']} {each['metadata']['name']}: {fault}"
        for each in objects
        for fault in schemas.faults(each)
    ]
    return [f"{name}: {fault}" for fault in (*strict, *lint(objects, flags_of(name)))]


def main() -> None:
    """Check everything; print what is wrong and exit with 1, or how much there is."""
    found = everything()
    faulty = list(chain.from_iterable(check(*each) for each in found.items()))
    if faulty:
        sys.exit("\n".join(faulty))
    total = sum(map(len, found.values()))
    crds = "" if schemas.CRDS.is_dir() else "; no CRDs at hand, so by our rules alone"
    told = f"{total} objects in {len(found)} sets are as they should be{crds}"
    sys.stdout.write(f"{told}\n")


if __name__ == "__main__":
    main()
