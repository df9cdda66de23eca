"""Which event goes where, and what a namespace must have: held to what there is.

An object that is not there, or leads to somebody else, is refused by nobody: usage that
reaches no bill, a log of another tenant, a broker that takes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from knative import eventing, network
from knative.isolation import SYSTEM
from knative.kustomize import identity
from knative.roles import CLASSES, OWNER, PART, pods, tenant_of
from knative.serving import SCALING, quantity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from knative.eventing import Key
    from knative.kustomize import Manifest

UPLOADS: Final = frozenset(
    {
        "google.cloud.storage.object.v1.finalized",
        "org.apache.camel.event.aws.s3.getObject",
        "dev.knative.connector.event.aws-s3",
        "dev.knative.eventing.aws-s3",
    }
)
"""Told with the object's name among the attributes."""
NOTICES: Final = frozenset(
    {
        "google.cloud.pubsub.topic.v1.messagePublished",
        "org.apache.camel.event.aws.sqs.receiveMessage",
        "dev.knative.connector.event.aws-sqs",
        "dev.knative.eventing.aws-sqs",
    }
)
"""Told with the object's name in the data, where no filter sees it."""
REQUESTED: Final = frozenset({"dev.guise.swap.requested.v1"})
ENDINGS: Final = frozenset(
    f"dev.guise.swap.{how}.v1" for how in ("completed", "failed", "refused", "erased")
)
USAGE: Final = frozenset({"dev.guise.usage.recorded.v1"})
PING: Final = frozenset({"dev.knative.sources.ping"})
WAYS: Final[Mapping[str, frozenset[str]]] = {
    "upload-to-worker": UPLOADS | NOTICES,
    "upload-to-audit": UPLOADS | NOTICES,
    "requested-to-worker": REQUESTED,
    "requested-to-audit": REQUESTED,
    "endings-to-audit": ENDINGS,
    "usage-to-billing": USAGE,
    "storage-to-billing": PING,
}
"""Each Trigger by its name, and the types that it lets pass, all of them."""
_SPEAKERS: Final = ("door", "worker", "sweeper")
_STARTS: Final = ("upload-to-worker", "upload-to-audit", "requested-to-worker")
_NEEDS: Final[Mapping[str, frozenset[tuple[str, str]]]] = {
    "tenant": frozenset(
        {
            *(("Trigger", way) for way in WAYS),
            *(("Service", name) for name in ("door", "worker")),
            *(("Broker", name) for name in ("default", "dead-letters")),
            *(("ConfigMap", name) for name in ("guise", "guise-tenants")),
            *(("NetworkPolicy", name) for name in ("nothing", *network.WALLS)),
            ("LimitRange", "containers"),
            ("ResourceQuota", "tenant"),
            ("PingSource", "storage"),
            ("CronJob", "sweeper"),
        }
    ),
    "system": frozenset(
        {
            *(("Trigger", way) for way in (*_STARTS, "requested-to-audit")),
            *(("Service", name) for name in ("door", "worker", "audit", "billing")),
            *(("Broker", name) for name in ("default", "dead-letters")),
            *(("NetworkPolicy", name) for name in network.WALLS),
            *(("NetworkPolicy", name) for name in ("nothing", network.DATABASE)),
            ("LimitRange", "containers"),
        }
    ),
    "member": frozenset(
        {
            ("Trigger", "endings-to-audit"),
            ("Trigger", "usage-to-billing"),
            ("Trigger", "storage-to-billing"),
            ("PingSource", "storage"),
            ("CronJob", "sweeper"),
        }
    ),
}
"""What a namespace of a tenant's own has; the system's; and a tenant of the pool."""
_DAILY: Final = re.compile(r"[1-5]?\d (1?\d|2[0-3]) \* \* \*")
_TRIES: Final[Mapping[str, tuple[int, int]]] = {
    "upload-to-audit": (2, 20),
    "requested-to-audit": (2, 20),
    "endings-to-audit": (12, 20),
    "usage-to-billing": (12, 20),
}
"""How often at least, and for how many seconds a try; the others' are the worker's."""
_TRIES_OF_WORKER: Final = (12, 600)
_RETRY_MAX: Final = 20
_BACKOFF: Final = "PT0.2S"
_PRIORITY_MAX: Final = 1000
_ROUNDING: Final = 1e-6
_QUEUE_PROXY: Final = {
    ("requests", "cpu"): 0.025,
    ("requests", "memory"): 64 * 2**20,
    ("limits", "cpu"): 0.5,
    ("limits", "memory"): 256 * 2**20,
}


def faults(objects: Sequence[Manifest], *, tokens: bool) -> Iterator[str]:
    """Yield what leads elsewhere, or is not there.

    `tokens` tells whether calls come with the cluster's, and so whether a tenant's
    broker has a policy.
    """
    for each in objects:
        kind, home, name = identity(each)
        check = _EACH.get(kind)
        for fault in check(each) if check else ():
            yield f"{kind} {home}/{name}: {fault}"
    yield from _missing(objects, tokens=tokens)
    for home in sorted({identity(each)[1] for each in objects} - {""}):
        own = [each for each in objects if identity(each)[1] == home]
        yield from (f"{home}: {fault}" for fault in _alike(own))
        yield from (f"{home}: {fault}" for fault in network.gateway(own))
        yield from (f"{home}: {fault}" for fault in _quota(own))


def _missing(objects: Sequence[Manifest], *, tokens: bool) -> Iterator[str]:
    """Yield what nothing refers to, and what should be there all the same."""
    there = {identity(each) for each in objects}
    homes = {name for kind, _, name in there if kind == "Namespace"}
    for kind, home, name in sorted(there):
        if home not in homes | {"", SYSTEM}:
            yield f"{kind} {home}/{name}: in nobody's namespace"
    for home in sorted(homes):
        needs = set(_NEEDS["system" if home == SYSTEM else "tenant"])
        if tokens:
            needs.add(("EventPolicy", "default"))
        for kind, name in sorted(needs):
            if (kind, home, name) not in there:
                yield f"{home}: no {kind} {name}"
    if SYSTEM not in homes:
        yield from _missing_of_pool(objects, there, tokens=tokens)


def _missing_of_pool(
    objects: Sequence[Manifest], there: Collection[Key], *, tokens: bool
) -> Iterator[str]:
    """Yield what a tenant of the pool has not."""
    shared = [each for each in objects if identity(each)[1] == SYSTEM]
    # Of a tenant with a namespace its own log's pruning is there, and nothing else.
    kept = [e for e in shared if not identity(e)[2].endswith("-audit-prune")]
    for tenant in sorted({tenant_of(each) for each in kept} - {""}):
        policy = {("EventPolicy", "storage")} if tokens else set()
        for kind, name in sorted(_NEEDS["member"] | policy):
            if (kind, SYSTEM, f"{tenant}-{name}") not in there:
                yield f"{SYSTEM}: no {kind} {tenant}-{name}"


def _trigger(each: Manifest) -> Iterator[str]:
    """Yield where a Trigger leads that is not what it is called after."""
    _, home, name = identity(each)
    tenant = tenant_of(each)
    way = name.removeprefix(f"{tenant}-") if home == SYSTEM else name
    spec = each["spec"]
    if way not in WAYS:
        yield f"none of {sorted(WAYS)}"
        return
    wanted = WAYS[way]
    if home == SYSTEM and tenant and "upload" in way:
        wanted = UPLOADS  # by its prefix; of the others the pool's own Triggers tell
    passed = {text for which, text in _asked(spec["filters"]) if which == "type"}
    if passed != wanted:
        yield f"filters: {sorted(passed ^ wanted)} of what it is called after"
    yield from _whose(spec["filters"], home, tenant, way)
    target = way.rpartition("-")[2]
    place = spec["subscriber"]["ref"].get("namespace", home)
    if place != (home if target == "worker" else SYSTEM):
        yield f"subscriber: the {target} of {place}"
    if target != spec["subscriber"]["ref"]["name"]:
        yield f"subscriber: not {target}"
    door = spec["subscriber"]["uri"].split("/")
    if target != "worker" and door[3] != (tenant or "pool"):
        yield f"subscriber: the door of {door[3]}"
    yield from _tried(spec["delivery"], way)
    delivery = spec["delivery"]
    if delivery["deadLetterSink"]["ref"].get("namespace", home) != home:
        yield "delivery.deadLetterSink: of another namespace"


def _tried(delivery: Mapping[str, Any], way: str) -> Iterator[str]:
    """Yield where an event is given up too soon, or never."""
    least, patience = _TRIES.get(way, _TRIES_OF_WORKER)
    retry, delay = delivery["retry"], delivery["backoffDelay"]
    if not least <= retry <= _RETRY_MAX or delay != _BACKOFF:
        yield f"delivery: {retry} times from {delay} on, and not {least} times"
    if delivery["backoffPolicy"] != "exponential":
        yield f"delivery: {retry} times within seconds"
    if eventing.seconds(delivery["timeout"]) < patience:
        yield f"delivery.timeout: {delivery['timeout']} is less than {patience} s"


def _passes(part: Any, told: Mapping[str, str]) -> bool:  # noqa: ANN401  # a filter
    """Return whether a filter lets an event with these attributes pass."""
    for dialect, inner in part.items():
        match dialect:
            case "all":
                passes = all(_passes(each, told) for each in inner)
            case "any":
                passes = any(_passes(each, told) for each in inner)
            case "exact":
                passes = all(told.get(name) == text for name, text in inner.items())
            case _:
                passes = all(told.get(n, "").startswith(t) for n, t in inner.items())
        if not passes:
            return False
    return True


def _whose(filters: Sequence[Any], home: str, tenant: str, way: str) -> Iterator[str]:
    """Yield where a filter lets another tenant's events pass."""
    exact = [part["exact"] for part in filters if "exact" in part]
    for kind in sorted(UPLOADS):
        for subject in ("objects/results/j/job.json", "results/j/job.json"):
            told = {"type": kind, "subject": subject}
            if all(_passes(part, told) for part in filters):
                yield f"filters: each result would wake somebody ({kind})"
    if way == "storage-to-billing":
        name = f"{tenant}-storage" if home == SYSTEM else "storage"
        source = f"/apis/v1/namespaces/{home}/pingsources/{name}"
        if {"source": source} not in exact:
            yield f"filters: not from {source} alone"
    elif home == SYSTEM and tenant and "upload" not in way:
        if {"tenant": tenant} not in exact:
            yield f"filters: not {tenant}'s alone"
    elif home == SYSTEM and tenant:
        prefixes = {t for which, t in _asked(filters) if which == "subject"}
        if not all(f"{tenant}/" in text for text in prefixes):
            yield f"filters: {sorted(prefixes)} are not {tenant}'s alone"


def _asked(part: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401  # a filter, in part
    """Yield each attribute that filters look at, and what they want of it."""
    if isinstance(part, list):
        for each in part:
            yield from _asked(each)
        return
    for dialect, inner in part.items():
        if dialect in {"any", "all"}:
            yield from _asked(inner)
        else:
            yield from inner.items()


def _ping(each: Manifest) -> Iterator[str]:
    sink = each["spec"]["sink"]["ref"]
    home = each["metadata"]["namespace"]
    if (sink["name"], sink.get("namespace", home)) != ("default", home):
        yield "sink: not the broker that its Trigger is at"
    if not _DAILY.fullmatch(each["spec"]["schedule"]):
        yield f"schedule: {each['spec']['schedule']} is not once a day"


def _policy(each: Manifest) -> Iterator[str]:
    """Yield who speaks to a broker and is not let in, or the other way."""
    _, home, name = identity(each)
    people = name == "default"
    # In the system's namespace each tenant's measuring has a policy of its own.
    asking = {"storage"} if home != SYSTEM else set() if people else {name}
    subjects = {part["sub"] for part in each["spec"]["from"] if "sub" in part}
    refs = {
        (part["ref"]["kind"], part["ref"]["name"])
        for part in each["spec"]["from"]
        if "ref" in part
    }
    speak = {f"system:serviceaccount:{home}:{who}" for who in _SPEAKERS}
    if subjects != (speak if people else set()):
        yield f"from: not {', '.join(_SPEAKERS)} alone"
    answers = {("Trigger", f"{one}-to-billing") for one in asking}
    if refs != {("PingSource", one) for one in asking} | answers:
        yield "from: not the measuring and its answer alone"
    if {part["ref"]["name"] for part in each["spec"]["to"]} != {"default"}:
        yield "to: not the broker default"


def _priority(each: Manifest) -> Iterator[str]:
    if abs(each["value"]) > _PRIORITY_MAX:
        yield f"value: {each['value']} is above pods of the cluster itself"
    if each["metadata"]["name"] not in CLASSES:
        yield f"none of {sorted(CLASSES)}"


def _config(each: Manifest) -> Iterator[str]:
    home, data = each["metadata"]["namespace"], each["data"]
    tenant = home.removeprefix("guise-")
    own = set(data) == {f"{tenant}.yaml"} and f"id: {tenant}\n" in _plain(data)
    if each["metadata"]["name"] == "guise-tenants" and home != SYSTEM and not own:
        yield f"{sorted(data)}: not {tenant}'s spec alone"
    if each["metadata"]["name"] != "guise":
        return
    if home.removeprefix("guise-") not in data.get("store", ""):
        yield f"store: {data.get('store')!r} is not the tenant's"
    for key in ("oidc-issuer", "region"):
        if key not in data:
            yield f"{key}: there is none"
    if not data.get("issuer"):
        yield "issuer: nobody's tokens would be taken"


def _plain(data: Mapping[str, str]) -> str:
    return "".join(data.values()).replace("'", "")


def _namespace(each: Manifest) -> Iterator[str]:
    name, labels = each["metadata"]["name"], each["metadata"].get("labels", {})
    wanted = {PART: "guise"}
    if name != SYSTEM:
        wanted[OWNER] = name.removeprefix("guise-")
    told = {key: text for key, text in labels.items() if "pod-security" not in key}
    if told != wanted:
        yield f"labels: {told}, not {wanted}"


def _alike(own: Sequence[Manifest]) -> Iterator[str]:
    """Yield what of one namespace is of two kinds."""
    brokers = [each for each in own if each["kind"] == "Broker"]
    if len({str(each["metadata"]["annotations"]) for each in brokers}) > 1:
        yield "brokers of two classes: one would not hear of the other's dead letters"
    boxes = {
        template["spec"].get("runtimeClassName")
        for each in own
        if identity(each)[1] != SYSTEM
        for template in pods(each)
    }
    if len(boxes) > 1:
        yield f"runtimeClassName: {boxes}, and a tenant is behind one kernel"


def _quota(own: Sequence[Manifest]) -> Iterator[str]:
    """Yield where a quota lets in less than may run, with one of each to spare."""
    quotas = [each for each in own if each["kind"] == "ResourceQuota"]
    if not quotas:
        return
    if len(quotas) > 1:
        yield "two ResourceQuotas: the narrower of each holds"
    hard = quotas[0]["spec"]["hard"]
    for name, amount in sorted(hard.items()):
        if quantity(amount) < 0:
            yield f"the quota of {name}: {amount} is no quantity"
    need: Counter[str] = Counter()
    for each in own:
        need.update(_wanted(each))
    for name, amount in sorted(need.items()):
        if quantity(hard[name]) < amount - _ROUNDING:
            yield f"the quota lets in {hard[name]} of {name}, and {amount:g} may run"


def _wanted(each: Manifest) -> Counter[str]:
    """Return what an object's pods may ask for together, one more than there may be."""
    found: Counter[str] = Counter()
    if each["kind"] == "Service":
        found["count/services.serving.knative.dev"] += 1
        notes = each["spec"]["template"]["metadata"]["annotations"]
        many, beside = int(notes[f"{SCALING}max-scale"]) + 1, _QUEUE_PROXY
    else:
        many, beside = 2, dict.fromkeys(_QUEUE_PROXY, 0.0)
    for template in pods(each):
        found["pods"] += many
        [container] = template["spec"]["containers"]
        for (kind, what), more in beside.items():
            asked = quantity(container["resources"][kind][what]) + more
            found[f"{kind}.{what}"] += many * asked  # type: ignore[assignment]
        gpus = container["resources"]["limits"].get("nvidia.com/gpu", "0")
        found["requests.nvidia.com/gpu"] += many * int(gpus)
    return found


_EACH: Final[Mapping[str, Any]] = {
    "Trigger": _trigger,
    "PingSource": _ping,
    "EventPolicy": _policy,
    "NetworkPolicy": network.policy,
    "PriorityClass": _priority,
    "ConfigMap": _config,
    "Namespace": _namespace,
}
