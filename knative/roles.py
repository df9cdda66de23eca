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

from knative import told
from knative.isolation import SYSTEM
from knative.kustomize import identity
from knative.serving import SCALING, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from knative.kustomize import Manifest

LABEL: Final = "app.kubernetes.io/name"
PART: Final = "app.kubernetes.io/part-of"
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
_SWEEP_SECONDS: Final = 300
_OFTEN: Final = re.compile(r"[0-4]-59/5 \* \* \* \*")
_WEEKLY: Final = re.compile(r"[1-5]?\d (1?\d|2[0-3]) \* \* [0-6]")
WINDOWS: Final = frozenset({("6s", "0s"), ("6s", "20s"), ("60s", "5m")})
"""For how long a worker stays, by tier; `render.WINDOWS` has which is whose."""
CLASSES: Final = frozenset({"guise-trial", "guise-standard", "guise-premium"})
_BY_MAP: Final = {
    "GUISE_RATES": "/var/run/guise/rates",
    "GUISE_TENANTS": "/var/run/guise/tenants",
}
"""What is mounted where a ConfigMap's key names it, and not the manifest."""
_PRUNE: Final = "audit-prune"
_OF_TENANT: Final = re.compile(
    r"(?P<tenant>.+)-(sweeper|audit-prune|storage(-to-billing)?|usage-to-billing"
    r"|endings-to-audit|upload-to-(worker|audit))"
)
"""What is called so in the system's namespace is a tenant's.

The id comes first and no such end is another's, so that none is two tenants'.
"""
_DAYS: Final = re.compile(r"[1-9]\d{0,4}")
_MIGRATION: Final = re.compile(r"(audit|billing)-migrate-\d{4}")
_LEAST: Final[Mapping[str, tuple[int, int]]] = {
    "door": (360, 512 * 2**20),
    "worker": (360, 2 * 2**30),
    "audit": (60, 256 * 2**20),
    "billing": (360, 256 * 2**20),
}
"""For how many seconds a request may go on at least, and with how much memory.

A job may take 300 s, and its pod's cold start and a wait come before that.
"""
_NAMES: Final = frozenset(
    {
        *("door", "worker", "audit", "billing"),
        *("sweeper", "migrate", "retention", "prune"),
    }
)
_MOMENT_SECONDS: Final = 10
"""How often the controller looks: a CronJob that may not be so late never runs."""


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
    if kind == "CronJob" and not name.endswith(f"-{_PRUNE}"):
        return Role(
            "sweeper", "guise-door", "sweeper", SWEEPER, own, login="store-login"
        )
    if kind == "CronJob":
        tenant = name.removesuffix(f"-{_PRUNE}")
        return Role(
            _PRUNE,
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
    match = _OF_TENANT.fullmatch(name)
    return match["tenant"] if match else ""


def faults(objects: Sequence[Manifest]) -> Iterator[str]:
    """Yield what pods are told that is not what they are."""
    for each in objects:
        kind, home, name = identity(each)
        what = role(each)
        for template in pods(each):
            if what is not None:
                for fault in chain(
                    _labelled(each, template, what),
                    _is(template["spec"], what),
                    told.faults(each, template["spec"], what),
                    _placed(template["spec"], tenant_of(each)),
                ):
                    yield f"{kind} {home}/{name}: {fault}"
        for fault in chain(_owned(each), _scaled(each), _timed(each)):
            yield f"{kind} {home}/{name}: {fault}"


def _owned(each: Manifest) -> Iterator[str]:
    """Yield where the label is not the tenant's, by which its objects are deleted."""
    said = each["metadata"].get("labels", {}).get(OWNER, "")
    if identity(each)[1] and said != tenant_of(each):
        yield f"labels: {OWNER} is {said!r}, not {tenant_of(each)!r}"


def _labelled(each: Manifest, template: Mapping[str, Any], what: Role) -> Iterator[str]:
    """Yield where a label is not the one by which people and policies know a pod."""
    wanted = {LABEL: what.name, PART: "guise"}
    places = [each["metadata"].get("labels", {}), template["metadata"]["labels"]]
    if each["kind"] == "CronJob":
        made = each["spec"]["jobTemplate"].get("metadata", {"labels": wanted})
        places.append(made["labels"])
    for labels in places:
        if not wanted.items() <= labels.items():
            yield f"labels {labels} are not {wanted}, by which NetworkPolicies know it"


def _is(spec: Mapping[str, Any], what: Role) -> Iterator[str]:
    """Yield what a pod is that it should not be."""
    if spec["serviceAccountName"] != what.account:
        yield f"serviceAccountName: not {what.account}"
    if len(spec["containers"]) != 1:
        yield "containers: one"
        return
    [container] = spec["containers"]
    for one in [container, *spec.get("initContainers", [])]:
        if one["name"] not in _NAMES:
            yield f"containers: what is {one['name']}?"
        name = one["image"].rpartition("/")[2].partition("@")[0]
        if name != what.image:
            yield f"image {name}: it is {what.image} that it runs"
    args = container.get("args", [])
    runs = tuple(args[-1:] if args else container["command"])
    if runs != what.runs:
        yield f"it runs {' '.join(runs)}, not {' '.join(what.runs)}"
    said = {each for each in args if each.startswith("-")}
    if args and said != _FLAGS:
        yield f"gunicorn is not told {sorted(said ^ _FLAGS)}"
    yield from _prepared(spec, what)


def _prepared(spec: Mapping[str, Any], what: Role) -> Iterator[str]:
    """Yield what runs first that should not, or the other way."""
    prepares = [one["command"] for one in spec.get("initContainers", [])]
    if what.name != _PRUNE:
        if prepares:
            yield f"initContainers: {prepares}"
    elif len(prepares) != 1 or prepares[0][:-1] != [
        *("guise", "audit", "retention"),
        *(*what.runs[3:], "--days"),
    ]:
        yield f"initContainers: {prepares} set no retention of {what.runs[-1]}'s"
    elif not _DAYS.fullmatch(prepares[0][-1]):
        yield f"initContainers: {prepares[0][-1]} is no number of days"


def _placed(spec: Mapping[str, Any], tenant: str) -> Iterator[str]:
    """Yield where a pod may run that is not where its tenant's may."""
    own = {"key": OWNER, "operator": "Equal", "value": tenant, "effect": "NoSchedule"}
    if spec.get("tolerations", [own]) != [own]:
        yield f"tolerations: of taints that are not {tenant}'s"
    if spec.get("nodeSelector", {OWNER: tenant}) != {OWNER: tenant}:
        yield f"nodeSelector: not {tenant}'s nodes"
    if ("nodeSelector" in spec) != ("tolerations" in spec):
        yield "nodeSelector and tolerations: one without the other"
    if "nodeSelector" in spec and "runtimeClassName" not in spec:
        yield "runtimeClassName: nodes of one's own, and no sandbox"
    if spec.get("runtimeClassName", "gvisor") != "gvisor":
        yield f"runtimeClassName: {spec['runtimeClassName']} is not gvisor"
    if spec.get("priorityClassName", "guise-trial") not in CLASSES:
        yield f"priorityClassName: {spec['priorityClassName']} is no class of ours"


def _scaled(each: Manifest) -> Iterator[str]:
    """Yield where more runs than should: at rest, or at once."""
    kind, home, name = identity(each)
    if kind != "Service":
        return
    template = each["spec"]["template"]
    notes = template["metadata"]["annotations"]
    if name not in _LEAST:
        yield f"a Service of ours is one of {sorted(_LEAST)}"
        return
    seconds, memory = _LEAST[name]
    if template["spec"]["timeoutSeconds"] < seconds:
        yield f"timeoutSeconds: its work may take {seconds}"
    limits = [each["resources"]["limits"] for each in template["spec"]["containers"]]
    if any(quantity(each["memory"]) < memory for each in limits):
        yield f"limits: less memory than {memory >> 20} MiB"
    at_rest = notes.get(f"{SCALING}min-scale")
    if at_rest not in ({"0", "1"} if name == "audit" else {"0"}):
        yield f"min-scale: {at_rest} run while nobody asks"
    full = notes.get(f"{SCALING}target-utilization-percentage")
    if name == "worker" and full != "100":
        yield "target-utilization-percentage: a second pod for one that is 70 % busy"
    alone = template["spec"]["containerConcurrency"] == 1
    if name == "worker" and alone == (home == SYSTEM):
        yield "containerConcurrency: one job in a tenant's own, several in the pool"
    stays = (
        notes.get(f"{SCALING}window"),
        notes.get(f"{SCALING}scale-to-zero-pod-retention-period"),
    )
    own = name == "worker" and home != SYSTEM
    if stays not in (WINDOWS if own else {(None, None)}):
        yield f"window, retention: {stays}, which no tier has"


def _timed(each: Manifest) -> Iterator[str]:
    """Yield where a CronJob is due too often, or never."""
    kind, _, name = identity(each)
    if kind == "Job" and not _MIGRATION.fullmatch(name):
        yield "its name does not end with the version of the tables"
    if kind != "CronJob":
        return
    spec, due = each["spec"], _WEEKLY
    if spec["startingDeadlineSeconds"] <= _MOMENT_SECONDS:
        yield "startingDeadlineSeconds: it would never be in time"
    if not name.endswith(f"-{_PRUNE}"):
        due = _OFTEN
        if spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > _SWEEP_SECONDS:
            yield "activeDeadlineSeconds: the next sweep is due before that"
    if not due.fullmatch(spec["schedule"]):
        yield f"schedule: {spec['schedule']} is not {due.pattern}"
