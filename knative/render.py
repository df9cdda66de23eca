"""From what a tenant may have, and a cluster, to the objects of the tenant.

Pure: the manifests in `tenant/` (a namespace of its own) or `member/` (the pool), with
the components of `options/` that the tenant or the cluster asks for.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Literal

import knative
from knative.cluster import ClusterError
from knative.kustomize import build, identity, pin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from knative.cluster import Cluster
    from knative.kustomize import Manifest, Values

Tier = Literal["trial", "standard", "premium"]
WINDOWS: Final[Mapping[Tier, tuple[str, str]]] = {
    "trial": ("6s", "0s"),
    "standard": ("6s", "20s"),
    "premium": ("60s", "5m"),
}
"""By tier: over how long the autoscaler looks, and for how long the last worker stays
on.  From the last request until it is gone that is some 40 s, 60 s and 6 min."""
WORKER_PODS: Final = 2
_OWN_NODES: Final = 2
_QUEUE_PROXY: Final = {
    "requests": {"cpu": "25m", "memory": "64Mi"},
    "limits": {"cpu": "500m", "memory": "256Mi"},
}
"""What the namespace's LimitRange gives it."""
FLAGS: Final[Mapping[str, list[str]]] = {
    "oidc": ["authentication-oidc"],
    "priority": ["kubernetes.podspec-priorityclassname"],
    "image-volume": ["kubernetes.podspec-volumes-image"],
    "initial-scale-zero": ["allow-zero-initial-scale"],
    "nodes": ["kubernetes.podspec-nodeselector", "kubernetes.podspec-tolerations"],
    "sandbox": ["kubernetes.podspec-runtimeclassname"],
}
"""Which flags the components of `options/` need; the others need none."""
VOLUME: Final = "volume"
_CPU: Final = "guise-worker-cpu"
_GPU: Final = "guise-worker-gpu"
_MAX_SCALE: Final = "autoscaling.knative.dev/max-scale"
_UNITS: Final = {"m": Decimal("0.001"), "Mi": Decimal(2**20), "Gi": Decimal(2**30)}
_SWEEP_MINUTES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """What a tenant's spec comes to on a cluster.

    `document` is the spec as YAML.  `store` is the URL of the tenant's own, `prefix`
    what its objects' names begin with in it.  `compute` is how far it is apart, `gpus`
    how many devices its workers may have, one each; without any they run on `cpus`.
    """

    id: str
    document: str
    store: str
    prefix: str
    tier: Tier
    compute: int
    pack: str
    version: str
    gpus: int = 0
    gpu_memory_gib: int | None = None
    cpus: int | None = None
    log_days: int | None = None
    trust: Mapping[str, str] = field(default_factory=dict)


def render(tenancy: Tenancy, cluster: Cluster) -> list[Manifest]:
    """Return a tenant's objects, or raise `ClusterError` or `KustomizeError`."""
    objects = (_own if tenancy.compute else _member)(tenancy, cluster)
    if "kafka" in cluster.options:
        objects = [_at_kafka(each) for each in objects]
    return pin(_labelled(objects, tenancy.id), cluster.images.by_name())


def flags(tenancy: Tenancy, cluster: Cluster) -> list[str]:
    """Return the feature flags, off by default, that a tenant's objects need."""
    if not tenancy.compute:
        return FLAGS["oidc"] if "oidc" in cluster.options else []
    needed = [FLAGS.get(name, []) for name in _options(tenancy, cluster)]
    return sorted(set(chain.from_iterable(needed)))


def pool_config_map(documents: Mapping[str, str]) -> Manifest:
    """Return the ConfigMap by which the pooled functions know their tenants.

    `documents` are specs as YAML, by tenant.
    """
    return _config_map("guise-system", "guise-tenants", _files(documents))


def everybody_config_map(documents: Mapping[str, str]) -> Manifest:
    """Return the ConfigMap by which audit and billing know who there is.

    `documents` are specs as YAML, by tenant.  Its key `folder` is where they find them.
    """
    data = {"folder": "/var/run/guise/tenants", **_files(documents)}
    return _config_map("guise-system", "guise-everybody", data)


def _member(tenancy: Tenancy, cluster: Cluster) -> list[Manifest]:
    folder = knative.folder()
    components = [folder / "member-prefix"] if tenancy.prefix else []
    if "oidc" in cluster.options:
        components.append(folder / "options/oidc-member")
        if tenancy.prefix:
            components.append(folder / "options/oidc-member-prefix")
    if "telemetry" in cluster.options:
        components.append(folder / "options/telemetry-member")
    components += _pruning(tenancy)
    return build(folder / "member", _values(tenancy, cluster), components=components)


def _own(tenancy: Tenancy, cluster: Cluster) -> list[Manifest]:
    folder = knative.folder()
    images = _images_of_worker(tenancy, cluster)
    values = _values(tenancy, cluster) | {"pack": images.get(VOLUME, "")}
    values |= _quota(folder / "tenant", values)
    components = [folder / "options" / name for name in _options(tenancy, cluster)]
    components += _pruning(tenancy)
    objects = build(folder / "tenant", values, components=components)
    told = {"guise-tenants": _files({tenancy.id: tenancy.document})}
    if tenancy.trust:
        told["guise-model-keys"] = dict(tenancy.trust)
    namespace = f"guise-{tenancy.id}"
    objects += [_config_map(namespace, name, data) for name, data in told.items()]
    return pin([_settled(each, tenancy, cluster) for each in objects], images)


def _options(tenancy: Tenancy, cluster: Cluster) -> list[str]:
    """Return the components in `options/` that this tenant has, in a settled order."""
    found: list[str] = [each for each in cluster.options if each != "oidc"]
    if tenancy.gpus:
        found.append("gpu")
    if tenancy.compute >= _OWN_NODES:
        found += ["nodes", "sandbox"]
    if "oidc" in cluster.options:
        found.append("oidc")
    return found


def _pruning(tenancy: Tenancy) -> list[Path]:
    return [knative.folder() / "prune"] if tenancy.log_days else []


def _values(tenancy: Tenancy, cluster: Cluster) -> dict[str, str | int]:
    window, retention = WINDOWS[tenancy.tier]
    return {
        "tenant": tenancy.id,
        "prefix": tenancy.prefix,
        "store": tenancy.store,
        "issuer": cluster.issuer,
        "oidc_issuer": cluster.oidc_issuer,
        "region": cluster.region,
        "tier": tenancy.tier,
        "window": window,
        "retention": retention,
        "worker_pods": str(_worker_pods(tenancy)),
        "log_days": str(tenancy.log_days or ""),
        "sweep_minute": str(_minute(tenancy.id)),
        "gateway": cluster.gateway.namespace,
        "gateway_http": cluster.gateway.http,
        "gateway_https": cluster.gateway.https,
        "quota_gpus": str(tenancy.gpus + 1 if tenancy.gpus else 0),
    }


def _minute(tenant: str) -> int:
    """Return at which minute of five a tenant is swept: not all at once."""
    return hashlib.sha256(tenant.encode()).digest()[0] % _SWEEP_MINUTES


def _worker_pods(tenancy: Tenancy) -> int:
    """Return how many workers may run: one a GPU, or as many as the cores allow."""
    if tenancy.gpus:
        return tenancy.gpus
    if tenancy.cpus is None:
        return WORKER_PODS
    return max(1, tenancy.cpus // _cores_of_worker())


@cache
def _cores_of_worker() -> int:
    """Return the cores of a worker of the pool, which are those of a tenant's own."""
    [worker] = [
        each
        for each in build(knative.folder() / "pooled")
        if identity(each) == ("Service", "guise-system", "worker")
    ]
    return int(_container(worker)["resources"]["limits"]["cpu"])


def _quota(folder: Path, values: Values) -> dict[str, str]:
    """Return how much all pods of a namespace may ask for.

    Every door, every worker and a sweeper, and one more of each: that of the next
    revision, or of the next sweep.
    """
    blank = dict.fromkeys(_QUOTA, "0")
    total = dict.fromkeys(_QUOTA, Decimal(0))
    for each in build(folder, {**values, **blank}):
        for count, pod, beside in _pods(each):
            total["quota_pods"] += count
            wanted = [c["resources"] for c in pod["containers"]] + beside
            for name, (kind, what) in _SUMS.items():
                total[name] += count * sum(_quantity(r[kind][what]) for r in wanted)
    return {
        "quota_pods": str(total["quota_pods"]),
        "quota_cpu": _cores(total["quota_cpu"]),
        "quota_cpu_limit": _cores(total["quota_cpu_limit"]),
        "quota_memory": _bytes(total["quota_memory"]),
        "quota_memory_limit": _bytes(total["quota_memory_limit"]),
    }


_SUMS: Final = {
    "quota_cpu": ("requests", "cpu"),
    "quota_memory": ("requests", "memory"),
    "quota_cpu_limit": ("limits", "cpu"),
    "quota_memory_limit": ("limits", "memory"),
}
_QUOTA: Final = ("quota_pods", *_SUMS)


def _pods(each: Manifest) -> Iterable[tuple[int, dict[str, Any], list[Any]]]:
    """Yield how many pods an object may have, their spec, and what Knative adds."""
    if each["kind"] == "Service":
        template = each["spec"]["template"]
        most = int(template["metadata"]["annotations"][_MAX_SCALE])
        yield most + 1, template["spec"], [_QUEUE_PROXY]
    elif each["kind"] == "CronJob":
        yield 2, each["spec"]["jobTemplate"]["spec"]["template"]["spec"], []


def _quantity(text: str) -> Decimal:
    """Return a quantity of Kubernetes as a number: cores, or bytes."""
    for unit, size in _UNITS.items():
        if text.endswith(unit):
            return Decimal(text.removesuffix(unit)) * size
    return Decimal(text)


def _cores(cores: Decimal) -> str:
    """Return cores as a cluster keeps them, lest each `apply` seem to change them."""
    milli = int(cores * 1000)
    return f"{milli}m" if milli % 1000 else f"{milli // 1000}"


def _bytes(count: Decimal) -> str:
    """Return bytes, whole MiB, as a cluster keeps them."""
    mebi = int(count / 2**20)
    return f"{mebi}Mi" if mebi % 1024 else f"{mebi // 1024}Gi"


def _images_of_worker(tenancy: Tenancy, cluster: Cluster) -> dict[str, str]:
    """Return the images of a tenant's worker, by the names that manifests have."""
    held = cluster.held(tenancy.pack, tenancy.version)
    wanted = {_GPU: held.gpu} if tenancy.gpus else {_CPU: held.cpu}
    if "image-volume" in cluster.options:
        wanted[VOLUME] = held.volume
    if missing := [name for name, image in wanted.items() if image is None]:
        name = f"{tenancy.pack} {tenancy.version}"
        raise ClusterError(f"packs: {name} has no {', '.join(missing)}")
    return {name: image for name, image in wanted.items() if image}


def _settled(each: Manifest, tenancy: Tenancy, cluster: Cluster) -> Manifest:
    """Return an object with the settings that only a cluster's file or a spec has."""
    kind, _, name = identity(each)
    if kind == "Service" and name == "door" and cluster.jwks:
        _fetch_keys(each, cluster.jwks)
    if kind == "Service" and name == "worker":
        _bound(_container(each), tenancy)
    return each


def _fetch_keys(door: Manifest, address: str) -> None:
    """Have a door fetch the issuer's keys, and mount none."""
    pod, container = door["spec"]["template"]["spec"], _container(door)
    [jwks] = [entry for entry in container["env"] if entry["name"] == "GUISE_JWKS"]
    jwks["value"] = address
    for part, kind in ((pod, "volumes"), (container, "volumeMounts")):
        part[kind] = [one for one in part[kind] if one["name"] != "jwks"]


def _bound(worker: dict[str, Any], tenancy: Tenancy) -> None:
    """Give a worker no more cores, and no more of a GPU, than its tenant has."""
    if tenancy.cpus and not tenancy.gpus:
        cores = min(tenancy.cpus, _cores_of_worker())
        worker["resources"]["limits"]["cpu"] = str(cores)
    if tenancy.gpu_memory_gib:
        text = str(tenancy.gpu_memory_gib * 2**30)
        worker["env"].append({"name": "GUISE_GPU_MEMORY_BYTES_MAX", "value": text})


def _container(service: Manifest) -> dict[str, Any]:
    [container] = service["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def _labelled(objects: Iterable[Manifest], tenant: str) -> list[Manifest]:
    """Return objects with the label by which all of a tenant's are found."""
    for each in objects:
        each["metadata"].setdefault("labels", {})["guise.dev/tenant"] = tenant
    return list(objects)


def _at_kafka(each: Manifest) -> Manifest:
    """Return an object whose pods tell Kafka's broker, and not the one in memory."""
    spec = each.get("spec", {})
    for template in (spec, spec.get("jobTemplate", {}).get("spec", {})):
        pod = template.get("template", {}).get("spec", {})
        for container in pod.get("containers", []):
            for entry in container.get("env", []):
                if entry["name"] == "K_SINK":
                    host = entry["value"].removeprefix("http://")
                    entry["value"] = f"http://kafka-{host}"
    return each


def _files(documents: Mapping[str, str]) -> dict[str, str]:
    return {f"{name}.yaml": text for name, text in sorted(documents.items())}


def _config_map(namespace: str, name: str, data: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": dict(data),
    }
