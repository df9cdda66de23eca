"""What is wrong with a set of manifests, before a cluster says so, or does not.

The schemas see a field misspelt and a type mistaken.  This sees besides what Knative's
webhooks refuse, what they take without a word, and what in a set does not fit together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from knative import eventing, isolation, roles, serving, shapes, wiring
from knative.kustomize import identity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from knative.eventing import Key
    from knative.kustomize import Manifest

SECRETS: Final = frozenset(
    {
        "audit-database",
        "audit-operator-database",
        "billing-database",
        "audit-keys",
        "billing-keys",
        "pool-keys",
        "events-key",
    }
)
"""Secrets that docs/operations.md has an operator make."""
CONFIG_MAPS: Final[Mapping[str, Collection[str]]] = {
    "guise": ("store", "issuer", "region", "witness", "rates", "oidc-issuer"),
    "guise-jwks": (),
    "guise-tenants": (),
    "guise-everybody": ("folder",),
    "guise-model-keys": (),
    "guise-acceptances": (),
    "guise-rates": (),
    "guise-oidc": (),
}
"""ConfigMaps that are rendered, or made by an operator, and their keys."""
ACCOUNTS: Final = frozenset(
    {"door", "worker", "audit", "billing", "sweeper", "migrate"}
)
SYSTEM: Final[Collection[Key]] = frozenset(
    {
        *(("Service", isolation.SYSTEM, n) for n in ("audit", "billing", "worker")),
        *(("Broker", isolation.SYSTEM, n) for n in ("default", "dead-letters")),
    }
)
"""What a tenant's objects find in the system's namespace."""
_CLUSTER_WIDE: Final = frozenset({"Namespace", "PriorityClass"})
_PATIENCE_SECONDS: Final = 600


def faults(
    objects: Sequence[Manifest],
    *,
    variables: Collection[str],
    types: Collection[str],
    flags: Collection[str] = (),
) -> list[str]:
    """Return every fault of objects that are applied together, none where all is well.

    `variables` are those that functions read, `types` those of events there are.
    `flags` are the feature flags of a cluster, beside those that are on by default.
    """
    misshapen = [[*_names(each), *shapes.faults(each)] for each in objects]
    sound = [each for each, wrong in zip(objects, misshapen, strict=True) if not wrong]
    found: list[str] = []
    for each, wrong in zip(objects, misshapen, strict=True):
        more = wrong or _of(each, sound, variables, types, flags)
        found += [f"{each.get('kind')} {_name(each)}: {fault}" for fault in more]
    if not found:
        found += _together(objects, flags)
    return found


def _name(each: Mapping[str, Any]) -> str:
    metadata = each.get("metadata") or {}
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"


def _names(each: Mapping[str, Any]) -> Iterator[str]:
    metadata = each.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        yield "it has no name"
        return
    wide = each.get("kind") in _CLUSTER_WIDE
    if wide == ("namespace" in metadata):
        yield "namespace: one for what lies in a namespace, and for nothing else"
    home = metadata.get("namespace", metadata["name"])
    if not str(home).startswith("guise-"):
        yield f"namespace {home!r}: none of ours"
    if "${" in str(each):
        yield "a name is not filled in"


def _of(
    each: Manifest,
    objects: Sequence[Manifest],
    variables: Collection[str],
    types: Collection[str],
    flags: Collection[str],
) -> Iterator[str]:
    """Yield what is wrong with one object that is of the right shape."""
    known = _known(objects, types, flags)
    match each["kind"]:
        case "Service":
            yield from serving.service(each, flags)
        case "Trigger":
            yield from eventing.trigger(each, known)
        case "PingSource":
            yield from eventing.ping(each, known)
        case "EventPolicy":
            yield from eventing.policy(each, known)
        case kind if kind in _ALONE:
            yield from _ALONE[kind](each)
    for spec in _pods(each):
        yield from _surroundings(spec, variables)


_ALONE: Final[Mapping[str, Any]] = {
    "Broker": eventing.broker,
    "Namespace": isolation.namespace,
    "ServiceAccount": isolation.account,
    "ResourceQuota": isolation.quota,
    "LimitRange": isolation.limits,
    "NetworkPolicy": isolation.network,
    "PriorityClass": isolation.priority,
    "CronJob": isolation.cron,
    "Job": isolation.job,
}


def _known(
    objects: Sequence[Manifest], types: Collection[str], flags: Collection[str]
) -> eventing.Known:
    there = {identity(each) for each in objects}

    def patience(key: Key) -> int:
        for each in objects:
            if each.get("kind") == "Service" and identity(each) == key:
                seconds: int = each["spec"]["template"]["spec"]["timeoutSeconds"]
                return seconds
        return _PATIENCE_SECONDS

    return eventing.Known(
        has=lambda key: key in there or key in SYSTEM,
        types=types,
        tokens="authentication-oidc" in flags,
        patience=patience,
    )


def _pods(each: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    match each["kind"]:
        case "Service" | "Job":
            yield each["spec"]["template"]["spec"]
        case "CronJob":
            yield each["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def _surroundings(spec: Mapping[str, Any], variables: Collection[str]) -> Iterator[str]:
    """Yield what a pod takes from around it that is not there by that name."""
    if spec.get("serviceAccountName") not in ACCOUNTS:
        yield f"serviceAccountName: {spec.get('serviceAccountName')!r} is nobody"
    for volume in spec.get("volumes", []):
        if volume.get("secret", {}).get("secretName", "pool-keys") not in SECRETS:
            yield f"volume {volume['name']}: no such Secret"
        if volume.get("configMap", {}).get("name", "guise") not in CONFIG_MAPS:
            yield f"volume {volume['name']}: no such ConfigMap"
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for entry in container.get("env", []):
            yield from _variable(entry, variables)


def _variable(entry: Mapping[str, Any], variables: Collection[str]) -> Iterator[str]:
    if entry["name"] not in variables:
        yield f"env {entry['name']}: no function reads it"
    secret = entry.get("valueFrom", {}).get("secretKeyRef")
    told = entry.get("valueFrom", {}).get("configMapKeyRef")
    if secret and (secret.get("name") not in SECRETS or secret.get("key") not in _KEYS):
        yield f"env {entry['name']}: no such Secret, or key of it"
    if told and told.get("key") not in CONFIG_MAPS.get(told.get("name", ""), ()):
        yield f"env {entry['name']}: no such ConfigMap, or key of it"


_KEYS: Final = ("url", "owner")


def _together(objects: Sequence[Manifest], flags: Collection[str]) -> Iterator[str]:
    """Yield what a set lacks, or has twice."""
    keys = [identity(each) for each in objects]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"{key}: twice"
    homes = {name for kind, _, name in keys if kind == "Namespace"}
    for home in sorted(homes):
        yield from (f"{home}: {fault}" for fault in _home(home, objects))
    yield from roles.faults(objects)
    yield from wiring.faults(objects, tokens="authentication-oidc" in flags)
    for each in objects:
        if _speaks(each):
            home, name = each["metadata"]["namespace"], each["metadata"]["name"]
            broker = [o for o in objects if identity(o) == ("Broker", home, "default")]
            for fault in _sink(each, broker[0] if broker else None, flags):
                yield f"{each['kind']} {home}/{name}: {fault}"


def _home(home: str, objects: Sequence[Manifest]) -> Iterator[str]:
    """Yield what a namespace that is made here lacks."""
    own = [each for each in objects if each["metadata"].get("namespace") == home]
    names = {(each["kind"], each["metadata"]["name"]) for each in own}
    policies = [each for each in own if each["kind"] == "NetworkPolicy"]
    yield from isolation.walls(policies)
    kinds = (
        {"LimitRange"} if home == isolation.SYSTEM else {"LimitRange", "ResourceQuota"}
    )
    for kind in sorted(kinds - {each["kind"] for each in own}):
        yield f"no {kind}"
    idle = {name for kind, name in names if kind == "ServiceAccount"}
    if home == isolation.SYSTEM:
        idle -= {"sweeper"}  # the pool's tenants have one each
    for each in own:
        for spec in _pods(each):
            who = spec["serviceAccountName"]
            idle -= {who}
            if ("ServiceAccount", who) not in names:
                yield f"{each['kind']} {each['metadata']['name']}: no account {who}"
    yield from (f"nobody runs as {who}" for who in sorted(idle))


def _speaks(each: Manifest) -> bool:
    """Return whether an object's pods tell a broker of what they do."""
    kind, _, name = identity(each)
    if kind == "CronJob":
        return not name.endswith("-audit-prune")
    return kind == "Service" and name in {"door", "worker"}


def _sink(
    each: Manifest, broker: Manifest | None, flags: Collection[str]
) -> Iterator[str]:
    """Yield what is wrong with where events go, and with the token that goes along.

    Without K_SINK a function does not start, and what sets it later, such as a
    SinkBinding, leaves a first revision behind that never does.
    """
    home = each["metadata"]["namespace"]
    for spec in _pods(each):
        for container in spec["containers"]:
            told = {e["name"]: e.get("value") for e in container.get("env", [])}
            if told.get("K_SINK") not in eventing.addresses(home, broker):
                yield f"K_SINK: {told.get('K_SINK')} is not its broker"
            file = told.get("GUISE_TOKEN_FILE")
            tokens = "authentication-oidc" in flags
            wanted = eventing.audience(home) if tokens else None
            if _audiences(spec, container).get(file) != wanted:
                yield f"GUISE_TOKEN_FILE: {file} is no token for its broker"


def _audiences(
    spec: Mapping[str, Any], container: Mapping[str, Any]
) -> dict[str | None, str]:
    """Return whom each token in a container's files is meant for, by the file."""
    places = {m["name"]: m["mountPath"] for m in container.get("volumeMounts", [])}
    return {
        f"{places[volume['name']]}/{source['serviceAccountToken']['path']}": source[
            "serviceAccountToken"
        ]["audience"]
        for volume in spec.get("volumes", [])
        for source in volume.get("projected", {}).get("sources", [])
    }
