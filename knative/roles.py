"""What each pod of ours is, and what it must be told: held to what it is told.

Everything here is of the right shape and takes effect.  A worker that runs the door's
image, calls another tenant's audit or has the operator's login would be applied without
a word, and be wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from knative.isolation import SYSTEM
from knative.kustomize import identity
from knative.serving import SCALING, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from knative.kustomize import Manifest

CLUSTER: Final = "svc.cluster.local"
LABEL: Final = "app.kubernetes.io/name"
OWNER: Final = "guise.dev/tenant"
SWEEPER: Final = ("python3", "-m", "functions.swap.sweeper")
_FLAGS: Final = frozenset(
    {
        *("-k", "--workers", "--threads", "--timeout", "--graceful-timeout"),
        *("--worker-tmp-dir", "--no-control-socket"),
    }
)
"""What is said to gunicorn; `--bind` would be another port than PORT."""
_GPU: Final = "nvidia.com/gpu"
_CORES_MAX: Final = 64
_SCRATCH_BYTES: Final = 32 * 2**20
_SWEEP_SECONDS: Final = 300
_CLASSES: Final = frozenset({"guise-trial", "guise-standard", "guise-premium"})
_BY_MAP: Final = {
    "GUISE_RATES": "/var/run/guise/rates",
    "GUISE_TENANTS": "/var/run/guise/tenants",
}
"""What is mounted where a ConfigMap's key names it, and not the manifest."""
_TOKENS: Final = {
    "GUISE_AUDIT_TOKEN_FILE": "guise-audit",
    "GUISE_WORKER_TOKEN_FILE": "guise-worker",
}


@dataclass(frozen=True, slots=True)
class Role:
    """What a pod is.

    `image` is its name, `account` whose it is, `runs` what it runs; `keys` are the
    Secret that it signs with, `database` a Secret and its key, `login` the Secret of
    a store's login; "" where it has none.
    """

    name: str
    image: str
    account: str
    runs: tuple[str, ...]
    keys: str = ""
    database: tuple[str, str] = ("", "")
    login: str = ""


def role(each: Manifest) -> Role | None:
    """Return what an object's pods are, None where it has none."""
    kind, home, name = identity(each)
    own = "pool-keys" if home == SYSTEM else "events-key"
    if kind == "Service":
        return _service(each, name, own)
    if kind == "CronJob" and name.endswith("sweeper"):
        return Role(
            "sweeper", "guise-door", "sweeper", SWEEPER, own, login="store-login"
        )
    if kind == "CronJob":
        tenant = name.removeprefix("audit-prune-")
        return Role(
            "audit-prune",
            "guise-audit",
            "audit",
            ("guise", "audit", "prune", "--tenant", tenant),
            database=("audit-operator-database", "url"),
        )
    if kind == "Job":
        what = name.partition("-")[0]
        runs = ("guise", "bill" if what == "billing" else what, "migrate")
        database = (f"{what}-database", "owner")
        return Role(
            f"{what}-migrate", f"guise-{what}", "migrate", runs, database=database
        )
    return None


def _service(each: Manifest, name: str, own: str) -> Role | None:
    if name in {"door", "worker"}:
        runs = (f"functions.swap.{name}:create_app()",)
        image = f"guise-{name}"
        if name == "worker":
            image += "-gpu" if _has_gpu(each) else "-cpu"
        return Role(name, image, name, runs, own, login="store-login")
    login = "witness-login" if name == "audit" else "store-login"
    runs = (f"functions.{name}.app:create_app()",)
    database = (f"{name}-database", "url")
    return Role(name, f"guise-{name}", name, runs, f"{name}-keys", database, login)


def _has_gpu(each: Manifest) -> bool:
    [container] = each["spec"]["template"]["spec"]["containers"]
    return _GPU in container["resources"]["limits"]


def pods(each: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the template of an object's pods, if it has any."""
    match each["kind"]:
        case "Service" | "Job":
            yield each["spec"]["template"]
        case "CronJob":
            yield each["spec"]["jobTemplate"]["spec"]["template"]


def tenant_of(each: Manifest) -> str:
    """Return whose an object is: by its namespace, in the system's by its name."""
    _, home, name = identity(each)
    if home != SYSTEM:
        return home.removeprefix("guise-")
    for part in ("-sweeper", "-storage-to-", "-storage", "-endings-to-", "-usage-to-"):
        before, found, _ = name.partition(part)
        if found:
            return before
    return name.partition("-upload-to-")[0] if "-upload-to-" in name else ""


def faults(objects: Sequence[Manifest]) -> Iterator[str]:
    """Yield what pods are told that is not what they are."""
    for each in objects:
        kind, home, name = identity(each)
        what = role(each)
        for template in pods(each):
            if what is not None:
                for fault in chain(
                    _is(template, what),
                    _told(each, template["spec"], what),
                    _placed(template["spec"], tenant_of(each)),
                ):
                    yield f"{kind} {home}/{name}: {fault}"
        for fault in _scaled(each):
            yield f"{kind} {home}/{name}: {fault}"


def _is(template: Mapping[str, Any], what: Role) -> Iterator[str]:
    """Yield what a pod is that it should not be."""
    spec = template["spec"]
    if template["metadata"].get("labels", {}).get(LABEL) != what.name:
        yield f"label {LABEL}: not {what.name}, by which NetworkPolicies know it"
    if spec["serviceAccountName"] != what.account:
        yield f"serviceAccountName: not {what.account}"
    [container] = spec["containers"]
    for one in [container, *spec.get("initContainers", [])]:
        name = one["image"].rpartition("/")[2].partition("@")[0]
        if name != what.image:
            yield f"image {name}: it is {what.image} that it runs"
    args = container.get("args", [])
    runs = tuple(args[-1:] if args else container["command"])
    if runs != what.runs:
        yield f"it runs {' '.join(runs)}, not {' '.join(what.runs)}"
    strange = {each for each in args if each.startswith("-")} - _FLAGS
    if strange:
        yield f"gunicorn is not told {sorted(strange)}"
    for one in spec.get("initContainers", []):
        if one["command"][3:5] != list(what.runs[3:5]):
            yield f"it prepares for {one['command'][3:5]}, not {what.runs[3:5]}"


def _told(each: Manifest, spec: Mapping[str, Any], what: Role) -> Iterator[str]:
    """Yield what a pod's variables and volumes say that is not so."""
    [container] = spec["containers"]
    env = {entry["name"]: entry for entry in container.get("env", [])}
    values = {name: entry["value"] for name, entry in env.items() if "value" in entry}
    yield from _values(each, values, what)
    for one in [container, *spec.get("initContainers", [])]:
        yield from _database(one, what)
    logins = [one["secretRef"] for one in container.get("envFrom", [])]
    wanted = [{"name": what.login, "optional": True}] if what.login else []
    if logins != wanted:
        yield f"envFrom: {logins}, not {wanted}"
    held = {v["secret"]["secretName"] for v in spec.get("volumes", []) if "secret" in v}
    if held != ({what.keys} if what.keys else set()):
        yield f"volumes: the Secrets {sorted(held)}, not {what.keys!r}"
    yield from _files(container, spec, values)
    yield from _scratch(container, spec)


def _values(each: Manifest, values: Mapping[str, str], what: Role) -> Iterator[str]:
    _, home, _ = identity(each)
    tenant = tenant_of(each)
    pinned = what.name == "sweeper" or (home != SYSTEM and what.login == "store-login")
    wanted: dict[str, set[str | None]] = {
        "GUISE_PROFILE": {"production"},
        "GUISE_TENANT": {tenant if pinned else None},
        "GUISE_WORKER_URL": {None, f"http://worker.{home}.{CLUSTER}"},
        "GUISE_AUDIT_URL": {None, f"http://audit.{SYSTEM}.{CLUSTER}"},
        "GUISE_OIDC_AUDIENCE": {None, f"guise-{what.name}"},
        "GUISE_MODELS": {"/models" if what.name == "worker" else None},
        "GUISE_DEVICE": {"cuda:0" if what.image.endswith("-gpu") else None},
    }
    if not what.keys:  # a command: it serves nobody
        wanted["GUISE_PROFILE"] = {None}
    for name, allowed in wanted.items():
        if values.get(name) not in allowed:
            yield f"env {name}: {values.get(name)!r} is none of {allowed}"


def _database(container: Mapping[str, Any], what: Role) -> Iterator[str]:
    """Yield where a login is another's, or written out for all to read."""
    found = [e for e in container.get("env", []) if e["name"] == "GUISE_DATABASE"]
    logins = [each.get("valueFrom", {}).get("secretKeyRef", {}) for each in found]
    told = [(each.get("name"), each.get("key")) for each in logins]
    if told != ([what.database] if what.database[0] else []):
        yield f"env GUISE_DATABASE: {told}, not {what.database}"


def _files(
    container: Mapping[str, Any], spec: Mapping[str, Any], values: Mapping[str, str]
) -> Iterator[str]:
    """Yield files that a variable names and nothing brings, and the other way."""
    places = {m["name"]: m["mountPath"] for m in container.get("volumeMounts", [])}
    ours = {path for path in places.values() if path.startswith("/var/run/guise/")}
    named = {text for text in values.values() if text.startswith("/var/run/guise/")}
    for text in sorted(named):
        if not any(text == path or text.startswith(f"{path}/") for path in ours):
            yield f"{text}: nothing is mounted there"
    told = {entry["name"] for entry in container.get("env", [])} - values.keys()
    by_map = {path for name, path in _BY_MAP.items() if name in told}
    for path in sorted(ours - by_map):
        if not any(text == path or text.startswith(f"{path}/") for text in named):
            yield f"{path}: no variable names what is mounted there"
    tokens = {
        f"{places[volume['name']]}/{token['path']}": token["audience"]
        for volume in spec.get("volumes", [])
        for source in volume.get("projected", {}).get("sources", [])
        for token in [source["serviceAccountToken"]]
    }
    for name, audience in _TOKENS.items():
        if name in values and tokens.get(values[name]) != audience:
            yield f"env {name}: a token for {tokens.get(values[name])}, not {audience}"
    for path in sorted(tokens.keys() - named):
        yield f"{path}: a token that no variable names"


def _scratch(container: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield where what is in memory is more than there is, or next to nothing."""
    limits = container["resources"]["limits"]
    if quantity(limits["cpu"]) > _CORES_MAX:
        yield f"limits: {limits['cpu']} cores; a thousandth of a core is 1m"
    for volume in spec.get("volumes", []):
        size = volume.get("emptyDir", {}).get("sizeLimit")
        half = quantity(limits["memory"]) / 2
        if size and not _SCRATCH_BYTES <= quantity(size) <= half:
            yield f"volume {volume['name']}: {size} of {limits['memory']} of memory"


def _placed(spec: Mapping[str, Any], tenant: str) -> Iterator[str]:
    """Yield where a pod may run that is not where its tenant's may."""
    own = {"key": OWNER, "operator": "Equal", "value": tenant, "effect": "NoSchedule"}
    if spec.get("tolerations", [own]) != [own]:
        yield f"tolerations: of taints that are not {tenant}'s"
    if spec.get("nodeSelector", {OWNER: tenant}) != {OWNER: tenant}:
        yield f"nodeSelector: not {tenant}'s nodes"
    if ("nodeSelector" in spec) != ("tolerations" in spec):
        yield "nodeSelector and tolerations: one without the other"
    if spec.get("runtimeClassName", "gvisor") != "gvisor":
        yield f"runtimeClassName: {spec['runtimeClassName']} is not gvisor"
    if spec.get("priorityClassName", "guise-trial") not in _CLASSES:
        yield f"priorityClassName: {spec['priorityClassName']} is no class of ours"


def _scaled(each: Manifest) -> Iterator[str]:
    """Yield where more runs than should: at rest, at once, or for too long."""
    kind, home, name = identity(each)
    if kind == "Service":
        template = each["spec"]["template"]
        at_rest = template["metadata"]["annotations"].get(f"{SCALING}min-scale", "0")
        if at_rest not in ({"0", "1"} if name == "audit" else {"0"}):
            yield f"min-scale: {at_rest} run while nobody asks"
        alone = template["spec"]["containerConcurrency"] == 1
        if name == "worker" and alone == (home == SYSTEM):
            yield "containerConcurrency: one job in a tenant's own, several in the pool"
    if kind == "CronJob" and name.endswith("sweeper"):
        work = each["spec"]["jobTemplate"]["spec"]
        if work["activeDeadlineSeconds"] > _SWEEP_SECONDS:
            yield "activeDeadlineSeconds: the next sweep is due before that"
        if not re.fullmatch(r"[0-4]-59/5 \* \* \* \*", each["spec"]["schedule"]):
            yield "schedule: not each five minutes"
