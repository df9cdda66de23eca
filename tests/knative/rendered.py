"""Everything that can be applied: the system, and tenants in every overlay."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import knative
from functions.cli.tenant_render import tenancy_of
from functions.roster import Isolation, Models, Quotas, Retention, Spec
from knative.cluster import Cluster, Option, read
from knative.kustomize import build, pin
from knative.render import pool, render

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
)
NOWHERE = Path("nowhere")
WORKER = "registry.example.com/guise-worker-cpu@sha256:" + "2" * 64


def spec(**fields: Any) -> Spec:
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
        models=Models(pin="1.0.0"),
        quotas=Quotas(gpus=1),
        retention=Retention(log_days=400),
    ),
    "pooled": spec(tier="trial", retention=Retention(log_days=200)),
}


def cluster(*options: Option, **fields: Any) -> Cluster:
    found = read(EXAMPLE)
    oidc = "https://cluster.example.com" if "oidc" in options else ""
    changed = {"options": options, "oidc_issuer": oidc, **fields}
    return msgspec.structs.replace(found, **changed)


def tenant(name: str, where: Cluster) -> list[Manifest]:
    return render(tenancy_of(SPECS[name], where, EXAMPLE, NOWHERE), where)


@cache
def system(name: str) -> list[Manifest]:
    """Return what `kubectl apply -k` applies, once its images are pinned."""
    found = build(knative.folder() / name)
    return pin(found, {**cluster().images.by_name(), "guise-worker-cpu": WORKER})


def everything() -> dict[str, list[Manifest]]:
    """Return every set of objects that is applied at once, by what it is."""
    found = {name: system(name) for name in SYSTEMS}
    alone: Sequence[tuple[Option, ...]] = [(), *((each,) for each in OPTIONS), OPTIONS]
    for name in SPECS:
        for options in alone:
            where = cluster(*options)
            found[f"{name}+{'+'.join(options)}"] = tenant(name, where)
    shared = cluster(store="s3://shared/eu/{tenant}?region=eu-central-1", jwks="")
    found["pooled, in a shared bucket"] = tenant("pooled", shared)
    found["own, in a shared bucket"] = tenant("own", shared)
    found["the pool's tenants"] = [pool({"acme": "id: acme\n"})]
    return found
